//! What [`Mutex`](super::Mutex) and [`RwLock`](super::RwLock) have in common.

use std::{
    marker::PhantomData,
    sync::{LockResult, PoisonError},
    thread,
};

use crucial_runtime::{
    holder::{Holder, Lost},
    shared_fn::{Format, Invocation},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::holdings::{Holdings, fail, name};
use crate::{Result, shared, typed::Blob};

/// What somebody wants or has.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Read,
    Write,
}

/// The object behind a [`Mutex`](super::Mutex) or an [`RwLock`](super::RwLock).
///
/// Invariant: neither readers nor writers wait for ever. A reader waits while a writer waits; but when a writer unlocks,
/// the readers that wait already come before the next writer. Beyond that, the order is that of arrival. No guard looks
/// at the arguments of its call, so it is asked once for all that wait.
#[shared]
#[doc(hidden)]
#[derive(Debug)]
pub struct RawLock {
    value: Blob,
    readers_waiting: Holdings,
    writers_waiting: Holdings,
    /// A writer has unlocked, and left the lock to the readers that waited.
    readers_turn: bool,
    /// Who has the lock: readers, or a writer.
    locked: Holdings<Kind>,
    poisoned: bool,
}

/// A caller that waits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Waiter {
    token: u64,
    holder: Holder,
}

/// What a caller gets with the lock.
#[doc(hidden)]
#[derive(Debug, Serialize, Deserialize)]
pub struct Locked {
    pub(super) token: u64,
    pub(super) poisoned: bool,
    pub(super) value: Blob,
}

#[shared]
impl RawLock {
    pub fn new(value: Blob) -> Self {
        RawLock {
            value,
            readers_waiting: Holdings::default(),
            writers_waiting: Holdings::default(),
            readers_turn: false,
            locked: Holdings::default(),
            poisoned: false,
        }
    }

    fn is_written(&self) -> bool {
        self.locked.iter().any(|(_, kind)| *kind == Kind::Write)
    }

    fn readers_may(&self) -> bool {
        !self.is_written() && (self.readers_turn || self.writers_waiting.is_empty())
    }

    fn writer_may(&self) -> bool {
        self.locked.is_empty() && !self.readers_turn
    }

    /// Waits for the lock, to read.
    #[then(begin_read)]
    pub fn read(&mut self, holder: Holder) -> Waiter {
        Waiter { token: self.readers_waiting.give(holder, ()), holder }
    }

    #[when(self.readers_may())]
    fn begin_read(&mut self, waiter: Waiter) -> Locked {
        self.readers_waiting.take(waiter.token);
        self.end_turn();
        self.give(waiter.holder, Kind::Read)
    }

    /// Waits for the lock, to write.
    #[then(begin_write)]
    pub fn write(&mut self, holder: Holder) -> Waiter {
        Waiter { token: self.writers_waiting.give(holder, ()), holder }
    }

    #[when(self.writer_may())]
    fn begin_write(&mut self, waiter: Waiter) -> Locked {
        self.writers_waiting.take(waiter.token);
        self.give(waiter.holder, Kind::Write)
    }

    /// Takes the lock, unless that has to wait.
    pub fn try_lock(&mut self, holder: Holder, kind: Kind) -> Option<Locked> {
        let may = match kind {
            Kind::Read => self.readers_may(),
            Kind::Write => self.writer_may() && self.writers_waiting.is_empty(),
        };
        may.then(|| self.give(holder, kind))
    }

    /// The readers' turn is over when none of them waits.
    fn end_turn(&mut self) {
        self.readers_turn &= !self.readers_waiting.is_empty();
    }

    fn give(&mut self, holder: Holder, kind: Kind) -> Locked {
        let token = self.locked.give(holder, kind);
        Locked { token, poisoned: self.poisoned, value: self.value.clone() }
    }

    /// Writes the value, if there is one, and gives the lock back. False if the lock is not this caller's any more:
    /// then nothing has changed.
    pub fn unlock(&mut self, token: u64, value: Option<Blob>, poison: bool) -> Result<bool> {
        let Some(kind) = self.locked.take(token) else { return Ok(false) };
        self.readers_turn |= kind == Kind::Write && !self.readers_waiting.is_empty();
        if let Some(value) = value {
            self.value = value;
        }
        self.poisoned |= poison;
        Ok(true)
    }

    /// Makes a writer a reader, before anybody else can write.
    pub fn downgrade(&mut self, token: u64, value: Option<Blob>) -> Result<bool> {
        let Some((_, kind)) = self.locked.iter_mut().find(|(held, _)| *held == token) else {
            return Ok(false);
        };
        *kind = Kind::Read;
        if let Some(value) = value {
            self.value = value;
        }
        Ok(true)
    }

    /// Applies a function as soon as nobody has the lock.
    #[when(self.locked.is_empty())]
    pub fn update(&mut self, f: &Invocation) -> Result<(bool, Blob)> {
        let result = f.find()?.update(self.value.bytes_mut())?;
        Ok((self.poisoned, result.into()))
    }

    /// Applies a function that only looks, as soon as nobody writes.
    #[when(!self.is_written())]
    pub fn inspect(&self, f: &Invocation) -> Result<(bool, Blob)> {
        let result = f.find()?.inspect(Format::Plain, self.value.bytes())?;
        Ok((self.poisoned, result.into()))
    }

    pub fn poisoned(&self) -> bool {
        self.poisoned
    }

    pub fn mend(&mut self) {
        self.poisoned = false;
    }

    /// A writer that died may have been in the middle of something; a reader was not.
    #[lost]
    fn take_back(&mut self, lost: &Lost) {
        self.readers_waiting.take_lost(lost);
        self.writers_waiting.take_lost(lost);
        self.end_turn();
        self.poisoned |= self.locked.take_lost(lost).contains(&Kind::Write);
    }
}

/// The error that std gives, if the lock is poisoned.
pub(super) fn poisonable<G>(poisoned: bool, guard: G) -> LockResult<G> {
    if poisoned { Err(PoisonError::new(guard)) } else { Ok(guard) }
}

/// A lock that this thread has, and the value that it can write.
pub(super) struct Held<'a, T: Serialize> {
    lock: &'a RawLock,
    /// What it is called in messages.
    what: &'static str,
    /// None when the lock was given up already.
    value: Option<T>,
    token: u64,
    changed: bool,
    /// Whether the thread was panicking when it got the lock: then that panic is not about this value.
    panicking: bool,
    /// A lock is given back by the thread that took it, as in std.
    stays_here: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl<'a, T: Serialize + DeserializeOwned> Held<'a, T> {
    #[track_caller]
    pub(super) fn new(lock: &'a RawLock, what: &'static str, locked: &Locked) -> Self {
        Held {
            lock,
            what,
            value: Some(locked.value.to()),
            token: locked.token,
            changed: false,
            panicking: thread::panicking(),
            stays_here: PhantomData,
        }
    }
}

const KEPT: &str = "who gives up the lock keeps no guard";

impl<T: Serialize> Held<'_, T> {
    pub(super) fn get(&self) -> &T {
        self.value.as_ref().expect(KEPT)
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.changed = true;
        self.value.as_mut().expect(KEPT)
    }

    /// Writes the value and keeps others only from writing. Returns the reader's token, and the value.
    #[track_caller]
    pub(super) fn downgrade(mut self) -> (u64, T) {
        let written = self.changed.then(|| Blob::of(self.get()));
        let value = self.value.take().expect(KEPT);
        match self.lock.downgrade(self.token, written) {
            Ok(true) => {}
            Ok(false) => fail(&self.lost()),
            Err(error) => fail(&format!("{} could not be downgraded: {error}", self.name())),
        }
        (self.token, value)
    }

    /// Gives the value to a condition, which gets a `&mut` as in std. Whether it writes can be found out only by
    /// comparing.
    pub(super) fn test(&mut self, condition: impl FnOnce(&mut T) -> bool) -> bool {
        let before = (!self.changed).then(|| Blob::try_of(self.get()).ok());
        let holds = condition(self.value.as_mut().expect(KEPT));
        if let Some(before) = before {
            self.changed = before != Blob::try_of(self.get()).ok();
        }
        holds
    }

    fn name(&self) -> String {
        name(self.what, self.lock)
    }

    fn lost(&self) -> String {
        format!(
            "{} was given to another, because this process was cut off from the server for longer than its lease: \
             what this guard would have written is lost",
            self.name()
        )
    }
}

impl<T: Serialize> Drop for Held<'_, T> {
    fn drop(&mut self) {
        let Some(value) = &self.value else { return };
        let value = self.changed.then(|| Blob::try_of(value)).transpose();
        let poison = value.is_err() || !self.panicking && thread::panicking();
        let (value, unsound) = value.map_or_else(|error| (None, Some(error)), |value| (value, None));
        match (self.lock.unlock(self.token, value, poison), unsound) {
            (Ok(true), None) => {}
            (Ok(true), Some(error)) => {
                fail(&format!("the value of {} can't be written: {error}", self.name()))
            }
            (Ok(false), _) if self.changed => fail(&self.lost()),
            (Ok(false), _) => warn_lost(self.what, self.lock),
            (Err(error), _) => fail(&format!("{} could not be unlocked: {error}", self.name())),
        }
    }
}

/// A lock was lost under which nothing was written.
pub(super) fn warn_lost(what: &str, lock: &RawLock) {
    let lock = name(what, lock);
    tracing::warn!(lock, "the lock was lost, because this process was cut off from the server for too long");
}
