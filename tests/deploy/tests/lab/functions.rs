//! What moto lacks of Lambda: the program in the zip runs, on our local implementation.

use std::{
    fs,
    io::{Cursor, Read},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use crucial_runtime::lambda::{Function, LocalLambda};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, http::request::Parts};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use serde_json::Value;
use tokio::sync::Mutex;

use super::proxy::{of_connection, zip_of};

/// The functions: there is one at most.
pub struct Functions {
    /// Where the proxy is: functions that start cloud threads need it.
    proxy: SocketAddr,
    is: Mutex<Option<Running>>,
    number: AtomicUsize,
}

struct Running {
    name: String,
    env: Vec<(String, String)>,
    program: PathBuf,
    lambda: LocalLambda,
}

impl Functions {
    pub fn new(proxy: SocketAddr) -> Functions {
        Functions { proxy, is: Mutex::default(), number: AtomicUsize::new(0) }
    }

    /// Sees what moto was told, and does it.
    pub async fn look(&self, action: &str, body: &[u8]) {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let variables = request["Environment"]["Variables"].as_object();
        let env = variables.map(|variables| {
            variables.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
        });
        let mut is = self.is.lock().await;
        let (name, env, program) = match action {
            "lambda:CreateFunction" => {
                let name = request["FunctionName"].as_str().unwrap().to_owned();
                (name, env.unwrap_or_default(), self.unpack(&zip_of(body).unwrap()))
            }
            "lambda:UpdateFunctionCode" => {
                let Running { name, env, .. } = is.take().unwrap();
                (name, env, self.unpack(&zip_of(body).unwrap()))
            }
            "lambda:UpdateFunctionConfiguration" => {
                let Running { name, env: old, program, .. } = is.take().unwrap();
                (name, env.unwrap_or(old), program)
            }
            "lambda:DeleteFunction" => {
                *is = None;
                return;
            }
            _ => return,
        };
        let own = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.proxy)),
            ("CRUCIAL_LEASE", "2s".to_owned()),
            ("RUST_BACKTRACE", "0".to_owned()),
        ];
        let all = env.iter().map(|(key, value)| (key.into(), value.into()));
        let all = all.chain(own.into_iter().map(|(key, value)| (key.into(), value.into()))).collect();
        let function = Function { env: all, ..Function::new(&*name, &program) };
        let lambda = LocalLambda::start(function, |_| ()).await.unwrap();
        *is = Some(Running { name, env, program, lambda });
    }

    /// The program of a zip, as Lambda unpacks it.
    fn unpack(&self, zip: &[u8]) -> PathBuf {
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let mut file = archive.by_name("bootstrap").expect("the zip has a bootstrap");
        let mode = file.unix_mode().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "function-{}-{}-{number}",
            std::process::id(),
            self.proxy.port()
        ));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("bootstrap");
        fs::write(&program, bytes).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        program
    }

    /// Passes an invocation on.
    pub async fn invoke(
        &self,
        client: &Client<HttpConnector, Full<Bytes>>,
        parts: Parts,
        body: Bytes,
    ) -> Response<Full<Bytes>> {
        let Some(endpoint) = self.is.lock().await.as_ref().map(|running| running.lambda.endpoint()) else {
            let text = r#"{"Type":"User","Message":"Function not found"}"#;
            let answer =
                Response::builder().status(404).header("x-amzn-errortype", "ResourceNotFoundException");
            return answer.body(Full::from(text)).unwrap();
        };
        let mut request =
            Request::builder().method(parts.method).uri(format!("http://{endpoint}{}", parts.uri));
        for (name, value) in parts.headers.iter().filter(|(name, _)| !of_connection(name)) {
            request = request.header(name, value);
        }
        let answer = client.request(request.body(Full::from(body)).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        Response::from_parts(parts, Full::from(body.collect().await.unwrap().to_bytes()))
    }
}
