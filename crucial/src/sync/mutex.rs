use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{LockResult, TryLockError, TryLockResult},
};

use crucial_runtime::shared_fn::Update;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    holdings::me,
    lock::{__RawLockAt as RawLockAt, Held, Kind, Locked, RawLock, poisonable},
};
use crate::{
    Shared,
    typed::{Blob, done, invocation, typed},
};

typed! {
    /// A lock around a value that cloud threads share. Follows [`std::sync::Mutex`].
    ///
    /// The value is on a server. [`lock`](Self::lock) waits for the lock and fetches the value, in one call; when the
    /// guard is dropped, the value goes back if it was borrowed as `&mut`, and the lock is free. Who waits costs no
    /// thread on the server, and gets the lock in the order of arrival.
    ///
    /// As in std, a thread that panics while it has the lock poisons the mutex. So does a process that dies with the
    /// lock: as soon as the back end reports its death or its [lease](crate::Config::lease) is over, the lock goes to
    /// the next. A process that was only cut off for so long can't write any more: its guard panics when it is dropped,
    /// if there was something to write.
    ///
    /// For a change that a shared function can make, [`update_with`](Self::update_with) takes one call instead of two.
    ///
    /// ```
    /// use crucial::{cloud_fn, shared, sync::Mutex, thread};
    ///
    /// #[shared]
    /// static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
    ///
    /// #[cloud_fn]
    /// fn greet(name: &str) {
    ///     LOG.lock().unwrap().push(format!("hello, {name}"));
    /// }
    ///
    /// thread::spawn(|| greet("world")).join().unwrap();
    /// assert_eq!(*LOG.lock().unwrap(), ["hello, world"]);
    /// ```
    pub struct Mutex<T>(RawLock), at NamedMutex(RawLockAt);
}

impl<T: Serialize> Mutex<T> {
    /// An unlocked mutex around a value. Follows [`std::sync::Mutex::new`].
    #[must_use]
    #[track_caller]
    pub fn new(value: T) -> Self {
        Mutex::over(RawLock::new(Blob::of(&value)))
    }
}

impl<T: Serialize> NamedMutex<T> {
    /// The mutex with this name; its value is `value` if it is made by this call.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new(value)`")]
    #[must_use]
    #[track_caller]
    pub fn new(self, value: T) -> Mutex<T> {
        self.build(|named| named.new(Blob::of(&value)))
    }
}

impl<T: Serialize + DeserializeOwned> Mutex<T> {
    /// Waits for the lock. Follows [`std::sync::Mutex::lock`]; a thread that has the lock already waits for ever.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error holds the guard.
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.guard(&self.raw.write(me()))
    }

    /// Takes the lock if nobody has it or waits for it. Follows [`std::sync::Mutex::try_lock`].
    ///
    /// # Errors
    /// If it would have to wait, or the mutex is poisoned.
    #[track_caller]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        let locked = self.raw.try_lock(me(), Kind::Write).ok_or(TryLockError::WouldBlock)?;
        Ok(self.guard(&locked)?)
    }

    #[track_caller]
    fn guard(&self, locked: &Locked) -> LockResult<MutexGuard<'_, T>> {
        let held = Held::new(&self.raw, "mutex", locked);
        poisonable(locked.poisoned, MutexGuard { held, mutex: self })
    }

    /// Applies a shared function to the value on the server, once nobody has the lock. One call, where lock and unlock
    /// are two. Not in std.
    ///
    /// ```
    /// use crucial::{shared, sync::Mutex};
    ///
    /// #[shared]
    /// fn add(total: &mut u64, by: u64) -> u64 {
    ///     *total += by;
    ///     *total
    /// }
    ///
    /// let total = Mutex::new(1);
    /// assert_eq!(total.update_with(add, 2).unwrap(), 3);
    /// ```
    ///
    /// # Errors
    /// If the mutex is poisoned; the error holds the result.
    ///
    /// # Panics
    /// If the function panics; and as all calls do.
    #[track_caller]
    pub fn update_with<F: Update<T>>(&self, f: F, arg: F::Arg) -> LockResult<F::Output> {
        let (poisoned, result) = done(self.raw.update(&invocation(f, &arg)));
        poisonable(poisoned, result.to())
    }

    /// Waits for the lock, takes the value and removes the mutex. Follows [`std::sync::Mutex::into_inner`]; other
    /// handles of the mutex fail after that.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error holds the value.
    #[track_caller]
    pub fn into_inner(self) -> LockResult<T> {
        let locked = self.raw.write(me());
        done(self.raw.remove());
        poisonable(locked.poisoned, locked.value.to())
    }
}

impl<T> Mutex<T> {
    /// Whether a thread died with the lock, by a panic or with its process. Follows
    /// [`std::sync::Mutex::is_poisoned`].
    #[must_use]
    #[track_caller]
    pub fn is_poisoned(&self) -> bool {
        self.raw.poisoned()
    }

    /// Accepts the value as it is. Follows [`std::sync::Mutex::clear_poison`].
    #[track_caller]
    pub fn clear_poison(&self) {
        self.raw.mend();
    }
}

impl<T: Serialize + Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T: Serialize> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Mutex::new(value)
    }
}

/// The lock of a [`Mutex`], and its value. Follows [`std::sync::MutexGuard`].
///
/// Dropping it writes the value back, if it was borrowed as `&mut`, and frees the lock.
///
/// # Panics
/// When it is dropped, if the value could not be written: the server is out of reach, or this process was cut off from
/// it for longer than the lease, and the lock was given to another.
#[must_use = "if unused the Mutex will immediately unlock"]
pub struct MutexGuard<'a, T: Serialize> {
    held: Held<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<'a, T: Serialize> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }

    pub(super) fn test(&mut self, condition: impl FnOnce(&mut T) -> bool) -> bool {
        self.held.test(condition)
    }
}

impl<T: Serialize> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.get()
    }
}

impl<T: Serialize> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.get_mut()
    }
}

impl<T: Serialize + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Serialize + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
