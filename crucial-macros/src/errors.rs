//! All mistakes of an item, reported together.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::Ident;

/// Collects errors, so that the first one doesn't hide the others.
#[derive(Default)]
pub struct Errors(Option<syn::Error>);

impl Errors {
    /// An error on exactly these tokens.
    pub fn on(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    /// An error from elsewhere.
    pub fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// The value, or a note of its error.
    pub fn ok<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// An option that the attribute doesn't have.
    pub fn unknown_option(&mut self, name: &Ident, attribute: &str, valid: &[&str]) {
        let message = if valid.is_empty() {
            format!("unknown option `{name}`: `{attribute}` takes no options here")
        } else {
            format!("unknown option `{name}`: `{attribute}` takes {}", list(valid))
        };
        self.on(name, message);
    }

    /// The errors as tokens; nothing if there are none.
    pub fn into_tokens(self) -> TokenStream {
        self.0.map(syn::Error::into_compile_error).unwrap_or_default()
    }
}

fn list(valid: &[&str]) -> String {
    let quoted: Vec<_> = valid.iter().map(|option| format!("`{option}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.join(", "),
    }
}
