//! The back end `http`: a program of a user, and its function processes behind one address.

mod front;
mod lab;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use front::{
    Fate::{Double, Forge, Lose, LoseAnswer, Refuse},
    exchange, header,
};
use lab::{App, Lab, address, worker};
use tests::{
    app, assert_says, eventually,
    process::{Signal, signal},
    server::ServerProcess,
};

/// The program of the tests.
pub const APP: &str = env!("CARGO_BIN_EXE_http-app");

/// Sends a request to a process, on a connection of its own.
fn ask(address: &str, request: &[u8]) -> Vec<u8> {
    exchange(&mut TcpStream::connect(address).unwrap(), request).unwrap()
}

const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

// ---- functions that are free, and functions that are not

#[test]
fn each_function_process_runs_a_cloud_thread() {
    let lab = Lab::start(3, &[]);
    assert_says(&lab.app("meet,3").run().0, &["sum 6 in 3 processes", "runs 3"]);
    assert_eq!(lab.front.answered("outcome"), 3);
}

/// However long that takes: that nobody is free is no trouble.
#[test]
fn cloud_threads_wait_for_a_free_function() {
    let lab = Lab::start(1, &[]);
    let app = lab.app("work,4,400").set([("CRUCIAL_HTTP_PATIENCE", "100ms")]);
    assert_says(&app.run().0, &["sum 12 in 1 processes", "runs 4"]);
    assert!(lab.front.answered("busy") > 0, "it was never busy");
}

#[test]
fn no_more_run_at_once_than_is_configured() {
    let lab = Lab::start(1, &[]);
    let (out, _) = lab.app("work,5,20").set([("CRUCIAL_CONCURRENCY", "1")]).run();
    assert_says(&out, &["sum 20", "runs 5"]);
    assert_eq!(lab.front.answered("busy"), 0);
}

/// What distributes connections gives the first two to the same process. The third comes only because the second ends.
#[test]
fn a_busy_function_ends_the_connection_so_that_another_is_found() {
    let mut lab = Lab::start(1, &[]);
    lab.front.add(&address(&lab.workers[0]));
    lab.add();
    assert_says(&lab.app("meet,2").run().0, &["sum 2 in 2 processes", "runs 2"]);
    assert!(lab.front.answered("busy") > 0, "both found a free one");
}

#[test]
fn functions_start_functions() {
    let lab = Lab::start(3, &[]);
    assert_says(&lab.app("tree,1").run().0, &["2 leaves"]);
}

#[test]
fn hybrid_overflows_to_http() {
    let lab = Lab::start(3, &[]);
    let hybrid = lab.app("meet,5").set([
        ("CRUCIAL_BACKEND", "hybrid"),
        ("CRUCIAL_HYBRID_THREADS", "2"),
        ("CRUCIAL_HYBRID_OVERFLOW", "http"),
    ]);
    assert_says(&hybrid.run().0, &["sum 20 in 4 processes", "runs 5"]);
    assert_eq!(lab.front.answered("outcome"), 3);
}

// ---- functions that fail

#[test]
fn a_panic_is_its_message_and_the_process_goes_on() {
    let lab = Lab::start(1, &[]);
    assert_says(
        &lab.app("fail,panic").run().0,
        &["error: cloud function `http_app::fail` panicked (attempt 1): index out of range", "runs 1"],
    );
    assert_says(&lab.app("work,1,0").run().0, &["runs 1"]);
    // What it printed is on the process's own output, with who asked for what.
    assert_says(
        &lab.log(),
        &["about to panic", "thread 'http_app::fail'", "function=\"http_app::fail\" attempt=\"1\""],
    );
}

#[test]
fn an_exit_is_a_lost_process() {
    let mut lab = Lab::start(2, &[]);
    let (out, _) = lab.app("fail,exit").run();
    assert_says(&out, &["error: cloud function `http_app::fail` failed (attempt 1)", "lost", "runs 1"]);
    let exited = lab.workers.iter_mut().filter_map(lab::Process::has_ended).collect::<Vec<_>>();
    assert_eq!(exited.iter().map(|status| status.code()).collect::<Vec<_>>(), [Some(3)]);
}

#[test]
fn a_process_that_is_killed_is_lost() {
    let lab = Lab::start(2, &[]);
    let app = lab.app("fail,sleep").start();
    eventually("it runs", || lab.log().contains("about to sleep"));
    let victim = lab.workers.iter().find(|worker| worker.out().contains("about to sleep")).unwrap();
    signal(victim.pid(), Signal::KILL);
    assert_says(&app.finish().0, &["`http_app::fail` failed (attempt 1)", "lost", "runs 1"]);
}

#[test]
fn attempts_are_repeated_as_the_attribute_says() {
    let lab = Lab::start(4, &[]);
    // Two processes end, the third attempt succeeds.
    assert_says(&lab.app("flaky,2").run().0, &["result: 2"]);
}

/// Also for those that ask again because the answer was lost.
#[test]
fn a_function_has_the_time_that_its_attribute_gives() {
    let mut lab = Lab::start(2, &[LoseAnswer]);
    let (out, _) = lab.app("linger").run();
    assert_says(&out, &["`http_app::linger` failed (attempt 1)", "timed out after 1s"]);
    eventually("its process ends", || lab.workers.iter_mut().any(|worker| worker.has_ended().is_some()));
    let status = lab.workers.iter_mut().find_map(lab::Process::has_ended).unwrap();
    assert_eq!(status.code(), Some(124));
    let runs = lab.log().lines().filter(|line| line.starts_with("process ")).count();
    assert_eq!(runs, 1, "it ran twice");
}

// ---- requests that fail

#[test]
fn trouble_on_the_way_passes() {
    let lab = Lab::start(1, &[Refuse(503), Lose, Refuse(429), Refuse(502), Refuse(504)]);
    assert_says(&lab.app("work,1,0").run().0, &["sum 0 in 1 processes", "runs 1"]);
    assert_eq!(lab.front.passed(), 1);
}

#[test]
fn trouble_that_lasts_is_an_error() {
    for (fate, said) in
        [(Refuse(503), "reaches no function: HTTP status 503"), (Lose, "no answer from http://127.")]
    {
        let lab = Lab::start(1, &[fate; 1000]);
        let (out, _) = lab.app("fail,panic").set([("CRUCIAL_HTTP_PATIENCE", "500ms")]).run();
        assert_says(&out, &[said, "Tried for 500ms (`http_patience`)", "runs 0"]);
        assert_eq!(lab.front.passed(), 0);
    }
}

#[test]
fn what_would_be_refused_again_is_not_sent_again() {
    for status in [403, 404, 413] {
        let lab = Lab::start(1, &[Refuse(status)]);
        let said = format!("does not answer as a function of crucial: HTTP status {status}");
        assert_says(&lab.app("fail,panic").run().0, &["error: refused: http://127.", &said, "`no luck`"]);
        assert_eq!(lab.front.passed(), 0);
    }
}

#[test]
fn a_function_process_says_what_it_does_not_take() {
    let lab = Lab::start(1, &[]);
    let worker = address(&lab.workers[0]);
    for (request, status, said) in [
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", "HTTP/1.1 400", "missing field"),
        ("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 405", "by POST"),
    ] {
        let answer = ask(&worker, request.as_bytes());
        assert_says(&String::from_utf8_lossy(&answer), &[status, said]);
        assert_eq!(header(&answer, "x-crucial").as_deref(), Some("refused"));
    }
    let large =
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{}", 9 << 20, "x".repeat(9 << 20));
    assert_says(
        &String::from_utf8_lossy(&ask(&worker, large.as_bytes())),
        &["HTTP/1.1 413", "8388608 bytes"],
    );
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    let lab = Lab::start(1, &[Forge]);
    assert_says(&lab.app("fail,panic").run().0, &["(attempt 1): its answer is no answer", "runs 0"]);
}

#[test]
fn another_program_is_found_out() {
    let lab = Lab::start(0, &[]);
    let other = worker(app!()).start();
    lab.front.add(&address(&other));
    assert_says(&lab.app("fail,panic").run().0, &["knows no cloud function `http_app::fail`", "app::hello"]);
}

// ---- requests that come twice

#[test]
fn an_invocation_whose_answer_is_lost_runs_once() {
    let lab = Lab::start(1, &[LoseAnswer, LoseAnswer]);
    // The patience is for the trouble, not for the function.
    let app = lab.app("work,1,1500").set([("CRUCIAL_HTTP_PATIENCE", "1s")]);
    assert_says(&app.run().0, &["sum 0 in 1 processes", "runs 1"]);
    assert_eq!(lab.front.passed(), 3);
}

#[test]
fn a_panic_whose_answer_is_lost_is_still_that_panic() {
    let lab = Lab::start(1, &[LoseAnswer]);
    assert_says(&lab.app("fail,panic").run().0, &["panicked (attempt 1): index out of range", "runs 1"]);
    assert_eq!(lab.front.passed(), 2);
}

#[test]
fn a_request_that_is_delivered_twice_runs_once() {
    let lab = Lab::start(2, &[Double, Double]);
    let app = lab.app("work,2,300").set([("CRUCIAL_CONCURRENCY", "1")]);
    assert_says(&app.run().0, &["sum 2", "runs 2"]);
    assert_eq!(lab.front.answered("outcome"), 4);
}

#[test]
fn a_request_that_comes_again_when_its_thread_has_ended_does_nothing() {
    let lab = Lab::start(1, &[]);
    let mut app = lab.app("pauses,1").start();
    app.until("waiting");
    // What the thread left is removed after its result is known.
    eventually("it finds nothing", || {
        let answer = ask(&address(&lab.workers[0]), &lab.front.last());
        String::from_utf8_lossy(&answer).contains("could not claim it")
    });
    app.go_on();
    assert_says(&app.finish().0, &["locked 1, runs 1"]);
}

// ---- large payloads

#[test]
fn large_arguments_and_results_travel_and_leave_nothing_behind() {
    let lab = Lab::start(1, &[]);
    let server = ServerProcess::start(APP, &[]);
    let servers = ("CRUCIAL_SERVERS", server.address.as_str());
    for (args, outcome) in
        [("echo,9000000,ok", "9000000 bytes, the same"), ("echo,9000000,fail", "told to fail")]
    {
        let mut app = lab.app(args).set([servers]).start();
        app.until("waiting");
        assert_says(&app.out(), &[outcome]);
        // An ingress may take 1 MiB.
        assert!(lab.front.last().len() < 1 << 20);
        eventually("nothing is left of it", || {
            App::new("crucial,status").set([servers]).run().0.contains("no objects")
        });
        app.go_on();
        app.finish();
    }
}

// ---- processes that come and go

#[test]
fn a_program_waits_for_the_first_function() {
    let mut lab = Lab::start(0, &[]);
    let app = lab.app("work,1,0").set([("CRUCIAL_CONNECT_TIMEOUT", "100s")]).start();
    lab.add();
    assert_says(&app.finish().0, &["runs 1"]);
}

#[test]
fn a_process_that_is_told_to_end_finishes_what_it_runs() {
    let mut lab = Lab::start(1, &[]);
    let app = lab.app("meet,2").start();
    // So the other one has begun, and waits for this one.
    eventually("one of two runs", || lab.front.answered("busy") > 0);
    let first = address(&lab.workers[0]);
    assert_eq!(header(&ask(&first, GET), "x-crucial").as_deref(), Some("ready"));

    signal(lab.workers[0].pid(), Signal::TERM);
    lab.workers[0].until("stopping (SIGTERM)");
    for request in [GET, &lab.front.last()] {
        let answer = ask(&first, request);
        assert!(answer.starts_with(b"HTTP/1.1 503"));
        assert_eq!(header(&answer, "x-crucial").as_deref(), Some("stopping"));
        assert_eq!(header(&answer, "connection").as_deref(), Some("close"));
    }

    lab.add();
    assert_says(&app.finish().0, &["sum 2 in 2 processes", "runs 2"]);
    assert_eq!(lab.workers[0].ended().code(), Some(0));
}

#[test]
fn a_process_without_work_ends_at_once_when_it_is_told_to() {
    let mut lab = Lab::start(1, &[]);
    // A connection that is kept is no reason to stay.
    let mut connection = TcpStream::connect(address(&lab.workers[0])).unwrap();
    exchange(&mut connection, GET).unwrap();
    signal(lab.workers[0].pid(), Signal::TERM);
    assert_eq!(lab.workers[0].ended().code(), Some(0));
    assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_process_that_is_told_twice_ends_at_once() {
    let mut lab = Lab::start(1, &[]);
    let app = lab.app("fail,sleep").set([("CRUCIAL_HTTP_PATIENCE", "500ms")]).start();
    lab.workers[0].until("about to sleep");
    signal(lab.workers[0].pid(), Signal::TERM);
    lab.workers[0].until("stopping (SIGTERM)");
    // The second signal counts when the first has been heard, which the line above says a moment too early.
    eventually("it ends", || {
        if lab.workers[0].has_ended().is_none() {
            signal(lab.workers[0].pid(), Signal::TERM);
        }
        lab.workers[0].has_ended().is_some()
    });
    assert_says(&app.finish().0, &["no answer from http://127.", "runs 1"]);
}

// ---- settings

/// It says so when it starts, before `main` runs.
#[track_caller]
fn assert_refused(app: App, parts: &[&str]) {
    let (out, errors) = app.run();
    assert_says(&errors, &["error: "]);
    assert_says(&errors, parts);
    assert!(!out.contains("started") && !out.contains("functions at"), "{out}");
}

#[test]
fn a_wrong_setting_is_named_at_the_start() {
    let app = || App::new("nothing").set([("CRUCIAL_BACKEND", "http")]);
    assert_refused(app(), &["`http_url` is not set", "CRUCIAL_HTTP_URL", "app crucial function"]);
    let url = |url: &str| app().set([("CRUCIAL_HTTP_URL", url)]);
    assert_refused(url("http://workers.example"), &["`servers` is not set", "crucial serve"]);
    assert_refused(url("http://127.0.0.1:99999"), &["`http_url` = http://127.0.0.1:99999", "expected a URL"]);
}

#[test]
fn functions_that_are_not_there_are_named_at_the_start() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = App::new("nothing").set([
        ("CRUCIAL_BACKEND", "http"),
        ("CRUCIAL_HTTP_URL", &format!("http://{unused}")),
        ("CRUCIAL_CONNECT_TIMEOUT", "500ms"),
    ]);
    assert_refused(app, &["no answer from http://127.", "onnection refused", "right? Tried for 500ms"]);
}

#[test]
fn a_url_of_something_else_is_named_at_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n");
        }
    });
    let app = App::new("nothing")
        .set([("CRUCIAL_BACKEND", "http"), ("CRUCIAL_HTTP_URL", &format!("http://{address}/run"))]);
    assert_refused(app, &["/run does not answer as a function of crucial", "HTTP status 200", "`hello`"]);
}

/// Who listens there may send requests on over `https`. Elsewhere, others could read it.
#[test]
fn a_bearer_token_is_sent_over_plain_http_to_this_machine_only() {
    let file = std::env::temp_dir().join(format!("crucial-bearer-{}", std::process::id()));
    std::fs::write(&file, "some.Token\n").unwrap();
    let auth = format!("file:{}", file.display());
    let lab = Lab::start(1, &[]);
    lab.front.guard(|request| {
        let is_there = header(request, "authorization").as_deref() == Some("bearer some.token");
        if is_there { None } else { Some(403) }
    });
    assert_refused(
        lab.app("nothing"),
        &["HTTP status 403", "set CRUCIAL_HTTP_AUTH to `google` or `file:PATH`"],
    );
    let app = |args: &str| lab.app(args).set([("CRUCIAL_HTTP_AUTH", &*auth)]);
    assert_says(&app("work,1,0").run().0, &["sum 0 in 1 processes", "runs 1"]);
    let app = app("nothing").set([("CRUCIAL_HTTP_URL", "http://workers.example")]);
    assert_refused(app, &["http://workers.example", "could read it", "`https`", "CRUCIAL_HTTP_AUTH"]);
    std::fs::remove_file(file).unwrap();
}

/// Without a token, as servers.
#[test]
fn functions_listen_on_loopback_addresses_only() {
    let function = || App::new("crucial,function");
    assert_refused(
        App::new("crucial,function,--listen,0.0.0.0:0"),
        &["0.0.0.0:0", "no cluster token", "CRUCIAL_TOKEN_FILE"],
    );
    // What Knative and Cloud Run set says where, ...
    assert_refused(function().set([("PORT", "8123")]), &["0.0.0.0:8123", "no cluster token"]);
    // ... but not that it is a function.
    let app = App::new("nothing").set([("PORT", "8123"), ("K_SERVICE", "x"), ("K_REVISION", "x-1")]);
    assert_says(&app.run().0, &["started"]);
}
