//! Dining philosophers, as threads of this process: the `std` twin of `philosophers`.
//!
//! Run it with `cargo run --release -p examples --bin philosophers_std`.
//!
//! The problem is Edsger Dijkstra's (1965). Philosophers sit around a table, a fork between each two of them. Each
//! thinks, takes the forks on both sides, eats, and puts them back. If all take the fork on the left first, all wait for
//! the one on the right for ever; so each takes the fork with the lower number first.

use std::time::{Duration, Instant};

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{self, Sender},
    },
    thread,
};

use examples::args::Args;
use examples::clock::Clock;

const OPTIONS: &[[&str; 2]] = &[
    ["--philosophers N", "how many sit at the table (default 5)"],
    ["--meals N", "how often each of them eats (default 20)"],
    ["--pause N", "how long they think and eat, at most, in ms (default 20)"],
];

/// A fork counts the meals that it was used for, so that nothing is lost if two philosophers had it at once.
type Fork = Arc<Mutex<u64>>;

/// A report of a meal: who ate, and how long it took to get both forks, in microseconds.
type Meal = (usize, u64);

/// Somebody at the table.
struct Philosopher {
    random: u64,
    pause: u64,
}

impl Philosopher {
    fn new(seat: usize, pause: u64) -> Self {
        Philosopher { random: seat as u64, pause }
    }

    /// Does nothing for a while.
    fn pass(&mut self) {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let micros = (self.random >> 33) % (1000 * self.pause + 1);
        thread::sleep(Duration::from_micros(micros));
    }

    /// Eats once. Returns how long it took to get the forks.
    fn eat(&mut self, first: &Fork, second: &Fork) -> u64 {
        let hungry = Instant::now();
        let mut first = first.lock().unwrap();
        let mut second = second.lock().unwrap();
        let waited = hungry.elapsed();
        self.pass();
        *first += 1;
        *second += 1;
        waited.as_micros() as u64
    }
}

/// A philosopher's evening.
fn dine(seat: usize, forks: [Fork; 2], meals: u64, pause: u64, reports: Sender<Meal>) {
    let mut philosopher = Philosopher::new(seat, pause);
    for _ in 0..meals {
        philosopher.pass();
        let waited = philosopher.eat(&forks[0], &forks[1]);
        reports.send((seat, waited)).unwrap();
    }
}

/// What is known of a philosopher's meals.
#[derive(Clone, Copy, Default)]
struct Record {
    meals: u64,
    waited: u64,
    longest: u64,
}

impl Record {
    fn add(&mut self, waited: u64) {
        self.meals += 1;
        self.waited += waited;
        self.longest = self.longest.max(waited);
    }

    fn mean(&self) -> f64 {
        self.waited as f64 / self.meals as f64 / 1e3
    }
}

fn main() {
    let mut args = Args::from_env(OPTIONS);
    let seats: usize = args.number("--philosophers", 5, 2..=500);
    let meals: u64 = args.number("--meals", 20, 1..=1_000_000);
    let pause = args.number("--pause", 20, 0..=10_000);
    args.finish();

    let clock = Clock::start();
    let forks: Vec<Fork> = (0..seats).map(|_| Arc::new(Mutex::new(0))).collect();
    let (sender, receiver) = mpsc::channel();
    let mut threads = Vec::new();
    for seat in 0..seats {
        // The fork with the lower number comes first.
        let mut sides = [seat, (seat + 1) % seats];
        sides.sort_unstable();
        let forks = sides.map(|side| forks[side].clone());
        let sender = sender.clone();
        threads.push(thread::spawn(move || dine(seat, forks, meals, pause, sender)));
    }
    // The last sender goes with the last philosopher.
    drop(sender);

    let mut records = vec![Record::default(); seats];
    for (count, (seat, waited)) in receiver.iter().enumerate() {
        records[seat].add(waited);
        if (count + 1) % (seats * meals as usize).div_ceil(4) == 0 {
            println!("{} meals after {:.2} s", count + 1, clock.total().as_secs_f64());
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }

    println!("\nphilosopher  meals  mean wait  longest");
    for (seat, record) in records.iter().enumerate() {
        let Record { meals, longest, .. } = record;
        println!("{seat:11}  {meals:5}  {:6.2} ms  {:4.1} ms", record.mean(), *longest as f64 / 1e3);
    }
    let eaten: u64 = records.iter().map(|record| record.meals).sum();
    let used: u64 = forks.iter().map(|fork| *fork.lock().unwrap()).sum();
    println!("\nmeals: {eaten}, forks used: {used}");
    println!("{:.3} s", clock.total().as_secs_f64());
    assert_eq!(used, 2 * eaten, "two philosophers had a fork at the same time");
}
