//! etcd: a replicated store of keys and values, with three nodes.
//!
//! Its clients speak gRPC; these are the two calls and the fields that count.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use hyper::http::uri::PathAndQuery;
use prost::Message;
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

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
        peers::free_port,
        report::Peer,
    },
    cluster::folder::Folder,
};

const PROGRAM: &str = "etcd";
const NODES: usize = 3;
/// How many connections many clients share.
const CHANNELS: usize = 4;
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The nodes, with blocks.
pub(super) struct Etcd {
    nodes: Nodes,
    clients: Clients<Kv>,
}

/// The nodes alone.
pub(in crate::bench) struct Nodes {
    name: String,
    endpoints: Vec<String>,
    ports: Vec<u16>,
    children: Vec<Child>,
    /// Goes after the nodes.
    _folder: Folder,
}

impl Nodes {
    /// Starts three nodes; what to install if it is not.
    pub(in crate::bench) fn start() -> Result<Result<Self, Peer>, Error> {
        let version = match Command::new(PROGRAM).arg("--version").output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Err(Peer::Missing {
                    name: "etcd, 3 nodes".to_owned(),
                    install: "apt-get install etcd-server",
                }));
            }
            Err(error) => return Err(error.into()),
        };
        let version =
            version.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned();
        let folder = Folder::temporary(&disk()?, "bench-etcd")?;
        let (mut urls, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let (client, peer) = (free_port()?, free_port()?);
            let url = |port| format!("http://127.0.0.1:{port}");
            urls.push((url(client), url(peer)));
            ports.push(peer);
        }
        let all: Vec<_> = urls.iter().enumerate().map(|(i, (_, peer))| format!("n{i}={peer}")).collect();
        let all = all.join(",");
        let mut children = Vec::new();
        for (i, (client, peer)) in urls.iter().enumerate() {
            let (name, data) = (format!("n{i}"), folder.path().join(format!("n{i}")));
            let log = folder.path().join(format!("log{i}"));
            let (data, log) = (data.to_string_lossy(), log.to_string_lossy());
            let args = [
                ["--name", &name],
                ["--data-dir", &data],
                ["--listen-client-urls", client],
                ["--advertise-client-urls", client],
                ["--listen-peer-urls", peer],
                ["--initial-advertise-peer-urls", peer],
                ["--initial-cluster", &all],
                ["--logger", "zap"],
                ["--log-outputs", &log],
            ];
            children.push(Child::start(OsStr::new(PROGRAM), args.concat(), &[], Pipes::Neither)?);
        }
        let endpoints = urls.into_iter().map(|(client, _)| client).collect();
        let nodes =
            Nodes { name: format!("etcd {version}, 3 nodes"), endpoints, ports, children, _folder: folder };
        nodes.await_leader()?;
        Ok(Ok(nodes))
    }

    fn await_leader(&self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let start = Instant::now();
        loop {
            let attempt = runtime.block_on(async {
                let put = async { Kv::connect(&self.endpoints)?.set(0).await };
                tokio::time::timeout(Duration::from_secs(2), put).await
            });
            match attempt {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if start.elapsed() > PATIENCE => return Err(error),
                Err(_) if start.elapsed() > PATIENCE => {
                    return Err(Error::Message(format!("{PROGRAM} did not start")));
                }
                _ => sleep(Duration::from_millis(200)),
            }
        }
    }

    pub(in crate::bench) fn name(&self) -> &str {
        &self.name
    }

    /// Where they talk to each other.
    pub(in crate::bench) fn ports(&self) -> &[u16] {
        &self.ports
    }

    pub(in crate::bench) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::pid).collect()
    }
}

/// Starts it; what to install if it is not.
pub(super) fn start() -> Result<Result<Box<dyn Contestant>, Peer>, Error> {
    let nodes = match Nodes::start()? {
        Ok(nodes) => nodes,
        Err(missing) => return Ok(Err(missing)),
    };
    let mut clients = Clients::connect(CHANNELS, || async { Kv::connect(&nodes.endpoints) })?;
    clients.fill(OBJECTS)?;
    Ok(Ok(Box::new(Etcd { nodes, clients })))
}

impl Contestant for Etcd {
    fn name(&self) -> String {
        self.nodes.name.clone()
    }

    fn pids(&self) -> Vec<u32> {
        self.nodes.pids()
    }

    fn turn(&mut self, operation: Operation, clients: usize, time: Duration) -> Result<Taken, Error> {
        self.clients.turn(operation, clients, OBJECTS, time)
    }
}

/// The calls. They go to the nodes in turn, as those of etcd's own clients.
#[derive(Clone)]
struct Kv {
    grpc: Grpc<Channel>,
    payload: Vec<u8>,
}

impl Kv {
    fn connect(endpoints: &[String]) -> Result<Self, Error> {
        let endpoints: Result<Vec<_>, _> =
            endpoints.iter().map(|url| Endpoint::from_shared(url.clone())).collect();
        let endpoints = endpoints.map_err(|error| Error::Message(error.to_string()))?;
        Ok(Kv { grpc: Grpc::new(Channel::balance_list(endpoints.into_iter())), payload: vec![b'x'; SIZE] })
    }

    async fn ask<Q, A>(&mut self, path: &'static str, question: Q) -> Result<A, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let failed = |error: &dyn std::fmt::Display| Error::Message(format!("{PROGRAM}: {error}"));
        self.grpc.ready().await.map_err(|error| failed(&error))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.grpc.unary(Request::new(question), PathAndQuery::from_static(path), codec).await;
        Ok(answer.map_err(|error| failed(&error))?.into_inner())
    }
}

impl Client for Kv {
    async fn set(&mut self, block: usize) -> Result<(), Error> {
        let put = Put { key: key(block), value: self.payload.clone() };
        let Nothing {} = self.ask("/etcdserverpb.KV/Put", put).await?;
        Ok(())
    }

    async fn get(&mut self, block: usize) -> Result<usize, Error> {
        let found: Found = self.ask("/etcdserverpb.KV/Range", Range { key: key(block) }).await?;
        Ok(found.pairs.first().map_or(0, |pair| pair.value.len()))
    }
}

fn key(block: usize) -> Vec<u8> {
    format!("block {block}").into_bytes()
}

#[derive(Clone, PartialEq, Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// An answer of which nothing is needed.
#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// A read. Without `serializable` it is linearizable.
#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Found {
    #[prost(message, repeated, tag = "2")]
    pairs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}
