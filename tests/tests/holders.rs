//! What becomes of locks, permits and channels whose holder is lost.

use std::{sync::Arc, time::Duration};

use crucial::{
    Config, Shared, cloud_fn,
    run::Run,
    sync::{
        Condvar, Latch, Mutex, Once, OnceLock, RwLock, Semaphore,
        mpsc::{self, RecvError, Sender},
    },
    thread,
};
use tests::{
    app, assert_says, begin, eventually, in_time,
    objects::{Journal, Tally},
    panic_of,
    process::{Signal, signal},
    proxy::Proxy,
    server::{LocalServer, OwnRun, ServerProcess, parked},
};

/// Waits until it is killed.
fn wait_for_death(pids: &Journal) {
    pids.push(std::process::id().into());
    std::thread::sleep(Duration::from_secs(600));
}

/// Kills the process that has said that it waits for it.
fn kill(pids: &Journal) {
    eventually("it holds what it is to hold", || pids.tokens().len() == 1);
    signal(u32::try_from(pids.tokens()[0]).unwrap(), Signal::KILL);
}

#[cloud_fn]
fn die_with_mutex(mutex: &Mutex<Vec<u32>>, pids: &Journal) {
    let mut guard = mutex.lock().unwrap();
    guard.push(1);
    wait_for_death(pids);
}

#[crucial::test(modes(processes))]
fn a_mutex_of_a_killed_process_is_poisoned() {
    let (mutex, pids) = (Mutex::new(vec![0]), Journal::new());
    let doomed = thread::spawn(|| die_with_mutex(&mutex, &pids));
    eventually("it holds the lock", || pids.tokens().len() == 1);
    let next = begin({
        let mutex = mutex.clone();
        move || mutex.lock().map(|g| g.clone()).map_err(|e| e.into_inner().clone())
    });
    kill(&pids);
    // What it had not written back is gone with it, and whoever waited knows that something may be missing.
    assert_eq!(next.within("the lock is free, long before the lease is over"), Err(vec![0]));
    assert_says(&doomed.join().unwrap_err(), &["signal: killed"]);
    assert!(mutex.is_poisoned());
    mutex.clear_poison();
    mutex.lock().unwrap().push(2);
    assert_eq!(*mutex.lock().unwrap(), [0, 2]);
}

#[cloud_fn]
fn die_with_lock(lock: &RwLock<u64>, write: bool, pids: &Journal) {
    if write {
        let _guard = lock.write().unwrap();
        wait_for_death(pids);
    }
    let _guard = lock.read().unwrap();
    wait_for_death(pids);
}

#[crucial::test(modes(processes))]
fn a_killed_writer_poisons_and_a_killed_reader_does_not() {
    for write in [false, true] {
        let (lock, pids) = (RwLock::new(7), Journal::new());
        let doomed = thread::spawn(|| die_with_lock(&lock, write, &pids));
        kill(&pids);
        assert!(doomed.join().is_err());
        assert_eq!(
            in_time("the lock is free", {
                let lock = lock.clone();
                move || lock.write().is_err()
            }),
            write
        );
    }
}

#[cloud_fn]
fn die_waiting(mutex: &Mutex<Vec<u32>>, pids: &Journal) {
    pids.push(std::process::id().into());
    let _guard = mutex.lock();
    std::thread::sleep(Duration::from_secs(600));
}

#[crucial::test(modes(processes))]
fn a_lock_is_not_given_to_a_process_that_died_waiting() {
    let (mutex, pids) = (Mutex::new(vec![]), Journal::new());
    let guard = mutex.lock().unwrap();
    let doomed = thread::spawn(|| die_waiting(&mutex, &pids));
    eventually("it is about to wait", || pids.tokens().len() == 1);
    // It arrives at the lock before this does.
    std::thread::sleep(Duration::from_millis(300));
    kill(&pids);
    assert!(doomed.join().is_err());
    drop(guard);
    let locked = in_time("the lock is free", {
        let mutex = mutex.clone();
        move || mutex.lock().is_ok()
    });
    assert!(locked, "nobody died with the lock");
}

#[cloud_fn]
fn die_with_permits(semaphore: &Semaphore, pids: &Journal) {
    let _permit = semaphore.acquire_many(2);
    semaphore.take(1);
    wait_for_death(pids);
}

#[crucial::test(modes(processes))]
fn permits_of_a_killed_process_go_back() {
    let (semaphore, pids) = (Semaphore::new(3), Journal::new());
    let doomed = thread::spawn(|| die_with_permits(&semaphore, &pids));
    kill(&pids);
    assert!(doomed.join().is_err());
    let permit = in_time("they are back", {
        let semaphore = semaphore.clone();
        move || semaphore.acquire_many(2)
    });
    assert_eq!(semaphore.available_permits(), 0, "what was taken without a guard stays taken");
    drop(permit);
    assert_eq!(semaphore.available_permits(), 2);
}

#[cloud_fn]
fn die_with_sender(sender: Sender<u64>, pids: &Journal) {
    sender.send(1).unwrap();
    wait_for_death(pids);
}

#[crucial::test(modes(processes))]
fn a_channel_ends_with_a_killed_sender() {
    let ((sender, receiver), pids) = (mpsc::channel(), Journal::new());
    let doomed = thread::spawn({
        let pids = pids.clone();
        move || die_with_sender(sender, &pids)
    });
    assert_eq!(receiver.recv(), Ok(1));
    kill(&pids);
    assert!(doomed.join().is_err());
    assert_eq!(in_time("the channel ends", move || receiver.recv()), Err(RecvError));
}

#[cloud_fn]
fn die_in_once(once: &Once, cell: &OnceLock<u32>, pids: &Journal) {
    once.call_once(|| {
        cell.get_or_init(|| {
            wait_for_death(pids);
            1
        });
    });
}

#[crucial::test(modes(processes))]
fn a_closure_that_died_poisons_a_once_and_not_a_once_lock() {
    let (once, cell, pids) = (Once::new(), OnceLock::new(), Journal::new());
    let doomed = thread::spawn(|| die_in_once(&once, &cell, &pids));
    kill(&pids);
    assert!(doomed.join().is_err());
    let made = in_time("the next one makes it", {
        let cell = cell.clone();
        move || *cell.get_or_init(|| 2)
    });
    assert_eq!(made, 2);
    assert_says(&panic_of(|| once.call_once(|| ())), &["poisoned"]);
    once.call_once_force(|state| assert!(state.is_poisoned()));
}

#[cloud_fn]
fn die_at_condvar(lock: &Mutex<u64>, changed: &Condvar, pids: &Journal) {
    let guard = lock.lock().unwrap();
    pids.push(std::process::id().into());
    let _guard = changed.wait(guard);
    std::thread::sleep(Duration::from_secs(600));
}

#[crucial::test(modes(processes))]
fn a_notification_goes_to_somebody_who_lives() {
    let (lock, changed, pids) = (Mutex::new(0), Condvar::new(), Journal::new());
    let doomed = thread::spawn(|| die_at_condvar(&lock, &changed, &pids));
    eventually("it has the lock", || pids.tokens().len() == 1);
    let woken = begin({
        let (lock, changed) = (lock.clone(), changed.clone());
        move || {
            // It gets the lock when the other one waits.
            let guard = lock.lock().unwrap();
            drop(changed.wait(guard));
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    // The one that has waited longest would be woken, but it is gone.
    kill(&pids);
    assert!(doomed.join().is_err());
    changed.notify_one();
    woken.within("the notification goes to the next");
}

#[cloud_fn(retries = 1)]
fn lock_again(mutex: &Mutex<u64>, pids: &Journal) -> u64 {
    let mut guard = mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if pids.tokens().is_empty() {
        wait_for_death(pids);
    }
    *guard += 1;
    *guard
}

#[crucial::test(modes(processes))]
fn the_next_attempt_gets_what_the_killed_one_held() {
    let (mutex, pids) = (Mutex::new(0), Journal::new());
    let thread = thread::spawn(|| lock_again(&mutex, &pids));
    kill(&pids);
    assert_eq!(in_time("the second attempt has the lock", || thread.join()), Ok(1));
}

/// Another process of a run, as its server sees it.
fn member(of: &Run, server: &str, config: Config) -> Arc<Run> {
    Run::join(config, of.id(), &[server.to_owned()], 0).unwrap()
}

fn impatient() -> Config {
    let mut config = Config::default();
    config.lease = Duration::from_millis(500);
    config
}

#[test]
fn a_holder_that_lost_its_lease_can_not_write() {
    let server = LocalServer::start(&impatient());
    let proxy = Proxy::start(&server.address, 1);
    let run = OwnRun::on(&server.address);
    let (mutex, lock, semaphore) = (Mutex::new(vec![0]), RwLock::new(0), Semaphore::new(1));
    let cut_off = member(&Run::current().unwrap(), &proxy.address, impatient());
    let done = Latch::new(1);
    // Not a latch: its holder may be cut off after it counts, and before it knows.
    let (tell, locked) = std::sync::mpsc::channel();
    let holder = std::thread::spawn({
        let (mutex, lock, semaphore) = (mutex.clone(), lock.clone(), semaphore.clone());
        let done = done.clone();
        move || {
            let _run = cut_off.enter();
            let (mut guard, mut writer, permit) =
                (mutex.lock().unwrap(), lock.write().unwrap(), semaphore.acquire());
            tell.send(()).unwrap();
            // This waits while the connection is away, and for longer than the lease.
            while done.remote().try_wait().wait() != Ok(true) {}
            guard.push(1);
            *writer += 1;
            let writes = [panic_of(|| drop(guard)), panic_of(|| drop(writer))];
            drop(permit);
            writes
        }
    });
    in_time("it has the locks", move || locked.recv().unwrap());
    let mut next = begin({
        let mutex = mutex.clone();
        move || {
            let guard = mutex.lock();
            assert!(guard.is_err(), "its holder is lost");
            guard.unwrap_or_else(|poisoned| poisoned.into_inner()).push(2);
        }
    });
    assert!(next.is_running());
    proxy.go_down();
    next.within("the lease is over");
    assert_eq!(
        in_time("the permit is back", {
            let semaphore = semaphore.clone();
            move || semaphore.acquire().num_permits()
        }),
        1
    );
    let other = begin({
        let lock = lock.clone();
        move || lock.is_poisoned() && lock.read().is_err()
    });
    assert!(other.within("the writer is lost"));
    done.count_down(1);
    proxy.go_up();
    for message in holder.join().unwrap() {
        assert_says(&message, &["was given to another", "lease", "lost"]);
    }
    mutex.clear_poison();
    assert_eq!(*mutex.lock().unwrap(), [0, 2], "what the lost holder would have written is not there");
    lock.clear_poison();
    assert_eq!(*lock.read().unwrap(), 0);
    assert_eq!(semaphore.available_permits(), 1, "its permit came back once");
    drop(run);
}

#[test]
fn a_client_that_ends_with_a_persistent_lock_poisons_it() {
    let server = ServerProcess::start(app!(), &[]);
    {
        let _run = OwnRun::on(&server.address);
        let mutex = Mutex::at("persistent").persistent().new(1);
        std::mem::forget(mutex.lock().unwrap());
    }
    let _run = OwnRun::on(&server.address);
    let mutex = Mutex::at("persistent").persistent().new(1);
    let poisoned = in_time("the run has ended, and with it its locks", {
        let mutex = mutex.clone();
        move || mutex.lock().is_err()
    });
    assert!(poisoned);
    assert_eq!(Shared::remove(&mutex), Ok(true));
}

#[test]
fn calls_of_a_lost_process_are_withdrawn() {
    let server = LocalServer::start(&impatient());
    let proxy = Proxy::start(&server.address, 1);
    let _run = OwnRun::on(&server.address);
    let tally = Tally::new(0);
    let cut_off = member(&Run::current().unwrap(), &proxy.address, impatient());
    let waiting = std::thread::spawn({
        let tally = tally.clone();
        move || {
            let _run = cut_off.enter();
            tally.remote().take(1).wait()
        }
    });
    eventually("it waits", || parked(&server.status()) == 1);
    proxy.go_down();
    eventually("its call is withdrawn", || parked(&server.status()) == 0);
    tally.add(1);
    proxy.go_up();
    assert!(waiting.join().unwrap().is_err());
    assert_eq!(tally.get(), 1, "it took nothing");
}
