use std::ops::RangeBounds;

use super::{
    dense::{bytes, dense, fits, number, numbers},
    numbers::{__RawNumbersAt, Change, Number, Place, Problem, RawNumbers, Reduction, Shape, kind},
    sequence::bounds,
};
use crate::typed::{done, typed};

type RawArray = RawNumbers<kind::Array>;
type RawArrayAt = __RawNumbersAt<kind::Array>;

typed! {
    /// Numbers in a row that cloud threads share, dense as in a slice: they move as one block, at the speed of memory,
    /// and the server computes with them.
    ///
    /// `T` is `f32`, `f64` or an integer of up to 64 bits; integers wrap around at their ends, as those of
    /// [`atomic`](crate::sync::atomic) do. Each method is one call, which no other call comes in between. A position or
    /// a length that doesn't fit panics in std's words, and leaves the array as it is.
    ///
    /// ```
    /// use crucial::collections::Array;
    ///
    /// let gradient = Array::<f64>::new(3);
    /// gradient.add(&[1.0, 2.0, 3.0]);
    /// gradient.axpy(0.5, &[2.0, 2.0, 2.0]); // adds half of each
    /// assert_eq!(gradient.to_vec(), [2.0, 3.0, 4.0]);
    /// assert_eq!(gradient.dot(&[1.0, 0.0, 1.0]), 6.0);
    /// assert_eq!(gradient.take(), [2.0, 3.0, 4.0]);
    /// assert_eq!(gradient.sum(), 0.0);
    /// ```
    pub struct Array<T>(RawArray), at NamedArray(RawArrayAt);
}

/// One row.
fn shape(len: usize) -> Shape {
    Shape { rows: 1, columns: len }
}

dense! { Array, "" }

impl<T: Number> Array<T> {
    /// An array of `len` zeros.
    ///
    /// # Panics
    /// If the server has no memory for it.
    #[must_use]
    #[track_caller]
    pub fn new(len: usize) -> Self {
        Array::over(RawArray::zeros(T::KIND, shape(len)))
    }

    /// The number of elements. Follows [`slice::len`].
    #[track_caller]
    pub fn len(&self) -> usize {
        self.raw.shape().columns
    }

    /// Whether there are none. Follows [`slice::is_empty`].
    #[track_caller]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number at a position, or `None` if it is out of bounds. Follows [`slice::get`].
    #[track_caller]
    pub fn get(&self, index: usize) -> Option<T> {
        match self.raw.read(Place::Index(index)) {
            Err(Problem::Index { .. }) => None,
            outcome => number(outcome),
        }
    }

    /// Sets the number at a position: as `array[index] = value`.
    ///
    /// # Panics
    /// If the position is out of bounds.
    #[track_caller]
    pub fn set(&self, index: usize, value: T) {
        fits::<T, _>(self.raw.each(Place::Index(index), Change::Set, T::KIND, bytes(&[value])));
    }

    /// Sets the number at a position. Returns the one before. Follows
    /// [`AtomicU64::swap`](std::sync::atomic::AtomicU64::swap), and [`std::mem::replace`].
    ///
    /// # Panics
    /// If the position is out of bounds.
    #[track_caller]
    pub fn replace(&self, index: usize, value: T) -> T {
        let before = self.raw.fetch(Place::Index(index), Change::Set, T::KIND, bytes(&[value]));
        number(before).expect("one number was changed")
    }

    /// Adds to the number at a position. Returns the one before. Follows
    /// [`AtomicU64::fetch_add`](std::sync::atomic::AtomicU64::fetch_add).
    ///
    /// # Panics
    /// If the position is out of bounds.
    #[track_caller]
    pub fn fetch_add(&self, index: usize, value: T) -> T {
        let before = self.raw.fetch(Place::Index(index), Change::Add, T::KIND, bytes(&[value]));
        number(before).expect("one number was changed")
    }

    /// The numbers in a range: as `array[range].to_vec()`.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn get_range(&self, range: impl RangeBounds<usize>) -> Vec<T> {
        numbers(self.raw.read(Place::Range(bounds(&range))))
    }

    /// Sets as many numbers as are given, from a position on: as `array[start..start + n].copy_from_slice(values)`.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn set_range(&self, start: usize, values: &[T]) {
        fits::<T, _>(self.raw.zip(Place::From(start), Change::Set, T::KIND, bytes(values)));
    }

    /// Adds to as many numbers as are given, from a position on, element by element.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn add_range(&self, start: usize, values: &[T]) {
        fits::<T, _>(self.raw.zip(Place::From(start), Change::Add, T::KIND, bytes(values)));
    }

    /// Makes it `len` numbers long: the last ones go, or copies of `value` come. Follows [`std::vec::Vec::resize`].
    ///
    /// # Panics
    /// If the server has no memory for it.
    #[track_caller]
    pub fn resize(&self, len: usize, value: T) {
        fits::<T, _>(done(self.raw.resize(len, T::KIND, bytes(&[value]))));
    }

    /// Multiplies with numbers, element by element.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn mul(&self, values: &[T]) {
        fits::<T, _>(self.raw.zip(Place::All, Change::Mul, T::KIND, bytes(values)));
    }

    /// The sum of the products with these numbers, element by element.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn dot(&self, values: &[T]) -> T {
        number(self.raw.dot(Place::All, T::KIND, bytes(values))).unwrap_or(T::ZERO)
    }

    /// Makes one number of those in a range.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn reduce_range(&self, range: impl RangeBounds<usize>, how: Reduction) -> Option<T> {
        number(self.raw.reduce(Place::Range(bounds(&range)), how))
    }
}

impl<T: Number> From<&[T]> for Array<T> {
    #[track_caller]
    fn from(values: &[T]) -> Self {
        Array::over(RawArray::of(T::KIND, shape(values.len()), bytes(values)))
    }
}

impl<T: Number, const N: usize> From<[T; N]> for Array<T> {
    #[track_caller]
    fn from(values: [T; N]) -> Self {
        Array::from(&values[..])
    }
}

impl<T: Number> From<Vec<T>> for Array<T> {
    #[track_caller]
    fn from(values: Vec<T>) -> Self {
        Array::from(&values[..])
    }
}

impl<T: Number> NamedArray<T> {
    /// The array that has this key, whatever its length, or a new one of `len` zeros.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new(len)`")]
    #[must_use]
    #[track_caller]
    pub fn new(self, len: usize) -> Array<T> {
        self.build(|named| named.zeros(T::KIND, shape(len)))
    }
}
