//! A cloud function inside of a function has no access to its variables.
use crucial::cloud_fn;

fn main() {
    let factor = 3;

    #[cloud_fn]
    fn scale(n: u64) -> u64 {
        n * factor
    }

    scale(2).here();
}
