//! A node: its objects, sessions and runs, with the locks that let many threads call at once.

mod client;
pub(crate) mod cluster;
#[cfg(feature = "cluster")]
pub(crate) mod gate;
#[cfg(feature = "cluster")]
mod moves;
mod requests;
mod runs;
mod slot;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crucial_runtime::{
    config::{Config, Limits},
    context::Context,
    id::{self, MemberId, ObjectId, RunId, SessionId},
    reference::Lifetime,
};
use tokio::sync::watch;

pub(crate) use self::{
    client::{Client, Link, Local, Origin},
    cluster::{Decline, Others},
};
use self::{cluster::Ended, slot::Slot};
use crate::{leases::Leases, members::Members};

/// The number of partitions: object tables with a lock each.
const PARTITIONS: usize = 64;

/// A DSO node.
pub struct Node {
    /// Identifies this start of the node.
    incarnation: u128,
    limits: Limits,
    lease: Duration,
    started: Instant,
    partitions: Box<[Partition]>,
    objects: AtomicU64,
    /// A run that has ended does not come back, so that nobody meets fresh objects where there was state.
    runs: Mutex<Leases<RunId>>,
    /// Runs that have ended here, of a node that learns of a run by any of its connections.
    ended: Mutex<Ended>,
    members: Mutex<Members>,
    sessions: Mutex<HashMap<SessionId, Arc<Client>>>,
    /// What is still to be done for those that are gone.
    overdue: Mutex<Overdue>,
    seed: AtomicU64,
    /// The other nodes, if there are any.
    cluster: OnceLock<Arc<dyn Others>>,
    decline: Mutex<Option<Decline>>,
    ready: watch::Sender<bool>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

/// What could not be taken back from clients and processes that are gone, as its objects were on their way.
#[derive(Default)]
struct Overdue {
    clients: Vec<Arc<Client>>,
    members: Vec<MemberId>,
}

#[derive(Default)]
struct Partition {
    objects: RwLock<HashMap<ObjectId, Arc<Slot>, BuildHasherDefault<Spread>>>,
}

/// Object identities are evenly spread already, so their low bits are their hash.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only identities are hashed");
    }
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

/// What a person wants to know of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Identifies this start of the node.
    pub incarnation: u128,
    /// How long it has been up.
    pub uptime: Duration,
    /// How many runs are alive.
    pub runs: usize,
    /// How many sessions are open.
    pub sessions: usize,
    /// The types that have objects here, by name.
    pub types: Vec<TypeStatus>,
    /// The cluster that it belongs to, if any.
    pub cluster: Option<ClusterStatus>,
}

/// A cluster, as one of its nodes knows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// The number of the node that says so.
    pub node: u64,
    /// Counts the changes of membership and placement.
    pub epoch: u64,
    /// The node that leads membership and placement.
    pub leader: Option<u64>,
    /// Why this node can't write to its disk any more, if that has failed. It acknowledges nothing until it is started
    /// again.
    pub disk_failure: Option<String>,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// The partitions of which this node has a replica.
    pub partitions: Vec<PartitionStatus>,
    /// Some of the objects in them whose replicas differ, by type and key; how many there are is in [`TypeStatus`].
    pub diverged: Vec<DivergedStatus>,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: u64,
    /// Where it is reached: `host:port`.
    pub address: String,
    /// `up`, `stopping`, `down` or `leaving`.
    pub state: String,
    /// How many partitions it owns.
    pub owns: usize,
}

/// A partition, as a node with a replica of it knows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: usize,
    /// The node that serves its ephemeral objects.
    pub owner: u64,
    /// The node that leads its replicas.
    pub leader: Option<u64>,
    /// The nodes with its replicas.
    pub replicas: Vec<u64>,
    /// Whether a change of these has begun and not ended: until then, it also takes a majority of those before.
    pub changing: bool,
    /// How many persistent objects it has.
    pub objects: u64,
    /// How many entries of its log are not applied on this node yet.
    pub lag: u64,
}

/// A persistent object whose replicas differ, because a method is not deterministic.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DivergedStatus {
    /// Its partition.
    pub partition: usize,
    /// Its type.
    pub type_name: String,
    /// Its key, or what stands for it.
    pub key: String,
    /// The methods and constructors that have changed it between when it was equal and when it was not.
    pub methods: Vec<String>,
}

/// The objects of one type on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TypeStatus {
    /// The type's name.
    pub name: String,
    /// Objects that end with their run.
    pub ephemeral: u64,
    /// Objects that live until they are removed.
    pub persistent: u64,
    /// Calls that wait at their guards.
    pub parked: u64,
    /// Objects whose state is in doubt after a panic.
    pub poisoned: u64,
    /// Objects whose replicas differ.
    pub diverged: u64,
}

impl Node {
    /// An empty node.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        let incarnation = id::fresh();
        Arc::new(Node {
            incarnation,
            limits: config.limits.clone(),
            lease: config.lease,
            started: Instant::now(),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            objects: AtomicU64::new(0),
            runs: Mutex::new(Leases::new(config.lease)),
            members: Mutex::new(Members::new(config.lease)),
            ended: Mutex::default(),
            sessions: Mutex::default(),
            overdue: Mutex::default(),
            cluster: OnceLock::new(),
            decline: Mutex::default(),
            ready: watch::Sender::new(true),
            seed: AtomicU64::new(incarnation as u64),
        })
    }

    /// The limits that it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn partition(&self, object: ObjectId) -> &Partition {
        &self.partitions[object.partition(PARTITIONS)]
    }

    fn slot(&self, object: ObjectId) -> Option<Arc<Slot>> {
        self.partition(object).objects.read().unwrap().get(&object).cloned()
    }

    /// The surroundings of a call that is accepted now.
    pub(crate) fn context(&self) -> Context {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.seed.fetch_add(1, Ordering::Relaxed);
        // Neighbouring seeds would give calls overlapping sequences, so each seed is a random number itself.
        let seed = Context::new(0, count).random();
        Context::new(now.as_micros() as u64, seed)
    }

    /// What a person wants to know of this node.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut types: std::collections::BTreeMap<&str, TypeStatus> = Default::default();
        for partition in &self.partitions {
            let slots: Vec<_> = partition.objects.read().unwrap().values().cloned().collect();
            for slot in slots {
                let status = types.entry(slot.info.name).or_default();
                match slot.lifetime {
                    Lifetime::Ephemeral => status.ephemeral += 1,
                    Lifetime::Persistent => status.persistent += 1,
                }
                // A busy object is counted, but not waited for.
                if let Ok(cell) = slot.cell.try_read() {
                    status.parked += cell.parked() as u64;
                    status.poisoned += u64::from(cell.is_poisoned());
                }
            }
        }
        let cluster = self.cluster.get().map(|cluster| cluster.status(&mut types));
        let types = types.into_iter().map(|(name, status)| TypeStatus { name: name.to_owned(), ..status });
        Status {
            incarnation: self.incarnation,
            uptime: self.started.elapsed(),
            runs: self.runs.lock().unwrap().len(),
            sessions: self.sessions.lock().unwrap().len(),
            types: types.collect(),
            cluster,
        }
    }
}
