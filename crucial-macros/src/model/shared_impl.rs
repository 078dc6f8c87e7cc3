//! `#[shared] impl`.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, Expr, Generics, Ident, ImplItem, Pat, Path, PathArguments, Signature, Token, Visibility,
};

use super::{Attrs, Output, Param};

/// A shared impl block.
pub struct SharedImpl {
    /// Attributes of the user's block.
    pub body: Vec<Attribute>,
    /// Its docs, which go to the handle's block.
    pub face: Vec<Attribute>,
    pub generics: Generics,
    /// The handle's type, without type arguments.
    pub path: Path,
    /// Its last segment.
    pub name: Ident,
    /// Its type arguments.
    pub arguments: PathArguments,
    /// The user's items, without our attributes.
    pub items: Vec<ImplItem>,
    pub constructors: Vec<Constructor>,
    /// The methods that are registered, by number.
    pub methods: Vec<Method>,
}

/// An associated function that makes an object.
pub struct Constructor {
    pub attrs: Attrs,
    pub vis: Visibility,
    pub name: Ident,
    pub sig: Signature,
    pub params: Vec<Param>,
}

/// A method that is called from elsewhere.
pub struct Method {
    pub attrs: Attrs,
    pub vis: Visibility,
    pub name: Ident,
    pub sig: Signature,
    pub receiver: Receiver,
    pub params: Vec<Param>,
    pub output: Output,
    pub when: Option<Expr>,
    pub then: Option<Then>,
    /// `#[lost]`: it is told of lost holders.
    pub lost: Option<Attribute>,
}

/// `&self` or `&mut self`.
pub struct Receiver {
    pub self_token: Token![self],
    pub access: Access,
    /// False for `self` and the like: an error that is noted already.
    pub is_sound: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// `#[then(target)]`.
pub struct Then {
    pub target: Ident,
    /// The target's number; only a target that is in the block has one.
    pub number: Option<usize>,
}

impl Method {
    /// Whether the handle has it.
    pub fn is_public(&self) -> bool {
        !matches!(self.vis, Visibility::Inherited)
    }

    /// What the guard's function is called.
    pub fn guard(&self) -> Ident {
        quote::format_ident!("__guard_{}", self.name)
    }

    /// The arguments, if the guard mentions one: else it needn't decode them.
    pub fn guard_args(&self) -> Vec<&super::Arg> {
        let args: Vec<_> = args(&self.params).collect();
        if self.when.as_ref().is_some_and(|when| args.iter().any(|arg| mentions_arg(when, &arg.pat))) {
            args
        } else {
            Vec::new()
        }
    }
}

/// The arguments among the parameters.
pub fn args(params: &[Param]) -> impl Iterator<Item = &super::Arg> {
    params.iter().filter_map(|param| match param {
        Param::Arg(arg) => Some(&**arg),
        Param::Context => None,
    })
}

/// Whether the guard mentions a name that this argument's pattern binds.
pub fn mentions_arg(guard: &Expr, pat: &Pat) -> bool {
    struct Names(Vec<String>);
    impl<'a> syn::visit::Visit<'a> for Names {
        fn visit_pat_ident(&mut self, pat: &'a syn::PatIdent) {
            self.0.push(pat.ident.to_string());
            syn::visit::visit_pat_ident(self, pat);
        }
    }
    let mut names = Names(Vec::new());
    syn::visit::Visit::visit_pat(&mut names, pat);
    mentions(guard.to_token_stream(), &names.0)
}

/// Whether the tokens mention one of the names, be it inside a macro or a format string.
fn mentions(tokens: TokenStream, names: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => mentions(group.stream(), names),
        TokenTree::Ident(ident) => names.iter().any(|name| ident == name),
        TokenTree::Literal(literal) => {
            let text = literal.to_string();
            names.iter().any(|name| text.contains(name))
        }
        TokenTree::Punct(_) => false,
    })
}
