//! `#[crucial::main]` and `#[crucial::test(modes(..))]`.

use proc_macro2::TokenStream;
use syn::{Ident, ItemFn, Token, parse::Parser, punctuated::Punctuated};

use super::options;
use crate::{
    errors::Errors,
    model::{Entry, Mode},
};

/// The modes of a test, and their variants.
const MODES: [(&str, &str); 3] = [("embedded", "Embedded"), ("processes", "Processes"), ("server", "Server")];

pub fn parse_main(options: TokenStream, item: ItemFn, errors: &mut Errors) -> Entry {
    for option in options::parse(options, errors) {
        errors.unknown_option(&option.name, "#[crucial::main]", &[]);
    }
    Entry { item, modes: Vec::new() }
}

pub fn parse_test(options: TokenStream, item: ItemFn, errors: &mut Errors) -> Entry {
    let mut parsed = Vec::new();
    for option in options::parse(options, errors) {
        if option.name != "modes" {
            errors.unknown_option(&option.name, "#[crucial::test]", &["modes"]);
            continue;
        }
        let Some(list) = option.list("modes(embedded, processes, server)", errors) else { continue };
        let names = errors.ok(Punctuated::<Ident, Token![,]>::parse_terminated.parse2(list));
        let names: Vec<_> = names.into_iter().flatten().collect();
        let is_empty = names.is_empty();
        for name in names {
            mode(name, &mut parsed, errors);
        }
        if is_empty {
            errors
                .on(&option.name, "`modes` names no mode: choose from `embedded`, `processes` and `server`");
        }
    }
    Entry { item, modes: parsed }
}

fn mode(name: Ident, modes: &mut Vec<Mode>, errors: &mut Errors) {
    match MODES.iter().find(|(mode, _)| name == mode) {
        _ if modes.iter().any(|mode| mode.name == name) => {
            errors.on(&name, format!("the mode `{name}` is given twice: keep one of them"));
        }
        Some((_, variant)) => modes.push(Mode { name, variant }),
        None => errors
            .on(&name, format!("unknown mode `{name}`: the modes are `embedded`, `processes` and `server`")),
    }
}
