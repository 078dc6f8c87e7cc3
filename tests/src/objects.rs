//! Shared objects of the tests, and of the program that they start.

use std::{
    collections::HashMap,
    process,
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

    /// Its value, printed where the object is.
    pub fn print(&self) -> u64 {
        println!("the tally is {}", self.n);
        self.n
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

    /// Adds tokens.
    pub fn extend(&mut self, tokens: &[u64]) {
        self.tokens.extend(tokens);
    }

    /// All tokens.
    pub fn tokens(&self) -> Vec<u64> {
        self.tokens.clone()
    }
}

/// How often [`Dice`] were thrown in this process.
pub static THROWS: AtomicU64 = AtomicU64::new(0);

/// What no shared type may do: it asks the process in which it happens to be.
#[shared]
pub struct Dice {
    last: u64,
    /// In an order of its own in each process.
    faces: HashMap<u64, String>,
    seen: Vec<u64>,
}

#[shared]
impl Dice {
    /// With six faces.
    pub fn new() -> Self {
        Dice { last: 0, faces: (1..=6).map(|n| (n, format!("face {n}"))).collect(), seen: Vec::new() }
    }

    /// Thrown already.
    pub fn thrown() -> Self {
        let mut dice = Dice::new();
        dice.throw();
        dice
    }

    /// Not deterministic.
    pub fn throw(&mut self) {
        self.last = u64::from(process::id()) << 32 | THROWS.fetch_add(1, SeqCst);
    }

    /// Not deterministic either: which one is the first depends on the process.
    pub fn look(&mut self) {
        self.seen.extend(self.faces.keys());
    }

    /// Deterministic.
    pub fn turn(&mut self, by: u64) {
        self.last += by;
        self.faces.insert(self.last, String::new());
    }
}
