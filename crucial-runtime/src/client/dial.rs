//! Connecting without blocking, for async calls and for presence.

use std::{future::Future, io, sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{Dial, Link, NODE, answer_length, at, patience::Patience, routes::NodeId};
use crate::{
    error::{Error, Result},
    id::SessionId,
    net::Stream,
    wire::Welcome,
};

impl Link {
    /// Connects and greets; tries again while no server is reachable. As [`dial`](Link::dial).
    pub(super) async fn reach(&self, session: SessionId) -> Result<(Stream, Welcome)> {
        let after = self.config.connect_timeout;
        let mut patience = Patience::from_now(after);
        loop {
            let tried = match self.reach_once(session).await {
                Ok(connected) => return Ok(connected),
                Err(Dial::Refused(error)) => return Err(error),
                Err(Dial::Unreachable(tried)) => tried,
            };
            let Some(pause) = patience.pause() else {
                return Err(Error::Unreachable { tried: tried.join("; "), after });
            };
            sleep(pause).await;
        }
    }

    async fn reach_once(&self, session: SessionId) -> Result<(Stream, Welcome), Dial> {
        let mut tried = Vec::new();
        for (place, server) in self.in_turn() {
            match self.meet(server, session, self.each()).await {
                Ok((stream, Ok(welcome))) => {
                    self.answered.store(place, Ordering::Relaxed);
                    return Ok((stream, welcome));
                }
                Ok((_, Err(refusal))) => return Err(Dial::Refused(at(server, refusal))),
                Err(error) => self.not_connected(server, &error, &mut tried)?,
            }
        }
        Err(Dial::Unreachable(tried))
    }

    /// Connects to a node of the cluster, if it can be reached at once. As [`dial_node`](Link::dial_node).
    pub(super) async fn reach_node(&self, node: NodeId, session: SessionId) -> Result<(Stream, Welcome)> {
        let patience = self.config.connect_timeout.min(NODE);
        let failed =
            |reason: String| Error::Unreachable { tried: format!("node {node}: {reason}"), after: patience };
        let address = self.routes.address(node).ok_or_else(|| failed("it is not up".to_owned()))?;
        let met = self.meet(&address, session, patience).await;
        let (stream, welcome) = met.map_err(|e| failed(format!("{address}: {e}")))?;
        Ok((stream, welcome?))
    }

    async fn meet(
        &self,
        server: &str,
        session: SessionId,
        patience: Duration,
    ) -> io::Result<(Stream, Result<Welcome>)> {
        let mut stream = within(patience, Stream::connect(server, &self.security)).await?;
        let greet = async {
            stream.write_all(&self.greeting(session)).await?;
            stream.flush().await?;
            let mut length = [0; 4];
            stream.read_exact(&mut length).await?;
            let mut answer = vec![0; answer_length(length)?];
            stream.read_exact(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = within(patience, greet)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("no greeting: {e}")))?;
        Ok((stream, self.greeted(&answer)))
    }
}

async fn within<T>(patience: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
