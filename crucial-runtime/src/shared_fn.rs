//! Functions that servers apply to the values they hold: what `#[shared]` on a `fn` registers.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

use serde::{Deserialize, Serialize};

use crate::{
    bulk, codec,
    error::{Error, Result},
    ordered,
    registry::{Named, Registry},
    support::Data,
};

/// How a value on a server is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// MessagePack: see [`codec`].
    Plain,
    /// Bytes that are ordered as the values are: see [`ordered`].
    Ordered,
}

impl Format {
    /// Decodes a value. `what` names it in the error.
    pub fn decode<'a, T: Deserialize<'a>>(self, what: &str, bytes: &'a [u8]) -> Result<T> {
        match self {
            Format::Plain => codec::decode(what, bytes),
            Format::Ordered => ordered::decode(what, bytes),
        }
    }
}

/// From format, value and argument to result.
pub type InspectFn = fn(Format, &[u8], &[u8], &mut Vec<u8>) -> Result<()>;

/// From value and argument to result.
pub type UpdateFn = fn(&mut Vec<u8>, &[u8], &mut Vec<u8>) -> Result<()>;

/// A function from encoded value and argument to encoded result, which is appended to the last one.
#[derive(Clone, Copy, Debug)]
pub enum Apply {
    /// `fn(&T, A) -> R`
    Inspect(InspectFn),
    /// `fn(&mut T, A) -> R`; the value is MessagePack.
    Update(UpdateFn),
}

/// A registered function.
pub struct SharedFnInfo {
    /// The function's path.
    pub name: &'static str,
    /// The fingerprint of its signature.
    pub fingerprint: u64,
    /// Where it is defined: `file:line`.
    pub place: &'static str,
    /// What it does.
    pub apply: Apply,
}

impl fmt::Debug for SharedFnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFnInfo").field("name", &self.name).finish_non_exhaustive()
    }
}

inventory::collect!(SharedFnInfo);

static FUNCTIONS: Registry<SharedFnInfo> = Registry::new();

impl Named for SharedFnInfo {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// The function registered under `name`, if it has this fingerprint.
pub fn lookup(name: &str, fingerprint: u64) -> Result<&'static SharedFnInfo> {
    let function = FUNCTIONS
        .get(name)
        .ok_or_else(|| Error::UnknownSharedFn { name: name.to_owned(), known: FUNCTIONS.names() })?;
    if function.fingerprint == fingerprint {
        Ok(function)
    } else {
        Err(Error::SharedFnDiffers { name: name.to_owned() })
    }
}

pub(crate) fn check_registry() -> Result<()> {
    FUNCTIONS.double().map_or(Ok(()), |(double, found)| {
        Err(Error::Registry {
            reason: format!(
                "two shared functions have the name `{}` ({} and {}): rename one of them",
                double.name, found.place, double.place
            ),
        })
    })
}

/// A function that servers can apply to the values they hold: what `#[shared]` makes of a `fn`.
///
/// `#[shared] fn add(total: &mut u64, by: u64) { .. }` is a constant `add` of this type. Collections take it where
/// std's take a closure, as in `map.entry(key).and_modify(add, 1)`: a closure has no name by which a server could find
/// it. Called as `add(&mut total, 1)` it runs here.
///
/// `F` is the type of the function's pointer, `T` is `&T` or `&mut T` of the value that it is applied to, `A` the type
/// of its argument (a tuple, if it has several; `()`, if it has none) and `R` that of its result.
pub struct Function<F, T, A, R> {
    info: &'static SharedFnInfo,
    function: F,
    types: PhantomData<fn(T, A) -> R>,
}

impl<F, T, A, R> Function<F, T, A, R> {
    /// What `#[shared]` calls.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(info: &'static SharedFnInfo, function: F) -> Self {
        Function { info, function, types: PhantomData }
    }
}

impl<F: Copy, T, A, R> Clone for Function<F, T, A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Copy, T, A, R> Copy for Function<F, T, A, R> {}

impl<F, T, A, R> fmt::Debug for Function<F, T, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.info.name).finish()
    }
}

impl<F, T, A, R> Deref for Function<F, T, A, R> {
    type Target = F;
    fn deref(&self) -> &F {
        &self.function
    }
}

/// A registered function that may change a `T`: `#[shared] fn f(value: &mut T, ..)`, or one that only looks at it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shared function of a `{T}`",
    label = "not a shared function of `{T}`",
    note = "this runs on the server, which finds functions by their names: write a `fn` whose first argument is \
            `&mut {T}` or `&{T}`, put `#[shared]` on it, and pass its name. A closure has none: what it would capture \
            is an argument"
)]
pub trait Update<T>: Copy {
    /// The argument after the value; a tuple if there are several, `()` if there is none.
    type Arg: Data;
    /// The result.
    type Output: Data;
    /// The registration.
    #[doc(hidden)]
    fn info(&self) -> &'static SharedFnInfo;
}

/// A registered function that looks at a `T`: `#[shared] fn f(value: &T, ..)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shared function that reads a `{T}`",
    label = "not a shared function that reads `{T}`",
    note = "this runs on the server, which finds functions by their names: write a `fn` whose first argument is \
            `&{T}`, put `#[shared]` on it, and pass its name. A closure has none: what it would capture is an argument"
)]
pub trait Inspect<T>: Update<T> {}

#[diagnostic::do_not_recommend]
impl<F: Copy, T: 'static, A: Data, R: Data> Update<T> for Function<F, &'static mut T, A, R> {
    type Arg = A;
    type Output = R;
    fn info(&self) -> &'static SharedFnInfo {
        self.info
    }
}

#[diagnostic::do_not_recommend]
impl<F: Copy, T: 'static, A: Data, R: Data> Update<T> for Function<F, &'static T, A, R> {
    type Arg = A;
    type Output = R;
    fn info(&self) -> &'static SharedFnInfo {
        self.info
    }
}

#[diagnostic::do_not_recommend]
impl<F: Copy, T: 'static, A: Data, R: Data> Inspect<T> for Function<F, &'static T, A, R> {}

/// A function and its argument, on their way to a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invocation {
    name: Cow<'static, str>,
    fingerprint: u64,
    #[serde(with = "bulk")]
    arg: Vec<u8>,
}

impl Invocation {
    /// `f` with this argument.
    pub fn new<T, F: Update<T>>(f: F, arg: &F::Arg) -> Result<Self> {
        let mut invocation = Self::without_arg(f);
        codec::encode("the argument of a shared function", arg, &mut invocation.arg)?;
        Ok(invocation)
    }

    /// `f`, whose arguments come from elsewhere.
    pub fn without_arg<T, F: Update<T>>(f: F) -> Self {
        let SharedFnInfo { name, fingerprint, .. } = f.info();
        Invocation { name: Cow::Borrowed(name), fingerprint: *fingerprint, arg: Vec::new() }
    }

    /// The function, on a server.
    pub fn find(&self) -> Result<Found<'_>> {
        Ok(Found { function: lookup(&self.name, self.fingerprint)?, arg: &self.arg })
    }
}

/// A function of this program, and the argument that came with its name.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    function: &'static SharedFnInfo,
    arg: &'a [u8],
}

impl<'a> Found<'a> {
    /// The same function with another encoded argument.
    #[must_use]
    pub fn with_arg<'b>(self, arg: &'b [u8]) -> Found<'b> {
        Found { function: self.function, arg }
    }

    /// Applies it to a MessagePack value. Returns the encoded result. After an error, the value is as it was.
    pub fn update(&self, value: &mut Vec<u8>) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        match self.function.apply {
            Apply::Inspect(inspect) => inspect(Format::Plain, value, self.arg, &mut out)?,
            Apply::Update(update) => update(value, self.arg, &mut out)?,
        }
        Ok(out)
    }

    /// Applies it to a value that stays as it is. Returns the encoded result.
    pub fn inspect(&self, format: Format, value: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        match self.function.apply {
            Apply::Inspect(inspect) => inspect(format, value, self.arg, &mut out)?,
            Apply::Update(_) => {
                return Err(Error::Refused {
                    reason: format!("`{}` changes its value, and here it may only look", self.function.name),
                });
            }
        }
        Ok(out)
    }

    /// As [`update`](Self::update), for a function that returns a `bool`.
    pub fn test(&self, value: &mut Vec<u8>) -> Result<bool> {
        codec::decode("the result of a shared function", &self.update(value)?)
    }

    /// As [`inspect`](Self::inspect), for a function that returns a `bool`.
    pub fn holds(&self, format: Format, value: &[u8]) -> Result<bool> {
        codec::decode("the result of a shared function", &self.inspect(format, value)?)
    }
}

/// Replaces a value by another of its type; after an error it is as it was.
pub fn replace<T: Serialize + ?Sized>(value: &mut Vec<u8>, by: &T) -> Result<()> {
    let mut bytes = Vec::with_capacity(value.len());
    codec::encode("a value", by, &mut bytes)?;
    *value = bytes;
    Ok(())
}
