//! The persistent objects of one partition: what its Raft group replicates.
//!
//! Plain data and decisions: no clocks, no sockets. What depends on time, chance or a node's settings comes with the
//! command.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
};

use crucial_runtime::{
    codec,
    context::Context,
    dso::{Create, Head, Operation},
    error::{Error, Result},
    holder::Lost,
    id::{MemberId, ObjectId, SessionId},
    object::{self, Access, TypeInfo},
    wire::{self, Incoming},
};
use serde::{Deserialize, Serialize};

use super::{
    batch::{Batch, Item, Terms},
    divergence::{Checks, Size},
    sessions::Sessions,
};
use crate::{
    cell::{self, Cell, Step},
    methods::Methods,
    session::Begin,
    workers::Pace,
};

/// A call, wherever it is: the session that makes it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallId {
    /// The session.
    pub session: SessionId,
    /// The number.
    pub seq: u64,
}

/// The end of a call: its answer, as a frame.
pub type Answered = (CallId, Arc<[u8]>);

/// A replica of a partition's persistent objects.
///
/// Invariant: its state depends on the commands that were applied and their order, and on nothing else. So do the
/// sessions: a call that is in the log twice, because its client sent it again to another node, is applied once.
#[derive(Debug, Default)]
pub struct Replica {
    objects: RwLock<HashMap<ObjectId, Arc<Held>>>,
    sessions: Mutex<Sessions>,
    /// Whether the replicas are equal.
    pub(super) checks: Mutex<Checks>,
}

/// An object.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) info: &'static TypeInfo,
    pub(super) key: Arc<str>,
    pace: &'static Pace,
    pub(super) cell: RwLock<Cell<CallId>>,
    pub(super) size: Size,
}

/// A replica as data.
#[derive(Debug, Serialize, Deserialize)]
struct Image {
    objects: Vec<ObjectImage>,
    sessions: Sessions,
}

#[derive(Debug, Serialize, Deserialize)]
struct ObjectImage {
    id: ObjectId,
    type_name: String,
    key: String,
    cell: cell::Image<CallId>,
}

/// How many calls may be parked comes with each command.
const UNTOLD: u64 = u64::MAX;

impl Replica {
    /// Applies a command: the calls that it ends, with their answers.
    pub fn apply(&self, command: &[u8]) -> Result<Vec<Answered>> {
        let mut answers = Vec::new();
        let mut batch = Batch::parse(command)?;
        while let Some((item, terms)) = batch.next()? {
            match item {
                Item::Call { session, member, body } => {
                    self.serve(session, member, wire::parse_request(body)?, terms, &mut answers);
                }
                Item::Expire { session } => self.expire(session, &terms, &mut answers),
                Item::Lost { members } => self.lose(members, &terms, &mut answers),
                Item::Check { step } => self.step(step)?,
            }
        }
        Ok(answers)
    }

    fn serve(
        &self,
        id: SessionId,
        member: MemberId,
        call: Incoming<'_>,
        terms: Terms,
        answers: &mut Vec<Answered>,
    ) {
        let Incoming { head, seq, ack, args } = call;
        let origin = CallId { session: id, seq };
        if head.operation == Operation::Withdraw {
            let object = self.sessions.lock().unwrap().withdraw(id, seq);
            if let Some(object) = object {
                self.withdraw(object, origin, &terms, answers);
            }
            return;
        }
        let begun = self.sessions.lock().unwrap().begin(id, member, (seq, ack), head.object);
        let result = match begun {
            Ok(Begin::Fresh) => {
                let mut out = Vec::new();
                let start = wire::begin_answer(&mut out);
                let step = self.run(&head, args, &terms, origin, &mut out, answers);
                let Step::Done(result) = step else { return };
                wire::end_answer(&mut out, start, seq, result, terms.frame);
                self.finish(origin, out.into(), answers);
                return;
            }
            Ok(Begin::Running) => return,
            Ok(Begin::Done(frame)) => frame,
            Err(error) => answer(seq, Err(error), &terms),
        };
        answers.push((origin, result));
    }

    fn run(
        &self,
        head: &Head,
        args: &[u8],
        terms: &Terms,
        origin: CallId,
        out: &mut Vec<u8>,
        answers: &mut Vec<Answered>,
    ) -> Step {
        match head.operation {
            Operation::Call => {
                let held = match self.known(head) {
                    Ok(held) => held,
                    Err(error) => return Step::Done(Err(error)),
                };
                let mut released = Vec::new();
                let step = held.pace.run(head.method, || {
                    self.change(head.object, &held, |cell| {
                        cell.limit_parked(terms.parked);
                        cell.call(head.method, args, terms.context.clone(), || origin, out, &mut released)
                    })
                });
                self.answer_all(released, terms, answers);
                step
            }
            _ => Step::Done(self.administer(head, args, terms, out, answers)),
        }
    }

    /// Changes an object, which then has to be checked.
    fn change<R>(&self, id: ObjectId, held: &Held, change: impl FnOnce(&mut Cell<CallId>) -> R) -> R {
        let mut cell = held.cell.write().unwrap();
        let before = cell.is_written();
        let result = change(&mut cell);
        if !before && cell.is_written() && cell.diverged().is_none() {
            drop(cell);
            self.checks.lock().unwrap().written.insert(id);
        }
        result
    }

    fn administer(
        &self,
        head: &Head,
        args: &[u8],
        terms: &Terms,
        out: &mut Vec<u8>,
        answers: &mut Vec<Answered>,
    ) -> Result<()> {
        match head.operation {
            Operation::Create => self.create(head, args, terms.context.clone()),
            Operation::Remove => {
                if self.get(head.object).is_some() {
                    self.known(head)?;
                }
                let removed = self.objects.write().unwrap().remove(&head.object);
                if let Some(held) = &removed {
                    self.checks.lock().unwrap().written.remove(&head.object);
                    let mut released = Vec::new();
                    held.cell.write().unwrap().close(&mut released);
                    self.answer_all(released, terms, answers);
                }
                codec::encode("the answer", &removed.is_some(), out)
            }
            Operation::ClearPoison => {
                self.known(head)?.cell.write().unwrap().clear_poison();
                codec::encode("the answer", &true, out)
            }
            operation => Err(Error::Refused { reason: format!("{operation:?} is no write of an object") }),
        }
    }

    fn create(&self, head: &Head, args: &[u8], context: Context) -> Result<()> {
        let create: Create<'_> = codec::decode("a constructor call", args)?;
        let info = object::lookup(create.type_name)?;
        if info.tag != head.tag {
            return Err(Error::TypeDiffers { name: info.name.to_owned() });
        }
        let key =
            create.key.map_or_else(|| format!("#{:012x}", head.object.0 >> 80), |key| format!("{key:?}"));
        if let Some(held) = self.get(head.object) {
            return cell::check_same((held.info, &held.key), (info, &key));
        }
        let pace = Pace::of(info);
        let object =
            pace.construct(|| cell::construct(info, &key, create.constructor, create.args, context))?;
        let key: Arc<str> = key.into();
        let mut cell = Cell::new(info, key.clone(), object, UNTOLD);
        cell.add_written(Methods::constructor(create.constructor));
        let held = Held { info, key, pace, cell: RwLock::new(cell), size: Size::default() };
        self.objects.write().unwrap().insert(head.object, Arc::new(held));
        self.checks.lock().unwrap().written.insert(head.object);
        Ok(())
    }

    fn withdraw(&self, object: ObjectId, origin: CallId, terms: &Terms, answers: &mut Vec<Answered>) {
        let Some(held) = self.get(object) else { return };
        let withdrawn = held.cell.write().unwrap().withdraw(|other| *other == origin);
        if withdrawn.is_some() {
            self.finish(origin, answer(origin.seq, Err(Error::Withdrawn), terms), answers);
        }
    }

    /// A session is over: what it waits for, it does not take any more.
    fn expire(&self, id: SessionId, terms: &Terms, answers: &mut Vec<Answered>) {
        let running = self.sessions.lock().unwrap().end(id);
        for (seq, object) in running {
            self.withdraw(object, CallId { session: id, seq }, terms, answers);
        }
    }

    /// Processes are lost. What they asked for is withdrawn before what they held is taken back: else it could be given
    /// to another of them.
    fn lose(&self, members: &[u8], terms: &Terms, answers: &mut Vec<Answered>) {
        let Ok((lost,)) = codec::decode::<(Lost,)>("lost holders", members) else { return };
        let sessions = self.sessions.lock().unwrap().of(&lost);
        for id in sessions {
            self.expire(id, terms, answers);
        }
        let mut objects: Vec<_> = {
            let objects = self.objects.read().unwrap();
            objects
                .iter()
                .filter(|(_, held)| held.info.lost.is_some())
                .map(|(id, held)| (*id, held.clone()))
                .collect()
        };
        objects.sort_unstable_by_key(|(id, _)| *id);
        for (id, held) in objects {
            let method = held.info.lost.expect("only such were asked for");
            let mut released = Vec::new();
            let origin = || unreachable!("a method without a guard is not parked");
            let step = self.change(id, &held, |cell| {
                cell.call(method, members, terms.context.clone(), origin, &mut Vec::new(), &mut released)
            });
            if let Step::Done(Err(error)) = step {
                tracing::warn!(object = held.info.name, %error, "what lost processes held could not be taken back");
            }
            self.answer_all(released, terms, answers);
        }
    }

    fn answer_all(&self, released: Vec<(CallId, cell::Answer)>, terms: &Terms, answers: &mut Vec<Answered>) {
        for (origin, result) in released {
            self.finish(origin, answer(origin.seq, result, terms), answers);
        }
    }

    fn finish(&self, origin: CallId, frame: Arc<[u8]>, answers: &mut Vec<Answered>) {
        self.sessions.lock().unwrap().finish(origin.session, origin.seq, &frame);
        answers.push((origin, frame));
    }

    pub(super) fn get(&self, object: ObjectId) -> Option<Arc<Held>> {
        self.objects.read().unwrap().get(&object).cloned()
    }

    fn known(&self, head: &Head) -> Result<Arc<Held>> {
        let held = self.get(head.object).ok_or_else(|| cell::no_such(head.object))?;
        if held.info.tag == head.tag {
            Ok(held)
        } else {
            Err(Error::TypeDiffers { name: held.info.name.to_owned() })
        }
    }

    // ---- what the leader does with the state as it is

    /// Serves a request that changes nothing, if it is one: appends its result. None if it has to go through the log.
    ///
    /// Invariant: a write is answered by the log alone, also if its object isn't there. Its client makes the object and calls
    /// again, under another number, and this one may arrive a second time after that: then its session has to know it.
    pub fn read(
        &self,
        head: &Head,
        args: &[u8],
        context: impl FnOnce() -> Context,
        out: &mut Vec<u8>,
    ) -> Option<Result<()>> {
        let known = match head.operation {
            Operation::Call | Operation::IsPoisoned => self.known(head),
            _ => return None,
        };
        let held = match known {
            Ok(held) => held,
            Err(error) => {
                let reads = head.operation == Operation::IsPoisoned || object::is_read(head.tag, head.method);
                return reads.then_some(Err(error));
            }
        };
        if head.operation == Operation::IsPoisoned {
            let poisoned = held.cell.read().unwrap().is_poisoned();
            return Some(codec::encode("the answer", &poisoned, out));
        }
        let reads = held.info.methods.get(usize::from(head.method)).is_some_and(|m| m.access == Access::Read);
        if !reads {
            return None;
        }
        held.pace.run(head.method, || held.cell.read().unwrap().read(head.method, args, &mut context(), out))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.read().unwrap().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sessions that have called here, and their processes.
    pub fn sessions(&self) -> Vec<(SessionId, MemberId)> {
        self.sessions.lock().unwrap().list()
    }

    /// Calls `f` for every object that is not busy.
    pub fn each(&self, mut f: impl FnMut(&Cell<CallId>)) {
        let objects: Vec<_> = self.objects.read().unwrap().values().cloned().collect();
        for held in objects {
            if let Ok(cell) = held.cell.try_read() {
                f(&cell);
            }
        }
    }

    // ---- as data

    /// The whole replica as data. Nothing must be applied meanwhile.
    pub fn image(&self) -> Result<Vec<u8>> {
        let objects = self.objects.read().unwrap();
        let mut image = Image { objects: Vec::with_capacity(objects.len()), sessions: Sessions::default() };
        for (id, held) in &*objects {
            let cell = held.cell.read().unwrap().image(|origin| *origin)?;
            let type_name = held.info.name.to_owned();
            image.objects.push(ObjectImage { id: *id, type_name, key: held.key.to_string(), cell });
        }
        drop(objects);
        image.sessions = self.sessions.lock().unwrap().clone();
        let mut bytes = Vec::new();
        codec::encode("a snapshot", &image, &mut bytes)?;
        Ok(bytes)
    }

    /// Becomes what the image shows.
    pub fn restore(&self, image: &[u8]) -> Result<()> {
        let image: Image = codec::decode("a snapshot", image)?;
        let mut objects = HashMap::with_capacity(image.objects.len());
        let mut checks = Checks::default();
        for ObjectImage { id, type_name, key, cell } in image.objects {
            let info = object::lookup(&type_name)?;
            let key: Arc<str> = key.into();
            let cell = Cell::restore(info, key.clone(), cell, UNTOLD)?;
            if cell.is_written() && cell.diverged().is_none() {
                checks.written.insert(id);
            }
            let held =
                Held { info, key, pace: Pace::of(info), cell: RwLock::new(cell), size: Size::default() };
            objects.insert(id, Arc::new(held));
        }
        *self.checks.lock().unwrap() = checks;
        *self.objects.write().unwrap() = objects;
        *self.sessions.lock().unwrap() = image.sessions;
        Ok(())
    }
}

/// An answer as a frame.
fn answer(seq: u64, result: cell::Answer, terms: &Terms) -> Arc<[u8]> {
    wire::answer_frame(seq, result, terms.frame).into()
}
