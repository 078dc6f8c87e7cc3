//! Inference with a model that is being trained, while a node is killed and an empty one takes its place.

mod model;
mod plot;

use std::{
    hint::black_box,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crucial::run::Run;

use self::model::{Image, Mean, images, nearest};
use super::{
    Effort,
    cluster::{Cluster, Kept},
    measure::{Gate, Random, median},
    report::{Figure, Goal, Peer, Unit},
};
use crate::Error;

const ROUNDS: u32 = 3;
const NODES: usize = 3;
/// How many objects the model has.
const MEANS: usize = 200;
/// How many threads infer, and how many train.
const CLIENTS: usize = 100;
const TRAINERS: usize = 4;
/// How many images a trainer learns from before it reads the model again.
const BATCH: usize = 50;
/// How long there is load before anything counts.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long each phase is: before the crash, without the node, with the new one.
const PHASE: Duration = Duration::from_secs(20);
/// The throughput is back when it is at least this part of what it was, on average over this time.
const LEVEL: f64 = 0.9;
const WINDOW: Duration = Duration::from_secs(4);
/// Goals: seconds without any inference after the crash, and until the throughput is back after the join.
const SILENCE: f64 = 3.0;
const RETURN: f64 = 10.0;

/// What the original's paper says: how many seconds after the join its throughput was back.
const ORIGINAL: f64 = 20.0;

/// When what happens, after the start of the load.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    crash: Duration,
    join: Duration,
    end: Duration,
}

/// What happened in a round. Times are in seconds, and 0 is the end of the warm-up.
#[derive(Debug)]
struct Round {
    /// When inferences ended, in order.
    inferences: Vec<f64>,
    /// When updates were acknowledged, in order.
    updates: Vec<f64>,
    crash: f64,
    join: f64,
    end: f64,
    /// How many updates were acknowledged, for each object, and how many it has.
    counts: Vec<(u64, u64)>,
}

/// What is said of a round.
struct Summary {
    before: f64,
    without: f64,
    after: f64,
    /// The longest time without an inference after the crash, when it began, and the same after the join.
    silence: f64,
    silent_from: f64,
    pause: f64,
    /// How long after the join the throughput was back.
    back: f64,
}

pub(super) fn run(effort: Effort, plot: Option<&Path>) -> Result<Vec<Figure>, Error> {
    let phase = if effort.quick { PHASE / 4 } else { PHASE };
    let schedule = Schedule { crash: WARM_UP + phase, join: WARM_UP + phase * 2, end: WARM_UP + phase * 3 };
    let rounds = effort.rounds(ROUNDS);
    let mut done = Vec::new();
    for number in 0..rounds {
        // Each node has its turn: one of them leads the group that places the partitions.
        let round = round(schedule, number as usize % NODES)?;
        let summary = round.summary();
        eprintln!(
            "failover: round {} of {rounds}: {:.0}/s, then {:.0}/s, then {:.0}/s; {:.2} s of silence",
            number + 1,
            summary.before,
            summary.without,
            summary.after,
            summary.silence
        );
        done.push((round, summary));
    }
    if let Some(file) = plot {
        // The one in the middle stands for all.
        let mut order: Vec<_> = done.iter().collect();
        order.sort_by(|a, b| a.1.silence.total_cmp(&b.1.silence));
        let (round, summary) = order[order.len() / 2];
        std::fs::write(file, plot::draw(round, summary))?;
    }
    Ok(figures(&done, rounds))
}

fn figures(done: &[(Round, Summary)], rounds: u32) -> Vec<Figure> {
    let original = || Peer::Reported { name: "the original, in its paper".to_owned(), value: ORIGINAL };
    let middle = |pick: fn(&Summary) -> f64| median(&done.iter().map(|(_, s)| pick(s)).collect::<Vec<_>>());
    let most = |pick: fn(&Summary) -> f64| done.iter().map(|(_, s)| pick(s)).fold(0.0, f64::max);
    let counted = |pick: fn(&(u64, u64)) -> u64| -> f64 {
        done.iter().flat_map(|(round, _)| &round.counts).map(pick).sum::<u64>() as f64
    };
    let figure = |case: &str, unit, ours, peer, goal| Figure {
        bench: "failover",
        case: case.to_owned(),
        unit,
        ours,
        peer,
        rounds,
        goal,
    };
    let (rate, seconds, count, nothing) = (Unit::PerSecond, Unit::Seconds, Unit::Count, || Peer::Nothing);
    let (silence, back) = (Some(Goal::Below(SILENCE)), Some(Goal::Below(RETURN)));
    vec![
        figure("inferences before the crash", rate, middle(|s| s.before), nothing(), None),
        figure("inferences after the crash", rate, middle(|s| s.without), nothing(), None),
        figure("inferences after the join", rate, middle(|s| s.after), nothing(), None),
        figure("longest silence after the crash", seconds, middle(|s| s.silence), nothing(), silence),
        figure(
            "longest silence after the crash, worst round",
            seconds,
            most(|s| s.silence),
            nothing(),
            silence,
        ),
        figure("longest silence after the join, worst round", seconds, most(|s| s.pause), nothing(), None),
        figure("join until the throughput is back", seconds, middle(|s| s.back), original(), back),
        figure("join until the throughput is back, worst round", seconds, most(|s| s.back), original(), back),
        figure("updates acknowledged, all rounds", count, counted(|c| c.0), nothing(), None),
        figure("updates present, all rounds", count, counted(|c| c.1), nothing(), None),
        figure(
            "updates lost or doubled, all rounds",
            count,
            counted(|(acknowledged, present)| acknowledged.abs_diff(*present)),
            nothing(),
            Some(Goal::Below(1.0)),
        ),
    ]
}

fn round(schedule: Schedule, victim: usize) -> Result<Round, Error> {
    let images = images()?;
    let mut cluster = Cluster::start(Kept::OnDisk, NODES, NODES, None)?;
    let run = cluster.run().clone();
    let means: Vec<_> = {
        let _entered = run.enter();
        let make = |(at, image): (usize, &Image)| {
            Mean::at(format!("mean {at}")).persistent().new(image.pixels.to_vec(), image.digit)
        };
        images.iter().take(MEANS).enumerate().map(make).collect()
    };
    let load = Load { run, means, images, gate: Gate::default(), start: Instant::now() };
    let wait = |until: Duration| thread::sleep(until.saturating_sub(load.start.elapsed()));
    let (inferred, trained, crash, join) = thread::scope(|scope| -> Result<_, Error> {
        let load = &load;
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || load.infer(client))).collect();
        let trainers: Vec<_> =
            (0..TRAINERS).map(|trainer| scope.spawn(move || load.train(trainer))).collect();
        let mut events = || -> Result<_, Error> {
            wait(schedule.crash);
            let crash = load.start.elapsed();
            cluster.kill(victim)?;
            wait(schedule.join);
            let join = load.start.elapsed();
            cluster.replace(victim)?;
            wait(schedule.end);
            Ok((crash, join))
        };
        let events = events();
        // Whatever went wrong, the threads end.
        load.gate.close();
        let panicked = |_| Error::Message("a client panicked".to_owned());
        let inferred: Result<Vec<_>, _> = clients.into_iter().map(|c| c.join().map_err(panicked)).collect();
        let trained: Result<Vec<_>, _> = trainers.into_iter().map(|t| t.join().map_err(panicked)).collect();
        let (crash, join) = events?;
        Ok((inferred?, trained?, crash, join))
    })?;
    // The new node has its share, so what is read now was moved, too.
    cluster.settle()?;
    let _entered = load.run.enter();
    let acknowledged = |at: usize| trained.iter().map(|trained: &Trained| trained.counts[at]).sum();
    let counts = load.means.iter().enumerate().map(|(at, mean)| (acknowledged(at), mean.updates())).collect();
    let right = inferred.iter().map(|inferred| inferred.right).sum::<usize>();
    let all = inferred.iter().map(|inferred| inferred.times.len()).sum::<usize>();
    eprintln!("failover: {:.1} % of {all} inferences were right", right as f64 / all as f64 * 100.0);
    let since = |time: Duration| time.as_secs_f64() - WARM_UP.as_secs_f64();
    let sorted = |times: Vec<Duration>| {
        let mut times: Vec<_> = times.into_iter().map(since).collect();
        times.sort_unstable_by(f64::total_cmp);
        times
    };
    Ok(Round {
        inferences: sorted(inferred.into_iter().flat_map(|inferred| inferred.times).collect()),
        updates: sorted(trained.into_iter().flat_map(|trained| trained.times).collect()),
        crash: since(crash),
        join: since(join),
        end: since(schedule.end),
        counts,
    })
}

/// What all threads share.
struct Load {
    run: Arc<Run>,
    means: Vec<Mean>,
    images: Vec<Image>,
    gate: Gate,
    start: Instant,
}

#[derive(Default)]
struct Inferred {
    times: Vec<Duration>,
    right: usize,
}

struct Trained {
    times: Vec<Duration>,
    /// How many of its updates were acknowledged, for each object.
    counts: Vec<u64>,
}

impl Load {
    /// Reads the model, one object after the other: it is being trained, so nobody keeps it.
    fn model(&self) -> Vec<(Vec<f64>, usize)> {
        self.means.iter().map(Mean::get).collect()
    }

    fn infer(&self, client: usize) -> Inferred {
        let _entered = self.run.enter();
        let (mut random, mut inferred) = (Random::new(client), Inferred::default());
        while self.gate.is_open() {
            let image = &self.images[random.below(self.images.len())];
            let model = self.model();
            let digit = model[nearest(&model, image)].1;
            inferred.right += usize::from(black_box(digit) == image.digit);
            inferred.times.push(self.start.elapsed());
        }
        inferred
    }

    fn train(&self, trainer: usize) -> Trained {
        let _entered = self.run.enter();
        let mut random = Random::new(CLIENTS + trainer);
        let mut trained = Trained { times: Vec::new(), counts: vec![0; self.means.len()] };
        while self.gate.is_open() {
            let model = self.model();
            for _ in 0..BATCH {
                let image = &self.images[random.below(self.images.len())];
                let at = nearest(&model, image);
                self.means[at].learn(&image.pixels, image.digit);
                trained.counts[at] += 1;
                trained.times.push(self.start.elapsed());
            }
        }
        trained
    }
}

impl Round {
    fn summary(&self) -> Summary {
        let (silent_from, silence) = longest_gap(&self.inferences, self.crash, self.join);
        let (_, pause) = longest_gap(&self.inferences, self.join, self.end);
        let window = WINDOW.as_secs_f64().min((self.end - self.join) / 3.0);
        let before = rate(&self.inferences, 0.0, self.crash);
        let back = back(&self.inferences, self.join, self.end, window, before * LEVEL);
        Summary {
            before,
            without: rate(&self.inferences, silent_from + silence, self.join),
            after: rate(&self.inferences, self.join + back, self.end),
            silence,
            silent_from,
            pause,
            back,
        }
    }
}

/// How many of these times are in a second of this part.
fn rate(times: &[f64], from: f64, to: f64) -> f64 {
    let count = times.partition_point(|time| *time < to) - times.partition_point(|time| *time < from);
    count as f64 / (to - from)
}

/// Where the longest gap between these times begins in this part, and how long it is.
fn longest_gap(times: &[f64], from: f64, to: f64) -> (f64, f64) {
    let inside = times.iter().copied().filter(|time| (from..to).contains(time));
    let all: Vec<_> = [from].into_iter().chain(inside).chain([to]).collect();
    let gaps = all.windows(2).map(|pair| (pair[0], pair[1] - pair[0]));
    gaps.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((from, to - from))
}

/// How long after `from` there is so high a rate, over a window of this length; if never, all the time until `to`.
fn back(times: &[f64], from: f64, to: f64, window: f64, level: f64) -> f64 {
    /// How exactly it is looked for.
    const STEP: f64 = 0.1;
    let steps = ((to - from - window) / STEP).floor().max(0.0) as usize;
    let starts = (0..=steps).map(|step| from + step as f64 * STEP);
    starts.into_iter().find(|start| rate(times, *start, start + window) >= level).unwrap_or(to) - from
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One in each of these tenths of a second.
    fn tenths(tenths: impl IntoIterator<Item = u32>) -> Vec<f64> {
        tenths.into_iter().map(|tenth| (f64::from(tenth) + 0.5) / 10.0).collect()
    }

    #[test]
    fn a_gap_is_found() {
        let times = tenths((0..100).chain(130..300));
        let (from, gap) = longest_gap(&times, 10.0, 20.0);
        assert!((gap - 3.05).abs() < 1e-9 && from == 10.0, "{from} {gap}");
        assert!((longest_gap(&times, 15.0, 20.0).1 - 0.1).abs() < 1e-9);
        // Silence to the end counts.
        assert_eq!(longest_gap(&[], 3.0, 5.0), (3.0, 2.0));
    }

    #[test]
    fn throughput_comes_back() {
        let times = tenths((0..100).chain((100..150).step_by(2)).chain(150..300));
        assert_eq!(rate(&times, 0.0, 10.0), 10.0);
        assert_eq!(rate(&times, 10.0, 15.0), 5.0);
        let after = back(&times, 10.0, 30.0, 4.0, 9.9);
        assert!((4.8..=5.0).contains(&after), "{after}");
        assert_eq!(back(&times, 10.0, 30.0, 4.0, 11.0), 20.0);
        assert_eq!(back(&times, 15.0, 30.0, 4.0, 9.0), 0.0);
    }

    #[test]
    fn a_plot_marks_what_happened() {
        let round = Round {
            inferences: tenths((0..100).chain(120..300)),
            updates: tenths(0..300),
            crash: 10.0,
            join: 20.0,
            end: 30.0,
            counts: vec![(3, 3)],
        };
        let plot = plot::draw(&round, &round.summary());
        for part in
            ["node killed", "empty node joins", "2.1 s without an inference", "inferences / s", "time (s)"]
        {
            assert!(plot.contains(part), "{part} is missing in {plot}");
        }
    }
}
