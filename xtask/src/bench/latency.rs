//! One blocking call at a time: how long a put and a get of 1 KB take, with and without TLS, and how long a connection does.

use crucial::BackendKind;

use super::{
    Effort,
    measure::{median, p50},
    objects::{Block, SIZE},
    pin::Pinned,
    raw::Raw,
    redis::{self, Redis},
    report::{Figure, Goal, Peer, Unit},
    server::{Server, Spin},
};
use crate::Error;

const CALLS: usize = 5000;
const CONNECTIONS: usize = 200;
const ROUNDS: u32 = 11;
/// The most of TCP's own time that a call may take.
const TCP: f64 = 1.5;
/// The key of the value.
const KEY: &str = "value";

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Put,
    Get,
}

/// A contestant's turn: a number of calls; gives the median time of one in microseconds.
type Turn<'a> = Box<dyn FnMut(Operation, usize) -> Result<f64, Error> + 'a>;

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    {
        let _pinned = Pinned::to_one_cpu()?;
        placed(effort, true, &mut figures)?;
    }
    placed(effort, false, &mut figures)?;
    Ok(figures)
}

fn placed(effort: Effort, pinned: bool, figures: &mut Vec<Figure>) -> Result<(), Error> {
    let spinning = Server::start(Spin::Default)?;
    let sleeping = Server::start(Spin::Off)?;
    let secured = Server::start_secured()?;
    let raw = Raw::start(false)?;
    // On one CPU an end that spins keeps the other from running.
    let raw_spinning = if pinned { None } else { Some(Raw::start(true)?) };
    let redis = Redis::start()?;

    let mut turns: Vec<Turn<'_>> = vec![ours(&spinning), ours(&sleeping), ours(&secured), tcp(&raw)];
    turns.extend(raw_spinning.as_ref().map(tcp));
    if let Some(redis) = &redis {
        turns.push(through_redis(redis)?);
    }

    let place = if pinned { "one CPU" } else { "free" };
    let rounds = effort.rounds(ROUNDS);
    for (operation, name) in [(Operation::Put, "put"), (Operation::Get, "get")] {
        let mut times = vec![Vec::new(); turns.len()];
        for round in 1..=rounds {
            eprintln!("latency, {place}, {name}: round {round} of {rounds}");
            for (turn, times) in turns.iter_mut().zip(&mut times) {
                times.push(turn(operation, effort.count(CALLS))?);
            }
        }
        let mut medians = times.iter().map(|times| median(times));
        let mut next = || medians.next().unwrap_or(f64::NAN);
        let (spinning, sleeping, secured, tcp) = (next(), next(), next(), next());
        let tcp_spinning = raw_spinning.is_some().then(&mut next);
        let through_redis = next();

        let mut figure = |spin: &str, ours: f64, peer: Peer, goal: Option<Goal>| {
            let case = format!("{name} 1 KB, {place}{spin}");
            let bench = "latency";
            figures.push(Figure { bench, case, unit: Unit::Micros, ours, peer, rounds, goal });
        };
        let peer = |name: &str, value: f64| Peer::Measured { name: name.to_owned(), value };
        let redis = |value| redis::peer(redis.as_ref(), "", value);
        let (near_tcp, above_redis) =
            if pinned { (Some(Goal::Ratio(1.0 / TCP)), Goal::Better) } else { (None, Goal::Ratio(4.0)) };
        figure("", spinning, redis(through_redis), Some(above_redis));
        figure("", spinning, peer("TCP", tcp), near_tcp);
        if let Some(value) = tcp_spinning {
            figure("", spinning, peer("TCP, both ends spin", value), None);
        }
        figure(", spin off", sleeping, redis(through_redis), None);
        figure(", spin off", sleeping, peer("TCP", tcp), None);
        figure(", TLS", secured, peer("ours without TLS", spinning), None);
    }

    let (mut plain, mut tls) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(connect(&spinning, effort.count(CONNECTIONS))?);
        tls.push(connect(&secured, effort.count(CONNECTIONS))?);
    }
    figures.push(Figure {
        bench: "latency",
        case: format!("connect, {place}, TLS"),
        unit: Unit::Micros,
        ours: median(&tls),
        peer: Peer::Measured { name: "ours without TLS".to_owned(), value: median(&plain) },
        rounds,
        goal: None,
    });
    Ok(())
}

/// The median time of a connection: until the server has answered its greeting.
fn connect(server: &Server, connections: usize) -> Result<f64, Error> {
    let mut runs = Vec::with_capacity(connections);
    let time = p50(connections, || {
        runs.push(server.start_run(BackendKind::Threads)?);
        Ok(())
    });
    runs.iter().for_each(|run| run.end());
    time
}

fn ours(server: &Server) -> Turn<'_> {
    let payload = vec![b'x'; SIZE];
    let run = server.run();
    let block = {
        let _entered = run.enter();
        Block::at(KEY).new(payload.clone())
    };
    Box::new(move |operation, calls| {
        let _entered = run.enter();
        match operation {
            Operation::Put => p50(calls, || {
                block.set(&payload);
                Ok(())
            }),
            Operation::Get => p50(calls, || length(block.get().len())),
        }
    })
}

fn tcp(raw: &Raw) -> Turn<'_> {
    Box::new(move |operation, calls| {
        let mut connection = raw.connect()?;
        let (send, receive) = match operation {
            Operation::Put => (SIZE, 0),
            Operation::Get => (0, SIZE),
        };
        Ok(p50(calls, || connection.exchange(send, receive))?)
    })
}

fn through_redis(redis: &Redis) -> Result<Turn<'_>, Error> {
    let payload = vec![b'x'; SIZE];
    let mut connection = redis.connect()?;
    Redis::set(KEY, &payload).exec(&mut connection)?;
    Ok(Box::new(move |operation, calls| match operation {
        Operation::Put => p50(calls, || Ok(Redis::set(KEY, &payload).exec(&mut connection)?)),
        Operation::Get => p50(calls, || {
            let value: Vec<u8> = Redis::get(KEY).query(&mut connection)?;
            length(value.len())
        }),
    }))
}

/// An answer that isn't the whole value is no answer.
fn length(length: usize) -> Result<(), Error> {
    if length == SIZE { Ok(()) } else { Err(Error::Message(format!("got {length} of {SIZE} bytes"))) }
}
