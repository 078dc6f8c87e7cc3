//! What goes into an invocation and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a caller can say about one invocation beside its payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvokeOptions {
    /// Ends the function after this time. The function's own timeout applies if it is shorter.
    pub timeout: Option<Duration>,
    /// Memory that the function may use, in MiB. The function's own limit applies if it is smaller.
    pub memory: Option<u64>,
    /// A name that nobody else uses, by which [`LocalLambda::stop`](super::LocalLambda::stop) finds the invocation.
    pub stop_token: Option<String>,
    /// JSON that the function finds in its context (`client_context`).
    pub client_context: Option<String>,
    /// An X-Ray trace header to pass on. Without one, the service makes one up, as Lambda does.
    pub trace_id: Option<String>,
}

/// The header with [`InvokeOptions::timeout`] in milliseconds.
pub(crate) const TIMEOUT_HEADER: &str = "x-crucial-timeout-ms";
/// The header with [`InvokeOptions::memory`].
pub(crate) const MEMORY_HEADER: &str = "x-crucial-memory-mb";

/// The header with [`InvokeOptions::stop_token`].
pub(crate) const STOP_HEADER: &str = "x-crucial-stop-token";
/// The path to which a DELETE with the token at its end stops the invocation.
pub(crate) const STOP_PATH: &str = "/crucial/invocations/";

/// The outcome of an invocation that reached the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Names this invocation in logs and in the function's context.
    pub request_id: String,
    /// What the function returned or, after an error, a description in JSON: see [`Invocation::error`].
    pub payload: Bytes,
    /// Whether the function failed.
    pub function_error: Option<FunctionError>,
    /// The end of the invocation's log, at most 4 KiB: what the function printed between Lambda's `START`,
    /// `END` and `REPORT` lines.
    pub log_tail: String,
    /// How long the function worked on it, without the start of a new instance.
    pub duration: Duration,
    /// How long the start of a new instance took, if one was needed and it came up.
    pub init_duration: Option<Duration>,
    /// The most memory the instance has ever held, in MiB, rounded up.
    pub max_memory_mb: u64,
    /// Whether an instance was started for it.
    pub cold_start: bool,
}

impl Invocation {
    /// The description of the error if the function failed.
    pub fn error(&self) -> Option<ErrorDocument> {
        self.function_error?;
        Some(serde_json::from_slice(&self.payload).unwrap_or_else(|_| ErrorDocument {
            error_type: "Unhandled".to_owned(),
            error_message: String::from_utf8_lossy(&self.payload).into_owned(),
            output: Vec::new(),
        }))
    }
}

/// How a function failed, as in the `X-Amz-Function-Error` header.
///
/// Lambda says `Unhandled` for every failure of a program that uses the Runtime API, errors that its handler
/// returned included, and so does the local service. [`ErrorDocument::error_type`] tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionError {
    /// Older runtimes report an error like this that the function passed on itself.
    Handled,
    /// Everything else: an error, a panic, an exit, a timeout, too much memory.
    Unhandled,
}

impl FunctionError {
    /// The value of the header.
    pub fn as_str(self) -> &'static str {
        match self {
            FunctionError::Handled => "Handled",
            FunctionError::Unhandled => "Unhandled",
        }
    }

    pub(crate) fn from_header(value: &str) -> FunctionError {
        if value == "Handled" { FunctionError::Handled } else { FunctionError::Unhandled }
    }
}

/// The payload of an invocation whose function failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDocument {
    /// `Runtime.ExitError`, `Runtime.OutOfMemory`, `Runtime.InvalidEntrypoint`, `Sandbox.Timedout` and
    /// `Function.ResponseSizeTooLarge` come from the service; anything else from the function.
    #[serde(default)]
    pub error_type: String,
    /// What happened.
    #[serde(default)]
    pub error_message: String,
    /// The last lines the process printed, if it ended without a word to the service. This is an addition of
    /// the local service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(payload: &'static str) -> Invocation {
        Invocation {
            request_id: "1".to_owned(),
            payload: Bytes::from_static(payload.as_bytes()),
            function_error: Some(FunctionError::Unhandled),
            log_tail: String::new(),
            duration: Duration::ZERO,
            init_duration: None,
            max_memory_mb: 0,
            cold_start: false,
        }
    }

    #[test]
    fn the_error_is_read_from_the_payload() {
        let error = failed(r#"{"errorType":"E","errorMessage":"m","stackTrace":["x"]}"#).error().unwrap();
        assert_eq!((error.error_type.as_str(), error.error_message.as_str()), ("E", "m"));
        let error = failed("plain text").error().unwrap();
        assert_eq!((error.error_type.as_str(), error.error_message.as_str()), ("Unhandled", "plain text"));
    }

    #[test]
    fn a_success_has_no_error_whatever_it_returned() {
        let mut invocation = failed(r#"{"errorType":"E"}"#);
        invocation.function_error = None;
        assert_eq!(invocation.error(), None);
    }
}
