use std::{borrow::Borrow, collections::HashMap as Map, hash::Hash};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    shared,
    typed::{Blob, typed},
};

/// A map of encoded keys and values: a server can't know every type that a program puts into maps, so it holds
/// bytes, and the handle knows the types.
#[shared]
#[doc(hidden)]
pub struct RawHashMap {
    entries: Map<Blob, Blob>,
}

#[shared]
impl RawHashMap {
    /// An empty map.
    pub fn new() -> Self {
        RawHashMap { entries: Map::new() }
    }

    /// See [`HashMap::insert`].
    pub fn insert(&mut self, key: Blob, value: Blob) -> Option<Blob> {
        self.entries.insert(key, value)
    }

    /// See [`HashMap::get`].
    pub fn get(&self, key: &Blob) -> Option<Blob> {
        self.entries.get(key).cloned()
    }

    /// See [`HashMap::get_or_insert`].
    pub fn get_or_insert(&mut self, key: Blob, value: Blob) -> Blob {
        self.entries.entry(key).or_insert(value).clone()
    }

    /// See [`HashMap::contains_key`].
    pub fn contains_key(&self, key: &Blob) -> bool {
        self.entries.contains_key(key)
    }

    /// See [`HashMap::remove`].
    pub fn remove(&mut self, key: &Blob) -> Option<Blob> {
        self.entries.remove(key)
    }

    /// See [`HashMap::len`].
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// See [`HashMap::clear`].
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// See [`HashMap::keys`].
    pub fn keys(&self) -> Vec<Blob> {
        self.entries.keys().cloned().collect()
    }

    /// See [`HashMap::values`].
    pub fn values(&self) -> Vec<Blob> {
        self.entries.values().cloned().collect()
    }

    /// See [`HashMap::to_map`].
    pub fn entries(&self) -> Vec<(Blob, Blob)> {
        self.entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// See [`HashMap::extend`].
    pub fn extend(&mut self, entries: Vec<(Blob, Blob)>) {
        self.entries.extend(entries);
    }
}

typed! {
    /// A hash map that cloud threads share. Follows [`std::collections::HashMap`].
    ///
    /// Methods take `&self` and return owned values: the map is on a server, and each method is one call. Two keys are
    /// the same if they are encoded to the same bytes, which they are if they are equal, unless a key holds an unordered
    /// collection itself.
    ///
    /// ```
    /// use crucial::collections::HashMap;
    ///
    /// let ages = HashMap::new();
    /// ages.insert("Ada".to_owned(), 36);
    /// assert_eq!(ages.get("Ada"), Some(36));
    /// assert_eq!(ages.insert("Ada".to_owned(), 37), Some(36));
    /// ```
    pub struct HashMap<K, V>(RawHashMap), at NamedHashMap(__RawHashMapAt);
}

impl<K, V> HashMap<K, V> {
    /// A new, empty map.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        HashMap::over(RawHashMap::new())
    }

    /// How many entries there are.
    #[track_caller]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there are none.
    #[track_caller]
    pub fn is_empty(&self) -> bool {
        self.raw.len() == 0
    }

    /// Removes all entries.
    #[track_caller]
    pub fn clear(&self) {
        self.raw.clear();
    }
}

impl<K, V> Default for HashMap<K, V> {
    fn default() -> Self {
        HashMap::new()
    }
}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> HashMap<K, V> {
    /// Sets the value of a key. Returns the one before.
    #[track_caller]
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        self.raw.insert(Blob::of(&key), Blob::of(&value)).map(|value| value.to())
    }

    /// The value of a key.
    #[track_caller]
    pub fn get<Q: Serialize + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.raw.get(&Blob::of(key)).map(|value| value.to())
    }

    /// The value of a key, after setting it to `value` if it had none; as `entry(key).or_insert(value)` in std, in
    /// one call.
    #[track_caller]
    pub fn get_or_insert(&self, key: K, value: V) -> V {
        self.raw.get_or_insert(Blob::of(&key), Blob::of(&value)).to()
    }

    /// Whether a key has a value.
    #[track_caller]
    pub fn contains_key<Q: Serialize + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.raw.contains_key(&Blob::of(key))
    }

    /// Removes a key. Returns its value.
    #[track_caller]
    pub fn remove<Q: Serialize + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.raw.remove(&Blob::of(key)).map(|value| value.to())
    }

    /// All keys, in any order.
    #[track_caller]
    pub fn keys(&self) -> Vec<K> {
        self.raw.keys().iter().map(Blob::to).collect()
    }

    /// All values, in any order.
    #[track_caller]
    pub fn values(&self) -> Vec<V> {
        self.raw.values().iter().map(Blob::to).collect()
    }

    /// All entries at one moment, as a map of std.
    #[track_caller]
    pub fn to_map(&self) -> Map<K, V>
    where
        K: Eq + Hash,
    {
        self.raw.entries().iter().map(|(key, value)| (key.to(), value.to())).collect()
    }

    /// Sets the values of several keys, in one call.
    #[track_caller]
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) {
        let entries = entries.into_iter().map(|(key, value)| (Blob::of(&key), Blob::of(&value)));
        self.raw.extend(entries.collect());
    }
}

impl<K, V> NamedHashMap<K, V> {
    /// The map that has this key, or a new, empty one.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new()`")]
    #[must_use]
    #[track_caller]
    pub fn new(self) -> HashMap<K, V> {
        self.build(|named| named.new())
    }
}
