//! The write-ahead log of a node on disk, shared by its groups.
//!
//! Only this file knows the library that writes it, and its format: a segment's file begins with 64 bytes of header; each
//! record in it has a header of 20 bytes and is padded to a multiple of 8.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use open_wal::{Lsn, TailState, Wal, WalConfig, WalError};
use rustix::{fs::SeekFrom, io::Errno};

use super::{
    index::{Index, Location},
    record,
};
use crate::cluster::raft::{Entry, GroupId};

/// The header of a segment.
const SEGMENT_HEADER: u64 = 64;
/// The header of a record.
const RECORD_HEADER: u64 = 20;
/// How many bytes are moved at once out of the oldest segment.
const MOVED_AT_ONCE: usize = 4 << 20;
/// How many segments there may be for one that would be enough.
const SPREAD: usize = 4;
/// How much is read at once.
const CHUNK: usize = 1 << 20;
/// How much behind the end is written before it is needed.
const AHEAD: u64 = 256 << 10;

/// How large things are. It can't change while there is a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// A segment's file.
    pub(super) segment: u64,
    /// The longest record.
    pub(super) record: u32,
}

/// The log, as its one writer has it.
pub(super) struct Disk {
    wal: Wal,
    folder: PathBuf,
    shape: Shape,
    index: Arc<Mutex<Index>>,
    active: Active,
    /// The number of the next record.
    next: u64,
}

/// The segment that is written to.
struct Active {
    /// The number of its first record.
    segment: u64,
    source: Arc<File>,
    /// Where the next record comes.
    end: u64,
    /// Up to where its blocks have been written.
    written: u64,
}

impl Active {
    /// Goes on in the segment that begins with the record `segment`.
    fn begin(folder: &Path, segment: u64, index: &Mutex<Index>) -> io::Result<Self> {
        let source = OpenOptions::new().read(true).write(true).open(file(folder, segment))?;
        let source = Arc::new(source);
        index.lock().unwrap().add_segment(segment, source.clone());
        Ok(Active { segment, source, end: SEGMENT_HEADER, written: 0 })
    }
}

impl Disk {
    /// Opens the log in `folder`, or makes one. What a crash left at its end unfinished is cut off. If anything else is
    /// not as it was written, this fails.
    pub(super) fn open(folder: &Path, shape: Shape) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let config = WalConfig { segment_size: shape.segment, max_record_size: shape.record };
        let (wal, report) = unlocked(|| Wal::open(folder, config)).map_err(|e| explain(folder, e))?;
        if let TailState::TruncatedAt { segment_base, offset } = report.tail_state {
            tracing::warn!(
                file = %file(folder, segment_base.0).display(),
                offset,
                "the log ended in a record that was not finished, and so never acknowledged: cut off"
            );
        }
        let (index, next) = (Arc::default(), report.oldest_lsn.0);
        let active = Active::begin(folder, next, &index)?;
        let mut disk = Self { wal, folder: folder.to_owned(), shape, index, active, next };
        disk.replay()?;
        if disk.next != report.durable_lsn.0 + 1 {
            return Err(damaged(&disk.file(), disk.active.end, "it ends too early"));
        }
        disk.check_rest()?;
        Ok(disk)
    }

    /// The longest record.
    pub(super) fn longest_record(&self) -> usize {
        self.shape.record as usize
    }

    /// Where everything is.
    pub(super) fn index(&self) -> Arc<Mutex<Index>> {
        self.index.clone()
    }

    /// Reads everything there is into the index.
    fn replay(&mut self) -> io::Result<()> {
        let segments = segments(&self.folder)?;
        let mut reader = self.wal.reader_from(Lsn(0)).map_err(|e| explain(&self.folder, e))?;
        loop {
            // A segment is named after its first record; the last one may be without any.
            if self.next != self.active.segment && segments.contains(&self.next) {
                self.active = Active::begin(&self.folder, self.next, &self.index)?;
            }
            let Some(record) = reader.next() else { break };
            let (lsn, payload) = record.map_err(|e| explain(&self.folder, e))?;
            let path = file(&self.folder, self.active.segment);
            if lsn.0 != self.next {
                return Err(damaged(&path, self.active.end, "a record is missing"));
            }
            let base = (self.active.end + RECORD_HEADER) as u32;
            let mut index = self.index.lock().unwrap();
            for item in record::items(payload) {
                item.and_then(|item| index.apply(&item, self.active.segment, base))
                    .map_err(|e| damaged(&path, self.active.end, &e.to_string()))?;
            }
            self.active.end += framed(payload.len());
            self.next += 1;
        }
        self.index.lock().unwrap().check().map_err(|e| damaged(&self.folder, 0, &e.to_string()))
    }

    /// Looks behind the end. The library takes a header of zeros for the end, which a damaged block could also be; if a
    /// later record is there, then it is one.
    fn check_rest(&self) -> io::Result<()> {
        let Active { source, end, .. } = &self.active;
        if is_zero(source, *end)? {
            return Ok(());
        }
        let mut rest = vec![0; (self.shape.segment - end) as usize];
        let length = read_up_to(source, &mut rest, *end)?;
        rest.truncate(length);
        let path = self.file();
        let aligned = (0..rest.len()).step_by(8);
        if aligned.into_iter().any(|at| is_record(&rest[at..], self.next, self.shape.record)) {
            return Err(damaged(&path, *end, "there are records behind one that is not there"));
        }
        tracing::warn!(
            file = %path.display(),
            offset = end,
            "the log ended in parts of a record that was not finished, and so never acknowledged: cut off"
        );
        rest.fill(0);
        source.write_all_at(&rest, *end)?;
        source.sync_data()
    }

    /// Writes zeros behind the next record, which has `length` bytes in its file. The library only reserves a segment's
    /// blocks, so that the file system has to note of each, in its own journal, that there is something in it: with the
    /// record that is written to it first, which waits for that. So they are written before, many at a time, and a record
    /// finds blocks that are like any other.
    ///
    /// Invariant: what was written is zeros at the end of the records, which is what the library takes for their end.
    fn write_ahead(&mut self, length: u64) {
        let Active { source, end, written, .. } = &mut self.active;
        let (next, size) = (*end + length, self.shape.segment);
        // What doesn't fit comes into the next segment, which the library makes.
        if next <= *written || next > size {
            return;
        }
        let (from, to) = ((*written).max(*end), (next + AHEAD).min(size));
        // Without it, records take longer. Whether they can be written is seen when they are.
        let ahead = source.write_all_at(&vec![0; (to - from) as usize], from);
        *written = if ahead.is_ok() { to } else { size };
    }

    /// Writes a record and makes it durable. After an error nothing more can be written until the log is opened anew.
    pub(super) fn commit(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = framed(payload.len());
        self.write_ahead(length);
        let written = self.wal.append(payload).and_then(|_| self.wal.commit());
        written.map_err(|e| explain(&self.folder, e))?;
        if self.shape.segment - self.active.end < length {
            self.active = Active::begin(&self.folder, self.next, &self.index)?;
        }
        let base = (self.active.end + RECORD_HEADER) as u32;
        let mut index = self.index.lock().unwrap();
        for item in record::items(payload) {
            index.apply(&item?, self.active.segment, base)?;
        }
        self.active.end += length;
        self.next += 1;
        Ok(())
    }

    /// Gives back space: removes segments in which nothing counts. If there are far more segments than what counts needs,
    /// moves some of what counts in the oldest to the end. Does a bounded part of the work; says whether there is more.
    pub(super) fn reclaim(&mut self) -> io::Result<bool> {
        let mut index = self.index.lock().unwrap();
        if let Some(segment) = index.dead_before() {
            index.forget_before(segment);
            drop(index);
            self.wal.checkpoint(Lsn(segment - 1)).map_err(|e| explain(&self.folder, e))?;
            index = self.index.lock().unwrap();
        }
        let (segments, live) = index.usage();
        let enough = live.div_ceil(self.shape.segment) as usize;
        if segments <= SPREAD * enough.max(1) {
            return Ok(false);
        }
        let most = MOVED_AT_ONCE.min(self.shape.record as usize / 2);
        let Some((places, source)) = index.oldest(most) else { return Ok(false) };
        drop(index);
        let mut payload = vec![record::VERSION];
        for at in places {
            let bytes = read_at(&source, at)?;
            record::item(&bytes, 0).map_err(|e| self.misread(at, &e))?;
            record::put_moved(&mut payload, &bytes);
        }
        self.commit(&payload)?;
        Ok(true)
    }

    fn file(&self) -> PathBuf {
        file(&self.folder, self.active.segment)
    }

    fn misread(&self, at: Location, e: &io::Error) -> io::Error {
        damaged(&file(&self.folder, at.segment), u64::from(at.offset), &e.to_string())
    }
}

/// Opens with a little patience. The directory is ours already; but if this process had it before, and is just being
/// forked, then the new process has the library's lock until it becomes another program.
fn unlocked<T>(open: impl Fn() -> Result<T, WalError>) -> Result<T, WalError> {
    let start = Instant::now();
    loop {
        match open() {
            Err(WalError::Locked) if start.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(1))
            }
            other => return other,
        }
    }
}

/// Reads entries of a group that begin with the index `first`.
pub(super) fn read(
    folder: &Path,
    group: GroupId,
    first: u64,
    places: &[(Location, Arc<File>)],
) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(places.len());
    let mut rest = places;
    while let Some(((start, source), _)) = rest.split_first() {
        // Neighbours are read together.
        let together = rest
            .iter()
            .take_while(|(at, _)| at.segment == start.segment && at.offset >= start.offset)
            .take_while(|(at, _)| (at.offset - start.offset) as usize <= CHUNK)
            .count();
        let (run, after) = rest.split_at(together);
        let last = run.iter().map(|(at, _)| at.offset + at.length).max().unwrap_or(start.offset);
        let span = Location { length: last - start.offset, ..*start };
        let misread = |at: &Location, e: &io::Error| {
            damaged(&file(folder, at.segment), u64::from(at.offset), &e.to_string())
        };
        let bytes = read_at(source, span).map_err(|e| misread(start, &e))?;
        for (at, _) in run {
            let index = first + entries.len() as u64;
            let item =
                record::item(&bytes, (at.offset - start.offset) as usize).map_err(|e| misread(at, &e))?;
            let entry = record::entry(item.body).map_err(|e| misread(at, &e))?;
            if item.group != group || entry.log_id.index != index {
                let e = format!("entry {index} of group {group} was expected here");
                return Err(damaged(&file(folder, at.segment), u64::from(at.offset), &e));
            }
            entries.push(entry);
        }
        rest = after;
    }
    Ok(entries)
}

fn read_at(source: &File, at: Location) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; at.length as usize];
    source.read_exact_at(&mut bytes, u64::from(at.offset))?;
    Ok(bytes)
}

fn read_up_to(source: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match source.read_at(&mut bytes[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

/// Whether there is nothing but zeros from `start` on. What was reserved and never written needs no reading.
fn is_zero(source: &File, start: u64) -> io::Result<bool> {
    let (mut at, mut bytes) = (start, Vec::new());
    loop {
        match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(data) => at = data,
            Err(Errno::NXIO) => return Ok(true),
            // Not every file system knows: then all of it is read.
            Err(_) => {}
        }
        // Hardly more than that has been written there.
        bytes.resize(AHEAD as usize, 0);
        let length = read_up_to(source, &mut bytes, at)?;
        if length == 0 {
            return Ok(true);
        }
        if bytes[..length].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += length as u64;
    }
}

/// Whether `bytes` begin with a whole record that has at least the number `next`.
fn is_record(bytes: &[u8], next: u64, longest: u32) -> bool {
    let Some((header, _)) = bytes.split_first_chunk::<{ RECORD_HEADER as usize }>() else { return false };
    let [a, b, c, d, e, f, g, h, number @ .., 1, 0, 0, 0] = *header else { return false };
    let (sum, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    length <= longest
        && u64::from_le_bytes(number) >= next
        && bytes.get(4..framed(length as usize) as usize).is_some_and(|summed| crc32c::crc32c(summed) == sum)
}

/// How long a record is in its file.
fn framed(payload: usize) -> u64 {
    (RECORD_HEADER + payload as u64).next_multiple_of(8)
}

/// The longest record that a segment can hold.
pub(super) fn longest_record(segment: u64) -> u64 {
    segment - SEGMENT_HEADER - RECORD_HEADER - 7
}

/// The segments there are.
fn segments(folder: &Path) -> io::Result<HashSet<u64>> {
    let mut segments = HashSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        segments.extend(name.to_str().and_then(|name| name.strip_suffix(".wal")?.parse::<u64>().ok()));
    }
    Ok(segments)
}

fn file(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.wal"))
}

fn damaged(path: &Path, offset: u64, what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{} is damaged at byte {offset}: {what}", path.display()))
}

fn explain(folder: &Path, e: WalError) -> io::Error {
    match e {
        WalError::Io(e) => io::Error::new(e.kind(), format!("the log in {}: {e}", folder.display())),
        WalError::Corruption { segment, offset, detail } => damaged(&file(folder, segment.0), offset, detail),
        WalError::TornMidLog { segment, offset } => {
            damaged(&file(folder, segment.0), offset, "there are whole records behind a broken one")
        }
        e => io::Error::other(format!("the log in {}: {e}", folder.display())),
    }
}
