//! A shared static becomes a `Static` that makes its object's handle on first use.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{ext::IdentExt, spanned::Spanned};

use crate::model::{Initializer, SharedStatic};

pub fn expand(shared: &SharedStatic) -> TokenStream {
    let SharedStatic { attrs, vis, name, ty, key, persistent, initializer } = shared;
    let text = name.unraw().to_string();
    let key = match key {
        Some(key) => quote!(#key),
        None => quote!(::core::concat!(::core::module_path!(), "::", #text)),
    };
    let value = match initializer {
        Some(Initializer { constructor, paren, args, to_check }) => {
            let persistent = persistent.then(|| quote!(.persistent()));
            let check = to_check.as_ref().map(|call| {
                quote! {
                    #[allow(unused_must_use)]
                    const _: () = {
                        let _ = || -> #ty { #call };
                    };
                }
            });
            // What the compiler has to say about the type, it says about the type as written.
            let span = ty.span();
            let at = quote_spanned!(span=> <#ty>::at(#key));
            let type_name = quote_spanned!(span=> ::crucial::__private::type_name::<#ty>);
            let mut call = TokenStream::new();
            paren.surround(&mut call, |tokens| args.to_tokens(tokens));
            let make = quote!(#at #persistent .__lazy().#constructor #call);
            let value = quote_spanned!(span=> ::crucial::Static::new(|| { #make }));
            quote! {{
                #[allow(unused_imports)]
                use ::crucial::__private::AtUnshared as _;
                ::crucial::__private::inventory::submit! { ::crucial::__private::StaticInfo {
                    key: #key,
                    type_name: #type_name,
                    place: ::core::concat!(::core::file!(), ":", ::core::line!()),
                } }
                #check
                #value
            }}
        }
        None => quote!(::crucial::Static::new(|| ::core::unreachable!())),
    };
    // As in `body`: lints point at the item.
    let declared = quote_spanned!(name.span()=> #vis static #name: ::crucial::Static<#ty> = #value;);
    quote!(#(#attrs)* #declared)
}
