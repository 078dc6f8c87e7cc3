use std::{borrow::Borrow, collections::HashSet as Set, hash::Hash, ops::Bound};

use crucial_runtime::shared_fn::{Format, Inspect};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    cursor::Cursor,
    map::{cursor, key},
    raw_map::{__RawMapAt, Part, Placed, RawMap, kind},
    set::set,
};
use crate::typed::{Blob, done, invocation, typed};

type RawHashSet = RawMap<kind::HashSet>;
type RawHashSetAt = __RawMapAt<kind::HashSet>;

typed! {
    /// A hash set that cloud threads share. Follows [`std::collections::HashSet`].
    ///
    /// Methods take `&self` and return owned values: the set is on a server, and each method is one call. Elements are
    /// the same if they are encoded to the same bytes, as the keys of a [`HashMap`](super::HashMap) are. Unions and the
    /// like are those of std's sets, of what [`to_set`](Self::to_set) returns.
    ///
    /// ```
    /// use crucial::collections::HashSet;
    ///
    /// let seen = HashSet::from(["a".to_owned()]);
    /// assert!(!seen.insert("a".to_owned()), "it was there");
    /// assert_eq!(seen.extend(["a".to_owned(), "b".to_owned()]), 1);
    /// assert_eq!(seen.contains_many(["b", "c"]), [true, false]);
    /// assert_eq!(seen.len(), 2);
    /// ```
    pub struct HashSet<T>(RawHashSet), at NamedHashSet(RawHashSetAt);
}

set! {
    HashSet, NamedHashSet, RawHashSet, HashSet, Format::Plain, "in any order";
    element T: ; std element Eq, Hash; complexity "O(log n) on the server.";
    check |_: &Placed, _: &T| (), |_: &[Blob], _: &[T]| ();
}
