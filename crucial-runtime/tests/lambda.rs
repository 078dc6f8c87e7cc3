//! The local Lambda service, with real processes.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use crucial_runtime::lambda::{
    ErrorDocument, Function, FunctionError, Invocation, InvokeError, InvokeOptions, LocalLambda, MAX_LINE,
    OutputLine, OutputStream, invoke_http, stop_http,
};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The handler program. `cargo test` builds examples, but `cargo test --test lambda` doesn't.
static HANDLER: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let handler = profile.join("examples/plain_handler");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plain_handler.rs");
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if changed(&handler) < changed(&source) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "plain_handler", "--manifest-path"]);
        cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the handler program can't be built");
    }
    handler
});

/// A service and what its instances printed.
struct Lab {
    lambda: LocalLambda,
    lines: Arc<Mutex<Vec<OutputLine>>>,
}

fn function() -> Function {
    Function {
        concurrency: 4,
        timeout: Duration::from_secs(30),
        // A backtrace would fill the end of the log.
        env: vec![("RUST_BACKTRACE".into(), "0".into())],
        ..Function::new("plain", &*HANDLER)
    }
}

fn mode(mode: &str) -> Function {
    Function { args: vec![mode.into()], ..function() }
}

impl Lab {
    async fn start(function: Function) -> Lab {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let lambda = LocalLambda::start(function, move |line| sink.lock().unwrap().push(line)).await.unwrap();
        Lab { lambda, lines }
    }

    async fn try_invoke(&self, event: Value) -> Result<Invocation, InvokeError> {
        self.lambda.invoke(event.to_string().into(), InvokeOptions::default()).await
    }

    async fn invoke(&self, event: Value) -> Invocation {
        self.try_invoke(event).await.unwrap()
    }

    /// The answer of an invocation that succeeds.
    async fn answer(&self, event: Value) -> Value {
        answer(&self.invoke(event).await)
    }

    async fn pid(&self) -> u64 {
        self.answer(json!({})).await["pid"].as_u64().unwrap()
    }

    /// An invocation that runs for `ms` at the same time as others.
    fn sleep(&self, ms: u64) -> tokio::task::JoinHandle<Result<Invocation, InvokeError>> {
        let lambda = self.lambda.clone();
        tokio::spawn(async move {
            let event = json!({"do": "sleep", "ms": ms}).to_string();
            lambda.invoke(event.into(), InvokeOptions::default()).await
        })
    }

    /// What instances printed on one of their streams.
    fn printed(&self, stream: OutputStream) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.stream == stream).map(|line| line.line.clone()).collect()
    }

    fn started(&self) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| line.instance).collect::<HashSet<_>>().len()
    }

    /// A request of the Invoke API.
    async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (u16, HeaderMap, Bytes) {
        let stream = TcpStream::connect(self.lambda.endpoint()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(Method::POST).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
    }
}

const PATH: &str = "/2015-03-31/functions/plain/invocations";

fn answer(invocation: &Invocation) -> Value {
    assert_eq!(invocation.function_error, None, "{invocation:?}");
    serde_json::from_slice(&invocation.payload).unwrap()
}

fn error(invocation: &Invocation) -> ErrorDocument {
    assert_eq!(invocation.function_error, Some(FunctionError::Unhandled), "{invocation:?}");
    invocation.error().unwrap()
}

/// Whether a process is there and not just waiting to be collected.
fn is_alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

fn kill(pid: u64) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// Waits for something that happens soon; the time is only how long to hope.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn an_instance_starts_cold_and_is_reused_warm() {
    let lab = Lab::start(function()).await;
    let first = lab.invoke(json!({"n": 1})).await;
    assert!(first.cold_start && first.init_duration.is_some());
    let pid = answer(&first)["pid"].clone();
    for n in 0..20 {
        let next = lab.invoke(json!({"n": n})).await;
        assert!(!next.cold_start && next.init_duration.is_none());
        let answer = answer(&next);
        assert_eq!(answer["pid"], pid);
        assert_eq!(answer["event"], json!({"n": n}));
        assert_eq!(answer["request_id"], next.request_id);
    }
    assert!(first.max_memory_mb > 0);
}

#[tokio::test]
async fn the_function_finds_its_context() {
    let function = Function {
        memory: 333,
        env: vec![("SETTING".into(), "given".into()), ("AWS_LAMBDA_FUNCTION_NAME".into(), "forged".into())],
        ..function()
    };
    let lab = Lab::start(function).await;
    let options = InvokeOptions {
        timeout: Some(Duration::from_secs(5)),
        client_context: Some("{\"custom\": {\"käse\": \"1\"}}".to_owned()),
        trace_id: Some(
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1".to_owned(),
        ),
        ..InvokeOptions::default()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let invocation = lab.lambda.invoke(Bytes::new(), options.clone()).await.unwrap();
    let answer = answer(&invocation);
    assert_eq!(answer["event"], json!({}), "no payload is an empty object");
    assert_eq!(answer["memory"], 333);
    assert_eq!(answer["version"], "$LATEST");
    assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:012345678912:function:plain");
    assert_eq!(answer["log_group"], "/aws/lambda/plain");
    assert_eq!(answer["setting"], "given");
    assert_eq!(answer["client"], json!({"käse": "1"}));
    assert_eq!(answer["trace"], options.trace_id.unwrap());
    let left = answer["deadline"].as_u64().unwrap() - now;
    assert!((5_000..25_000).contains(&left), "the shorter timeout counts: {left}");
}

#[tokio::test]
async fn invocations_beyond_the_limit_are_refused() {
    let lab = Lab::start(Function { concurrency: 2, ..function() }).await;
    let running = [lab.sleep(3_600_000), lab.sleep(3_600_000)];
    eventually("two start", || {
        lab.printed(OutputStream::Platform).iter().filter(|line| line.starts_with("START")).count() == 2
    })
    .await;

    let error = lab.try_invoke(json!({})).await.unwrap_err();
    let InvokeError::TooManyRequests { reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason, "ConcurrentInvocationLimitExceeded");

    let (status, headers, body) = lab.post(PATH, &[], "{}").await;
    assert_eq!((status, &headers["x-amzn-errortype"]), (429, &"TooManyRequestsException".parse().unwrap()));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["Reason"], "ConcurrentInvocationLimitExceeded");
    assert_eq!(body["Type"], "User");

    let over_http =
        invoke_http(&lab.lambda.endpoint().to_string(), "plain", "{}".into(), &InvokeOptions::default())
            .await;
    assert_eq!(over_http.unwrap_err(), error);

    lab.lambda.shutdown().await;
    for running in running {
        assert!(matches!(running.await.unwrap(), Err(InvokeError::Service { .. })));
    }
}

#[tokio::test]
async fn as_many_instances_run_as_there_are_invocations() {
    let lab = Lab::start(function()).await;
    let running: Vec<_> = (0..4).map(|_| lab.sleep(1000)).collect();
    let mut pids = HashSet::new();
    for running in running {
        pids.insert(answer(&running.await.unwrap().unwrap())["pid"].as_u64().unwrap());
    }
    assert_eq!(pids.len(), 4);
    assert!(pids.contains(&lab.pid().await), "the fifth needs no new one");
    assert_eq!(lab.started(), 4);
}

#[tokio::test]
async fn a_timeout_kills_the_process() {
    let lab = Lab::start(Function { timeout: Duration::from_millis(1500), ..function() }).await;
    let pid = lab.pid().await;
    let late = lab.invoke(json!({"do": "sleep", "ms": 3_600_000})).await;
    assert_eq!(
        error(&late),
        ErrorDocument {
            error_type: "Sandbox.Timedout".to_owned(),
            error_message: format!("RequestId: {} Error: Task timed out after 1.50 seconds", late.request_id),
            output: Vec::new(),
        }
    );
    assert!(late.log_tail.contains("Task timed out after 1.50 seconds"), "{}", late.log_tail);
    assert!(late.log_tail.contains("Status: timeout"), "{}", late.log_tail);
    assert!(!is_alive(pid));
    assert_ne!(lab.pid().await, pid);
}

#[tokio::test]
async fn a_timeout_can_be_given_with_the_call() {
    let lab = Lab::start(function()).await;
    let options = InvokeOptions { timeout: Some(Duration::from_millis(200)), ..InvokeOptions::default() };
    let event = json!({"do": "sleep", "ms": 3_600_000}).to_string();
    let late = lab.lambda.invoke(event.into(), options).await.unwrap();
    assert!(error(&late).error_message.ends_with("Task timed out after 0.20 seconds"), "{late:?}");
}

#[tokio::test]
async fn an_invocation_can_be_stopped_by_its_token() {
    let named =
        |token: &str| InvokeOptions { stop_token: Some(token.to_owned()), ..InvokeOptions::default() };
    let lab = Lab::start(function()).await;
    let pid = lab.pid().await;
    let endpoint = lab.lambda.endpoint().to_string();
    assert!(!lab.lambda.stop("warm").await, "there is no such invocation yet");

    // On a warm instance, stopped directly; on a new one, through the API.
    let event = || Bytes::from(json!({"do": "sleep", "ms": 3_600_000}).to_string());
    let warm = tokio::spawn({
        let (lambda, options) = (lab.lambda.clone(), named("warm"));
        async move { lambda.invoke(event(), options).await }
    });
    while !lab.lambda.stop("warm").await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stopped = error(&warm.await.unwrap().unwrap());
    assert_eq!(stopped.error_type, "Sandbox.Stopped");
    eventually("the process is gone", || !is_alive(pid)).await;
    let other = lab.sleep(300);
    let cold = tokio::spawn({
        let (endpoint, options) = (endpoint.clone(), named("cold"));
        async move { invoke_http(&endpoint, "plain", event(), &options).await }
    });
    while !stop_http(&endpoint, "cold").await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(error(&cold.await.unwrap().unwrap()).error_type, "Sandbox.Stopped");
    assert!(!stop_http(&endpoint, "unknown").await);
    // Nobody else notices.
    assert_eq!(other.await.unwrap().unwrap().function_error, None);
    assert!(is_alive(lab.pid().await));
    lab.lambda.shutdown().await;
    assert!(!lab.lambda.stop("warm").await && !stop_http(&endpoint, "warm").await);
}

#[tokio::test]
async fn an_instance_that_is_not_ready_can_be_stopped() {
    let lab = Lab::start(mode("never-ready")).await;
    let options = InvokeOptions { stop_token: Some("early".to_owned()), ..InvokeOptions::default() };
    let lambda = lab.lambda.clone();
    let early = tokio::spawn(async move { lambda.invoke("{}".into(), options).await });
    while !lab.lambda.stop("early").await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(error(&early.await.unwrap().unwrap()).error_type, "Sandbox.Stopped");
    lab.lambda.shutdown().await;
}

#[tokio::test]
async fn an_exit_is_reported_with_its_status_and_the_last_lines() {
    let lab = Lab::start(function()).await;
    let pid = lab.pid().await;
    let exited = lab.invoke(json!({"do": "exit", "code": 3})).await;
    let error = error(&exited);
    assert_eq!(error.error_type, "Runtime.ExitError");
    assert_eq!(
        error.error_message,
        format!("RequestId: {} Error: Runtime exited with error: exit status 3", exited.request_id)
    );
    assert_eq!(error.output, ["last words on stdout", "last words on stderr, cut o"]);
    assert_eq!(lab.printed(OutputStream::Stderr), ["last words on stderr, cut o"]);
    assert!(exited.log_tail.contains("last words on stdout\n"), "{}", exited.log_tail);
    assert!(exited.log_tail.contains("Status: error\tError Type: Runtime.ExitError"), "{}", exited.log_tail);
    assert!(!is_alive(pid));

    let exited = lab.invoke(json!({"do": "exit", "code": 0})).await;
    assert!(crate::error(&exited).error_message.ends_with("Runtime exited without providing a reason"));
}

#[tokio::test]
async fn a_signal_is_reported_by_its_name() {
    let lab = Lab::start(function()).await;
    let aborted = error(&lab.invoke(json!({"do": "abort"})).await);
    assert_eq!(aborted.error_type, "Runtime.ExitError");
    assert!(aborted.error_message.contains("Runtime exited with error: signal: aborted"), "{aborted:?}");
}

#[tokio::test]
async fn a_process_killed_from_outside_fails_its_invocation_alone() {
    let lab = Lab::start(function()).await;
    let victim = lab.pid().await;
    let running = lab.sleep(3_600_000);
    eventually("it runs", || {
        lab.printed(OutputStream::Platform).iter().filter(|line| line.starts_with("START")).count() == 2
    })
    .await;
    let others: Vec<_> = (0..3).map(|_| lab.sleep(500)).collect();
    kill(victim);
    let killed = error(&running.await.unwrap().unwrap());
    assert_eq!(killed.error_type, "Runtime.ExitError");
    assert!(killed.error_message.ends_with("Runtime exited with error: signal: killed"), "{killed:?}");
    for other in others {
        assert_ne!(answer(&other.await.unwrap().unwrap())["pid"], victim);
    }
}

#[tokio::test]
async fn an_idle_process_that_ends_is_replaced_unnoticed() {
    let lab = Lab::start(function()).await;
    for _ in 0..5 {
        let pid = lab.pid().await;
        kill(pid);
        eventually("it is dead", || !is_alive(pid)).await;
        assert_ne!(lab.pid().await, pid);
    }
    let pid = lab.answer(json!({"do": "exit-later"})).await["pid"].as_u64().unwrap();
    eventually("it exits", || !is_alive(pid)).await;
    assert_ne!(lab.pid().await, pid);
}

#[tokio::test]
async fn an_instance_that_asks_no_more_is_replaced() {
    // With room for another instance, and with none before the first is killed.
    for concurrency in [4, 1] {
        let limit = Duration::from_secs(1);
        let function = Function { concurrency, timeout: limit, init_timeout: limit, ..mode("deaf") };
        let lab = Lab::start(function).await;
        let mut pids = HashSet::new();
        for instance in 1..=3 {
            pids.insert(answer(&lab.invoke(json!({})).await).as_u64().unwrap());
            eventually("it hangs up", || lab.printed(OutputStream::Stdout).len() == instance).await;
            // The service hears of it a moment later.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(pids.len(), 3);
    }
}

#[tokio::test]
async fn an_instance_that_takes_long_to_ask_is_passed_over() {
    let lab = Lab::start(mode("dawdle")).await;
    let first = answer(&lab.invoke(json!({})).await);
    let second = answer(&lab.invoke(json!({})).await);
    assert_ne!(first, second);
    eventually("both ask", || lab.printed(OutputStream::Stdout).len() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let third = answer(&lab.invoke(json!({})).await);
    assert!(third == first || third == second);
    assert_eq!(lab.started(), 2);
}

#[tokio::test]
async fn a_panic_and_an_error_are_the_functions_own() {
    let lab = Lab::start(function()).await;
    let pid = lab.pid().await;
    let failed = lab.invoke(json!({"do": "fail"})).await;
    assert_eq!(error(&failed).error_message, "as asked");
    assert!(failed.log_tail.contains("Status: error"), "{}", failed.log_tail);
    let panicked = lab.invoke(json!({"do": "panic"})).await;
    assert!(error(&panicked).error_message.contains("as asked"), "{panicked:?}");
    assert!(panicked.log_tail.contains("panicked at"), "{}", panicked.log_tail);
    assert_eq!(lab.pid().await, pid, "the process goes on");
}

#[tokio::test]
async fn a_program_that_exits_at_once_fails_the_invocation() {
    let lab = Lab::start(mode("exit-at-once")).await;
    for attempt in 1..=2 {
        let failed = lab.invoke(json!({})).await;
        let error = error(&failed);
        assert_eq!(error.error_type, "Runtime.ExitError");
        assert!(error.error_message.ends_with("Runtime exited with error: exit status 7"), "{error:?}");
        assert_eq!(error.output, ["about to give up", "no configuration"]);
        assert!(failed.log_tail.contains("about to give up\n"), "{}", failed.log_tail);
        assert_eq!(lab.started(), attempt, "one attempt for each invocation");
    }
}

#[tokio::test]
async fn an_init_error_reaches_the_caller() {
    let lab = Lab::start(mode("init-error")).await;
    let error = error(&lab.invoke(json!({})).await);
    assert_eq!(error.error_type, "Runtime.NoConfig");
    assert_eq!(error.error_message, "there is no configuration");
    assert_eq!(lab.printed(OutputStream::Stdout), ["reported: 202"]);
}

#[tokio::test]
async fn a_program_that_never_gets_ready_is_killed() {
    let lab = Lab::start(Function { init_timeout: Duration::from_millis(300), ..mode("never-ready") }).await;
    let error = error(&lab.invoke(json!({})).await);
    assert_eq!(error.error_type, "Sandbox.Timedout");
    assert!(error.error_message.ends_with("Initialization timed out after 0.30 seconds"), "{error:?}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_fails_the_invocation() {
    let lab = Lab::start(Function { concurrency: 1, ..Function::new("plain", "/no/such/program") }).await;
    for _ in 0..3 {
        let error = error(&lab.invoke(json!({})).await);
        assert_eq!(error.error_type, "Runtime.InvalidEntrypoint");
        assert!(
            error.error_message.ends_with("Error: fork/exec /no/such/program: no such file or directory"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn too_much_memory_kills_the_process() {
    let lab = Lab::start(Function { memory: 128, ..function() }).await;
    let pid = lab.pid().await;
    let event = json!({"do": "allocate", "mib": 200, "ms": 3_600_000});
    let failed = lab.invoke(event).await;
    let document = error(&failed);
    assert_eq!(document.error_type, "Runtime.OutOfMemory");
    assert!(document.error_message.ends_with("Runtime exited with error: signal: killed"), "{document:?}");
    assert!(failed.max_memory_mb > 128, "{failed:?}");
    assert!(!is_alive(pid));

    // However soon it answers.
    let failed = lab.invoke(json!({"do": "allocate", "mib": 200, "ms": 0})).await;
    assert_eq!(error(&failed).error_type, "Runtime.OutOfMemory");

    let fine = lab.invoke(json!({"do": "allocate", "mib": 64, "ms": 0})).await;
    assert_eq!(fine.function_error, None);
    assert!((64..=128).contains(&fine.max_memory_mb), "{fine:?}");
}

#[tokio::test]
async fn a_memory_limit_can_be_given_with_the_call() {
    let lab = Lab::start(function()).await;
    let event: Bytes = json!({"do": "allocate", "mib": 100, "ms": 500}).to_string().into();
    let small = InvokeOptions { memory: Some(64), ..InvokeOptions::default() };
    assert_eq!(
        lab.lambda.invoke(event.clone(), InvokeOptions::default()).await.unwrap().function_error,
        None
    );
    let failed = lab.lambda.invoke(event, small.clone()).await.unwrap();
    assert_eq!(error(&failed).error_type, "Runtime.OutOfMemory");
    // What an earlier invocation used with a higher limit doesn't count.
    lab.answer(json!({"do": "allocate", "mib": 100, "ms": 0})).await;
    assert_eq!(lab.lambda.invoke("{}".into(), small).await.unwrap().function_error, None);
}

#[tokio::test]
async fn payloads_have_a_limit() {
    const LIMIT: usize = 6 * 1024 * 1024;
    let lab = Lab::start(function()).await;
    let largest = format!("\"{}\"", "x".repeat(LIMIT - 2));
    let too_large = format!("\"{}\"", "x".repeat(LIMIT - 1));

    let result = lab.lambda.invoke(too_large.clone().into(), InvokeOptions::default()).await;
    assert!(matches!(result, Err(InvokeError::RequestTooLarge { .. })), "{result:?}");
    let (status, headers, _) = lab.post(PATH, &[], too_large).await;
    assert_eq!((status, &headers["x-amzn-errortype"]), (413, &"RequestTooLargeException".parse().unwrap()));

    // The handler would send it back with more, so let it fail there: the event itself has arrived whole.
    let failed = lab.lambda.invoke(largest.into(), InvokeOptions::default()).await.unwrap();
    assert_eq!(error(&failed).error_type, "Function.ResponseSizeTooLarge");
}

#[tokio::test]
async fn responses_have_a_limit() {
    const LIMIT: usize = 6 * 1024 * 1024 + 100;
    let lab = Lab::start(function()).await;
    let pid = lab.pid().await;
    let largest = lab.invoke(json!({"do": "answer", "bytes": LIMIT - 2})).await;
    assert_eq!((largest.function_error, largest.payload.len()), (None, LIMIT));
    let failed = lab.invoke(json!({"do": "answer", "bytes": LIMIT - 1})).await;
    let error = error(&failed);
    assert_eq!(error.error_type, "Function.ResponseSizeTooLarge");
    assert_eq!(
        error.error_message,
        "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    );
    assert_eq!(lab.pid().await, pid, "the process goes on");
}

#[tokio::test]
async fn a_payload_must_be_json() {
    let lab = Lab::start(function()).await;
    let result = lab.lambda.invoke("{not json".into(), InvokeOptions::default()).await;
    let Err(InvokeError::InvalidRequestContent { message }) = result else { panic!("{result:?}") };
    assert!(message.starts_with("Could not parse request body into json: "), "{message}");
    for body in ["{not json".to_owned(), "x".repeat(1024 * 1024)] {
        let (status, headers, _) = lab.post(PATH, &[], body).await;
        assert_eq!(
            (status, &headers["x-amzn-errortype"]),
            (400, &"InvalidRequestContentException".parse().unwrap())
        );
    }
    assert_eq!(lab.started(), 0, "nothing was run");
}

#[tokio::test]
async fn only_this_function_is_found() {
    let lab = Lab::start(function()).await;
    for path in [
        "/2015-03-31/functions/other/invocations",
        "/2015-03-31/functions/plain/invocations?Qualifier=7",
        "/2015-03-31/functions/plain%3Aprod/invocations",
        "/2015-03-31/functions/plain",
        "/",
    ] {
        let (status, headers, _) = lab.post(path, &[], "{}").await;
        assert_eq!(
            (status, &headers["x-amzn-errortype"]),
            (404, &"ResourceNotFoundException".parse().unwrap())
        );
    }
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A012345678912%3Afunction%3Aplain";
    for path in [
        format!("/2015-03-31/functions/{arn}/invocations"),
        "/2015-03-31/functions/plain/invocations?Qualifier=%24LATEST".to_owned(),
    ] {
        assert_eq!(lab.post(&path, &[], "{}").await.0, 200);
    }
    let error =
        invoke_http(&lab.lambda.endpoint().to_string(), "other", "{}".into(), &InvokeOptions::default())
            .await
            .unwrap_err();
    assert!(matches!(error, InvokeError::ResourceNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_synchronous_invocation_over_http() {
    let lab = Lab::start(function()).await;
    let context = BASE64_STANDARD.encode(json!({"custom": {"key": "value"}}).to_string());
    let headers = [("x-amz-log-type", "Tail"), ("x-amz-client-context", &context)];
    let (status, headers, body) = lab.post(PATH, &headers, r#"{"do":"print"}"#).await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["client"], json!({"key": "value"}));
    assert_eq!(headers["x-amz-executed-version"], "$LATEST");
    assert_eq!(headers["x-amzn-requestid"], body["request_id"].as_str().unwrap());
    assert!(!headers.contains_key("x-amz-function-error"));
    let log = BASE64_STANDARD.decode(&headers["x-amz-log-result"]).unwrap();
    assert!(String::from_utf8(log).unwrap().contains("to stdout\n"));

    let (status, headers, body) = lab.post(PATH, &[], r#"{"do":"fail"}"#).await;
    assert_eq!((status, &headers["x-amz-function-error"]), (200, &"Unhandled".parse().unwrap()));
    assert!(!headers.contains_key("x-amz-log-result"), "only if asked for");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["errorMessage"], "as asked");
}

#[tokio::test]
async fn wrong_parameters_over_http_are_refused() {
    let lab = Lab::start(function()).await;
    for (header, value, expected) in [
        ("x-amz-invocation-type", "Sometimes", "InvalidParameterValueException"),
        ("x-amz-log-type", "Head", "InvalidParameterValueException"),
        ("x-amz-client-context", "{}", "InvalidRequestContentException"),
    ] {
        let (status, headers, body) = lab.post(PATH, &[(header, value)], "{}").await;
        assert_eq!((status, &headers["x-amzn-errortype"]), (400, &expected.parse().unwrap()), "{body:?}");
    }
}

#[tokio::test]
async fn the_client_brings_back_what_the_service_knows() {
    let lab = Lab::start(function()).await;
    let endpoint = format!("http://{}", lab.lambda.endpoint());
    let first =
        invoke_http(&endpoint, "plain", r#"{"do":"print"}"#.into(), &InvokeOptions::default()).await.unwrap();
    assert!(first.cold_start && first.init_duration.is_some());
    assert!(first.max_memory_mb > 0 && first.log_tail.contains("to stderr\n"));
    assert_eq!(answer(&first)["request_id"], first.request_id);
    let failed =
        invoke_http(&endpoint, "plain", r#"{"do":"exit","code":3}"#.into(), &InvokeOptions::default())
            .await
            .unwrap();
    assert!(!failed.cold_start);
    assert_eq!(error(&failed).error_type, "Runtime.ExitError");

    lab.lambda.shutdown().await;
    let gone = invoke_http(&endpoint, "plain", "{}".into(), &InvokeOptions::default()).await.unwrap_err();
    let InvokeError::Transport { endpoint: tried, .. } = &gone else { panic!("{gone:?}") };
    assert_eq!(*tried, endpoint);
}

#[tokio::test]
async fn an_event_is_accepted_and_runs_later() {
    let lab = Lab::start(Function { concurrency: 1, ..function() }).await;
    let event = [("x-amz-invocation-type", "Event")];
    // More than can run at a time: they wait for their turn.
    for _ in 0..3 {
        let (status, headers, body) = lab.post(PATH, &event, r#"{"do":"print"}"#).await;
        assert_eq!((status, body.len()), (202, 0));
        assert!(headers.contains_key("x-amzn-requestid"));
    }
    eventually("all have run", || lab.printed(OutputStream::Stdout).len() == 3).await;
    assert_eq!(lab.started(), 1);
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    assert_eq!(lab.post(PATH, &event, large).await.0, 413);
}

#[tokio::test]
async fn a_dry_run_checks_and_runs_nothing() {
    let lab = Lab::start(function()).await;
    let dry = [("x-amz-invocation-type", "DryRun")];
    assert_eq!(lab.post(PATH, &dry, "{}").await.0, 204);
    assert_eq!(lab.post(PATH, &dry, "{").await.0, 400);
    assert_eq!(lab.post("/2015-03-31/functions/other/invocations", &dry, "{}").await.0, 404);
    assert_eq!(lab.started(), 0);
}

#[tokio::test]
async fn the_runtime_api_refuses_what_does_not_fit() {
    let lab = Lab::start(mode("raw")).await;
    assert_eq!(answer(&lab.invoke(json!({})).await), "first");
    let seen = lab.answer(json!({})).await;
    // Another's request; `next` and `init/error` while one runs; its own; again; an error after it; nonsense.
    assert_eq!(seen, json!([400, 403, 403, 202, 403, 403, 404]));
}

#[tokio::test]
async fn idle_instances_end() {
    let lab = Lab::start(Function { idle: Duration::from_millis(300), ..function() }).await;
    let running: Vec<_> = (0..3).map(|_| lab.sleep(300)).collect();
    let mut pids = Vec::new();
    for running in running {
        pids.push(answer(&running.await.unwrap().unwrap())["pid"].as_u64().unwrap());
    }
    eventually("all end", || !pids.iter().any(|pid| is_alive(*pid))).await;
    let again = lab.invoke(json!({})).await;
    assert!(again.cold_start);
}

#[tokio::test]
async fn output_arrives_with_where_it_comes_from() {
    let lab = Lab::start(function()).await;
    let first = lab.invoke(json!({"do": "print"})).await;
    let lines = lab.lines.lock().unwrap().clone();
    for (stream, text) in [(OutputStream::Stdout, "to stdout"), (OutputStream::Stderr, "to stderr")] {
        let expected = OutputLine {
            instance: 1,
            request_id: Some(first.request_id.as_str().into()),
            stream,
            line: text.to_owned(),
        };
        assert!(lines.contains(&expected), "{lines:#?}");
    }
    let second = lab.invoke(json!({"do": "print"})).await;
    let lines = lab.lines.lock().unwrap().clone();
    let of = |invocation: &Invocation| {
        lines.iter().filter(|line| line.request_id.as_deref() == Some(&invocation.request_id)).count()
    };
    // What it printed, and START, END and REPORT.
    assert_eq!((of(&first), of(&second)), (5, 5), "{lines:#?}");
}

#[tokio::test]
async fn the_log_has_lambdas_form_and_a_limited_size() {
    let lab = Lab::start(function()).await;
    let invocation = lab.invoke(json!({"do": "print"})).await;
    let id = &invocation.request_id;
    let log = &invocation.log_tail;
    assert!(log.starts_with(&format!("START RequestId: {id} Version: $LATEST\n")), "{log}");
    assert!(log.contains(&format!("\nEND RequestId: {id}\nREPORT RequestId: {id}\tDuration: ")), "{log}");
    assert!(log.contains("Max Memory Used: ") && log.contains("Init Duration: "), "{log}");
    assert!(!lab.invoke(json!({})).await.log_tail.contains("to stdout"), "only its own");

    let flood = lab.invoke(json!({"do": "flood", "lines": 20_000})).await;
    assert!(flood.log_tail.len() <= 4096 && flood.log_tail.contains("line 19999 of"), "{}", flood.log_tail);
    let printed = lab.printed(OutputStream::Stdout);
    let flooded: Vec<_> = printed.iter().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(flooded.len(), 20_000);
    for (index, line) in flooded.iter().enumerate() {
        assert!(line.starts_with(&format!("line {index} ")) && line.len() < MAX_LINE, "{line}");
    }
}

#[tokio::test]
async fn a_shutdown_leaves_no_process_behind() {
    let lab = Lab::start(function()).await;
    let running: Vec<_> = (0..3).map(|_| lab.sleep(500)).collect();
    let mut pids = Vec::new();
    for running in running {
        pids.push(answer(&running.await.unwrap().unwrap())["pid"].as_u64().unwrap());
    }
    let busy = lab.sleep(3_600_000);
    eventually("it runs", || {
        lab.printed(OutputStream::Platform).iter().filter(|line| line.starts_with("START")).count() == 4
    })
    .await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let endpoint = lab.lambda.endpoint().to_string();
    let caller = tokio::spawn(async move {
        invoke_http(&endpoint, "plain", r#"{"do":"sleep","ms":3600000}"#.into(), &InvokeOptions::default())
            .await
    });
    eventually("it runs too", || {
        lab.printed(OutputStream::Platform).iter().filter(|line| line.starts_with("START")).count() == 5
    })
    .await;
    lab.lambda.shutdown().await;
    assert!(matches!(caller.await.unwrap(), Err(InvokeError::Service { .. })));
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "not even a zombie");
    }
    assert!(matches!(busy.await.unwrap(), Err(InvokeError::Service { .. })));
    assert!(matches!(lab.try_invoke(json!({})).await, Err(InvokeError::Service { .. })));
    lab.lambda.shutdown().await;
}

#[tokio::test]
async fn dropping_the_service_leaves_no_process_behind() {
    let lab = Lab::start(function()).await;
    let pid = lab.pid().await;
    drop(lab);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn an_instance_ends_with_its_parent() {
    let mut host =
        Command::new(&*HANDLER).arg("host").stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = line.trim().parse().unwrap();
    assert!(is_alive(pid));
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("it ends", || !is_alive(pid)).await;
}

#[tokio::test]
async fn a_bad_function_name_is_refused() {
    let error = LocalLambda::start(Function::new("a b", &*HANDLER), |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_callback_that_panics_harms_nobody() {
    let lambda = LocalLambda::start(function(), |_| panic!("as asked")).await.unwrap();
    for _ in 0..2 {
        let invocation = lambda.invoke(r#"{"do":"print"}"#.into(), InvokeOptions::default()).await.unwrap();
        assert_eq!(invocation.function_error, None);
    }
}

/// Many callers, instances that crash now and then: every invocation gets one answer, its own.
#[tokio::test]
async fn every_invocation_gets_its_own_answer() {
    let lab = Lab::start(function()).await;
    let callers: Vec<_> = (0..4u64)
        .map(|caller| {
            let lambda = lab.lambda.clone();
            tokio::spawn(async move {
                for n in 0..50u64 {
                    let crash = n % 10 == caller;
                    let what = if crash { "exit" } else { "echo" };
                    let event = json!({"do": what, "code": 1, "caller": caller, "n": n});
                    let invocation =
                        lambda.invoke(event.to_string().into(), InvokeOptions::default()).await.unwrap();
                    if crash {
                        assert_eq!(error(&invocation).error_type, "Runtime.ExitError");
                    } else {
                        assert_eq!(answer(&invocation)["event"], event);
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}
