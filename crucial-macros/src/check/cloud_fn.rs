//! `#[cloud_fn]`.

use syn::FnArg;

use super::{
    instances,
    signature::{self, Kind},
};
use crate::{errors::Errors, model::CloudFn};

/// Checks the function. False if there is nothing to expand.
pub fn cloud_fn(function: &mut CloudFn, errors: &mut Errors) -> bool {
    let sig = &function.item.sig;
    let receiver = sig.inputs.iter().find_map(|input| match input {
        FnArg::Receiver(receiver) => Some(receiver),
        FnArg::Typed(_) => None,
    });
    if let Some(receiver) = receiver {
        errors.on(
            receiver,
            "a cloud function can't be a method: it is called by its path. Move it out of the impl block, and take \
             the value as an argument",
        );
    }
    let sound = signature::check(sig, &function.params, Some(&function.output), Kind::CloudFn, None, errors)
        && receiver.is_none();
    let item = instances::Item {
        name: &sig.ident,
        generics: &sig.generics,
        attribute: "cloud_fn",
        why: "a generic cloud function has to name its instances, because a cloud thread finds its function by name",
    };
    instances::check(&item, &mut function.instances, errors);
    let is_generic = !sig.generics.params.is_empty();
    sound && !(is_generic && function.instances.paths.is_empty())
}
