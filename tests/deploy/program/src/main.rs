//! A program as users write them: cloud threads that add to a counter which outlives the program.

use std::env;

use crucial::{
    cloud_fn, shared,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
};

/// What functions answer with, so that one can tell which program they are.
const VERSION: &str = "first";

#[shared(key = "total", persistent)]
static TOTAL: AtomicU64 = AtomicU64::new(0);

#[cloud_fn]
fn add(n: u64) -> String {
    TOTAL.fetch_add(n, SeqCst);
    VERSION.to_owned()
}

#[crucial::main]
fn main() {
    let threads: u64 = env::args().nth(1).map_or(1, |n| n.parse().expect("a number"));
    let threads: Vec<_> = (1..=threads).map(|n| thread::spawn(|| add(n))).collect();
    let mut versions: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    versions.dedup();
    println!("functions {}, total {}", versions.join(" and "), TOTAL.load(SeqCst));
}
