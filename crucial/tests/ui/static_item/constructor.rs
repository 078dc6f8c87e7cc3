//! The constructor is one of the type, with its arguments.
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
}

#[shared]
pub struct Other {
    n: u64,
}

#[shared]
impl Other {
    pub fn new(n: u64) -> Self {
        Other { n }
    }
}

#[shared]
static UNKNOWN: Counter = Counter::open(0);

#[shared]
static TYPE: Counter = Counter::new("0");

#[shared]
static COUNT: Counter = Counter::new();

#[shared]
static OTHER: Counter = Other::new(0);

fn main() {}
