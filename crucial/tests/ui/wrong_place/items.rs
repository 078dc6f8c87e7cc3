//! Items that can't be shared.
use crucial::shared;

#[shared]
enum Light {
    Red,
    Green,
}

#[shared]
union Bits {
    n: u32,
    f: f32,
}

#[shared]
trait Counts {
    fn count(&self) -> u64;
}

#[shared]
fn count() {}

#[shared]
const COUNT: u64 = 0;

#[shared]
mod counts {}

struct Counter;

#[shared]
impl Counts for Counter {
    fn count(&self) -> u64 {
        0
    }
}

#[shared]
impl [Counter] {}

fn main() {}
