//! `main` and tests, handed to the facade's entry points.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, ReturnType, ext::IdentExt};

use crate::model::Entry;

pub fn main(entry: &Entry) -> TokenStream {
    let (attrs, vis, sig, block) = (&entry.item.attrs, &entry.item.vis, &entry.item.sig, &entry.item.block);
    let (name, asyncness, output) = (&sig.ident, &sig.asyncness, &sig.output);
    let call = match asyncness {
        None => quote!(::crucial::__private::main(__main)),
        Some(_) => quote!(::crucial::__private::main_async(__main())),
    };
    quote! {
        #(#attrs)*
        #vis fn #name() -> ::std::process::ExitCode {
            #asyncness fn __main() #output #block
            #call
        }
    }
}

pub fn test(entry: &Entry) -> TokenStream {
    let (attrs, vis, sig, block) = (&entry.item.attrs, &entry.item.vis, &entry.item.sig, &entry.item.block);
    let (name, asyncness, output) = (&sig.ident, &sig.asyncness, &sig.output);
    let text = name.unraw().to_string();
    let run = |body: TokenStream, path: TokenStream, mode: TokenStream| {
        let body = match asyncness {
            None => body,
            Some(_) => quote!(|| ::crucial::__private::block_on(#body())),
        };
        quote!(::crucial::__private::test(#path, ::crucial::__private::Mode::#mode, #body))
    };
    if entry.modes.is_empty() {
        let call = run(
            quote!(__test),
            quote!(::core::concat!(::core::module_path!(), "::", #text)),
            quote!(Configured),
        );
        return quote! {
            #[::core::prelude::v1::test]
            #(#attrs)*
            #vis fn #name() #output {
                #asyncness fn __test() #output #block
                #call
            }
        };
    }
    // The body stays beside the module, so that its paths mean what they say.
    let body = format_ident!("__{name}");
    let (hints, others): (Vec<&Attribute>, Vec<&Attribute>) =
        attrs.iter().partition(|attr| is_for_libtest(attr));
    let cfg = others.iter().filter(|attr| attr.path().is_ident("cfg"));
    let output_in_module = match output {
        ReturnType::Default => TokenStream::new(),
        ReturnType::Type(..) => quote!(-> impl ::std::process::Termination),
    };
    let tests = entry.modes.iter().map(|mode| {
        let (mode, variant) = (&mode.name, format_ident!("{}", mode.variant));
        let test = mode.to_string();
        // The module's path ends with the name of the test.
        let path = quote!(::core::concat!(::core::module_path!(), "::", #test));
        let call = run(quote!(super::#body), path, quote!(#variant));
        quote! {
            #[::core::prelude::v1::test]
            #(#hints)*
            fn #mode() #output_in_module {
                #call
            }
        }
    });
    quote! {
        #(#others)*
        #[cfg(test)]
        #asyncness fn #body() #output #block
        #(#cfg)*
        #[cfg(test)]
        #vis mod #name {
            #(#tests)*
        }
    }
}

fn is_for_libtest(attr: &Attribute) -> bool {
    ["ignore", "should_panic"].iter().any(|name| attr.path().is_ident(name))
}
