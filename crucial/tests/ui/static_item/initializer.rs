//! The server makes the object of a static, so its initializer is a constructor call.
use crucial::shared;

#[shared]
pub struct Counter {
    n: u64,
}

#[shared]
impl Counter {
    pub fn new(n: u64) -> Self {
        Counter { n }
    }
    fn private() -> Self {
        Counter { n: 0 }
    }
}

const fn counter() -> u64 {
    0
}

#[shared]
static LITERAL: Counter = 0;

#[shared]
static STRUCT: Counter = Counter { n: 0 };

#[shared]
static FUNCTION: Counter = counter();

#[shared]
static METHOD: Counter = Counter::new(0).clone();

#[shared]
static BLOCK: Counter = { Counter::new(0) };

#[shared]
static mut MUTABLE: Counter = Counter::new(0);

fn main() {}
