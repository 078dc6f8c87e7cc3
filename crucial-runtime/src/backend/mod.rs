//! Where cloud threads run.

#[cfg(feature = "processes")]
mod event;
#[cfg(feature = "processes")]
pub mod instance;
#[cfg(feature = "processes")]
mod processes;
mod threads;

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    config::BackendKind,
    error::{Error, Result},
    function::{FunctionInfo, Options},
    run::{self, Run},
    task::{Decode, Task},
};

/// One cloud thread: a function, its arguments, and who waits for the result.
pub struct Work {
    /// The function.
    pub function: &'static FunctionInfo,
    /// Its encoded arguments.
    pub args: Vec<u8>,
    /// Its options, completed from the configuration.
    pub options: Options,
    /// The thread's name, for messages.
    pub name: Option<String>,
    /// Gets the encoded result.
    pub done: tokio::sync::oneshot::Sender<Result<Vec<u8>>>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("function", &self.function.name).finish_non_exhaustive()
    }
}

/// A place where cloud threads run.
pub trait Backend: Send + Sync + 'static {
    /// Starts a cloud thread, or queues it. The result goes to [`Work::done`], after the retries.
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()>;

    /// How many cloud threads can run at once.
    fn parallelism(&self) -> usize;

    /// Stops what was started, and returns when nothing of it is left running.
    fn shutdown(&self);
}

/// The configured back end.
pub(crate) fn start(run: &Run) -> Result<Arc<dyn Backend>> {
    match run.config().backend {
        BackendKind::Threads => Ok(Arc::new(threads::Threads::new(run.config().concurrency))),
        #[cfg(feature = "processes")]
        BackendKind::Processes => Ok(Arc::new(processes::Processes::start(run)?)),
        #[cfg(not(feature = "processes"))]
        BackendKind::Processes => Err(Error::Registry {
            reason: "this program was built without the feature `processes` of `crucial`".to_owned(),
        }),
    }
}

/// Waits for the result of a spawned task.
pub fn wait(result: Outcome, function: &str) -> Result<Vec<u8>> {
    run::blocking(&"join", || result.blocking_recv().map_err(|_| never(function)))?
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
pub type Outcome = tokio::sync::oneshot::Receiver<Result<Vec<u8>>>;

/// Spawns a task in the current run. Returns its outcome, and how to decode that.
pub fn spawn<T>(task: Task<T>, options: Options, name: Option<String>) -> Result<(Outcome, Decode<T>)> {
    let run = Run::current()?;
    let config = run.config();
    let defaults =
        Options { retries: Some(config.retries), timeout: config.timeout, memory: Some(config.memory) };
    let (done, result) = tokio::sync::oneshot::channel();
    let options = options.or(task.options).or(task.function.options).or(defaults);
    run.backend()?.start(&run, Work { function: task.function, args: task.args?, options, name, done })?;
    Ok((result, task.decode))
}

/// Decides whether a failed attempt is repeated, and after which pause: exponential back-off from 50 ms to 5 s.
///
/// Invariant: only a failed *attempt* is repeated (panic, crash, timeout, out of memory), never a call of the wrong
/// function or an argument that can't be encoded, which would fail again.
#[derive(Debug)]
pub(crate) struct Retry {
    attempt: u32,
    left: u32,
}

impl Retry {
    pub(crate) fn new(retries: u32) -> Self {
        Retry { attempt: 1, left: retries }
    }

    /// The number of the attempt to make now, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The pause before the next attempt; none if `error` is final.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        if self.left == 0 || !matches!(error, Error::FunctionPanicked { .. } | Error::FunctionFailed { .. }) {
            return None;
        }
        let pause = Duration::from_millis(50 << (self.attempt - 1).min(10)).min(Duration::from_secs(5));
        self.left -= 1;
        self.attempt += 1;
        Some(pause)
    }
}
