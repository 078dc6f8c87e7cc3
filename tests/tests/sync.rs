//! Locks, condition variables, once cells, latches and reducers do what std's documentation promises, wherever objects
//! and threads are.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::TryLockError,
    time::{Duration, Instant},
};

use crucial::{
    Shared, cloud_fn, shared,
    sync::{
        Condvar, Latch, LazyLock, Mutex, Once, OnceLock, Reducer, RwLock, RwLockWriteGuard, Semaphore,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    test, thread,
};
use tests::{assert_says, begin, eventually, in_time, objects::Journal, panic_of};

/// Long enough for what must not happen to happen.
const MOMENT: Duration = Duration::from_millis(50);

#[shared]
fn add(total: &mut u64, by: u64) -> u64 {
    *total += by;
    *total
}

#[shared]
fn keep_max(highest: &mut u64, other: u64) {
    *highest = (*highest).max(other);
}

#[shared]
fn length(text: &String) -> usize {
    text.len()
}

#[shared]
fn fail(_: &mut u64) {
    panic!("no such luck");
}

// ---- Mutex

#[cloud_fn]
fn increment(mutex: &Mutex<u64>, times: u32) {
    for _ in 0..times {
        let mut n = mutex.lock().unwrap();
        let before = *n;
        thread::yield_now();
        *n = before + 1;
    }
}

#[test(modes(embedded, processes, server))]
fn a_mutex_excludes() {
    let mutex = Mutex::new(0);
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| increment(&mutex, 25))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*mutex.lock().unwrap(), 100);
    assert_eq!(mutex.into_inner().unwrap(), 100);
}

#[test(modes(embedded, processes, server))]
fn try_lock_does_not_wait() {
    let mutex = Mutex::from("a".to_owned());
    let guard = mutex.lock().unwrap();
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    drop(guard);
    mutex.try_lock().unwrap().push('b');
    let guard = mutex.lock().unwrap();
    assert_eq!(format!("{guard} {guard:?}"), "ab \"ab\"");
    drop(guard);
    assert_eq!(*Mutex::<u64>::default().lock().unwrap(), 0);
}

#[cloud_fn]
fn panic_with(mutex: &Mutex<Vec<u32>>) {
    let mut guard = mutex.lock().unwrap();
    guard.push(1);
    panic!("in the middle");
}

#[test(modes(embedded, processes, server))]
fn a_panic_poisons_a_mutex() {
    let mutex = Mutex::new(vec![0]);
    assert!(!mutex.is_poisoned());
    assert_says(&thread::spawn(|| panic_with(&mutex)).join().unwrap_err(), &["in the middle"]);
    assert!(mutex.is_poisoned());
    // As in std, what it wrote is there, and whoever wants can have it.
    let poisoned = mutex.lock().unwrap_err();
    assert_eq!(**poisoned.get_ref(), [0, 1]);
    drop(poisoned);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    assert_eq!(mutex.clone().into_inner().unwrap_err().into_inner(), [0, 1]);

    let mutex = Mutex::new(vec![]);
    thread::spawn(|| panic_with(&mutex)).join().unwrap_err();
    mutex.clear_poison();
    assert!(!mutex.is_poisoned());
    assert_eq!(*mutex.lock().unwrap(), [1]);
}

#[test(modes(embedded, processes, server))]
fn a_guard_that_is_dropped_by_an_old_panic_poisons_nothing() {
    struct Locks<'a>(&'a Mutex<u64>);
    impl Drop for Locks<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0);
    panic_of(|| {
        let _locks = Locks(&mutex);
        panic!("outside of the lock");
    });
    assert!(!mutex.is_poisoned());
    assert_eq!(*mutex.lock().unwrap(), 1);
}

#[cloud_fn]
fn lock_and_note(mutex: &Mutex<u64>, arrived: &Latch, journal: &Journal, number: u64) {
    arrived.count_down(1);
    let _guard = mutex.lock().unwrap();
    journal.push(number);
}

#[test(modes(embedded, processes, server))]
fn a_mutex_is_given_in_the_order_of_arrival() {
    let (mutex, journal) = (Mutex::new(0), Journal::new());
    let guard = mutex.lock().unwrap();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let arrived = Latch::new(1);
            let thread = thread::spawn(|| lock_and_note(&mutex, &arrived, &journal, number));
            arrived.wait();
            // Its next call is the lock's.
            std::thread::sleep(4 * MOMENT);
            thread
        })
        .collect();
    assert!(journal.tokens().is_empty());
    drop(guard);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(journal.tokens(), [0, 1, 2, 3]);
}

#[test(modes(embedded, processes, server))]
fn a_mutex_is_updated_on_the_server() {
    let mutex = Mutex::new(1);
    assert_eq!(mutex.update_with(add, 2).unwrap(), 3);
    let guard = mutex.lock().unwrap();
    let mut update = begin({
        let mutex = mutex.clone();
        move || mutex.update_with(add, 3).unwrap()
    });
    std::thread::sleep(MOMENT);
    assert!(update.is_running(), "it waits for the lock");
    assert_eq!(*guard, 3);
    drop(guard);
    assert_eq!(update.within("the lock is free"), 6);
    // The function's panic leaves the object itself in doubt.
    assert_says(&panic_of(|| mutex.update_with(fail, ())), &["no such luck"]);
    assert_says(&panic_of(|| mutex.lock().map(drop)), &["poisoned"]);
    Shared::clear_poison(&mutex).unwrap();
    assert_eq!(*mutex.lock().unwrap(), 6);
}

#[shared]
static LOG: Mutex<Vec<String>> = Mutex::new(vec!["first".to_owned()]);

#[cloud_fn]
fn write_log(text: &str) {
    LOG.lock().unwrap().push(text.to_owned());
}

#[test(modes(embedded, processes, server))]
fn a_mutex_is_a_static_and_a_named_object() {
    thread::spawn(|| write_log("second")).join().unwrap();
    assert_eq!(*LOG.lock().unwrap(), ["first", "second"]);
    *Mutex::at("n").new(5).lock().unwrap() += 1;
    assert_eq!(*Mutex::at("n").new(5).lock().unwrap(), 6);
}

// ---- RwLock

#[test(modes(embedded, processes, server))]
fn many_read_or_one_writes() {
    let lock = RwLock::new("a".to_owned());
    {
        let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
        assert_eq!((&**one, &**other), ("a", "a"));
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        assert_eq!(lock.inspect_with(length, ()).unwrap(), 1);
    }
    {
        let mut writer = lock.try_write().unwrap();
        writer.push('b');
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    }
    assert_eq!(**lock.try_read().unwrap(), *"ab");
    assert_eq!(lock.into_inner().unwrap(), "ab");
}

#[test(modes(embedded, processes, server))]
fn a_waiting_writer_comes_before_later_readers() {
    let lock = RwLock::new(0);
    let reader = lock.read().unwrap();
    let mut writer = begin({
        let lock = lock.clone();
        move || *lock.write().unwrap() += 1
    });
    eventually("the writer waits", || matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    let late = begin({
        let lock = lock.clone();
        move || *lock.read().unwrap()
    });
    std::thread::sleep(MOMENT);
    assert!(writer.is_running());
    drop(reader);
    writer.within("the reader is gone");
    assert_eq!(late.within("the writer is done"), 1);
}

#[test(modes(embedded, processes, server))]
fn a_writer_becomes_a_reader_before_anybody_writes() {
    let lock = RwLock::new(0);
    let mut writer = lock.write().unwrap();
    *writer += 1;
    let other = begin({
        let lock = lock.clone();
        move || *lock.write().unwrap() += 1
    });
    let reader = RwLockWriteGuard::downgrade(writer);
    std::thread::sleep(MOMENT);
    assert_eq!(*reader, 1);
    drop(reader);
    other.within("nobody has the lock");
    assert_eq!(*lock.read().unwrap(), 2);
}

#[test(modes(embedded, processes, server))]
fn a_value_that_cannot_be_written_leaves_the_lock_free_and_poisoned() {
    // serde takes no path that is not UTF-8.
    let unwritable = || OsStr::from_bytes(&[0xff]).into();
    let lock = RwLock::new(PathBuf::from("old"));
    let mut writer = lock.write().unwrap();
    *writer = unwritable();
    panic_of(|| RwLockWriteGuard::downgrade(writer));
    let mut writer = match lock.try_write() {
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        other => panic!("{other:?}"),
    };
    lock.clear_poison();
    *writer = unwritable();
    assert_says(&panic_of(|| drop(writer)), &["can't be written"]);
    assert!(lock.is_poisoned());
    lock.clear_poison();
    assert_eq!(**lock.try_read().unwrap(), *"old");
}

#[cloud_fn]
fn panic_with_lock(lock: &RwLock<u64>, write: bool) {
    if write {
        let _guard = lock.write().unwrap();
        panic!("while writing");
    }
    let _guard = lock.read().unwrap();
    panic!("while reading");
}

#[test(modes(embedded, processes, server))]
fn only_writers_poison() {
    let lock = RwLock::new(0);
    thread::spawn(|| panic_with_lock(&lock, false)).join().unwrap_err();
    assert!(!lock.is_poisoned());
    thread::spawn(|| panic_with_lock(&lock, true)).join().unwrap_err();
    assert!(lock.is_poisoned());
    assert!(lock.read().is_err() && lock.write().is_err());
    assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
    lock.clear_poison();
    assert!(lock.read().is_ok());
    assert_eq!(lock.update_with(add, 4).unwrap(), 4);
}

// ---- Condvar

#[shared]
struct Baton {
    lock: Mutex<u64>,
    turn: Condvar,
}

#[shared]
impl Baton {
    pub fn new(lock: Mutex<u64>, turn: Condvar) -> Self {
        Baton { lock, turn }
    }

    pub fn parts(&self) -> (Mutex<u64>, Condvar) {
        (self.lock.clone(), self.turn.clone())
    }
}

#[cloud_fn]
fn take_turns(baton: &Baton, me: u64, rounds: u64) {
    let (lock, turn) = baton.parts();
    for round in 0..rounds {
        let mut now = turn.wait_while(lock.lock().unwrap(), |now| *now != 2 * round + me).unwrap();
        *now += 1;
        drop(now);
        turn.notify_all();
    }
}

#[test(modes(embedded, processes, server))]
fn threads_take_turns_with_a_condvar() {
    let baton = Baton::new(Mutex::new(0), Condvar::new());
    let threads: Vec<_> = (0..2).map(|me| thread::spawn(|| take_turns(&baton, me, 10))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*baton.parts().0.lock().unwrap(), 20);
}

#[test(modes(embedded, processes, server))]
fn notify_one_wakes_one() {
    let (lock, changed, woken) = (Mutex::new(()), Condvar::new(), AtomicU64::new(0));
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (lock, changed, woken) = (lock.clone(), changed.clone(), woken.clone());
            begin(move || {
                let _guard = changed.wait(lock.lock().unwrap()).unwrap();
                woken.fetch_add(1, SeqCst);
            })
        })
        .collect();
    // A notification for which nobody waits is lost, as in std: so this repeats until all have been woken.
    for n in 1..=3 {
        let mut notified = 0;
        eventually("one is woken", || {
            if woken.load(SeqCst) < n && notified < n {
                changed.notify_one();
                notified += 1;
            } else if woken.load(SeqCst) < n {
                notified = 0;
            }
            std::thread::sleep(MOMENT);
            woken.load(SeqCst) >= n
        });
    }
    waiting.into_iter().for_each(|thread| thread.within("all were woken"));
}

#[test(modes(embedded, processes, server))]
fn waits_at_a_condvar_time_out() {
    let (lock, changed) = (Mutex::new(7), Condvar::new());
    let start = Instant::now();
    let (guard, result) = changed.wait_timeout(lock.lock().unwrap(), MOMENT).unwrap();
    assert!(result.timed_out() && start.elapsed() >= MOMENT);
    assert_eq!(*guard, 7);
    let (mut guard, result) = changed.wait_timeout_while(guard, MOMENT, |n| *n == 7).unwrap();
    assert!(result.timed_out());
    *guard = 8;
    let (guard, result) = changed.wait_timeout_while(guard, MOMENT, |n| *n == 7).unwrap();
    assert!(!result.timed_out());
    // A condition may write, as in std.
    let guard = changed.wait_while(guard, |n| {
        *n += 1;
        false
    });
    drop(guard);
    assert_eq!(*lock.lock().unwrap(), 9);
}

// ---- Once, OnceLock, LazyLock

#[cloud_fn]
fn call_once(once: &Once, runs: &AtomicU64) -> u64 {
    once.call_once(|| {
        std::thread::sleep(MOMENT);
        runs.fetch_add(1, SeqCst);
    });
    runs.load(SeqCst)
}

#[test(modes(embedded, processes, server))]
fn once_runs_once_and_the_others_wait() {
    let (once, runs) = (Once::new(), AtomicU64::new(0));
    assert!(!once.is_completed());
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| call_once(&once, &runs))).collect();
    in_time("a closure has run", {
        let once = once.clone();
        move || once.wait()
    });
    for thread in threads {
        assert_eq!(thread.join(), Ok(1), "it returns when the closure has run");
    }
    assert!(once.is_completed());
    once.call_once(|| panic!("it has run"));
}

#[test(modes(embedded, processes, server))]
fn a_panic_poisons_a_once() {
    let once = Once::new();
    panic_of(|| once.call_once(|| panic!("oh")));
    assert!(!once.is_completed());
    assert_says(&panic_of(|| once.call_once(|| ())), &["poisoned"]);
    assert_says(&panic_of(|| once.wait()), &["poisoned"]);
    let forced = begin({
        let once = once.clone();
        move || once.wait_force()
    });
    once.call_once_force(|state| assert!(state.is_poisoned()));
    assert!(once.is_completed());
    forced.within("a closure has run to its end");
    once.call_once(|| panic!("it has run"));
    Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
}

#[cloud_fn]
fn init(cell: &OnceLock<String>, by: u64, runs: &AtomicU64) -> String {
    let value = cell.get_or_init(|| {
        runs.fetch_add(1, SeqCst);
        format!("made by {by}")
    });
    value.clone()
}

#[test(modes(embedded, processes, server))]
fn a_once_lock_is_set_once() {
    let (cell, runs) = (OnceLock::new(), AtomicU64::new(0));
    assert_eq!(cell.get(), None);
    let threads: Vec<_> = (0..4).map(|by| thread::spawn(|| init(&cell, by, &runs))).collect();
    let values: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(runs.load(SeqCst), 1);
    let value: &String = cell.get().unwrap();
    assert!(values.iter().all(|v| v == value), "{values:?}");
    assert_eq!(cell.set("other".to_owned()), Err("other".to_owned()));
    assert_eq!(cell.clone().into_inner().as_ref(), Some(value));
    assert_eq!(OnceLock::from(5).get(), Some(&5));
}

#[test(modes(embedded, processes, server))]
fn a_once_lock_whose_closure_panicked_has_no_value() {
    let cell = OnceLock::new();
    panic_of(|| cell.get_or_init(|| panic!("oh")));
    assert_eq!(cell.get(), None);
    let waiting = begin({
        let cell = cell.clone();
        move || *cell.wait()
    });
    assert_eq!(cell.set(3), Ok(()));
    assert_eq!(waiting.within("it is set"), 3);
    assert_eq!(*cell.get_or_init(|| 4), 3);
}

#[shared]
static MADE: AtomicU64 = AtomicU64::new(0);
#[shared]
static TABLE: LazyLock<Vec<u64>> = LazyLock::new(|| {
    MADE.fetch_add(1, SeqCst);
    (0..10).map(|n| n * n).collect()
});
#[shared]
static BROKEN: LazyLock<u64> = LazyLock::new(|| panic!("never"));

#[cloud_fn]
fn look_up(n: usize) -> u64 {
    TABLE[n]
}

#[test(modes(embedded, processes, server))]
fn a_lazy_static_is_made_once_for_all_processes() {
    assert_eq!(LazyLock::get(&TABLE), None);
    let threads: Vec<_> = (0..4).map(|n| thread::spawn(move || look_up(n))).collect();
    let squares: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(squares, [0, 1, 4, 9]);
    assert_eq!(LazyLock::get(&TABLE).map(Vec::len), Some(10), "another process made it");
    assert_eq!(TABLE.len(), 10);
    assert_eq!(MADE.load(SeqCst), 1);
    assert_says(&panic_of(|| **BROKEN + 1), &["never"]);
    assert_says(&panic_of(|| **BROKEN + 1), &["poisoned"]);
    assert_eq!(LazyLock::get(&BROKEN), None);
    let local = LazyLock::new(|| 5);
    assert_eq!(*local + *local, 10);
}

// ---- Latch, Reducer, Semaphore

#[cloud_fn]
fn arrive(latch: &Latch, wait: bool) -> usize {
    if wait {
        latch.arrive_and_wait(1);
    } else {
        latch.count_down(1);
    }
    latch.count()
}

#[test(modes(embedded, processes, server))]
fn a_latch_opens_when_all_have_counted() {
    let latch = Latch::new(3);
    assert!(!latch.try_wait());
    assert_eq!(thread::spawn(|| arrive(&latch, false)).join(), Ok(2));
    let waits = thread::spawn(|| arrive(&latch, true));
    eventually("it has counted", || latch.count() == 1);
    std::thread::sleep(MOMENT);
    assert!(!waits.is_finished());
    latch.count_down(5);
    latch.wait();
    assert_eq!((waits.join(), latch.count()), (Ok(0), 0));
    Latch::new(0).wait();
}

#[cloud_fn]
fn reduce(reducer: &Reducer<u64>, rank: u64, rounds: u64) -> Vec<u64> {
    (0..rounds).map(|round| reducer.reduce(10 * round + rank)).collect()
}

#[test(modes(embedded, processes, server))]
fn all_get_what_all_contributed() {
    for _ in 0..3 {
        let reducer = Reducer::new(3, keep_max);
        let threads: Vec<_> = (0..3).map(|rank| thread::spawn(|| reduce(&reducer, rank, 5))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), [2, 12, 22, 32, 42]);
        }
    }
    let alone = Reducer::at("alone").new(1, keep_max);
    assert_eq!((alone.reduce(3), alone.reduce(2)), (3, 2));
}

#[test(modes(embedded, processes, server))]
fn permits_are_split_and_forgotten() {
    let semaphore = Semaphore::new(5);
    let mut permit = semaphore.acquire_many(4);
    let part = permit.split(3).unwrap();
    assert!(permit.split(2).is_none());
    assert_eq!((permit.num_permits(), part.num_permits(), semaphore.available_permits()), (1, 3, 1));
    drop(part);
    assert_eq!(semaphore.available_permits(), 4);
    permit.forget();
    assert_eq!(semaphore.available_permits(), 4);
    assert_eq!(semaphore.forget_permits(10), 4);
    semaphore.add_permits(2);
    assert!(semaphore.try_acquire_many(3).is_none());
    assert_eq!(semaphore.try_acquire_many(2).unwrap().num_permits(), 2);
    assert_eq!(semaphore.available_permits(), 2);
}
