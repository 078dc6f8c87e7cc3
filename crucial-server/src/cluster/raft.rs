//! What all Raft groups of a cluster have in common.

use std::fmt;

use bytes::Bytes;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

/// A node of the cluster. The number is never given to another node.
pub type NodeId = u64;

/// A Raft group: 0 is the one that holds membership and placement, the others are partitions.
pub type GroupId = u32;

/// How the others reach a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// `host:port`
    pub address: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// What a log entry asks of a group's state machine, encoded: the log does not look into it. Copies share the bytes: the
/// log, the machine and each follower's replication get one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a state machine says of a command, encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome(#[serde(with = "crucial_runtime::bulk")] pub Vec<u8>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outcome({} bytes)", self.0.len())
    }
}

openraft::declare_raft_types!(
    /// The types of every group.
    pub Types:
        D = Command,
        R = Outcome,
        NodeId = NodeId,
        Node = Peer,
);

/// An entry of a group's log.
pub type Entry = openraft::alias::EntryOf<Types>;
/// The place of an entry: who was leader, and its number.
pub type LogId = openraft::alias::LogIdOf<Types>;
/// For whom a node has voted.
pub type Vote = openraft::alias::VoteOf<Types>;
/// What a snapshot holds: up to which entry, and the membership there.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// How many bytes of an entry are its command.
#[must_use]
pub fn command_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}
