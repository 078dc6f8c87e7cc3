//! Synchronisation between cloud threads: [`std::sync`] across processes and machines.

pub mod atomic;
mod barrier;
mod semaphore;

pub use barrier::{Barrier, BarrierWaitResult};
pub use semaphore::{Semaphore, SemaphorePermit};
