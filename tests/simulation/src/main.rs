//! Simulates seeds: one in this process, or many in processes of their own.

use std::{
    io::Write,
    ops::Range,
    process::{Command, ExitCode, Output},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use clap::{Arg, value_parser};
use simulation::{determinism, plan::Plan, world};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let matches = clap::Command::new("simulation")
        .about("Simulates a cluster and its clients under faults that follow from a seed")
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("Simulates this seed"),
        )
        .arg(
            Arg::new("seeds")
                .long("seeds")
                .value_name("A..B")
                .value_parser(seeds)
                .help("Simulates these seeds"),
        )
        .arg(
            Arg::new("minutes")
                .long("minutes")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("Begins none of the seeds after so many minutes"),
        )
        .arg(
            Arg::new("jobs")
                .long("jobs")
                .value_name("N")
                .value_parser(value_parser!(usize))
                .help("How many seeds at once; as many as the machine runs, if it isn't said"),
        )
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64))
                .default_value("300")
                .help("How long a seed may take by a real clock: one that takes longer fails"),
        )
        .arg(
            Arg::new("log")
                .long("log")
                .value_name("FILTER")
                .help("Logs what happens, as the tracing crate's filter says"),
        )
        .get_matches();
    let limit = Duration::from_secs(*matches.get_one("limit").expect("it has a default"));
    if let Some(seed) = matches.get_one::<u64>("seed") {
        end_after(limit, *seed);
        return one(*seed, matches.get_one::<String>("log").map_or("", String::as_str));
    }
    let seeds = matches.get_one::<Range<u64>>("seeds").cloned().unwrap_or(0..100);
    let most = matches.get_one::<u64>("minutes").map(|minutes| Duration::from_secs(minutes * 60));
    let jobs = matches.get_one::<usize>("jobs").copied();
    many(seeds, most, limit, jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)))
}

/// Ends the process if it is still there after `limit`: a simulated clock stands still while a node does something for ever.
fn end_after(limit: Duration, seed: u64) {
    let end = determinism::wall_clock() + limit;
    thread::spawn(move || {
        while determinism::wall_clock() < end {
            thread::sleep(Duration::from_millis(100));
        }
        println!("seed {seed}: FAILED, it was not over after {} s", limit.as_secs());
        std::process::exit(1);
    });
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parse = |n: &str| n.parse().map_err(|e| format!("{n:?}: {e}"));
    let (first, end) = text.split_once("..").ok_or("it has to be A..B")?;
    Ok(parse(first)?..parse(end)?)
}

/// Simulates a seed, and says what it showed.
fn one(seed: u64, log: &str) -> ExitCode {
    let start = determinism::wall_clock();
    // In a thread of its own, so that it draws none of the simulation's random numbers: a log changes nothing.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(log))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    // A thread is new, so nothing in it knows the system's random numbers.
    let simulated = thread::Builder::new().stack_size(64 << 20).spawn({
        move || {
            let plan = Plan::of(seed);
            determinism::begin(seed);
            let findings = world::simulate(seed, &plan);
            (plan, findings)
        }
    });
    let Ok((plan, findings)) = simulated.expect("the system gives a thread").join() else {
        println!("seed {seed}: a panic");
        return ExitCode::FAILURE;
    };
    let took = determinism::wall_clock() - start;
    let verdict = if findings.violations.is_empty() { "ok" } else { "FAILED" };
    println!(
        "seed {seed}: {verdict}, {} calls, {} unknown, trace {:016x}, {:.1} s in {:.2} s",
        findings.operations,
        findings.unknown,
        findings.trace,
        findings.lasted.as_secs_f64(),
        took.as_secs_f64(),
    );
    if verdict == "ok" && log.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!(
        "{} nodes, {} clients, {} partitions, {:?}, patience: {:?}",
        plan.nodes, plan.clients, plan.partitions, plan.latency, plan.patience
    );
    plan.faults.iter().for_each(|planned| println!("{planned}"));
    findings.errors.iter().for_each(|(error, count)| println!("{count} times: {error}"));
    findings.violations.iter().for_each(|violation| println!("violation: {violation}"));
    findings.evidence.iter().for_each(|evidence| println!("{evidence}"));
    if verdict == "ok" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Simulates many seeds, each in a process of its own; begins none after `most`.
fn many(seeds: Range<u64>, most: Option<Duration>, limit: Duration, jobs: usize) -> ExitCode {
    let start = determinism::wall_clock();
    let is_late = || most.is_some_and(|most| determinism::wall_clock() - start >= most);
    let (next, failed, calls) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()), AtomicU64::new(0));
    let begun = AtomicU64::new(0);
    let broken = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= seeds.end || is_late() {
                        return;
                    }
                    begun.fetch_add(1, SeqCst);
                    match child(seed, limit) {
                        Ok(output) => {
                            let text = String::from_utf8_lossy(&output.stdout);
                            let made = text.split(", ").find_map(|part| part.strip_suffix(" calls"));
                            calls.fetch_add(made.and_then(|n| n.parse().ok()).unwrap_or(0), SeqCst);
                            if !output.status.success() {
                                failed.lock().unwrap().push(seed);
                                // One line with all of another is enough to read.
                                let _ = std::io::stdout()
                                    .write_all(&[&output.stdout[..], &output.stderr].concat());
                            }
                        }
                        Err(error) => {
                            eprintln!("seed {seed}: {error}");
                            broken.store(true, SeqCst);
                        }
                    }
                }
            });
        }
    });
    let took: Duration = determinism::wall_clock() - start;
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    println!(
        "{} of {} seeds, {} calls, in {:.0} s; {} failed: {failed:?}",
        begun.into_inner(),
        seeds.end - seeds.start,
        calls.into_inner(),
        took.as_secs_f64(),
        failed.len()
    );
    if failed.is_empty() && !broken.into_inner() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn child(seed: u64, limit: Duration) -> std::io::Result<Output> {
    let args = ["--seed", &seed.to_string(), "--limit", &limit.as_secs().to_string()];
    Command::new(std::env::current_exe()?).args(args).output()
}
