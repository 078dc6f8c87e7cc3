//! One object, and the calls that wait at its guards.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crucial_runtime::{
    context::Context,
    digest::{self, Digest},
    error::{Error, Result},
    function::panic_message,
    id::ObjectId,
    object::{Access, MethodInfo, Object, TypeInfo},
    run::in_method,
};
use serde::{Deserialize, Serialize};

use crate::{
    methods::Methods,
    parked::{Call, Parked},
};

/// The answer to a parked call: its encoded result.
pub type Answer = Result<Vec<u8>>;

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It ran; its encoded result was appended to the output, or it failed.
    Done(Result<()>),
    /// Its guard does not hold: it waits, and its answer comes later.
    Parked,
}

/// An object with its parked calls. `O` says where an answer goes.
pub struct Cell<O> {
    info: &'static TypeInfo,
    /// The object's key, or what stands for it in messages.
    key: Arc<str>,
    object: Box<dyn Object>,
    poison: Option<Box<str>>,
    /// What has changed the object since [`Cell::take_written`].
    written: Methods,
    /// What may have made it differ from its replicas, if it does.
    diverged: Option<Methods>,
    parked: Parked<O>,
    /// How many calls may wait.
    limit: u64,
}

/// An object with its parked calls, as data: what is replicated, stored, and moved to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image<O> {
    #[serde(with = "crucial_runtime::bulk")]
    state: Vec<u8>,
    poison: Option<Box<str>>,
    written: Methods,
    diverged: Option<Methods>,
    /// In the order of arrival.
    parked: Vec<ParkedImage<O>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ParkedImage<O> {
    method: u16,
    #[serde(with = "crucial_runtime::bulk")]
    args: Vec<u8>,
    context: Context,
    origin: O,
}

impl<O> Image<O> {
    /// The same with other origins; calls whose origin is not known any more are left out.
    pub fn map_origins<P>(self, mut origin: impl FnMut(O) -> Option<P>) -> Image<P> {
        let parked = self.parked.into_iter().filter_map(|call| {
            let origin = origin(call.origin)?;
            Some(ParkedImage { method: call.method, args: call.args, context: call.context, origin })
        });
        Image {
            state: self.state,
            poison: self.poison,
            written: self.written,
            diverged: self.diverged,
            parked: parked.collect(),
        }
    }
}

/// Runs a constructor. `key` is the object's key, or what stands for it in messages.
pub fn construct(
    info: &'static TypeInfo,
    key: &str,
    constructor: u16,
    args: &[u8],
    mut context: Context,
) -> Result<Box<dyn Object>> {
    let made =
        catch_unwind(AssertUnwindSafe(|| in_method(|| (info.construct)(constructor, args, &mut context))));
    made.unwrap_or_else(|panic| {
        Err(Error::MethodPanicked {
            object: format!("{} {key}", info.name),
            method: info.constructors.get(usize::from(constructor)).copied().unwrap_or("?").to_owned(),
            message: panic_message(&*panic),
        })
    })
}

/// An identity is a hash of type and key: that it means this object is checked once, when a handle is made.
pub fn check_same(here: (&TypeInfo, &str), wanted: (&TypeInfo, &str)) -> Result<()> {
    if (here.0.name, here.1) == (wanted.0.name, wanted.1) {
        return Ok(());
    }
    let name = |(info, key): (&TypeInfo, &str)| format!("{} {key}", info.name);
    Err(Error::Refused {
        reason: format!("{} has the same identity as {}: choose another key", name(wanted), name(here)),
    })
}

/// The error for an object that is not there.
pub fn no_such(object: ObjectId) -> Error {
    Error::NoSuchObject { object: format!("object #{:012x}", object.0 >> 80) }
}

impl<O> fmt::Debug for Cell<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("name", &self.name())
            .field("parked", &self.parked.len())
            .finish_non_exhaustive()
    }
}

impl<O> Cell<O> {
    /// A cell for `object`, where at most `limit` calls may wait.
    pub fn new(info: &'static TypeInfo, key: Arc<str>, object: Box<dyn Object>, limit: u64) -> Self {
        Cell {
            info,
            key,
            object,
            poison: None,
            written: Methods::default(),
            diverged: None,
            parked: Parked::default(),
            limit,
        }
    }

    /// The cell as data; `origin` says where answers go, as data.
    pub fn image<P>(&self, origin: impl Fn(&O) -> P) -> Result<Image<P>> {
        let mut state = Vec::new();
        self.object.snapshot(&mut state)?;
        let parked = self.parked.iter().map(|(method, call)| ParkedImage {
            method,
            args: call.args.to_vec(),
            context: call.context.clone(),
            origin: origin(&call.origin),
        });
        Ok(Image {
            state,
            poison: self.poison.clone(),
            written: self.written,
            diverged: self.diverged,
            parked: parked.collect(),
        })
    }

    /// The cell that has this image.
    pub fn restore(info: &'static TypeInfo, key: Arc<str>, image: Image<O>, limit: u64) -> Result<Self> {
        let mut cell = Cell::new(info, key, (info.restore)(&image.state)?, limit);
        (cell.poison, cell.written, cell.diverged) = (image.poison, image.written, image.diverged);
        for ParkedImage { method, args, context, origin } in image.parked {
            let info = cell.method(method)?;
            cell.parked.push(method, info, &args, context, origin);
        }
        Ok(cell)
    }

    /// From now on, at most `limit` calls may wait.
    pub fn limit_parked(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The object's type and key.
    pub fn name(&self) -> String {
        format!("{} {}", self.info.name, self.key)
    }

    /// The object's type.
    pub fn info(&self) -> &'static TypeInfo {
        self.info
    }

    /// The object.
    pub fn object(&self) -> &dyn Object {
        &*self.object
    }

    /// How many calls wait.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Whether a write panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// Accepts the state after a panic. Parked calls failed when it happened.
    pub fn clear_poison(&mut self) {
        self.poison = None;
    }

    /// The object's key, or what stands for it in messages.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The digest of the object and of what waits here, if that takes no more than `limit` bytes: equal in two cells to
    /// which the same was done, unless a method is not deterministic.
    pub fn digest(&self, limit: u64) -> Result<Digest, digest::Failure> {
        let digest = catch_unwind(AssertUnwindSafe(|| self.object.digest(limit)))
            .unwrap_or_else(|panic| Err(digest::Failure::Unfit(panic_message(&*panic))))?;
        Ok(digest.and(self.parked.len() as u64).and(self.is_poisoned().into()))
    }

    /// What has changed the object since it was asked last; whether calls were parked counts, too.
    pub fn take_written(&mut self) -> Methods {
        std::mem::take(&mut self.written)
    }

    /// Whether something has changed the object since it was asked last what.
    pub fn is_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// These have changed the object, too.
    pub fn add_written(&mut self, methods: Methods) {
        self.written.extend(methods);
    }

    /// What may have made the object differ from its replicas, if it does.
    pub fn diverged(&self) -> Option<Methods> {
        self.diverged
    }

    /// The object differs from its replicas, perhaps because of these. It stays so: nobody can say who is right.
    pub fn set_diverged(&mut self, methods: Methods) {
        self.diverged.get_or_insert(methods);
    }

    fn check(&self) -> Result<()> {
        match &self.poison {
            None => Ok(()),
            Some(message) => Err(Error::Poisoned { object: self.name(), message: message.to_string() }),
        }
    }

    fn method(&self, method: u16) -> Result<&'static MethodInfo> {
        self.info
            .methods
            .get(usize::from(method))
            .ok_or_else(|| crucial_runtime::support::no_such_method(self.info.name, method))
    }

    /// Whether a call of this method can run with shared access: a `&self` method whose guard holds.
    /// None if it needs exclusive access, to change the object or to park.
    pub fn read(&self, method: u16, args: &[u8], cx: &mut Context, out: &mut Vec<u8>) -> Option<Result<()>> {
        let info = match self.check().and_then(|()| self.method(method)) {
            Ok(info) => info,
            Err(error) => return Some(Err(error)),
        };
        if info.access == Access::Write {
            return None;
        }
        if info.guarded {
            match self.guard(info, method, args) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(self.run_read(info, method, args, cx, out))
    }

    /// Makes a call. If it is parked, `origin` says where its answer goes. The answers of calls that it let go on are
    /// appended to `released`.
    pub fn call(
        &mut self,
        method: u16,
        args: &[u8],
        cx: Context,
        origin: impl FnOnce() -> O,
        out: &mut Vec<u8>,
        released: &mut Vec<(O, Answer)>,
    ) -> Step {
        if let Err(error) = self.check() {
            return Step::Done(Err(error));
        }
        self.step(method, args, cx, origin, out, released)
    }

    /// Runs a call from its guard to its end, or parks it.
    fn step(
        &mut self,
        mut method: u16,
        args: &[u8],
        mut cx: Context,
        origin: impl FnOnce() -> O,
        out: &mut Vec<u8>,
        released: &mut Vec<(O, Answer)>,
    ) -> Step {
        let start = out.len();
        // The arguments of a continuation, once there is one.
        let mut continued: Option<Vec<u8>> = None;
        let mut written = false;
        let step = loop {
            let args = continued.as_deref().unwrap_or(args);
            let info = match self.method(method) {
                Ok(info) => info,
                Err(error) => break Step::Done(Err(error)),
            };
            if written {
                // Invariant: guards are tried again in the order of arrival after every write. The calls that wait
                // already come before this one's continuation.
                self.release(released);
                written = false;
                if let Err(error) = self.check() {
                    break Step::Done(Err(error));
                }
            }
            if info.guarded {
                match self.guard(info, method, args) {
                    Ok(true) => {}
                    Ok(false) => break self.park(method, info, args, cx, origin),
                    Err(error) => break Step::Done(Err(error)),
                }
            }
            let result = match info.access {
                Access::Read => self.run_read(info, method, args, &mut cx, out),
                Access::Write => {
                    written = true;
                    self.run_write(info, method, args, &mut cx, out, released)
                }
            };
            match (result, info.then) {
                (Ok(()), Some(then)) => {
                    continued = Some(out[start..].to_vec());
                    out.truncate(start);
                    method = then;
                }
                (result, _) => break Step::Done(result),
            }
        };
        if written {
            self.release(released);
        }
        step
    }

    fn park(
        &mut self,
        method: u16,
        info: &MethodInfo,
        args: &[u8],
        cx: Context,
        origin: impl FnOnce() -> O,
    ) -> Step {
        if self.parked.len() as u64 >= self.limit {
            return Step::Done(Err(Error::TooMany {
                what: format!("calls that wait at {}", self.name()),
                limit: self.limit,
                setting: "limit_parked".to_owned(),
            }));
        }
        self.parked.push(method, info, args, cx, origin());
        self.written.insert(method);
        Step::Parked
    }

    /// Lets the calls go on whose guards hold now, in the order of their arrival; each write starts the search anew.
    fn release(&mut self, released: &mut Vec<(O, Answer)>) {
        let mut after = None;
        while self.poison.is_none()
            && let Some((place, group)) = self.parked.next(after)
        {
            let method = group.method;
            let info = self.method(method).expect("a parked call's method exists");
            match self.guard(info, method, &group.args) {
                Ok(false) => {
                    after = Some(place);
                    continue;
                }
                Ok(true) if info.access == Access::Read && info.then.is_none() => {
                    // Nothing changes, so the guard holds for the whole group.
                    for Call { args, mut context, origin, .. } in self.parked.take(place).calls {
                        let mut out = Vec::new();
                        let result = self.run_read(info, method, &args, &mut context, &mut out);
                        released.push((origin, result.map(|()| out)));
                    }
                }
                Ok(true) => {
                    let Call { args, context, origin, .. } = self.parked.pop(place);
                    self.resume(method, &args, context, origin, released);
                }
                Err(error) => {
                    let call = self.parked.pop(place);
                    released.push((call.origin, Err(error)));
                }
            }
            after = None;
        }
    }

    /// Runs a parked call whose guard holds. A continuation parks again; its chain is released by the caller's
    /// search, which starts anew.
    fn resume(
        &mut self,
        method: u16,
        args: &[u8],
        mut cx: Context,
        origin: O,
        released: &mut Vec<(O, Answer)>,
    ) {
        let info = self.method(method).expect("a parked call's method exists");
        let mut out = Vec::new();
        let result = match info.access {
            Access::Read => self.run_read(info, method, args, &mut cx, &mut out),
            Access::Write => self.run_write(info, method, args, &mut cx, &mut out, released),
        };
        match (result, info.then) {
            (Ok(()), Some(then)) => {
                let info = self.method(then).expect("a continuation exists");
                self.parked.push(then, info, &out, cx, origin);
            }
            (result, _) => released.push((origin, result.map(|()| out))),
        }
    }

    /// Takes back the parked call for which `is` holds.
    pub fn withdraw(&mut self, is: impl Fn(&O) -> bool) -> Option<O> {
        self.parked.withdraw(is)
    }

    /// Gives up the parked calls, because the object goes.
    pub fn close(&mut self, released: &mut Vec<(O, Answer)>) {
        let error = Error::NoSuchObject { object: self.name() };
        released.extend(self.parked.drain().map(|origin| (origin, Err(error.clone()))));
    }

    fn guard(&self, info: &MethodInfo, method: u16, args: &[u8]) -> Result<bool> {
        catch_unwind(AssertUnwindSafe(|| in_method(|| self.object.guard(method, args))))
            .unwrap_or_else(|panic| Err(self.panicked(&format!("the guard of {}", info.name), &*panic)))
    }

    /// A read that panics fails its caller only: it could not change the object (as with `std::sync::RwLock`).
    fn run_read(
        &self,
        info: &MethodInfo,
        method: u16,
        args: &[u8],
        cx: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        catch_unwind(AssertUnwindSafe(|| in_method(|| self.object.read(method, args, cx, out))))
            .unwrap_or_else(|panic| Err(self.panicked(info.name, &*panic)))
    }

    /// A write that panics poisons the object: its state may be half changed. Parked calls fail too, since nothing
    /// could let them go on.
    fn run_write(
        &mut self,
        info: &MethodInfo,
        method: u16,
        args: &[u8],
        cx: &mut Context,
        out: &mut Vec<u8>,
        released: &mut Vec<(O, Answer)>,
    ) -> Result<()> {
        self.written.insert(method);
        let object = &mut self.object;
        catch_unwind(AssertUnwindSafe(|| in_method(|| object.write(method, args, cx, out)))).unwrap_or_else(
            |panic| {
                self.poison = Some(panic_message(&*panic).into());
                let error = self.check().expect_err("it was poisoned just now");
                released.extend(self.parked.drain().map(|origin| (origin, Err(error.clone()))));
                Err(self.panicked(info.name, &*panic))
            },
        )
    }

    fn panicked(&self, method: &str, panic: &(dyn std::any::Any + Send)) -> Error {
        Error::MethodPanicked {
            object: self.name(),
            method: method.to_owned(),
            message: panic_message(panic),
        }
    }
}
