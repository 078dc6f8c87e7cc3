//! What the signature of a remote method or function may not have.

use quote::ToTokens;
use syn::{GenericParam, Ident, Safety, Signature};

use super::types::{self, Place};
use crate::{
    errors::Errors,
    model::{Arg, Output, Param, args},
};

/// What is called from elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Method,
    Constructor,
    CloudFn,
    SharedFn,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Method => "a method of a shared object",
            Kind::Constructor => "a constructor of a shared object",
            Kind::CloudFn => "a cloud function",
            Kind::SharedFn => "a shared function",
        }
    }
}

/// Arguments travel as a tuple, and serde's tuples have at most this many fields.
const MOST_ARGS: usize = 16;

/// Checks everything about a signature. Returns whether it is fine.
pub fn check(
    sig: &Signature,
    params: &[Param],
    output: Option<&Output>,
    kind: Kind,
    own_name: Option<&Ident>,
    errors: &mut Errors,
) -> bool {
    let mut fine = modifiers(sig, kind, errors) & generics(sig, kind, errors);
    if let Some(arg) = args(params).nth(MOST_ARGS) {
        errors.on(
            &arg.ty,
            format!("{} has at most {MOST_ARGS} arguments: put some of them into a struct", kind.name()),
        );
        fine = false;
    }
    for Arg { ty, .. } in args(params) {
        fine &= types::check(ty, Place::Argument, own_name, errors);
    }
    if let Some(ty) = output.and_then(|output| output.ty.as_ref()) {
        fine &= types::check(ty, Place::Result, own_name, errors);
    }
    fine
}

fn modifiers(sig: &Signature, kind: Kind, errors: &mut Errors) -> bool {
    let name = kind.name();
    let mut found: Vec<(&dyn ToTokens, String)> = Vec::new();
    if let (Some(token), true) = (&sig.asyncness, kind != Kind::CloudFn) {
        let remedy = match kind {
            Kind::SharedFn => "Remove `async`, and take what it waits for as an argument",
            _ => {
                "Remove `async`; a caller awaits it with `.remote()`, and `#[when(..)]` makes it wait for a condition"
            }
        };
        found.push((
            token,
            format!("{name} can't be `async`: it runs on the server from start to end. {remedy}"),
        ));
    }
    if let (Some(token), Kind::CloudFn) = (&sig.constness, kind) {
        found.push((
            token,
            format!("{name} can't be `const`: calling it encodes its arguments. Remove `const`"),
        ));
    }
    if let Safety::Unsafe(token) = &sig.safety {
        found.push((
            token,
            format!("{name} can't be `unsafe`: nobody could keep its promises from afar. Remove `unsafe`"),
        ));
    }
    if let Some(abi) = &sig.abi {
        found.push((
            abi,
            format!("{name} can't be `extern`: it is called by name, not by address. Remove `extern`"),
        ));
    }
    if let Some(variadic) = &sig.variadic {
        found.push((variadic, format!("{name} can't be variadic: take a `Vec` or a slice")));
    }
    for (token, message) in &found {
        errors.on(token, message);
    }
    found.is_empty()
}

fn generics(sig: &Signature, kind: Kind, errors: &mut Errors) -> bool {
    let name = kind.name();
    let by_name = |remedy| {
        format!("{name} can't be generic: it is called by name, and every name stands for one body. {remedy}")
    };
    let mut fine = true;
    for param in &sig.generics.params {
        let message = match (param, kind) {
            (GenericParam::Lifetime(_), _) => {
                format!("{name} needs no lifetimes: references are lent to its body for the time of the call")
            }
            // It names its instances.
            (_, Kind::CloudFn) => continue,
            (_, Kind::SharedFn) => {
                by_name("Write one function for each type, each calling a generic one, or take an enum")
            }
            (_, Kind::Method | Kind::Constructor) => {
                by_name("Put the parameter on the struct, which names its instances, or take an enum")
            }
        };
        errors.on(param, message);
        fine = false;
    }
    if let Some(wheres) = &sig.generics.where_clause
        && sig.generics.params.is_empty()
    {
        let remedy = match kind {
            Kind::CloudFn | Kind::SharedFn => "Remove the `where` clause",
            Kind::Method | Kind::Constructor => "Move the `where` clause to the impl block",
        };
        errors.on(wheres, format!("{name} is there for all callers. {remedy}"));
        fine = false;
    }
    fine
}
