//! What is used is given back: nothing grows with the number of calls or cloud threads.
//!
//! The figures are those of the whole process, so the tests of this file take turns.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crucial::{BackendKind, Config, cloud_fn, sync::Barrier, test, thread};
use tests::{
    PATIENCE, app, eventually,
    objects::Tally,
    process::{Usage, usage},
    server::{OwnRun, ServerProcess, client},
};

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that may come and go: allocators keep a heap for each thread, and give pages back when they like. A leak of
/// 100 bytes in each of 100,000 calls is more than this.
const SLACK: u64 = 8 << 10;

/// Runs `f` some times to warm up and some more times; nothing may have grown after that.
#[track_caller]
fn does_not_grow(pids: &[u32], warm: usize, times: usize, mut f: impl FnMut()) {
    (0..warm).for_each(|_| f());
    let before: Vec<_> = pids.iter().map(|pid| usage(*pid)).collect();
    (0..times).for_each(|_| f());
    let grown = |before: &Usage, after: &Usage| {
        // A thread or a socket that is on its way out is no leak; a leak has thousands.
        after.memory > before.memory + SLACK
            || after.threads > before.threads + 4
            || after.files > before.files + 4
    };
    let start = Instant::now();
    eventually("what was used is given back", || {
        let after: Vec<_> = pids.iter().map(|pid| usage(*pid)).collect();
        let enough = !before.iter().zip(&after).any(|(before, after)| grown(before, after));
        if enough || start.elapsed() > PATIENCE / 2 {
            println!("{before:?} -> {after:?}");
        }
        enough
    });
}

/// A number from the environment: how much longer the long version is.
fn scale() -> usize {
    std::env::var("TESTS_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[cloud_fn]
fn add(tally: &Tally) -> u64 {
    tally.add(1)
}

#[cloud_fn]
fn meet(barrier: &Barrier) {
    barrier.wait();
}

/// A batch of cloud threads.
fn spawn(tally: &Tally, threads: usize) {
    let threads: Vec<_> = (0..threads).map(|_| thread::spawn(|| add(tally))).collect();
    threads.into_iter().for_each(|t| drop(t.join().unwrap().to_string()));
}

#[test(modes(embedded))]
fn a_million_calls() {
    let _alone = alone();
    let tally = Tally::new(0);
    does_not_grow(&[std::process::id()], 1, 10 * scale(), || {
        for _ in 0..50_000 {
            tally.add(1);
            tally.get();
        }
    });
    assert_eq!(tally.get(), 50_000 * (1 + 10 * scale() as u64));
}

#[::core::prelude::v1::test]
fn two_hundred_thousand_remote_calls() {
    let _alone = alone();
    let server = ServerProcess::start(app!(), &[]);
    let _run = OwnRun::on(&server.address);
    let tally = Tally::new(0);
    does_not_grow(&[std::process::id(), server.pid()], 1, 10 * scale(), || {
        for _ in 0..7_500 {
            tally.add(1);
            tally.get();
        }
        crucial::run::block_on(async {
            for _ in 0..50 {
                let calls = (0..100).map(|_| tally.remote().add(1));
                for result in futures::future::join_all(calls).await {
                    result.unwrap();
                }
            }
        });
    });
    assert_eq!(tally.get(), 12_500 * (1 + 10 * scale() as u64));
}

#[::core::prelude::v1::test]
fn ten_thousand_threads() {
    let _alone = alone();
    let server = ServerProcess::start(app!(), &[]);
    let _run = OwnRun::on(&server.address);
    let tally = Tally::new(0);
    // A client keeps as many connections as threads have called at once: all of them, here.
    let barrier = Barrier::new(200);
    let threads: Vec<_> = (0..200).map(|_| thread::spawn(|| meet(&barrier))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    does_not_grow(&[std::process::id(), server.pid()], 2, 50 * scale(), || spawn(&tally, 200));
    assert_eq!(tally.get(), 200 * (2 + 50 * scale() as u64));
}

/// `TESTS_SCALE=5` makes 10,000 of it.
#[test(modes(processes))]
fn two_thousand_processes_threads() {
    let _alone = alone();
    let mut config: Config = (**crucial::run::Run::current().unwrap().config()).clone();
    assert_eq!(config.backend, BackendKind::Processes);
    config.concurrency = Some(4);
    let _run = OwnRun::enter(config);
    let tally = Tally::new(0);
    let me = std::process::id();
    does_not_grow(&[me], 2, 20 * scale(), || spawn(&tally, 100));
    assert!(tests::process::children(me).len() <= 4, "processes are used again");
    assert_eq!(tally.get(), 100 * (2 + 20 * scale() as u64));
}

#[::core::prelude::v1::test]
fn objects_runs_and_clients_that_come_and_go() {
    let _alone = alone();
    let server = ServerProcess::start(app!(), &[("CRUCIAL_LEASE", "1s")]);
    does_not_grow(&[std::process::id(), server.pid()], 3, 20 * scale(), || {
        let _run = OwnRun::enter(client(&server.address));
        let tallies: Vec<_> = (0..500).map(Tally::new).collect();
        assert_eq!(tallies[7].add(1), 7);
        let waiting = tallies[0].remote().take(1).timeout(Duration::from_millis(1));
        assert!(crucial::run::block_on(waiting).is_err());
        spawn(&tallies[1], 4);
    });
    // This thread keeps its connection, of the last run, until it makes a call in another one.
    eventually("nothing is left", || server.status().sessions <= 1 && server.status().runs == 0);
    assert_eq!(tests::server::ephemeral(&server.status()), 0);
}

#[::core::prelude::v1::test]
fn two_thousand_parked_calls_cost_the_server_no_thread() {
    const CALLS: u64 = 2_000;
    let _alone = alone();
    let server = ServerProcess::start(app!(), &[]);
    let _run = OwnRun::on(&server.address);
    let tally = Tally::new(0);
    tally.get();
    let before = usage(server.pid());
    // Half of them wait for the same thing, the others each for something else.
    let waiting = tests::begin({
        let tally = tally.clone();
        move || {
            let same = (0..CALLS / 2).map(|_| tally.remote().take(1));
            let other = (0..CALLS / 2).map(|n| tally.remote().reach(n));
            crucial::run::block_on(futures::future::join_all(same.chain(other)))
        }
    });
    // One of `other` waits for 0.
    eventually("all wait", || tests::server::parked(&server.status()) == CALLS - 1);
    let parked = usage(server.pid());
    assert_eq!(
        (parked.threads, parked.files),
        (before.threads, before.files + 1),
        "{before:?} -> {parked:?}"
    );
    assert!(parked.memory < before.memory + SLACK, "{before:?} -> {parked:?}");
    tally.add(CALLS / 2);
    // Those that arrived first have taken what was there, so one more lets the others go on.
    tally.add(CALLS / 2);
    let results = waiting.within("all go on");
    assert_eq!(results.into_iter().filter(Result::is_ok).count() as u64, CALLS);
    assert_eq!(tally.get(), CALLS / 2);
}
