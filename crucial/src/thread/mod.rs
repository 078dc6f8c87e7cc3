//! Cloud threads: [`std::thread`] whose threads run on a back end.
//!
//! ```
//! use crucial::{cloud_fn, thread};
//!
//! #[cloud_fn]
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! let threads: Vec<_> = (0..4).map(|i| thread::spawn(|| square(i))).collect();
//! let squares: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
//! assert_eq!(squares, [0, 1, 4, 9]);
//! ```
//!
//! # Thread-local values
//!
//! [`std::thread_local!`] gives each attempt of a cloud thread its own value, in every back end, since each attempt
//! runs in a fresh thread of whatever process it is in. A value therefore starts anew, also when an attempt is
//! repeated, and what a [`LocalKey`] refers to never travels. An `async` cloud function is polled by one thread; what
//! it hands to `tokio::spawn` is not.
//!
//! # What std has and this module hasn't
//!
//! The size of a stack can't be set: [`Builder`] has the memory of the whole function instead. `sleep_until` is not
//! stable in std. [`sleep`], [`yield_now`] and [`panicking`] are std's own, and concern the thread that calls.

mod builder;
mod handle;
mod join;
mod parker;
mod scope;

use std::{num::NonZero, time::Duration};

use crucial_runtime::{error::Error, run::Run, task::IntoTask, thread as runtime};
pub use std::thread::{AccessError, LocalKey, panicking, sleep, yield_now};

pub use self::{
    builder::Builder,
    handle::{Thread, ThreadId},
    join::{AbortHandle, JoinHandle},
    scope::{Scope, ScopedJoinHandle, scope},
};

/// The result of [`JoinHandle::join`]: unlike [`std::thread::Result`], it says what went wrong.
pub type Result<T> = std::result::Result<T, Error>;

/// Starts a cloud thread. Takes a task, or a closure that returns one: `thread::spawn(|| f(x))`.
/// Follows [`std::thread::spawn`].
///
/// The closure runs here and now; what runs in the cloud thread is the `#[cloud_fn]` whose call it returns. Its
/// arguments and result are copied.
///
/// # Panics
/// If the back end can't be started, with the reason. Everything that goes wrong later reaches
/// [`JoinHandle::join`].
pub fn spawn<W: IntoTask>(work: W) -> JoinHandle<W::Output> {
    Builder::new().spawn(work).unwrap_or_else(|error| panic!("failed to spawn a cloud thread: {error}"))
}

/// How many cloud threads the back end of this run runs well at the same time: as many as the setting `concurrency`
/// allows, or else as there are CPUs for them. Follows [`std::thread::available_parallelism`].
///
/// # Errors
/// If the back end can't be started.
pub fn available_parallelism() -> Result<NonZero<usize>> {
    let parallelism = Run::current()?.backend()?.parallelism();
    Ok(NonZero::new(parallelism).unwrap_or(NonZero::<usize>::MIN))
}

/// The thread that calls. Follows [`std::thread::current`].
///
/// In a cloud function it is the cloud thread, with the same name and [`ThreadId`] in every attempt. Elsewhere it is
/// this thread of the process, which other cloud threads can [unpark](Thread::unpark), too.
///
/// ```
/// use crucial::{cloud_fn, thread};
///
/// #[cloud_fn]
/// fn name() -> Option<String> {
///     thread::current().name().map(str::to_owned)
/// }
///
/// let named = thread::Builder::new().name("worker").spawn(name).unwrap();
/// assert_eq!(named.join().unwrap().as_deref(), Some("worker"));
/// ```
#[must_use]
pub fn current() -> Thread {
    Thread::of(runtime::current())
}

/// Waits until this thread's token is there, and takes it. Follows [`std::thread::park`].
///
/// Every thread has at most one token, which [`Thread::unpark`] makes available. It does not wake up without a
/// reason, as std's may.
///
/// ```
/// use crucial::{cloud_fn, thread, thread::Thread};
///
/// #[cloud_fn]
/// fn wake(thread: &Thread) {
///     thread.unpark();
/// }
///
/// let here = thread::current();
/// let other = thread::spawn(|| wake(&here));
/// thread::park();
/// other.join().unwrap();
/// ```
///
/// # Panics
/// If the server that holds the token fails, as every blocking call.
#[track_caller]
pub fn park() {
    parker::of_this_thread().take();
}

/// As [`park`], but for at most this long. Follows [`std::thread::park_timeout`].
///
/// # Panics
/// If the server that holds the token fails, as every blocking call.
#[track_caller]
pub fn park_timeout(timeout: Duration) {
    let parker = parker::of_this_thread();
    if timeout.is_zero() {
        parker.try_take();
        return;
    }
    match parker.remote().take().timeout(timeout).wait() {
        Ok(()) | Err(Error::Timeout { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}
