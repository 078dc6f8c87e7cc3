use std::{fmt, ops::Deref};

use serde::{Serialize, de::DeserializeOwned};

use super::once_lock::{NamedOnceLock, OnceLock, RawOnceLock};
use crate::Shared;

/// A value that is made when it is first used, once for all processes. Follows [`std::sync::LazyLock`].
///
/// It is meant for statics: the closure is part of every process, and one of them runs it. A handle that has seen the
/// value keeps it, so only its first use is a call. If the closure panics, every use panics.
///
/// A static with `#[shared]` is a [`Static`](crate::Static) around it, so what is `*CONFIG` with std is `**CONFIG`
/// here. `CONFIG.len()`, and `&CONFIG` where a `&T` is expected, stay as they are.
///
/// ```
/// use crucial::{cloud_fn, shared, sync::LazyLock, thread};
///
/// #[shared]
/// static PRIMES: LazyLock<Vec<u32>> = LazyLock::new(|| {
///     (2..100).filter(|n| (2..*n).all(|d| n % d > 0)).collect()
/// });
///
/// #[cloud_fn]
/// fn count(limit: u32) -> usize {
///     PRIMES.iter().filter(|p| **p < limit).count()
/// }
///
/// assert_eq!(thread::spawn(|| count(10)).join(), Ok(4));
/// assert_eq!(**PRIMES, PRIMES.to_vec());
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: OnceLock<T>,
    init: F,
}

impl<T, F: Fn() -> T> LazyLock<T, F> {
    /// One whose value this closure makes. Follows [`std::sync::LazyLock::new`].
    #[must_use]
    #[track_caller]
    pub fn new(init: F) -> Self {
        LazyLock { once: OnceLock::new(), init }
    }
}

impl<T> LazyLock<T> {
    /// The one with this key; the constructor follows.
    pub fn at(key: impl Into<String>) -> NamedLazyLock<T> {
        NamedLazyLock { named: OnceLock::at(key) }
    }
}

impl<T: Serialize + DeserializeOwned, F: Fn() -> T> LazyLock<T, F> {
    /// The value, which is made now if it wasn't. Follows [`std::sync::LazyLock::force`].
    ///
    /// # Panics
    /// If the closure panics, or has panicked.
    #[track_caller]
    pub fn force(this: &Self) -> &T {
        this.once.make(&this.init, true)
    }

    /// The value, if it has been made, by whatever process. Follows [`std::sync::LazyLock::get`].
    #[must_use]
    #[track_caller]
    pub fn get(this: &Self) -> Option<&T> {
        this.once.get()
    }
}

impl<T: Serialize + DeserializeOwned, F: Fn() -> T> Deref for LazyLock<T, F> {
    type Target = T;
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: Serialize + DeserializeOwned + Default> Default for LazyLock<T> {
    fn default() -> Self {
        LazyLock::new(T::default)
    }
}

impl<T, F: Clone> Clone for LazyLock<T, F> {
    fn clone(&self) -> Self {
        LazyLock { once: self.once.clone(), init: self.init.clone() }
    }
}

impl<T, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.once.fmt(f)
    }
}

impl<T: Send + Sync + 'static, F: Clone + Send + Sync + 'static> Shared for LazyLock<T, F> {
    type Handle = RawOnceLock;
    fn handle(&self) -> &RawOnceLock {
        self.once.handle()
    }
}

/// The start of a named object: see [`LazyLock::at`].
#[derive(Debug)]
pub struct NamedLazyLock<T> {
    named: NamedOnceLock<T>,
}

impl<T> NamedLazyLock<T> {
    /// Lives until it is removed, and is shared by all runs.
    #[must_use]
    pub fn persistent(self) -> Self {
        NamedLazyLock { named: self.named.persistent() }
    }

    #[doc(hidden)]
    #[must_use]
    pub fn __lazy(self) -> Self {
        NamedLazyLock { named: self.named.__lazy() }
    }

    /// The one with this name; this closure makes its value, if it has none.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new(closure)`")]
    #[must_use]
    #[track_caller]
    pub fn new(self, init: fn() -> T) -> LazyLock<T> {
        LazyLock { once: self.named.new(), init }
    }
}
