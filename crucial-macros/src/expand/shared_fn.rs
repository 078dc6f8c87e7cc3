//! A shared function becomes a constant that holds its name for servers and its address for calls here.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{FnArg, ext::IdentExt, spanned::Spanned};

use super::shared_impl::imports;
use crate::{
    model::{Arg, ArgKind, Attrs, SharedFn, Target, args},
    text::text,
};

pub fn expand(function: &SharedFn) -> TokenStream {
    let SharedFn { attrs: Attrs { face, cfg }, body, item, target, params, output } = function;
    let Some(Target { mutability, ty: target }) = target else { return TokenStream::new() };
    let (vis, sig, block) = (&item.vis, &item.sig, &item.block);
    let (name, returns) = (&sig.ident, &sig.output);
    let written = sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(&typed.ty),
        FnArg::Receiver(_) => None,
    });
    let args: Vec<&Arg> = args(params).collect();
    let owned: Vec<_> = args.iter().map(|arg| owned(arg)).collect();
    let arg_type = match &owned[..] {
        [one] => quote!(#one),
        several => quote!((#(#several),*)),
    };
    // Names of their own: those of the arguments are the user's.
    let names: Vec<_> = (0..args.len()).map(|i| quote::format_ident!("__arg{i}")).collect();
    let pattern = match &names[..] {
        [one] => quote!(#one),
        several => quote!((#(#several),*)),
    };
    let lent = args.iter().zip(&names).map(|(arg, name)| match arg.kind {
        ArgKind::Value | ArgKind::Block => quote!(#name),
        _ => quote!(&#name),
    });

    let path_end = name.unraw().to_string();
    let what_value = format!("the value for `{name}`");
    let what_args = format!("the arguments of `{name}`");
    let what_result = format!("the result of `{name}`");
    let decode_args = quote! {
        let #pattern = ::crucial::__private::Taken::<#arg_type>::new().decode(#what_args, __args)?;
    };
    let encode_result = quote! {
        ::crucial::__private::encode(#what_result, ::crucial::__private::Given(&__result).data(), __out)?;
    };
    let (apply, kind) = match mutability {
        None => (
            quote! {
                fn __apply(
                    __format: ::crucial::__private::Format,
                    __value: &[u8],
                    __args: &[u8],
                    __out: &mut ::std::vec::Vec<u8>,
                ) -> ::crucial::__private::Result<()> {
                    let __target =
                        ::crucial::__private::Taken::<#target>::new().decode_in(__format, #what_value, __value)?;
                    #decode_args
                    let __result = #name(&__target #(, #lent)*);
                    #encode_result
                    ::core::result::Result::Ok(())
                }
            },
            quote!(Inspect),
        ),
        Some(_) => (
            quote! {
                fn __apply(
                    __value: &mut ::std::vec::Vec<u8>,
                    __args: &[u8],
                    __out: &mut ::std::vec::Vec<u8>,
                ) -> ::crucial::__private::Result<()> {
                    let mut __target =
                        ::crucial::__private::Taken::<#target>::new().decode(#what_value, __value)?;
                    #decode_args
                    let __result = #name(&mut __target #(, #lent)*);
                    #encode_result
                    ::crucial::__private::replace(__value, ::crucial::__private::Given(&__target).data())
                }
            },
            quote!(Update),
        ),
    };
    let fingerprint = {
        let types: Vec<_> = args.iter().map(|arg| text(&arg.ty)).collect();
        format!(
            "(&{}{}; {}) -> {}",
            mutability.map_or("", |_| "mut "),
            text(target),
            types.join(", "),
            text(output.ty())
        )
    };
    let result = output.ty();
    let imports = imports();
    let checked =
        std::iter::once(quote_spanned!(target.span()=> ::crucial::__private::assert_data::<#target>();));
    let checked =
        checked.chain(args.iter().zip(&owned).map(
            |(arg, owned)| quote_spanned!(arg.ty.span()=> ::crucial::__private::assert_data::<#owned>();),
        ));
    let checked = checked.chain(
        output.ty.iter().map(|ty| quote_spanned!(ty.span()=> ::crucial::__private::assert_data::<#ty>();)),
    );
    let declared = quote_spanned! {name.span()=>
        #vis const #name: ::crucial::Function<
            fn(#(#written),*) #returns,
            &'static #mutability #target,
            #arg_type,
            #result,
        >
    };
    let value = super::body(
        name.span(),
        &quote! {
            #imports
            // The value is what its collection holds, be it a `Vec` or a number.
            #[allow(clippy::ptr_arg, clippy::trivially_copy_pass_by_ref)]
            #(#body)*
            #sig #block
            #[allow(deprecated, unused_variables, clippy::all, clippy::pedantic)]
            #apply
            const __INFO: ::crucial::__private::SharedFnInfo = ::crucial::__private::SharedFnInfo {
                name: ::core::concat!(::core::module_path!(), "::", #path_end),
                fingerprint: ::crucial::__private::fingerprint(#fingerprint),
                place: ::core::concat!(::core::file!(), ":", ::core::line!()),
                apply: ::crucial::__private::Apply::#kind(__apply),
            };
            ::crucial::__private::inventory::submit! { __INFO }
            #(#checked)*
            ::crucial::Function::new(&__INFO, #name)
        },
    );
    let end = quote_spanned!(name.span()=> ;);
    quote! {
        #(#face)*
        #(#cfg)*
        #[allow(non_upper_case_globals, clippy::type_complexity)]
        #declared = #value #end
    }
}

/// The type of an argument as it travels.
fn owned(arg: &Arg) -> TokenStream {
    match &arg.kind {
        ArgKind::Value | ArgKind::Block => {
            let ty = &arg.ty;
            quote!(#ty)
        }
        ArgKind::Str => quote!(::std::string::String),
        ArgKind::Slice(elem) | ArgKind::BlockSlice(elem) => quote!(::std::vec::Vec<#elem>),
        ArgKind::Ref(ty) | ArgKind::BlockRef(ty) => quote!(#ty),
    }
}
