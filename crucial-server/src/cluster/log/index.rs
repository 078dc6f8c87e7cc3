//! Where in the write-ahead log everything is that counts.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::File,
    io,
    ops::Range,
    sync::Arc,
};

use super::record::{self, GroupState, Item, Kind};
use crate::cluster::raft::GroupId;

/// The place of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The first record of its segment.
    pub(super) segment: u64,
    /// Where in the segment's file it begins.
    pub(super) offset: u32,
    /// How long it is; nothing is so short as 0.
    pub(super) length: u32,
}

impl Location {
    /// Of an entry that was not found yet.
    const MISSING: Self = Self { segment: 0, offset: 0, length: 0 };
}

/// A file of the write-ahead log.
#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    /// How many bytes in it count. At 0 it can go, when those before it are gone.
    live: u64,
}

/// What there is of a group.
#[derive(Debug, Default)]
pub(super) struct Kept {
    state: Option<Location>,
    /// The index of the first of `entries`.
    first: u64,
    entries: VecDeque<Location>,
    /// What the item at `state` says.
    pub(super) known: GroupState,
}

impl Kept {
    /// The index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// Where everything is. It follows what has become durable: a change is here only after its record was written.
#[derive(Debug, Default)]
pub(super) struct Index {
    segments: BTreeMap<u64, Segment>,
    groups: HashMap<GroupId, Kept>,
}

impl Index {
    /// A new segment begins.
    pub(super) fn add_segment(&mut self, segment: u64, file: Arc<File>) {
        self.segments.insert(segment, Segment { file, live: 0 });
    }

    /// The groups there are.
    pub(super) fn groups(&self) -> &HashMap<GroupId, Kept> {
        &self.groups
    }

    /// How many segments there are, and how many bytes in them count.
    pub(super) fn usage(&self) -> (usize, u64) {
        (self.segments.len(), self.segments.values().map(|segment| segment.live).sum())
    }

    /// Follows one item that was written to `segment`, in a record the items of which begin at `base`.
    pub(super) fn apply(&mut self, item: &Item<'_>, segment: u64, base: u32) -> io::Result<()> {
        let at = Location { segment, offset: base + item.start as u32, length: item.len() as u32 };
        match item.kind {
            Kind::Entry | Kind::Moved => self.entry(item, at),
            Kind::State => {
                let state = record::state(item.body)?;
                self.state(item.group, state, at);
                Ok(())
            }
            Kind::Truncate => {
                let index = record::index(item.body)?;
                self.truncate(item.group, index);
                Ok(())
            }
            Kind::Remove => {
                self.truncate(item.group, 0);
                if let Some(kept) = self.groups.remove(&item.group) {
                    kept.state.into_iter().for_each(|at| self.gone(at));
                }
                Ok(())
            }
        }
    }

    fn entry(&mut self, item: &Item<'_>, at: Location) -> io::Result<()> {
        let index = record::index(item.body)?;
        let kept = self.groups.entry(item.group).or_default();
        if kept.entries.is_empty() {
            kept.first = index;
        }
        if item.kind == Kind::Entry && index < kept.end() {
            let e = format!("entry {index} of group {} is there twice", item.group);
            return Err(io::Error::new(io::ErrorKind::InvalidData, e));
        }
        // Entries that were moved come after younger ones when the log is read from its beginning: until then they are
        // missing.
        while index < kept.first {
            kept.entries.push_front(Location::MISSING);
            kept.first -= 1;
        }
        while index >= kept.end() {
            kept.entries.push_back(Location::MISSING);
        }
        let place = &mut kept.entries[(index - kept.first) as usize];
        let before = std::mem::replace(place, at);
        self.gone(before);
        self.came(at);
        Ok(())
    }

    fn state(&mut self, group: GroupId, state: GroupState, at: Location) {
        let kept = self.groups.entry(group).or_default();
        let before = kept.state.replace(at);
        let first = state.first;
        kept.known = state;
        let count = first.saturating_sub(kept.first).min(kept.entries.len() as u64);
        let purged: Vec<_> = kept.entries.drain(..count as usize).collect();
        kept.first += count;
        before.into_iter().chain(purged).for_each(|at| self.gone(at));
        self.came(at);
    }

    fn truncate(&mut self, group: GroupId, index: u64) {
        let Some(kept) = self.groups.get_mut(&group) else { return };
        let keep = index.saturating_sub(kept.first).min(kept.entries.len() as u64);
        let cut: Vec<_> = kept.entries.drain(keep as usize..).collect();
        cut.into_iter().for_each(|at| self.gone(at));
    }

    fn came(&mut self, at: Location) {
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live += u64::from(at.length);
        }
    }

    fn gone(&mut self, at: Location) {
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live -= u64::from(at.length);
        }
    }

    /// That every log is there from the first entry that wasn't purged to its end. To be asked when all was read.
    pub(super) fn check(&self) -> io::Result<()> {
        for (group, kept) in &self.groups {
            let missing = if !kept.entries.is_empty() && kept.first != kept.known.first {
                Some(kept.known.first)
            } else {
                let at = kept.entries.iter().position(|at| *at == Location::MISSING);
                at.map(|at| kept.first + at as u64)
            };
            if let Some(index) = missing {
                let e = format!("entry {index} of group {group} is missing");
                return Err(io::Error::new(io::ErrorKind::InvalidData, e));
            }
        }
        Ok(())
    }

    /// Where the entries of `range` are, with their files; of those that take no more than `most` bytes together, but
    /// at least one.
    pub(super) fn find(&self, group: GroupId, range: Range<u64>, most: usize) -> Vec<(Location, Arc<File>)> {
        let Some(kept) = self.groups.get(&group) else { return Vec::new() };
        let start = range.start.max(kept.first) - kept.first;
        let end = range.end.clamp(kept.first, kept.end()) - kept.first;
        let mut bytes = 0;
        let places = kept.entries.range(start as usize..(end.max(start)) as usize).take_while(|at| {
            let first = bytes == 0;
            bytes += at.length as usize;
            first || bytes <= most
        });
        places.filter_map(|at| Some((*at, self.segments.get(&at.segment)?.file.clone()))).collect()
    }

    /// The first segments that can go: all before this one. Nothing if there are none.
    pub(super) fn dead_before(&self) -> Option<u64> {
        let mut segments = self.segments.iter().peekable();
        let mut before = None;
        while let Some((_, segment)) = segments.next() {
            let Some((next, _)) = segments.peek() else { break };
            if segment.live > 0 {
                break;
            }
            before = Some(**next);
        }
        before
    }

    /// Forgets the segments before this one.
    pub(super) fn forget_before(&mut self, segment: u64) {
        self.segments = self.segments.split_off(&segment);
    }

    /// What counts in the oldest segment, up to `most` bytes of it.
    pub(super) fn oldest(&self, most: usize) -> Option<(Vec<Location>, Arc<File>)> {
        let (number, segment) = self.segments.first_key_value()?;
        let mut bytes = 0;
        let all = self.groups.values().flat_map(|kept| kept.state.iter().chain(&kept.entries));
        let places = all.filter(|at| at.segment == *number).take_while(|at| {
            bytes += at.length as usize;
            bytes <= most || bytes == at.length as usize
        });
        Some((places.copied().collect(), segment.file.clone()))
    }
}
