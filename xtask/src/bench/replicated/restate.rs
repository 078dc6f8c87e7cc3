//! Restate: virtual objects behind HTTP, with one node. The objects are in a service of their own, `peers/restate`.

use std::{
    env::consts::ARCH,
    ffi::OsStr,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{
    OBJECTS, Operation,
    client::{Client, Clients, Contestant, Taken},
};
use crate::{
    Error,
    bench::{
        child::{Child, Pipes},
        cluster::disk,
        objects::SIZE,
        peers::{folder, free_port},
        report::Peer,
    },
    cluster::folder::Folder,
};

const INSTALL: &str = "npm install --prefix $PEERS/restate @restatedev/restate-server && \
                       cargo install --path xtask/peers/restate --root $PEERS/restate";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Restate {
    name: String,
    children: [Child; 2],
    clients: Clients<Http>,
    /// Goes after the server.
    _folder: Folder,
}

/// The server and the service, if both are installed.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let folder = folder()?.join("restate");
    let arch = if ARCH == "aarch64" { "arm64" } else { "x64" };
    let server = format!("node_modules/@restatedev/restate-server-linux-{arch}/bin/restate-server");
    let (server, service) = (folder.join(server), folder.join("bin/restate-block"));
    (server.is_file() && service.is_file()).then_some((server, service))
}

/// Starts it; what to install if it is not.
pub(super) fn start() -> Result<Result<Box<dyn Contestant>, Peer>, Error> {
    let Some((server, service)) = programs() else {
        return Ok(Err(Peer::Missing { name: "Restate, 1 node".to_owned(), install: INSTALL }));
    };
    let version = std::process::Command::new(&server).arg("--version").output()?;
    let version =
        String::from_utf8_lossy(&version.stdout).split_whitespace().nth(1).unwrap_or_default().to_owned();
    let data = Folder::temporary(&disk()?, "bench-restate")?;
    let [own, ingress, admin, objects] = [free_port()?, free_port()?, free_port()?, free_port()?];
    let local = |port: u16| format!("127.0.0.1:{port}");
    let settings = [
        ("DO_NOT_TRACK", "1".to_owned()),
        ("RUST_LOG", "off".to_owned()),
        ("RESTATE_BIND_ADDRESS", local(own)),
        ("RESTATE_INGRESS__BIND_ADDRESS", local(ingress)),
        ("RESTATE_ADMIN__BIND_ADDRESS", local(admin)),
    ];
    let base = data.path().to_string_lossy();
    let service = Child::start(service.as_os_str(), [objects.to_string()], &[], Pipes::Neither)?;
    let args = ["--base-dir", &base, "--node-name", "n1"];
    let server = Child::start(OsStr::new(&server), args, &settings, Pipes::Neither)?;
    let connect = || async { Ok(Http::new(format!("http://{}", local(ingress)))) };
    let mut clients = Clients::connect(1, connect)?;
    register(&local(admin), &local(objects))?;
    clients.fill(OBJECTS)?;
    let name = format!("Restate {version}, 1 node");
    Ok(Ok(Box::new(Restate { name, children: [server, service], clients, _folder: data })))
}

/// Tells the server of the service, as soon as both are there.
fn register(admin: &str, service: &str) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    loop {
        let body = format!(r#"{{"uri":"http://{service}"}}"#);
        let http = Http::new(format!("http://{admin}"));
        match runtime.block_on(http.ask("/deployments", "application/json", body.into())) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => sleep(Duration::from_millis(200)),
        }
    }
}

impl Contestant for Restate {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::pid).collect()
    }

    fn turn(&mut self, operation: Operation, clients: usize, time: Duration) -> Result<Taken, Error> {
        self.clients.turn(operation, clients, OBJECTS, time)
    }
}

/// An HTTP client, which opens connections as it needs them.
#[derive(Clone)]
struct Http {
    client: legacy::Client<HttpConnector, Full<Bytes>>,
    base: String,
    payload: Bytes,
}

impl Http {
    fn new(base: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Http { client, base, payload: vec![b'x'; SIZE].into() }
    }

    async fn ask(&self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Message(format!("Restate: {error}"));
        let mut request = Request::builder().method(Method::POST).uri(format!("{}{path}", self.base));
        if !body.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
        let answer = self.client.request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(failed(&format!("{status}, {}", String::from_utf8_lossy(&bytes))))
        }
    }
}

impl Client for Http {
    async fn set(&mut self, block: usize) -> Result<(), Error> {
        let path = format!("/Block/block{block}/set");
        self.ask(&path, "application/octet-stream", self.payload.clone()).await.map(drop)
    }

    async fn get(&mut self, block: usize) -> Result<usize, Error> {
        Ok(self.ask(&format!("/Block/block{block}/get"), "", Bytes::new()).await?.len())
    }
}
