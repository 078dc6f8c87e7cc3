//! Where cloud threads run.

mod abort;
#[cfg(feature = "processes")]
mod again;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "processes")]
mod delivery;
#[cfg(feature = "processes")]
mod event;
#[cfg(feature = "processes")]
pub mod http;
mod hybrid;
#[cfg(feature = "processes")]
pub mod instance;
#[cfg(feature = "processes")]
mod invocations;
mod threads;
mod turn;
#[cfg(feature = "processes")]
mod usage;

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::oneshot;

pub use self::{
    abort::Abort,
    turn::{Turn, turn},
};
use crate::{
    config::{BackendKind, Config},
    error::{Error, Result},
    function::{FunctionInfo, Options},
    run::{self, Run},
    task::{Decode, Task},
    thread::Identity,
    transit::Transit,
};

/// One cloud thread: a function, its arguments, and who waits for the result.
pub struct Work {
    /// The function.
    pub function: &'static FunctionInfo,
    /// Its encoded arguments.
    pub args: Vec<u8>,
    /// What the arguments hold until the function takes it: dropped when the thread has ended.
    pub transit: Transit,
    /// Its options, completed from the configuration.
    pub options: Options,
    /// What the thread finds out about itself.
    pub thread: Arc<Identity>,
    /// Ends it before its time: it doesn't start any more, is stopped where that is possible, and its result is
    /// [`Error::FunctionCancelled`].
    pub abort: Abort,
    /// Gets the encoded result.
    pub done: oneshot::Sender<Result<Vec<u8>>>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("function", &self.function.name).finish_non_exhaustive()
    }
}

impl Work {
    /// The work that a task describes, and its outcome.
    ///
    /// # Errors
    /// If an argument couldn't be encoded.
    pub fn new<T>(
        task: Task<T>,
        options: Options,
        name: Option<String>,
        config: &Config,
    ) -> Result<(Work, Spawned<T>)> {
        let (done, result) = oneshot::channel();
        let work = Work {
            function: task.function,
            args: task.args?,
            transit: task.transit,
            options: options.or(task.options).or(task.function.options).or(config.task_options()),
            thread: Identity::of_task(task.function.name, name),
            abort: Abort::default(),
            done,
        };
        let spawned =
            Spawned { result, decode: task.decode, thread: work.thread.clone(), abort: work.abort.clone() };
        Ok((work, spawned))
    }
}

/// A cloud thread, as the one who started it sees it.
#[derive(Debug)]
pub struct Spawned<T> {
    /// What becomes of it.
    pub result: Outcome,
    /// How to decode that.
    pub decode: Decode<T>,
    /// What is known of it.
    pub thread: Arc<Identity>,
    /// Ends it before its time.
    pub abort: Abort,
}

/// A place where cloud threads run.
pub trait Backend: Send + Sync + 'static {
    /// Starts a cloud thread, or queues it. The result goes to [`Work::done`], after the retries. Never blocks for
    /// longer than a system call.
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()>;

    /// How many cloud threads run well at once: as many as are configured, or as there are CPUs for them.
    fn parallelism(&self) -> usize;

    /// Stops what was started, and returns when nothing of it is left running.
    fn shutdown(&self);
}

/// The configured back end.
pub(crate) fn start(config: &Config) -> Result<Arc<dyn Backend>> {
    match config.backend {
        BackendKind::Threads => Ok(Arc::new(threads::Threads::new(config.concurrency))),
        BackendKind::Hybrid => {
            let local = config.hybrid_threads.unwrap_or_else(cpus);
            // The limit is for both together.
            let local = config.concurrency.map_or(local, |limit| local.min(limit));
            let left = config.concurrency.map(|limit| limit - local);
            let overflow = match left {
                Some(0) => None,
                left => Some(elsewhere(config.hybrid_overflow, config, left)?),
            };
            Ok(Arc::new(hybrid::Hybrid::new(threads::Threads::new(Some(local)), overflow)))
        }
        kind => elsewhere(kind, config, config.concurrency),
    }
}

/// A back end outside of this process.
#[cfg_attr(not(feature = "processes"), expect(unused_variables, reason = "there is none"))]
fn elsewhere(kind: BackendKind, config: &Config, limit: Option<usize>) -> Result<Arc<dyn Backend>> {
    match kind {
        #[cfg(feature = "processes")]
        BackendKind::Processes => Ok(Arc::new(invocations::Invocations::in_processes(config, limit)?)),
        #[cfg(feature = "aws")]
        BackendKind::Lambda => Ok(Arc::new(invocations::Invocations::on_lambda(config, limit)?)),
        #[cfg(feature = "processes")]
        BackendKind::Http => Ok(Arc::new(invocations::Invocations::over_http(config, limit)?)),
        #[cfg(not(feature = "processes"))]
        BackendKind::Processes | BackendKind::Http => Err(without("processes")),
        #[cfg(not(feature = "aws"))]
        BackendKind::Lambda => Err(without("aws")),
        BackendKind::Threads | BackendKind::Hybrid => Err(Error::Config {
            key: "hybrid_overflow".to_owned(),
            value: kind.to_string(),
            source_name: "the program".to_owned(),
            reason: crate::config::OVERFLOWS.to_owned(),
        }),
    }
}

/// The error of a program that lacks a part of the library.
#[cfg(not(all(feature = "processes", feature = "aws")))]
fn without(feature: &str) -> Error {
    Error::Registry {
        reason: format!(
            "this program was built without the feature `{feature}` of `crucial`: add it to the features of that \
             dependency, or choose another back end with CRUCIAL_BACKEND"
        ),
    }
}

/// How many threads this machine runs at once.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Waits for the result of a spawned task.
pub fn wait(result: Outcome, function: &str) -> Result<Vec<u8>> {
    run::blocking(&"join; `.await` the handle instead", || {
        result.blocking_recv().map_err(|_| never(function))
    })?
}

/// The error of a cloud thread that ended without a result, because its run ended.
#[must_use]
pub fn never(function: &str) -> Error {
    Error::FunctionFailed {
        function: function.to_owned(),
        attempt: 1,
        reason: "the run ended before it had a result".to_owned(),
    }
}

/// What becomes of a spawned task: its encoded result.
pub type Outcome = oneshot::Receiver<Result<Vec<u8>>>;

/// Spawns a task in the current run.
pub fn spawn<T>(task: Task<T>, options: Options, name: Option<String>) -> Result<Spawned<T>> {
    let run = Run::current()?;
    let (work, spawned) = Work::new(task, options, name, run.config())?;
    run.backend()?.start(&run, work)?;
    Ok(spawned)
}

fn cancelled(function: &FunctionInfo) -> Error {
    Error::FunctionCancelled { function: function.name.to_owned() }
}

fn failed(function: &FunctionInfo, attempt: u32, reason: &str) -> Error {
    Error::FunctionFailed { function: function.name.to_owned(), attempt, reason: reason.to_owned() }
}

/// Decides whether a failed attempt is repeated, and after which pause: exponential back-off from 50 ms to 5 s.
///
/// Invariant: only a failed *attempt* is repeated (panic, crash, timeout, out of memory), never a call of the wrong
/// function or an argument that can't be encoded, which would fail again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    attempt: u32,
    left: u32,
}

impl Retry {
    /// Before the first attempt, with this many to repeat it.
    #[must_use]
    pub fn new(retries: u32) -> Self {
        Retry { attempt: 1, left: retries }
    }

    /// The number of the attempt to make now, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The pause before the next attempt; none if `error` is final.
    pub fn after(&mut self, error: &Error) -> Option<Duration> {
        if self.left == 0 || !matches!(error, Error::FunctionPanicked { .. } | Error::FunctionFailed { .. }) {
            return None;
        }
        let pause = Duration::from_millis(50 << (self.attempt - 1).min(10)).min(Duration::from_secs(5));
        self.left -= 1;
        self.attempt += 1;
        Some(pause)
    }
}
