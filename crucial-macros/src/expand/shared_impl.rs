//! A shared impl block becomes three: the user's, for the state; the calls, for the handle; and what ties them
//! together for the server.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Generics, Ident, Pat, PatIdent, Path, PathArguments, Type,
    ext::IdentExt,
    parse_quote,
    spanned::Spanned,
    visit_mut::{self, VisitMut},
};

use super::{
    body,
    shared_struct::{at_name, fingerprint, remote_name, state_name, with_lifetime},
};
use crate::{
    model::{Access, Arg, Attrs, Constructor, Method, Output, Param, SharedImpl, args},
    text::text,
};

pub fn expand(shared: &SharedImpl) -> TokenStream {
    let block = Block::new(shared);
    let state = block.state();
    let methods = block.methods();
    let calls = block.calls();
    let named = block.named();
    let remote = block.remote();
    let parts = block.parts();
    quote! {
        const _: () = {
            #parts
            #state
            #methods
            #named
            #remote
        };
        #calls
    }
}

/// What method look-up takes the first of each pair from that fits: see the support module.
pub fn imports() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::crucial::__private::{
            FailWithErr as _, FailWithPanic as _, GivenData as _, GivenOther as _, TakenData as _, TakenOther as _,
        };
    }
}

/// The block with the types that all parts of its expansion need.
struct Block<'a> {
    shared: &'a SharedImpl,
    /// The handle's type.
    handle: TokenStream,
    /// The state's type.
    state: TokenStream,
    /// The block's generics, with what makes them data.
    generics: Generics,
    /// The condition on methods of a generic handle: that its instance is registered. It stands on the methods,
    /// not on the block, so that the compiler names it when it doesn't hold.
    registered: Option<TokenStream>,
}

impl<'a> Block<'a> {
    fn new(shared: &'a SharedImpl) -> Self {
        let SharedImpl { path, name, arguments, .. } = shared;
        let handle = quote!(#path #arguments);
        let state = quote!(__State #arguments);
        let state_path = sibling(path, state_name(name));
        let mut generics = shared.generics.clone();
        for param in generics.type_params_mut() {
            param.bounds.push(parse_quote!(::crucial::__private::Data));
        }
        let registered = (!generics.params.is_empty())
            .then(|| quote!(#handle: ::crucial::__private::SharedType<State = #state_path #arguments>));
        Block { shared, handle, state, generics, registered }
    }

    /// What `#[shared]` on the struct made. If it isn't there, the compiler says so once.
    fn parts(&self) -> TokenStream {
        let SharedImpl { path, name, .. } = self.shared;
        let part = |ident| sibling(path, ident);
        let (state, at, remote) = (part(state_name(name)), part(at_name(name)), part(remote_name(name)));
        quote_spanned!(name.span()=> use {#state as __State, #at as __At, #remote as __Remote};)
    }

    /// The user's block, in which the struct's name means the state.
    fn state(&self) -> TokenStream {
        let SharedImpl { body, generics, name, arguments, items, methods, .. } = self.shared;
        let (impls, _, wheres) = generics.split_for_impl();
        let guards = methods.iter().filter_map(guard);
        quote! {
            const _: () = {
                use __State as #name;
                #(#body)*
                #[allow(clippy::new_without_default)]
                impl #impls #name #arguments #wheres {
                    #(#items)*
                    #(#guards)*
                }
            };
        }
    }

    /// What the server calls.
    fn methods(&self) -> TokenStream {
        let SharedImpl { methods, constructors, name, .. } = self.shared;
        let (handle, state) = (&self.handle, &self.state);
        let imports = imports();
        let itself = quote_spanned!(name.span()=> Self);
        let mut generics = self.generics.clone();
        if let Some(registered) = &self.registered {
            generics.make_where_clause().predicates.push(parse_quote!(#registered));
        }
        let (impls, _, wheres) = generics.split_for_impl();
        let infos = methods.iter().map(info);
        let names = constructors.iter().map(|constructor| constructor.name.unraw().to_string());
        let signatures = self.signatures();
        let lost = match methods.iter().position(|method| method.lost.is_some()) {
            Some(number) => {
                let number = u16::try_from(number).unwrap_or(u16::MAX);
                quote!(::core::option::Option::Some(#number))
            }
            None => quote!(::core::option::Option::None),
        };
        let construct = (0u16..).zip(constructors).map(|(number, c)| self.construct(number, c));
        let numbered = || (0u16..).zip(methods);
        let read = numbered().filter(|(_, m)| m.receiver.access == Access::Read).map(|(n, m)| self.run(n, m));
        let write =
            numbered().filter(|(_, m)| m.receiver.access == Access::Write).map(|(n, m)| self.run(n, m));
        let guard = numbered().filter(|(_, m)| m.when.is_some()).map(|(n, m)| self.guard(n, m));
        let assertions = self.assertions();
        let none = quote! {
            __other => ::core::result::Result::Err(::crucial::__private::no_such_method(
                <Self as ::crucial::__private::SharedType>::NAME,
                __other,
            ))
        };
        quote! {
            #imports
            #[automatically_derived]
            #[allow(deprecated, unused_variables, clippy::all, clippy::pedantic)]
            impl #impls ::crucial::__private::Methods for #handle #wheres {
                const METHODS: &'static [::crucial::__private::MethodInfo] = &[#(#infos),*];
                const CONSTRUCTORS: &'static [&'static str] = &[#(#names),*];
                const LOST: ::core::option::Option<u16> = #lost;
                const SIGNATURES: u64 = #signatures;
                fn construct(
                    __constructor: u16,
                    __args: &[u8],
                    __cx: &mut ::crucial::__private::Context,
                ) -> ::crucial::__private::Result<#state> {
                    match __constructor { #(#construct)* #none }
                }
                fn read(
                    __state: &#state,
                    __method: u16,
                    __args: &[u8],
                    __cx: &mut ::crucial::__private::Context,
                    __out: &mut ::std::vec::Vec<u8>,
                ) -> ::crucial::__private::Result<()> {
                    match __method { #(#read)* #none }
                }
                fn write(
                    __state: &mut #state,
                    __method: u16,
                    __args: &[u8],
                    __cx: &mut ::crucial::__private::Context,
                    __out: &mut ::std::vec::Vec<u8>,
                ) -> ::crucial::__private::Result<()> {
                    match __method { #(#write)* #none }
                }
                fn guard(
                    __state: &#state,
                    __method: u16,
                    __args: &[u8],
                ) -> ::crucial::__private::Result<bool> {
                    match __method { #(#guard)* _ => ::core::result::Result::Ok(true) }
                }
            }
            #[automatically_derived]
            #[allow(deprecated)]
            impl #impls ::crucial::__private::Shared for #handle #wheres {
                type Handle = #itself;
                fn handle(&self) -> &Self {
                    self
                }
            }
            #assertions
        }
    }

    /// Decodes the arguments into variables of their names.
    fn decode(&self, what: &str, args: &[&Arg]) -> TokenStream {
        if args.is_empty() {
            return TokenStream::new();
        }
        let names = args.iter().map(|arg| &arg.name);
        let types = args.iter().map(|arg| arg.decoded_type());
        quote! {
            let (#(#names,)*) = ::crucial::__private::Taken::<(#(#types,)*)>::new().decode(#what, __args)?;
        }
    }

    fn construct(&self, number: u16, constructor: &Constructor) -> TokenStream {
        let Constructor { attrs: Attrs { cfg, .. }, name, params, .. } = constructor;
        let state = &self.state;
        let decode = self.decode(&arguments_of(name), &args(params).collect::<Vec<_>>());
        let passed = passed(params);
        quote! {
            #(#cfg)*
            #number => {
                #decode
                ::core::result::Result::Ok(<#state>::#name(#(#passed),*))
            }
        }
    }

    fn run(&self, number: u16, method: &Method) -> TokenStream {
        let Method { attrs: Attrs { cfg, .. }, name, params, output, then, .. } = method;
        let state = &self.state;
        let decode = self.decode(&arguments_of(name), &args(params).collect::<Vec<_>>());
        let passed = passed(params);
        let call = quote!(<#state>::#name(__state #(, #passed)*));
        let target = then.as_ref().and_then(|then| then.number).map(|number| &self.shared.methods[number]);
        let encode = match target.and_then(|target| args(&target.params).next()) {
            Some(arg) => {
                // The compiler checks that the one method's result is the other's argument.
                let Arg { name: argument, ty, .. } = arg;
                let what = format!("the argument of `{}`", target.map_or(name, |target| &target.name));
                let result = output.ty.as_ref().map_or(name.span(), Spanned::span);
                let value = match ty {
                    Type::Reference(_) => quote_spanned!(result=> &__value),
                    _ => quote_spanned!(result=> __value),
                };
                let encoded = arg.encoded();
                quote! {
                    let __value = #call;
                    let #argument: #ty = #value;
                    ::crucial::__private::encode(#what, ::crucial::__private::Given(&(#encoded,)).data(), __out)
                }
            }
            None => {
                let what = result_of(name);
                let encoded = output.encoded(call);
                quote!(::crucial::__private::encode(#what, ::crucial::__private::Given(&#encoded).data(), __out))
            }
        };
        quote! {
            #(#cfg)*
            #number => {
                #decode
                #encode
            }
        }
    }

    fn guard(&self, number: u16, method: &Method) -> TokenStream {
        let cfg = &method.attrs.cfg;
        let state = &self.state;
        let args = method.guard_args();
        let decode = self.decode(&arguments_of(&method.name), &args);
        let lent = args.iter().map(|arg| arg.lent());
        let guard = method.guard();
        quote! {
            #(#cfg)*
            #number => {
                #decode
                ::core::result::Result::Ok(<#state>::#guard(__state #(, #lent)*))
            }
        }
    }

    /// Arguments and results are checked where they are written.
    fn assertions(&self) -> TokenStream {
        let (impls, _, wheres) = self.generics.split_for_impl();
        let constructors = self.shared.constructors.iter().map(|c| (&c.attrs, &c.params, None));
        let methods = self.shared.methods.iter().map(|m| (&m.attrs, &m.params, m.output.data()));
        let checks = constructors.chain(methods).flat_map(|(attrs, params, output)| {
            let cfg = &attrs.cfg;
            args(params).filter_map(Arg::data).chain(output).map(
                move |ty| quote_spanned!(ty.span()=> #(#cfg)* ::crucial::__private::assert_data::<#ty>();),
            )
        });
        let lost = self.shared.methods.iter().filter(|m| m.lost.is_some()).flat_map(|m| args(&m.params)).map(
            |arg| {
                let ty = &arg.ty;
                quote_spanned!(ty.span()=> ::crucial::__private::assert_lost::<#ty>();)
            },
        );
        quote! {
            #[allow(dead_code, deprecated, clippy::all, clippy::pedantic)]
            fn __signatures #impls () #wheres {
                #(#checks)*
                #(#lost)*
            }
        }
    }

    fn signatures(&self) -> TokenStream {
        let types = |params: &[Param]| args(params).map(|arg| text(&arg.ty)).collect::<Vec<_>>().join(", ");
        let constructors = self
            .shared
            .constructors
            .iter()
            .map(|c| (c.attrs.cfg.as_slice(), format!("new {}({})", c.name, types(&c.params))));
        let methods = self.shared.methods.iter().map(|m| {
            let access = if m.receiver.access == Access::Read { "read" } else { "write" };
            let when = m.when.as_ref().map_or(String::new(), |when| format!(" when {}", text(when)));
            let then = m.then.as_ref().map_or(String::new(), |then| format!(" then {}", then.target));
            let lost = if m.lost.is_some() { " lost" } else { "" };
            let signature = format!(
                "{access} {}({}) -> {}{when}{then}{lost}",
                m.name,
                types(&m.params),
                text(m.output.ty())
            );
            (m.attrs.cfg.as_slice(), signature)
        });
        fingerprint(constructors.chain(methods))
    }

    /// What the method gives in the end: its own result, or that of the last continuation.
    fn output<'m>(&'m self, method: &'m Method) -> &'m Output {
        let mut last = method;
        // The checks refuse cycles; the bound is for a block with errors.
        for _ in 0..self.shared.methods.len() {
            match last.then.as_ref().and_then(|then| then.number) {
                Some(number) => last = &self.shared.methods[number],
                None => break,
            }
        }
        &last.output
    }

    /// The methods of the handle, with their numbers.
    fn public(&self) -> impl Iterator<Item = (u16, &Method)> {
        (0u16..).zip(&self.shared.methods).filter(|(_, method)| method.is_public())
    }

    /// The condition on a method of a generic handle.
    fn wheres(&self) -> TokenStream {
        self.registered.as_ref().map(|registered| quote!(where #registered)).unwrap_or_default()
    }

    /// The handle's own methods.
    fn calls(&self) -> TokenStream {
        let handle = &self.handle;
        let docs = &self.shared.face;
        let (impls, _, block_wheres) = self.generics.split_for_impl();
        let wheres = self.wheres();
        let imports = imports();
        let constructors = (0u16..).zip(&self.shared.constructors).map(|(number, constructor)| {
            let Constructor { attrs: Attrs { face, .. }, vis, name, params, .. } = constructor;
            let takes = takes(params);
            let gives = self.given(params);
            let signature = quote_spanned!(name.span()=> #vis fn #name(#(#takes),*) -> Self);
            let body = body(
                name.span(),
                &quote! {
                    #imports
                    ::crucial::__private::construct::<Self, _>(#number, #gives)
                },
            );
            quote!(#(#face)* #[track_caller] #signature #wheres #body)
        });
        let methods = self.public().map(|(number, method)| {
            let Method { attrs: Attrs { face, .. }, vis, name, params, .. } = method;
            let output = self.output(method);
            let (arrow, ty) = (output.arrow(), output.ty());
            let takes = takes(params);
            let gives = self.given(params);
            let decoder = self.decoder(output, &result_of(name));
            let this = quote_spanned!(name.span()=> self);
            let signature = quote_spanned!(name.span()=> #vis fn #name(&#this #(, #takes)*) #arrow);
            let body = body(
                name.span(),
                &quote! {
                    #imports
                    match ::crucial::__private::call(#this, #number, #gives, #decoder) {
                        ::core::result::Result::Ok(__value) => __value,
                        ::core::result::Result::Err(__error) => {
                            ::crucial::__private::FailAs::<#ty>::new().fail(__error)
                        }
                    }
                },
            );
            quote!(#(#face)* #[track_caller] #signature #wheres #body)
        });
        quote! {
            #(#docs)*
            #[allow(dead_code, deprecated, clippy::all, clippy::pedantic)]
            impl #impls #handle #block_wheres {
                #(#constructors)*
                #(#methods)*
            }
        }
    }

    /// The constructors of a named object.
    fn named(&self) -> TokenStream {
        let SharedImpl { arguments, constructors, .. } = self.shared;
        let handle = &self.handle;
        let (impls, _, block_wheres) = self.generics.split_for_impl();
        let wheres = self.wheres();
        let imports = imports();
        let constructors = (0u16..).zip(constructors).map(|(number, constructor)| {
            let Constructor { attrs: Attrs { face, .. }, vis, name, params, .. } = constructor;
            let takes = takes(params);
            let gives = self.given(params);
            let comma = (!params.is_empty()).then(|| quote!(,));
            quote! {
                #(#face)*
                #[track_caller]
                #vis fn #name(self #comma #(#takes),*) -> #handle #wheres {
                    #imports
                    ::crucial::__private::construct_at::<#handle, _>(self.__named, #number, #gives)
                }
            }
        });
        quote! {
            // The docs are those of the handle's.
            #[allow(dead_code, deprecated, missing_docs, clippy::all, clippy::pedantic)]
            impl #impls __At #arguments #block_wheres {
                #(#constructors)*
            }
        }
    }

    /// The methods as calls that can be awaited.
    fn remote(&self) -> TokenStream {
        let arguments = &self.shared.arguments;
        let generics = with_lifetime(&self.generics);
        let (impls, _, block_wheres) = generics.split_for_impl();
        let wheres = self.wheres();
        let imports = imports();
        let arguments = match arguments {
            syn::PathArguments::AngleBracketed(arguments) => {
                let arguments = &arguments.args;
                quote!(<'__a, #arguments>)
            }
            _ => quote!(<'__a>),
        };
        let methods = self.public().map(|(number, method)| {
            let Method { attrs: Attrs { face, .. }, vis, name, params, .. } = method;
            let face = face.iter().filter(|attr| !attr.path().is_ident("must_use"));
            let output = self.output(method);
            let ty = output.ty();
            let takes = takes(params);
            let gives = self.given(params);
            let decoder = self.decoder(output, &result_of(name));
            quote! {
                #(#face)*
                #vis fn #name(&self #(, #takes)*) -> ::crucial::__private::Call<#ty> #wheres {
                    #imports
                    ::crucial::__private::remote(self.__handle, #number, #gives, #decoder)
                }
            }
        });
        quote! {
            #[allow(dead_code, deprecated, missing_docs, clippy::all, clippy::pedantic)]
            impl #impls __Remote #arguments #block_wheres {
                #(#methods)*
            }
        }
    }

    /// The caller's arguments as one value to encode.
    fn given(&self, params: &[Param]) -> TokenStream {
        let values = args(params).map(Arg::encoded);
        quote!(::crucial::__private::Given(&(#(#values,)*)).data())
    }

    fn decoder(&self, output: &Output, what: &str) -> TokenStream {
        output.decoder(what)
    }
}

fn info(method: &Method) -> TokenStream {
    let name = method.name.unraw().to_string();
    let access = match method.receiver.access {
        Access::Read => quote!(Read),
        Access::Write => quote!(Write),
    };
    let guarded = method.when.is_some();
    let guard_takes_args = !method.guard_args().is_empty();
    let then = match method.then.as_ref().and_then(|then| then.number) {
        Some(number) => {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            quote!(::core::option::Option::Some(#number))
        }
        None => quote!(::core::option::Option::None),
    };
    quote! {
        ::crucial::__private::MethodInfo {
            name: #name,
            access: ::crucial::__private::Access::#access,
            guarded: #guarded,
            guard_takes_args: #guard_takes_args,
            then: #then,
        }
    }
}

/// The guard as a method of the state, in which `self` and the arguments mean what they mean in the body.
fn guard(method: &Method) -> Option<TokenStream> {
    let when = method.when.as_ref()?;
    let name = method.guard();
    let this = &method.receiver.self_token;
    let cfg = &method.attrs.cfg;
    let args = method.guard_args().into_iter().map(|arg| {
        let (pat, ty) = (immutable(&arg.pat), &arg.ty);
        quote!(#pat: #ty)
    });
    let body = quote_spanned!(when.span()=> -> bool { #when });
    Some(quote! {
        #(#cfg)*
        #[doc(hidden)]
        #[allow(
            unused_variables,
            clippy::needless_pass_by_value,
            clippy::ptr_arg,
            clippy::too_many_arguments,
            clippy::trivially_copy_pass_by_ref,
            clippy::unused_self
        )]
        fn #name(& #this #(, #args)*) #body
    })
}

/// The parameters as the caller's side declares them.
fn takes(params: &[Param]) -> Vec<TokenStream> {
    args(params)
        .map(|arg| {
            let Arg { name, ty, .. } = arg;
            quote!(#name: #ty)
        })
        .collect()
}

/// The decoded arguments and the context, as the body takes them.
fn passed(params: &[Param]) -> Vec<TokenStream> {
    params
        .iter()
        .map(|param| match param {
            Param::Arg(arg) => arg.lent(),
            Param::Context => quote!(__cx),
        })
        .collect()
}

fn arguments_of(name: &Ident) -> String {
    format!("the arguments of `{}`", name)
}

fn result_of(name: &Ident) -> String {
    format!("the result of `{}`", name)
}

/// The path of a helper that stands beside the handle: `crate::a::Name` has `crate::a::__NameState`.
fn sibling(path: &Path, ident: Ident) -> Path {
    let mut path = path.clone();
    if let Some(last) = path.segments.last_mut() {
        last.ident = ident;
        last.arguments = PathArguments::None;
    }
    path
}

/// The pattern without what only the body needs: a guard may look at an argument, but not change it.
fn immutable(pat: &Pat) -> Pat {
    struct Immutable;
    impl VisitMut for Immutable {
        fn visit_pat_ident_mut(&mut self, pat: &mut PatIdent) {
            pat.mutability = None;
            visit_mut::visit_pat_ident_mut(self, pat);
        }
    }
    let mut pat = pat.clone();
    Immutable.visit_pat_mut(&mut pat);
    pat
}
