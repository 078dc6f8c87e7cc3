//! `#[crucial::main]` and `#[crucial::test]`.

use quote::ToTokens;
use syn::Safety;

use crate::{errors::Errors, model::Entry};

/// Checks the function behind `attribute`. False if there is nothing to expand.
pub fn entry(entry: &Entry, attribute: &str, errors: &mut Errors) -> bool {
    let sig = &entry.item.sig;
    let mut found: Vec<(&dyn ToTokens, String)> = Vec::new();
    if !sig.inputs.is_empty() {
        let remedy = match attribute {
            "#[crucial::main]" => "Read the program's arguments with `std::env::args()`",
            _ => "Make the values inside of the test",
        };
        found.push((&sig.inputs, format!("a function with `{attribute}` takes no arguments. {remedy}")));
    }
    if !sig.generics.params.is_empty() {
        found.push((
            &sig.generics,
            format!("a function with `{attribute}` can't be generic: nobody calls it"),
        ));
    }
    if let Some(token) = &sig.constness {
        found.push((token, format!("a function with `{attribute}` can't be `const`: remove `const`")));
    }
    if let Safety::Unsafe(token) = &sig.safety {
        found.push((token, format!("a function with `{attribute}` can't be `unsafe`: remove `unsafe`")));
    }
    if let Some(abi) = &sig.abi {
        found.push((abi, format!("a function with `{attribute}` can't be `extern`: remove `extern`")));
    }
    for attr in &entry.item.attrs {
        let name = attr.path().segments.last().map(|last| last.ident.to_string());
        if let Some(name @ ("test" | "main")) = name.as_deref() {
            found.push((attr, format!("`{attribute}` is enough: remove this `{name}` attribute")));
        }
    }
    for (tokens, message) in &found {
        errors.on(tokens, message);
    }
    found.is_empty()
}
