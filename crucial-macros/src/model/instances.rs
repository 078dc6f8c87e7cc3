//! `instances(Stats<u64>, Stats<f64>)`: what a generic struct or function is registered for.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Ident, PathArguments, TypePath, ext::IdentExt};

use crate::text::text;

/// The instances of something generic.
#[derive(Default)]
pub struct Instances {
    /// Whether there is a list, however many of its entries are sound.
    pub named: bool,
    pub paths: Vec<TypePath>,
}

/// One of them, or the only one of what is not generic.
pub struct Instance {
    /// As it was written, `Stats<u64>`.
    pub path: TokenStream,
    /// Its generic arguments, `<u64>`.
    pub arguments: TokenStream,
    /// The name in every program, without the module path.
    pub name: String,
}

impl Instances {
    /// Those of an item with this name; the item itself if it isn't generic.
    pub fn of(&self, name: &Ident, is_generic: bool) -> Vec<Instance> {
        let instance = |path: TokenStream, arguments: TokenStream| Instance {
            name: format!("{}{}", name.unraw(), text(&arguments).replace("::<", "<")),
            path,
            arguments,
        };
        if !is_generic {
            return vec![instance(name.to_token_stream(), TokenStream::new())];
        }
        let arguments = |path: &TypePath| match &path.path.segments.last()?.arguments {
            PathArguments::AngleBracketed(arguments) => {
                // `Stats::<u64>` is `Stats<u64>`.
                let arguments =
                    syn::AngleBracketedGenericArguments { colon2_token: None, ..arguments.clone() };
                Some(arguments.to_token_stream())
            }
            _ => None,
        };
        let paths = self.paths.iter();
        paths.filter_map(|path| Some(instance(path.to_token_stream(), arguments(path)?))).collect()
    }
}
