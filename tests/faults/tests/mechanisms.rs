//! Each fault does what its name says, and is over when it is over.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use tests::{eventually, random::Random};
use tests_faults::{
    arena::{self, Disks, Host, Network},
    cluster::{Abilities, Cluster, Settings},
    nemesis::{Fault, Kind, Plan, unleash},
};

const STAND_IN: &str = env!("CARGO_BIN_EXE_stand-in");

/// Runs the body of the test of this name in an arena: this program once more, for that test alone.
fn in_arena(test: &str, body: fn()) {
    if arena::is_inside() {
        return body();
    }
    if let Some(obstacle) = arena::obstacle() {
        return println!("without namespaces there is nothing to test: {obstacle}");
    }
    let args = ["--exact", test, "--nocapture"].map(Into::into);
    let output = arena::another(args.into_iter()).unwrap().output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn start(network: &Network, nodes: usize) -> Cluster<'_> {
    start_with(network, nodes, Vec::new())
}

fn start_with(network: &Network, nodes: usize, variables: Vec<(String, String)>) -> Cluster<'_> {
    launch(network, Settings { program: PathBuf::from(STAND_IN), nodes, disk: true, variables })
}

fn launch(network: &Network, settings: Settings) -> Cluster<'_> {
    let abilities = Abilities::of(&settings.program).unwrap();
    assert!(abilities.cluster && abilities.disk);
    let disks = Disks::new(None, true).unwrap();
    let mut cluster = Cluster::new(network, disks, settings);
    cluster.start().unwrap();
    cluster
}

/// Asks a node, as a client; `None` if it can't be reached.
fn ask(node: usize, what: &str) -> Option<String> {
    let patience = Duration::from_millis(1500);
    let address = Host::Node(node).address().parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(400)).ok()?;
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(format!("{what}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Which nodes reach which.
fn reached(from: usize, to: usize) -> bool {
    ask(from, &format!("reach {}", Host::Node(to).address())).as_deref() == Some("reached")
}

/// Runs one fault; looks while it lasts, and after it.
fn during(cluster: &mut Cluster<'_>, kind: Kind, nodes: &[usize], look: impl FnOnce() + Send) -> Vec<String> {
    let lasts = Duration::from_millis(6000);
    let fault = Fault { kind, at: Duration::ZERO, lasts, nodes: nodes.to_vec() };
    let plan = Plan { faults: vec![fault], lasts };
    let start = Instant::now();
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            thread::sleep(Duration::from_millis(700));
            look();
            assert!(start.elapsed() < lasts, "it took too long to look: {:?}", start.elapsed());
        });
        let (notes, complaints) = unleash(&plan, cluster, 1, start);
        assert_eq!(complaints, Vec::<String>::new());
        if let Err(panic) = looking.join() {
            std::panic::resume_unwind(panic);
        }
        notes
    })
}

#[test]
fn links_are_broken_and_mended() {
    in_arena("links_are_broken_and_mended", || {
        let network = Network::build().unwrap();
        let mut cluster = start(&network, 3);
        let all = || (1..=3).all(|from| (1..=3).filter(|to| *to != from).all(|to| reached(from, to)));
        assert!(all());
        during(&mut cluster, Kind::Minority, &[2], || {
            assert!(!reached(2, 1) && !reached(1, 2) && !reached(2, 3) && !reached(3, 2));
            assert!(reached(1, 3) && reached(3, 1));
        });
        assert!(all());
        // It hears the others, but a conversation takes both ways.
        during(&mut cluster, Kind::Mute, &[1], || assert!(!reached(1, 2) && !reached(2, 1) && reached(2, 3)));
        assert!(all());
        during(&mut cluster, Kind::Alone, &[3], || {
            assert_eq!(ask(3, "hello"), None);
            assert!(!reached(1, 3) && reached(1, 2));
        });
        assert!(all());
        during(&mut cluster, Kind::Clients, &[], || {
            assert!((1..=3).all(|node| ask(node, "hello").is_none()))
        });
        assert!(all());
        // All nodes are idle, so any can seem to lead.
        let notes = during(&mut cluster, Kind::Leader, &[], || {
            let lonely = (1..=3).filter(|a| (1..=3).filter(|b| a != b).all(|b| !reached(*a, b)));
            assert_eq!(lonely.count(), 1);
        });
        assert!(notes[0].starts_with("leader "), "{notes:?}");
        assert!(all());
        assert_eq!(cluster.complaints(), Vec::<String>::new());
    });
}

#[test]
fn nodes_are_slow_for_a_while() {
    in_arena("nodes_are_slow_for_a_while", || {
        let network = Network::build().unwrap();
        let mut cluster = start(&network, 2);
        // One after the other, as many packets at once are a burden for any link.
        let time = || {
            let start = Instant::now();
            (0..40).for_each(|_| drop(ask(1, "hello")));
            start.elapsed()
        };
        // On a busy machine it may take long once, but not again and again.
        let is_quick = || eventually("the node is as quick as ever", || time() < Duration::from_millis(200));
        is_quick();
        during(&mut cluster, Kind::Slow, &[1], || {
            let slow = time();
            assert!(slow > Duration::from_millis(250), "{slow:?}");
        });
        is_quick();
        during(&mut cluster, Kind::Pause, &[1], || assert_eq!(ask(1, "hello"), None));
        assert_eq!(ask(1, "hello").as_deref(), Some("hello"));
        during(&mut cluster, Kind::Stutter, &[1], || {
            let longest = (0..40).map(|_| {
                let start = Instant::now();
                assert_eq!(ask(1, "hello").as_deref(), Some("hello"));
                let took = start.elapsed();
                thread::sleep(Duration::from_millis(7));
                took
            });
            let longest = longest.max().unwrap();
            assert!(longest > Duration::from_millis(25), "{longest:?}");
        });
        is_quick();
        during(&mut cluster, Kind::Freeze, &[], || {
            let look = |node| {
                let begin = Instant::now();
                let (mut answered, mut silent) = (false, false);
                while begin.elapsed() < Duration::from_secs(4) && !(answered && silent) {
                    let start = Instant::now();
                    answered |= ask(node, "hello").is_some();
                    silent |= start.elapsed() > Duration::from_millis(75);
                    thread::sleep(Duration::from_millis(7));
                }
                (answered, silent)
            };
            // At the same time: else one of them may be asked only while both run.
            let other = thread::scope(|scope| {
                let other = scope.spawn(|| look(2));
                assert_eq!(look(1), (true, true));
                other.join().unwrap()
            });
            assert_eq!(other, (true, true));
        });
        is_quick();
        assert_eq!(cluster.complaints(), Vec::<String>::new());
    });
}

#[test]
fn logs_are_torn_and_disks_are_full() {
    in_arena("logs_are_torn_and_disks_are_full", || {
        let network = Network::build().unwrap();
        let mut cluster = start(&network, 2);
        let append = |node| ask(node, "append");
        assert_eq!(ask(1, "found").as_deref(), Some("0 records and 0 bytes"));
        for _ in 0..10 {
            assert_eq!(append(1).as_deref(), Some("appended"));
        }
        // All of it is there after a kill.
        during(&mut cluster, Kind::KillAll, &[1, 2], || {
            assert_eq!((ask(1, "hello"), ask(2, "hello")), (None, None))
        });
        assert_eq!(ask(1, "found").as_deref(), Some("10 records and 0 bytes"));

        // A write ends in its middle. What was acknowledged before is there, and a part of what was not.
        let (mut acknowledged, mut random) = (10, Random(5));
        let how = thread::scope(|scope| {
            let tearing = scope.spawn(|| cluster.tear(1, &mut random).unwrap());
            while append(1).as_deref() == Some("appended") {
                acknowledged += 1;
            }
            tearing.join().unwrap()
        });
        assert_eq!(how, "half a record");
        assert!(!cluster.is_up(1));
        cluster.revive(&[1]).unwrap();
        cluster.await_members().unwrap();
        let found = ask(1, "found").unwrap();
        assert!(
            found.starts_with(&format!("{acknowledged} records and ")),
            "{acknowledged} acknowledged, {found}"
        );
        // The limit is gone with the process.
        assert_eq!(append(1).as_deref(), Some("appended"));

        // No write comes to an end so: there is something behind the log.
        assert_eq!(cluster.tear(1, &mut random).unwrap(), "garbage behind the log");
        cluster.revive(&[1]).unwrap();
        cluster.await_members().unwrap();
        let found = ask(1, "found").unwrap();
        let expected = format!("{} records and ", acknowledged + 1);
        assert!(found.starts_with(&expected) && !found.ends_with(" 0 bytes"), "{found}");

        during(&mut cluster, Kind::Full, &[1], || {
            // To fill it takes a moment, and the last block of the log has room for some records.
            let start = Instant::now();
            while !append(1).is_some_and(|answer| answer.contains("No space left")) {
                assert!(start.elapsed() < Duration::from_secs(4), "the disk has room");
            }
            assert_eq!(append(2).as_deref(), Some("appended"), "the disk of another");
        });
        assert_eq!(append(1).as_deref(), Some("appended"));
        assert_eq!(cluster.complaints(), Vec::<String>::new());
    });
}

#[test]
fn nodes_come_and_go() {
    in_arena("nodes_come_and_go", || {
        let network = Network::build().unwrap();
        let mut cluster = start(&network, 3);
        assert_eq!(ask(2, "append").as_deref(), Some("appended"));
        during(&mut cluster, Kind::Join, &[4], || assert!(reached(1, 4) && reached(4, 2)));
        assert_eq!((ask(4, "hello"), cluster.members()), (None, &[1, 2, 3][..]));
        during(&mut cluster, Kind::Leave, &[2], || assert_eq!(ask(2, "hello"), None));
        // It came back with nothing, knowing the others.
        assert_eq!(ask(2, "found").as_deref(), Some("0 records and 0 bytes"));
        let others = format!("joined {},{}", Host::Node(1).address(), Host::Node(3).address());
        assert!(cluster.last_words(2).contains(&others), "{}", cluster.last_words(2));
        assert_eq!(cluster.members().len(), 3);
        during(&mut cluster, Kind::Kill, &[3], || assert_eq!(ask(3, "hello"), None));
        assert_eq!(ask(3, "hello").as_deref(), Some("hello"));
        during(&mut cluster, Kind::Roll, &[1, 2, 3], || {});
        assert_eq!(cluster.complaints().len(), 0);
    });
}

fn fault(kind: Kind, at: u64, lasts: u64, nodes: &[usize]) -> Fault {
    let (at, lasts) = (Duration::from_millis(at), Duration::from_millis(lasts));
    Fault { kind, at, lasts, nodes: nodes.to_vec() }
}

/// Who asks whether a cluster in memory can do without a node is a client, which may be cut off.
#[test]
fn a_fault_that_needs_an_answer_does_not_begin_while_clients_are_cut_off() {
    in_arena("a_fault_that_needs_an_answer_does_not_begin_while_clients_are_cut_off", || {
        let network = Network::build().unwrap();
        let program = PathBuf::from(STAND_IN);
        let mut cluster =
            launch(&network, Settings { program, nodes: 2, disk: false, variables: Vec::new() });
        let faults = vec![fault(Kind::Clients, 0, 600, &[]), fault(Kind::Kill, 200, 100, &[2])];
        let plan = Plan { faults, lasts: Duration::from_secs(1) };
        let (notes, complaints) = unleash(&plan, &mut cluster, 1, Instant::now());
        assert_eq!((notes, complaints), (vec!["kill skipped".to_owned()], Vec::<String>::new()));
        assert_eq!((ask(1, "hello").as_deref(), ask(2, "hello").as_deref()), (Some("hello"), Some("hello")));
    });
}

/// A node may need those that another fault keeps down, or apart.
#[test]
fn a_fault_that_ends_waits_for_no_other() {
    in_arena("a_fault_that_ends_waits_for_no_other", || {
        let network = Network::build().unwrap();
        let mut cluster = start_with(&network, 2, vec![("STAND_IN_WAITS".to_owned(), "1".to_owned())]);
        for node in [1, 2] {
            assert_eq!(ask(node, "append").as_deref(), Some("appended"));
        }
        let faults = vec![fault(Kind::Kill, 0, 400, &[2]), fault(Kind::KillAll, 200, 600, &[1, 2])];
        let plan = Plan { faults, lasts: Duration::from_secs(1) };
        let (_, complaints) = unleash(&plan, &mut cluster, 1, Instant::now());
        assert_eq!(complaints, Vec::<String>::new());
        assert_eq!((ask(1, "hello").as_deref(), ask(2, "hello").as_deref()), (Some("hello"), Some("hello")));
        assert_eq!(cluster.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_node_that_ends_by_itself_is_noticed() {
    in_arena("a_node_that_ends_by_itself_is_noticed", || {
        let network = Network::build().unwrap();
        let mut cluster = start(&network, 1);
        ask(1, "leave");
        thread::sleep(Duration::from_millis(300));
        let complaints = cluster.complaints();
        assert!(complaints[0].contains("node 1 ended by itself with exit status: 0"), "{complaints:?}");
    });
}
