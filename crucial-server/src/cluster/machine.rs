//! What a group replicates, as openraft drives it.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use crucial_runtime::error::Result;
use futures::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    alias::{SnapshotOf, StoredMembershipOf},
    storage::{EntryResponder, RaftStateMachine},
};

use super::{
    raft::{GroupId, LogId, Outcome, SnapshotMeta, Types},
    snapshots::SnapshotFiles,
};

/// Plain data that changes by commands only: the same commands in the same order give the same data.
pub trait Machine: fmt::Debug + Send + Sync + 'static {
    /// Applies a command, and says what became of it.
    fn apply(&self, command: &[u8]) -> Outcome;
    /// The whole state, encoded.
    fn image(&self) -> Result<Vec<u8>>;
    /// Becomes what the image shows.
    fn restore(&self, image: &[u8]) -> Result<()>;
}

/// A machine with its place in the log.
#[derive(Debug)]
pub struct StateMachine {
    group: GroupId,
    machine: Arc<dyn Machine>,
    snapshots: SnapshotFiles,
    last: Option<LogId>,
    /// The term of the last entry, for readers.
    term: Arc<Mutex<Option<u64>>>,
    membership: StoredMembershipOf<Types>,
}

/// The encoded state on its way between disk, nodes and machine.
pub type SnapshotData = Arc<[u8]>;

impl StateMachine {
    /// A machine to which nothing was applied.
    pub fn new(group: GroupId, machine: Arc<dyn Machine>, snapshots: SnapshotFiles) -> Self {
        StateMachine {
            group,
            machine,
            snapshots,
            last: None,
            term: Arc::default(),
            membership: StoredMembershipOf::<Types>::default(),
        }
    }

    /// Where the term of the last applied entry can be read.
    pub fn term(&self) -> Arc<Mutex<Option<u64>>> {
        self.term.clone()
    }

    fn applied(&mut self, log_id: LogId) {
        let term = log_id.committed_leader_id().term;
        if self.last.as_ref().is_none_or(|last| last.committed_leader_id().term != term) {
            *self.term.lock().unwrap() = Some(term);
        }
        self.last = Some(log_id);
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<Types>)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = match entry.payload {
                EntryPayload::Blank => Outcome::default(),
                EntryPayload::Normal(command) => self.machine.apply(&command.0),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembershipOf::<Types>::new(Some(entry.log_id), membership);
                    Outcome::default()
                }
            };
            self.applied(entry.log_id);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            group: self.group,
            meta: SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() },
            // Invariant: nothing is applied while the image is made, so it shows one place in the log.
            image: self.machine.image().map(Into::into).map_err(io::Error::other),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let (group, files) = (self.group, self.snapshots.clone());
        let known = files.current_meta(group)?;
        self.machine.restore(&snapshot).map_err(io::Error::other)?;
        if known.as_ref() != Some(meta) {
            let meta = meta.clone();
            blocking(move || files.save(group, &meta, &snapshot[..])).await?;
        }
        self.membership = meta.last_membership.clone();
        if let Some(log_id) = meta.last_log_id {
            self.applied(log_id);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, SnapshotData>>> {
        let (group, files) = (self.group, self.snapshots.clone());
        let snapshot = blocking(move || files.current(group)).await?;
        Ok(snapshot.map(|s| openraft::Snapshot { meta: s.meta, snapshot: s.data }))
    }
}

/// A snapshot that is being stored.
#[derive(Debug)]
pub struct Builder {
    group: GroupId,
    meta: SnapshotMeta,
    image: io::Result<SnapshotData>,
    snapshots: SnapshotFiles,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotData>> {
        let image = std::mem::replace(&mut self.image, Ok(Arc::default()))?;
        let (group, meta, files, data) =
            (self.group, self.meta.clone(), self.snapshots.clone(), image.clone());
        blocking(move || files.save(group, &meta, &data[..])).await?;
        Ok(openraft::Snapshot { meta: self.meta.clone(), snapshot: image })
    }
}

/// Runs something that waits for the disk.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    if cfg!(feature = "simulation") {
        return f();
    }
    tokio::task::spawn_blocking(f).await.map_err(io::Error::other)?
}
