//! Calls of shared objects: blocking, or as a [`Call`] that is awaited.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use serde::Serialize;

use crate::{
    codec,
    dso::{BoxFuture, CallName, Create, HEADROOM, Head, Operation, OwnedRequest, Request},
    error::{Error, Result},
    object::{Access, Methods, tag},
    reference::{Named, ObjectRef, Origin},
    run::{self, Run},
};

thread_local! {
    // One buffer for each thread, taken out while it is in use: a nested use gets a fresh one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Buffers above this size are given back to the allocator after the call.
const KEPT: usize = 1 << 20;

fn with_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFER.take();
    buffer.clear();
    buffer.resize(HEADROOM, 0);
    let result = f(&mut buffer);
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    result
}

fn head<T: Methods>(operation: Operation, object: &ObjectRef, method: u16, run: &Run) -> Head {
    Head { operation, object: object.id(run.id()), tag: const { tag::<T>() }, method }
}

fn name<'a, T: Methods>(object: &'a ObjectRef, operation: Operation, method: u16) -> CallName<'a> {
    let method = match operation {
        Operation::Call => T::METHODS.get(usize::from(method)).map_or("?", |m| m.name),
        Operation::Create => T::CONSTRUCTORS.get(usize::from(method)).copied().unwrap_or("?"),
        Operation::Remove => "remove",
        Operation::ClearPoison => "clear_poison",
        Operation::IsPoisoned => "is_poisoned",
        Operation::Withdraw | Operation::EndRun | Operation::Attend | Operation::Lost | Operation::Map => "?",
    };
    CallName { type_name: T::NAME, object, method }
}

/// Reads without a guard are answered at once and change nothing; making and mending an object a second time changes
/// nothing either.
fn is_repeatable<T: Methods>(operation: Operation, method: u16) -> bool {
    match operation {
        Operation::Call => {
            T::METHODS.get(usize::from(method)).is_some_and(|m| m.access == Access::Read && !m.guarded)
        }
        Operation::Create
        | Operation::ClearPoison
        | Operation::IsPoisoned
        | Operation::Lost
        | Operation::Map => true,
        Operation::Remove | Operation::Withdraw | Operation::EndRun | Operation::Attend => false,
    }
}

/// A blocking request with these arguments.
fn request<T: Methods, A: Serialize + ?Sized>(
    operation: Operation,
    object: &ObjectRef,
    method: u16,
    args: &A,
    decode: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let name = name::<T>(object, operation, method);
    run::refuse_nested(&name)?;
    Run::with(|run| {
        with_buffer(|buffer| {
            codec::encode("the arguments", args, buffer)?;
            let head = head::<T>(operation, object, method, run);
            let repeatable = is_repeatable::<T>(operation, method);
            let send = |buffer: &mut Vec<u8>, decode: &mut dyn FnMut(&[u8])| {
                let request = Request { head, buffer, timeout: None, repeatable, name };
                run::blocking(&name, || run.dso().call(request, decode)).map_err(|error| name.explain(error))
            };
            match send(buffer, decode) {
                // Invariant: only an object that was never made is made here. A server answers `NoSuchObject` only
                // within a run it has known from the start; else it answers `StateLost`.
                Err(Error::NoSuchObject { .. }) if object.origin().is_some() => {
                    make::<T>(run, object, object.origin().expect("checked above"))?;
                    send(buffer, decode)
                }
                result => result,
            }
        })
    })?
}

/// Calls method `method` and decodes its result.
pub fn call<T: Methods, A: Serialize + ?Sized, R>(
    handle: &T,
    method: u16,
    args: &A,
    decode: fn(&[u8]) -> Result<R>,
) -> Result<R> {
    let mut result = None;
    request::<T, A>(Operation::Call, handle.object_ref(), method, args, &mut |bytes| {
        result = Some(decode(bytes));
    })?;
    result.expect("a call that succeeds has an answer")
}

fn make<T: Methods>(run: &Run, object: &ObjectRef, origin: &Origin) -> Result<()> {
    let name = name::<T>(object, Operation::Create, origin.constructor);
    let mut buffer = create_buffer::<T>(object, origin)?;
    let head = head::<T>(Operation::Create, object, origin.constructor, run);
    let request = Request { head, buffer: &mut buffer, timeout: None, repeatable: true, name };
    run::blocking(&name, || run.dso().call(request, &mut |_| ()))
}

/// Makes an object without blocking.
#[cfg(feature = "processes")]
pub(crate) async fn make_async<T: Methods>(run: &Run, object: &ObjectRef, origin: &Origin) -> Result<()> {
    let buffer = create_buffer::<T>(object, origin)?;
    administer::<T>(run, object, Operation::Create, origin.constructor, buffer).await
}

/// Removes an object without blocking.
#[cfg(feature = "processes")]
pub(crate) async fn remove_async<T: Methods>(run: &Run, object: &ObjectRef) -> Result<()> {
    let mut buffer = vec![0; HEADROOM];
    codec::encode("the arguments", &(), &mut buffer)?;
    administer::<T>(run, object, Operation::Remove, 0, buffer).await
}

#[cfg(feature = "processes")]
async fn administer<T: Methods>(
    run: &Run,
    object: &ObjectRef,
    operation: Operation,
    method: u16,
    buffer: Vec<u8>,
) -> Result<()> {
    let name = name::<T>(object, operation, method);
    let request = OwnedRequest {
        head: head::<T>(operation, object, method, run),
        buffer,
        timeout: None,
        repeatable: is_repeatable::<T>(operation, method),
        type_name: T::NAME,
        object: object.clone(),
        method: name.method,
    };
    run.dso().call_async(request).await.map(drop).map_err(|error| name.explain(error))
}

fn create_buffer<T: Methods>(object: &ObjectRef, origin: &Origin) -> Result<Vec<u8>> {
    let mut buffer = vec![0; HEADROOM];
    let create = Create {
        type_name: T::NAME,
        key: object.key(),
        lifetime: object.lifetime(),
        constructor: origin.constructor,
        args: &origin.args,
    };
    codec::encode("the arguments of the constructor", &create, &mut buffer)?;
    Ok(buffer)
}

fn create<T: Methods, A: Serialize + ?Sized>(
    object: ObjectRef,
    lazy: bool,
    constructor: u16,
    args: &A,
) -> Result<T> {
    let mut origin = Origin { constructor, args: Vec::new() };
    codec::encode("the arguments of the constructor", args, &mut origin.args)?;
    if lazy {
        return Ok(T::from_object(object.made_by(origin)));
    }
    run::refuse_nested(&name::<T>(&object, Operation::Create, constructor))?;
    Run::with(|run| make::<T>(run, &object, &origin))??;
    Ok(T::from_object(object))
}

/// A new object: with the key of its type's attribute, or else anonymous.
///
/// # Panics
/// If the object cannot be made, with the reason.
#[track_caller]
pub fn construct<T: Methods, A: Serialize + ?Sized>(constructor: u16, args: &A) -> T {
    let made = match T::KEY {
        Some(key) => construct_named(Named::new(key, T::PERSISTENT), constructor, args),
        None => create(ObjectRef::anonymous(), false, constructor, args),
    };
    made.unwrap_or_else(|error| panic!("{error}"))
}

/// A named object: the one that has this key, or a new one.
///
/// # Panics
/// If the object cannot be made, with the reason.
#[track_caller]
pub fn construct_at<T: Methods, A: Serialize + ?Sized>(named: Named, constructor: u16, args: &A) -> T {
    construct_named(named, constructor, args).unwrap_or_else(|error| panic!("{error}"))
}

fn construct_named<T: Methods, A: Serialize + ?Sized>(named: Named, constructor: u16, args: &A) -> Result<T> {
    let (object, lazy) = named.into_object::<T>();
    create(object, lazy, constructor, args)
}

pub(crate) fn remove<T: Methods>(handle: &T) -> Result<bool> {
    simple(handle, Operation::Remove)
}

pub(crate) fn is_poisoned<T: Methods>(handle: &T) -> Result<bool> {
    simple(handle, Operation::IsPoisoned)
}

pub(crate) fn clear_poison<T: Methods>(handle: &T) -> Result<()> {
    simple::<T, bool>(handle, Operation::ClearPoison).map(drop)
}

fn simple<T: Methods, R: serde::de::DeserializeOwned>(handle: &T, operation: Operation) -> Result<R> {
    let mut result = None;
    request::<T, ()>(operation, handle.object_ref(), 0, &(), &mut |bytes| {
        result = Some(codec::decode("the answer", bytes));
    })?;
    result.expect("a request that succeeds has an answer")
}

/// A call that has been described: `handle.remote().method(args)`.
///
/// Nothing is sent before it is awaited (or [`wait`](Call::wait)ed for). Both give `Result<R, crucial::Error>`.
/// Dropping the future takes a parked call back.
#[must_use = "a call is made when it is awaited (`.await`) or waited for (`.wait()`)"]
pub struct Call<R> {
    state: State,
    decode: fn(&[u8]) -> Result<R>,
}

enum State {
    Described(Result<Box<Described>>),
    Running(BoxFuture<'static, Result<Vec<u8>>>),
    Done,
}

struct Described {
    run: Arc<Run>,
    request: OwnedRequest,
    origin: Option<(Head, Vec<u8>)>,
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Described(Ok(described)) => {
                format!("{} of {}", described.request.method, described.request.type_name)
            }
            State::Described(Err(error)) => error.to_string(),
            State::Running(_) => "running".to_owned(),
            State::Done => "done".to_owned(),
        };
        f.debug_tuple("Call").field(&state).finish()
    }
}

/// Describes a call of method `method`.
pub fn remote<T: Methods, A: Serialize + ?Sized, R>(
    handle: &T,
    method: u16,
    args: &A,
    decode: fn(&[u8]) -> Result<R>,
) -> Call<R> {
    Call { state: State::Described(describe(handle, method, args).map(Box::new)), decode }
}

fn describe<T: Methods, A: Serialize + ?Sized>(handle: &T, method: u16, args: &A) -> Result<Described> {
    let object = handle.object_ref();
    let name = name::<T>(object, Operation::Call, method);
    run::refuse_nested(&name)?;
    let run = Run::current()?;
    let mut buffer = vec![0; HEADROOM];
    codec::encode("the arguments", args, &mut buffer)?;
    let origin = match object.origin() {
        Some(origin) => Some((
            head::<T>(Operation::Create, object, origin.constructor, &run),
            create_buffer::<T>(object, origin)?,
        )),
        None => None,
    };
    let request = OwnedRequest {
        head: head::<T>(Operation::Call, object, method, &run),
        buffer,
        timeout: None,
        repeatable: is_repeatable::<T>(Operation::Call, method),
        type_name: T::NAME,
        object: object.clone(),
        method: name.method,
    };
    Ok(Described { run, request, origin })
}

impl Described {
    async fn run(self) -> Result<Vec<u8>> {
        let (object, type_name, method) =
            (self.request.object.clone(), self.request.type_name, self.request.method);
        self.attempt().await.map_err(|error| CallName { type_name, object: &object, method }.explain(error))
    }

    async fn attempt(self) -> Result<Vec<u8>> {
        let Described { run, request, origin } = self;
        let Some((head, buffer)) = origin else { return run.dso().call_async(request).await };
        match run.dso().call_async(request.clone()).await {
            Err(Error::NoSuchObject { .. }) => {
                let create =
                    OwnedRequest { head, buffer, timeout: None, repeatable: true, ..request.clone() };
                run.dso().call_async(create).await?;
                run.dso().call_async(request).await
            }
            result => result,
        }
    }
}

impl<R> Call<R> {
    /// Gives the call at most this long. A call that is still parked at its guard then has certainly not run; one
    /// that runs already is not interrupted, and its result is returned.
    pub fn timeout(mut self, after: Duration) -> Self {
        if let State::Described(Ok(described)) = &mut self.state {
            described.request.timeout = Some(after);
        }
        self
    }

    /// Makes the call and blocks until its result is there.
    ///
    /// # Errors
    /// Whatever [`Error`] describes.
    pub fn wait(self) -> Result<R> {
        match self.state {
            State::Described(described) => {
                let Described { run, mut request, origin } = *described?;
                let (object, type_name, method) = (request.object.clone(), request.type_name, request.method);
                let name = CallName { type_name, object: &object, method };
                let mut result = None;
                let mut take = |bytes: &[u8]| result = Some((self.decode)(bytes));
                let dso = run.dso();
                let outcome =
                    run::blocking(&name, || match (dso.call(request.borrow(), &mut take), origin) {
                        (Err(Error::NoSuchObject { .. }), Some((head, mut buffer))) => {
                            let create =
                                Request { head, buffer: &mut buffer, timeout: None, repeatable: true, name };
                            dso.call(create, &mut |_| ())?;
                            dso.call(request.borrow(), &mut take)
                        }
                        (outcome, _) => outcome,
                    });
                outcome.map_err(|error| name.explain(error))?;
                result.expect("a call that succeeds has an answer")
            }
            State::Running(future) => run::block_on(future).and_then(|bytes| (self.decode)(&bytes)),
            State::Done => panic!("the call was awaited to its end already"),
        }
    }
}

impl<R> Future for Call<R> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<R>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Described(Ok(described)) => self.state = State::Running(Box::pin(described.run())),
                State::Described(Err(error)) => return Poll::Ready(Err(error)),
                State::Running(mut future) => {
                    return match future.as_mut().poll(cx) {
                        Poll::Ready(result) => Poll::Ready(result.and_then(|bytes| (self.decode)(&bytes))),
                        Poll::Pending => {
                            self.state = State::Running(future);
                            Poll::Pending
                        }
                    };
                }
                State::Done => panic!("a call was polled after it had ended"),
            }
        }
    }
}
