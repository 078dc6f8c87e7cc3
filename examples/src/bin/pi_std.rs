//! Estimates π with threads of this process: the `std` twin of `pi`.
//!
//! Run it with `cargo run --release -p examples --bin pi_std`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use examples::args::Args;
use examples::clock::Clock;

const OPTIONS: &[[&str; 2]] = &[
    ["--threads N", "threads to throw darts (default 8)"],
    ["--darts N", "darts for each of them (default 10,000,000)"],
];

static HITS: AtomicU64 = AtomicU64::new(0);

/// A SplitMix64 generator: small, quick, and the same on every machine.
struct Random(u64);

impl Random {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not including, 1.
    fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Throws darts at the unit square and counts those within the quarter circle.
fn throw(thread: u64, darts: u64) {
    // Each thread starts its own sequence, always the same: the result doesn't depend on where it runs.
    let mut random = Random(Random(thread).next_u64());
    let mut hits = 0;
    for _ in 0..darts {
        let (x, y) = (random.next_f64(), random.next_f64());
        if x * x + y * y <= 1.0 {
            hits += 1;
        }
    }
    HITS.fetch_add(hits, Relaxed);
}

fn main() {
    let mut args = Args::from_env(OPTIONS);
    let threads = args.number("--threads", 8, 1..=10_000);
    let darts = args.number("--darts", 10_000_000, 1..=1_000_000_000_000);
    args.finish();

    let clock = Clock::start();
    let handles: Vec<_> = (0..threads).map(|i| thread::spawn(move || throw(i, darts))).collect();
    for handle in handles {
        handle.join().unwrap();
    }

    let total = (threads * darts) as f64;
    let seconds = clock.total().as_secs_f64();
    println!("π ≈ {:.8}", 4.0 * HITS.load(Relaxed) as f64 / total);
    println!(
        "{threads} threads, {total} darts, {seconds:.2} s, {:.1} million darts/s",
        total / seconds / 1e6
    );
}
