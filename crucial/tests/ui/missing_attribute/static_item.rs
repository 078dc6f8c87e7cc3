//! A static of a shared type, without the attribute.
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
    pub fn get(&self) -> u64 {
        self.n
    }
}

static HITS: Counter = Counter::new(0);

fn main() {
    HITS.get();
}
