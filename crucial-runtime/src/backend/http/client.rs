//! The client's side: a function somewhere, by its URL.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    http::request::Builder,
};

use super::{
    ATTEMPT, FUNCTION, MARK, REQUEST_ID, SEALED,
    connect::{self, Connections},
    identity::Identity,
};
use crate::{
    backend::{
        again::{Outlook, Patience, Refusal, insist, reach},
        invocations::{Answer, Call},
    },
    config::{Config, HttpAuth},
    error::{Error, Result},
    lambda::{chain, request_id},
    security::seal::Seal,
};

/// How much longer than its function an answer may take, if the function has a time.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a function may take to say that it is there. One that is started for the question takes some seconds.
const CHECK: Duration = Duration::from_secs(30);
/// The largest answer. Results that are larger than a few MiB don't travel in it.
const MAX_ANSWER: usize = 64 << 20;
/// How much of a foreign answer an error shows.
const SHOWN: usize = 200;

/// Functions that are served at a URL.
pub(in crate::backend) struct Http {
    url: String,
    uri: Uri,
    seal: Seal,
    auth: HttpAuth,
    identity: Identity,
    patience: Duration,
}

impl Http {
    /// The configured function, which answers.
    ///
    /// # Errors
    /// If a setting is missing, or there is no function of this program at the URL.
    pub(in crate::backend) async fn start(config: &Config) -> Result<Self> {
        let missing =
            |key: &str, reason: &str| Error::NotConfigured { key: key.to_owned(), reason: reason.to_owned() };
        let url = config.http_url.as_deref().ok_or_else(|| {
            missing(
                "http_url",
                "the back end `http` needs the URL where function processes are served (`app crucial function`): set \
                 CRUCIAL_HTTP_URL, or `http_url` in crucial.toml",
            )
        })?;
        let http = Http::of(url, config)?;
        http.connections().map_err(|reason| Error::Refused { reason })?;
        if config.servers.is_empty() && !is_local(http.uri.host().unwrap_or_default()) {
            return Err(missing(
                "servers",
                "functions elsewhere can't reach objects in this process: start a server where they can reach it (`app \
                 crucial serve`), and name it in CRUCIAL_SERVERS",
            ));
        }
        if let Identity::File(_) = http.identity {
            // Nothing makes a file that isn't there.
            http.identity.bearer().await.map_err(|refusal| Error::Refused { reason: refusal.reason })?;
        }
        reach(config.connect_timeout, || http.check()).await?;
        Ok(http)
    }

    /// This function. Nothing is asked before it is invoked.
    pub(in crate::backend) fn of(url: &str, config: &Config) -> Result<Self> {
        let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| Error::Config {
            key: "http_url".to_owned(),
            value: url.to_owned(),
            source_name: "the configuration".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Http {
            url: url.to_owned(),
            seal: Seal::new(config)?,
            auth: config.http_auth.clone(),
            identity: Identity::of(&config.http_auth, &uri),
            patience: config.http_patience,
            uri,
        })
    }

    /// What requests are sent over, if they may be sent.
    fn connections(&self) -> Result<Connections, String> {
        self.identity.check(&self.uri)?;
        Connections::to(&self.uri)
    }

    pub(in crate::backend) fn url(&self) -> &str {
        &self.url
    }

    /// Runs the function, and sends the request again as long as it finds none free or gets no answer.
    pub(in crate::backend) async fn invoke(&self, payload: Bytes, call: &Call<'_>) -> Result<Answer> {
        let limit = call.options.timeout.map(|timeout| timeout.saturating_add(ANSWER));
        let patience = Patience {
            trouble: self.patience,
            setting: "http_patience",
            all: limit.map(|limit| limit.saturating_add(self.patience)),
        };
        insist(&patience, call, || self.send(payload.clone(), call, limit)).await
    }

    async fn send(
        &self,
        payload: Bytes,
        call: &Call<'_>,
        limit: Option<Duration>,
    ) -> Result<Answer, Refusal> {
        let (body, asked) = self.seal.request(payload);
        let mut request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, if self.seal.is_keyed() { SEALED } else { "application/json" })
            .header(REQUEST_ID, request_id())
            .header(ATTEMPT, call.attempt);
        // A name in Rust may have any letters.
        if let Ok(name) = HeaderValue::from_bytes(call.function.name.as_bytes()) {
            request = request.header(FUNCTION, name);
        }
        let said = self.exchange(request, body, limit).await?;
        if said.mark() != Some("outcome") {
            return Err(self.refusal(&said));
        }
        match self.seal.open_answer(&asked, said.body) {
            Some(payload) => Ok(Answer { payload, error: None, log: String::new() }),
            None => Err(Refusal {
                reason: format!(
                    "the answer of the function at {} is not sealed with this program's cluster token: set \
                     CRUCIAL_TOKEN_FILE or CRUCIAL_TOKEN to the same token here and there",
                    self.url
                ),
                outlook: Outlook::Final,
            }),
        }
    }

    /// Asks whether a function is there, which runs nothing.
    async fn check(&self) -> Result<(), Refusal> {
        let said = self.exchange(Request::get(self.uri.clone()), Bytes::new(), Some(CHECK)).await?;
        match said.mark() {
            Some("ready" | "stopping") => Ok(()),
            _ => Err(self.refusal(&said)),
        }
    }

    async fn exchange(
        &self,
        request: Builder,
        body: Bytes,
        limit: Option<Duration>,
    ) -> Result<Said, Refusal> {
        let trouble = |what: &str| {
            let reason = format!(
                "no answer from {}: {what}. Is `app crucial function` running there, and is CRUCIAL_HTTP_URL right?",
                self.url
            );
            Refusal { reason, outlook: Outlook::Trouble }
        };
        let connections = self.connections().map_err(|reason| Refusal { reason, outlook: Outlook::Final })?;
        let failed = |error| match connect::refusal(&error) {
            Some(reason) => {
                Refusal { reason: format!("no request to {}: {reason}", self.url), outlook: Outlook::Final }
            }
            None => trouble(&chain(&error)),
        };
        let exchange = async {
            let mut request = request.body(Full::new(body)).map_err(|error| trouble(&chain(&error)))?;
            let mut sent_again = false;
            loop {
                let bearer = self.identity.bearer().await?;
                let again = self.identity.is_renewable().then(|| request.clone());
                if let Some(bearer) = &bearer {
                    request.headers_mut().insert(AUTHORIZATION, bearer.clone());
                }
                let answer = connections.request(request).await.map_err(failed)?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, MAX_ANSWER).collect();
                let body = body.await.map_err(|error| trouble(&chain(&*error)))?.to_bytes();
                let said = Said { status: head.status, mark: head.headers.get(MARK).cloned(), body };
                match (bearer, again) {
                    // The clock of this machine may be wrong, or the token revoked.
                    (Some(bearer), Some(again)) if !sent_again && said.is_unauthorized() => {
                        self.identity.forget(&bearer).await;
                        (request, sent_again) = (again, true);
                    }
                    _ => return Ok(said),
                }
            }
        };
        match limit {
            None => exchange.await,
            Some(limit) => tokio::time::timeout(limit, exchange)
                .await
                .unwrap_or_else(|_| Err(trouble(&format!("none within {limit:?}")))),
        }
    }

    /// What an answer means that is not the one that was asked for.
    fn refusal(&self, said: &Said) -> Refusal {
        let (url, status) = (&self.url, said.status);
        let (outlook, reason) = match said.mark() {
            Some("busy") => (Outlook::Busy, format!("no function is free at {url}")),
            Some("stopping") => (Outlook::Trouble, format!("the function at {url} is stopping")),
            Some(_) => {
                (Outlook::Final, format!("the function at {url} refused the request: {}", said.shown()))
            }
            None if is_transient(status) => (
                Outlook::Trouble,
                format!("{url} reaches no function: HTTP status {status}: {}", said.shown()),
            ),
            None => (
                Outlook::Final,
                format!(
                    "{url} does not answer as a function of crucial: HTTP status {status}: {}. Is CRUCIAL_HTTP_URL right, \
                     and does `app crucial function` run there?{}",
                    said.shown(),
                    self.who(status)
                ),
            ),
        };
        Refusal { reason, outlook }
    }

    /// What else to look at if an answer is about who asks.
    fn who(&self, status: StatusCode) -> String {
        match (status, &self.auth) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, HttpAuth::None) => {
                " If a token is wanted there, as on Cloud Run, set CRUCIAL_HTTP_AUTH to `google` or `file:PATH`".to_owned()
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, auth) => format!(
                " The token of CRUCIAL_HTTP_AUTH = {auth} was sent: is it for this service, and may its owner invoke it (on \
                 Cloud Run: roles/run.invoker)?"
            ),
            _ => String::new(),
        }
    }
}

/// An answer, whoever gave it.
struct Said {
    status: StatusCode,
    mark: Option<HeaderValue>,
    body: Bytes,
}

impl Said {
    fn mark(&self) -> Option<&str> {
        // What isn't text is no mark that anybody knows.
        self.mark.as_ref().map(|mark| mark.to_str().unwrap_or_default())
    }

    fn shown(&self) -> String {
        shown(&self.body)
    }

    /// Whether something before the functions does not accept who asks.
    fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && self.mark.is_none()
    }
}

/// The beginning of what an answer says.
pub(super) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let end = text.floor_char_boundary(SHOWN.min(text.len()));
    let more = if end < text.len() { "..." } else { "" };
    format!("`{}{more}`", &text[..end])
}

/// Whether something between here and the functions says that it can't reach one for the moment.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Whether a host is this machine.
pub(super) fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ingress_without_functions_passes_and_a_wrong_url_stays() {
        for status in [429, 500, 502, 503, 504] {
            assert!(is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 413, 501] {
            assert!(!is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    #[test]
    fn objects_in_this_process_are_only_for_functions_on_this_machine() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["workers", "10.0.0.1", "localhost.example.org", "0.0.0.0"] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn a_long_page_is_cut_between_letters() {
        let said = |text: &str| Said { status: StatusCode::OK, mark: None, body: text.to_owned().into() };
        assert_eq!(said("  no\n").shown(), "`no`");
        let long = said(&"ä".repeat(150)).shown();
        assert_eq!(long, format!("`{}...`", "ä".repeat(100)));
    }
}
