//! Calls without a server: the node is in this process.

use std::{
    hint::black_box,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use crucial::{Config, run::Run};

use super::{
    Effort,
    measure::{mean, median},
    objects::{Block, Counter, SIZE},
    report::{Figure, Goal, Peer, Unit},
};
use crate::Error;

const CALLS: usize = 300_000;
const ROUNDS: u32 = 11;
/// What a call may take, in microseconds.
const MOST: f64 = 1.0;

/// The same operation on a shared object and on what std has for threads of one process.
struct Case<'a> {
    name: &'static str,
    ours: Box<dyn FnMut() + 'a>,
    peer: (&'static str, Box<dyn FnMut() + 'a>),
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let run = Run::start(Config::default())?;
    let entered = run.enter();
    let payload = vec![b'x'; SIZE];
    let (counter, block) = (Counter::new(), Block::new(payload.clone()));
    let (atomic, mutex, bytes) = (AtomicU64::new(0), Mutex::new(0u64), Mutex::new(payload.clone()));
    let lock = || bytes.lock().expect("nobody panics with it");

    let mut cases = [
        Case {
            name: "read a number",
            ours: Box::new(|| use_up(counter.read())),
            peer: ("std Mutex", Box::new(|| use_up(*mutex.lock().expect("nobody panics with it")))),
        },
        Case {
            name: "add to a number",
            ours: Box::new(|| use_up(counter.add(1))),
            peer: ("std Mutex", Box::new(|| *mutex.lock().expect("nobody panics with it") += black_box(1))),
        },
        Case {
            name: "add to a number, atomic peer",
            ours: Box::new(|| use_up(counter.add(1))),
            peer: ("std AtomicU64", Box::new(|| use_up(atomic.fetch_add(black_box(1), SeqCst)))),
        },
        Case {
            name: "get 1 KB",
            ours: Box::new(|| use_up(block.get())),
            peer: ("std Mutex, clone", Box::new(|| use_up(lock().clone()))),
        },
        Case {
            name: "put 1 KB",
            ours: Box::new(|| block.set(black_box(&payload))),
            peer: ("std Mutex, copy", Box::new(|| lock().copy_from_slice(black_box(&payload)))),
        },
    ];

    let (rounds, calls) = (effort.rounds(ROUNDS), effort.count(CALLS));
    let mut figures = Vec::new();
    for case in &mut cases {
        eprintln!("embedded: {}, {rounds} rounds", case.name);
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(mean(calls, &mut case.ours));
            peers.push(mean(calls, &mut case.peer.1));
        }
        figures.push(Figure {
            bench: "embedded",
            case: case.name.to_owned(),
            unit: Unit::Micros,
            ours: median(&ours),
            peer: Peer::Measured { name: case.peer.0.to_owned(), value: median(&peers) },
            rounds,
            goal: Some(Goal::Below(MOST)),
        });
    }
    drop(cases);
    drop(entered);
    run.end();
    Ok(figures)
}

/// Uses a result, so that no compiler leaves out what made it.
fn use_up<T>(value: T) {
    black_box(value);
}
