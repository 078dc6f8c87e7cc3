//! How long, and how often, something is tried again.

use std::time::{Duration, Instant};

/// The shortest pause between two attempts, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// What is left of the time for something that does not work yet.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    /// Since when it does not work.
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Patience { limit, since: None, pause: PAUSE.0 }
    }

    /// As [`new`](Self::new), with the first attempt as a part of the time.
    pub(super) fn from_now(limit: Duration) -> Self {
        Patience { since: Some(Instant::now()), ..Self::new(limit) }
    }

    /// Whether the time runs.
    pub(super) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Whether nothing has failed yet; from now on something has.
    pub(super) fn is_fresh(&mut self) -> bool {
        let fresh = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        fresh
    }

    /// A node had the call from `sent` until now, and then did not answer it.
    ///
    /// Invariant: the time runs while no node takes the call. One that is parked may be moved again and again, or lose its
    /// node, hours after it was moved first; each time, finding the next node has all the time.
    pub(super) fn was_taken(&mut self, sent: Instant) {
        if sent.elapsed() > PAUSE.1 {
            *self = Self::new(self.limit);
        }
    }

    /// The pause before the next attempt, if there is to be one. The pauses grow.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.limit {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        Some(pause)
    }

    /// Waits for the next attempt, if there is to be one.
    pub(super) fn wait(&mut self) -> bool {
        let pause = self.pause();
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        pause.is_some()
    }
}
