//! Santa Claus, his reindeer and his elves: 20 cloud threads with a shared lock and condition variables.
//!
//! Run it with `cargo run --release -p examples --bin santa`: the threads are then threads of this process, with shared
//! objects. With `CRUCIAL_BACKEND=processes` in front each gets a process of its own. `santa_std` is the same program
//! without crucial.
//!
//! The problem is John Trono's (1994). Santa sleeps until all nine reindeer are back from their holidays, or three of
//! the ten elves have a question. With the reindeer he delivers toys; with the elves he consults. If both wait, the
//! reindeer come first.

use crucial::sync::{Condvar, Mutex};
use crucial::{cloud_fn, shared, thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use examples::args::Args;
use examples::clock::Clock;

const OPTIONS: &[[&str; 2]] = &[
    ["--deliveries N", "how often toys are delivered (default 15)"],
    ["--pace N", "how long everything takes, in percent (default 100)"],
    ["--columns N", "the width of the chart of who did what when (default 100)"],
];

/// Who comes to Santa's door, as an index.
type Kind = usize;
const REINDEER: Kind = 0;
const ELVES: Kind = 1;

/// Who there is of each kind.
const NAMES: [&[&str]; 2] = [
    &["Dasher", "Dancer", "Prancer", "Vixen", "Comet", "Cupid", "Donner", "Blitzen", "Rudolph"],
    &["Alva", "Bodil", "Dag", "Elof", "Frida", "Gro", "Hjalmar", "Ingrid", "Kåre", "Liv"],
];
/// How many of them Santa sees together.
const TOGETHER: [usize; 2] = [9, 3];

/// Who waits before Santa's door.
#[derive(serde::Serialize, serde::Deserialize)]
struct Porch {
    /// How many of each kind are there.
    here: [usize; 2],
    /// How many groups of each kind Santa has seen.
    seen: [usize; 2],
    /// There will be no more deliveries.
    over: bool,
}

impl Porch {
    fn is_full(&self, kind: Kind) -> bool {
        self.here[kind] == TOGETHER[kind]
    }

    /// Whom Santa has to see next.
    fn next(&self) -> Option<Kind> {
        [REINDEER, ELVES].into_iter().find(|kind| self.is_full(*kind))
    }
}

#[shared]
static PORCH: Mutex<Porch> = Mutex::new(Porch { here: [0; 2], seen: [0; 2], over: false });

/// A group is complete.
#[shared]
static KNOCK: Condvar = Condvar::new();
/// Santa has seen a group, or retires.
#[shared]
static ANSWER: Condvar = Condvar::new();

/// What somebody did from when to when, in microseconds of the system's clock.
type Span = (char, u64, u64);

const AWAY: char = '·';
const WAITING: char = '-';
const DELIVERING: char = '█';
const CONSULTING: char = 'o';

/// Somebody's life, as spans that follow each other.
struct Life {
    spans: Vec<Span>,
    random: u64,
    /// How long everything takes, in percent.
    pace: u64,
}

impl Life {
    fn new(seed: u64, pace: u64) -> Self {
        Life { spans: Vec::new(), random: seed, pace }
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
    }

    /// Does something and notes how long it took.
    fn spend<R>(&mut self, what: char, f: impl FnOnce(&mut Self) -> R) -> R {
        let start = Self::now();
        let result = f(self);
        self.spans.push((what, start, Self::now()));
        result
    }

    /// Does something that takes from `from` to `to` milliseconds.
    fn pass(&mut self, what: char, from: u64, to: u64) {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let millis = from + (self.random >> 33) % (to - from + 1);
        self.spend(what, |life| thread::sleep(Duration::from_micros(10 * millis * life.pace)));
    }

    /// Waits before Santa's door, and until he has seen this one's group. Returns false if he has retired.
    fn see_santa(&mut self, kind: Kind) -> bool {
        let what = if kind == REINDEER { DELIVERING } else { CONSULTING };
        // A full group is seen before the next one can form.
        let mut porch = self.spend(WAITING, |_| {
            ANSWER.wait_while(PORCH.lock().unwrap(), |p| p.is_full(kind) && !p.over).unwrap()
        });
        let seen = porch.seen[kind];
        porch.here[kind] += 1;
        if porch.is_full(kind) {
            KNOCK.notify_one();
        }
        let porch =
            self.spend(what, |_| ANSWER.wait_while(porch, |p| p.seen[kind] == seen && !p.over).unwrap());
        porch.seen[kind] > seen
    }
}

/// A reindeer goes on holiday, and pulls the sleigh when all are back.
#[cloud_fn]
fn reindeer(number: u64, deliveries: usize, pace: u64) -> Vec<Span> {
    let mut life = Life::new(number, pace);
    for _ in 0..deliveries {
        life.pass(AWAY, 40, 160);
        assert!(life.see_santa(REINDEER), "Santa has retired before all toys were delivered");
    }
    life.spans
}

/// An elf makes toys until it has a question.
#[cloud_fn]
fn elf(number: u64, pace: u64) -> Vec<Span> {
    let mut life = Life::new(1000 + number, pace);
    loop {
        life.pass(AWAY, 80, 240);
        if !life.see_santa(ELVES) {
            // The last wait was in vain.
            life.spans.pop();
            return life.spans;
        }
    }
}

/// Santa sleeps, delivers and consults, until all toys are delivered.
#[cloud_fn]
fn santa(deliveries: usize, pace: u64) -> Vec<Span> {
    let mut life = Life::new(2000, pace);
    let mut delivered = 0;
    while delivered < deliveries {
        let kind = life.spend(AWAY, |_| {
            let porch = KNOCK.wait_while(PORCH.lock().unwrap(), |p| p.next().is_none()).unwrap();
            porch.next().unwrap()
        });
        if kind == REINDEER {
            life.pass(DELIVERING, 40, 60);
            delivered += 1;
        } else {
            life.pass(CONSULTING, 10, 30);
        }
        let mut porch = PORCH.lock().unwrap();
        assert!(porch.is_full(kind), "nobody leaves before Santa is done");
        porch.here[kind] = 0;
        porch.seen[kind] += 1;
        porch.over = delivered == deliveries;
        drop(porch);
        ANSWER.notify_all();
    }
    life.spans
}

/// One line of the chart: what took most of the time of each column.
fn line(spans: &[Span], [start, end]: [u64; 2], columns: usize) -> String {
    let column = |n: usize| start + (end - start) * n as u64 / columns as u64;
    let within = |span: &Span, n| span.2.min(column(n + 1)).saturating_sub(span.1.max(column(n)));
    let most = |n| spans.iter().max_by_key(|span| within(span, n)).filter(|span| within(span, n) > 0);
    (0..columns).map(|n| most(n).map_or(' ', |span| span.0)).collect()
}

/// The longest span of a kind, in milliseconds.
fn longest(lives: &[Vec<Span>], what: char) -> f64 {
    let spans = lives.iter().flatten().filter(|span| span.0 == what);
    let longest = spans.map(|span| span.2 - span.1).max();
    longest.unwrap_or(0) as f64 / 1e3
}

/// How many spans of a kind there are.
fn count<'a>(lives: impl IntoIterator<Item = &'a Vec<Span>>, what: char) -> usize {
    lives.into_iter().flatten().filter(|span| span.0 == what).count()
}

#[crucial::main]
fn main() {
    let mut args = Args::from_env(OPTIONS);
    let deliveries = args.number("--deliveries", 15, 1..=10_000);
    let pace = args.number("--pace", 100, 0..=1_000);
    let columns = args.number("--columns", 100, 10..=1_000);
    args.finish();

    let clock = Clock::start();
    let mut threads = vec![thread::spawn(move || santa(deliveries, pace))];
    threads.extend(
        (0..NAMES[REINDEER].len() as u64).map(|n| thread::spawn(move || reindeer(n, deliveries, pace))),
    );
    threads.extend((0..NAMES[ELVES].len() as u64).map(|n| thread::spawn(move || elf(n, pace))));
    let lives: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let seconds = clock.total().as_secs_f64();

    let (santa, others) = lives.split_first().unwrap();
    let (reindeer, elves) = others.split_at(NAMES[REINDEER].len());
    let start = lives.iter().flatten().map(|span| span.1).min().unwrap();
    let end = lives.iter().flatten().map(|span| span.2).max().unwrap();
    let names = [&["Santa"], NAMES[REINDEER], NAMES[ELVES]].concat();
    for (name, life) in names.iter().zip(&lives) {
        println!("{name:8} {}", line(life, [start, end], columns));
    }
    println!("{DELIVERING} delivers, {CONSULTING} consults, {WAITING} waits outside, {AWAY} away\n");

    let (delivered, pulled) = (count([santa], DELIVERING), count(reindeer, DELIVERING));
    let (consulted, asked) = (count([santa], CONSULTING), count(elves, CONSULTING));
    println!("{delivered} deliveries with {} reindeer each", pulled / delivered);
    println!("{consulted} consultations with {} elves each", asked / consulted.max(1));
    println!("{seconds:.3} s");
    let sleigh = longest(reindeer, DELIVERING);
    let door = longest(elves, WAITING);
    println!("longest wait for the sleigh {sleigh:.0} ms, outside the door {door:.0} ms");
    assert_eq!([pulled, asked], [delivered * TOGETHER[REINDEER], consulted * TOGETHER[ELVES]]);
}
