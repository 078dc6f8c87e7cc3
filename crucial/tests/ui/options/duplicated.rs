//! Options that are given twice.
use crucial::{cloud_fn, shared};

#[shared(key = "a", persistent, key = "b")]
pub struct Counter {
    n: u64,
}

#[shared]
impl Counter {
    pub fn new(n: u64) -> Self {
        Counter { n }
    }
}

#[shared(key = "hits", key = "hits")]
static HITS: Counter = Counter::new(0);

#[cloud_fn(retries = 1, timeout = "1s", retries = 2)]
fn work() {}

#[crucial::test(modes(embedded, embedded))]
fn tests() {}

fn main() {}
