//! `#[shared(key = "..", persistent)] static`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, ExprCall, Ident, ItemStatic, PathArguments, StaticMutability, Type};

use super::options;
use crate::{
    errors::Errors,
    model::{Initializer, SharedStatic},
    text::text,
};

pub fn parse(options: TokenStream, item: ItemStatic, errors: &mut Errors) -> SharedStatic {
    let mut key = None;
    let mut persistent = false;
    for option in options::parse(options, errors) {
        match option.name.to_string().as_str() {
            "key" => key = option.string("key = \"hits\"", errors),
            "persistent" => persistent = option.flag(errors),
            "instances" => errors
                .on(&option.name, "`instances` goes on a generic struct: a static is one object of one type"),
            _ => errors.unknown_option(&option.name, "#[shared]", &["key", "persistent"]),
        }
    }
    if let StaticMutability::Mut(token) = &item.mutability {
        errors.on(
            token,
            "a shared static is never `mut`: its methods change the object on the server. Remove `mut`",
        );
    }
    let initializer = initializer(&item, errors);
    SharedStatic {
        attrs: item.attrs,
        vis: item.vis,
        name: item.ident,
        ty: *item.ty,
        key,
        persistent,
        initializer,
    }
}

fn initializer(item: &ItemStatic, errors: &mut Errors) -> Option<Initializer> {
    let found = call(&item.expr).and_then(|call| {
        let Expr::Path(function) = &*call.func else { return None };
        let (before, last) = match (&function.qself, function.path.segments.len()) {
            // `<T>::constructor`
            (Some(qself), 1) if qself.as_token.is_none() => {
                let ty = &qself.ty;
                (text(ty), function.path.segments.last()?)
            }
            (None, 2..) => {
                let before = function.path.segments.iter().take(function.path.segments.len() - 1);
                (text(quote!(#(#before)::*)).replace("::<", "<"), function.path.segments.last()?)
            }
            _ => return None,
        };
        if !last.arguments.is_none() {
            return None;
        }
        let args = &call.args;
        let plain = text(&item.ty).replace("::<", "<");
        let without_arguments = text(without_arguments(&item.ty));
        let same = before == plain || before == without_arguments;
        Some(Initializer {
            constructor: last.ident.clone(),
            paren: call.paren_token,
            args: quote!(#args),
            to_check: (!same).then(|| (*item.expr).clone()),
        })
    });
    if found.is_none() {
        let ty = text(&item.ty);
        let name = last_ident(&item.ty).map_or(ty.clone(), ToString::to_string);
        errors.on(
            &item.expr,
            format!(
                "the initializer of a shared static is a constructor call of its type, which the server runs on the \
                 first use: `{name}::new(..)`"
            ),
        );
    }
    found
}

fn call(expr: &Expr) -> Option<&ExprCall> {
    match expr {
        Expr::Call(call) => Some(call),
        Expr::Group(group) => call(&group.expr),
        Expr::Paren(paren) => call(&paren.expr),
        _ => None,
    }
}

fn last_ident(ty: &Type) -> Option<&Ident> {
    let Type::Path(path) = ty else { return None };
    path.path.segments.last().map(|last| &last.ident)
}

/// The type as it is written where its arguments are inferred.
fn without_arguments(ty: &Type) -> Type {
    let mut ty = ty.clone();
    if let Type::Path(path) = &mut ty
        && let Some(last) = path.path.segments.last_mut()
    {
        last.arguments = PathArguments::None;
    }
    ty
}
