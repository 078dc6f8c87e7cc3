//! What has no documentation is named where it is, each by itself.
#![deny(missing_docs)]

use crucial::{cloud_fn, shared};

#[shared]
pub struct Counter {
    value: u64,
}

#[shared]
impl Counter {
    pub fn new() -> Self {
        Counter { value: 0 }
    }

    pub fn add(&mut self, by: u64) -> u64 {
        self.value += by;
        self.value
    }

    pub fn clear(&mut self) {
        self.value = 0;
    }

    fn private(&self) {}
}

#[shared]
pub static TOTAL: Counter = Counter::new();

#[shared]
pub fn double(value: &mut u64) {
    *value *= 2;
}

#[cloud_fn]
pub fn work(by: u64) -> u64 {
    by
}

fn main() {}
