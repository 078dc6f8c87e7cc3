//! What a node does for a request: it calls a method, or makes, removes or mends an object.

use std::sync::{Arc, atomic::Ordering};

use crucial_runtime::{
    codec,
    dso::{Create, Head, Operation},
    error::{Error, Result},
    holder::Lost,
    id::{ObjectId, RunId, ThreadId},
    object::{self, Access},
    reference::Lifetime,
    wire::{self, Elsewhere, Incoming},
};

use super::{Client, Node, Origin, Slot};
use crate::{
    cell::{self, Cell, Step},
    session::Begin,
    workers::{self, Pace},
};

impl Node {
    /// Serves a frame of a client. Appends the answer to `out`, unless it comes later.
    pub(crate) fn serve(&self, client: &Arc<Client>, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let call = wire::parse_request(body)?;
        let Incoming { head, seq, ack, args } = call;
        if head.operation == Operation::Attend {
            self.members.lock().unwrap().attend(client.member, ThreadId(head.object.0));
            return Ok(());
        }
        if head.operation == Operation::Map {
            let map = self.cluster.get().map(|cluster| cluster.place().map).unwrap_or_default();
            wire::elsewhere_answer(out, seq, &Elsewhere { map, ..Elsewhere::default() });
            return Ok(());
        }
        let mut gate = None;
        if let Some(cluster) = self.cluster.get()
            && head.operation != Operation::EndRun
            && head.operation != Operation::Lost
        {
            if head.object.is_persistent() {
                cluster.serve(client, &call, body, out);
                return Ok(());
            }
            match cluster.enter(head.object) {
                Ok(entered) => gate = Some(entered),
                Err(elsewhere) => {
                    wire::elsewhere_answer(out, seq, &elsewhere);
                    return Ok(());
                }
            }
        }
        if head.operation == Operation::Withdraw {
            // Invariant: a call is taken back only where its object is. While that moves, the call is in what was
            // packed, and would go on where that arrives.
            workers::aside(|| self.withdraw(client, seq));
            return Ok(());
        }
        let slot = if head.operation == Operation::Call { self.find(&head) } else { Ok(None) };
        let remembered = match &slot {
            Ok(Some((_, remembered))) => *remembered,
            Ok(None) => head.operation != Operation::IsPoisoned,
            // Invariant: a write that has failed stays so. Its client makes the object and calls again, under another
            // number, and this one may arrive a second time after that.
            Err(_) => true,
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
                    wire::error_answer(out, seq, error);
                    return Ok(());
                }
            }
        }
        let start = wire::begin_answer(out);
        let step = match slot {
            Err(error) => Step::Done(Err(self.explain(client, head.object, error))),
            Ok(Some((slot, _))) => {
                let origin = || Origin::Session(client.clone(), seq);
                let context = self.context();
                slot.pace.run(head.method, || slot.call(head.method, args, context, origin, out, false))
            }
            Ok(None) if head.operation == Operation::Create => Step::Done(
                self.check_lost(client, &head, args)
                    .and_then(|()| self.administer(&head, client.run, args, out)),
            ),
            Ok(None) => Step::Done(workers::aside(|| self.administer(&head, client.run, args, out))),
        };
        match step {
            Step::Done(result) => {
                wire::end_answer(out, start, seq, result, self.limits.frame);
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
        drop(gate);
        Ok(())
    }

    /// The called object, and whether the session has to remember the call: reads without a guard are not
    /// remembered, since they can be repeated and never wait.
    fn find(&self, head: &Head) -> Result<Option<(Arc<Slot>, bool)>> {
        let slot = self.slot(head.object).ok_or_else(|| cell::no_such(head.object))?;
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
            Operation::Call | Operation::Withdraw | Operation::Attend | Operation::Map => {
                unreachable!("handled by the caller")
            }
        }
    }

    fn known(&self, head: &Head) -> Result<Arc<Slot>> {
        let slot = self.slot(head.object).ok_or_else(|| cell::no_such(head.object))?;
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
        let context = self.context();
        let object =
            pace.construct(|| cell::construct(info, &key, create.constructor, create.args, context))?;
        let key: Arc<str> = key.into();
        let cell = Cell::new(info, key.clone(), object, self.limits.parked);
        let slot = Arc::new(Slot::new(info, key.clone(), pace, create.lifetime, run, cell));
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
}
