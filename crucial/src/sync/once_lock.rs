use std::sync;

use crucial_runtime::{
    holder::{Holder, Lost},
    id::RunId,
    run::Run,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::holdings::{Holdings, fail, me, name};
use crate::{
    Result, Shared, shared,
    typed::{Blob, done, typed},
};

/// The object behind a [`OnceLock`].
#[shared]
#[doc(hidden)]
#[derive(Debug)]
pub struct RawOnceLock {
    value: Option<Blob>,
    /// Whoever makes the value.
    making: Holdings,
    poisoned: bool,
}

/// What a caller is to do.
#[doc(hidden)]
#[derive(Debug, Serialize, Deserialize)]
pub enum Turn {
    /// Use this value.
    Have(Blob),
    /// Make the value.
    Make(u64),
    /// Nothing: a closure that had to succeed has panicked.
    Poisoned,
}

#[shared]
impl RawOnceLock {
    pub fn new() -> Self {
        RawOnceLock { value: None, making: Holdings::default(), poisoned: false }
    }

    pub fn get(&self) -> Option<Blob> {
        self.value.clone()
    }

    /// Sets the value, once nobody is making it, unless there is one. Returns whether there was none.
    #[when(self.making.is_empty())]
    pub fn set(&mut self, value: Blob) -> bool {
        let empty = self.value.is_none();
        if empty {
            self.value = Some(value);
        }
        empty
    }

    #[when(self.making.is_empty())]
    pub fn begin(&mut self, holder: Holder) -> Turn {
        match &self.value {
            Some(value) => Turn::Have(value.clone()),
            None if self.poisoned => Turn::Poisoned,
            None => Turn::Make(self.making.give(holder, ())),
        }
    }

    /// The value is there, or could not be made. False if this caller was taken for lost meanwhile.
    pub fn end(&mut self, token: u64, value: Option<Blob>, poison: bool) -> Result<bool> {
        let there = self.making.take(token).is_some();
        if there {
            self.value = value;
            self.poisoned |= poison;
        }
        Ok(there)
    }

    #[when(self.value.is_some())]
    pub fn wait(&self) -> Blob {
        self.value.clone().unwrap_or_default()
    }

    /// Nobody has seen anything of a value that was not made, so the next one makes it.
    #[lost]
    fn take_back(&mut self, lost: &Lost) {
        self.making.take_lost(lost);
    }
}

type RawOnceLockAt = __RawOnceLockAt;

typed! {
    /// A value that is set once. Follows [`std::sync::OnceLock`]. With [`wait`](Self::wait) it is a future: one thread
    /// sets it, others wait for it.
    ///
    /// A handle that has seen the value keeps it, so only its first use is a call. The closure of
    /// [`get_or_init`](Self::get_or_init) runs in the thread that asked first, while others wait; if it panics or its
    /// process dies, the next one makes the value.
    ///
    /// ```
    /// use crucial::{cloud_fn, shared, sync::OnceLock, thread};
    ///
    /// #[shared]
    /// static ANSWER: OnceLock<u32> = OnceLock::new();
    ///
    /// #[cloud_fn]
    /// fn compute() {
    ///     ANSWER.set(42).unwrap();
    /// }
    ///
    /// let thread = thread::spawn(|| compute());
    /// assert_eq!(*ANSWER.wait(), 42);
    /// assert_eq!(ANSWER.set(43), Err(43));
    /// thread.join().unwrap();
    /// ```
    pub struct OnceLock<T>(RawOnceLock, seen: Seen<T>), at NamedOnceLock(RawOnceLockAt);
}

impl<T> OnceLock<T> {
    /// One without a value. Follows [`std::sync::OnceLock::new`].
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        OnceLock::over(RawOnceLock::new())
    }
}

impl<T> NamedOnceLock<T> {
    /// The one with this name; it has no value if it is made by this call.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new()`")]
    #[must_use]
    #[track_caller]
    pub fn new(self) -> OnceLock<T> {
        self.build(RawOnceLockAt::new)
    }
}

impl<T: Serialize + DeserializeOwned> OnceLock<T> {
    /// The value, if it is set. Follows [`std::sync::OnceLock::get`].
    #[track_caller]
    pub fn get(&self) -> Option<&T> {
        match self.seen.get() {
            Some(value) => Some(value),
            None => self.raw.get().map(|value| self.seen.keep(&value)),
        }
    }

    /// Sets the value. Follows [`std::sync::OnceLock::set`].
    ///
    /// # Errors
    /// If it was set; the error holds the new value.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.seen.get().is_some() || !self.raw.set(Blob::of(&value)) { Err(value) } else { Ok(()) }
    }

    /// The value; if there is none, the closure makes it. Follows [`std::sync::OnceLock::get_or_init`].
    ///
    /// # Panics
    /// If the closure panics; then there is still no value. A closure that uses the same `OnceLock` waits for ever.
    #[track_caller]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        self.make(f, false)
    }

    /// With `poison`, a closure that panics has all later calls panic.
    #[track_caller]
    pub(super) fn make(&self, f: impl FnOnce() -> T, poison: bool) -> &T {
        if let Some(value) = self.seen.get() {
            return value;
        }
        match self.raw.begin(me()) {
            Turn::Have(value) => self.seen.keep(&value),
            Turn::Poisoned => panic!("LazyLock instance has previously been poisoned"),
            Turn::Make(token) => {
                let mut making = Making { raw: &self.raw, token, value: None, poison };
                // What the others get is what this one gets: the value as it travels.
                let value = making.value.insert(Blob::of(&f())).clone();
                drop(making);
                self.seen.keep(&value)
            }
        }
    }

    /// Waits until the value is set. Follows [`std::sync::OnceLock::wait`].
    #[track_caller]
    pub fn wait(&self) -> &T {
        match self.seen.get() {
            Some(value) => value,
            None => self.seen.keep(&self.raw.wait()),
        }
    }

    /// Takes the value and removes the object. Follows [`std::sync::OnceLock::into_inner`]; other handles that have
    /// not seen the value fail after that.
    #[must_use]
    #[track_caller]
    pub fn into_inner(self) -> Option<T> {
        let value = self.raw.get();
        done(self.raw.remove());
        value.map(|value| value.to())
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T: Serialize> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let once = OnceLock::new();
        once.raw.set(Blob::of(&value));
        once
    }
}

/// The values that a handle has seen, one of each run: a static's handle lives as long as its process, which may serve
/// many runs.
#[derive(Debug)]
struct Seen<T> {
    first: sync::OnceLock<Box<Value<T>>>,
}

#[derive(Debug)]
struct Value<T> {
    run: RunId,
    value: T,
    next: sync::OnceLock<Box<Value<T>>>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Seen { first: sync::OnceLock::new() }
    }
}

impl<T> Seen<T> {
    #[track_caller]
    fn get(&self) -> Option<&T> {
        let run = done(Run::current_id());
        let mut next = &self.first;
        while let Some(seen) = next.get() {
            if seen.run == run {
                return Some(&seen.value);
            }
            next = &seen.next;
        }
        None
    }
}

impl<T: DeserializeOwned> Seen<T> {
    #[track_caller]
    fn keep(&self, value: &Blob) -> &T {
        let run = done(Run::current_id());
        let mut new = Some(Box::new(Value { run, value: value.to(), next: sync::OnceLock::new() }));
        let mut next = &self.first;
        loop {
            let seen = next.get_or_init(|| new.take().expect("it is kept once"));
            if seen.run == run {
                return &seen.value;
            }
            next = &seen.next;
        }
    }
}

/// A closure that makes the value; its end is reported also if it panics.
struct Making<'a> {
    raw: &'a RawOnceLock,
    token: u64,
    value: Option<Blob>,
    poison: bool,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let value = self.value.take();
        let poison = self.poison && value.is_none();
        match self.raw.end(self.token, value, poison) {
            Ok(true) => {}
            Ok(false) => fail(&format!(
                "the value of {} was made by another, because this process was cut off from the server for longer than \
                 its lease",
                name("OnceLock", self.raw)
            )),
            Err(error) => fail(&format!("{} could not be set: {error}", name("OnceLock", self.raw))),
        }
    }
}
