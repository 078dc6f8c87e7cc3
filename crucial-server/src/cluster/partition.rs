//! A partition on this node: its replica of the persistent objects, and the calls that wait for it here.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crucial_runtime::{
    config::Limits,
    dso::Operation,
    error::{Error, Result},
    holder::Lost,
    id::{self, MemberId, ObjectId, SessionId},
    wire::{self, Elsewhere, Incoming},
};
use openraft::impls::ProgressResponder;
use tokio::sync::Notify;

use super::{
    batch::{Builder, Item},
    divergence::Step,
    group::Group,
    machine::Machine,
    raft::{Command, Outcome},
    replica::{Answered, CallId, Replica},
};
use crate::{
    methods::Methods,
    node::{Client, Link, Node},
    session::Begin,
};

/// A log entry takes no more calls when it has so many bytes.
const FULL: usize = 1 << 20;
/// The longest call of a persistent object. The log limits its entries.
const LONGEST: u64 = 16 << 20;

/// A partition.
#[derive(Debug)]
pub struct Partition {
    /// Its replicas.
    pub group: Group,
    state: Arc<State>,
}

/// What is on this node of a partition.
pub struct State {
    /// The objects.
    pub replica: Replica,
    pending: Mutex<Pending>,
    gathered: Notify,
    /// The node leads the replicas no more: what is on its way is not waited for.
    given_up: Notify,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// Calls that came to this node.
///
/// Invariant: a call that waits is answered: with its result when it is applied, or with [`Elsewhere`] when this node
/// does not lead the replicas any more. In the second case it may be applied or not; its client sends it to the new
/// leader, and the sessions of the replicas see to it that it is applied once.
#[derive(Default)]
struct Pending {
    /// Not in the log yet: each becomes an entry.
    gathered: VecDeque<Builder>,
    /// Without an answer yet.
    waiting: HashMap<CallId, Arc<Client>>,
    /// Sessions whose clients are not connected, and since when.
    absent: HashMap<SessionId, Instant>,
}

impl Pending {
    fn gather(&mut self, item: Item<'_>) {
        match self.gathered.back_mut() {
            Some(last) if last.len() < FULL => last.push(item),
            _ => {
                let mut next = Builder::default();
                next.push(item);
                self.gathered.push_back(next);
            }
        }
    }
}

impl Machine for State {
    fn apply(&self, command: &[u8]) -> Outcome {
        match self.replica.apply(command) {
            Ok(answers) => self.deliver(answers),
            Err(error) => tracing::error!(%error, "a log entry can't be read: this is a defect"),
        }
        Outcome::default()
    }

    fn image(&self) -> Result<Vec<u8>> {
        self.replica.image()
    }

    fn restore(&self, image: &[u8]) -> Result<()> {
        self.replica.restore(image)
    }
}

impl State {
    /// An empty partition.
    pub fn new() -> Arc<Self> {
        Arc::new(State {
            replica: Replica::default(),
            pending: Mutex::default(),
            gathered: Notify::new(),
            given_up: Notify::new(),
        })
    }

    fn deliver(&self, answers: Vec<Answered>) {
        let mut ready = Vec::with_capacity(answers.len());
        {
            let mut pending = self.pending.lock().unwrap();
            for (call, frame) in answers {
                if let Some(client) = pending.waiting.remove(&call) {
                    ready.push((client, call.seq, frame));
                }
            }
        }
        let mut links: Vec<Arc<dyn Link>> = Vec::new();
        for (client, seq, frame) in ready {
            links.extend(client.finish_frame(seq, &frame));
        }
        // Answers that go the same way go together.
        // In the order of the answers, whatever the addresses are.
        let mut seen = HashSet::new();
        links.retain(|link| seen.insert(Arc::as_ptr(link).addr()));
        links.iter().for_each(|link| link.flush());
    }
}

impl Partition {
    /// The partition whose group was opened with `state`. The limits are for its calls while this node leads.
    pub fn new(group: Group, state: Arc<State>, limits: Limits) -> Arc<Self> {
        let partition = Arc::new(Partition { group, state });
        tokio::spawn(propose(Arc::downgrade(&partition), limits));
        partition
    }

    /// The objects.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.state.replica
    }

    /// What of it may outlive it.
    #[cfg(test)]
    pub(super) fn state(&self) -> Weak<State> {
        Arc::downgrade(&self.state)
    }

    /// Serves a request, if this node leads: appends its answer to `out`, unless it comes later. Says whether it does.
    pub(crate) fn serve(
        &self,
        node: &Node,
        client: &Arc<Client>,
        call: &Incoming<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let Incoming { head, seq, ack, args } = *call;
        let origin = CallId { session: client.id(), seq };
        if head.operation == Operation::Withdraw {
            let mut pending = self.state.pending.lock().unwrap();
            if pending.waiting.contains_key(&origin) {
                pending.gather(Item::Call { session: origin.session, member: client.member(), body });
                self.state.gathered.notify_one();
            }
            return true;
        }
        if !self.group.lease_holds() {
            return false;
        }
        let start = wire::begin_answer(out);
        if let Some(result) = self.state.replica.read(&head, args, || node.context(), out) {
            wire::end_answer(out, start, seq, result, node.limits().frame);
            return true;
        }
        out.truncate(start);
        let length = body.len() as u64;
        if length > LONGEST {
            let what = "the call of a persistent object".to_owned();
            let error = Error::TooLarge { what, size: length, limit: LONGEST, setting: "(fixed)".to_owned() };
            wire::error_answer(out, seq, error);
            return true;
        }
        let mut pending = self.state.pending.lock().unwrap();
        match client.begin(seq, ack, head.object) {
            Ok(Begin::Fresh) => {
                pending.waiting.insert(origin, client.clone());
                pending.gather(Item::Call { session: origin.session, member: client.member(), body });
                drop(pending);
                self.state.gathered.notify_one();
            }
            Ok(Begin::Running) => {}
            Ok(Begin::Done(frame)) => out.extend_from_slice(&frame),
            Err(error) => wire::error_answer(out, seq, error),
        }
        true
    }

    /// Sends all calls that wait here to the new leader.
    pub(crate) fn give_up(&self, elsewhere: &Elsewhere) {
        let waiting = {
            let mut pending = self.state.pending.lock().unwrap();
            // Under the lock, so that whoever has taken calls into an entry is told, and nobody who does so later.
            self.state.given_up.notify_waiters();
            // What is not in the log must not get there later: its session may be forgotten by then.
            pending.gathered.clear();
            pending.absent.clear();
            std::mem::take(&mut pending.waiting)
        };
        if !waiting.is_empty() {
            tracing::debug!(group = self.group.id(), calls = waiting.len(), "calls go to another leader");
        }
        for (call, client) in waiting {
            client.send_elsewhere(call.seq, elsewhere);
        }
    }

    /// Whether calls wait here.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.state.pending.lock().unwrap().waiting.is_empty()
    }

    /// Ends the sessions of clients that were not connected to this node for the length of the lease, and tells the
    /// objects of processes that are lost. Only the leader does.
    pub(crate) fn expire(&self, lease: Duration, known: impl Fn(SessionId, MemberId) -> (bool, bool)) {
        let now = Instant::now();
        let sessions = self.state.replica.sessions();
        let mut pending = self.state.pending.lock().unwrap();
        let mut absent = std::mem::take(&mut pending.absent);
        let mut over = Vec::new();
        for (session, member) in sessions {
            if known(session, member).0 {
                continue;
            }
            let since = absent.remove(&session).unwrap_or(now);
            if now.duration_since(since) < lease {
                pending.absent.insert(session, since);
            } else {
                over.push((session, member));
            }
        }
        let mut lost = Vec::new();
        for (session, member) in &over {
            pending.gather(Item::Expire { session: *session });
            if !known(*session, *member).1 {
                lost.push(*member);
            }
        }
        if !lost.is_empty() {
            lost.dedup();
            pending.gather(Item::Lost { members: &Lost::new(lost).to_args() });
        }
        drop(pending);
        if !over.is_empty() {
            self.state.gathered.notify_one();
        }
    }

    /// Tells the objects that processes are lost: `args` are those of a `#[lost]` method.
    pub(crate) fn lose(&self, args: &[u8]) {
        self.gather(Item::Lost { members: args });
    }

    /// Goes on with the check whether the replicas are equal. Only the leader does, once a second.
    pub(crate) fn check(&self) {
        if let Some(step) = self.state.replica.next_step() {
            self.gather(Item::Check { step: &step.encode() });
        }
    }

    /// Tells all replicas that these objects differ somewhere.
    pub(crate) fn diverged(&self, objects: Vec<(ObjectId, Methods)>) {
        self.gather(Item::Check { step: &Step::Diverged { objects }.encode() });
    }

    fn gather(&self, item: Item<'_>) {
        self.state.pending.lock().unwrap().gather(item);
        self.state.gathered.notify_one();
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        // What waits for calls ends, and with it goes the state.
        self.state.gathered.notify_one();
    }
}

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// Puts the calls that gather into the log, until the partition is dropped: one entry at a time. What comes meanwhile goes
/// together with the next, since an entry costs more than the calls in it.
///
/// Invariant: what becomes of an entry is waited for, until its calls have been given up.
async fn propose(weak: Weak<Partition>, limits: Limits) {
    let Some(state) = weak.upgrade().map(|p| p.state.clone()) else { return };
    loop {
        state.gathered.notified().await;
        loop {
            let Some(partition) = weak.upgrade() else { return };
            let (next, given_up) = {
                let mut pending = state.pending.lock().unwrap();
                let given_up = state.given_up.notified();
                let Some(next) = pending.gathered.pop_front() else { break };
                (next, given_up)
            };
            let command = Command(next.finish(micros(), id::fresh() as u64, &limits).into());
            let (responder, ended) = ProgressResponder::complete_only();
            if partition.group.raft.client_write_ff(command, Some(responder)).await.is_err() {
                partition.give_up(&Elsewhere::default());
                break;
            }
            // Nobody else may have it any more.
            drop(partition);
            let failed = tokio::select! {
                ended = ended => match ended {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => ToString::to_string(&error),
                    Err(_) => "the group has stopped".to_owned(),
                },
                () = given_up => continue,
            };
            tracing::debug!(%failed, "a log entry is not this node's to write");
            let Some(partition) = weak.upgrade() else { return };
            partition.give_up(&Elsewhere { leader: partition.group.leader(), ..Elsewhere::default() });
        }
    }
}
