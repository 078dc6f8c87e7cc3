//! A cloud function becomes one that describes its call, around the body and the registration of its instances.

use proc_macro2::{Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Ident, spanned::Spanned};

use super::shared_impl::imports;
use crate::{
    model::{Arg, CloudFn, FnOptions, Instance, args},
    text::text,
};

pub fn expand(function: &CloudFn) -> TokenStream {
    let CloudFn { face, body, item, params, output, instances, options } = function;
    let (vis, sig, block) = (&item.vis, &item.sig, &item.block);
    let (generics, arguments, wheres) = sig.generics.split_for_impl();
    let arguments = arguments.as_turbofish();
    let is_generic = !sig.generics.params.is_empty();
    let (name, inputs, asyncness, returns) = (&sig.ident, &sig.inputs, &sig.asyncness, &sig.output);
    let fn_token = &sig.fn_token;
    // Lints about the signature point at the user's.
    let inner = Ident::new("__body", name.span());
    let lints = body.iter().filter(|attr| attr.path().is_ident("allow"));
    let args: Vec<&Arg> = args(params).collect();
    let takes = args.iter().map(|Arg { name, ty, .. }| quote!(#name: #ty));
    let gives = args.iter().map(|arg| arg.encoded());
    let names = args.iter().map(|arg| &arg.name);
    let types = args.iter().map(|arg| arg.decoded_type());
    let lent = args.iter().map(|arg| arg.lent());
    let ty = output.ty();

    let what_args = format!("the arguments of `{name}`");
    let what_result = format!("the result of `{name}`");
    let decoder = output.decoder(&what_result);
    let decode = (!args.is_empty()).then(
        || quote!(let (#(#names,)*) = ::crucial::__private::Taken::<(#(#types,)*)>::new().decode(#what_args, &__args)?;),
    );
    let await_ = asyncness.is_some().then(|| quote!(.await));
    let call = output.encoded(quote!(#inner #arguments(#(#lent),*) #await_));
    let run = quote! {
        #decode
        let mut __out = ::std::vec::Vec::new();
        ::crucial::__private::encode(
            #what_result,
            ::crucial::__private::Given(&#call).data(),
            &mut __out,
        )?;
        ::core::result::Result::Ok(__out)
    };
    let (run, kind) = match asyncness {
        None => (
            quote! {
                #[allow(clippy::used_underscore_binding)]
                fn __run #generics(__args: &[u8]) -> ::crucial::__private::Result<::std::vec::Vec<u8>> #wheres { #run }
            },
            quote!(Sync),
        ),
        Some(token) => {
            let future = quote_spanned!(token.span()=> ::std::boxed::Box::pin(async move { #run }));
            (
                quote! {
                    #[allow(clippy::used_underscore_binding)]
                    fn __run #generics(
                        __args: ::std::vec::Vec<u8>,
                    ) -> ::crucial::__private::BoxFuture<
                        'static,
                        ::crucial::__private::Result<::std::vec::Vec<u8>>,
                    > #wheres {
                        #future
                    }
                },
                quote!(Async),
            )
        }
    };
    let fingerprint = {
        let types: Vec<_> = args.iter().map(|arg| text(&arg.ty)).collect();
        format!("{}({}) -> {}", text(asyncness), types.join(", "), text(&ty))
    };
    let options = tokens(options);
    let instances = instances.of(name, is_generic);
    let runs: Vec<_> = instances
        .iter()
        .map(|Instance { arguments, .. }| {
            let turbofish = is_generic.then(|| quote!(::));
            quote!(__run #turbofish #arguments)
        })
        .collect();
    let infos = instances.iter().zip(&runs).map(|(Instance { name, .. }, run)| {
        quote! {
            ::crucial::__private::FunctionInfo {
                name: ::core::concat!(::core::module_path!(), "::", #name),
                fingerprint: ::crucial::__private::fingerprint(#fingerprint),
                options: #options,
                body: ::crucial::__private::Body::#kind(#run),
            }
        }
    });
    let count = instances.len();
    let indices = 0..count;
    let function = if is_generic {
        quote! {
            ::crucial::__private::InstanceId::of(__run #arguments)
                .find(&__FUNCTIONS, &[#(::crucial::__private::InstanceId::of(#runs)),*])
        }
    } else {
        quote!(::core::result::Result::Ok(&__FUNCTIONS[0]))
    };
    let imports = imports();
    let checks = args
        .iter()
        .filter_map(|arg| arg.data())
        .chain(output.data())
        .map(|ty| quote_spanned!(ty.span()=> ::crucial::__private::assert_data::<#ty>();));
    let signature = quote_spanned!(name.span()=> #vis #fn_token #name #generics(#(#takes),*) -> ::crucial::Task<#ty> #wheres);
    let body = super::body(
        name.span(),
        &quote! {
            #imports
            #(#body)*
            #asyncness #fn_token #inner #generics(#inputs) #returns #wheres #block
            #run
            const __INFOS: [::crucial::__private::FunctionInfo; #count] = [#(#infos),*];
            #(::crucial::__private::inventory::submit! { __INFOS[#indices] })*
            static __FUNCTIONS: [::crucial::__private::FunctionInfo; #count] = __INFOS;
            #(#checks)*
            let __encode = || {
                let mut __args = ::std::vec::Vec::new();
                #[allow(clippy::used_underscore_binding)]
                ::crucial::__private::encode(
                    #what_args,
                    ::crucial::__private::Given(&(#(#gives,)*)).data(),
                    &mut __args,
                )?;
                ::core::result::Result::Ok(__args)
            };
            ::crucial::__private::Task::new(#function, __encode, #decoder)
        },
    );
    quote! {
        #(#face)*
        #(#lints)*
        #[allow(clippy::too_many_arguments)]
        #signature #body
    }
}

fn tokens(options: &FnOptions) -> TokenStream {
    let option = |value: Option<TokenStream>| match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    };
    let retries = option(options.retries.map(|n| quote!(#n)));
    let timeout = option(options.timeout.map(|timeout| {
        let micros = Literal::u64_suffixed(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
        quote!(::core::time::Duration::from_micros(#micros))
    }));
    let memory = option(options.memory.map(|n| quote!(#n)));
    quote!(::crucial::__private::Options { retries: #retries, timeout: #timeout, memory: #memory })
}
