use std::time::Duration;

use super::{Executor, Progress, Queue};
use crate::thread::{self, Result};

/// The settings of an [`Executor`]. Limits that are set here win over the attribute of a function, and that over the
/// configuration, as in [`thread::Builder`](crate::thread::Builder).
///
/// ```
/// use std::time::Duration;
/// use crucial::{cloud_fn, executor::Executor};
///
/// #[cloud_fn]
/// fn double(x: u64) -> u64 {
///     2 * x
/// }
///
/// let executor =
///     Executor::builder().concurrency(8).name("doubler").retries(1).timeout(Duration::from_secs(60)).build().unwrap();
/// let handle = executor.submit(|| double(21)).unwrap();
/// assert_eq!(handle.thread().name(), Some("doubler"));
/// assert_eq!(handle.join(), Ok(42));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder makes nothing before `build`"]
pub struct Builder {
    concurrency: Option<usize>,
    thread: thread::Builder,
    progress: Option<String>,
}

impl Builder {
    /// How many tasks run at once. Default: what
    /// [`available_parallelism`](crate::thread::available_parallelism) says. The setting `concurrency` holds as well,
    /// for all cloud threads of the program together.
    ///
    /// # Panics
    /// If it is 0: nothing would ever run.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        assert!(concurrency > 0, "an executor has to run at least one task at once");
        self.concurrency = Some(concurrency);
        self
    }

    /// The name of its cloud threads, for messages and for [`Thread::name`](crate::thread::Thread::name).
    pub fn name(self, name: impl Into<String>) -> Self {
        Builder { thread: self.thread.name(name), ..self }
    }

    /// How often a failed attempt is repeated: see [`thread::Builder::retries`](crate::thread::Builder::retries).
    pub fn retries(self, retries: u32) -> Self {
        Builder { thread: self.thread.retries(retries), ..self }
    }

    /// How long each attempt may take: see [`thread::Builder::timeout`](crate::thread::Builder::timeout). The time in
    /// the queue doesn't count.
    pub fn timeout(self, timeout: Duration) -> Self {
        Builder { thread: self.thread.timeout(timeout), ..self }
    }

    /// How much memory an attempt may use, in MiB: see
    /// [`thread::Builder::memory`](crate::thread::Builder::memory).
    pub fn memory(self, mib: u64) -> Self {
        Builder { thread: self.thread.memory(mib), ..self }
    }

    /// Shows how many of the submitted tasks have ended, under this name: a bar on standard error, if that is a
    /// terminal, and otherwise nothing. What function processes print appears above it. What threads of this process
    /// print may write over it until it is drawn again.
    #[cfg(feature = "progress")]
    pub fn progress(mut self, what: impl Into<String>) -> Self {
        self.progress = Some(what.into());
        self
    }

    /// Makes the executor.
    ///
    /// # Errors
    /// If the back end can't be started, or the configuration is wrong.
    pub fn build(self) -> Result<Executor> {
        let progress = self.progress.map(|what| Progress::growing(&what));
        let (name, options) = self.thread.into_parts();
        Ok(Executor::with(Queue::new(self.concurrency, progress)?, name, options))
    }
}
