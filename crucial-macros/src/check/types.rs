//! Types whose values travel.

use proc_macro2::Ident;
use syn::{
    Lifetime, PathArguments, Type, TypeImplTrait, TypeInfer, TypePath, TypeReference, TypeTraitObject,
    visit::{self, Visit},
};

use crate::errors::Errors;

/// Where a type stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Argument,
    Result,
    Field,
    /// The value that a shared function is applied to.
    Target,
}

/// Checks a type. `own_name` is what means the state in a shared impl block, beside `Self`.
/// Returns whether it is fine.
pub fn check(ty: &Type, place: Place, own_name: Option<&Ident>, errors: &mut Errors) -> bool {
    let mut checker = Checker { place, own_name, errors, fine: true };
    match ty {
        // The reference itself is fine in an argument: what it refers to is lent to the body.
        Type::Reference(reference) if place == Place::Argument => {
            if reference.mutability.is_some() {
                checker.error(
                    ty,
                    "a `&mut` argument can't travel: the call would change a copy. Take the value, and return it",
                );
            } else if let Some(lifetime) = &reference.lifetime
                && lifetime.ident != "_"
            {
                checker.error(
                    lifetime,
                    "an argument is lent to the body for the time of the call: leave the lifetime out",
                );
            }
            checker.visit_type(&reference.elem);
        }
        ty => checker.visit_type(ty),
    }
    checker.fine
}

struct Checker<'a> {
    place: Place,
    own_name: Option<&'a Ident>,
    errors: &'a mut Errors,
    fine: bool,
}

impl Checker<'_> {
    fn error(&mut self, tokens: impl quote::ToTokens, message: impl std::fmt::Display) {
        self.errors.on(tokens, message);
        self.fine = false;
    }

    fn what(&self) -> &'static str {
        match self.place {
            Place::Argument => "an argument",
            Place::Result => "a result",
            Place::Field => "a field of a shared struct",
            Place::Target => "the value that a shared function is applied to",
        }
    }
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_type_reference(&mut self, ty: &'ast TypeReference) {
        let message = match (self.place, &ty.mutability) {
            (Place::Argument, _) => {
                "a reference inside of an argument's type can't travel: a reference may only be the whole type \
                 (`&str`, `&[T]`, `&T`). Use an owned type here, like `String` or `Vec`"
            }
            (Place::Result, None) => {
                "a result can't be a reference: it travels to the caller. Return an owned value, like `String` or a \
                 clone"
            }
            (Place::Result, Some(_)) => {
                "a result can't be a `&mut`: the state stays on its server. Return a copy, or make the change in a \
                 method of its own"
            }
            (Place::Target, _) => {
                "the value that a shared function is applied to is owned by its collection: a reference can't be in it. \
                 Use an owned type here, like `String` or `Vec`"
            }
            (Place::Field, _) => {
                "a field of a shared struct can't be a reference: the state lives on its server. Use an owned type, \
                 like `String` or `Vec`"
            }
        };
        // What is inside of it would only repeat this.
        self.error(ty, message);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            let message =
                format!("{} can't borrow: its value travels. Use a type without lifetimes", self.what());
            self.error(lifetime, message);
        }
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        let message = format!(
            "{} can't be `impl Trait`: its value travels, so its type has a name. Write the type, or collect into a \
             `Vec`",
            self.what()
        );
        self.error(ty, message);
    }

    fn visit_type_trait_object(&mut self, ty: &'ast TypeTraitObject) {
        let message = format!(
            "{} can't be `dyn Trait`: its value travels, so its type is known. Write the type, or use an enum of the \
             types that it may be",
            self.what()
        );
        self.error(ty, message);
    }

    fn visit_type_infer(&mut self, ty: &'ast TypeInfer) {
        self.error(ty, format!("{} needs its whole type: replace `_`", self.what()));
    }

    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        if let Some(own_name) = self.own_name
            && ty.qself.is_none()
            && let Some(first) = ty.path.segments.first()
            && (first.ident == "Self" || (first.ident == *own_name && ty.path.segments.len() == 1))
        {
            self.error(
                ty,
                format!(
                    "inside of this block `{}` means the object's state, which stays on its server. Use a type of its \
                     own for what travels; for a handle give the type another name outside of the block, as in `type \
                     {own_name}Handle = {own_name};`",
                    first.ident
                ),
            );
            return;
        }
        visit::visit_type_path(self, ty);
    }

    // The sugar of `Fn(A) -> B` is the trait's business.
    fn visit_path_arguments(&mut self, arguments: &'ast PathArguments) {
        if !matches!(arguments, PathArguments::Parenthesized(_)) {
            visit::visit_path_arguments(self, arguments);
        }
    }
}
