//! The control plane: administration of a node, over tarpc. Before that, the node answers the greeting with one frame that
//! holds `Result<(), Error>`.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;

use crucial_runtime::{
    codec,
    config::Config,
    error::{Error, Result},
    net::Stream,
    security::{self, Security},
    wire::{self, MAGIC, Plane},
};
use tarpc::{
    client::{self, RpcError},
    context::{self, Context},
    server::{BaseChannel, Channel},
    tokio_util::codec::{Framed, LengthDelimitedCodec},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_serde::formats::MessagePack;

use crate::node::{Node, Status};

/// What a person can ask a node.
#[tarpc::service]
pub trait Admin {
    /// The node's state.
    async fn status() -> Status;
    /// Gives away all that the node has, and takes it out of its cluster; or says why not. An [`Error`] would say the same, but to
    /// decode that here takes 100 KB of each user's program.
    async fn leave() -> Result<(), String>;
}

fn framed(stream: Stream) -> Framed<Stream, LengthDelimitedCodec> {
    Framed::new(stream, LengthDelimitedCodec::new())
}

#[derive(Clone)]
struct Served(Arc<Node>);

impl Admin for Served {
    async fn status(self, _: Context) -> Status {
        self.0.status()
    }

    async fn leave(self, _: Context) -> Result<(), String> {
        self.0.retire(true).await.map_err(|error| match error {
            Error::Refused { reason } => reason,
            error => error.to_string(),
        })
    }
}

/// How many requests of one connection are answered at once.
const AT_ONCE: usize = 16;

/// Answers requests on a connection until the peer closes it.
pub(crate) async fn serve(node: Arc<Node>, mut stream: Stream) {
    let welcome = wire::value_frame(&Result::<()>::Ok(()));
    if stream.write_all(&welcome).await.is_err() || stream.flush().await.is_err() {
        return;
    }
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
/// If it can't be reached, refuses, or doesn't answer.
pub async fn status(address: &str, config: &Config) -> Result<Status> {
    ask(address, config, PATIENCE, |admin, cx| async move { admin.status(cx).await }).await
}

/// Takes the node at `address` (`host:port`) out of its cluster. Others have what it had when this returns.
///
/// # Errors
/// If it can't be reached, refuses, belongs to no cluster, or is the last node of it.
pub async fn leave(address: &str, config: &Config) -> Result<()> {
    let left = ask(address, config, LEAVING, |admin, cx| async move { admin.leave(cx).await }).await?;
    left.map_err(|reason| Error::Refused { reason })
}

async fn ask<R, F>(
    address: &str,
    config: &Config,
    patience: Duration,
    ask: impl FnOnce(AdminClient, Context) -> F,
) -> Result<R>
where
    F: Future<Output = Result<R, RpcError>>,
{
    let failed =
        |error: &dyn fmt::Display, after| Error::Unreachable { tried: format!("{address}: {error}"), after };
    let refused = |reason: &dyn fmt::Display| Error::Refused { reason: format!("{address}: {reason}") };
    let security = Security::new(config)?;
    let reach = async {
        let mut stream = Stream::connect(address, &security).await.map_err(|error| {
            if security::is_refusal(&error) { refused(&error) } else { failed(&error, PATIENCE) }
        })?;
        let answer =
            greet(&mut stream).await.map_err(|e| failed(&format_args!("no greeting: {e}"), PATIENCE))?;
        codec::decode::<Result<()>>("the server's greeting", &answer)?.map_err(|error| match error {
            Error::Refused { reason } => refused(&reason),
            error => error,
        })?;
        let transport = tarpc::serde_transport::new(framed(stream), MessagePack::default());
        Ok(AdminClient::new(client::Config::default(), transport).spawn())
    };
    let late = |after| failed(&"no answer", after);
    // To do what is asked may take longer than to say that one is there.
    let admin = timeout(PATIENCE, reach).await.unwrap_or_else(|_| Err(late(PATIENCE)))?;
    let mut context = context::current();
    context.deadline = Instant::now() + patience;
    let asked = timeout(patience, ask(admin, context)).await.map_err(|_| late(patience))?;
    asked.map_err(|error| failed(&error, patience))
}

/// Says that this is about administration; returns the node's answer.
async fn greet(stream: &mut Stream) -> io::Result<Vec<u8>> {
    stream.write_all(MAGIC).await?;
    stream.write_u8(Plane::Control as u8).await?;
    stream.flush().await?;
    let length = stream.read_u32_le().await? as usize;
    if length > wire::GREETING_LIMIT {
        return Err(io::Error::other("this is no DSO server"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
