//! What `Vec` and `VecDeque` have in common.

use std::{
    marker::PhantomData,
    ops::{Bound, RangeBounds},
};

use serde::de::DeserializeOwned;

use super::{
    cursor::{Cursor, Limit, Page, Pages},
    raw_sequence::{Bounds, RawSequence, kind},
};
use crate::typed::Blob;

/// The elements between two positions, which move towards each other.
pub(super) struct SequencePages<M, T> {
    raw: RawSequence<M>,
    front: usize,
    /// Where the next page from the back ends; the end of the sequence, before there was one.
    back: Option<usize>,
    types: PhantomData<fn() -> T>,
}

macro_rules! pages {
    ($($kind:ident)*) => {$(
        impl<T: DeserializeOwned> Pages<T> for SequencePages<kind::$kind, T> {
            fn next(&mut self, limit: Limit) -> Page<T> {
                let page = self.raw.page(self.front..self.back.unwrap_or(usize::MAX), false, limit);
                self.front += page.elements.len();
                Page { elements: page.elements.iter().map(Blob::to).collect(), more: page.more }
            }

            fn next_back(&mut self, limit: Limit) -> Page<T> {
                let back = self.back.unwrap_or_else(|| self.raw.len());
                let page = self.raw.page(self.front..back, true, limit);
                self.back = Some(back.saturating_sub(page.elements.len()));
                Page { elements: page.elements.iter().map(Blob::to).collect(), more: page.more }
            }
        }
    )*};
}

pages! { Vec VecDeque }

/// A cursor over all elements.
pub(super) fn cursor<M, T: 'static>(raw: &RawSequence<M>) -> Cursor<T>
where
    SequencePages<M, T>: Pages<T> + 'static,
{
    Cursor::new(SequencePages { raw: raw.clone(), front: 0, back: None, types: PhantomData })
}

/// A range to send.
pub(super) fn bounds(range: &impl RangeBounds<usize>) -> Bounds {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

/// What std does with a sequence of this length, for what is out of its range: it panics.
///
/// Elements without a size make std's own message available, whatever the length.
#[track_caller]
pub(super) fn as_std<C: FromIterator<()>, R>(len: usize, act: impl FnOnce(&mut C) -> R) -> ! {
    act(&mut std::iter::repeat_n((), len).collect());
    unreachable!("the server found it out of range in a sequence of {len} elements")
}

/// Panics as std does for a range.
#[track_caller]
pub(super) fn range_panic(len: usize, bounds: Bounds) -> ! {
    let slice = vec![(); len];
    let _ = &slice[bounds];
    unreachable!("the server found it out of range in a sequence of {len} elements")
}

/// All of a sequence.
pub(super) const ALL: Bounds = (Bound::Unbounded, Bound::Unbounded);

/// The methods that both sequences have.
macro_rules! sequence {
    ($name:ident, $named:ident, $raw:ident, $std:literal, $units:ty) => {
        impl<T> $name<T> {
            #[doc = concat!("A new, empty one. Follows [`", $std, "::new`].")]
            #[must_use]
            #[track_caller]
            pub fn new() -> Self {
                $name::over($raw::new())
            }

            #[doc = concat!("How many elements there are. Follows [`", $std, "::len`].")]
            #[track_caller]
            pub fn len(&self) -> usize {
                self.raw.len()
            }

            #[doc = concat!("Whether there are none. Follows [`", $std, "::is_empty`].")]
            #[track_caller]
            pub fn is_empty(&self) -> bool {
                self.raw.len() == 0
            }

            #[doc = concat!("Removes all elements. Follows [`", $std, "::clear`].")]
            #[track_caller]
            pub fn clear(&self) {
                self.raw.clear();
            }

            #[doc = concat!("Keeps the first `len` elements. Follows [`", $std, "::truncate`].")]
            #[track_caller]
            pub fn truncate(&self, len: usize) {
                self.raw.truncate(len);
            }

            /// Swaps two elements. Follows [`slice::swap`].
            ///
            /// # Panics
            /// As std's, if a position is out of bounds.
            #[track_caller]
            pub fn swap(&self, a: usize, b: usize) {
                if let Err(len) = self.raw.swap(a, b) {
                    as_std(len, |items: &mut $units| items.swap(a, b))
                }
            }

            /// Removes equal elements that follow each other, but for the first. Follows [`std::vec::Vec::dedup`]; elements
            /// are equal if they are encoded to the same bytes.
            #[track_caller]
            pub fn dedup(&self) {
                self.raw.dedup();
            }

            /// Turns the order around. Follows [`slice::reverse`].
            #[track_caller]
            pub fn reverse(&self) {
                self.raw.reverse();
            }

            /// Moves the first `n` elements behind the others. Follows [`slice::rotate_left`].
            ///
            /// # Panics
            /// As std's, if there are fewer elements.
            #[track_caller]
            pub fn rotate_left(&self, n: usize) {
                if let Err(len) = self.raw.rotate(n, End::Front) {
                    as_std(len, |items: &mut $units| items.rotate_left(n))
                }
            }

            /// Moves the last `n` elements before the others. Follows [`slice::rotate_right`].
            ///
            /// # Panics
            /// As std's, if there are fewer elements.
            #[track_caller]
            pub fn rotate_right(&self, n: usize) {
                if let Err(len) = self.raw.rotate(n, End::Back) {
                    as_std(len, |items: &mut $units| items.rotate_right(n))
                }
            }
        }

        impl<T> Default for $name<T> {
            #[track_caller]
            fn default() -> Self {
                $name::new()
            }
        }

        impl<T> $named<T> {
            /// The one that has this key, or a new, empty one.
            #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new()`")]
            #[must_use]
            #[track_caller]
            pub fn new(self) -> $name<T> {
                self.build(|named| named.new())
            }
        }

        impl<T: Serialize + DeserializeOwned> $name<T> {
            /// The element at a position, or `None` if it is out of bounds. Follows [`slice::get`].
            #[track_caller]
            pub fn get(&self, index: usize) -> Option<T> {
                self.raw.get(index).map(|item| item.to())
            }

            /// The elements at several positions, in one call and at one moment. Not in std.
            #[track_caller]
            pub fn get_many(&self, indices: &[usize]) -> StdVec<Option<T>> {
                self.raw.get_many(indices).into_iter().map(|item| item.map(|item| item.to())).collect()
            }

            /// The elements in a range, in one call: as `[range].to_vec()` of a slice in std.
            ///
            /// # Panics
            /// As std's, if the range is out of bounds.
            #[track_caller]
            pub fn get_range(&self, range: impl RangeBounds<usize>) -> StdVec<T> {
                let bounds = bounds(&range);
                match self.raw.range(bounds) {
                    Ok(items) => items.iter().map(Blob::to).collect(),
                    Err(len) => range_panic(len, bounds),
                }
            }

            /// Sets the element at a position. Returns the one before: as `mem::replace(&mut v[index], value)`, and
            /// `v[index] = value`, in std.
            ///
            /// # Panics
            /// As std's indexing, if the position is out of bounds.
            #[track_caller]
            pub fn replace(&self, index: usize, value: T) -> T {
                match self.raw.replace(index, Blob::of(&value)) {
                    Ok(before) => before.to(),
                    Err(len) => as_std(len, |items: &mut $units| items[index] = ()),
                }
            }

            #[doc = concat!(
                "Adds an element at a position, before those from there on. Follows [`", $std, "::insert`].\n\n",
                "# Panics\nAs std's, if the position is behind the end."
            )]
            #[track_caller]
            pub fn insert(&self, index: usize, value: T) {
                if let Err(len) = self.raw.insert(index, Blob::of(&value)) {
                    as_std(len, |items: &mut $units| items.insert(index, ()))
                }
            }

            #[doc = concat!(
                "Adds elements behind the others, in one call. Follows the `Extend` of [`", $std, "`]."
            )]
            #[track_caller]
            pub fn extend(&self, values: impl IntoIterator<Item = T>) {
                self.raw.extend(values.into_iter().map(|value| Blob::of(&value)).collect());
            }

            #[doc = concat!(
                "Makes it `new_len` elements long: the last ones go, or copies of `value` come. Follows [`", $std,
                "::resize`].\n\n# Panics\nIf the server has no memory for it."
            )]
            #[track_caller]
            pub fn resize(&self, new_len: usize, value: T) {
                done(self.raw.resize(new_len, Blob::of(&value)));
            }

            /// Sets all elements to one value. Follows [`slice::fill`].
            #[track_caller]
            pub fn fill(&self, value: T) {
                // All of a sequence is in its bounds.
                let _ = self.raw.fill(ALL, Blob::of(&value));
            }

            #[doc = concat!(
                "Removes the elements of a range, and returns them. Follows [`", $std, "::drain`], all at once.\n\n",
                "# Panics\nAs std's, if the range is out of bounds."
            )]
            #[track_caller]
            pub fn drain(&self, range: impl RangeBounds<usize>) -> StdVec<T> {
                self.splice(range, [])
            }

            #[doc = concat!(
                "Replaces the elements of a range by others, and returns those before. Follows ",
                "[`std::vec::Vec::splice`], all at once.\n\n",
                "# Panics\nAs std's, if the range is out of bounds."
            )]
            #[track_caller]
            pub fn splice(&self, range: impl RangeBounds<usize>, with: impl IntoIterator<Item = T>) -> StdVec<T> {
                let bounds = bounds(&range);
                let with = with.into_iter().map(|value| Blob::of(&value)).collect();
                match self.raw.splice(bounds, with) {
                    Ok(items) => items.iter().map(Blob::to).collect(),
                    Err(len) => range_panic(len, bounds),
                }
            }

            /// Whether there is such an element: one that is encoded to the same bytes. Follows [`slice::contains`].
            #[track_caller]
            pub fn contains(&self, value: &T) -> bool {
                self.raw.contains(&Blob::of(value))
            }

            /// The first position of an element for which a shared function holds. As `iter().position(f)` in std, on the
            /// server.
            #[track_caller]
            pub fn position<F: Inspect<T, Output = bool>>(&self, f: F, arg: F::Arg) -> Option<usize> {
                done(self.raw.position(&invocation(f, &arg)))
            }

            /// Changes the element at a position on the server with a shared function, which no other call comes in between.
            /// Returns the function's result, or `None` if the position is out of bounds. As a change through std's
            /// `get_mut`; see [`shared`](macro@crate::shared).
            ///
            /// # Panics
            /// If the function panics, which poisons the collection; and as all calls do.
            #[track_caller]
            pub fn update_with<F: Update<T>>(&self, index: usize, f: F, arg: F::Arg) -> Option<F::Output> {
                done(self.raw.update(index, &invocation(f, &arg))).map(|result| result.to())
            }

            /// Looks at the element at a position on the server with a shared function, so that it need not travel. Returns
            /// the function's result, or `None` if the position is out of bounds. Not in std.
            #[track_caller]
            pub fn inspect_with<F: Inspect<T>>(&self, index: usize, f: F, arg: F::Arg) -> Option<F::Output> {
                done(self.raw.inspect(index, &invocation(f, &arg))).map(|result| result.to())
            }

            /// Changes all elements on the server with a shared function. As a loop over std's `iter_mut`, in one call.
            #[track_caller]
            pub fn update_all<F: Update<T>>(&self, f: F, arg: F::Arg) {
                done(self.raw.update_all(&invocation(f, &arg)));
            }

            #[doc = concat!(
                "Keeps the elements for which a shared function holds, in their order. The function may change them. ",
                "Follows [`", $std, "::retain_mut`] and [`", $std, "::retain`]."
            )]
            #[track_caller]
            pub fn retain<F: Update<T, Output = bool>>(&self, f: F, arg: F::Arg) {
                // All of a sequence is in its bounds.
                let _ = done(self.raw.sift(ALL, &invocation(f, &arg), false));
            }

            #[doc = concat!(
                "Removes the elements of a range for which a shared function holds, and returns them. Follows ",
                "[`std::vec::Vec::extract_if`], all at once.\n\n",
                "# Panics\nAs std's, if the range is out of bounds."
            )]
            #[track_caller]
            pub fn extract_if<F: Update<T, Output = bool>>(
                &self,
                range: impl RangeBounds<usize>,
                f: F,
                arg: F::Arg,
            ) -> StdVec<T> {
                let bounds = bounds(&range);
                match done(self.raw.sift(bounds, &invocation(f, &arg), true)) {
                    Ok(items) => items.iter().map(Blob::to).collect(),
                    Err(len) => range_panic(len, bounds),
                }
            }

            /// All elements in their order, page by page: see [`Cursor`]. Follows [`slice::iter`].
            pub fn iter(&self) -> Cursor<T>
            where
                T: 'static,
            {
                cursor(&self.raw)
            }

            /// All elements at one moment, in one call. Follows [`slice::to_vec`].
            #[track_caller]
            pub fn to_vec(&self) -> StdVec<T> {
                self.get_range(..)
            }
        }

        impl<T: Serialize + DeserializeOwned + 'static> IntoIterator for &$name<T> {
            type Item = T;
            type IntoIter = Cursor<T>;
            fn into_iter(self) -> Cursor<T> {
                self.iter()
            }
        }

        impl<T: Serialize + DeserializeOwned> FromIterator<T> for $name<T> {
            #[track_caller]
            fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
                let sequence = $name::new();
                sequence.extend(values);
                sequence
            }
        }

        impl<T: Serialize + DeserializeOwned, const N: usize> From<[T; N]> for $name<T> {
            #[track_caller]
            fn from(values: [T; N]) -> Self {
                values.into_iter().collect()
            }
        }

        impl<T: Serialize + DeserializeOwned> From<StdVec<T>> for $name<T> {
            #[track_caller]
            fn from(values: StdVec<T>) -> Self {
                values.into_iter().collect()
            }
        }
    };
}
pub(super) use sequence;
