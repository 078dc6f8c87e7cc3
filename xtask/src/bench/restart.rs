//! A node of a cluster that is stopped and started again, as one does with a new version of a program.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Effort,
    cluster::{Cluster, Kept},
    measure::median,
    objects::{Block, SIZE},
    report::{Figure, Peer, Unit},
};
use crate::Error;

const NODES: usize = 3;
const ROUNDS: u32 = 5;
/// How long the node is away: it comes back before, while and after the others have taken over what it had.
const AWAY: [Duration; 3] = [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(900)];
/// Objects that have to be there again, of each kind.
const OBJECTS: usize = 800;

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let mut cluster = Cluster::start(Kept::OnDisk, NODES, NODES, None)?;
    let entered = cluster.run().clone().enter();
    let blocks: Vec<_> = (0..2 * OBJECTS)
        .map(|i| {
            let block = Block::at(format!("block {i}"));
            if i < OBJECTS { block.persistent() } else { block }.new(vec![b'x'; SIZE])
        })
        .collect();
    let rounds = effort.rounds(ROUNDS);
    let mut figures = Vec::new();
    for away in AWAY {
        let [mut stopped, mut serving, mut whole] = [const { Vec::new() }; 3];
        for round in 1..=rounds {
            eprintln!("restart, away for {away:?}: round {round} of {rounds}");
            for node in 0..NODES {
                let begin = Instant::now();
                cluster.stop(node)?;
                stopped.push(millis(begin));
                sleep(away);
                let begin = Instant::now();
                cluster.resume(node)?;
                serving.push(millis(begin));
                cluster.settle()?;
                whole.push(millis(begin));
            }
        }
        let mut figure = |what: &str, times: &[f64]| {
            let slowest = times.iter().copied().fold(0.0, f64::max);
            for (which, ours) in [("median", median(times)), ("slowest", slowest)] {
                let case = format!("away for {} ms: {what}, {which}", away.as_millis());
                let (bench, unit, peer, goal) = ("restart", Unit::Millis, Peer::Nothing, None);
                figures.push(Figure { bench, case, unit, ours, peer, rounds, goal });
            }
        };
        figure("SIGTERM to its end", &stopped);
        figure("start to serving", &serving);
        figure("start to all replicas, each partition led by its owner", &whole);
    }
    // Nothing was lost meanwhile.
    for block in &blocks {
        if block.get().len() != SIZE {
            return Err(Error::Message("an object is not what it was".to_owned()));
        }
    }
    drop(entered);
    Ok(figures)
}

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
