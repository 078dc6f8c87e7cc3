//! What nodes say to each other: over tarpc, and log entries over lines (`line.rs`).
//!
//! A connection starts with a greeting, so that a node of another cluster, or of a program whose types differ, is refused
//! before it says anything else.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, OnceLock, RwLock},
    time::{Duration, Instant},
};

use crucial_runtime::{
    codec,
    error::{Error, Result},
    id::ObjectId,
    net,
    object::TypeInfo,
    security::{self, Security},
    support::inventory,
    wire::{self, MAGIC, Plane},
};
use futures::{
    Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openraft::{
    OptionalSend,
    alias::SnapshotOf,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize};
use tarpc::{
    client::{self, NewClient, RpcError},
    context::{self, Context},
    server::{BaseChannel, Channel},
    tokio_util::codec::{Framed, LengthDelimitedCodec},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};
use tokio_serde::formats::MessagePack;

use super::{
    Cluster,
    group::LEASE,
    line::{self, Line},
    machine::SnapshotData,
    placement::{Change, Placement},
    pulse::Pulse,
    raft::{GroupId, NodeId, Peer, SnapshotMeta, Types, Vote},
};
use crate::methods::Methods;

/// What a node says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`wire::VERSION`]
    pub version: u16,
    /// The cluster that the node belongs to; none if it wants to join.
    pub cluster: Option<String>,
    /// The node that it wants to talk to; none if any will do.
    pub to: Option<NodeId>,
    /// The tags of its shared types, by name.
    pub types: BTreeMap<String, u64>,
}

impl Greeting {
    /// The greeting of this program.
    #[must_use]
    pub fn new(cluster: Option<String>, to: Option<NodeId>) -> Self {
        let types = inventory::iter::<TypeInfo>.into_iter().map(|info| (info.name.to_owned(), info.tag));
        Greeting { version: wire::VERSION, cluster, to, types: types.collect() }
    }

    /// Whether the other may talk to this node, which has the number `id`; none if it belongs to no cluster.
    ///
    /// Invariant: nodes that replicate an object run the same code for it. And a node answers for no other: one that has
    /// taken the place of a lost node, at the same address, knows nothing of what that one had acknowledged and voted for.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, id: Option<NodeId>, other: &Greeting) -> Result<()> {
        let refuse = |reason: String| Err(Error::Refused { reason });
        if self.version != other.version {
            return refuse(format!(
                "the nodes speak versions {} and {} of the protocol: run the same build on both",
                self.version, other.version
            ));
        }
        if let (Some(here), Some(there)) = (&self.cluster, &other.cluster)
            && here != there
        {
            return refuse(format!("this is cluster {here:?}, and the node belongs to cluster {there:?}"));
        }
        let differs =
            |(name, tag): &(&String, &u64)| other.types.get(*name).is_some_and(|other| other != *tag);
        if let Some((name, _)) = self.types.iter().find(differs) {
            return refuse(format!(
                "shared type `{name}` differs in the programs of the two nodes: run the same build on both"
            ));
        }
        match other.to {
            // It may come back, or the other will hear of its successor.
            Some(to) if Some(to) != id => Err(Error::Io {
                what: format!("asking node {to}"),
                reason: match id {
                    Some(id) => format!("node {id} is at its address now"),
                    None => "who is at its address belongs to no cluster".to_owned(),
                },
            }),
            _ => Ok(()),
        }
    }
}

/// What a node says of itself to another one that it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    /// It belongs to a cluster.
    Member,
    /// It belongs to none, and can be asked nothing else.
    Outside,
}

/// The name of a failure on the other node.
pub type Failure = String;

/// What a node can be asked by another one.
#[tarpc::service]
pub trait Node {
    /// Raft: a heartbeat.
    async fn beat(
        group: GroupId,
        request: AppendEntriesRequest<Types>,
    ) -> Result<AppendEntriesResponse<Types>, Failure>;
    /// Raft: a vote, or with `pre` whether there would be one.
    async fn vote(
        group: GroupId,
        request: VoteRequest<Types>,
        pre: bool,
    ) -> Result<VoteResponse<Types>, Failure>;
    /// Raft: the part of a snapshot that starts at `offset`; the answer comes with the last one.
    async fn snapshot(
        group: GroupId,
        vote: Vote,
        meta: SnapshotMeta,
        part: Part,
    ) -> Result<Option<SnapshotResponse<Types>>, Failure>;
    /// Raft: become the leader.
    async fn transfer(
        group: GroupId,
        request: TransferLeaderRequest<Types>,
    ) -> Result<TransferLeaderResponse<Types>, Failure>;
    /// Changes the cluster's membership or placement; the node passes it on to who can.
    async fn change(change: Change, passed_on: u8) -> Result<NodeId>;
    /// The membership and placement, as the node knows it.
    async fn placement() -> Placement;
    /// The epoch of the placement; none if the node that is asked doesn't lead the first group for certain.
    async fn epoch() -> Option<u64>;
    /// The node is there. Returns whether that was heard by the one whose word counts.
    async fn keep(node: NodeId, incarnation: u128) -> bool;
    /// Whether a node belongs to a group; none if the node that is asked doesn't lead it.
    async fn belongs(group: GroupId, node: NodeId) -> Option<bool>;
    /// The ephemeral objects of a partition, from their owner. Says which start of the node has them.
    async fn take(partition: usize, from: NodeId, luggage: u64, objects: Bytes) -> Result<u128>;
    /// These objects of a partition differ on the node that says so from those of the leader, who is asked.
    async fn diverged(partition: usize, objects: Vec<(ObjectId, Methods)>);
}

/// Bytes that travel as such.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bytes(#[serde(with = "crucial_runtime::bulk")] pub Vec<u8>);

/// A part of something long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Where it belongs.
    pub offset: u64,
    /// The length of the whole.
    pub total: u64,
    /// The part.
    #[serde(with = "crucial_runtime::bulk")]
    pub bytes: Vec<u8>,
}

/// The longest message between nodes.
pub(super) const LONGEST: usize = 256 << 20;
/// Snapshots go in parts of this size.
const PART: usize = 4 << 20;
/// How long a node may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// When a request gets no answer in time, its connection is given up if the last answer that came over it is older. TCP waits up
/// to two minutes between two attempts to deliver what got lost, so after a long cut an old connection would keep nodes apart for
/// so much longer.
const SILENCE: Duration = Duration::from_secs(2);

fn framed(stream: net::Stream) -> Framed<net::Stream, LengthDelimitedCodec> {
    Framed::new(stream, LengthDelimitedCodec::builder().max_frame_length(LONGEST).new_codec())
}

/// The connections of this node to the others.
#[derive(Debug)]
pub struct Peers {
    security: Security,
    cluster: RwLock<Option<String>>,
    addresses: RwLock<HashMap<NodeId, String>>,
    links: Links<(NodeId, Lane), Dialled>,
    lines: Links<NodeId, Line>,
    /// Starts with the first group.
    pulse: OnceLock<Arc<Pulse>>,
}

/// Links, made when they are used first.
type Links<K, C> = Mutex<HashMap<K, Arc<Link<C>>>>;

/// What a connection over tarpc is for: what is long must not hold up what is urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Heartbeats, votes, and all that is small.
    Urgent,
    /// Snapshots and objects that move.
    Bulk,
}

/// A way to another node, which is made anew when it fails.
#[derive(Debug)]
struct Link<C> {
    current: tokio::sync::Mutex<Current<C>>,
    /// When it was made, or an answer came over it last.
    heard: Mutex<Instant>,
}

/// The connection that a link uses.
#[derive(Debug)]
struct Current<C> {
    connection: Option<C>,
    /// Counts the connections.
    number: u64,
}

/// What a link can use.
pub(super) trait Connection: Sized {
    /// What asks.
    type Client;
    /// Connects to the node `to`.
    fn dial(peers: &Peers, address: &str, to: NodeId) -> impl Future<Output = Result<Self>> + Send;
    /// One that has ended, as with a node that was started again, would fail the request.
    fn has_ended(&self) -> bool;
    fn client(&self) -> Self::Client;
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// It may still come.
    Late(String),
    /// The other node has one of its own.
    Refused(String),
    /// The connection is of no use any more.
    Broken(String),
}

impl From<RpcError> for Unanswered {
    fn from(error: RpcError) -> Self {
        let reason = error.to_string();
        match error {
            RpcError::DeadlineExceeded => Unanswered::Late(reason),
            RpcError::Server(_) => Unanswered::Refused(reason),
            _ => Unanswered::Broken(reason),
        }
    }
}

/// A connection over tarpc.
#[derive(Debug)]
struct Dialled {
    client: NodeClient,
    /// Reads and writes, until the connection ends.
    dispatch: JoinHandle<()>,
}

impl Dialled {
    fn new(stream: net::Stream) -> Self {
        let transport = tarpc::serde_transport::new(framed(stream), MessagePack::default());
        let NewClient { client, dispatch } = NodeClient::new(client::Config::default(), transport);
        let dispatch = tokio::spawn(async {
            if let Err(error) = dispatch.await {
                tracing::debug!(%error, "a connection to another node broke");
            }
        });
        Dialled { client, dispatch }
    }
}

impl Connection for Dialled {
    type Client = NodeClient;

    async fn dial(peers: &Peers, address: &str, to: NodeId) -> Result<Self> {
        Ok(Dialled::new(peers.reach(address, to, Plane::Peer).await?))
    }

    fn has_ended(&self) -> bool {
        self.dispatch.is_finished()
    }

    fn client(&self) -> NodeClient {
        self.client.clone()
    }
}

impl<C> Default for Link<C> {
    fn default() -> Self {
        let current = tokio::sync::Mutex::new(Current { connection: None, number: 0 });
        Link { current, heard: Mutex::new(Instant::now()) }
    }
}

impl<C: Connection> Link<C> {
    fn hear(&self) {
        *self.heard.lock().unwrap() = Instant::now();
    }

    /// Gives up a connection that has brought no answer for too long, when one is due.
    fn look(&self) {
        // Whoever has locked it makes a new one.
        if let Ok(mut current) = self.current.try_lock()
            && self.heard.lock().unwrap().elapsed() > SILENCE
        {
            current.connection = None;
        }
    }

    /// Asks the node at the other end something.
    ///
    /// Invariant: a connection is given up by those who found it broken, and by nobody who has used one before it: others
    /// wait for answers over it.
    ///
    /// # Errors
    /// Says why there is no answer within `patience`.
    async fn ask<R, F>(
        &self,
        peers: &Peers,
        node: NodeId,
        address: &str,
        patience: Duration,
        ask: impl FnOnce(C::Client) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<R, Unanswered>>,
    {
        let failed = |reason| unanswered(node, reason, patience);
        let attempt = async {
            let (client, number) = {
                let mut current = self.current.lock().await;
                let client = match &current.connection {
                    Some(connection) if !connection.has_ended() => connection.client(),
                    _ => {
                        let made = C::dial(peers, address, node).await?;
                        current.number += 1;
                        self.hear();
                        current.connection.insert(made).client()
                    }
                };
                (client, current.number)
            };
            match ask(client).await {
                Ok(answer) => {
                    self.hear();
                    Ok(answer)
                }
                Err(Unanswered::Late(reason)) => {
                    self.look();
                    Err(failed(reason))
                }
                Err(Unanswered::Refused(reason)) => {
                    self.hear();
                    Err(failed(reason))
                }
                Err(Unanswered::Broken(reason)) => {
                    let mut current = self.current.lock().await;
                    if current.number == number {
                        current.connection = None;
                    }
                    Err(failed(reason))
                }
            }
        };
        tokio::time::timeout(patience, attempt).await.unwrap_or_else(|_| {
            self.look();
            Err(failed("no answer in time".to_owned()))
        })
    }
}

fn unanswered(node: NodeId, reason: String, after: Duration) -> Error {
    Error::Unreachable { tried: format!("node {node}: {reason}"), after }
}

impl Peers {
    /// No connections yet.
    #[must_use]
    pub fn new(security: Security) -> Arc<Self> {
        Arc::new(Peers {
            security,
            cluster: RwLock::default(),
            addresses: RwLock::default(),
            links: Mutex::default(),
            lines: Mutex::default(),
            pulse: OnceLock::new(),
        })
    }

    /// What makes all groups of this node say at the same time that they are there.
    pub fn pulse(&self, every: Duration) -> &Arc<Pulse> {
        self.pulse.get_or_init(|| Pulse::start(every))
    }

    /// What cluster and which nodes there are.
    pub fn learn(&self, placement: &Placement) {
        *self.cluster.write().unwrap() = Some(placement.name.clone());
        let addresses = placement.nodes.iter().map(|(id, node)| (*id, node.address.clone()));
        self.addresses.write().unwrap().extend(addresses);
    }

    /// The greeting of this node, to another one.
    pub fn greeting(&self, to: Option<NodeId>) -> Greeting {
        Greeting::new(self.cluster.read().unwrap().clone(), to)
    }

    /// A connection to whoever is at `address`; none if that belongs to no cluster.
    ///
    /// # Errors
    /// If it can't be reached, or refuses.
    pub async fn meet(&self, address: &str) -> Result<Option<NodeClient>> {
        let stream = self.connect(address, None, Plane::Peer).await?;
        Ok(stream.map(|stream| Dialled::new(stream).client))
    }

    /// A connection to the node `to`.
    pub(super) async fn reach(&self, address: &str, to: NodeId, plane: Plane) -> Result<net::Stream> {
        self.connect(address, Some(to), plane).await?.ok_or_else(|| Error::Unreachable {
            tried: format!("{address}: it belongs to no cluster"),
            after: PATIENCE,
        })
    }

    /// A connection to the node `to`, or to whoever is at `address`; none if that belongs to no cluster.
    async fn connect(&self, address: &str, to: Option<NodeId>, plane: Plane) -> Result<Option<net::Stream>> {
        let failed =
            |reason: String| Error::Unreachable { tried: format!("{address}: {reason}"), after: PATIENCE };
        let connect = async {
            let io = |e: std::io::Error| failed(e.to_string());
            let mut stream = net::Stream::connect(address, &self.security).await.map_err(|error| {
                if security::is_refusal(&error) {
                    Error::Refused { reason: format!("{address}: {error}") }
                } else {
                    io(error)
                }
            })?;
            let mut greeting = MAGIC.to_vec();
            greeting.push(plane as u8);
            greeting.extend_from_slice(&wire::value_frame(&self.greeting(to)));
            stream.write_all(&greeting).await.map_err(io)?;
            stream.flush().await.map_err(io)?;
            let length = stream.read_u32_le().await.map_err(io)? as usize;
            if length > wire::GREETING_LIMIT {
                return Err(failed("this is no DSO server".to_owned()));
            }
            let mut answer = vec![0; length];
            stream.read_exact(&mut answer).await.map_err(io)?;
            let standing = codec::decode::<Result<Standing>>("the node's greeting", &answer)??;
            Ok((standing == Standing::Member).then_some(stream))
        };
        tokio::time::timeout(PATIENCE, connect).await.unwrap_or_else(|_| Err(failed("no answer".to_owned())))
    }

    /// Asks a node something.
    ///
    /// # Errors
    /// If it can't be reached, or doesn't answer within `patience`.
    pub async fn ask<R, F>(
        &self,
        node: NodeId,
        address: Option<&str>,
        lane: Lane,
        patience: Duration,
        ask: impl FnOnce(NodeClient, Context) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<R, RpcError>>,
    {
        let link = self.links.lock().unwrap().entry((node, lane)).or_default().clone();
        let address = self.address(node, address, patience)?;
        let mut context = context::current();
        context.deadline = Instant::now() + patience;
        let asking =
            link.ask(self, node, &address, patience, |client| async move { Ok(ask(client, context).await?) });
        asking.await
    }

    /// Sends entries of a group's log to a node.
    async fn append(
        &self,
        node: NodeId,
        address: &str,
        patience: Duration,
        group: GroupId,
        request: &AppendEntriesRequest<Types>,
    ) -> Result<Result<AppendEntriesResponse<Types>, Failure>> {
        let link = self.lines.lock().unwrap().entry(node).or_default().clone();
        let address = self.address(node, Some(address), patience)?;
        let ask = |line: Arc<line::Client>| async move { line.append(group, request).await };
        link.ask(self, node, &address, patience, ask).await
    }

    /// Where a node is: as the placement says, or else as the caller does.
    fn address(&self, node: NodeId, told: Option<&str>, patience: Duration) -> Result<String> {
        let known = self.addresses.read().unwrap().get(&node).cloned();
        known
            .or_else(|| told.map(str::to_owned))
            .ok_or_else(|| unanswered(node, "its address is not known".to_owned(), patience))
    }
}

/// Tells another node that this one belongs to no cluster.
pub(crate) async fn decline(mut stream: net::Stream) {
    greet(&Greeting::new(None, None), None, &mut stream).await;
}

/// Serves another node until it closes the connection.
pub(crate) async fn serve(cluster: Arc<Cluster>, mut stream: net::Stream, plane: Plane) {
    if !greet(&cluster.peers().greeting(None), Some(cluster.id()), &mut stream).await {
        return;
    }
    if plane == Plane::Log {
        return line::serve(cluster, stream).await;
    }
    let transport = tarpc::serde_transport::new(framed(stream), MessagePack::default());
    let served = Served { cluster, parts: Arc::default() };
    BaseChannel::with_defaults(transport)
        .execute(served.serve())
        .for_each_concurrent(None, |answer| answer)
        .await;
}

/// Reads another node's greeting, and answers as the node `id`. Returns whether it may talk to this one.
async fn greet(own: &Greeting, id: Option<NodeId>, stream: &mut net::Stream) -> bool {
    let greeted = tokio::time::timeout(PATIENCE, exchange(own, id, stream)).await;
    match greeted {
        Ok(Ok(())) => return true,
        Ok(Err(error @ Error::Refused { .. })) => tracing::warn!(%error, "a node is refused"),
        // The others ask for a node that was lost again and again, until they know who replaces it.
        Ok(Err(error)) => tracing::debug!(%error, "a node is refused"),
        Err(_) => tracing::warn!("a node did not greet"),
    }
    false
}

async fn exchange(own: &Greeting, id: Option<NodeId>, stream: &mut net::Stream) -> Result<()> {
    let io = |e: std::io::Error| Error::io("reading a node's greeting", &e);
    let length = stream.read_u32_le().await.map_err(io)? as usize;
    if length > wire::GREETING_LIMIT {
        return Err(Error::Refused { reason: format!("a greeting of {length} bytes is too long") });
    }
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting).await.map_err(io)?;
    let greeting: Greeting = codec::decode("a node's greeting", &greeting)?;
    let standing = if id.is_some() { Standing::Member } else { Standing::Outside };
    let checked = own.check(id, &greeting).map(|()| standing);
    stream.write_all(&wire::value_frame(&checked)).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    checked.map(drop)
}

/// Whether a node that was started so long ago may give a vote.
///
/// Invariant: a leader's lease holds although a follower was started again. The follower has forgotten when it heard of the
/// leader last, so it gives no vote before such a lease is over. It may give one to whom the leader gave the leadership: the
/// leader of that term has no lease then, and who has heard of a leader of a later one has that on its disk and refuses.
fn may_vote(since_start: Duration, request: &VoteRequest<Types>) -> bool {
    since_start > LEASE || request.leadership_transfer
}

#[derive(Clone)]
struct Served {
    cluster: Arc<Cluster>,
    /// Snapshots that have not come whole yet.
    parts: Arc<Mutex<Parts>>,
}

type Parts = HashMap<GroupId, (SnapshotMeta, Vec<u8>)>;

impl Node for Served {
    async fn beat(
        self,
        _: Context,
        group: GroupId,
        request: AppendEntriesRequest<Types>,
    ) -> Result<AppendEntriesResponse<Types>, Failure> {
        let group = self.cluster.group(group).await?;
        group.append(request).await
    }

    async fn vote(
        self,
        _: Context,
        group: GroupId,
        request: VoteRequest<Types>,
        pre: bool,
    ) -> Result<VoteResponse<Types>, Failure> {
        if !may_vote(self.cluster.started.elapsed(), &request) {
            return Err("this node has just started".to_owned());
        }
        if !self.cluster.remembers(group).await {
            return Err("this node has forgotten the group".to_owned());
        }
        let group = self.cluster.group(group).await?;
        group.vote(request, pre).await
    }

    async fn snapshot(
        self,
        _: Context,
        group: GroupId,
        vote: Vote,
        meta: SnapshotMeta,
        part: Part,
    ) -> Result<Option<SnapshotResponse<Types>>, Failure> {
        let whole = {
            let mut parts = self.parts.lock().unwrap();
            let (of, bytes) = parts.entry(group).or_insert_with(|| (meta.clone(), Vec::new()));
            if *of != meta || part.offset == 0 {
                *of = meta.clone();
                bytes.clear();
            }
            if bytes.len() as u64 != part.offset {
                return Err("a part of the snapshot is missing".to_owned());
            }
            bytes.extend_from_slice(&part.bytes);
            if (bytes.len() as u64) < part.total {
                return Ok(None);
            }
            parts.remove(&group).expect("it was just found").1
        };
        let group = self.cluster.group(group).await?;
        group.install(vote, openraft::Snapshot { meta, snapshot: whole.into() }).await.map(Some)
    }

    async fn transfer(
        self,
        _: Context,
        group: GroupId,
        request: TransferLeaderRequest<Types>,
    ) -> Result<TransferLeaderResponse<Types>, Failure> {
        let group = self.cluster.group(group).await?;
        group.transfer(request).await
    }

    async fn change(self, _: Context, change: Change, passed_on: u8) -> Result<NodeId> {
        self.cluster.change(change, passed_on).await
    }

    async fn placement(self, _: Context) -> Placement {
        self.cluster.placement()
    }

    async fn epoch(self, _: Context) -> Option<u64> {
        self.cluster.epoch()
    }

    async fn keep(self, _: Context, node: NodeId, incarnation: u128) -> bool {
        self.cluster.heard(node, incarnation)
    }

    async fn belongs(self, _: Context, group: GroupId, node: NodeId) -> Option<bool> {
        // Whoever asks may hold up what would open it there, and one that isn't open doesn't lead.
        let partition = self.cluster.partition((group as usize).checked_sub(1)?)?;
        partition.group.lease_holds().then(|| partition.group.members().all.contains(&node))
    }

    async fn take(
        self,
        _: Context,
        partition: usize,
        from: NodeId,
        luggage: u64,
        objects: Bytes,
    ) -> Result<u128> {
        self.cluster.take(partition, from, luggage, objects.0)
    }

    async fn diverged(self, _: Context, partition: usize, objects: Vec<(ObjectId, Methods)>) {
        // If it doesn't lead, the other node says it again to who does.
        if let Some(partition) = self.cluster.partition(partition).filter(|p| p.group.leads()) {
            partition.diverged(objects);
        }
    }
}

/// How long a request without entries waits for one with entries.
const LINGER: Duration = Duration::from_millis(50);

/// What a node says to the requests of a stream, in their order.
type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// Makes the connections of a group.
#[derive(Clone, Debug)]
pub struct Network {
    /// The group.
    pub group: GroupId,
    /// The connections of the node.
    pub peers: Arc<Peers>,
}

/// A group's way to another node.
#[derive(Debug)]
pub struct Path {
    group: GroupId,
    peers: Arc<Peers>,
    target: NodeId,
    address: String,
    /// Whether it carries heartbeats only.
    beats: bool,
}

impl Network {
    fn path(&self, target: NodeId, node: &Peer, beats: bool) -> Path {
        Path { group: self.group, peers: self.peers.clone(), target, address: node.address.clone(), beats }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Path;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Path {
        self.path(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Peer) -> Path {
        self.path(target, node, true)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Peer) -> Path {
        self.path(target, node, false)
    }
}

impl Path {
    async fn ask<R, F>(
        &self,
        lane: Lane,
        ttl: Duration,
        ask: impl FnOnce(NodeClient, Context) -> F,
    ) -> Result<R, RPCError<Types>>
    where
        F: Future<Output = Result<Result<R, Failure>, RpcError>>,
    {
        let patience = patience(ttl);
        told(self.peers.ask(self.target, Some(&self.address), lane, patience, ask).await)
    }

    async fn ballot(
        &self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
        pre: bool,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let group = self.group;
        let ask = |node: NodeClient, cx| async move { node.vote(cx, group, rpc, pre).await };
        self.ask(Lane::Urgent, option.soft_ttl(), ask).await
    }
}

/// How long an answer is waited for that openraft wants within `ttl`: a node that is slow is better than none, as what is given
/// up has to be sent again.
fn patience(ttl: Duration) -> Duration {
    ttl.max(LEASE)
}

/// An answer of another node, as openraft wants to have it.
fn told<R>(answer: Result<Result<R, Failure>>) -> Result<R, RPCError<Types>> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(reason)) => Err(unreachable(&reason)),
        Err(error) => Err(unreachable(&error.to_string())),
    }
}

fn unreachable(reason: &str) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

impl RaftNetworkV2<Types> for Path {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (group, ttl) = (self.group, option.soft_ttl());
        if self.beats {
            let ask = |node: NodeClient, cx| async move { node.beat(cx, group, rpc).await };
            return self.ask(Lane::Urgent, ttl, ask).await;
        }
        told(self.peers.append(self.target, &self.address, patience(ttl), group, &rpc).await)
    }

    // One request at a time: what comes meanwhile goes together with the next. A request without entries only says how far
    // the group is committed. No caller waits for that, so it is left out when entries follow soon, which say it too; else
    // each entry would cost two rounds. (With 200 clients, servers used a fifth less CPU time for a write.)
    //
    // Invariant: a request that was left out is not acknowledged by itself, only by the answer to a later one: the leader's
    // lease counts from when an acknowledged request was made.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let answers = stream::unfold(Some((self, input)), move |going| {
            let option = option.clone();
            async move {
                let (path, mut input) = going?;
                let mut request = input.next().await?;
                let mut more = true;
                while more && request.entries.is_empty() {
                    match tokio::time::timeout(LINGER, input.next()).await {
                        Ok(Some(next)) => request = next,
                        Ok(None) => more = false,
                        Err(_) => break,
                    }
                }
                let prev = request.prev_log_id;
                let last = request.entries.last().map_or(prev, |entry| Some(entry.log_id));
                let answer = match path.append_entries(request, option).await {
                    Ok(answer) => answer,
                    Err(error) => return Some((Err(error), None)),
                };
                // Only a part was taken: the leader has to look anew.
                let partial = matches!(&answer, AppendEntriesResponse::PartialSuccess(part) if *part != last);
                let result = answer.into_stream_result(prev, last);
                let going = (more && !partial && result.is_ok()).then_some((path, input));
                Some((Ok(result), going))
            }
        });
        Box::pin(async move { Ok(answers.boxed()) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ballot(rpc, option, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ballot(rpc, option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let send = async {
            let total = snapshot.snapshot.len() as u64;
            let mut parts = snapshot.snapshot.chunks(PART).collect::<Vec<_>>();
            if parts.is_empty() {
                parts.push(&[]);
            }
            let mut offset = 0;
            for bytes in parts {
                let part = Part { offset, total, bytes: bytes.to_vec() };
                offset += bytes.len() as u64;
                let (group, meta) = (self.group, snapshot.meta.clone());
                let answer = self
                    .ask(Lane::Bulk, option.soft_ttl().max(PATIENCE), |node, cx| async move {
                        node.snapshot(cx, group, vote, meta, part).await
                    })
                    .await?;
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
            Err(unreachable("the node did not take the last part of the snapshot").into())
        };
        tokio::select! {
            sent = send => sent,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let group = self.group;
        self.ask(
            Lane::Urgent,
            option.soft_ttl(),
            |node, cx| async move { node.transfer(cx, group, rpc).await },
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cluster::control::tests::start;

    /// Passes on what comes, until it is told to lose the first connection: then nothing gets through. If it is to be silent,
    /// nobody is told.
    async fn lossy(listener: TcpListener, node: String, lose: Arc<AtomicBool>, silent: bool) {
        for number in 0.. {
            let (mut here, _) = listener.accept().await.unwrap();
            let mut there = TcpStream::connect(&node).await.unwrap();
            let lose = lose.clone();
            tokio::spawn(async move {
                let lost = async {
                    while number > 0 || !lose.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                let lost = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut here, &mut there) => false,
                    () = lost => true,
                };
                if lost && silent {
                    std::future::pending::<()>().await;
                }
            });
        }
    }

    /// A node, and the connections of another one to it, of which the first is lost when it is told so.
    struct Pair {
        node: Arc<Cluster>,
        peers: Arc<Peers>,
        address: String,
        lose: Arc<AtomicBool>,
        passing: JoinHandle<()>,
    }

    impl Pair {
        async fn start(silent: bool) -> Pair {
            let node = start(&[]).await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let lose = Arc::new(AtomicBool::new(false));
            let passing = tokio::spawn(lossy(listener, node.address.clone(), lose.clone(), silent));
            let peers = Peers::new(Security::new(&crucial_runtime::config::Config::default()).unwrap());
            let pair = Pair { node, peers, address, lose, passing };
            assert!(pair.ask().await.is_ok());
            pair.lose.store(true, Ordering::SeqCst);
            pair
        }

        async fn ask(&self) -> Result<Option<u64>> {
            let ask = |node: NodeClient, cx| async move { node.epoch(cx).await };
            self.peers.ask(1, Some(&self.address), Lane::Urgent, Duration::from_secs(1), ask).await
        }

        async fn close(self) {
            self.passing.abort();
            self.node.close().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_that_brings_nothing_is_made_anew() {
        let pair = Pair::start(true).await;
        while pair.ask().await.is_ok() {}
        let start = Instant::now();
        while pair.ask().await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "it asks in vain");
        }
        pair.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_asked_over_a_connection_that_has_ended() {
        let pair = Pair::start(false).await;
        let link = pair.peers.links.lock().unwrap()[&(1, Lane::Urgent)].clone();
        while !link.current.lock().await.connection.as_ref().unwrap().has_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let asked = pair.ask().await;
        assert!(asked.is_ok(), "{asked:?}");
        pair.close().await;
    }

    /// A connection that does what it is told.
    struct Told;

    impl Connection for Told {
        type Client = ();

        async fn dial(_: &Peers, _: &str, _: NodeId) -> Result<Self> {
            Ok(Told)
        }

        fn has_ended(&self) -> bool {
            false
        }

        fn client(&self) {}
    }

    #[tokio::test]
    async fn who_finds_a_connection_broken_gives_up_no_later_one() {
        let peers = Peers::new(Security::Plain);
        let link = Link::<Told>::default();
        let ask = |result| link.ask(&peers, 1, "", Duration::from_secs(60), move |()| result);
        let broken = || Err::<(), _>(Unanswered::Broken(String::new()));
        let (sender, fails) = tokio::sync::oneshot::channel::<()>();
        let slow = link.ask(&peers, 1, "", Duration::from_secs(60), |()| async {
            fails.await.unwrap();
            broken()
        });
        tokio::pin!(slow);
        assert!(futures::poll!(&mut slow).is_pending(), "it waits for its answer");
        assert!(ask(std::future::ready(broken())).await.is_err());
        assert!(ask(std::future::ready(Ok(()))).await.is_ok());
        assert_eq!(link.current.lock().await.number, 2, "another one was made");
        sender.send(()).unwrap();
        assert!(slow.await.is_err());
        assert!(link.current.lock().await.connection.is_some(), "that one was not broken");
    }

    #[test]
    fn who_was_just_started_votes_only_for_whom_the_leader_wants() {
        let mut request = VoteRequest::new(Vote::new(2, 1), None);
        assert!(!may_vote(LEASE, &request));
        assert!(may_vote(LEASE + Duration::from_millis(1), &request));
        request.leadership_transfer = true;
        assert!(may_vote(Duration::ZERO, &request));
    }

    #[test]
    fn nodes_that_differ_are_refused_with_a_reason() {
        let greeting = |cluster: &str, version, tag| Greeting {
            version,
            cluster: Some(cluster.to_owned()),
            to: None,
            types: [("app::Model".to_owned(), tag)].into(),
        };
        let here = greeting("a", 3, 7);
        assert_eq!(here.check(Some(1), &here), Ok(()));
        assert_eq!(
            here.check(Some(1), &Greeting { cluster: None, types: BTreeMap::new(), ..here.clone() }),
            Ok(())
        );
        assert_eq!(here.check(Some(1), &Greeting { to: Some(1), ..here.clone() }), Ok(()));
        let asked = Greeting { to: Some(1), ..here.clone() };
        let error = Greeting { cluster: None, ..here.clone() }.check(None, &asked).unwrap_err().to_string();
        assert!(error.contains("who is at its address belongs to no cluster"), "{error}");
        for (other, says) in [
            (greeting("b", 3, 7), "cluster \"a\", and the node belongs to cluster \"b\""),
            (greeting("a", 4, 7), "versions 3 and 4"),
            (greeting("a", 3, 8), "`app::Model` differs"),
            (Greeting { to: Some(2), ..here.clone() }, "node 1 is at its address now"),
        ] {
            let error = here.check(Some(1), &other).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
