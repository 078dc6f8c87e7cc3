//! `#[shared] impl`.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Expr, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, PathArguments, ReceiverKind, ReturnType,
    Type, Visibility, parse_quote,
};

use super::{options, params};
use crate::{
    errors::Errors,
    model::{Access, Attrs, Constructor, Method, Output, Receiver, SharedImpl, Then, mentions_arg},
};

/// `None` if it is no impl block of a struct.
pub fn parse(options: TokenStream, mut item: ItemImpl, errors: &mut Errors) -> Option<SharedImpl> {
    for option in options::parse(options, errors) {
        let message = format!(
            "`#[shared]` takes no options on an impl block: write `#[shared({})]` on the struct",
            option.name
        );
        errors.on(&option.name, message);
    }
    if let Some((path, _)) = &item.trait_ {
        errors.on(
            path,
            "`#[shared]` goes on the struct's own methods, `impl Name { .. }`: the methods of a trait can't become \
             calls. Leave the attribute out, or move the methods to the struct's own impl block",
        );
        return None;
    }
    let Type::Path(self_ty) = &*item.self_ty else {
        errors.on(&item.self_ty, "`#[shared]` goes on an impl block of a shared struct: `impl Name { .. }`");
        return None;
    };
    let mut path = self_ty.path.clone();
    let last = path.segments.last_mut()?;
    let name = last.ident.clone();
    let arguments = std::mem::replace(&mut last.arguments, PathArguments::None);

    let mut constructors = Vec::new();
    let mut functions = Vec::new();
    for inner in &mut item.items {
        let ImplItem::Fn(function) = inner else { continue };
        let when = take(&mut function.attrs, "when", errors);
        let then = take(&mut function.attrs, "then", errors);
        let lost = take(&mut function.attrs, "lost", errors);
        let condition = when.as_ref().and_then(|when| guard(when).ok());
        functions.push((function.clone(), Ours { when, then, lost }));
        if let Some(condition) = condition {
            used_by_guard(function, &condition);
        }
    }
    let targets: Vec<String> = functions
        .iter()
        .filter_map(|(_, ours)| ours.then.as_ref()?.parse_args::<Ident>().ok())
        .map(|target| target.to_string())
        .collect();
    let mut methods = Vec::new();
    for (function, ours) in functions {
        let is_private = matches!(function.vis, Visibility::Inherited);
        let is_target = targets.iter().any(|target| function.sig.ident == target);
        if is_private && ours.attributes().next().is_none() && !is_target {
            continue;
        }
        if function.sig.receiver().is_some() {
            methods.extend(method(function, ours, errors));
        } else {
            for attr in ours.attributes() {
                let name = attr.path().get_ident().map(ToString::to_string).unwrap_or_default();
                errors.on(attr, format!("`#[{name}]` goes on methods: this function has no `self`"));
            }
            constructors.extend(constructor(function, &name, errors));
        }
    }
    Some(SharedImpl {
        face: item.attrs.iter().filter(|a| a.path().is_ident("doc")).cloned().collect(),
        body: item.attrs,
        generics: item.generics,
        path,
        name,
        arguments,
        items: item.items,
        constructors,
        methods,
    })
}

/// The attributes of a method that are ours.
struct Ours {
    when: Option<Attribute>,
    then: Option<Attribute>,
    lost: Option<Attribute>,
}

impl Ours {
    fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        [&self.when, &self.then, &self.lost].into_iter().flatten()
    }
}

/// Takes `#[name(..)]` out of the attributes.
fn take(attrs: &mut Vec<Attribute>, name: &str, errors: &mut Errors) -> Option<Attribute> {
    let (mut ours, others) =
        std::mem::take(attrs).into_iter().partition::<Vec<_>, _>(|a| a.path().is_ident(name));
    *attrs = others;
    for double in ours.drain(1.min(ours.len())..) {
        let remedy = match name {
            "when" => "join the guards with `&&`",
            "lost" => "leave one out",
            _ => "a method continues in one other",
        };
        errors.on(double, format!("a method has one `#[{name}]`: {remedy}"));
    }
    ours.pop()
}

fn guard(attr: &Attribute) -> syn::Result<Expr> {
    attr.parse_args().map_err(|e| {
        syn::Error::new(e.span(), format!("{e}; a guard is a condition: `#[when(self.permits >= n)]`"))
    })
}

/// An argument that only the guard mentions is not unused.
fn used_by_guard(function: &mut ImplItemFn, guard: &Expr) {
    for input in &mut function.sig.inputs {
        if let FnArg::Typed(arg) = input
            && mentions_arg(guard, &arg.pat)
        {
            arg.attrs.push(parse_quote!(#[allow(unused_variables)]));
        }
    }
}

fn constructor(function: ImplItemFn, name: &Ident, errors: &mut Errors) -> Option<Constructor> {
    if !returns_self(&function.sig.output, name) {
        let function = &function.sig.ident;
        errors.on(
            function,
            format!(
                "a public function without `self` is a constructor, and has to return `Self`: return it, give \
                 `{function}` a `&self`, or make it private if only this block needs it"
            ),
        );
        return None;
    }
    Some(Constructor {
        params: params::parse(function.sig.inputs.iter(), true),
        attrs: Attrs::new(&function.attrs),
        vis: function.vis,
        name: function.sig.ident.clone(),
        sig: function.sig,
    })
}

fn returns_self(output: &ReturnType, name: &Ident) -> bool {
    let ReturnType::Type(_, ty) = output else { return false };
    let Type::Path(path) = &**ty else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Self" || last.ident == *name)
}

fn method(function: ImplItemFn, Ours { when, then, lost }: Ours, errors: &mut Errors) -> Option<Method> {
    let Some(FnArg::Receiver(receiver)) = function.sig.inputs.first() else { return None };
    let (access, is_sound) = match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => (Access::Read, true),
        ReceiverKind::Reference(_, _, Some(_)) => (Access::Write, true),
        _ => {
            errors.on(
                receiver,
                "a method of a shared object takes `&self` (it reads) or `&mut self` (it writes): the object stays \
                 on its server. To take a value out, use `&mut self` and `std::mem::take`",
            );
            (Access::Write, false)
        }
    };
    let when = when.and_then(|attr| errors.ok(guard(&attr)));
    let then = then.and_then(|attr| {
        let target: syn::Result<Ident> = attr.parse_args();
        let target = target.map_err(|e| {
            syn::Error::new(e.span(), "expected the name of a method of this block: `#[then(pass)]`")
        });
        Some(Then { target: errors.ok(target)?, number: None })
    });
    Some(Method {
        params: params::parse(function.sig.inputs.iter(), true),
        output: Output::new(&function.sig.output),
        receiver: Receiver { self_token: receiver.self_token, access, is_sound },
        attrs: Attrs::new(&function.attrs),
        vis: function.vis,
        name: function.sig.ident.clone(),
        sig: function.sig,
        when,
        then,
        lost,
    })
}
