//! The Runtime API of one instance.

use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    error::MAX_RESPONSE,
    http::{Body, Reply, json, read},
    instance::{Event, Instance, Refusal},
};

const PREFIX: &str = "/2018-06-01/";

/// Answers a request of the instance's runtime.
pub(crate) async fn handle(instance: Rc<Instance>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let mut segments = path.split('/');
    let route = [(); 4].map(|()| segments.next().unwrap_or_default());
    match (&parts.method, route) {
        (&Method::GET, ["runtime", "invocation", "next", ""]) => next(&instance).await,
        (&Method::POST, ["runtime", "invocation", id, "response"]) => {
            let outcome = match read(body, MAX_RESPONSE).await {
                Body::Whole(body) => instance.respond(id, Some(body)),
                Body::TooLarge => instance.respond(id, None),
                Body::Broken => return truncated(),
            };
            accepted(outcome)
        }
        (&Method::POST, ["runtime", "invocation", id, "error"]) => {
            let error_type = error_type(&parts.headers);
            let outcome = match read(body, MAX_RESPONSE).await {
                Body::Whole(body) => instance.fail(id, &error_type, body),
                Body::TooLarge => instance.respond(id, None),
                Body::Broken => return truncated(),
            };
            accepted(outcome)
        }
        (&Method::POST, ["runtime", "init", "error", ""]) => match read(body, MAX_RESPONSE).await {
            Body::Whole(body) => accepted(instance.init_failed(body)),
            Body::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", too_large()),
            Body::Broken => truncated(),
        },
        (&Method::GET, ["ping", "", "", ""]) => Response::new(Full::new(Bytes::from_static(b"pong"))),
        _ => error(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("{} {} is unknown", parts.method, parts.uri.path()),
        ),
    }
}

async fn next(instance: &Instance) -> Reply {
    let (sender, event) = oneshot::channel();
    if let Err(refusal) = instance.next(sender) {
        return refused(refusal);
    }
    match event.await {
        Ok(event) => render(instance, event),
        // The instance is being ended, or asked a second time meanwhile.
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "ContainerError", "no more work".to_owned()),
    }
}

fn render(instance: &Instance, event: Event) -> Reply {
    let mut reply = Response::new(Full::new(event.payload));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut set = |name: &'static str, value: &str| {
        // The service made or checked all of these.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("lambda-runtime-aws-request-id", &event.request_id);
    set("lambda-runtime-deadline-ms", &event.deadline_ms.to_string());
    set("lambda-runtime-invoked-function-arn", instance.service().arn());
    set("lambda-runtime-trace-id", &event.trace_id);
    if let Some(context) = &event.client_context {
        set("lambda-runtime-client-context", context);
    }
    reply
}

/// The error type that the runtime gave, if it has the documented form.
fn error_type(headers: &HeaderMap) -> String {
    let given = headers.get("lambda-runtime-function-error-type").and_then(|value| value.to_str().ok());
    match given {
        Some(given) if given.contains('.') && given.len() <= 256 => given.to_owned(),
        _ => "Runtime.Unknown".to_owned(),
    }
}

fn accepted(outcome: Result<(), Refusal>) -> Reply {
    match outcome {
        Ok(()) => json(StatusCode::ACCEPTED, "{\"status\":\"OK\"}\n"),
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::InvalidRequestId => {
            error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID".to_owned())
        }
        Refusal::InvalidState { from, to } => error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            format!(
                "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
            ),
        ),
        Refusal::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", too_large()),
    }
}

fn too_large() -> String {
    format!("Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes).")
}

fn truncated() -> Reply {
    error(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", "HTTP request detected as truncated".to_owned())
}

fn error(status: StatusCode, error_type: &str, error_message: String) -> Reply {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        error_message: String,
        error_type: &'a str,
    }
    json(status, serde_json::to_vec(&Document { error_message, error_type }).unwrap_or_default())
}
