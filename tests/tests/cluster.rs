//! Several nodes: what a user sees of a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use crucial::{Config, Error, run, sync::Barrier};
use crucial_server::admin;
use tests::{
    app, assert_says, begin, eventually,
    objects::{Dice, Tally},
    process::Signal,
    server::{self, Cluster, OwnRun, ServerProcess},
};

/// A cluster of three, with short leases.
fn three() -> Cluster {
    Cluster::start(app!(), 3, &[("CRUCIAL_LEASE", "5s")])
}

#[test]
fn persistent_objects_survive_a_node() {
    let mut cluster = three();
    let _run = OwnRun::enter(cluster.client());
    let tallies: Vec<_> = (0..32).map(|i| Tally::at(format!("{i}")).persistent().new(0)).collect();
    let stop = AtomicBool::new(false);
    let added = AtomicU64::new(0);
    thread::scope(|scope| {
        let run = crucial::run::Run::current().unwrap();
        for thread in 0..4 {
            let (tallies, stop, added, run) = (&tallies, &stop, &added, run.clone());
            scope.spawn(move || {
                let _entered = run.enter();
                for i in (thread..).step_by(7) {
                    if stop.load(SeqCst) {
                        break;
                    }
                    tallies[i % tallies.len()].add(1);
                    added.fetch_add(1, SeqCst);
                }
            });
        }
        eventually("calls are made", || added.load(SeqCst) > 200);
        cluster.nodes[1].signal(Signal::KILL);
        let before = added.load(SeqCst);
        eventually("calls are made again", || added.load(SeqCst) > before + 1000);
        stop.store(true, SeqCst);
    });
    let sum: u64 = tallies.iter().map(Tally::get).sum();
    assert_eq!(sum, added.load(SeqCst), "every call is applied once");
    cluster.nodes[1].kill();
}

#[test]
fn callers_that_wait_at_a_persistent_object_survive_its_node() {
    let mut cluster = three();
    let _run = OwnRun::enter(cluster.client());
    let barriers: Vec<_> = (0..12).map(|i| Barrier::at(format!("{i}")).persistent().new(2)).collect();
    let waiting: Vec<_> =
        barriers.iter().cloned().map(|barrier| begin(move || barrier.wait().is_leader())).collect();
    eventually("all wait", || {
        (0..3).map(|n| cluster.nodes[n].status().types.iter().map(|t| t.parked).sum::<u64>()).max()
            == Some(12)
    });
    cluster.nodes[0].kill();
    thread::sleep(Duration::from_millis(500));
    let leaders: Vec<_> = barriers.iter().map(|barrier| barrier.wait().is_leader()).collect();
    for (waiting, leader) in waiting.into_iter().zip(leaders) {
        assert_ne!(waiting.within("it passes the barrier"), leader);
    }
}

#[test]
fn a_full_waiting_room_keeps_nobody_from_working() {
    let limits = [("CRUCIAL_LIMIT_PARKED", "2"), ("CRUCIAL_LIMIT_FRAME", "100000")];
    let cluster = Cluster::start(app!(), 1, &limits);
    let _run = OwnRun::enter(cluster.client());
    let tally = Tally::at("t").persistent().new(0);
    let parked = || cluster.nodes[0].status().types.iter().map(|t| t.parked).sum::<u64>();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            begin({
                let tally = tally.clone();
                move || tally.take(1)
            })
        })
        .collect();
    eventually("two wait", || parked() == 2);
    let error = tally.remote().take(1).wait().unwrap_err();
    assert_says(&error, &["too many calls that wait at tests::objects::Tally", "2", "limit_parked"]);
    // Who doesn't have to wait is let in, above all who lets the others go.
    assert_eq!(tally.add(3), 0);
    for waiting in waiting {
        waiting.within("it takes its part");
    }
    assert_eq!(tally.take(1), 0);

    // The answer of a write is limited like that of a read.
    assert_eq!(tally.give(90_000).len(), 90_000);
    let error = tally.remote().give(100_000).wait().unwrap_err();
    assert_says(&error, &["the answer", "limit_frame"]);
}

#[test]
fn ephemeral_objects_travel_when_nodes_come_and_go() {
    let mut cluster = Cluster::start(app!(), 1, &[]);
    let _run = OwnRun::enter(cluster.client());
    let tallies: Vec<_> = (0..64).map(|i| Tally::at(format!("{i}")).new(i)).collect();
    let gate = Barrier::new(2);
    let waiting = {
        let gate = gate.clone();
        begin(move || gate.wait().is_leader())
    };
    cluster.add();
    cluster.add();
    cluster.settle();
    for (i, tally) in tallies.iter().enumerate() {
        assert_eq!(tally.add(1), i as u64);
    }
    let leader = gate.wait().is_leader();
    assert_ne!(waiting.within("it passes the barrier"), leader);
    // The first one stops; as it has nothing on disk, it leaves.
    cluster.nodes[0].signal(Signal::TERM);
    let (code, out, err) = cluster.nodes[0].ended();
    assert_eq!(code, Some(0), "{out}\n{err}");
    for (i, tally) in tallies.iter().enumerate() {
        assert_eq!(tally.get(), i as u64 + 1);
    }
}

#[test]
fn what_is_lost_with_a_node_is_an_error() {
    let mut cluster = three();
    let _run = OwnRun::enter(cluster.client());
    let tallies: Vec<_> = (0..64).map(|i| Tally::at(format!("{i}")).new(i)).collect();
    let owned = cluster.status(0).nodes.iter().find(|n| n.address == cluster.nodes[2].address).unwrap().owns;
    cluster.nodes[2].kill();
    let mut lost = 0;
    for (i, tally) in tallies.iter().enumerate() {
        match tally.remote().get().wait() {
            Ok(value) => assert_eq!(value, i as u64),
            Err(Error::StateLost { .. }) => {
                lost += 1;
                // Nor can anybody make it anew.
                let again = std::panic::catch_unwind(|| Tally::at(format!("{i}")).new(0));
                assert!(again.is_err());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(lost > 0 && lost < 64, "{lost} of 64, with {owned} partitions of 16");
    // A run that begins now knows nothing of it.
    drop(_run);
    let _run = OwnRun::enter(cluster.client());
    for i in 0..64 {
        assert_eq!(Tally::at(format!("{i}")).new(7).get(), 7);
    }
}

#[test]
fn everything_comes_back_after_all_were_killed() {
    let mut cluster = Cluster::on_disk(app!(), 3, &[]);
    let tallies: Vec<_> = {
        let _run = OwnRun::enter(cluster.client());
        let tallies: Vec<_> = (0..48).map(|i| Tally::at(format!("{i}")).persistent().new(i)).collect();
        for tally in &tallies {
            for _ in 0..5 {
                tally.add(100);
            }
        }
        tallies
    };
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.restart(&[0, 1, 2]);
    let _run = OwnRun::enter(cluster.client());
    for (i, tally) in tallies.iter().enumerate() {
        assert_eq!(tally.add(1), i as u64 + 500);
    }
    cluster.settle();
}

#[test]
fn one_node_with_a_disk_is_enough_to_keep_objects() {
    let mut cluster = Cluster::on_disk(app!(), 1, &[]);
    let run = OwnRun::enter(cluster.client());
    let (kept, lost) = (Tally::at("a").persistent().new(1), Tally::at("a").new(1));
    assert_eq!(kept.add(1) + lost.add(1), 2);
    cluster.nodes[0].kill();
    cluster.restart(&[0]);
    // The same run goes on with what was kept; what was not is an error.
    assert_eq!(kept.add(1), 2);
    assert!(matches!(lost.remote().get().wait(), Err(Error::StateLost { .. })));
    drop(run);
    let _run = OwnRun::enter(cluster.client());
    assert_eq!((kept.get(), Tally::at("a").new(7).get()), (3, 7));
}

#[test]
fn a_node_that_comes_back_has_what_it_missed() {
    let mut cluster = Cluster::on_disk(app!(), 3, &[]);
    let _run = OwnRun::enter(cluster.client());
    let tallies: Vec<_> = (0..32).map(|i| Tally::at(format!("{i}")).persistent().new(0)).collect();
    let add = |times| {
        for tally in &tallies {
            for _ in 0..times {
                tally.add(1);
            }
        }
    };
    add(3);
    cluster.nodes[2].kill();
    add(3);
    cluster.restart(&[2]);
    cluster.settle();
    // Now another one may be missing.
    cluster.nodes[0].kill();
    add(3);
    assert!(tallies.iter().all(|tally| tally.get() == 9));
}

/// Whatever is said to a lost node must not be answered by the one that took its address.
#[test]
fn lost_nodes_are_replaced_one_after_the_other() {
    let mut cluster = three();
    let _run = OwnRun::enter(cluster.client());
    let tallies: Vec<_> = (0..32).map(|i| Tally::at(format!("{i}")).persistent().new(0)).collect();
    // The last is lost once more before its predecessor is forgotten.
    for (times, node) in (1..).zip([1, 0, 2, 2]) {
        for tally in &tallies {
            tally.add(1);
        }
        cluster.replace(node);
        cluster.settle();
        assert!(tallies.iter().all(|tally| tally.get() == times), "after node {node}");
    }
}

#[test]
fn a_node_that_is_stopped_comes_back_and_one_that_leaves_does_not() {
    let mut cluster = Cluster::on_disk(app!(), 4, &[]);
    let _run = OwnRun::enter(cluster.client());
    let kept: Vec<_> = (0..32).map(|i| Tally::at(format!("{i}")).persistent().new(i)).collect();
    let with_run: Vec<_> = (0..32).map(|i| Tally::at(format!("{i}")).new(i)).collect();
    let check = || {
        for (i, (kept, with_run)) in kept.iter().zip(&with_run).enumerate() {
            assert_eq!((kept.get(), with_run.get()), (i as u64, i as u64));
        }
    };
    cluster.nodes[3].signal(Signal::TERM);
    let (code, out, err) = cluster.nodes[3].ended();
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert_eq!(cluster.status(0).nodes[3].state, "down");
    check();
    cluster.restart(&[3]);
    cluster.settle();
    check();
    let address = cluster.nodes[3].address.clone();
    crucial::run::block_on(admin::leave(&address, &Config::default())).unwrap();
    let (code, out, err) = cluster.nodes[3].ended();
    assert_eq!(code, Some(0), "{out}\n{err}");
    cluster.nodes.pop();
    cluster.settle();
    check();
}

#[test]
fn who_does_not_belong_is_refused_with_a_reason() {
    let cluster = Cluster::on_disk(app!(), 1, &[]);
    let dir = cluster.data_dir(0).unwrap();
    let refused = |args: &[&str], says: &[&str]| {
        let mut command = std::process::Command::new(app!());
        command.args(["crucial", "serve", "--listen", "127.0.0.1:0"]).args(args);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        assert_says(&String::from_utf8_lossy(&output.stderr), says);
    };
    refused(&["--data-dir", &dir], &[&dir, "in use by process"]);
    refused(&["--join", "127.0.0.1:1"], &["127.0.0.1:1", "refused"]);
    let alone = tests::server::ServerProcess::start(app!(), &[]);
    refused(&["--join", &alone.address], &[&alone.address]);
    let last =
        crucial::run::block_on(admin::leave(&cluster.nodes[0].address, &Config::default())).unwrap_err();
    assert_says(&last, &["the last node can't leave"]);
    let none = crucial::run::block_on(admin::leave(&alone.address, &Config::default())).unwrap_err();
    assert_says(&none, &["belongs to no cluster"]);
}

/// What `app crucial status` says of a server.
fn told(address: &str) -> String {
    let output = Command::new(app!()).args(["crucial", "status", "--server", address]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_method_that_is_not_deterministic_is_reported() {
    let mut cluster = three();
    let _run = OwnRun::enter(cluster.client());
    let (good, bad) = (Tally::at("good").persistent().new(0), Dice::at("bad").persistent().new());
    let more: Vec<_> = (0..50).map(|i| Dice::at(format!("{i}")).persistent().new()).collect();
    let stop = AtomicBool::new(false);
    let run = crucial::run::Run::current().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _entered = run.enter();
            while !stop.load(SeqCst) {
                good.add(1);
                more.iter().for_each(|dice| dice.turn(1));
            }
        });
        bad.throw();
        let diverged = |node: usize| cluster.status(node).diverged;
        eventually("all nodes know", || (0..3).all(|node| !diverged(node).is_empty()));
        stop.store(true, SeqCst);
        for node in 0..3 {
            let diverged = diverged(node);
            assert_eq!(diverged.len(), 1, "{diverged:?}");
            assert_eq!((&*diverged[0].type_name, &*diverged[0].key), ("tests::objects::Dice", "\"bad\""));
            assert!(diverged[0].methods.contains(&"throw".to_owned()), "{diverged:?}");
            assert!(!diverged[0].methods.contains(&"turn".to_owned()), "{diverged:?}");
            assert_says(
                &told(&cluster.nodes[node].address),
                &[
                    "the replicas of 1 object differ",
                    "tests::objects::Dice \"bad\"",
                    "throw",
                    "cx: &mut Context",
                ],
            );
        }
    });
    // It goes on working.
    bad.turn(1);
    // Each node says so once, however many objects there are.
    let diverged = || server::diverged(&cluster.nodes[0].status());
    more.iter().for_each(Dice::throw);
    eventually("all are found", || diverged() == 51);
    cluster.nodes[0].signal(Signal::INT);
    let (_, _, err) = cluster.nodes[0].ended();
    assert_says(
        &err,
        &["tests::objects::Dice", "throw", "the replicas of an object differ", "cx: &mut Context"],
    );
    assert!((1..6).contains(&err.matches("the replicas of an object differ").count()), "{err}");
}

/// A small file system, in memory. Goes when it is dropped.
struct Small(PathBuf);

impl Small {
    /// None, with a message, if this user can't mount.
    fn mount(size: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("crucial-small-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&dir).output();
        if output.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Small(dir));
        }
        println!("skipped: a small file system can't be mounted here: {output:?}");
        let _ = fs::remove_dir(&dir);
        None
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_node_whose_disk_is_full_says_so() {
    let Some(small) = Small::mount("90m") else { return };
    let dir = small.path().join("data").display().to_string();
    let node = ServerProcess::with("127.0.0.1:0", app!(), &["--data-dir", &dir], &[]);
    let failure = || node.status().cluster.unwrap().disk_failure;
    let _run = OwnRun::enter(server::client(&node.address));
    let tally = Tally::at("t").persistent().new(0);
    assert_eq!((failure(), told(&node.address).contains("disk failed")), (None, false));
    // More than fits in what is left of the first file, or of the disk.
    fs::write(small.path().join("ballast"), vec![1; 40 << 20]).unwrap_or_default();
    let calling = begin(move || while tally.remote().measure_written(&[1; 1 << 20]).wait().is_ok() {});
    eventually("the disk is full", || failure().is_some());
    assert_says(&failure().unwrap(), &[&dir, "when there is space again"]);
    assert_says(&told(&node.address), &["node 1: disk failed", &dir, "acknowledges nothing"]);
    drop(node);
    drop(calling);
}

#[crucial::test(modes(server))]
#[ignore = "a test of tests runs it"]
fn tests_have_nodes() {
    let config = crucial::run::Run::current().unwrap().config().clone();
    let status = run::block_on(admin::status(&config.servers[0], &config)).unwrap();
    println!("{} addresses, {} nodes", config.servers.len(), status.cluster.map_or(0, |c| c.nodes.len()));
}

#[test]
fn tests_may_have_several_nodes() {
    let with = |nodes: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests_have_nodes::server", "--ignored", "--nocapture"])
            .env("CRUCIAL_TEST_NODES", nodes)
            // Then the harness prints a test's name before the test begins.
            .env("RUST_TEST_THREADS", "1")
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for (nodes, says) in [
        ("1", "1 addresses, 0 nodes"),
        ("3", "3 addresses, 3 nodes"),
        ("0", "CRUCIAL_TEST_NODES"),
        ("three", "a number of nodes from 1 to 64"),
    ] {
        let said = with(nodes);
        assert!(said.contains(says), "{nodes}: {said}");
    }
}
