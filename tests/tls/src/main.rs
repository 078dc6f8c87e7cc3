//! The program that the tests of TLS start, in every role.

use crucial::{
    cloud_fn,
    collections::HashMap,
    shared,
    sync::{Barrier, Mutex, mpsc},
    thread,
};
use tests as _;

#[shared]
static STARTED: Barrier = Barrier::new(3);

#[shared]
static TURNS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Waits for the others, and says so in every way.
#[cloud_fn]
fn take_part(n: u64, squares: HashMap<u64, u64>, sender: mpsc::Sender<u64>) -> u32 {
    STARTED.wait();
    TURNS.lock().unwrap().push(n);
    squares.insert(n, n * n);
    sender.send(n).unwrap();
    std::process::id()
}

#[crucial::main]
fn main() {
    let squares = HashMap::new();
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> =
        (0..3).map(|n| thread::spawn(|| take_part(n, squares.clone(), sender.clone()))).collect();
    drop(sender);
    let mut received: Vec<_> = receiver.iter().collect();
    received.sort_unstable();
    let elsewhere = threads.into_iter().all(|thread| thread.join().unwrap() != std::process::id());
    let turns = TURNS.lock().unwrap().len();
    let squares: Vec<_> = (0..3).map(|n| squares.get(&n)).collect();
    println!("{received:?} {turns} {squares:?} elsewhere: {elsewhere}");
}
