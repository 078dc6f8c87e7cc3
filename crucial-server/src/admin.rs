//! The control plane: administration of a node, over tarpc.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;

use crucial_runtime::{
    error::{Error, Result},
    net::{self, TcpStream},
    wire::{MAGIC, Plane},
};
use tarpc::{
    client::{self, RpcError},
    context::{self, Context},
    server::{BaseChannel, Channel},
    tokio_util::codec::{Framed, LengthDelimitedCodec},
};
use tokio::io::AsyncWriteExt;
use tokio_serde::formats::MessagePack;

use crate::node::{Node, Status};

/// What a person can ask a node.
#[tarpc::service]
pub trait Admin {
    /// The node's state.
    async fn status() -> Status;
    /// Gives away all that the node has, and takes it out of its cluster.
    async fn leave() -> Result<()>;
}

fn framed(stream: TcpStream) -> Framed<TcpStream, LengthDelimitedCodec> {
    Framed::new(stream, LengthDelimitedCodec::new())
}

#[derive(Clone)]
struct Served(Arc<Node>);

impl Admin for Served {
    async fn status(self, _: Context) -> Status {
        self.0.status()
    }

    async fn leave(self, _: Context) -> Result<()> {
        self.0.retire(true).await
    }
}

/// How many requests of one connection are answered at once.
const AT_ONCE: usize = 16;

/// Answers requests on a connection until the peer closes it.
pub(crate) async fn serve(node: Arc<Node>, stream: TcpStream) {
    let transport = tarpc::serde_transport::new(framed(stream), MessagePack::default());
    BaseChannel::with_defaults(transport)
        .execute(Served(node).serve())
        .for_each_concurrent(AT_ONCE, |answer| answer)
        .await;
}

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a node may take to leave its cluster.
const LEAVING: Duration = Duration::from_secs(60);

/// Asks the node at `address` (`host:port`) for its state.
///
/// # Errors
/// If it can't be reached, or doesn't answer.
pub async fn status(address: &str) -> Result<Status> {
    ask(address, PATIENCE, |admin, cx| async move { admin.status(cx).await }).await
}

/// Takes the node at `address` (`host:port`) out of its cluster. Others have what it had when this returns.
///
/// # Errors
/// If it can't be reached, belongs to no cluster, or is the last node of it.
pub async fn leave(address: &str) -> Result<()> {
    ask(address, LEAVING, |admin, cx| async move { admin.leave(cx).await }).await?
}

async fn ask<R, F>(
    address: &str,
    patience: Duration,
    ask: impl FnOnce(AdminClient, Context) -> F,
) -> Result<R>
where
    F: Future<Output = Result<R, RpcError>>,
{
    let failed = |error: String| Error::Unreachable { tried: format!("{address}: {error}"), after: patience };
    let asked = async {
        let mut stream = TcpStream::connect(address).await.map_err(|e| failed(e.to_string()))?;
        net::prepare(&stream).map_err(|e| failed(e.to_string()))?;
        stream.write_all(MAGIC).await.map_err(|e| failed(e.to_string()))?;
        stream.write_u8(Plane::Control as u8).await.map_err(|e| failed(e.to_string()))?;
        let transport = tarpc::serde_transport::new(framed(stream), MessagePack::default());
        let admin = AdminClient::new(client::Config::default(), transport).spawn();
        let mut context = context::current();
        context.deadline = Instant::now() + patience;
        ask(admin, context).await.map_err(|e| failed(e.to_string()))
    };
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(failed("no answer".to_owned())))
}
