//! `instances(Stats<u64>, Stats<f64>)`.

use quote::ToTokens;
use syn::{Token, TypePath, parse::Parser, punctuated::Punctuated};

use super::options::Opt;
use crate::{errors::Errors, model::Instances};

/// Those that the option names. Whether they are instances of the item is left to the check.
pub fn parse(option: &Opt, item: impl ToTokens, errors: &mut Errors) -> Instances {
    let example = format!("instances({}<u64>)", item.to_token_stream());
    let paths = option
        .list(&example, errors)
        .and_then(|list| errors.ok(Punctuated::<TypePath, Token![,]>::parse_terminated.parse2(list)));
    Instances { named: true, paths: paths.into_iter().flatten().collect() }
}
