//! From the model to code.

mod cloud_fn;
mod entry;
mod plain;
mod shared_fn;
mod shared_impl;
mod shared_static;
mod shared_struct;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Item, ItemFn};

use crate::{check, errors::Errors, parse};

/// `#[shared]` on a struct, an impl block, a static or a function.
pub fn shared(options: TokenStream, item: TokenStream) -> TokenStream {
    with_errors(item, |item, errors| match item {
        Item::Struct(item) => {
            let mut parsed = parse::shared_struct::parse(options, item.clone(), errors);
            let sound = check::shared_struct(&mut parsed, errors);
            if sound { shared_struct::expand(&parsed) } else { plain::item(Item::Struct(item)) }
        }
        Item::Impl(item) => match parse::shared_impl::parse(options, item.clone(), errors) {
            Some(mut parsed) => {
                check::shared_impl(&mut parsed, errors);
                shared_impl::expand(&parsed)
            }
            None => plain::item(Item::Impl(item)),
        },
        Item::Fn(item) => {
            let parsed = parse::shared_fn::parse(options, item.clone(), errors);
            let sound = check::shared_fn(&parsed, errors);
            if sound { shared_fn::expand(&parsed) } else { plain::item(Item::Fn(item)) }
        }
        Item::Static(item) => shared_static::expand(&parse::shared_static::parse(options, item, errors)),
        item => {
            errors.on(what(&item), refusal(&item));
            plain::item(item)
        }
    })
}

/// The body of an item whose other tokens are the user's. A lint about an item points at the attribute unless its first and its
/// last token come from the same place.
fn body(span: Span, tokens: &TokenStream) -> TokenStream {
    quote_spanned!(span=> { #tokens })
}

/// What an item is, in one token.
fn what(item: &Item) -> TokenStream {
    match item {
        Item::Enum(item) => item.enum_token.to_token_stream(),
        Item::Union(item) => item.union_token.to_token_stream(),
        Item::Trait(item) => item.trait_token.to_token_stream(),
        Item::Mod(item) => item.mod_token.to_token_stream(),
        Item::Fn(item) => item.sig.fn_token.to_token_stream(),
        Item::Const(item) => item.const_token.to_token_stream(),
        Item::Static(item) => item.static_token.to_token_stream(),
        Item::Struct(item) => item.struct_token.to_token_stream(),
        Item::Impl(item) => item.impl_token.to_token_stream(),
        item => item.to_token_stream(),
    }
}

/// Why an item can't be shared.
fn refusal(item: &Item) -> &'static str {
    match item {
        Item::Enum(_) => {
            "`#[shared]` goes on a struct: an object is reached through a handle, which can't have variants. Put this \
             enum into a field of a shared struct"
        }
        Item::Union(_) => {
            "`#[shared]` goes on a struct: a union can't travel, because nobody knows which of its fields is set. Use an \
             enum, in a field of a shared struct"
        }
        Item::Const(_) => "`#[shared]` goes on a `static`: a constant is copied to wherever it is used",
        Item::Trait(_) => {
            "`#[shared]` goes on a struct, on its impl block, on a static, and on a function: what users write is what \
             they call, so there is no trait to annotate"
        }
        _ => "`#[shared]` goes on a struct, on its impl block, on a static, and on a function",
    }
}

/// `#[cloud_fn]`.
pub fn cloud_fn(options: TokenStream, item: TokenStream) -> TokenStream {
    with_function(item, "#[cloud_fn]", |item, errors| {
        let mut parsed = parse::cloud_fn::parse(options, item.clone(), errors);
        let sound = check::cloud_fn(&mut parsed, errors);
        if sound { cloud_fn::expand(&parsed) } else { plain::item(Item::Fn(item)) }
    })
}

/// `#[crucial::main]`.
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    with_function(item, "#[crucial::main]", |item, errors| {
        let parsed = parse::entry::parse_main(options, item, errors);
        let sound = check::entry(&parsed, "#[crucial::main]", errors);
        if sound { entry::main(&parsed) } else { plain::main(parsed.item) }
    })
}

/// `#[crucial::test]`.
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    with_function(item, "#[crucial::test]", |item, errors| {
        let parsed = parse::entry::parse_test(options, item, errors);
        let sound = check::entry(&parsed, "#[crucial::test]", errors);
        if sound { entry::test(&parsed) } else { plain::item(Item::Fn(parsed.item)) }
    })
}

/// The expansion and all errors beside it. The user's tokens are always there, so that an editor has something to
/// work with.
fn with_errors(item: TokenStream, expand: impl FnOnce(Item, &mut Errors) -> TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let tokens = match syn::parse2(item.clone()) {
        Ok(parsed) => expand(parsed, &mut errors),
        Err(error) => {
            errors.add(error);
            item
        }
    };
    let errors = errors.into_tokens();
    quote!(#errors #tokens)
}

/// As [`with_errors`], for an attribute that goes on functions.
fn with_function(
    item: TokenStream,
    attribute: &str,
    expand: impl FnOnce(ItemFn, &mut Errors) -> TokenStream,
) -> TokenStream {
    with_errors(item, |item, errors| match item {
        Item::Fn(function) => expand(function, errors),
        item => {
            errors.on(what(&item), format!("`{attribute}` goes on a function"));
            plain::item(item)
        }
    })
}
