//! The Invoke API, for clients of any language.

use std::{rc::Rc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};

use super::{
    clock,
    error::InvokeError,
    function::VERSION,
    http::{Body, Reply, json, read},
    invocation::{InvokeOptions, MEMORY_HEADER, STOP_HEADER, STOP_PATH, TIMEOUT_HEADER},
    service::{Service, payload_limit, prepare},
};

/// The largest client context, in bytes of Base64.
const MAX_CLIENT_CONTEXT: usize = 3583;

/// A payload from which on it is parsed aside, so that other invocations don't wait for it, in bytes.
const LARGE: usize = 256 * 1024;

/// Answers a request of a client.
pub(crate) async fn handle(service: Rc<Service>, request: Request<Incoming>) -> Reply {
    // Not a part of Lambda's API, which can't stop a function.
    if request.method() == Method::DELETE
        && let Some(token) = request.uri().path().strip_prefix(STOP_PATH)
    {
        let status = if service.stop(token) { StatusCode::OK } else { StatusCode::NOT_FOUND };
        return json(status, "{}");
    }
    match answer(service, request).await {
        Ok(reply) => reply,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut reply = json(status, error.body());
            set(&mut reply, "x-amzn-errortype", error.error_type());
            set(&mut reply, "x-amzn-requestid", &clock::request_id());
            reply
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

async fn answer(service: Rc<Service>, request: Request<Incoming>) -> Result<Reply, InvokeError> {
    let (parts, body) = request.into_parts();
    let function = called(parts.uri.path()).filter(|_| parts.method == Method::POST);
    let outcome = parameters(&service, function.as_deref(), parts.uri.query(), &parts.headers);
    // The body is read even if nothing comes of it: a client that is still writing would miss the answer.
    let limit = payload_limit(matches!(outcome, Ok((Kind::Event, ..))));
    let body = read(body, limit).await;
    let (kind, options, wants_log) = outcome?;
    let payload = match body {
        Body::Whole(payload) => payload,
        Body::TooLarge => return Err(InvokeError::too_large(limit)),
        Body::Broken => return Err(InvokeError::service("the request ended too early")),
    };

    let (work, answer) = if payload.len() < LARGE {
        prepare(service.function(), payload, options, limit)?
    } else {
        let function = service.function().clone();
        tokio::task::spawn_blocking(move || prepare(&function, payload, options, limit))
            .await
            .map_err(|error| InvokeError::service(error.to_string()))??
    };
    let request_id = work.request_id.clone();
    let mut reply = match kind {
        Kind::DryRun => json(StatusCode::NO_CONTENT, Bytes::new()),
        Kind::Event => {
            service.enqueue(work)?;
            json(StatusCode::ACCEPTED, Bytes::new())
        }
        Kind::RequestResponse => {
            service.submit(work);
            let invocation = answer.await.unwrap_or_else(|_| Err(InvokeError::shut_down()))?;
            let mut reply = json(StatusCode::OK, invocation.payload);
            if let Some(error) = invocation.function_error {
                set(&mut reply, "x-amz-function-error", error.as_str());
            }
            if wants_log {
                set(&mut reply, "x-amz-log-result", &BASE64_STANDARD.encode(&invocation.log_tail));
            }
            set(&mut reply, "x-amz-executed-version", VERSION);
            reply
        }
    };
    set(&mut reply, "x-amzn-requestid", &request_id);
    Ok(reply)
}

/// Reads everything but the payload.
fn parameters(
    service: &Service,
    function: Option<&str>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<(Kind, InvokeOptions, bool), InvokeError> {
    let Some(function) = function else {
        let message =
            "the only operation here is Invoke: POST /2015-03-31/functions/NAME/invocations".to_owned();
        return Err(InvokeError::ResourceNotFound { message });
    };
    let version = query.unwrap_or_default().split('&').find_map(|part| part.strip_prefix("Qualifier="));
    let version = version.map(decode);
    if !service.function().is_called(function) || version.as_deref().is_some_and(|version| version != VERSION)
    {
        let version = version.map(|version| format!(":{version}")).unwrap_or_default();
        let message = format!("Function not found: {function}{version}");
        return Err(InvokeError::ResourceNotFound { message });
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = match text("x-amz-invocation-type") {
        None | Some("RequestResponse") => Kind::RequestResponse,
        Some("Event") => Kind::Event,
        Some("DryRun") => Kind::DryRun,
        Some(other) => return Err(not_in_set(other, "invocationType", "RequestResponse, Event, DryRun")),
    };
    let wants_log = match text("x-amz-log-type") {
        None | Some("None") => false,
        Some("Tail") => true,
        Some(other) => return Err(not_in_set(other, "logType", "None, Tail")),
    };
    let client_context = text("x-amz-client-context").map(client_context).transpose()?;
    let trace_id = text("x-amzn-trace-id").map(str::to_owned);
    let number = |name| match text(name).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(error)) => {
            Err(InvokeError::InvalidParameterValue { message: format!("header {name}: {error}") })
        }
    };
    let timeout = number(TIMEOUT_HEADER)?.map(Duration::from_millis);
    let memory = number(MEMORY_HEADER)?;
    let stop_token = text(STOP_HEADER).map(str::to_owned);
    Ok((kind, InvokeOptions { timeout, memory, stop_token, client_context, trace_id }, wants_log))
}

fn client_context(base64: &str) -> Result<String, InvokeError> {
    let refuse = |why: &str| InvokeError::InvalidRequestContent { message: format!("Client context {why}") };
    if base64.len() > MAX_CLIENT_CONTEXT {
        return Err(refuse(&format!("must be at most {MAX_CLIENT_CONTEXT} bytes of Base64")));
    }
    let bytes =
        BASE64_STANDARD.decode(base64).map_err(|_| refuse("must be a valid Base64-encoded JSON object"))?;
    String::from_utf8(bytes).map_err(|_| refuse("must be a valid Base64-encoded JSON object"))
}

fn not_in_set(value: &str, name: &str, values: &str) -> InvokeError {
    InvokeError::InvalidParameterValue {
        message: format!(
            "Value '{value}' at '{name}' failed to satisfy constraint: Member must be one of [{values}]"
        ),
    }
}

/// The function in the path of an Invoke request.
fn called(path: &str) -> Option<String> {
    let name = path.strip_prefix("/2015-03-31/functions/")?;
    let name = name.strip_suffix('/').unwrap_or(name).strip_suffix("/invocations")?;
    Some(decode(name))
}

/// Undoes percent-encoding; what isn't encoded properly stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn set(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_function_in_the_path() {
        assert_eq!(called("/2015-03-31/functions/f/invocations").as_deref(), Some("f"));
        assert_eq!(called("/2015-03-31/functions/f/invocations/").as_deref(), Some("f"));
        assert_eq!(called("/2015-03-31/functions/a%3ab%3Ac/invocations").as_deref(), Some("a:b:c"));
        assert_eq!(called("/2015-03-31/functions/f"), None);
        assert_eq!(called("/2014-11-13/functions/f/invoke-async"), None);
    }

    #[test]
    fn decodes_what_is_encoded_and_keeps_the_rest() {
        assert_eq!(decode("%24LATEST"), "$LATEST");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%C3%A4"), "ä");
    }

    #[test]
    fn a_client_context_is_base64_of_a_limited_size() {
        assert_eq!(client_context(&BASE64_STANDARD.encode("{}")).unwrap(), "{}");
        for bad in ["{}", &BASE64_STANDARD.encode([0xff]), &"A".repeat(4000)] {
            assert!(matches!(client_context(bad), Err(InvokeError::InvalidRequestContent { .. })), "{bad}");
        }
    }
}
