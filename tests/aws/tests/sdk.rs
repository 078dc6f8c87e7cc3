//! The local Lambda service, called by the AWS SDK: what a program sees that calls Lambda with Amazon's own client.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_lambda::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        RequestId,
        invoke::{InvokeError, InvokeOutput},
    },
    primitives::Blob,
    types::{InvocationType, LogType, ThrottleReason},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use crucial_runtime::lambda::{Function, LocalLambda, OutputLine, OutputStream};
use serde_json::{Value, json};

const NAME: &str = "plain";

/// A service, and a client of it that knows its address and nothing else.
struct Lab {
    lambda: LocalLambda,
    client: Client,
    lines: Arc<Mutex<Vec<OutputLine>>>,
}

fn function() -> Function {
    Function {
        concurrency: 2,
        timeout: Duration::from_secs(30),
        // A backtrace would fill the end of the log.
        env: vec![("RUST_BACKTRACE".into(), "0".into())],
        ..Function::new(NAME, env!("CARGO_BIN_EXE_plain-function"))
    }
}

impl Lab {
    async fn start(function: Function) -> Lab {
        Lab::with_client(function, |config| config).await
    }

    async fn with_client(
        function: Function,
        change: impl FnOnce(aws_sdk_lambda::config::Builder) -> aws_sdk_lambda::config::Builder,
    ) -> Lab {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let lambda = LocalLambda::start(function, move |line| sink.lock().unwrap().push(line)).await.unwrap();
        let config = aws_sdk_lambda::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(format!("http://{}", lambda.endpoint()))
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            // Every answer is to be seen, not only the last of three.
            .retry_config(RetryConfig::disabled());
        Lab { client: Client::from_conf(change(config).build()), lambda, lines }
    }

    async fn try_invoke(&self, event: Value) -> Result<InvokeOutput, SdkError<InvokeError>> {
        let payload = Blob::new(event.to_string());
        self.client.invoke().function_name(NAME).payload(payload).send().await
    }

    async fn invoke(&self, event: Value) -> InvokeOutput {
        self.try_invoke(event).await.unwrap()
    }

    /// Invokes the function with a payload that the service refuses.
    async fn refused(&self, name: &str, payload: impl Into<Vec<u8>>) -> InvokeError {
        let invoke = self.client.invoke().function_name(name).payload(Blob::new(payload));
        invoke.send().await.unwrap_err().into_service_error()
    }

    /// Waits until the function has printed a line.
    async fn printed(&self, stream: OutputStream, part: &str) -> bool {
        for _ in 0..1000 {
            let found = |line: &OutputLine| line.stream == stream && line.line.contains(part);
            if self.lines.lock().unwrap().iter().any(found) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

fn body(output: &InvokeOutput) -> Value {
    serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap()
}

/// Type and message of the error that a function ended with.
fn function_error(output: &InvokeOutput) -> (String, String) {
    assert_eq!((output.status_code(), output.function_error()), (200, Some("Unhandled")), "{output:?}");
    let body = body(output);
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    (text("errorType"), text("errorMessage"))
}

#[tokio::test]
async fn a_function_answers() {
    let lab = Lab::start(function()).await;
    for n in 0..10 {
        let event = json!({"n": n, "text": "π"});
        let output = lab.invoke(event.clone()).await;
        assert_eq!((output.status_code(), output.function_error()), (200, None));
        assert_eq!(output.executed_version(), Some("$LATEST"));
        assert_eq!(output.log_result(), None, "only if asked for");
        let body = body(&output);
        assert_eq!(body["event"], event);
        assert_eq!(body["request_id"].as_str(), output.request_id());
    }
}

#[tokio::test]
async fn a_function_is_also_called_by_its_arn_and_version() {
    let lab = Lab::start(function()).await;
    let arn = format!("arn:aws:lambda:us-east-1:012345678912:function:{NAME}");
    for name in [NAME, &arn] {
        let output = lab.client.invoke().function_name(name).qualifier("$LATEST").send().await.unwrap();
        assert_eq!(body(&output)["event"], json!({}), "no payload is an empty object");
    }
    let error = lab.client.invoke().function_name(NAME).qualifier("7").send().await.unwrap_err();
    assert!(error.into_service_error().is_resource_not_found_exception());
}

#[tokio::test]
async fn the_client_context_arrives() {
    let lab = Lab::start(function()).await;
    let context = BASE64_STANDARD.encode(json!({"custom": {"key": "value"}}).to_string());
    let output = lab.client.invoke().function_name(NAME).client_context(context).send().await.unwrap();
    assert_eq!(body(&output)["client"], json!({"key": "value"}));
}

#[tokio::test]
async fn a_function_that_fails_says_so_in_the_answer() {
    let lab = Lab::start(function()).await;
    let (_, message) = function_error(&lab.invoke(json!({"do": "fail"})).await);
    assert_eq!(message, "the disk is full");
    let (_, message) = function_error(&lab.invoke(json!({"do": "panic"})).await);
    assert!(message.contains("index out of range"), "{message}");
    let (kind, message) = function_error(&lab.invoke(json!({"do": "exit"})).await);
    assert_eq!(kind, "Runtime.ExitError");
    assert!(message.contains("exit status 3"), "{message}");
    // The next one gets a new process.
    assert_eq!(lab.invoke(json!({})).await.function_error(), None);
}

#[tokio::test]
async fn a_function_that_takes_too_long_is_stopped() {
    let lab = Lab::start(Function { timeout: Duration::from_secs(1), ..function() }).await;
    let (kind, message) = function_error(&lab.invoke(json!({"do": "sleep", "ms": 60_000})).await);
    assert_eq!(kind, "Sandbox.Timedout");
    assert!(message.ends_with("Task timed out after 1.00 seconds"), "{message}");
    assert_eq!(lab.invoke(json!({})).await.function_error(), None);
}

#[tokio::test]
async fn a_function_that_uses_too_much_memory_is_stopped() {
    let lab = Lab::start(Function { memory: 128, ..function() }).await;
    let (kind, _) = function_error(&lab.invoke(json!({"do": "allocate", "mib": 400})).await);
    assert_eq!(kind, "Runtime.OutOfMemory");
}

#[tokio::test]
async fn a_client_that_gives_up_leaves_the_service_well() {
    let timeout = TimeoutConfig::builder().operation_timeout(Duration::from_millis(500)).build();
    let lab = Lab::with_client(function(), |config| config.timeout_config(timeout)).await;
    // The instance is warm: what follows is the function's time.
    for _ in 0..100 {
        if lab.try_invoke(json!({})).await.is_ok() {
            break;
        }
    }
    let error = lab.try_invoke(json!({"do": "sleep", "ms": 2000})).await.unwrap_err();
    assert!(matches!(error, SdkError::TimeoutError(_)), "{error:?}");
    // The other instance may have to start first.
    let mut answered = false;
    for _ in 0..100 {
        answered |= lab.try_invoke(json!({})).await.is_ok();
    }
    assert!(answered);
}

#[tokio::test]
async fn more_than_may_run_at_once_are_refused() {
    let lab = Lab::start(Function { concurrency: 1, ..function() }).await;
    let client = lab.client.clone();
    let busy = tokio::spawn(async move {
        let event = json!({"do": "sleep", "ms": 3000}).to_string();
        client.invoke().function_name(NAME).payload(Blob::new(event)).send().await
    });
    assert!(lab.printed(OutputStream::Platform, "START").await);
    let error = lab.try_invoke(json!({})).await.unwrap_err().into_service_error();
    let InvokeError::TooManyRequestsException(error) = error else { panic!("{error:?}") };
    assert_eq!(error.reason(), Some(&ThrottleReason::ConcurrentInvocationLimitExceeded));
    assert_eq!(error.message(), Some("Rate Exceeded."));
    assert_eq!(busy.await.unwrap().unwrap().function_error(), None);
}

/// With the SDK's own retries a caller that is refused now is served a little later.
#[tokio::test]
async fn the_sdk_retries_what_was_refused() {
    let retry = RetryConfig::standard().with_max_attempts(20).with_max_backoff(Duration::from_millis(200));
    let lab = Lab::with_client(Function { concurrency: 1, ..function() }, |c| c.retry_config(retry)).await;
    let callers: Vec<_> = (0..4)
        .map(|n| {
            let client = lab.client.clone();
            tokio::spawn(async move {
                let event = json!({"do": "sleep", "ms": 50, "n": n}).to_string();
                client.invoke().function_name(NAME).payload(Blob::new(event)).send().await.unwrap()
            })
        })
        .collect();
    for (n, caller) in callers.into_iter().enumerate() {
        assert_eq!(body(&caller.await.unwrap())["event"]["n"], n);
    }
}

#[tokio::test]
async fn an_unknown_function_is_not_found() {
    let lab = Lab::start(function()).await;
    let error = lab.refused("other", "{}").await;
    let InvokeError::ResourceNotFoundException(error) = error else { panic!("{error:?}") };
    assert!(error.message().unwrap().contains("Function not found: other"), "{error:?}");
}

#[tokio::test]
async fn a_payload_has_a_limit() {
    let lab = Lab::start(function()).await;
    let error = lab.refused(NAME, format!("\"{}\"", "x".repeat(6 << 20))).await;
    let InvokeError::RequestTooLargeException(error) = error else { panic!("{error:?}") };
    assert!(error.message().unwrap().contains("6291456 bytes"), "{error:?}");
}

#[tokio::test]
async fn a_payload_must_be_json() {
    let lab = Lab::start(function()).await;
    let error = lab.refused(NAME, "{not json").await;
    let InvokeError::InvalidRequestContentException(error) = error else { panic!("{error:?}") };
    assert!(error.message().unwrap().contains("parse request body into json"), "{error:?}");
}

#[tokio::test]
async fn a_parameter_must_be_one_of_its_values() {
    let lab = Lab::start(function()).await;
    let kind = InvocationType::from("Sometimes");
    let invoke = lab.client.invoke().function_name(NAME).invocation_type(kind);
    let error = invoke.send().await.unwrap_err().into_service_error();
    assert!(error.is_invalid_parameter_value_exception(), "{error:?}");
    assert!(error.message().unwrap().contains("'Sometimes' at 'invocationType'"), "{error:?}");
}

#[tokio::test]
async fn the_end_of_the_log_comes_along_if_asked_for() {
    let lab = Lab::start(function()).await;
    let event = Blob::new(json!({"do": "print", "text": "a line"}).to_string());
    let invoke = lab.client.invoke().function_name(NAME).payload(event).log_type(LogType::Tail);
    let output = invoke.send().await.unwrap();
    let log = String::from_utf8(BASE64_STANDARD.decode(output.log_result().unwrap()).unwrap()).unwrap();
    let id = output.request_id().unwrap();
    for part in [&*format!("START RequestId: {id}"), "printed \"a line\"", &format!("REPORT RequestId: {id}")]
    {
        assert!(log.contains(part), "{log}");
    }
}

#[tokio::test]
async fn an_event_is_accepted_and_runs_later() {
    let lab = Lab::start(function()).await;
    let event = Blob::new(json!({"do": "print", "text": "later"}).to_string());
    let invoke = lab.client.invoke().function_name(NAME).payload(event);
    let output = invoke.invocation_type(InvocationType::Event).send().await.unwrap();
    assert_eq!(output.status_code(), 202);
    assert!(output.payload().is_none_or(|payload| payload.as_ref().is_empty()));
    assert!(output.request_id().is_some());
    assert!(lab.printed(OutputStream::Stdout, "printed \"later\"").await);
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let lab = Lab::start(function()).await;
    let invoke = |name| {
        let event = Blob::new(json!({"do": "print"}).to_string());
        let invoke = lab.client.invoke().function_name(name).payload(event);
        invoke.invocation_type(InvocationType::DryRun).send()
    };
    assert_eq!(invoke(NAME).await.unwrap().status_code(), 204);
    let error = invoke("other").await.unwrap_err().into_service_error();
    assert!(error.is_resource_not_found_exception());
    assert!(lab.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_service_that_has_ended_is_not_reached() {
    let lab = Lab::start(function()).await;
    lab.invoke(json!({})).await;
    lab.lambda.shutdown().await;
    let error = lab.try_invoke(json!({})).await.unwrap_err();
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
}
