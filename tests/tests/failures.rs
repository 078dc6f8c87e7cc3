//! What breaks one client, object or server breaks nothing else.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crucial::{Config, Error, Shared, cloud_fn, run::Run, shared, test, thread};
use crucial_runtime::{
    codec,
    dso::{Create, Head, Operation},
    id::{ObjectId, fresh},
    object::SharedType,
    reference::Lifetime,
    wire,
};
use tests::{
    app, assert_says, begin, eventually, in_time,
    objects::{Journal, Tally},
    panic_of,
    process::{Signal, is_alive, signal},
    random::Random,
    raw::{self, Raw, Says},
    server::{LocalServer, OwnRun, ServerProcess, client},
};

/// A server with a client of it, which works before and has to work after.
struct Bystander {
    run: OwnRun,
    tally: Tally,
    calls: u64,
}

impl Bystander {
    fn on(address: &str) -> Self {
        let run = OwnRun::on(address);
        Bystander { run, tally: Tally::new(0), calls: 0 }
    }

    /// The old object is there, and a new client is served too.
    #[track_caller]
    fn is_served(&mut self) {
        assert_eq!(self.tally.add(1), self.calls);
        self.calls += 1;
        let address = self.run.run.config().servers[0].clone();
        in_time("a new client is served", move || {
            let _run = OwnRun::on(&address);
            assert_eq!(Tally::new(4).add(1), 4);
        });
    }
}

// ---- functions and methods

#[cloud_fn]
fn hold(pids: &Journal, gate: &Tally) {
    pids.push(std::process::id().into());
    gate.take(1);
}

#[test(modes(processes))]
fn a_killed_function_process_takes_nothing_with_it() {
    let (pids, gate) = (Journal::new(), Tally::new(0));
    let doomed = thread::spawn(|| hold(&pids, &gate));
    eventually("it has started", || !pids.tokens().is_empty());
    let other = thread::spawn(|| hold(&pids, &gate));
    eventually("both have started", || pids.tokens().len() == 2);
    let pid = u32::try_from(pids.tokens()[0]).unwrap();
    signal(pid, Signal::KILL);
    let error = doomed.join().unwrap_err();
    assert_says(&error, &["failures::hold", "attempt 1", "signal: killed"]);
    assert!(!is_alive(pid));
    // Its parked call went with it, so this is for the other.
    gate.add(1);
    other.join().unwrap();
}

#[::core::prelude::v1::test]
fn a_panic_in_a_method_breaks_its_object_only() {
    let server = ServerProcess::start(app!(), &[]);
    let mut bystander = Bystander::on(&server.address);
    bystander.is_served();
    let run = OwnRun::on(&server.address);
    let tally = Tally::new(0);
    for n in 0..20 {
        assert_says(&panic_of(|| tally.fail_writing("boom")), &["boom"]);
        assert_says(&panic_of(|| tally.fail_reading("boom")), &["poisoned"]);
        tally.clear_poison().unwrap();
        assert_says(&panic_of(|| tally.fail_reading("bang")), &["bang"]);
        assert_eq!(tally.get(), n + 1);
    }
    drop(run);
    bystander.is_served();
}

// ---- a server that stops

#[::core::prelude::v1::test]
fn calls_go_on_when_a_stopped_server_does() {
    let server = ServerProcess::start(app!(), &[]);
    let _run = OwnRun::on(&server.address);
    let tally = Tally::new(0);
    assert_eq!(tally.add(1), 0);
    server.signal(Signal::STOP);
    eventually("it is stopped", || tests::process::state(server.pid()) == Some('T'));
    let mut blocking = begin({
        let tally = tally.clone();
        move || tally.add(1)
    });
    let mut shared = begin({
        let tally = tally.clone();
        move || crucial::run::block_on(tally.remote().add(1))
    });
    assert!(blocking.is_running() && shared.is_running());
    server.signal(Signal::CONT);
    let mut values = [blocking.within("a blocking call"), shared.within("an async call").unwrap()];
    values.sort_unstable();
    assert_eq!((values, tally.get()), ([1, 2], 3));
}

/// Settings of a client that gives up soon.
fn impatient(address: &str) -> Config {
    let mut config = client(address);
    config.connect_timeout = Duration::from_millis(600);
    config
}

#[::core::prelude::v1::test]
fn a_killed_server_is_unreachable_and_one_in_its_place_has_lost_the_state() {
    let mut server = ServerProcess::start(app!(), &[]);
    let address = server.address.clone();
    let run = OwnRun::enter(impatient(&address));
    let tally = Tally::at("t").new(5);
    let lasting = Tally::at("p").persistent().new(6);
    assert_eq!(tally.add(1), 5);
    assert_eq!(crucial::run::block_on(tally.remote().get()), Ok(6));
    let parked = begin({
        let tally = tally.clone();
        move || tally.remote().take(100).wait()
    });
    eventually("a call is parked", || tests::server::parked(&server.status()) == 1);
    server.kill();

    let says = |error: &Error| assert_says(error, &["no server reachable within 600ms", &address]);
    let check = |error: &Error| {
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        says(error);
    };
    // It may have been applied before the server was killed.
    let in_doubt = parked.within("a parked call fails").unwrap_err();
    assert!(matches!(in_doubt, Error::OutcomeUnknown { .. }), "{in_doubt}");
    says(&in_doubt);
    check(&in_time("a call fails", {
        let tally = tally.clone();
        move || tally.try_get().unwrap_err()
    }));
    check(&crucial::run::block_on(tally.remote().get()).unwrap_err());
    assert_says(&Run::start(impatient(&address)).unwrap_err(), &["no server reachable", &address]);

    // Another one in its place: the run is lost, and says so for ever, but a new one is welcome.
    let mut second = ServerProcess::at(&address, app!(), &[]);
    for _ in 0..2 {
        for error in [
            tally.try_get().unwrap_err(),
            lasting.try_get().unwrap_err(),
            crucial::run::block_on(tally.remote().get()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::StateLost { .. }), "{error}");
            assert_says(&error, &["is lost", "started again"]);
        }
        assert_says(&panic_of(|| Tally::at("t").new(5)), &["is lost", "started again"]);
    }
    let fresh = OwnRun::on(&address);
    assert_eq!(Tally::at("t").new(1).get(), 1);
    drop((fresh, run));
    second.kill();
}

#[::core::prelude::v1::test]
fn a_client_waits_for_a_server_that_comes_up_late() {
    // A port that was free a moment ago.
    let port = LocalServer::start(&Config::default()).address.clone();
    let late = begin({
        let port = port.clone();
        move || {
            let _run = OwnRun::on(&port);
            Tally::new(3).get()
        }
    });
    eventually("the port is free again", || std::net::TcpListener::bind(&port).is_ok());
    let _server = LocalServer::at(&port, &Config::default());
    assert_eq!(late.within("the server is up"), 3);
}

// ---- clients that break the rules

fn head(operation: Operation, object: u128, tag: u64, method: u16) -> Head {
    Head { operation, object: ObjectId(object), tag, method }
}

fn tag_of<T: SharedType + crucial_runtime::object::Methods>() -> u64 {
    crucial_runtime::object::tag::<T>()
}

#[::core::prelude::v1::test]
fn a_client_of_another_build_is_told_to_redeploy() {
    let server = LocalServer::start(&Config::default());
    let mut bystander = Bystander::on(&server.address);
    bystander.is_served();
    for version in [0, wire::VERSION + 1, u16::MAX] {
        let hello = wire::Hello { version, ..raw::hello() };
        let error = raw::greet(&server.address, hello).unwrap_err();
        assert_says(
            &error,
            &[&format!("version {}", wire::VERSION), &format!("version {version}"), "redeploy"],
        );
    }
    let mut raw = Raw::connect(&server.address);
    let (name, tag) = (<Tally as SharedType>::NAME, tag_of::<Tally>());
    let (object, args) = (ObjectId(fresh()), rmp_serde::to_vec(&(7u64,)).unwrap());

    let error = raw.create(name, tag ^ 1, object, None, &args).unwrap_err();
    assert!(matches!(&error, Error::TypeDiffers { name: n } if n == name), "{error}");
    assert_says(&error, &["redeploy"]);

    let mut raw = Raw::connect(&server.address);
    raw.create(name, tag, object, None, &args).unwrap();
    let get = raw::method(raw::info::<Tally>(), "get");
    for (seq, operation) in (2000..).zip([Operation::Call, Operation::Remove, Operation::IsPoisoned]) {
        let error = raw.ask(&head(operation, object.0, tag ^ 1, get), seq, &[0x90]).unwrap_err();
        assert!(matches!(error, Error::TypeDiffers { .. }), "{error}");
    }
    let value = raw.ask(&head(Operation::Call, object.0, tag, get), 3000, &[0x90]).unwrap();
    assert_eq!(rmp_serde::from_slice::<u64>(&value).unwrap(), 7);

    // The list of what is there has all types of this program.
    let mut raw = Raw::connect(&server.address);
    let error = raw.create("app::Missing", 1, ObjectId(fresh()), None, &[]).unwrap_err();
    assert_says(&error, &["no shared type `app::Missing`", name, "use that_crate as _;"]);
    bystander.is_served();
}

#[::core::prelude::v1::test]
fn numbers_that_mean_nothing_are_refused() {
    let server = LocalServer::start(&Config::default());
    let mut bystander = Bystander::on(&server.address);
    let (name, tag) = (<Tally as SharedType>::NAME, tag_of::<Tally>());
    let args = rmp_serde::to_vec(&(7u64,)).unwrap();
    let object = ObjectId(fresh());
    let mut raw = Raw::connect(&server.address);
    raw.create(name, tag, object, None, &args).unwrap();
    // A method that isn't, arguments that aren't, an object that isn't: the connection goes on.
    let error = raw.ask(&head(Operation::Call, object.0, tag, 999), 2000, &[0x90]).unwrap_err();
    assert_says(&error, &["no method number 999"]);
    let add = raw::method(raw::info::<Tally>(), "add");
    for (seq, args) in (2001..).zip([&[][..], &[0xc1], &[0x91, 0xa1, b'x'], &[0xdd, 255, 255, 255, 255]]) {
        let error = raw.ask(&head(Operation::Call, object.0, tag, add), seq, args).unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{error}");
    }
    let error = raw.ask(&head(Operation::Call, 1, tag, add), 2010, &args).unwrap_err();
    assert!(matches!(error, Error::NoSuchObject { .. }), "{error}");
    // The object is what it was.
    let get = raw::method(raw::info::<Tally>(), "get");
    let value = raw.ask(&head(Operation::Call, object.0, tag, get), 2011, &[0x90]).unwrap();
    assert_eq!(rmp_serde::from_slice::<u64>(&value).unwrap(), 7);

    // Numbers of calls that can't be.
    for (seq, ack) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (0, 0), (1, 50), (1 << 40, 1)] {
        let mut raw = Raw::connect(&server.address);
        raw.send(&raw::request(&head(Operation::Call, object.0, tag, add), seq, ack, &[0xc1]));
        let (_, result) = raw.receive();
        assert!(result.is_err());
        raw.send(&wire::withdraw_frame(&head(Operation::Call, object.0, tag, add), seq));
    }
    // No operation: the connection is over, with a reason.
    let mut raw = Raw::connect(&server.address);
    let mut frame = raw::request(&head(Operation::Call, object.0, tag, add), 1, 1, &[]);
    frame[4] = 99;
    raw.send(&frame);
    assert_says(&raw.last_words().unwrap(), &["no operation number 99"]);
    bystander.is_served();
}

#[::core::prelude::v1::test]
fn a_run_that_a_client_starts_twice_ends_once() {
    let server = LocalServer::start(&Config::default());
    let mut bystander = Bystander::on(&server.address);
    let hello = raw::hello();
    let mut first = raw::greet(&server.address, hello.clone()).unwrap();
    let second = raw::greet(&server.address, wire::Hello { session: raw::hello().session, ..hello.clone() });
    first.ask(&head(Operation::EndRun, 0, 0, 0), 1, &[]).unwrap();
    // It has ended, so nobody can take part in it.
    let member = wire::Hello { starts_run: false, ..hello.clone() };
    assert!(matches!(raw::greet(&server.address, member), Err(Error::StateLost { .. })));
    let third = raw::greet(&server.address, hello);
    drop((first, second, third));
    eventually("all of its connections are closed", || server.status().sessions <= 3);
    bystander.is_served();
    assert!(server.status().runs >= 1);
}

#[::core::prelude::v1::test]
fn a_cut_off_frame_ends_its_connection_quietly() {
    let server = LocalServer::start(&Config::default());
    let mut bystander = Bystander::on(&server.address);
    bystander.is_served();
    let tag = tag_of::<Tally>();
    let frame = raw::request(&head(Operation::Call, 1, tag, 0), 1, 1, &[0x90; 100]);
    for cut in [1, 3, 4, 5, 20, 46, 47, frame.len() - 1] {
        let mut raw = Raw::connect(&server.address);
        raw.send(&frame[..cut]);
        raw.stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        raw.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "cut after {cut}: {rest:?}");
    }
    // A greeting that is cut off.
    let greeting = raw::greeting(&raw::hello());
    for cut in [1, 7, 8, 11, 12, greeting.len() - 1] {
        let answer = raw::throw(&server.address, &greeting[..cut]);
        assert_says(&String::from_utf8_lossy(&answer), &["the greeting is cut off"]);
    }
    bystander.is_served();
}

#[::core::prelude::v1::test]
fn random_bytes_harm_nobody() {
    let server = ServerProcess::start(app!(), &[]);
    let mut bystander = Bystander::on(&server.address);
    bystander.is_served();
    let before = tests::process::usage(server.pid());
    let mut random = Random(0x5eed);
    for round in 0..240 {
        let length = random.below(2000) as usize;
        let mut bytes = match round % 8 {
            0 => Vec::new(),
            // The magic and any plane.
            1 => wire::MAGIC.to_vec(),
            2 => [&wire::MAGIC[..], b"c"].concat(),
            3 => [&wire::MAGIC[..], b"d"].concat(),
            // A greeting that claims to be huge.
            4 => [&wire::MAGIC[..], b"d", &(random.number() as u32 | 1 << 31).to_le_bytes()].concat(),
            // A proper greeting, then anything.
            5 => raw::greeting(&raw::hello()),
            // Then a frame that claims to be huge.
            6 => [&raw::greeting(&raw::hello())[..], &(random.number() as u32 | 1 << 30).to_le_bytes()]
                .concat(),
            // Then a request of a proper length with anything in it.
            _ => {
                let mut bytes = raw::greeting(&raw::hello());
                bytes.extend_from_slice(&(length as u32 + 1).to_le_bytes());
                bytes.push(1 + random.below(7) as u8);
                bytes
            }
        };
        bytes.extend(random.bytes(length));
        let mut stream = raw::dial(&server.address);
        // The server may hang up before it has read everything.
        let _ = stream.write_all(&bytes);
        // Some hang up at once, some wait for what the server says.
        if round % 3 > 0 {
            let _ = stream.shutdown(Shutdown::Write);
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let _ = stream.take(1 << 16).read_to_end(&mut Vec::new());
        }
    }
    bystander.is_served();
    // The server closes all of it.
    eventually("the sockets are closed", || tests::process::usage(server.pid()).files <= before.files + 4);
}

/// More than sockets take at once, in both directions: neither end waits for the other to read first.
#[::core::prelude::v1::test]
fn large_calls_and_answers_cross() {
    const SIZE: usize = 9 << 20;
    let server = LocalServer::start(&Config::default());
    let _run = OwnRun::on(&server.address);
    let tally = Tally::new(0);
    let (given, measured) = in_time("calls and answers cross", move || {
        crucial::run::block_on(async {
            let gives = futures::future::join_all((0..4).map(|_| tally.remote().give(SIZE)));
            futures::join!(gives, tally.remote().measure_written(&vec![7; SIZE]))
        })
    });
    assert!(given.into_iter().all(|bytes| bytes.is_ok_and(|bytes| bytes.len() == SIZE)));
    assert_eq!(measured, Ok(SIZE));
}

#[::core::prelude::v1::test]
fn what_is_too_large_is_refused_at_both_ends() {
    let mut config = Config::default();
    config.limits.frame = 100_000;
    let server = LocalServer::start(&config);
    let mut bystander = Bystander::on(&server.address);
    bystander.is_served();

    // The client knows the server's limit, and sends nothing.
    let run = OwnRun::on(&server.address);
    let tally = Tally::new(1);
    let parts = ["measure of tests::objects::Tally", "the limit of 100000", "limit_frame"];
    assert_says(&panic_of(|| tally.measure(&[0; 100_000])), &parts);
    let error = crucial::run::block_on(tally.remote().measure(&[0; 100_000])).unwrap_err();
    assert_says(&error, &parts);
    assert_eq!(tally.measure(&[0; 90_000]), 90_000);
    assert_eq!(crucial::run::block_on(tally.remote().measure(&[0; 90_000])), Ok(90_000));
    // An answer has the same limit.
    assert_says(&panic_of(|| tally.give(100_000)), &["the answer", "limit_frame"]);
    assert_eq!(tally.give(90_000).len(), 90_000);
    assert_eq!(tally.add(1), 1);
    drop(run);

    let mut raw = Raw::connect(&server.address);
    raw.send(&100_001u32.to_le_bytes());
    assert_says(&raw.last_words().unwrap(), &["a frame", "100001", "100000", "limit_frame"]);
    bystander.is_served();
}

#[::core::prelude::v1::test]
fn limits_hold_and_say_their_names() {
    let mut config = Config::default();
    config.limits.parked = 3;
    config.limits.objects = 10;
    config.limits.key = 20;
    let server = LocalServer::start(&config);
    let mut bystander = Bystander::on(&server.address);
    let run = OwnRun::on(&server.address);

    let tally = Tally::new(0);
    let parked: Vec<_> = (0..3)
        .map(|_| {
            let tally = tally.clone();
            begin(move || tally.take(1))
        })
        .collect();
    eventually("three are parked", || tests::server::parked(&server.status()) == 3);
    let error = tally.remote().take(1).wait().unwrap_err();
    assert_says(&error, &["too many calls that wait at tests::objects::Tally", "3", "limit_parked"]);
    // Other calls of the object are served, those that wait too.
    assert_eq!(tally.add(3), 0);
    parked.into_iter().for_each(|call| drop(call.within("there are permits").to_string()));
    assert_eq!(tally.remote().take(1).timeout(Duration::from_millis(20)).wait().ok(), None);

    let message = panic_of(|| Tally::at("x".repeat(21)).new(0));
    assert_says(&message, &["the key", "21", "20", "limit_key"]);
    assert_eq!(Tally::at("x".repeat(20)).new(1).get(), 1);

    let mut made = Vec::new();
    let message = loop {
        match std::panic::catch_unwind(|| Tally::new(0)) {
            Ok(tally) => made.push(tally),
            Err(panic) => break crucial_runtime::function::panic_message(&*panic),
        }
        assert!(made.len() <= 10);
    };
    assert_says(&message, &["too many objects on this node", "10", "limit_objects"]);
    // One goes, one comes.
    made.pop().unwrap().remove().unwrap();
    assert_eq!(Tally::new(3).get(), 3);
    drop(run);
    bystander.is_served();
}

#[::core::prelude::v1::test]
fn a_client_that_says_nothing_is_sent_away() {
    let server = LocalServer::start(&Config::default());
    let mut bystander = Bystander::on(&server.address);
    let start = Instant::now();
    let mut silent: Vec<_> = [&b""[..], b"CRUC", b"CRUCIALd\x10\0"]
        .into_iter()
        .map(|bytes| {
            let mut stream = raw::dial(&server.address);
            stream.write_all(bytes).unwrap();
            stream
        })
        .collect();
    bystander.is_served();
    for stream in &mut silent {
        let body = raw::read_frame(stream).unwrap();
        let answer = codec::decode::<Result<(), Error>>("the refusal", &body).unwrap();
        assert_says(&answer.unwrap_err(), &["no greeting within 5s"]);
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "and it hangs up");
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    bystander.is_served();
}

#[::core::prelude::v1::test]
fn long_methods_keep_nobody_waiting() {
    // A server with few threads, as on a small machine.
    let server = ServerProcess::start(app!(), &[]);
    let mut bystander = Bystander::on(&server.address);
    bystander.is_served();
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let address = server.address.clone();
            begin(move || {
                let _run = OwnRun::on(&address);
                let tally = Tally::new(0);
                tally.slow_add(1, 8000);
                Instant::now()
            })
        })
        .collect();
    for _ in 0..20 {
        bystander.is_served();
    }
    let served = Instant::now();
    for slow in slow {
        assert!(slow.within("a slow method") > served, "others were served meanwhile");
    }
}

#[shared]
struct Greedy {
    bytes: Vec<u8>,
}

#[shared]
impl Greedy {
    pub fn new() -> Self {
        Greedy { bytes: Vec::new() }
    }
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[::core::prelude::v1::test]
fn a_constructor_that_panics_makes_nothing() {
    #[shared]
    struct Picky {
        n: u64,
    }
    #[shared]
    impl Picky {
        pub fn new(n: u64) -> Self {
            assert!(n < 10, "{n} is too much");
            Picky { n }
        }
        pub fn get(&self) -> u64 {
            self.n
        }
    }
    let server = LocalServer::start(&Config::default());
    let _run = OwnRun::on(&server.address);
    assert_says(&panic_of(|| Picky::at("p").new(11)), &["new of", "\"p\" panicked: 11 is too much"]);
    assert_eq!(Picky::at("p").new(1).get(), 1);
    assert_eq!(Greedy::new().len(), 0);
}

#[::core::prelude::v1::test]
fn two_keys_with_one_identity_are_no_way_into_anothers_object() {
    let server = LocalServer::start(&Config::default());
    let (name, tag) = (<Tally as SharedType>::NAME, tag_of::<Tally>());
    let args = rmp_serde::to_vec(&(7u64,)).unwrap();
    let mut raw = Raw::connect(&server.address);
    raw.create(name, tag, ObjectId(5), Some("mine"), &args).unwrap();
    let mut encoded = Vec::new();
    let create = Create {
        type_name: name,
        key: Some("yours"),
        lifetime: Lifetime::Ephemeral,
        constructor: 0,
        args: &args,
    };
    codec::encode("a constructor call", &create, &mut encoded).unwrap();
    let error = raw.ask(&head(Operation::Create, 5, tag, 0), 2000, &encoded).unwrap_err();
    assert_says(&error, &["the same identity", "choose another key"]);
}

/// Has a call made that is moved, then kept for longer than the client looks for nodes, then moved again.
fn kept_for_long(after: Says) {
    let calls = AtomicU64::new(0);
    let address = raw::node(move |_| match calls.fetch_add(1, SeqCst) % 4 {
        1 => {
            std::thread::sleep(Duration::from_millis(900));
            after.clone()
        }
        3 => Says::Result(vec![7]),
        _ => Says::Moved,
    });
    let _run = OwnRun::enter(impatient(&address));
    let tally = Tally::at("t").persistent().new(0);
    assert_eq!(tally.add(1), 7);
    assert_eq!(tally.remote().add(1).wait(), Ok(7));
}

#[::core::prelude::v1::test]
fn a_parked_call_may_be_moved_more_than_once() {
    kept_for_long(Says::Moved);
}

#[::core::prelude::v1::test]
fn a_parked_call_that_was_moved_may_lose_its_node() {
    kept_for_long(Says::Nothing);
}

#[::core::prelude::v1::test]
fn a_server_that_says_nothing_keeps_nobody_from_another() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let server = LocalServer::start(&Config::default());
    let mut config = client(&server.address);
    config.servers.insert(0, silent.local_addr().unwrap().to_string());
    config.connect_timeout = Duration::from_secs(3600);
    in_time("the other server is asked", move || {
        let _run = OwnRun::enter(config);
        let tally = Tally::new(4);
        assert_eq!(tally.add(1), 4);
        let asked = || std::iter::from_fn(|| silent.accept().ok()).count();
        assert_eq!(asked(), 1);
        // Nor does it keep the connections that are made later.
        assert_eq!(tally.remote().add(1).wait(), Ok(5));
        let run = crucial::run::Run::current().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _entered = run.enter();
                    tally.add(1)
                });
            }
        });
        assert_eq!((tally.get(), asked()), (10, 0));
    });
}

#[::core::prelude::v1::test]
fn a_call_that_nobody_keeps_fails_in_the_end() {
    let address = raw::node(|_| Says::Moved);
    let _run = OwnRun::enter(impatient(&address));
    let tally = Tally::at("t").persistent().new(0);
    assert!(matches!(tally.remote().get().wait(), Err(Error::Unreachable { .. })));
    assert!(matches!(tally.remote().add(1).wait(), Err(Error::OutcomeUnknown { .. })));
    assert_says(&panic_of(|| tally.add(1)), &["none of them serves the object"]);
}

#[::core::prelude::v1::test]
fn nodes_that_name_each_other_are_not_overrun() {
    const CALLS: u64 = 20;
    let asked = Arc::new(AtomicU64::new(0));
    let counts = asked.clone();
    let addresses = raw::nodes(2, move |node, _| {
        counts.fetch_add(1, SeqCst);
        Says::Led(3 - node)
    });
    let _run = OwnRun::enter(impatient(&addresses[0]));
    let tally = Tally::at("t").persistent().new(0);
    let gets = futures::future::join_all((0..CALLS).map(|_| tally.remote().get()));
    for result in crucial::run::block_on(gets) {
        assert!(matches!(result, Err(Error::Unreachable { .. })), "{result:?}");
    }
    // They may be asked for 0.6 s, and each call once in 20 ms and more.
    let asked = asked.load(SeqCst);
    assert!((CALLS..CALLS * 30).contains(&asked), "they were asked {asked} times");
}
