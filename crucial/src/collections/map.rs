//! What maps have in common, whatever the order of their keys.

use std::{marker::PhantomData, ops::Bound};

use crucial_runtime::shared_fn::Format;
use serde::de::DeserializeOwned;

use super::{
    cursor::{Cursor, Limit, Page, Pages},
    raw_map::{RawMap, kind::Kind},
};
use crate::{Shared, typed::Blob};

/// The entries of a map between two bounds, which move towards each other.
pub(super) struct MapPages<M, T> {
    raw: RawMap<M>,
    bounds: (Bound<Blob>, Bound<Blob>),
    /// Makes the element; the format is that of the keys.
    decode: fn(Format, &(Blob, Blob)) -> T,
    types: PhantomData<fn() -> T>,
}

impl<M: Kind, T> MapPages<M, T> {
    fn decode(&self, page: Page<(Blob, Blob)>) -> Page<T> {
        let elements = page.elements.iter().map(|entry| (self.decode)(M::FORMAT, entry)).collect();
        Page { elements, more: page.more }
    }
}

macro_rules! pages {
    ($($kind:ident)*) => {$(
        impl<T> Pages<T> for MapPages<super::raw_map::kind::$kind, T> {
            fn next(&mut self, limit: Limit) -> Page<T> {
                let page = self.raw.page(self.bounds.clone(), false, limit);
                if let Some((key, _)) = page.elements.last() {
                    self.bounds.0 = Bound::Excluded(key.clone());
                }
                self.decode(page)
            }

            fn next_back(&mut self, limit: Limit) -> Page<T> {
                let page = self.raw.page(self.bounds.clone(), true, limit);
                if let Some((key, _)) = page.elements.last() {
                    self.bounds.1 = Bound::Excluded(key.clone());
                }
                self.decode(page)
            }
        }
    )*};
}

pages! { HashMap HashSet BTreeMap BTreeSet }

/// A cursor over the entries between the bounds.
pub(super) fn cursor<M: Kind, T: 'static>(
    raw: &RawMap<M>,
    bounds: (Bound<Blob>, Bound<Blob>),
    decode: fn(Format, &(Blob, Blob)) -> T,
) -> Cursor<T>
where
    RawMap<M>: Shared,
    MapPages<M, T>: Pages<T> + 'static,
{
    Cursor::new(MapPages { raw: raw.clone(), bounds, decode, types: PhantomData })
}

pub(super) fn entry<K: DeserializeOwned, V: DeserializeOwned>(
    format: Format,
    (key, value): &(Blob, Blob),
) -> (K, V) {
    (key.to_in(format), value.to())
}

pub(super) fn key<K: DeserializeOwned>(format: Format, (key, _): &(Blob, Blob)) -> K {
    key.to_in(format)
}

/// The methods that both kinds of maps have: `$FORMAT` is that of the keys, and `$check` looks at where the server put
/// a new one. `$order` says in which order entries come.
macro_rules! map {
    (
        $name:ident, $named:ident, $entry:ident, $raw:ident, $std:ident, $format:expr, $order:literal;
        key $k:ident: $($bound:path),*; std key $($std_bound:path),*; complexity $complexity:literal;
        check $check:expr, $check_all:expr;
    ) => {
        impl<K, V> $name<K, V> {
            #[doc = concat!("A new, empty map. Follows [`std::collections::", stringify!($std), "::new`].")]
            #[must_use]
            #[track_caller]
            pub fn new() -> Self {
                $name::over($raw::new())
            }

            #[doc = concat!("How many entries there are. Follows [`std::collections::", stringify!($std), "::len`].")]
            #[track_caller]
            pub fn len(&self) -> usize {
                self.raw.len()
            }

            #[doc = concat!("Whether there are none. Follows [`std::collections::", stringify!($std), "::is_empty`].")]
            #[track_caller]
            pub fn is_empty(&self) -> bool {
                self.raw.len() == 0
            }

            #[doc = concat!("Removes all entries. Follows [`std::collections::", stringify!($std), "::clear`].")]
            #[track_caller]
            pub fn clear(&self) {
                self.raw.clear();
            }
        }

        impl<K, V> Default for $name<K, V> {
            #[track_caller]
            fn default() -> Self {
                $name::new()
            }
        }

        impl<K, V> $named<K, V> {
            /// The map that has this key, or a new, empty one.
            #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new()`")]
            #[must_use]
            #[track_caller]
            pub fn new(self) -> $name<K, V> {
                self.build(|named| named.new())
            }
        }

        impl<$k: Serialize + DeserializeOwned $(+ $bound)*, V: Serialize + DeserializeOwned> $name<$k, V> {
            #[doc = concat!(
                "Sets the value of a key. Returns the one before. Follows [`std::collections::", stringify!($std),
                "::insert`]. ", $complexity
            )]
            #[track_caller]
            pub fn insert(&self, key: K, value: V) -> Option<V> {
                let placed = self.raw.insert(Blob::key($format, &key), Blob::of(&value));
                $check(&placed, &key);
                placed.value.map(|value| value.to())
            }

            #[doc = concat!(
                "Sets the values of several keys, in one call. Returns those before, in the order of `entries`; a key that \
                 is there twice has its first value before its second. Not in std.",
            )]
            #[track_caller]
            pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Vec<Option<V>> {
                let (encoded, lowest) = Self::encode(entries);
                let (before, placed) = self.raw.insert_many(encoded);
                lowest.iter().for_each(|key| $check(&placed, key));
                before.into_iter().map(|value| value.map(|value| value.to())).collect()
            }

            #[doc = concat!(
                "Sets the values of several keys, in one call. Follows the `Extend` of [`std::collections::",
                stringify!($std), "`]."
            )]
            #[track_caller]
            pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) {
                let (encoded, lowest) = Self::encode(entries);
                let (_, placed) = self.raw.extend(encoded);
                lowest.iter().for_each(|key| $check(&placed, key));
            }

            /// The encoded entries, and the lowest key.
            #[track_caller]
            fn encode(entries: impl IntoIterator<Item = (K, V)>) -> (Vec<(Blob, Blob)>, Option<K>) {
                let mut entries: Vec<_> = entries.into_iter().collect();
                let encoded: Vec<_> =
                    entries.iter().map(|(key, value)| (Blob::key($format, key), Blob::of(value))).collect();
                $check_all(&encoded, &entries);
                let lowest = (0..encoded.len()).min_by_key(|at| &encoded[*at].0);
                let lowest = lowest.map(|at| entries.swap_remove(at).0);
                (encoded, lowest)
            }

            #[doc = concat!(
                "The value of a key. Follows [`std::collections::", stringify!($std), "::get`]. ", $complexity
            )]
            #[track_caller]
            pub fn get<Q: Serialize $(+ $bound)* + ?Sized>(&self, key: &Q) -> Option<V>
            where
                K: Borrow<Q>,
            {
                self.raw.get(&Blob::key($format, key)).map(|value| value.to())
            }

            #[doc = concat!(
                "The key as it is in the map, and its value. Follows [`std::collections::", stringify!($std),
                "::get_key_value`]."
            )]
            #[track_caller]
            pub fn get_key_value<Q: Serialize $(+ $bound)* + ?Sized>(&self, key: &Q) -> Option<(K, V)>
            where
                K: Borrow<Q>,
            {
                let key = Blob::key($format, key);
                self.raw.get(&key).map(|value| (key.to_in($format), value.to()))
            }

            /// The values of several keys, in one call and at one moment. Not in std.
            #[track_caller]
            pub fn get_many<'a, Q: Serialize $(+ $bound)* + ?Sized + 'a>(
                &self,
                keys: impl IntoIterator<Item = &'a Q>,
            ) -> Vec<Option<V>>
            where
                K: Borrow<Q>,
            {
                let keys: Vec<_> = keys.into_iter().map(|key| Blob::key($format, key)).collect();
                self.raw.get_many(&keys).into_iter().map(|value| value.map(|value| value.to())).collect()
            }

            #[doc = concat!(
                "Whether a key has a value. Follows [`std::collections::", stringify!($std), "::contains_key`]."
            )]
            #[track_caller]
            pub fn contains_key<Q: Serialize $(+ $bound)* + ?Sized>(&self, key: &Q) -> bool
            where
                K: Borrow<Q>,
            {
                self.raw.contains(&Blob::key($format, key))
            }

            #[doc = concat!(
                "Removes a key. Returns its value. Follows [`std::collections::", stringify!($std), "::remove`]."
            )]
            #[track_caller]
            pub fn remove<Q: Serialize $(+ $bound)* + ?Sized>(&self, key: &Q) -> Option<V>
            where
                K: Borrow<Q>,
            {
                self.raw.remove(&Blob::key($format, key)).map(|value| value.to())
            }

            #[doc = concat!(
                "Removes a key. Returns it, as it was in the map, and its value. Follows [`std::collections::",
                stringify!($std), "::remove_entry`]."
            )]
            #[track_caller]
            pub fn remove_entry<Q: Serialize $(+ $bound)* + ?Sized>(&self, key: &Q) -> Option<(K, V)>
            where
                K: Borrow<Q>,
            {
                let key = Blob::key($format, key);
                self.raw.remove(&key).map(|value| (key.to_in($format), value.to()))
            }

            /// Removes several keys, in one call. Returns their values. Not in std.
            #[track_caller]
            pub fn remove_many<'a, Q: Serialize $(+ $bound)* + ?Sized + 'a>(
                &self,
                keys: impl IntoIterator<Item = &'a Q>,
            ) -> Vec<Option<V>>
            where
                K: Borrow<Q>,
            {
                let keys: Vec<_> = keys.into_iter().map(|key| Blob::key($format, key)).collect();
                self.raw.remove_many(&keys).into_iter().map(|value| value.map(|value| value.to())).collect()
            }

            /// The value of a key, after setting it to `value` if it had none; as `entry(key).or_insert(value)`.
            #[track_caller]
            pub fn get_or_insert(&self, key: K, value: V) -> V {
                self.entry(key).or_insert(value)
            }

            #[doc = concat!(
                "The place of a key in the map, for what is done to it in one call. Follows [`std::collections::",
                stringify!($std), "::entry`]: nothing happens before the call at the end of the chain.\n\n```\n",
                "use crucial::{collections::", stringify!($name), ", shared};\n\n",
                "#[shared]\nfn add(count: &mut u32, n: u32) {\n    *count += n;\n}\n\n",
                "let counts = ", stringify!($name), "::new();\n",
                "for word in [\"to\", \"be\", \"or\", \"not\", \"to\", \"be\"] {\n",
                "    counts.entry(word.to_owned()).and_modify(add, 1).or_insert(1);\n}\n",
                "assert_eq!(counts.get(\"be\"), Some(2));\n```"
            )]
            pub fn entry(&self, key: K) -> $entry<K, V> {
                $entry { map: self.clone(), key, modify: Vec::new() }
            }

            /// Changes the value of a key on the server with a shared function, which no other call comes in between. Returns
            /// the function's result, or `None` if the key has no value. As a change through std's `get_mut`; see
            /// [`shared`](macro@crate::shared).
            ///
            /// # Panics
            /// If the function panics, which poisons the map; and as all calls do.
            #[track_caller]
            pub fn update_with<Q: Serialize $(+ $bound)* + ?Sized, F: Update<V>>(
                &self,
                key: &Q,
                f: F,
                arg: F::Arg,
            ) -> Option<F::Output>
            where
                K: Borrow<Q>,
            {
                let f = invocation(f, &arg);
                done(self.raw.update(&Blob::key($format, key), &f)).map(|result| result.to())
            }

            /// As [`update_with`](Self::update_with), after setting the value to `default` if the key has none: as a change
            /// through `entry(key).or_insert(default)` in std.
            #[track_caller]
            pub fn update_or_insert<F: Update<V>>(&self, key: K, default: V, f: F, arg: F::Arg) -> F::Output {
                let f = invocation(f, &arg);
                let placed = done(self.raw.update_or_insert(Blob::key($format, &key), Blob::of(&default), &f));
                $check(&placed, &key);
                placed.value.expect("the function's result is there, since the value was").to()
            }

            /// Looks at the value of a key on the server with a shared function, so that it need not travel. Returns the
            /// function's result, or `None` if the key has no value. Not in std.
            #[track_caller]
            pub fn inspect_with<Q: Serialize $(+ $bound)* + ?Sized, F: Inspect<V>>(
                &self,
                key: &Q,
                f: F,
                arg: F::Arg,
            ) -> Option<F::Output>
            where
                K: Borrow<Q>,
            {
                let f = invocation(f, &arg);
                done(self.raw.inspect(&Blob::key($format, key), &f)).map(|result| result.to())
            }

            /// Sets the value of a key, or merges it into the one that is there with `f(&mut old, value)`, in one call.
            /// Returns the function's result, or `None` if there was nothing to merge with. As
            /// `entry(key).and_modify(|old| f(old, value)).or_insert(value)` in std.
            #[track_caller]
            pub fn merge<F: Update<V, Arg = V>>(&self, key: K, value: V, f: F) -> Option<F::Output> {
                let f = Invocation::without_arg(f);
                let placed = done(self.raw.merge(Blob::key($format, &key), Blob::of(&value), &f));
                $check(&placed, &key);
                placed.value.map(|result| result.to())
            }

            /// [`merge`](Self::merge)s several entries, one after the other, in one call.
            #[track_caller]
            pub fn merge_all<F: Update<V, Arg = V>>(&self, entries: impl IntoIterator<Item = (K, V)>, f: F) {
                let (encoded, lowest) = Self::encode(entries);
                let placed = done(self.raw.merge_all(encoded, &Invocation::without_arg(f)));
                lowest.iter().for_each(|key| $check(&placed, key));
            }

            /// Changes all values on the server with a shared function. As a loop over std's `values_mut`, in one call.
            #[track_caller]
            pub fn update_all<F: Update<V>>(&self, f: F, arg: F::Arg) {
                done(self.raw.update_all(&invocation(f, &arg)));
            }

            #[doc = concat!(
                "Keeps the entries for whose values a shared function holds. Follows [`std::collections::",
                stringify!($std), "::retain`], whose function sees the key, too: see ",
                "[`retain_keys`](Self::retain_keys). Like std's, the function may change the values."
            )]
            #[track_caller]
            pub fn retain<F: Update<V, Output = bool>>(&self, f: F, arg: F::Arg) {
                done(self.raw.sift(&invocation(f, &arg), Part::Value, false, false));
            }

            /// Keeps the entries for whose keys a shared function holds. Not in std, where `retain` sees the key.
            #[track_caller]
            pub fn retain_keys<F: Inspect<K, Output = bool>>(&self, f: F, arg: F::Arg) {
                done(self.raw.sift(&invocation(f, &arg), Part::Key, false, false));
            }

            #[doc = concat!(
                "Removes the entries for whose values a shared function holds, and returns them. Follows ",
                "[`std::collections::", stringify!($std), "::extract_if`], all at once."
            )]
            #[track_caller]
            pub fn extract_if<F: Update<V, Output = bool>>(&self, f: F, arg: F::Arg) -> Vec<(K, V)> {
                let removed = done(self.raw.sift(&invocation(f, &arg), Part::Value, true, true));
                removed.iter().map(|(key, value)| (key.to_in($format), value.to())).collect()
            }

            #[doc = concat!(
                "All keys at one moment, ", $order, ". Follows [`std::collections::", stringify!($std), "::keys`]."
            )]
            #[track_caller]
            pub fn keys(&self) -> Vec<K> {
                self.raw.keys().iter().map(|key| key.to_in($format)).collect()
            }

            #[doc = concat!(
                "All values at one moment, ", $order, " of their keys. Follows [`std::collections::", stringify!($std),
                "::values`]."
            )]
            #[track_caller]
            pub fn values(&self) -> Vec<V> {
                self.raw.values().iter().map(Blob::to).collect()
            }

            #[doc = concat!(
                "All entries, ", $order, ", page by page: see [`Cursor`]. Follows [`std::collections::", stringify!($std),
                "::iter`]."
            )]
            pub fn iter(&self) -> Cursor<(K, V)>
            where
                K: 'static,
                V: 'static,
            {
                cursor(&self.raw, (Bound::Unbounded, Bound::Unbounded), entry::<K, V>)
            }

            #[doc = concat!(
                "Removes all entries, and returns them ", $order, ". ",
                "As `drain` of std's collections, all at once."
            )]
            #[track_caller]
            pub fn drain(&self) -> Vec<(K, V)> {
                self.raw.drain().iter().map(|(key, value)| (key.to_in($format), value.to())).collect()
            }

            /// All entries at one moment, as a map of std.
            #[track_caller]
            pub fn to_map(&self) -> Map<K, V>
            where
                K: $($std_bound +)*,
            {
                self.raw.entries().iter().map(|(key, value)| (key.to_in($format), value.to())).collect()
            }
        }

        impl<
            $k: Serialize + DeserializeOwned $(+ $bound)* + 'static,
            V: Serialize + DeserializeOwned + 'static,
        > IntoIterator for &$name<$k, V> {
            type Item = (K, V);
            type IntoIter = Cursor<(K, V)>;
            fn into_iter(self) -> Cursor<(K, V)> {
                self.iter()
            }
        }

        impl<
            $k: Serialize + DeserializeOwned $(+ $bound)*,
            V: Serialize + DeserializeOwned,
            const N: usize,
        > From<[(K, V); N]> for $name<$k, V> {
            #[track_caller]
            fn from(entries: [(K, V); N]) -> Self {
                entries.into_iter().collect()
            }
        }

        impl<$k: Serialize + DeserializeOwned $(+ $bound)*, V: Serialize + DeserializeOwned> FromIterator<(K, V)>
            for $name<$k, V>
        {
            #[track_caller]
            fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
                let map = $name::new();
                map.extend(entries);
                map
            }
        }

        #[doc = concat!(
            "The place of a key in a [`", stringify!($name), "`]: see [`", stringify!($name), "::entry`]. Nothing is sent \
             before the last call of the chain, which is one round trip."
        )]
        #[must_use = "nothing happens before the end of the chain: `or_insert`"]
        pub struct $entry<K, V> {
            map: $name<K, V>,
            key: K,
            modify: Vec<Invocation>,
        }

        impl<K: std::fmt::Debug, V> std::fmt::Debug for $entry<K, V> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($entry)).field("map", &self.map).field("key", &self.key).finish_non_exhaustive()
            }
        }

        impl<$k: Serialize + DeserializeOwned $(+ $bound)*, V: Serialize + DeserializeOwned> $entry<$k, V> {
            /// The key.
            pub fn key(&self) -> &K {
                &self.key
            }

            /// Changes the value with a shared function if the key has one.
            #[track_caller]
            pub fn and_modify<F: Update<V>>(mut self, f: F, arg: F::Arg) -> Self {
                self.modify.push(invocation(f, &arg));
                self
            }

            /// Makes the call: sets the value to `default` if the key has none. Returns the value.
            #[track_caller]
            pub fn or_insert(self, default: V) -> V {
                let key = Blob::key($format, &self.key);
                let placed = done(self.map.raw.entry(key, &self.modify, Blob::of(&default)));
                $check(&placed, &self.key);
                placed.value.expect("the key has a value now").to()
            }

            /// Makes the call: sets the value to that of `default` if the key has none. Returns the value. Unlike std's,
            /// this calls the closure always, here and before the call.
            #[track_caller]
            pub fn or_insert_with(self, default: impl FnOnce() -> V) -> V {
                self.or_insert(default())
            }

            /// As [`or_insert_with`](Self::or_insert_with), with a closure that sees the key.
            #[track_caller]
            pub fn or_insert_with_key(self, default: impl FnOnce(&K) -> V) -> V {
                let value = default(&self.key);
                self.or_insert(value)
            }

            /// Makes the call: sets the value to `V::default()` if the key has none. Returns the value.
            #[track_caller]
            pub fn or_default(self) -> V
            where
                V: Default,
            {
                self.or_insert(V::default())
            }
        }
    };
}
pub(super) use map;
