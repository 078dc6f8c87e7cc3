use std::{
    borrow::Borrow,
    collections::BTreeSet as Set,
    ops::{Bound, RangeBounds},
};

use crucial_runtime::shared_fn::{Format, Inspect};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    btree_map::bounds,
    cursor::{Cursor, Limit},
    map::{cursor, key},
    raw_map::{__RawMapAt, Part, Placed, RawMap, check_all, kind},
    set::set,
};
use crate::typed::{Blob, done, invocation, typed};

type RawBTreeSet = RawMap<kind::BTreeSet>;
type RawBTreeSetAt = __RawMapAt<kind::BTreeSet>;

typed! {
    /// A set in the order of its elements that cloud threads share. Follows [`std::collections::BTreeSet`].
    ///
    /// Methods take `&self` and return owned values: the set is on a server, and each method is one call. The order is
    /// that of the keys of a [`BTreeMap`](super::BTreeMap#order).
    ///
    /// ```
    /// use crucial::collections::BTreeSet;
    ///
    /// let todo = BTreeSet::from([(2, "wash".to_owned()), (1, "cook".to_owned()), (3, "rest".to_owned())]);
    /// assert_eq!(todo.pop_first(), Some((1, "cook".to_owned())));
    /// assert_eq!(todo.last(), Some((3, "rest".to_owned())));
    /// assert_eq!(todo.range((3, String::new())..).count(), 1);
    /// ```
    pub struct BTreeSet<T>(RawBTreeSet), at NamedBTreeSet(RawBTreeSetAt);
}

set! {
    BTreeSet, NamedBTreeSet, RawBTreeSet, BTreeSet, Format::Ordered, "in their order";
    element T: Ord; std element Ord; complexity "O(log n) on the server.";
    check
        Placed::check::<T>,
        |encoded: &[Blob], values: &[T]| check_all(encoded.iter().zip(values));
}

impl<T: Serialize + DeserializeOwned + Ord> BTreeSet<T> {
    /// Moves all elements of a set of std into this one, in one call. Follows
    /// [`std::collections::BTreeSet::append`].
    #[track_caller]
    pub fn append(&self, other: &mut Set<T>) {
        self.extend(std::mem::take(other));
    }

    /// The smallest element. Follows [`std::collections::BTreeSet::first`].
    #[track_caller]
    pub fn first(&self) -> Option<T> {
        self.first_n(1).pop()
    }

    /// The largest element. Follows [`std::collections::BTreeSet::last`].
    #[track_caller]
    pub fn last(&self) -> Option<T> {
        self.last_n(1).pop()
    }

    /// The `n` smallest elements, the smallest first, or all if there are fewer; in one call. Not in std.
    #[track_caller]
    pub fn first_n(&self, n: usize) -> Vec<T> {
        self.end(n, false)
    }

    /// The `n` largest elements, the largest first, or all if there are fewer; in one call. Not in std.
    #[track_caller]
    pub fn last_n(&self, n: usize) -> Vec<T> {
        self.end(n, true)
    }

    #[track_caller]
    fn end(&self, n: usize, backwards: bool) -> Vec<T> {
        if n == 0 {
            return Vec::new();
        }
        let page = self.raw.page((Bound::Unbounded, Bound::Unbounded), backwards, Limit::of(n));
        page.elements.iter().map(|element| key(Format::Ordered, element)).collect()
    }

    /// Removes the smallest element. Follows [`std::collections::BTreeSet::pop_first`].
    #[track_caller]
    pub fn pop_first(&self) -> Option<T> {
        self.raw.pop(false).map(|element| key(Format::Ordered, &element))
    }

    /// Removes the largest element. Follows [`std::collections::BTreeSet::pop_last`].
    #[track_caller]
    pub fn pop_last(&self) -> Option<T> {
        self.raw.pop(true).map(|element| key(Format::Ordered, &element))
    }

    /// The elements in a range, in their order and page by page: see [`Cursor`]. Follows
    /// [`std::collections::BTreeSet::range`].
    ///
    /// # Panics
    /// As std's: if the range starts after its end, or if both are equal and excluded.
    #[track_caller]
    pub fn range<Q: Serialize + Ord + ?Sized, R: RangeBounds<Q>>(&self, range: R) -> Cursor<T>
    where
        T: Borrow<Q> + 'static,
    {
        cursor(&self.raw, bounds(&range, "BTreeSet"), key::<T>)
    }

    /// Removes the elements from this one on, and returns them as a set of std. Follows
    /// [`std::collections::BTreeSet::split_off`].
    #[track_caller]
    pub fn split_off<Q: Serialize + Ord + ?Sized>(&self, value: &Q) -> Set<T>
    where
        T: Borrow<Q>,
    {
        let removed = self.raw.split_off(&Blob::key(Format::Ordered, value));
        removed.iter().map(|element| key(Format::Ordered, element)).collect()
    }
}
