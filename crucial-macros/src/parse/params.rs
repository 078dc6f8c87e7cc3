//! Parameters of methods and functions.

use syn::{FnArg, PatType, Type};

use crate::model::{Arg, Param};

/// The parameters after `self`. A parameter of type `Context` is not an argument where the server gives it.
pub fn parse<'a>(inputs: impl Iterator<Item = &'a FnArg>, with_context: bool) -> Vec<Param> {
    let typed = inputs.filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    typed
        .enumerate()
        .map(|(index, PatType { pat, ty, .. })| {
            if with_context && is_context(ty) {
                Param::Context
            } else {
                Param::Arg(Box::new(Arg::new((**pat).clone(), (**ty).clone(), index)))
            }
        })
        .collect()
}

fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    let Type::Path(path) = &*reference.elem else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Context" && last.arguments.is_none())
}
