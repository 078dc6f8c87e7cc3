//! HTTP between the deployment and moto: it notes every request, does harm as it is told, and has the parts of AWS that moto
//! lacks, functions that run and machines that start.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::HeaderName,
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{functions::Functions, machines::Machines};

/// What becomes of some requests.
#[derive(Clone, Debug)]
pub enum Fate {
    /// They are answered with this error and not passed on.
    Refuse { status: u16, code: &'static str, message: &'static str },
    /// In their answers, this is replaced by that.
    Edit(&'static str, &'static str),
}

#[derive(Debug, Default)]
struct State {
    /// The action, how often, what.
    fates: Vec<(&'static str, usize, Fate)>,
    /// All actions, as IAM calls them.
    actions: Vec<String>,
    /// A process that is killed when so many more changes were made.
    kill: Option<(usize, i32)>,
}

/// A proxy with all that it needs.
#[derive(Clone)]
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    moto: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    state: Mutex<State>,
    functions: Functions,
    machines: Machines,
}

type Answer = Response<Full<Bytes>>;

impl Proxy {
    pub async fn start(moto: SocketAddr, machines: Machines) -> Proxy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            moto,
            client: Client::builder(TokioExecutor::new()).build_http(),
            state: Mutex::default(),
            functions: Functions::new(address),
            machines,
        });
        let proxy = Proxy { address, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request| {
                    let shared = shared.clone();
                    async move { Ok::<_, hyper::Error>(shared.answer(request).await) }
                });
                // A client that is killed breaks its connection.
                tokio::spawn(async move {
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await)
                });
            }
        });
        proxy
    }

    /// From now on, so many of these requests have this fate.
    pub fn plan(&self, action: &'static str, times: usize, fate: Fate) {
        self.shared.state.lock().unwrap().fates.push((action, times, fate));
    }

    /// Kills a process as soon as it has made so many changes, before it knows of the last.
    pub fn kill_after(&self, changes: usize, process: u32) {
        self.shared.state.lock().unwrap().kill = Some((changes, i32::try_from(process).unwrap()));
    }

    /// Kills nobody any more.
    pub fn spare(&self) {
        self.shared.state.lock().unwrap().kill = None;
    }

    /// What was asked for since this was asked last.
    pub fn actions(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state.lock().unwrap().actions)
    }

    /// What was planned and has not happened.
    pub fn left(&self) -> usize {
        self.shared.state.lock().unwrap().fates.iter().map(|(_, times, _)| times).sum()
    }

    pub fn machines(&self) -> &Machines {
        &self.shared.machines
    }

    /// Sends a request of EC2 as the test itself, and returns the answer's text.
    pub async fn ec2(&self, query: &str) -> String {
        let request = Request::post(format!("http://{}/", self.shared.moto))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(format!("{query}&Version=2016-11-15")))
            .unwrap();
        let answer = self.shared.client.request(request).await.unwrap();
        let status = answer.status();
        let text =
            String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(status.is_success(), "{query}: {text}");
        text
    }
}

/// Whether it only looks.
fn is_read(action: &str) -> bool {
    let verb = action.split(':').nth(1).unwrap_or_default();
    ["Get", "Describe", "List", "Filter"].iter().any(|read| verb.starts_with(read))
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (service, action) = action(&parts, &body);
        let action = format!("{service}:{action}");
        if action == "lambda:InvokeFunction" {
            return self.functions.invoke(&self.client, parts, body).await;
        }
        let fate = {
            let mut state = self.state.lock().unwrap();
            state.actions.push(action.clone());
            let found = state.fates.iter_mut().find(|(of, times, _)| *of == action && *times > 0);
            found.map(|(_, times, fate)| {
                *times -= 1;
                fate.clone()
            })
        };
        if let Some(Fate::Refuse { status, code, message }) = fate {
            return refusal(&service, status, code, message);
        }
        let (head, headers, mut text) = self.pass(&parts, body.clone()).await;
        if let Some(Fate::Edit(from, to)) = fate {
            let old = String::from_utf8_lossy(&text).into_owned();
            assert!(old.contains(from), "{action} is not answered with {from}: {old}");
            text = Bytes::from(old.replace(from, to));
        }
        if head.is_success() {
            match &*service {
                "lambda" => self.functions.look(&action, &body).await,
                "ec2" => self.machines.look(&action, &form(&body), &String::from_utf8_lossy(&text)),
                _ => {}
            }
        }
        if !is_read(&action) {
            let mut state = self.state.lock().unwrap();
            if let Some((changes, process)) = &mut state.kill {
                *changes -= 1;
                if *changes == 0 {
                    let _ = kill_process(Pid::from_raw(*process).unwrap(), Signal::KILL);
                    state.kill = None;
                }
            }
        }
        let mut answer = Response::builder().status(head);
        for (name, value) in headers.iter().filter(|(name, _)| !of_connection(name)) {
            answer = answer.header(name, value);
        }
        answer.body(Full::from(text)).unwrap()
    }

    /// Passes a request on to moto.
    async fn pass(&self, parts: &Parts, body: Bytes) -> (StatusCode, HeaderMap, Bytes) {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("http://{}{path}", self.moto).parse().unwrap();
        let mut request = Request::builder().method(parts.method.clone()).uri(uri);
        for (name, value) in parts.headers.iter().filter(|(name, _)| !of_connection(name)) {
            request = request.header(name, value);
        }
        let answer = self.client.request(request.body(Full::from(body)).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }
}

/// Whether a header is about one connection only.
pub fn of_connection(name: &HeaderName) -> bool {
    ["connection", "content-length", "expect", "host", "transfer-encoding"].contains(&name.as_str())
}

/// A form's fields.
fn form(body: &[u8]) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let text = String::from_utf8_lossy(body);
    text.split('&')
        .filter_map(|field| field.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// The service and the action of a request, as IAM calls them.
fn action(parts: &Parts, body: &[u8]) -> (String, String) {
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scope = header("authorization").split("Credential=").nth(1).unwrap_or_default();
    let service = scope.split('/').nth(3).unwrap_or("none").to_owned();
    let path: Vec<_> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let query = parts.uri.query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|part| part == name || part.starts_with(&format!("{name}=")));
    let method = &parts.method;
    let action = match &*service {
        "logs" => header("x-amz-target").split('.').nth(1).unwrap_or_default(),
        "lambda" => match (method.as_str(), &path[1..]) {
            ("POST", [_]) => "CreateFunction",
            ("GET", [_, _]) => "GetFunction",
            ("DELETE", [_, _]) => "DeleteFunction",
            ("GET", [_, _, "configuration"]) => "GetFunctionConfiguration",
            ("PUT", [_, _, "configuration"]) => "UpdateFunctionConfiguration",
            ("PUT", [_, _, "code"]) => "UpdateFunctionCode",
            ("PUT", [_, _, "concurrency"]) => "PutFunctionConcurrency",
            ("DELETE", [_, _, "concurrency"]) => "DeleteFunctionConcurrency",
            ("POST", [_, _, "invocations"]) => "InvokeFunction",
            other => panic!("what is {other:?}?"),
        },
        "s3" => match (method.as_str(), path.len()) {
            ("PUT", 1) if has("publicAccessBlock") => "PutBucketPublicAccessBlock",
            ("PUT", 1) if has("encryption") => "PutEncryptionConfiguration",
            ("PUT", 1) if has("tagging") => "PutBucketTagging",
            ("PUT", 1) => "CreateBucket",
            ("GET", 1) if has("tagging") => "GetBucketTagging",
            ("GET", 1) => "ListBucket",
            ("DELETE", 1) => "DeleteBucket",
            ("PUT", _) => "PutObject",
            ("GET", _) => "GetObject",
            ("DELETE", _) => "DeleteObject",
            other => panic!("what is {other:?}?"),
        },
        _ => {
            let action = form(body).into_iter().find(|(key, _)| key == "Action").map(|(_, action)| action);
            return (service, action.unwrap_or_default());
        }
    };
    (service, action.to_owned())
}

/// An error, as the service would send it.
fn refusal(service: &str, status: u16, code: &str, message: &str) -> Answer {
    let answer = Response::builder().status(status).header("x-amzn-requestid", "refused-1");
    match service {
        "lambda" | "logs" => answer
            .header("x-amzn-errortype", code)
            .header("content-type", "application/json")
            .body(Full::from(json!({"__type": code, "message": message, "Message": message}).to_string())),
        "ec2" => answer.body(Full::from(format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
             <RequestID>refused-1</RequestID></Response>"
        ))),
        "s3" => {
            answer.body(Full::from(format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")))
        }
        _ => answer.body(Full::from(format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>refused-1</RequestId></ErrorResponse>"
        ))),
    }
    .unwrap()
}

/// All actions that are in a policy.
pub fn allowed(policy: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(policy).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

/// What a request of Lambda has as its zip.
pub fn zip_of(body: &[u8]) -> Option<Vec<u8>> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let zip = request["Code"]["ZipFile"].as_str().or(request["ZipFile"].as_str())?;
    BASE64_STANDARD.decode(zip).ok()
}
