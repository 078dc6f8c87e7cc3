use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{LockResult, TryLockError, TryLockResult},
};

use crucial_runtime::shared_fn::{Inspect, Update};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    holdings::{fail, me, name},
    lock::{__RawLockAt as RawLockAt, Held, Kind, Locked, RawLock, poisonable, warn_lost},
};
use crate::{
    Shared,
    typed::{Blob, done, invocation, typed},
};

typed! {
    /// A lock that many readers or one writer have, around a value that cloud threads share. Follows
    /// [`std::sync::RwLock`].
    ///
    /// As [`Mutex`](super::Mutex), also in what becomes of a process that dies with the lock: a writer poisons it, a
    /// reader doesn't. Readers wait while a writer waits, so a thread must not take a second read lock while it has one;
    /// and when a writer unlocks, the readers that wait come before the next writer. So nobody waits for ever.
    ///
    /// ```
    /// use crucial::sync::RwLock;
    ///
    /// let names = RwLock::new(vec!["Ada".to_owned()]);
    /// {
    ///     let (one, other) = (names.read().unwrap(), names.read().unwrap());
    ///     assert_eq!(*one, *other);
    ///     assert!(names.try_write().is_err());
    /// }
    /// names.write().unwrap().push("Grace".to_owned());
    /// assert_eq!(names.read().unwrap().len(), 2);
    /// ```
    pub struct RwLock<T>(RawLock), at NamedRwLock(RawLockAt);
}

impl<T: Serialize> RwLock<T> {
    /// An unlocked lock around a value. Follows [`std::sync::RwLock::new`].
    #[must_use]
    #[track_caller]
    pub fn new(value: T) -> Self {
        RwLock::over(RawLock::new(Blob::of(&value)))
    }
}

impl<T: Serialize> NamedRwLock<T> {
    /// The lock with this name; its value is `value` if it is made by this call.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new(value)`")]
    #[must_use]
    #[track_caller]
    pub fn new(self, value: T) -> RwLock<T> {
        self.build(|named| named.new(Blob::of(&value)))
    }
}

impl<T: Serialize + DeserializeOwned> RwLock<T> {
    /// Waits until nobody writes, and keeps writers out. Follows [`std::sync::RwLock::read`].
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the guard.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let locked = self.raw.read(me());
        poisonable(locked.poisoned, self.read_guard(&locked))
    }

    /// As [`read`](Self::read), unless it would have to wait. Follows [`std::sync::RwLock::try_read`].
    ///
    /// # Errors
    /// If it would have to wait, or the lock is poisoned.
    #[track_caller]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        let locked = self.raw.try_lock(me(), Kind::Read).ok_or(TryLockError::WouldBlock)?;
        Ok(poisonable(locked.poisoned, self.read_guard(&locked))?)
    }

    /// Waits until nobody has the lock, and takes it. Follows [`std::sync::RwLock::write`].
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the guard.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let locked = self.raw.write(me());
        poisonable(locked.poisoned, RwLockWriteGuard { held: self.held(&locked), lock: self })
    }

    /// As [`write`](Self::write), unless it would have to wait. Follows [`std::sync::RwLock::try_write`].
    ///
    /// # Errors
    /// If it would have to wait, or the lock is poisoned.
    #[track_caller]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let locked = self.raw.try_lock(me(), Kind::Write).ok_or(TryLockError::WouldBlock)?;
        Ok(poisonable(locked.poisoned, RwLockWriteGuard { held: self.held(&locked), lock: self })?)
    }

    #[track_caller]
    fn read_guard(&self, locked: &Locked) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard { lock: self, value: locked.value.to(), token: locked.token, stays_here: PhantomData }
    }

    #[track_caller]
    fn held(&self, locked: &Locked) -> Held<'_, T> {
        Held::new(&self.raw, "lock", locked)
    }

    /// Applies a shared function to the value on the server, once nobody has the lock. One call, where locking and
    /// unlocking are two. Not in std; see [`Mutex::update_with`](super::Mutex::update_with).
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the result.
    #[track_caller]
    pub fn update_with<F: Update<T>>(&self, f: F, arg: F::Arg) -> LockResult<F::Output> {
        let (poisoned, result) = done(self.raw.update(&invocation(f, &arg)));
        poisonable(poisoned, result.to())
    }

    /// Looks at the value with a shared function on the server, once nobody writes, so that it need not travel. Not in
    /// std.
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the result.
    #[track_caller]
    pub fn inspect_with<F: Inspect<T>>(&self, f: F, arg: F::Arg) -> LockResult<F::Output> {
        let (poisoned, result) = done(self.raw.inspect(&invocation(f, &arg)));
        poisonable(poisoned, result.to())
    }

    /// Waits until nobody has the lock, takes the value and removes the lock. Follows
    /// [`std::sync::RwLock::into_inner`]; other handles of the lock fail after that.
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the value.
    #[track_caller]
    pub fn into_inner(self) -> LockResult<T> {
        let locked = self.raw.write(me());
        done(self.raw.remove());
        poisonable(locked.poisoned, locked.value.to())
    }
}

impl<T> RwLock<T> {
    /// Whether a writer panicked or died. Follows [`std::sync::RwLock::is_poisoned`].
    #[must_use]
    #[track_caller]
    pub fn is_poisoned(&self) -> bool {
        self.raw.poisoned()
    }

    /// Accepts the value as it is. Follows [`std::sync::RwLock::clear_poison`].
    #[track_caller]
    pub fn clear_poison(&self) {
        self.raw.mend();
    }
}

impl<T: Serialize + Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T: Serialize> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        RwLock::new(value)
    }
}

/// A reader's lock of an [`RwLock`], and a copy of its value. Follows [`std::sync::RwLockReadGuard`].
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    value: T,
    token: u64,
    stays_here: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        // A reader has nothing to lose: if its lock is gone, so be it.
        match self.lock.raw.unlock(self.token, None, false) {
            Ok(true) => {}
            Ok(false) => warn_lost("lock", &self.lock.raw),
            Err(error) => fail(&format!("{} could not be unlocked: {error}", name("lock", &self.lock.raw))),
        }
    }
}

/// The writer's lock of an [`RwLock`], and its value. Follows [`std::sync::RwLockWriteGuard`].
///
/// Dropping it writes the value back, if it was borrowed as `&mut`, and frees the lock.
///
/// # Panics
/// When it is dropped, as a [`MutexGuard`](super::MutexGuard).
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockWriteGuard<'a, T: Serialize> {
    held: Held<'a, T>,
    lock: &'a RwLock<T>,
}

impl<'a, T: Serialize + DeserializeOwned> RwLockWriteGuard<'a, T> {
    /// Makes the writer a reader; nobody else can write in between. Follows
    /// [`std::sync::RwLockWriteGuard::downgrade`].
    ///
    /// # Panics
    /// As when it is dropped.
    #[track_caller]
    pub fn downgrade(this: Self) -> RwLockReadGuard<'a, T> {
        let (token, value) = this.held.downgrade();
        RwLockReadGuard { lock: this.lock, value, token, stays_here: PhantomData }
    }
}

impl<T: Serialize> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.get()
    }
}

impl<T: Serialize> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.get_mut()
    }
}

macro_rules! formatted {
    ($($guard:ident: $($bound:ident)?;)*) => {$(
        impl<T: $($bound +)? fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<T: $($bound +)? fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}

formatted! {
    RwLockReadGuard: ;
    RwLockWriteGuard: Serialize;
}
