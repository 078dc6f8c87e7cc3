//! Shared objects of the tests, and of the program that they start.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use crucial::shared;

/// How many calls of [`Tally::slow_add`] this process has begun.
pub static SLOW_CALLS: AtomicU64 = AtomicU64::new(0);

/// A number.
#[shared]
pub struct Tally {
    n: u64,
}

#[shared]
impl Tally {
    /// A number that starts at `n`.
    pub fn new(n: u64) -> Self {
        Tally { n }
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.n
    }

    /// Its value, with failures as values.
    pub fn try_get(&self) -> Result<u64, crucial::Error> {
        Ok(self.n)
    }

    /// Adds; returns the value before.
    pub fn add(&mut self, by: u64) -> u64 {
        let before = self.n;
        self.n += by;
        before
    }

    /// Adds, and keeps the object for a while.
    pub fn slow_add(&mut self, by: u64, millis: u64) -> u64 {
        SLOW_CALLS.fetch_add(1, SeqCst);
        thread::sleep(Duration::from_millis(millis));
        self.add(by)
    }

    /// Takes `n` away as soon as it is there.
    #[when(self.n >= n)]
    pub fn take(&mut self, n: u64) -> u64 {
        self.n -= n;
        self.n
    }

    /// Waits for a value of at least `n`.
    #[when(self.n >= n)]
    pub fn reach(&self, n: u64) -> u64 {
        self.n
    }

    /// Panics in a read.
    pub fn fail_reading(&self, message: &str) -> u64 {
        panic!("{message}")
    }

    /// Panics in the middle of a write.
    pub fn fail_writing(&mut self, message: &str) -> u64 {
        self.n += 1;
        panic!("{message}")
    }

    /// How long `bytes` is.
    pub fn measure(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    /// How long `bytes` is, as a write.
    pub fn measure_written(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    /// So many bytes.
    pub fn give(&mut self, bytes: usize) -> Vec<u8> {
        vec![7; bytes]
    }
}

/// Tokens in the order in which they came.
#[shared]
pub struct Journal {
    tokens: Vec<u64>,
}

#[shared]
impl Journal {
    /// No tokens.
    pub fn new() -> Self {
        Journal { tokens: Vec::new() }
    }

    /// Adds a token.
    pub fn push(&mut self, token: u64) {
        self.tokens.push(token);
    }

    /// All tokens.
    pub fn tokens(&self) -> Vec<u64> {
        self.tokens.clone()
    }
}
