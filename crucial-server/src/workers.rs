//! What keeps long methods from holding the threads that serve connections.
//!
//! A method runs where its frame was read, on a worker of the async runtime: any hop would cost more than most methods
//! do. A method that takes long would hold the worker, and with it connections that no other worker can see to. So a
//! method runs in this way only while it is known to be quick. Otherwise the worker's other work moves to another thread
//! first, which costs some microseconds.
//!
//! Whether a call took long, only a clock can tell, and on a busy machine a quick call takes long when its thread loses
//! the CPU. So a quick method that takes long is on probation for one call; only if that takes long, too, it has to be
//! quick [`TRIALS`] times before it counts as quick again.
//!
//! Invariant: a method that is always long never holds a worker, and one that becomes so holds it once.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crucial_runtime::object::TypeInfo;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Calls that take longer than this are long.
const LONG: Duration = Duration::from_millis(1);
/// How many quick calls make a method quick that is known to be long.
const TRIALS: u32 = 32;

/// How long the methods of a type take, and its constructors.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How many more calls have to be quick until a method counts as quick. The last one is for all constructors.
    left: Box<[AtomicU32]>,
}

impl Pace {
    /// The pace of a type, which all its objects in the process share.
    pub(crate) fn of(info: &'static TypeInfo) -> &'static Pace {
        static PACES: Mutex<BTreeMap<&'static str, &'static Pace>> = Mutex::new(BTreeMap::new());
        // Types live as long as the process, so what is kept for each of them does, too.
        PACES.lock().unwrap().entry(info.name).or_insert_with(|| {
            let left = (0..=info.methods.len()).map(|_| AtomicU32::new(1)).collect();
            Box::leak(Box::new(Pace { left }))
        })
    }

    /// Runs a constructor.
    pub(crate) fn construct<R>(&self, f: impl FnOnce() -> R) -> R {
        self.time(self.left.len() - 1, f)
    }

    /// Runs a method, on a worker or any other thread.
    pub(crate) fn run<R>(&self, method: u16, f: impl FnOnce() -> R) -> R {
        // A number that is out of range is an error, which is quick.
        self.time(usize::from(method).min(self.left.len() - 1), f)
    }

    fn time<R>(&self, at: usize, f: impl FnOnce() -> R) -> R {
        let left = &self.left[at];
        let start = Instant::now();
        let trials = left.load(Ordering::Relaxed);
        let result = if trials == 0 { f() } else { aside(f) };
        if start.elapsed() > LONG {
            left.store(if trials == 0 { 1 } else { TRIALS }, Ordering::Relaxed);
        } else if trials > 0 {
            // Two that count down at once may count once: then it takes a call more.
            left.store(trials - 1, Ordering::Relaxed);
        }
        result
    }
}

/// Runs something that may take long, or wait for an object that a method holds.
pub(crate) fn aside<R>(f: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(f),
        // A caller of this process's own node, on a thread of its own, or in a runtime that has no other.
        _ => f(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_quick_when_it_has_been_for_some_time() {
        let pace = Pace { left: [1, 1].map(AtomicU32::new).into() };
        let left = |method: usize| pace.left[method].load(Ordering::Relaxed);
        let slow = || std::thread::sleep(2 * LONG);
        pace.run(0, slow);
        assert_eq!((left(0), left(1)), (TRIALS, 1), "its first call took long");
        pace.left[0].store(0, Ordering::Relaxed);
        pace.run(0, slow);
        assert_eq!(left(0), 1, "it may have lost the CPU");
        pace.run(0, slow);
        assert_eq!(left(0), TRIALS);
        pace.run(0, || ());
        // The machine may be busy, so that it was not quick.
        assert!(left(0) >= TRIALS - 1);
        assert_eq!((pace.run(7, || 5), pace.construct(|| 6)), (5, 6));
    }
}
