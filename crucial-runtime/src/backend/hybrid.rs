//! Cloud threads in this process as long as it has room for them, then elsewhere.

use std::sync::Arc;

use super::{Backend, Work, threads::Threads};
use crate::{error::Result, run::Run};

/// Fills the slots of one back end, then overflows to another.
pub(crate) struct Hybrid {
    local: Threads,
    /// None if the local slots are all that there may be.
    overflow: Option<Arc<dyn Backend>>,
}

impl Hybrid {
    pub(crate) fn new(local: Threads, overflow: Option<Arc<dyn Backend>>) -> Self {
        Hybrid { local, overflow }
    }
}

impl Backend for Hybrid {
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()> {
        match &self.overflow {
            None => self.local.start(run, work),
            Some(overflow) => match self.local.try_start(run, work)? {
                None => Ok(()),
                Some(work) => overflow.start(run, work),
            },
        }
    }

    fn parallelism(&self) -> usize {
        let overflow = self.overflow.as_ref().map_or(0, |overflow| overflow.parallelism());
        self.local.parallelism().saturating_add(overflow)
    }

    fn shutdown(&self) {
        self.local.shutdown();
        if let Some(overflow) = &self.overflow {
            overflow.shutdown();
        }
    }
}
