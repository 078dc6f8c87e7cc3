//! The program that the tests start: every role of it, and clients that do one thing each.

use std::{io::Write, time::Duration};

use crucial::{cloud_fn, executor::Executor, iter::IntoCloudIterator, shared, sync::Barrier, thread};
use tests::objects::{Journal, Tally};

#[shared]
static STARTED: Barrier = Barrier::new(4);

#[shared]
static PIDS: Journal = Journal::new();

#[shared]
static NEVER: Tally = Tally::new(0);

/// Says hello on both streams.
#[cloud_fn]
fn hello(n: u64) {
    println!("hello {n} out");
    eprintln!("hello {n} err");
}

/// Waits for what never comes.
#[cloud_fn]
fn wait_for_ever() {
    PIDS.push(std::process::id().into());
    STARTED.wait();
    NEVER.take(1);
}

#[crucial::main]
fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("hello") => {
            for n in 0..2 {
                thread::spawn(|| hello(n)).join().unwrap();
            }
        }
        // An iterator and an executor that show how far they are, while functions print.
        Some("progress") => {
            let items = (0..6).into_cloud_iter().with_chunk(1).with_concurrency(2);
            items.progress("greeting").for_each(hello);
            let executor = Executor::builder().concurrency(2).progress("greeting again").build().unwrap();
            executor.invoke_all((6..9).map(hello)).into_iter().for_each(|result| result.unwrap());
            executor.shutdown();
        }
        // Three cloud threads that wait; says their processes when all have begun.
        Some("wait") => {
            let threads: Vec<_> = (0..3).map(|_| thread::spawn(wait_for_ever)).collect();
            STARTED.wait();
            println!("waiting {:?}", PIDS.tokens());
            std::io::stdout().flush().unwrap();
            for thread in threads {
                thread.join().unwrap();
            }
        }
        Some("sleep") => std::thread::sleep(Duration::from_secs(600)),
        Some("panic") => panic!("as it should"),
        other => println!("client {other:?}"),
    }
}
