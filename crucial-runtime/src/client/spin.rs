//! A short spin before a wait, where it helps.

use std::time::{Duration, Instant};

/// Decides whether a waiting end looks for data for a moment before it sleeps.
///
/// A wake-up across CPUs can cost ten times what a call costs, so looking for a moment pays where a CPU is idle. It
/// hurts where the other end needs this CPU. So it has to notice: a spin that found nothing is followed by more and
/// more waits without one, one that found something makes it try again each time.
#[derive(Debug)]
pub struct Spin {
    limit: Duration,
    skip: u32,
    penalty: u32,
}

/// The most waits in a row without a spin: what a useless spin costs is spread over that many.
const MOST_SKIPPED: u32 = 1 << 12;

impl Spin {
    /// Spins for at most `limit`; zero turns it off.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Spin { limit, skip: 0, penalty: 0 }
    }

    /// Whether to spin now; a spin has to be reported with [`Spin::found`] or [`Spin::missed`].
    pub fn begin(&mut self) -> Option<Instant> {
        if self.limit.is_zero() {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(Instant::now() + self.limit)
    }

    /// The spin saw data.
    pub fn found(&mut self) {
        self.penalty = 0;
    }

    /// The spin ended without data.
    pub fn missed(&mut self) {
        self.penalty = (self.penalty * 2 + 1).min(MOST_SKIPPED);
        self.skip = self.penalty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_make_spins_rare_and_a_hit_makes_them_usual() {
        let mut spin = Spin::new(Duration::from_micros(50));
        let waits = 1 << 16;
        let mut spins = 0;
        for _ in 0..waits {
            if spin.begin().is_some() {
                spins += 1;
                spin.missed();
            }
        }
        assert!(spins < 40, "{spins} spins in {waits} waits");
        while spin.begin().is_none() {}
        spin.found();
        assert!((0..100).all(|_| spin.begin().is_some()));
    }

    #[test]
    fn zero_turns_it_off() {
        assert!(Spin::new(Duration::ZERO).begin().is_none());
    }
}
