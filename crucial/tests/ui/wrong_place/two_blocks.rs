//! All methods of a shared type are in one block.
use crucial::shared;

#[shared]
pub struct Counter {
    n: u64,
}

#[shared]
impl Counter {
    pub fn new() -> Self {
        Counter { n: 0 }
    }
}

#[shared]
impl Counter {
    pub fn get(&self) -> u64 {
        self.n
    }
}

fn main() {}
