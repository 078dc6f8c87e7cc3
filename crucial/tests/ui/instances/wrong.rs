//! Instances are the struct with concrete arguments.
use crucial::shared;

#[shared(instances(Other<f64>, Stats, Stats<f64, f64>, Stats<T>, Stats<u8>, Stats< u8 >))]
pub struct Stats<T> {
    last: Option<T>,
}

#[shared]
impl<T: Clone> Stats<T> {
    pub fn new() -> Self {
        Stats { last: None }
    }
}

#[shared(instances(Plain<u8>))]
pub struct Plain {
    n: u64,
}

#[shared]
impl Plain {
    pub fn new() -> Self {
        Plain { n: 0 }
    }
}

#[shared(instances = "Unit<u8>")]
pub struct Unit<T>(T);

#[shared]
impl<T> Unit<T> {
    pub fn new(t: T) -> Self {
        Unit(t)
    }
}

fn main() {}
