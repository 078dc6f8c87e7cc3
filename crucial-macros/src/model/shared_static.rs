//! `#[shared] static`.

use proc_macro2::TokenStream;
use syn::{Attribute, Expr, Ident, LitStr, Type, Visibility, token::Paren};

/// A shared static.
pub struct SharedStatic {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    pub ty: Type,
    pub key: Option<LitStr>,
    pub persistent: bool,
    /// `None` if it was no constructor call.
    pub initializer: Option<Initializer>,
}

/// `T::constructor(args)`.
pub struct Initializer {
    pub constructor: Ident,
    pub paren: Paren,
    pub args: TokenStream,
    /// The call as written, if the path before the constructor is not the declared type word for word: then the
    /// compiler has to say whether it is the same.
    pub to_check: Option<Expr>,
}
