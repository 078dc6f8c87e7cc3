//! `#[shared] struct`.

use syn::{GenericArgument, GenericParam, PathArguments, TypePath, parse_quote, punctuated::Punctuated};

use super::types::{self, Place};
use crate::{errors::Errors, model::SharedStruct, text::text};

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
    let name = &shared.name;
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
    let is_generic = !shared.generics.params.is_empty();
    if is_generic && !shared.names_instances {
        let example = example(shared);
        let params = &shared.generics.params;
        errors.on(
            params,
            format!(
                "a generic shared struct has to name its instances, because a server makes objects by the name of \
                 their type: `#[shared(instances({example}))]`"
            ),
        );
    }
    if let (false, Some(first)) = (is_generic, shared.instances.first()) {
        errors.on(first, format!("`{name}` is not generic: it is its only instance. Remove `instances`"));
        shared.instances.clear();
    }
    let mut seen = Vec::new();
    let instances = std::mem::take(&mut shared.instances);
    shared.instances =
        instances.into_iter().filter(|instance| is_instance(instance, shared, &mut seen, errors)).collect();
    true
}

fn is_instance(
    instance: &TypePath,
    shared: &SharedStruct,
    seen: &mut Vec<String>,
    errors: &mut Errors,
) -> bool {
    let name = &shared.name;
    let last = instance.path.segments.last();
    let arguments = last.filter(|last| last.ident == *name).and_then(|last| match &last.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    });
    let example = example(shared);
    let Some(arguments) = arguments.filter(|_| instance.qself.is_none() && instance.path.segments.len() == 1)
    else {
        errors.on(instance, format!("an instance is `{name}` with its arguments: `{example}`"));
        return false;
    };
    let (most, least) = counts(shared);
    if !(least..=most).contains(&arguments.len()) {
        errors.on(arguments, format!("`{name}` has {most} generic arguments: write `{example}`"));
        return false;
    }
    if let Some(param) = param_in(arguments, shared) {
        errors.on(
            param,
            format!("`{}` is a parameter: an instance has concrete arguments: `{example}`", text(param)),
        );
        return false;
    }
    let text = text(instance).replace("::<", "<");
    if seen.contains(&text) {
        errors.on(instance, format!("`{text}` is named twice: keep one of them"));
        return false;
    }
    seen.push(text);
    true
}

/// The number of parameters, and of those without a default.
fn counts(shared: &SharedStruct) -> (usize, usize) {
    let params = &shared.generics.params;
    let least = params.iter().filter(|param| match param {
        GenericParam::Type(param) => param.default.is_none(),
        GenericParam::Const(param) => param.default.is_none(),
        GenericParam::Lifetime(_) => true,
    });
    (params.len(), least.count())
}

/// An argument that is one of the struct's own parameters.
fn param_in<'a>(
    arguments: &'a Punctuated<GenericArgument, syn::Token![,]>,
    shared: &SharedStruct,
) -> Option<&'a GenericArgument> {
    arguments.iter().find(|argument| {
        let argument = text(argument);
        shared.generics.params.iter().any(|param| match param {
            GenericParam::Type(param) => param.ident == argument,
            GenericParam::Const(param) => param.ident == argument,
            GenericParam::Lifetime(_) => false,
        })
    })
}

/// An instance to show: `Stats<u64, 4>`.
fn example(shared: &SharedStruct) -> String {
    let arguments: Vec<_> = shared
        .generics
        .params
        .iter()
        .map(|param| match param {
            GenericParam::Const(_) => "4",
            GenericParam::Type(_) | GenericParam::Lifetime(_) => "u64",
        })
        .collect();
    format!("{}<{}>", shared.name, arguments.join(", "))
}
