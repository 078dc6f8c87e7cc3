//! What the store writes: items, many of them in one record of the write-ahead log.
//!
//! An item is a header (what it is, of which group, how long, a checksum over all of that and the body) and a body. The
//! checksum lets an entry be read on its own, without the record around it.

use std::io;

use crucial_runtime::codec;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::raft::{Command, Entry, GroupId, LogId, Types, Vote};

/// The first byte of each record: the format of the record, and of what the entries in it mean.
pub(super) const VERSION: u8 = 2;
/// Kind, group, length of the body, checksum.
pub(super) const HEADER: usize = 13;
/// What a record holds besides the longest entry.
pub(super) const MARGIN: usize = 1;
/// Index, term and leader of an entry, and what kind of payload follows.
const ENTRY_HEADER: usize = 25;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The next entry of a log.
    Entry,
    /// An entry that is already in the log, written again so that the place where it was can be given back.
    Moved,
    /// A group's [`GroupState`].
    State,
    /// All entries from this index on are gone.
    Truncate,
    /// The group is gone.
    Remove,
}

/// What there is of a group besides its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupState {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// The last entry that was purged.
    pub(super) purged: Option<LogId>,
    /// The index of the first entry that is there, or that will come.
    pub(super) first: u64,
}

/// An item in a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub(super) kind: Kind,
    pub(super) group: GroupId,
    pub(super) body: &'a [u8],
    /// Where its header begins.
    pub(super) start: usize,
}

impl Item<'_> {
    /// How long it is, header included.
    pub(super) fn len(&self) -> usize {
        HEADER + self.body.len()
    }
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Moved => 2,
            Self::State => 3,
            Self::Truncate => 4,
            Self::Remove => 5,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Entry, Self::Moved, Self::State, Self::Truncate, Self::Remove]
            .into_iter()
            .find(|k| k.byte() == byte)
    }
}

/// Appends an item, the body of which `write` appends.
fn put(
    out: &mut Vec<u8>,
    kind: Kind,
    group: GroupId,
    write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let start = out.len();
    out.push(kind.byte());
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    write(out)?;
    let body = start + HEADER;
    let length = u32::try_from(out.len() - body).map_err(io::Error::other)?;
    let sum = checksum(kind.byte(), group, &out[body..]);
    out[start + 5..start + 9].copy_from_slice(&length.to_le_bytes());
    out[start + 9..body].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

// Of an entry that was moved it is the same as before, so that its bytes can be copied.
fn checksum(kind: u8, group: GroupId, body: &[u8]) -> u32 {
    let kind = if kind == Kind::Moved.byte() { Kind::Entry.byte() } else { kind };
    xxh3_64_with_seed(body, u64::from(kind) << 32 | u64::from(group)) as u32
}

/// Appends an entry.
pub(super) fn put_entry(out: &mut Vec<u8>, group: GroupId, entry: &Entry) -> io::Result<()> {
    put(out, Kind::Entry, group, |out| {
        out.extend_from_slice(&entry.log_id.index.to_le_bytes());
        out.extend_from_slice(&entry.log_id.leader_id.term.to_le_bytes());
        out.extend_from_slice(&entry.log_id.leader_id.node_id.to_le_bytes());
        match &entry.payload {
            EntryPayload::Blank => out.push(0),
            EntryPayload::Normal(command) => {
                out.push(1);
                out.extend_from_slice(&command.0);
            }
            EntryPayload::Membership(membership) => {
                out.push(2);
                codec::encode("membership", membership, out).map_err(io::Error::other)?;
            }
        }
        Ok(())
    })
}

/// Appends what there is of a group besides its entries.
pub(super) fn put_state(out: &mut Vec<u8>, group: GroupId, state: &GroupState) -> io::Result<()> {
    put(out, Kind::State, group, |out| {
        codec::encode("state of a group", state, out).map_err(io::Error::other)
    })
}

/// Appends that all entries from `index` on are gone.
pub(super) fn put_truncate(out: &mut Vec<u8>, group: GroupId, index: u64) -> io::Result<()> {
    put(out, Kind::Truncate, group, |out| {
        out.extend_from_slice(&index.to_le_bytes());
        Ok(())
    })
}

/// Appends that the group is gone.
pub(super) fn put_remove(out: &mut Vec<u8>, group: GroupId) -> io::Result<()> {
    put(out, Kind::Remove, group, |_| Ok(()))
}

/// Appends an item that was read: an entry as one that is moved.
pub(super) fn put_moved(out: &mut Vec<u8>, item: &[u8]) {
    let start = out.len();
    out.extend_from_slice(item);
    if out[start] == Kind::Entry.byte() {
        out[start] = Kind::Moved.byte();
    }
}

/// The item that begins at `start` in `bytes`.
pub(super) fn item(bytes: &[u8], start: usize) -> io::Result<Item<'_>> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what} of an item"));
    let header = bytes.get(start..start + HEADER).ok_or_else(|| damaged("the header is missing"))?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (group, length, sum) = (number(1), number(5) as usize, number(9));
    let kind = Kind::of(header[0]).ok_or_else(|| damaged("the kind is unknown"))?;
    let body =
        bytes.get(start + HEADER..start + HEADER + length).ok_or_else(|| damaged("the end is missing"))?;
    if checksum(header[0], group, body) != sum {
        return Err(damaged("the checksum is wrong"));
    }
    Ok(Item { kind, group, body, start })
}

/// How long the first of `items` is.
pub(super) fn first_item(items: &[u8]) -> usize {
    let length =
        items.get(5..9).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes));
    (HEADER + length as usize).min(items.len())
}

/// How many bytes the first of `items` take, as many as fit into `room`.
pub(super) fn whole_items(items: &[u8], room: usize) -> usize {
    let mut end = 0;
    while end < items.len() {
        let next = end + first_item(&items[end..]);
        if next > room {
            break;
        }
        end = next;
    }
    end
}

/// The items of a record.
pub(super) fn items(record: &[u8]) -> impl Iterator<Item = io::Result<Item<'_>>> {
    let known = record.first() == Some(&VERSION);
    let mut at = if known { Some(1) } else { None };
    let mut first = true;
    std::iter::from_fn(move || {
        if !known {
            return std::mem::take(&mut first).then(|| {
                let format = record.first().map_or("none".to_owned(), u8::to_string);
                let reason = format!(
                    "a record has format {format}, and this program reads format {VERSION}: go on with the version of \
                     `crucial` that wrote it, or begin with an empty directory"
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            });
        }
        let start = at.filter(|start| *start < record.len())?;
        let item = item(record, start);
        at = item.as_ref().ok().map(|item| start + item.len());
        Some(item)
    })
}

/// The number in the body of an entry or a truncation.
pub(super) fn index(body: &[u8]) -> io::Result<u64> {
    let bytes = body.first_chunk().ok_or_else(|| short("a number"))?;
    Ok(u64::from_le_bytes(*bytes))
}

/// The state in the body of a state.
pub(super) fn state(body: &[u8]) -> io::Result<GroupState> {
    codec::decode("state of a group", body).map_err(io::Error::other)
}

/// The log id in the body of an entry.
pub(super) fn log_id(body: &[u8]) -> io::Result<LogId> {
    let header: &[u8; ENTRY_HEADER] = body.first_chunk().ok_or_else(|| short("an entry"))?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let leader_id = openraft::alias::CommittedLeaderIdOf::<Types> { term: number(8), node_id: number(16) };
    Ok(LogId { leader_id, index: number(0) })
}

/// The entry in the body of one.
pub(super) fn entry(body: &[u8]) -> io::Result<Entry> {
    let log_id = log_id(body)?;
    let rest = &body[ENTRY_HEADER..];
    let payload = match body[ENTRY_HEADER - 1] {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Normal(Command(rest.to_vec().into())),
        2 => EntryPayload::Membership(codec::decode("membership", rest).map_err(io::Error::other)?),
        other => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an entry with an unknown payload {other}"),
            ));
        }
    };
    Ok(Entry { log_id, payload })
}

fn short(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is too short"))
}
