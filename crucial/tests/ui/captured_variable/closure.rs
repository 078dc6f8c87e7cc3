//! A cloud thread can't run a closure's body.
use crucial::cloud_fn;
use crucial_runtime::task::IntoTask;

/// As `crucial::thread::spawn`.
fn spawn<T: IntoTask>(_: T) {}

#[cloud_fn]
fn work(n: u64) -> u64 {
    n
}

fn main() {
    let n = 3;
    spawn(move || println!("{n}"));
    spawn(move || n + 1);
    spawn(move || {
        work(n);
    });
    spawn(n);
}
