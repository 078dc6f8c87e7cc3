//! Synchronisation: barriers, hand-overs, channels, and waiting for the results of many threads.
//!
//! Redis has none of these; what it is compared with is how they are built on it: a barrier is a counter and a list that
//! the last one fills, a lock or a semaphore is a list that holds its tokens, a channel is a list.

use std::{
    sync::{Arc, Barrier as StdBarrier},
    thread,
    time::{Duration, Instant},
};

use ::redis::{Client, Connection, cmd};
use crucial::{
    BackendKind, cloud_fn,
    collections::HashMap,
    run::Run,
    shared,
    sync::{
        Barrier, Mutex, OnceLock, Reducer, Semaphore,
        mpsc::{self, Sender},
    },
};

use super::{
    Effort,
    measure::median,
    redis::{self, Redis},
    report::{Figure, Goal, Peer, Unit},
    server::{Server, Spin},
};
use crate::Error;

const ROUNDS: u32 = 5;
/// Threads at a barrier, and how often they meet in a turn.
const BARRIERS: [(usize, usize); 3] = [(10, 1000), (100, 100), (1000, 10)];
const PROCESSES: usize = 10;
const HAND_OVERS: usize = 2000;
const MESSAGES: usize = 20_000;
const SENDERS: [usize; 2] = [1, 8];
/// How many threads have a result.
const RESULTS: usize = 100;
/// How often whoever polls looks.
const POLL: Duration = Duration::from_millis(1);
const FORKS: [usize; 3] = [5, 20, 80];
/// How long a forked task takes.
const WORK: Duration = Duration::from_secs(2);

type Times = [Vec<f64>; 2];

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let server = Server::start(Spin::Default)?;
    let redis = Redis::start()?;
    let redis = redis.as_ref();
    let mut figures = Vec::new();
    for (threads, times) in BARRIERS {
        let times = effort.count(times).max(2);
        let case = format!("barrier of {threads} threads");
        compare(effort, redis, &mut figures, (&case, Unit::Micros), Some(Goal::Better), |ours| match ours {
            None => Ok(barrier(server.run(), threads, times)),
            Some(redis) => redis_barrier(redis, threads, times),
        })?;
    }
    processes(effort, &server, redis, &mut figures)?;
    let count = effort.count(HAND_OVERS);
    let better = Some(Goal::Better);
    compare(effort, redis, &mut figures, ("semaphore hand-over", Unit::Micros), better, |ours| match ours {
        None => Ok(semaphore(server.run(), count)),
        Some(redis) => redis_semaphore(redis, count),
    })?;
    compare(effort, redis, &mut figures, ("mutex hand-over", Unit::Micros), better, |ours| match ours {
        None => Ok(mutex(server.run(), count)),
        Some(redis) => redis_mutex(redis, count),
    })?;
    for senders in SENDERS {
        let case = format!("channel, 100 bytes, {senders} to 1");
        let count = effort.count(MESSAGES);
        compare(effort, redis, &mut figures, (&case, Unit::PerSecond), better, |ours| match ours {
            None => Ok(channel(server.run(), senders, count)),
            Some(redis) => redis_channel(redis, senders, count),
        })?;
    }
    for way in Way::ALL {
        let case = format!("{RESULTS} results, {}", way.name());
        compare(effort, redis, &mut figures, (&case, Unit::Millis), better, |ours| match ours {
            None => Ok(results(server.run(), way)),
            Some(redis) => redis_results(redis, way),
        })?;
    }
    fork_join(effort, &mut figures)?;
    Ok(figures)
}

/// Lets both take turns: `turn(None)` is ours, `turn(Some(redis))` the peer's.
fn compare(
    effort: Effort,
    redis: Option<&Redis>,
    figures: &mut Vec<Figure>,
    (case, unit): (&str, Unit),
    goal: Option<Goal>,
    mut turn: impl FnMut(Option<&Redis>) -> Result<f64, Error>,
) -> Result<(), Error> {
    let rounds = effort.rounds(ROUNDS);
    let mut times = Times::default();
    for round in 1..=rounds {
        eprintln!("sync, {case}: round {round} of {rounds}");
        times[0].push(turn(None)?);
        if redis.is_some() {
            times[1].push(turn(redis)?);
        }
    }
    let [ours, theirs] = times.map(|times| median(&times));
    let peer = redis::peer(redis, "", theirs);
    figures.push(Figure { bench: "sync", case: case.to_owned(), unit, ours, peer, rounds, goal });
    Ok(())
}

/// Runs clients in threads that begin together; returns how long it takes until all have ended. `client(i)` connects,
/// and returns what is measured.
fn together<F: FnOnce()>(clients: usize, client: impl Fn(usize) -> F + Sync) -> Duration {
    let start = StdBarrier::new(clients + 1);
    thread::scope(|scope| {
        let (start, client) = (&start, &client);
        let threads: Vec<_> = (0..clients)
            .map(|i| {
                scope.spawn(move || {
                    let work = client(i);
                    start.wait();
                    work();
                })
            })
            .collect();
        start.wait();
        let begin = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().expect("a client that panics has said why"));
        begin.elapsed()
    })
}

fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// The connections of as many clients, which are made before the clock runs.
fn connections(redis: &Redis, count: usize) -> Result<Vec<std::sync::Mutex<Connection>>, Error> {
    (0..count).map(|_| redis.connect().map(std::sync::Mutex::new)).collect()
}

fn forget_all(redis: &Redis) -> Result<(), Error> {
    Ok(cmd("FLUSHALL").exec(&mut redis.connect()?)?)
}

// ---- Barriers

/// Microseconds a round.
fn barrier(run: &Arc<Run>, threads: usize, times: usize) -> f64 {
    let _run = run.enter();
    let barrier = Barrier::new(threads);
    let time = together(threads, |_| {
        let (run, barrier) = (run.clone(), barrier.clone());
        // The first call of a thread connects.
        let entered = run.enter();
        barrier.wait();
        drop(entered);
        move || {
            let _run = run.enter();
            for _ in 0..times {
                barrier.wait();
            }
        }
    });
    micros(time, times)
}

/// A counter and a list for each round: the last one to come lets the others go.
fn wait_at_redis(connection: &mut Connection, threads: usize, round: usize) {
    let here: usize = cmd("INCR").arg("here").query(connection).expect("Redis counts");
    let list = format!("round {round}");
    if here == threads * (round + 1) {
        let others = vec![1; threads - 1];
        cmd("RPUSH").arg(list).arg(others).exec(connection).expect("Redis takes the list");
    } else {
        cmd("BLPOP").arg(list).arg(0).exec(connection).expect("Redis gives an element");
    }
}

fn redis_barrier(redis: &Redis, threads: usize, times: usize) -> Result<f64, Error> {
    forget_all(redis)?;
    let connections = connections(redis, threads)?;
    let time = together(threads, |i| {
        let mut connection = connections[i].lock().expect("nobody else has it");
        move || (0..times).for_each(|round| wait_at_redis(&mut connection, threads, round))
    });
    Ok(micros(time, times))
}

/// Seconds for so many rounds, as one of the processes sees it.
#[cloud_fn]
fn meet(barrier: &Barrier, times: usize) -> f64 {
    barrier.wait();
    let begin = Instant::now();
    for _ in 0..times {
        barrier.wait();
    }
    begin.elapsed().as_secs_f64()
}

#[cloud_fn]
fn meet_at_redis(url: &str, processes: usize, times: usize) -> f64 {
    let client = Client::open(url).expect("the benchmark gives a URL");
    let mut connection = client.get_connection().expect("Redis accepts connections");
    wait_at_redis(&mut connection, processes, 0);
    let begin = Instant::now();
    for round in 1..=times {
        wait_at_redis(&mut connection, processes, round);
    }
    begin.elapsed().as_secs_f64()
}

fn processes(
    effort: Effort,
    server: &Server,
    redis: Option<&Redis>,
    figures: &mut Vec<Figure>,
) -> Result<(), Error> {
    let run = server.start_run(BackendKind::Processes)?;
    let entered = run.enter();
    let times = effort.count(500);
    let join = |threads: Vec<crucial::thread::JoinHandle<f64>>| -> Result<f64, Error> {
        let times: Result<Vec<_>, _> = threads.into_iter().map(crucial::thread::JoinHandle::join).collect();
        Ok(times?.into_iter().fold(0.0, f64::max))
    };
    let case = format!("barrier of {PROCESSES} processes");
    let result = compare(effort, redis, figures, (&case, Unit::Micros), Some(Goal::Better), |peer| {
        let seconds = match peer {
            None => {
                let barrier = Barrier::new(PROCESSES);
                join((0..PROCESSES).map(|_| crucial::thread::spawn(|| meet(&barrier, times))).collect())?
            }
            Some(redis) => {
                forget_all(redis)?;
                let url = redis.url();
                let task = || meet_at_redis(url, PROCESSES, times);
                join((0..PROCESSES).map(|_| crucial::thread::spawn(task)).collect())?
            }
        };
        Ok(seconds * 1e6 / times as f64)
    });
    drop(entered);
    run.end();
    result
}

// ---- Hand-overs

/// Two threads wake each other in turn: microseconds for one to wake the other.
fn semaphore(run: &Arc<Run>, count: usize) -> f64 {
    let _run = run.enter();
    let semaphores = [Semaphore::new(1), Semaphore::new(0)];
    let time = together(2, |i| {
        let (run, own, other) = (run.clone(), semaphores[i].clone(), semaphores[1 - i].clone());
        move || {
            let _run = run.enter();
            for _ in 0..count {
                own.take(1);
                other.add_permits(1);
            }
        }
    });
    micros(time, 2 * count)
}

fn redis_semaphore(redis: &Redis, count: usize) -> Result<f64, Error> {
    forget_all(redis)?;
    cmd("RPUSH").arg("permits 0").arg(1).exec(&mut redis.connect()?)?;
    let connections = connections(redis, 2)?;
    let time = together(2, |i| {
        let mut connection = connections[i].lock().expect("nobody else has it");
        move || {
            for _ in 0..count {
                let own = format!("permits {i}");
                cmd("BLPOP").arg(own).arg(0).exec(&mut *connection).expect("Redis gives a permit");
                let other = format!("permits {}", 1 - i);
                cmd("RPUSH").arg(other).arg(1).exec(&mut *connection).expect("Redis takes a permit");
            }
        }
    });
    Ok(micros(time, 2 * count))
}

/// Two threads that want the same lock and change a number under it: microseconds from one's to the other's.
fn mutex(run: &Arc<Run>, count: usize) -> f64 {
    let _run = run.enter();
    let mutex = Mutex::new(0_u64);
    let time = together(2, |_| {
        let (run, mutex) = (run.clone(), mutex.clone());
        move || {
            let _run = run.enter();
            for _ in 0..count {
                *mutex.lock().expect("nobody panics with the lock") += 1;
            }
        }
    });
    assert_eq!(*mutex.lock().expect("nobody panicked"), 2 * count as u64);
    micros(time, 2 * count)
}

/// The token of the lock is the number that it protects.
fn redis_mutex(redis: &Redis, count: usize) -> Result<f64, Error> {
    forget_all(redis)?;
    cmd("RPUSH").arg("lock").arg(0).exec(&mut redis.connect()?)?;
    let connections = connections(redis, 2)?;
    let time = together(2, |i| {
        let mut connection = connections[i].lock().expect("nobody else has it");
        move || {
            for _ in 0..count {
                let (_, value): (String, u64) =
                    cmd("BLPOP").arg("lock").arg(0).query(&mut *connection).expect("Redis gives the lock");
                cmd("RPUSH").arg("lock").arg(value + 1).exec(&mut *connection).expect("Redis takes the lock");
            }
        }
    });
    Ok(micros(time, 2 * count))
}

// ---- Channels

/// Messages a second.
fn channel(run: &Arc<Run>, senders: usize, count: usize) -> f64 {
    let _run = run.enter();
    let (sender, receiver) = mpsc::channel();
    let each = count / senders;
    let ends: Vec<_> = (0..senders).map(|_| std::sync::Mutex::new(Some(sender.clone()))).collect();
    drop(sender);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let time = together(senders + 1, |i| {
        let run = run.clone();
        let take = |end: &std::sync::Mutex<Option<Sender<Vec<u8>>>>| end.lock().expect("no panic").take();
        let sender = ends.get(i).and_then(take);
        let receiver = (i == senders).then(|| receiver.lock().expect("no panic").take()).flatten();
        move || {
            let _run = run.enter();
            if let Some(sender) = sender {
                for _ in 0..each {
                    sender.send(vec![7; 100]).expect("the receiver is there");
                }
            }
            if let Some(receiver) = receiver {
                assert_eq!(receiver.iter().count(), each * senders);
            }
        }
    });
    (each * senders) as f64 / time.as_secs_f64()
}

/// The receiver takes as many messages at once as are there, as ours does.
fn redis_channel(redis: &Redis, senders: usize, count: usize) -> Result<f64, Error> {
    forget_all(redis)?;
    let connections = connections(redis, senders + 1)?;
    let each = count / senders;
    let time = together(senders + 1, |i| {
        let mut connection = connections[i].lock().expect("nobody else has it");
        move || {
            if i < senders {
                for _ in 0..each {
                    let message = vec![7; 100];
                    cmd("RPUSH")
                        .arg("channel")
                        .arg(message)
                        .exec(&mut *connection)
                        .expect("Redis takes a message");
                }
                return;
            }
            let mut received = 0;
            while received < each * senders {
                let mut take = cmd("BLMPOP");
                take.arg(0).arg(1).arg("channel").arg("LEFT").arg("COUNT").arg(256);
                let (_, messages): (String, Vec<Vec<u8>>) =
                    take.query(&mut *connection).expect("Redis gives messages");
                received += messages.len();
            }
        }
    });
    Ok((each * senders) as f64 / time.as_secs_f64())
}

// ---- The results of many threads

/// How one thread learns what a hundred others have found.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It looks again and again whether all are in a map.
    Polling,
    /// It waits for one after the other.
    Futures,
    /// They are combined on the server.
    Reducing,
}

#[shared]
fn add(sum: &mut u64, other: u64) {
    *sum += other;
}

impl Way {
    const ALL: [Self; 3] = [Self::Polling, Self::Futures, Self::Reducing];

    fn name(self) -> &'static str {
        match self {
            Way::Polling => "polling a map each ms",
            Way::Futures => "a future each",
            Way::Reducing => "a reducer",
        }
    }
}

/// Milliseconds from the start of the threads until one knows the sum of their results.
fn results(run: &Arc<Run>, way: Way) -> f64 {
    let _run = run.enter();
    let map = HashMap::<u64, u64>::new();
    let futures: Vec<_> = (0..RESULTS).map(|_| OnceLock::<u64>::new()).collect();
    let reducer = Reducer::new(RESULTS + 1, add);
    let time = together(RESULTS + 1, |i| {
        let (run, map, futures, reducer) = (run.clone(), map.clone(), &futures, reducer.clone());
        {
            let _run = run.enter();
            map.len();
        }
        move || {
            let _run = run.enter();
            let sum = match (way, i < RESULTS) {
                (Way::Polling, true) => {
                    map.insert(i as u64, i as u64);
                    return;
                }
                (Way::Futures, true) => return futures[i].set(i as u64).expect("nobody else sets it"),
                (Way::Reducing, true) => {
                    reducer.reduce(i as u64);
                    return;
                }
                (Way::Polling, false) => {
                    while map.len() < RESULTS {
                        thread::sleep(POLL);
                    }
                    map.values().into_iter().sum()
                }
                (Way::Futures, false) => futures.iter().map(|future| *future.wait()).sum::<u64>(),
                (Way::Reducing, false) => reducer.reduce(0),
            };
            assert_eq!(sum, (RESULTS * (RESULTS - 1) / 2) as u64);
        }
    });
    time.as_secs_f64() * 1e3
}

fn redis_results(redis: &Redis, way: Way) -> Result<f64, Error> {
    forget_all(redis)?;
    let connections = connections(redis, RESULTS + 1)?;
    let time = together(RESULTS + 1, |i| {
        let mut connection = connections[i].lock().expect("nobody else has it");
        move || {
            let connection = &mut *connection;
            let sum: u64 = match (way, i < RESULTS) {
                (Way::Polling, true) => {
                    return cmd("HSET").arg("map").arg(i).arg(i).exec(connection).expect("Redis takes it");
                }
                (Way::Futures, true) => {
                    let future = format!("future {i}");
                    return cmd("RPUSH").arg(future).arg(i).exec(connection).expect("Redis takes it");
                }
                (Way::Reducing, true) => {
                    cmd("INCRBY").arg("sum").arg(i).exec(connection).expect("Redis adds");
                    return wait_at_redis(connection, RESULTS + 1, 0);
                }
                (Way::Polling, false) => {
                    while cmd("HLEN").arg("map").query::<usize>(connection).expect("Redis counts") < RESULTS {
                        thread::sleep(POLL);
                    }
                    let values: Vec<u64> =
                        cmd("HVALS").arg("map").query(connection).expect("Redis gives them");
                    values.into_iter().sum()
                }
                (Way::Futures, false) => {
                    let mut take = |i| {
                        let future = format!("future {i}");
                        let (_, value): (String, u64) =
                            cmd("BLPOP").arg(future).arg(0).query(connection).expect("Redis gives it");
                        value
                    };
                    (0..RESULTS).map(&mut take).sum()
                }
                (Way::Reducing, false) => {
                    wait_at_redis(connection, RESULTS + 1, 0);
                    cmd("GET").arg("sum").query(connection).expect("Redis has the sum")
                }
            };
            assert_eq!(sum, (RESULTS * (RESULTS - 1) / 2) as u64);
        }
    });
    Ok(time.as_secs_f64() * 1e3)
}

// ---- Fork and join

/// Does nothing for so many seconds.
#[cloud_fn]
fn sleep(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}

/// What it costs to run tasks of a fixed length in processes, beyond that length.
fn fork_join(effort: Effort, figures: &mut Vec<Figure>) -> Result<(), Error> {
    let server = Server::start(Spin::Default)?;
    let run = server.start_run(BackendKind::Processes)?;
    let entered = run.enter();
    let rounds = effort.rounds(ROUNDS);
    let fork = |tasks: usize| -> Result<f64, Error> {
        let begin = Instant::now();
        let threads: Vec<_> = (0..tasks).map(|_| crucial::thread::spawn(|| sleep(WORK.as_secs()))).collect();
        threads.into_iter().try_for_each(crucial::thread::JoinHandle::join)?;
        Ok((begin.elapsed() - WORK).as_secs_f64() * 1e3)
    };
    // The processes start here.
    fork(*FORKS.iter().max().expect("there are some"))?;
    for tasks in FORKS {
        let mut times = Vec::new();
        for round in 1..=rounds {
            eprintln!("sync, fork-join of {tasks}: round {round} of {rounds}");
            times.push(fork(tasks)?);
        }
        let case = format!("fork-join of {tasks} processes, beyond their {} s", WORK.as_secs());
        let ours = median(&times);
        let (unit, peer) = (Unit::Millis, Peer::Nothing);
        figures.push(Figure { bench: "sync", case, unit, ours, peer, rounds, goal: None });
    }
    drop(entered);
    run.end();
    Ok(())
}
