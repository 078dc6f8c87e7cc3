//! Clients that call as fast as they can.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::Operation;
use crate::{
    Error,
    bench::{
        measure::{Random, median, rate},
        objects::SIZE,
    },
};

/// Whoever keeps blocks.
pub(super) trait Contestant {
    fn name(&self) -> String;
    /// The processes of its servers.
    fn pids(&self) -> Vec<u32>;
    /// So many clients call for so long.
    fn turn(&mut self, operation: Operation, clients: usize, time: Duration) -> Result<Taken, Error>;
}

/// What a turn has measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) calls: u64,
    /// Calls in a second.
    pub(super) rate: f64,
    /// The median duration of a call in microseconds.
    pub(super) p50: f64,
}

/// An async client.
pub(super) trait Client: Clone + Send + 'static {
    fn set(&mut self, block: usize) -> impl Future<Output = Result<(), Error>> + Send;
    /// Gives the length of what is there.
    fn get(&mut self, block: usize) -> impl Future<Output = Result<usize, Error>> + Send;
}

/// Connected clients.
pub(super) struct Clients<C> {
    /// A single client has nobody to wait for but the server, so it is on the thread that drives its connection.
    one: (Runtime, C),
    many: (Runtime, Vec<C>),
}

impl<C: Client> Clients<C> {
    /// Connects: many clients share so many connections.
    pub(super) fn connect<F: Future<Output = Result<C, Error>>>(
        connections: usize,
        connect: impl Fn() -> F,
    ) -> Result<Self, Error> {
        let single = Builder::new_current_thread().enable_all().build()?;
        let one = single.block_on(connect())?;
        let several = Builder::new_multi_thread().enable_all().build()?;
        let mut many = Vec::new();
        for _ in 0..connections {
            many.push(several.block_on(connect())?);
        }
        Ok(Clients { one: (single, one), many: (several, many) })
    }

    /// Makes every block.
    pub(super) fn fill(&mut self, blocks: usize) -> Result<(), Error> {
        let (runtime, client) = &mut self.one;
        runtime.block_on(async {
            for block in 0..blocks {
                client.set(block).await?;
            }
            Ok(())
        })
    }

    pub(super) fn turn(
        &mut self,
        operation: Operation,
        clients: usize,
        blocks: usize,
        time: Duration,
    ) -> Result<Taken, Error> {
        let begin = Instant::now();
        if clients == 1 {
            let (runtime, client) = &mut self.one;
            let times = runtime.block_on(repeat(client.clone(), 0, operation, blocks, time))?;
            return Ok(taken(times, begin));
        }
        let (runtime, connected) = &mut self.many;
        runtime.block_on(async {
            let client = |i: usize| connected[i % connected.len()].clone();
            let tasks: Vec<_> =
                (0..clients).map(|i| tokio::spawn(repeat(client(i), i, operation, blocks, time))).collect();
            let mut times = Vec::new();
            for task in tasks {
                times.append(&mut task.await.map_err(|error| Error::Message(error.to_string()))??);
            }
            Ok(taken(times, begin))
        })
    }
}

/// From how long each call took.
pub(super) fn taken(times: Vec<f64>, begin: Instant) -> Taken {
    Taken { calls: times.len() as u64, rate: rate(times.len() as u64, begin.elapsed()), p50: median(&times) }
}

async fn repeat<C: Client>(
    mut client: C,
    number: usize,
    operation: Operation,
    blocks: usize,
    time: Duration,
) -> Result<Vec<f64>, Error> {
    let (mut random, mut times, begin) = (Random::new(number), Vec::new(), Instant::now());
    while begin.elapsed() < time {
        let (block, start) = (random.below(blocks), Instant::now());
        match operation {
            Operation::Set => client.set(block).await?,
            Operation::Get => whole(client.get(block).await?)?,
        }
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// An answer that isn't the whole value is no answer.
pub(super) fn whole(length: usize) -> Result<(), Error> {
    if length == SIZE { Ok(()) } else { Err(Error::Message(format!("got {length} of {SIZE} bytes"))) }
}
