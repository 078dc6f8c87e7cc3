//! A torn tail is cut off; anything else that is not as it was written is an error that names the file.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use crucial_server::cluster::log::{Options, Store};

use crate::util::{Dir, all, append, content, entry, segments, small};

/// Files as small as can be: a torn record is looked for in all the space that one could take.
fn tiny() -> Options {
    let mut options = small();
    options.segment_bytes = 8 << 10;
    options.entry_bytes = 1000;
    options
}

/// A log of a few records, each with one entry; where in the first file each record ends.
async fn some(dir: &Path, records: u64) -> Vec<usize> {
    let store = Store::open(dir, tiny()).unwrap();
    let mut log = store.group(5);
    let mut ends = Vec::new();
    for index in 0..records {
        append(&mut log, [entry(1, index, 90)]).await.unwrap();
        ends.push(content(&segments(dir)[0]).next_multiple_of(8));
    }
    ends
}

async fn count(dir: &Path) -> Result<usize, String> {
    let store = Store::open(dir, tiny()).map_err(|e| e.to_string())?;
    let mut log = store.group(5);
    let entries = all(&mut log).await;
    assert!(entries.iter().zip(0..).all(|(found, index)| *found == entry(1, index, 90)));
    // It goes on from there.
    let next = entries.len() as u64;
    append(&mut log, [entry(1, next, 90)]).await.unwrap();
    Ok(entries.len())
}

#[tokio::test]
async fn a_torn_tail_is_cut_off() {
    let dir = Dir::new();
    let ends = some(dir.path(), 6).await;
    let path = &segments(dir.path())[0];
    let good = fs::read(path).unwrap();
    let (start, end) = (ends[4], ends[5]);
    let mut cuts = 0;
    for at in start..end {
        for garbage in [0u8, 0x5a] {
            // Up to here the last record was written; then nothing, or something else.
            let mut torn = good.clone();
            torn[at..end].fill(garbage);
            if torn == good {
                continue;
            }
            // Now and then the file ends there too.
            if at % 3 == 0 {
                torn.truncate(at.max(start + 1));
            }
            fs::write(path, &torn).unwrap();
            assert_eq!(count(dir.path()).await, Ok(5), "cut at {at}, then {garbage:#x}");
            assert_eq!(count(dir.path()).await, Ok(6), "cut at {at}, then {garbage:#x}, and again");
            cuts += 1;
        }
    }
    assert!(cuts > 200, "{cuts}");
}

#[tokio::test]
async fn pages_of_the_last_record_may_be_missing() {
    // Blocks reach the disk in any order: of a record that was not finished the beginning may be missing, and the end
    // be there.
    let dir = Dir::new();
    let ends = some(dir.path(), 6).await;
    let path = &segments(dir.path())[0];
    let good = fs::read(path).unwrap();
    for missing in [8, 20, 64, 100] {
        let mut torn = good.clone();
        torn[ends[4]..ends[4] + missing].fill(0);
        fs::write(path, &torn).unwrap();
        assert_eq!(count(dir.path()).await, Ok(5), "{missing} bytes are missing");
        assert_eq!(count(dir.path()).await, Ok(6), "{missing} bytes are missing, and again");
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_an_error() {
    let dir = Dir::new();
    let ends = some(dir.path(), 6).await;
    let path = &segments(dir.path())[0];
    let name = path.file_name().unwrap().to_str().unwrap();
    let good = fs::read(path).unwrap();
    for at in ends[1]..ends[2] {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        fs::write(path, &bad).unwrap();
        let e = count(dir.path()).await.unwrap_err();
        assert!(e.contains(name) && e.contains("is damaged at byte"), "byte {at}: {e}");
        assert_eq!(fs::read(path).unwrap(), bad, "nothing was changed");
    }
    // A whole block of zeros looks like the end, but for what follows.
    for (from, to) in [(ends[1], ends[2]), (ends[1], ends[3]), (ends[0], ends[0] + 24)] {
        let mut bad = good.clone();
        bad[from..to].fill(0);
        fs::write(path, &bad).unwrap();
        let e = count(dir.path()).await.unwrap_err();
        assert!(e.contains(name) && e.contains("is damaged at byte"), "{from}..{to}: {e}");
    }
    fs::write(path, &good).unwrap();
    assert_eq!(count(dir.path()).await, Ok(6));
}

#[tokio::test]
async fn damage_in_an_older_file_is_an_error() {
    let dir = Dir::new();
    some(dir.path(), 150).await;
    let files = segments(dir.path());
    assert!(files.len() >= 3, "{files:?}");
    let length = content(&files[0]);
    for (file, at) in [(0, 3), (0, 70), (0, length / 2), (1, 100), (1, length - 10)] {
        let good = fs::read(&files[file]).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        fs::write(&files[file], &bad).unwrap();
        let e = count(dir.path()).await.unwrap_err();
        assert!(e.contains("log"), "{e}");
        if at > 64 {
            assert!(e.contains(files[file].file_name().unwrap().to_str().unwrap()), "{e}");
        }
        fs::write(&files[file], &good).unwrap();
    }
    // A file that is gone altogether, in the middle and at the beginning.
    for file in [1, 0] {
        let kept = dir.path().join("kept");
        fs::rename(&files[file], &kept).unwrap();
        let e = count(dir.path()).await.unwrap_err();
        assert!(e.contains("missing") || e.contains("not contiguous"), "{e}");
        fs::rename(&kept, &files[file]).unwrap();
    }
    assert_eq!(count(dir.path()).await, Ok(150));
}

#[tokio::test]
async fn damage_under_a_running_store_is_an_error() {
    let dir = Dir::new();
    let mut options = small();
    options.recent_bytes = 0;
    let store = Store::open(dir.path(), options).unwrap();
    let mut log = store.group(5);
    append(&mut log, (0..20).map(|index| entry(1, index, 100))).await.unwrap();
    assert_eq!(all(&mut log).await.len(), 20);
    let file = OpenOptions::new().write(true).open(&segments(dir.path())[0]).unwrap();
    file.write_all_at(b"???", 900).unwrap();
    let e = openraft::storage::RaftLogReader::try_get_log_entries(&mut log, ..).await.unwrap_err();
    assert!(e.to_string().contains(".wal is damaged at byte"), "{e}");
}

#[test]
fn what_the_node_remembers_is_checked() {
    let dir = Dir::new();
    let store = Store::open(dir.path(), tiny()).unwrap();
    store.put("cluster", "name").unwrap();
    drop(store);
    let path = dir.path().join("node");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let e = Store::open(dir.path(), tiny()).unwrap_err();
    assert!(e.to_string().contains("node is damaged"), "{e}");
}
