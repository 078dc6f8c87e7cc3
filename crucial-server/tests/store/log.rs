//! What is written is there again, and what was purged is gone.

use std::{collections::BTreeMap, fs::File, time::Duration};

use crucial_server::cluster::{
    log::{GroupLog, Options, Store},
    raft::{Entry, Vote},
};
use futures::TryStreamExt;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rustix::fs::{Advice, SeekFrom, fadvise, seek};

use crate::util::{Dir, all, append, content, entry, log_id, open, segments, small};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = Dir::new();
    let store = open(dir.path());
    for group in [0, 1, 900] {
        let mut log = store.group(group);
        log.save_vote(&Vote::new(3, u64::from(group))).await.unwrap();
        append(&mut log, (0..50).map(|index| entry(3, index, 100))).await.unwrap();
        log.truncate_after(Some(log_id(3, 39))).await.unwrap();
        append(&mut log, (40..45).map(|index| entry(4, index, 100))).await.unwrap();
        log.purge(log_id(3, 9)).await.unwrap();
        log.save_committed(Some(log_id(3, 38))).await.unwrap();
    }
    store.put("node", &77u64).unwrap();
    store.close();
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.groups(), [0, 1, 900]);
    assert_eq!(store.get::<u64>("node").unwrap(), Some(77));
    assert_eq!(store.get::<u64>("other").unwrap(), None);
    for group in [0, 1, 900] {
        let mut log = store.group(group);
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, u64::from(group))));
        assert_eq!(log.read_committed().await.unwrap(), Some(log_id(3, 38)));
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(log_id(3, 9)));
        assert_eq!(state.last_log_id, Some(log_id(4, 44)));
        let expected: Vec<_> =
            (10..40).map(|i| entry(3, i, 100)).chain((40..45).map(|i| entry(4, i, 100))).collect();
        assert_eq!(all(&mut log).await, expected);
    }
    store.remove_group(1).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.groups(), [0, 900]);
    let mut log = store.group(1);
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, None);
    append(&mut log, [entry(9, 0, 10)]).await.unwrap();
    assert_eq!(all(&mut log).await, [entry(9, 0, 10)]);
}

#[tokio::test]
async fn a_cleared_group_remembers_its_vote() {
    let dir = Dir::new();
    for (store, reopens) in [(Store::memory(), false), (open(dir.path()), true)] {
        let mut log = store.group(5);
        log.save_vote(&Vote::new(7, 2)).await.unwrap();
        append(&mut log, [entry(7, 0, 10), entry(7, 1, 10)]).await.unwrap();
        drop(log);
        store.clear_group(5).unwrap();
        // One that never voted leaves nothing.
        store.clear_group(6).unwrap();
        let store = if reopens {
            drop(store);
            open(dir.path())
        } else {
            store
        };
        assert_eq!(store.groups(), [5]);
        let mut log = store.group(5);
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(7, 2)));
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, None);
        append(&mut log, [entry(8, 0, 10)]).await.unwrap();
        assert_eq!(all(&mut log).await, [entry(8, 0, 10)]);
        drop(log);
        store.remove_group(5).unwrap();
        assert!(store.groups().is_empty());
    }
}

#[tokio::test]
async fn appended_entries_can_be_read_before_they_are_durable() {
    let dir = Dir::new();
    let store = open(dir.path());
    let mut log = store.group(0);
    for index in 0..200 {
        log.append([entry(1, index, 1000)], IOFlushed::noop()).await.unwrap();
        assert_eq!(log.try_get_log_entries(index..=index).await.unwrap(), [entry(1, index, 1000)]);
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(1, index)));
    }
    let read: Vec<Entry> = log.entries_stream(0..200).await.try_collect().await.unwrap();
    assert_eq!(read, all(&mut log).await);
    assert_eq!(read.len(), 200);
}

#[tokio::test]
async fn how_far_it_is_committed_is_written_without_another_write() {
    let dir = Dir::new();
    let store = open(dir.path());
    let mut log = store.group(0);
    append(&mut log, (0..5).map(|index| entry(1, index, 10))).await.unwrap();
    log.save_committed(Some(log_id(1, 4))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The files as a crash would leave them.
    let copy = Dir::new();
    for name in ["node", "log"] {
        std::process::Command::new("cp")
            .arg("-r")
            .arg(dir.path().join(name))
            .arg(copy.path())
            .status()
            .unwrap();
    }
    assert_eq!(open(copy.path()).group(0).read_committed().await.unwrap(), Some(log_id(1, 4)));
}

#[tokio::test]
async fn a_hole_is_refused() {
    for store in [Store::memory(), open(Dir::new().path())] {
        let mut log = store.group(0);
        append(&mut log, [entry(1, 0, 10)]).await.unwrap();
        let e = append(&mut log, [entry(1, 2, 10)]).await.unwrap_err();
        assert!(e.to_string().contains("entry 2 was appended where 1 comes next"), "{e}");
        append(&mut log, [entry(1, 1, 10)]).await.unwrap();
    }
}

#[tokio::test]
async fn an_entry_that_is_too_large_is_refused() {
    let dir = Dir::new();
    let store = open(dir.path());
    let mut log = store.group(0);
    let e = append(&mut log, [entry(1, 0, 64 << 10)]).await.unwrap_err();
    assert!(e.to_string().contains("the most that the log can hold"), "{e}");
    // The largest that fits, several at once: each gets a record of its own.
    let largest = store.entry_bytes() - 38;
    append(&mut log, (0..8).map(|index| entry(1, index, largest))).await.unwrap();
    drop((log, store));
    assert_eq!(all(&mut open(dir.path()).group(0)).await.len(), 8);
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = Dir::new();
    let store = open(dir.path());
    let e = Store::open(dir.path(), small()).unwrap_err();
    let expected = format!("{} is in use by process {}", dir.path().display(), std::process::id());
    assert!(e.to_string().contains(&expected), "{e}");
    let mut log = store.group(0);
    store.close();
    let again = open(dir.path());
    assert!(append(&mut log, [entry(1, 0, 10)]).await.unwrap_err().to_string().contains("closed"));
    append(&mut again.group(0), [entry(1, 0, 10)]).await.unwrap();
}

#[tokio::test]
async fn what_a_record_is_written_to_has_been_written_before() {
    let dir = Dir::new();
    for start in 0..3 {
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let mut log = store.group(1);
        append(&mut log, [entry(1, start, 1000)]).await.unwrap();
        let path = segments(dir.path()).pop().unwrap();
        let file = File::open(&path).unwrap();
        // Where the file system has noted nothing yet, whatever was read there.
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let hole = seek(&file, SeekFrom::Hole(0)).unwrap();
        assert!(hole >= (content(&path) + (128 << 10)) as u64, "start {start}: {hole}");
        assert_eq!(all(&mut log).await.len() as u64, start + 1);
    }
}

#[tokio::test]
async fn what_is_purged_frees_space() {
    let dir = Dir::new();
    let store = open(dir.path());
    // A group that does nothing more must not hold on to the oldest file.
    let mut idle = store.group(1);
    append(&mut idle, (0..10).map(|index| entry(1, index, 100))).await.unwrap();
    let mut log = store.group(0);
    let mut most = 0;
    for round in 0..100 {
        append(&mut log, (round * 50..round * 50 + 50).map(|index| entry(1, index, 1000))).await.unwrap();
        log.purge(log_id(1, round * 50 + 39)).await.unwrap();
        most = most.max(segments(dir.path()).len());
    }
    // 5 MB were written, at most 60 KB of it count.
    assert!(most <= 6, "{most} files at a time");
    let usage = store.usage();
    assert!(usage.live_bytes < 100_000, "{usage:?}");
    drop((log, idle, store));
    let store = open(dir.path());
    let expected: Vec<_> = (4990..5000).map(|index| entry(1, index, 1000)).collect();
    assert_eq!(all(&mut store.group(0)).await, expected);
    let expected: Vec<_> = (0..10).map(|index| entry(1, index, 100)).collect();
    assert_eq!(all(&mut store.group(1)).await, expected);
}

/// Many groups change at random, with restarts, and are compared with a model.
#[tokio::test]
async fn groups_are_as_a_model_says() {
    for seed in 0..4 {
        let mut random = SmallRng::seed_from_u64(seed);
        let dir = Dir::new();
        let mut store = open(dir.path());
        let mut model: BTreeMap<u32, (u64, Vec<Entry>)> =
            (0..8).map(|group| (group, (0, Vec::new()))).collect();
        for step in 0..1000 {
            let group = random.random_range(0..8);
            let (first, entries) = model.get_mut(&group).unwrap();
            let mut log = store.group(group);
            let end = *first + entries.len() as u64;
            match random.random_range(0..20) {
                0..12 => {
                    let more = end..end + random.random_range(1..20);
                    let more: Vec<_> =
                        more.map(|index| entry(step, index, random.random_range(0..2000))).collect();
                    entries.extend(more.iter().cloned());
                    if random.random() {
                        append(&mut log, more).await.unwrap();
                    } else {
                        log.append(more, IOFlushed::noop()).await.unwrap();
                    }
                }
                12..14 => {
                    let keep = random.random_range(0..=entries.len());
                    entries.truncate(keep);
                    let last = entries.last().map(|entry| entry.log_id);
                    let last = last.or(first.checked_sub(1).map(|index| log_id(0, index)));
                    log.truncate_after(last).await.unwrap();
                }
                14..17 if !entries.is_empty() => {
                    let count = random.random_range(1..=entries.len());
                    let last = entries.drain(..count).next_back().unwrap();
                    *first = last.log_id.index + 1;
                    log.purge(last.log_id).await.unwrap();
                }
                17 => {
                    log.save_vote(&Vote::new(step, 1)).await.unwrap();
                }
                18 if random.random_ratio(1, 4) => {
                    drop((log, store));
                    store = open(dir.path());
                }
                _ => compare(&mut log, *first, entries).await,
            }
        }
        drop(store);
        let store = open(dir.path());
        for (group, (first, entries)) in &model {
            compare(&mut store.group(*group), *first, entries).await;
        }
    }
}

async fn compare(log: &mut GroupLog, first: u64, entries: &[Entry]) {
    assert_eq!(all(log).await, entries);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id.map(|id| id.index + 1).unwrap_or(0), first);
    if let Some(last) = entries.last() {
        assert_eq!(state.last_log_id, Some(last.log_id));
    }
    let middle = first + entries.len() as u64 / 2;
    let limited = log.limited_get_log_entries(middle, middle + 3).await.unwrap();
    let expected = &entries[entries.len() / 2..];
    assert_eq!(limited, &expected[..expected.len().min(3)]);
}
