//! `#[shared] fn`.

use syn::{Attribute, ItemFn, Token, Type};

use super::{Attrs, Output, Param};

/// A function that servers apply to values.
pub struct SharedFn {
    pub attrs: Attrs,
    /// Attributes of the user's function.
    pub body: Vec<Attribute>,
    pub item: ItemFn,
    /// The first parameter; `None` if it is no reference.
    pub target: Option<Target>,
    /// The other parameters.
    pub params: Vec<Param>,
    pub output: Output,
}

/// `&T` or `&mut T`.
pub struct Target {
    pub mutability: Option<Token![mut]>,
    /// The value's type: `String` for `&str`, and `Vec<T>` for `&[T]`.
    pub ty: Type,
}
