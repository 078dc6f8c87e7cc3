//! A shared static becomes a `Static` that makes its object's handle on first use.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::model::{Initializer, SharedStatic};

pub fn expand(shared: &SharedStatic) -> TokenStream {
    let SharedStatic { attrs, vis, name, ty, key, persistent, initializer } = shared;
    let text = name.to_string();
    let key = match key {
        Some(key) => quote!(#key),
        None => quote!(::core::concat!(::core::module_path!(), "::", #text)),
    };
    // If the type is not shared, the compiler says so once and goes on.
    let checked = quote_spanned!(ty.span()=> <#ty as ::crucial::__private::IsShared>::Checked);
    let value = match initializer {
        Some(Initializer { constructor, args, to_check }) => {
            let persistent = persistent.then(|| quote!(.persistent()));
            let check = to_check.as_ref().map(|call| {
                quote! {
                    #[allow(unused_must_use)]
                    const _: () = {
                        let _ = || -> #ty { #call };
                    };
                }
            });
            quote! {{
                ::crucial::__private::inventory::submit! { ::crucial::__private::StaticInfo {
                    key: #key,
                    type_name: ::crucial::__private::type_name::<#checked>,
                    place: ::core::concat!(::core::file!(), ":", ::core::line!()),
                } }
                #check
                ::crucial::Static::new(|| <#checked>::at(#key) #persistent .__lazy().#constructor(#args))
            }}
        }
        None => quote!(::crucial::Static::new(|| ::core::unreachable!())),
    };
    quote! {
        #(#attrs)*
        #vis static #name: ::crucial::Static<#checked> = #value;
    }
}
