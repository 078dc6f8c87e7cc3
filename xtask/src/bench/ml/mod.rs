//! Machine learning: training on data in memory, whose model is a shared object.

mod data;
mod kmeans;
mod logistic;
mod trainer;

use std::time::Duration;

use crucial::{BackendKind, Config, run::Run, sync::Barrier, thread};
use crucial_runtime::task::IntoTask;
use serde::{Deserialize, Serialize};

use self::{
    data::Data,
    trainer::{Kind, Model, RAY, SPARK, Trainer},
};
use super::{
    Effort,
    measure::median,
    report::{Figure, Goal, Peer, Unit},
};
use crate::Error;

const ROUNDS: u32 = 5;
/// Cloud threads of ours, threads of Spark, workers of Ray.
const WORKERS: usize = 2;
const ROWS: usize = 500_000;
const KMEANS_ITERATIONS: usize = 10;
const LOGISTIC_ITERATIONS: usize = 100;
/// Results that differ by more than this part are not those of rounding.
const ROUNDING: f64 = 1e-9;
/// What all of [`ROWS`] give, as numpy computes it: the sums of squared distances in the last iteration and after it,
/// and the loss after all iterations.
const KMEANS_RESULTS: [f64; 2] = [70_879_434.789, 70_879_134.249];
const LOGISTIC_RESULT: f64 = 0.428_453_445_523_1;

/// What a worker brings back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    /// From the moment when all workers had their data.
    seconds: f64,
    /// How long it was in the shared object, in each iteration, in microseconds.
    calls: Vec<f64>,
    /// Its shares of the results.
    results: Vec<f64>,
}

/// What a training brought.
#[derive(Debug)]
struct Outcome {
    millis: f64,
    /// What the shared object took in an iteration, in microseconds.
    shared: f64,
    results: Vec<f64>,
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let Some(data) = Data::of(effort.count(ROWS))? else {
        eprintln!("ml is left out: its data is made with numpy, which is not installed: {}", RAY.install);
        return Ok(Vec::new());
    };
    let mut config = Config::default();
    config.backend = BackendKind::Processes;
    let run = Run::start(config)?;
    let _entered = run.enter();
    let mut figures = Vec::new();
    kmeans(effort, &data, &mut figures)?;
    logistic(effort, &data, &mut figures)?;
    run.end();
    Ok(figures)
}

/// Runs a task for each worker, which all begin together.
fn train<W: IntoTask<Output = Work>>(work: impl Fn(usize, Barrier) -> W) -> Result<Outcome, Error> {
    let barrier = Barrier::new(WORKERS);
    let mut threads = Vec::new();
    for i in 0..WORKERS {
        // One that fails leaves the others waiting at the barrier.
        let builder = thread::Builder::new().timeout(Duration::from_secs(120));
        threads.push(builder.spawn(work(i, barrier.clone()))?);
    }
    let works: Vec<Work> = threads.into_iter().map(|thread| thread.join()).collect::<Result<_, _>>()?;
    // The last to call waits for nobody: what its call takes is the object's.
    let least = |i: usize| works.iter().map(|work| work.calls[i]).fold(f64::INFINITY, f64::min);
    let calls: Vec<f64> = (0..works[0].calls.len()).map(least).collect();
    let results = (0..works[0].results.len()).map(|i| works.iter().map(|work| work.results[i]).sum());
    Ok(Outcome {
        millis: works.iter().map(|work| work.seconds * 1e3).fold(0.0, f64::max),
        shared: median(&calls),
        results: results.collect(),
    })
}

/// Fails if a result is not the one that it has to be.
fn check(what: &str, ours: f64, whose: &str, theirs: f64) -> Result<(), Error> {
    eprintln!("  {what}: {ours}; {whose}: {theirs}");
    if (ours - theirs).abs() <= ROUNDING * theirs.abs() {
        return Ok(());
    }
    Err(Error::Message(format!("the {what} is {ours}, but that of {whose} is {theirs}")))
}

/// Trains ours and the peers in turn, and compares the results.
fn turns(
    name: &str,
    effort: Effort,
    result: &str,
    ours: impl Fn() -> Result<Outcome, Error>,
    expected: Option<&[f64]>,
    peers: &mut [(Kind, usize, Option<Trainer>)],
) -> Result<(f64, f64, Vec<f64>), Error> {
    let rounds = effort.rounds(ROUNDS);
    let (mut millis, mut shared) = (Vec::new(), Vec::new());
    let mut theirs = vec![Vec::new(); peers.len()];
    for round in 1..=rounds {
        let outcome = ours()?;
        eprintln!("ml, {name}: round {round} of {rounds}: {:.0} ms", outcome.millis);
        millis.push(outcome.millis);
        shared.push(outcome.shared);
        for (ours, expected) in outcome.results.iter().zip(expected.unwrap_or_default()) {
            check(result, *ours, "numpy", *expected)?;
        }
        for ((kind, which, trainer), times) in peers.iter_mut().zip(&mut theirs) {
            let Some(trainer) = trainer else { continue };
            let (millis, value) = trainer.turn()?;
            times.push(millis);
            check(
                result,
                outcome.results[*which],
                &format!("{} ({millis:.0} ms)", kind.label(trainer)),
                value,
            )?;
        }
    }
    Ok((median(&millis), median(&shared), theirs.iter().map(|times| median(times)).collect()))
}

fn figure(case: String, unit: Unit, ours: f64, peer: Peer, effort: Effort, goal: Option<Goal>) -> Figure {
    Figure { bench: "ml", case, unit, ours, peer, rounds: effort.rounds(ROUNDS), goal }
}

fn kmeans(effort: Effort, data: &Data, figures: &mut Vec<Figure>) -> Result<(), Error> {
    const CASE: &str = "k-means";
    // Spark's result is that of the last iteration, Ray's is made after it.
    let mut peers = [
        (SPARK, 0, Trainer::spark(data, Model::KMeans, KMEANS_ITERATIONS)?),
        (RAY, 1, Trainer::ray(data, KMEANS_ITERATIONS)?),
    ];
    let expected = (data.rows == ROWS).then_some(&KMEANS_RESULTS[..]);
    let train = || kmeans::run(data, KMEANS_ITERATIONS);
    let (ours, shared, theirs) =
        turns(CASE, effort, "sum of squared distances", train, expected, &mut peers)?;
    let goals = [Goal::Ratio(5.0), Goal::Better];
    for (((kind, _, trainer), theirs), goal) in peers.iter().zip(theirs).zip(goals) {
        let case = format!("{CASE}, {KMEANS_ITERATIONS} iterations");
        let peer = kind.peer(trainer.as_ref(), theirs);
        figures.push(figure(case, Unit::Millis, ours, peer, effort, Some(goal)));
    }
    let case = format!("{CASE}, shared object in an iteration");
    figures.push(figure(case, Unit::Micros, shared, Peer::Nothing, effort, None));
    Ok(())
}

fn logistic(effort: Effort, data: &Data, figures: &mut Vec<Figure>) -> Result<(), Error> {
    const CASE: &str = "logistic regression";
    let mut peers = [(SPARK, 0, Trainer::spark(data, Model::Logistic, LOGISTIC_ITERATIONS)?)];
    let expected = (data.rows == ROWS).then_some(&[LOGISTIC_RESULT][..]);
    let train = || logistic::run(data, LOGISTIC_ITERATIONS);
    let (ours, shared, theirs) = turns(CASE, effort, "loss", train, expected, &mut peers)?;
    let case = format!("{CASE}, {LOGISTIC_ITERATIONS} iterations");
    let peer = SPARK.peer(peers[0].2.as_ref(), theirs[0]);
    figures.push(figure(case, Unit::Millis, ours, peer, effort, Some(Goal::Ratio(3.0))));
    let case = format!("{CASE}, shared object in an iteration");
    figures.push(figure(case, Unit::Micros, shared, Peer::Nothing, effort, None));
    Ok(())
}
