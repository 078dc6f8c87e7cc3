//! Checks of the types that have to be data.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Generics, Type, spanned::Spanned};

/// How generated code writes a type that has to be data.
///
/// `<T as Data>::Checked` is `T` again, but if `T` is no data the compiler says so once, in the words of the
/// trait, and goes on with a type that fits everywhere: what serde would say about each use stays unsaid.
/// With type parameters it can't be used, as the compiler wouldn't know it to be `T` again.
pub fn checked(ty: &Type, generics: &Generics) -> TokenStream {
    if generics.params.is_empty() {
        quote_spanned!(ty.span()=> <#ty as ::crucial::__private::Data>::Checked)
    } else {
        quote!(#ty)
    }
}
