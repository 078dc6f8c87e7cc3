//! Which processes take part in runs.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crucial_runtime::id::{MemberId, RunId, ThreadId};

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
        Members { present: Leases::new(lease), threads: HashMap::new() }
    }

    /// A connection of the process opens.
    pub fn attach(&mut self, member: MemberId, run: RunId, now: Instant) {
        self.present.start(member, Member { run, thread: None }, now);
        self.present.attach(member);
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
        self.present.end(member);
        Some(member)
    }

    /// The processes of a run that has ended.
    pub fn end(&mut self, run: RunId) -> Vec<MemberId> {
        let gone = self.present.end_if(|member| member.run == run);
        self.forget(gone)
    }

    /// The processes whose lease is over.
    pub fn expire(&mut self, now: Instant) -> Vec<MemberId> {
        let gone = self.present.expire(now);
        self.forget(gone)
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
