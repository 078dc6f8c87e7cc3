use std::{borrow::Borrow, collections::HashMap as Map, hash::Hash, ops::Bound};

use crucial_runtime::shared_fn::{Format, Inspect, Invocation, Update};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    cursor::Cursor,
    map::{cursor, entry, map},
    raw_map::{__RawMapAt, Part, Placed, RawMap, kind},
};
use crate::typed::{Blob, done, invocation, typed};

type RawHashMap = RawMap<kind::HashMap>;
type RawHashMapAt = __RawMapAt<kind::HashMap>;

typed! {
    /// A hash map that cloud threads share. Follows [`std::collections::HashMap`].
    ///
    /// Methods take `&self` and return owned values: the map is on a server, and each method is one call. Two keys are
    /// the same if they are encoded to the same bytes, which they are if they are equal, unless a key holds an unordered
    /// collection itself. On the server, the entries are in a tree by those bytes, in O(log n), so that
    /// [`iter`](Self::iter) finds its place again after changes.
    ///
    /// ```
    /// use crucial::{collections::HashMap, shared};
    ///
    /// #[shared]
    /// fn add(age: &mut u32, years: u32) {
    ///     *age += years;
    /// }
    ///
    /// let ages = HashMap::new();
    /// ages.insert("Ada".to_owned(), 36);
    /// assert_eq!(ages.get("Ada"), Some(36));
    /// assert_eq!(ages.insert("Ada".to_owned(), 37), Some(36));
    /// ages.update_with("Ada", add, 1); // on the server, and no other call comes in between
    /// assert_eq!(ages.get("Ada"), Some(38));
    /// ```
    pub struct HashMap<K, V>(RawHashMap), at NamedHashMap(RawHashMapAt);
}

map! {
    HashMap, NamedHashMap, HashMapEntry, RawHashMap, HashMap, Format::Plain, "in any order";
    key K: ; std key Eq, Hash; complexity "O(log n) on the server.";
    check |_: &Placed, _: &K| (), |_: &[(Blob, Blob)], _: &[(K, V)]| ();
}
