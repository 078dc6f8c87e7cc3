//! Nodes that have the token.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use crucial::run::Run;
use crucial_runtime::security::Token;
use tests::{
    assert_says, eventually,
    objects::Tally,
    process::Signal,
    server::{Cluster, OwnRun, ServerProcess},
};
use tests_tls::app;

#[test]
fn a_cluster_survives_the_loss_of_a_node() {
    let token = Token::generate().reveal();
    let settings = [("CRUCIAL_LEASE", "5s"), ("CRUCIAL_TOKEN", token.as_str())];
    let mut cluster = Cluster::start(app!(), 3, &settings);
    let _run = OwnRun::enter(cluster.client());
    let tallies: Vec<_> = (0..16).map(|i| Tally::at(format!("{i}")).persistent().new(0)).collect();
    let stop = AtomicBool::new(false);
    let added = AtomicU64::new(0);
    thread::scope(|scope| {
        let run = Run::current().unwrap();
        for thread in 0..4 {
            let (tallies, stop, added, run) = (&tallies, &stop, &added, run.clone());
            scope.spawn(move || {
                let _entered = run.enter();
                for i in (thread..).step_by(7) {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let tally = &tallies[i % tallies.len()];
                    if thread == 0 {
                        crucial::run::block_on(tally.remote().add(1)).unwrap();
                    } else {
                        tally.add(1);
                    }
                    added.fetch_add(1, SeqCst);
                }
            });
        }
        eventually("calls are made", || added.load(SeqCst) > 100);
        cluster.nodes[1].signal(Signal::KILL);
        let before = added.load(SeqCst);
        eventually("calls are made again", || added.load(SeqCst) > before + 500);
        stop.store(true, SeqCst);
    });
    let sum: u64 = tallies.iter().map(Tally::get).sum();
    assert_eq!(sum, added.load(SeqCst), "every call is applied once");
    cluster.replace(1);
    cluster.settle();
}

#[test]
fn a_node_is_advertised_by_its_name() {
    let token = Token::generate().reveal();
    let settings = [("CRUCIAL_TOKEN", token.as_str())];
    let serve = |args: &[&str]| {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let name = format!("localhost:{}", unused.port());
        let args = [args, &["--advertise", &name]].concat();
        (ServerProcess::with(&unused.to_string(), app!(), &args, &settings), name)
    };
    let (first, first_name) = serve(&["--cluster", "named"]);
    let (second, second_name) = serve(&["--join", &first_name]);
    eventually("both are up", || {
        let nodes = second.status().cluster.unwrap().nodes;
        let addresses: Vec<_> = nodes.iter().filter(|n| n.state == "up").map(|n| &n.address).collect();
        addresses == [&first_name, &second_name]
    });
    // The client knows one node, by name, and learns of the other by its name.
    let mut config = tests::server::client(&first_name);
    config.token.clone_from(&first.token);
    let _run = OwnRun::enter(config);
    let tallies: Vec<_> = (0..16).map(|i| Tally::at(format!("{i}")).new(i)).collect();
    assert_eq!(tallies.iter().map(Tally::get).sum::<u64>(), 120);
    assert!([&first, &second].iter().all(|node| tests::server::ephemeral(&node.status()) > 0));
}

#[test]
fn nodes_say_why_they_do_not_come_together() {
    let (token, other) = (Token::generate().reveal(), Token::generate().reveal());
    let secured =
        ServerProcess::with("127.0.0.1:0", app!(), &["--cluster", "a"], &[("CRUCIAL_TOKEN", &token)]);
    let plain = ServerProcess::with("127.0.0.1:0", app!(), &["--cluster", "a"], &[]);
    for (at, token, says) in [
        (&secured, Some(&other), "another cluster token"),
        (&secured, None, "this server speaks TLS, and the other end doesn't: set CRUCIAL_TOKEN_FILE"),
        (&plain, Some(&other), "it speaks no TLS"),
    ] {
        let output = Command::new(app!())
            .args(["crucial", "serve", "--listen", "127.0.0.1:0", "--join", &at.address])
            .envs(token.map(|token| ("CRUCIAL_TOKEN", token)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_says(
            &String::from_utf8_lossy(&output.stderr),
            &["error: refused", says, "CRUCIAL_TOKEN_FILE"],
        );
    }
    assert_eq!(secured.status().cluster.unwrap().nodes.len(), 1);
    // An address that says "everywhere" is refused before anything listens there.
    let output = Command::new(app!())
        .args(["crucial", "serve", "--listen", "0.0.0.0:0", "--cluster", "a"])
        .env("CRUCIAL_TOKEN", &token)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_says(&String::from_utf8_lossy(&output.stderr), &["0.0.0.0:0", "--advertise HOST:PORT"]);
}
