//! Which node of a cluster a request goes to.

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::watch;

use crate::{
    dso::Head,
    wire::{Elsewhere, Map},
};

/// A node's number. A server that belongs to no cluster has the number [`ALONE`].
pub(super) type NodeId = u64;

/// The node of a client that knows no cluster: whichever of the configured servers answers.
pub(super) const ALONE: NodeId = 0;

/// What a process knows of where objects are.
#[derive(Debug)]
pub(super) struct Routes {
    clustered: AtomicBool,
    known: RwLock<Arc<Known>>,
    /// Counts the changes of `known`.
    version: watch::Sender<u64>,
    /// Whose turn it is to be asked instead of a node that is gone.
    turn: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Known {
    map: Map,
    /// The leaders of partitions' replicas where they are not the owners, as nodes have said.
    leaders: Vec<Option<NodeId>>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Routes {
            clustered: AtomicBool::new(false),
            known: RwLock::default(),
            version: watch::Sender::new(0),
            turn: AtomicU64::new(0),
        }
    }

    pub(super) fn is_clustered(&self) -> bool {
        self.clustered.load(Ordering::Relaxed)
    }

    /// The node that this request goes to.
    pub(super) fn node(&self, head: &Head) -> NodeId {
        if !self.is_clustered() {
            return ALONE;
        }
        let known = self.known.read().unwrap();
        let partition = head.object.partition(known.map.owners.len().max(1));
        let owner = known.map.owners.get(partition).copied().unwrap_or(ALONE);
        if head.object.is_persistent() {
            known.leaders.get(partition).copied().flatten().unwrap_or(owner)
        } else {
            owner
        }
    }

    /// The address of a node.
    pub(super) fn address(&self, node: NodeId) -> Option<String> {
        self.known.read().unwrap().map.nodes.get(&node).cloned()
    }

    /// The nodes that are up.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.known.read().unwrap().map.nodes.keys().copied().collect()
    }

    /// Changes with what is known.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// A node has said where the objects are.
    pub(super) fn learn(&self, map: &Map) {
        {
            let known = self.known.read().unwrap();
            if self.is_clustered() && map.epoch <= known.map.epoch {
                return;
            }
        }
        let mut known = self.known.write().unwrap();
        if !self.is_clustered() || map.epoch > known.map.epoch {
            // Leaders follow the owners, so what was said of them is out of date soon.
            let leaders = vec![None; map.owners.len()];
            *known = Arc::new(Known { map: map.clone(), leaders });
            drop(known);
            self.clustered.store(true, Ordering::Relaxed);
            self.changed();
        }
    }

    /// The node `from` did not serve the request.
    pub(super) fn elsewhere(&self, head: &Head, from: NodeId, elsewhere: &Elsewhere) {
        self.learn(&elsewhere.map);
        if !head.object.is_persistent() {
            return;
        }
        let mut known = self.known.write().unwrap();
        let partition = head.object.partition(known.map.owners.len().max(1));
        // A node that names itself doesn't serve now: then the owner is the next to ask.
        let leader = elsewhere.leader.filter(|leader| *leader != from);
        let leader = leader.filter(|leader| known.map.nodes.contains_key(leader));
        if known.leaders.get(partition).is_some_and(|known| *known != leader) {
            Arc::make_mut(&mut known).leaders[partition] = leader;
            drop(known);
            self.changed();
        }
    }

    /// A node can't be reached.
    pub(super) fn unreachable(&self, node: NodeId) {
        let mut known = self.known.write().unwrap();
        if known.leaders.contains(&Some(node)) {
            let leaders = &mut Arc::make_mut(&mut known).leaders;
            leaders.iter_mut().filter(|leader| **leader == Some(node)).for_each(|leader| *leader = None);
            drop(known);
            self.changed();
        }
    }

    /// Another node than the one that a request should go to, to ask instead when that one is gone.
    pub(super) fn another(&self, head: &Head, node: NodeId) {
        if !head.object.is_persistent() {
            return;
        }
        let mut known = self.known.write().unwrap();
        let nodes: Vec<_> = known.map.nodes.keys().copied().filter(|n| *n != node).collect();
        let partition = head.object.partition(known.map.owners.len().max(1));
        if nodes.is_empty() || known.leaders.len() <= partition {
            return;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        Arc::make_mut(&mut known).leaders[partition] = Some(nodes[turn % nodes.len()]);
        drop(known);
        self.changed();
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}
