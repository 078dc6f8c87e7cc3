//! Cloud threads: how long from start to join, how long a process takes to be ready, and what it holds.

use std::{
    env, fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crucial::{BackendKind, Config, run::Run};
use crucial_runtime::{
    lambda::{Function, InvokeOptions, LocalLambda},
    run::block_on,
};

use super::{
    Effort,
    machine::resident,
    measure::{median, p50},
    objects::{nothing, process},
    ray::{self, Ray, Task},
    redis::{self, Redis},
    report::{Figure, Goal, Peer, Unit},
    server::{Server, Spin},
};
use crate::Error;

const ROUNDS: u32 = 5;
/// How many cloud threads a fork-join has.
const FORKS: usize = 100;
/// How often a process is started cold.
const COLD: usize = 20;
/// What a warm cloud thread may take, in milliseconds.
const WARM_MS: f64 = 1.0;
/// What a process may take to be ready, in milliseconds.
const COLD_MS: f64 = 10.0;
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    threads(effort, &mut figures)?;
    cold(effort, &mut figures)?;
    sizes(&mut figures)?;
    // Last: Ray's own processes are never quite idle.
    processes(effort, &mut figures)?;
    Ok(figures)
}

fn figure(case: &str, unit: Unit, ours: f64, peer: Peer, rounds: u32, goal: Option<Goal>) -> Figure {
    Figure { bench: "spawn", case: case.to_owned(), unit, ours, peer, rounds, goal }
}

/// A run of its own, with this back end.
fn start(backend: BackendKind) -> Result<std::sync::Arc<Run>, Error> {
    let mut config = Config::default();
    config.backend = backend;
    Ok(Run::start(config)?)
}

/// One cloud thread from start to join.
fn one() -> Result<(), Error> {
    Ok(crucial::thread::spawn(nothing).join()?)
}

/// A hundred, joined together.
fn hundred() -> Result<(), Error> {
    let threads: Vec<_> = (0..FORKS).map(|_| crucial::thread::spawn(nothing)).collect();
    Ok(threads.into_iter().try_for_each(|thread| thread.join())?)
}

fn std_one() -> Result<(), Error> {
    thread::spawn(|| ()).join().map_err(|_| Error::Message("a thread of std panicked".to_owned()))
}

fn std_hundred() -> Result<(), Error> {
    let threads: Vec<_> = (0..FORKS).map(|_| thread::spawn(|| ())).collect();
    threads
        .into_iter()
        .try_for_each(|t| t.join().map_err(|_| Error::Message("a thread of std panicked".to_owned())))
}

/// Cloud threads as threads of this process, beside those of std.
fn threads(effort: Effort, figures: &mut Vec<Figure>) -> Result<(), Error> {
    let run = start(BackendKind::Threads)?;
    let entered = run.enter();
    let rounds = effort.rounds(ROUNDS);
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 1..=rounds {
        eprintln!("spawn, threads: round {round} of {rounds}");
        times[0].push(p50(effort.count(2000), one)?);
        times[1].push(p50(effort.count(2000), std_one)?);
        times[2].push(p50(effort.count(50), hundred)?);
        times[3].push(p50(effort.count(50), std_hundred)?);
    }
    drop(entered);
    run.end();
    let [one, std_one, hundred, std_hundred] = times.map(|times| median(&times));
    let peer = |value| Peer::Measured { name: "std::thread".to_owned(), value };
    figures.push(figure("threads: spawn to join", Unit::Micros, one, peer(std_one), rounds, None));
    figures.push(figure(
        "threads: 100, fork to join",
        Unit::Micros,
        hundred,
        peer(std_hundred),
        rounds,
        None,
    ));
    Ok(())
}

/// Warm cloud threads as processes, beside Ray's.
fn processes(effort: Effort, figures: &mut Vec<Figure>) -> Result<(), Error> {
    let run = start(BackendKind::Processes)?;
    let entered = run.enter();
    // Processes start with the first work.
    for _ in 0..3 {
        hundred()?;
    }
    let mut ray = Ray::start()?;
    let rounds = effort.rounds(ROUNDS);
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 1..=rounds {
        eprintln!("spawn, processes: round {round} of {rounds}");
        times[0].push(p50(effort.count(500), one)? / 1e3);
        times[1].push(p50(effort.count(20), hundred)? / 1e3);
        if let Some(ray) = &mut ray {
            times[2].push(ray.turn(Task::One, effort.count(500))?);
            times[3].push(ray.turn(Task::Hundred, effort.count(20))?);
        }
    }
    drop(entered);
    run.end();
    let [one, hundred, ray_one, ray_hundred] = times.map(|times| median(&times));
    let peer = |task, value| ray::peer(ray.as_ref(), task, value);
    let goal = Some(Goal::Below(WARM_MS));
    let case = "processes: spawn to join, warm";
    figures.push(figure(case, Unit::Millis, one, peer(Task::One, ray_one), rounds, goal));
    let case = "processes: 100, fork to join, warm";
    figures.push(figure(case, Unit::Millis, hundred, peer(Task::Hundred, ray_hundred), rounds, None));
    Ok(())
}

/// Processes that start for their first work.
fn cold(effort: Effort, figures: &mut Vec<Figure>) -> Result<(), Error> {
    let starts = effort.count(COLD).max(2);
    let mut times: [Vec<f64>; 3] = Default::default();
    for start in 1..=starts {
        eprintln!("spawn, cold: start {start} of {starts}");
        times[0].push(first_event()?);
        times[1].push(empty_process()?);
        times[2].push(first_join()?);
    }
    let [first_event, empty, first_join] = times.map(|times| median(&times));
    let rounds = starts as u32;
    let peer = Peer::Measured { name: "/bin/true, start to end".to_owned(), value: empty };
    let goal = Some(Goal::Below(COLD_MS));
    figures.push(figure(
        "processes: start to first event, cold",
        Unit::Millis,
        first_event,
        peer,
        rounds,
        goal,
    ));
    let case = "processes: spawn to join, cold";
    figures.push(figure(case, Unit::Millis, first_join, Peer::Nothing, rounds, None));
    Ok(())
}

/// From the start of a process to its first question for work, in milliseconds.
fn first_event() -> Result<f64, Error> {
    let function = Function::new("cold", env::current_exe()?);
    let invocation = block_on(async {
        let lambda = LocalLambda::start(function, |_| ()).await?;
        // It can't make sense of this event and says so, after the moment that counts.
        let invocation = lambda.invoke("{}".into(), InvokeOptions::default()).await;
        lambda.shutdown().await;
        invocation.map_err(|error| Error::Message(error.to_string()))
    })?;
    let init = invocation.init_duration.ok_or_else(|| {
        Error::Message(format!("a function process did not come up: {}", invocation.log_tail))
    })?;
    Ok(init.as_secs_f64() * 1e3)
}

/// What the operating system takes for any process, in milliseconds.
fn empty_process() -> Result<f64, Error> {
    let start = Instant::now();
    Command::new("/bin/true").status()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The first cloud thread of a run, from start to join, in milliseconds: back end, process and connection included.
fn first_join() -> Result<f64, Error> {
    let run = start(BackendKind::Processes)?;
    let entered = run.enter();
    let start = Instant::now();
    let result = one();
    let time = start.elapsed();
    drop(entered);
    run.end();
    result.map(|()| time.as_secs_f64() * 1e3)
}

/// Memory of processes that do nothing, and the size of this program.
fn sizes(figures: &mut Vec<Figure>) -> Result<(), Error> {
    let held = |pid| resident(pid).ok_or_else(|| Error::Message(format!("process {pid} is gone")));

    let run = start(BackendKind::Processes)?;
    let entered = run.enter();
    let pid = crucial::thread::spawn(process).join()?;
    thread::sleep(Duration::from_millis(200));
    let function = held(pid)?;
    drop(entered);
    run.end();

    let (server, redis) = (Server::start(Spin::Default)?, Redis::start()?);
    thread::sleep(Duration::from_millis(200));
    let ours = held(server.pid())?;
    let theirs = redis.as_ref().map_or(Ok(f64::NAN), |redis| held(redis.pid()))?;
    let case = "memory of an idle function process";
    figures.push(figure(case, Unit::MiB, function, Peer::Nothing, 1, None));
    let peer = redis::peer(redis.as_ref(), "", theirs);
    figures.push(figure("memory of a fresh server", Unit::MiB, ours, peer, 1, None));

    let this = env::current_exe()?;
    let size = fs::metadata(&this)?.len() as f64 / MIB;
    figures.push(figure("size of this program", Unit::MiB, size, Peer::Nothing, 1, None));
    match stripped(&this) {
        Some(size) => {
            figures.push(figure("size of this program, stripped", Unit::MiB, size, Peer::Nothing, 1, None));
        }
        None => eprintln!("the stripped size is missing: apt-get install binutils"),
    }
    Ok(())
}

/// The size of a program without symbols and debugging information.
fn stripped(program: &Path) -> Option<f64> {
    let out = env::temp_dir().join(format!("crucial-bench-{}", std::process::id()));
    let status = Command::new("strip").arg("-o").arg(&out).arg(program).status();
    let size = fs::metadata(&out).map(|data| data.len() as f64 / MIB);
    let _ = fs::remove_file(&out);
    status.ok().filter(std::process::ExitStatus::success).and(size.ok())
}
