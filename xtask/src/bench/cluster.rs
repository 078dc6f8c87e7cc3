//! Our cluster: three processes, or however many it takes.

use std::{env, path::PathBuf, sync::Arc};

use crucial::{Config, run::Run};

use crate::{
    Error,
    cluster::{
        folder::Folder,
        nodes::{Nodes, Plan},
    },
};

/// Nodes and a run on them.
#[derive(Debug)]
pub(super) struct Cluster {
    run: Arc<Run>,
    nodes: Nodes,
    /// Goes after the nodes.
    folder: Option<Folder>,
}

/// Where a cluster keeps its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    OnDisk,
    InMemory,
}

impl Kept {
    pub(super) fn text(self) -> &'static str {
        match self {
            Kept::OnDisk => "durable",
            Kept::InMemory => "memory",
        }
    }
}

impl Cluster {
    pub(super) fn start(
        kept: Kept,
        nodes: usize,
        replicas: usize,
        partitions: Option<usize>,
    ) -> Result<Self, Error> {
        let folder = match kept {
            Kept::OnDisk => Some(Folder::temporary(&disk()?, "bench-nodes")?),
            Kept::InMemory => None,
        };
        let program = env::current_exe()?;
        let plan = Plan {
            program: program.as_os_str(),
            nodes,
            replicas,
            partitions,
            data: folder.as_ref().map(Folder::path),
            settings: &[],
        };
        let mut nodes = Nodes::start(&plan)?;
        nodes.settle()?;
        let mut config = Config::default();
        config.servers = nodes.addresses();
        Ok(Cluster { run: Run::start(config)?, nodes, folder })
    }

    /// Kills a node at once.
    pub(super) fn kill(&mut self, node: usize) -> Result<(), Error> {
        self.nodes.kill(node)
    }

    /// Starts a new node, which has nothing yet, where one was killed. Call it on the main thread.
    pub(super) fn replace(&mut self, node: usize) -> Result<(), Error> {
        self.nodes.replace(node, self.folder.as_ref().map(Folder::path))
    }

    /// Has a node stop in good order.
    pub(super) fn stop(&mut self, node: usize) -> Result<(), Error> {
        self.nodes.stop(node)
    }

    /// Starts a node again that was stopped; returns when it serves. Call it on the main thread.
    pub(super) fn resume(&mut self, node: usize) -> Result<(), Error> {
        self.nodes.resume(node, self.folder.as_ref().map(Folder::path))
    }

    /// Waits until every node has its share.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        self.nodes.settle()
    }

    pub(super) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.nodes.pids()
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes.addresses()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run.end();
    }
}

/// Where data is written that has to reach a disk: beside this program, since the directory for temporary files can be in
/// memory.
pub(super) fn disk() -> Result<PathBuf, Error> {
    let program = env::current_exe()?;
    Ok(program.parent().map_or_else(env::temp_dir, PathBuf::from))
}
