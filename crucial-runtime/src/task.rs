//! Work for a cloud thread, described but not yet started.

use std::{fmt, marker::PhantomData};

use crate::{
    error::Result,
    function::{FunctionInfo, NoInstance, Options},
    transit::Transit,
};

/// How an encoded result becomes a value.
pub type Decode<T> = fn(&[u8]) -> Result<T>;

/// What calling a `#[cloud_fn]` gives: the function and its encoded arguments. Like a future, it does nothing by
/// itself: give it to [`thread::spawn`](../../crucial/thread/fn.spawn.html), or run it [`here`](Task::here).
#[must_use = "a task does nothing until it is spawned (`thread::spawn(|| f(x))`) or run (`f(x).here()`)"]
pub struct Task<T> {
    pub(crate) function: &'static FunctionInfo,
    pub(crate) args: Result<Vec<u8>>,
    pub(crate) transit: Transit,
    pub(crate) decode: Decode<T>,
    pub(crate) options: Options,
    result: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("function", &self.function.name).finish_non_exhaustive()
    }
}

impl<T> Task<T> {
    /// For generated code.
    #[doc(hidden)]
    pub fn new(
        function: std::result::Result<&'static FunctionInfo, NoInstance>,
        encode: impl FnOnce() -> Result<Vec<u8>>,
        decode: fn(&[u8]) -> Result<T>,
    ) -> Self {
        let (function, missing) = match function {
            Ok(function) => (function, None),
            Err(NoInstance { other, error }) => (other, Some(error)),
        };
        let (args, transit) = Transit::of(|| missing.map_or_else(encode, |error| Err(*error)));
        Task { function, args, transit, decode, options: Options::default(), result: PhantomData }
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.function.name
    }

    /// The function and its encoded arguments: for what starts tasks.
    #[doc(hidden)]
    pub fn into_call(self) -> (&'static FunctionInfo, Result<Vec<u8>>) {
        // What starts it may do so more than once, so the arguments hold what they hold.
        self.transit.forget();
        (self.function, self.args)
    }

    /// How to decode the result.
    #[doc(hidden)]
    #[must_use]
    pub fn decoder(&self) -> Decode<T> {
        self.decode
    }

    /// The task's own options.
    #[doc(hidden)]
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// Runs the task on this thread and returns its result. Arguments and result are copied, as in a cloud thread.
    ///
    /// # Panics
    /// If the function panics, or an argument cannot be encoded.
    pub fn here(self) -> T {
        let result =
            self.args.and_then(|args| self.function.run(args, 1)).and_then(|bytes| (self.decode)(&bytes));
        result.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// What [`thread::spawn`](../../crucial/thread/fn.spawn.html) takes: a task, or a closure that returns one.
#[diagnostic::on_unimplemented(
    message = "a cloud thread can't run `{Self}`",
    label = "not a task, and not a closure that returns one",
    note = "a cloud thread runs in another process, so it can't capture variables: put its body into a \
            `#[cloud_fn] fn` and pass the values as arguments: `thread::spawn(|| f(x))`"
)]
pub trait IntoTask {
    /// The task's result.
    type Output;
    /// The task.
    fn into_task(self) -> Task<Self::Output>;
}

impl<T> IntoTask for Task<T> {
    type Output = T;
    fn into_task(self) -> Task<T> {
        self
    }
}

/// Only [`Task`] is a task: what a closure that is spawned has to return.
#[diagnostic::on_unimplemented(
    message = "the closure of a cloud thread has to return a task, not `{Self}`",
    label = "this closure's result is not a task",
    note = "a cloud thread runs in another process, so it can't run a closure's body or capture variables: put the \
            body into a `#[cloud_fn] fn` and return its call: `thread::spawn(|| f(x))`, without a `;` at the end"
)]
pub trait IsTask {
    /// The task's result.
    type Output;
    /// The task itself.
    fn into_inner(self) -> Task<Self::Output>;
}

impl<T> IsTask for Task<T> {
    type Output = T;
    fn into_inner(self) -> Task<T> {
        self
    }
}

impl<F, R> IntoTask for F
where
    F: FnOnce() -> R,
    R: IsTask,
{
    type Output = R::Output;
    fn into_task(self) -> Task<R::Output> {
        self().into_inner()
    }
}
