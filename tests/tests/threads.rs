//! Cloud threads: results, failures, retries and limits, as threads and as processes.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crucial::{
    BackendKind, Config, Data, Error, cloud_fn,
    run::Run,
    shared,
    sync::{
        Barrier, Semaphore,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    test, thread,
};
use tests::{
    app, assert_says, eventually, in_processes,
    objects::{Journal, Tally},
    server::OwnRun,
};

/// This run's settings, for a run that differs in something.
fn config() -> Config {
    (**Run::current().unwrap().config()).clone()
}

#[cloud_fn]
fn nothing() {}

#[cloud_fn]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[cloud_fn]
fn divide(a: u64, b: u64) -> Result<u64, String> {
    a.checked_div(b).ok_or_else(|| "by zero".to_owned())
}

#[cloud_fn]
async fn later(tally: &Tally, text: &str, numbers: &[u32]) -> (String, u32, u64) {
    let before = tally.remote().add(1).await.unwrap();
    tokio::task::yield_now().await;
    (text.to_uppercase(), numbers.iter().sum(), before)
}

/// The largest of the values, and the place of it, counted from `FROM`.
#[cloud_fn(instances(largest<u32, 0>, largest<String, 1>))]
fn largest<T, const FROM: usize>(values: &[T], at_least: T) -> Option<(T, usize)>
where
    T: Data + Ord + Clone,
{
    let (at, value) = values.iter().enumerate().max_by_key(|(_, value)| *value)?;
    (*value >= at_least).then(|| (value.clone(), at + FROM))
}

#[cloud_fn(retries = 1, instances(kind<u8>, kind<Vec<u8>>))]
async fn kind<T: Data + Default>() -> (String, T) {
    tokio::task::yield_now().await;
    (std::any::type_name::<T>().to_owned(), T::default())
}

#[cloud_fn]
fn process() -> u32 {
    std::process::id()
}

/// Generic code calls a generic cloud function.
fn largest_of<T: Data + Ord + Clone>(values: &[T], at_least: T) -> crucial::Result<Option<(T, usize)>> {
    thread::Builder::new().spawn(|| largest::<T, 1>(values, at_least))?.join()
}

#[test(modes(embedded, processes, server))]
fn generic_functions_run_as_their_instances() {
    let words = ["at", "the", "owl", "and"].map(str::to_owned);
    assert_eq!(largest_of(&words, "o".to_owned()), Ok(Some(("the".to_owned(), 2))));
    assert_eq!(largest_of(&words, "u".to_owned()), Ok(None));
    assert_eq!(thread::spawn(|| largest::<u32, 0>(&[3, 8, 5], 0)).join(), Ok(Some((8, 1))));
    assert_eq!(thread::spawn(kind::<u8>).join(), Ok(("u8".to_owned(), 0)));
    assert!(thread::spawn(kind::<Vec<u8>>).join().unwrap().1.is_empty());
    assert!(largest::<u32, 0>(&[1], 0).name().ends_with("::largest<u32, 0>"));

    // It isn't another's result, nor is it found out only in the process.
    let error = largest_of(&[1_u32], 0).unwrap_err();
    assert_says(
        &error,
        &["::largest` is not registered for `<u32, 1>`", "`#[cloud_fn(instances(largest<u32, 1>))]`"],
    );
    assert!(std::panic::catch_unwind(|| kind::<String>().here()).is_err());
}

#[test(modes(embedded, processes, server))]
fn results_come_back() {
    let () = thread::spawn(nothing).join().unwrap();
    let () = thread::spawn(nothing()).join().unwrap();
    assert_eq!(thread::spawn(|| add(2, 3)).join(), Ok(5));
    assert_eq!(thread::spawn(|| divide(6, 3)).join(), Ok(Ok(2)));
    assert_eq!(thread::spawn(|| divide(6, 0)).join(), Ok(Err("by zero".to_owned())));
    let tally = Tally::new(8);
    let thread = thread::spawn(|| later(&tally, "text", &[1, 2, 3]));
    assert_eq!(thread.join(), Ok(("TEXT".to_owned(), 6, 8)));
    assert_eq!(tally.get(), 9);
    assert_eq!(thread::spawn(process).join().unwrap() == std::process::id(), !in_processes());
}

#[test(modes(embedded, processes, server))]
fn a_handle_knows_its_thread_and_can_be_awaited() {
    let thread = thread::Builder::new().name("adder").spawn(|| add(1, 1)).unwrap();
    assert_eq!(thread.thread().name(), Some("adder"));
    assert!(thread.thread().function().ends_with("threads::add"));
    eventually("the thread ends", || thread.is_finished());
    assert_eq!(crucial::run::block_on(thread), Ok(2));
    assert!(thread::available_parallelism().unwrap().get() >= 1);
}

#[cloud_fn]
fn tree(depth: u32, width: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    let children: Vec<_> = (0..width).map(|_| thread::spawn(|| tree(depth - 1, width))).collect();
    children.into_iter().map(|child| child.join().unwrap()).sum()
}

#[test(modes(embedded, processes, server))]
fn threads_start_threads() {
    assert_eq!(thread::spawn(|| tree(2, 3)).join(), Ok(9));
    let roots: Vec<_> = (0..3).map(|_| thread::spawn(|| tree(1, 2))).collect();
    assert_eq!(roots.into_iter().map(|root| root.join().unwrap()).sum::<u64>(), 6);
}

#[cloud_fn]
fn fails(message: &str) -> u64 {
    panic!("it fails: {message}")
}

#[cloud_fn]
async fn fails_later() {
    panic!("it fails later")
}

#[cloud_fn]
fn joins_one_that_fails() -> u64 {
    thread::spawn(|| fails("within")).join().unwrap()
}

#[test(modes(embedded, processes, server))]
fn a_panic_reaches_join() {
    let error = thread::spawn(|| fails("as it should")).join().unwrap_err();
    let Error::FunctionPanicked { function, attempt, message } = &error else { panic!("{error}") };
    assert!(function.ends_with("threads::fails"));
    assert_eq!((*attempt, &**message), (1, "it fails: as it should"));
    assert_says(&error, &["threads::fails` panicked (attempt 1): it fails: as it should"]);
    assert_says(&thread::spawn(fails_later).join().unwrap_err(), &["it fails later"]);
    // As `unwrap` words it, through two levels.
    assert_says(
        &thread::spawn(joins_one_that_fails).join().unwrap_err(),
        &["joins_one_that_fails", "it fails: within"],
    );
    // The instance goes on.
    assert_eq!(thread::spawn(|| add(1, 2)).join(), Ok(3));
}

#[cloud_fn(retries = 2)]
fn fails_twice(attempts: &AtomicU64) -> u64 {
    let attempt = attempts.fetch_add(1, SeqCst) + 1;
    assert!(attempt > 2, "attempt {attempt} fails");
    attempt
}

#[cloud_fn(retries = 1)]
fn fails_always(attempts: &AtomicU64) {
    let attempt = attempts.fetch_add(1, SeqCst) + 1;
    panic!("attempt {attempt} fails");
}

#[test(modes(embedded, processes, server))]
fn failed_attempts_are_repeated() {
    let attempts = AtomicU64::new(0);
    assert_eq!(thread::spawn(|| fails_twice(&attempts)).join(), Ok(3));

    let attempts = AtomicU64::new(0);
    let error = thread::spawn(|| fails_always(&attempts)).join().unwrap_err();
    assert_says(&error, &["fails_always` panicked (attempt 2): attempt 2 fails"]);
    assert_eq!(attempts.load(SeqCst), 2);
}

#[test(modes(embedded, processes, server))]
fn a_builder_wins_over_the_attribute_and_that_over_the_configuration() {
    let attempts = AtomicU64::new(0);
    let spawn = |retries| thread::Builder::new().retries(retries).spawn(|| fails_always(&attempts)).unwrap();
    assert_says(&spawn(0).join().unwrap_err(), &["attempt 1"]);
    assert_says(&spawn(2).join().unwrap_err(), &["(attempt 3)"]);
    assert_eq!(attempts.load(SeqCst), 4);

    let mut config = config();
    config.retries = 1;
    let _run = OwnRun::enter(config);
    assert_says(&thread::spawn(|| fails("x")).join().unwrap_err(), &["(attempt 2)"]);
    let once = thread::Builder::new().retries(0).spawn(|| fails("x")).unwrap();
    assert_says(&once.join().unwrap_err(), &["(attempt 1)"]);
}

#[cloud_fn(timeout = "300ms")]
fn waits_too_long(never: &Semaphore, started: &Journal) {
    started.push(std::process::id().into());
    never.take(1);
}

#[cloud_fn]
fn starts_one_that_waits_too_long(never: &Semaphore, started: &Journal) -> String {
    let start = Instant::now();
    let error = thread::spawn(|| waits_too_long(never, started)).join().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(20));
    error.to_string()
}

#[test(modes(embedded, processes, server))]
fn a_thread_that_takes_too_long_is_given_up() {
    let (never, started) = (Semaphore::new(0), Journal::new());
    let error = thread::spawn(|| waits_too_long(&never, &started)).join().unwrap_err();
    assert!(matches!(error, Error::FunctionFailed { .. }), "{error}");
    assert_says(&error, &["waits_too_long", "attempt 1", "timed out"]);
    let pid = u32::try_from(started.tokens()[0]).unwrap();
    if in_processes() {
        eventually("its process is killed", || !tests::process::is_alive(pid));
    } else {
        assert_says(&error, &["can't be stopped and runs on"]);
    }
    let error = thread::spawn(|| starts_one_that_waits_too_long(&never, &started)).join().unwrap();
    assert_says(&error, &["waits_too_long", "timed out"]);
    never.add_permits(2);
}

#[cloud_fn(timeout = "300ms", retries = 2)]
fn takes_too_long_at_first(attempts: &AtomicU64, slow: u64, never: &Semaphore) -> u64 {
    let attempt = attempts.fetch_add(1, SeqCst) + 1;
    if attempt <= slow {
        never.take(1);
    }
    attempt
}

#[test(modes(embedded, processes, server))]
fn each_attempt_has_its_own_time() {
    let (attempts, never) = (AtomicU64::new(0), Semaphore::new(0));
    assert_eq!(thread::spawn(|| takes_too_long_at_first(&attempts, 2, &never)).join(), Ok(3));
    let attempts = AtomicU64::new(0);
    let error = thread::spawn(|| takes_too_long_at_first(&attempts, 3, &never)).join().unwrap_err();
    assert_says(&error, &["takes_too_long_at_first", "attempt 3", "timed out"]);
    assert_eq!(attempts.load(SeqCst), 3);
    never.add_permits(5);
}

#[test(modes(embedded, processes, server))]
fn threads_are_spawned_and_awaited_in_a_current_thread_runtime() {
    // A run that has not yet started anything.
    let _run = OwnRun::enter(config());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (a, b) = (thread::spawn(|| add(1, 2)), thread::spawn(|| add(3, 4)));
        assert_eq!((a.await, b.await), (Ok(3), Ok(7)));
        let error = thread::spawn(|| add(1, 2)).join().unwrap_err();
        assert!(matches!(error, Error::BlockingInAsync { .. }), "{error}");
        assert_says(&error, &["join", "`.await` the handle"]);
        let message = tests::panic_of(|| thread::scope(|_| ()));
        assert_says(&message, &["thread::scope", "current-thread"]);
    });
}

#[cloud_fn]
fn who_am_i() -> (thread::ThreadId, Option<String>, String) {
    let me = thread::current();
    (me.id(), me.name().map(str::to_owned), me.function().to_owned())
}

#[cloud_fn(retries = 1)]
fn who_am_i_at_last(ids: &Journal) -> Vec<u64> {
    let id = format!("{:?}", thread::current().id());
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).rev().take(15).collect();
    ids.push(u64::from_str_radix(&digits, 16).unwrap());
    assert!(ids.tokens().len() > 1, "the first attempt fails");
    ids.tokens()
}

#[cloud_fn]
async fn who_waits() -> Option<String> {
    tokio::task::yield_now().await;
    thread::current().name().map(str::to_owned)
}

#[test(modes(embedded, processes, server))]
fn a_thread_knows_itself() {
    let named = thread::Builder::new().name("one and\0only").spawn(who_am_i).unwrap();
    let known = named.thread().clone();
    let (id, name, function) = named.join().unwrap();
    assert_eq!((id, name.as_deref()), (known.id(), Some("one and\0only")));
    assert_eq!(function, known.function());
    let (other, name, _) = thread::spawn(who_am_i).join().unwrap();
    assert_eq!(name, None);
    assert_ne!(id, other);
    // It stays the same thread when it is tried again.
    let ids = thread::spawn(|| who_am_i_at_last(&Journal::new())).join().unwrap();
    assert_eq!(ids[0], ids[1]);
    let waits = thread::Builder::new().name("waits").spawn(who_waits).unwrap();
    assert_eq!(waits.join().unwrap().as_deref(), Some("waits"));
    // A thread that isn't a cloud thread.
    let here = thread::current();
    assert_eq!(here.id(), thread::current().id());
    assert_eq!(here.name(), std::thread::current().name());
    assert_eq!(here.function(), "");
    // Nor does a task that runs here make another thread of this one.
    assert_eq!(who_am_i().here().0, here.id());
}

thread_local! {
    static COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cloud_fn]
fn count_locally() -> u32 {
    COUNT.replace(COUNT.get() + 1)
}

#[test(modes(embedded, processes, server))]
fn thread_local_values_start_anew() {
    let mut config = config();
    config.concurrency = Some(1);
    let _run = OwnRun::enter(config);
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(count_locally)).collect();
    assert!(threads.into_iter().all(|thread| thread.join() == Ok(0)));
}

#[cloud_fn]
fn parks(unparked: &Journal, times: u64, ready: &Tally) {
    ready.add(1);
    for n in 0..times {
        thread::park();
        unparked.push(n);
        ready.add(1);
    }
}

#[cloud_fn]
fn unparks(thread: &thread::Thread) {
    thread.unpark();
}

#[test(modes(embedded, processes, server))]
fn unpark_lets_a_parked_thread_go_on() {
    let (unparked, ready) = (Journal::new(), Tally::new(0));
    let parked = thread::spawn(|| parks(&unparked, 2, &ready));
    ready.reach(1);
    assert!(unparked.tokens().is_empty());
    // From this thread, then from another cloud thread, with a handle that has travelled.
    parked.thread().unpark();
    ready.reach(2);
    assert_eq!(unparked.tokens(), [0]);
    thread::spawn(|| unparks(parked.thread())).join().unwrap();
    parked.join().unwrap();
    assert_eq!(unparked.tokens(), [0, 1]);
}

#[cloud_fn]
fn parks_for_a_token(gate: &Semaphore) -> bool {
    gate.take(1);
    thread::park();
    // There is no second token: this one ends by its time.
    let start = Instant::now();
    thread::park_timeout(Duration::from_millis(50));
    start.elapsed() >= Duration::from_millis(50)
}

#[test(modes(embedded, processes, server))]
fn a_token_waits_and_there_is_only_one() {
    let gate = Semaphore::new(0);
    let parked = thread::spawn(|| parks_for_a_token(&gate));
    parked.thread().unpark();
    parked.thread().unpark();
    gate.add_permits(1);
    assert_eq!(parked.join(), Ok(true));

    // The same for a thread that isn't a cloud thread.
    let here = thread::current();
    here.unpark();
    here.unpark();
    thread::park();
    let start = Instant::now();
    thread::park_timeout(Duration::from_millis(50));
    assert!(start.elapsed() >= Duration::from_millis(50));
    thread::spawn(|| unparks(&here)).join().unwrap();
    thread::park_timeout(Duration::ZERO);
    thread::spawn(|| unparks(&here)).join().unwrap();
    thread::park_timeout(Duration::from_secs(600));
}

#[cloud_fn(timeout = "1s", retries = 1)]
fn parks_in_its_second_attempt(attempts: &AtomicU64, never: &Semaphore, first_ends: &Tally) -> u64 {
    let attempt = attempts.fetch_add(1, SeqCst) + 1;
    // Both use the thread's token, which is the same object.
    thread::park_timeout(Duration::ZERO);
    if attempt == 1 {
        never.take(1);
        first_ends.add(1);
    } else {
        thread::current().unpark();
        never.add_permits(1);
        first_ends.reach(1);
        // Long enough for the first attempt to end altogether, in most cases.
        std::thread::sleep(Duration::from_millis(50));
        thread::park();
    }
    attempt
}

#[test(modes(embedded, server))]
fn an_attempt_that_was_given_up_leaves_the_token_to_the_next() {
    let (attempts, never, first_ends) = (AtomicU64::new(0), Semaphore::new(0), Tally::new(0));
    let thread = thread::spawn(|| parks_in_its_second_attempt(&attempts, &never, &first_ends));
    assert_eq!(thread.join(), Ok(2));
}

#[cloud_fn(retries = 3)]
fn waits_for_ever(started: &Journal, never: &Semaphore) {
    started.push(std::process::id().into());
    never.take(1);
}

#[cloud_fn]
fn aborts_one_that_waits(started: &Journal, never: &Semaphore) -> String {
    let thread = thread::spawn(|| waits_for_ever(started, never));
    eventually("it starts", || !started.tokens().is_empty());
    thread.abort();
    thread.join().unwrap_err().to_string()
}

#[test(modes(embedded, processes, server))]
fn an_aborted_thread_is_stopped_where_it_can_be() {
    let never = Semaphore::new(0);
    let started = Journal::new();
    let thread = thread::spawn(|| waits_for_ever(&started, &never));
    eventually("it starts", || !started.tokens().is_empty());
    let abort = thread.abort_handle();
    abort.abort();
    abort.abort();
    let error = thread.join().unwrap_err();
    assert_says(&error, &["waits_for_ever` was cancelled"]);

    let nested = Journal::new();
    let error = thread::spawn(|| aborts_one_that_waits(&nested, &never)).join().unwrap();
    assert_says(&error, &["waits_for_ever` was cancelled"]);
    for journal in [&started, &nested] {
        if in_processes() {
            let pid = u32::try_from(journal.tokens()[0]).unwrap();
            eventually("its process is killed", || !tests::process::is_alive(pid));
        }
        // No attempt follows.
        assert_eq!(journal.tokens().len(), 1);
    }
    never.add_permits(10);

    // One that has ended keeps its result.
    let thread = thread::spawn(|| add(1, 2));
    eventually("it ends", || thread.is_finished());
    thread.abort();
    assert_eq!(thread.join(), Ok(3));
}

/// Many are aborted when their process has answered, or is about to, and the next one gets it.
#[test(modes(embedded, processes, server))]
fn an_abort_ends_nothing_else() {
    let mut config = config();
    config.concurrency = Some(1);
    let _run = OwnRun::enter(config);
    let done = Tally::new(0);
    for n in 0..60 {
        let first = thread::spawn(|| contribute_to(&done));
        let second = thread::spawn(|| contribute_to(&done));
        thread::sleep(Duration::from_micros(n * 20));
        first.abort();
        second.join().unwrap();
    }
}

#[test(modes(embedded, processes, server))]
fn an_aborted_thread_that_waits_for_its_turn_never_starts() {
    let mut config = config();
    config.concurrency = Some(1);
    let _run = OwnRun::enter(config);
    let (gate, done) = (Semaphore::new(0), Tally::new(0));
    let first = thread::spawn(|| open(&gate, &done));
    let second = thread::spawn(|| contribute_to(&done));
    second.abort();
    assert!(matches!(second.join(), Err(Error::FunctionCancelled { .. })));
    gate.add_permits(1);
    first.join().unwrap();
    // Had it kept its place, it would be before this one.
    thread::spawn(|| contribute_to(&done)).join().unwrap();
    assert_eq!(done.get(), 101);
}

#[cloud_fn]
fn contribute_to(done: &Tally) {
    done.add(100);
}

#[cloud_fn(memory = "64MB")]
fn uses_too_much(bytes: usize) -> usize {
    let mut held = Vec::new();
    // In pieces, each of them written to, with time for whoever watches.
    while held.len() * (1 << 20) < bytes {
        held.push(vec![1_u8; 1 << 20]);
        std::thread::sleep(Duration::from_millis(2));
    }
    held.iter().map(|piece| usize::from(piece[7])).sum()
}

#[test(modes(processes))]
fn a_process_that_uses_too_much_memory_is_killed() {
    assert_eq!(thread::spawn(|| uses_too_much(1 << 20)).join(), Ok(1));
    let error = thread::spawn(|| uses_too_much(1 << 30)).join().unwrap_err();
    assert_says(&error, &["uses_too_much", "attempt 1", "OutOfMemory"]);
    assert_eq!(thread::spawn(|| add(1, 2)).join(), Ok(3));
    // More than the attribute allows, if the builder says so.
    let more = thread::Builder::new().memory(300).spawn(|| uses_too_much(100 << 20)).unwrap();
    assert_eq!(more.join(), Ok(100));
}

#[cloud_fn]
fn ends(how: &str) {
    match how {
        "exit" => std::process::exit(3),
        "exit 0" => std::process::exit(0),
        "abort" => std::process::abort(),
        _ => {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
            std::thread::park();
        }
    }
}

#[cloud_fn(retries = 1)]
fn exits_once(attempts: &AtomicU64) -> u64 {
    if attempts.fetch_add(1, SeqCst) == 0 {
        println!("the last words");
        std::process::exit(9);
    }
    attempts.load(SeqCst)
}

#[test(modes(processes))]
fn a_process_that_ends_is_an_error_of_its_thread() {
    for (how, reason) in [
        ("exit", "exit status 3"),
        ("exit 0", "Runtime exited"),
        ("abort", "signal: aborted"),
        ("kill", "signal: killed"),
    ] {
        let error = thread::spawn(|| ends(how)).join().unwrap_err();
        assert!(matches!(error, Error::FunctionFailed { attempt: 1, .. }), "{error}");
        assert_says(&error, &["threads::ends", reason]);
    }
    let attempts = AtomicU64::new(0);
    assert_eq!(thread::spawn(|| exits_once(&attempts)).join(), Ok(2));
    attempts.store(0, SeqCst);
    let once = thread::Builder::new().retries(0).spawn(|| exits_once(&attempts)).unwrap();
    assert_says(&once.join().unwrap_err(), &["exit status 9", "the last words"]);
}

#[cloud_fn]
fn count_at_once(inside: &AtomicU64) -> u64 {
    let now = inside.fetch_add(1, SeqCst) + 1;
    // Long enough for another one to come in, if it could.
    std::thread::sleep(Duration::from_millis(20));
    inside.fetch_sub(1, SeqCst);
    now
}

#[cloud_fn]
fn meet(barrier: &Barrier) {
    barrier.wait();
}

#[test(modes(embedded, processes, server))]
fn no_more_run_at_once_than_configured() {
    let mut config = config();
    config.concurrency = Some(2);
    let _run = OwnRun::enter(config);
    let inside = AtomicU64::new(0);
    let threads: Vec<_> = (0..12).map(|_| thread::spawn(|| count_at_once(&inside))).collect();
    let most = threads.into_iter().map(|t| t.join().unwrap()).max();
    assert!(most <= Some(2), "{most:?} threads ran at once");
    // And two do run at once.
    let barrier = Barrier::new(2);
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| meet(&barrier))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(thread::available_parallelism().unwrap().get(), 2);
}

#[cloud_fn]
fn meet_in_process(barrier: &Barrier) -> u32 {
    barrier.wait();
    std::process::id()
}

/// This run's settings, with `hybrid` as its back end.
fn hybrid(threads: usize, concurrency: Option<usize>) -> Config {
    let mut config = config();
    config.backend = BackendKind::Hybrid;
    config.hybrid_threads = Some(threads);
    config.concurrency = concurrency;
    config
}

#[test(modes(embedded, server))]
fn hybrid_fills_threads_first_and_overflows_to_processes() {
    let _run = OwnRun::enter(hybrid(2, Some(16)));
    for _ in 0..2 {
        // Nobody leaves before all are there.
        let barrier = Barrier::new(5);
        let threads: Vec<_> = (0..5).map(|_| thread::spawn(|| meet_in_process(&barrier))).collect();
        let pids: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let me = std::process::id();
        assert_eq!(pids[..2], [me, me]);
        assert!(pids[2..].iter().all(|pid| *pid != me), "{pids:?}");
    }
    // The results are those of any other back end.
    let barrier = Barrier::new(2);
    let waits: Vec<_> =
        (0..2).map(|_| thread::Builder::new().name("waits").spawn(|| meet(&barrier))).collect();
    assert_eq!(thread::spawn(|| tree(2, 2)).join(), Ok(4));
    waits.into_iter().for_each(|thread| thread.unwrap().join().unwrap());
    let never = Semaphore::new(0);
    let both: Vec<_> = (0..2).map(|_| thread::spawn(|| never_ends(&never))).collect();
    let error = thread::Builder::new().retries(1).spawn(|| fails("elsewhere")).unwrap().join().unwrap_err();
    assert_says(&error, &["threads::fails` panicked (attempt 2): it fails: elsewhere"]);
    both.iter().for_each(thread::JoinHandle::abort);
    never.add_permits(2);
    two_hundred();
}

#[cloud_fn]
fn never_ends(never: &Semaphore) {
    never.take(1);
}

#[test(modes(embedded, server))]
fn the_limit_of_hybrid_is_for_both_together() {
    {
        let _run = OwnRun::enter(hybrid(2, Some(3)));
        assert_eq!(thread::available_parallelism().unwrap().get(), 3);
        let inside = AtomicU64::new(0);
        let threads: Vec<_> = (0..12).map(|_| thread::spawn(|| count_at_once(&inside))).collect();
        let most = threads.into_iter().map(|t| t.join().unwrap()).max();
        assert!(most <= Some(3), "{most:?} threads ran at once");
    }
    // Without room for others, nothing overflows.
    let _run = OwnRun::enter(hybrid(4, Some(2)));
    let pids: Vec<_> = (0..6).map(|_| thread::spawn(process)).collect();
    assert!(pids.into_iter().all(|pid| pid.join() == Ok(std::process::id())));
}

#[cloud_fn]
fn open(gate: &Semaphore, done: &Tally) {
    gate.take(1);
    done.add(1);
}

#[test(modes(embedded, processes, server))]
fn a_thread_whose_handle_is_dropped_runs_on() {
    let (gate, done) = (Semaphore::new(0), Tally::new(0));
    for _ in 0..3 {
        drop(thread::spawn(|| open(&gate, &done)));
    }
    gate.add_permits(3);
    assert_eq!(done.reach(3), 3);
}

#[shared]
static TOTAL: AtomicU64 = AtomicU64::new(0);

#[cloud_fn]
fn contribute(n: u64) -> u64 {
    TOTAL.fetch_add(n, SeqCst);
    n
}

fn two_hundred() {
    let threads: Vec<_> = (0..200).map(|n| thread::spawn(move || contribute(n))).collect();
    let joined: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!((joined, TOTAL.load(SeqCst)), (19_900, 19_900));
}

#[test(modes(embedded, server))]
fn two_hundred_threads_at_once() {
    two_hundred();
}

#[test(modes(processes))]
fn two_hundred_threads_at_once_in_processes() {
    // As many processes as a laptop has room for; the others wait.
    let mut config = config();
    config.concurrency = Some(16);
    let _run = OwnRun::enter(config);
    two_hundred();
}

#[test(modes(embedded, processes, server))]
fn a_thread_of_a_run_that_has_ended_fails() {
    let run = Run::start(config()).unwrap();
    let entered = run.enter();
    let tally = Tally::new(0);
    run.end();
    assert!(thread::spawn(|| later(&tally, "x", &[])).join().is_err());
    drop(entered);
}

#[::core::prelude::v1::test]
fn what_functions_print_reaches_the_client() {
    for backend in ["threads", "processes"] {
        let output = Command::new(app!()).arg("hello").env("CRUCIAL_BACKEND", backend).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        for (text, stream) in [(output.stdout, "out"), (output.stderr, "err")] {
            let text = String::from_utf8(text).unwrap();
            let mut lines: Vec<_> = text.lines().collect();
            let expected = [0, 1].map(|n| format!("hello {n} {stream}"));
            if backend == "processes" {
                for line in &mut lines {
                    let (prefix, rest) = line.split_once("] ").unwrap_or_else(|| panic!("{text}"));
                    assert!(prefix.starts_with("[process "), "{text}");
                    *line = rest;
                }
            }
            assert_eq!(lines, expected);
        }
    }
}

mod by_hand {
    //! A function process that gets events nobody else would send.

    use crucial::run;
    use crucial_runtime::{
        function::FunctionInfo,
        lambda::{Function, InvokeOptions, LocalLambda},
        support::inventory,
    };
    use serde_json::{Value, json};
    use tests::{app, assert_says};

    fn event(function: &str, fingerprint: u64) -> Value {
        json!({
            "function": function,
            "fingerprint": format!("{fingerprint:032x}"),
            "args": { "inline": "kA==" },
            "attempt": 1,
            "run": format!("{:032x}", 1),
            "servers": ["127.0.0.1:1"],
            "invoke": { "local": "127.0.0.1:1" },
        })
    }

    #[test]
    fn a_function_that_differs_or_is_unknown_is_refused() {
        // This program's function `nothing` isn't the app's.
        let known =
            inventory::iter::<FunctionInfo>.into_iter().find(|f| f.name.ends_with("threads::nothing"));
        let known = known.unwrap();
        assert!(crucial_runtime::function::lookup(known.name, known.fingerprint).is_ok());
        let differs = crucial_runtime::function::lookup(known.name, known.fingerprint ^ 1).unwrap_err();
        assert_says(&differs, &["threads::nothing", "redeploy"]);

        let lambda = LocalLambda::start(Function::new("crucial", app!()), |_| ());
        let lambda = run::block_on(lambda).unwrap();
        let invoke = |event: Value| {
            let answer = run::block_on(lambda.invoke(event.to_string().into(), InvokeOptions::default()));
            String::from_utf8_lossy(&answer.unwrap().payload).into_owned()
        };
        assert_says(
            &invoke(event("app::missing", 1)),
            &["UnknownFunction", "app::missing", "app::wait_for_ever"],
        );
        assert_says(&invoke(event("app::hello", 1)), &["FunctionDiffers", "app::hello"]);
        assert_says(&invoke(json!({ "no": "event" })), &["error"]);
        // The process is none the worse for it.
        assert_says(&invoke(event("app::hello", 1)), &["FunctionDiffers", "app::hello"]);
        run::block_on(lambda.shutdown());
    }
}
