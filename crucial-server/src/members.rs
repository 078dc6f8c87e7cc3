//! Which processes take part in runs.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use crucial_runtime::id::{MemberId, RunId, ThreadId};
use serde::{Deserialize, Serialize};

use crate::leases::Leases;

/// The processes that a node knows, each with a lease.
///
/// Invariant: a process is said to be lost once: when it had no connection for the length of the lease, when its run
/// has ended, or when it was reported dead. Whoever says so then takes back what it held, before it could take anything
/// new: its old connections are closed, and a new one makes it a new member.
#[derive(Debug)]
pub struct Members {
    present: Leases<MemberId, Member>,
    /// Which process runs a cloud thread, as that process said.
    threads: HashMap<ThreadId, MemberId>,
    /// The lost ones, until their runs end: an object that comes from another node may not know it yet.
    lost: HashMap<RunId, Vec<MemberId>>,
}

/// What a node tells another one of the processes of some runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Known {
    present: Vec<(MemberId, RunId, Option<ThreadId>)>,
    lost: Vec<(RunId, MemberId)>,
}

#[derive(Debug)]
struct Member {
    run: RunId,
    thread: Option<ThreadId>,
}

impl Members {
    /// No processes yet; each outlives its last connection by `lease`.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Members { present: Leases::new(lease), threads: HashMap::new(), lost: HashMap::new() }
    }

    /// A connection of the process opens.
    pub fn attach(&mut self, member: MemberId, run: RunId, now: Instant) {
        self.present.start(member, Member { run, thread: None }, now);
        self.present.attach(member);
        if let Some(lost) = self.lost.get_mut(&run) {
            lost.retain(|other| *other != member);
        }
    }

    /// Whether it is present.
    #[must_use]
    pub fn contains(&self, member: MemberId) -> bool {
        self.present.contains(member)
    }

    /// A connection of the process closes.
    pub fn detach(&mut self, member: MemberId, now: Instant) {
        self.present.detach(member, now);
    }

    /// The process runs this cloud thread from now on, and no longer the one before.
    pub fn attend(&mut self, id: MemberId, thread: ThreadId) {
        if let Some(member) = self.present.get_mut(id) {
            let before = member.thread.replace(thread);
            self.threads.insert(thread, id);
            if let Some(before) = before
                && before != thread
                && self.threads.get(&before) == Some(&id)
            {
                self.threads.remove(&before);
            }
        }
    }

    /// The process that ran this cloud thread has died. Returns it, if it was still there.
    pub fn report_lost(&mut self, thread: ThreadId) -> Option<MemberId> {
        let member = self.threads.remove(&thread)?;
        if let Some(Member { run, .. }) = self.present.end(member) {
            self.lost.entry(run).or_default().push(member);
        }
        Some(member)
    }

    /// The processes of a run that has ended.
    pub fn end(&mut self, run: RunId) -> Vec<MemberId> {
        self.lost.remove(&run);
        let gone = self.present.end_if(|member| member.run == run);
        self.forget(gone)
    }

    /// The processes whose lease is over.
    pub fn expire(&mut self, now: Instant) -> Vec<MemberId> {
        let gone = self.present.expire(now);
        for (id, member) in &gone {
            self.lost.entry(member.run).or_default().push(*id);
        }
        self.forget(gone)
    }

    /// What is known of the processes of runs.
    #[must_use]
    pub fn known(&self, runs: &HashSet<RunId>) -> Known {
        let present = self.present.iter().filter(|(_, member)| runs.contains(&member.run));
        let lost = self.lost.iter().filter(|(run, _)| runs.contains(run));
        Known {
            present: present.map(|(id, member)| (id, member.run, member.thread)).collect(),
            lost: lost.flat_map(|(run, members)| members.iter().map(|member| (*run, *member))).collect(),
        }
    }

    /// Learns what another node knows. Returns the processes that are lost, as either of them knows.
    ///
    /// Invariant: whoever holds something of an object that came here is present here, with a lease that begins now at
    /// the latest, or is among those that this returns.
    pub fn learn(&mut self, known: Known, now: Instant) -> Vec<MemberId> {
        let mut runs = HashSet::new();
        for (run, member) in known.lost {
            runs.insert(run);
            let lost = self.lost.entry(run).or_default();
            if !self.present.contains(member) && !lost.contains(&member) {
                lost.push(member);
            }
        }
        for (id, run, thread) in known.present {
            runs.insert(run);
            if self.present.contains(id) || self.lost.get(&run).is_some_and(|lost| lost.contains(&id)) {
                continue;
            }
            self.present.start(id, Member { run, thread: None }, now);
            if let Some(thread) = thread {
                self.attend(id, thread);
            }
        }
        runs.iter().filter_map(|run| self.lost.get(run)).flatten().copied().collect()
    }

    fn forget(&mut self, gone: Vec<(MemberId, Member)>) -> Vec<MemberId> {
        let forget = |(id, member): (MemberId, Member)| {
            if let Some(thread) = member.thread
                && self.threads.get(&thread) == Some(&id)
            {
                self.threads.remove(&thread);
            }
            id
        };
        gone.into_iter().map(forget).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(1);
    const LEASE: Duration = Duration::from_secs(30);
    const A: MemberId = MemberId(10);
    const B: MemberId = MemberId(11);

    #[test]
    fn a_process_is_lost_once_its_lease_is_over() {
        let start = Instant::now();
        let mut members = Members::new(LEASE);
        members.attach(A, RUN, start);
        members.attach(A, RUN, start);
        members.detach(A, start);
        assert!(members.expire(start + LEASE * 100).is_empty(), "it has a connection");
        members.detach(A, start + LEASE);
        assert!(members.expire(start + LEASE * 2 - Duration::from_millis(1)).is_empty());
        assert_eq!(members.expire(start + LEASE * 2), [A]);
        assert!(members.expire(start + LEASE * 3).is_empty());
    }

    #[test]
    fn a_process_is_lost_with_the_thread_that_it_runs_now() {
        let start = Instant::now();
        let mut members = Members::new(LEASE);
        let (first, second) = (ThreadId(1), ThreadId(2));
        members.attach(A, RUN, start);
        members.attach(B, RUN, start);
        members.attend(A, first);
        members.attend(A, second);
        assert_eq!(members.report_lost(first), None, "it runs another thread now");
        // The thread is tried again elsewhere, and the first process is still about to be found dead.
        members.attend(B, second);
        assert_eq!(members.report_lost(second), Some(B));
        assert_eq!(members.report_lost(second), None);
        members.detach(A, start);
        assert_eq!(members.expire(start + LEASE), [A]);
        assert!(members.present.is_empty() && members.threads.is_empty());
    }

    #[test]
    fn processes_are_lost_with_their_run() {
        let start = Instant::now();
        let mut members = Members::new(LEASE);
        members.attach(A, RUN, start);
        members.attach(B, RunId(2), start);
        assert_eq!(members.end(RUN), [A]);
        assert!(members.end(RUN).is_empty());
    }
}
