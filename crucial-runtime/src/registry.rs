//! What a program registers: each kind of thing by name.

use std::{collections::HashMap, sync::OnceLock};

/// A kind of thing that is registered, and looked up by name.
pub(crate) trait Named: inventory::Collect {
    /// Its name, which no other of its kind may have.
    fn name(&self) -> &'static str;
}

/// All of a kind that this program has.
pub(crate) struct Registry<T: 'static>(OnceLock<HashMap<&'static str, &'static T>>);

impl<T: Named> Registry<T> {
    pub(crate) const fn new() -> Self {
        Registry(OnceLock::new())
    }

    fn by_name(&self) -> &HashMap<&'static str, &'static T> {
        self.0.get_or_init(|| inventory::iter::<T>.into_iter().map(|entry| (entry.name(), entry)).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'static T> {
        self.by_name().get(name).copied()
    }

    /// The first entry that no look-up finds because another has its name, and that other one.
    pub(crate) fn double(&self) -> Option<(&'static T, &'static T)> {
        let with_found = |entry: &'static T| (entry, self.by_name()[entry.name()]);
        inventory::iter::<T>.into_iter().map(with_found).find(|(entry, found)| !std::ptr::eq(*entry, *found))
    }

    /// The names for an error message: all of them, sorted, or the first few and a count. The program's own come
    /// before those of the library, which every program has.
    pub(crate) fn names(&self) -> String {
        const SHOWN: usize = 24;
        let mut names: Vec<_> = self.by_name().keys().copied().collect();
        names.sort_unstable_by_key(|name| (name.starts_with("crucial::"), *name));
        match names.len() {
            0 => "none".to_owned(),
            n if n <= SHOWN => names.join(", "),
            n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        }
    }
}
