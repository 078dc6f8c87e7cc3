//! Keeps a measurement on one CPU.
//!
//! A wake-up across CPUs can cost ten times the call that it is part of, and the scheduler decides whether there is
//! one. On one CPU there is none: what is left is what the software itself does.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// This thread is on one CPU, and so are the threads and processes that it starts, until this is dropped.
#[derive(Debug)]
pub(super) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Moves this thread to the first CPU that it may use.
    pub(super) fn to_one_cpu() -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        let first = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).unwrap_or(0);
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one)?;
        Ok(Pinned { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(None, &self.before) {
            eprintln!("warning: this thread stays on one CPU: {error}");
        }
    }
}
