//! Which instance takes which invocation.
//!
//! Plain data and decisions: no process, socket or clock is touched here. The service feeds in what happened
//! and when, and does what comes out.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// Numbers instances from 1 in the order in which they were started.
pub(crate) type InstanceId = u64;

/// What to do with an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Give it to this instance, which has none.
    Warm(InstanceId),
    /// Start an instance under this number and give it to that one.
    Cold(InstanceId),
    /// As many invocations as allowed are under way.
    Refused,
}

/// The instances of one function.
#[derive(Debug)]
pub(crate) struct Pool {
    limit: usize,
    keep: Duration,
    last: InstanceId,
    busy: HashSet<InstanceId>,
    /// Instances without an invocation and since when, the most recently used last.
    idle: Vec<(InstanceId, Instant)>,
}

impl Pool {
    /// A pool that runs at most `limit` invocations at a time and keeps an idle instance for `keep`.
    pub(crate) fn new(limit: usize, keep: Duration) -> Pool {
        Pool { limit, keep, last: 0, busy: HashSet::new(), idle: Vec::new() }
    }

    /// Finds a place for an invocation and counts it as under way.
    ///
    /// The most recently used instance goes first: its caches are the warmest, and the others get a chance to
    /// expire when the load falls.
    pub(crate) fn place(&mut self) -> Placement {
        if self.busy.len() >= self.limit {
            return Placement::Refused;
        }
        if let Some((id, _)) = self.idle.pop() {
            self.busy.insert(id);
            return Placement::Warm(id);
        }
        self.last += 1;
        self.busy.insert(self.last);
        Placement::Cold(self.last)
    }

    /// The invocation of this instance is over; it can take another.
    pub(crate) fn release(&mut self, id: InstanceId, now: Instant) {
        if self.busy.remove(&id) {
            self.idle.push((id, now));
        }
    }

    /// The instance is gone, whatever it was doing.
    pub(crate) fn remove(&mut self, id: InstanceId) {
        if !self.busy.remove(&id) {
            self.idle.retain(|(idle, _)| *idle != id);
        }
    }

    /// Takes out the instances that have been idle for long enough at `now`; the caller ends them.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<InstanceId> {
        // Instances are pushed when they become idle, so the longest idle ones are in front.
        let expired = self
            .idle
            .iter()
            .take_while(|(_, since)| now.saturating_duration_since(*since) >= self.keep)
            .count();
        self.idle.drain(..expired).map(|(id, _)| id).collect()
    }

    /// When [`Pool::expire`] has something to do next, if nothing changes. `None` if nothing is idle, or if
    /// the time to keep is beyond what the clock can tell.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.idle.first().and_then(|(_, since)| since.checked_add(self.keep))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(10);

    fn second(start: Instant, n: u64) -> Instant {
        start + Duration::from_secs(n)
    }

    #[test]
    fn starts_instances_up_to_the_limit() {
        let mut pool = Pool::new(2, KEEP);
        assert_eq!(pool.place(), Placement::Cold(1));
        assert_eq!(pool.place(), Placement::Cold(2));
        assert_eq!(pool.place(), Placement::Refused);
        pool.release(1, Instant::now());
        assert_eq!(pool.place(), Placement::Warm(1));
        assert_eq!(pool.place(), Placement::Refused);
    }

    #[test]
    fn a_limit_of_zero_refuses_everything() {
        assert_eq!(Pool::new(0, KEEP).place(), Placement::Refused);
    }

    #[test]
    fn reuses_the_most_recently_used_instance() {
        let start = Instant::now();
        let mut pool = Pool::new(3, KEEP);
        for _ in 0..3 {
            pool.place();
        }
        pool.release(2, second(start, 1));
        pool.release(3, second(start, 2));
        pool.release(1, second(start, 3));
        assert_eq!(pool.place(), Placement::Warm(1));
        assert_eq!(pool.place(), Placement::Warm(3));
        assert_eq!(pool.place(), Placement::Warm(2));
    }

    #[test]
    fn a_removed_instance_frees_its_place_and_is_not_reused() {
        let start = Instant::now();
        let mut pool = Pool::new(1, KEEP);
        assert_eq!(pool.place(), Placement::Cold(1));
        pool.remove(1);
        assert_eq!(pool.place(), Placement::Cold(2));
        pool.release(2, start);
        pool.remove(2);
        assert_eq!(pool.place(), Placement::Cold(3));
    }

    #[test]
    fn a_late_release_of_a_removed_instance_changes_nothing() {
        let start = Instant::now();
        let mut pool = Pool::new(1, KEEP);
        pool.place();
        pool.remove(1);
        pool.release(1, start);
        assert_eq!(pool.next_expiry(), None);
        assert_eq!(pool.place(), Placement::Cold(2));
    }

    #[test]
    fn only_instances_idle_for_long_enough_expire() {
        let start = Instant::now();
        let mut pool = Pool::new(3, KEEP);
        for _ in 0..3 {
            pool.place();
        }
        assert_eq!(pool.next_expiry(), None);
        pool.release(3, second(start, 0));
        pool.release(1, second(start, 5));
        assert_eq!(pool.next_expiry(), Some(second(start, 10)));
        assert!(pool.expire(second(start, 9)).is_empty());
        assert_eq!(pool.expire(second(start, 10)), [3]);
        assert_eq!(pool.next_expiry(), Some(second(start, 15)));
        assert_eq!(pool.place(), Placement::Warm(1));
        assert!(pool.expire(second(start, 60)).is_empty());
    }

    #[test]
    fn an_endless_time_to_keep_never_expires() {
        let mut pool = Pool::new(1, Duration::MAX);
        pool.place();
        pool.release(1, Instant::now());
        assert_eq!(pool.next_expiry(), None);
        assert!(pool.expire(Instant::now()).is_empty());
    }
}
