//! openraft's tests of a log.

use std::{
    io,
    sync::{Arc, Mutex},
};

use crucial_server::cluster::{
    log::{GroupLog, Options, Store},
    raft::{LogId, Outcome, SnapshotMeta, Types},
};
use futures::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageError,
    alias::{SnapshotOf, StoredMembershipOf},
    storage::{EntryResponder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
};

use crate::util::Dir;

/// As little of a state machine as the suite needs.
#[derive(Clone, Debug, Default)]
struct Machine {
    last: Option<LogId>,
    membership: StoredMembershipOf<Types>,
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Arc<[u8]>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<Types>)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembershipOf::<Types>::new(Some(entry.log_id), membership);
            }
            self.last = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(Outcome::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _: Arc<[u8]>) -> io::Result<()> {
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Arc<[u8]>>>> {
        let snapshot = self.snapshot.lock().unwrap().clone();
        Ok(snapshot.map(|meta| openraft::Snapshot { meta, snapshot: Arc::default() }))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Arc<[u8]>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, Arc<[u8]>>> {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(openraft::Snapshot { meta, snapshot: Arc::default() })
    }
}

struct Memory;

impl StoreBuilder<Types, GroupLog, Machine, ()> for Memory {
    async fn build(&self) -> Result<((), GroupLog, Machine), StorageError<Types>> {
        Ok(((), Store::memory().group(7), Machine::default()))
    }
}

struct Disk(Options);

impl StoreBuilder<Types, GroupLog, Machine, Dir> for Disk {
    async fn build(&self) -> Result<(Dir, GroupLog, Machine), StorageError<Types>> {
        let dir = Dir::new();
        let store = Store::open(dir.path(), self.0.clone()).unwrap();
        Ok((dir, store.group(7), Machine::default()))
    }
}

#[tokio::test]
async fn memory() {
    Suite::test_all(Memory).await.unwrap();
}

#[tokio::test]
async fn disk() {
    Suite::test_all(Disk(crate::util::small())).await.unwrap();
}

#[tokio::test]
async fn disk_with_nothing_in_memory() {
    let mut options = crate::util::small();
    options.recent_bytes = 0;
    Suite::test_all(Disk(options)).await.unwrap();
}
