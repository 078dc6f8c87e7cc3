//! `#[shared] fn`.

use proc_macro2::TokenStream;
use syn::{FnArg, ItemFn, Type, parse_quote_spanned, spanned::Spanned};

use super::{options, params};
use crate::{
    errors::Errors,
    model::{Attrs, Output, SharedFn, Target, peel},
};

pub fn parse(options: TokenStream, mut item: ItemFn, errors: &mut Errors) -> SharedFn {
    for option in options::parse(options, errors) {
        errors.unknown_option(&option.name, "#[shared]", &[]);
    }
    let attrs = std::mem::take(&mut item.attrs);
    let face = ["doc", "deprecated"];
    SharedFn {
        attrs: Attrs {
            face: attrs.iter().filter(|a| face.iter().any(|name| a.path().is_ident(name))).cloned().collect(),
            cfg: Attrs::new(&attrs).cfg,
        },
        body: attrs.into_iter().filter(|a| !face.iter().any(|name| a.path().is_ident(name))).collect(),
        target: item.sig.inputs.first().and_then(target),
        params: params::parse(item.sig.inputs.iter().skip(1), false),
        output: Output::new(&item.sig.output),
        item,
    }
}

fn target(input: &FnArg) -> Option<Target> {
    let FnArg::Typed(typed) = input else { return None };
    let Type::Reference(reference) = peel(&typed.ty) else { return None };
    // Collections own their values, which lend what such a reference is to.
    let ty = match peel(&reference.elem) {
        Type::Path(path) if path.qself.is_none() && path.path.is_ident("str") => {
            parse_quote_spanned!(path.span()=> ::std::string::String)
        }
        Type::Slice(slice) => {
            let elem = &slice.elem;
            parse_quote_spanned!(slice.span()=> ::std::vec::Vec<#elem>)
        }
        ty => ty.clone(),
    };
    Some(Target { mutability: reference.mutability, ty })
}
