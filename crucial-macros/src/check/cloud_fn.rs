//! `#[cloud_fn]`.

use syn::FnArg;

use super::signature::{self, Kind};
use crate::{errors::Errors, model::CloudFn};

/// Checks the function. False if there is nothing to expand.
pub fn cloud_fn(function: &CloudFn, errors: &mut Errors) -> bool {
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
    signature::check(sig, &function.params, Some(&function.output), Kind::CloudFn, None, errors)
        && receiver.is_none()
}
