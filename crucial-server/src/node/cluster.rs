//! A node among others: what it has to know of them.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, RwLockReadGuard},
};

use crucial_runtime::{
    codec,
    dso::{BoxFuture, Create, Head},
    error::{Error, Result},
    id::{ObjectId, RunId},
    net::Stream,
    wire::{Elsewhere, Incoming, Place, Plane},
};

use super::{Client, ClusterStatus, Node, TypeStatus};

/// The cluster, as a node of it needs it.
pub(crate) trait Others: Send + Sync {
    /// Where this node and the objects are.
    fn place(&self) -> Place;
    /// Serves a request for a persistent object: appends the answer to `out`, unless it comes later.
    fn serve(&self, client: &Arc<Client>, call: &Incoming<'_>, body: &[u8], out: &mut Vec<u8>);
    /// Keeps an ephemeral object where it is, until the guard is dropped; or says where it is.
    fn enter(&self, object: ObjectId) -> Result<RwLockReadGuard<'_, ()>, Elsewhere>;
    /// The last epoch in which the node that held such ephemeral objects was lost.
    fn lost(&self, object: ObjectId) -> u64;
    /// Tells the persistent objects that processes are lost.
    fn lose(&self, args: &[u8]);
    /// The cluster, for a person; its persistent objects are added to `types`.
    fn status(&self, types: &mut BTreeMap<&str, TypeStatus>) -> ClusterStatus;
    /// Gives away all that this node has, before it stops: for good with `leave`.
    fn retire(self: Arc<Self>, leave: bool) -> BoxFuture<'static, Result<()>>;
    /// Serves another node until it closes the connection.
    fn serve_peer(self: Arc<Self>, stream: Stream, plane: Plane) -> BoxFuture<'static, ()>;
}

/// How a node that belongs to no cluster answers another node.
pub(crate) type Decline = fn(Stream) -> BoxFuture<'static, ()>;

/// The last runs that have ended on a node.
#[derive(Debug, Default)]
pub(super) struct Ended {
    set: HashSet<RunId>,
    order: VecDeque<RunId>,
}

/// How many are remembered. A client of a run that ended before those would start it anew, with no objects.
const REMEMBERED: usize = 100_000;

impl Ended {
    pub(super) fn contains(&self, run: RunId) -> bool {
        self.set.contains(&run)
    }

    pub(super) fn insert(&mut self, run: RunId) {
        if self.set.insert(run) {
            self.order.push_back(run);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}

impl Node {
    /// Waits until the node may serve clients: one that is to be part of a cluster has to know it first.
    pub(crate) async fn ready(&self) {
        // The node, and with it the sender, lives as long as this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Gives away all that this node has, if there are others, before it stops: for good with `leave`.
    ///
    /// # Errors
    /// If that takes too long, or it is the last node.
    pub async fn retire(&self, leave: bool) -> Result<()> {
        match self.cluster.get() {
            Some(cluster) => cluster.clone().retire(leave).await,
            None if leave => Err(Error::Refused { reason: "this server belongs to no cluster".to_owned() }),
            None => Ok(()),
        }
    }

    /// Serves another node, if there are any to this one.
    pub(crate) async fn serve_peer(&self, stream: Stream, plane: Plane) {
        let mut ready = self.ready.subscribe();
        // The node, and with it the sender, lives as long as this.
        let decline = || *self.decline.lock().unwrap();
        let _ = ready.wait_for(|_| self.cluster.get().is_some() || decline().is_some()).await;
        if let Some(cluster) = self.cluster.get() {
            cluster.clone().serve_peer(stream, plane).await;
        } else if let Some(decline) = decline() {
            decline(stream).await;
        }
    }

    /// Keeps an ephemeral object where it is, until the guard is dropped; or says where it is.
    ///
    /// Invariant: nobody changes an ephemeral object of a cluster without this. Else it could be one that was packed
    /// already, and what is done to it here is lost with it, or done again where it arrives.
    pub(super) fn stay(&self, object: ObjectId) -> Result<Option<RwLockReadGuard<'_, ()>>, Elsewhere> {
        self.cluster.get().map(|cluster| cluster.enter(object)).transpose()
    }

    /// Says of an object that isn't there that its state is lost, if it may have been there.
    ///
    /// Invariant: a run that was under way when a node was lost meets no fresh object where one may have been. So it can
    /// make no named object there either; a new object without a name was never there.
    pub(super) fn explain(&self, client: &Client, object: ObjectId, error: Error) -> Error {
        match error {
            Error::NoSuchObject { object: name } if self.may_be_lost(client, object) => state_lost(name),
            error => error,
        }
    }

    pub(super) fn check_lost(&self, client: &Client, head: &Head, args: &[u8]) -> Result<()> {
        if !self.may_be_lost(client, head.object) || self.slot(head.object).is_some() {
            return Ok(());
        }
        let create: Create<'_> = codec::decode("a constructor call", args)?;
        match create.key {
            Some(key) => Err(state_lost(format!("{} {key:?}", create.type_name))),
            None => Ok(()),
        }
    }

    fn may_be_lost(&self, client: &Client, object: ObjectId) -> bool {
        self.cluster.get().is_some_and(|cluster| client.since < cluster.lost(object))
    }
}

fn state_lost(object: String) -> Error {
    Error::StateLost {
        object,
        reason: "the node that held it was lost, and ephemeral objects have one copy".into(),
    }
}
