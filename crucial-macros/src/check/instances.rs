//! `instances(Stats<u64>, Stats<f64>)`.

use syn::{GenericArgument, GenericParam, Generics, Ident, PathArguments, TypePath, punctuated::Punctuated};

use crate::{errors::Errors, model::Instances, text::text};

/// What has instances, in the words for who gets them wrong.
pub struct Item<'a> {
    pub name: &'a Ident,
    pub generics: &'a Generics,
    /// `#[shared]`
    pub attribute: &'static str,
    /// Why a generic one has to name its instances.
    pub why: &'static str,
}

/// Keeps the instances that are sound.
pub fn check(item: &Item<'_>, instances: &mut Instances, errors: &mut Errors) {
    let Item { name, generics, attribute, why } = item;
    let is_generic = generics.type_params().next().is_some() || generics.const_params().next().is_some();
    if is_generic && !instances.named {
        errors.on(&generics.params, format!("{why}: `#[{attribute}(instances({}))]`", example(item)));
    }
    if let (false, Some(first)) = (is_generic, instances.paths.first()) {
        errors.on(first, format!("`{name}` is not generic: it is its only instance. Remove `instances`"));
        instances.paths.clear();
    }
    let mut seen = Vec::new();
    instances.paths.retain(|instance| is_instance(instance, item, &mut seen, errors));
}

fn is_instance(instance: &TypePath, item: &Item<'_>, seen: &mut Vec<String>, errors: &mut Errors) -> bool {
    let name = item.name;
    let last = instance.path.segments.last();
    let arguments = last.filter(|last| last.ident == *name).and_then(|last| match &last.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    });
    let example = example(item);
    let Some(arguments) = arguments.filter(|_| instance.qself.is_none() && instance.path.segments.len() == 1)
    else {
        errors.on(instance, format!("an instance is `{name}` with its arguments: `{example}`"));
        return false;
    };
    let (most, least) = counts(item.generics);
    if !(least..=most).contains(&arguments.len()) {
        errors.on(arguments, format!("`{name}` has {most} generic arguments: write `{example}`"));
        return false;
    }
    if let Some(param) = param_in(arguments, item.generics) {
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
fn counts(generics: &Generics) -> (usize, usize) {
    let least = generics.params.iter().filter(|param| match param {
        GenericParam::Type(param) => param.default.is_none(),
        GenericParam::Const(param) => param.default.is_none(),
        GenericParam::Lifetime(_) => true,
    });
    (generics.params.len(), least.count())
}

/// An argument that is one of the item's own parameters.
fn param_in<'a>(
    arguments: &'a Punctuated<GenericArgument, syn::Token![,]>,
    generics: &Generics,
) -> Option<&'a GenericArgument> {
    arguments.iter().find(|argument| {
        let argument = text(argument);
        generics.params.iter().any(|param| match param {
            GenericParam::Type(param) => param.ident == argument,
            GenericParam::Const(param) => param.ident == argument,
            GenericParam::Lifetime(_) => false,
        })
    })
}

/// An instance to show: `Stats<u64, 4>`.
fn example(item: &Item<'_>) -> String {
    let params = item.generics.params.iter();
    let arguments: Vec<_> = params
        .map(|param| match param {
            GenericParam::Const(_) => "4",
            GenericParam::Type(_) | GenericParam::Lifetime(_) => "u64",
        })
        .collect();
    format!("{}<{}>", item.name, arguments.join(", "))
}
