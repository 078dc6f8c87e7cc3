//! What generated code calls. Not for people: it changes without notice.

use std::marker::PhantomData;

pub use crate::{
    bulk::{Bulk, FromBlock},
    call::{Call, call, construct, construct_at, remote},
    codec::{decode, encode},
    context::Context,
    data::Data,
    dso::BoxFuture,
    error::{Error, Result},
    function::{Body, FunctionInfo, InstanceId, NoInstance, Options},
    holder::Lost,
    id::{combine, fingerprint},
    object::{Access, MethodInfo, Methods, SharedType, StaticInfo, TypeInfo},
    reference::{Named, ObjectRef, Shared, Static},
    run::block_on,
    shared_fn::{Apply, Format, Function, SharedFnInfo, replace},
    task::Task,
};
pub use inventory;
pub use serde;

/// Checks an argument or result type where the user wrote it.
pub const fn assert_data<T: Data>() {}

/// What a `#[lost]` method is given.
#[diagnostic::on_unimplemented(
    message = "a `#[lost]` method is told which holders are lost, not `{Self}`",
    label = "has to be `&Lost`",
    note = "its argument is `lost: &crucial::Lost`; `lost.includes(holder)` says whether one is among them"
)]
pub trait IsLost {}
impl IsLost for Lost {}
impl IsLost for &Lost {}

/// Checks the argument type of a `#[lost]` method where the user wrote it.
pub const fn assert_lost<T: IsLost>() {}

/// A value to encode, as `Given(&value).data()` with all four traits below in scope.
///
/// Generated code encodes and decodes a type in several places. [`assert_data`] says once, where the user wrote the
/// type, that it can't travel; for such a type method look-up finds the second trait here, so that the other places
/// don't say it again. That code never runs: it doesn't compile.
#[derive(Debug)]
pub struct Given<'a, T: ?Sized>(pub &'a T);

/// The value can be encoded.
pub trait GivenData<'a> {
    /// The value's type.
    type Value: ?Sized;
    /// See [`Given`].
    fn data(self) -> &'a Self::Value;
}

impl<'a, T: serde::Serialize + ?Sized> GivenData<'a> for Given<'a, T> {
    type Value = T;
    fn data(self) -> &'a T {
        self.0
    }
}

/// The value can't be encoded.
pub trait GivenOther {
    /// See [`Given`].
    fn data(self) -> &'static ();
}

impl<T: ?Sized> GivenOther for &Given<'_, T> {
    fn data(self) -> &'static () {
        &()
    }
}

/// A type to decode, as `Taken::<T>::new().decode(what, bytes)`; see [`Given`].
#[derive(Debug)]
pub struct Taken<T>(PhantomData<fn() -> T>);

impl<T> Taken<T> {
    /// See [`Taken`].
    #[must_use]
    #[expect(clippy::new_without_default, reason = "only macros make it")]
    pub const fn new() -> Self {
        Taken(PhantomData)
    }
}

/// The type can be decoded.
pub trait TakenData<'a> {
    /// The type.
    type Value;
    /// See [`Taken`].
    fn decode(self, what: &str, bytes: &'a [u8]) -> Result<Self::Value>;
    /// As [`decode`](TakenData::decode), of a value that may be encoded in another way.
    fn decode_in(self, format: Format, what: &str, bytes: &'a [u8]) -> Result<Self::Value>;
}

impl<'a, T: serde::Deserialize<'a>> TakenData<'a> for Taken<T> {
    type Value = T;
    fn decode(self, what: &str, bytes: &'a [u8]) -> Result<T> {
        decode(what, bytes)
    }
    fn decode_in(self, format: Format, what: &str, bytes: &'a [u8]) -> Result<T> {
        format.decode(what, bytes)
    }
}

/// The type can't be decoded.
pub trait TakenOther {
    /// The type.
    type Value;
    /// See [`Taken`].
    fn decode(self, what: &str, bytes: &[u8]) -> Result<Self::Value>;
    /// See [`Taken`].
    fn decode_in(self, format: Format, what: &str, bytes: &[u8]) -> Result<Self::Value>;
}

impl<T> TakenOther for &Taken<T> {
    type Value = T;
    fn decode(self, what: &str, _: &[u8]) -> Result<T> {
        Err(Error::Decode { what: what.to_owned(), reason: "the type is no data".to_owned() })
    }
    fn decode_in(self, _: Format, what: &str, bytes: &[u8]) -> Result<T> {
        self.decode(what, bytes)
    }
}

/// The start of a static's object. A shared type has an `at` of its own, which method look-up prefers; for any other
/// type the compiler finds this one, and that its condition doesn't hold.
pub trait AtUnshared: Sized {
    /// Never called.
    fn at(key: &str) -> Self::Handle
    where
        Self: Shared;
}

impl<T> AtUnshared for T {
    fn at(_: &str) -> T::Handle
    where
        T: Shared,
    {
        unreachable!("a shared type has an `at` of its own")
    }
}

/// Decodes a numeric block.
pub fn decode_block<T: FromBlock>(what: &str, bytes: &[u8]) -> Result<T> {
    decode::<Bulk<T>>(what, bytes).map(|block| block.0)
}

/// The name of a handle's type.
#[must_use]
pub fn type_name<T: Shared>() -> &'static str {
    <T::Handle as SharedType>::NAME
}

/// The error for a method number that the type doesn't have.
#[must_use]
pub fn no_such_method(type_name: &str, method: u16) -> Error {
    Error::Refused { reason: format!("`{type_name}` has no method number {method} of this kind") }
}

/// Turns the failure of a blocking call into the method's return type: an `Err` where that is a
/// `Result<_, E>` with `E: From<crucial::Error>`, else a panic.
///
/// `FailAs::<R>::new().fail(error)` with both traits in scope: method look-up takes the first that fits.
#[derive(Debug)]
pub struct FailAs<R>(PhantomData<fn() -> R>);

impl<R> FailAs<R> {
    /// See [`FailAs`].
    #[must_use]
    #[expect(clippy::new_without_default, reason = "only macros make it")]
    pub const fn new() -> Self {
        FailAs(PhantomData)
    }
}

/// The failure becomes an `Err`.
pub trait FailWithErr {
    /// The method's return type.
    type Output;
    /// See [`FailAs`].
    fn fail(self, error: Error) -> Self::Output;
}

impl<T, E: From<Error>> FailWithErr for FailAs<Result<T, E>> {
    type Output = Result<T, E>;
    fn fail(self, error: Error) -> Self::Output {
        Err(error.into())
    }
}

/// The failure becomes a panic.
pub trait FailWithPanic {
    /// The method's return type.
    type Output;
    /// See [`FailAs`].
    fn fail(self, error: Error) -> Self::Output;
}

impl<R> FailWithPanic for &FailAs<R> {
    type Output = R;
    #[track_caller]
    fn fail(self, error: Error) -> R {
        panic!("{error}")
    }
}
