//! Replicated blocks of 1 KB: three nodes of ours beside three of etcd, Restate, and Redis with two replicas.

mod client;
mod copies;
pub(super) mod etcd;
mod ours;
mod redis;
mod restate;

use std::time::Duration;

use client::{Contestant, Taken};

use super::{
    Effort,
    cluster::Kept,
    machine::cpu_time,
    measure::median,
    report::{Figure, Goal, Peer, Unit},
};
use crate::Error;

const OBJECTS: usize = 800;
const CLIENTS: [usize; 3] = [1, 50, 200];
const ROUNDS: u32 = 5;
/// How long a turn is.
const TURN: Duration = Duration::from_secs(2);
/// How many times etcd's operations in a second, and how many times faster than it.
const RATE: f64 = 8.0;
const LATENCY: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Set,
    Get,
}

impl Operation {
    const ALL: [Self; 2] = [Self::Set, Self::Get];

    fn name(self) -> &'static str {
        match self {
            Operation::Set => "write",
            Operation::Get => "read",
        }
    }
}

/// Someone to compare with: running, or what to install. The goals are at one client, and at the most.
struct Rival {
    contestant: Result<Box<dyn Contestant>, Peer>,
    goals: [Option<Goal>; 2],
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    {
        let mut ours = ours::Ours::start(Kept::OnDisk)?;
        let mut rivals = [
            Rival {
                contestant: etcd::start()?,
                goals: [Some(Goal::Ratio(LATENCY)), Some(Goal::Ratio(RATE))],
            },
            Rival { contestant: restate::start()?, goals: [None; 2] },
        ];
        compare(effort, Kept::OnDisk, &mut ours, &mut rivals, &mut figures)?;
    }
    {
        let mut ours = ours::Ours::start(Kept::InMemory)?;
        let rival = Rival { contestant: redis::start()?, goals: [Some(Goal::Better); 2] };
        compare(effort, Kept::InMemory, &mut ours, &mut [rival], &mut figures)?;
    }
    copies::run(effort, &mut figures)?;
    Ok(figures)
}

/// What turns have measured, one value a round.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    times: Vec<f64>,
    cpu: Vec<f64>,
}

impl Measured {
    fn turn(
        &mut self,
        contestant: &mut dyn Contestant,
        operation: Operation,
        clients: usize,
        time: Duration,
    ) -> Result<(), Error> {
        let used = |pids: Vec<u32>| pids.into_iter().map(cpu_time).sum::<f64>();
        let before = used(contestant.pids());
        let Taken { calls, rate, p50 } = contestant.turn(operation, clients, time)?;
        self.cpu.push((used(contestant.pids()) - before) * 1e6 / calls as f64);
        self.rates.push(rate);
        self.times.push(p50);
        Ok(())
    }
}

fn compare(
    effort: Effort,
    kept: Kept,
    ours: &mut dyn Contestant,
    rivals: &mut [Rival],
    figures: &mut Vec<Figure>,
) -> Result<(), Error> {
    let rounds = effort.rounds(ROUNDS);
    let time = if effort.quick { TURN / 10 } else { TURN };
    for clients in CLIENTS {
        for operation in Operation::ALL {
            let case = format!("{} 1 KB, {}, {clients} clients", operation.name(), kept.text());
            let mut own = Measured::default();
            let mut others: Vec<_> = rivals.iter().map(|_| Measured::default()).collect();
            for round in 1..=rounds {
                eprintln!("replicated, {case}: round {round} of {rounds}");
                own.turn(ours, operation, clients, time)?;
                for (rival, measured) in rivals.iter_mut().zip(&mut others) {
                    if let Ok(contestant) = &mut rival.contestant {
                        measured.turn(&mut **contestant, operation, clients, time)?;
                    }
                }
            }
            for (rival, measured) in rivals.iter().zip(&others) {
                let mut figure = |what: &str, unit, pick: fn(&Measured) -> &Vec<f64>, goal| {
                    let peer = match &rival.contestant {
                        Ok(contestant) => {
                            Peer::Measured { name: contestant.name(), value: median(pick(measured)) }
                        }
                        Err(missing) => missing.clone(),
                    };
                    let ours = median(pick(&own));
                    let (bench, case) = ("replicated", format!("{case}{what}"));
                    figures.push(Figure { bench, case, unit, ours, peer, rounds, goal });
                };
                match clients {
                    1 => figure("", Unit::Micros, |m| &m.times, rival.goals[0]),
                    _ => {
                        let goal = rival.goals[1].filter(|_| clients == CLIENTS[2]);
                        figure("", Unit::PerSecond, |m| &m.rates, goal);
                    }
                }
                if clients == CLIENTS[2] {
                    figure(", CPU time of the servers", Unit::Micros, |m| &m.cpu, None);
                }
            }
        }
    }
    Ok(())
}
