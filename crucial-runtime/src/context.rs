//! Time and randomness inside shared methods.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The deterministic surroundings of a method call.
///
/// Methods of shared objects must give the same result wherever they run, so they may not ask the machine for the
/// time or for random numbers. A method that takes `cx: &mut Context` gets both from the call itself: they were
/// fixed when the server accepted it.
///
/// ```ignore
/// #[shared]
/// impl Lottery {
///     pub fn draw(&mut self, cx: &mut Context) -> u64 {
///         cx.random() % self.tickets
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    micros: u64,
    seed: u64,
}

impl Context {
    /// The context of a call that was accepted `micros` microseconds after the Unix epoch.
    #[must_use]
    pub fn new(micros: u64, seed: u64) -> Self {
        Context { micros, seed }
    }

    /// When the server accepted this call.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.micros)
    }

    /// The next number of this call's pseudo-random sequence, evenly distributed (SplitMix64).
    /// Not for secrets.
    pub fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
