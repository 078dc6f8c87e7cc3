//! The objects and cloud functions that are measured.

use std::hint::black_box;

use crucial::{cloud_fn, shared};

/// How many bytes a value has.
pub(super) const SIZE: usize = 1024;

/// The factor of all multiplications: near 1, so that numbers stay finite for long.
pub(super) const FACTOR: f64 = 1.000_000_1;

/// A block of bytes.
#[shared]
pub(crate) struct Block {
    bytes: Vec<u8>,
}

#[shared]
impl Block {
    pub fn new(bytes: Vec<u8>) -> Self {
        Block { bytes }
    }

    pub fn get(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    pub fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }
}

/// A number that is multiplied.
#[shared]
pub(crate) struct Number {
    value: f64,
}

#[shared]
impl Number {
    pub fn new(value: f64) -> Self {
        Number { value }
    }

    /// Multiplies, one after the other: no compiler can see through it.
    pub fn multiply(&mut self, times: u32) -> f64 {
        for _ in 0..times {
            self.value = black_box(self.value * FACTOR);
        }
        self.wrap()
    }

    /// The same as one would write it, with the value in a register. Each product is rounded before the next, so
    /// these multiplications can't be folded either.
    pub fn multiply_plain(&mut self, times: u32) -> f64 {
        let factor = black_box(FACTOR);
        for _ in 0..times {
            self.value *= factor;
        }
        self.wrap()
    }

    fn wrap(&mut self) -> f64 {
        if self.value > 1e300 {
            self.value = 1.5;
        }
        self.value
    }
}

/// A counter, as small as an object can be.
#[shared]
pub(crate) struct Counter {
    value: u64,
}

#[shared]
impl Counter {
    pub fn new() -> Self {
        Counter { value: 0 }
    }

    pub fn read(&self) -> u64 {
        self.value
    }

    pub fn add(&mut self, value: u64) -> u64 {
        self.value += value;
        self.value
    }
}

/// Nothing.
#[cloud_fn]
pub(crate) fn nothing() {}

/// The process that runs this.
#[cloud_fn]
pub(crate) fn process() -> u32 {
    std::process::id()
}
