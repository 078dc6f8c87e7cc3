//! A small client of the Invoke API, for function processes that call functions.

use std::{sync::LazyLock, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{
    error::InvokeError,
    invocation::{
        FunctionError, Invocation, InvokeOptions, MEMORY_HEADER, STOP_HEADER, STOP_PATH, TIMEOUT_HEADER,
    },
    log::Figures,
};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the system looks whether the other end of a quiet connection is there, and how often in vain.
const PROBE: Duration = Duration::from_secs(20);
const PROBES: u32 = 6;

/// One pool of connections for the whole process.
pub(crate) static CLIENT: LazyLock<Client<HttpConnector, Full<Bytes>>> =
    LazyLock::new(|| Client::builder(TokioExecutor::new()).build(connector()));

/// Makes the connections of a client.
pub(crate) fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(PROBE));
    connector.set_keepalive_interval(Some(PROBE));
    connector.set_keepalive_retries(Some(PROBES));
    connector
}

/// Runs a function through the Invoke API at `endpoint` and waits for its answer.
///
/// `endpoint` is `host:port`, with or without `http://`; `function` is a name or an ARN. Requests aren't signed,
/// so this is for the local service. Connections are kept and reused. Of the options, the limits are passed on: in
/// headers of the local service's own, since Lambda's API has none for them.
///
/// # Errors
/// If the function was not run, or the service could not be reached ([`InvokeError::Transport`]).
pub async fn invoke_http(
    endpoint: &str,
    function: &str,
    payload: Bytes,
    options: &InvokeOptions,
) -> Result<Invocation, InvokeError> {
    let failed = |message: String| InvokeError::Transport { endpoint: endpoint.to_owned(), message };
    let host = host(endpoint);
    // A colon is a separator in an ARN and data in a path.
    let function = function.replace('%', "%25").replace(':', "%3A").replace('/', "%2F").replace(' ', "%20");
    let mut request = Request::post(format!("http://{host}/2015-03-31/functions/{function}/invocations"))
        .header(CONTENT_TYPE, "application/json")
        .header("x-amz-log-type", "Tail");
    if let Some(timeout) = options.timeout {
        request = request.header(TIMEOUT_HEADER, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(memory) = options.memory {
        request = request.header(MEMORY_HEADER, memory);
    }
    if let Some(token) = &options.stop_token {
        request = request.header(STOP_HEADER, token);
    }
    let request = request.body(Full::new(payload)).map_err(|error| failed(error.to_string()))?;
    let response = CLIENT.request(request).await.map_err(|error| failed(chain(&error)))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| failed(chain(&error)))?.to_bytes();
    let header = |name| text(&parts.headers, name);
    if parts.status != StatusCode::OK {
        return Err(InvokeError::from_answer(parts.status.as_u16(), header("x-amzn-errortype"), &body));
    }
    let log_tail = BASE64_STANDARD.decode(header("x-amz-log-result")).unwrap_or_default();
    let log_tail = String::from_utf8_lossy(&log_tail).into_owned();
    let Figures { duration, max_memory, init, .. } = Figures::read(&log_tail).unwrap_or_default();
    Ok(Invocation {
        request_id: header("x-amzn-requestid").to_owned(),
        payload: body,
        function_error: parts
            .headers
            .get("x-amz-function-error")
            .map(|value| FunctionError::from_header(value.to_str().unwrap_or_default())),
        log_tail,
        duration,
        init_duration: init,
        max_memory_mb: max_memory,
        cold_start: init.is_some(),
    })
}

/// Stops an invocation at the local service at `endpoint`, as [`LocalLambda::stop`](super::LocalLambda::stop).
pub async fn stop_http(endpoint: &str, token: &str) -> bool {
    let request = Request::delete(format!("http://{}{STOP_PATH}{token}", host(endpoint)));
    let Ok(request) = request.body(Full::default()) else { return false };
    CLIENT.request(request).await.is_ok_and(|response| response.status().is_success())
}

fn host(endpoint: &str) -> &str {
    endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/')
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// An error with its causes: hyper's own message says only which step failed.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
