//! `#[shared] fn`.

use quote::ToTokens;
use syn::FnArg;

use super::{
    signature::{self, Kind},
    types::{self, Place},
};
use crate::{
    errors::Errors,
    model::{SharedFn, Target},
};

/// Checks the function. False if there is nothing to expand.
pub fn shared_fn(function: &SharedFn, errors: &mut Errors) -> bool {
    let sig = &function.item.sig;
    let receiver = sig.inputs.iter().find(|input| matches!(input, FnArg::Receiver(_)));
    if let Some(receiver) = receiver {
        errors.on(
            receiver,
            "a shared function can't be a method: the server finds it by its path. Move it out of the impl block, and \
             take the value as the first argument. For methods, `#[shared]` goes on the whole impl block",
        );
    }
    let fine = signature::check(sig, &function.params, Some(&function.output), Kind::SharedFn, None, errors);
    let fine = fine & (receiver.is_some() || target(function, errors));
    fine && receiver.is_none()
}

fn target(function: &SharedFn, errors: &mut Errors) -> bool {
    let sig = &function.item.sig;
    let Some(Target { ty, .. }) = &function.target else {
        let first: &dyn ToTokens = match sig.inputs.first() {
            Some(FnArg::Typed(typed)) => &typed.ty,
            _ => &sig.ident,
        };
        errors.on(
            first,
            "the first argument of a shared function is the value that it is applied to, which stays on its server: \
             take it as `&mut T` to change it, or as `&T` to look at it",
        );
        return false;
    };
    types::check(ty, Place::Target, None, errors)
}
