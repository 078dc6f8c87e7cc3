//! What one more copy of an object costs: a write of one client, with one, two and three.

use super::{Operation, TURN, client::Contestant, ours::Ours};
use crate::{
    Error,
    bench::{
        Effort,
        cluster::Kept,
        measure::median,
        report::{Figure, Peer, Unit},
    },
};

const ROUNDS: u32 = 5;
/// What the paper on the original (Barcelona-Pons et al., 2022) reports of a write with one copy and with two, in
/// microseconds, without a disk and on other machines.
const ORIGINAL: [f64; 2] = [229.0, 505.0];

pub(super) fn run(effort: Effort, figures: &mut Vec<Figure>) -> Result<(), Error> {
    for kept in [Kept::InMemory, Kept::OnDisk] {
        let mut clusters = Vec::new();
        for copies in 1..=3 {
            clusters.push((copies, Ours::with(kept, copies)?, Vec::new()));
        }
        let rounds = effort.rounds(ROUNDS);
        let time = if effort.quick { TURN / 10 } else { TURN };
        for round in 1..=rounds {
            eprintln!("replicated, {}, 1 to 3 copies: round {round} of {rounds}", kept.text());
            for (_, ours, times) in &mut clusters {
                times.push(ours.turn(Operation::Set, 1, time)?.p50);
            }
        }
        for (copies, _, times) in &clusters {
            let peer = ORIGINAL.get(copies - 1).map_or(Peer::Nothing, |value| Peer::Reported {
                name: "the original, in its paper".to_owned(),
                value: *value,
            });
            figures.push(Figure {
                bench: "replicated",
                case: format!("write 1 KB, {}, 1 client, copies: {copies}", kept.text()),
                unit: Unit::Micros,
                ours: median(times),
                peer,
                rounds,
                goal: None,
            });
        }
    }
    Ok(())
}
