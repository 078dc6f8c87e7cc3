//! What a test may not be.

#[crucial::test]
fn with_arguments(n: u64) {
    let _ = n;
}

#[crucial::test]
#[test]
fn twice() {}

#[crucial::test]
struct NoFunction;

fn main() {}
