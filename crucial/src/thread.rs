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

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crucial_runtime::{
    backend,
    error::Error,
    function::Options,
    run::Run,
    task::{IntoTask, Task},
};
pub use std::thread::{sleep, yield_now};
use tokio::sync::oneshot;

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

/// How many cloud threads can run at the same time on the back end of this run.
/// Follows [`std::thread::available_parallelism`].
///
/// # Errors
/// If the back end can't be started.
pub fn available_parallelism() -> Result<usize> {
    Ok(Run::current()?.backend()?.parallelism())
}

/// How a cloud thread is to run. Follows [`std::thread::Builder`]. What is set here wins over the attribute of the
/// function, and that over the configuration.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder starts nothing before `spawn`"]
pub struct Builder {
    name: Option<String>,
    options: Options,
}

impl Builder {
    /// A thread without a name, with the options of its function.
    pub fn new() -> Self {
        Builder::default()
    }

    /// The thread's name, for messages.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How often a failed attempt (a panic, a crash, a timeout, too much memory) is repeated, with growing pauses.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// How long an attempt may take. In `threads`, a thread can't be stopped: `join` gives up on it, and it runs on.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How much memory an attempt may use, in MiB. Nothing limits it in `threads`.
    pub fn memory(mut self, mib: u64) -> Self {
        self.options.memory = Some(mib);
        self
    }

    /// Starts the cloud thread.
    ///
    /// # Errors
    /// If an argument can't be encoded, the back end can't be started, or the configuration is wrong.
    pub fn spawn<W: IntoTask>(self, work: W) -> Result<JoinHandle<W::Output>> {
        let task: Task<W::Output> = work.into_task();
        let thread = Thread { name: self.name.clone(), function: task.name() };
        let (result, decode) = backend::spawn(task, self.options, self.name)?;
        Ok(JoinHandle { result, decode, thread })
    }
}

/// What is known of a cloud thread. Follows [`std::thread::Thread`].
#[derive(Clone, Debug)]
pub struct Thread {
    name: Option<String>,
    function: &'static str,
}

impl Thread {
    /// The name that its [`Builder`] gave it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The path of the function that it runs.
    #[must_use]
    pub fn function(&self) -> &'static str {
        self.function
    }
}

/// A cloud thread that can be joined, or awaited. Follows [`std::thread::JoinHandle`]: dropping it detaches the
/// thread.
pub struct JoinHandle<T> {
    result: oneshot::Receiver<Result<Vec<u8>>>,
    decode: fn(&[u8]) -> Result<T>,
    thread: Thread,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the thread and returns its result.
    ///
    /// # Errors
    /// If the function panicked or its last attempt failed otherwise; the error names function and attempt.
    pub fn join(self) -> Result<T> {
        let bytes = backend::wait(self.result, self.thread.function)?;
        (self.decode)(&bytes)
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.result.is_empty() || self.result.is_terminated()
    }

    /// What is known of the thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.result).poll(cx).map(|result| {
            let bytes = result.unwrap_or_else(|_| Err(backend::never(self.thread.function)))?;
            (self.decode)(&bytes)
        })
    }
}
