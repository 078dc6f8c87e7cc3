//! A Raft group on this node.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crucial_runtime::error::{Error, Result};
use futures::FutureExt;
use openraft::{
    Instant as _, Raft, RaftMetrics, SnapshotPolicy,
    alias::SnapshotOf,
    async_runtime::watch::WatchReceiver,
    errors::Fatal,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

use super::{
    log::Store,
    machine::{Machine, SnapshotData, StateMachine},
    peers::{Failure, Network, Peers},
    pulse::Contact,
    raft::{GroupId, LogId, NodeId, Types, Vote},
};

/// How often a leader says that it is there.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long a follower waits for its leader: at least, and at most.
const ELECTION: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1000));
/// How long a quorum's word lasts that this node is the leader: followers elect no other one for so long.
pub const LEASE: Duration = ELECTION.1;
/// By how much clocks may differ over the length of a lease.
const DRIFT: Duration = Duration::from_millis(100);

/// A group.
#[derive(Debug)]
pub struct Group {
    /// openraft's handle.
    pub raft: Raft<Types, StateMachine>,
    id: GroupId,
    /// The term of the last entry that was applied here.
    term: Arc<Mutex<Option<u64>>>,
    contact: Arc<Contact>,
    start: Instant,
    /// Until when this node may answer reads, in microseconds since `start`.
    until: AtomicU64,
    /// The term in which this node began to give the leadership away.
    given_away: AtomicU64,
}

/// Who belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The nodes that vote.
    pub voters: BTreeSet<NodeId>,
    /// These and the ones that listen.
    pub all: BTreeSet<NodeId>,
    /// Whether a change of them has begun and not ended.
    pub changing: bool,
}

/// The settings of all groups.
///
/// # Panics
/// If they contradict each other.
#[must_use]
pub fn settings(name: &str) -> Arc<openraft::Config> {
    let millis = |d: Duration| d.as_millis() as u64;
    let config = openraft::Config {
        cluster_name: name.to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(ELECTION.0),
        election_timeout_max: millis(ELECTION.1),
        install_snapshot_timeout: 10_000,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(50_000),
        max_in_snapshot_log_to_keep: 1_000,
        enable_pre_vote: Some(true),
        // Invariant: a leader has applied an entry of its own term before it answers reads, and with it all that was
        // acknowledged before. One that went on after a restart, in the term that it had, would have applied old entries
        // of that term only.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    Arc::new(config.validate().expect("the settings agree with each other"))
}

impl Group {
    /// Opens the group with what the store has of it.
    ///
    /// # Errors
    /// If that can't be read.
    pub async fn open(
        node: NodeId,
        id: GroupId,
        settings: Arc<openraft::Config>,
        store: &Store,
        peers: &Arc<Peers>,
        machine: Arc<dyn Machine>,
    ) -> Result<Self> {
        let machine = StateMachine::new(id, machine, store.snapshots().clone());
        let term = machine.term();
        let network = Network { group: id, peers: peers.clone() };
        let raft = Raft::new(node, settings, network, store.group(id), machine).await;
        let raft = raft.map_err(|error| stopped(id, &error))?;
        let contact = peers.pulse(HEARTBEAT).keep(&raft);
        Ok(Group {
            raft,
            contact,
            id,
            term,
            start: Instant::now(),
            until: AtomicU64::new(0),
            given_away: AtomicU64::new(0),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Whether this node leads the group, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        // Of one that panicked, the last state is shown for ever.
        self.raft.is_leader() && self.failure().is_none()
    }

    /// Why the group has stopped on this node, if it did so by itself.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let mut metrics = self.raft.metrics();
        let is_gone = loop {
            match metrics.changed().now_or_never() {
                Some(Ok(())) => {}
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        match &metrics.borrow_watched().running_state {
            Ok(()) => is_gone.then(|| "it panicked".to_owned()),
            Err(Fatal::Stopped) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether this node may stand for election when it misses the leader.
    pub fn may_lead(&self, may: bool) {
        self.raft.runtime_config().elect(may);
    }

    /// The leader, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader
    }

    /// Waits until somebody else leads than `leader`, as far as this node knows.
    pub async fn led_by_another(&self, leader: NodeId) {
        let mut metrics = self.raft.metrics();
        while self.leader().is_none_or(|now| now == leader) {
            if metrics.changed().await.is_err() {
                // The group has stopped: nobody will.
                std::future::pending().await
            }
        }
    }

    /// The term, as far as this node knows.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    /// Who belongs to the group, as this node knows it.
    #[must_use]
    pub fn members(&self) -> Members {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        Members {
            voters: membership.voter_ids().collect(),
            all: membership.nodes().map(|(id, _)| *id).collect(),
            changing: membership.get_joint_config().len() > 1,
        }
    }

    /// As the leader, waits until a node has said that it has an entry, and all before it; or until this node leads no more.
    pub async fn reaches(&self, node: NodeId, entry: LogId) {
        let mut metrics = self.raft.metrics();
        let has_it = |metrics: &RaftMetrics<Types>| match &metrics.replication {
            Some(reached) => reached.get(&node).is_some_and(|reached| *reached >= Some(entry)),
            None => true,
        };
        while !has_it(&metrics.borrow_watched()) {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// How many entries of the log are not applied here yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let applied = metrics.last_applied.map_or(0, |applied| applied.index);
        metrics.last_log_index.unwrap_or(0).saturating_sub(applied)
    }

    /// Whether this node leads the group for certain, and has applied all that was acknowledged: then it may answer
    /// reads from its own state.
    ///
    /// Invariant: no other node leads the group while this holds. A quorum has acknowledged this leader within
    /// [`LEASE`], and followers grant no vote for that long; only a transfer of the leadership makes them, so that a
    /// leader which has begun one has no lease any more in its term. What was acknowledged in earlier terms is applied
    /// here when an entry of this term is.
    #[must_use]
    pub fn lease_holds(&self) -> bool {
        let now = self.start.elapsed().as_micros() as u64;
        now < self.until.load(Ordering::Acquire) || self.renew(now)
    }

    fn renew(&self, now: u64) -> bool {
        let (until, term) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            if !metrics.state.is_leader() || *self.term.lock().unwrap() != Some(metrics.current_term) {
                return false;
            }
            let mut voters = metrics.membership_config.membership().voter_ids();
            let alone = voters.next() == Some(metrics.id) && voters.next().is_none();
            let acked = match metrics.last_quorum_acked {
                // Nobody else can vote.
                _ if alone => LEASE / 2,
                Some(acked) => acked.elapsed(),
                None => return false,
            };
            (now + (LEASE - DRIFT).saturating_sub(acked).as_micros() as u64, metrics.current_term)
        };
        if self.given_away.load(Ordering::SeqCst) == term {
            return false;
        }
        self.until.store(until, Ordering::SeqCst);
        if self.given_away.load(Ordering::SeqCst) == term {
            self.until.store(0, Ordering::SeqCst);
            return false;
        }
        now < until
    }

    /// Whether a quorum has said nothing for so long that others may have elected a new leader.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.leads() && !self.lease_holds() && {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.last_quorum_acked.is_none_or(|acked| acked.elapsed() > 2 * LEASE)
        }
    }

    /// Gives the leadership to another node. From then on this one says nothing as the leader: if that node doesn't take it, the
    /// others miss a leader, and elect one.
    pub async fn give_to(&self, node: NodeId) {
        let term = self.term();
        self.given_away.store(term, Ordering::SeqCst);
        self.until.store(0, Ordering::SeqCst);
        let _ = self.raft.trigger().transfer_leader(node).await;
    }

    // ---- what other nodes ask

    pub(super) async fn append(
        &self,
        request: AppendEntriesRequest<Types>,
    ) -> Result<AppendEntriesResponse<Types>, Failure> {
        let answer = self.raft.append_entries(request).await.map_err(|e| e.to_string())?;
        // A leader that is none any more is refused.
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.contact.heard();
        }
        Ok(answer)
    }

    pub(super) async fn vote(
        &self,
        request: VoteRequest<Types>,
        pre: bool,
    ) -> Result<VoteResponse<Types>, Failure> {
        let vote = if pre { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        vote.map_err(|e| e.to_string())
    }

    pub(super) async fn install(
        &self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
    ) -> Result<SnapshotResponse<Types>, Failure> {
        self.raft.install_full_snapshot(vote, snapshot).await.map_err(|e| e.to_string())
    }

    pub(super) async fn transfer(
        &self,
        request: TransferLeaderRequest<Types>,
    ) -> Result<TransferLeaderResponse<Types>, Failure> {
        self.raft.handle_transfer_leader(request).await.map_err(|e| e.to_string())
    }
}

/// The error of a group that can't go on.
pub fn stopped(id: GroupId, error: &dyn std::fmt::Display) -> Error {
    Error::Io { what: format!("replication of group {id}"), reason: error.to_string() }
}
