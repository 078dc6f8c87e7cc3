//! A call is applied once, however often its connection breaks.

use std::{collections::BTreeMap, sync::atomic::Ordering::SeqCst, time::Duration};

use crucial::{Config, Error, sync::Semaphore};
use crucial_runtime::{
    codec,
    dso::{Create, Head, Operation},
    id::{ObjectId, SessionId, fresh},
    object::SharedType,
    reference::Lifetime,
    wire::Hello,
};
use tests::{
    app, assert_says, begin, eventually,
    objects::{Journal, SLOW_CALLS, Tally},
    proxy::Proxy,
    raw::{self, Raw},
    server::{LocalServer, OwnRun, ServerProcess, client, parked},
};

const SEEDS: [u64; 3] = [1, 0xfeed, 77_777];

/// Each of the three kinds of cuts happened.
fn assert_cut(proxy: &Proxy, seed: u64) {
    let cuts = proxy.cuts();
    assert!(cuts.iter().all(|n| *n > 0), "seed {seed}: the connections were not cut everywhere: {cuts:?}");
}

#[test]
fn blocking_calls_are_applied_once() {
    for seed in SEEDS {
        let server = LocalServer::start(&Config::default());
        let proxy = Proxy::start(&server.address, seed);
        let _run = OwnRun::on(&proxy.address);
        let (tally, journal, semaphore) = (Tally::new(0), Journal::new(), Semaphore::new(2));
        proxy.set_odds(12);
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let (tally, journal, semaphore) = (tally.clone(), journal.clone(), semaphore.clone());
                begin(move || {
                    let mut before = Vec::new();
                    for n in 0..60 {
                        before.push(tally.add(1));
                        journal.push(thread << 32 | n);
                        let permit = semaphore.acquire();
                        assert!(semaphore.available_permits() <= 1);
                        drop(permit);
                    }
                    before
                })
            })
            .collect();
        let mut before: Vec<_> =
            threads.into_iter().flat_map(|t| t.within("calls over a bad network")).collect();
        proxy.set_odds(0);
        assert_cut(&proxy, seed);
        // Every value was there once: no increment was lost, and none applied twice.
        before.sort_unstable();
        assert_eq!(before, (0..240).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(tally.get(), 240, "seed {seed}");
        check_journal(&journal, 4, 60, seed);
        assert_eq!(semaphore.available_permits(), 2, "seed {seed}");
        assert_eq!(parked(&server.status()), 0);
    }
}

/// Every token is there once, and those of one caller are in the order of its calls.
fn check_journal(journal: &Journal, callers: u64, calls: u64, seed: u64) {
    let mut next = BTreeMap::<u64, u64>::new();
    for token in journal.tokens() {
        let expected = next.entry(token >> 32).or_default();
        assert_eq!(token & 0xffff_ffff, *expected, "seed {seed}, caller {}", token >> 32);
        *expected += 1;
    }
    assert_eq!(next, (0..callers).map(|caller| (caller, calls)).collect(), "seed {seed}");
}

#[test]
fn async_calls_are_applied_once() {
    for seed in SEEDS {
        let server = LocalServer::start(&Config::default());
        let proxy = Proxy::start(&server.address, seed);
        let _run = OwnRun::on(&proxy.address);
        let (tally, journal, semaphore) = (Tally::new(0), Journal::new(), Semaphore::new(2));
        proxy.set_odds(12);
        let caller = async |caller: u64| {
            for n in 0..40 {
                tally.remote().add(1).await.unwrap();
                journal.remote().push(caller << 32 | n).await.unwrap();
                semaphore.remote().take(1).await.unwrap();
                semaphore.remote().add_permits(1).await.unwrap();
            }
        };
        let all = futures::future::join_all((0..6).map(caller));
        let done = crucial::run::block_on(async {
            let _timer = crucial::run::io().enter();
            tokio::time::timeout(tests::PATIENCE, all).await
        });
        proxy.set_odds(0);
        assert!(done.is_ok(), "seed {seed}: a call got no answer");
        assert_cut(&proxy, seed);
        assert_eq!(tally.get(), 240, "seed {seed}");
        check_journal(&journal, 6, 40, seed);
        assert_eq!(semaphore.available_permits(), 2, "seed {seed}");
        assert_eq!(parked(&server.status()), 0);
    }
}

#[test]
fn a_parked_call_survives_a_cut() {
    let server = LocalServer::start(&Config::default());
    let proxy = Proxy::start(&server.address, 1);
    let run = OwnRun::on(&proxy.address);
    let tally = Tally::new(0);
    let calls = [true, false].map(|blocking| {
        let tally = tally.clone();
        begin(move || {
            if blocking {
                tally.remote().take(1).wait()
            } else {
                crucial::run::block_on(tally.remote().take(1))
            }
        })
    });
    eventually("both are parked", || parked(&server.status()) == 2);
    for _ in 0..3 {
        let before = server.status().sessions;
        proxy.cut();
        // They come back with the same session, so there are no more calls than before.
        eventually("they are back", || server.status().sessions == before);
        assert_eq!(parked(&server.status()), 2);
    }
    // Granted while their connections are down.
    proxy.go_down();
    let mut other =
        raw::greet(&server.address, Hello { run: run.run.id(), starts_run: false, ..raw::hello() }).unwrap();
    let (mut head, _) = add(tally.object_ref().id(run.run.id()));
    assert_eq!(value(other.ask(&head, 1, &rmp_serde::to_vec(&(3u64,)).unwrap())), 0);
    assert_eq!(parked(&server.status()), 0);
    head.method = raw::method(raw::info::<Tally>(), "get");
    assert_eq!(value(other.ask(&head, 2, &[0x90])), 1);
    proxy.go_up();
    let mut left: Vec<_> = calls.into_iter().map(|call| call.within("it is granted").unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2]);
    assert_eq!(tally.get(), 1, "each was granted once");
}

#[test]
fn a_call_that_runs_when_its_connection_breaks_is_answered() {
    let server = LocalServer::start(&Config::default());
    let proxy = Proxy::start(&server.address, 1);
    let _run = OwnRun::on(&proxy.address);
    for blocking in [true, false] {
        let tally = Tally::new(10);
        let started = SLOW_CALLS.load(SeqCst);
        let call = begin({
            let tally = tally.clone();
            move || {
                let add = |by, millis| {
                    let call = tally.remote().slow_add(by, millis);
                    if blocking { call.wait() } else { crucial::run::block_on(call) }
                };
                // A connection whose last call was slow runs the next one aside, so that the server notices the new
                // connection while the call runs.
                assert_eq!(add(0, 20), Ok(10));
                add(1, 700)
            }
        });
        eventually("it runs", || SLOW_CALLS.load(SeqCst) > started + 1);
        proxy.cut();
        assert_eq!(call.within("the answer of a call that ran through the cut"), Ok(10));
        assert_eq!(tally.get(), 11);
    }
}

/// Settings of a client that gives up soon.
fn impatient(address: &str) -> Config {
    let mut config = client(address);
    config.connect_timeout = Duration::from_millis(300);
    config
}

#[test]
fn a_parked_call_that_was_given_up_takes_nothing() {
    let mut config = Config::default();
    config.lease = Duration::from_secs(2);
    let server = LocalServer::start(&config);
    let proxy = Proxy::start(&server.address, 1);
    // The run itself stays alive: it has a connection that isn't cut.
    let run = OwnRun::enter(impatient(&proxy.address));
    let witness = Hello { run: run.run.id(), starts_run: false, ..raw::hello() };
    let _witness = raw::greet(&server.address, witness).unwrap();
    for blocking in [true, false] {
        let tally = Tally::new(0);
        let (up, is_up) = std::sync::mpsc::channel();
        let (given_up, has_given_up) = std::sync::mpsc::channel();
        let call = begin({
            let tally = tally.clone();
            move || {
                let wait = |call: crucial::Call<u64>| {
                    if blocking { call.wait() } else { crucial::run::block_on(call) }
                };
                let in_doubt = wait(tally.remote().take(1)).unwrap_err();
                // This one was never sent.
                let certain = wait(tally.remote().add(1)).unwrap_err();
                given_up.send(()).unwrap();
                is_up.recv().unwrap();
                // The client is back before the old session's lease is over; its call goes with that all the same.
                wait(tally.remote().get()).unwrap();
                (in_doubt, certain)
            }
        });
        eventually("it is parked", || parked(&server.status()) == 1);
        proxy.go_down();
        has_given_up.recv_timeout(tests::PATIENCE).unwrap();
        proxy.go_up();
        up.send(()).unwrap();
        let (in_doubt, certain) = call.within("it gives up, and comes back");
        assert!(matches!(in_doubt, Error::OutcomeUnknown { .. }), "{in_doubt}");
        assert_says(
            &in_doubt,
            &["take of", "may or may not have been applied", "no server reachable within 300ms"],
        );
        assert!(matches!(certain, Error::Unreachable { .. }), "{certain}");
        eventually("the parked call is taken back", || parked(&server.status()) == 0);
        // On the shared connection: this thread's own has lost its session in the cut.
        assert_eq!(crucial::run::block_on(tally.remote().add(1)), Ok(0));
        assert_eq!(crucial::run::block_on(tally.remote().get()), Ok(1), "nobody took it");
    }
}

#[test]
fn a_cut_longer_than_the_lease_is_an_error_and_never_a_silent_double() {
    let server = ServerProcess::start(app!(), &[("CRUCIAL_LEASE", "1s")]);
    let proxy = Proxy::start(&server.address, 1);
    let run = OwnRun::on(&proxy.address);
    let tally = Tally::at("t").persistent().new(0);
    let named = Tally::at("e").new(0);
    let sessions = server.status().sessions;
    assert!(sessions > 0);

    // The session is gone, but the run is alive: another connection keeps it.
    let witness = Hello { run: run.run.id(), starts_run: false, ..raw::hello() };
    let witness = raw::greet(&server.address, witness).unwrap();
    let call = begin({
        let tally = tally.clone();
        move || tally.remote().take(1).wait()
    });
    let shared = begin({
        let tally = tally.clone();
        move || crucial::run::block_on(tally.remote().take(1))
    });
    eventually("both are parked", || parked(&server.status()) == 2);
    proxy.go_down();
    eventually("the lease of their sessions is over", || server.status().sessions == 1);
    assert_eq!(parked(&server.status()), 0, "their calls were taken back");
    proxy.go_up();
    for error in [call.within("a call fails").unwrap_err(), shared.within("a call fails").unwrap_err()] {
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
        assert_says(&error, &["take of tests::objects::Tally \"t\"", "may or may not have been applied"]);
    }
    // This thread's own connection had a session too, which is gone: one call of it learns that, and was not applied.
    let error = tally.remote().add(1).wait().unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    // It goes on from there.
    assert_eq!(tally.remote().add(1).wait(), Ok(0));
    assert_eq!(crucial::run::block_on(tally.remote().add(1)), Ok(1));
    assert_eq!(tally.get(), 2);
    assert_eq!(named.add(1), 0);

    // Now the run's lease ends too.
    proxy.go_down();
    drop(witness);
    eventually("the run is over", || server.status().runs == 0);
    proxy.go_up();
    for error in [
        named.remote().add(1).wait().unwrap_err(),
        tally.remote().add(1).wait().unwrap_err(),
        crucial::run::block_on(named.remote().add(1)).unwrap_err(),
    ] {
        assert!(matches!(error, Error::StateLost { .. }), "{error}");
        assert_says(&error, &["is lost", "lease"]);
    }
    drop(run);
    let _next = OwnRun::on(&server.address);
    assert_eq!(Tally::at("t").persistent().new(0).get(), 2, "what failed was not applied");
}

// ---- the counting would notice

fn add(object: ObjectId) -> (Head, Vec<u8>) {
    let tag = crucial_runtime::object::tag::<Tally>();
    let method = raw::method(raw::info::<Tally>(), "add");
    (Head { operation: Operation::Call, object, tag, method }, rmp_serde::to_vec(&(1u64,)).unwrap())
}

fn value(bytes: Result<Vec<u8>, Error>) -> u64 {
    rmp_serde::from_slice(&bytes.unwrap()).unwrap()
}

#[test]
fn a_repeated_frame_is_applied_once_in_its_session_and_again_in_another() {
    let server = LocalServer::start(&Config::default());
    let mut first = Raw::connect(&server.address);
    let object = ObjectId(fresh());
    let (head, args) = add(object);
    let name = <Tally as SharedType>::NAME;
    first.create(name, head.tag, object, None, &rmp_serde::to_vec(&(0u64,)).unwrap()).unwrap();

    // The same frame on the same connection, and on another one of the session: the same answer.
    let frame = raw::request(&head, 7, 7, &args);
    for _ in 0..3 {
        first.send(&frame);
        assert_eq!(first.receive(), (7, Ok(rmp_serde::to_vec(&0u64).unwrap())));
    }
    let resume = Hello { starts_run: false, ..first.hello.clone() };
    let mut again = raw::greet(&server.address, resume).unwrap();
    assert!(again.welcome.resumed);
    again.send(&frame);
    assert_eq!(value(again.receive().1), 0);

    // Without the session's memory it is applied again: this is what the tests above would count.
    let other = Hello { starts_run: false, session: SessionId(fresh()), ..first.hello.clone() };
    let mut other = raw::greet(&server.address, other).unwrap();
    assert!(!other.welcome.resumed);
    other.send(&frame);
    assert_eq!(value(other.receive().1), 1, "applied twice");

    // A frame that the client has acknowledged is refused, not applied.
    let (later, old) = (raw::request(&head, 9, 9, &args), raw::request(&head, 8, 8, &args));
    again.send(&later);
    assert_eq!(value(again.receive().1), 2);
    again.send(&old);
    assert_says(&again.receive().1.unwrap_err(), &["acknowledged before"]);
}

/// As when an object is made by the first call that finds none: that call is made again, under another number.
#[test]
fn a_call_that_found_no_object_finds_none_when_it_arrives_again() {
    let one = LocalServer::start(&Config::default());
    late_after_none(&one.address, ObjectId(fresh()));
    #[cfg(feature = "cluster")]
    for object in [ObjectId(fresh() & !1), ObjectId::persistent(fresh())] {
        let cluster = tests::server::Cluster::start(app!(), 1, &[]);
        late_after_none(&cluster.nodes[0].address, object);
    }
}

fn late_after_none(address: &str, object: ObjectId) {
    let mut client = Raw::connect(address);
    // Call 1 stays open, so nothing is acknowledged.
    let mut ask = |head: &Head, seq, args: &[u8]| client.ask_node(head, seq, 1, args);
    let (head, args) = add(object);
    let none = |result: Result<Vec<u8>, Error>| {
        assert!(matches!(result, Err(Error::NoSuchObject { .. })), "{result:?}");
    };
    none(ask(&head, 2, &args));
    let new = rmp_serde::to_vec(&(0u64,)).unwrap();
    let lifetime = if object.is_persistent() { Lifetime::Persistent } else { Lifetime::Ephemeral };
    let type_name = <Tally as SharedType>::NAME;
    let create = Create { type_name, key: None, lifetime, constructor: 0, args: &new };
    let mut encoded = Vec::new();
    codec::encode("a constructor call", &create, &mut encoded).unwrap();
    ask(&Head { operation: Operation::Create, method: 0, ..head }, 3, &encoded).unwrap();
    assert_eq!(value(ask(&head, 4, &args)), 0);
    none(ask(&head, 2, &args));
    assert_eq!(value(ask(&head, 5, &args)), 1);
}

#[test]
fn a_frame_that_arrives_late_on_the_old_connection_changes_nothing() {
    let server = LocalServer::start(&Config::default());
    let mut old = Raw::connect(&server.address);
    let object = ObjectId(fresh());
    let (head, args) = add(object);
    old.create(<Tally as SharedType>::NAME, head.tag, object, None, &rmp_serde::to_vec(&(0u64,)).unwrap())
        .unwrap();
    let resume = Hello { starts_run: false, ..old.hello.clone() };
    let mut new = raw::greet(&server.address, resume).unwrap();
    let frame = raw::request(&head, 5, 5, &args);
    new.send(&frame);
    assert_eq!(value(new.receive().1), 0);
    old.send(&frame);
    assert_eq!(value(old.receive().1), 0, "the first answer");
    new.send(&raw::request(&head, 6, 6, &args));
    assert_eq!(value(new.receive().1), 1);
}
