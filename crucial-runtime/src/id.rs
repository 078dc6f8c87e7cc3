//! Identities: of objects, runs and sessions.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::const_xxh3::xxh3_64 as const_xxh3_64;
use xxhash_rust::xxh3::xxh3_128;

/// Names an object on a server: 128 bits that are evenly spread, so that a table needs no further hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId(pub u128);

/// One execution of a client program. Its ephemeral objects end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub u128);

/// One sequence of calls of a client, numbered so that a repeated call is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u128);

/// One process's part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberId(pub u128);

/// One thread of a run, in whatever process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ThreadId(pub u128);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", (self.0 >> 64) as u64)
    }
}

/// 128 random bits, which nobody else will draw.
///
/// # Panics
/// If the operating system gives no random numbers.
pub fn fresh() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u128::from_le_bytes(bytes)
}

/// The identity of the key `key` of the type `type_name`, the same in every program.
pub fn of_key(type_name: &str, key: &str) -> u128 {
    let mut name = Vec::with_capacity(type_name.len() + 1 + key.len());
    name.extend_from_slice(type_name.as_bytes());
    name.push(0);
    name.extend_from_slice(key.as_bytes());
    xxh3_128(&name)
}

impl ObjectId {
    /// The bit that tells a persistent object from an ephemeral one, so that everybody knows where to look for it.
    const PERSISTENT: u128 = 1;

    /// The object that the persistent identity `base` means in every run.
    #[must_use]
    pub fn persistent(base: u128) -> Self {
        ObjectId(base | Self::PERSISTENT)
    }

    /// Whether it lives until it is removed.
    #[must_use]
    pub fn is_persistent(self) -> bool {
        self.0 & Self::PERSISTENT != 0
    }

    /// Which of `partitions` partitions it belongs to.
    #[must_use]
    pub fn partition(self, partitions: usize) -> usize {
        (self.0 >> 64) as u64 as usize % partitions
    }

    /// The object that the ephemeral identity `base` means in `run`: runs don't see each other's.
    #[must_use]
    pub fn in_run(base: u128, run: RunId) -> Self {
        // An odd multiplier permutes the 128-bit numbers: two objects of one run never coincide.
        let mixed = (base ^ run.0.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        ObjectId((mixed ^ (mixed >> 67)) & !Self::PERSISTENT)
    }
}

/// A hash that is the same in every build: what fingerprints are made of.
#[must_use]
pub const fn fingerprint(text: &str) -> u64 {
    const_xxh3_64(text.as_bytes())
}

/// Joins two fingerprints; the order matters.
#[must_use]
pub const fn combine(a: u64, b: u64) -> u64 {
    (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
