//! `#[shared] impl`.

use syn::{GenericParam, Ident};

use super::{
    lost,
    signature::{self, Kind},
    then,
};
use crate::{
    errors::Errors,
    model::{Constructor, Method, SharedImpl},
};

/// Checks the block. What can't be called stays in it as plain code.
pub fn shared_impl(shared: &mut SharedImpl, errors: &mut Errors) {
    for param in &shared.generics.params {
        if let GenericParam::Lifetime(param) = param {
            errors.on(param, "a shared object can't borrow: it lives on its server. Remove the lifetime");
        }
    }
    let own_name = shared.name.clone();
    shared.constructors.retain(|constructor| {
        let Constructor { name, sig, params, .. } = constructor;
        signature::check(sig, params, None, Kind::Constructor, Some(&own_name), errors)
            & is_free(name, &["at", "remote", "persistent"], errors)
    });
    let mut sound: Vec<bool> = shared
        .methods
        .iter()
        .map(|method| {
            let Method { name, sig, params, output, receiver, .. } = method;
            let taken: &[&str] = if method.is_public() { &["at", "remote"] } else { &[] };
            signature::check(sig, params, Some(output), Kind::Method, Some(&own_name), errors)
                & is_free(name, taken, errors)
                & receiver.is_sound
        })
        .collect();
    then::check(&mut shared.methods, errors);
    lost::check(&mut shared.methods, errors);
    let mut flags = sound.drain(..);
    shared.methods.retain(|_| flags.next().unwrap_or(false));
    then::number(&mut shared.methods);
}

/// Whether the name is none that every handle has already.
fn is_free(name: &Ident, taken: &[&str], errors: &mut Errors) -> bool {
    let is_taken = taken.iter().any(|taken| name == taken);
    if is_taken {
        errors.on(
            name,
            format!(
                "every shared type has a `{name}` already (`Type::at(\"key\").persistent().new(..)`, \
                 `object.remote().method(..)`): choose another name"
            ),
        );
    }
    !is_taken
}
