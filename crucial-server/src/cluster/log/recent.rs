//! The end of a group's log, in memory.

use std::{collections::VecDeque, ops::Range};

use crate::cluster::raft::{Entry, command_bytes};

/// What an entry takes besides its command.
const OVERHEAD: usize = 96;

/// Consecutive entries up to the end of the log.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The index of the first entry here, or of the next that will come.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    /// None yet; the next has the index `first`.
    pub(super) fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// The index of the first entry here, or of the next that will come.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last one.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds an entry, which has to be the next.
    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert_eq!(entry.log_id.index, self.end());
        self.bytes += size(&entry);
        self.entries.push_back(entry);
    }

    /// Those of `range` that are here.
    pub(super) fn range(&self, range: Range<u64>) -> impl Iterator<Item = &Entry> {
        let start = (range.start.max(self.first) - self.first).min(self.entries.len() as u64);
        let end = (range.end.max(self.first) - self.first).min(self.entries.len() as u64);
        self.entries.range(start as usize..(end as usize).max(start as usize))
    }

    /// Forgets those from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        if index < self.first {
            *self = Self::starting_at(index);
        }
        while self.end() > index {
            let Some(entry) = self.entries.pop_back() else { break };
            self.bytes -= size(&entry);
        }
    }

    /// Forgets those below `index`; the next that comes is not below it either.
    pub(super) fn purge(&mut self, index: u64) {
        while self.first < index {
            if self.pop().is_none() {
                self.first = index;
            }
        }
    }

    /// Forgets the oldest of those below `index`, until what is here takes no more than `most` bytes.
    pub(super) fn shrink(&mut self, index: u64, most: usize) {
        while self.bytes > most && self.first < index && self.pop().is_some() {}
    }

    fn pop(&mut self) -> Option<()> {
        let entry = self.entries.pop_front()?;
        self.bytes -= size(&entry);
        self.first += 1;
        Some(())
    }
}

/// About what an entry takes in memory.
pub(super) fn size(entry: &Entry) -> usize {
    OVERHEAD + command_bytes(entry)
}
