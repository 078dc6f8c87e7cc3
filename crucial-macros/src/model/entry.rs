//! `#[crucial::main]` and `#[crucial::test]`.

use syn::{Ident, ItemFn};

/// The function behind the attribute.
pub struct Entry {
    pub item: ItemFn,
    /// The modes of a test; without any it runs as the environment configures it.
    pub modes: Vec<Mode>,
}

/// How a test runs.
pub struct Mode {
    /// As the user writes it, which is also the name of the test function.
    pub name: Ident,
    /// The variant of `Mode`.
    pub variant: &'static str,
}
