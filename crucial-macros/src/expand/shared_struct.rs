//! A shared struct becomes a handle, which keeps its name, and a state, which keeps its fields.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{GenericParam, Generics, Ident, LifetimeParam, ext::IdentExt, parse_quote};

use super::body;
use crate::model::{Field, Instance, SharedStruct};

pub fn expand(shared: &SharedStruct) -> TokenStream {
    let state = state(shared);
    let handle = handle(shared);
    let at = at(shared);
    let remote = remote(shared);
    let traits = traits(shared);
    let assertions = assertions(shared);
    let instances = shared.instances.of(&shared.name, !shared.generics.params.is_empty());
    let instances = instances.iter().map(|instance| implementation(shared, instance));
    quote! {
        #handle
        #state
        #at
        #remote
        const _: () = {
            #traits
            #assertions
            #(#instances)*
        };
    }
}

/// The name of the state.
pub fn state_name(name: &Ident) -> Ident {
    format_ident!("__{}State", name)
}

/// The name of what `at(key)` returns.
pub fn at_name(name: &Ident) -> Ident {
    format_ident!("__{}At", name)
}

/// The name of what `remote()` returns.
pub fn remote_name(name: &Ident) -> Ident {
    format_ident!("__{}Remote", name)
}

fn state(shared: &SharedStruct) -> TokenStream {
    let mut item = shared.item.clone();
    item.ident = state_name(&shared.name);
    let body = &shared.body;
    let derive = quote_spanned! {shared.name.span()=>
        #[derive(::crucial::__private::serde::Serialize, ::crucial::__private::serde::Deserialize)]
    };
    quote! {
        #[doc(hidden)]
        #derive
        #[serde(crate = "::crucial::__private::serde")]
        #(#body)*
        #[allow(missing_debug_implementations)]
        #item
    }
}

fn handle(shared: &SharedStruct) -> TokenStream {
    let SharedStruct { face, vis, name, generics, .. } = shared;
    let where_clause = &generics.where_clause;
    let types = generics.type_params().map(|param| &param.ident);
    let declared = quote_spanned!(name.span()=> #vis struct #name);
    let body = body(
        name.span(),
        &quote! {
            __object: ::crucial::__private::ObjectRef,
            __of: ::core::marker::PhantomData<fn() -> (#(#types,)*)>,
        },
    );
    quote!(#(#face)* #declared #generics #where_clause #body)
}

fn at(shared: &SharedStruct) -> TokenStream {
    let SharedStruct { vis, name, generics, persistent, .. } = shared;
    let at = at_name(name);
    let (impls, types, wheres) = generics.split_for_impl();
    let about = format!("A [`{name}`] with a key, before its constructor: see [`{name}::at`].");
    let docs = format!(
        "The `{name}` that has this key: `{name}::at(\"key\")` and then a constructor, which makes the object unless \
         there is one. With `.persistent()` in between, the object lives until it is removed, and all runs share it."
    );
    quote! {
        #[doc(hidden)]
        #[doc = #about]
        #vis struct #at #generics #wheres {
            __named: ::crucial::__private::Named,
            __of: ::core::marker::PhantomData<fn() -> #name #types>,
        }
        #[automatically_derived]
        impl #impls ::core::fmt::Debug for #at #types #wheres {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.__named, f)
            }
        }
        #[allow(dead_code, deprecated)]
        impl #impls #name #types #wheres {
            #[doc = #docs]
            #vis fn at(key: impl ::core::convert::Into<::std::string::String>) -> #at #types {
                #at { __named: ::crucial::__private::Named::new(key, #persistent), __of: ::core::marker::PhantomData }
            }
        }
        #[allow(dead_code)]
        impl #impls #at #types #wheres {
            /// Lives until it is removed, and is shared by all runs.
            #[must_use]
            #vis fn persistent(self) -> Self {
                #at { __named: self.__named.persistent(), __of: self.__of }
            }
            #[doc(hidden)]
            #[must_use]
            #vis fn __lazy(self) -> Self {
                #at { __named: self.__named.lazy(), __of: self.__of }
            }
        }
    }
}

/// The generics with a lifetime `'__a` in front.
pub fn with_lifetime(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    let lifetime: LifetimeParam = parse_quote!('__a);
    generics.params.insert(0, GenericParam::Lifetime(lifetime));
    generics
}

fn remote(shared: &SharedStruct) -> TokenStream {
    let SharedStruct { vis, name, generics, .. } = shared;
    let remote = remote_name(name);
    let borrowed = with_lifetime(generics);
    let (impls, types, wheres) = generics.split_for_impl();
    let (borrowed_impls, borrowed_types, _) = borrowed.split_for_impl();
    let elided = elided(generics);
    let about = format!("The methods of [`{name}`] as calls that can be awaited: see [`{name}::remote`].");
    let docs = format!(
        "The methods of this `{name}` as calls: `.remote().method(..)` is a [`Call`](crucial::Call) that is \
         awaited, or waited for with `.wait()`, and that gives a `Result`."
    );
    quote! {
        #[doc(hidden)]
        #[doc = #about]
        #vis struct #remote #borrowed #wheres {
            __handle: &'__a #name #types,
        }
        #[automatically_derived]
        impl #borrowed_impls ::core::fmt::Debug for #remote #borrowed_types #wheres {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(self.__handle, f)
            }
        }
        #[allow(dead_code, deprecated)]
        impl #impls #name #types #wheres {
            #[doc = #docs]
            #vis fn remote(&self) -> #remote #elided {
                #remote { __handle: self }
            }
        }
    }
}

/// `<'_, T>`
fn elided(generics: &Generics) -> TokenStream {
    let names = generics.params.iter().map(|param| match param {
        GenericParam::Type(param) => param.ident.to_token_stream(),
        GenericParam::Const(param) => param.ident.to_token_stream(),
        GenericParam::Lifetime(param) => param.lifetime.to_token_stream(),
    });
    quote!(<'_, #(#names),*>)
}

/// What every handle can do, whatever its type arguments.
fn traits(shared: &SharedStruct) -> TokenStream {
    let SharedStruct { name, generics, .. } = shared;
    let text = name.unraw().to_string();
    let (impls, types, wheres) = generics.split_for_impl();
    let mut de = generics.clone();
    let lifetime: LifetimeParam = parse_quote!('__de);
    de.params.insert(0, GenericParam::Lifetime(lifetime));
    let (de_impls, ..) = de.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impls ::core::clone::Clone for #name #types #wheres {
            fn clone(&self) -> Self {
                #name { __object: ::core::clone::Clone::clone(&self.__object), __of: self.__of }
            }
        }
        #[automatically_derived]
        impl #impls ::core::fmt::Debug for #name #types #wheres {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple(#text).field(&self.__object).finish()
            }
        }
        #[automatically_derived]
        impl #impls ::core::cmp::PartialEq for #name #types #wheres {
            fn eq(&self, other: &Self) -> bool {
                self.__object == other.__object
            }
        }
        #[automatically_derived]
        impl #impls ::core::cmp::Eq for #name #types #wheres {}
        #[automatically_derived]
        impl #impls ::core::hash::Hash for #name #types #wheres {
            fn hash<__H: ::core::hash::Hasher>(&self, state: &mut __H) {
                ::core::hash::Hash::hash(&self.__object, state);
            }
        }
        #[automatically_derived]
        impl #impls ::crucial::__private::serde::Serialize for #name #types #wheres {
            fn serialize<__S: ::crucial::__private::serde::Serializer>(
                &self,
                serializer: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                ::crucial::__private::serde::Serialize::serialize(&self.__object, serializer)
            }
        }
        #[automatically_derived]
        impl #de_impls ::crucial::__private::serde::Deserialize<'__de> for #name #types #wheres {
            fn deserialize<__D: ::crucial::__private::serde::Deserializer<'__de>>(
                deserializer: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                ::crucial::__private::serde::Deserialize::deserialize(deserializer)
                    .map(|__object| #name { __object, __of: ::core::marker::PhantomData })
            }
        }
    }
}

/// Every field's type is checked where it is written.
fn assertions(shared: &SharedStruct) -> TokenStream {
    let state = state_name(&shared.name);
    let (impls, types, wheres) = shared.generics.split_for_impl();
    let bounds = shared.generics.type_params().map(|param| &param.ident);
    let wheres = wheres.map(|wheres| wheres.predicates.iter()).into_iter().flatten();
    let checks = shared.fields.iter().filter_map(|Field { cfg, data, .. }| {
        let ty = data.as_ref()?;
        let span = syn::spanned::Spanned::span(ty);
        Some(quote_spanned!(span=> #(#cfg)* ::crucial::__private::assert_data::<#ty>();))
    });
    quote! {
        // A function of the state, in which `Self` means what it means in the fields.
        #[allow(dead_code, deprecated, clippy::all, clippy::pedantic)]
        impl #impls #state #types where #(#bounds: ::crucial::__private::Data,)* #(#wheres,)* {
            fn __fields() {
                #(#checks)*
            }
        }
    }
}

/// What the registry needs of one instance.
fn implementation(shared: &SharedStruct, instance: &Instance) -> TokenStream {
    let SharedStruct { name, key, persistent, .. } = shared;
    let Instance { path: handle, arguments, name: text } = instance;
    let state = state_name(name);
    let key = match key {
        Some(key) => quote!(::core::option::Option::Some(#key)),
        None => quote!(::core::option::Option::None),
    };
    let text = Literal::string(text);
    let fields = fields(shared);
    let submit = quote_spanned! {name.span()=>
        ::crucial::__private::inventory::submit! { ::crucial::__private::TypeInfo::of::<#handle>() }
    };
    quote! {
        #[automatically_derived]
        impl ::crucial::__private::SharedType for #handle {
            const NAME: &'static str = ::core::concat!(::core::module_path!(), "::", #text);
            const KEY: ::core::option::Option<&'static str> = #key;
            const PERSISTENT: bool = #persistent;
            const FIELDS: u64 = #fields;
            type State = #state #arguments;
            fn from_object(__object: ::crucial::__private::ObjectRef) -> Self {
                #name { __object, __of: ::core::marker::PhantomData }
            }
            fn object_ref(&self) -> &::crucial::__private::ObjectRef {
                &self.__object
            }
        }
        #submit
    }
}

/// The fingerprint of the fields that are there.
fn fields(shared: &SharedStruct) -> TokenStream {
    fingerprint(shared.fields.iter().map(|field| (field.cfg.as_slice(), field.text.clone())))
}

/// The fingerprint of all texts whose conditions hold.
pub fn fingerprint<'a>(texts: impl Iterator<Item = (&'a [syn::Attribute], String)>) -> TokenStream {
    let (conditional, fixed): (Vec<_>, Vec<_>) = texts.partition(|(cfg, _)| !cfg.is_empty());
    let fixed: Vec<_> = fixed.into_iter().map(|(_, text)| text).collect();
    let fixed = fixed.join("; ");
    let mut tokens = quote!(::crucial::__private::fingerprint(#fixed));
    for (cfg, text) in conditional {
        tokens = quote!({
            let print = #tokens;
            #(#cfg)*
            let print = ::crucial::__private::combine(print, ::crucial::__private::fingerprint(#text));
            print
        });
    }
    tokens
}
