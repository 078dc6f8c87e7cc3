//! Many clients that call as fast as they can: how many calls a server answers in a second.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use ::redis::{Cmd, ConnectionLike, Value, aio::MultiplexedConnection};
use crucial::{Call, run::Run};
use tokio::runtime::{Builder, Runtime};

use super::{
    Effort,
    measure::{Gate, Random, median, rate},
    objects::{Block, FACTOR, Number, SIZE},
    redis::{self, Redis},
    report::{Figure, Goal, Unit},
    server::{Server, Spin},
};
use crate::Error;

const CLIENTS: usize = 200;
const OBJECTS: usize = 800;
const ROUNDS: u32 = 5;
/// How long a turn is.
const TURN: Duration = Duration::from_secs(2);
/// How many multiplications make a call complex.
const COMPLEX: u32 = 10_000;
/// How many connections Redis's async clients share; the better count is shown.
const SHARED: [usize; 2] = [1, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Set,
    Get,
    Simple,
    Complex,
    ComplexPlain,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Set, Self::Get, Self::Simple, Self::Complex, Self::ComplexPlain];

    fn name(self) -> &'static str {
        match self {
            Operation::Set => "set 1 KB",
            Operation::Get => "get 1 KB",
            Operation::Simple => "1 multiplication",
            Operation::Complex => "10,000 multiplications",
            Operation::ComplexPlain => "10,000 multiplications in a register",
        }
    }

    fn goal(self) -> Option<Goal> {
        match self {
            Operation::Set | Operation::Get | Operation::Simple => Some(Goal::Better),
            Operation::ComplexPlain => Some(Goal::Ratio(4.0)),
            // It takes the memory's time rather than the multiplications'.
            Operation::Complex => None,
        }
    }
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let spinning = Ours::start(Spin::Default)?;
    let sleeping = Ours::start(Spin::Off)?;
    let redis = Redis::start()?;
    let mut figures = Vec::new();
    threads(effort, [&spinning, &sleeping], redis.as_ref(), &mut figures)?;
    tasks(effort, &spinning, redis.as_ref(), &mut figures)?;
    Ok(figures)
}

fn turn(effort: Effort) -> Duration {
    if effort.quick { TURN / 10 } else { TURN }
}

/// 200 threads, each with a connection of its own.
fn threads(
    effort: Effort,
    [spinning, sleeping]: [&Ours; 2],
    redis: Option<&Redis>,
    figures: &mut Vec<Figure>,
) -> Result<(), Error> {
    let mut redis_threads = redis.map(RedisThreads::connect).transpose()?;
    let (rounds, turn) = (effort.rounds(ROUNDS), turn(effort));
    for operation in Operation::ALL {
        let mut rates: [Vec<f64>; 3] = Default::default();
        for round in 1..=rounds {
            eprintln!("throughput, threads, {}: round {round} of {rounds}", operation.name());
            rates[0].push(spinning.threads(operation, turn));
            rates[1].push(sleeping.threads(operation, turn));
            if let Some(redis) = &mut redis_threads {
                rates[2].push(redis.turn(operation, turn));
            }
        }
        let [spinning, sleeping, theirs] = rates.map(|rates| median(&rates));
        for (how, ours, goal) in [("", spinning, operation.goal()), (", spin off", sleeping, None)] {
            figures.push(Figure {
                bench: "throughput",
                case: format!("{}, {CLIENTS} threads{how}", operation.name()),
                unit: Unit::PerSecond,
                ours,
                peer: redis::peer(redis, "", theirs),
                rounds,
                goal,
            });
        }
    }
    Ok(())
}

/// 200 async callers over a few connections.
fn tasks(effort: Effort, ours: &Ours, redis: Option<&Redis>, figures: &mut Vec<Figure>) -> Result<(), Error> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ours = OurTasks::of(ours);
    let mut peers = Vec::new();
    for count in SHARED {
        let connected = redis.map(|redis| runtime.block_on(RedisTasks::connect(redis, count))).transpose()?;
        peers.extend(connected.map(|connected| (count, connected)));
    }
    let (rounds, turn) = (effort.rounds(ROUNDS), turn(effort));
    for operation in Operation::ALL {
        let mut our_rates = Vec::new();
        let mut their_rates: [Vec<f64>; SHARED.len()] = Default::default();
        for round in 1..=rounds {
            eprintln!("throughput, tasks, {}: round {round} of {rounds}", operation.name());
            our_rates.push(ours.turn(&runtime, operation, turn)?);
            for ((_, redis), rates) in peers.iter().zip(&mut their_rates) {
                rates.push(redis.turn(&runtime, operation, turn)?);
            }
        }
        let theirs = peers.iter().zip(&their_rates).map(|((count, _), rates)| (median(rates), *count));
        let (theirs, on) = theirs.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
        figures.push(Figure {
            bench: "throughput",
            case: format!("{}, {CLIENTS} tasks", operation.name()),
            unit: Unit::PerSecond,
            ours: median(&our_rates),
            peer: redis::peer(redis, &format!(", on {on}"), theirs),
            rounds,
            goal: operation.goal(),
        });
    }
    Ok(())
}

/// Runs a client in each of 200 threads until the time is over: `client(i)` makes the call that it repeats.
fn in_threads<C>(time: Duration, clients: impl IntoIterator<Item = C>) -> f64
where
    C: FnOnce(&Gate, &Barrier) -> u64 + Send,
{
    let (gate, start) = (Gate::default(), Barrier::new(CLIENTS + 1));
    thread::scope(|scope| {
        let (gate, start) = (&gate, &start);
        let threads: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(move || client(gate, start))).collect();
        assert_eq!(threads.len(), CLIENTS, "the barrier waits for as many");
        start.wait();
        let begin = Instant::now();
        thread::sleep(time);
        gate.close();
        let calls = threads.into_iter().map(|t| t.join().expect("a client that panics has said why")).sum();
        rate(calls, begin.elapsed())
    })
}

/// Runs a client in each of 200 tasks until the time is over.
fn in_tasks<F>(
    runtime: &Runtime,
    time: Duration,
    mut client: impl FnMut(usize, Arc<Gate>) -> F,
) -> Result<f64, Error>
where
    F: Future<Output = Result<u64, Error>> + Send + 'static,
{
    let gate = Arc::new(Gate::default());
    runtime.block_on(async {
        let begin = Instant::now();
        let tasks: Vec<_> = (0..CLIENTS).map(|i| tokio::spawn(client(i, gate.clone()))).collect();
        tokio::time::sleep(time).await;
        gate.close();
        let mut calls = 0;
        for task in tasks {
            calls += task.await.map_err(|error| Error::Message(error.to_string()))??;
        }
        Ok(rate(calls, begin.elapsed()))
    })
}

/// Our server with its objects.
#[derive(Debug)]
struct Ours {
    server: Server,
    blocks: Arc<Vec<Block>>,
    numbers: Arc<Vec<Number>>,
}

impl Ours {
    fn start(spin: Spin) -> Result<Self, Error> {
        let server = Server::start(spin)?;
        let _entered = server.run().enter();
        let blocks = (0..OBJECTS).map(|i| Block::at(format!("block {i}")).new(vec![b'x'; SIZE])).collect();
        let numbers = (0..OBJECTS).map(|i| Number::at(format!("number {i}")).new(1.5)).collect();
        drop(_entered);
        Ok(Ours { server, blocks: Arc::new(blocks), numbers: Arc::new(numbers) })
    }

    fn threads(&self, operation: Operation, time: Duration) -> f64 {
        let payload = vec![b'x'; SIZE];
        let (blocks, numbers, payload) = (&*self.blocks, &*self.numbers, &payload[..]);
        let clients = (0..CLIENTS).map(|i| {
            let run = self.server.run();
            move |gate: &Gate, start: &Barrier| {
                let _entered = run.enter();
                let (mut random, mut calls) = (Random::new(i), 0);
                // This opens the thread's connection.
                blocks[i].get();
                start.wait();
                while gate.is_open() {
                    let i = random.below(OBJECTS);
                    match operation {
                        Operation::Set => blocks[i].set(payload),
                        Operation::Get => assert_eq!(blocks[i].get().len(), SIZE),
                        Operation::Simple => product(numbers[i].multiply(1)),
                        Operation::Complex => product(numbers[i].multiply(COMPLEX)),
                        Operation::ComplexPlain => product(numbers[i].multiply_plain(COMPLEX)),
                    }
                    calls += 1;
                }
                calls
            }
        });
        in_threads(time, clients)
    }
}

/// Members of our run. Each has a connection that its tasks share, as a process has.
#[derive(Debug)]
struct OurTasks {
    run: Arc<Run>,
    blocks: Arc<Vec<Block>>,
    numbers: Arc<Vec<Number>>,
}

impl OurTasks {
    fn of(ours: &Ours) -> Self {
        let run = ours.server.run().clone();
        OurTasks { run, blocks: ours.blocks.clone(), numbers: ours.numbers.clone() }
    }

    fn turn(&self, runtime: &Runtime, operation: Operation, time: Duration) -> Result<f64, Error> {
        let payload: Arc<[u8]> = vec![b'x'; SIZE].into();
        in_tasks(runtime, time, |i, gate| {
            let member = self.run.clone();
            let (blocks, numbers, payload) = (self.blocks.clone(), self.numbers.clone(), payload.clone());
            async move {
                let (mut random, mut calls) = (Random::new(i), 0);
                while gate.is_open() {
                    let (block, number) = (&blocks[random.below(OBJECTS)], &numbers[random.below(OBJECTS)]);
                    match operation {
                        Operation::Set => within(&member, || block.remote().set(&payload)).await?,
                        Operation::Get => {
                            let bytes = within(&member, || block.remote().get()).await?;
                            assert_eq!(bytes.len(), SIZE);
                        }
                        Operation::Simple => {
                            product(within(&member, || number.remote().multiply(1)).await?);
                        }
                        Operation::Complex => {
                            product(within(&member, || number.remote().multiply(COMPLEX)).await?);
                        }
                        Operation::ComplexPlain => {
                            product(within(&member, || number.remote().multiply_plain(COMPLEX)).await?);
                        }
                    }
                    calls += 1;
                }
                Ok(calls)
            }
        })
    }
}

/// Describes a call as a member of the run. Tasks move between threads, so they can't stay members.
fn within<R>(member: &Arc<Run>, describe: impl FnOnce() -> Call<R>) -> Call<R> {
    let _entered = member.enter();
    describe()
}

/// A product is above zero, or the call has not done its work.
fn product(value: f64) {
    assert!(value >= 1.5 / FACTOR, "{value} is no product");
}

/// What clients of Redis need to know: the script, and the names of their values.
#[derive(Debug)]
struct Names {
    script: Arc<str>,
    blocks: Vec<String>,
    numbers: Vec<String>,
}

impl Names {
    fn of(redis: &Redis) -> Self {
        let names = |kind| (0..OBJECTS).map(|i| format!("{kind} {i}")).collect();
        Names { script: redis.script(), blocks: names("block"), numbers: names("number") }
    }

    fn command(&self, operation: Operation, i: usize, payload: &[u8]) -> Cmd {
        match operation {
            Operation::Set => Redis::set(&self.blocks[i], payload),
            Operation::Get => Redis::get(&self.blocks[i]),
            Operation::Simple => Redis::multiply(&self.script, &self.numbers[i], 1),
            Operation::Complex | Operation::ComplexPlain => {
                Redis::multiply(&self.script, &self.numbers[i], COMPLEX)
            }
        }
    }
}

/// A connection to Redis for each thread. As ours, they stay open from turn to turn.
struct RedisThreads {
    connections: Vec<::redis::Connection>,
    names: Names,
}

impl RedisThreads {
    fn connect(redis: &Redis) -> Result<Self, Error> {
        let names = Names::of(redis);
        let mut connections = (0..CLIENTS).map(|_| redis.connect()).collect::<Result<Vec<_>, _>>()?;
        for key in &names.blocks {
            Redis::set(key, &[b'x'; SIZE]).exec(&mut connections[0])?;
        }
        Ok(RedisThreads { connections, names })
    }

    fn turn(&mut self, operation: Operation, time: Duration) -> f64 {
        let (names, payload) = (&self.names, &vec![b'x'; SIZE][..]);
        let clients = self.connections.iter_mut().enumerate().map(|(i, connection)| {
            move |gate: &Gate, start: &Barrier| {
                let (mut random, mut calls) = (Random::new(i), 0);
                start.wait();
                while gate.is_open() {
                    let call = names.command(operation, random.below(OBJECTS), payload);
                    let answer = connection.req_command(&call).expect("Redis answers");
                    check(operation, &answer);
                    calls += 1;
                }
                calls
            }
        });
        in_threads(time, clients)
    }
}

/// Connections to Redis that tasks share.
struct RedisTasks {
    connections: Vec<MultiplexedConnection>,
    names: Arc<Names>,
}

impl RedisTasks {
    async fn connect(redis: &Redis, count: usize) -> Result<Self, Error> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(redis.connect_async().await?);
        }
        Ok(RedisTasks { connections, names: Arc::new(Names::of(redis)) })
    }

    fn turn(&self, runtime: &Runtime, operation: Operation, time: Duration) -> Result<f64, Error> {
        let payload: Arc<[u8]> = vec![b'x'; SIZE].into();
        in_tasks(runtime, time, |i, gate| {
            let (names, payload) = (self.names.clone(), payload.clone());
            let mut connection = self.connections[i % self.connections.len()].clone();
            async move {
                let (mut random, mut calls) = (Random::new(i), 0);
                while gate.is_open() {
                    let call = names.command(operation, random.below(OBJECTS), &payload);
                    let answer: Value = call.query_async(&mut connection).await?;
                    check(operation, &answer);
                    calls += 1;
                }
                Ok(calls)
            }
        })
    }
}

/// An answer that isn't what was asked for must not count.
fn check(operation: Operation, answer: &Value) {
    match (operation, answer) {
        (Operation::Set, Value::Okay) => {}
        (Operation::Get, Value::BulkString(bytes)) if bytes.len() == SIZE => {}
        (Operation::Simple | Operation::Complex | Operation::ComplexPlain, Value::BulkString(_)) => {}
        _ => panic!("{answer:?} is no answer to {operation:?}"),
    }
}
