//! A run: one execution of a client program, with its DSO layer and its back end.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
};

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};

use crate::{
    backend::{self, Backend},
    client,
    config::{BackendKind, Config},
    dso::Dso,
    error::{Error, Result},
    id::{self, MemberId, RunId},
    object,
};

/// One execution of a client program, as every thread and function process of it sees it.
///
/// Ephemeral objects belong to a run. A program has one; tests have one each.
pub struct Run {
    id: RunId,
    /// This process's part in it.
    member: MemberId,
    config: Arc<Config>,
    dso: Arc<dyn Dso>,
    backend: OnceLock<Arc<dyn Backend>>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("id", &self.id).finish_non_exhaustive()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Run>>> = const { RefCell::new(None) };
    static IN_METHOD: Cell<bool> = const { Cell::new(false) };
}

static GLOBAL: OnceLock<Result<Arc<Run>>> = OnceLock::new();

/// Opens the DSO layer of a run.
pub type Open = fn(&Arc<Config>, RunId, MemberId) -> Result<Arc<dyn Dso>>;

/// How a process hosts its own DSO node; the server crate submits one.
pub struct Embedded {
    /// Opens the DSO layer of a run on the process's own node.
    pub open: Open,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

inventory::collect!(Embedded);

impl Run {
    /// Starts a run with this configuration: on the configured servers, or else on a node in this process.
    pub fn start(config: Config) -> Result<Arc<Run>> {
        object::check_registry()?;
        let config = Arc::new(config);
        let backend = OnceLock::new();
        if config.uses(BackendKind::Lambda) || config.uses(BackendKind::Http) {
            // What is missing is said now, and not at the first spawn.
            let _ = backend.set(backend::start(&config)?);
        }
        let (id, member) = (RunId(id::fresh()), MemberId(id::fresh()));
        let dso: Arc<dyn Dso> = if config.servers.is_empty() {
            let embedded = inventory::iter::<Embedded>.into_iter().next().ok_or_else(|| Error::Registry {
                reason: "this program has no DSO node to embed: depend on the `crucial` crate, or set \
                         CRUCIAL_SERVERS"
                    .to_owned(),
            })?;
            (embedded.open)(&config, id, member)?
        } else {
            Arc::new(client::Remote::connect(&config, &config.servers, id, member, client::Part::Root)?)
        };
        Ok(Arc::new(Run { id, member, config, dso, backend }))
    }

    /// As [`start`](Self::start) on servers, for async code.
    #[cfg(feature = "simulation")]
    pub async fn open(config: Config) -> Result<Arc<Run>> {
        let config = Arc::new(config);
        let (id, member) = (RunId(id::fresh()), MemberId(id::fresh()));
        let dso = client::Remote::open(&config, &config.servers, id, member, client::Part::Root).await?;
        Ok(Arc::new(Run { id, member, config, dso: Arc::new(dso), backend: OnceLock::new() }))
    }

    /// Takes part in a run that another process started; `since` is what [`Dso::since`] said there.
    pub fn join(config: Config, id: RunId, servers: &[String], since: u64) -> Result<Arc<Run>> {
        let config = Arc::new(config);
        let member = MemberId(id::fresh());
        let dso =
            Arc::new(client::Remote::connect(&config, servers, id, member, client::Part::Member { since })?);
        Ok(Arc::new(Run { id, member, config, dso, backend: OnceLock::new() }))
    }

    /// The run that this thread belongs to. In a program without `#[crucial::main]`, the first use starts one.
    ///
    /// # Errors
    /// If the configuration is wrong, no server is reachable, or this is a test's thread that belongs to no run.
    pub fn current() -> Result<Arc<Run>> {
        CURRENT.with_borrow(Clone::clone).map_or_else(|| Self::global().cloned(), Ok)
    }

    /// The identity of the run that this thread belongs to.
    ///
    /// # Errors
    /// As [`Run::current`].
    pub fn current_id() -> Result<RunId> {
        Self::with(Self::id)
    }

    /// Calls `f` with the run that this thread belongs to.
    pub(crate) fn with<R>(f: impl FnOnce(&Run) -> R) -> Result<R> {
        CURRENT.with_borrow(|current| match current {
            Some(run) => Ok(f(run)),
            None => Ok(f(Self::global()?)),
        })
    }

    fn global() -> Result<&'static Arc<Run>> {
        GLOBAL.get_or_init(|| Run::start(Config::load()?)).as_ref().map_err(Clone::clone)
    }

    /// Makes this the run of every thread that does not belong to another.
    pub fn make_global(self: Arc<Self>) {
        // A program has one global run; a second call can only come from a second start of the same role.
        let _ = GLOBAL.set(Ok(self));
    }

    /// Makes sure that threads outside any run fail instead of starting one: what test processes do.
    pub fn forbid_global() {
        let _ = GLOBAL.set(Err(Error::NoRun));
    }

    /// Makes this thread part of the run until the guard is dropped.
    #[must_use = "the thread leaves the run when the guard is dropped"]
    pub fn enter(self: &Arc<Self>) -> Entered {
        Entered { previous: CURRENT.replace(Some(self.clone())) }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// This process's part in it.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Its DSO layer.
    #[must_use]
    pub fn dso(&self) -> &Arc<dyn Dso> {
        &self.dso
    }

    /// Its back end for cloud threads, started on first use.
    pub fn backend(&self) -> Result<&Arc<dyn Backend>> {
        if self.backend.get().is_none() {
            let backend = backend::start(&self.config)?;
            // Two threads may both have started one; the one that lost the race has no work yet.
            let _ = self.backend.set(backend);
        }
        Ok(self.backend.get().expect("set above"))
    }

    /// Uses this back end.
    #[must_use]
    pub fn with_backend(self: Arc<Self>, backend: Arc<dyn Backend>) -> Arc<Self> {
        let _ = self.backend.set(backend);
        self
    }

    /// Ends the run: stops its function processes and removes its ephemeral objects.
    pub fn end(&self) {
        if let Some(backend) = self.backend.get() {
            backend.shutdown();
        }
        self.dso.end_run();
    }
}

/// A thread's membership in a run; see [`Run::enter`].
#[derive(Debug)]
pub struct Entered {
    previous: Option<Arc<Run>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.previous.take());
    }
}

/// The process's own async runtime: sockets, timers and child processes. It lives as long as the process.
pub fn io() -> &'static Handle {
    static IO: OnceLock<Runtime> = OnceLock::new();
    IO.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("crucial-io")
            .enable_all()
            .build()
            .expect("the operating system gives threads for the async runtime")
    })
    .handle()
}

/// The async runtime of this process's own tasks and timers. In a simulation, each host is a process.
pub(crate) fn own() -> Handle {
    if cfg!(feature = "simulation") { Handle::current() } else { io().clone() }
}

/// Runs something that blocks: right here, or so that a multi-thread async runtime goes on meanwhile.
pub(crate) fn blocking<R>(what: &dyn fmt::Display, f: impl FnOnce() -> Result<R>) -> Result<R> {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Err(_) => f(),
        Ok(RuntimeFlavor::CurrentThread) => Err(Error::BlockingInAsync { what: what.to_string() }),
        Ok(_) => tokio::task::block_in_place(f),
    }
}

/// Whether this thread may block: [`Error::BlockingInAsync`] if that would stop a whole async runtime.
pub fn may_block(what: &dyn fmt::Display) -> Result<()> {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::CurrentThread) => Err(Error::BlockingInAsync { what: what.to_string() }),
        _ => Ok(()),
    }
}

/// Runs something that blocks for a moment, whatever runtime this thread is in.
#[cfg(feature = "processes")]
pub(crate) fn aside<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        // A thread outside of the runtime may block; this one waits for it as for any other system call.
        Ok(RuntimeFlavor::CurrentThread) => std::thread::scope(|scope| {
            scope.spawn(f).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }),
        _ => f(),
    }
}

/// Drives a future from a blocking thread.
///
/// # Panics
/// Inside a current-thread async runtime, which it would stop.
pub fn block_on<F: Future>(future: F) -> F::Output {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Err(_) => io().block_on(future),
        Ok(RuntimeFlavor::CurrentThread) => {
            panic!("{}", Error::BlockingInAsync { what: "waiting for a future".to_owned() })
        }
        Ok(_) => tokio::task::block_in_place(|| io().block_on(future)),
    }
}

/// Marks this thread as running a shared method while `f` runs.
pub fn in_method<R>(f: impl FnOnce() -> R) -> R {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            IN_METHOD.set(self.0);
        }
    }
    let _reset = Reset(IN_METHOD.replace(true));
    f()
}

/// Invariant: a method never waits for another object. It would hold its own object, and on a busy server its
/// thread, for as long as the other one takes; two objects that call each other would wait for ever.
pub(crate) fn refuse_nested(what: &dyn fmt::Display) -> Result<()> {
    if IN_METHOD.get() { Err(Error::NestedCall { what: what.to_string() }) } else { Ok(()) }
}
