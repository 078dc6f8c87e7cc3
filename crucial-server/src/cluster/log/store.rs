//! The store of a node.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use crucial_runtime::codec;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    disk::{self, Disk, Shape},
    group::{Group, GroupLog},
    index::Index,
    lock::Lock,
    record::{self, GroupState},
    writer::{self, Job, Queue, Then},
};
use crate::cluster::{
    files,
    raft::{GroupId, Vote},
    snapshots::SnapshotFiles,
};

/// Where the store keeps how large the files of its log are.
const SHAPE: &str = "shape of the log";

/// What can be chosen about a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How many bytes of the end of each group's log are kept in memory. What is older is read from disk.
    pub recent_bytes: usize,
    /// How large a file of the log is. Space is given back by files. Only a new store heeds it.
    pub segment_bytes: u32,
    /// How large an entry can be. Only a new store heeds it.
    pub entry_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { recent_bytes: 2 << 20, segment_bytes: 64 << 20, entry_bytes: 32 << 20 }
    }
}

/// What a store takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The files of the log.
    pub segments: usize,
    /// The bytes in them that count.
    pub live_bytes: u64,
}

/// What a node keeps of all its groups, and about itself. Copies are of the same; the directory is free again after
/// [`close`](Store::close), or when the last of them and of their [`GroupLog`]s is gone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    groups: Mutex<HashMap<GroupId, Arc<Group>>>,
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    snapshots: SnapshotFiles,
    disk: Option<OnDisk>,
}

/// What a store on disk has besides.
#[derive(Debug)]
struct OnDisk {
    dir: PathBuf,
    link: Arc<Link>,
    /// The writer, and what keeps others away, until the store is closed.
    running: Mutex<Option<(JoinHandle<()>, Lock)>>,
}

/// How a group reaches the disk.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) queue: Arc<Queue>,
    pub(super) index: Arc<Mutex<Index>>,
    /// Where the log is.
    pub(super) folder: PathBuf,
    pub(super) recent_bytes: usize,
    pub(super) entry_bytes: usize,
}

impl Store {
    /// Opens the store in the directory `dir`, which is made if it isn't there. It blocks.
    ///
    /// What a crash left unfinished is cut off, with a warning in the log. It fails if anything else is damaged, and if
    /// the directory is in use.
    pub fn open(dir: &Path, options: Options) -> io::Result<Self> {
        fs::create_dir_all(dir)
            .map_err(|e| io::Error::new(e.kind(), format!("the data directory {}: {e}", dir.display())))?;
        let lock = Lock::take(dir)?;
        files::prepare(dir)?;
        let snapshots = SnapshotFiles::open(&dir.join("snapshots"))?;
        let mut values = match files::read(&values_file(dir))? {
            Some((_, bytes)) => codec::decode("what the node remembers", &bytes).map_err(io::Error::other)?,
            None => BTreeMap::new(),
        };
        let folder = dir.join("log");
        let shape = match get(&values, SHAPE)? {
            Some((segment, record)) => Shape { segment, record },
            None => {
                let shape = shape(&options)?;
                put(&mut values, SHAPE, &(shape.segment, shape.record))?;
                save(dir, &values)?;
                shape
            }
        };
        let disk = Disk::open(&folder, shape)?;
        let index = disk.index();
        let queue = Arc::new(Queue::default());
        let link = Arc::new(Link {
            queue: queue.clone(),
            index: index.clone(),
            folder,
            recent_bytes: options.recent_bytes,
            entry_bytes: shape.record as usize - record::MARGIN,
        });
        let groups = index.lock().unwrap().groups().keys().copied().collect::<Vec<_>>();
        let groups: io::Result<HashMap<_, _>> =
            groups.into_iter().map(|id| Ok((id, Arc::new(Group::restored(id, link.clone())?)))).collect();
        let groups = groups?;
        let writer = writer::start(disk, queue)?;
        let disk = Some(OnDisk { dir: dir.to_owned(), link, running: Mutex::new(Some((writer, lock))) });
        Ok(Self {
            inner: Arc::new(Inner {
                groups: Mutex::new(groups),
                values: Mutex::new(values),
                snapshots,
                disk,
            }),
        })
    }

    /// A store that keeps nothing beyond the process, for a node without a data directory.
    pub fn memory() -> Self {
        Self {
            inner: Arc::new(Inner {
                groups: Mutex::default(),
                values: Mutex::default(),
                snapshots: SnapshotFiles::memory(),
                disk: None,
            }),
        }
    }

    /// The log of a group; of one that is new here, an empty one.
    pub fn group(&self, id: GroupId) -> GroupLog {
        let mut groups = self.inner.groups.lock().unwrap();
        let link = self.inner.disk.as_ref().map(|disk| disk.link.clone());
        let group = groups.entry(id).or_insert_with(|| Arc::new(Group::new(id, link)));
        GroupLog::new(group.clone(), self.inner.clone())
    }

    /// The groups that have something here, in order.
    pub fn groups(&self) -> Vec<GroupId> {
        let mut ids: Vec<_> = self.inner.groups.lock().unwrap().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Forgets a group, for a node that is not part of the cluster any more: its log, its vote and its snapshot. No
    /// [`GroupLog`] of it may be in use. It blocks.
    pub fn remove_group(&self, id: GroupId) -> io::Result<()> {
        self.forget(id, None)
    }

    /// Forgets what a group has here, but not how the node has voted in it: for a node that has no part in it any more, and
    /// may come back. No [`GroupLog`] of it may be in use. It blocks.
    ///
    /// Invariant: a node votes once in a term, and follows no leader of a term before the one that it knows.
    pub fn clear_group(&self, id: GroupId) -> io::Result<()> {
        let group = self.inner.groups.lock().unwrap().get(&id).cloned();
        self.forget(id, group.and_then(|group| group.vote()))
    }

    fn forget(&self, id: GroupId, vote: Option<Vote>) -> io::Result<()> {
        if let Some(group) = self.inner.groups.lock().unwrap().remove(&id) {
            group.remove();
        }
        let known = vote.map(|vote| GroupState { vote: Some(vote), ..GroupState::default() });
        if let Some(disk) = &self.inner.disk {
            let mut bytes = Vec::new();
            record::put_remove(&mut bytes, id)?;
            if let Some(known) = &known {
                record::put_state(&mut bytes, id, known)?;
            }
            let (sender, receiver) = mpsc::channel();
            let then = Then::Tell(Box::new(move |result| drop(sender.send(result))));
            disk.link.queue.push(Job { bytes, then })?;
            receiver.recv().map_err(io::Error::other)??;
        }
        if let Some(known) = known {
            let link = self.inner.disk.as_ref().map(|disk| disk.link.clone());
            self.inner.groups.lock().unwrap().insert(id, Arc::new(Group::cleared(id, link, known)));
        }
        self.inner.snapshots.remove(id)
    }

    /// The snapshots of the groups.
    pub fn snapshots(&self) -> &SnapshotFiles {
        &self.inner.snapshots
    }

    /// What the node remembers about itself under `key`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> io::Result<Option<T>> {
        get(&self.inner.values.lock().unwrap(), key)
    }

    /// Makes the node remember `value` under `key`: it is durable when this returns. For what changes rarely. It blocks.
    pub fn put<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> io::Result<()> {
        let mut values = self.inner.values.lock().unwrap();
        let mut changed = values.clone();
        put(&mut changed, key, value)?;
        if let Some(disk) = &self.inner.disk {
            save(&disk.dir, &changed)?;
        }
        *values = changed;
        Ok(())
    }

    /// How large an entry can be. Whoever proposes one has to see to it: for openraft an append that fails is the end.
    pub fn entry_bytes(&self) -> usize {
        self.inner.disk.as_ref().map_or(usize::MAX, |disk| disk.link.entry_bytes)
    }

    /// Why this node acknowledges nothing any more, if so: its disk is full, or fails.
    pub fn failure(&self) -> Option<String> {
        let disk = self.inner.disk.as_ref()?;
        disk.link.queue.failure().map(|failure| failure.message().to_owned())
    }

    /// What the log takes on disk.
    pub fn usage(&self) -> Usage {
        self.inner.disk.as_ref().map_or_else(Usage::default, |disk| {
            let (segments, live_bytes) = disk.link.index.lock().unwrap().usage();
            Usage { segments, live_bytes }
        })
    }

    /// Writes what is still to be written, and frees the directory. Nothing can be appended afterwards. It blocks.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        let Some(disk) = &self.disk else { return };
        // Whoever comes second waits until it is done.
        let mut running = disk.running.lock().unwrap();
        if let Some((writer, _lock)) = running.take() {
            disk.link.queue.close();
            // If it panicked, those who waited were told.
            let _ = writer.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn shape(options: &Options) -> io::Result<Shape> {
    let segment = u64::from(options.segment_bytes);
    let record = u64::from(options.entry_bytes) + record::MARGIN as u64;
    match u32::try_from(record) {
        Ok(short) if segment > 4096 && record <= disk::longest_record(segment) => {
            Ok(Shape { segment, record: short })
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("entries of {} bytes don't fit into files of {segment}", options.entry_bytes),
        )),
    }
}

fn values_file(dir: &Path) -> PathBuf {
    dir.join("node")
}

fn get<T: DeserializeOwned>(values: &BTreeMap<String, Vec<u8>>, key: &str) -> io::Result<Option<T>> {
    values.get(key).map(|bytes| codec::decode(key, bytes).map_err(io::Error::other)).transpose()
}

fn put<T: Serialize + ?Sized>(
    values: &mut BTreeMap<String, Vec<u8>>,
    key: &str,
    value: &T,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    codec::encode(key, value, &mut bytes).map_err(io::Error::other)?;
    values.insert(key.to_owned(), bytes);
    Ok(())
}

fn save(dir: &Path, values: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    codec::encode("what the node remembers", values, &mut bytes).map_err(io::Error::other)?;
    files::write(&values_file(dir), &[], &bytes[..])
}
