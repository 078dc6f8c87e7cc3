//! What was acknowledged is there after `kill -9`.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crucial_server::cluster::{log::Store, raft::Vote};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::util::{Dir, all, append, entry, log_id, small};

/// Where the child finds its directory.
const CHILD: &str = "CRUCIAL_STORE_CHILD";
/// How many groups append at once.
const GROUPS: u32 = 4;
/// For how long there are new rounds. Each lasts about a tenth of a second.
const TIME: Duration = Duration::from_secs(12);

/// The child: appends until it is killed, and says what is durable. It does nothing unless it was started by the test
/// below.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(dir.as_ref(), small()).unwrap();
        let groups = (0..GROUPS).map(|group| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut log = store.group(group);
                let state = log.get_log_state().await.unwrap();
                let mut next = state.last_log_id.map_or(0, |id| id.index + 1);
                let mut random = SmallRng::seed_from_u64(next);
                loop {
                    let count = random.random_range(1..8);
                    append(
                        &mut log,
                        (next..next + count).map(|index| entry(1, index, (index % 700) as usize)),
                    )
                    .await
                    .unwrap();
                    next += count;
                    println!("\n@ {group} {} 0", next - 1);
                    if random.random_ratio(1, 10) {
                        log.save_vote(&Vote::new(next, 1)).await.unwrap();
                        println!("\n@ {group} {} {next}", next - 1);
                    }
                    if random.random_ratio(1, 40) && next > 300 {
                        log.purge(log_id(1, next - 300)).await.unwrap();
                    }
                }
            })
        });
        futures::future::join_all(groups).await;
    });
}

#[test]
fn what_was_acknowledged_is_there() {
    let dir = Dir::new();
    let seed = 3;
    let mut random = SmallRng::seed_from_u64(seed);
    let start = Instant::now();
    let mut acknowledged: HashMap<u32, (u64, u64)> = HashMap::new();
    let (mut rounds, mut appended) = (0, 0);
    while start.elapsed() < TIME {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture", "--test-threads", "1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let mut found: Vec<(u32, u64, u64)> = Vec::new();
            for line in output.lines() {
                let line = line.unwrap();
                let Some(rest) = line.strip_prefix("@ ") else { continue };
                let numbers: Vec<u64> = rest.split(' ').map_while(|n| n.parse().ok()).collect();
                if let [group, last, vote] = numbers[..] {
                    found.push((group as u32, last, vote));
                }
            }
            found
        });
        thread::sleep(Duration::from_millis(random.random_range(30..160)));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = reader.join().unwrap();
        appended += found.len();
        // The last line may be incomplete, so its numbers may be: they are smaller then.
        for (group, last, vote) in found {
            let entry = acknowledged.entry(group).or_default();
            *entry = (entry.0.max(last), entry.1.max(vote));
        }
        rounds += 1;
        futures::executor::block_on(check(&dir, &acknowledged, rounds));
    }
    println!("{rounds} rounds, {appended} acknowledgements");
    assert!(rounds >= 10 && appended > 100, "{rounds} rounds, {appended} acknowledgements");
    assert!(fs::read_dir(dir.path().join("log")).unwrap().count() < 20);
}

async fn check(dir: &Dir, acknowledged: &HashMap<u32, (u64, u64)>, round: u32) {
    let store = Store::open(dir.path(), small()).unwrap();
    for (group, (last, vote)) in acknowledged {
        let mut log = store.group(*group);
        let state = log.get_log_state().await.unwrap();
        let found = state.last_log_id.unwrap().index;
        assert!(found >= *last, "round {round}: group {group} has {found}, but {last} was acknowledged");
        let term = log.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
        assert!(term >= *vote, "round {round}: group {group} has vote {term}, but {vote} was acknowledged");
        let first = state.last_purged_log_id.map_or(0, |id| id.index + 1);
        let entries = all(&mut log).await;
        assert_eq!(entries.len() as u64, found + 1 - first);
        for (found, index) in entries.iter().zip(first..) {
            assert_eq!(*found, entry(1, index, (index % 700) as usize), "round {round}: group {group}");
        }
    }
}
