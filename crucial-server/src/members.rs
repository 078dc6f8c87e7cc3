//! Which processes take part in runs.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crucial_runtime::id::{MemberId, RunId, ThreadId};

/// The processes that a node knows, each with a lease.
///
/// Invariant: a process is said to be lost once: when it had no connection for the length of the lease, when its run
/// has ended, or when it was reported dead. Whoever says so then takes back what it held, before it could take anything
/// new: its old connections are closed, and a new one makes it a new member.
#[derive(Debug)]
pub struct Members {
    lease: Duration,
    present: HashMap<MemberId, Member>,
    /// Which process runs a cloud thread, as that process said.
    threads: HashMap<ThreadId, MemberId>,
}

#[derive(Debug)]
struct Member {
    run: RunId,
    connections: usize,
    last_seen: Instant,
    thread: Option<ThreadId>,
}

impl Members {
    /// No processes yet; each outlives its last connection by `lease`.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Members { lease, present: HashMap::new(), threads: HashMap::new() }
    }

    /// A connection of the process opens.
    pub fn attach(&mut self, member: MemberId, run: RunId, now: Instant) {
        let new = Member { run, connections: 0, last_seen: now, thread: None };
        self.present.entry(member).or_insert(new).connections += 1;
    }

    /// A connection of the process closes.
    pub fn detach(&mut self, member: MemberId, now: Instant) {
        if let Some(member) = self.present.get_mut(&member) {
            member.connections = member.connections.saturating_sub(1);
            member.last_seen = now;
        }
    }

    /// The process runs this cloud thread from now on, and no longer the one before.
    pub fn attend(&mut self, id: MemberId, thread: ThreadId) {
        if let Some(member) = self.present.get_mut(&id) {
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
        let member = *self.threads.get(&thread)?;
        self.remove(member);
        Some(member)
    }

    /// The processes of a run that has ended.
    pub fn end(&mut self, run: RunId) -> Vec<MemberId> {
        self.remove_if(|member| member.run == run)
    }

    /// The processes whose lease is over.
    pub fn expire(&mut self, now: Instant) -> Vec<MemberId> {
        let lease = self.lease;
        self.remove_if(|member| member.connections == 0 && now.duration_since(member.last_seen) >= lease)
    }

    fn remove_if(&mut self, over: impl Fn(&Member) -> bool) -> Vec<MemberId> {
        let gone: Vec<_> =
            self.present.iter().filter(|(_, member)| over(member)).map(|(id, _)| *id).collect();
        for id in &gone {
            self.remove(*id);
        }
        gone
    }

    fn remove(&mut self, id: MemberId) {
        if let Some(thread) = self.present.remove(&id).and_then(|member| member.thread)
            && self.threads.get(&thread) == Some(&id)
        {
            self.threads.remove(&thread);
        }
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
