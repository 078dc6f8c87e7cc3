//! Who asks: the bearer token that is wanted by what is in front of functions, as the front end of Cloud Run.
//!
//! It says who may send requests, and is nothing that functions look at: those with the cluster token are authenticated by
//! [the seal](crate::security::seal).
//!
//! Invariant: a token is never printed, and never sent where somebody else could read it: only over TLS, or to this machine.

use std::{
    env,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header::HeaderValue, http::uri::Scheme};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::client::{is_local, is_transient, shown};
use crate::{
    backend::again::{Outlook, Refusal},
    config::HttpAuth,
    lambda::{CLIENT, chain},
};

/// The variable that names the metadata server to Google's own libraries, and its name if that says nothing.
const HOST: &str = "GCE_METADATA_HOST";
const DEFAULT_HOST: &str = "metadata.google.internal";
/// How long before its end a token is replaced. The metadata server itself keeps one until 4 minutes before that: who asks
/// earlier may get the old one again.
const RENEW: Duration = Duration::from_secs(225);
/// How long the metadata server may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest token: many servers take no longer headers.
const MAX_TOKEN: usize = 16 << 10;

/// Where tokens come from.
pub(super) enum Identity {
    None,
    File(PathBuf),
    Google(Google),
}

impl Identity {
    /// As configured, for requests to this URL. Nothing is asked yet.
    pub(super) fn of(auth: &HttpAuth, uri: &Uri) -> Self {
        match auth {
            HttpAuth::None => Identity::None,
            HttpAuth::File(path) => Identity::File(path.clone()),
            HttpAuth::Google => {
                // Empty means not set, as in the program's own settings.
                let host = env::var(HOST).ok().filter(|host| !host.is_empty());
                Identity::Google(Google::new(host.unwrap_or_else(|| DEFAULT_HOST.to_owned()), audience(uri)))
            }
        }
    }

    /// Whether tokens may be sent to this URL.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, uri: &Uri) -> Result<(), String> {
        if matches!(self, Identity::None)
            || uri.scheme() == Some(&Scheme::HTTPS)
            || is_local(uri.host().unwrap_or_default())
        {
            return Ok(());
        }
        Err(format!(
            "`http_auth` has a bearer token sent with each request, and everybody on the way to {uri} could read it: use \
             `https`, or set CRUCIAL_HTTP_AUTH to `none`"
        ))
    }

    /// The header `Authorization` of the next request.
    pub(super) async fn bearer(&self) -> Result<Option<HeaderValue>, Refusal> {
        match self {
            Identity::None => Ok(None),
            Identity::File(path) => {
                let path = path.clone();
                // A file may be far away.
                let read = tokio::task::spawn_blocking(move || in_file(&path)).await;
                read.expect("it doesn't panic, and nobody aborts it").map(Some)
            }
            Identity::Google(google) => google.bearer().await.map(Some),
        }
    }

    /// Whether there may be a better token than one that was not accepted.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self, Identity::Google(_))
    }

    /// This token was not accepted. Somebody else may have got another one meanwhile.
    pub(super) async fn forget(&self, bearer: &HeaderValue) {
        let Identity::Google(google) = self else { return };
        let mut state = google.state.lock().await;
        if state.token.as_ref().is_some_and(|token| token.bearer == *bearer) {
            state.token = None;
        }
    }
}

/// The token that a file has now.
fn in_file(path: &Path) -> Result<HeaderValue, Refusal> {
    let refusal = |what: &str| {
        let reason = format!(
            "no token from {}: {what}. It should hold the token that CRUCIAL_HTTP_AUTH is about, and nothing else",
            path.display()
        );
        // It may be just about to be replaced.
        Refusal { reason, outlook: Outlook::Trouble }
    };
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_TOKEN as u64 + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| refusal(&error.to_string()))?;
    match text.trim() {
        "" => Err(refusal("it is empty")),
        token => header(token).ok_or_else(|| refusal("what it holds can't be sent in a header")),
    }
}

/// The header with this token.
fn header(token: &str) -> Option<HeaderValue> {
    let is_token =
        !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_token)?;
    // So it is not shown, and remembered by no compression.
    header.set_sensitive(true);
    Some(header)
}

/// Whom tokens are for: Cloud Run wants the URL of the service, without a path.
fn audience(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

/// Identity tokens of the service account of this machine, from the metadata server of Google Cloud.
pub(super) struct Google {
    host: String,
    audience: String,
    /// Locked while a new one is asked for, so that one request does for all.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// When there was none, and why.
    refused: Option<(Instant, Refusal)>,
}

struct Token {
    bearer: HeaderValue,
    expires: SystemTime,
}

impl Google {
    fn new(host: String, audience: String) -> Self {
        Google { host, audience, state: Mutex::default() }
    }

    async fn bearer(&self) -> Result<HeaderValue, Refusal> {
        let start = Instant::now();
        let mut state = self.state.lock().await;
        let lasts = |token: &&Token, time| SystemTime::now() + time < token.expires;
        if let Some(token) = state.token.as_ref().filter(|token| lasts(token, RENEW)) {
            return Ok(token.bearer.clone());
        }
        // Somebody has asked in vain while this one waited.
        if let Some((when, refusal)) = &state.refused
            && *when > start
        {
            return Err(refusal.clone());
        }
        match self.ask().await {
            Ok(token) => Ok(state.token.insert(token).bearer.clone()),
            Err(refusal) => {
                if let Some(token) = state.token.as_ref().filter(|token| lasts(token, Duration::ZERO)) {
                    tracing::info!(reason = refusal.reason, "an identity token is not replaced yet");
                    return Ok(token.bearer.clone());
                }
                state.refused = Some((Instant::now(), refusal.clone()));
                Err(refusal)
            }
        }
    }

    /// A new token.
    async fn ask(&self) -> Result<Token, Refusal> {
        let refusal = |outlook, what: String| {
            let reason = format!(
                "no identity token from Google Cloud's metadata server at {}: {what}. CRUCIAL_HTTP_AUTH = google works on \
                 Google Cloud only, with a service account; elsewhere, put a token into a file, and set it to `file:PATH`",
                self.host
            );
            Refusal { reason, outlook }
        };
        let uri = format!(
            "http://{}/computeMetadata/v1/instance/service-accounts/default/identity?audience={}",
            self.host, self.audience
        );
        let request = Request::get(uri).header("metadata-flavor", "Google").body(Full::<Bytes>::default());
        let request = request.map_err(|error| refusal(Outlook::Final, format!("{HOST}: {error}")))?;
        let exchange = async {
            let answer = CLIENT.request(request).await.map_err(|error| chain(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_TOKEN).collect().await.map_err(|error| chain(&*error))?;
            Ok((head.status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(ANSWER, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")))
            .map_err(|what| refusal(Outlook::Trouble, what))?;
        if status != StatusCode::OK {
            let outlook = if is_transient(status) { Outlook::Trouble } else { Outlook::Final };
            return Err(refusal(outlook, format!("HTTP status {status}: {}", shown(&body))));
        }
        let token = str::from_utf8(&body)
            .ok()
            .map(str::trim)
            .and_then(|token| Some(Token { bearer: header(token)?, expires: expiry(token)? }));
        // What it says may be a token all the same.
        token.ok_or_else(|| refusal(Outlook::Final, "what it answers is no identity token".to_owned()))
    }
}

/// When a JSON Web Token ends. Who issued it is for those to check who get it.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }

    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(claims.exp).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_when_it_ends() {
        let expires = |claims: &str| {
            let since = expiry(&jwt(claims))?.duration_since(SystemTime::UNIX_EPOCH);
            Some(since.unwrap().as_secs())
        };
        assert_eq!(expires(r#"{"aud":"https://a.example","exp":1700000000}"#), Some(1_700_000_000));
        assert_eq!(expires(r#"{"exp":1700000000.5}"#), Some(1_700_000_000));
        // Its Base64 has the letters that URLs have instead of others.
        assert_eq!(expires(r#"{"x":"?>~","exp":1}"#), Some(1));
        for wrong in ["{}", r#"{"exp":"soon"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#, "[]", ""] {
            assert_eq!(expires(wrong), None, "{wrong}");
        }
        for wrong in ["", "a.b", "e30.***.c2ln", "a.b.c.d", "<html>"] {
            assert_eq!(expiry(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_sent() {
        let bearer = header("a.b-c_d").unwrap();
        assert_eq!(bearer, "Bearer a.b-c_d");
        assert!(bearer.is_sensitive() && !format!("{bearer:?}").contains("a.b"));
        for wrong in ["", "two words", "two\nlines", "ä", &"x".repeat(MAX_TOKEN + 1)] {
            assert!(header(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_token_goes_over_tls_or_to_this_machine() {
        let identity = Identity::File("x".into());
        for uri in
            ["https://workers.example", "http://127.0.0.1:8080/run", "http://localhost", "http://[::1]"]
        {
            assert_eq!(identity.check(&uri.parse().unwrap()), Ok(()), "{uri}");
        }
        let elsewhere = "http://workers.example/run".parse().unwrap();
        let reason = identity.check(&elsewhere).unwrap_err();
        for part in ["http_auth", "http://workers.example/run", "`https`", "CRUCIAL_HTTP_AUTH"] {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(Identity::None.check(&elsewhere), Ok(()));
    }

    #[test]
    fn tokens_are_for_the_service_and_not_for_its_paths() {
        for (uri, expected) in [
            ("https://app-1.a.run.app/run?x=1", "https://app-1.a.run.app"),
            ("https://user@app.example:8443", "https://app.example"),
        ] {
            assert_eq!(audience(&uri.parse().unwrap()), expected);
        }
    }
}
