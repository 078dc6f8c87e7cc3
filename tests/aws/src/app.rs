//! A program that runs cloud threads as its arguments say, and prints what becomes of them.

use std::{collections::BTreeSet, env, io, thread as machine, time::Duration};

use crucial::{
    Error, cloud_fn, shared,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

/// How often functions have run.
#[shared]
static RUNS: AtomicU64 = AtomicU64::new(0);

#[shared]
static LOCK: Mutex<u32> = Mutex::new(0);

/// Meets the others, so that as many processes are there at once.
#[cloud_fn]
fn meet(barrier: &Barrier, n: u64) -> (u64, u32) {
    RUNS.fetch_add(1, SeqCst);
    barrier.wait();
    (2 * n, std::process::id())
}

#[cloud_fn]
fn work(n: u64, millis: u64) -> (u64, u32) {
    RUNS.fetch_add(1, SeqCst);
    machine::sleep(Duration::from_millis(millis));
    *LOCK.lock().unwrap() += 1;
    (2 * n, std::process::id())
}

#[cloud_fn]
fn fail(how: &str) {
    RUNS.fetch_add(1, SeqCst);
    println!("about to {how}");
    match how {
        "panic" => panic!("index out of range"),
        "panic at length" => panic!("{}", "x".repeat(7 << 20)),
        "exit" => std::process::exit(3),
        "sleep" => machine::sleep(Duration::from_secs(60)),
        "allocate" => {
            let bytes = vec![1u8; 600 << 20];
            machine::sleep(Duration::from_secs(30));
            println!("{}", bytes.len());
        }
        "chatter" => {
            for n in 0..1000 {
                println!("line {n}");
            }
        }
        _ => {}
    }
}

#[cloud_fn(timeout = "1s")]
fn linger() {
    println!("process {}", std::process::id());
    machine::sleep(Duration::from_secs(60));
}

/// Exits as often as it is told, then succeeds.
#[cloud_fn(retries = 2)]
fn flaky(failures: u64) -> u64 {
    let run = RUNS.fetch_add(1, SeqCst);
    if run < failures {
        std::process::exit(1);
    }
    run
}

#[cloud_fn]
fn echo(bytes: Vec<u8>, fails: bool) -> Vec<u8> {
    assert!(!fails, "told to fail");
    bytes.into_iter().rev().collect()
}

/// A tree of cloud threads: each starts two more.
#[cloud_fn]
fn tree(depth: u32) -> u32 {
    if depth == 0 {
        return 1;
    }
    let branches: Vec<_> = (0..2).map(|_| thread::spawn(|| tree(depth - 1))).collect();
    branches.into_iter().map(|branch| branch.join().unwrap()).sum()
}

fn tell<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Ok(value) => println!("result: {value:?}"),
        Err(error) => println!("error: {error}"),
    }
}

/// Runs so many threads, and prints the sum of their results and how many processes they ran in.
fn sum(threads: Vec<thread::JoinHandle<(u64, u32)>>) {
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let processes: BTreeSet<_> = results.iter().map(|(_, pid)| pid).collect();
    println!("sum {} in {} processes", results.iter().map(|(n, _)| n).sum::<u64>(), processes.len());
    println!("runs {}", RUNS.load(SeqCst));
}

/// Waits until somebody writes a line.
fn wait_for_line() {
    println!("waiting");
    io::stdin().read_line(&mut String::new()).unwrap();
}

#[crucial::main]
fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    let number = |n: usize| args[n].parse::<u64>().unwrap();
    match args[0].as_str() {
        "nothing" => println!("started"),
        "meet" => {
            let barrier = Barrier::new(number(1) as usize);
            sum((0..number(1)).map(|n| thread::spawn(|| meet(&barrier, n))).collect());
        }
        "work" => sum((0..number(1)).map(|n| thread::spawn(|| work(n, number(2)))).collect()),
        "fail" => {
            tell(thread::spawn(|| fail(&args[1])).join());
            println!("runs {}", RUNS.load(SeqCst));
        }
        "linger" => tell(thread::spawn(linger()).join()),
        "flaky" => tell(thread::spawn(flaky(number(1))).join()),
        "echo" => {
            let bytes: Vec<u8> = (0..number(1)).map(|n| n as u8).collect();
            let mut result = thread::spawn(|| echo(bytes.clone(), args[2] == "fail")).join();
            if let Ok(echoed) = &mut result {
                echoed.reverse();
                println!("{} bytes, {}", echoed.len(), if *echoed == bytes { "the same" } else { "others" });
            }
            tell(result.map(drop));
            wait_for_line();
        }
        "tree" => println!("{} leaves", thread::spawn(tree(number(1) as u32)).join().unwrap()),
        "pauses" => {
            for _ in 0..number(1) {
                let (_, pid) = thread::spawn(work(1, 0)).join().unwrap();
                println!("process {pid}");
                wait_for_line();
            }
            println!("locked {}, runs {}", *LOCK.lock().unwrap(), RUNS.load(SeqCst));
        }
        other => panic!("no such command: {other}"),
    }
}
