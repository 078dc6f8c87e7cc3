//! The back end `lambda`, as a program of a user and its functions, with the local Lambda service in the place of AWS.

mod lab;

use std::{fs, time::Duration};

use crucial_runtime::lambda::Function;
use lab::{
    App, Lab, NAME, Running, assert_says, eventually, function,
    proxy::Fate::{Double, Lose, LoseAnswer, Refuse},
};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn twenty_functions_start_at_once() {
    let lab = Lab::start(function(), &[]);
    let (out, _) = lab.app("meet,20").run();
    assert_says(&out, &["sum 380 in 20 processes", "runs 20"]);
}

#[test]
fn what_the_limit_of_the_account_refuses_is_sent_again() {
    let lab = Lab::start(Function { concurrency: 3, ..function() }, &[]);
    let (out, _) = lab.app("work,12,20").run();
    assert_says(&out, &["sum 132", "runs 12"]);
    assert!(lab.proxy.answered(429) > 0, "the limit was never reached");
}

#[test]
fn no_more_run_at_once_than_is_configured() {
    let lab = Lab::start(Function { concurrency: 2, ..function() }, &[]);
    // An instance counts as busy for a moment after it has answered, so it is one less.
    let (out, _) = lab.app("work,8,20").set([("CRUCIAL_CONCURRENCY", "1")]).run();
    assert_says(&out, &["sum 56", "runs 8"]);
    assert_eq!(lab.proxy.answered(429), 0);
}

#[test]
fn functions_start_functions() {
    let lab = Lab::start(function(), &[]);
    assert_says(&lab.app("tree,3").run().0, &["8 leaves"]);
}

#[test]
fn hybrid_overflows_to_lambda() {
    let lab = Lab::start(function(), &[]);
    let hybrid = lab.app("meet,5").set([
        ("CRUCIAL_BACKEND", "hybrid"),
        ("CRUCIAL_HYBRID_THREADS", "2"),
        ("CRUCIAL_HYBRID_OVERFLOW", "lambda"),
    ]);
    assert_says(&hybrid.run().0, &["sum 20 in 4 processes", "runs 5"]);
    assert_eq!(lab.proxy.passed(), 3);
}

#[test]
fn a_program_says_what_it_cost_if_it_is_asked() {
    let lab = Lab::start(Function { memory: 2048, ..function() }, &[]);
    let cost = |backend: &str| {
        let settings = [("CRUCIAL_USAGE", "true"), ("CRUCIAL_BACKEND", backend), ("CRUCIAL_MEMORY", "2048")];
        let (_, errors) = lab.app("work,6,100").set(settings).run();
        let cost =
            errors.lines().find_map(|line| line.strip_prefix(backend)).unwrap_or_else(|| panic!("{errors}"));
        let (_, billed) = cost.split_once(": 6 requests, ").unwrap_or_else(|| panic!("{errors}"));
        billed.split_once(" GB-seconds billed, about $").unwrap().0.parse::<f64>().unwrap()
    };
    // Each takes at least a tenth of a second with 2 GB.
    assert!(cost("lambda") >= 1.2 && cost("processes") >= 1.2);
    let (_, errors) = lab.app("work,6,100").run();
    assert!(!errors.contains("GB-seconds"), "{errors}");
}

// ---- functions that fail

#[test]
fn a_panic_is_its_message() {
    let lab = Lab::start(function(), &[]);
    let (out, errors) = lab.app("fail,panic").run();
    assert_says(
        &out,
        &["error: cloud function `lambda_app::fail` panicked (attempt 1): index out of range", "runs 1"],
    );
    // What it printed comes along, each line with the id of the request.
    assert_says(&errors, &["[lambda ", "] about to panic\n", "] thread 'lambda_app::fail'"]);
    assert!(!errors.contains("REPORT") && !errors.contains("START"), "{errors}");
}

#[test]
fn an_exit_is_its_status_with_the_last_lines_and_the_request() {
    let lab = Lab::start(function(), &[]);
    let (out, errors) = lab.app("fail,exit").run();
    let id = errors.split("[lambda ").nth(1).unwrap().split(']').next().unwrap();
    assert_eq!(id.len(), 36, "{errors}");
    assert_says(
        &out,
        &["failed (attempt 1): Runtime.ExitError", "exit status 3", id, "it printed last: about to exit"],
    );
}

#[test]
fn a_function_has_the_time_that_its_configuration_gives() {
    let lab = Lab::start(Function { timeout: Duration::from_secs(2), ..function() }, &[]);
    let (out, errors) = lab.app("fail,sleep").run();
    assert_says(&out, &["Sandbox.Timedout", "Task timed out after 2.00 seconds", "RequestId: "]);
    assert_says(&errors, &["] about to sleep"]);
}

#[test]
fn a_function_has_the_time_that_its_attribute_gives() {
    let lab = Lab::start(function(), &[]);
    let (out, errors) = lab.app("linger").run();
    assert_says(&out, &["`lambda_app::linger` failed (attempt 1)", "timed out after 1s"]);
    assert_says(&errors, &["] Task timed out after 1.00 seconds"]);
    let pid = errors.split("process ").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "it runs on");
}

#[test]
fn a_function_has_the_memory_that_its_configuration_gives() {
    let lab = Lab::start(Function { memory: 256, ..function() }, &[]);
    assert_says(&lab.app("fail,allocate").run().0, &["Runtime.OutOfMemory", "RequestId: "]);
}

#[test]
fn the_end_of_a_long_log_is_marked() {
    let lab = Lab::start(function(), &[]);
    let (out, errors) = lab.app("fail,chatter").run();
    assert_says(&out, &["result: ()"]);
    assert_says(&errors, &["] ... (all of it is in the log group", "] line 999\n"]);
    assert!(!errors.contains("] line 1\n"), "{errors}");
}

#[test]
fn an_answer_that_is_too_large_is_an_error() {
    let lab = Lab::start(function(), &[]);
    // A result would go another way.
    assert_says(&lab.app("fail,panic at length").run().0, &["Function.ResponseSizeTooLarge", "(request "]);
}

#[test]
fn another_program_is_found_out() {
    let lab = Lab::start(Function::new(NAME, env!("CARGO_BIN_EXE_plain-function")), &[]);
    assert_says(&lab.app("fail,panic").run().0, &["its answer is no answer"]);
}

#[test]
fn attempts_are_repeated_as_the_attribute_says() {
    let lab = Lab::start(function(), &[]);
    assert_says(&lab.app("flaky,2").run().0, &["result: 2"]);
    assert_says(&lab.app("flaky,3").run().0, &["(attempt 3)"]);
    assert_eq!(lab.proxy.passed(), 6);
}

// ---- requests that fail

#[test]
fn trouble_of_the_service_passes() {
    let fates = [
        Refuse(429, "TooManyRequestsException"),
        Refuse(500, "ServiceException"),
        Refuse(503, "Unavailable"),
        Lose,
    ];
    let lab = Lab::start(function(), &fates);
    assert_says(&lab.app("work,1,0").run().0, &["sum 0 in 1 processes", "runs 1"]);
    assert_eq!(lab.proxy.passed(), 1);
}

#[test]
fn trouble_that_lasts_is_an_error() {
    let lab = Lab::start(function(), &[Refuse(500, "ServiceException"); 1000]);
    let (out, _) = lab.app("fail,panic").set([("CRUCIAL_LAMBDA_PATIENCE", "500ms")]).run();
    assert_says(&out, &["ServiceException: as the test wants it (request refused-1)", "Tried for 500ms"]);
    assert_eq!(lab.proxy.passed(), 0);
}

#[test]
fn what_would_be_refused_again_is_not_sent_again() {
    for (status, error, hint) in [
        (413, "RequestTooLargeException", ""),
        (403, "AccessDeniedException", "lambda:InvokeFunction"),
        (502, "InvalidZipFileException", ""),
    ] {
        let lab = Lab::start(function(), &[Refuse(status, error)]);
        assert_says(
            &lab.app("fail,panic").run().0,
            &["error: refused: ", NAME, error, "(request refused-1)", hint],
        );
        assert_eq!(lab.proxy.passed(), 0);
    }
}

#[test]
fn a_service_that_ends_is_unreachable() {
    let lab = Lab::start(function(), &[Lose; 1000]);
    let (out, _) = lab.app("fail,panic").set([("CRUCIAL_LAMBDA_PATIENCE", "500ms")]).run();
    assert_says(&out, &["no answer from AWS Lambda", "AWS_ENDPOINT_URL", "Tried for 500ms"]);
}

// ---- requests that come twice

#[test]
fn an_invocation_whose_answer_is_lost_runs_once() {
    let lab = Lab::start(function(), &[LoseAnswer, LoseAnswer]);
    // The patience is for the trouble, not for the function.
    let app = lab.app("work,1,1500").set([("CRUCIAL_LAMBDA_PATIENCE", "1s")]);
    assert_says(&app.run().0, &["sum 0 in 1 processes", "runs 1"]);
    assert_eq!(lab.proxy.passed(), 3);
}

#[test]
fn a_panic_whose_answer_is_lost_is_still_that_panic() {
    let lab = Lab::start(function(), &[LoseAnswer]);
    assert_says(&lab.app("fail,panic").run().0, &["panicked (attempt 1): index out of range", "runs 1"]);
    assert_eq!(lab.proxy.passed(), 2);
}

#[test]
fn a_request_that_is_delivered_twice_runs_once() {
    let lab = Lab::start(function(), &[Double; 4]);
    assert_says(&lab.app("work,4,100").run().0, &["sum 12", "runs 4"]);
    assert_eq!(lab.proxy.passed(), 8);
}

/// The second delivery waits for the first, which never ends.
#[test]
fn a_request_whose_first_process_dies_is_an_error() {
    let lab = Lab::start(function(), &[Double]);
    let (out, _) = lab.app("fail,exit").run();
    assert_says(&out, &["error: cloud function `lambda_app::fail` failed (attempt 1)", "runs 1"]);
}

#[test]
fn a_request_that_comes_again_when_its_thread_has_ended_does_nothing() {
    let lab = Lab::start(function(), &[]);
    let mut app = lab.app("pauses,1").start();
    app.until("waiting");
    // What the thread left is removed after its result is known.
    eventually("it finds nothing", || lab.proxy.repeat().contains("could not claim it"));
    app.go_on();
    assert_says(&app.finish().0, &["locked 1, runs 1"]);
}

// ---- large payloads

fn server() -> (Running, String) {
    let mut server = App::new("crucial,serve,--listen,127.0.0.1:0").start();
    let line = server.until("serving at ").pop().unwrap();
    (server, line.split(' ').nth(2).unwrap().to_owned())
}

#[test]
fn large_arguments_and_results_travel_and_leave_nothing_behind() {
    let lab = Lab::start(function(), &[]);
    let (server, address) = server();
    for (args, outcome) in
        [("echo,20000000,ok", "20000000 bytes, the same"), ("echo,20000000,fail", "told to fail")]
    {
        let mut app = lab.app(args).set([("CRUCIAL_SERVERS", &address)]).start();
        assert_says(&app.until("waiting").join("\n"), &[outcome]);
        eventually("nothing is left of it", || {
            App::new("crucial,status").set([("CRUCIAL_SERVERS", &address)]).run().0.contains("no objects")
        });
        app.finish();
    }
    kill(server.pid(), Signal::TERM);
    server.finish();
}

#[test]
fn large_arguments_travel_without_a_server_too() {
    let lab = Lab::start(function(), &[]);
    assert_says(&lab.app("echo,9000000,ok").run().0, &["9000000 bytes, the same"]);
}

// ---- processes that stand still

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn process(app: &mut Running) -> u32 {
    app.until("process ").pop().unwrap()["process ".len()..].parse().unwrap()
}

/// As Lambda does with functions that have nothing to do.
#[test]
fn a_function_that_was_frozen_goes_on() {
    let lab = Lab::start(function(), &[]);
    let mut app = lab.app("pauses,3").start();
    let pid = process(&mut app);
    for _ in 0..2 {
        app.until("waiting");
        kill(pid, Signal::STOP);
        // Longer than the lease.
        std::thread::sleep(Duration::from_millis(1500));
        kill(pid, Signal::CONT);
        app.go_on();
        assert_eq!(process(&mut app), pid);
    }
    app.go_on();
    assert_says(&app.finish().0, &["locked 3, runs 3"]);
}

// ---- settings

/// It says so when it starts, before `main` runs.
#[track_caller]
fn assert_refused(app: App, parts: &[&str]) {
    let (out, errors) = app.run();
    assert_says(&errors, &["error: "]);
    assert_says(&errors, parts);
    assert!(!out.contains("started"));
}

#[test]
fn a_missing_setting_is_named_at_the_start() {
    let lab = Lab::start(function(), &[]);
    assert_says(&lab.app("nothing").run().0, &["started"]);
    assert_refused(lab.app("nothing").unset("AWS_REGION"), &["`AWS_REGION` is not set", "AWS_PROFILE"]);
    assert_refused(
        lab.app("nothing").unset("CRUCIAL_LAMBDA_FUNCTION"),
        &["`lambda_function` is not set", "CRUCIAL_LAMBDA_FUNCTION", "crucial.toml"],
    );
    assert_refused(
        lab.app("nothing").unset("AWS_ENDPOINT_URL_LAMBDA"),
        &["`servers` is not set", "crucial serve"],
    );
    assert_refused(lab.app("nothing").unset("AWS_ACCESS_KEY_ID"), &[NAME, "credentials", "AWS_PROFILE"]);
}

#[test]
fn the_profile_has_what_the_environment_has_not() {
    let lab = Lab::start(function(), &[]);
    let directory = fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let profile = directory.join("profile");
    let text = format!(
        "[profile test]\nregion = eu-central-1\naws_access_key_id = key\naws_secret_access_key = secret\nendpoint_url = \
         http://{}\n",
        lab.proxy.address
    );
    fs::write(&profile, text).unwrap();
    let app =
        App::new("work,1,0").set([("AWS_CONFIG_FILE", profile.to_str().unwrap()), ("AWS_PROFILE", "test")]);
    assert_says(&app.run().0, &["runs 1"]);
}

#[test]
fn a_function_that_is_not_there_is_named_at_the_start() {
    let lab = Lab::start(function(), &[]);
    assert_refused(
        lab.app("nothing").set([("CRUCIAL_LAMBDA_FUNCTION", "other")]),
        &["`other`", "ResourceNotFoundException", "AWS_REGION"],
    );
}

#[test]
fn a_service_that_is_not_there_is_named_at_the_start() {
    let lab = Lab::start(function(), &[]);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = lab.app("nothing").set([
        ("AWS_ENDPOINT_URL_LAMBDA", format!("http://{unused}").as_str()),
        ("CRUCIAL_CONNECT_TIMEOUT", "500ms"),
    ]);
    assert_refused(app, &["no answer from AWS Lambda", "onnection refused", "Tried for 500ms"]);
}
