//! The log of a group, as openraft wants it.

use std::{
    fmt, io, mem,
    ops::{Bound, Range, RangeBounds},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, stream};
use openraft::{
    LogState, OptionalSend,
    storage::{IOFlushed, RaftLogReader, RaftLogStorage},
};
use tokio::sync::oneshot;

use super::{
    disk,
    recent::{self, Recent},
    record::{self, GroupState},
    store::{Inner, Link},
    writer::{Job, Then},
};
use crate::cluster::raft::{Entry, GroupId, LogId, Types, Vote};

/// How many bytes of entries a reader gets at once.
const MOST_AT_ONCE: usize = 4 << 20;

/// The log of one group, its vote, and how far it is committed. Copies are of the same log.
#[derive(Clone, Debug)]
pub struct GroupLog {
    group: Arc<Group>,
    /// Keeps the writer at work.
    _store: Arc<Inner>,
}

/// What all copies of a [`GroupLog`] share.
#[derive(Debug)]
pub(super) struct Group {
    id: GroupId,
    state: Mutex<State>,
    /// Nothing if all is in memory only.
    link: Option<Arc<Link>>,
}

#[derive(Debug, Default)]
struct State {
    known: GroupState,
    last: Option<LogId>,
    recent: Recent,
    /// The index after the last entry that is durable.
    durable: u64,
    /// How often the end of the log was cut off.
    cuts: u64,
    /// The writer knows that the group is committed further than was written.
    told: bool,
    /// The node has no part in the group any more.
    removed: bool,
}

impl Group {
    /// A group that is new here.
    pub(super) fn new(id: GroupId, link: Option<Arc<Link>>) -> Self {
        Self { id, state: Mutex::default(), link }
    }

    /// A group of which only this is known.
    pub(super) fn cleared(id: GroupId, link: Option<Arc<Link>>, known: GroupState) -> Self {
        Self { id, state: Mutex::new(State { known, ..State::default() }), link }
    }

    /// How this node has voted.
    pub(super) fn vote(&self) -> Option<Vote> {
        self.lock().known.vote
    }

    /// A group that was found on disk.
    pub(super) fn restored(id: GroupId, link: Arc<Link>) -> io::Result<Self> {
        let (known, end) = {
            let index = link.index.lock().unwrap();
            index.groups().get(&id).map(|kept| (kept.known.clone(), kept.end())).unwrap_or_default()
        };
        let end = end.max(known.first);
        let mut state = State {
            recent: Recent::starting_at(end),
            durable: end,
            last: known.purged,
            known,
            ..State::default()
        };
        if state.known.first < end {
            let places = link.index.lock().unwrap().find(id, end - 1..end, usize::MAX);
            state.last = disk::read(&link.folder, id, end - 1, &places)?.pop().map(|entry| entry.log_id);
        }
        Ok(Self { id, state: Mutex::new(state), link: Some(link) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The log is durable up to `end`, if it wasn't cut since it had been cut `cuts` times.
    pub(super) fn durable(&self, end: u64, cuts: u64) {
        let Some(link) = &self.link else { return };
        let mut state = self.lock();
        if state.cuts == cuts {
            state.durable = state.durable.max(end);
        }
        let durable = state.durable;
        state.recent.shrink(durable, link.recent_bytes);
    }

    /// How far the group is committed, encoded with what belongs to it.
    pub(super) fn committed_item(&self) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        state.told = false;
        let mut bytes = Vec::new();
        if !state.removed {
            record::put_state(&mut bytes, self.id, &state.known)?;
        }
        Ok(bytes)
    }

    /// Nothing of the group is to be written any more.
    pub(super) fn remove(&self) {
        self.lock().removed = true;
    }
}

impl GroupLog {
    pub(super) fn new(group: Arc<Group>, store: Arc<Inner>) -> Self {
        Self { group, _store: store }
    }

    /// Whose log this is.
    pub fn id(&self) -> GroupId {
        self.group.id
    }

    /// The entries of `range`, but no more than take `most` bytes together, and at least one if there is one.
    fn read(&self, range: Range<u64>, most: usize) -> io::Result<Vec<Entry>> {
        let state = self.group.lock();
        let start = range.start.max(state.known.first);
        let end = range.end.min(state.recent.end());
        // What is not in memory is durable. Its place can be looked up as long as the lock is held, and be read later:
        // a file that was removed in the meantime can still be read.
        let older = start..end.min(state.recent.first());
        let count = older.end.saturating_sub(older.start) as usize;
        let places = match &self.group.link {
            Some(link) if count > 0 => link.index.lock().unwrap().find(self.group.id, older, most),
            _ => Vec::new(),
        };
        let mut bytes: usize = places.iter().map(|(at, _)| at.length as usize).sum();
        let mut recent = Vec::new();
        if places.len() == count {
            let entries = state.recent.range(start..end.max(start)).take_while(|entry| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(recent::size(entry));
                first || bytes <= most
            });
            recent.extend(entries.cloned());
        }
        drop(state);
        match &self.group.link {
            Some(link) if !places.is_empty() => {
                let mut entries = disk::read(&link.folder, self.group.id, start, &places)?;
                entries.append(&mut recent);
                Ok(entries)
            }
            _ => Ok(recent),
        }
    }

    /// Has the vote and so on written, after they were changed in `state`.
    fn write_state(&self, state: &State, then: Then) -> io::Result<()> {
        let Some(link) = &self.group.link else { return Ok(()) };
        let mut bytes = Vec::new();
        record::put_state(&mut bytes, self.group.id, &state.known)?;
        link.queue.push(Job { bytes, then })
    }
}

impl RaftLogReader<Types> for GroupLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        self.read(bounds(&range), usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.group.lock().known.vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, MOST_AT_ONCE)
    }

    // A node that starts may have much to apply: not all of it has to be in memory at once.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (log, range) = (self.clone(), bounds(&range));
        let state = (log, range, Vec::new().into_iter());
        Box::pin(stream::try_unfold(state, |(log, mut range, mut read)| async move {
            if read.as_slice().is_empty() {
                read = log.read(range.clone(), MOST_AT_ONCE)?.into_iter();
            }
            let Some(entry): Option<Entry> = read.next() else { return Ok(None) };
            range.start = entry.log_id.index + 1;
            Ok(Some((entry, (log, range, read))))
        }))
    }
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.group.lock();
        Ok(LogState { last_purged_log_id: state.known.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.group.lock();
            state.known.vote = Some(*vote);
            if self.group.link.is_none() {
                return Ok(());
            }
            self.write_state(&state, Then::Tell(Box::new(|result| drop(sender.send(result)))))?;
        }
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("the store is closed")))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut state = self.group.lock();
        state.known.committed = committed;
        if let Some(link) = &self.group.link
            && !mem::replace(&mut state.told, true)
        {
            link.queue.push_committed(self.group.clone());
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.group.lock().known.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut bytes = Vec::new();
        if let Some(link) = &self.group.link {
            bytes.reserve(entries.iter().map(recent::size).sum());
            for entry in &entries {
                let start = bytes.len();
                record::put_entry(&mut bytes, self.group.id, entry)?;
                if bytes.len() - start > link.entry_bytes {
                    return Err(too_large(self.group.id, bytes.len() - start, link.entry_bytes));
                }
            }
        }
        {
            let mut state = self.group.lock();
            let mut next = state.recent.end();
            if let Some(entry) = entries.first()
                && state.last.is_none()
                && entry.log_id.index != next
            {
                // An empty log begins where its first entry says.
                next = entry.log_id.index;
                state.known.first = next;
                state.recent.truncate(0);
                state.recent.purge(next);
                self.write_state(&state, Then::Nothing)?;
            }
            if let Some((entry, next)) =
                entries.iter().zip(next..).find(|(entry, next)| entry.log_id.index != *next)
            {
                return Err(hole(self.group.id, entry.log_id.index, next));
            }
            for entry in entries {
                state.last = Some(entry.log_id);
                state.recent.push(entry);
            }
            if let Some(link) = &self.group.link {
                let then = Then::Entries {
                    group: self.group.clone(),
                    end: state.recent.end(),
                    cuts: state.cuts,
                    callback,
                };
                return link.queue.push(Job { bytes, then });
            }
        }
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let mut state = self.group.lock();
        let index = last.map_or(0, |id| id.index + 1);
        if index >= state.recent.end() {
            return Ok(());
        }
        let index = index.max(state.known.first);
        state.recent.truncate(index);
        state.last = last.max(state.known.purged);
        state.durable = state.durable.min(index);
        state.cuts += 1;
        let Some(link) = &self.group.link else { return Ok(()) };
        let mut bytes = Vec::new();
        record::put_truncate(&mut bytes, self.group.id, index)?;
        // What is appended later is written later, so nobody has to wait for this.
        link.queue.push(Job { bytes, then: Then::Nothing })
    }

    async fn purge(&mut self, last: LogId) -> io::Result<()> {
        let mut state = self.group.lock();
        if state.known.purged.is_some_and(|purged| purged >= last) {
            return Ok(());
        }
        state.known.purged = Some(last);
        state.known.first = last.index + 1;
        if state.recent.end() <= last.index + 1 {
            state.last = Some(last);
        }
        state.recent.purge(last.index + 1);
        state.durable = state.durable.max(last.index + 1);
        // The snapshot that makes up for the entries is durable. If they come back after a crash, no harm is done.
        self.write_state(&state, Then::Nothing)
    }
}

/// The first index of a range, and the one after its last.
fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}

/// The log would have a hole.
fn hole(group: GroupId, index: u64, next: u64) -> io::Error {
    io::Error::other(format!("group {group}: entry {index} was appended where {next} comes next"))
}

fn too_large(group: GroupId, bytes: usize, most: usize) -> io::Error {
    io::Error::other(format!(
        "group {group}: an entry takes {bytes} bytes, but {most} is the most that the log can hold"
    ))
}
