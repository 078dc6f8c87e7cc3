//! What the tests share.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crucial_server::cluster::{
    log::{GroupLog, Options, Store},
    raft::{Command, Entry, LogId, Types},
};
use openraft::{
    EntryPayload,
    alias::CommittedLeaderIdOf,
    storage::{IOFlushed, RaftLogReader, RaftLogStorage},
    type_config::TypeConfigExt,
};

/// A directory that goes when it is dropped.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("crucial-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Small files, so that there are many.
pub fn small() -> Options {
    let mut options = Options::default();
    options.recent_bytes = 10_000;
    options.segment_bytes = 256 << 10;
    options.entry_bytes = 64 << 10;
    options
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderIdOf::<Types> { term, node_id: 1 }, index }
}

/// An entry the content of which follows from its place.
pub fn entry(term: u64, index: u64, size: usize) -> Entry {
    let bytes = (0..size as u64).map(|at| (at ^ index ^ term.rotate_left(3)) as u8).collect();
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Command(bytes)) }
}

/// Appends, and waits until it is durable.
pub async fn append(log: &mut GroupLog, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
    let (sender, receiver) = Types::oneshot();
    let entries: Vec<_> = entries.into_iter().collect();
    log.append(entries, IOFlushed::signal(sender)).await?;
    receiver.await.expect("every append is answered")
}

/// All entries of a log.
pub async fn all(log: &mut GroupLog) -> Vec<Entry> {
    log.try_get_log_entries(0..).await.unwrap()
}

/// Opens the store for a group.
pub fn open(dir: &Path) -> Store {
    Store::open(dir, small()).unwrap()
}

/// The files of the log, in order.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    files.sort();
    files
}

/// Where the last byte of a file is that isn't 0.
pub fn content(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}
