//! Which of the user's attributes go where.

use syn::Attribute;

/// The attributes that go beyond the code that the user wrote; all of them stay with it.
#[derive(Default)]
pub struct Attrs {
    /// Docs, conditions and hints for callers: they go to what is called.
    pub face: Vec<Attribute>,
    /// The conditions alone: they go to everything that is generated.
    pub cfg: Vec<Attribute>,
}

impl Attrs {
    pub fn new(attrs: &[Attribute]) -> Self {
        let pick = |names: &[&str]| -> Vec<Attribute> {
            attrs.iter().filter(|a| names.iter().any(|name| a.path().is_ident(name))).cloned().collect()
        };
        Attrs {
            face: pick(&["doc", "cfg", "cfg_attr", "deprecated", "must_use", "allow"]),
            cfg: pick(&["cfg"]),
        }
    }
}
