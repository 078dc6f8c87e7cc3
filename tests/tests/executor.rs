//! Executors: order, limits, cancellation, the two shutdowns.

use std::time::{Duration, Instant};

use crucial::{
    Error, cloud_fn,
    executor::Executor,
    run::Run,
    sync::{
        Barrier, Semaphore,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    test, thread,
};
use tests::{
    assert_says, begin, eventually, in_processes,
    objects::{Journal, Tally},
    panic_of,
    server::OwnRun,
};

fn executor(concurrency: usize) -> Executor {
    Executor::builder().concurrency(concurrency).build().unwrap()
}

#[cloud_fn]
fn square(x: u64) -> u64 {
    x * x
}

#[cloud_fn]
fn note(log: &Journal, token: u64) -> u64 {
    log.push(token);
    token
}

#[cloud_fn]
fn wait(log: &Journal, gate: &Semaphore, token: u64) -> u64 {
    log.push(token);
    gate.take(1);
    token
}

#[cloud_fn]
fn wait_in_process(started: &Journal, never: &Semaphore) -> u64 {
    started.push(std::process::id().into());
    never.take(1);
    0
}

#[cloud_fn]
fn fails(message: &str) -> u64 {
    panic!("it fails: {message}")
}

fn has_ended(pid: u64) -> bool {
    !tests::process::is_alive(u32::try_from(pid).unwrap())
}

#[test(modes(embedded, processes, server))]
fn tasks_run_and_their_handles_are_those_of_threads() {
    let executor = Executor::builder().concurrency(2).name("squarer").build().unwrap();
    let handle = executor.submit(|| square(3)).unwrap();
    assert_eq!(handle.thread().name(), Some("squarer"));
    assert!(handle.thread().function().ends_with("executor::square"));
    assert_eq!(handle.join(), Ok(9));
    assert_eq!(crucial::run::block_on(executor.submit(square(4)).unwrap()), Ok(16));
    let error = executor.submit(|| fails("here")).unwrap().join().unwrap_err();
    assert_says(&error, &["executor::fails` panicked (attempt 1): it fails: here"]);
    let retried = Executor::builder().retries(1).build().unwrap();
    assert_says(&retried.submit(|| fails("x")).unwrap().join().unwrap_err(), &["(attempt 2)"]);
    assert_eq!(retried.submit(name).unwrap().join(), Ok(None));
    assert_eq!(executor.submit(name).unwrap().join(), Ok(Some("squarer".to_owned())));
}

#[cloud_fn]
fn name() -> Option<String> {
    thread::current().name().map(str::to_owned)
}

#[test(modes(embedded, processes, server))]
fn tasks_start_in_order_and_no_more_at_once_than_set() {
    let (log, gate) = (Journal::new(), Semaphore::new(0));
    let one = executor(1);
    let handles: Vec<_> = (0..5).map(|n| one.submit(|| wait(&log, &gate, n)).unwrap()).collect();
    for n in 0..5 {
        eventually("the next one starts", || log.tokens().len() == n + 1);
        assert!(handles[n..].iter().all(|handle| !handle.is_finished()));
        gate.add_permits(1);
        eventually("it ends", || handles[n].is_finished());
    }
    let results: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    assert_eq!(results, [0, 1, 2, 3, 4]);
    assert_eq!(log.tokens(), [0, 1, 2, 3, 4]);

    // And two do run at once.
    let (two, barrier, inside) = (executor(2), Barrier::new(2), AtomicU64::new(0));
    let most = two.invoke_all((0..6).map(|_| meet(&barrier, &inside))).into_iter().map(Result::unwrap).max();
    assert!(most <= Some(3), "{most:?}");
}

#[cloud_fn]
fn meet(barrier: &Barrier, inside: &AtomicU64) -> u64 {
    let now = inside.fetch_add(1, SeqCst) + 1;
    barrier.wait();
    inside.fetch_sub(1, SeqCst);
    now
}

#[cloud_fn]
fn even(x: u64) -> u64 {
    assert!(x.is_multiple_of(2), "{x} is odd");
    x
}

#[test(modes(embedded, processes, server))]
fn invoke_all_gives_all_results_in_order() {
    let executor = executor(3);
    let squares: Result<Vec<_>, _> = executor.invoke_all((0..10).map(square)).into_iter().collect();
    assert_eq!(squares.unwrap(), (0..10).map(|x| x * x).collect::<Vec<_>>());
    let results = executor.invoke_all((0..4).map(|x| move || even(x)));
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false]);
    assert_says(results[3].as_ref().unwrap_err(), &["3 is odd"]);
    assert!(executor.invoke_all(Vec::<crucial::Task<u64>>::new()).is_empty());
}

#[test(modes(embedded, processes, server))]
fn invoke_all_aborts_what_is_late() {
    let (executor, log, never) = (executor(1), Journal::new(), Semaphore::new(0));
    // When the time is up, one waits for ever or hasn't started, and the others wait for their turn.
    let tasks = (0..3).map(|n| wait(&log, &never, n));
    let results = executor.invoke_all_timeout(tasks, Duration::from_millis(200));
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|result| matches!(result, Err(Error::FunctionCancelled { .. }))));
    let results = executor.invoke_all_timeout([note(&log, 7), note(&log, 8)], Duration::from_secs(600));
    assert_eq!(results, [Ok(7), Ok(8)]);
    assert!(!log.tokens().contains(&1) && !log.tokens().contains(&2));
    never.add_permits(1);
}

#[test(modes(embedded, processes, server))]
fn invoke_any_gives_the_first_success_and_stops_the_others() {
    let (started, never) = (Journal::new(), Semaphore::new(0));
    let executor = executor(3);
    let log = Journal::new();
    // Failures don't count; two wait for ever; the last one never gets a slot while they have theirs.
    let tasks = [
        fails("first"),
        wait_in_process(&started, &never),
        wait_in_process(&started, &never),
        when_two(&started),
        note(&log, 1),
    ];
    // The order of the queue: the failure's slot goes to the one that succeeds.
    assert_eq!(executor.invoke_any(tasks), Ok(2));
    eventually("the others have ended", || !in_processes() || started.tokens().into_iter().all(has_ended));
    assert_eq!(started.tokens().len(), 2);
    // Nothing is left in the queue but what begins now.
    assert_eq!(executor.submit(|| note(&log, 2)).unwrap().join(), Ok(2));
    executor.shutdown();
    assert!(log.tokens().contains(&2));
    never.add_permits(2);
}

#[cloud_fn]
fn when_two(started: &Journal) -> u64 {
    eventually("two have started", || started.tokens().len() == 2);
    2
}

#[test(modes(embedded, processes, server))]
fn queued_tasks_of_invoke_any_never_start() {
    let (one, log, never) = (executor(1), Journal::new(), Semaphore::new(0));
    assert_eq!(one.invoke_any((0..50).map(|n| wait_unless_first(&log, &never, n))), Ok(0));
    one.shutdown();
    // The second one may have started before the first one's result was seen.
    assert!(log.tokens().len() <= 2, "{:?}", log.tokens());
    never.add_permits(2);
}

#[cloud_fn]
fn wait_unless_first(log: &Journal, never: &Semaphore, n: u64) -> u64 {
    log.push(n);
    if n > 0 {
        never.take(1);
    }
    n
}

#[test(modes(embedded, processes, server))]
fn invoke_any_fails_if_all_do_or_if_it_takes_too_long() {
    let executor = executor(1);
    let error = executor.invoke_any([fails("one"), fails("two")]).unwrap_err();
    assert_says(&error, &["it fails: two"]);
    let (started, never) = (Journal::new(), Semaphore::new(0));
    let tasks = [wait_in_process(&started, &never)];
    let error = executor.invoke_any_timeout(tasks, Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_says(&error, &["invoke_any_timeout timed out after 300ms"]);
    assert_eq!(executor.invoke_any_timeout([square(5)], Duration::from_secs(600)), Ok(25));
    let message = panic_of(|| executor.invoke_any(Vec::<crucial::Task<u64>>::new()));
    assert_says(&message, &["at least one task"]);
    never.add_permits(1);
}

#[test(modes(embedded, processes, server))]
fn an_aborted_task_leaves_the_queue_or_is_stopped() {
    let (one, started, log) = (executor(1), Journal::new(), Journal::new());
    let never = Semaphore::new(0);
    let running = one.submit(|| wait_in_process(&started, &never)).unwrap();
    let queued = one.submit(|| note(&log, 1)).unwrap();
    eventually("it starts", || !started.tokens().is_empty());
    queued.abort();
    assert!(matches!(queued.join(), Err(Error::FunctionCancelled { .. })));
    running.abort();
    assert!(matches!(running.join(), Err(Error::FunctionCancelled { .. })));
    eventually("its process is killed", || !in_processes() || has_ended(started.tokens()[0]));
    // Its slot is free.
    assert_eq!(one.submit(|| note(&log, 2)).unwrap().join(), Ok(2));
    assert_eq!(log.tokens(), [2]);
    never.add_permits(1);
}

#[test(modes(embedded, processes, server))]
fn shutdown_waits_for_all_and_takes_no_more() {
    let (one, log, gate) = (executor(1), Journal::new(), Semaphore::new(0));
    let handles: Vec<_> = (0..3).map(|n| one.submit(|| wait(&log, &gate, n)).unwrap()).collect();
    assert!(!one.is_shutdown());
    assert!(!one.shutdown_timeout(Duration::from_millis(50)), "it can't have ended");
    assert!(one.is_shutdown());
    assert!(matches!(one.submit(|| square(1)), Err(Error::ExecutorShutDown)));
    assert!(matches!(one.invoke_all([square(1)])[..], [Err(Error::ExecutorShutDown)]));
    assert!(matches!(one.invoke_any([square(1)]), Err(Error::ExecutorShutDown)));
    let mut shutdown = begin({
        let (one, log) = (std::sync::Arc::new(one), log.clone());
        move || {
            one.shutdown();
            one.shutdown();
            log.push(100);
        }
    });
    eventually("the first one starts", || !log.tokens().is_empty());
    assert!(shutdown.is_running());
    gate.add_permits(3);
    shutdown.within("it shuts down");
    assert_eq!(log.tokens(), [0, 1, 2, 100]);
    assert!(handles.into_iter().zip(0..).all(|(handle, n)| handle.is_finished() && handle.join() == Ok(n)));
}

#[test(modes(embedded, processes, server))]
fn shutdown_now_stops_what_runs_and_drops_what_waits() {
    let (one, started, log) = (executor(1), Journal::new(), Journal::new());
    let never = Semaphore::new(0);
    let running = one.submit(|| wait_in_process(&started, &never)).unwrap();
    eventually("it starts", || !started.tokens().is_empty());
    let queued: Vec<_> = (0..3).map(|n| one.submit(|| note(&log, n)).unwrap()).collect();
    let start = Instant::now();
    assert_eq!(one.shutdown_now(), 3);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(one.shutdown_now(), 0);
    assert!(matches!(running.join(), Err(Error::FunctionCancelled { .. })));
    for handle in queued {
        let error = handle.join().unwrap_err();
        assert_says(&error, &["executor::note` was cancelled"]);
    }
    one.shutdown();
    assert!(log.tokens().is_empty());
    assert!(matches!(one.submit(|| square(1)), Err(Error::ExecutorShutDown)));
    eventually("its process is killed", || !in_processes() || has_ended(started.tokens()[0]));
    never.add_permits(1);
}

#[test(modes(embedded, processes, server))]
fn what_was_submitted_outlives_its_executor() {
    let (gate, done) = (Semaphore::new(0), Tally::new(0));
    let one = executor(1);
    for _ in 0..3 {
        drop(one.submit(|| pass(&gate, &done)).unwrap());
    }
    drop(one);
    gate.add_permits(3);
    assert_eq!(done.reach(3), 3);
}

#[cloud_fn]
fn pass(gate: &Semaphore, done: &Tally) {
    gate.take(1);
    done.add(1);
}

#[test(modes(embedded, processes, server))]
fn a_task_has_time_for_itself_not_for_the_queue() {
    let one = Executor::builder().concurrency(1).timeout(Duration::from_secs(2)).build().unwrap();
    // Together they take longer than each may.
    let results = one.invoke_all((0..3).map(doze));
    assert_eq!(results, [Ok(0), Ok(1), Ok(2)]);
    let (started, never) = (Journal::new(), Semaphore::new(0));
    let one = Executor::builder().timeout(Duration::from_millis(300)).build().unwrap();
    let error = one.submit(|| wait_in_process(&started, &never)).unwrap().join().unwrap_err();
    assert_says(&error, &["wait_in_process", "attempt 1", "timed out"]);
    never.add_permits(1);
}

#[cloud_fn]
fn doze(n: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(800));
    n
}

#[test(modes(embedded, processes, server))]
fn an_executor_explains_itself_in_a_current_thread_runtime() {
    let _run = OwnRun::enter((**Run::current().unwrap().config()).clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let executor = executor(1);
        assert_eq!(executor.submit(|| square(3)).unwrap().await, Ok(9));
        for error in executor.invoke_all([square(1), square(2)]) {
            assert!(matches!(error, Err(Error::BlockingInAsync { .. })));
        }
        assert!(matches!(executor.invoke_any([square(1)]), Err(Error::BlockingInAsync { .. })));
        assert_says(&panic_of(|| executor.shutdown()), &["Executor::shutdown", "current-thread"]);
        assert_eq!(executor.shutdown_now(), 0);
    });
}

#[cloud_fn]
fn nested(n: u64) -> u64 {
    let executor = Executor::builder().concurrency(2).build().unwrap();
    let sum = executor.invoke_all((0..n).map(square)).into_iter().map(Result::unwrap).sum();
    executor.shutdown();
    sum
}

#[test(modes(embedded, processes, server))]
fn executors_work_in_cloud_threads() {
    assert_eq!(executor(2).invoke_all([nested(3), nested(4)]), [Ok(5), Ok(14)]);
}

#[test(modes(embedded, processes, server))]
fn a_progress_bar_changes_nothing() {
    let executor = Executor::builder().progress("squaring").build().unwrap();
    assert_eq!(executor.invoke_all((0..3).map(square)), [Ok(0), Ok(1), Ok(4)]);
    executor.shutdown();
}
