//! Which runs are alive.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crucial_runtime::id::RunId;

/// The runs that a node knows, each with a lease.
///
/// Invariant: a run ends when its client says so, or when it had no connection for the length of the lease. Once it
/// has ended it does not come back, so that nobody meets fresh objects where there was state.
#[derive(Debug)]
pub struct Runs {
    lease: Duration,
    alive: HashMap<RunId, Run>,
}

#[derive(Debug)]
struct Run {
    connections: usize,
    last_seen: Instant,
}

impl Runs {
    /// No runs yet; each outlives its last connection by `lease`.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Runs { lease, alive: HashMap::new() }
    }

    /// Registers a run.
    pub fn start(&mut self, run: RunId, now: Instant) {
        self.alive.entry(run).or_insert(Run { connections: 0, last_seen: now });
    }

    /// A connection of the run opens. False if there is no such run (any more).
    pub fn attach(&mut self, run: RunId) -> bool {
        self.alive.get_mut(&run).map(|run| run.connections += 1).is_some()
    }

    /// A connection of the run closes.
    pub fn detach(&mut self, run: RunId, now: Instant) {
        if let Some(run) = self.alive.get_mut(&run) {
            // A client that breaks the rules can end a run and start it again while it is connected. That harms its
            // own run; a number below zero would harm all.
            run.connections = run.connections.saturating_sub(1);
            run.last_seen = now;
        }
    }

    /// Whether the run is alive.
    #[must_use]
    pub fn contains(&self, run: RunId) -> bool {
        self.alive.contains_key(&run)
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

    /// The run's client has ended it. False if there was none.
    pub fn end(&mut self, run: RunId) -> bool {
        self.alive.remove(&run).is_some()
    }

    /// Ends the runs whose lease is over, and returns them.
    pub fn expire(&mut self, now: Instant) -> Vec<RunId> {
        let over = |run: &Run| run.connections == 0 && now.duration_since(run.last_seen) >= self.lease;
        self.alive.extract_if(|_, run| over(run)).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(1);
    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_run_lives_as_long_as_it_has_a_connection_and_a_lease_longer() {
        let start = Instant::now();
        let mut runs = Runs::new(LEASE);
        runs.start(RUN, start);
        assert!(runs.attach(RUN));
        assert!(runs.expire(start + LEASE * 100).is_empty());
        runs.detach(RUN, start + LEASE);
        assert!(runs.expire(start + LEASE * 2 - Duration::from_millis(1)).is_empty());
        assert_eq!(runs.expire(start + LEASE * 2), [RUN]);
        assert!(!runs.attach(RUN));
    }

    #[test]
    fn connections_from_before_a_second_start_do_not_count() {
        let start = Instant::now();
        let mut runs = Runs::new(LEASE);
        runs.start(RUN, start);
        assert!(runs.attach(RUN) && runs.attach(RUN) && runs.end(RUN));
        runs.start(RUN, start);
        assert!(runs.attach(RUN));
        for _ in 0..3 {
            runs.detach(RUN, start);
        }
        assert_eq!(runs.expire(start + LEASE), [RUN]);
    }

    #[test]
    fn a_run_that_comes_back_in_time_goes_on() {
        let start = Instant::now();
        let mut runs = Runs::new(LEASE);
        runs.start(RUN, start);
        runs.attach(RUN);
        runs.detach(RUN, start);
        assert!(runs.attach(RUN));
        assert!(runs.expire(start + LEASE * 2).is_empty());
        assert!(runs.end(RUN) && !runs.end(RUN));
    }
}
