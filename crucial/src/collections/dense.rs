//! What arrays and matrices have in common.

use super::numbers::{Number, Numbers, Problem};

/// The bytes of numbers.
pub(super) fn bytes<T: Number>(numbers: &[T]) -> &[u8] {
    bytemuck::cast_slice(numbers)
}

/// What the server found.
#[track_caller]
pub(super) fn fits<T: Number, R>(outcome: Result<R, Problem>) -> R {
    outcome.unwrap_or_else(|problem| problem.panic::<T>())
}

/// The numbers that the server gave.
#[track_caller]
pub(super) fn numbers<T: Number>(outcome: Result<Numbers, Problem>) -> Vec<T> {
    fits::<T, _>(outcome.and_then(|numbers| T::unwrap(numbers).map_err(Problem::Kind)))
}

/// The number that the server gave, if there is one.
#[track_caller]
pub(super) fn number<T: Number>(outcome: Result<Numbers, Problem>) -> Option<T> {
    numbers(outcome).pop()
}

/// The methods for all numbers at once. The text says in which order they are given and taken.
macro_rules! dense {
    ($name:ident, $order:literal) => {
        impl<T: Number> $name<T> {
            #[doc = concat!("All numbers at one moment", $order, ". Follows [`slice::to_vec`].")]
            #[track_caller]
            pub fn to_vec(&self) -> Vec<T> {
                numbers(self.raw.read(Place::All))
            }

            #[doc = concat!("Sets all numbers to these", $order, ". Follows [`slice::copy_from_slice`].")]
            ///
            /// # Panics
            /// If the lengths differ.
            #[track_caller]
            pub fn copy_from_slice(&self, values: &[T]) {
                fits::<T, _>(self.raw.zip(Place::All, Change::Set, T::KIND, bytes(values)));
            }

            /// Sets all numbers to one. Follows [`slice::fill`].
            #[track_caller]
            pub fn fill(&self, value: T) {
                fits::<T, _>(self.raw.each(Place::All, Change::Set, T::KIND, bytes(&[value])));
            }

            #[doc = concat!("Adds numbers, element by element", $order, ".")]
            ///
            /// # Panics
            /// If the lengths differ.
            #[track_caller]
            pub fn add(&self, values: &[T]) {
                fits::<T, _>(self.raw.zip(Place::All, Change::Add, T::KIND, bytes(values)));
            }

            #[doc = concat!("Subtracts numbers, element by element", $order, ".")]
            ///
            /// # Panics
            /// If the lengths differ.
            #[track_caller]
            pub fn sub(&self, values: &[T]) {
                fits::<T, _>(self.raw.zip(Place::All, Change::Sub, T::KIND, bytes(values)));
            }

            /// Multiplies all numbers with one.
            #[track_caller]
            pub fn scale(&self, factor: T) {
                fits::<T, _>(self.raw.each(Place::All, Change::Mul, T::KIND, bytes(&[factor])));
            }

            #[doc = concat!("Adds `factor` times the values, element by element", $order, ".")]
            /// The name is that of BLAS.
            ///
            /// # Panics
            /// If the lengths differ.
            #[track_caller]
            pub fn axpy(&self, factor: T, values: &[T]) {
                fits::<T, _>(self.raw.axpy(Place::All, T::KIND, bytes(&[factor]), bytes(values)));
            }

            /// The sum; 0 if it is empty.
            #[track_caller]
            pub fn sum(&self) -> T {
                self.reduce(Reduction::Sum).unwrap_or(T::ZERO)
            }

            /// The smallest number, or `None` if it is empty. NaN counts only if there is nothing else.
            #[track_caller]
            pub fn min(&self) -> Option<T> {
                self.reduce(Reduction::Min)
            }

            /// The largest number, or `None` if it is empty. NaN counts only if there is nothing else.
            #[track_caller]
            pub fn max(&self) -> Option<T> {
                self.reduce(Reduction::Max)
            }

            /// Makes one number of all. `None` if it is empty and the reduction has no value for that.
            #[track_caller]
            pub fn reduce(&self, how: Reduction) -> Option<T> {
                number(self.raw.reduce(Place::All, how))
            }

            #[doc = concat!("Sets all numbers to 0. Returns those before", $order, ": as [`std::mem::take`], with")]
            /// the same length.
            #[track_caller]
            pub fn take(&self) -> Vec<T> {
                numbers(self.raw.fetch(Place::All, Change::Set, T::KIND, bytes(&[T::ZERO])))
            }
        }
    };
}
pub(super) use dense;
