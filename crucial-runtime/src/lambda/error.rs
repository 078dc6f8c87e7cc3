//! What an invocation can fail with before a function runs.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// The largest event of a synchronous invocation, in bytes.
pub(crate) const MAX_REQUEST: usize = 6 * 1024 * 1024;

/// The largest event of an asynchronous invocation, in bytes.
pub(crate) const MAX_EVENT_REQUEST: usize = 1024 * 1024;

/// The largest response of a function, in bytes: 6 MiB and the 100 bytes of slack that Lambda grants.
pub(crate) const MAX_RESPONSE: usize = 6 * 1024 * 1024 + 100;

/// Why an invocation was refused. The function has not run.
///
/// A function that did run and failed is no error of the invocation: see
/// [`Invocation::function_error`](super::Invocation::function_error).
///
/// Every variant is an error of Lambda's Invoke API, with the status code, `x-amzn-ErrorType` header and JSON
/// body documented there, except [`InvokeError::Transport`], which a client has alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// As many invocations as the function allows are under way. (429)
    #[error("{message} ({reason})")]
    TooManyRequests {
        /// Which limit was hit, as `ConcurrentInvocationLimitExceeded`.
        reason: String,
        /// The service's message.
        message: String,
    },
    /// The payload is larger than 6 MiB, or than 1 MiB for an asynchronous invocation. (413)
    #[error("{message}")]
    RequestTooLarge {
        /// The service's message, with the limit.
        message: String,
    },
    /// There is no such function. (404)
    #[error("{message}")]
    ResourceNotFound {
        /// The service's message, with the function asked for.
        message: String,
    },
    /// The payload isn't JSON, or the client context isn't. (400)
    #[error("{message}")]
    InvalidRequestContent {
        /// The service's message, with the place of the mistake.
        message: String,
    },
    /// A parameter has a value that isn't one of its own. (400)
    #[error("{message}")]
    InvalidParameterValue {
        /// The service's message, with the value.
        message: String,
    },
    /// The service could not do it. (500)
    #[error("{message}")]
    Service {
        /// The service's message.
        message: String,
    },
    /// The service could not be reached, or its answer made no sense. Whether the function ran is unknown
    /// unless the connection was refused.
    #[error("no answer from the Lambda service at {endpoint}: {message}")]
    Transport {
        /// The address that was tried.
        endpoint: String,
        /// What went wrong there.
        message: String,
    },
}

/// The JSON body of an error of the Invoke API.
#[derive(Debug, Serialize, Deserialize)]
struct Body<'a> {
    #[serde(rename = "Type", default)]
    kind: &'a str,
    #[serde(alias = "Message", default)]
    message: std::borrow::Cow<'a, str>,
    #[serde(rename = "Reason", default, skip_serializing_if = "Option::is_none")]
    reason: Option<std::borrow::Cow<'a, str>>,
}

impl InvokeError {
    pub(crate) fn throttled() -> InvokeError {
        InvokeError::TooManyRequests {
            reason: "ConcurrentInvocationLimitExceeded".to_owned(),
            message: "Rate Exceeded.".to_owned(),
        }
    }

    pub(crate) fn too_large(limit: usize) -> InvokeError {
        InvokeError::RequestTooLarge {
            message: format!("Request must be smaller than {limit} bytes for the InvokeFunction operation"),
        }
    }

    pub(crate) fn service(message: impl Into<String>) -> InvokeError {
        InvokeError::Service { message: message.into() }
    }

    pub(crate) fn shut_down() -> InvokeError {
        InvokeError::service("the local Lambda service has been shut down")
    }

    /// The HTTP status code of this error in the Invoke API.
    pub fn status(&self) -> u16 {
        let code = match self {
            InvokeError::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            InvokeError::RequestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            InvokeError::ResourceNotFound { .. } => StatusCode::NOT_FOUND,
            InvokeError::InvalidRequestContent { .. } | InvokeError::InvalidParameterValue { .. } => {
                StatusCode::BAD_REQUEST
            }
            InvokeError::Service { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            InvokeError::Transport { .. } => StatusCode::BAD_GATEWAY,
        };
        code.as_u16()
    }

    /// The name of this error in the Invoke API, as in its `x-amzn-ErrorType` header.
    pub fn error_type(&self) -> &'static str {
        match self {
            InvokeError::TooManyRequests { .. } => "TooManyRequestsException",
            InvokeError::RequestTooLarge { .. } => "RequestTooLargeException",
            InvokeError::ResourceNotFound { .. } => "ResourceNotFoundException",
            InvokeError::InvalidRequestContent { .. } => "InvalidRequestContentException",
            InvokeError::InvalidParameterValue { .. } => "InvalidParameterValueException",
            InvokeError::Service { .. } | InvokeError::Transport { .. } => "ServiceException",
        }
    }

    /// The JSON body of this error in the Invoke API.
    pub(crate) fn body(&self) -> String {
        let kind = if self.status() < 500 { "User" } else { "Service" };
        let (message, reason) = match self {
            InvokeError::TooManyRequests { reason, message } => {
                (message.clone(), Some(reason.as_str().into()))
            }
            other => (other.to_string(), None),
        };
        serde_json::to_string(&Body { kind, message: message.into(), reason })
            .unwrap_or_else(|_| "{}".to_owned())
    }

    /// Reads an error back from an answer of the Invoke API.
    pub(crate) fn from_answer(status: u16, error_type: &str, body: &[u8]) -> InvokeError {
        let parsed: Option<Body<'_>> = serde_json::from_slice(body).ok();
        let (message, reason) = match parsed {
            Some(body) => (body.message.into_owned(), body.reason.map(|reason| reason.into_owned())),
            None => (String::from_utf8_lossy(body).into_owned(), None),
        };
        // Some services add a namespace or an address: `com.amazonaws#Name:http://..`.
        let name = error_type.split(':').next().unwrap_or_default();
        match name.rsplit('#').next().unwrap_or_default() {
            "TooManyRequestsException" => {
                InvokeError::TooManyRequests { reason: reason.unwrap_or_default(), message }
            }
            "RequestTooLargeException" => InvokeError::RequestTooLarge { message },
            "ResourceNotFoundException" => InvokeError::ResourceNotFound { message },
            "InvalidRequestContentException" => InvokeError::InvalidRequestContent { message },
            "InvalidParameterValueException" => InvokeError::InvalidParameterValue { message },
            "ServiceException" => InvokeError::Service { message },
            other => InvokeError::Service { message: format!("{other} (status {status}): {message}") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_wire() {
        let message = "says \"why\"".to_owned();
        for error in [
            InvokeError::throttled(),
            InvokeError::too_large(MAX_REQUEST),
            InvokeError::ResourceNotFound { message: message.clone() },
            InvokeError::InvalidRequestContent { message: message.clone() },
            InvokeError::InvalidParameterValue { message: message.clone() },
            InvokeError::Service { message },
        ] {
            let back = InvokeError::from_answer(error.status(), error.error_type(), error.body().as_bytes());
            assert_eq!(back, error);
        }
    }

    #[test]
    fn throttling_has_the_documented_form() {
        let error = InvokeError::throttled();
        assert_eq!(error.status(), 429);
        assert_eq!(error.error_type(), "TooManyRequestsException");
        assert_eq!(
            error.body(),
            r#"{"Type":"User","message":"Rate Exceeded.","Reason":"ConcurrentInvocationLimitExceeded"}"#
        );
    }

    #[test]
    fn an_unknown_error_keeps_its_name_and_text() {
        let error = InvokeError::from_answer(502, "EFSIOException", b"not json");
        assert_eq!(error, InvokeError::service("EFSIOException (status 502): not json"));
    }
}
