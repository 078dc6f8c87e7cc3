use std::{collections::VecDeque as StdVecDeque, ops::RangeBounds, vec::Vec as StdVec};

use crucial_runtime::shared_fn::{Inspect, Update};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    cursor::Cursor,
    raw_sequence::{__RawSequenceAt, End, RawSequence, kind},
    sequence::{ALL, as_std, bounds, cursor, range_panic, sequence},
};
use crate::typed::{Blob, done, invocation, typed};

type RawVecDeque = RawSequence<kind::VecDeque>;
type RawVecDequeAt = __RawSequenceAt<kind::VecDeque>;

typed! {
    /// A double-ended queue that cloud threads share. Follows [`std::collections::VecDeque`].
    ///
    /// Methods take `&self` and return owned values: the queue is on a server, and each method is one call. A position
    /// that is out of bounds panics where std's queue would, in its words, and leaves the queue as it is. Nothing waits
    /// here; a channel does.
    ///
    /// ```
    /// use crucial::collections::VecDeque;
    ///
    /// let queue = VecDeque::from([1, 2, 3]);
    /// queue.push_front(0);
    /// queue.push_back(4);
    /// assert_eq!(queue.pop_front(), Some(0));
    /// assert_eq!(queue.pop_front_many(2), [1, 2]);
    /// assert_eq!(queue.back(), Some(4));
    /// ```
    pub struct VecDeque<T>(RawVecDeque), at NamedVecDeque(RawVecDequeAt);
}

sequence! { VecDeque, NamedVecDeque, RawVecDeque, "std::collections::VecDeque", StdVecDeque<()> }

impl<T: Serialize + DeserializeOwned> VecDeque<T> {
    /// Adds an element behind the others. Follows [`std::collections::VecDeque::push_back`].
    #[track_caller]
    pub fn push_back(&self, value: T) {
        self.raw.extend(vec![Blob::of(&value)]);
    }

    /// Adds an element before the others. Follows [`std::collections::VecDeque::push_front`].
    #[track_caller]
    pub fn push_front(&self, value: T) {
        self.raw.push_front(Blob::of(&value));
    }

    /// Removes the first element. Follows [`std::collections::VecDeque::pop_front`].
    #[track_caller]
    pub fn pop_front(&self) -> Option<T> {
        self.raw.pop(End::Front).map(|item| item.to())
    }

    /// Removes the last element. Follows [`std::collections::VecDeque::pop_back`].
    #[track_caller]
    pub fn pop_back(&self) -> Option<T> {
        self.raw.pop(End::Back).map(|item| item.to())
    }

    /// Removes up to `n` elements at the front, in one call. Returns them, the first one first. Not in std.
    #[track_caller]
    pub fn pop_front_many(&self, n: usize) -> StdVec<T> {
        self.raw.pop_many(End::Front, n).iter().map(Blob::to).collect()
    }

    /// Removes up to `n` elements at the back, in one call. Returns them, the last one first. Not in std.
    #[track_caller]
    pub fn pop_back_many(&self, n: usize) -> StdVec<T> {
        self.raw.pop_many(End::Back, n).iter().map(Blob::to).collect()
    }

    /// Removes the first element if a shared function holds for it. The function may change it. Follows
    /// [`std::collections::VecDeque::pop_front_if`].
    #[track_caller]
    pub fn pop_front_if<F: Update<T, Output = bool>>(&self, f: F, arg: F::Arg) -> Option<T> {
        done(self.raw.pop_if(End::Front, &invocation(f, &arg))).map(|item| item.to())
    }

    /// Removes the last element if a shared function holds for it. The function may change it. Follows
    /// [`std::collections::VecDeque::pop_back_if`].
    #[track_caller]
    pub fn pop_back_if<F: Update<T, Output = bool>>(&self, f: F, arg: F::Arg) -> Option<T> {
        done(self.raw.pop_if(End::Back, &invocation(f, &arg))).map(|item| item.to())
    }

    /// The first element. Follows [`std::collections::VecDeque::front`].
    #[track_caller]
    pub fn front(&self) -> Option<T> {
        self.raw.peek(End::Front).map(|item| item.to())
    }

    /// The last element. Follows [`std::collections::VecDeque::back`].
    #[track_caller]
    pub fn back(&self) -> Option<T> {
        self.raw.peek(End::Back).map(|item| item.to())
    }

    /// Removes an element, or returns `None` if the position is out of bounds. Follows
    /// [`std::collections::VecDeque::remove`].
    #[track_caller]
    pub fn remove(&self, index: usize) -> Option<T> {
        self.raw.remove(index).ok().map(|item| item.to())
    }

    /// Removes an element; the first one takes its place. `None` if the position is out of bounds. Follows
    /// [`std::collections::VecDeque::swap_remove_front`].
    #[track_caller]
    pub fn swap_remove_front(&self, index: usize) -> Option<T> {
        self.raw.swap_remove(index, End::Front).ok().map(|item| item.to())
    }

    /// Removes an element; the last one takes its place. `None` if the position is out of bounds. Follows
    /// [`std::collections::VecDeque::swap_remove_back`].
    #[track_caller]
    pub fn swap_remove_back(&self, index: usize) -> Option<T> {
        self.raw.swap_remove(index, End::Back).ok().map(|item| item.to())
    }

    /// The elements in a range. Follows [`std::collections::VecDeque::range`], in one call and at one moment.
    ///
    /// # Panics
    /// As std's, if the range is out of bounds.
    #[track_caller]
    pub fn range(&self, range: impl RangeBounds<usize>) -> std::vec::IntoIter<T> {
        self.get_range(range).into_iter()
    }

    /// Removes the elements from a position on, and returns them as a queue of std. Follows
    /// [`std::collections::VecDeque::split_off`].
    ///
    /// # Panics
    /// As std's, if the position is behind the end.
    #[track_caller]
    pub fn split_off(&self, at: usize) -> StdVecDeque<T> {
        match self.raw.splice(bounds(&(at..)), StdVec::new()) {
            Ok(items) => items.iter().map(Blob::to).collect(),
            Err(len) => as_std(len, |items: &mut StdVecDeque<()>| items.split_off(at)),
        }
    }

    /// Moves all elements of a queue of std behind the others, in one call. Follows
    /// [`std::collections::VecDeque::append`].
    #[track_caller]
    pub fn append(&self, other: &mut StdVecDeque<T>) {
        self.raw.extend(other.iter().map(Blob::of).collect());
        other.clear();
    }
}

impl<T: Serialize + DeserializeOwned> From<StdVecDeque<T>> for VecDeque<T> {
    #[track_caller]
    fn from(values: StdVecDeque<T>) -> Self {
        values.into_iter().collect()
    }
}
