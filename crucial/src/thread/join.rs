use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crucial_runtime::{
    backend::{self, Abort, Outcome, Spawned},
    task::Decode,
};

use super::{Result, Thread};

/// A cloud thread that can be joined, or awaited. Follows [`std::thread::JoinHandle`]: dropping it detaches the
/// thread.
///
/// ```
/// use crucial::{cloud_fn, thread};
///
/// #[cloud_fn]
/// fn root(x: f64) -> f64 {
///     x.sqrt()
/// }
///
/// # crucial::run::block_on(async {
/// assert_eq!(thread::spawn(|| root(4.0)).await, Ok(2.0));
/// # });
/// assert_eq!(thread::spawn(|| root(9.0)).join(), Ok(3.0));
/// ```
pub struct JoinHandle<T> {
    result: Outcome,
    decode: Decode<T>,
    thread: Thread,
    abort: Abort,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(spawned: Spawned<T>) -> Self {
        let Spawned { result, decode, thread, abort } = spawned;
        JoinHandle { result, decode, thread: Thread::of(thread), abort }
    }

    pub(crate) fn into_outcome(self) -> (Outcome, Decode<T>) {
        (self.result, self.decode)
    }

    /// Waits for the thread and returns its result.
    ///
    /// # Errors
    /// If the function panicked or its last attempt failed otherwise; the error names function and attempt. In a
    /// current-thread async runtime, which waiting would stop: `.await` the handle there.
    pub fn join(self) -> Result<T> {
        let bytes = backend::wait(self.result, self.thread.function())?;
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

    /// Ends the thread before its time, unless it has ended: if it waits for its turn, it never starts, and in
    /// `processes` its process is killed. A thread of this process can't be stopped and runs on. In any case
    /// [`join`](Self::join) gives [`Error::FunctionCancelled`](crate::Error::FunctionCancelled) at once, and no
    /// attempt follows. Named after the `tokio` crate's.
    ///
    /// ```
    /// use crucial::{Error, cloud_fn, sync::Semaphore, thread};
    ///
    /// #[cloud_fn]
    /// fn wait(semaphore: &Semaphore) {
    ///     semaphore.take(1);
    /// }
    ///
    /// let semaphore = Semaphore::new(0);
    /// let thread = thread::spawn(|| wait(&semaphore));
    /// thread.abort();
    /// assert!(matches!(thread.join(), Err(Error::FunctionCancelled { .. })));
    /// ```
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// What [aborts](Self::abort) the thread from elsewhere. Named after the `tokio` crate's.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { abort: self.abort.clone() }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.result).poll(cx).map(|result| {
            let bytes = result.unwrap_or_else(|_| Err(backend::never(self.thread.function())))?;
            (self.decode)(&bytes)
        })
    }
}

/// Ends a cloud thread before its time: see [`JoinHandle::abort`].
#[derive(Clone, Debug)]
pub struct AbortHandle {
    abort: Abort,
}

impl AbortHandle {
    /// See [`JoinHandle::abort`].
    pub fn abort(&self) {
        self.abort.abort();
    }
}
