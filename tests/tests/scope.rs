//! Scoped cloud threads: what `std::thread::scope` promises.

use crucial::{
    Error, cloud_fn,
    sync::{Barrier, Semaphore},
    test, thread,
};
use tests::{
    assert_says,
    objects::{Journal, Tally},
    panic_of,
};

#[cloud_fn]
fn sum(numbers: &[u64]) -> u64 {
    numbers.iter().sum()
}

#[cloud_fn]
fn fails(message: &str) {
    panic!("it fails: {message}")
}

#[cloud_fn]
fn finish(gate: &Semaphore, done: &Tally) {
    gate.take(1);
    done.add(1);
}

#[test(modes(embedded, processes, server))]
fn threads_borrow_what_they_get_and_scope_returns_a_value() {
    let numbers: Vec<u64> = (0..100).collect();
    let total = thread::scope(|s| {
        let halves: Vec<_> = numbers.chunks(50).map(|half| s.spawn(|| sum(half))).collect();
        halves.into_iter().map(|half| half.join().unwrap()).sum::<u64>()
    });
    assert_eq!(total, 4950);
    assert_eq!(thread::scope(|_| "nothing"), "nothing");
}

#[test(modes(embedded, processes, server))]
fn all_threads_have_ended_after_the_scope() {
    let (gate, done) = (Semaphore::new(0), Tally::new(0));
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| finish(&gate, &done));
        }
        let kept = thread::Builder::new().name("kept").spawn_scoped(s, || finish(&gate, &done)).unwrap();
        assert_eq!(kept.thread().name(), Some("kept"));
        assert!(!kept.is_finished());
        gate.add_permits(4);
    });
    assert_eq!(done.get(), 4);
}

#[test(modes(embedded, processes, server))]
fn a_thread_that_fails_fails_the_scope_when_all_have_ended() {
    let (gate, done) = (Semaphore::new(0), Tally::new(0));
    let message = panic_of(|| {
        thread::scope(|s| {
            s.spawn(|| fails("alone"));
            s.spawn(|| finish(&gate, &done));
            gate.add_permits(1);
        })
    });
    assert_says(&message, &["a scoped thread panicked", "it fails: alone"]);
    assert_eq!(done.get(), 1);
}

#[test(modes(embedded, processes, server))]
fn a_failure_that_was_joined_is_the_callers() {
    let said = thread::scope(|s| {
        let error = s.spawn(|| fails("in company")).join().unwrap_err();
        let awaited = crucial::run::block_on(s.spawn(|| fails("again"))).unwrap_err();
        [error.to_string(), awaited.to_string()]
    });
    assert_says(&said[0], &["it fails: in company"]);
    assert_says(&said[1], &["it fails: again"]);
}

#[test(modes(embedded, processes, server))]
fn the_closures_own_panic_comes_through_when_all_have_ended() {
    let (gate, done) = (Semaphore::new(0), Tally::new(0));
    let message = panic_of(|| {
        thread::scope(|s| {
            s.spawn(|| fails("as well"));
            s.spawn(|| finish(&gate, &done));
            gate.add_permits(1);
            panic!("the closure fails");
        })
    });
    assert_eq!(message, "the closure fails");
    assert_eq!(done.get(), 1);
}

#[test(modes(embedded, processes, server))]
fn a_thread_that_was_aborted_does_not_fail_the_scope() {
    let (never, done) = (Semaphore::new(0), Tally::new(0));
    thread::scope(|s| s.spawn(|| finish(&never, &done)).abort());
    thread::scope(|s| {
        let thread = s.spawn(|| finish(&never, &done));
        thread.abort_handle().abort();
        assert!(matches!(thread.join(), Err(Error::FunctionCancelled { .. })));
    });
    assert_eq!(done.get(), 0);
    never.add_permits(2);
}

#[cloud_fn]
fn nested(journal: &Journal, barrier: &Barrier) {
    thread::scope(|s| {
        for token in 0..2 {
            s.spawn(|| note(journal, barrier, token));
        }
    });
    journal.push(2);
}

#[cloud_fn]
fn note(journal: &Journal, barrier: &Barrier, token: u64) {
    barrier.wait();
    journal.push(token);
}

#[test(modes(embedded, processes, server))]
fn scopes_nest_in_cloud_threads() {
    let (journal, barrier) = (Journal::new(), Barrier::new(2));
    thread::scope(|s| {
        s.spawn(|| nested(&journal, &barrier));
    });
    let mut tokens = journal.tokens();
    assert_eq!(tokens.pop(), Some(2));
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1]);
}
