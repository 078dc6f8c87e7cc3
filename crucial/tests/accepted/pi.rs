//! The program of the README, with a counter of its own.
#![deny(warnings)]

use crucial::{cloud_fn, shared};

/// Counts.
#[shared]
pub struct Counter {
    n: u64,
}

#[shared]
impl Counter {
    /// Begins at `n`.
    pub fn new(n: u64) -> Self {
        Counter { n }
    }
    /// Adds; returns the sum.
    pub fn add(&mut self, n: u64) -> u64 {
        self.n += n;
        self.n
    }
}

#[shared]
static HITS: Counter = Counter::new(0);

#[cloud_fn]
fn throw(darts: u64) {
    if darts > 1_000_000 {
        HITS.add(darts);
    }
}

#[crucial::main]
fn main() {
    throw(10).here();
}
