use std::{
    sync::LockResult,
    time::{Duration, Instant},
};

use crucial_runtime::holder::{Holder, Lost};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    holdings::{Holdings, me},
    mutex::MutexGuard,
};
use crate::{Error, shared, typed::done};

/// A condition variable for cloud threads, for use with a [`Mutex`](super::Mutex). Follows [`std::sync::Condvar`].
///
/// Who waits costs no thread on the server. [`notify_one`](Self::notify_one) wakes the one that has waited longest; if
/// its process has died, the next. A shared object with a [guard](crate#the-attributes) often says the same in one
/// call, where locking, waiting and unlocking take five.
///
/// ```
/// use crucial::{cloud_fn, shared, sync::{Condvar, Mutex}, thread};
///
/// #[shared]
/// static STARTED: Mutex<bool> = Mutex::new(false);
/// #[shared]
/// static CHANGED: Condvar = Condvar::new();
///
/// #[cloud_fn]
/// fn start() {
///     *STARTED.lock().unwrap() = true;
///     CHANGED.notify_one();
/// }
///
/// let thread = thread::spawn(|| start());
/// let started = CHANGED.wait_while(STARTED.lock().unwrap(), |started| !*started).unwrap();
/// assert!(*started);
/// thread.join().unwrap();
/// ```
#[shared]
#[derive(Debug)]
pub struct Condvar {
    /// Who waits, and whether it was woken.
    waiting: Holdings<bool>,
}

#[shared]
impl Condvar {
    /// A condition variable for which nobody waits.
    pub fn new() -> Self {
        Condvar { waiting: Holdings::default() }
    }

    /// Wakes the thread that has waited longest, if any waits. Follows [`std::sync::Condvar::notify_one`].
    pub fn notify_one(&mut self) {
        if let Some((_, woken)) = self.waiting.iter_mut().find(|(_, woken)| !**woken) {
            *woken = true;
        }
    }

    /// Wakes all threads that wait. Follows [`std::sync::Condvar::notify_all`].
    pub fn notify_all(&mut self) {
        self.waiting.iter_mut().for_each(|(_, woken)| *woken = true);
    }

    #[doc(hidden)]
    pub fn enlist(&mut self, holder: Holder) -> u64 {
        self.waiting.give(holder, false)
    }

    /// Waits until it is woken; at once, if it is not enlisted any more.
    #[doc(hidden)]
    #[when(self.waiting.get(waiter).is_none_or(|woken| *woken))]
    pub fn sleep(&mut self, waiter: u64) {
        self.waiting.take(waiter);
    }

    /// Doesn't wait any longer. Returns whether it was woken.
    #[doc(hidden)]
    pub fn give_up(&mut self, waiter: u64) -> bool {
        self.waiting.take(waiter).unwrap_or(true)
    }

    /// Invariant: a notification wakes somebody who can take it.
    #[lost]
    fn take_back(&mut self, lost: &Lost) {
        for woken in self.waiting.take_lost(lost) {
            if woken {
                self.notify_one();
            }
        }
    }
}

impl Condvar {
    /// Unlocks the mutex and waits until another thread notifies; returns with the lock. Follows
    /// [`std::sync::Condvar::wait`]. It doesn't wake without a reason, but the condition may have changed again by then.
    ///
    /// # Errors
    /// If the mutex is poisoned.
    #[track_caller]
    pub fn wait<'a, T: Serialize + DeserializeOwned>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex();
        // Enlisted before the mutex is free, so that no notification is missed.
        let waiter = self.enlist(me());
        drop(guard);
        self.sleep(waiter);
        mutex.lock()
    }

    /// Waits as long as a condition holds. Follows [`std::sync::Condvar::wait_while`].
    ///
    /// # Errors
    /// If the mutex is poisoned.
    #[track_caller]
    pub fn wait_while<'a, T: Serialize + DeserializeOwned>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while guard.test(&mut condition) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), but for no longer than that. Follows [`std::sync::Condvar::wait_timeout`].
    ///
    /// # Errors
    /// If the mutex is poisoned.
    #[track_caller]
    pub fn wait_timeout<'a, T: Serialize + DeserializeOwned>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let mutex = guard.mutex();
        let waiter = self.enlist(me());
        drop(guard);
        let woken = match self.remote().sleep(waiter).timeout(timeout).wait() {
            Err(Error::Timeout { .. }) => self.give_up(waiter),
            result => {
                done(result);
                true
            }
        };
        let result = WaitTimeoutResult(!woken);
        match mutex.lock() {
            Ok(guard) => Ok((guard, result)),
            Err(poisoned) => Err(std::sync::PoisonError::new((poisoned.into_inner(), result))),
        }
    }

    /// As [`wait_while`](Self::wait_while), but for no longer than that. Follows
    /// [`std::sync::Condvar::wait_timeout_while`].
    ///
    /// # Errors
    /// If the mutex is poisoned.
    #[track_caller]
    pub fn wait_timeout_while<'a, T: Serialize + DeserializeOwned>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let start = Instant::now();
        loop {
            if !guard.test(&mut condition) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let Some(left) = timeout.checked_sub(start.elapsed()) else {
                return Ok((guard, WaitTimeoutResult(true)));
            };
            guard = self.wait_timeout(guard, left)?.0;
        }
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}

/// Whether a wait ended because of its timeout. Follows [`std::sync::WaitTimeoutResult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over before a notification came.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}
