//! The user's item again, when it can't be expanded: the errors stand beside it, and an editor keeps working.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{ImplItem, Item, ItemFn};

/// The item without our attributes, which nobody else knows.
pub fn item(mut item: Item) -> TokenStream {
    if let Item::Impl(block) = &mut item {
        for inner in &mut block.items {
            if let ImplItem::Fn(function) = inner {
                function.attrs.retain(|attr| !attr.path().is_ident("when") && !attr.path().is_ident("then"));
            }
        }
    }
    quote!(#[allow(dead_code)] #item)
}

/// The function beside an empty one of its name, so that the compiler doesn't add its own complaint about `main`.
pub fn main(mut item: ItemFn) -> TokenStream {
    let name = item.sig.ident;
    item.sig.ident = format_ident!("__{name}");
    quote! {
        #[allow(dead_code)]
        #item
        fn #name() {}
    }
}
