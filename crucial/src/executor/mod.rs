//! Executors: cloud threads from a queue, so many at a time. After Java's `java.util.concurrent.ExecutorService`.
//!
//! [`thread::spawn`](crate::thread::spawn) starts a thread for each task; an [`Executor`] takes many tasks, runs a
//! few of them at once, and can be shut down as a whole. Each task is a cloud thread of its own; for very many small
//! ones, [`iter`](crate::iter) puts several into one.
//!
//! ```
//! use crucial::{cloud_fn, executor::Executor};
//!
//! #[cloud_fn]
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! let executor = Executor::builder().concurrency(4).build().unwrap();
//! let one = executor.submit(|| square(7)).unwrap();
//! let all = executor.invoke_all((0..10).map(square));
//! assert_eq!(all.into_iter().map(Result::unwrap).sum::<u64>(), 285);
//! assert_eq!(one.join(), Ok(49));
//! executor.shutdown();
//! ```

mod builder;
mod queue;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crucial_runtime::{
    backend::{self, Work},
    error::Error,
    function::Options,
    run,
    task::IntoTask,
};
use futures::stream::{FuturesUnordered, StreamExt};

pub use self::builder::Builder;
pub(crate) use self::queue::Queue;
use crate::{
    progress::Progress,
    thread::{JoinHandle, Result},
};

/// Runs tasks in cloud threads, so many at a time; the others wait, first come, first served.
/// After Java's `ExecutorService`.
///
/// An executor belongs to the run in which it was made, and its methods can be called from several threads. Dropping
/// it is not a shutdown: what was submitted runs on, as a thread whose handle is dropped.
///
/// ```
/// use crucial::{Error, cloud_fn, executor::Executor};
///
/// #[cloud_fn]
/// fn length(text: &str) -> usize {
///     text.len()
/// }
///
/// let executor = Executor::new();
/// let handle = executor.submit(|| length("four")).unwrap();
/// executor.shutdown();
/// assert_eq!(handle.join(), Ok(4));
/// assert!(matches!(executor.submit(|| length("late")), Err(Error::ExecutorShutDown)));
/// ```
pub struct Executor {
    queue: Arc<Queue>,
    name: Option<String>,
    options: Options,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("name", &self.name)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Executor {
    /// An executor that runs as many tasks at once as
    /// [`available_parallelism`](crate::thread::available_parallelism) says.
    ///
    /// # Panics
    /// If the back end can't be started, with the reason.
    #[expect(clippy::new_without_default, reason = "it starts the back end, which can fail")]
    #[must_use]
    pub fn new() -> Self {
        Builder::default().build().unwrap_or_else(|error| panic!("failed to make an executor: {error}"))
    }

    /// An executor with settings of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn with(queue: Queue, name: Option<String>, options: Options) -> Self {
        Executor { queue: Arc::new(queue), name, options }
    }

    /// Adds a task, or a closure that returns one, to the queue. It starts when it is its turn. The handle is that of
    /// [`thread::spawn`](crate::thread::spawn): dropping it leaves the task alone, and
    /// [`abort`](JoinHandle::abort) takes it out of the queue or stops it.
    ///
    /// # Errors
    /// [`Error::ExecutorShutDown`] after a shutdown; [`Error::Encode`] if an argument can't be encoded. What goes
    /// wrong later reaches [`JoinHandle::join`].
    pub fn submit<W: IntoTask>(&self, work: W) -> Result<JoinHandle<W::Output>> {
        let config = self.queue.run().config();
        let (work, spawned) = Work::new(work.into_task(), self.options, self.name.clone(), config)?;
        self.queue.add(work, 1)?;
        Ok(JoinHandle::new(spawned))
    }

    /// Runs all tasks and waits for them. The results are in the order of the tasks.
    /// After Java's `ExecutorService.invokeAll`.
    ///
    /// # Errors
    /// Each result is that of [`submit`](Self::submit) and [`JoinHandle::join`].
    pub fn invoke_all<W: IntoTask>(&self, tasks: impl IntoIterator<Item = W>) -> Vec<Result<W::Output>> {
        match run::may_block(&"invoke_all") {
            Ok(()) => join_all(self.submit_all(tasks)),
            Err(error) => tasks.into_iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// As [`invoke_all`](Self::invoke_all), but tasks that haven't ended after this time are
    /// [aborted](JoinHandle::abort): their results are [`Error::FunctionCancelled`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use crucial::{cloud_fn, executor::Executor, sync::Semaphore};
    ///
    /// #[cloud_fn]
    /// fn wait(semaphore: &Semaphore) {
    ///     semaphore.take(1);
    /// }
    ///
    /// let semaphore = Semaphore::new(1);
    /// let tasks = (0..2).map(|_| wait(&semaphore));
    /// let executor = Executor::builder().concurrency(2).build().unwrap();
    /// let results = executor.invoke_all_timeout(tasks, Duration::from_secs(1));
    /// assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    /// ```
    ///
    /// # Errors
    /// As [`invoke_all`](Self::invoke_all).
    pub fn invoke_all_timeout<W: IntoTask>(
        &self,
        tasks: impl IntoIterator<Item = W>,
        timeout: Duration,
    ) -> Vec<Result<W::Output>> {
        if let Err(error) = run::may_block(&"invoke_all_timeout") {
            return tasks.into_iter().map(|_| Err(error.clone())).collect();
        }
        let start = Instant::now();
        let handles = self.submit_all(tasks);
        let aborts: Vec<_> = handles.iter().flatten().map(JoinHandle::abort_handle).collect();
        let timer = run::io().spawn(async move {
            tokio::time::sleep(timeout.saturating_sub(start.elapsed())).await;
            for abort in aborts {
                abort.abort();
            }
        });
        let results = join_all(handles);
        timer.abort();
        results
    }

    /// Runs tasks until one succeeds; returns its result and [aborts](JoinHandle::abort) the others. Tasks that wait
    /// for their turn never start. After Java's `ExecutorService.invokeAny`.
    ///
    /// To succeed is to return, whatever is returned: a task that returns an `Err` of its own has succeeded.
    ///
    /// ```
    /// use crucial::{cloud_fn, executor::Executor};
    ///
    /// #[cloud_fn]
    /// fn inverse(x: u64) -> u64 {
    ///     100 / x
    /// }
    ///
    /// let executor = Executor::new();
    /// assert_eq!(executor.invoke_any([inverse(0), inverse(4)]), Ok(25));
    /// ```
    ///
    /// # Errors
    /// If every task fails, that of the last one that does; [`Error::ExecutorShutDown`] after a shutdown.
    ///
    /// # Panics
    /// If there are no tasks.
    pub fn invoke_any<W: IntoTask>(&self, tasks: impl IntoIterator<Item = W>) -> Result<W::Output> {
        self.any("invoke_any", tasks, None)
    }

    /// As [`invoke_any`](Self::invoke_any), but for at most this long; then all tasks are aborted.
    ///
    /// # Errors
    /// As [`invoke_any`](Self::invoke_any), and [`Error::Timeout`].
    ///
    /// # Panics
    /// If there are no tasks.
    pub fn invoke_any_timeout<W: IntoTask>(
        &self,
        tasks: impl IntoIterator<Item = W>,
        timeout: Duration,
    ) -> Result<W::Output> {
        self.any("invoke_any_timeout", tasks, Some(timeout))
    }

    fn any<W: IntoTask>(
        &self,
        what: &str,
        tasks: impl IntoIterator<Item = W>,
        timeout: Option<Duration>,
    ) -> Result<W::Output> {
        run::may_block(&what)?;
        let mut rest = AbortOnDrop(Vec::new());
        let mut decoders = Vec::new();
        // They come in the order in which they are there: the last failure is the last one.
        let mut outcomes = FuturesUnordered::new();
        let mut failure = None;
        for task in self.submit_all(tasks) {
            match task {
                Ok(handle) => {
                    rest.0.push(handle.abort_handle());
                    let (task, function) = (decoders.len(), handle.thread().function().to_owned());
                    let (outcome, decode) = handle.into_outcome();
                    decoders.push(decode);
                    outcomes.push(async move {
                        (task, outcome.await.unwrap_or_else(|_| Err(backend::never(&function))))
                    });
                }
                Err(error) => failure = Some(error),
            }
        }
        let first = async {
            while let Some(outcome) = outcomes.next().await {
                match outcome {
                    (task, Ok(bytes)) => return decoders[task](&bytes),
                    (_, Err(error)) => failure = Some(error),
                }
            }
            Err(failure.unwrap_or_else(|| panic!("{what} needs at least one task")))
        };
        run::block_on(async {
            match timeout {
                None => first.await,
                Some(after) => tokio::time::timeout(after, first)
                    .await
                    .unwrap_or_else(|_| Err(Error::Timeout { what: what.to_owned(), after })),
            }
        })
    }

    fn submit_all<W: IntoTask>(
        &self,
        tasks: impl IntoIterator<Item = W>,
    ) -> Vec<Result<JoinHandle<W::Output>>> {
        tasks.into_iter().map(|task| self.submit(task)).collect()
    }

    /// Takes no more tasks, and waits until those it has have ended. Shutting down again only waits.
    /// After Java's `ExecutorService.close`.
    ///
    /// # Panics
    /// In a current-thread async runtime, which waiting would stop.
    pub fn shutdown(&self) {
        run::may_block(&"Executor::shutdown").unwrap_or_else(|error| panic!("{error}"));
        self.queue.close();
        run::block_on(self.queue.emptied());
    }

    /// As [`shutdown`](Self::shutdown), but waits for at most this long. Returns whether all tasks have ended; those
    /// that haven't go on. After Java's `ExecutorService.awaitTermination`, named after the `tokio` crate's.
    ///
    /// # Panics
    /// In a current-thread async runtime, which waiting would stop.
    pub fn shutdown_timeout(&self, timeout: Duration) -> bool {
        run::may_block(&"Executor::shutdown_timeout").unwrap_or_else(|error| panic!("{error}"));
        self.queue.close();
        run::block_on(async { tokio::time::timeout(timeout, self.queue.emptied()).await.is_ok() })
    }

    /// Takes no more tasks, and [aborts](JoinHandle::abort) those it has, without waiting for them. Returns how many
    /// of them never started; the handles of all that had not ended give [`Error::FunctionCancelled`].
    /// After Java's `ExecutorService.shutdownNow`.
    pub fn shutdown_now(&self) -> usize {
        self.queue.close_now()
    }

    /// Whether it takes no more tasks. After Java's `ExecutorService.isShutdown`.
    #[must_use]
    pub fn is_shutdown(&self) -> bool {
        self.queue.is_closed()
    }
}

fn join_all<T>(handles: Vec<Result<JoinHandle<T>>>) -> Vec<Result<T>> {
    handles.into_iter().map(|handle| handle.and_then(JoinHandle::join)).collect()
}

/// Threads whose results nobody wants, however the one who waited for them goes on.
struct AbortOnDrop(Vec<crate::thread::AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        // Those that wait are behind those that run: none of them may get the place of one that was aborted before it.
        self.0.iter().rev().for_each(crate::thread::AbortHandle::abort);
    }
}
