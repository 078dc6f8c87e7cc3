//! The threads that serve connections, and what keeps long methods from holding all of them.
//!
//! A method runs where its frame was read, on a worker of the async runtime: any hop would cost more than most methods
//! do. A method that takes long would hold the worker, and the connections that wait for it. So
//!
//! - a method that took long is remembered with its type, and runs where it holds no worker until it is quick again;
//! - a method that takes long for the first time is noticed while it runs, by a thread that looks now and then. It
//!   remembers the method at once, and opens a worker of the reserve for each one that is held.
//!
//! Workers of the reserve are held by a task that only waits. More workers at all times would do the same, but they
//! take quick calls from each other: that costs a third of the throughput.
//!
//! Invariant: while methods hold fewer than [`RESERVE`] workers, as many workers as there are CPUs serve connections.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crucial_runtime::object::TypeInfo;
use tokio::runtime::{Builder, Handle, Runtime};

/// Workers beyond those for the CPUs. A held worker is noticed within two ticks, and its method remembered, so this
/// many different methods can take long for the first time within that time.
const RESERVE: usize = 8;
/// Calls that take longer than this are long.
const LONG: Duration = Duration::from_millis(1);
/// How often the workers are looked at while there are calls.
const TICK: Duration = Duration::from_millis(10);
/// How often they are looked at while there are none.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// What a worker does.
#[derive(Default)]
struct Activity {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the calls.
    calls: u64,
    /// The call that runs.
    running: Option<Running>,
    /// [`State::calls`] when it was last looked at.
    seen: u64,
}

#[derive(Clone, Copy)]
struct Running(Option<(&'static Pace, u16)>);

/// Which methods of a type took long when they last ran: a bit each. Methods above the 64th share their bits with the
/// first ones; a quick one then runs as a long one would.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// The pace of a type's methods, which all its objects in the process share.
    pub(crate) fn of(info: &'static TypeInfo) -> &'static Pace {
        static PACES: Mutex<BTreeMap<&'static str, &'static Pace>> = Mutex::new(BTreeMap::new());
        // Types live as long as the process, so what is kept for each of them does, too.
        PACES.lock().unwrap().entry(info.name).or_insert_with(|| Box::leak(Box::default()))
    }

    fn is_long(&self, method: u16) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << (method % 64)) != 0
    }

    fn set_long(&self, method: u16, long: bool) {
        let bit = 1 << (method % 64);
        if long {
            self.0.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

static ACTIVITIES: Mutex<Vec<Weak<Activity>>> = Mutex::new(Vec::new());

thread_local! {
    static ACTIVITY: OnceCell<Arc<Activity>> = const { OnceCell::new() };
}

/// A call that is under way on this thread, for the watch to see.
struct Watched(Arc<Activity>);

impl Watched {
    fn new(running: Running) -> Self {
        let activity = ACTIVITY.with(|own| {
            let activity = own.get_or_init(|| {
                let activity = Arc::default();
                ACTIVITIES.lock().unwrap().push(Arc::downgrade(&activity));
                activity
            });
            activity.clone()
        });
        let mut state = activity.state.lock().unwrap();
        state.calls += 1;
        state.running = Some(running);
        drop(state);
        Watched(activity)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().running = None;
    }
}

/// Runs a method, on a worker or any other thread.
pub(crate) fn call<R>(pace: &'static Pace, method: u16, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    if pace.is_long(method) {
        let result = tokio::task::block_in_place(f);
        if start.elapsed() < LONG / 2 {
            pace.set_long(method, false);
        }
        return result;
    }
    let watched = Watched::new(Running(Some((pace, method))));
    let result = f();
    drop(watched);
    if start.elapsed() > LONG {
        pace.set_long(method, true);
    }
    result
}

/// Runs something that may wait for an object that a method holds.
pub(crate) fn wait<R>(f: impl FnOnce() -> R) -> R {
    let _watched = Watched::new(Running(None));
    f()
}

/// The runtime that serves connections. It lives as long as the process.
pub fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let cpus = thread::available_parallelism().map_or(2, usize::from).max(2);
            let runtime = Builder::new_multi_thread()
                .worker_threads(cpus + RESERVE)
                .thread_name("crucial-serve")
                .enable_all()
                .build()
                .expect("the operating system gives threads for the async runtime");
            let reserve = Reserve { handle: runtime.handle().clone(), plugs: Arc::default() };
            reserve.open(0);
            thread::Builder::new()
                .name("crucial-watch".to_owned())
                .spawn(move || watch(&reserve))
                .expect("the operating system gives a thread for the watch");
            runtime
        })
        .handle()
}

/// Looks for workers that are held, for as long as the process lives.
fn watch(reserve: &Reserve) {
    let mut tick = IDLE_TICK;
    loop {
        thread::sleep(tick);
        let (held, active) = look();
        reserve.open(held.min(RESERVE));
        if held > 0 {
            // A worker that is held may have been the one that watches the sockets: this wakes another, which takes
            // over from it.
            reserve.handle.spawn(async {});
        }
        tick = if active { TICK } else { IDLE_TICK };
    }
}

/// How many workers run the call that they ran at the last look, and whether there were calls since.
fn look() -> (usize, bool) {
    let (mut held, mut active) = (0, false);
    ACTIVITIES.lock().unwrap().retain(|activity| {
        let Some(activity) = activity.upgrade() else { return false };
        let mut state = activity.state.lock().unwrap();
        active |= state.running.is_some() || state.seen != state.calls;
        if state.seen == state.calls
            && let Some(Running(what)) = state.running
        {
            held += 1;
            if let Some((pace, method)) = what {
                pace.set_long(method, true);
            }
        }
        state.seen = state.calls;
        true
    });
    (held, active)
}

/// The workers that are kept from work until they are needed.
struct Reserve {
    handle: Handle,
    plugs: Arc<Plugs>,
}

#[derive(Default)]
struct Plugs {
    count: Mutex<Count>,
    changed: Condvar,
}

#[derive(Default)]
struct Count {
    /// Tasks that hold a worker, or will.
    plugs: usize,
    wanted: usize,
}

impl Plugs {
    /// Holds this worker until there are too many that do.
    fn hold(&self) {
        let mut count = self.count.lock().unwrap();
        while count.plugs <= count.wanted {
            count = self.changed.wait(count).unwrap();
        }
        count.plugs -= 1;
    }
}

impl Reserve {
    /// Lets `open` workers of the reserve work.
    fn open(&self, open: usize) {
        let mut count = self.plugs.count.lock().unwrap();
        count.wanted = RESERVE - open;
        while count.plugs < count.wanted {
            count.plugs += 1;
            let plugs = self.plugs.clone();
            self.handle.spawn(async move {
                // After this, the task comes from the end of its worker's queue, where others can take what came
                // before it. A task right from outside could keep one waiting that only this worker can run.
                tokio::task::yield_now().await;
                plugs.hold();
            });
        }
        self.plugs.changed.notify_all();
    }
}
