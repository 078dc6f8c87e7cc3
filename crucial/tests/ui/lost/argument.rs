//! A `#[lost]` method is told which holders are lost.

use crucial::{Holder, shared};

#[shared]
struct Seat {
    taken: Option<Holder>,
}

#[shared]
impl Seat {
    pub fn new() -> Self {
        Seat { taken: None }
    }

    #[lost]
    fn take_back(&mut self, holder: Holder) {
        self.taken = self.taken.filter(|taken| *taken != holder);
    }
}

fn main() {}
