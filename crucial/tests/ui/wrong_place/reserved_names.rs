//! Names that every shared type has already.
use crucial::shared;

#[shared]
pub struct Place {
    n: u64,
}

#[shared]
impl Place {
    pub fn at(n: u64) -> Self {
        Place { n }
    }
    pub fn persistent() -> Self {
        Place { n: 0 }
    }
    pub fn remote(&self) -> u64 {
        self.n
    }
}

fn main() {}
