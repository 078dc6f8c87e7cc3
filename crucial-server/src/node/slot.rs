//! An object's place on a node, and how calls take turns there.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, RwLock, TryLockError,
        atomic::{AtomicUsize, Ordering, fence},
    },
};

use crucial_runtime::{
    context::Context,
    dso::Head,
    error::{Error, Result},
    id::RunId,
    object::{Access, TypeInfo},
    reference::Lifetime,
};

use super::{Link, Origin};
use crate::{
    cell::{self, Answer, Cell, Step},
    workers::Pace,
};

/// An object's place on the node.
pub(super) struct Slot {
    pub(super) info: &'static TypeInfo,
    /// The object's key, or what stands for it in messages.
    pub(super) key: Arc<str>,
    pub(super) pace: &'static Pace,
    pub(super) lifetime: Lifetime,
    pub(super) run: RunId,
    pub(super) cell: RwLock<Cell<Origin>>,
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

impl Slot {
    pub(super) fn new(
        info: &'static TypeInfo,
        key: Arc<str>,
        pace: &'static Pace,
        lifetime: Lifetime,
        run: RunId,
        cell: Cell<Origin>,
    ) -> Self {
        let (cell, queue, queued) = (RwLock::new(cell), Mutex::default(), AtomicUsize::new(0));
        Slot { info, key, pace, lifetime, run, cell, queue, queued }
    }

    pub(super) fn check(&self, head: &Head) -> Result<()> {
        if self.info.tag == head.tag {
            Ok(())
        } else {
            Err(Error::TypeDiffers { name: self.info.name.to_owned() })
        }
    }

    /// Whether it is the object that somebody wants to make.
    pub(super) fn check_same(&self, info: &'static TypeInfo, key: &str) -> Result<()> {
        cell::check_same((self.info, &self.key), (info, key))
    }

    /// Makes a call: right here if the object is free, else by whoever holds it. With `wait`, this thread waits until
    /// it is free.
    pub(super) fn call(
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
    pub(super) fn exclusive<R>(
        &self,
        f: impl FnOnce(&mut Cell<Origin>, &mut Vec<(Origin, Answer)>) -> R,
    ) -> R {
        let mut released = Vec::new();
        let mut cell = self.cell.write().unwrap();
        let result = f(&mut cell, &mut released);
        drop(cell);
        answer_all(released);
        self.run_queued();
        result
    }

    /// Takes back a call that is parked, or that waits until the object is free.
    pub(super) fn withdraw(&self, origin: &Origin) {
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
    pub(super) fn take_back(&self, args: &[u8], context: Context) {
        let Some(method) = self.info.lost else { return };
        self.exclusive(|cell, released| {
            let origin = || unreachable!("a method without a guard is not parked");
            if let Step::Done(Err(error)) = cell.call(method, args, context, origin, &mut Vec::new(), released) {
                tracing::warn!(object = cell.name(), %error, "what lost processes held could not be taken back");
            }
        });
    }

    pub(super) fn close(&self) {
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
