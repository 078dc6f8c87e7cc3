//! AWS Lambda, through the SDK: region, profile, credentials and endpoint are those of every AWS tool.

use std::{env, io::Write, time::Duration};

use aws_config::{retry::RetryConfig, stalled_stream_protection::StalledStreamProtectionConfig};
use aws_sdk_lambda::{
    Client,
    config::{Region, timeout::TimeoutConfig},
    error::SdkError,
    operation::{RequestId, invoke::InvokeError},
    primitives::Blob,
    types::{InvocationType, LogType},
};
use aws_smithy_http_client::{
    pool,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{
    again::{Outlook, Patience, Refusal, insist, reach},
    invocations::{Answer, Call, TIMEOUT},
};
use crate::{
    config::Config,
    error::{Error, Result},
    lambda::{ErrorDocument, Figures, chain},
    terminal,
};

/// How long it may take to connect. AWS is near, or has other addresses.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take: a function has 15 minutes, and waits for its instance before that.
const ANSWER: Duration = TIMEOUT.saturating_add(Duration::from_secs(60));
/// How often the system looks whether the other end of a quiet connection is there. Without that, routers forget a
/// connection on which a function takes its time: AWS' own do after 350 s.
const PROBE: Duration = Duration::from_secs(60);
/// What emulators give their requests.
const NO_ID: &str = "without an id";
/// How many of its last lines a function that failed leaves in the error.
const LAST_LINES: usize = 10;

/// A function on AWS Lambda.
pub(super) struct Lambda {
    function: String,
    patience: Duration,
    /// Whether the run's objects are in this process.
    is_embedded: bool,
    /// Made when it is needed: function processes that start no cloud threads don't load the SDK's configuration.
    client: OnceCell<Client>,
}

impl Lambda {
    /// The configured function, which AWS confirms can be invoked.
    ///
    /// # Errors
    /// If a setting or the credentials are missing, AWS can't be reached, there is no such function, or it must not be
    /// invoked.
    pub(super) async fn start(config: &Config) -> Result<Self> {
        let function = config.lambda_function.as_deref().ok_or_else(|| {
            missing(
                "lambda_function",
                "the back end `lambda` needs the name or ARN of the function that runs this program: set \
                 CRUCIAL_LAMBDA_FUNCTION, or `lambda_function` in crucial.toml",
            )
        })?;
        let lambda = Lambda { is_embedded: config.servers.is_empty(), ..Self::of(function, config) };
        let client = lambda.client().await?;
        reach(config.connect_timeout, || async {
            let check = client.invoke().function_name(function).invocation_type(InvocationType::DryRun);
            check.send().await.map(drop).map_err(|error| lambda.refusal(error))
        })
        .await?;
        Ok(lambda)
    }

    /// This function. Nothing is checked before it is invoked.
    pub(super) fn of(function: &str, config: &Config) -> Self {
        Lambda {
            function: function.to_owned(),
            patience: config.lambda_patience,
            is_embedded: false,
            client: OnceCell::new(),
        }
    }

    pub(super) fn function(&self) -> &str {
        &self.function
    }

    async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(|| connect(&self.function, self.is_embedded)).await
    }

    /// Runs the function, and invokes it again as long as it is refused only for now or there is no answer.
    pub(super) async fn invoke(&self, payload: Bytes, call: &Call<'_>) -> Result<Answer> {
        let client = self.client().await?;
        let patience = Patience {
            trouble: self.patience,
            setting: "lambda_patience",
            all: Some(ANSWER.saturating_add(self.patience)),
        };
        insist(&patience, call, || self.send(client, payload.clone())).await
    }

    async fn send(&self, client: &Client, payload: Bytes) -> Result<Answer, Refusal> {
        let invoke = client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::RequestResponse)
            .log_type(LogType::Tail)
            .payload(Blob::new(payload));
        match invoke.send().await {
            Ok(output) => {
                let log = output.log_result().map(|log| BASE64_STANDARD.decode(log).unwrap_or_default());
                let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
                let id = output.request_id().unwrap_or(NO_ID).to_owned();
                let is_marked = output.function_error().is_some();
                let payload: Bytes = output.payload.map(Blob::into_inner).unwrap_or_default().into();
                let failed = is_marked || looks_failed(&payload);
                Ok(self.answer(payload, failed, &id, log))
            }
            Err(error) => match failure(&error) {
                Some(payload) => {
                    Ok(self.answer(payload, true, error.request_id().unwrap_or(NO_ID), String::new()))
                }
                None => Err(self.refusal(error)),
            },
        }
    }

    /// Shows what the function printed, and reads how it failed, if it did.
    fn answer(&self, payload: Bytes, failed: bool, id: &str, log: String) -> Answer {
        let printed: Vec<_> = log.lines().filter(|line| !is_platform(line)).collect();
        let is_start =
            |line: &str| line.starts_with("START RequestId: ") || line.contains("\"platform.start\"");
        let is_cut = !log.lines().any(is_start);
        // A closed terminal is no reason to fail.
        let _ = terminal::print(|| {
            let mut out = std::io::stderr().lock();
            if is_cut && !printed.is_empty() {
                writeln!(out, "[lambda {id}] ... (all of it is in the log group of {})", self.function)?;
            }
            printed.iter().try_for_each(|line| writeln!(out, "[lambda {id}] {line}"))
        });
        let error = failed.then(|| {
            let mut document = document(&payload);
            if document.error_type.is_empty() && document.error_message.contains("Task timed out") {
                document.error_type = "Sandbox.Timedout".to_owned();
            }
            let is_killed = document.error_message.contains("signal: killed");
            if document.error_type == "Runtime.ExitError" && is_killed && is_out_of_memory(&log) {
                document.error_type = "Runtime.OutOfMemory".to_owned();
            }
            if document.error_type.starts_with("Runtime.") {
                document.output = printed[printed.len().saturating_sub(LAST_LINES)..]
                    .iter()
                    // It repeats the error.
                    .filter(|line| !line.contains(&document.error_message) && **line != document.error_type)
                    .map(|line| (*line).to_owned())
                    .collect();
            }
            if document.error_type != super::event::PANIC && !document.error_message.contains(id) {
                document.error_message.push_str(&format!(" (request {id})"));
            }
            document
        });
        Answer { payload, error, log }
    }

    fn refusal(&self, error: SdkError<InvokeError>) -> Refusal {
        let function = &self.function;
        let causes = chain(&error);
        let (is_transient, reason) = match &error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let code = meta.code().unwrap_or("an error without a name");
                let message = meta.message().unwrap_or("no message");
                let id = service.err().request_id().map(|id| format!(" (request {id})")).unwrap_or_default();
                (
                    is_transient(service.raw().status().as_u16(), code),
                    format!("AWS Lambda can't invoke `{function}`: {code}: {message}{id}{}", hint(code)),
                )
            }
            SdkError::ResponseError(response) => (
                true,
                format!(
                    "AWS Lambda's answer to the invocation of `{function}` makes no sense: HTTP status {}, {causes}",
                    response.raw().status().as_u16()
                ),
            ),
            SdkError::TimeoutError(_) => (true, format!("no answer from AWS Lambda: {causes}")),
            SdkError::DispatchFailure(e) if e.is_io() || e.is_timeout() || e.as_other().is_some() => (
                true,
                format!(
                    "no answer from AWS Lambda: {causes}. Is the network there, and are region and endpoint right \
                     (AWS_REGION, AWS_ENDPOINT_URL)?"
                ),
            ),
            // The request was never made.
            _ => {
                let hint = if causes.to_lowercase().contains("credential") {
                    ". AWS needs credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or sign \
                     in again if they have expired"
                } else {
                    ""
                };
                (false, format!("AWS Lambda can't invoke `{function}`: {causes}{hint}"))
            }
        };
        let outlook = if is_transient { Outlook::Trouble } else { Outlook::Final };
        Refusal { reason, outlook }
    }
}

/// The region of a function that has an ARN: `arn:aws:lambda:REGION:ACCOUNT:function:NAME`.
fn region_of(function: &str) -> Option<Region> {
    let mut parts = function.split(':');
    let is_arn = parts.next() == Some("arn") && parts.nth(1) == Some("lambda");
    parts.next().filter(|_| is_arn).map(|region| Region::new(region.to_owned()))
}

/// Makes a client with the settings of the environment.
async fn connect(function: &str, is_embedded: bool) -> Result<Client> {
    let tls = |error: &dyn std::error::Error| Error::Io {
        what: "preparing connections to AWS".to_owned(),
        reason: error.to_string(),
    };
    let pool = pool::ConnectionPool::builder()
        .tcp_nodelay(true)
        .tcp_keepalive(PROBE)
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
        .map_err(|error| tls(&error))?;
    let http = pool::Client::new(&pool).map_err(|error| tls(&error))?;
    let settings = aws_config::from_env().http_client(http).load().await;
    let region = settings.region().cloned().or_else(|| region_of(function)).ok_or_else(|| {
        missing(
            "AWS_REGION",
            "the back end `lambda` needs the region of the function: set it, or `region` in the profile that AWS_PROFILE \
             names, or give the function's ARN",
        )
    })?;
    let has_endpoint = settings.endpoint_url().is_some() || env::var_os("AWS_ENDPOINT_URL_LAMBDA").is_some();
    if is_embedded && !has_endpoint {
        return Err(missing(
            "servers",
            "functions on AWS can't reach objects in this process: start a server where they can reach it (`app crucial \
             serve`), and name it in CRUCIAL_SERVERS",
        ));
    }
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ANSWER).build();
    let config = aws_sdk_lambda::config::Builder::from(&settings)
        .region(region)
        .timeout_config(timeouts)
        // Ours are the only ones: a second layer would multiply them.
        .retry_config(RetryConfig::disabled())
        // A function that takes its time is no connection that stalls.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    Ok(Client::from_conf(config.build()))
}

fn missing(key: &str, reason: &str) -> Error {
    Error::NotConfigured { key: key.to_owned(), reason: reason.to_owned() }
}

/// Whether a refusal may be gone a little later: throttling, a service that has trouble, a function that is being changed.
/// Some mistakes in a function's settings have the status of a trouble, too.
fn is_transient(status: u16, code: &str) -> bool {
    const MISTAKES: [&str; 10] = [
        "EC2AccessDeniedException",
        "InvalidRuntimeException",
        "InvalidSecurityGroupIDException",
        "InvalidSubnetIDException",
        "InvalidZipFileException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "SubnetIPAddressLimitReachedException",
    ];
    let is_changing = ["ResourceConflictException", "ResourceNotReadyException"].contains(&code);
    (status == 429 || status >= 500 || is_changing) && !MISTAKES.contains(&code)
}

/// What to do about an error.
fn hint(code: &str) -> &'static str {
    match code {
        "ResourceNotFoundException" => {
            ". Is it deployed, in this region (AWS_REGION) and account, and is CRUCIAL_LAMBDA_FUNCTION right?"
        }
        "AccessDeniedException" => {
            ". The user or role needs a policy that allows `lambda:InvokeFunction` on this function"
        }
        "ExpiredTokenException" | "InvalidSignatureException" | "UnrecognizedClientException" => {
            ". Are the credentials right and not expired? Sign in again, or look at AWS_PROFILE"
        }
        "TooManyRequestsException" => {
            ". Others use the account's or the function's concurrency: lower CRUCIAL_CONCURRENCY, or have the quota raised"
        }
        _ => "",
    }
}

/// How a function failed, if that is what this error of the service says: emulators take one for the other.
fn failure(error: &SdkError<InvokeError>) -> Option<Bytes> {
    let body = error.raw_response()?.body().bytes()?;
    (body.starts_with(b"{") && looks_failed(body)).then(|| Bytes::copy_from_slice(body))
}

/// Whether an answer that isn't marked as one is an error of the runtime or the service: emulators don't mark them.
fn looks_failed(payload: &[u8]) -> bool {
    [br#"{"errorType""#.as_slice(), br#"{"errorMessage""#].iter().any(|start| payload.starts_with(start))
        || !payload.starts_with(b"{")
}

/// How a function failed, in the words of its runtime or of Lambda.
fn document(payload: &[u8]) -> ErrorDocument {
    serde_json::from_slice(payload).unwrap_or_else(|_| ErrorDocument {
        error_type: "Unhandled".to_owned(),
        error_message: String::from_utf8_lossy(payload).into_owned(),
        output: Vec::new(),
    })
}

/// Whether a line of a log is Lambda's own, in either of its formats.
fn is_platform(line: &str) -> bool {
    const STARTS: [&str; 6] = [
        "START RequestId: ",
        "END RequestId: ",
        "REPORT RequestId: ",
        "INIT_START ",
        "INIT_REPORT ",
        "XRAY TraceId: ",
    ];
    STARTS.iter().any(|start| line.starts_with(start))
        || line.starts_with('{') && line.contains(r#""type":"platform."#)
        || line.is_empty()
}

/// Whether the report at the log's end says that all of the memory was used.
fn is_out_of_memory(log: &str) -> bool {
    Figures::read(log).is_some_and(|figures| figures.max_memory >= figures.memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_passes_and_mistakes_stay() {
        for (status, code) in [
            (429, "TooManyRequestsException"),
            (500, "ServiceException"),
            (502, "EC2ThrottledException"),
            (503, "ServiceUnavailable"),
            (409, "ResourceConflictException"),
        ] {
            assert!(is_transient(status, code), "{code}");
        }
        for (status, code) in [
            (403, "AccessDeniedException"),
            (404, "ResourceNotFoundException"),
            (413, "RequestTooLargeException"),
            (502, "InvalidZipFileException"),
            (502, "KMSDisabledException"),
        ] {
            assert!(!is_transient(status, code), "{code}");
        }
    }

    #[test]
    fn lines_of_the_platform_are_known_in_both_formats() {
        for line in [
            "START RequestId: 1 Version: $LATEST",
            "REPORT RequestId: 1\tDuration: 2.00 ms\t",
            r#"{"time":"2026-01-01T00:00:00.000Z","type":"platform.start","record":{}}"#,
        ] {
            assert!(is_platform(line), "{line}");
        }
        for line in ["START", "the END", r#"{"type":"mine"}"#] {
            assert!(!is_platform(line), "{line}");
        }
    }

    #[test]
    fn a_report_tells_who_ran_out_of_memory() {
        let log = |used: u32| {
            format!(
                "x\nREPORT RequestId: 1\tDuration: 2.01 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: \
                 {used} MB\t\n"
            )
        };
        assert!(is_out_of_memory(&log(128)) && is_out_of_memory(&log(129)));
        assert!(!is_out_of_memory(&log(100)) && !is_out_of_memory("nothing"));
    }
}
