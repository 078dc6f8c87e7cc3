use std::{
    borrow::Borrow,
    collections::BTreeMap as Map,
    ops::{Bound, RangeBounds},
};

use crucial_runtime::shared_fn::{Format, Inspect, Invocation, Update};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    cursor::Cursor,
    map::{cursor, entry, map},
    raw_map::{__RawMapAt, Part, Placed, RawMap, check_all, kind},
};
use crate::typed::{Blob, done, invocation, typed};

type RawBTreeMap = RawMap<kind::BTreeMap>;
type RawBTreeMapAt = __RawMapAt<kind::BTreeMap>;

typed! {
    /// A map in the order of its keys that cloud threads share. Follows [`std::collections::BTreeMap`].
    ///
    /// Methods take `&self` and return owned values: the map is on a server, and each method is one call.
    ///
    /// # Order
    ///
    /// The server doesn't know the type of the keys. It orders them by bytes, in which they are encoded so that their
    /// order is that of a derived [`Ord`]: fields from the first to the last, variants from the first to the last,
    /// sequences and strings lexicographically, numbers by value, floats as by [`f64::total_cmp`].
    ///
    /// A key whose `Ord` is written by hand, such as [`Reverse`](std::cmp::Reverse) or a path, may have another order, and
    /// can't be a key then. The map looks for that: the place of a new key is checked against its neighbours, and the
    /// places of keys that are inserted together against each other and around the lowest one; the call panics if they
    /// differ. Serde's attributes
    /// that change what a key consists of (`untagged`, `tag`, `flatten`, `skip_serializing_if`) are refused when a key is
    /// encoded or decoded.
    ///
    /// ```
    /// use crucial::collections::BTreeMap;
    ///
    /// let scores = BTreeMap::from([(250, "Ada".to_owned()), (80, "Bob".to_owned()), (120, "Cyd".to_owned())]);
    /// assert_eq!(scores.first_key_value(), Some((80, "Bob".to_owned())));
    /// let best: Vec<_> = scores.iter().page_size(2).rev().take(2).map(|(score, _)| score).collect();
    /// assert_eq!(best, [250, 120]);
    /// assert_eq!(scores.range(100..).next(), Some((120, "Cyd".to_owned())));
    /// ```
    pub struct BTreeMap<K, V>(RawBTreeMap), at NamedBTreeMap(RawBTreeMapAt);
}

map! {
    BTreeMap, NamedBTreeMap, BTreeMapEntry, RawBTreeMap, BTreeMap, Format::Ordered, "in the order of the keys";
    key K: Ord; std key Ord; complexity "O(log n) on the server.";
    check
        Placed::check::<K>,
        |encoded: &[(Blob, Blob)], entries: &[(K, V)]| {
            check_all(encoded.iter().map(|(bytes, _)| bytes).zip(entries.iter().map(|(key, _)| key)));
        };
}

impl<K: Serialize + DeserializeOwned + Ord, V: Serialize + DeserializeOwned> BTreeMap<K, V> {
    /// Moves all entries of a map of std into this one, in one call. Follows [`std::collections::BTreeMap::append`].
    #[track_caller]
    pub fn append(&self, other: &mut Map<K, V>) {
        self.extend(std::mem::take(other));
    }

    /// The entry with the smallest key. Follows [`std::collections::BTreeMap::first_key_value`].
    #[track_caller]
    pub fn first_key_value(&self) -> Option<(K, V)> {
        self.first_n(1).pop()
    }

    /// The entry with the largest key. Follows [`std::collections::BTreeMap::last_key_value`].
    #[track_caller]
    pub fn last_key_value(&self) -> Option<(K, V)> {
        self.last_n(1).pop()
    }

    /// The `n` entries with the smallest keys, the smallest first, or all if there are fewer; in one call. Not in std.
    #[track_caller]
    pub fn first_n(&self, n: usize) -> Vec<(K, V)> {
        self.end(n, false)
    }

    /// The `n` entries with the largest keys, the largest first, or all if there are fewer; in one call. Not in std.
    #[track_caller]
    pub fn last_n(&self, n: usize) -> Vec<(K, V)> {
        self.end(n, true)
    }

    #[track_caller]
    fn end(&self, n: usize, backwards: bool) -> Vec<(K, V)> {
        if n == 0 {
            return Vec::new();
        }
        let page =
            self.raw.page((Bound::Unbounded, Bound::Unbounded), backwards, super::cursor::Limit::of(n));
        page.elements.iter().map(|element| entry(Format::Ordered, element)).collect()
    }

    /// Removes the entry with the smallest key. Follows [`std::collections::BTreeMap::pop_first`].
    #[track_caller]
    pub fn pop_first(&self) -> Option<(K, V)> {
        self.raw.pop(false).map(|element| entry(Format::Ordered, &element))
    }

    /// Removes the entry with the largest key. Follows [`std::collections::BTreeMap::pop_last`].
    #[track_caller]
    pub fn pop_last(&self) -> Option<(K, V)> {
        self.raw.pop(true).map(|element| entry(Format::Ordered, &element))
    }

    /// The entries whose keys are in a range, in their order and page by page: see [`Cursor`]. Follows
    /// [`std::collections::BTreeMap::range`].
    ///
    /// # Panics
    /// As std's: if the range starts after its end, or if both are equal and excluded.
    #[track_caller]
    pub fn range<Q: Serialize + Ord + ?Sized, R: RangeBounds<Q>>(&self, range: R) -> Cursor<(K, V)>
    where
        K: Borrow<Q> + 'static,
        V: 'static,
    {
        cursor(&self.raw, bounds(&range, "BTreeMap"), entry::<K, V>)
    }

    /// Removes the entries from this key on, and returns them as a map of std. Follows
    /// [`std::collections::BTreeMap::split_off`].
    #[track_caller]
    pub fn split_off<Q: Serialize + Ord + ?Sized>(&self, key: &Q) -> Map<K, V>
    where
        K: Borrow<Q>,
    {
        let removed = self.raw.split_off(&Blob::key(Format::Ordered, key));
        removed.iter().map(|element| entry(Format::Ordered, element)).collect()
    }
}

/// The range in bytes.
#[track_caller]
pub(super) fn bounds<Q: Serialize + Ord + ?Sized>(
    range: &impl RangeBounds<Q>,
    name: &str,
) -> (Bound<Blob>, Bound<Blob>) {
    use Bound::{Excluded, Included};
    match (range.start_bound(), range.end_bound()) {
        (Excluded(start), Excluded(end)) if start == end => {
            panic!("range start and end are equal and excluded in {name}")
        }
        (Included(start) | Excluded(start), Included(end) | Excluded(end)) if start > end => {
            panic!("range start is greater than range end in {name}")
        }
        (start, end) => {
            let encode = |key| Blob::key(Format::Ordered, key);
            (start.map(encode), end.map(encode))
        }
    }
}
