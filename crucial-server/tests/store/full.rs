//! A full disk: nothing is acknowledged that isn't there, the store says so, and a restart helps when there is space.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crucial_server::cluster::{
    log::Store,
    raft::{SnapshotMeta, Types},
};
use openraft::alias::StoredMembershipOf;

use crate::util::{Dir, all, append, entry, log_id, small};

/// A small file system, in memory. Goes when it is dropped.
struct Small(PathBuf);

impl Small {
    /// Nothing, with a message, if this user can't mount.
    fn mount(dir: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(dir.to_owned())),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("skipped: a small file system can't be mounted here: {}", why.trim());
                None
            }
            Err(e) => {
                println!("skipped: a small file system can't be mounted here: {e}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_on_a_full_disk() {
    let dir = Dir::new();
    let Some(_mounted) = Small::mount(dir.path(), "3m") else { return };
    let data = dir.path().join("data");
    let ballast = dir.path().join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let mut acknowledged = 0;
    for round in 0..3 {
        let store = Store::open(&data, small()).unwrap();
        let mut log = store.group(0);
        assert_eq!(all(&mut log).await.len() as u64, acknowledged);
        let e = loop {
            match append(&mut log, [entry(1, acknowledged, 1000)]).await {
                Ok(()) => acknowledged += 1,
                Err(e) => break e,
            }
            assert!(acknowledged < 4000, "the disk is never full");
        };
        assert_eq!(e.kind(), std::io::ErrorKind::StorageFull, "{e}");
        assert!(e.to_string().contains("started again, when there is space again"), "{e}");
        assert!(store.failure().is_some_and(|failure| failure.contains(&*data.to_string_lossy())));
        // Without a restart it stays so, for all groups, even if there is space.
        if round == 1 {
            fs::remove_file(&ballast).unwrap();
        }
        assert!(append(&mut store.group(1), [entry(1, 0, 10)]).await.is_err());
        assert!(store.remove_group(1).is_err());
        drop((log, store));
        if round == 0 {
            // A restart alone doesn't help, but nothing is lost.
            let store = Store::open(&data, small()).unwrap();
            assert_eq!(all(&mut store.group(0)).await.len() as u64, acknowledged);
        }
    }
    let before = acknowledged;
    assert!(before > 1000, "{before}");
}

#[test]
fn a_snapshot_that_does_not_fit_changes_nothing() {
    let dir = Dir::new();
    let Some(_mounted) = Small::mount(dir.path(), "2m") else { return };
    let store = Store::open(&dir.path().join("data"), small()).unwrap();
    let meta = |index| SnapshotMeta {
        last_log_id: Some(log_id(1, index)),
        last_membership: StoredMembershipOf::<Types>::default(),
    };
    store.snapshots().save(0, &meta(1), &vec![1; 300_000][..]).unwrap();
    let e = store.snapshots().save(0, &meta(2), &vec![2; 3_000_000][..]).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::StorageFull, "{e}");
    assert_eq!(store.snapshots().current_meta(0).unwrap(), Some(meta(1)));
    // The part that was written is gone again.
    store.snapshots().save(0, &meta(3), &vec![3; 300_000][..]).unwrap();
    assert_eq!(&*store.snapshots().current(0).unwrap().unwrap().data, &vec![3; 300_000][..]);
}
