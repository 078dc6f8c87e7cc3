//! The server's socket.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crucial_runtime::{
    config::Config,
    error::{Error, Result},
    net::{self, TcpListener},
    security::{self, Security},
};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{connection, node::Node};

/// How often leases are looked at.
const EXPIRY: Duration = Duration::from_millis(500);
/// How many clients may be about to greet. With one more, the first of them is turned away: so nobody takes the room away
/// from those who come, greet and go on by opening connections and saying nothing.
const GREETING: usize = 512;
/// How often it is logged that somebody is refused.
const REFUSALS: Duration = Duration::from_secs(10);

/// A node's listening socket.
#[derive(Debug)]
pub struct Listener {
    node: Arc<Node>,
    socket: TcpListener,
    reception: Arc<Reception>,
}

/// What new connections have to do with.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) security: Security,
    pub(crate) spin: Duration,
    pub(crate) refusals: Refusals,
}

/// Logs who is refused, but not as often as somebody likes to be.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    last: Option<Instant>,
    /// Those that were not logged since.
    others: u64,
}

impl Refusals {
    pub(crate) fn note(&self, peer: &str, error: &Error) {
        let mut noted = self.noted.lock().unwrap();
        if noted.last.is_some_and(|last| last.elapsed() < REFUSALS) {
            noted.others += 1;
            tracing::debug!(%peer, %error, "a connection is refused");
            return;
        }
        noted.last = Some(Instant::now());
        let others = std::mem::take(&mut noted.others);
        drop(noted);
        tracing::warn!(%peer, %error, others, "a connection is refused");
    }
}

impl Listener {
    /// Listens at `address` (`host:port`; port 0 takes a free one).
    ///
    /// Invariant: a server that can be reached from other machines has a token.
    ///
    /// # Errors
    /// If the address is wrong or in use, can be reached from other machines although there is no token, or there is one and
    /// this program was built without TLS.
    pub async fn bind(node: Arc<Node>, address: &str, config: &Config) -> Result<Self> {
        let security = Security::new(config)?;
        let socket = net::listen(address, !security.is_tls()).await.map_err(|error| match error.kind() {
            // What the system says, too, of an address that is another machine's.
            io::ErrorKind::AddrNotAvailable if !security.is_tls() => security::not_own(address),
            _ => Error::io(format!("listening at {address}"), &error),
        })?;
        let reception = Reception { security, spin: config.spin, refusals: Refusals::default() };
        Ok(Listener { node, socket, reception: Arc::new(reception) })
    }

    /// The node that it serves.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// How it is secured.
    #[must_use]
    pub fn security(&self) -> &Security {
        &self.reception.security
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
        // Those that have not greeted yet, in the order in which they came.
        let mut greeting = VecDeque::<oneshot::Sender<()>>::new();
        let mut expiry = tokio::time::interval(EXPIRY);
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        if greeting.len() == GREETING {
                            greeting.retain(|turn| !turn.is_closed());
                        }
                        if greeting.len() == GREETING {
                            greeting.pop_front();
                        }
                        let (sender, turn) = oneshot::channel();
                        greeting.push_back(sender);
                        let (node, reception) = (self.node.clone(), self.reception.clone());
                        connections.spawn(connection::serve(node, reception, stream, turn));
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
