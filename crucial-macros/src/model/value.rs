//! Arguments and results: what the user wrote, and how it travels.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{GenericArgument, Ident, Pat, PathArguments, Type};

/// A parameter of a method or function.
pub enum Param {
    /// Something the caller gives.
    Arg(Box<Arg>),
    /// `cx: &mut Context`, which the server gives.
    Context,
}

/// An argument.
pub struct Arg {
    /// The user's pattern.
    pub pat: Pat,
    /// What the caller's side calls it.
    pub name: Ident,
    /// The type as written.
    pub ty: Type,
    /// How it travels.
    pub kind: ArgKind,
}

/// How an argument travels, and what the body gets.
pub enum ArgKind {
    /// `T`: as itself.
    Value,
    /// `Vec<f64>` and the like: as a block.
    Block,
    /// `&str`: borrowed from the message.
    Str,
    /// `&[T]`: as a `Vec<T>` that is lent to the body.
    Slice(Type),
    /// `&[f64]`: as a block that is lent to the body.
    BlockSlice(Type),
    /// `&T`: as a `T` that is lent to the body.
    Ref(Type),
    /// `&Vec<f64>` and the like: as a block that is lent to the body.
    BlockRef(Type),
}

impl Arg {
    pub fn new(pat: Pat, ty: Type, index: usize) -> Self {
        let name = match &pat {
            Pat::Ident(pat) => pat.ident.clone(),
            _ => format_ident!("arg{index}"),
        };
        let kind = match peel(&ty) {
            Type::Reference(reference) => match peel(&reference.elem) {
                Type::Path(path) if path.qself.is_none() && path.path.is_ident("str") => ArgKind::Str,
                Type::Slice(slice) if is_number(&slice.elem) => ArgKind::BlockSlice((*slice.elem).clone()),
                Type::Slice(slice) => ArgKind::Slice((*slice.elem).clone()),
                inner if is_block(inner) => ArgKind::BlockRef(inner.clone()),
                inner => ArgKind::Ref(inner.clone()),
            },
            ty if is_block(ty) => ArgKind::Block,
            _ => ArgKind::Value,
        };
        Arg { pat, name, ty, kind }
    }

    /// The part of its type that has to be data; blocks and strings are.
    pub fn data(&self) -> Option<&Type> {
        match &self.kind {
            ArgKind::Value => Some(&self.ty),
            ArgKind::Slice(ty) | ArgKind::Ref(ty) => Some(ty),
            ArgKind::Block | ArgKind::Str | ArgKind::BlockSlice(_) | ArgKind::BlockRef(_) => None,
        }
    }

    /// The caller's value as it is encoded.
    pub fn encoded(&self) -> TokenStream {
        let name = &self.name;
        match self.kind {
            ArgKind::Block | ArgKind::BlockSlice(_) | ArgKind::BlockRef(_) => {
                quote!(::crucial::__private::Bulk(#name))
            }
            _ => quote!(#name),
        }
    }

    /// The type that is decoded.
    pub fn decoded_type(&self) -> TokenStream {
        match &self.kind {
            ArgKind::Value => self.ty.to_token_stream(),
            ArgKind::Block => {
                let ty = &self.ty;
                quote!(::crucial::__private::Bulk<#ty>)
            }
            ArgKind::Str => quote!(&str),
            ArgKind::Slice(elem) => quote!(::std::vec::Vec<#elem>),
            ArgKind::BlockSlice(elem) => quote!(::crucial::__private::Bulk<::std::vec::Vec<#elem>>),
            ArgKind::Ref(ty) => ty.to_token_stream(),
            ArgKind::BlockRef(ty) => quote!(::crucial::__private::Bulk<#ty>),
        }
    }

    /// The decoded value as the body takes it.
    pub fn lent(&self) -> TokenStream {
        let name = &self.name;
        match self.kind {
            ArgKind::Value | ArgKind::Str => quote!(#name),
            ArgKind::Block => quote!(#name.0),
            ArgKind::Slice(_) | ArgKind::Ref(_) => quote!(&#name),
            ArgKind::BlockSlice(_) | ArgKind::BlockRef(_) => quote!(&#name.0),
        }
    }
}

/// A result.
pub struct Output {
    /// The type as written; `None` stands for `()`.
    pub ty: Option<Type>,
    /// Whether it travels as a block.
    pub block: bool,
}

impl Output {
    pub fn new(output: &syn::ReturnType) -> Self {
        match output {
            syn::ReturnType::Default => Output { ty: None, block: false },
            syn::ReturnType::Type(_, ty) => Output { ty: Some((**ty).clone()), block: is_block(ty) },
        }
    }

    /// The type.
    pub fn ty(&self) -> TokenStream {
        match &self.ty {
            Some(ty) => quote!(#ty),
            None => quote!(()),
        }
    }

    /// `-> T`, or nothing.
    pub fn arrow(&self) -> TokenStream {
        self.ty.as_ref().map(|ty| quote!(-> #ty)).unwrap_or_default()
    }

    /// The part of its type that has to be data.
    pub fn data(&self) -> Option<&Type> {
        self.ty.as_ref().filter(|_| !self.block)
    }

    /// The value as it is encoded.
    pub fn encoded(&self, value: TokenStream) -> TokenStream {
        if self.block { quote!(::crucial::__private::Bulk(#value)) } else { value }
    }

    /// The function that decodes it.
    pub fn decoder(&self, what: &str) -> TokenStream {
        let ty = self.ty();
        let decode = if self.block {
            quote!(::crucial::__private::decode_block(#what, __bytes))
        } else {
            quote!(::crucial::__private::Taken::<#ty>::new().decode(#what, __bytes))
        };
        quote!(|__bytes| #decode)
    }
}

/// The type behind parentheses and the invisible groups that `macro_rules!` leaves.
pub fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        ty => ty,
    }
}

/// Whether values of this type travel as one block of bytes: `Vec<P>`, `Box<[P]>` and `[P; N]` of numbers.
pub fn is_block(ty: &Type) -> bool {
    match peel(ty) {
        Type::Array(array) => is_number(&array.elem),
        Type::Path(path) if path.qself.is_none() => {
            let Some(last) = path.path.segments.last() else { return false };
            let PathArguments::AngleBracketed(args) = &last.arguments else { return false };
            let mut args = args.args.iter();
            let (Some(GenericArgument::Type(arg)), None) = (args.next(), args.next()) else { return false };
            match peel(arg) {
                Type::Slice(slice) => last.ident == "Box" && is_number(&slice.elem),
                elem => last.ident == "Vec" && is_number(elem),
            }
        }
        _ => false,
    }
}

fn is_number(ty: &Type) -> bool {
    const NUMBERS: [&str; 14] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64",
    ];
    match peel(ty) {
        Type::Path(path) if path.qself.is_none() => NUMBERS.iter().any(|name| path.path.is_ident(name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn blocks_are_sequences_of_numbers() {
        let blocks: [Type; 6] = [
            parse_quote!(Vec<f64>),
            parse_quote!(std::vec::Vec<u8>),
            parse_quote!(Box<[i128]>),
            parse_quote!([f32; 3 * N]),
            parse_quote!((Vec<usize>)),
            parse_quote!([(u8); 2]),
        ];
        for ty in blocks {
            assert!(is_block(&ty), "{}", quote!(#ty));
        }
        let others: [Type; 8] = [
            parse_quote!(Vec<T>),
            parse_quote!(Vec<bool>),
            parse_quote!(Box<f64>),
            parse_quote!(Box<Vec<f64>>),
            parse_quote!([String; 2]),
            parse_quote!(Vec),
            parse_quote!(HashMap<u8, u8>),
            parse_quote!(<X as Y>::Vec<u8>),
        ];
        for ty in others {
            assert!(!is_block(&ty), "{}", quote!(#ty));
        }
    }
}
