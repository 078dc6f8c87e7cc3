//! All mistakes are reported at once, also those in one item.
use crucial::{cloud_fn, shared};

#[shared(key = 1, durable)]
pub struct Table<T> {
    rows: Vec<T>,
}

#[shared]
impl Counter {
    pub fn new<T>(n: T) -> Self {
        Counter { n: 0 }
    }
    #[then(missing)]
    pub fn add(&mut self, n: &mut u64) -> &u64 {
        &self.n
    }
    pub async fn take(self) -> u64 {
        self.n
    }
    pub fn get(&self) -> u64 {
        self.n
    }
}

#[shared]
pub struct Counter {
    n: u64,
}

#[cloud_fn(timeout = "soon", retry = 2)]
fn work<T>(x: &mut T, y: impl Clone) -> &T {
    x
}

fn main() {
    let counter: Counter = todo!();
    counter.get();
}
