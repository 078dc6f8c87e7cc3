use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use crucial_runtime::{
    backend::{self, Spawned},
    error::Error,
    run,
    task::IntoTask,
};
use tokio::sync::{oneshot, watch};

use super::{AbortHandle, Builder, JoinHandle, Result, Thread, ThreadId};

/// Calls `f` with a scope for cloud threads, all of which have ended when this returns.
/// Follows [`std::thread::scope`].
///
/// Arguments are copied when a thread is spawned, so what they borrow need not live until the end of the scope.
///
/// ```
/// use crucial::{cloud_fn, thread};
///
/// #[cloud_fn]
/// fn sum(numbers: &[u64]) -> u64 {
///     numbers.iter().sum()
/// }
///
/// let numbers: Vec<u64> = (1..=100).collect();
/// let (low, high) = numbers.split_at(50);
/// let total = thread::scope(|s| {
///     let low = s.spawn(|| sum(low));
///     let high = s.spawn(|| sum(high));
///     low.join().unwrap() + high.join().unwrap()
/// });
/// assert_eq!(total, 5050);
/// ```
///
/// # Panics
/// If `f` panics, or a thread failed that nobody joined; but not before all of them have ended. And in a
/// current-thread async runtime, which waiting for the threads would stop.
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    // Refused before anything is started, rather than after.
    run::may_block(&"thread::scope").unwrap_or_else(|error| panic!("{error}"));
    let scope = Scope { data: Arc::default(), scope: PhantomData, env: PhantomData };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let mut running = scope.data.running.subscribe();
    // The sender is in `scope`, so it isn't gone.
    let _ = run::block_on(running.wait_for(|running| *running == 0));
    let failed = scope.data.failed().pop();
    match (result, failed) {
        (Err(panic), _) => resume_unwind(panic),
        (Ok(_), Some((_, error))) => panic!("a scoped thread panicked: {error}"),
        (Ok(value), None) => value,
    }
}

/// Where scoped cloud threads are spawned; see [`scope`]. Follows [`std::thread::Scope`].
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<Data>,
    // Both are invariant, as std's.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("running", &*self.data.running.borrow()).finish_non_exhaustive()
    }
}

struct Data {
    running: watch::Sender<usize>,
    /// Threads whose failure nobody has been told.
    failed: Mutex<Vec<(ThreadId, Error)>>,
}

impl Default for Data {
    fn default() -> Self {
        Data { running: watch::Sender::new(0), failed: Mutex::default() }
    }
}

impl Data {
    fn failed(&self) -> MutexGuard<'_, Vec<(ThreadId, Error)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody gets to know how this thread ended.
    fn told(&self, thread: ThreadId) {
        self.failed().retain(|(failed, _)| *failed != thread);
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a cloud thread that ends within the scope. Takes a task, or a closure that returns one.
    /// Follows [`std::thread::Scope::spawn`].
    ///
    /// # Panics
    /// If the back end can't be started, with the reason.
    pub fn spawn<W: IntoTask>(&'scope self, work: W) -> ScopedJoinHandle<'scope, W::Output> {
        let spawned = Builder::new().spawn_scoped(self, work);
        spawned.unwrap_or_else(|error| panic!("failed to spawn a cloud thread: {error}"))
    }

    pub(super) fn adopt<T>(&'scope self, spawned: Spawned<T>) -> ScopedJoinHandle<'scope, T> {
        let (done, result) = oneshot::channel();
        let Spawned { result: ends, decode, thread, abort } = spawned;
        let handle = JoinHandle::new(Spawned { result, decode, thread, abort });
        let (thread, data) = (handle.thread().clone(), self.data.clone());
        data.running.send_modify(|running| *running += 1);
        run::io().spawn(async move {
            let result = ends.await.unwrap_or_else(|_| Err(backend::never(thread.function())));
            match &result {
                // Who aborts a thread knows how it ends.
                Ok(_) | Err(Error::FunctionCancelled { .. }) => {}
                Err(error) => data.failed().push((thread.id(), error.clone())),
            }
            let _ = done.send(result);
            data.running.send_modify(|running| *running -= 1);
        });
        ScopedJoinHandle { handle, data: self.data.clone(), scope: PhantomData }
    }
}

/// A cloud thread of a [`scope`] that can be joined, or awaited. Follows [`std::thread::ScopedJoinHandle`]: a thread
/// whose handle is dropped is joined at the end of the scope.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    data: Arc<Data>,
    scope: PhantomData<&'scope ()>,
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("thread", self.thread()).finish_non_exhaustive()
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the thread and returns its result.
    ///
    /// # Errors
    /// As [`JoinHandle::join`].
    pub fn join(self) -> Result<T> {
        let thread = self.thread().id();
        let result = self.handle.join();
        self.data.told(thread);
        result
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// What is known of the thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.handle.thread()
    }

    /// Ends the thread before its time: see [`JoinHandle::abort`]. The scope doesn't count that as a failure.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// What [aborts](Self::abort) the thread from elsewhere.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        self.handle.abort_handle()
    }
}

impl<T> Future for ScopedJoinHandle<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.handle).poll(cx).map(|result| {
            self.data.told(self.thread().id());
            result
        })
    }
}
