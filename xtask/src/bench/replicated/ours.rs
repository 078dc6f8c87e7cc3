//! Our nodes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crucial::{Call, run::Run};

use super::{
    OBJECTS, Operation,
    client::{Client, Clients, Contestant, Taken, taken, whole},
};
use crate::{
    Error,
    bench::{
        cluster::{Cluster, Kept},
        measure::Random,
        objects::{Block, SIZE},
    },
};

/// A cluster of three, with blocks.
pub(super) struct Ours {
    cluster: Cluster,
    blocks: Arc<Vec<Block>>,
    clients: Clients<Tasks>,
}

impl Ours {
    pub(super) fn start(kept: Kept) -> Result<Self, Error> {
        Self::with(kept, 3)
    }

    /// So many nodes, each of which has every block.
    pub(super) fn with(kept: Kept, nodes: usize) -> Result<Self, Error> {
        let cluster = Cluster::start(kept, nodes, nodes, None)?;
        let entered = cluster.run().enter();
        let blocks: Vec<_> = (0..OBJECTS)
            .map(|i| Block::at(format!("block {i}")).persistent().new(vec![b'x'; SIZE]))
            .collect();
        drop(entered);
        let blocks = Arc::new(blocks);
        let tasks =
            Tasks { run: cluster.run().clone(), blocks: blocks.clone(), payload: vec![b'x'; SIZE].into() };
        let clients = Clients::connect(1, || std::future::ready(Ok(tasks.clone())))?;
        Ok(Ours { cluster, blocks, clients })
    }
}

impl Contestant for Ours {
    fn name(&self) -> String {
        "ours".to_owned()
    }

    fn pids(&self) -> Vec<u32> {
        self.cluster.pids()
    }

    fn turn(&mut self, operation: Operation, clients: usize, time: Duration) -> Result<Taken, Error> {
        if clients > 1 {
            return self.clients.turn(operation, clients, OBJECTS, time);
        }
        let payload = vec![b'x'; SIZE];
        let _entered = self.cluster.run().enter();
        let (mut random, mut times, begin) = (Random::new(0), Vec::new(), Instant::now());
        while begin.elapsed() < time {
            let (block, start) = (&self.blocks[random.below(OBJECTS)], Instant::now());
            match operation {
                Operation::Set => block.set(&payload),
                Operation::Get => whole(block.get().len())?,
            }
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(taken(times, begin))
    }
}

/// A member of the run, whose tasks share its connections.
#[derive(Clone)]
struct Tasks {
    run: Arc<Run>,
    blocks: Arc<Vec<Block>>,
    payload: Arc<[u8]>,
}

impl Tasks {
    /// Describes a call as a member of the run. Tasks move between threads, so they can't stay members.
    fn within<R>(&self, describe: impl FnOnce() -> Call<R>) -> Call<R> {
        let _entered = self.run.enter();
        describe()
    }
}

impl Client for Tasks {
    async fn set(&mut self, block: usize) -> Result<(), Error> {
        Ok(self.within(|| self.blocks[block].remote().set(&self.payload)).await?)
    }

    async fn get(&mut self, block: usize) -> Result<usize, Error> {
        Ok(self.within(|| self.blocks[block].remote().get()).await?.len())
    }
}
