//! Synchronisation between cloud threads: [`std::sync`] across processes and machines.
//!
//! Everything here can be a static, an argument of a cloud function, or a field of another object. Whoever waits costs
//! no thread on the server, and goes on in the order of arrival. [`Arc`] is std's.
//!
//! # When a process dies
//!
//! What a process holds (a lock, a permit, the end of a channel) is taken back when the process is lost: when the back
//! end reports that it died, when its run ends, or when it had no connection to the server for as long as
//! [`lease`](crate::Config::lease). Its waiting calls are withdrawn first. Then
//!
//! | what it held | what becomes of it |
//! |---|---|
//! | [`MutexGuard`], [`RwLockWriteGuard`] | free; the lock is poisoned |
//! | [`RwLockReadGuard`] | free |
//! | [`SemaphorePermit`] | the permits are back |
//! | a closure of [`Once`] | the `Once` is poisoned |
//! | a closure of [`OnceLock`], [`LazyLock`] | the next caller runs its own |
//! | a wait at a [`Condvar`] | it waits no longer; a notification that it has not received goes to the next |
//! | [`mpsc::Sender`], [`mpsc::Receiver`] | dropped |
//!
//! A process that was only cut off, and comes back, can't write any more what it holds no longer: each piece has a
//! number, and the server refuses an old one. A type of your own does the same with [`Holder`](crate::Holder) and
//! [`Lost`](crate::Lost).

pub mod atomic;
mod barrier;
mod condvar;
mod holdings;
mod latch;
mod lazy_lock;
mod lock;
pub mod mpsc;
mod mutex;
mod once;
mod once_lock;
pub mod oneshot;
mod reducer;
mod rwlock;
mod semaphore;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak};

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use latch::Latch;
pub use lazy_lock::{LazyLock, NamedLazyLock};
pub use mutex::{Mutex, MutexGuard, NamedMutex};
pub use once::{Once, OnceState};
pub use once_lock::{NamedOnceLock, OnceLock};
pub use reducer::{NamedReducer, Reducer};
pub use rwlock::{NamedRwLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphorePermit};
