//! A function for a cloud thread, without the attribute.
use crucial_runtime::task::IntoTask;

fn spawn<T: IntoTask>(_: T) {}

fn work(n: u64) -> u64 {
    n
}

fn main() {
    spawn(|| work(1));
    spawn(work(1));
}
