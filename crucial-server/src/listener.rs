//! The server's socket.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use crucial_runtime::{
    error::{Error, Result},
    net::TcpListener,
};
use tokio::task::JoinSet;

use crate::{connection, node::Node};

/// How often leases are looked at.
const EXPIRY: Duration = Duration::from_millis(500);

/// A node's listening socket.
#[derive(Debug)]
pub struct Listener {
    node: Arc<Node>,
    socket: TcpListener,
    spin: Duration,
}

impl Listener {
    /// Listens at `address` (`host:port`; port 0 takes a free one).
    ///
    /// # Errors
    /// If the address is wrong or in use.
    pub async fn bind(node: Arc<Node>, address: &str, spin: Duration) -> Result<Self> {
        let socket =
            TcpListener::bind(address).await.map_err(|e| Error::io(format!("listening at {address}"), &e))?;
        Ok(Listener { node, socket, spin })
    }

    /// The node that it serves.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves connections until the future is dropped, and closes them then.
    pub async fn serve(self) {
        let mut connections = JoinSet::new();
        let mut expiry = tokio::time::interval(EXPIRY);
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection::serve(self.node.clone(), stream, self.spin));
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely: wait for connections to close.
                        tracing::error!(%error, "can't accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = expiry.tick() => self.node.expire(),
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        tracing::error!(%error, "a connection's task panicked: this is a defect");
                    }
                }
            }
        }
    }
}
