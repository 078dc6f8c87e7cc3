//! A cluster and its clients in one thread, with a simulated network, clock and source of random numbers.
//!
//! All follows from a seed: the [`plan`] of faults, and with [`determinism`] the run of the [`world`], which consists of
//! [nodes](node) and [clients](client). A seed that fails, fails again.

pub mod client;
pub mod determinism;
pub mod node;
pub mod plan;
pub mod world;
