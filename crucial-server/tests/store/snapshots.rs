//! Snapshots are there in full or not at all.

use std::{fs, io};

use crucial_server::cluster::{
    raft::{SnapshotMeta, Types},
    snapshots::SnapshotFiles,
};
use openraft::alias::StoredMembershipOf;

use crate::util::{Dir, log_id, open};

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(1, index)),
        last_membership: StoredMembershipOf::<Types>::default(),
    }
}

#[test]
fn the_last_one_is_there() {
    let dir = Dir::new();
    for files in [SnapshotFiles::memory(), SnapshotFiles::open(dir.path()).unwrap()] {
        assert!(files.current(3).unwrap().is_none());
        assert!(files.current_meta(3).unwrap().is_none());
        for index in [10, 20] {
            let data = vec![index as u8; 100_000];
            files.save(3, &meta(index), &data[..]).unwrap();
            let snapshot = files.current(3).unwrap().unwrap();
            assert_eq!((snapshot.meta, &*snapshot.data), (meta(index), &*data));
            assert_eq!(files.current_meta(3).unwrap(), Some(meta(index)));
        }
        // One that comes late does not replace what goes further.
        files.save(3, &meta(15), &b"late"[..]).unwrap();
        assert_eq!(files.current_meta(3).unwrap(), Some(meta(20)));
        files.save(4, &meta(1), &b""[..]).unwrap();
        files.remove(4).unwrap();
        files.remove(4).unwrap();
        assert!(files.current(4).unwrap().is_none());
    }
    let again = SnapshotFiles::open(dir.path()).unwrap();
    assert_eq!(again.current(3).unwrap().unwrap().meta, meta(20));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn one_that_fails_changes_nothing() {
    struct Fails(usize);
    impl io::Read for Fails {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("no more"))?;
            bytes.fill(1);
            Ok(bytes.len())
        }
    }
    let dir = Dir::new();
    let files = SnapshotFiles::open(dir.path()).unwrap();
    files.save(3, &meta(1), &b"first"[..]).unwrap();
    assert!(files.save(3, &meta(2), Fails(3)).unwrap_err().to_string().contains("no more"));
    assert_eq!(&*files.current(3).unwrap().unwrap().data, b"first");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // A crash leaves it there until the next start.
    fs::write(dir.path().join("3.snapshot.unfinished"), b"half").unwrap();
    let files = SnapshotFiles::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(files.current_meta(3).unwrap(), Some(meta(1)));
}

#[test]
fn damage_is_found_and_named() {
    let dir = Dir::new();
    let files = SnapshotFiles::open(dir.path()).unwrap();
    files.save(3, &meta(1), &[7; 300][..]).unwrap();
    let path = dir.path().join("3.snapshot");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        let e = files.current(3).unwrap_err();
        assert!(e.to_string().contains("3.snapshot is damaged"), "{e}");
        fs::write(&path, &good[..at]).unwrap();
        assert!(files.current(3).is_err());
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(files.current(3).unwrap().unwrap().data.len(), 300);
}

#[test]
fn they_go_with_their_group() {
    let dir = Dir::new();
    let store = open(dir.path());
    store.snapshots().save(3, &meta(1), &b"state"[..]).unwrap();
    store.remove_group(3).unwrap();
    assert!(store.snapshots().current(3).unwrap().is_none());
}
