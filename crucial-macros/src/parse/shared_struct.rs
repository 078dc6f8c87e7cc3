//! `#[shared(key = "..", persistent, instances(..))] struct`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Fields, ItemStruct, Meta, Path, Token, punctuated::Punctuated};

use super::{instances, options};
use crate::{
    errors::Errors,
    model::{Attrs, Field, Instances, SharedStruct, is_block},
    text::text,
};

pub fn parse(options: TokenStream, mut item: ItemStruct, errors: &mut Errors) -> SharedStruct {
    let attrs = std::mem::take(&mut item.attrs);
    let docs = attrs.iter().filter(|a| is_face(a)).cloned().collect();
    let body = attrs.into_iter().filter(|a| !is_face(a)).filter_map(|a| without_serde(a, errors)).collect();
    let fields = fields(&mut item.fields);
    let mut parsed = SharedStruct {
        face: docs,
        body,
        vis: item.vis.clone(),
        name: item.ident.clone(),
        generics: item.generics.clone(),
        item,
        fields,
        key: None,
        persistent: false,
        instances: Instances::default(),
    };
    for option in options::parse(options, errors) {
        match option.name.to_string().as_str() {
            "key" => parsed.key = option.string("key = \"model\"", errors),
            "persistent" => parsed.persistent = option.flag(errors),
            "instances" => parsed.instances = instances::parse(&option, &parsed.name, errors),
            _ => errors.unknown_option(&option.name, "#[shared]", &["key", "persistent", "instances"]),
        }
    }
    parsed
}

/// What callers should see. Everything else is about the fields, which live in the state.
fn is_face(attr: &Attribute) -> bool {
    ["doc", "deprecated", "must_use"].iter().any(|name| attr.path().is_ident(name))
}

/// A derive without serde's traits, which the state has anyway.
fn without_serde(mut attr: Attribute, errors: &mut Errors) -> Option<Attribute> {
    if !attr.path().is_ident("derive") {
        return Some(attr);
    }
    let derives = errors.ok(attr.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated))?;
    let others: Vec<_> = derives
        .into_iter()
        .filter(|path| {
            path.segments.last().is_none_or(|last| last.ident != "Serialize" && last.ident != "Deserialize")
        })
        .collect();
    if others.is_empty() {
        return None;
    }
    if let Meta::List(list) = &mut attr.meta {
        list.tokens = quote!(#(#others),*);
    }
    Some(attr)
}

fn fields(fields: &mut Fields) -> Vec<Field> {
    let mut parsed = Vec::new();
    for (index, field) in fields.iter_mut().enumerate() {
        let serde: Vec<_> = field.attrs.iter().filter(|a| a.path().is_ident("serde")).cloned().collect();
        let own_way = serde.iter().any(has_own_way);
        let block = !own_way && is_block(&field.ty);
        let name = field.ident.as_ref().map_or(index.to_string(), ToString::to_string);
        parsed.push(Field {
            cfg: Attrs::new(&field.attrs).cfg,
            data: (!own_way && !block).then(|| field.ty.clone()),
            text: format!("{}{name}: {}", text(quote!(#(#serde)*)), text(&field.ty)),
        });
        if block {
            field.attrs.push(syn::parse_quote!(#[serde(with = "::crucial::bulk")]));
        }
    }
    parsed
}

/// Whether serde is told how to treat the field.
fn has_own_way(attr: &Attribute) -> bool {
    let mut found = false;
    // Mistakes in it are serde's to report.
    let _: syn::Result<()> = attr.parse_nested_meta(|meta| {
        found |=
            ["with", "serialize_with", "deserialize_with", "skip", "skip_serializing", "skip_deserializing"]
                .iter()
                .any(|name| meta.path.is_ident(name));
        if meta.input.peek(Token![=]) {
            meta.value()?.parse::<syn::Expr>()?;
        } else if meta.input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in meta.input);
            content.parse::<TokenStream>()?;
        }
        Ok(())
    });
    found
}
