//! What the server holds for maps and sets.

use std::{
    any::type_name,
    cmp::Ordering,
    collections::{BTreeMap, btree_map::Entry},
    marker::PhantomData,
    ops::Bound,
};

use crucial_runtime::shared_fn::{Format, Invocation};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::cursor::{Limit, Page};
use crate::{Result, shared, typed::Blob};

/// Which collection a [`RawMap`] is: objects of the same key in different collections are different objects.
#[doc(hidden)]
pub mod kind {
    use super::{Deserialize, Format, Serialize};

    /// How a collection encodes its keys.
    pub trait Kind {
        /// See [`Format`].
        const FORMAT: Format;
    }

    macro_rules! kinds {
        ($($kind:ident $format:ident)*) => {$(
            #[doc = concat!("That of a `", stringify!($kind), "`.")]
            #[derive(Debug, Serialize, Deserialize)]
            pub struct $kind;

            impl Kind for $kind {
                const FORMAT: Format = Format::$format;
            }
        )*};
    }

    kinds! {
        HashMap Plain
        HashSet Plain
        BTreeMap Ordered
        BTreeSet Ordered
    }
}

use kind::Kind;

/// A map of encoded keys and values; a set is one without values.
///
/// The tree isn't only for ordered keys: a page of a hash table can't tell where the next one starts once the table has
/// grown, whereas the keys that come after one are the same whatever else comes and goes. And methods have to be
/// deterministic, which the order of a hash table is not.
#[shared(instances(
    RawMap<kind::HashMap>,
    RawMap<kind::HashSet>,
    RawMap<kind::BTreeMap>,
    RawMap<kind::BTreeSet>
))]
#[doc(hidden)]
pub struct RawMap<M> {
    entries: BTreeMap<Blob, Blob>,
    kind: PhantomData<M>,
}

/// What a function is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub enum Part {
    /// The key, which stays as it is.
    Key,
    /// The value.
    Value,
}

/// What an insertion gives, and where the key has come to stand.
#[derive(Debug, Default, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Placed {
    pub(super) value: Option<Blob>,
    below: Option<Blob>,
    above: Option<Blob>,
}

impl Placed {
    /// The handle knows the order of the keys' type, and the server that of their bytes: checks that both agree about
    /// the new key. If that holds for each new key, the whole map is in order.
    #[track_caller]
    pub(super) fn check<K: Ord + DeserializeOwned>(&self, key: &K) {
        if let Some(below) = &self.below {
            agree(&below.to_in::<K>(Format::Ordered), key, Ordering::Less);
        }
        if let Some(above) = &self.above {
            agree(key, &above.to_in::<K>(Format::Ordered), Ordering::Less);
        }
    }
}

/// Checks that the order of these keys is that of their bytes.
#[track_caller]
pub(super) fn check_all<'a, K: Ord + 'a>(keys: impl Iterator<Item = (&'a Blob, &'a K)>) {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|(bytes, _)| *bytes);
    for pair in keys.windows(2) {
        agree(pair[0].1, pair[1].1, pair[0].0.cmp(pair[1].0));
    }
}

#[track_caller]
fn agree<K: Ord>(a: &K, b: &K, bytes: Ordering) {
    assert!(
        a.cmp(b) == bytes,
        "the `Ord` of `{}` is not that of its fields from the first to the last, as it is derived, by which the server \
         orders keys: take such a type as key, as a tuple or a struct of its own",
        type_name::<K>()
    );
}

#[shared]
impl<M: Kind> RawMap<M> {
    /// An empty map.
    pub fn new() -> Self {
        RawMap { entries: BTreeMap::new(), kind: PhantomData }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of a key.
    pub fn get(&self, key: &Blob) -> Option<Blob> {
        self.entries.get(key).cloned()
    }

    /// The values of several keys.
    pub fn get_many(&self, keys: &[Blob]) -> Vec<Option<Blob>> {
        keys.iter().map(|key| self.entries.get(key).cloned()).collect()
    }

    /// Whether a key is there.
    pub fn contains(&self, key: &Blob) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether each of several keys is there.
    pub fn contains_many(&self, keys: &[Blob]) -> Vec<bool> {
        keys.iter().map(|key| self.entries.contains_key(key)).collect()
    }

    /// How many of several keys are there, and how many keys there are.
    pub fn overlap(&self, keys: &[Blob]) -> (usize, usize) {
        (keys.iter().filter(|key| self.entries.contains_key(key)).count(), self.entries.len())
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Blob> {
        self.entries.keys().cloned().collect()
    }

    /// All values.
    pub fn values(&self) -> Vec<Blob> {
        self.entries.values().cloned().collect()
    }

    /// All entries.
    pub fn entries(&self) -> Vec<(Blob, Blob)> {
        self.entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// The first entries between the bounds, or the last ones, the last first.
    pub fn page(
        &self,
        bounds: (Bound<Blob>, Bound<Blob>),
        backwards: bool,
        limit: Limit,
    ) -> Page<(Blob, Blob)> {
        if is_empty(&bounds) {
            return Page::default();
        }
        let range = self.entries.range(bounds).map(|(k, v)| (k.clone(), v.clone()));
        let size = |(k, v): &(Blob, Blob)| k.bytes().len() + v.bytes().len();
        if backwards { Page::of(range.rev(), limit, size) } else { Page::of(range, limit, size) }
    }

    /// Sets the value of a key. Gives the one before.
    pub fn insert(&mut self, key: Blob, value: Blob) -> Placed {
        match self.entries.entry(key) {
            Entry::Occupied(mut entry) => Placed { value: Some(entry.insert(value)), ..Placed::default() },
            Entry::Vacant(entry) => {
                let key = to_place::<M>(entry.key());
                entry.insert(value);
                self.placed(key)
            }
        }
    }

    /// Where a new key stands.
    fn placed(&self, key: Option<Blob>) -> Placed {
        let Some(key) = key else { return Placed::default() };
        let below = self.entries.range(..&key).next_back();
        let above = self.entries.range((Bound::Excluded(&key), Bound::Unbounded)).next();
        Placed {
            value: None,
            below: below.map(|(key, _)| key.clone()),
            above: above.map(|(key, _)| key.clone()),
        }
    }

    /// Sets the values of several keys. Gives those before, and the place of the lowest key.
    pub fn insert_many(&mut self, entries: Vec<(Blob, Blob)>) -> (Vec<Option<Blob>>, Placed) {
        let lowest = lowest::<M>(&entries);
        let before = entries.into_iter().map(|(key, value)| self.entries.insert(key, value)).collect();
        (before, self.placed(lowest))
    }

    /// Sets the values of several keys. Gives the number of new keys, and the place of the lowest one of all.
    pub fn extend(&mut self, entries: Vec<(Blob, Blob)>) -> (usize, Placed) {
        let lowest = lowest::<M>(&entries);
        let before = self.entries.len();
        self.entries.extend(entries);
        (self.entries.len() - before, self.placed(lowest))
    }

    /// Applies functions to the value of a key if it is there, else sets it. Gives the value.
    pub fn entry(&mut self, key: Blob, modify: &[Invocation], default: Blob) -> Result<Placed> {
        let modify = modify.iter().map(Invocation::find).collect::<Result<Vec<_>>>()?;
        match self.entries.entry(key) {
            Entry::Occupied(mut entry) => {
                let mut value = entry.get().clone();
                for f in modify {
                    f.update(value.bytes_mut())?;
                }
                entry.insert(value.clone());
                Ok(Placed { value: Some(value), ..Placed::default() })
            }
            Entry::Vacant(entry) => {
                let key = to_place::<M>(entry.key());
                entry.insert(default.clone());
                Ok(Placed { value: Some(default), ..self.placed(key) })
            }
        }
    }

    /// Applies a function to the value of a key. Gives its result.
    pub fn update(&mut self, key: &Blob, f: &Invocation) -> Result<Option<Blob>> {
        let f = f.find()?;
        let Some(value) = self.entries.get_mut(key) else { return Ok(None) };
        f.update(value.bytes_mut()).map(|result| Some(result.into()))
    }

    /// Applies a function to the value of a key, after setting it if it isn't there. Gives its result.
    pub fn update_or_insert(&mut self, key: Blob, default: Blob, f: &Invocation) -> Result<Placed> {
        let f = f.find()?;
        match self.entries.entry(key) {
            Entry::Occupied(mut entry) => {
                let result = f.update(entry.get_mut().bytes_mut())?;
                Ok(Placed { value: Some(result.into()), ..Placed::default() })
            }
            Entry::Vacant(entry) => {
                let mut value = default;
                let result = f.update(value.bytes_mut())?;
                let key = to_place::<M>(entry.key());
                entry.insert(value);
                Ok(Placed { value: Some(result.into()), ..self.placed(key) })
            }
        }
    }

    /// Applies a function to the value of a key and leaves it as it is. Gives the function's result.
    pub fn inspect(&self, key: &Blob, f: &Invocation) -> Result<Option<Blob>> {
        let f = f.find()?;
        let value = self.entries.get(key);
        value.map(|value| f.inspect(Format::Plain, value.bytes()).map(Blob::from)).transpose()
    }

    /// Sets the value of a key, or merges it into the one that is there. Gives the function's result in that case.
    pub fn merge(&mut self, key: Blob, value: Blob, f: &Invocation) -> Result<Placed> {
        let f = f.find()?;
        match self.entries.entry(key) {
            Entry::Occupied(mut entry) => {
                let result = f.with_arg(value.bytes()).update(entry.get_mut().bytes_mut())?;
                Ok(Placed { value: Some(result.into()), ..Placed::default() })
            }
            Entry::Vacant(entry) => {
                let key = to_place::<M>(entry.key());
                entry.insert(value);
                Ok(self.placed(key))
            }
        }
    }

    /// Merges several entries: all of them, or none if there is an error. Gives the place of the lowest key.
    pub fn merge_all(&mut self, entries: Vec<(Blob, Blob)>, f: &Invocation) -> Result<Placed> {
        let f = f.find()?;
        let lowest = lowest::<M>(&entries);
        let mut merged: BTreeMap<Blob, Blob> = BTreeMap::new();
        for (key, value) in entries {
            match merged.entry(key) {
                Entry::Occupied(mut entry) => {
                    f.with_arg(value.bytes()).update(entry.get_mut().bytes_mut())?;
                }
                Entry::Vacant(entry) => {
                    let value = match self.entries.get(entry.key()) {
                        Some(before) => {
                            let mut before = before.clone();
                            f.with_arg(value.bytes()).update(before.bytes_mut())?;
                            before
                        }
                        None => value,
                    };
                    entry.insert(value);
                }
            }
        }
        self.entries.extend(merged);
        Ok(self.placed(lowest))
    }

    /// Applies a function to all values: to each of them, or to none if there is an error.
    pub fn update_all(&mut self, f: &Invocation) -> Result<()> {
        let f = f.find()?;
        let updated = self.entries.values().map(|value| {
            let mut value = value.clone();
            f.update(value.bytes_mut()).map(|_| value)
        });
        let updated = updated.collect::<Result<Vec<_>>>()?;
        self.entries.values_mut().zip(updated).for_each(|(value, updated)| *value = updated);
        Ok(())
    }

    /// Removes the entries for which a function holds, or all others. Gives them if they are asked for.
    pub fn sift(
        &mut self,
        f: &Invocation,
        part: Part,
        remove_if: bool,
        give: bool,
    ) -> Result<Vec<(Blob, Blob)>> {
        let f = f.find()?;
        // What becomes of each entry, before anything changes.
        let mut verdicts = Vec::with_capacity(self.entries.len());
        for (key, value) in &self.entries {
            let mut value = value.clone();
            let holds = match part {
                Part::Key => f.holds(M::FORMAT, key.bytes())?,
                Part::Value => f.test(value.bytes_mut())?,
            };
            verdicts.push((holds == remove_if, value));
        }
        let mut removed = Vec::new();
        let mut verdicts = verdicts.into_iter();
        self.entries.retain(|key, value| {
            let Some((remove, new)) = verdicts.next() else { return true };
            if remove && give {
                removed.push((key.clone(), new));
            } else {
                *value = new;
            }
            !remove
        });
        Ok(removed)
    }

    /// Removes a key. Gives its value.
    pub fn remove(&mut self, key: &Blob) -> Option<Blob> {
        self.entries.remove(key)
    }

    /// Removes several keys. Gives their values.
    pub fn remove_many(&mut self, keys: &[Blob]) -> Vec<Option<Blob>> {
        keys.iter().map(|key| self.entries.remove(key)).collect()
    }

    /// Removes the entries from this key on. Gives them.
    pub fn split_off(&mut self, key: &Blob) -> Vec<(Blob, Blob)> {
        self.entries.split_off(key).into_iter().collect()
    }

    /// Removes the first entry, or the last one. Gives it.
    pub fn pop(&mut self, last: bool) -> Option<(Blob, Blob)> {
        if last { self.entries.pop_last() } else { self.entries.pop_first() }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Removes all entries. Gives them.
    pub fn drain(&mut self) -> Vec<(Blob, Blob)> {
        std::mem::take(&mut self.entries).into_iter().collect()
    }
}

/// A new key whose place the handle wants to know.
fn to_place<M: Kind>(key: &Blob) -> Option<Blob> {
    (M::FORMAT == Format::Ordered).then(|| key.clone())
}

/// The lowest of several keys, whose place stands for all: the handle has checked that they are in order.
fn lowest<M: Kind>(entries: &[(Blob, Blob)]) -> Option<Blob> {
    entries.iter().map(|(key, _)| key).min().and_then(to_place::<M>)
}

/// Whether there is nothing between the bounds; the tree would panic at some of these.
fn is_empty(bounds: &(Bound<Blob>, Bound<Blob>)) -> bool {
    match bounds {
        (Bound::Excluded(lower), Bound::Excluded(upper)) => lower >= upper,
        (
            Bound::Included(lower) | Bound::Excluded(lower),
            Bound::Included(upper) | Bound::Excluded(upper),
        ) => lower > upper,
        _ => false,
    }
}
