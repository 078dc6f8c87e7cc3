//! Clusters under faults: what their clients saw is checked for linearizability and for exactly-once.
//!
//! A [`schedule`] is one life of a [`cluster`] in an [`arena`]: a [`nemesis`] plans its faults from a seed and commits
//! them, while a [`workload`] of clients goes on and records what it sees ([`history`]). The [`checker`] decides
//! whether one copy of each object, that does one call after the other, could have answered so ([`models`]).

pub mod arena;
pub mod checker;
pub mod cluster;
pub mod history;
pub mod models;
pub mod nemesis;
pub mod objects;
pub mod schedule;
pub mod workload;
