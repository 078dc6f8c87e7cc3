//! Schedules: those of a server that does well hold, and those of one that doesn't are found to be violated.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tests::{
    eventually,
    process::{Guarded, children, is_alive},
};
use tests_faults::{
    arena,
    cluster::Abilities,
    history::{Operation, Outcome},
    models::{CounterOp, ListOp, ListRet},
    nemesis::{KINDS, Kind, Plan},
    schedule::{Settings, Shape},
    workload::{Meeting, counted_once, met, pushed_once},
};

const FAULTS: &str = env!("CARGO_BIN_EXE_faults");

fn command(args: &str) -> Command {
    let mut command = Command::new(FAULTS);
    let logs = env!("CARGO_TARGET_TMPDIR");
    command.args(args.split_whitespace()).args(["--logs", logs]).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn finds(args: &str, sabotage: &str, parts: &[&str]) {
    let output = command(args).env("FAULTS_SABOTAGE", sabotage).output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    tests::assert_says(&text, parts);
}

/// How many schedules a plain test runs; `FAULTS_SCHEDULES` says otherwise.
const SCHEDULES: &str = "6";

#[test]
fn schedules_hold() {
    let schedules = std::env::var("FAULTS_SCHEDULES").unwrap_or_else(|_| SCHEDULES.to_owned());
    hold(&format!("--schedules {schedules} --seed 1 --jobs 2"), &schedules);
}

/// Each takes its objects with it, but others have them, too.
#[test]
fn memory_outlives_one_node_after_the_other() {
    if Abilities::of(FAULTS.as_ref()).unwrap().cluster {
        hold("--schedules 1 --seed 4 --nodes 3 --memory --faults kill --seconds 8", "1");
    }
}

#[track_caller]
fn hold(args: &str, schedules: &str) {
    let output = command(args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let held = text(&output).lines().filter(|line| line.contains("  ok  ")).count();
    assert_eq!(held.to_string(), schedules, "{}", text(&output));
    println!("{}", text(&output));
}

#[test]
fn a_doubled_update_is_found() {
    let parts = [": not linearizable", "is there 2 times", "up to the answer", "failed: seed 7:"];
    finds("--nodes 1 --schedules 1 --seed 7 --seconds 2 --faults pause", "double", &parts);
}

#[test]
fn a_lost_update_is_found() {
    let parts =
        [": not linearizable", "was acknowledged and is not there", "up to the answer", "failed: seed 7:"];
    finds("--nodes 1 --schedules 1 --seed 7 --seconds 2 --faults pause", "drop", &parts);
}

#[test]
fn a_stale_read_is_found() {
    finds("--nodes 1 --schedules 1 --seed 7 --seconds 2 --faults pause", "stale", &[": not linearizable"]);
}

#[test]
fn lost_state_is_found() {
    let parts = ["a client got: the state of", "is lost: the server was started again", "failed: seed 1:"];
    finds("--nodes 1 --memory --schedules 1 --seed 1 --seconds 2 --faults kill", "", &parts);
}

#[test]
fn a_server_that_does_not_start_is_no_success() {
    let output =
        command("--nodes 1 --schedules 1 --seconds 2 --faults pause --program /bin/false").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    tests::assert_says(
        &text(&output),
        &["did not start: node 1 ended with exit status: 1", "failed: seed 1:"],
    );
}

/// Whatever ends the suite ends what it started.
#[test]
fn nothing_is_left_when_the_suite_is_killed() {
    if let Some(obstacle) = arena::obstacle() {
        return println!("without namespaces there is nothing to test: {obstacle}");
    }
    let mut suite = Guarded(
        command("--nodes 1 --schedules 1 --seconds 60 --faults pause")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(suite.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("1 schedules"), "{line}");
    let descendants = || {
        let mut all = vec![suite.pid()];
        let mut next = 0;
        while next < all.len() {
            all.extend(children(all[next]));
            next += 1;
        }
        all
    };
    // The suite, the first process of its arena, and the server.
    eventually("it is at work", || descendants().len() >= 3);
    let all = descendants();
    drop(suite);
    eventually("all of it has ended", || !all.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_seed_decides_a_plan() {
    let kinds = KINDS.map(|(kind, _)| kind);
    let plan = |seed| Plan::new(seed, &kinds, 5, Duration::from_secs(8));
    assert_eq!(plan(3), plan(3));
    let mut seen = HashSet::new();
    for seed in 0..kinds.len() as u64 {
        let plan = plan(seed);
        assert_ne!(plan, self::plan(seed + 100));
        seen.insert(plan.faults[0].kind);
        for fault in &plan.faults {
            assert!(fault.nodes.iter().all(|n| (1..=6).contains(n)), "{plan}");
            assert!(fault.kind != Kind::Minority || fault.nodes.len() <= 2, "{plan}");
        }
    }
    // As many seeds as there are kinds begin with each of them.
    assert_eq!(seen.len(), kinds.len());
}

#[test]
fn two_hundred_seeds_have_every_kind_of_cluster() {
    let settings = Settings {
        program: FAULTS.into(),
        abilities: Abilities { cluster: true, disk: true },
        nodes: None,
        memory: false,
        kinds: None,
        lasts: Duration::from_secs(4),
        data: None,
    };
    let shapes: Vec<_> = (1..=200).map(|seed| Shape::new(&settings, seed)).collect();
    let mut begun = HashSet::new();
    for nodes in [3, 5] {
        for disk in [true, false] {
            for is_patient in [true, false] {
                assert!(shapes.contains(&Shape { nodes, disk, is_patient }), "{nodes} {disk} {is_patient}");
            }
        }
    }
    for (seed, shape) in (1..=200).zip(shapes) {
        let kinds = shape.kinds(&settings, true).unwrap();
        // No cluster survives the loss of all that it has.
        assert_eq!(kinds.contains(&Kind::KillAll), shape.disk);
        assert!(kinds.contains(&Kind::Kill) && kinds.contains(&Kind::Leader));
        begun.insert((shape.nodes, Plan::new(seed, &kinds, shape.nodes, settings.lasts).faults[0].kind));
    }
    assert_eq!(begun.len(), 2 * KINDS.len());
}

fn plan(seed: u64) -> Plan {
    Plan::new(seed, &KINDS.map(|(kind, _)| kind), 5, Duration::from_secs(8))
}

// ---- what is counted at the end

fn op<O, R>(at: u64, op: O, ret: Option<R>) -> Operation<O, R> {
    let at = Duration::from_millis(at);
    let outcome = ret.map_or(Outcome::Unknown, |ret| Outcome::Returned(ret, at + Duration::from_millis(1)));
    Operation { client: 1, op, invoked: at, outcome }
}

#[test]
fn sums_are_counted() {
    let history = |value| {
        vec![
            op(0, CounterOp::Add(5), Some(0)),
            op(1, CounterOp::Add(2), None),
            op(2, CounterOp::Read, None),
            op(3, CounterOp::Read, Some(value)),
        ]
    };
    assert_eq!(counted_once(&history(5)), None);
    assert_eq!(counted_once(&history(7)), None);
    assert!(counted_once(&history(4)).unwrap().contains("5 were added, and perhaps 2 more, and it is 4"));
    assert!(counted_once(&history(9)).is_some());
    // A read that ran beside another call is no last look.
    let mut beside = history(4);
    beside[0].outcome = Outcome::Returned(0, Duration::from_millis(4));
    assert_eq!(counted_once(&beside), None);
}

#[test]
fn values_are_counted() {
    let history = |values: &[u64]| {
        vec![
            op(0, ListOp::Push(1), Some(ListRet::Index(0))),
            op(1, ListOp::Push(2), None),
            op(3, ListOp::Read, Some(ListRet::Values(values.to_vec()))),
        ]
    };
    assert_eq!(pushed_once(&history(&[1])), None);
    assert_eq!(pushed_once(&history(&[1, 2])), None);
    assert!(pushed_once(&history(&[2])).unwrap().contains("1 was acknowledged and is not there"));
    assert!(pushed_once(&history(&[1, 1])).unwrap().contains("1 is there 2 times"));
    assert!(pushed_once(&history(&[1, 2, 2])).unwrap().contains("2 is there 2 times"));
    assert!(pushed_once(&history(&[1, 3])).unwrap().contains("nobody pushed 3"));
}

#[test]
fn rounds_of_a_barrier_are_checked() {
    let party = |came, went, leader| Meeting {
        came: Duration::from_millis(came),
        went: Duration::from_millis(went),
        leader,
    };
    let good = vec![party(0, 9, false), party(3, 8, true), party(5, 7, false)];
    assert_eq!(met(std::slice::from_ref(&good)), None);
    let early = vec![party(0, 4, false), party(3, 8, true), party(5, 7, false)];
    assert!(met(&[good.clone(), early]).unwrap().contains("round 1"));
    let two = vec![party(0, 9, true), party(3, 8, true), party(5, 7, false)];
    assert!(met(&[two]).unwrap().contains("2 leaders"));
    let none = vec![party(0, 9, false), party(3, 8, false), party(5, 7, false)];
    assert!(met(&[none]).unwrap().contains("0 leaders"));
    // The last round may have lost a party.
    assert_eq!(met(&[good, vec![party(9, 10, true)]]), None);
}
