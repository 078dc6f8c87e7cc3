//! Clients that use objects through the faults, and record what they saw.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crucial::{
    BackendKind, Call, Config, Error,
    run::Run,
    sync::{
        self, Barrier,
        atomic::{AtomicU64 as SharedU64, Ordering},
    },
};
use tests::random::Random;

use crate::{
    checker::{Verdict, check, evidence},
    history::{History, Operation, Outcome, Recorder},
    models::{
        Counter, CounterOp, List, ListOp, ListRet, Lock, LockOp, LockRet, Model, MutexOp, MutexRet, Register,
        RegisterOp, RegisterRet, StdMutex,
    },
    objects::{Document, FencedLock, Journal},
};

/// How many threads call at random, in how many runs.
const CALLERS: usize = 9;
const RUNS: usize = 3;
/// How many threads want the lock, and how many the mutex.
const LOCKERS: usize = 3;
/// How many threads meet at the barrier.
const PARTIES: usize = 3;
/// How many counters, registers and journals there are: on several partitions, and few calls at a time on each.
const EACH: usize = 2;
/// How long a caller pauses at most between two calls.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the parties of the barrier meet.
const MEETING: Duration = Duration::from_millis(100);
/// How long after the last fault everything must work again. It takes a few seconds; a busy machine takes longer.
pub const RECOVERY: Duration = Duration::from_secs(90);

/// How the clients behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The addresses of the nodes.
    pub servers: Vec<String>,
    /// How long a client looks for a server before it gives up, and a task waits for its call: then the outcome of the
    /// call is unknown.
    pub patience: Duration,
    /// How long there is load.
    pub lasts: Duration,
}

impl Settings {
    /// Whether no fault outlasts the clients' patience, so that no call may fail.
    #[must_use]
    pub fn is_patient(&self) -> bool {
        self.patience >= RECOVERY
    }

    fn run(&self, first: usize, patience: Duration) -> Result<Arc<Run>, Error> {
        let mut config = Config::default();
        config.backend = BackendKind::Threads;
        config.servers = self.servers.clone();
        let count = config.servers.len();
        config.servers.rotate_left(first % count);
        config.connect_timeout = patience;
        Run::start(config)
    }
}

/// One object of a kind, with its history.
#[derive(Debug)]
struct Watched<H, M: Model> {
    handle: H,
    recorder: Recorder<M>,
}

/// What all clients have in common.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    start: Instant,
    stop: AtomicBool,
    /// Numbers that are used once: of clients, of values.
    fresh: AtomicU64,
    errors: Mutex<BTreeMap<String, usize>>,
    /// What is wrong in itself, whatever the histories say.
    complaints: Mutex<Vec<String>>,
    counters: Vec<Watched<SharedU64, Counter>>,
    registers: Vec<Watched<SharedU64, Register>>,
    journals: Vec<Watched<Journal, List>>,
    document: Watched<Document, Counter>,
    lock: Watched<FencedLock, Lock>,
    mutex: Watched<sync::Mutex<u64>, StdMutex>,
    barrier: Barrier,
    /// For each round and party: when it came, when it went, whether it led.
    meetings: Mutex<Vec<Vec<Meeting>>>,
}

/// One party's part in a round of the barrier.
#[derive(Clone, Copy, Debug)]
pub struct Meeting {
    /// When its call began.
    pub came: Duration,
    /// When it returned.
    pub went: Duration,
    /// Whether it led.
    pub leader: bool,
}

/// What the clients saw, all in all.
#[derive(Debug)]
pub struct Findings {
    /// How many calls were begun.
    pub operations: usize,
    /// How many of them have an unknown outcome.
    pub unknown: usize,
    /// The longest time in which no call returned.
    pub gap: Duration,
    /// The failures that clients saw, and how often.
    pub errors: BTreeMap<String, usize>,
    /// What is wrong; empty if all is well.
    pub violations: Vec<String>,
    /// The history of the smallest object that isn't linearizable, as far as needed.
    pub evidence: Option<String>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    runs: Vec<Arc<Mutex<Arc<Run>>>>,
    ended: mpsc::Receiver<()>,
    clients: usize,
}

/// A thread's part in a run. Threads of one run share it, and start another when it is lost.
struct Client {
    shared: Arc<Shared>,
    run: Arc<Mutex<Arc<Run>>>,
    rotation: usize,
    patience: Duration,
    id: u64,
    random: Random,
}

/// How a call ended.
enum End<R> {
    Returned(R),
    Unknown,
    /// It had no effect.
    Void,
}

impl Workload {
    /// Makes the objects of a schedule and starts their clients.
    ///
    /// # Errors
    /// If the objects can't be made.
    pub fn start(settings: &Settings, seed: u64, start: Instant) -> Result<Self, String> {
        let (runs, shared) = in_time("made the objects", {
            let settings = settings.clone();
            move || {
                let start_run = |n, patience| settings.run(n, patience).map_err(|error| error.to_string());
                // The clients may give up soon, while a young cluster still moves its leaders. What they call must be there.
                let maker = start_run(0, RECOVERY)?;
                let entered = maker.enter();
                // Constructors panic when they fail.
                let made = catch_unwind(AssertUnwindSafe(|| Shared::new(&settings, seed, start)));
                drop(entered);
                maker.end();
                let shared = Arc::new(made.map_err(|panic| words(&*panic))?);
                let runs =
                    (0..RUNS).map(|n| start_run(n, settings.patience)).collect::<Result<Vec<_>, _>>()?;
                Ok::<_, String>((runs, shared))
            }
        })??;
        let runs: Vec<_> = runs.into_iter().map(|run| Arc::new(Mutex::new(run))).collect();
        let (end, ended) = mpsc::channel();
        let mut clients = 0;
        let mut spawn = |work: fn(&mut Client)| {
            let rotation = clients % RUNS;
            let mut client = Client {
                shared: shared.clone(),
                run: runs[rotation].clone(),
                rotation,
                patience: settings.patience,
                id: shared.fresh(),
                random: Random(seed ^ (clients as u64 + 1) << 32),
            };
            let end = end.clone();
            let work = move || {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&mut client))) {
                    client.shared.complain(format!("a client panicked: {}", words(&*panic)));
                }
                // Nobody listens when it was too late.
                let _ = end.send(());
            };
            thread::Builder::new().name(CLIENT.to_owned()).spawn(work).expect("the system gives threads");
            clients += 1;
        };
        (0..CALLERS).for_each(|_| spawn(Client::call_at_random));
        (0..LOCKERS).for_each(|_| spawn(Client::lock));
        if settings.is_patient() {
            (0..LOCKERS).for_each(|_| spawn(Client::lock_mutex));
            (0..PARTIES).for_each(|_| spawn(Client::meet));
        }
        Ok(Workload { shared, runs, ended, clients })
    }

    /// Ends the load, looks at every object once more, and judges.
    #[must_use]
    pub fn finish(self) -> Findings {
        let shared = &self.shared;
        shared.stop.store(true, SeqCst);
        let stopped = shared.start.elapsed();
        let deadline = Instant::now() + RECOVERY;
        let mut ended = 0;
        while ended < self.clients
            && self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
        {
            ended += 1;
        }
        if ended < self.clients {
            let running = shared.running();
            shared.complain(format!(
                "{RECOVERY:?} after the last fault these wait still:\n  {}",
                running.join("\n  ")
            ));
        } else {
            self.look();
        }
        let mut findings = shared.judge(stopped);
        if ended == self.clients {
            let runs = self.runs;
            let ended = in_time("ended the runs", move || {
                runs.iter().for_each(|run| run.lock().unwrap_or_else(PoisonError::into_inner).end());
            });
            findings.violations.extend(ended.err());
        }
        findings
    }

    /// One more write and read of every object, by a client that had no part in anything.
    fn look(&self) {
        let shared = self.shared.clone();
        let looked = in_time("looked", move || {
            // What was acknowledged has to be there, however little time the other clients had.
            shared.settings.run(0, RECOVERY).map(|run| {
                let client = &mut Client {
                    id: shared.fresh(),
                    run: Arc::new(Mutex::new(run)),
                    rotation: 0,
                    patience: RECOVERY,
                    random: Random(0),
                    shared: shared.clone(),
                };
                // A cluster that serves takes writes, too. What is read comes after all of them.
                client.write();
                for object in &shared.counters {
                    client.read_counter(&object.recorder, || object.handle.remote().load(Ordering::SeqCst));
                }
                for object in &shared.registers {
                    client.read_register(object);
                }
                for object in &shared.journals {
                    client.read_journal(object);
                }
                client.read_counter(&shared.document.recorder, || shared.document.handle.remote().version());
                client.read_lock();
                client.run.lock().unwrap_or_else(PoisonError::into_inner).end();
            })
        });
        match looked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.shared.complain(format!("no service after the last fault: {error}")),
            Err(late) => {
                let running = self.shared.running();
                self.shared.complain(format!("after the last fault, {late}:\n  {}", running.join("\n  ")));
            }
        }
    }
}

/// Does something that may hang, on a thread of its own.
fn in_time<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (done, is_done) = mpsc::channel();
    // Nobody listens when it was too late.
    let work = move || drop(done.send(f()));
    thread::Builder::new().name(CLIENT.to_owned()).spawn(work).expect("the system gives threads");
    is_done.recv_timeout(RECOVERY).map_err(|_| format!("nobody {what} within {RECOVERY:?}"))
}

/// The name of clients' threads, whose panics are reported with the rest.
pub const CLIENT: &str = "client of a schedule";

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "?".to_owned())
}

/// Waits for a call, as a thread does or as a task does. `None`: it was abandoned, as only a task can.
fn wait<R>(call: Call<R>, patience: Duration, random: &mut Random) -> Option<Result<R, Error>> {
    if random.below(2) == 0 {
        return Some(call.wait());
    }
    crucial::run::block_on(async {
        let _timer = crucial::run::io().enter();
        tokio::time::timeout(patience, call).await.ok()
    })
}

impl Shared {
    fn new(settings: &Settings, seed: u64, start: Instant) -> Self {
        let key = |kind: &str, n: usize| format!("{kind} {n} of {seed:#x}");
        let atomic = |key: &str| SharedU64::at(key).persistent().new(0);
        Shared {
            settings: settings.clone(),
            start,
            stop: AtomicBool::new(false),
            fresh: AtomicU64::new(1),
            errors: Mutex::default(),
            complaints: Mutex::default(),
            counters: (0..EACH)
                .map(|n| Watched {
                    handle: atomic(&key("counter", n)),
                    recorder: Recorder::new(format!("counter {n}"), start),
                })
                .collect(),
            registers: (0..EACH)
                .map(|n| Watched {
                    handle: atomic(&key("register", n)),
                    recorder: Recorder::new(format!("register {n}"), start),
                })
                .collect(),
            journals: (0..EACH)
                .map(|n| Watched {
                    handle: Journal::at(key("journal", n)).persistent().new(),
                    recorder: Recorder::new(format!("journal {n}"), start),
                })
                .collect(),
            document: Watched {
                handle: Document::at(key("document", 0)).persistent().new(),
                recorder: Recorder::new("document", start),
            },
            lock: Watched {
                handle: FencedLock::at(key("lock", 0)).persistent().new(),
                recorder: Recorder::new("lock", start),
            },
            mutex: Watched {
                handle: sync::Mutex::at(key("mutex", 0)).persistent().new(0),
                recorder: Recorder::new("mutex", start),
            },
            barrier: Barrier::at(key("barrier", 0)).persistent().new(PARTIES),
            meetings: Mutex::default(),
        }
    }

    fn fresh(&self) -> u64 {
        self.fresh.fetch_add(1, SeqCst)
    }

    fn complain(&self, what: String) {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Counts a failure. Only some are what a cluster under faults may say to its clients.
    fn failed(&self, error: &Error, patience: Duration) {
        let text = error.to_string();
        let allowed = match error {
            Error::StateLost { .. }
            | Error::NoSuchObject { .. }
            | Error::Poisoned { .. }
            | Error::MethodPanicked { .. }
            | Error::UnknownType { .. }
            | Error::TypeDiffers { .. }
            | Error::Decode { .. }
            | Error::Encode { .. }
            | Error::NoRun
            | Error::Withdrawn => false,
            // A client that waits longer than any fault lasts gets its answer.
            _ => patience < RECOVERY,
        };
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let count = errors.entry(text.clone()).or_default();
        *count += 1;
        if *count == 1 && !allowed {
            self.complain(format!("a client got: {text}"));
        }
    }

    fn running(&self) -> Vec<String> {
        let mut running = Vec::new();
        self.counters.iter().for_each(|object| running.extend(object.recorder.running()));
        self.registers.iter().for_each(|object| running.extend(object.recorder.running()));
        self.journals.iter().for_each(|object| running.extend(object.recorder.running()));
        running.extend(self.document.recorder.running());
        running.extend(self.lock.recorder.running());
        running.extend(self.mutex.recorder.running());
        if running.is_empty() {
            running.push("a party of the barrier".to_owned());
        }
        running
    }

    fn judge(&self, stopped: Duration) -> Findings {
        let mut findings = Findings {
            operations: 0,
            unknown: 0,
            gap: Duration::ZERO,
            errors: std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner)),
            violations: std::mem::take(&mut *self.complaints.lock().unwrap_or_else(PoisonError::into_inner)),
            evidence: None,
        };
        let mut smallest = usize::MAX;
        // A service that never came back was silent to the end.
        let mut times = vec![stopped];
        for object in self.counters.iter().map(|object| &object.recorder).chain([&self.document.recorder]) {
            let history = judge(&Counter, object, &mut findings, &mut smallest, &mut times);
            let violation = counted_once(&history);
            findings.violations.extend(violation.map(|what| format!("{}: {what}", object.name)));
        }
        for object in &self.registers {
            judge(&Register, &object.recorder, &mut findings, &mut smallest, &mut times);
        }
        for object in &self.journals {
            let history = judge(&List, &object.recorder, &mut findings, &mut smallest, &mut times);
            let violation = pushed_once(&history);
            findings.violations.extend(violation.map(|what| format!("{}: {what}", object.recorder.name)));
        }
        judge(&Lock, &self.lock.recorder, &mut findings, &mut smallest, &mut times);
        judge(&StdMutex, &self.mutex.recorder, &mut findings, &mut smallest, &mut times);
        let meetings = self.meetings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.violations.extend(met(&meetings));
        times.sort_unstable();
        findings.gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        findings
    }
}

/// Checks the history of one object.
fn judge<M: Model>(
    model: &M,
    recorder: &Recorder<M>,
    findings: &mut Findings,
    smallest: &mut usize,
    times: &mut Vec<Duration>,
) -> History<M> {
    let history = recorder.history();
    findings.operations += history.len();
    findings.unknown += history.iter().filter(|o| o.outcome == Outcome::Unknown).count();
    times.extend(history.iter().map(|o| o.invoked).min());
    times.extend(history.iter().filter_map(|o| o.returned()));
    let verdict = check(model, &history);
    match verdict {
        Verdict::Linearizable => return history,
        Verdict::Violated => findings.violations.push(format!("{}: not linearizable", recorder.name)),
        Verdict::Undecided => {
            findings.violations.push(format!("{}: the checker can't decide", recorder.name));
            return history;
        }
    }
    let evidence = evidence(model, &history);
    if evidence.prefix.len() < *smallest {
        *smallest = evidence.prefix.len();
        findings.evidence =
            Some(format!("{}, up to the answer that nothing explains:\n{evidence}", recorder.name));
    }
    history
}

/// What a history ends with, if that began after all else had returned.
fn last<O, R>(history: &[Operation<O, R>]) -> Option<&Operation<O, R>> {
    let (at, last) = history.iter().enumerate().max_by_key(|(_, o)| o.invoked)?;
    let others = history.iter().enumerate().filter(|(other, _)| *other != at);
    let all = others.filter_map(|(_, o)| o.returned()).all(|returned| returned < last.invoked);
    all.then_some(last)
}

/// Whether each addition that was acknowledged is in the last value once, and each unknown one at most once.
/// Says nothing if there was no last look.
#[must_use]
pub fn counted_once(history: &History<Counter>) -> Option<String> {
    let last = last(history)?;
    let (CounterOp::Read, Some(value)) = (&last.op, last.result()) else { return None };
    let sum = |known: bool| -> u64 {
        let added = history.iter().filter(|o| o.result().is_some() == known);
        added.map(|o| if let CounterOp::Add(by) = o.op { by } else { 0 }).sum()
    };
    let (least, unknown) = (sum(true), sum(false));
    let holds = (least..=least + unknown).contains(value);
    (!holds).then(|| format!("{least} were added, and perhaps {unknown} more, and it is {value}"))
}

/// Whether each push that was acknowledged is in the last list once, each unknown one at most once, and nothing else.
/// Says nothing if there was no last look.
#[must_use]
pub fn pushed_once(history: &History<List>) -> Option<String> {
    let last = last(history)?;
    let (ListOp::Read, Some(ListRet::Values(values))) = (&last.op, last.result()) else { return None };
    let mut found = BTreeMap::<u64, usize>::new();
    values.iter().for_each(|value| *found.entry(*value).or_default() += 1);
    let mut wrong = Vec::new();
    for o in history {
        let ListOp::Push(value) = o.op else { continue };
        match (found.remove(&value).unwrap_or_default(), o.result()) {
            (1, _) | (0, None) => {}
            (0, Some(_)) => wrong.push(format!("{value} was acknowledged and is not there")),
            (times, _) => wrong.push(format!("{value} is there {times} times")),
        }
    }
    wrong.extend(found.keys().map(|value| format!("nobody pushed {value}")));
    let count = wrong.len();
    wrong.truncate(5);
    (count > 0).then(|| format!("{} ({count} in all)", wrong.join(", ")))
}

/// Whether in each round all had come before one went, and one of them led.
#[must_use]
pub fn met(rounds: &[Vec<Meeting>]) -> Option<String> {
    let complete = rounds.iter().enumerate().filter(|(_, parties)| parties.len() == PARTIES);
    for (round, parties) in complete {
        let last = parties.iter().map(|party| party.came).max()?;
        let first = parties.iter().map(|party| party.went).min()?;
        let leaders = parties.iter().filter(|party| party.leader).count();
        if first < last || leaders != 1 {
            return Some(format!("barrier: round {round} has {leaders} leaders: {parties:?}"));
        }
    }
    None
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.shared.stop.load(SeqCst)
    }

    fn pause(&mut self, most: Duration) {
        thread::sleep(Duration::from_micros(self.random.below(most.as_micros() as u64)));
    }

    /// Makes one call and records it.
    ///
    /// `guarded`: it waits at a guard, so that one that timed out has certainly not run.
    fn call<M: Model, R>(
        &mut self,
        recorder: &Recorder<M>,
        op: M::Op,
        guarded: bool,
        call: impl FnOnce() -> Call<R>,
        result: impl FnOnce(&R) -> M::Ret,
    ) -> End<R> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let entered = run.enter();
        let begun = recorder.begin(self.id, op);
        let outcome = wait(call(), self.patience, &mut self.random);
        drop(entered);
        let Some(outcome) = outcome else {
            recorder.give_up(begun);
            self.id = self.shared.fresh();
            return End::Unknown;
        };
        match outcome {
            Ok(returned) => {
                recorder.end(begun, result(&returned));
                End::Returned(returned)
            }
            Err(Error::Timeout { .. }) if guarded => {
                recorder.void(begun);
                End::Void
            }
            Err(error) => {
                recorder.give_up(begun);
                self.fail(&error, &run);
                End::Unknown
            }
        }
    }

    /// A client that doesn't know what became of its call goes by another number, and by another run if that is lost.
    fn fail(&mut self, error: &Error, run: &Arc<Run>) {
        self.shared.failed(error, self.patience);
        self.id = self.shared.fresh();
        if matches!(error, Error::StateLost { .. } | Error::Refused { .. } | Error::NoSuchObject { .. }) {
            let next = self.shared.settings.run(self.rotation, self.patience);
            let mut current = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread of the run may have been faster.
            if let (Ok(next), true) = (next, Arc::ptr_eq(&current, run)) {
                *current = next;
            }
        }
        self.pause(Duration::from_millis(50));
    }

    /// Adds, exchanges, pushes and reads, anywhere.
    fn call_at_random(&mut self) {
        let shared = self.shared.clone();
        let mut seen = [0; EACH];
        while self.goes_on() {
            let n = self.random.below(EACH as u64) as usize;
            let read = self.random.below(4) == 0;
            match self.random.below(8) {
                0..2 => {
                    let Watched { handle, recorder } = &shared.counters[n];
                    if read {
                        self.read_counter(recorder, || handle.remote().load(Ordering::SeqCst));
                    } else {
                        let by = 1 + self.random.below(3);
                        let add = || handle.remote().fetch_add(by, Ordering::SeqCst);
                        self.call(recorder, CounterOp::Add(by), false, add, |before| *before);
                    }
                }
                2..4 => self.exchange(&shared.registers[n], &mut seen[n]),
                4..7 => {
                    let journal = &shared.journals[n];
                    if read {
                        self.read_journal(journal);
                    } else {
                        let value = shared.fresh();
                        let push = || journal.handle.remote().push(value);
                        self.call(&journal.recorder, ListOp::Push(value), false, push, |index| {
                            ListRet::Index(*index)
                        });
                    }
                }
                _ => {
                    let Watched { handle, recorder } = &shared.document;
                    if read {
                        self.read_counter(recorder, || handle.remote().version());
                    } else {
                        let length = 1 + self.random.below(16 << 10) as usize;
                        let bytes = vec![self.random.number() as u8; length];
                        let replace = || handle.remote().replace(&bytes);
                        self.call(recorder, CounterOp::Add(1), false, replace, |before| *before);
                    }
                }
            }
            self.pause(PAUSE);
        }
    }

    /// Changes every object once.
    fn write(&mut self) {
        let shared = self.shared.clone();
        for Watched { handle, recorder } in &shared.counters {
            let add = || handle.remote().fetch_add(1, Ordering::SeqCst);
            self.call(recorder, CounterOp::Add(1), false, add, |before| *before);
        }
        for Watched { handle, recorder } in &shared.registers {
            let new = shared.fresh();
            let swap = || handle.remote().swap(new, Ordering::SeqCst);
            self.call(recorder, RegisterOp::Swap(new), false, swap, |before| RegisterRet::Value(*before));
        }
        for Watched { handle, recorder } in &shared.journals {
            let value = shared.fresh();
            let push = || handle.remote().push(value);
            self.call(recorder, ListOp::Push(value), false, push, |index| ListRet::Index(*index));
        }
        let Watched { handle, recorder } = &shared.document;
        self.call(recorder, CounterOp::Add(1), false, || handle.remote().replace(&[1]), |before| *before);
    }

    fn read_counter(&mut self, recorder: &Recorder<Counter>, read: impl FnOnce() -> Call<u64>) {
        self.call(recorder, CounterOp::Read, false, read, |value| *value);
    }

    fn read_journal(&mut self, journal: &Watched<Journal, List>) {
        let read = || journal.handle.remote().values();
        self.call(&journal.recorder, ListOp::Read, false, read, |values| ListRet::Values(values.clone()));
    }

    fn read_register(&mut self, register: &Watched<SharedU64, Register>) -> Option<u64> {
        let read = || register.handle.remote().load(Ordering::SeqCst);
        match self.call(&register.recorder, RegisterOp::Read, false, read, |value| RegisterRet::Value(*value))
        {
            End::Returned(value) => Some(value),
            _ => None,
        }
    }

    /// Calls a method of a register; `seen` is what this thread saw there last.
    fn exchange(&mut self, register: &Watched<SharedU64, Register>, seen: &mut u64) {
        let Watched { handle, recorder } = register;
        let (old, new) = (*seen, self.shared.fresh());
        match self.random.below(8) {
            0 => {
                let write = || handle.remote().store(new, Ordering::SeqCst);
                if let End::Returned(()) =
                    self.call(recorder, RegisterOp::Write(new), false, write, |()| RegisterRet::Written)
                {
                    *seen = new;
                }
            }
            1 => {
                let swap = || handle.remote().swap(new, Ordering::SeqCst);
                if let End::Returned(_) = self
                    .call(recorder, RegisterOp::Swap(new), false, swap, |before| RegisterRet::Value(*before))
                {
                    *seen = new;
                }
            }
            2..5 => *seen = self.read_register(register).unwrap_or(old),
            _ => {
                let exchange =
                    || handle.remote().compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
                let result = |result: &Result<u64, u64>| match *result {
                    Ok(before) => RegisterRet::Value(before),
                    Err(value) => RegisterRet::Differs(value),
                };
                if let End::Returned(result) =
                    self.call(recorder, RegisterOp::CompareExchange(old, new), false, exchange, result)
                {
                    *seen = result.map_or_else(|value| value, |_| new);
                }
            }
        }
    }

    fn read_lock(&mut self) -> Option<u64> {
        let shared = self.shared.clone();
        let Watched { handle, recorder } = &shared.lock;
        match self.call(
            recorder,
            LockOp::Owner,
            false,
            || handle.remote().owner(),
            |owner| LockRet::Owner(*owner),
        ) {
            End::Returned(owner) => owner,
            _ => None,
        }
    }

    /// Takes and frees the lock. One that seems to be forgotten is freed by whoever waits for it.
    fn lock(&mut self) {
        let shared = self.shared.clone();
        let Watched { handle, recorder } = &shared.lock;
        let mut suspect = None;
        while self.goes_on() {
            let owner = if self.random.below(4) == 0 {
                let take = || handle.remote().try_acquire();
                match self.call(recorder, LockOp::TryAcquire, false, take, |owner| LockRet::Owner(*owner)) {
                    End::Returned(owner) => owner,
                    _ => None,
                }
            } else {
                let take = || handle.remote().acquire().timeout(Duration::from_millis(800));
                match self.call(recorder, LockOp::Acquire, true, take, |owner| LockRet::Owner(Some(*owner))) {
                    End::Returned(owner) => Some(owner),
                    End::Void => {
                        let owner = self.read_lock();
                        let forgotten = owner.is_some() && owner == suspect;
                        suspect = owner;
                        owner.filter(|_| forgotten)
                    }
                    End::Unknown => None,
                }
            };
            if let Some(owner) = owner {
                self.pause(Duration::from_millis(2));
                let release = || handle.remote().release(owner);
                let released = |released: &bool| LockRet::Released(*released);
                self.call(recorder, LockOp::Release(owner), false, release, released);
            }
            self.pause(PAUSE);
        }
    }

    /// Takes a mutex as std's, and writes under it.
    fn lock_mutex(&mut self) {
        let shared = self.shared.clone();
        let Watched { handle, recorder } = &shared.mutex;
        while self.goes_on() {
            let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let entered = run.enter();
            let attempt = shared.fresh();
            let locking = recorder.begin(self.id, MutexOp::Lock(attempt));
            // Its failures are panics.
            let result = catch_unwind(AssertUnwindSafe(|| {
                let (mut guard, poisoned) = match handle.lock() {
                    Ok(guard) => (guard, false),
                    Err(poisoned) => (poisoned.into_inner(), true),
                };
                recorder.end(locking, MutexRet::Locked(*guard, poisoned));
                *guard = attempt;
                let unlocking = recorder.begin(self.id, MutexOp::Unlock(attempt, attempt));
                drop(guard);
                recorder.end(unlocking, MutexRet::Done);
                if poisoned {
                    let mending = recorder.begin(self.id, MutexOp::ClearPoison);
                    handle.clear_poison();
                    recorder.end(mending, MutexRet::Done);
                }
            }));
            drop(entered);
            if let Err(panic) = result {
                // What was begun has an unknown outcome, and the server may take the lock back.
                let _unknown = recorder.begin(self.id, MutexOp::Lose(attempt));
                self.id = shared.fresh();
                let text = format!("a mutex: {}", words(&*panic));
                let first =
                    shared.errors.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone(), 1);
                if first.is_none() {
                    shared.complain(format!("a client got: {text}"));
                }
                return;
            }
            self.pause(PAUSE);
        }
    }

    /// Meets the others again and again, as often as there is time for if all is well.
    fn meet(&mut self) {
        let shared = self.shared.clone();
        let rounds = (shared.settings.lasts.as_millis() / MEETING.as_millis()) as usize;
        for round in 0..rounds {
            let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let entered = run.enter();
            let came = shared.start.elapsed();
            let result = wait(shared.barrier.remote().wait(), self.patience, &mut self.random);
            let went = shared.start.elapsed();
            drop(entered);
            match result {
                Some(Ok(result)) => {
                    let meeting = Meeting { came, went, leader: result.is_leader() };
                    let mut meetings = shared.meetings.lock().unwrap_or_else(PoisonError::into_inner);
                    if meetings.len() <= round {
                        meetings.resize_with(round + 1, Vec::new);
                    }
                    meetings[round].push(meeting);
                }
                // The others wait for this one in vain, unless its call was applied.
                Some(Err(error)) => return shared.failed(&error, self.patience),
                None => return shared.complain("a party of the barrier waited in vain".to_owned()),
            }
            // After an outage there is no time to lose.
            let due = MEETING * (round as u32 + 1);
            thread::sleep(due.saturating_sub(shared.start.elapsed()).min(MEETING));
        }
    }
}
