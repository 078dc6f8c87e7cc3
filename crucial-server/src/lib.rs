//! A DSO node: holds shared objects and runs their methods.
//!
//! The core is plain data and decisions, without I/O or clocks:
//!
//! - [`cell`]: one object with the calls that are parked at its guards,
//! - [`session`]: which calls of a client were applied, and their answers,
//! - [`leases`]: which runs are alive, and [`members`]: which processes take part in them.
//!
//! [`node`] puts locks around them, so that many threads call; [`connection`] and [`listener`] join it to sockets,
//! [`embedded`] to the threads of its own process, [`admin`] to the person who runs it.

// Shared types of tests: the generated code names it so.
#[cfg(test)]
extern crate crucial_runtime as crucial;

pub mod admin;
pub mod cell;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod connection;
pub mod embedded;
mod frames;
pub mod leases;
pub mod listener;
pub mod members;
pub mod methods;
pub mod node;
mod parked;
pub mod session;
mod workers;
