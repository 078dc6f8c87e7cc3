//! Time for progress lines.

use std::time::{Duration, Instant};

/// Tells how long the parts of a run and the whole of it take.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    lap: Instant,
}

impl Clock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        let now = Instant::now();
        Self { start: now, lap: now }
    }

    /// Time since the last call, or since the start.
    pub fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.lap, now)
    }

    /// Time since the start.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.start.elapsed()
    }
}
