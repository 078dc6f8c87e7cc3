//! Redis with two replicas: a write waits until one of them has it (`WAIT 1`), so that two of three have, as with ours.

use std::{
    ffi::OsStr,
    thread::sleep,
    time::{Duration, Instant},
};

use ::redis::{Connection, Pipeline, aio::MultiplexedConnection, pipe};

use super::{
    CLIENTS, OBJECTS, Operation,
    client::{Client, Clients, Contestant, Taken, taken, whole},
};
use crate::{
    Error,
    bench::{
        child::{Child, Pipes},
        cluster::disk,
        measure::Random,
        objects::SIZE,
        peers::free_port,
        redis::{self, Redis},
        report::Peer,
    },
    cluster::folder::Folder,
};

const REPLICAS: usize = 2;
/// How long replicas may take to be there: they are told to begin after some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Replicated {
    redis: Redis,
    replicas: Vec<Child>,
    connection: Connection,
    clients: Clients<Shared>,
    /// Goes after the replicas.
    _folder: Folder,
}

/// Starts it; what to install if it is not.
pub(super) fn start() -> Result<Result<Box<dyn Contestant>, Peer>, Error> {
    let Some(redis) = Redis::start()? else { return Ok(Err(redis::peer(None, "", 0.0))) };
    let folder = Folder::temporary(&disk()?, "bench-redis")?;
    let (dir, master) = (folder.path().to_string_lossy().into_owned(), redis.port().to_string());
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        let port = free_port()?.to_string();
        let args = [
            &["--bind", "127.0.0.1", "--port", &port, "--dir", &dir, "--save", "", "--appendonly", "no"][..],
            &["--repl-diskless-load", "swapdb", "--replicaof", "127.0.0.1", &master],
        ];
        replicas.push(Child::start(OsStr::new(redis::PROGRAM), args.concat(), &[], Pipes::Neither)?);
    }
    let mut connection = redis.connect()?;
    let start = Instant::now();
    loop {
        let (copies,): (usize,) = write(0, b"x", REPLICAS, 1000).query(&mut connection)?;
        if copies == REPLICAS {
            break;
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::Message(format!("only {copies} of {REPLICAS} replicas of Redis are there")));
        }
        sleep(Duration::from_millis(100));
    }
    // A client that waits holds up those that share its connection, so each has its own.
    let most = CLIENTS.into_iter().max().unwrap_or(1);
    let connect =
        || async { Ok(Shared { connection: redis.connect_async().await?, payload: vec![b'x'; SIZE] }) };
    let mut clients = Clients::connect(most, connect)?;
    clients.fill(OBJECTS)?;
    Ok(Ok(Box::new(Replicated { redis, replicas, connection, clients, _folder: folder })))
}

fn key(block: usize) -> String {
    format!("block {block}")
}

/// A write that so many replicas have when it returns, or the time is over (0: never).
fn write(block: usize, payload: &[u8], replicas: usize, millis: u64) -> Pipeline {
    let mut both = pipe();
    both.add_command(Redis::set(&key(block), payload)).ignore().cmd("WAIT").arg(replicas).arg(millis);
    both
}

fn replicated(copies: usize) -> Result<(), Error> {
    if copies >= 1 { Ok(()) } else { Err(Error::Message("no replica of Redis has a write".to_owned())) }
}

impl Contestant for Replicated {
    fn name(&self) -> String {
        format!("{}, {REPLICAS} replicas, WAIT 1", self.redis.name())
    }

    fn pids(&self) -> Vec<u32> {
        self.replicas.iter().map(Child::pid).chain([self.redis.pid()]).collect()
    }

    fn turn(&mut self, operation: Operation, clients: usize, time: Duration) -> Result<Taken, Error> {
        if clients > 1 {
            return self.clients.turn(operation, clients, OBJECTS, time);
        }
        let payload = vec![b'x'; SIZE];
        let (mut random, mut times, begin) = (Random::new(0), Vec::new(), Instant::now());
        while begin.elapsed() < time {
            let (block, start) = (random.below(OBJECTS), Instant::now());
            match operation {
                Operation::Set => {
                    let (copies,) = write(block, &payload, 1, 0).query(&mut self.connection)?;
                    replicated(copies)?;
                }
                Operation::Get => {
                    let value: Vec<u8> = Redis::get(&key(block)).query(&mut self.connection)?;
                    whole(value.len())?;
                }
            }
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(taken(times, begin))
    }
}

/// A connection for async calls.
#[derive(Clone)]
struct Shared {
    connection: MultiplexedConnection,
    payload: Vec<u8>,
}

impl Client for Shared {
    async fn set(&mut self, block: usize) -> Result<(), Error> {
        let (copies,) = write(block, &self.payload, 1, 0).query_async(&mut self.connection).await?;
        replicated(copies)
    }

    async fn get(&mut self, block: usize) -> Result<usize, Error> {
        let value: Vec<u8> = Redis::get(&key(block)).query_async(&mut self.connection).await?;
        Ok(value.len())
    }
}
