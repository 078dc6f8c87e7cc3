//! What a node does by itself: it brings its groups, and the objects that it owns, to where the placement wants them.
//!
//! Every node looks at the placement and does its own part: the leader of a partition changes who holds the replicas, the
//! owner hands the ephemeral objects over, and the leader of the first group says which nodes are lost.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use crucial_runtime::{
    error::{Error, Result},
    id,
};
use openraft::{ChangeMembers, async_runtime::watch::WatchReceiver};

use super::{
    Change, Cluster, Entrance, MARGIN, META, Moves, NodeId, OWNER_LEASE, Options, Remembered,
    group::{self, Group, Members},
    partition::Partition,
    peers::{Bytes, Lane, NodeClient, Peers},
    placement::{Member, Ownership, Placement, State},
    raft::Peer,
};
use crate::{node::gate::Gate, workers::aside};

/// How often a node looks whether there is something to do.
const TICK: Duration = Duration::from_millis(200);
/// How often a node says that it is there.
const KEEP: Duration = Duration::from_millis(400);
/// How often sessions and processes are looked at, and how often replicas are compared.
const EXPIRY: Duration = Duration::from_secs(1);
/// How long a node looks for a cluster to join.
const JOINING: Duration = Duration::from_secs(10);
/// How long a node waits for others in silence.
const LATE: Duration = Duration::from_secs(2);
/// How many nodes vote in the first group. More would only make it slower.
const VOTERS: usize = 5;
/// How long a change of a group may take.
const CHANGE: Duration = Duration::from_secs(30);
/// How long a node may take to accept the objects of a partition, beside the time that 10 MB/s would take.
const TAKING: Duration = Duration::from_secs(3);
/// How long a node that stops waits until others have what it owns.
const STOPPING: Duration = Duration::from_secs(60);
/// How long it goes on when all others stop as well, or have left: they have to hear of that.
const ALONE: Duration = Duration::from_secs(1);
/// How long it waits for a leader of the first group, without which nothing can be given away.
const UNLED: Duration = Duration::from_secs(5);

/// Asks the nodes at `options.join` for a place in their cluster. None if this node is to begin one.
///
/// Invariant: no cluster is begun beside another one. Nodes that have the same list, and are on it, leave that to the one
/// with the lowest address, which begins when all others have said that they belong to no cluster. So if it has forgotten
/// its cluster, with its disk, it begins none while those that remember it are down.
pub(super) async fn join(
    peers: &Arc<Peers>,
    options: &Options,
    own: &str,
    incarnation: u128,
) -> Result<Option<Remembered>> {
    if options.join.is_empty() {
        return Ok(None);
    }
    let is_listed = options.join.iter().any(|address| address == own);
    let is_lowest = options.join.iter().all(|address| &**address >= own);
    let start = Instant::now();
    // When a round of questions ended last that had found a cluster. That may be unable to take this node in yet, or to answer
    // at all: it elects a leader, or takes an earlier life of this node for alive until its lease is over.
    let mut found = start;
    let mut warned = None;
    loop {
        let mut tried = Vec::new();
        let mut met = false;
        let mut may_begin = is_listed && is_lowest;
        for address in options.join.iter().filter(|address| *address != own) {
            let asked = async {
                let Some(node) = peers.meet(address).await? else { return Ok(None) };
                met = true;
                let change = Change::Join { address: own.to_owned(), incarnation };
                let failed = |e: &dyn ToString| Error::Unreachable {
                    tried: format!("{address}: {}", e.to_string()),
                    after: JOINING,
                };
                let mut context = tarpc::context::current();
                context.deadline = Instant::now() + JOINING;
                let id = node.change(context, change, 0).await.map_err(|e| failed(&e))??;
                let placement = node.placement(tarpc::context::current()).await.map_err(|e| failed(&e))?;
                peers.learn(&placement);
                Ok(Some(Remembered { node: id, cluster: placement.name, begins: false }))
            };
            match asked.await {
                Ok(Some(remembered)) => return Ok(Some(remembered)),
                Ok(None) => tried.push(format!("{address}: it belongs to no cluster")),
                Err(error @ Error::Refused { .. }) => return Err(error),
                Err(error) => {
                    may_begin = false;
                    tried.push(match error {
                        Error::Unreachable { tried, .. } => tried,
                        error => format!("{address}: {error}"),
                    });
                }
            }
        }
        if may_begin {
            return Ok(None);
        }
        let tried = tried.join("; ");
        if met {
            found = Instant::now();
        }
        if !is_listed && found.elapsed() > JOINING {
            return Err(Error::Unreachable { tried, after: JOINING });
        }
        let is_late = warned.map_or(start.elapsed() > LATE, |warned: Instant| warned.elapsed() > JOINING);
        if is_late {
            tracing::warn!(%tried, "this node waits until it can join");
            warned = Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Brings the node into its cluster, which has this name, and starts what keeps it there.
pub(super) async fn run(cluster: &Arc<Cluster>, name: &str, entrance: Entrance) -> Result<()> {
    open_kept(cluster).await;
    tokio::spawn(control(Arc::downgrade(cluster)));
    match entrance {
        Entrance::Begin { partitions, replicas } => {
            cluster.begin(&cluster.meta).await?;
            begin_groups(cluster, partitions).await?;
            let begin = Change::Begin {
                name: name.to_owned(),
                partitions,
                replicas,
                address: cluster.address.clone(),
                incarnation: cluster.node.incarnation(),
            };
            match cluster.insist(begin).await {
                // It began, but stopped before it could remember that.
                Err(Error::Refused { .. }) => start_again(cluster).await?,
                begun => drop(begun?),
            }
        }
        Entrance::Join => {}
        Entrance::Return => start_again(cluster).await?,
    }
    tokio::spawn(keep(Arc::downgrade(cluster)));
    // The node is ready when it knows the cluster, itself included.
    let mut placement = cluster.placement.placement.subscribe();
    let known = async { placement.wait_for(|p| p.is_up(cluster.id)).await.is_ok() };
    tokio::pin!(known);
    let why = format!(
        "no majority of its nodes has answered; they reach this one at {}, which `--advertise` sets",
        cluster.address
    );
    let mut waited = tokio::time::timeout(LATE, &mut known).await;
    if waited.is_err() {
        tracing::warn!(%why, "this node waits for its cluster");
        waited = tokio::time::timeout(CHANGE - LATE, known).await;
    }
    if waited == Ok(true) {
        return Ok(());
    }
    Err(Error::Io { what: "waiting for the cluster".to_owned(), reason: why })
}

/// Begins the groups of the partitions, as the only node of a cluster that is about to begin.
///
/// Invariant: a group is begun once, by a node that knows for certain that no other can have a part in it: nobody joins
/// before `Begin`, which nobody else proposes.
async fn begin_groups(cluster: &Cluster, partitions: usize) -> Result<()> {
    let is_elsewhere = || cluster.meta.leader().is_some_and(|leader| leader != cluster.id);
    let start = Instant::now();
    while cluster.epoch().is_none() && !is_elsewhere() && start.elapsed() < CHANGE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if cluster.epoch() == Some(0) {
        for partition in 0..partitions {
            cluster.begin(&cluster.open(partition).await?.group).await?;
        }
    }
    Ok(())
}

/// Comes back into the cluster, however long it takes until enough of its nodes are there.
async fn start_again(cluster: &Cluster) -> Result<()> {
    let mut since = Instant::now();
    let start = Change::Start {
        node: cluster.id,
        address: cluster.address.clone(),
        incarnation: cluster.node.incarnation(),
    };
    loop {
        match cluster.change(start.clone(), 0).await {
            Err(Error::Io { reason, .. } | Error::Unreachable { tried: reason, .. }) => {
                if since.elapsed() > JOINING {
                    tracing::warn!(%reason, "this node waits for the others of its cluster");
                    since = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result.map(drop),
        }
    }
}

/// Says again and again that the node is there.
async fn keep(cluster: Weak<Cluster>) {
    let mut ticks = tokio::time::interval(KEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(cluster) = cluster.upgrade() else { return };
        let (asked, incarnation, id) = (cluster.micros(), cluster.node.incarnation(), cluster.id);
        let placement = cluster.placement.get();
        // That it is about to stop may be said late, by a start before.
        let is_gone =
            |n: &Member| n.incarnation == incarnation && matches!(n.state, State::Down | State::Stopping);
        if placement.nodes.get(&id).is_some_and(is_gone) && !cluster.stopping.load(Ordering::SeqCst) {
            tracing::warn!("this node was taken for lost, or about to stop: it comes back");
            let change = Change::Start { node: id, address: cluster.address.clone(), incarnation };
            let _ = cluster.change(change, 0).await;
        }
        let heard = if cluster.meta.leads() {
            cluster.heard(id, incarnation)
        } else if let Some(leader) = cluster.meta.leader() {
            let ask = |node: NodeClient, cx| async move { node.keep(cx, id, incarnation).await };
            cluster.peers.ask(leader, None, Lane::Urgent, KEEP * 2, ask).await.unwrap_or(false)
        } else {
            false
        };
        // Invariant: a node that was taken for lost serves nothing of what it had. It knows that it was when it asks to come
        // back, and gets no lease before its gates are what they should be by what it knew then.
        let mut gated = cluster.gated.subscribe();
        let gated = gated.wait_for(|epoch| *epoch >= placement.epoch);
        if heard && tokio::time::timeout(KEEP, gated).await.is_ok() {
            cluster.until.store(asked + OWNER_LEASE.as_micros() as u64, Ordering::Release);
        }
    }
}

/// What a node has begun and not ended.
#[derive(Default)]
struct Busy {
    groups: Arc<Mutex<HashSet<usize>>>,
    /// Partitions whose leadership this node has given away.
    transfers: Arc<Mutex<HashMap<usize, Transfer>>>,
    meta: Arc<Mutex<HashSet<usize>>>,
    /// Partitions whose next owner is asked whether it is there.
    next_owners: Arc<Mutex<HashSet<usize>>>,
    /// Since when this node leads the first group.
    leads: Option<Instant>,
    expired: Option<Instant>,
}

/// A leadership that was given away.
#[derive(Debug)]
struct Transfer {
    at: Instant,
    /// The epoch of the placement by which it was.
    epoch: u64,
    /// Another node has led since.
    taken: bool,
}

impl Transfer {
    fn new(placement: &Placement) -> Self {
        Transfer { at: Instant::now(), epoch: placement.epoch, taken: false }
    }

    /// Whether it may be given away again.
    ///
    /// Invariant: a leadership that nobody takes is given away once in a while only, as nobody serves the partition meanwhile;
    /// and so is one that comes back by the same placement: two nodes that know different ones could else pass it to and fro.
    /// With a newer placement, as when one node after the other is started again, nobody has to wait for it.
    fn has_rested(&self, placement: &Placement) -> bool {
        self.at.elapsed() > 3 * group::LEASE || self.taken && placement.epoch > self.epoch
    }
}

async fn control(cluster: Weak<Cluster>) {
    let mut busy = Busy::default();
    let mut belonged = false;
    let Some(mut changes) = cluster.upgrade().map(|c| c.placement.placement.subscribe()) else { return };
    loop {
        let _ = tokio::time::timeout(TICK, changes.changed()).await;
        let Some(cluster) = cluster.upgrade() else { return };
        let placement = cluster.placement.get();
        if placement.epoch == 0 {
            continue;
        }
        cluster.peers.learn(&placement);
        let known = placement.nodes.contains_key(&cluster.id);
        belonged |= known;
        if belonged && !known {
            cluster.left.send_replace(true);
        }
        cluster.look_for_failures();
        open_groups(&cluster, &placement).await;
        for (_, partition) in cluster.open_partitions() {
            partition.group.may_lead(cluster.remembers(partition.group.id()).await);
        }
        cluster.open_gates(&placement);
        cluster.lead_placement(&placement, &mut busy);
        cluster.lead_partitions(&placement, &mut busy);
        cluster.hand_over(&placement, &busy);
        cluster.clear_out(&placement, &mut busy);
    }
}

/// Opens the groups of which this node has kept a log.
///
/// Invariant: a member of a group takes part in it until it was taken out, wherever the placement wants the replicas by now. If
/// all nodes stop while a partition moves to others, these have no vote in it yet when they start again, so they ask nobody.
async fn open_kept(cluster: &Cluster) {
    for id in cluster.store.groups().into_iter().filter(|id| *id != META) {
        let opened = match cluster.last_log_id(id).await {
            // It was taken out, and remembers how it has voted.
            Ok(None) => continue,
            Ok(Some(_)) => cluster.open(id as usize - 1).await.map(drop),
            Err(error) => Err(Error::io("reading a log", &error)),
        };
        if let Err(error) = opened {
            tracing::error!(partition = id - 1, %error, "a partition can't be opened");
        }
    }
}

/// Opens the groups that this node should have a part in.
async fn open_groups(cluster: &Cluster, placement: &Placement) {
    for partition in 0..placement.owners.len() {
        if placement.replicas(partition).contains(&cluster.id)
            && let Err(error) = cluster.open(partition).await
        {
            tracing::error!(partition, %error, "a partition can't be opened");
        }
    }
}

/// Does something with a group that takes its time, unless it goes on already.
fn once(busy: &Arc<Mutex<HashSet<usize>>>, key: usize, work: impl Future<Output = ()> + Send + 'static) {
    if !busy.lock().unwrap().insert(key) {
        return;
    }
    let busy = busy.clone();
    tokio::spawn(async move {
        if tokio::time::timeout(CHANGE, work).await.is_err() {
            tracing::debug!(key, "a change of a group takes too long: it is tried again");
        }
        busy.lock().unwrap().remove(&key);
    });
}

/// Makes these the voters of a group; others that are in `learners` listen.
///
/// `term`: the one in which this node led the group when it was asked for. A leader of a later term decides anew.
async fn change_members(
    group: &Group,
    term: u64,
    voters: BTreeMap<NodeId, Peer>,
    learners: BTreeMap<NodeId, Peer>,
) {
    let Members { voters: have_voters, all: have, changing } = group.members();
    // A leader that was taken out of its group gives the leadership away soon. It must not add itself: by its own log it
    // is no member, and who is none can't lead the others through a change of members.
    if !have.contains(group.raft.node_id()) || group.term() != term {
        return;
    }
    for (id, peer) in voters.iter().chain(&learners) {
        let votes = voters.contains_key(id);
        let is_done = if votes { have_voters.contains(id) } else { have.contains(id) };
        if is_done {
            continue;
        }
        match group.raft.add_learner(*id, peer.clone(), false).await {
            // Invariant: who gets a vote has what the others have, and has said so. Else a majority may need one that never
            // answers, and no change could take that one out again.
            Ok(added) if votes => group.reaches(*id, added.log_id).await,
            Ok(_) => {}
            Err(error) => {
                return tracing::debug!(group = group.id(), node = id, %error, "a node can't be added to a group");
            }
        }
    }
    let wanted: BTreeSet<NodeId> = voters.keys().copied().collect();
    // Invariant: a change that has begun is ended, also if its leader was lost in between, or had no lease for a moment. Until
    // then it takes a majority of those before as well, and who leaves waits for it.
    if (have_voters != wanted || changing) && group.term() == term {
        tracing::debug!(group = group.id(), ?have_voters, ?wanted, "the voters of a group change");
        if let Err(error) = group.raft.change_membership(wanted, true).await {
            return tracing::debug!(group = group.id(), %error, "the voters of a group can't be changed");
        }
    }
    let gone: BTreeSet<NodeId> =
        have.into_iter().filter(|id| !voters.contains_key(id) && !learners.contains_key(id)).collect();
    if !gone.is_empty()
        && group.term() == term
        && let Err(error) = group.raft.change_membership(ChangeMembers::RemoveNodes(gone), false).await
    {
        tracing::debug!(group = group.id(), %error, "nodes can't be removed from a group");
    }
}

/// What is known of some nodes.
fn states(placement: &Placement, nodes: &[NodeId]) -> Vec<(NodeId, Option<State>)> {
    nodes.iter().map(|id| (*id, placement.nodes.get(id).map(|node| node.state))).collect()
}

impl Cluster {
    /// Does something until the placement is such that it makes no sense any more: a node that is added to a group may never
    /// answer, and whoever adds it has other things to do, to go for instance.
    async fn unless(&self, outdated: impl Fn(&Placement) -> bool, work: impl Future<Output = ()>) {
        let mut placements = self.placement.placement.subscribe();
        tokio::select! {
            () = work => {}
            _ = placements.wait_for(|placement| outdated(placement)) => {}
        }
    }

    /// Begins a group of which this node is the only member, if it has not begun.
    async fn begin(&self, group: &Group) -> Result<()> {
        let stopped = |e: &dyn std::fmt::Display| group::stopped(group.id(), e);
        if group.raft.is_initialized().await.map_err(|e| stopped(&e))? {
            return Ok(());
        }
        let alone = BTreeMap::from([(self.id, Peer { address: self.address.clone() })]);
        group.raft.initialize(alone).await.map_err(|e| stopped(&e))
    }

    /// Ends this node's part in the cluster if one of its groups can't go on, which is a defect: it could take part in
    /// elections, own objects and be counted on, and serve nothing. A disk that fails is said in the status instead.
    fn look_for_failures(&self) {
        let open = self.open_partitions();
        let mut groups =
            std::iter::once(&self.meta).chain(open.iter().map(|(_, partition)| &partition.group));
        let failure = groups.find_map(|group| Some(group::stopped(group.id(), &group.failure()?)));
        if let Some(failure) = failure
            && self.store.failure().is_none()
        {
            let _ = self.failed.send_replace(Err(failure));
        }
    }

    /// As the leader of the first group: who votes in it, and who is lost.
    fn lead_placement(self: &Arc<Self>, placement: &Arc<Placement>, busy: &mut Busy) {
        if !self.meta.leads() || !self.meta.lease_holds() {
            busy.leads = None;
            self.heard.lock().unwrap().clear();
            return;
        }
        let leads = *busy.leads.get_or_insert_with(Instant::now);
        let Members { voters: have_voters, all: have, changing } = self.meta.members();
        let may_vote = |id: &NodeId, state: State| match state {
            State::Up => true,
            // It stays a voter, and becomes none.
            State::Stopping | State::Down => have_voters.contains(id),
            // Who leads gives that away first. It is asked for its vote for who takes it, so it has one until then.
            State::Leaving => *id == self.id,
        };
        let voters = placement.nodes.iter().filter(|(id, n)| may_vote(id, n.state)).map(|(id, _)| *id);
        let voters = placement.peers(voters.take(VOTERS));
        let listening = placement.nodes.keys().copied().filter(|id| !voters.contains_key(id));
        let learners = placement.peers(listening);
        let wanted: BTreeSet<_> = voters.keys().copied().collect();
        let all: BTreeSet<_> = placement.nodes.keys().copied().collect();
        if have_voters != wanted || have != all || changing {
            let (cluster, term) = (self.clone(), self.meta.term());
            let nodes = |placement: &Placement| {
                states(placement, &placement.nodes.keys().copied().collect::<Vec<_>>())
            };
            let before = nodes(placement);
            once(&busy.meta, 0, async move {
                let change = change_members(&cluster.meta, term, voters, learners);
                cluster.unless(|placement| nodes(placement) != before, change).await;
            });
        }
        for (id, node) in &placement.nodes {
            let last = {
                let mut heard = self.heard.lock().unwrap();
                if node.state == State::Down {
                    heard.remove(id);
                }
                // A node that has just come, or come back, has as much time as any other.
                let known = heard.entry(*id).or_insert((node.incarnation, Instant::now()));
                if known.0 != node.incarnation {
                    *known = (node.incarnation, Instant::now());
                }
                known.1.max(leads)
            };
            let owns = placement.owners.contains(id);
            let silent = last.elapsed() > OWNER_LEASE + MARGIN;
            if silent && node.state != State::Down && (node.state != State::Leaving || owns) {
                tracing::warn!(node = id, address = node.address, "a node is lost");
                let (cluster, change) =
                    (self.clone(), Change::Down { node: *id, incarnation: node.incarnation });
                once(&busy.meta, 1 + *id as usize, async move {
                    let _ = cluster.change(change, 0).await;
                });
            } else if silent && node.state == State::Leaving && !owns && last.elapsed() > STOPPING {
                let (cluster, change) = (self.clone(), Change::Forget { node: *id });
                once(&busy.meta, 1 + *id as usize, async move {
                    let _ = cluster.change(change, 0).await;
                });
            }
        }
    }

    /// As the leader of partitions: who holds their replicas, and who should lead them.
    fn lead_partitions(self: &Arc<Self>, placement: &Arc<Placement>, busy: &mut Busy) {
        let expires = busy.expired.is_none_or(|last| last.elapsed() > EXPIRY);
        if expires {
            busy.expired = Some(Instant::now());
        }
        for (number, partition) in self.open_partitions() {
            let group = &partition.group;
            if (!group.leads() || group.is_cut_off()) && partition.has_waiting() {
                partition.give_up(&self.elsewhere(number));
            }
            let rested = busy.transfers.lock().unwrap().get_mut(&number).is_none_or(|last| {
                last.taken |= group.leader().is_some_and(|leader| leader != self.id);
                last.has_rested(placement)
            });
            if expires && !group.leads() {
                self.report_divergence(number, &partition);
            }
            if !group.leads() || !group.lease_holds() {
                continue;
            }
            if expires {
                partition.check();
                partition.expire(self.node.lease(), |session, member| self.node.knows(session, member));
            }
            self.lead(number, &partition, placement, busy, rested);
        }
    }

    /// Tells the leader of a partition what differs here, again and again until the log says that it knows.
    fn report_divergence(self: &Arc<Self>, number: usize, partition: &Partition) {
        let found = partition.replica().found();
        if let (false, Some(leader)) = (found.is_empty(), partition.group.leader()) {
            let peers = self.peers.clone();
            tokio::spawn(async move {
                let ask = |node: NodeClient, cx| async move { node.diverged(cx, number, found).await };
                let _ = peers.ask(leader, None, Lane::Urgent, EXPIRY, ask).await;
            });
        }
    }

    fn lead(
        self: &Arc<Self>,
        number: usize,
        partition: &Arc<Partition>,
        placement: &Arc<Placement>,
        busy: &mut Busy,
        rested: bool,
    ) {
        let group = &partition.group;
        let wanted: BTreeSet<_> = placement.replicas(number).into_iter().collect();
        let Members { voters, all: have, changing } = group.members();
        let owner = placement.owners[number];
        // A node that is not wanted any more gives the leadership away before it is removed. Whom it gives it to has to be a
        // voter, so that one comes first.
        let mut next = wanted.clone();
        if !wanted.contains(&self.id) && !voters.contains(&owner) {
            next.insert(self.id);
        }
        let may_change = next.contains(&self.id) && wanted.difference(&voters).all(|id| placement.is_up(*id));
        if (voters != next || have != next || changing) && may_change {
            let voters = placement.peers(next.into_iter());
            let (cluster, partition) = (self.clone(), partition.clone());
            let (term, epoch) = (group.term(), placement.epoch);
            let replicas = move |placement: &Placement| states(placement, &placement.replicas(number));
            let before = replicas(placement);
            once(&busy.groups, number, async move {
                // Invariant: a leader changes the members of its group by a placement that was current when it led the group
                // already, in this term; so it is at least as new as those by which the leaders before it did. A node that
                // has just come knows old ones until the first group's log has come: by those it would bring back nodes that
                // are lost, and with a majority of them the group could never commit anything again.
                if cluster.is_current(epoch).await {
                    let change = change_members(&partition.group, term, voters, BTreeMap::new());
                    cluster.unless(|placement| replicas(placement) != before, change).await;
                }
            });
            return;
        }
        let successor = if owner != self.id {
            Some(owner)
        } else if placement.is_up(self.id) {
            None
        } else {
            voters.iter().copied().find(|id| *id != self.id && placement.is_up(*id))
        };
        if let Some(successor) = successor
            && voters.contains(&successor)
            && placement.is_up(successor)
            && rested
            && is_close(group, successor)
        {
            let (cluster, partition, placement) = (self.clone(), partition.clone(), placement.clone());
            let transfers = busy.transfers.clone();
            once(&busy.groups, number, async move {
                // Invariant: a leadership goes where the current placement wants it. A node that has just come knows old ones
                // for a while: by those it would give back what it was given because of the current one.
                if cluster.is_current(placement.epoch).await {
                    tracing::debug!(partition = number, successor, "the leadership goes to the owner");
                    transfers.lock().unwrap().insert(number, Transfer::new(&placement));
                    partition.group.give_to(successor).await;
                }
            });
        }
    }

    /// Opens the partitions whose ephemeral objects this node owns now, and closes those that it lost.
    ///
    /// Invariant: the objects of a partition are served by one node. It has them from the owner before, who does not serve
    /// them any more; or the owner before is lost, and with it the objects: then none of them are here either. What this node
    /// has opened by an ownership and closed, it never opens by that again: this placement may be one in which it has not
    /// given the partition away yet.
    /// A node that has started again has lost what it owned, also where the placement, as it is known here, doesn't say so yet.
    /// Which luggage counts, the placement says: this node may have more, or have got it when it knew an older placement.
    fn open_gates(self: &Arc<Self>, placement: &Placement) {
        let gates = self.gates.get_or_init(|| placement.owners.iter().map(|_| Gate::default()).collect());
        let incarnation = self.node.incarnation();
        let started = placement.nodes.get(&self.id).is_some_and(|n| n.incarnation == incarnation);
        for (number, gate) in gates.iter().enumerate() {
            let ownership = placement.ownership(number);
            let owned = started && ownership.owner == self.id;
            let mut moves = self.moves.lock().unwrap();
            // A call that is in may take long, and nothing here waits for it.
            if moves.leaving.contains(&number) {
                continue;
            }
            let open = gate.is_open();
            let opened = moves.opened.get(&number) == Some(&ownership);
            if open && !(owned && opened) {
                tracing::debug!(partition = number, "ephemeral objects are not served here any more");
                gate.close();
                moves.leaving.insert(number);
                drop(moves);
                let cluster = self.clone();
                tokio::spawn(async move {
                    aside(|| cluster.gate(number).empty());
                    cluster.node.let_go(cluster.belongs(number), &cluster.elsewhere(number));
                    cluster.moves.lock().unwrap().leaving.remove(&number);
                });
                continue;
            }
            if owned && !open && !opened {
                let luggage = ownership.luggage;
                let arrived = moves.arrived.entry(number).or_default();
                let unpacked = match arrived.iter().position(|(other, _)| *other == luggage) {
                    Some(at) => self.node.unpack(&arrived[at].1).map(|()| drop(arrived.drain(..=at))),
                    None if luggage == 0 => Ok(()),
                    None => Err(Error::Refused { reason: format!("luggage {luggage:#x} is not here") }),
                };
                if let Err(error) = unpacked {
                    tracing::error!(partition = number, %error, "objects that came can't be taken in: a defect");
                    continue;
                }
                moves.opened.insert(number, ownership);
                gate.open();
            }
        }
        self.gated.send_replace(placement.epoch);
    }

    /// The gate of a partition that this node owns, or has owned.
    fn gate(&self, partition: usize) -> &Gate {
        &self.gates.get().expect("they are there before a partition has an owner here")[partition]
    }

    /// Hands the ephemeral objects of partitions over that another node should own.
    fn hand_over(self: &Arc<Self>, placement: &Placement, busy: &Busy) {
        for (number, wanted) in placement.wanted_owners().into_iter().enumerate() {
            let Some(to) = wanted.filter(|to| *to != self.id) else { continue };
            if !self.may_leave(number, &self.moves.lock().unwrap()) {
                continue;
            }
            let cluster = self.clone();
            // Calls don't have to wait before it is there: who has just come may not answer yet, or never.
            once(&busy.next_owners, number, async move {
                let greet = |node: NodeClient, cx| async move { node.epoch(cx).await };
                if let Err(error) = cluster.peers.ask(to, None, Lane::Bulk, TAKING, greet).await {
                    tracing::debug!(partition = number, to, %error, "who should own a partition doesn't answer");
                } else if cluster.begin_to_leave(number) {
                    // Not given up halfway.
                    tokio::spawn(async move {
                        cluster.hand(number, to).await;
                        cluster.moves.lock().unwrap().leaving.remove(&number);
                    });
                }
            });
        }
    }

    /// Whether this node owns a partition and serves it, and has not begun to hand it over.
    fn may_leave(&self, number: usize, moves: &Moves) -> bool {
        let open = || self.gates.get().is_some_and(|gates| gates[number].is_open());
        self.placement.get().owners[number] == self.id && !moves.leaving.contains(&number) && open()
    }

    /// Begins to hand a partition over, if that may be: lets no more calls in. From then on, only whoever does that lets them
    /// in again.
    fn begin_to_leave(&self, number: usize) -> bool {
        // As long as these are locked, nothing else closes it.
        let mut moves = self.moves.lock().unwrap();
        let begins = self.may_leave(number, &moves) && moves.leaving.insert(number);
        if begins {
            self.gate(number).close();
        }
        begins
    }

    /// Hands a partition over.
    ///
    /// Invariant: from when the objects are packed, this node does not serve them, unless the change of the owner has
    /// certainly not happened, and never will: an attempt whose answer was lost may be made yet.
    async fn hand(self: &Arc<Self>, number: usize, to: NodeId) {
        let gate = self.gate(number);
        let luggage = id::fresh() as u64 | 1;
        let by = self.moves.lock().unwrap().opened[&number];
        let packed = aside(|| {
            gate.empty();
            self.node.pack(self.belongs(number))
        });
        let sent = match packed {
            Ok(objects) => {
                let patience = TAKING + Duration::from_millis(objects.len() as u64 / 10_000);
                let (from, objects) = (self.id, Bytes(objects));
                let ask =
                    |node: NodeClient, cx| async move { node.take(cx, number, from, luggage, objects).await };
                self.peers.ask(to, None, Lane::Bulk, patience, ask).await.and_then(|taken| taken)
            }
            Err(error) => Err(error),
        };
        let incarnation = match sent {
            Ok(incarnation) => incarnation,
            Err(error) => {
                let text = "ephemeral objects can't be handed over";
                match &error {
                    // It is about to stop, which the placement will say soon.
                    Error::Refused { .. } => tracing::debug!(partition = number, to, %error, "{text}"),
                    _ => tracing::warn!(partition = number, to, %error, "{text}"),
                }
                gate.open();
                return tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let mut placements = self.placement.placement.subscribe();
        let learned = placements.wait_for(|placement| placement.ownership(number) != by);
        if !self.own(number, by, to, incarnation, luggage).await {
            // It was made before, or can't be made. Keeping the partition by another ownership finds out which, and sees to it
            // that no earlier attempt is made any more.
            let luggage = id::fresh() as u64 | 1;
            if self.own(number, by, self.id, self.node.incarnation(), luggage).await {
                self.moves.lock().unwrap().opened.insert(number, Ownership { luggage, ..by });
                gate.open();
                // Until this node learns of that, it takes the partition for one that it has by what it has no more.
                let _ = learned.await;
                return;
            }
        }
        // So that who is sent elsewhere is not sent here.
        let _ = tokio::time::timeout(OWNER_LEASE, learned).await;
        self.node.let_go(self.belongs(number), &self.elsewhere(number));
    }

    /// Changes the owner of a partition. Returns whether this attempt did.
    async fn own(
        &self,
        partition: usize,
        by: Ownership,
        to: NodeId,
        incarnation: u128,
        luggage: u64,
    ) -> bool {
        loop {
            let own = Change::Own { partition, by, to, incarnation, luggage };
            match self.change(own, 0).await {
                Ok(_) => return true,
                Err(Error::Refused { .. }) => return false,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Gives away all that this node has, before it stops: for good with `leave`.
    ///
    /// If all nodes stop, nobody takes it: they end with what they have on disk.
    ///
    /// # Errors
    /// If that takes too long, or a node that is to leave is the last one.
    pub async fn retire(self: &Arc<Self>, leave: bool) -> Result<()> {
        self.stopping.store(true, Ordering::SeqCst);
        let must_leave = leave && self.durable;
        // What is only in memory does not come back.
        let leave = leave || !self.durable;
        if !self.has_successor() {
            return if must_leave {
                self.stopping.store(false, Ordering::SeqCst);
                Err(Error::Refused { reason: "the last node can't leave: stop it instead".to_owned() })
            } else {
                Ok(())
            };
        }
        tokio::select! {
            retired = self.give_away(leave) => match retired {
                // All leave, and this is the last one: it takes what the others have, so that they can go.
                Err(Error::Refused { .. }) if !must_leave => {
                    let mut placement = self.placement.placement.subscribe();
                    let alone = placement.wait_for(|placement| placement.nodes.len() == 1);
                    let _ = tokio::time::timeout(STOPPING, alone).await;
                    tokio::time::sleep(ALONE).await;
                    Ok(())
                }
                retired => retired,
            },
            () = self.is_left_alone(), if !must_leave => {
                tracing::debug!("nobody is there who could take what this node has");
                Ok(())
            }
        }
    }

    async fn give_away(self: &Arc<Self>, leave: bool) -> Result<()> {
        let node = self.id;
        let change = if leave { Change::Leave { node } } else { Change::Stop { node } };
        if let Err(error) = self.insist(change).await {
            self.stopping.store(false, Ordering::SeqCst);
            return Err(error);
        }
        let start = Instant::now();
        while let Some(left) = self.left_over(leave).await {
            if start.elapsed() > STOPPING {
                return Err(Error::Io {
                    what: "giving away what this node has".to_owned(),
                    reason: format!("after {STOPPING:?}, {left}"),
                });
            }
            if leave {
                self.give_placement_away().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let incarnation = self.node.incarnation();
        let over = if leave { Change::Forget { node } } else { Change::Down { node, incarnation } };
        let mut placement = self.placement.placement.subscribe();
        tokio::select! {
            over = self.insist(over) => drop(over?),
            // Whoever could say so may be gone.
            _ = placement.wait_for(|placement| !placement.nodes.contains_key(&node)), if leave => {}
        }
        self.give_placement_away().await;
        // The others have no reason any more to tell this node.
        self.left.send_replace(leave);
        Ok(())
    }

    /// Has another node lead the first group, which would else be without a leader until the others miss this one: until
    /// then, no node that has stopped comes back to what it had.
    ///
    /// It needs no way back: a leader that has given its leadership away says nothing any more, so that the others elect one of
    /// them if nobody takes it.
    async fn give_placement_away(&self) {
        if !self.meta.leads() {
            return;
        }
        let placement = self.placement.get();
        let takes = |id: &NodeId| *id != self.id && placement.is_up(*id) && is_close(&self.meta, *id);
        if let Some(successor) = self.meta.members().voters.into_iter().find(takes) {
            self.meta.give_to(successor).await;
            let _ = tokio::time::timeout(2 * group::LEASE, self.meta.led_by_another(self.id)).await;
        }
    }

    /// Waits until all others stop as well, or are gone.
    async fn is_left_alone(&self) {
        let mut since = None;
        loop {
            let patience = if !self.has_successor() {
                Some(ALONE)
            } else if self.meta.leader().is_none() {
                Some(UNLED)
            } else {
                None
            };
            match patience {
                Some(patience) if since.get_or_insert_with(Instant::now).elapsed() > patience => return,
                Some(_) => {}
                None => since = None,
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Whether there is another node that could take what this one has.
    fn has_successor(&self) -> bool {
        self.placement.get().nodes.iter().any(|(id, node)| *id != self.id && node.state == State::Up)
    }

    /// What this node still owns or leads; with `leave`, what it holds, too.
    async fn left_over(&self, leave: bool) -> Option<String> {
        if let Some(owned) = self.placement.get().owners.iter().position(|owner| *owner == self.id) {
            return Some(format!("it owns partition {owned}"));
        }
        for (number, partition) in self.open_partitions() {
            if partition.group.leads() {
                return Some(format!("it leads partition {number}"));
            }
            if leave && self.belongs_to(&partition.group).await != Some(false) {
                return Some(format!("it has a replica of partition {number}"));
            }
        }
        // Invariant: who leaves has no vote any more. Else the next change of the voters needs it: of two that are left, both.
        // When it sees that it is none of them, the change before that is committed, and the others can do without it.
        if leave && self.meta.members().voters.contains(&self.id) {
            return Some("it votes on the membership".to_owned());
        }
        None
    }

    /// Whether this node belongs to a group, if its leader can be asked. A node that was taken out hears no more of it.
    async fn belongs_to(&self, group: &Group) -> Option<bool> {
        let wanted = self.placement.get().replicas(group.id() as usize - 1);
        let (id, node) = (group.id(), self.id);
        // The leader that this node knows may be none any more.
        for peer in group.leader().into_iter().chain(wanted).filter(|peer| *peer != node) {
            let ask = |peer: NodeClient, cx| async move { peer.belongs(cx, id, node).await };
            if let Ok(Some(belongs)) = self.peers.ask(peer, None, Lane::Urgent, group::LEASE, ask).await {
                return Some(belongs);
            }
        }
        None
    }

    /// Closes the groups that this node was taken out of, and forgets them.
    ///
    /// Invariant: a leader that hears of nobody may have been taken out, too. It gave the leadership away, for instance, so it
    /// says nothing any more; the others elected another leader while it could not be reached, and that one has no reason to
    /// tell it.
    fn clear_out(self: &Arc<Self>, placement: &Placement, busy: &mut Busy) {
        for (number, partition) in self.open_partitions() {
            let group = &partition.group;
            if placement.replicas(number).contains(&self.id) || group.leads() && !group.is_cut_off() {
                continue;
            }
            let cluster = self.clone();
            once(&busy.groups, number, async move {
                if cluster.belongs_to(&partition.group).await != Some(false) {
                    return tokio::time::sleep(EXPIRY).await;
                }
                // A task of its own, as it isn't given up halfway if it takes long.
                let _ = tokio::spawn(async move { cluster.put_away(number, &partition.group).await }).await;
            });
        }
    }

    /// Closes a group that this node was taken out of, and forgets it.
    ///
    /// Invariant: what a node has acknowledged as a member of a group, it forgets only when it is none. It may have become
    /// one since it was told that it isn't, and acknowledges nothing more from when the group is closed: so it asks then. A
    /// leader that was told of entries which are gone can't go on.
    async fn put_away(&self, number: usize, group: &Group) {
        let one_at_a_time = self.opening.lock().await;
        self.partitions.write().unwrap().remove(&number);
        let _ = group.raft.shutdown().await;
        if self.belongs_to(group).await == Some(false) {
            tracing::debug!(partition = number, "a replica is not needed here any more");
            if let Err(error) = self.forget(group.id()).await {
                tracing::warn!(partition = number, %error, "a replica can't be removed from disk");
            }
            return;
        }
        drop(one_at_a_time);
        if let Err(error) = self.open(number).await {
            tracing::error!(partition = number, %error, "a partition can't be opened again");
        }
    }
}

/// Whether a node has nearly all of a group's log.
fn is_close(group: &Group, node: NodeId) -> bool {
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow_watched();
    let matched = metrics.replication.as_ref().and_then(|r| r.get(&node).copied().flatten());
    let last = metrics.last_log_index.unwrap_or(0);
    matched.is_some_and(|matched| matched.index + 1000 >= last)
}

#[cfg(test)]
pub(super) mod tests {
    use crucial_runtime::{config::Config, holder::Lost};
    use openraft::{RaftMetrics, raft::VoteRequest};
    use tokio::task::JoinHandle;

    use super::{
        super::{
            group::LEASE,
            log::Store,
            raft::{LogId, Vote},
        },
        *,
    };
    use crate::{listener::Listener, node::Node};

    async fn listen(address: &str) -> (Listener, String) {
        let config = Config::default();
        let start = Instant::now();
        loop {
            match Listener::bind(Node::new(&config), address, &config).await {
                Ok(listener) => {
                    let address = listener.address().unwrap().to_string();
                    return (listener, address);
                }
                // Who had it before needs a moment.
                Err(error) => assert!(start.elapsed() < CHANGE, "{address}: {error}"),
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn options(join: &[&str]) -> Options {
        Options {
            advertise: None,
            join: join.iter().map(|address| (*address).to_owned()).collect(),
            data_dir: None,
            name: "test".to_owned(),
            partitions: 2,
            replicas: 3,
        }
    }

    pub async fn start(join: &[&str]) -> Arc<Cluster> {
        Cluster::start(listen("127.0.0.1:0").await.0, options(join)).await.unwrap().0
    }

    /// A cluster of three, whose groups are on all of them.
    async fn start_three(durable: bool) -> [Arc<Cluster>; 3] {
        let start = async |join: &[&str]| {
            let listener = listen("127.0.0.1:0").await.0;
            Cluster::start_with(listener, options(join), Store::memory(), durable).await.unwrap().0
        };
        let first = start(&[]).await;
        let second = start(&[&first.address]).await;
        let third = start(&[&first.address]).await;
        settle(&second, [1, 2, 3]).await;
        [first, second, third]
    }

    /// Adds a member that accepts connections, as long as the listener is there, and says nothing.
    async fn add_deaf(cluster: &Cluster) -> (tokio::net::TcpListener, NodeId) {
        let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = deaf.local_addr().unwrap().to_string();
        let joined = cluster.insist(Change::Join { address, incarnation: 1 }).await.unwrap();
        (deaf, joined)
    }

    async fn close(nodes: &[&Cluster]) {
        for cluster in nodes {
            cluster.close().await;
        }
    }

    /// A node with a disk, one of those with these addresses.
    fn start_listed(
        listener: Listener,
        all: &[String],
        disk: &Store,
    ) -> JoinHandle<(Arc<Cluster>, JoinHandle<()>)> {
        let options = options(&all.iter().map(|address| &**address).collect::<Vec<_>>());
        let disk = disk.clone();
        tokio::spawn(async move { Cluster::start_with(listener, options, disk, true).await.unwrap() })
    }

    /// Waits until all partitions that a node leads have these members, and it leads one.
    async fn settle(cluster: &Cluster, nodes: [NodeId; 3]) {
        let is_settled = || {
            let led: Vec<_> = cluster
                .open_partitions()
                .into_iter()
                .filter(|(_, partition)| partition.group.leads())
                .collect();
            let wanted = Members { voters: nodes.into(), all: nodes.into(), changing: false };
            !led.is_empty() && led.iter().all(|(_, partition)| partition.group.members() == wanted)
        };
        for _ in 0..600 {
            if is_settled() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the groups don't get the members {nodes:?}: {:?}", cluster.node.status());
    }

    #[test]
    fn a_leadership_may_go_on_at_once_only_by_a_newer_placement() {
        let placement = |epoch| {
            let mut placement = Placement::default();
            placement.epoch = epoch;
            placement
        };
        let mut transfer = Transfer::new(&placement(5));
        assert!(!transfer.has_rested(&placement(6)), "nobody has taken it");
        transfer.taken = true;
        assert!(!transfer.has_rested(&placement(5)), "it has come back by the same placement");
        assert!(transfer.has_rested(&placement(6)));
        let long_ago = Instant::now().checked_sub(4 * group::LEASE).unwrap();
        assert!(Transfer { at: long_ago, epoch: 5, taken: false }.has_rested(&placement(5)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_old_placement_brings_nobody_back() {
        let [first, second, third] = start_three(false).await;
        let old = second.placement.get();
        third.retire(true).await.unwrap();
        third.close().await;
        let fourth = start(&[&first.address]).await;
        settle(&second, [1, 2, 4]).await;
        let current = second.placement.get().epoch;
        assert!(second.is_current(current).await && !second.is_current(old.epoch).await);

        // As with a node that gets the log of the first group late, and so isn't its leader.
        assert!(first.meta.leads());
        second.placement.placement.send_replace(old);
        // It looks several times.
        tokio::time::sleep(5 * TICK).await;
        settle(&second, [1, 2, 4]).await;
        close(&[&fourth, &second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_leadership_goes_by_an_old_placement() {
        let [first, second, third] = start_three(true).await;
        let leads_as_owner = || {
            [&second, &third].into_iter().find_map(|cluster| {
                let owners = cluster.placement.get().owners.clone();
                let is_led = |(number, partition): &(usize, Arc<Partition>)| {
                    owners[*number] == cluster.id && partition.group.leads()
                };
                Some((cluster, cluster.open_partitions().into_iter().find(is_led)?))
            })
        };
        let start = Instant::now();
        let (cluster, (number, partition)) = loop {
            if let Some(found) = leads_as_owner() {
                break found;
            }
            assert!(start.elapsed() < CHANGE, "no owner leads");
            tokio::time::sleep(TICK).await;
        };
        let (current, term) = (cluster.placement.get(), partition.group.term());
        // As with a node that has been started again, and gets the log of the first group late.
        let mut old = Placement::clone(&current);
        old.epoch -= 1;
        old.owners[number] = first.id;
        cluster.placement.placement.send_replace(old.into());
        // It looks several times.
        tokio::time::sleep(5 * TICK).await;
        assert!(partition.group.leads() && partition.group.term() == term);
        close(&[&third, &second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_stops_gives_the_placement_away() {
        let [first, second, third] = start_three(true).await;
        assert!(first.meta.leads());
        first.retire(false).await.unwrap();
        assert_ne!(first.meta.leader(), Some(first.id));
        assert!(first.meta.leader().is_some(), "nobody leads the first group");
        close(&[&first, &second, &third]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_leaves_gives_the_placement_away() {
        let [first, second, third] = start_three(true).await;
        assert!(first.meta.leads());
        let (before, mut metrics) = (first.id, second.meta.raft.metrics());
        let taken = tokio::spawn(async move {
            loop {
                let RaftMetrics { current_leader, membership_config, .. } = metrics.borrow_watched().clone();
                if current_leader.is_some_and(|leader| leader != before) {
                    break membership_config.membership().voter_ids().any(|voter| voter == before);
                }
                metrics.changed().await.unwrap();
            }
        });
        first.retire(true).await.unwrap();
        assert!(taken.await.unwrap(), "the others had no leader until they missed the one before");
        close(&[&first, &second, &third]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_leads_and_was_taken_out_is_not_in_the_way() {
        let start = async |join: &[&str]| {
            let options = Options { replicas: 1, ..options(join) };
            Cluster::start(listen("127.0.0.1:0").await.0, options).await.unwrap().0
        };
        let first = start(&[]).await;
        let second = start(&[&first.address]).await;
        let is_there = |number: &usize| second.placement.get().replicas(*number) == [first.id];
        let number = (0..2).find(is_there).expect("both have a partition");
        // It leads a group of the same number, by a log of its own, and has given that away. It is not put away before, and seen
        // only then: this is right after the node has looked, when nothing changes any more.
        tokio::time::sleep(5 * TICK).await;
        second.gated.subscribe().changed().await.unwrap();
        tokio::time::sleep(TICK / 4).await;
        let group = second.open(number).await.unwrap();
        let opening = second.opening.lock().await;
        second.begin(&group.group).await.unwrap();
        until("it leads", || group.group.leads()).await;
        group.group.give_to(first.id).await;
        drop(opening);
        until("it is put away, so that its node could leave", || second.partition(number).is_none()).await;
        close(&[&second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_waits_for_a_member_that_does_not_answer() {
        let start = async |join: &[&str]| {
            let listener = listen("127.0.0.1:0").await.0;
            Cluster::start_with(listener, options(join), Store::memory(), true).await.unwrap().0
        };
        let first = start(&[]).await;
        let second = start(&[&first.address]).await;
        while !second.open_partitions().into_iter().any(|(_, partition)| partition.group.leads()) {
            tokio::time::sleep(TICK).await;
        }
        let (_deaf, joined) = add_deaf(&second).await;
        assert_eq!(joined, 3);
        // The partitions should have their replicas there.
        tokio::time::sleep(2 * TICK).await;
        tokio::time::timeout(CHANGE / 2, second.retire(false)).await.unwrap().unwrap();
        assert!(second.open_partitions().into_iter().all(|(_, partition)| !partition.group.leads()));
        close(&[&second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_call_waits_for_an_owner_that_does_not_answer() {
        let first = start(&[]).await;
        let gates = [open_gate(&first, 0).await, open_gate(&first, 1).await];
        let (_deaf, joined) = add_deaf(&first).await;
        // Until it is taken for lost.
        let mut looked = 0;
        let start = Instant::now();
        while first.placement.get().nodes[&joined].state == State::Up {
            assert!(start.elapsed() < CHANGE, "it is never taken for lost");
            looked += u32::from(first.placement.get().wanted_owners().contains(&Some(joined)));
            assert!(gates.iter().all(|gate| gate.is_open()), "a partition is not served");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(looked > 0, "it should own nothing");
        first.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_long_call_holds_up_nothing_but_the_hand_over_of_its_partition() {
        let node = start(&[]).await;
        let gate = open_gate(&node, 0).await;
        let (entered, is_in) = std::sync::mpsc::channel();
        let (call, ends) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _inside = gate.enter().unwrap();
                entered.send(()).unwrap();
                let _ = ends.recv();
            });
            is_in.recv().unwrap();
            // One partition after the other is lost to another node.
            for number in [0, 1] {
                let mut placement = Placement::clone(&node.placement.get());
                placement.epoch += 1;
                placement.owners[number] = 99;
                node.placement.placement.send_replace(placement.into());
                let start = Instant::now();
                while node.gate(number).is_open() {
                    assert!(start.elapsed() < CHANGE, "it waits for the call");
                    std::thread::sleep(TICK);
                }
            }
            assert!(node.moves.lock().unwrap().leaving.contains(&0), "it doesn't wait for the call");
            drop(call);
        });
        until("it has let go", || node.moves.lock().unwrap().leaving.is_empty()).await;
        node.close().await;
    }

    /// Waits until something is so.
    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < 2 * CHANGE, "not after {:?}: {what}", start.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The gate of a partition that is served.
    async fn open_gate(node: &Cluster, partition: usize) -> &Gate {
        let is_open = || node.gates.get().is_some_and(|gates| gates[partition].is_open());
        until("the partition is served", is_open).await;
        node.gate(partition)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn there_is_no_lease_before_the_gates_are_as_they_should_be() {
        let node = start(&[]).await;
        open_gate(&node, 0).await;
        let serves = || node.micros() < node.until.load(Ordering::Acquire);
        until("it has a lease", serves).await;
        // What sets the gates is held up, by a disk for instance, when this node learns that it was taken for lost.
        let held_up = node.clone();
        let (sender, lost) = std::sync::mpsc::channel();
        let holding = std::thread::spawn(move || {
            let _moves = held_up.moves.lock().unwrap();
            let mut placement = Placement::clone(&held_up.placement.get());
            placement.epoch += 1;
            placement.owners[0] = 99;
            held_up.placement.placement.send_replace(placement.into());
            std::thread::sleep(2 * OWNER_LEASE);
            let open = held_up.gate(0).is_open();
            sender.send((open, held_up.micros() < held_up.until.load(Ordering::Acquire))).unwrap();
        });
        let (open, served) = aside(|| lost.recv()).unwrap();
        holding.join().unwrap();
        assert!(open, "something else sets the gates");
        assert!(!served, "an object would be served that is another node's");
        until("it has a lease again, and not that partition", || serves() && !node.gate(0).is_open()).await;
        node.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_given_away_is_not_opened_again() {
        let first = start(&[]).await;
        let old = first.placement.get();
        let second = start(&[&first.address]).await;
        let mut placements = first.placement.placement.subscribe();
        let given = placements.wait_for(|placement| placement.owners.contains(&2));
        let current = Placement::clone(&*tokio::time::timeout(CHANGE, given).await.unwrap().unwrap());
        let number = current.owners.iter().position(|owner| *owner == 2).unwrap();
        while first.moves.lock().unwrap().leaving.contains(&number) {
            tokio::time::sleep(TICK).await;
        }
        // As if this node had not learned of it yet.
        let mut before = current;
        before.owners[number] = old.owners[number];
        before.luggage[number] = old.luggage[number];
        first.placement.placement.send_replace(Arc::new(before));
        // It looks several times.
        tokio::time::sleep(5 * TICK).await;
        assert_eq!(first.placement.get().owners[number], 1);
        assert!(!first.gate(number).is_open(), "two nodes serve partition {number}");
        close(&[&second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_never_answered_has_no_vote() {
        let first = start(&[]).await;
        let (_deaf, joined) = add_deaf(&first).await;
        assert_eq!(joined, 2);
        let mut placements = first.placement.placement.subscribe();
        let is_down = placements.wait_for(|placement| placement.nodes[&2].state == State::Down);
        drop(tokio::time::timeout(CHANGE, is_down).await.unwrap().unwrap());
        // It tries again.
        tokio::time::sleep(5 * TICK).await;
        for members in [first.meta.members(), first.open_partitions()[0].1.group.members()] {
            assert_eq!(members.voters, BTreeSet::from([1]));
        }
        first.insist(Change::Leave { node: 2 }).await.unwrap();
        first.close().await;
    }

    #[tokio::test]
    async fn groups_begin_before_anybody_can_join() {
        let first = start(&[]).await;
        // Nothing else had a turn since the cluster began.
        let open = first.open_partitions();
        assert_eq!(open.len(), 2);
        for (number, partition) in open {
            let members = partition.group.members();
            assert_eq!(members.voters, BTreeSet::from([1]), "partition {number}");
        }
        first.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_begin_one_cluster_together_and_never_another() {
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(listen("127.0.0.1:0").await);
        }
        listeners.sort_by(|(_, a), (_, b)| a.cmp(b));
        let (listeners, all): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        let disks = [(); 3].map(|()| Store::memory());
        let mut listeners = listeners.into_iter();

        // Neither some of them, nor any but the lowest.
        let mut starting: Vec<_> = listeners
            .by_ref()
            .take(2)
            .zip(&disks)
            .map(|(listener, disk)| start_listed(listener, &all, disk))
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(starting.iter().all(|start| !start.is_finished()));
        starting.push(start_listed(listeners.next().unwrap(), &all, &disks[2]));
        let mut nodes = Vec::new();
        for start in starting {
            nodes.push(start.await.unwrap());
        }
        assert_eq!(nodes[0].0.id, 1);
        let (second, _) = nodes.iter().find(|(cluster, _)| cluster.id == 2).unwrap();
        settle(second, [1, 2, 3]).await;
        // Else the two could do nothing without the one.
        let all_vote = Members { voters: [1, 2, 3].into(), all: [1, 2, 3].into(), changing: false };
        until("all vote on the membership", || second.meta.members() == all_vote).await;

        // The one that began loses its disk, while the others are down.
        for (cluster, serving) in nodes {
            cluster.close().await;
            serving.abort();
        }
        let lost = start_listed(listen(&all[0]).await.0, &all, &Store::memory());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!lost.is_finished());
        let mut starting = Vec::new();
        for n in 1..3 {
            starting.push(start_listed(listen(&all[n]).await.0, &all, &disks[n]));
        }
        let lost = lost.await.unwrap();
        assert_eq!(lost.0.id, 4);
        for start in starting {
            start.await.unwrap().0.close().await;
        }
        lost.0.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_member_takes_part_where_the_placement_wants_others() {
        let (listener, address) = listen("127.0.0.1:0").await;
        let disk = Store::memory();
        let all = [address];
        let (node, serving) = start_listed(listener, &all, &disk).await.unwrap();
        // A group that no placement asks for, and of which there is another member, so that it gets no leader.
        let count = node.open_partitions().len();
        let group = &node.open(count).await.unwrap().group;
        let members = [1, 99].map(|id| (id, Peer { address: all[0].clone() }));
        group.raft.initialize(BTreeMap::from(members)).await.unwrap();
        node.close().await;
        serving.abort();
        let (node, _) = start_listed(listen(&all[0]).await.0, &all, &disk).await.unwrap();
        assert!(node.partition(count).is_some());
        node.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_joins_waits_until_the_cluster_can_take_it_in() {
        let ((one, first), (two, second)) = (listen("127.0.0.1:0").await, listen("127.0.0.1:0").await);
        let (all, disks) = ([first, second], [(); 2].map(|()| Store::memory()));
        let starting =
            [(one, &disks[0]), (two, &disks[1])].map(|(listener, disk)| start_listed(listener, &all, disk));
        let [first, second] = starting;
        let ((first, _), (second, serving)) = (first.await.unwrap(), second.await.unwrap());
        // Without a majority, no change of the membership is possible.
        second.close().await;
        serving.abort();
        let (listener, _) = listen("127.0.0.1:0").await;
        let third =
            tokio::spawn(Cluster::start_with(listener, options(&[&first.address]), Store::memory(), true));
        tokio::time::sleep(JOINING + LATE).await;
        assert!(!third.is_finished(), "{:?}", third.await.unwrap().err());
        let (second, _) = start_listed(listen(&all[1]).await.0, &all, &disks[1]).await.unwrap();
        let (third, _) = third.await.unwrap().unwrap();
        assert_eq!(third.id, 3);
        close(&[&third, &second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_may_stop_at_once() {
        for durable in [true, false] {
            let nodes = start_three(durable).await;
            let ends = nodes.iter().map(|cluster| async {
                let retired = cluster.retire(false).await;
                cluster.close().await;
                retired
            });
            // Less than they would wait for each other.
            let Ok(ended) = tokio::time::timeout(STOPPING / 2, futures::future::join_all(ends)).await else {
                for node in &nodes {
                    println!("node {}: {}", node.id, *node.meta.raft.metrics().borrow_watched());
                    println!("{:?}", node.placement.get());
                    println!("{:?}, {:?}", node.left_over(!durable).await, node.moves.lock().unwrap());
                }
                panic!("durable: {durable}, they don't end");
            };
            ended.into_iter().for_each(|retired| retired.unwrap());
        }
    }

    #[tokio::test]
    async fn who_votes_on_the_membership_has_not_left() {
        let first = start(&[]).await;
        // Of two, the second votes, and has nothing else.
        let second = start(&[&first.address]).await;
        while !second.meta.members().voters.contains(&2) {
            tokio::time::sleep(TICK).await;
        }
        let mut has_nothing = second.placement();
        has_nothing.owners.fill(1);
        second.placement.placement.send_replace(Arc::new(has_nothing));
        second.partitions.write().unwrap().clear();
        // Nothing else has a turn before this.
        assert_eq!(second.left_over(true).await.as_deref(), Some("it votes on the membership"));
        assert_eq!(second.left_over(false).await, None);
        close(&[&second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_that_has_begun_is_ended() {
        let [first, second, third] = start_three(false).await;
        let (_, partition) =
            second.open_partitions().into_iter().find(|(_, partition)| partition.group.leads()).unwrap();
        let group = &partition.group;
        let last = || group.raft.metrics().borrow_watched().last_log_index;
        let before = last();
        let begun = async || {
            while last() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        for _ in 0..60 {
            // Whoever asks for it is gone after the first of its two steps.
            let others = BTreeSet::from([first.id, second.id]);
            let mut change = std::pin::pin!(group.raft.change_membership(others, true));
            assert!(futures::poll!(change.as_mut()).is_pending());
            // A leader without a lease refuses, as may be on a busy machine.
            if tokio::time::timeout(2 * group::LEASE, begun()).await.is_ok() {
                break;
            }
        }
        assert!(last() > before);
        settle(&second, [1, 2, 3]).await;
        close(&[&third, &second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_member_forgets_nothing() {
        let [first, second, third] = start_three(false).await;
        let (number, partition) = second.open_partitions().remove(0);
        let id = partition.group.id();
        let before = second.last_log_id(id).await.unwrap();
        assert!(before.is_some());

        // As if it had been told that it is no member, and became one again.
        second.put_away(number, &partition.group).await;
        assert!(second.last_log_id(id).await.unwrap() >= before);
        assert!(second.forgotten.lock().unwrap().is_empty());
        settle(&second, [1, 2, 3]).await;
        close(&[&third, &second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_partition_that_was_put_away_takes_no_memory() {
        let [first, second, third] = start_three(false).await;
        let (number, partition) = second.open_partitions().remove(0);
        let state = partition.state();
        second.put_away(number, &partition.group).await;
        drop(partition);
        let gone = async {
            while state.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(CHANGE, gone).await.expect("something holds the objects");
        close(&[&third, &second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_votes_in_no_group_that_it_has_forgotten() {
        let [first, second, third] = start_three(false).await;
        let (number, partition) = second.open_partitions().remove(0);
        let id = partition.group.id();
        // As one that asks whether there would be a vote, which has no consequence.
        let may_vote = async || {
            let request = VoteRequest::new(Vote::new(100, first.id), None);
            let ask = |node: NodeClient, cx| async move { node.vote(cx, id, request, true).await };
            let answer = first.peers.ask(third.id, None, Lane::Urgent, CHANGE, ask).await.unwrap();
            answer.map_or_else(|refusal| refusal, |_| "as the log is".to_owned())
        };
        while may_vote().await == "this node has just started" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(may_vote().await, "as the log is");

        // As if it had been taken out when it had one entry more, and added again.
        let mut had = third.last_log_id(id).await.unwrap().unwrap();
        had.index += 1;
        third.forgotten.lock().unwrap().insert(id, had);
        assert_eq!(may_vote().await, "this node has forgotten the group");
        for _ in 0..600 {
            // Whoever leads writes an entry.
            for cluster in [&first, &second, &third] {
                cluster.partition(number).unwrap().lose(&Lost::new(Vec::new()).to_args());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            if third.last_log_id(id).await.unwrap() >= Some(had) {
                break;
            }
        }
        assert_eq!(may_vote().await, "as the log is");
        close(&[&third, &second, &first]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_leads_no_group_that_it_has_forgotten() {
        let first = start(&[]).await;
        let partition = first.partition(0).unwrap();
        let id = partition.group.id();
        assert!(partition.group.leads(), "it is the only member");
        // As if it had been taken out, had forgotten all, and had got it again, but for the last entry.
        let last = first.last_log_id(id).await.unwrap().unwrap();
        first.forgotten.lock().unwrap().insert(id, LogId { index: last.index + 1, ..last });
        first.partitions.write().unwrap().remove(&0);
        partition.group.raft.shutdown().await.unwrap();
        tokio::time::sleep(3 * LEASE).await;
        assert!(!first.partition(0).unwrap().group.leads());
        // That has come, too.
        first.forgotten.lock().unwrap().remove(&id);
        let leads = async {
            while !first.partition(0).unwrap().group.leads() {
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::time::timeout(CHANGE, leads).await.unwrap();
        first.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn others_take_over_from_a_node_that_cannot_go_on() {
        let [first, second, third] = start_three(false).await;
        let (_, partition) =
            second.open_partitions().into_iter().find(|(_, partition)| partition.group.leads()).unwrap();
        let panics = partition.group.raft.external_request(|_| panic!("a defect, as a test"));
        panics.await.unwrap();

        let failed = tokio::time::timeout(CHANGE, second.ended()).await.unwrap().unwrap_err();
        assert!(failed.to_string().contains("panicked"), "{failed}");
        assert!(!partition.group.leads());
        tokio::time::timeout(CHANGE, second.retire(false)).await.unwrap().unwrap();
        second.close().await;
        let fourth = start(&[&first.address]).await;
        settle(&fourth, [1, 3, 4]).await;
        close(&[&fourth, &third, &first]).await;
    }
}
