//! Options with values that they can't have.
use crucial::{cloud_fn, shared};

#[shared(key = 3, persistent = true)]
pub struct Counter {
    n: u64,
}

#[shared]
impl Counter {
    pub fn new(n: u64) -> Self {
        Counter { n }
    }
}

#[shared(key)]
static HITS: Counter = Counter::new(0);

#[shared("misses")]
static MISSES: Counter = Counter::new(0);

#[cloud_fn(timeout = "30")]
fn no_unit() {}

#[cloud_fn(timeout = "30 seconds", memory = "1TB", retries = "3")]
fn other_units() {}

#[cloud_fn(timeout = 30, memory = 1.5, retries = -1)]
fn other_kinds() {}

#[cloud_fn(timeout("30s"), retries)]
fn other_forms() {}

#[crucial::test(modes())]
fn tests() {}

fn main() {}
