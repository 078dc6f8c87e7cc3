//! What works without TLS works with it, also over a network that breaks.

use std::{collections::BTreeMap, process::Command};

use crucial::{
    collections::{HashMap, Vec as SharedVec},
    run,
    sync::{
        Barrier, Mutex, Semaphore,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
};
use crucial_runtime::security::Token;
use tests::{
    begin, eventually,
    objects::{Journal, Tally},
    proxy::Proxy,
    server::{LocalServer, OwnRun, ServerProcess, parked},
};
use tests_tls::{app, client_with, with};

const SEED: u64 = 20_261_121;

/// A server with a token, and a proxy before it.
fn server() -> (LocalServer, Proxy, Token) {
    let token = Token::generate();
    let server = LocalServer::at("127.0.0.2:0", &with(&token));
    let proxy = Proxy::start(&server.address, SEED);
    (server, proxy, token)
}

#[test]
fn blocking_calls_are_applied_once() {
    let (server, proxy, token) = server();
    let _run = OwnRun::enter(client_with(&proxy.address, &token));
    let (number, barrier, turns) = (AtomicU64::new(0), Barrier::new(4), Mutex::new(Vec::new()));
    let (map, list) = (HashMap::<String, u64>::new(), SharedVec::<u64>::new());
    let (sender, receiver) = mpsc::channel();
    proxy.set_odds(12);
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let (number, barrier, turns) = (number.clone(), barrier.clone(), turns.clone());
            let (map, list, sender) = (map.clone(), list.clone(), sender.clone());
            begin(move || {
                for n in 0..15 {
                    let before = number.fetch_add(1, Relaxed);
                    barrier.wait();
                    turns.lock().unwrap().push(before);
                    map.insert(format!("{thread} {n}"), before);
                    list.push(before);
                    sender.send(before).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    threads.into_iter().for_each(|thread| thread.within("calls over a bad network"));
    proxy.set_odds(0);
    assert!(proxy.cuts().iter().all(|cuts| *cuts > 0), "{:?}", proxy.cuts());
    let all: Vec<_> = (0..60).collect();
    let sorted = |mut numbers: Vec<u64>| {
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(number.load(Relaxed), 60);
    assert_eq!(sorted(turns.lock().unwrap().clone()), all);
    assert_eq!(sorted(map.values()), all);
    assert_eq!(sorted(list.to_vec()), all);
    assert_eq!(sorted(receiver.iter().collect()), all);
    assert_eq!(parked(&server.status()), 0);
}

#[test]
fn async_calls_are_applied_once() {
    let (server, proxy, token) = server();
    let _run = OwnRun::enter(client_with(&proxy.address, &token));
    let (tally, journal, semaphore) = (Tally::new(0), Journal::new(), Semaphore::new(2));
    proxy.set_odds(12);
    let caller = async |caller: u64| {
        for n in 0..40 {
            tally.remote().add(1).await.unwrap();
            journal.remote().push(caller << 32 | n).await.unwrap();
            semaphore.remote().take(1).await.unwrap();
            semaphore.remote().add_permits(1).await.unwrap();
        }
    };
    let all = futures::future::join_all((0..6).map(caller));
    let done = run::block_on(async {
        let _timer = run::io().enter();
        tokio::time::timeout(tests::PATIENCE, all).await
    });
    proxy.set_odds(0);
    assert!(done.is_ok(), "a call got no answer");
    assert!(proxy.cuts().iter().all(|cuts| *cuts > 0), "{:?}", proxy.cuts());
    assert_eq!(tally.get(), 240);
    let mut next = BTreeMap::<u64, u64>::new();
    for token in journal.tokens() {
        let expected = next.entry(token >> 32).or_default();
        assert_eq!(token & 0xffff_ffff, *expected);
        *expected += 1;
    }
    assert_eq!(next, (0..6).map(|caller| (caller, 40)).collect());
    assert_eq!(parked(&server.status()), 0);
}

#[test]
fn parked_calls_survive_a_cut() {
    let (server, proxy, token) = server();
    let _run = OwnRun::enter(client_with(&proxy.address, &token));
    let tally = Tally::new(0);
    let calls = [true, false].map(|blocking| {
        let call = tally.remote().take(1);
        begin(move || if blocking { call.wait() } else { run::block_on(call) })
    });
    eventually("both wait", || parked(&server.status()) == 2);
    proxy.cut();
    tally.add(2);
    for call in calls {
        assert!(call.within("a parked call gets its answer").is_ok());
    }
    assert_eq!(tally.get(), 0);
}

/// Much more than TLS or a socket takes at once; and others get theirs in between.
#[test]
fn large_calls_and_answers_pass_whole() {
    const SIZE: usize = 9 << 20;
    let (_server, proxy, token) = server();
    let run = OwnRun::enter(client_with(&proxy.address, &token));
    let (tally, journal) = (Tally::new(0), Journal::new());
    let payload = vec![7; SIZE];
    assert_eq!(tally.measure_written(&payload), SIZE);
    assert_eq!(tally.give(SIZE), payload);
    let answers = run::block_on(async {
        let many = (0..4).map(|_| tally.remote().give(SIZE / 2));
        let (answers, measured, pushed) = futures::join!(
            futures::future::join_all(many),
            tally.remote().measure_written(&payload),
            journal.remote().push(1)
        );
        assert_eq!(measured, Ok(SIZE));
        pushed.unwrap();
        answers
    });
    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|bytes| bytes == payload[..SIZE / 2])));

    // Answers of calls that found their object busy are written by other threads than those of their connections.
    let waiting = begin({
        let journal = journal.clone();
        let run = run.run.clone();
        move || {
            let _entered = run.enter();
            (0..20).map(|_| journal.tokens().len()).collect::<Vec<_>>()
        }
    });
    journal.extend(&vec![u64::MAX; SIZE / 16]);
    assert!(waiting.within("reads of a long journal").into_iter().all(|n| n == 1 || n == 1 + SIZE / 16));
}

#[test]
fn function_processes_get_the_token() {
    let token = Token::generate();
    let server = ServerProcess::at("127.0.0.2:0", app!(), &[("CRUCIAL_TOKEN", &token.reveal())]);
    let file = std::env::temp_dir().join(format!("crucial-function-token-{}", std::process::id()));
    token.store(&file).unwrap();
    let file_name = file.display().to_string();
    let by_file = [("CRUCIAL_SERVERS", server.address.as_str()), ("CRUCIAL_TOKEN_FILE", &file_name)];
    let text = token.reveal();
    // Without a server, the processes reach the one in the program.
    let in_program = [("CRUCIAL_TOKEN", text.as_str())];
    for settings in [&by_file[..], &in_program] {
        let output = Command::new(app!())
            .env("CRUCIAL_BACKEND", "processes")
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out, "[0, 1, 2] 3 [Some(0), Some(1), Some(4)] elsewhere: true\n", "{err}");
    }
    std::fs::remove_file(file).unwrap();
}
