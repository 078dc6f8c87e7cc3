//! A generic struct names its instances.
use crucial::shared;

#[shared]
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

fn main() {}
