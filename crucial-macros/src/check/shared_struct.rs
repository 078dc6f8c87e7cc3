//! `#[shared] struct`.

use syn::parse_quote;

use super::{
    instances,
    types::{self, Place},
};
use crate::{errors::Errors, model::SharedStruct};

/// Checks the struct. False if there is nothing to expand.
pub fn shared_struct(shared: &mut SharedStruct, errors: &mut Errors) -> bool {
    for (field, known) in shared.item.fields.iter_mut().zip(&mut shared.fields) {
        let is_sound = known.data.as_ref().is_none_or(|ty| types::check(ty, Place::Field, None, errors));
        if !is_sound {
            // Serde would only repeat it.
            known.data = None;
            field.attrs.push(parse_quote!(#[serde(skip)]));
        }
    }
    let mut borrows = false;
    for param in shared.generics.lifetimes() {
        errors.on(
            param,
            "a shared struct can't borrow: its state lives on its server. Use owned types, like `String`",
        );
        borrows = true;
    }
    if borrows {
        return false;
    }
    let item = instances::Item {
        name: &shared.name,
        generics: &shared.generics,
        attribute: "shared",
        why: "a generic shared struct has to name its instances, because a server makes objects by the name of their type",
    };
    instances::check(&item, &mut shared.instances, errors);
    true
}
