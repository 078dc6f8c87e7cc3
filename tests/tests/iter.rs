//! Parallel iterators: order, chunks, workers, failures.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use crucial::{
    Error, cloud_fn,
    iter::IntoCloudIterator,
    sync::{
        Barrier, Semaphore,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    test,
    thread::{self, ThreadId},
};
use serde::{Deserialize, Serialize};
use tests::{assert_says, eventually, in_processes, objects::Journal, objects::Tally, panic_of};

#[cloud_fn]
fn square(x: u64) -> u64 {
    x * x
}

#[cloud_fn]
fn worker(_: u64) -> ThreadId {
    thread::current().id()
}

#[test(modes(embedded, processes, server))]
fn results_have_the_order_of_the_items() {
    for chunk in [1, 3, 7, 100] {
        let squares: Vec<_> = (0..50).into_cloud_iter().with_chunk(chunk).map(square).collect();
        assert_eq!(squares, (0..50).map(|x| x * x).collect::<Vec<_>>());
    }
    let all: Vec<u64> = Vec::<u64>::new().into_cloud_iter().map(square).collect();
    assert!(all.is_empty());
    let words = ["a", "b"].map(str::to_owned);
    let shouted: BTreeSet<_> = words.iter().into_cloud_iter().map(|word| shout(word, 2)).collect();
    assert_eq!(shouted, BTreeSet::from(["A!!".to_owned(), "B!!".to_owned()]));
}

#[cloud_fn]
fn shout(word: &str, marks: usize) -> String {
    word.to_uppercase() + &"!".repeat(marks)
}

#[cloud_fn]
async fn double_later(x: u64) -> u64 {
    tokio::task::yield_now().await;
    2 * x
}

#[test(modes(embedded, processes, server))]
fn results_are_combined() {
    assert_eq!((0..1000).into_cloud_iter().map(square).sum::<u64>(), 332_833_500);
    assert_eq!((1..=20).into_cloud_iter().with_chunk(3).map(double_later).reduce(|| 7, |a, b| a + b), 427);
    // In order: this operation isn't commutative.
    let joined = (0..9).into_cloud_iter().with_chunk(2).map(digit).reduce(String::new, |a, b| a + &b);
    assert_eq!(joined, "012345678");
    let total = AtomicU64::new(0);
    (1..=100).into_cloud_iter().for_each(|n| add(&total, n));
    assert_eq!(total.load(SeqCst), 5050);
}

#[cloud_fn]
fn digit(n: u64) -> String {
    n.to_string()
}

#[cloud_fn]
fn add(total: &AtomicU64, n: u64) {
    total.fetch_add(n, SeqCst);
}

fn workers(ids: &[ThreadId]) -> usize {
    ids.iter().copied().collect::<std::collections::HashSet<_>>().len()
}

#[test(modes(embedded, processes, server))]
fn a_worker_gets_a_chunk() {
    let ids: Vec<_> = (0..10).into_cloud_iter().with_chunk(4).map(worker).collect();
    assert_eq!(workers(&ids), 3);
    assert!([0..4, 4..8, 8..10].into_iter().all(|chunk| workers(&ids[chunk]) == 1));
    // Four chunks for each worker.
    let ids: Vec<_> = (0..80).into_cloud_iter().with_concurrency(2).map(worker).collect();
    assert_eq!(workers(&ids), 8);
    // Fewer items than that are a chunk each.
    let ids: Vec<_> = (0..3).into_cloud_iter().with_concurrency(2).map(worker).collect();
    assert_eq!(workers(&ids), 3);
    // A chunk is full when its arguments are large.
    let large = vec![1.0; 100_000];
    let sums: Vec<_> = (0..6).into_cloud_iter().with_chunk(6).map(|_| sum_and_worker(&large)).collect();
    assert!(sums.iter().all(|(sum, _)| *sum == 100_000.0));
    assert_eq!(workers(&sums.into_iter().map(|(_, worker)| worker).collect::<Vec<_>>()), 2);
}

#[cloud_fn]
fn sum_and_worker(numbers: &[f64]) -> (f64, ThreadId) {
    (numbers.iter().sum(), thread::current().id())
}

#[cloud_fn]
fn mebibyte(n: u64, runs: &AtomicU64) -> (ThreadId, String) {
    runs.fetch_add(1, SeqCst);
    assert!(n != 5, "no fives");
    (thread::current().id(), n.to_string().repeat(1 << 20))
}

#[test(modes(embedded, processes, server))]
fn large_results_take_several_workers() {
    let runs = AtomicU64::new(0);
    // Together they are larger than what a function may answer.
    let results = (0..10).into_cloud_iter().with_chunk(10).map(|n| mebibyte(n, &runs)).results();
    let mut ids = Vec::new();
    for (n, result) in results.enumerate() {
        match result {
            Ok((id, text)) => {
                assert_eq!((text.len(), text.starts_with(&n.to_string())), (1 << 20, true));
                ids.push(id);
            }
            Err(error) => {
                assert_eq!(n, 5);
                assert_says(&error, &["mebibyte", "no fives"]);
            }
        }
    }
    assert_eq!(ids.len(), 9);
    assert!(workers(&ids) > 2, "{ids:?}");
    // What was left by one worker was not begun by it.
    assert_eq!(runs.load(SeqCst), 10);
}

#[cloud_fn]
fn name_of_worker(_: u64) -> (Option<String>, String) {
    let me = thread::current();
    (me.name().map(str::to_owned), me.function().to_owned())
}

#[test(modes(embedded, processes, server))]
fn a_worker_has_its_builders_name_and_its_function() {
    let builder = thread::Builder::new().name("painter");
    let all = (0..2).into_cloud_iter().with_builder(builder).map(name_of_worker).collect::<Vec<_>>();
    for (name, function) in all {
        assert_eq!(name.as_deref(), Some("painter"));
        assert!(function.ends_with("iter::name_of_worker"));
    }
}

#[test(modes(embedded, processes, server))]
fn an_endless_iterator_is_taken_from_as_needed() {
    let taken = Cell::new(0);
    let items = (0_u64..).inspect(|_| taken.set(taken.get() + 1));
    let first: Vec<_> =
        items.into_cloud_iter().with_chunk(2).with_concurrency(2).map(square).into_iter().take(5).collect();
    assert_eq!(first, [0, 1, 4, 9, 16]);
    // Two chunks for each worker are under way; how many are done before the fifth result is taken is up to the machine.
    assert!(taken.get() < 4000, "{} items were taken", taken.get());
}

#[cloud_fn]
fn wait_if(gate: &Semaphore, n: u64, waits: u64) -> u64 {
    if n == waits {
        gate.take(1);
    }
    n
}

#[test(modes(embedded, processes, server))]
fn results_come_as_they_are_there() {
    let gate = Semaphore::new(0);
    let items = || (0..4).into_cloud_iter().with_chunk(1).with_concurrency(2);
    let mut results = items().map(|n| wait_if(&gate, n, 0)).unordered();
    let early: BTreeSet<_> = results.by_ref().take(3).map(|(n, result)| (n, result.unwrap())).collect();
    assert_eq!(early, BTreeSet::from([(1, 1), (2, 2), (3, 3)]));
    gate.add_permits(1);
    assert_eq!(results.next(), Some((0, Ok(0))));
    assert_eq!(results.next(), None);
    // In order, those that are before the slow one.
    let mut results = items().map(|n| wait_if(&gate, n, 2)).into_iter();
    assert_eq!((results.next(), results.next()), (Some(0), Some(1)));
    gate.add_permits(1);
    assert_eq!((results.next(), results.next(), results.next()), (Some(2), Some(3), None));
}

#[cloud_fn]
fn meet(barrier: &Barrier, inside: &AtomicU64) -> u64 {
    let now = inside.fetch_add(1, SeqCst) + 1;
    barrier.wait();
    inside.fetch_sub(1, SeqCst);
    now
}

#[test(modes(embedded, processes, server))]
fn as_many_workers_run_at_once_as_are_set() {
    let (barrier, inside) = (Barrier::new(3), AtomicU64::new(0));
    let items = (0..12).into_cloud_iter().with_chunk(1).with_concurrency(3);
    // With fewer they would wait for ever; with more, there would be more inside before one leaves.
    let most = items.map(|_| meet(&barrier, &inside)).into_iter().max();
    assert!(most <= Some(5), "{most:?}");
}

#[cloud_fn]
fn fails_at(n: u64, bad: u64) -> u64 {
    assert!(n != bad, "{n} is bad");
    n
}

#[cloud_fn]
fn fails_at_first(attempts: &[AtomicU64], n: u64) -> u64 {
    assert!(attempts[n as usize].fetch_add(1, SeqCst) > 0 || n.is_multiple_of(2), "{n} is odd");
    attempts[n as usize].load(SeqCst)
}

#[test(modes(embedded, processes, server))]
fn a_panic_names_item_and_attempt() {
    let items = || (0..8).into_cloud_iter().with_chunk(4);
    let message = panic_of(|| items().map(|n| fails_at(n, 5)).collect::<Vec<_>>());
    assert_says(&message, &["item 5: ", "iter::fails_at` panicked (attempt 1): 5 is bad"]);
    let message = panic_of(|| items().for_each(fails_at_unit));
    assert_says(&message, &["item 3: ", "attempt 1", "3 is bad"]);
    // As a value, beside the results of the others of its chunk.
    let results: Vec<_> = items().map(|n| fails_at(n, 5)).results().collect();
    for (n, result) in (0..).zip(&results) {
        assert_eq!(result.is_err(), n == 5);
    }
    let all: Result<Vec<_>, Error> = items().map(|n| fails_at(n, 5)).results().collect();
    assert_says(&all.unwrap_err(), &["5 is bad"]);

    // Only what failed is tried again.
    let retries = |n| thread::Builder::new().retries(n);
    let message = panic_of(|| items().with_builder(retries(2)).map(|n| fails_at(n, 6)).collect::<Vec<_>>());
    assert_says(&message, &["item 6: ", "(attempt 3): 6 is bad"]);
    let attempts: Vec<_> = (0..8).map(|_| AtomicU64::new(0)).collect();
    let done = items().with_builder(retries(1)).map(|n| fails_at_first(&attempts, n)).collect::<Vec<_>>();
    assert_eq!(done, [1, 2, 1, 2, 1, 2, 1, 2]);
}

#[cloud_fn]
fn fails_at_unit(n: u64) {
    assert!(n != 3, "{n} is bad");
}

#[cloud_fn]
fn inverse(x: u64) -> Result<u64, String> {
    100_u64.checked_div(x).ok_or_else(|| format!("{x} has no inverse"))
}

#[test(modes(embedded, processes, server))]
fn a_result_is_collected_up_to_the_first_error() {
    let collect = |items: Vec<u64>| items.into_cloud_iter().map(inverse).collect::<Result<Vec<_>, _>>();
    assert_eq!(collect(vec![1, 2, 4]), Ok(vec![100, 50, 25]));
    assert_eq!(collect(vec![1, 0, 4]), Err("0 has no inverse".to_owned()));
    let taken = Cell::new(0);
    let items = (0_u64..).inspect(|_| taken.set(taken.get() + 1));
    let endless = items.into_cloud_iter().with_chunk(1).with_concurrency(2);
    assert!(endless.map(|x| inverse(10 - x.min(10))).collect::<Result<Vec<_>, _>>().is_err());
    assert!(taken.get() < 4000, "{} items were taken", taken.get());
}

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

#[cloud_fn]
fn begin(log: &Journal, state: u64) {
    STATE.set(STATE.get() + state);
    log.push(1000);
}

#[cloud_fn]
fn use_state(log: &Journal, n: u64) -> u64 {
    log.push(n);
    assert!(n != 13, "13 is bad");
    STATE.replace(STATE.get() + 1)
}

#[cloud_fn]
fn end(log: &Journal) {
    log.push(2000 + STATE.get());
}

#[test(modes(embedded, processes, server))]
fn a_worker_begins_and_ends_once() {
    let log = Journal::new();
    // One worker at a time, so that the order is certain.
    let items = |range: std::ops::Range<u64>| {
        let (log, workers) = (log.clone(), range.into_cloud_iter().with_concurrency(1));
        workers.init(|| begin(&log, 100)).finish(|| end(&log))
    };
    let states: Vec<_> = items(0..5).with_chunk(3).map(|n| use_state(&log, n)).collect();
    // Each worker has its own state, from its initialiser.
    assert_eq!(states, [100, 101, 102, 100, 101]);
    assert_eq!(log.tokens(), [1000, 0, 1, 2, 2103, 1000, 3, 4, 2102]);

    // Without a chunk size, each worker gets its whole share.
    let before = log.tokens().len();
    items(20..30).for_each(|n| note(&log, n));
    assert_eq!(log.tokens().len(), before + 12);

    // A worker ends properly when an item has panicked.
    let before = log.tokens().len();
    let results: Vec<_> = items(12..15).with_chunk(3).map(|n| use_state(&log, n)).results().collect();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(log.tokens()[before..], [1000, 12, 13, 14, 2102]);
}

#[cloud_fn]
fn note(log: &Journal, n: u64) {
    log.push(n);
}

#[cloud_fn]
fn breaks(what: &str) {
    panic!("{what} breaks")
}

#[test(modes(embedded, processes, server))]
fn a_worker_that_cannot_begin_or_end_fails_its_items() {
    let log = Journal::new();
    let items = || (0..2).into_cloud_iter().with_chunk(2);
    let message = panic_of(|| items().init(|| breaks("init")).for_each(|n| note(&log, n)));
    assert_says(&message, &["item 0: ", "iter::breaks` panicked (attempt 1): init breaks"]);
    assert!(log.tokens().is_empty());
    let results: Vec<_> = items().finish(|| breaks("finish")).map(square).results().collect();
    for result in results {
        assert_says(&result.unwrap_err(), &["iter::breaks", "finish breaks"]);
    }
}

#[cloud_fn]
fn exits_at(n: u64, bad: u64) -> u64 {
    if n == bad {
        std::process::exit(3);
    }
    n
}

#[cloud_fn]
fn exits_once(n: u64, exited: &AtomicU64) -> u64 {
    if n == 2 && exited.fetch_add(1, SeqCst) == 0 {
        std::process::exit(3);
    }
    n
}

#[test(modes(processes))]
fn a_process_that_ends_fails_its_items() {
    let items = || (0..6).into_cloud_iter().with_chunk(3);
    let results: Vec<_> = items().map(|n| exits_at(n, 1)).results().collect();
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(_) => assert!(n > 2),
            Err(error) => {
                assert_says(error, &["iter::exits_at", "attempt 1", "exit status 3", "had items 0 to 2"])
            }
        }
    }
    // With retries, each item is tried on its own, and only the one that ends its process fails.
    let builder = || thread::Builder::new().retries(1);
    let results: Vec<_> = items().with_builder(builder()).map(|n| exits_at(n, 1)).results().collect();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true, true, true]);
    let error = results[1].as_ref().unwrap_err().to_string();
    assert_says(&error, &["attempt 2", "exit status 3"]);
    assert!(!error.contains("had items"), "{error}");
    let exited = AtomicU64::new(0);
    let all: Vec<_> = items().with_builder(builder()).map(|n| exits_once(n, &exited)).collect();
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
}

#[cloud_fn]
fn wait_for_ever(started: &Journal, never: &Semaphore) {
    started.push(std::process::id().into());
    never.take(1);
}

#[test(modes(embedded, processes, server))]
fn an_item_that_takes_too_long_fails() {
    let (started, never) = (Journal::new(), Semaphore::new(0));
    let items =
        [()].into_cloud_iter().with_builder(thread::Builder::new().timeout(Duration::from_millis(300)));
    let message = panic_of(|| items.for_each(|()| wait_for_ever(&started, &never)));
    assert_says(&message, &["item 0: ", "iter::wait_for_ever", "attempt 1", "timed out"]);
    never.add_permits(1);
}

#[test(modes(embedded, processes, server))]
fn what_is_under_way_is_aborted_with_the_iterator() {
    let (started, never) = (Journal::new(), Semaphore::new(0));
    let items = (0..10).into_cloud_iter().with_chunk(1).with_concurrency(2);
    let mut results = items.map(|n| first_only(n, &started, &never)).unordered();
    assert_eq!(results.next(), Some((0, Ok(()))));
    eventually("others have started", || !started.tokens().is_empty());
    drop(results);
    if in_processes() {
        for pid in started.tokens() {
            let pid = u32::try_from(pid).unwrap();
            eventually("their processes are killed", || !tests::process::is_alive(pid));
        }
    }
    assert!(started.tokens().len() <= 2);
    never.add_permits(10);
}

#[cloud_fn]
fn first_only(n: u64, started: &Journal, never: &Semaphore) {
    if n > 0 {
        started.push(std::process::id().into());
        never.take(1);
    }
}

#[test(modes(embedded, processes, server))]
fn a_closure_may_choose_the_function() {
    let items = (0..6).into_cloud_iter().with_chunk(4);
    let results: Vec<_> = items.map(|n| if n < 3 { square(n) } else { double_later(n) }).collect();
    assert_eq!(results, [0, 1, 4, 6, 8, 10]);
}

#[cloud_fn]
fn sum_of_squares(n: u64) -> u64 {
    (0..n).into_cloud_iter().with_chunk(2).map(square).sum()
}

#[test(modes(embedded, processes, server))]
fn iterators_nest() {
    let sums: Vec<_> = [3, 4].into_cloud_iter().map(sum_of_squares).collect();
    assert_eq!(sums, [5, 14]);
}

/// What can't always be encoded.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Choosy(#[serde(serialize_with = "no_threes")] u64);

fn no_threes<S: serde::Serializer>(n: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *n == 3 { Err(serde::ser::Error::custom("no threes")) } else { serializer.serialize_u64(*n) }
}

#[cloud_fn]
fn take(choosy: Choosy) -> Choosy {
    choosy
}

#[test(modes(embedded, processes, server))]
fn an_argument_that_cannot_be_encoded_fails_its_item() {
    let items = (0..6).into_cloud_iter().with_chunk(2).map(|n| take(Choosy(n)));
    let results: Vec<_> = items.results().collect();
    assert_eq!(results.len(), 6);
    assert_says(results[3].as_ref().unwrap_err(), &["no threes"]);
    assert_eq!(results[4], Ok(Choosy(4)));
}

#[test(modes(embedded, processes, server))]
fn an_iterator_explains_itself_in_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let message = runtime.block_on(async { panic_of(|| (0..2).into_cloud_iter().map(square).sum::<u64>()) });
    assert_says(&message, &["a parallel iterator", "current-thread"]);
}

#[test(modes(embedded, processes, server))]
fn a_progress_bar_changes_nothing() {
    let sum: u64 = (0..100).into_cloud_iter().progress("squaring").map(square).sum();
    assert_eq!(sum, 328_350);
    let tally = Tally::new(0);
    (0..3_u64).filter(|n| *n > 0).into_cloud_iter().progress("counting").for_each(|n| count(&tally, n));
    assert_eq!(tally.get(), 3);
}

#[cloud_fn]
fn count(tally: &Tally, n: u64) {
    tally.add(n);
}
