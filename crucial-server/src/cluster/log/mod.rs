//! What a node keeps of its Raft groups: logs, votes, and how far they are committed.
//!
//! A node has one [`Store`] for all its groups; a [`GroupLog`] is one group's part of it, as openraft wants it. What the
//! groups append goes to one writer, which makes all that has come durable at once: the cost of a disk's flush is shared.
//!
//! - [`store`]: the store, and what a node remembers about itself,
//! - [`group`]: a group's log towards openraft,
//! - `recent`: the end of a group's log, in memory,
//! - `writer`: the thread that gathers and writes,
//! - `record`: how what it writes is encoded,
//! - `disk`: the write-ahead log, and `index`: where in it everything is,
//! - `lock`: that a data directory has one owner.

mod disk;
pub mod group;
mod index;
mod lock;
mod recent;
mod record;
pub mod store;
mod writer;

pub use group::GroupLog;
pub use store::{Options, Store, Usage};
