//! Options that an attribute doesn't have.
use crucial::{cloud_fn, shared};

#[shared(name = "counter")]
pub struct Counter {
    n: u64,
}

#[shared(persistent)]
impl Counter {
    pub fn new(n: u64) -> Self {
        Counter { n }
    }
}

#[shared(instances(Counter))]
static HITS: Counter = Counter::new(0);

#[shared(global)]
static MISSES: Counter = Counter::new(0);

#[cloud_fn(retry = 3)]
fn work() {}

#[crucial::test(mode = "embedded")]
fn tests() {}

#[crucial::test(modes(cluster))]
fn tests_modes() {}

#[crucial::main(threads = 4)]
fn main() {}
