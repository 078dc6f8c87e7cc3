//! A host that is a client: a run whose tasks use shared objects, and record what they see.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use crucial::{
    BackendKind, Call, Config, Error,
    run::Run,
    sync::{
        Barrier,
        atomic::{AtomicU64 as SharedU64, Ordering::SeqCst},
    },
};
use tests::random::Random;
use tests_faults::{
    history::{Begun, Recorder},
    models::{
        Counter, CounterOp, List, ListOp, ListRet, Lock, LockOp, LockRet, Model, Register, RegisterOp,
        RegisterRet,
    },
    objects::{FencedLock, Journal},
};
use tokio::time::{sleep, timeout};

use crate::{determinism, plan::Patience};

/// How many objects of a kind there are.
const EACH: usize = 2;
/// How long a task pauses at most between two calls.
const PAUSE: Duration = Duration::from_millis(150);
/// How long a task waits for a lock before it looks whether it was forgotten.
const LOCKING: Duration = Duration::from_millis(800);

/// An object with what was seen of it.
#[derive(Debug)]
pub struct Watched<H, M: Model> {
    /// The object.
    pub handle: H,
    /// Its history.
    pub recorder: Recorder<M>,
}

/// What a party of the barrier saw of a round.
#[derive(Clone, Copy, Debug)]
pub struct Meeting {
    /// When its call began.
    pub came: Duration,
    /// When it returned.
    pub went: Duration,
    /// Whether it led.
    pub leader: bool,
}

/// What all clients have in common.
#[derive(Debug)]
pub struct Shared {
    servers: Vec<String>,
    patience: Patience,
    start: Instant,
    stopped: Cell<bool>,
    fresh: Cell<u64>,
    /// How many tasks have something to do.
    pub busy: Cell<usize>,
    /// The failures that clients saw, and how often.
    pub errors: RefCell<BTreeMap<String, usize>>,
    /// What is wrong in itself, whatever the histories say.
    pub complaints: RefCell<Vec<String>>,
    /// Numbers that are added to.
    pub counters: Vec<Watched<SharedU64, Counter>>,
    /// Values that are replaced.
    pub registers: Vec<Watched<SharedU64, Register>>,
    /// Lists that grow.
    pub journals: Vec<Watched<Journal, List>>,
    /// A lock that calls wait for.
    pub lock: Watched<FencedLock, Lock>,
    /// The ephemeral objects of each run.
    pub own: RefCell<Vec<Rc<Own>>>,
    barrier: Barrier,
    parties: usize,
    /// How many rounds have begun.
    rounds: Cell<usize>,
    /// What tasks wait for that no history holds.
    waiting: RefCell<BTreeMap<u64, String>>,
    /// The rounds of the barrier.
    pub meetings: RefCell<Vec<Vec<Meeting>>>,
}

/// The ephemeral objects of a run.
#[derive(Debug)]
pub struct Own {
    /// A list that grows.
    pub journal: Watched<Journal, List>,
    /// A lock that calls wait for.
    pub lock: Watched<FencedLock, Lock>,
}

impl Shared {
    /// The objects of a simulation, which are made when they are used first.
    #[must_use]
    pub fn new(servers: Vec<String>, patience: Patience, parties: usize) -> Rc<Self> {
        let start = Instant::now();
        let key = |kind: &str, n: usize| format!("{kind} {n}");
        let atomic = |key: String| SharedU64::at(key).persistent().__lazy().new(0);
        Rc::new(Shared {
            servers,
            patience,
            start,
            stopped: Cell::new(false),
            fresh: Cell::new(1),
            busy: Cell::new(0),
            errors: RefCell::default(),
            complaints: RefCell::default(),
            counters: (0..EACH).map(|n| watch(atomic(key("counter", n)), key("counter", n), start)).collect(),
            registers: (0..EACH)
                .map(|n| watch(atomic(key("register", n)), key("register", n), start))
                .collect(),
            journals: (0..EACH)
                .map(|n| {
                    let journal = Journal::at(key("journal", n)).persistent().__lazy().new();
                    watch(journal, key("journal", n), start)
                })
                .collect(),
            lock: watch(FencedLock::at("lock").persistent().__lazy().new(), "lock".to_owned(), start),
            own: RefCell::default(),
            barrier: Barrier::at("barrier").persistent().__lazy().new(parties),
            parties,
            rounds: Cell::new(0),
            waiting: RefCell::default(),
            meetings: RefCell::default(),
        })
    }

    /// Ends the load.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    /// Something is wrong.
    pub fn complain(&self, what: String) {
        self.complaints.borrow_mut().push(what);
    }

    fn fresh(&self) -> u64 {
        self.fresh.replace(self.fresh.get() + 1)
    }

    /// The calls that were not answered yet.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let mut running = Vec::new();
        self.counters.iter().for_each(|object| running.extend(object.recorder.running()));
        self.registers.iter().for_each(|object| running.extend(object.recorder.running()));
        self.journals.iter().for_each(|object| running.extend(object.recorder.running()));
        running.extend(self.lock.recorder.running());
        for own in &*self.own.borrow() {
            running.extend(own.journal.recorder.running());
            running.extend(own.lock.recorder.running());
        }
        running.extend(self.waiting.borrow().values().cloned());
        running
    }

    /// A run; it takes as long as it takes until a server answers.
    async fn open(&self, random: &mut Random) -> Arc<Run> {
        let _waits = Waits::new(self, "a run".to_owned());
        loop {
            let mut config = Config::default();
            config.backend = BackendKind::Threads;
            config.servers = self.servers.clone();
            let first = random.below(config.servers.len() as u64) as usize;
            config.servers.rotate_left(first);
            config.connect_timeout = match self.patience {
                Patience::Long => Duration::from_secs(300),
                Patience::Short => Duration::from_millis(500),
            };
            match Run::open(config).await {
                Ok(run) => return run,
                Err(error) => {
                    self.failed("a run", &error, true);
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Counts a failure, which may be one that must not be.
    fn failed(&self, what: &str, error: &Error, allowed: bool) {
        let text = format!("{what}: {error}");
        let first = self.errors.borrow_mut().insert(text.clone(), 1).is_none();
        if first && !allowed {
            self.complain(format!("a client got: {text}"));
        }
    }
}

fn watch<H, M: Model>(handle: H, name: String, start: Instant) -> Watched<H, M> {
    Watched { handle, recorder: Recorder::new(name, start) }
}

/// A call that has begun. Whatever its host comes to, it is ended.
struct Open<'a, M: Model> {
    recorder: &'a Recorder<M>,
    begun: Option<Begun>,
}

impl<'a, M: Model> Open<'a, M> {
    fn new(recorder: &'a Recorder<M>, client: u64, op: M::Op) -> Self {
        determinism::later();
        Open { recorder, begun: Some(recorder.begin(client, op)) }
    }

    fn end(mut self, result: M::Ret) {
        determinism::later();
        self.recorder.end(self.begun.take().expect("it ends once"), result);
    }

    fn void(mut self) {
        self.recorder.void(self.begun.take().expect("it ends once"));
    }
}

impl<M: Model> Drop for Open<'_, M> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.recorder.give_up(begun);
        }
    }
}

/// Something that is waited for.
struct Waits<'a>(&'a Shared, u64);

impl<'a> Waits<'a> {
    fn new(shared: &'a Shared, what: String) -> Self {
        let mut waiting = shared.waiting.borrow_mut();
        let id = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        waiting.insert(id, what);
        Waits(shared, id)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.borrow_mut().remove(&self.1);
    }
}

/// A task that has something to do.
struct Busy(Rc<Shared>);

impl Busy {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.busy.set(shared.busy.get() + 1);
        Busy(shared.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// A run and its ephemeral objects, which the tasks of a client share until it is lost.
#[derive(Clone)]
struct Current {
    run: Arc<Run>,
    own: Rc<Own>,
}

impl Current {
    async fn open(shared: &Shared, random: &mut Random) -> Self {
        let run = shared.open(random).await;
        let mut all = shared.own.borrow_mut();
        let name = |kind: &str| format!("own {kind} {}", all.len());
        let own = Rc::new(Own {
            journal: watch(Journal::at("own").__lazy().new(), name("journal"), shared.start),
            lock: watch(FencedLock::at("own").__lazy().new(), name("lock"), shared.start),
        });
        all.push(own.clone());
        Current { run, own }
    }
}

/// How a call ended.
enum End<R> {
    Returned(R),
    Unknown,
    /// It had no effect.
    Void,
}

/// What a call is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Persistent,
    Ephemeral,
    /// Persistent, and it waits at a guard: one that timed out has certainly not run.
    Guarded,
    /// As `Guarded`, ephemeral.
    OwnGuarded,
}

/// A task of a client.
struct Task {
    shared: Rc<Shared>,
    current: Rc<RefCell<Current>>,
    /// The run of what it does now, which another task may have replaced already.
    now: Current,
    id: u64,
    random: Random,
}

/// Runs a client until the load ends.
///
/// # Errors
/// None.
pub async fn run(shared: Rc<Shared>, seed: u64) -> turmoil::Result {
    let _busy = Busy::new(&shared);
    let mut random = Random(seed ^ shared.fresh() << 32);
    let current = Rc::new(RefCell::new(Current::open(&shared, &mut random).await));
    let mut tasks = tokio::task::JoinSet::new();
    let mut task = || Task {
        shared: shared.clone(),
        now: current.borrow().clone(),
        current: current.clone(),
        id: shared.fresh(),
        random: Random(random.number()),
    };
    for _ in 0..2 {
        tasks.spawn_local(task().call_at_random());
        tasks.spawn_local(task().lock(false));
        tasks.spawn_local(task().lock(true));
    }
    if shared.patience == Patience::Long {
        tasks.spawn_local(task().meet());
    }
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() {
            shared.complain("a task of a client has panicked".to_owned());
        }
    }
    Ok(())
}

/// Writes and reads every object once more.
///
/// # Errors
/// None.
pub async fn look(shared: Rc<Shared>, seed: u64) -> turmoil::Result {
    let _busy = Busy::new(&shared);
    let mut random = Random(seed);
    let now = Current::open(&shared, &mut random).await;
    let current = Rc::new(RefCell::new(now.clone()));
    let mut task = Task { current, now, id: shared.fresh(), random, shared: shared.clone() };
    for counter in &shared.counters {
        task.add(counter).await;
        task.read_counter(counter).await;
    }
    for register in &shared.registers {
        let new = shared.fresh();
        let swap = |h: &SharedU64| h.remote().swap(new, SeqCst);
        task.call(register, Kind::Persistent, RegisterOp::Swap(new), swap, |v| RegisterRet::Value(*v)).await;
    }
    for journal in &shared.journals {
        task.push(journal, Kind::Persistent).await;
        task.read_journal(journal, Kind::Persistent).await;
    }
    task.owner(&shared.lock, Kind::Persistent).await;
    Ok(())
}

impl Task {
    fn goes_on(&self) -> bool {
        !self.shared.stopped.get()
    }

    /// The ephemeral objects of the run that is the client's now.
    fn renew(&mut self) -> Rc<Own> {
        self.now = self.current.borrow().clone();
        self.now.own.clone()
    }

    async fn pause(&mut self, most: Duration) {
        sleep(Duration::from_micros(self.random.below(most.as_micros() as u64))).await;
    }

    /// Makes one call and records it. Some are abandoned before they are answered.
    async fn call<H, M: Model, R>(
        &mut self,
        object: &Watched<H, M>,
        kind: Kind,
        op: M::Op,
        call: impl FnOnce(&H) -> Call<R>,
        result: impl FnOnce(&R) -> M::Ret,
    ) -> End<R> {
        let call = {
            let _entered = self.now.run.enter();
            call(&object.handle)
        };
        let open = Open::new(&object.recorder, self.id, op);
        let outcome = if self.goes_on() && self.random.below(20) == 0 {
            let soon = Duration::from_millis(self.random.below(100));
            timeout(soon, call).await.ok()
        } else {
            Some(call.await)
        };
        let guarded = matches!(kind, Kind::Guarded | Kind::OwnGuarded);
        match outcome {
            Some(Ok(returned)) => {
                open.end(result(&returned));
                End::Returned(returned)
            }
            Some(Err(Error::Timeout { .. })) if guarded => {
                open.void();
                End::Void
            }
            unknown => {
                drop(open);
                self.id = self.shared.fresh();
                if let Some(Err(error)) = unknown {
                    self.fail(&object.recorder.name, kind, &error).await;
                }
                End::Unknown
            }
        }
    }

    /// Goes on with another run if this one is lost.
    async fn fail(&mut self, what: &str, kind: Kind, error: &Error) {
        let what = what.trim_end_matches(|c: char| c.is_ascii_digit());
        let own = matches!(kind, Kind::Ephemeral | Kind::OwnGuarded);
        let passing = matches!(error, Error::OutcomeUnknown { .. } | Error::Unreachable { .. });
        let lost = matches!(error, Error::StateLost { .. } | Error::Refused { .. });
        let allowed = match self.shared.patience {
            Patience::Long => own && (passing || lost),
            Patience::Short => passing || lost,
        };
        self.shared.failed(what, error, allowed);
        // Another task of the run may have been faster.
        let replaced = |task: &Task| !Arc::ptr_eq(&task.current.borrow().run, &task.now.run);
        if lost && !replaced(self) {
            let next = Current::open(&self.shared, &mut self.random).await;
            if !replaced(self) {
                self.current.replace(next);
            }
        }
        self.pause(Duration::from_millis(50)).await;
    }

    async fn add(&mut self, counter: &Watched<SharedU64, Counter>) {
        let by = 1 + self.random.below(3);
        let add = |h: &SharedU64| h.remote().fetch_add(by, SeqCst);
        self.call(counter, Kind::Persistent, CounterOp::Add(by), add, |before| *before).await;
    }

    async fn read_counter(&mut self, counter: &Watched<SharedU64, Counter>) {
        let read = |h: &SharedU64| h.remote().load(SeqCst);
        self.call(counter, Kind::Persistent, CounterOp::Read, read, |value| *value).await;
    }

    async fn push(&mut self, journal: &Watched<Journal, List>, kind: Kind) {
        let value = self.shared.fresh();
        let push = |h: &Journal| h.remote().push(value);
        self.call(journal, kind, ListOp::Push(value), push, |index| ListRet::Index(*index)).await;
    }

    async fn read_journal(&mut self, journal: &Watched<Journal, List>, kind: Kind) {
        let read = |h: &Journal| h.remote().values();
        self.call(journal, kind, ListOp::Read, read, |values| ListRet::Values(values.clone())).await;
    }

    /// Calls a method of a register; `seen` is what this task saw there last.
    async fn exchange(&mut self, register: &Watched<SharedU64, Register>, seen: &mut u64) {
        let (old, new) = (*seen, self.shared.fresh());
        let value = |value: &u64| RegisterRet::Value(*value);
        let end = match self.random.below(6) {
            0 => {
                let swap = |h: &SharedU64| h.remote().swap(new, SeqCst);
                match self.call(register, Kind::Persistent, RegisterOp::Swap(new), swap, value).await {
                    End::Returned(_) => End::Returned(new),
                    _ => End::Unknown,
                }
            }
            1 | 2 => {
                let read = |h: &SharedU64| h.remote().load(SeqCst);
                self.call(register, Kind::Persistent, RegisterOp::Read, read, value).await
            }
            _ => {
                let exchange = |h: &SharedU64| h.remote().compare_exchange(old, new, SeqCst, SeqCst);
                let result = |result: &Result<u64, u64>| match *result {
                    Ok(before) => RegisterRet::Value(before),
                    Err(value) => RegisterRet::Differs(value),
                };
                let op = RegisterOp::CompareExchange(old, new);
                match self.call(register, Kind::Persistent, op, exchange, result).await {
                    End::Returned(result) => End::Returned(result.map_or_else(|value| value, |_| new)),
                    _ => End::Unknown,
                }
            }
        };
        if let End::Returned(value) = end {
            *seen = value;
        }
    }

    async fn call_at_random(mut self) {
        let shared = self.shared.clone();
        let mut seen = [0; EACH];
        while self.goes_on() {
            let n = self.random.below(EACH as u64) as usize;
            let read = self.random.below(4) == 0;
            let own = self.renew();
            match (self.random.below(8), read) {
                (0 | 1, true) => self.read_counter(&shared.counters[n]).await,
                (0 | 1, false) => self.add(&shared.counters[n]).await,
                (2 | 3, _) => self.exchange(&shared.registers[n], &mut seen[n]).await,
                (4 | 5, true) => self.read_journal(&shared.journals[n], Kind::Persistent).await,
                (4 | 5, false) => self.push(&shared.journals[n], Kind::Persistent).await,
                (_, true) => self.read_journal(&own.journal, Kind::Ephemeral).await,
                (_, false) => self.push(&own.journal, Kind::Ephemeral).await,
            }
            self.pause(PAUSE).await;
        }
    }

    async fn owner(&mut self, lock: &Watched<FencedLock, Lock>, kind: Kind) -> Option<u64> {
        let owner = |h: &FencedLock| h.remote().owner();
        match self.call(lock, kind, LockOp::Owner, owner, |owner| LockRet::Owner(*owner)).await {
            End::Returned(owner) => owner,
            _ => None,
        }
    }

    /// Takes and frees a lock. One that seems to be forgotten is freed by whoever waits for it.
    async fn lock(mut self, ephemeral: bool) {
        let shared = self.shared.clone();
        let (kind, waiting) =
            if ephemeral { (Kind::Ephemeral, Kind::OwnGuarded) } else { (Kind::Persistent, Kind::Guarded) };
        let mut suspect = None;
        while self.goes_on() {
            let own = self.renew();
            let lock = if ephemeral { &own.lock } else { &shared.lock };
            let owner = if self.random.below(4) == 0 {
                let take = |h: &FencedLock| h.remote().try_acquire();
                match self.call(lock, kind, LockOp::TryAcquire, take, |owner| LockRet::Owner(*owner)).await {
                    End::Returned(owner) => owner,
                    _ => None,
                }
            } else {
                let take = |h: &FencedLock| h.remote().acquire().timeout(LOCKING);
                let result = |owner: &u64| LockRet::Owner(Some(*owner));
                match self.call(lock, waiting, LockOp::Acquire, take, result).await {
                    End::Returned(owner) => Some(owner),
                    End::Void => {
                        let owner = self.owner(lock, kind).await;
                        let forgotten = owner.is_some() && owner == suspect;
                        suspect = owner;
                        owner.filter(|_| forgotten)
                    }
                    End::Unknown => None,
                }
            };
            if let Some(owner) = owner {
                self.pause(Duration::from_millis(30)).await;
                let release = |h: &FencedLock| h.remote().release(owner);
                let released = |released: &bool| LockRet::Released(*released);
                self.call(lock, kind, LockOp::Release(owner), release, released).await;
            }
            self.pause(PAUSE).await;
        }
    }

    /// Meets the others again and again.
    async fn meet(mut self) {
        let shared = self.shared.clone();
        for round in 0.. {
            // Whoever begins a round has the others come, too.
            if !self.goes_on() && round >= shared.rounds.get() {
                return;
            }
            shared.rounds.set(shared.rounds.get().max(round + 1));
            determinism::later();
            let came = shared.start.elapsed();
            self.renew();
            let call = {
                let _entered = self.now.run.enter();
                shared.barrier.remote().wait()
            };
            let waits = Waits::new(&shared, format!("round {round} of the barrier, since {came:.3?}"));
            let result = call.await;
            drop(waits);
            determinism::later();
            let went = shared.start.elapsed();
            match result {
                Ok(result) => {
                    let mut meetings = shared.meetings.borrow_mut();
                    if meetings.len() <= round {
                        meetings.resize_with(round + 1, Vec::new);
                    }
                    meetings[round].push(Meeting { came, went, leader: result.is_leader() });
                }
                Err(error) => return shared.failed("the barrier", &error, false),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Shared {
    /// Whether in each round all had come before one went, and one of them led.
    pub fn check_meetings(&self) {
        for (round, parties) in self.meetings.borrow().iter().enumerate() {
            let last = parties.iter().map(|party| party.came).max().unwrap_or_default();
            let first = parties.iter().map(|party| party.went).min().unwrap_or_default();
            let leaders = parties.iter().filter(|party| party.leader).count();
            if parties.len() != self.parties || first < last || leaders != 1 {
                self.complain(format!("barrier: round {round} has {leaders} leaders: {parties:?}"));
            }
        }
    }
}
