//! `#[shared] struct`.

use syn::{Attribute, Generics, Ident, ItemStruct, LitStr, Type, Visibility};

use super::Instances;

/// A shared struct.
pub struct SharedStruct {
    /// Attributes of the handle: docs and hints for callers.
    pub face: Vec<Attribute>,
    /// Attributes of the state: derives, serde's and all others.
    pub body: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    pub generics: Generics,
    /// The fields, in a struct item that has no attributes of its own.
    pub item: ItemStruct,
    pub fields: Vec<Field>,
    pub key: Option<LitStr>,
    pub persistent: bool,
    pub instances: Instances,
}

/// What has to be known of a field.
pub struct Field {
    pub cfg: Vec<Attribute>,
    /// The type that has to be data, unless the field travels in a way of its own.
    pub data: Option<Type>,
    /// What a fingerprint covers.
    pub text: String,
}
