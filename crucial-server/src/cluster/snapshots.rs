//! The snapshots of a node's groups.

use std::{
    collections::HashMap,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crucial_runtime::codec;

use super::{
    files,
    raft::{GroupId, SnapshotMeta},
};

/// A snapshot: what it holds, and the state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Up to which entry it goes, and the membership there.
    pub meta: SnapshotMeta,
    /// The state, encoded.
    pub data: Arc<[u8]>,
}

/// The last snapshot of each group of a node. Copies are of the same.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    place: Arc<Place>,
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<HashMap<GroupId, Snapshot>>),
    /// One file for each group, which one at a time writes.
    Folder(PathBuf, Mutex<HashMap<GroupId, Arc<Mutex<()>>>>),
}

impl SnapshotFiles {
    /// Kept in memory only.
    pub fn memory() -> Self {
        Self { place: Arc::new(Place::Memory(Mutex::default())) }
    }

    /// Kept in a folder, which is made if it isn't there. Nobody else may use it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        files::prepare(folder)?;
        Ok(Self { place: Arc::new(Place::Folder(folder.to_owned(), Mutex::default())) })
    }

    /// Makes this the snapshot of the group: it is durable when this returns, and the one before it is gone. If it
    /// fails, the one before it is still there. If that one goes further than this, it stays: the log may begin where
    /// it ends. It blocks.
    pub fn save(&self, group: GroupId, meta: &SnapshotMeta, mut data: impl Read) -> io::Result<()> {
        match &*self.place {
            Place::Memory(snapshots) => {
                let mut bytes = Vec::new();
                data.read_to_end(&mut bytes)?;
                let snapshot = Snapshot { meta: meta.clone(), data: bytes.into() };
                let mut snapshots = snapshots.lock().unwrap();
                if snapshots.get(&group).is_none_or(|before| before.meta.last_log_id <= meta.last_log_id) {
                    snapshots.insert(group, snapshot);
                }
                Ok(())
            }
            Place::Folder(folder, writers) => {
                let writer = writers.lock().unwrap().entry(group).or_default().clone();
                let _alone = writer.lock().unwrap();
                if self.current_meta(group)?.is_some_and(|before| before.last_log_id > meta.last_log_id) {
                    return Ok(());
                }
                let mut head = Vec::new();
                codec::encode("snapshot's meta", meta, &mut head).map_err(io::Error::other)?;
                files::write(&file(folder, group), &head, data)
            }
        }
    }

    /// The snapshot of the group. It blocks.
    pub fn current(&self, group: GroupId) -> io::Result<Option<Snapshot>> {
        match &*self.place {
            Place::Memory(snapshots) => Ok(snapshots.lock().unwrap().get(&group).cloned()),
            Place::Folder(folder, _) => match files::read(&file(folder, group))? {
                Some((head, data)) => Ok(Some(Snapshot { meta: decode(&head)?, data: data.into() })),
                None => Ok(None),
            },
        }
    }

    /// What the snapshot of the group holds, without reading all of it. It blocks.
    pub fn current_meta(&self, group: GroupId) -> io::Result<Option<SnapshotMeta>> {
        match &*self.place {
            Place::Memory(snapshots) => Ok(snapshots.lock().unwrap().get(&group).map(|s| s.meta.clone())),
            Place::Folder(folder, _) => {
                files::read_head(&file(folder, group))?.map(|head| decode(&head)).transpose()
            }
        }
    }

    /// Removes the snapshot of a group. It blocks.
    pub fn remove(&self, group: GroupId) -> io::Result<()> {
        match &*self.place {
            Place::Memory(snapshots) => {
                snapshots.lock().unwrap().remove(&group);
                Ok(())
            }
            Place::Folder(folder, _) => files::remove(&file(folder, group)),
        }
    }
}

fn file(folder: &Path, group: GroupId) -> PathBuf {
    folder.join(format!("{group}.snapshot"))
}

fn decode(head: &[u8]) -> io::Result<SnapshotMeta> {
    codec::decode("snapshot's meta", head).map_err(io::Error::other)
}
