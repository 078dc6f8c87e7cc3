//! What generated code calls. Not for people: it changes without notice.

use std::marker::PhantomData;

pub use crate::{
    bulk::{Bulk, FromBlock},
    call::{Call, call, construct, construct_at, remote},
    codec::{decode, encode},
    context::Context,
    dso::BoxFuture,
    error::{Error, Result},
    function::{Body, FunctionInfo, Options},
    id::{combine, fingerprint},
    object::{Access, MethodInfo, Methods, SharedType, StaticInfo, TypeInfo},
    reference::{Named, ObjectRef, Shared, Static},
    run::block_on,
    task::Task,
};
pub use inventory;
pub use serde;

/// What every shared value has to be: the bound of generic parameters.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent to a shared object",
    label = "can't be sent",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it; it must own its data (`'static`) and be `Send + Sync`"
)]
pub trait Data: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static {
    /// The type itself. Where it is no data, the compiler says so once and takes any use of this for granted.
    type Checked;
}
// What is missing is said in the words above, not in serde's.
#[diagnostic::do_not_recommend]
impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static> Data for T {
    type Checked = T;
}

/// Checks an argument or result type where the user wrote it.
pub const fn assert_data<T: Data>() {}

/// What the type of a shared static has to be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shared type",
    label = "not a shared type",
    note = "put `#[shared]` on the struct, or use a type of `crucial::sync` or `crucial::collections`"
)]
pub trait IsShared: Shared {
    /// The type itself, as [`Data::Checked`].
    type Checked;
}
#[diagnostic::do_not_recommend]
impl<T: Shared> IsShared for T {
    type Checked = T;
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
