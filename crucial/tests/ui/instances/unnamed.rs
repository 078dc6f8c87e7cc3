//! An instance that isn't named has no methods.
use crucial::shared;

#[shared(instances(Stats<f64>))]
pub struct Stats<T> {
    last: Option<T>,
}

#[shared]
impl<T: Clone> Stats<T> {
    pub fn new() -> Self {
        Stats { last: None }
    }
    pub fn last(&self) -> Option<T> {
        self.last.clone()
    }
}

#[shared]
static STATS: Stats<u8> = Stats::new();

fn main() {
    let stats = Stats::<u32>::new();
    stats.last();
    Stats::<u16>::at("key").new();
}
