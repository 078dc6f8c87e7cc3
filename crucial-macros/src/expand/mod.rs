//! From the model to code.

mod cloud_fn;
mod data;
mod entry;
mod shared_impl;
mod shared_static;
mod shared_struct;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Item, ItemFn};

use crate::{errors::Errors, parse};

/// `#[shared]` on a struct, an impl block or a static.
pub fn shared(options: TokenStream, item: TokenStream) -> TokenStream {
    with_errors(item, |item, errors| match item {
        Item::Struct(item) => Ok(shared_struct::expand(&parse::shared_struct::parse(options, item, errors))),
        Item::Impl(item) => match parse::shared_impl::parse(options, item.clone(), errors) {
            Some(parsed) => Ok(shared_impl::expand(&parsed)),
            None => Ok(quote!(#item)),
        },
        Item::Static(item) => Ok(shared_static::expand(&parse::shared_static::parse(options, item, errors))),
        item => {
            errors.on(&item, "`#[shared]` goes on a struct, on its impl block, and on a static");
            Ok(quote!(#item))
        }
    })
}

/// `#[cloud_fn]`.
pub fn cloud_fn(options: TokenStream, item: TokenStream) -> TokenStream {
    with_errors(item, |item: ItemFn, errors| {
        Ok(cloud_fn::expand(&parse::cloud_fn::parse(options, item, errors)))
    })
}

/// `#[crucial::main]`.
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    with_errors(item, |item, errors| Ok(entry::main(&parse::entry::parse_main(options, item, errors))))
}

/// `#[crucial::test]`.
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    with_errors(item, |item, errors| Ok(entry::test(&parse::entry::parse_test(options, item, errors))))
}

/// The expansion and all errors beside it. The user's tokens are always there, so that an editor has something to
/// work with.
fn with_errors<T: syn::parse::Parse>(
    item: TokenStream,
    expand: impl FnOnce(T, &mut Errors) -> syn::Result<TokenStream>,
) -> TokenStream {
    let mut errors = Errors::default();
    let tokens = syn::parse2(item.clone()).and_then(|parsed| expand(parsed, &mut errors));
    let tokens = errors.ok(tokens).unwrap_or(item);
    let errors = errors.into_tokens();
    quote!(#errors #tokens)
}
