//! What sets have in common, whatever the order of their elements.

/// The methods that both kinds of sets have, as `map!` for maps.
macro_rules! set {
    (
        $name:ident, $named:ident, $raw:ident, $std:ident, $format:expr, $order:literal;
        element $t:ident: $($bound:path),*; std element $($std_bound:path),*; complexity $complexity:literal;
        check $check:expr, $check_all:expr;
    ) => {
        impl<T> $name<T> {
            #[doc = concat!("A new, empty set. Follows [`std::collections::", stringify!($std), "::new`].")]
            #[must_use]
            #[track_caller]
            pub fn new() -> Self {
                $name::over($raw::new())
            }

            #[doc = concat!("How many elements there are. Follows [`std::collections::", stringify!($std), "::len`].")]
            #[track_caller]
            pub fn len(&self) -> usize {
                self.raw.len()
            }

            #[doc = concat!("Whether there are none. Follows [`std::collections::", stringify!($std), "::is_empty`].")]
            #[track_caller]
            pub fn is_empty(&self) -> bool {
                self.raw.len() == 0
            }

            #[doc = concat!("Removes all elements. Follows [`std::collections::", stringify!($std), "::clear`].")]
            #[track_caller]
            pub fn clear(&self) {
                self.raw.clear();
            }
        }

        impl<T> Default for $name<T> {
            #[track_caller]
            fn default() -> Self {
                $name::new()
            }
        }

        impl<T> $named<T> {
            /// The set that has this key, or a new, empty one.
            #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new()`")]
            #[must_use]
            #[track_caller]
            pub fn new(self) -> $name<T> {
                self.build(|named| named.new())
            }
        }

        impl<$t: Serialize + DeserializeOwned $(+ $bound)*> $name<$t> {
            #[doc = concat!(
                "Adds an element. Returns whether it is new. Follows [`std::collections::", stringify!($std),
                "::insert`]. ", $complexity
            )]
            #[track_caller]
            pub fn insert(&self, value: T) -> bool {
                self.insert_ref(&value)
            }

            #[doc = concat!(
                "Adds an element. Returns the one that it replaces. Follows [`std::collections::", stringify!($std),
                "::replace`]."
            )]
            #[track_caller]
            pub fn replace(&self, value: T) -> Option<T> {
                // Elements that are the same have the same bytes: the one before is the one that comes.
                if self.insert_ref(&value) { None } else { Some(value) }
            }

            #[track_caller]
            fn insert_ref(&self, value: &T) -> bool {
                let placed = self.raw.insert(Blob::key($format, value), Blob::default());
                $check(&placed, value);
                placed.value.is_none()
            }

            /// Of `other`, how many elements are here, and how many are here in all.
            #[track_caller]
            fn overlap(&self, other: &Set<T>) -> (usize, usize) {
                let other: Vec<_> = other.iter().map(|value| Blob::key($format, value)).collect();
                self.raw.overlap(&other)
            }

            #[doc = concat!(
                "Whether no element is in a set of std, in one call. Follows [`std::collections::", stringify!($std),
                "::is_disjoint`]."
            )]
            #[track_caller]
            pub fn is_disjoint(&self, other: &Set<T>) -> bool {
                self.overlap(other).0 == 0
            }

            #[doc = concat!(
                "Whether all elements are in a set of std, in one call. Follows [`std::collections::", stringify!($std),
                "::is_subset`]."
            )]
            #[track_caller]
            pub fn is_subset(&self, other: &Set<T>) -> bool {
                let (both, all) = self.overlap(other);
                both == all
            }

            #[doc = concat!(
                "Whether all elements of a set of std are here, in one call. Follows [`std::collections::",
                stringify!($std), "::is_superset`]."
            )]
            #[track_caller]
            pub fn is_superset(&self, other: &Set<T>) -> bool {
                self.overlap(other).0 == other.len()
            }

            #[doc = concat!(
                "Adds several elements, in one call. Follows the `Extend` of [`std::collections::", stringify!($std), "`]. \
                 Returns how many of them are new."
            )]
            #[track_caller]
            pub fn extend(&self, values: impl IntoIterator<Item = T>) -> usize {
                let values: Vec<_> = values.into_iter().collect();
                let encoded: Vec<_> = values.iter().map(|value| Blob::key($format, value)).collect();
                $check_all(&encoded, &values);
                let lowest = (0..encoded.len()).min_by_key(|at| &encoded[*at]).map(|at| &values[at]);
                let encoded = encoded.iter().map(|value| (value.clone(), Blob::default())).collect();
                let (new, placed) = self.raw.extend(encoded);
                lowest.into_iter().for_each(|value| $check(&placed, value));
                new
            }

            #[doc = concat!(
                "Whether an element is there. Follows [`std::collections::", stringify!($std), "::contains`]. ",
                $complexity
            )]
            #[track_caller]
            pub fn contains<Q: Serialize $(+ $bound)* + ?Sized>(&self, value: &Q) -> bool
            where
                T: Borrow<Q>,
            {
                self.raw.contains(&Blob::key($format, value))
            }

            /// Whether each of several elements is there, in one call and at one moment. Not in std.
            #[track_caller]
            pub fn contains_many<'a, Q: Serialize $(+ $bound)* + ?Sized + 'a>(
                &self,
                values: impl IntoIterator<Item = &'a Q>,
            ) -> Vec<bool>
            where
                T: Borrow<Q>,
            {
                let values: Vec<_> = values.into_iter().map(|value| Blob::key($format, value)).collect();
                self.raw.contains_many(&values)
            }

            #[doc = concat!(
                "The element as it is in the set. Follows [`std::collections::", stringify!($std), "::get`]."
            )]
            #[track_caller]
            pub fn get<Q: Serialize $(+ $bound)* + ?Sized>(&self, value: &Q) -> Option<T>
            where
                T: Borrow<Q>,
            {
                let value = Blob::key($format, value);
                self.raw.contains(&value).then(|| value.to_in($format))
            }

            #[doc = concat!(
                "Removes an element. Returns whether it was there. Follows [`std::collections::", stringify!($std),
                "::remove`]."
            )]
            #[track_caller]
            pub fn remove<Q: Serialize $(+ $bound)* + ?Sized>(&self, value: &Q) -> bool
            where
                T: Borrow<Q>,
            {
                self.raw.remove(&Blob::key($format, value)).is_some()
            }

            /// Removes several elements, in one call. Returns whether each was there. Not in std.
            #[track_caller]
            pub fn remove_many<'a, Q: Serialize $(+ $bound)* + ?Sized + 'a>(
                &self,
                values: impl IntoIterator<Item = &'a Q>,
            ) -> Vec<bool>
            where
                T: Borrow<Q>,
            {
                let values: Vec<_> = values.into_iter().map(|value| Blob::key($format, value)).collect();
                self.raw.remove_many(&values).iter().map(Option::is_some).collect()
            }

            #[doc = concat!(
                "Removes an element. Returns it as it was in the set. Follows [`std::collections::", stringify!($std),
                "::take`]."
            )]
            #[track_caller]
            pub fn take<Q: Serialize $(+ $bound)* + ?Sized>(&self, value: &Q) -> Option<T>
            where
                T: Borrow<Q>,
            {
                let value = Blob::key($format, value);
                self.raw.remove(&value).map(|_| value.to_in($format))
            }

            #[doc = concat!(
                "Keeps the elements for which a shared function holds. Follows [`std::collections::", stringify!($std),
                "::retain`]."
            )]
            #[track_caller]
            pub fn retain<F: Inspect<T, Output = bool>>(&self, f: F, arg: F::Arg) {
                done(self.raw.sift(&invocation(f, &arg), Part::Key, false, false));
            }

            #[doc = concat!(
                "Removes the elements for which a shared function holds, and returns them. Follows [`std::collections::",
                stringify!($std), "::extract_if`], all at once."
            )]
            #[track_caller]
            pub fn extract_if<F: Inspect<T, Output = bool>>(&self, f: F, arg: F::Arg) -> Vec<T> {
                let removed = done(self.raw.sift(&invocation(f, &arg), Part::Key, true, true));
                removed.iter().map(|(value, _)| value.to_in($format)).collect()
            }

            #[doc = concat!(
                "All elements, ", $order, ", page by page: see [`Cursor`]. Follows [`std::collections::", stringify!($std),
                "::iter`]."
            )]
            pub fn iter(&self) -> Cursor<T>
            where
                T: 'static,
            {
                cursor(&self.raw, (Bound::Unbounded, Bound::Unbounded), key::<T>)
            }

            #[doc = concat!(
                "Removes all elements, and returns them ", $order, ". As `drain` of std's collections, all at once."
            )]
            #[track_caller]
            pub fn drain(&self) -> Vec<T> {
                self.raw.drain().iter().map(|(value, _)| value.to_in($format)).collect()
            }

            /// All elements at one moment, as a set of std.
            #[track_caller]
            pub fn to_set(&self) -> Set<T>
            where
                T: $($std_bound +)*,
            {
                self.raw.keys().iter().map(|value| value.to_in($format)).collect()
            }
        }

        impl<$t: Serialize + DeserializeOwned $(+ $bound)* + 'static> IntoIterator for &$name<$t> {
            type Item = T;
            type IntoIter = Cursor<T>;
            fn into_iter(self) -> Cursor<T> {
                self.iter()
            }
        }

        impl<$t: Serialize + DeserializeOwned $(+ $bound)*, const N: usize> From<[T; N]> for $name<$t> {
            #[track_caller]
            fn from(values: [T; N]) -> Self {
                values.into_iter().collect()
            }
        }

        impl<$t: Serialize + DeserializeOwned $(+ $bound)*> FromIterator<T> for $name<$t> {
            #[track_caller]
            fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
                let set = $name::new();
                set.extend(values);
                set
            }
        }
    };
}
pub(super) use set;
