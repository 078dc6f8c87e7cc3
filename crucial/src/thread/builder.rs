use std::time::Duration;

use crucial_runtime::{backend, function::Options, task::IntoTask};

use super::{JoinHandle, Result, Scope, ScopedJoinHandle};

/// How a cloud thread is to run. Follows [`std::thread::Builder`]. What is set here wins over the attribute of the
/// function, and that over the configuration.
///
/// ```
/// use std::time::Duration;
/// use crucial::{cloud_fn, thread};
///
/// #[cloud_fn]
/// fn double(x: u64) -> u64 {
///     2 * x
/// }
///
/// let builder = thread::Builder::new().name("doubler").retries(2).timeout(Duration::from_secs(60));
/// let thread = builder.spawn(|| double(21)).unwrap();
/// assert_eq!(thread.thread().name(), Some("doubler"));
/// assert_eq!(thread.join(), Ok(42));
/// ```
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

    pub(crate) fn into_parts(self) -> (Option<String>, Options) {
        (self.name, self.options)
    }

    /// The thread's name, for messages and for [`Thread::name`](super::Thread::name).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How often a failed attempt (a panic, a crash, a timeout, too much memory) is repeated, with growing pauses.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// How long each attempt may take. A function process that takes longer is killed. In `threads`, a thread can't
    /// be stopped: `join` gives up on it, and it runs on.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How much memory an attempt may use, in MiB. Nothing limits it in `threads`.
    pub fn memory(mut self, mib: u64) -> Self {
        self.options.memory = Some(mib);
        self
    }

    /// Starts the cloud thread. Follows [`std::thread::Builder::spawn`].
    ///
    /// # Errors
    /// If an argument can't be encoded, the back end can't be started, or the configuration is wrong.
    pub fn spawn<W: IntoTask>(self, work: W) -> Result<JoinHandle<W::Output>> {
        backend::spawn(work.into_task(), self.options, self.name).map(JoinHandle::new)
    }

    /// Starts a cloud thread that is joined at the end of the scope at the latest.
    /// Follows [`std::thread::Builder::spawn_scoped`].
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_scoped<'scope, W: IntoTask>(
        self,
        scope: &'scope Scope<'scope, '_>,
        work: W,
    ) -> Result<ScopedJoinHandle<'scope, W::Output>> {
        backend::spawn(work.into_task(), self.options, self.name).map(|spawned| scope.adopt(spawned))
    }
}
