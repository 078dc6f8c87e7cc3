//! `#[cloud_fn(retries = 3, timeout = "30s", memory = "512MB")]`.

use proc_macro2::TokenStream;
use syn::{Attribute, ItemFn, Lit};

use super::{
    instances,
    options::{self, Opt},
    params, units,
};
use crate::{
    errors::Errors,
    model::{CloudFn, FnOptions, Instances, Output},
};

pub fn parse(options: TokenStream, mut item: ItemFn, errors: &mut Errors) -> CloudFn {
    let (face, body) = std::mem::take(&mut item.attrs).into_iter().partition(is_face);
    let (mut parsed, mut named) = (FnOptions::default(), Instances::default());
    for option in options::parse(options, errors) {
        match option.name.to_string().as_str() {
            "retries" => parsed.retries = retries(&option, errors),
            "timeout" => parsed.timeout = timeout(&option, errors),
            "memory" => parsed.memory = memory(&option, errors),
            "instances" => named = instances::parse(&option, &item.sig.ident, errors),
            _ => {
                let known = ["retries", "timeout", "memory", "instances"];
                errors.unknown_option(&option.name, "#[cloud_fn]", &known);
            }
        }
    }
    CloudFn {
        face,
        body,
        params: params::parse(item.sig.inputs.iter(), false),
        output: Output::new(&item.sig.output),
        item,
        instances: named,
        options: parsed,
    }
}

/// What callers should see.
fn is_face(attr: &Attribute) -> bool {
    ["doc", "deprecated", "must_use"].iter().any(|name| attr.path().is_ident(name))
}

fn retries(option: &Opt, errors: &mut Errors) -> Option<u32> {
    match option.literal() {
        Some(Lit::Int(number)) => match number.base10_parse() {
            Ok(number) => Some(number),
            Err(_) => option.mismatch("a whole number up to 2^32", "retries = 3", errors),
        },
        _ => option.mismatch("a whole number", "retries = 3", errors),
    }
}

fn timeout(option: &Opt, errors: &mut Errors) -> Option<std::time::Duration> {
    let text = option.string("timeout = \"30s\"", errors)?;
    errors.ok(units::duration(&text.value()).map_err(|message| syn::Error::new(text.span(), message)))
}

fn memory(option: &Opt, errors: &mut Errors) -> Option<u64> {
    let Some(literal) = option.literal() else {
        return option.mismatch("a size", "memory = \"512MB\"", errors);
    };
    let text = match literal {
        Lit::Str(text) => text.value(),
        Lit::Int(number) if number.suffix().is_empty() => number.base10_digits().to_owned(),
        _ => return option.mismatch("a size", "memory = \"512MB\"", errors),
    };
    errors.ok(units::memory(&text).map_err(|message| syn::Error::new(literal.span(), message)))
}
