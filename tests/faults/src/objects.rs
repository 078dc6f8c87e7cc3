//! The objects that the clients of a schedule use, beside those of the library.

use std::sync::OnceLock;

use crucial::shared;

/// What a server does wrong, on purpose, to see that it is found: the value of `FAULTS_SABOTAGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// `double`: applies some calls twice.
    Double,
    /// `drop`: acknowledges some calls that it doesn't apply.
    Drop,
    /// `stale`: answers reads from the past, after a while.
    Stale,
}

/// What this server does wrong.
///
/// # Panics
/// If it is asked for something unknown.
#[must_use]
pub fn sabotage() -> Option<Sabotage> {
    static SABOTAGE: OnceLock<Option<Sabotage>> = OnceLock::new();
    *SABOTAGE.get_or_init(|| match std::env::var("FAULTS_SABOTAGE").ok()?.as_str() {
        "double" => Some(Sabotage::Double),
        "drop" => Some(Sabotage::Drop),
        "stale" => Some(Sabotage::Stale),
        "" => None,
        other => panic!("FAULTS_SABOTAGE = {other}: it is double, drop or stale"),
    })
}

/// After how many values the sabotage shows, and every how many.
const EVERY: usize = 20;

/// Values in the order in which they came.
#[shared]
pub struct Journal {
    values: Vec<u64>,
}

#[shared]
impl Journal {
    /// No values.
    pub fn new() -> Self {
        Journal { values: Vec::new() }
    }

    /// Appends a value; returns its index.
    pub fn push(&mut self, value: u64) -> usize {
        let index = self.values.len();
        let due = index % EVERY == EVERY - 1;
        match sabotage() {
            Some(Sabotage::Drop) if due && value.is_multiple_of(2) => return index,
            Some(Sabotage::Double) if due => self.values.push(value),
            _ => {}
        }
        self.values.push(value);
        index
    }

    /// All values.
    pub fn values(&self) -> Vec<u64> {
        let mut values = self.values.clone();
        // Each read from then on, so that one is found however few there are.
        if sabotage() == Some(Sabotage::Stale) && values.len() >= EVERY {
            values.pop();
        }
        values
    }
}

/// A value of many bytes, which fill a log soon.
#[shared]
pub struct Document {
    version: u64,
    bytes: Vec<u8>,
}

#[shared]
impl Document {
    /// An empty one.
    pub fn new() -> Self {
        Document { version: 0, bytes: Vec::new() }
    }

    /// Replaces the bytes; returns the version before.
    pub fn replace(&mut self, bytes: &[u8]) -> u64 {
        self.bytes = bytes.to_vec();
        self.version += 1;
        self.version - 1
    }

    /// How often it was replaced.
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// A lock whose owners have numbers that only grow, so that a store can refuse an owner that is late.
#[shared]
pub struct FencedLock {
    last: u64,
    locked: bool,
}

#[shared]
impl FencedLock {
    /// A free lock.
    pub fn new() -> Self {
        FencedLock { last: 0, locked: false }
    }

    fn take(&mut self) -> u64 {
        self.locked = true;
        self.last += 1;
        self.last
    }

    /// Waits for the lock; returns the number of its owner.
    #[when(!self.locked)]
    pub fn acquire(&mut self) -> u64 {
        self.take()
    }

    /// Takes the lock if nobody has it.
    pub fn try_acquire(&mut self) -> Option<u64> {
        (!self.locked).then(|| self.take())
    }

    /// Frees the lock if this owner has it.
    pub fn release(&mut self, owner: u64) -> bool {
        let owns = self.locked && owner == self.last;
        self.locked &= !owns;
        owns
    }

    /// The owner.
    pub fn owner(&self) -> Option<u64> {
        self.locked.then_some(self.last)
    }
}
