//! A node: its objects, sessions and runs, with the locks that let many threads call at once.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, RwLock, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crucial_runtime::{
    codec,
    config::{Config, Limits},
    context::Context,
    dso::{Create, Head, Operation},
    error::{Error, Result},
    holder::Lost,
    id::{self, MemberId, ObjectId, RunId, SessionId, ThreadId},
    object::{self, Access, TypeInfo},
    reference::Lifetime,
    wire::{self, Hello, Incoming, Welcome},
};

use crate::{
    cell::{Answer, Cell, Step},
    leases::Leases,
    members::Members,
    session::{Begin, Session},
    workers::{self, Pace},
};

/// The number of partitions: object tables with a lock each.
const PARTITIONS: usize = 64;

/// A DSO node.
pub struct Node {
    /// Identifies this start of the node.
    incarnation: u128,
    limits: Limits,
    lease: Duration,
    started: Instant,
    partitions: Box<[Partition]>,
    objects: AtomicU64,
    /// A run that has ended does not come back, so that nobody meets fresh objects where there was state.
    runs: Mutex<Leases<RunId>>,
    members: Mutex<Members>,
    sessions: Mutex<HashMap<SessionId, Arc<Client>>>,
    seed: AtomicU64,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Partition {
    objects: RwLock<HashMap<ObjectId, Arc<Slot>, BuildHasherDefault<Spread>>>,
}

/// Object identities are evenly spread already, so their low bits are their hash.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only identities are hashed");
    }
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

/// An object's place on the node.
struct Slot {
    info: &'static TypeInfo,
    /// The object's key, or what stands for it in messages.
    key: Arc<str>,
    pace: &'static Pace,
    lifetime: Lifetime,
    run: RunId,
    cell: RwLock<Cell<Origin>>,
    /// Calls that found the object busy. Whoever holds the cell runs them before it goes.
    queue: Mutex<VecDeque<Queued>>,
    queued: AtomicUsize,
}

struct Queued {
    method: u16,
    args: Box<[u8]>,
    context: Context,
    origin: Origin,
}

/// Where an answer goes that comes later.
#[derive(Clone)]
pub(crate) enum Origin {
    /// To a session's connection.
    Session(Arc<Client>, u64),
    /// To a caller in this process.
    Local(Arc<dyn Local>),
}

/// A caller in this process.
pub(crate) trait Local: Send + Sync {
    fn answer(&self, answer: Answer);
}

/// Where frames for a client go.
pub(crate) trait Link: Send + Sync {
    /// Adds a frame to what is sent with the next [`flush`](Link::flush).
    fn push(&self, frame: &[u8]);
    fn flush(&self);
    /// Closes the connection.
    fn close(&self);
}

/// A client's session on this node.
pub(crate) struct Client {
    id: SessionId,
    pub(crate) run: RunId,
    member: MemberId,
    state: Mutex<ClientState>,
}

struct ClientState {
    session: Session,
    link: Option<Arc<dyn Link>>,
    /// When the last connection was lost; none while there is one.
    lost: Option<Instant>,
}

impl Client {
    fn lock(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap()
    }

    /// A call has ended: its answer is remembered, and goes out with the next flush, if there is a connection.
    fn finish(&self, seq: u64, answer: Answer) -> Option<Arc<dyn Link>> {
        let mut frame = Vec::new();
        let start = wire::begin_answer(&mut frame);
        let result = answer.map(|bytes| frame.extend_from_slice(&bytes));
        wire::end_answer(&mut frame, start, seq, result);
        let mut state = self.lock();
        state.session.finish(seq, &frame);
        let link = state.link.clone();
        drop(state);
        if let Some(link) = &link {
            link.push(&frame);
        }
        link
    }

    /// A call has ended, and its answer goes out on the connection that it came from. If it came again on a newer
    /// one, because the first broke while it ran, the answer has to go there too.
    fn finish_here(&self, seq: u64, frame: &[u8]) {
        let mut state = self.lock();
        let repeated = state.session.finish(seq, frame);
        let link = state.link.clone().filter(|_| repeated);
        drop(state);
        if let Some(link) = link {
            link.push(frame);
            link.flush();
        }
    }
}

impl Origin {
    /// Says where the answer goes out with the next flush, if it does.
    fn answer(self, answer: Answer) -> Option<Arc<dyn Link>> {
        match self {
            Origin::Session(client, seq) => client.finish(seq, answer),
            Origin::Local(caller) => {
                caller.answer(answer);
                None
            }
        }
    }

    fn is(&self, other: &Origin) -> bool {
        match (self, other) {
            (Origin::Session(a, n), Origin::Session(b, m)) => Arc::ptr_eq(a, b) && n == m,
            (Origin::Local(a), Origin::Local(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// What a person wants to know of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Identifies this start of the node.
    pub incarnation: u128,
    /// How long it has been up.
    pub uptime: Duration,
    /// How many runs are alive.
    pub runs: usize,
    /// How many sessions are open.
    pub sessions: usize,
    /// The types that have objects here, by name.
    pub types: Vec<TypeStatus>,
}

/// The objects of one type on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TypeStatus {
    /// The type's name.
    pub name: String,
    /// Objects that end with their run.
    pub ephemeral: u64,
    /// Objects that live until they are removed.
    pub persistent: u64,
    /// Calls that wait at their guards.
    pub parked: u64,
    /// Objects whose state is in doubt after a panic.
    pub poisoned: u64,
}

impl Node {
    /// An empty node.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        let incarnation = id::fresh();
        Arc::new(Node {
            incarnation,
            limits: config.limits.clone(),
            lease: config.lease,
            started: Instant::now(),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            objects: AtomicU64::new(0),
            runs: Mutex::new(Leases::new(config.lease)),
            members: Mutex::new(Members::new(config.lease)),
            sessions: Mutex::default(),
            seed: AtomicU64::new(incarnation as u64),
        })
    }

    /// The limits that it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn partition(&self, object: ObjectId) -> &Partition {
        &self.partitions[(object.0 >> 64) as usize % PARTITIONS]
    }

    fn slot(&self, object: ObjectId) -> Option<Arc<Slot>> {
        self.partition(object).objects.read().unwrap().get(&object).cloned()
    }

    /// The surroundings of a call that is accepted now.
    fn context(&self) -> Context {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.seed.fetch_add(1, Ordering::Relaxed);
        // Neighbouring seeds would give calls overlapping sequences, so each seed is a random number itself.
        let seed = Context::new(0, count).random();
        Context::new(now.as_micros() as u64, seed)
    }

    // ---- runs and sessions

    /// Registers a run of this process.
    pub(crate) fn start_run(&self, run: RunId, member: MemberId) {
        let now = Instant::now();
        let mut runs = self.runs.lock().unwrap();
        runs.start(run, (), now);
        runs.attach(run);
        self.members.lock().unwrap().attach(member, run, now);
    }

    /// Accepts a connection, or says why not. [`Node::close`] has to follow.
    pub(crate) fn open(&self, hello: &Hello, link: Arc<dyn Link>) -> Result<(Arc<Client>, Welcome)> {
        if hello.version != wire::VERSION {
            return Err(Error::Refused {
                reason: format!(
                    "this server speaks version {} of the protocol, the client version {}: redeploy, so that both \
                     run the same build",
                    wire::VERSION,
                    hello.version
                ),
            });
        }
        let lost = |reason: &str| Error::StateLost {
            object: format!("run {}", hello.run),
            reason: reason.to_owned(),
        };
        if hello.node.is_some_and(|node| node != self.incarnation) {
            return Err(lost("the server was started again, and it keeps objects in memory only"));
        }
        let mut runs = self.runs.lock().unwrap();
        if hello.starts_run {
            runs.start(hello.run, (), Instant::now());
        }
        if !runs.attach(hello.run) {
            return Err(lost("the run has ended, or had no connection for longer than its lease"));
        }
        drop(runs);
        self.members.lock().unwrap().attach(hello.member, hello.run, Instant::now());
        let mut sessions = self.sessions.lock().unwrap();
        let resumed = sessions.contains_key(&hello.session);
        let client = sessions.entry(hello.session).or_insert_with(|| {
            let state = ClientState { session: Session::default(), link: None, lost: None };
            Arc::new(Client {
                id: hello.session,
                run: hello.run,
                member: hello.member,
                state: Mutex::new(state),
            })
        });
        let client = client.clone();
        drop(sessions);
        let mut state = client.lock();
        state.link = Some(link);
        state.lost = None;
        drop(state);
        let welcome = Welcome { node: self.incarnation, resumed, frame_limit: self.limits.frame };
        Ok((client, welcome))
    }

    /// A connection is gone. Its session can be resumed for the length of the lease.
    pub(crate) fn close(&self, client: &Client, link: &Arc<dyn Link>) {
        self.members.lock().unwrap().detach(client.member, Instant::now());
        let mut runs = self.runs.lock().unwrap();
        runs.detach(client.run, Instant::now());
        let ended = !runs.contains(client.run);
        drop(runs);
        let mut state = client.lock();
        // A new connection may have taken over already.
        if state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            state.link = None;
            state.lost = Some(Instant::now());
            drop(state);
            if ended {
                self.sessions.lock().unwrap().remove(&client.id);
            }
        }
    }

    /// Ends what has outlived its lease. Called now and then.
    pub fn expire(&self) {
        let now = Instant::now();
        let over = self.runs.lock().unwrap().expire(now);
        for (run, ()) in over {
            tracing::info!(%run, "the lease of a run is over");
            self.drop_run(run);
        }
        let lost = self.members.lock().unwrap().expire(now);
        self.lose(&Lost::new(lost));
        let over = |lost: Instant| now.duration_since(lost) >= self.lease;
        for client in self.take_sessions(|client| client.lock().lost.is_some_and(over)) {
            self.drop_session(&client);
        }
    }

    /// Ends a run and its ephemeral objects.
    pub(crate) fn end_run(&self, run: RunId) {
        if self.runs.lock().unwrap().end(run).is_some() {
            self.drop_run(run);
        }
    }

    fn drop_run(&self, run: RunId) {
        let mut gone = Vec::new();
        for partition in &self.partitions {
            let mut objects = partition.objects.write().unwrap();
            let ended = |slot: &Slot| slot.lifetime == Lifetime::Ephemeral && slot.run == run;
            gone.extend(objects.extract_if(|_, slot| ended(slot)).map(|(_, slot)| slot));
            // A table that was large once gives its memory back.
            if objects.capacity() > 4 * objects.len() + 1024 {
                objects.shrink_to_fit();
            }
        }
        self.objects.fetch_sub(gone.len() as u64, Ordering::Relaxed);
        for slot in gone {
            slot.close();
        }
        // What they hold of persistent objects, others wait for.
        let members = self.members.lock().unwrap().end(run);
        self.take_back(&Lost::new(members));
        self.sessions.lock().unwrap().retain(|_, client| client.run != run || client.lock().link.is_some());
    }

    /// Takes out the sessions that are over.
    fn take_sessions(&self, over: impl Fn(&Client) -> bool) -> Vec<Arc<Client>> {
        let mut sessions = self.sessions.lock().unwrap();
        sessions.extract_if(|_, client| over(client)).map(|(_, client)| client).collect()
    }

    /// A client that is gone does not take what its parked calls wait for.
    fn drop_session(&self, client: &Arc<Client>) {
        tracing::debug!(session = ?client.id, "the lease of a session is over");
        let running = client.lock().session.running();
        for (seq, object) in running {
            if let Some(slot) = self.slot(object) {
                slot.withdraw(&Origin::Session(client.clone(), seq));
            }
        }
    }

    /// Ends the part of lost processes. What they asked for is withdrawn before what they held is taken back: else it
    /// could be given to another of them.
    fn lose(&self, lost: &Lost) {
        if lost.members().is_empty() {
            return;
        }
        for client in self.take_sessions(|client| lost.members().binary_search(&client.member).is_ok()) {
            let mut state = client.lock();
            state.session.close();
            let link = state.link.take();
            drop(state);
            self.drop_session(&client);
            if let Some(link) = link {
                link.close();
            }
        }
        self.take_back(lost);
    }

    /// Tells the objects that these processes are lost.
    fn take_back(&self, lost: &Lost) {
        if lost.members().is_empty() {
            return;
        }
        tracing::debug!(?lost, "processes are lost");
        let mut args = Vec::new();
        codec::encode("lost holders", &(lost,), &mut args).expect("numbers can be encoded");
        for partition in &self.partitions {
            let slots: Vec<_> = {
                let objects = partition.objects.read().unwrap();
                objects.values().filter(|slot| slot.info.lost.is_some()).cloned().collect()
            };
            for slot in slots {
                slot.take_back(&args, self.context());
            }
        }
    }

    // ---- calls

    /// Serves a frame of a client. Appends the answer to `out`, unless it comes later.
    pub(crate) fn serve(&self, client: &Arc<Client>, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let Incoming { head, seq, ack, args } = wire::parse_request(body)?;
        if head.operation == Operation::Withdraw {
            workers::aside(|| self.withdraw(client, seq));
            return Ok(());
        }
        if head.operation == Operation::Attend {
            self.members.lock().unwrap().attend(client.member, ThreadId(head.object.0));
            return Ok(());
        }
        let slot = if head.operation == Operation::Call { self.find(&head) } else { Ok(None) };
        let remembered = match &slot {
            Ok(Some((_, remembered))) => *remembered,
            Ok(None) => head.operation != Operation::IsPoisoned,
            Err(_) => false,
        };
        if remembered {
            match client.lock().session.begin(seq, ack, head.object) {
                Ok(Begin::Fresh) => {}
                Ok(Begin::Running) => return Ok(()),
                Ok(Begin::Done(frame)) => {
                    out.extend_from_slice(&frame);
                    return Ok(());
                }
                Err(error) => {
                    let start = wire::begin_answer(out);
                    wire::end_answer(out, start, seq, Err(error));
                    return Ok(());
                }
            }
        }
        let start = wire::begin_answer(out);
        let step = match slot {
            Err(error) => Step::Done(Err(error)),
            Ok(Some((slot, _))) => {
                let origin = || Origin::Session(client.clone(), seq);
                let context = self.context();
                slot.pace.run(head.method, || slot.call(head.method, args, context, origin, out, false))
            }
            Ok(None) if head.operation == Operation::Create => {
                Step::Done(self.administer(&head, client.run, args, out))
            }
            Ok(None) => Step::Done(workers::aside(|| self.administer(&head, client.run, args, out))),
        };
        match step {
            Step::Done(result) => {
                wire::end_answer(out, start, seq, result);
                let length = (out.len() - start - 4) as u64;
                if length > self.limits.frame {
                    wire::end_answer(out, start, seq, Err(too_large_answer(length, self.limits.frame)));
                }
                if remembered {
                    client.finish_here(seq, &out[start..]);
                }
            }
            Step::Parked => {
                out.truncate(start);
                // The client may have taken the call back before it was parked.
                let withdrawn = client.lock().session.is_withdrawn(seq);
                if withdrawn {
                    self.withdraw(client, seq);
                }
            }
        }
        Ok(())
    }

    /// The called object, and whether the session has to remember the call: reads without a guard are not
    /// remembered, since they can be repeated and never wait.
    fn find(&self, head: &Head) -> Result<Option<(Arc<Slot>, bool)>> {
        let slot = self.slot(head.object).ok_or_else(|| no_such(head.object))?;
        slot.check(head)?;
        let method = slot.info.methods.get(usize::from(head.method));
        let remembered = method.is_none_or(|m| m.access == Access::Write || m.guarded);
        Ok(Some((slot, remembered)))
    }

    /// Makes a call for a caller in this process, which waits while the object is busy.
    pub(crate) fn call_local(
        &self,
        head: &Head,
        args: &[u8],
        origin: impl FnOnce() -> Origin,
        out: &mut Vec<u8>,
    ) -> Step {
        match self.find(head) {
            Ok(Some((slot, _))) => slot.call(head.method, args, self.context(), origin, out, true),
            Ok(None) => unreachable!("a call has an object"),
            Err(error) => Step::Done(Err(error)),
        }
    }

    /// Makes, removes and mends objects.
    pub(crate) fn administer(&self, head: &Head, run: RunId, args: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match head.operation {
            Operation::Create => self.create(head, run, args),
            Operation::Remove => codec::encode("the answer", &self.remove(head)?, out),
            Operation::ClearPoison => {
                self.known(head)?.exclusive(|cell, _| cell.clear_poison());
                codec::encode("the answer", &true, out)
            }
            Operation::IsPoisoned => {
                let slot = self.known(head)?;
                let poisoned = slot.cell.read().unwrap().is_poisoned();
                codec::encode("the answer", &poisoned, out)
            }
            Operation::EndRun => {
                self.end_run(run);
                Ok(())
            }
            Operation::Lost => {
                let lost = self.members.lock().unwrap().report_lost(ThreadId(head.object.0));
                self.lose(&Lost::new(lost.into_iter().collect()));
                Ok(())
            }
            Operation::Call | Operation::Withdraw | Operation::Attend => {
                unreachable!("handled by the caller")
            }
        }
    }

    fn known(&self, head: &Head) -> Result<Arc<Slot>> {
        let slot = self.slot(head.object).ok_or_else(|| no_such(head.object))?;
        slot.check(head)?;
        Ok(slot)
    }

    /// Makes an object, unless it is there.
    fn create(&self, head: &Head, run: RunId, args: &[u8]) -> Result<()> {
        let create: Create<'_> = codec::decode("a constructor call", args)?;
        if let Some(key) = create.key
            && key.len() as u64 > self.limits.key
        {
            return Err(Error::TooLarge {
                what: format!("the key {:?}…", key.chars().take(40).collect::<String>()),
                size: key.len() as u64,
                limit: self.limits.key,
                setting: "limit_key".to_owned(),
            });
        }
        let info = object::lookup(create.type_name)?;
        if info.tag != head.tag {
            return Err(Error::TypeDiffers { name: info.name.to_owned() });
        }
        let key = match create.key {
            Some(key) => format!("{key:?}"),
            None => format!("#{:012x}", head.object.0 >> 80),
        };
        if let Some(slot) = self.slot(head.object) {
            return slot.check_same(info, &key);
        }
        if self.objects.load(Ordering::Relaxed) >= self.limits.objects {
            return Err(Error::TooMany {
                what: "objects on this node".to_owned(),
                limit: self.limits.objects,
                setting: "limit_objects".to_owned(),
            });
        }
        let pace = Pace::of(info);
        // The constructor is the user's code: it runs outside every lock. If two callers make the object at once,
        // one of the two results is dropped before anybody has seen it.
        let mut context = self.context();
        let mut construct = || (info.construct)(create.constructor, create.args, &mut context);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pace.construct(|| crucial_runtime::run::in_method(&mut construct))
        }));
        let object = made.unwrap_or_else(|panic| {
            Err(Error::MethodPanicked {
                object: format!("{} {key}", info.name),
                method: info
                    .constructors
                    .get(usize::from(create.constructor))
                    .copied()
                    .unwrap_or("?")
                    .to_owned(),
                message: crucial_runtime::function::panic_message(&*panic),
            })
        })?;
        let key: Arc<str> = key.into();
        let slot = Arc::new(Slot {
            info,
            key: key.clone(),
            pace,
            lifetime: create.lifetime,
            run,
            cell: RwLock::new(Cell::new(info, key.clone(), object, self.limits.parked)),
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
        });
        let mut objects = self.partition(head.object).objects.write().unwrap();
        if let Some(slot) = objects.get(&head.object).cloned() {
            drop(objects);
            return slot.check_same(info, &key);
        }
        // Invariant: an ended run gets no more objects, else nobody would remove them.
        if create.lifetime == Lifetime::Ephemeral && !self.runs.lock().unwrap().contains(run) {
            return Err(Error::StateLost {
                object: format!("{} {key}", info.name),
                reason: "its run has ended".into(),
            });
        }
        objects.insert(head.object, slot);
        self.objects.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, head: &Head) -> Result<bool> {
        if let Some(slot) = self.slot(head.object) {
            slot.check(head)?;
        }
        let removed = self.partition(head.object).objects.write().unwrap().remove(&head.object);
        if let Some(slot) = &removed {
            self.objects.fetch_sub(1, Ordering::Relaxed);
            slot.close();
        }
        Ok(removed.is_some())
    }

    fn withdraw(&self, client: &Arc<Client>, seq: u64) {
        let Some(object) = client.lock().session.withdraw(seq) else { return };
        if let Some(slot) = self.slot(object) {
            slot.withdraw(&Origin::Session(client.clone(), seq));
        }
    }

    /// Takes back a parked call of a caller in this process.
    pub(crate) fn withdraw_local(&self, object: ObjectId, origin: &Origin) {
        if let Some(slot) = self.slot(object) {
            slot.withdraw(origin);
        }
    }

    /// What a person wants to know of this node.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut types: std::collections::BTreeMap<&str, TypeStatus> = Default::default();
        for partition in &self.partitions {
            let slots: Vec<_> = partition.objects.read().unwrap().values().cloned().collect();
            for slot in slots {
                let status = types.entry(slot.info.name).or_default();
                match slot.lifetime {
                    Lifetime::Ephemeral => status.ephemeral += 1,
                    Lifetime::Persistent => status.persistent += 1,
                }
                // A busy object is counted, but not waited for.
                if let Ok(cell) = slot.cell.try_read() {
                    status.parked += cell.parked() as u64;
                    status.poisoned += u64::from(cell.is_poisoned());
                }
            }
        }
        let types = types.into_iter().map(|(name, status)| TypeStatus { name: name.to_owned(), ..status });
        Status {
            incarnation: self.incarnation,
            uptime: self.started.elapsed(),
            runs: self.runs.lock().unwrap().len(),
            sessions: self.sessions.lock().unwrap().len(),
            types: types.collect(),
        }
    }
}

fn no_such(object: ObjectId) -> Error {
    Error::NoSuchObject { object: format!("object #{:012x}", object.0 >> 80) }
}

fn too_large_answer(size: u64, limit: u64) -> Error {
    Error::TooLarge { what: "the answer".to_owned(), size, limit, setting: "limit_frame".to_owned() }
}

impl Slot {
    fn check(&self, head: &Head) -> Result<()> {
        if self.info.tag == head.tag {
            Ok(())
        } else {
            Err(Error::TypeDiffers { name: self.info.name.to_owned() })
        }
    }

    /// An identity is a hash of type and key: that it means this object is checked once, when a handle is made.
    fn check_same(&self, info: &'static TypeInfo, key: &str) -> Result<()> {
        if (self.info.name, &*self.key) == (info.name, key) {
            return Ok(());
        }
        let (name, here) = (format!("{} {key}", info.name), format!("{} {}", self.info.name, self.key));
        Err(Error::Refused { reason: format!("{name} has the same identity as {here}: choose another key") })
    }

    /// Makes a call: right here if the object is free, else by whoever holds it. With `wait`, this thread waits until
    /// it is free.
    fn call(
        &self,
        method: u16,
        args: &[u8],
        mut context: Context,
        origin: impl FnOnce() -> Origin,
        out: &mut Vec<u8>,
        wait: bool,
    ) -> Step {
        let reads = self.info.methods.get(usize::from(method)).is_some_and(|m| m.access == Access::Read);
        if reads {
            let cell = if wait { Ok(self.cell.read().unwrap()) } else { self.cell.try_read() };
            match cell {
                Ok(cell) => {
                    let result = cell.read(method, args, &mut context, out);
                    drop(cell);
                    self.run_queued();
                    if let Some(result) = result {
                        return Step::Done(result);
                    }
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Poisoned(_)) => unreachable!("panics are caught inside the cell"),
            }
        }
        let cell = if wait { Ok(self.cell.write().unwrap()) } else { self.cell.try_write() };
        match cell {
            Ok(mut cell) => {
                let mut released = Vec::new();
                let step = cell.call(method, args, context, origin, out, &mut released);
                drop(cell);
                answer_all(released);
                self.run_queued();
                step
            }
            Err(TryLockError::WouldBlock) => {
                let call = Queued { method, args: args.into(), context, origin: origin() };
                self.queue.lock().unwrap().push_back(call);
                self.queued.fetch_add(1, Ordering::SeqCst);
                self.run_queued();
                Step::Parked
            }
            Err(TryLockError::Poisoned(_)) => unreachable!("panics are caught inside the cell"),
        }
    }

    /// Runs the calls that found the object busy, if it is free.
    ///
    /// Invariant: no call stays in the queue while nobody holds the cell. Who adds a call tries to take the cell
    /// after that; who lets go of the cell looks at the queue after that. With the fences, one of them sees the other.
    fn run_queued(&self) {
        loop {
            fence(Ordering::SeqCst);
            if self.queued.load(Ordering::SeqCst) == 0 {
                return;
            }
            let Ok(mut cell) = self.cell.try_write() else { return };
            let mut released = Vec::new();
            while let Some(call) = self.pop() {
                let Queued { method, args, context, origin } = call;
                let mut out = Vec::new();
                let mut target = Some(origin);
                let take = || target.take().expect("a call is parked once");
                if let Step::Done(result) = cell.call(method, &args, context, take, &mut out, &mut released) {
                    let origin = target.take().expect("a call that ended was not parked");
                    released.push((origin, result.map(|()| out)));
                }
            }
            drop(cell);
            answer_all(released);
        }
    }

    fn pop(&self) -> Option<Queued> {
        let call = self.queue.lock().unwrap().pop_front()?;
        self.queued.fetch_sub(1, Ordering::SeqCst);
        Some(call)
    }

    /// Does something with the cell, once it is free.
    fn exclusive<R>(&self, f: impl FnOnce(&mut Cell<Origin>, &mut Vec<(Origin, Answer)>) -> R) -> R {
        let mut released = Vec::new();
        let mut cell = self.cell.write().unwrap();
        let result = f(&mut cell, &mut released);
        drop(cell);
        answer_all(released);
        self.run_queued();
        result
    }

    /// Takes back a call that is parked, or that waits until the object is free.
    fn withdraw(&self, origin: &Origin) {
        self.exclusive(|cell, released| {
            let taken = cell.withdraw(|other| other.is(origin)).or_else(|| self.unqueue(origin));
            released.extend(taken.map(|origin| (origin, Err(Error::Withdrawn))));
        });
    }

    fn unqueue(&self, origin: &Origin) -> Option<Origin> {
        let mut queue = self.queue.lock().unwrap();
        let at = queue.iter().position(|call| call.origin.is(origin))?;
        let call = queue.remove(at).expect("its position was just found");
        self.queued.fetch_sub(1, Ordering::SeqCst);
        Some(call.origin)
    }

    /// Lets the object take back what lost processes held.
    fn take_back(&self, args: &[u8], context: Context) {
        let Some(method) = self.info.lost else { return };
        self.exclusive(|cell, released| {
            let origin = || unreachable!("a method without a guard is not parked");
            if let Step::Done(Err(error)) = cell.call(method, args, context, origin, &mut Vec::new(), released) {
                tracing::warn!(object = cell.name(), %error, "what lost processes held could not be taken back");
            }
        });
    }

    fn close(&self) {
        self.exclusive(|cell, released| cell.close(released));
    }
}

fn answer_all(released: Vec<(Origin, Answer)>) {
    let mut last: Option<Arc<dyn Link>> = None;
    for (origin, answer) in released {
        let Some(link) = origin.answer(answer) else { continue };
        // Answers that go the same way one after the other go together.
        if let Some(before) = last.replace(link)
            && last.as_ref().is_some_and(|link| !Arc::ptr_eq(link, &before))
        {
            before.flush();
        }
    }
    if let Some(last) = last {
        last.flush();
    }
}
