use std::{ops::RangeBounds, vec::Vec as StdVec};

use crucial_runtime::shared_fn::{Inspect, Update};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    cursor::Cursor,
    raw_sequence::{__RawSequenceAt, End, RawSequence, kind},
    sequence::{ALL, as_std, bounds, cursor, range_panic, sequence},
};
use crate::typed::{Blob, done, invocation, typed};

type RawVec = RawSequence<kind::Vec>;
type RawVecAt = __RawSequenceAt<kind::Vec>;

typed! {
    /// A vector that cloud threads share. Follows [`std::vec::Vec`].
    ///
    /// Methods take `&self` and return owned values: the vector is on a server, and each method is one call. A position
    /// that is out of bounds panics where std's vector would, in its words, and leaves the vector as it is. For numbers
    /// there is [`Array`](super::Array), which moves and computes at the speed of memory.
    ///
    /// ```
    /// use crucial::{collections::Vec, shared};
    ///
    /// #[shared]
    /// fn shout(word: &mut String) {
    ///     word.push('!');
    /// }
    ///
    /// let words = Vec::from(["to".to_owned(), "be".to_owned()]);
    /// words.push("or".to_owned());
    /// words.update_with(1, shout, ());
    /// assert_eq!(words.get(1).as_deref(), Some("be!"));
    /// assert_eq!(words.drain(1..), ["be!", "or"]);
    /// assert_eq!(words.len(), 1);
    /// ```
    pub struct Vec<T>(RawVec), at NamedVec(RawVecAt);
}

sequence! { Vec, NamedVec, RawVec, "std::vec::Vec", StdVec<()> }

impl<T: Serialize + DeserializeOwned> Vec<T> {
    /// Adds an element behind the others. Follows [`std::vec::Vec::push`].
    #[track_caller]
    pub fn push(&self, value: T) {
        self.raw.extend(vec![Blob::of(&value)]);
    }

    /// Removes the last element. Follows [`std::vec::Vec::pop`].
    #[track_caller]
    pub fn pop(&self) -> Option<T> {
        self.raw.pop(End::Back).map(|item| item.to())
    }

    /// Removes up to `n` elements at the end, in one call. Returns them, the last first. Not in std.
    #[track_caller]
    pub fn pop_many(&self, n: usize) -> StdVec<T> {
        self.raw.pop_many(End::Back, n).iter().map(Blob::to).collect()
    }

    /// Removes the last element if a shared function holds for it. The function may change it. Follows
    /// [`std::vec::Vec::pop_if`].
    #[track_caller]
    pub fn pop_if<F: Update<T, Output = bool>>(&self, f: F, arg: F::Arg) -> Option<T> {
        done(self.raw.pop_if(End::Back, &invocation(f, &arg))).map(|item| item.to())
    }

    /// The first element. Follows [`slice::first`].
    #[track_caller]
    pub fn first(&self) -> Option<T> {
        self.raw.peek(End::Front).map(|item| item.to())
    }

    /// The last element. Follows [`slice::last`].
    #[track_caller]
    pub fn last(&self) -> Option<T> {
        self.raw.peek(End::Back).map(|item| item.to())
    }

    /// Removes an element; those behind it move up. Follows [`std::vec::Vec::remove`].
    ///
    /// # Panics
    /// As std's, if the position is out of bounds.
    #[track_caller]
    pub fn remove(&self, index: usize) -> T {
        match self.raw.remove(index) {
            Ok(item) => item.to(),
            Err(len) => as_std(len, |items: &mut StdVec<()>| items.remove(index)),
        }
    }

    /// Removes an element; the last one takes its place. Follows [`std::vec::Vec::swap_remove`].
    ///
    /// # Panics
    /// As std's, if the position is out of bounds.
    #[track_caller]
    pub fn swap_remove(&self, index: usize) -> T {
        match self.raw.swap_remove(index, End::Back) {
            Ok(item) => item.to(),
            Err(len) => as_std(len, |items: &mut StdVec<()>| items.swap_remove(index)),
        }
    }

    /// Removes the elements from a position on, and returns them as a vector of std. Follows
    /// [`std::vec::Vec::split_off`].
    ///
    /// # Panics
    /// As std's, if the position is behind the end.
    #[track_caller]
    pub fn split_off(&self, at: usize) -> StdVec<T> {
        match self.raw.splice(bounds(&(at..)), StdVec::new()) {
            Ok(items) => items.iter().map(Blob::to).collect(),
            Err(len) => as_std(len, |items: &mut StdVec<()>| items.split_off(at)),
        }
    }

    /// Moves all elements of a vector of std behind the others, in one call. Follows [`std::vec::Vec::append`].
    #[track_caller]
    pub fn append(&self, other: &mut StdVec<T>) {
        self.extend_from_slice(other);
        other.clear();
    }

    /// Adds copies of elements behind the others, in one call. Follows [`std::vec::Vec::extend_from_slice`].
    #[track_caller]
    pub fn extend_from_slice(&self, other: &[T]) {
        self.raw.extend(other.iter().map(Blob::of).collect());
    }

    /// Adds copies of the elements of a range behind the others. Follows [`std::vec::Vec::extend_from_within`].
    ///
    /// # Panics
    /// As std's, if the range is out of bounds.
    #[track_caller]
    pub fn extend_from_within(&self, range: impl RangeBounds<usize>) {
        let bounds = bounds(&range);
        if let Err(len) = self.raw.extend_from_within(bounds) {
            range_panic(len, bounds)
        }
    }
}
