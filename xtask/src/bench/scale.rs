//! Whether a call costs more when there are more objects, partitions or nodes, and what an object takes of memory.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use crucial::run::Run;

use super::{
    Effort,
    cluster::{Cluster, Kept},
    machine::{available, resident},
    measure::{Random, median, p50},
    objects::Counter,
    report::{Figure, Peer, Unit},
    server::{Server, Spin},
};
use crate::Error;

const ROUNDS: u32 = 5;
const CALLS: usize = 5000;
/// How many objects there are, one number after the other.
const OBJECTS: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const PARTITIONS: [usize; 4] = [1, 6, 16, 64];
const NODES: [usize; 3] = [1, 3, 5];
/// How many of the objects are called.
const CALLED: usize = 1000;
/// How many threads make objects.
const MAKERS: usize = 64;
/// How much of the free memory may be filled.
const FILLED: f64 = 0.6;

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    {
        let server = Server::start(Spin::Default)?;
        let make = |i: usize| Counter::at(format!("{i}")).new();
        objects(effort, "ephemeral, 1 node", server.run(), &[server.pid()], make, &mut figures)?;
    }
    {
        let cluster = Cluster::start(Kept::InMemory, 3, 3, None)?;
        let make = |i: usize| Counter::at(format!("{i}")).persistent().new();
        objects(effort, "persistent, on 3 nodes", cluster.run(), &cluster.pids(), make, &mut figures)?;
    }
    let clusters = |what, counts: &[usize], start: fn(usize) -> Result<Cluster, Error>| {
        several(effort, what, counts, start)
    };
    figures.extend(clusters("partitions on 3 nodes", &PARTITIONS, |n| {
        Cluster::start(Kept::InMemory, 3, 3, Some(n))
    })?);
    figures
        .extend(clusters("nodes, at most 3 copies", &NODES, |n| Cluster::start(Kept::InMemory, n, 3, None))?);
    Ok(figures)
}

/// More and more objects.
fn objects(
    effort: Effort,
    what: &str,
    run: &Arc<Run>,
    pids: &[u32],
    make: impl Fn(usize) -> Counter + Sync,
    figures: &mut Vec<Figure>,
) -> Result<(), Error> {
    let used = || pids.iter().filter_map(|pid| resident(*pid)).sum::<f64>() * f64::from(1 << 20);
    let (empty, mut made) = (used(), 0);
    let rounds = effort.rounds(ROUNDS);
    let mut case = |text: String, unit, ours| {
        let (bench, peer, goal) = ("scale", Peer::Nothing, None);
        figures.push(Figure { bench, case: text, unit, ours, peer, rounds, goal });
    };
    for count in OBJECTS.into_iter().take(if effort.quick { 3 } else { OBJECTS.len() }) {
        let each = if made < 100_000 { 0.0 } else { (used() - empty) / made as f64 };
        let needed = each * (count - made) as f64;
        if needed > available() * FILLED {
            eprintln!(
                "scale, {what}: {count} objects are left out: they would need {:.1} GiB more, and {:.1} GiB are free",
                needed / f64::from(1 << 30),
                available() / f64::from(1 << 30)
            );
            break;
        }
        eprintln!("scale, {what}: {count} objects");
        fill(run, made..count, &make);
        made = count;
        let _entered = run.enter();
        let called: Vec<_> = (0..count).step_by(count / CALLED).map(&make).collect();
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let mut random = Random::new(round as usize);
            let mut any = || &called[random.below(called.len())];
            reads.push(timed(effort, || any().read())?);
            writes.push(timed(effort, || any().add(1))?);
        }
        case(format!("read, {what}, {count} objects"), Unit::Micros, median(&reads));
        case(format!("write, {what}, {count} objects"), Unit::Micros, median(&writes));
        // Of few objects, the rest of the process is most of it.
        if count >= 100_000 {
            let bytes = (used() - empty) / count as f64;
            case(format!("memory of an object, {what}, {count} objects"), Unit::Bytes, bytes);
        }
    }
    Ok(())
}

fn fill(run: &Arc<Run>, objects: std::ops::Range<usize>, make: &(impl Fn(usize) -> Counter + Sync)) {
    let next = AtomicUsize::new(objects.start);
    thread::scope(|scope| {
        for _ in 0..MAKERS {
            scope.spawn(|| {
                let _entered = run.enter();
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    if i >= objects.end {
                        break;
                    }
                    make(i);
                }
            });
        }
    });
}

/// The median duration of a call in microseconds.
fn timed(effort: Effort, mut call: impl FnMut() -> u64) -> Result<f64, Error> {
    p50(effort.count(CALLS), || {
        black_box(call());
        Ok(())
    })
}

/// Clusters of several sizes, in turn.
fn several(
    effort: Effort,
    what: &str,
    counts: &[usize],
    start: fn(usize) -> Result<Cluster, Error>,
) -> Result<Vec<Figure>, Error> {
    let mut clusters = Vec::new();
    for &count in counts {
        let cluster = start(count)?;
        let entered = cluster.run().enter();
        let make = |i| [Counter::at(format!("e{i}")).new(), Counter::at(format!("p{i}")).persistent().new()];
        let objects: Vec<_> = (0..CALLED).map(make).collect();
        drop(entered);
        clusters.push((count, cluster, objects, [const { Vec::new() }; 4]));
    }
    let rounds = effort.rounds(ROUNDS);
    let cases = ["read, ephemeral", "write, ephemeral", "read, persistent", "write, persistent"];
    for round in 1..=rounds {
        eprintln!("scale, {what}: round {round} of {rounds}");
        for (_, cluster, objects, times) in &mut clusters {
            let _entered = cluster.run().enter();
            for (kind, times) in times.iter_mut().enumerate() {
                let mut random = Random::new(round as usize);
                times.push(timed(effort, || {
                    let object = &objects[random.below(CALLED)][kind / 2];
                    if kind % 2 == 0 { object.read() } else { object.add(1) }
                })?);
            }
        }
    }
    let figure = |case: String, times: &Vec<f64>| Figure {
        bench: "scale",
        case,
        unit: Unit::Micros,
        ours: median(times),
        peer: Peer::Nothing,
        rounds,
        goal: None,
    };
    let figures = cases.iter().enumerate().flat_map(|(kind, case)| {
        clusters.iter().map(move |(count, .., times)| figure(format!("{case}, {count} {what}"), &times[kind]))
    });
    Ok(figures.collect())
}
