//! The type of a shared static is shared.
use std::sync::atomic::AtomicU64;

use crucial::shared;

struct Plain;

impl Plain {
    fn new() -> Self {
        Plain
    }
}

#[shared]
static PLAIN: Plain = Plain::new();

#[shared]
static HITS: AtomicU64 = AtomicU64::new(0);

fn main() {}
