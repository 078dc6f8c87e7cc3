//! A host that is a node of the cluster.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use crucial_runtime::{config::Config, error::Error};
use crucial_server::{
    cluster::{Cluster, Options, log::Store},
    listener::Listener,
    node::Node,
};
use tokio::sync::Notify;

/// The pause before a node that could not start is started again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a node answers after it has left: whoever asked for it has to hear of it.
const FAREWELL: Duration = Duration::from_millis(200);

/// What outlives a node's process.
#[derive(Debug)]
pub struct Machine {
    /// Where it is reached.
    pub address: String,
    /// The addresses of all nodes.
    pub all: Vec<String>,
    /// How many partitions the cluster has.
    pub partitions: usize,
    /// The settings of the node.
    pub config: Config,
    /// Whether it has been in the cluster.
    pub joined: Cell<bool>,
    /// The node, while it runs.
    pub node: RefCell<Weak<Node>>,
    /// Its disk.
    pub store: RefCell<Store>,
    /// Asks it to stop in good order, or to leave.
    pub end: Notify,
    /// Whether it was told to, since it was started.
    pub stops: Cell<bool>,
    /// Whether it is to leave.
    pub leaves: Cell<bool>,
}

impl Machine {
    /// Puts an empty disk in.
    pub fn wipe(&self) {
        self.store.replace(Store::memory());
    }
}

/// Waits until the machine is told to end, since it was started.
async fn told(machine: &Machine) {
    while !machine.stops.get() {
        machine.end.notified().await;
    }
}

/// Runs a node until it has left the cluster or stopped.
///
/// # Errors
/// If it can't listen.
pub async fn run(machine: Rc<Machine>) -> turmoil::Result {
    let (cluster, serving) = loop {
        let node = Node::new(&machine.config);
        machine.node.replace(Arc::downgrade(&node));
        let mut config = machine.config.clone();
        config.spin = Duration::ZERO;
        let listener = Listener::bind(node, &machine.address, &config).await?;
        let options = Options {
            advertise: None,
            join: machine.all.clone(),
            data_dir: None,
            name: "main".to_owned(),
            partitions: machine.partitions,
            replicas: 3,
        };
        let store = machine.store.borrow().clone();
        match Cluster::start_with(listener, options, store, true).await {
            Ok(started) => break started,
            Err(error) => {
                tracing::info!(%error, "a node can't start");
                if matches!(error, Error::Refused { .. }) {
                    // It was told to leave, and died before it had left.
                    machine.wipe();
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    machine.joined.set(true);
    tokio::select! {
        ended = cluster.ended() => {
            if let Err(error) = ended {
                panic!("a node can't go on: {error}");
            }
            tokio::time::sleep(FAREWELL).await;
        }
        () = told(&machine) => {
            while let Err(error) = cluster.retire(machine.leaves.get()).await {
                tracing::info!(%error, "a node can't stop in good order");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    serving.abort();
    cluster.close().await;
    Ok(())
}
