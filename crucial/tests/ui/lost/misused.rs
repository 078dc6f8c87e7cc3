//! `#[lost]` goes on one write with one argument, without a guard.

use crucial::{Holder, Lost, shared};

#[shared]
struct Seat {
    taken: Option<Holder>,
}

#[shared]
impl Seat {
    pub fn new() -> Self {
        Seat { taken: None }
    }

    #[lost(process)]
    fn with_options(&mut self, lost: &Lost) {
        self.taken = self.taken.filter(|holder| !lost.includes(*holder));
    }

    #[lost]
    fn reads(&self, lost: &Lost) {}

    #[lost]
    #[when(self.taken.is_some())]
    fn waits(&mut self, lost: &Lost) {}

    #[lost]
    fn takes_nothing(&mut self) {}

    #[lost]
    fn first(&mut self, lost: &Lost) {}

    #[lost]
    fn second(&mut self, lost: &Lost) {}
}

fn main() {}
