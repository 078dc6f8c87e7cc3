//! What the example programs share with their `std` twins: reading options, unpacking data and telling the
//! time.
//!
//! Nothing here is about concurrency. A program and its twin (`pi.rs` and `pi_std.rs`, say) are meant to be
//! compared line by line, and all that differs between them has to be in those two files.

pub mod args;
pub mod clock;
pub mod data;
