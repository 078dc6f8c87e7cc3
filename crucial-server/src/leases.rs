//! What lives as long as it is connected, and a lease longer.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// What is alive, each with its connections and with what is known of it.
///
/// Invariant: it ends when somebody says so, or when it had no connection for the length of the lease. Only a start
/// brings it back, as something new.
#[derive(Debug)]
pub struct Leases<K, V = ()> {
    lease: Duration,
    alive: HashMap<K, Lease<V>>,
}

#[derive(Debug)]
struct Lease<V> {
    connections: usize,
    last_seen: Instant,
    value: V,
}

impl<K: Copy + Eq + Hash, V> Leases<K, V> {
    /// Nothing yet; what comes outlives its last connection by `lease`.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Leases { lease, alive: HashMap::new() }
    }

    /// It is alive from now on, if it isn't yet.
    pub fn start(&mut self, key: K, value: V, now: Instant) {
        self.alive.entry(key).or_insert(Lease { connections: 0, last_seen: now, value });
    }

    /// A connection of it opens. False if it is not alive (any more).
    pub fn attach(&mut self, key: K) -> bool {
        self.alive.get_mut(&key).map(|lease| lease.connections += 1).is_some()
    }

    /// A connection of it closes.
    pub fn detach(&mut self, key: K, now: Instant) {
        if let Some(lease) = self.alive.get_mut(&key) {
            // A client that breaks the rules can end a run and start it again while it is connected. That harms its
            // own run; a number below zero would harm all.
            lease.connections = lease.connections.saturating_sub(1);
            lease.last_seen = now;
        }
    }

    /// Whether it is alive.
    #[must_use]
    pub fn contains(&self, key: K) -> bool {
        self.alive.contains_key(&key)
    }

    /// What is known of it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.alive.get_mut(&key).map(|lease| &mut lease.value)
    }

    /// What is alive, with what is known of it.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.alive.iter().map(|(key, lease)| (*key, &lease.value))
    }

    /// How many are alive.
    #[must_use]
    pub fn len(&self) -> usize {
        self.alive.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    /// Ends it. Returns what was known of it, if it was alive.
    pub fn end(&mut self, key: K) -> Option<V> {
        self.alive.remove(&key).map(|lease| lease.value)
    }

    /// Ends those of which this holds.
    pub fn end_if(&mut self, over: impl Fn(&V) -> bool) -> Vec<(K, V)> {
        self.alive.extract_if(|_, lease| over(&lease.value)).map(|(key, lease)| (key, lease.value)).collect()
    }

    /// Ends those whose lease is over.
    pub fn expire(&mut self, now: Instant) -> Vec<(K, V)> {
        let over =
            |lease: &Lease<V>| lease.connections == 0 && now.duration_since(lease.last_seen) >= self.lease;
        self.alive.extract_if(|_, lease| over(lease)).map(|(key, lease)| (key, lease.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crucial_runtime::id::RunId;

    use super::*;

    const RUN: RunId = RunId(1);
    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_run_lives_as_long_as_it_has_a_connection_and_a_lease_longer() {
        let start = Instant::now();
        let mut runs = Leases::new(LEASE);
        runs.start(RUN, (), start);
        assert!(runs.attach(RUN));
        assert!(runs.expire(start + LEASE * 100).is_empty());
        runs.detach(RUN, start + LEASE);
        assert!(runs.expire(start + LEASE * 2 - Duration::from_millis(1)).is_empty());
        assert_eq!(runs.expire(start + LEASE * 2), [(RUN, ())]);
        assert!(!runs.attach(RUN));
    }

    #[test]
    fn connections_from_before_a_second_start_do_not_count() {
        let start = Instant::now();
        let mut runs = Leases::new(LEASE);
        runs.start(RUN, (), start);
        assert!(runs.attach(RUN) && runs.attach(RUN) && runs.end(RUN).is_some());
        runs.start(RUN, (), start);
        assert!(runs.attach(RUN));
        for _ in 0..3 {
            runs.detach(RUN, start);
        }
        assert_eq!(runs.expire(start + LEASE), [(RUN, ())]);
    }

    #[test]
    fn a_run_that_comes_back_in_time_goes_on() {
        let start = Instant::now();
        let mut runs = Leases::new(LEASE);
        runs.start(RUN, (), start);
        runs.attach(RUN);
        runs.detach(RUN, start);
        assert!(runs.attach(RUN));
        assert!(runs.expire(start + LEASE * 2).is_empty());
        assert!(runs.end(RUN).is_some() && runs.end(RUN).is_none());
    }
}
