//! What the server holds for sequences.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    ops::{Bound, Range},
};

use crucial_runtime::shared_fn::{Format, Invocation};
use serde::{Deserialize, Serialize};

use super::cursor::{Limit, Page};
use crate::{Error, Result, shared, typed::Blob};

/// Which collection a [`RawSequence`] is: objects of the same key in different collections are different objects.
#[doc(hidden)]
pub mod kind {
    use super::{Deserialize, Serialize};

    /// That of a `Vec`.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Vec;

    /// That of a `VecDeque`.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct VecDeque;
}

/// An end of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub enum End {
    Front,
    Back,
}

/// A range of positions.
#[doc(hidden)]
pub type Bounds = (Bound<usize>, Bound<usize>);

/// What a method gives that takes positions: if they are out of range, the length, so that the caller can panic as
/// std does. A panic here would poison the object.
type Fit<T> = std::result::Result<T, usize>;

/// A sequence of encoded elements.
#[shared(instances(RawSequence<kind::Vec>, RawSequence<kind::VecDeque>))]
#[doc(hidden)]
pub struct RawSequence<M> {
    items: VecDeque<Blob>,
    kind: PhantomData<M>,
}

#[shared]
impl<M> RawSequence<M> {
    /// An empty sequence.
    pub fn new() -> Self {
        RawSequence { items: VecDeque::new(), kind: PhantomData }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The element at a position.
    pub fn get(&self, index: usize) -> Option<Blob> {
        self.items.get(index).cloned()
    }

    /// The elements at several positions.
    pub fn get_many(&self, indices: &[usize]) -> Vec<Option<Blob>> {
        indices.iter().map(|index| self.items.get(*index).cloned()).collect()
    }

    /// The element at an end.
    pub fn peek(&self, end: End) -> Option<Blob> {
        match end {
            End::Front => self.items.front().cloned(),
            End::Back => self.items.back().cloned(),
        }
    }

    /// The elements in a range.
    pub fn range(&self, bounds: Bounds) -> Fit<Vec<Blob>> {
        let range = resolve(bounds, self.items.len())?;
        Ok(self.items.range(range).cloned().collect())
    }

    /// The first elements between two positions, or the last ones, the last first.
    pub fn page(&self, range: Range<usize>, backwards: bool, limit: Limit) -> Page<Blob> {
        let end = range.end.min(self.items.len());
        let items = self.items.range(range.start.min(end)..end).cloned();
        let size = |item: &Blob| item.bytes().len();
        if backwards { Page::of(items.rev(), limit, size) } else { Page::of(items, limit, size) }
    }

    /// Whether there is such an element.
    pub fn contains(&self, item: &Blob) -> bool {
        self.items.contains(item)
    }

    /// Adds elements behind the others.
    pub fn extend(&mut self, items: Vec<Blob>) {
        self.items.extend(items);
    }

    /// Adds an element before the others.
    pub fn push_front(&mut self, item: Blob) {
        self.items.push_front(item);
    }

    /// Removes an element at an end.
    pub fn pop(&mut self, end: End) -> Option<Blob> {
        match end {
            End::Front => self.items.pop_front(),
            End::Back => self.items.pop_back(),
        }
    }

    /// Removes up to `n` elements at an end. Gives them, the outermost first.
    pub fn pop_many(&mut self, end: End, n: usize) -> Vec<Blob> {
        let n = n.min(self.items.len());
        match end {
            End::Front => self.items.drain(..n).collect(),
            End::Back => self.items.drain(self.items.len() - n..).rev().collect(),
        }
    }

    /// Removes the element at an end if a function holds for it.
    pub fn pop_if(&mut self, end: End, f: &Invocation) -> Result<Option<Blob>> {
        let f = f.find()?;
        let item = match end {
            End::Front => self.items.front_mut(),
            End::Back => self.items.back_mut(),
        };
        let Some(item) = item else { return Ok(None) };
        let holds = f.test(item.bytes_mut())?;
        Ok(if holds { self.pop(end) } else { None })
    }

    /// Replaces an element. Gives the one before.
    pub fn replace(&mut self, index: usize, item: Blob) -> Fit<Blob> {
        let len = self.items.len();
        self.items.get_mut(index).map(|old| std::mem::replace(old, item)).ok_or(len)
    }

    /// Adds an element at a position.
    pub fn insert(&mut self, index: usize, item: Blob) -> Fit<()> {
        if index > self.items.len() {
            return Err(self.items.len());
        }
        self.items.insert(index, item);
        Ok(())
    }

    /// Removes an element.
    pub fn remove(&mut self, index: usize) -> Fit<Blob> {
        self.items.remove(index).ok_or(self.items.len())
    }

    /// Removes an element and puts the one at an end into its place.
    pub fn swap_remove(&mut self, index: usize, end: End) -> Fit<Blob> {
        let removed = match end {
            End::Front => self.items.swap_remove_front(index),
            End::Back => self.items.swap_remove_back(index),
        };
        removed.ok_or(self.items.len())
    }

    /// Swaps two elements.
    pub fn swap(&mut self, a: usize, b: usize) -> Fit<()> {
        let len = self.items.len();
        if a >= len || b >= len {
            return Err(len);
        }
        self.items.swap(a, b);
        Ok(())
    }

    /// Keeps the first `len` elements.
    pub fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// Makes the sequence this long.
    pub fn resize(&mut self, len: usize, item: Blob) -> Result<()> {
        let more = len.saturating_sub(self.items.len());
        let no_memory = || Error::Refused { reason: format!("the server has no memory for {len} elements") };
        more.checked_mul(item.bytes().len().max(1)).filter(|bytes| *bytes < MOST).ok_or_else(no_memory)?;
        self.items.try_reserve(more).map_err(|_| no_memory())?;
        self.items.resize(len, item);
        Ok(())
    }

    /// Replaces the elements in a range by others, or in all of the sequence. Gives those before.
    pub fn splice(&mut self, bounds: Bounds, with: Vec<Blob>) -> Fit<Vec<Blob>> {
        let range = resolve(bounds, self.items.len())?;
        let tail = self.items.split_off(range.end);
        let removed = self.items.split_off(range.start);
        self.items.extend(with);
        self.items.extend(tail);
        Ok(removed.into())
    }

    /// Sets the elements in a range to one value.
    pub fn fill(&mut self, bounds: Bounds, item: Blob) -> Fit<()> {
        let range = resolve(bounds, self.items.len())?;
        self.items.range_mut(range).for_each(|slot| slot.clone_from(&item));
        Ok(())
    }

    /// Copies the elements of a range behind the others.
    pub fn extend_from_within(&mut self, bounds: Bounds) -> Fit<()> {
        let items = self.range(bounds)?;
        self.items.extend(items);
        Ok(())
    }

    /// Turns the order around.
    pub fn reverse(&mut self) {
        self.items.make_contiguous().reverse();
    }

    /// Moves the first `n` elements behind the others, or the last ones before them.
    pub fn rotate(&mut self, n: usize, from: End) -> Fit<()> {
        if n > self.items.len() {
            return Err(self.items.len());
        }
        match from {
            End::Front => self.items.rotate_left(n),
            End::Back => self.items.rotate_right(n),
        }
        Ok(())
    }

    /// Removes all but the first of equal elements in a row.
    pub fn dedup(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        for item in items.drain(..) {
            if self.items.back() != Some(&item) {
                self.items.push_back(item);
            }
        }
    }

    /// Applies a function to an element. Gives its result.
    pub fn update(&mut self, index: usize, f: &Invocation) -> Result<Option<Blob>> {
        let f = f.find()?;
        let Some(item) = self.items.get_mut(index) else { return Ok(None) };
        f.update(item.bytes_mut()).map(|result| Some(result.into()))
    }

    /// Applies a function to an element and leaves it as it is. Gives the function's result.
    pub fn inspect(&self, index: usize, f: &Invocation) -> Result<Option<Blob>> {
        let f = f.find()?;
        let item = self.items.get(index);
        item.map(|item| f.inspect(Format::Plain, item.bytes()).map(Blob::from)).transpose()
    }

    /// Applies a function to all elements: to each of them, or to none if there is an error.
    pub fn update_all(&mut self, f: &Invocation) -> Result<()> {
        let f = f.find()?;
        let updated = self.items.iter().map(|item| {
            let mut item = item.clone();
            f.update(item.bytes_mut()).map(|_| item)
        });
        self.items = updated.collect::<Result<_>>()?;
        Ok(())
    }

    /// The first position, from the front, of an element for which a function holds.
    pub fn position(&self, f: &Invocation) -> Result<Option<usize>> {
        let f = f.find()?;
        for (index, item) in self.items.iter().enumerate() {
            if f.holds(Format::Plain, item.bytes())? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Removes the elements of a range for which a function holds, or all others of it. Gives those removed.
    pub fn sift(&mut self, bounds: Bounds, f: &Invocation, remove_if: bool) -> Result<Fit<Vec<Blob>>> {
        let f = f.find()?;
        let range = match resolve(bounds, self.items.len()) {
            Ok(range) => range,
            Err(len) => return Ok(Err(len)),
        };
        let (mut kept, mut removed) = (Vec::new(), Vec::new());
        for item in self.items.range(range.clone()) {
            let mut item = item.clone();
            let holds = f.test(item.bytes_mut())?;
            if holds == remove_if { removed.push(item) } else { kept.push(item) }
        }
        // Nothing has changed so far, in case of an error.
        let _ = self.splice((Bound::Included(range.start), Bound::Excluded(range.end)), kept);
        Ok(Ok(removed))
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.items.clear();
    }
}

/// No object may become larger than this, in bytes.
const MOST: usize = isize::MAX as usize;

/// The range in a sequence of this length, or the length.
pub(super) fn resolve(bounds: Bounds, len: usize) -> Fit<Range<usize>> {
    let start = match bounds.0 {
        Bound::Included(start) => Some(start),
        Bound::Excluded(before) => before.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match bounds.1 {
        Bound::Included(last) => last.checked_add(1),
        Bound::Excluded(end) => Some(end),
        Bound::Unbounded => Some(len),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= len => Ok(start..end),
        _ => Err(len),
    }
}
