//! Several nodes as one: persistent objects are replicated, and survive the nodes.
//!
//! Objects map to a fixed number of partitions. Each [`partition`] is a Raft [`group`], whose commands ([`batch`]) change a
//! [`replica`]; a group of its own holds the [`placement`]: which nodes there are, and which of them hold which partition.
//! What a node keeps of its groups is in [`log`] and [`snapshots`]; [`peers`] is how nodes talk; [`divergence`] is how they
//! find out that replicas differ.
//!
//! **Who serves what.** A persistent object is served by the leader of its partition, an ephemeral one by the partition's
//! owner, which is the same node when all is well. A leader answers reads as long as a quorum's word lasts
//! ([`group::Group::lease_holds`]); an owner serves as long as its node's lease lasts ([`Cluster::heard`]).
//!
//! **With 2f + 1 replicas** a partition works while f of them are gone, under any timing, and with its log on disk it loses
//! nothing even when all stop.

pub mod batch;
mod control;
pub mod divergence;
mod files;
pub mod group;
mod line;
pub mod log;
pub mod machine;
pub mod partition;
pub mod peers;
pub mod placement;
pub mod pulse;
pub mod raft;
pub mod replica;
pub mod sessions;
pub mod snapshots;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crucial_runtime::{
    codec,
    dso::BoxFuture,
    error::{Error, Result},
    id::ObjectId,
    net::Stream,
    security::Security,
    wire::{self, Elsewhere, Incoming, Place, Plane},
};
use openraft::storage::RaftLogStorage;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle};

use self::{
    group::{Group, LEASE, Members},
    log::Store,
    machine::Machine,
    partition::{Partition, State},
    peers::{Failure, Lane, Peers},
    placement::{Change, Ownership, Placement},
    raft::{Command, GroupId, LogId, NodeId, Outcome},
};
use crate::{
    listener::Listener,
    node::{
        Client, ClusterStatus, DivergedStatus, Node, NodeStatus, Others, PartitionStatus, TypeStatus,
        gate::Gate,
    },
};

/// The group of membership and placement.
const META: GroupId = 0;
/// What a node remembers of the groups that it has forgotten.
const FORGOTTEN: &str = "forgotten";
/// How long an owner serves ephemeral objects after it was heard the last time.
const OWNER_LEASE: Duration = Duration::from_millis(2000);
/// How long after that its partitions are given to others: clocks differ, and an answer may be late.
const MARGIN: Duration = Duration::from_millis(500);

/// How many objects whose replicas differ a status names.
const NAMED: usize = 20;

/// What can be chosen when a node starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address (`host:port`) at which clients and other nodes reach this one; none for the one at which it listens.
    pub advertise: Option<String>,
    /// Nodes of the cluster to join; none to begin a cluster. If this node's own address is among them, all of them have
    /// to have the same: when none is in a cluster, the one with the lowest address begins one.
    pub join: Vec<String>,
    /// Where logs and snapshots are kept; none to keep them in memory.
    pub data_dir: Option<PathBuf>,
    /// The name of a cluster that begins.
    pub name: String,
    /// How many partitions a cluster that begins has.
    pub partitions: usize,
    /// How many replicas a partition of a cluster that begins has.
    pub replicas: usize,
}

/// A node's part in its cluster.
pub struct Cluster {
    node: Arc<Node>,
    id: NodeId,
    address: String,
    durable: bool,
    store: Store,
    peers: Arc<Peers>,
    settings: Arc<openraft::Config>,
    started: Instant,
    meta: Group,
    placement: Arc<Shown>,
    partitions: RwLock<HashMap<usize, Arc<Partition>>>,
    opening: tokio::sync::Mutex<()>,
    /// How far the logs went of the groups that this node has forgotten.
    forgotten: Mutex<BTreeMap<GroupId, LogId>>,
    /// For each partition, whether its ephemeral objects are here. A call is in while it is served.
    gates: OnceLock<Box<[Gate]>>,
    /// The epoch of the placement by which the gates are open or closed.
    gated: watch::Sender<u64>,
    moves: Mutex<Moves>,
    /// Until when this node may serve ephemeral objects, in microseconds since its start.
    until: AtomicU64,
    /// As the leader of the first group: when the nodes were heard the last time.
    heard: Mutex<HashMap<NodeId, (u128, Instant)>>,
    stopping: AtomicBool,
    /// Whether this node does not belong to the cluster any more.
    left: watch::Sender<bool>,
    /// Whether this node can go on.
    failed: watch::Sender<Result<()>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.id).finish_non_exhaustive()
    }
}

/// What a node remembers of its cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    node: NodeId,
    cluster: String,
    /// It is to begin that cluster, and has not been seen to have done so.
    #[serde(default)]
    begins: bool,
}

/// How a node comes into its cluster.
#[derive(Debug)]
enum Entrance {
    /// It begins the cluster, with so many partitions and replicas.
    Begin { partitions: usize, replicas: usize },
    /// The cluster has just taken it in.
    Join,
    /// It has been there.
    Return,
}

/// The placement as it was applied here.
#[derive(Debug)]
struct Shown {
    placement: watch::Sender<Arc<Placement>>,
}

impl Shown {
    fn new() -> Arc<Self> {
        Arc::new(Shown { placement: watch::Sender::new(Arc::default()) })
    }

    fn get(&self) -> Arc<Placement> {
        self.placement.borrow().clone()
    }
}

impl Machine for Shown {
    fn apply(&self, command: &[u8]) -> Outcome {
        let result: Result<NodeId> = codec::decode("a change", command).and_then(|change: Change| {
            let mut placement = Placement::clone(&self.get());
            let node = placement.change(change)?;
            self.placement.send_replace(Arc::new(placement));
            Ok(node)
        });
        let mut bytes = Vec::new();
        codec::encode("an outcome", &result, &mut bytes).expect("numbers and text can be encoded");
        Outcome(bytes)
    }

    fn image(&self) -> Result<Vec<u8>> {
        self.get().encode()
    }

    fn restore(&self, image: &[u8]) -> Result<()> {
        self.placement.send_replace(Arc::new(codec::decode("the placement", image)?));
        Ok(())
    }
}

impl Cluster {
    /// Serves a node that is one of a cluster: a new one, the one that it belonged to, or the one that it is told to join.
    /// The task serves until it is aborted.
    ///
    /// # Errors
    /// If the data directory can't be used, or no node of the cluster answers or accepts this one.
    pub async fn start(listener: Listener, options: Options) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let store = match &options.data_dir {
            Some(dir) => Store::open(dir, log::Options::default())
                .map_err(|e| Error::io(format!("opening the data directory {}", dir.display()), &e))?,
            None => Store::memory(),
        };
        let durable = options.data_dir.is_some();
        Self::start_with(listener, options, store, durable).await
    }

    /// As [`start`](Self::start), with this store instead of the data directory. `durable`: the node can come back with
    /// what is in it.
    ///
    /// # Errors
    /// As there.
    pub async fn start_with(
        listener: Listener,
        options: Options,
        store: Store,
        durable: bool,
    ) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let node = listener.node().clone();
        let own = listener.address().map_err(|e| Error::io("asking for the address", &e))?;
        let address = options.advertise.clone().unwrap_or_else(|| own.to_string());
        let security = listener.security().clone();
        node.await_cluster();
        // Other nodes have to reach this one before it is part of the cluster.
        let serving = tokio::spawn(listener.serve());
        match Self::enter_cluster(node, address, security, options, store, durable).await {
            Ok(cluster) => Ok((cluster, serving)),
            Err(error) => {
                serving.abort();
                Err(error)
            }
        }
    }

    async fn enter_cluster(
        node: Arc<Node>,
        address: String,
        security: Security,
        options: Options,
        store: Store,
        durable: bool,
    ) -> Result<Arc<Self>> {
        let stored = |e: std::io::Error| Error::io("reading the data directory", &e);
        let remembered: Option<Remembered> = store.get("node").map_err(stored)?.flatten();
        let forgotten = Mutex::new(store.get(FORGOTTEN).map_err(stored)?.unwrap_or_default());
        let peers = Peers::new(security);
        let is_new = remembered.is_none();
        let remembered = match remembered {
            Some(remembered) => remembered,
            None => {
                node.decline(Some(|stream| Box::pin(peers::decline(stream))));
                let joined = control::join(&peers, &options, &address, node.incarnation()).await?;
                node.decline(None);
                let remembered = joined.unwrap_or_else(|| Remembered {
                    node: 1,
                    cluster: options.name.clone(),
                    begins: true,
                });
                // Before it does anything as this node: what its groups keep is that node's.
                store.put("node", &Some(&remembered)).map_err(stored)?;
                remembered
            }
        };
        let entrance = match remembered.begins {
            true => Entrance::Begin { partitions: options.partitions, replicas: options.replicas },
            false if is_new => Entrance::Join,
            false => Entrance::Return,
        };
        let settings = group::settings(&remembered.cluster);
        let placement = Shown::new();
        let meta =
            Group::open(remembered.node, META, settings.clone(), &store, &peers, placement.clone()).await?;
        let cluster = Arc::new(Cluster {
            id: remembered.node,
            address,
            durable,
            peers,
            settings,
            started: Instant::now(),
            meta,
            placement,
            partitions: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            forgotten,
            gates: OnceLock::new(),
            gated: watch::Sender::new(0),
            moves: Mutex::default(),
            until: AtomicU64::new(0),
            heard: Mutex::default(),
            stopping: AtomicBool::new(false),
            left: watch::Sender::new(false),
            failed: watch::Sender::new(Ok(())),
            store,
            node,
        });
        cluster.node.join(cluster.clone());
        let entered = control::run(&cluster, &remembered.cluster, entrance).await.and_then(|()| {
            if !remembered.begins {
                return Ok(());
            }
            let remembered = Remembered { begins: false, ..remembered };
            cluster.store.put("node", &Some(remembered)).map_err(stored)
        });
        match entered {
            Ok(()) => {
                cluster.node.joined();
                Ok(cluster)
            }
            Err(error) => {
                // Its groups would go on, and could even lead, for a node that serves nobody.
                cluster.close().await;
                Err(error)
            }
        }
    }

    /// This node's number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The membership and placement, as this node knows it.
    #[must_use]
    pub fn placement(&self) -> Placement {
        Placement::clone(&self.placement.get())
    }

    pub(super) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Waits until this node should [retire](Self::retire) and close, without having been told to: somebody took it out
    /// of the cluster.
    ///
    /// # Errors
    /// If one of its groups can't go on, which is a defect. Started again, it may.
    pub async fn ended(&self) -> Result<()> {
        let (mut left, mut failed) = (self.left.subscribe(), self.failed.subscribe());
        // The senders live as long as this.
        tokio::select! {
            _ = left.wait_for(|left| *left) => Ok(()),
            failed = failed.wait_for(Result::is_err) => failed.map_or(Ok(()), |failed| failed.clone()),
        }
    }

    /// Stops the groups, and closes the store. A node that has left the cluster forgets it: started again, it is a new
    /// one.
    pub async fn close(&self) {
        for (_, partition) in self.open_partitions() {
            let _ = partition.group.raft.shutdown().await;
        }
        let _ = self.meta.raft.shutdown().await;
        if *self.left.borrow() {
            let forgotten = self.store.groups().into_iter().try_for_each(|id| self.store.remove_group(id));
            let forgotten =
                forgotten.and_then(|()| self.store.put(FORGOTTEN, &BTreeMap::<GroupId, LogId>::new()));
            if let Err(error) = forgotten.and_then(|()| self.store.put::<Option<Remembered>>("node", &None)) {
                tracing::warn!(%error, "what is on disk can't be removed: it is of no use any more");
            }
        }
    }

    // ---- groups

    /// A group by its number; one that this node has no part in yet is opened.
    async fn group(&self, id: GroupId) -> Result<GroupRef<'_>, Failure> {
        if id == META {
            return Ok(GroupRef::Meta(&self.meta));
        }
        let partition = id as usize - 1;
        self.open(partition).await.map(GroupRef::Partition).map_err(|e| e.to_string())
    }

    fn partition(&self, partition: usize) -> Option<Arc<Partition>> {
        self.partitions.read().unwrap().get(&partition).cloned()
    }

    fn open_partitions(&self) -> Vec<(usize, Arc<Partition>)> {
        let mut open: Vec<_> = self.partitions.read().unwrap().iter().map(|(n, p)| (*n, p.clone())).collect();
        open.sort_by_key(|(n, _)| *n);
        open
    }

    async fn open(&self, partition: usize) -> Result<Arc<Partition>> {
        if let Some(open) = self.partition(partition) {
            return Ok(open);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(open) = self.partition(partition) {
            return Ok(open);
        }
        let id = partition as GroupId + 1;
        let state = State::new();
        let group =
            Group::open(self.id, id, self.settings.clone(), &self.store, &self.peers, state.clone()).await?;
        group.may_lead(self.remembers(id).await);
        let open = Partition::new(group, state, self.node.limits().clone());
        self.partitions.write().unwrap().insert(partition, open.clone());
        Ok(open)
    }

    /// Forgets a group that this node was taken out of, but for its vote, and how far the log went.
    async fn forget(&self, id: GroupId) -> std::io::Result<()> {
        if let Some(last) = self.last_log_id(id).await? {
            let mut forgotten = self.forgotten.lock().unwrap();
            forgotten.insert(id, last);
            self.store.put(FORGOTTEN, &*forgotten)?;
        }
        self.store.clear_group(id)
    }

    /// Whether this node knows what it has known of a group.
    ///
    /// Invariant: of any majority, some node knows what was acknowledged, and votes for nobody who doesn't. A node that was
    /// taken out of a group and has forgotten it may still be asked by one that has not heard of that; and when it comes back
    /// to the group, it has less than it had until the log has come. Nor does it vote for itself: as far as its log goes, it may
    /// be the only member.
    async fn remembers(&self, id: GroupId) -> bool {
        let had = self.forgotten.lock().unwrap().get(&id).copied();
        match had {
            None => true,
            Some(had) => self.last_log_id(id).await.is_ok_and(|last| last >= Some(had)),
        }
    }

    async fn last_log_id(&self, id: GroupId) -> std::io::Result<Option<LogId>> {
        Ok(self.store.group(id).get_log_state().await?.last_log_id)
    }

    // ---- changes of membership and placement

    /// Makes a change, or passes it on to who can.
    async fn change(&self, change: Change, passed_on: u8) -> Result<NodeId> {
        if self.meta.leads() {
            let mut bytes = Vec::new();
            codec::encode("a change", &change, &mut bytes)?;
            let written = self.meta.raft.client_write(Command(bytes.into())).await;
            let outcome = written.map_err(|e| group::stopped(META, &e))?.data;
            return codec::decode::<Result<NodeId>>("an outcome", &outcome.0)?;
        }
        let leader = self.meta.leader().filter(|leader| *leader != self.id);
        let not_made = |reason: String| Error::Io { what: "changing the cluster".to_owned(), reason };
        let (Some(leader), 0..3) = (leader, passed_on) else {
            return Err(not_made(
                "no majority of the nodes that hold the membership can be reached".to_owned(),
            ));
        };
        let ask = |node: peers::NodeClient, cx| async move { node.change(cx, change, passed_on + 1).await };
        tokio::select! {
            answer = self.peers.ask(leader, None, Lane::Urgent, Duration::from_secs(5), ask) => {
                // It is the placement that refuses changes.
                answer.unwrap_or_else(|error| Err(not_made(error.to_string())))
            }
            // One that stands still doesn't answer. It may have made the change, or make it yet; whoever tries again asks for
            // the same one, which changes nothing if it has been made.
            () = self.meta.led_by_another(leader) => {
                Err(not_made(format!("node {leader}, which led the membership, leads it no longer")))
            }
        }
    }

    /// Makes a change, and tries again for some time while nobody can.
    async fn insist(&self, change: Change) -> Result<NodeId> {
        let start = Instant::now();
        loop {
            match self.change(change.clone(), 0).await {
                Err(Error::Io { .. } | Error::Unreachable { .. })
                    if start.elapsed() < Duration::from_secs(30) =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                result => return result,
            }
        }
    }

    /// The epoch of the placement, as the leader of the first group knows it for certain.
    fn epoch(&self) -> Option<u64> {
        self.meta.lease_holds().then(|| self.placement.get().epoch)
    }

    /// Whether the placement has this epoch still, or had it a moment ago.
    async fn is_current(&self, epoch: u64) -> bool {
        let current = match self.meta.leader() {
            Some(leader) if leader != self.id => {
                let ask = |node: peers::NodeClient, cx| async move { node.epoch(cx).await };
                self.peers.ask(leader, None, Lane::Urgent, LEASE, ask).await.ok().flatten()
            }
            _ => self.epoch(),
        };
        current == Some(epoch)
    }

    // ---- the lease of owners

    /// A node is there. Returns whether that counts: then it may serve what it owns for two seconds from when it
    /// said so.
    ///
    /// Invariant: a node that is taken for lost serves no ephemeral objects. Only the leader of the first group takes
    /// nodes for lost, half a second after the last lease that it or a leader before it can have given: so it gives leases
    /// only while a quorum's word lasts that it is the leader, and a new leader waits that long before it judges.
    pub fn heard(&self, node: NodeId, incarnation: u128) -> bool {
        if !self.meta.lease_holds() {
            return false;
        }
        let placement = self.placement.get();
        let current = placement.nodes.get(&node);
        if !current.is_some_and(|n| n.incarnation == incarnation && n.state != placement::State::Down) {
            return false;
        }
        self.heard.lock().unwrap().insert(node, (incarnation, Instant::now()));
        true
    }

    fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn elsewhere(&self, partition: usize) -> Elsewhere {
        let leader = self.partition(partition).and_then(|p| p.group.leader());
        Elsewhere { map: self.placement.get().map(), leader, begun: false }
    }

    fn partition_of(&self, object: ObjectId) -> usize {
        object.partition(self.placement.placement.borrow().owners.len().max(1))
    }

    fn belongs(&self, partition: usize) -> impl Fn(ObjectId) -> bool + use<> {
        let partitions = self.placement.get().owners.len().max(1);
        // Calls of persistent objects do not travel: they are in the log, or their clients send them again.
        move |object: ObjectId| !object.is_persistent() && object.partition(partitions) == partition
    }

    /// Takes in the ephemeral objects of a partition. They are served here when this node owns the partition. Says which start
    /// of this node has them.
    fn take(&self, partition: usize, from: NodeId, luggage: u64, objects: Vec<u8>) -> Result<u128> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Error::Refused { reason: format!("node {} is about to stop", self.id) });
        }
        tracing::debug!(partition, from, bytes = objects.len(), "ephemeral objects have arrived");
        let mut moves = self.moves.lock().unwrap();
        let arrived = moves.arrived.entry(partition).or_default();
        arrived.retain(|(other, _)| *other != luggage);
        if arrived.len() >= ATTEMPTS {
            arrived.remove(0);
        }
        arrived.push((luggage, objects));
        Ok(self.node.incarnation())
    }
}

/// How much luggage is kept of a partition: an attempt that failed may arrive late, after the one that succeeded.
const ATTEMPTS: usize = 4;

/// Partitions whose ephemeral objects come or go.
#[derive(Debug, Default)]
struct Moves {
    /// What has come, by partition. The placement says which of it counts.
    arrived: HashMap<usize, Vec<(u64, Vec<u8>)>>,
    /// What is on its way to others.
    leaving: HashSet<usize>,
    /// By what this node owned a partition when it opened its objects the last time.
    opened: HashMap<usize, Ownership>,
}

/// A group, by whoever holds it.
enum GroupRef<'a> {
    Meta(&'a Group),
    Partition(Arc<Partition>),
}

impl std::ops::Deref for GroupRef<'_> {
    type Target = Group;
    fn deref(&self) -> &Group {
        match self {
            GroupRef::Meta(group) => group,
            GroupRef::Partition(partition) => &partition.group,
        }
    }
}

impl Others for Cluster {
    fn place(&self) -> Place {
        Place { node: self.id, map: self.placement.get().map() }
    }

    fn serve(&self, client: &Arc<Client>, call: &Incoming<'_>, body: &[u8], out: &mut Vec<u8>) {
        let number = self.partition_of(call.head.object);
        let served = self.partition(number).is_some_and(|p| p.serve(&self.node, client, call, body, out));
        if !served {
            wire::elsewhere_answer(out, call.seq, &self.elsewhere(number));
        }
    }

    fn enter(&self, object: ObjectId) -> Result<RwLockReadGuard<'_, ()>, Elsewhere> {
        let number = self.partition_of(object);
        let gate = self.gates.get().and_then(|gates| gates.get(number));
        if let Some(inside) = gate.and_then(Gate::enter)
            && self.micros() < self.until.load(Ordering::Acquire)
        {
            return Ok(inside);
        }
        Err(self.elsewhere(number))
    }

    fn lost(&self, object: ObjectId) -> u64 {
        let partition = self.partition_of(object);
        self.placement.placement.borrow().lost.get(partition).copied().unwrap_or(0)
    }

    fn status(&self, types: &mut BTreeMap<&str, TypeStatus>) -> ClusterStatus {
        let placement = self.placement.get();
        let open = self.open_partitions().into_iter();
        let here = open.filter(|(_, partition)| partition.group.members().all.contains(&self.id));
        let mut diverged = Vec::new();
        let partitions = here.map(|(number, partition)| {
            partition.replica().each(|cell| {
                let status = types.entry(cell.info().name).or_default();
                status.persistent += 1;
                status.parked += cell.parked() as u64;
                status.poisoned += u64::from(cell.is_poisoned());
                let Some(methods) = cell.diverged() else { return };
                status.diverged += 1;
                if diverged.len() < NAMED {
                    diverged.push(DivergedStatus {
                        partition: number,
                        type_name: cell.info().name.to_owned(),
                        key: cell.key().to_owned(),
                        methods: methods.names(cell.info()).into_iter().map(str::to_owned).collect(),
                    });
                }
            });
            let Members { voters, changing, .. } = partition.group.members();
            PartitionStatus {
                partition: number,
                owner: placement.owners.get(number).copied().unwrap_or(0),
                leader: partition.group.leader(),
                replicas: voters.into_iter().collect(),
                changing,
                objects: partition.replica().len() as u64,
                lag: partition.group.lag(),
            }
        });
        let partitions = partitions.collect();
        diverged.sort_unstable_by(|a, b| (&a.type_name, &a.key).cmp(&(&b.type_name, &b.key)));
        let nodes = placement.nodes.iter().map(|(id, node)| NodeStatus {
            node: *id,
            address: node.address.clone(),
            state: format!("{:?}", node.state).to_lowercase(),
            owns: placement.owners.iter().filter(|owner| *owner == id).count(),
        });
        ClusterStatus {
            name: placement.name.clone(),
            node: self.id,
            epoch: placement.epoch,
            leader: self.meta.leader(),
            disk_failure: self.store.failure(),
            nodes: nodes.collect(),
            partitions,
            diverged,
        }
    }

    fn retire(self: Arc<Self>, leave: bool) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { Cluster::retire(&self, leave).await })
    }

    fn serve_peer(self: Arc<Self>, stream: Stream, plane: Plane) -> BoxFuture<'static, ()> {
        Box::pin(peers::serve(self, stream, plane))
    }

    fn lose(&self, args: &[u8]) {
        for (_, partition) in self.open_partitions() {
            if partition.group.leads() {
                partition.lose(args);
            }
        }
    }
}
