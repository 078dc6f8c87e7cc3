//! The store of a node: openraft's own suite, and what it does about crashes, damage and full disks.

mod crash;
mod damage;
mod full;
mod log;
mod snapshots;
mod suite;
mod util;
