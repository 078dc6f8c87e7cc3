//! Which nodes there are, and which of them hold which partition: what the first group replicates.
//!
//! A partition's replicas are the nodes that come first in its order of rendezvous (Thaler and Ravishankar, 1998), so that
//! a node that comes or goes moves only what it gets or had. Of them, one is the partition's *owner*: it serves the
//! ephemeral objects, and leads the replicas when all is well. The owners are balanced: none has two more than another that
//! could have one of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque, btree_map::Entry},
};

use crucial_runtime::{
    codec,
    error::{Error, Result},
    id,
    wire::Map,
};
use serde::{Deserialize, Serialize};

use super::raft::{NodeId, Peer};

/// The state of the cluster's membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The cluster's name.
    pub name: String,
    /// How many replicas a partition has, if there are as many nodes.
    pub replicas: usize,
    /// Counts the changes.
    pub epoch: u64,
    /// The nodes, by number.
    pub nodes: BTreeMap<NodeId, Member>,
    /// The owner of each partition.
    pub owners: Vec<NodeId>,
    /// For each partition, the last epoch in which its owner was lost, with the ephemeral objects.
    pub lost: Vec<u64>,
    /// For each partition, the luggage with which its owner got the ephemeral objects; 0 if it began with none.
    pub luggage: Vec<u64>,
    next: NodeId,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it is reached: `host:port`.
    pub address: String,
    /// Identifies this start of the node.
    pub incarnation: u128,
    /// What is known of it.
    pub state: State,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It serves.
    Up,
    /// It is about to stop, and gives away what it owns. It will come back.
    Stopping,
    /// It has stopped, or nothing was heard of it for the length of its lease. Its replicas are kept for it.
    Down,
    /// It gives away all that it has, and does not come back.
    Leaving,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The cluster begins, with one node.
    Begin {
        /// The cluster's name.
        name: String,
        /// How many partitions there are, for ever.
        partitions: usize,
        /// How many replicas each has.
        replicas: usize,
        /// The node.
        address: String,
        /// Its start.
        incarnation: u128,
    },
    /// A node comes.
    Join {
        /// Where it is reached.
        address: String,
        /// Its start.
        incarnation: u128,
    },
    /// A node has started again, with what is on its disk.
    Start {
        /// The node.
        node: NodeId,
        /// Where it is reached now.
        address: String,
        /// Its start.
        incarnation: u128,
    },
    /// A node is about to stop.
    Stop {
        /// The node.
        node: NodeId,
    },
    /// A node is down.
    Down {
        /// The node.
        node: NodeId,
        /// Which start of it: a later one is not meant.
        incarnation: u128,
    },
    /// A node goes for good.
    Leave {
        /// The node.
        node: NodeId,
    },
    /// A node that was leaving has nothing any more.
    Forget {
        /// The node.
        node: NodeId,
    },
    /// The owner of a partition has given it away, with the ephemeral objects; or has not, and keeps it.
    Own {
        /// The partition.
        partition: usize,
        /// By what the owner had it.
        by: Ownership,
        /// Its new owner.
        to: NodeId,
        /// Which start of that one has the objects.
        incarnation: u128,
        /// What the new owner got: it may have something from an earlier attempt, too.
        luggage: u64,
    },
}

/// By what a node owns a partition. It is another one whenever the partition changes hands, or its owner was lost: so whoever
/// gets a partition back owns it by something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The owner.
    pub owner: NodeId,
    /// The luggage with which it got the ephemeral objects; 0 if it began with none.
    pub luggage: u64,
    /// The last epoch in which an owner of the partition was lost.
    pub lost: u64,
}

impl Placement {
    /// Makes a change. Returns the number of the node that has joined.
    ///
    /// # Errors
    /// If the change doesn't fit the state, which it leaves as it was then.
    pub fn change(&mut self, change: Change) -> Result<NodeId> {
        let refuse = |reason: String| Err(Error::Refused { reason });
        // Invariant: a cluster's first change is its beginning. Its first node leads the first group a moment before, and
        // others that start together with it ask it for a place already.
        if self.epoch == 0 && !matches!(change, Change::Begin { .. }) {
            return Err(Error::Io {
                what: "changing the cluster".to_owned(),
                reason: "it has not begun yet".to_owned(),
            });
        }
        let node = match change {
            Change::Begin { name, partitions, replicas, address, incarnation } => {
                if self.epoch > 0 {
                    return refuse("the cluster has begun already".to_owned());
                }
                *self = Placement {
                    name,
                    replicas,
                    owners: vec![1; partitions],
                    lost: vec![0; partitions],
                    luggage: vec![0; partitions],
                    next: 1,
                    ..Placement::default()
                };
                self.add(address, incarnation)
            }
            Change::Join { address, incarnation } => {
                // Its answer may have been lost: it asks again.
                if let Some((id, _)) = self.nodes.iter().find(|(_, n)| n.incarnation == incarnation) {
                    return Ok(*id);
                }
                // One that was replaced before is there still, leaving.
                let there = |n: &Member| n.address == address && n.state != State::Leaving;
                if let Some((id, other)) = self.nodes.iter().find(|(_, n)| there(n)) {
                    // It may have been killed a moment ago, so to ask again can help.
                    if other.state != State::Down {
                        return Err(Error::Io {
                            what: format!("joining at {address}"),
                            reason: format!("node {id} is there, as far as is known"),
                        });
                    }
                    // Whoever is at that address now has lost what that node had.
                    let id = *id;
                    self.nodes.get_mut(&id).expect("it was just found").state = State::Leaving;
                }
                self.add(address, incarnation)
            }
            Change::Start { node, address, incarnation } => {
                let Some(member) = self.nodes.get_mut(&node) else {
                    return refuse(format!("node {node} does not belong to the cluster (any more)"));
                };
                let same = member.incarnation == incarnation;
                if member.state == State::Leaving && !same {
                    return refuse(format!("node {node} was told to leave the cluster"));
                }
                *member = Member { address, incarnation, state: State::Up };
                if !same {
                    self.lose(node, false);
                }
                node
            }
            Change::Stop { node } => self.set(node, State::Up, State::Stopping)?,
            Change::Down { node, incarnation } => {
                let Some(member) = self.nodes.get_mut(&node) else { return Ok(node) };
                if member.incarnation != incarnation || member.state == State::Down {
                    return Ok(node);
                }
                if member.state != State::Leaving {
                    member.state = State::Down;
                }
                self.lose(node, true);
                node
            }
            Change::Leave { node } => {
                // Its answer may have been lost: it asks again.
                if self.nodes.get(&node).is_some_and(|n| n.state == State::Leaving) {
                    return Ok(node);
                }
                if self.nodes.values().filter(|n| n.state != State::Leaving).count() < 2 {
                    return refuse("the last node can't leave: stop it instead".to_owned());
                }
                let Some(member) = self.nodes.get_mut(&node) else {
                    return refuse(format!("there is no node {node}"));
                };
                let down = member.state == State::Down;
                member.state = State::Leaving;
                if down {
                    self.lose(node, true);
                }
                node
            }
            Change::Forget { node } => {
                if self.owners.contains(&node) {
                    return refuse(format!("node {node} owns partitions still"));
                }
                if self.nodes.get(&node).is_some_and(|n| n.state == State::Leaving) {
                    self.nodes.remove(&node);
                }
                node
            }
            Change::Own { partition, by, to, incarnation, luggage } => {
                // Invariant: what moves is the state that all acknowledged calls have left. This may be said late, when another
                // start of the owner, or another node, serves the partition already; and once more, when its answer was lost
                // and the partition has come back meanwhile.
                if partition >= self.owners.len() || self.ownership(partition) != by {
                    let from = by.owner;
                    return refuse(format!("node {from} does not own partition {partition} (any more)"));
                }
                let is_there =
                    |n: &Member| n.incarnation == incarnation && (n.state == State::Up || to == by.owner);
                if !self.nodes.get(&to).is_some_and(is_there) {
                    return refuse(format!("node {to} is not up, or has started again"));
                }
                self.owners[partition] = to;
                self.luggage[partition] = luggage;
                to
            }
        };
        self.epoch += 1;
        Ok(node)
    }

    fn add(&mut self, address: String, incarnation: u128) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Member { address, incarnation, state: State::Up });
        id
    }

    fn set(&mut self, node: NodeId, from: State, to: State) -> Result<NodeId> {
        match self.nodes.get_mut(&node) {
            Some(member) if member.state == from || member.state == to => {
                member.state = to;
                Ok(node)
            }
            _ => Err(Error::Refused { reason: format!("node {node} is not {from:?}") }),
        }
    }

    /// What a node owned is lost, and goes to others if it is not there any more.
    ///
    /// Invariant: whoever owns the partition after this refuses the ephemeral objects of runs that began before.
    fn lose(&mut self, node: NodeId, move_on: bool) {
        let epoch = self.epoch + 1;
        let wanted = self.wanted_owners();
        for (partition, owner) in self.owners.iter_mut().enumerate() {
            if *owner == node {
                self.lost[partition] = epoch;
                self.luggage[partition] = 0;
                if move_on {
                    *owner = wanted[partition].unwrap_or(node);
                }
            }
        }
    }

    /// The nodes that should hold a partition's replicas, the first in the order of rendezvous.
    #[must_use]
    pub fn replicas(&self, partition: usize) -> Vec<NodeId> {
        let mut order: Vec<_> =
            self.nodes.iter().filter(|(_, n)| n.state != State::Leaving).map(|(id, _)| *id).collect();
        order.sort_by_key(|node| Reverse(weight(partition, *node)));
        order.truncate(self.replicas.max(1));
        order
    }

    /// Whether a node is there, and not about to stop or leave.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.state == State::Up)
    }

    /// The node that should own each partition: none if no replica of it is up. It is the first of the replicas that are
    /// up, but for as few partitions as it takes to be balanced.
    ///
    /// Invariant: every node finds the same, since what is lost goes to these owners on each of them. A program that finds
    /// others needs another [`VERSION`](crucial_runtime::wire::VERSION).
    #[must_use]
    pub fn wanted_owners(&self) -> Vec<Option<NodeId>> {
        let replicas: Vec<Vec<NodeId>> = (0..self.owners.len())
            .map(|partition| self.replicas(partition).into_iter().filter(|node| self.is_up(*node)).collect())
            .collect();
        let mut owners: Vec<_> = replicas.iter().map(|replicas| replicas.first().copied()).collect();
        // Harvey, Ladner, Lovász and Tamir, 2006: with no such path left, the owners are as balanced as can be.
        while let Some(path) = path_to_less(&owners, &replicas) {
            for (partition, to) in path {
                owners[partition] = Some(to);
            }
        }
        owners
    }

    /// How to reach these nodes.
    pub fn peers(&self, ids: impl Iterator<Item = NodeId>) -> BTreeMap<NodeId, Peer> {
        ids.filter_map(|id| Some((id, Peer { address: self.nodes.get(&id)?.address.clone() }))).collect()
    }

    /// By what its owner owns a partition.
    #[must_use]
    pub fn ownership(&self, partition: usize) -> Ownership {
        let (owner, luggage) = (self.owners[partition], self.luggage[partition]);
        Ownership { owner, luggage, lost: self.lost[partition] }
    }

    /// What clients have to know.
    #[must_use]
    pub fn map(&self) -> Map {
        let up = self.nodes.iter().filter(|(_, n)| n.state != State::Down);
        Map {
            epoch: self.epoch,
            nodes: up.map(|(id, node)| (*id, node.address.clone())).collect(),
            owners: self.owners.clone(),
        }
    }

    /// Encoded.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        codec::encode("the placement", self, &mut bytes)?;
        Ok(bytes)
    }
}

/// Partitions with new owners, which together take one from a node that owns at least two more than the node that gets one.
fn path_to_less(owners: &[Option<NodeId>], replicas: &[Vec<NodeId>]) -> Option<Vec<(usize, NodeId)>> {
    let mut owned: BTreeMap<NodeId, usize> = replicas.iter().flatten().map(|node| (*node, 0)).collect();
    for owner in owners.iter().flatten() {
        *owned.entry(*owner).or_default() += 1;
    }
    let least = *owned.values().min()?;
    let mut most: Vec<_> = owned.iter().filter(|(_, count)| **count >= least + 2).collect();
    most.sort_by_key(|(node, count)| (Reverse(**count), **node));
    most.into_iter().find_map(|(start, count)| {
        // How the search came to a node: over this partition, from its owner.
        let mut reached = BTreeMap::from([(*start, None)]);
        let mut queue = VecDeque::from([*start]);
        while let Some(node) = queue.pop_front() {
            if owned[&node] + 2 <= *count {
                let mut path = Vec::new();
                let mut at = node;
                while let Some((partition, from)) = reached[&at] {
                    path.push((partition, at));
                    at = from;
                }
                return Some(path);
            }
            let of_node =
                owners.iter().zip(replicas).enumerate().filter(|(_, (owner, _))| **owner == Some(node));
            for (next, partition) in
                of_node.flat_map(|(p, (_, replicas))| replicas.iter().map(move |r| (*r, p)))
            {
                if let Entry::Vacant(new) = reached.entry(next) {
                    new.insert(Some((partition, node)));
                    queue.push_back(next);
                }
            }
        }
        None
    })
}

/// How much a partition wants to be on a node.
fn weight(partition: usize, node: NodeId) -> u64 {
    let mixed = id::combine(id::combine(0x5bd1_e995, partition as u64 + 1), node);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Placement {
        begin_with(16)
    }

    fn begin_with(partitions: usize) -> Placement {
        let mut placement = Placement::default();
        let change = Change::Begin {
            name: "test".to_owned(),
            partitions,
            replicas: 3,
            address: "a:1".to_owned(),
            incarnation: 1,
        };
        assert_eq!(placement.change(change), Ok(1));
        placement
    }

    fn join(placement: &mut Placement, count: u128) {
        for i in 0..count {
            let change = Change::Join { address: format!("a:{}", i + 2), incarnation: i + 2 };
            placement.change(change).unwrap();
        }
    }

    fn settle(placement: &mut Placement) {
        for (partition, wanted) in placement.wanted_owners().into_iter().enumerate() {
            let (from, to) = (placement.owners[partition], wanted.unwrap());
            if from != to {
                let (by, incarnation) = (placement.ownership(partition), placement.nodes[&to].incarnation);
                placement.change(Change::Own { partition, by, to, incarnation, luggage: 7 }).unwrap();
                assert_eq!(placement.luggage[partition], 7);
            }
        }
    }

    #[test]
    fn nothing_comes_before_the_beginning() {
        let mut placement = Placement::default();
        let early = placement.change(Change::Join { address: "a:2".to_owned(), incarnation: 2 });
        // It asks again.
        assert!(matches!(early, Err(Error::Io { .. })), "{early:?}");
        assert_eq!(placement, Placement::default());
        let mut placement = begin();
        join(&mut placement, 1);
        assert_eq!(placement.nodes.keys().copied().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn owners_are_balanced_and_among_the_replicas() {
        for (nodes, partitions) in (1..=7).flat_map(|nodes| [(nodes, 6), (nodes, 16), (nodes, 64)]) {
            let mut placement = begin_with(partitions);
            join(&mut placement, nodes - 1);
            settle(&mut placement);
            for node in placement.nodes.keys() {
                let owned = placement.owners.iter().filter(|owner| *owner == node).count();
                let share = partitions / nodes as usize;
                let rest = partitions % nodes as usize;
                assert!(
                    owned == share || rest > 0 && owned == share + 1,
                    "{owned} of {partitions}, {nodes} nodes"
                );
            }
            for (partition, owner) in placement.owners.iter().enumerate() {
                let replicas = placement.replicas(partition);
                assert_eq!(replicas.len(), 3.min(nodes as usize));
                assert!(replicas.contains(owner));
            }
        }
    }

    #[test]
    fn a_node_that_joins_moves_only_what_it_gets() {
        let mut placement = begin();
        join(&mut placement, 4);
        let before: Vec<_> = (0..16).map(|p| placement.replicas(p)).collect();
        let change = Change::Join { address: "a:9".to_owned(), incarnation: 9 };
        let new = placement.change(change).unwrap();
        for (partition, before) in before.iter().enumerate() {
            let after = placement.replicas(partition);
            assert!(after.iter().all(|node| *node == new || before.contains(node)));
        }
    }

    #[test]
    fn a_lost_owner_is_remembered() {
        let mut placement = begin();
        join(&mut placement, 2);
        settle(&mut placement);
        let of_two: Vec<_> = (0..16).filter(|p| placement.owners[*p] == 2).collect();
        assert!(!of_two.is_empty() && placement.lost.iter().all(|epoch| *epoch == 0));
        // Another start of the node is not meant.
        placement.change(Change::Down { node: 2, incarnation: 99 }).unwrap();
        assert_eq!(placement.nodes[&2].state, State::Up);
        placement.change(Change::Down { node: 2, incarnation: 2 }).unwrap();
        for partition in 0..16 {
            let was_lost = of_two.contains(&partition);
            assert_eq!(placement.lost[partition], if was_lost { placement.epoch } else { 0 });
            assert_ne!(placement.owners[partition], 2);
            // Its replicas are kept for it.
            assert!(placement.replicas(partition).contains(&2));
        }
        assert!(!placement.map().nodes.contains_key(&2));
        let start = Change::Start { node: 2, address: "a:2".to_owned(), incarnation: 20 };
        placement.change(start).unwrap();
        assert_eq!(placement.nodes[&2].state, State::Up);
    }

    #[test]
    fn a_node_that_starts_again_at_once_has_lost_what_it_owned() {
        let mut placement = begin();
        let start = Change::Start { node: 1, address: "a:1".to_owned(), incarnation: 10 };
        placement.change(start.clone()).unwrap();
        assert!(placement.lost.iter().all(|epoch| *epoch == placement.epoch));
        assert!(placement.owners.iter().all(|owner| *owner == 1));
        // Said twice, since the first answer was lost.
        let lost = placement.lost.clone();
        placement.change(start).unwrap();
        assert_eq!(placement.lost, lost);
    }

    /// Partition 3 goes to another node, from who owns it now.
    fn give(placement: &Placement, to: NodeId, luggage: u64) -> Change {
        let (by, incarnation) = (placement.ownership(3), placement.nodes[&to].incarnation);
        Change::Own { partition: 3, by, to, incarnation, luggage }
    }

    #[test]
    fn an_owner_that_was_lost_gives_nothing_away() {
        let mut placement = begin();
        join(&mut placement, 2);
        let late = give(&placement, 2, 7);
        placement.change(Change::Start { node: 1, address: "a:1".to_owned(), incarnation: 10 }).unwrap();
        placement.change(late).unwrap_err();
        assert_eq!((placement.owners[3], placement.luggage[3]), (1, 0));
        placement.change(give(&placement, 2, 7)).unwrap();
        assert_eq!((placement.owners[3], placement.luggage[3]), (2, 7));
        // With the new owner, what it got is lost.
        placement.change(Change::Down { node: 2, incarnation: 2 }).unwrap();
        assert_eq!(placement.luggage[3], 0);
    }

    #[test]
    fn what_has_moved_on_is_not_replaced_by_what_it_was() {
        let mut placement = begin();
        join(&mut placement, 2);
        // The answer is lost, so it is said again; meanwhile, the partition has come back.
        let first = give(&placement, 2, 7);
        placement.change(first.clone()).unwrap();
        placement.change(give(&placement, 1, 8)).unwrap();
        placement.change(first).unwrap_err();
        assert_eq!((placement.owners[3], placement.luggage[3]), (1, 8));
    }

    #[test]
    fn what_an_owner_kept_does_not_go_later() {
        let mut placement = begin();
        join(&mut placement, 2);
        let late = give(&placement, 2, 7);
        placement.change(Change::Stop { node: 1 }).unwrap();
        placement.change(give(&placement, 1, 8)).unwrap();
        placement.change(late).unwrap_err();
        assert_eq!((placement.owners[3], placement.luggage[3]), (1, 8));
    }

    #[test]
    fn objects_go_to_the_start_of_a_node_that_has_them() {
        let mut placement = begin();
        join(&mut placement, 2);
        let late = give(&placement, 2, 7);
        placement.change(Change::Start { node: 2, address: "a:2".to_owned(), incarnation: 10 }).unwrap();
        placement.change(late).unwrap_err();
        assert_eq!(placement.owners[3], 1);
    }

    #[test]
    fn a_node_that_leaves_gives_away_before_it_is_forgotten() {
        let mut placement = begin();
        assert!(placement.change(Change::Leave { node: 1 }).is_err(), "it is the last one");
        join(&mut placement, 2);
        settle(&mut placement);
        placement.change(Change::Leave { node: 3 }).unwrap();
        // The answer to the last but one was lost with a leader, so it asks again.
        let mut of_one = placement.clone();
        of_one.change(Change::Leave { node: 2 }).unwrap();
        assert_eq!(of_one.change(Change::Leave { node: 2 }).unwrap(), 2, "it leaves already");
        assert!(of_one.change(Change::Leave { node: 1 }).is_err(), "it is the last one");
        assert!(placement.change(Change::Forget { node: 3 }).is_err());
        settle(&mut placement);
        assert!(placement.lost.iter().all(|epoch| *epoch == 0), "nothing is lost");
        placement.change(Change::Forget { node: 3 }).unwrap();
        assert_eq!(placement.nodes.len(), 2);
    }

    #[test]
    fn a_node_that_asks_twice_joins_once() {
        let mut placement = begin();
        let change = Change::Join { address: "a:2".to_owned(), incarnation: 5 };
        assert_eq!(placement.change(change.clone()), placement.change(change));
        let other = Change::Join { address: "a:2".to_owned(), incarnation: 6 };
        assert!(placement.change(other.clone()).is_err(), "its address is taken");
        placement.change(Change::Down { node: 2, incarnation: 5 }).unwrap();
        assert_eq!(placement.change(other), Ok(3));
        assert_eq!(placement.nodes[&2].state, State::Leaving);
        // That one is lost, too, before the first is forgotten.
        placement.change(Change::Down { node: 3, incarnation: 6 }).unwrap();
        let third = Change::Join { address: "a:2".to_owned(), incarnation: 7 };
        assert_eq!(placement.change(third), Ok(4));
    }
}
