//! What the server holds for arrays and matrices of numbers.

use std::{any::type_name, borrow::Cow, marker::PhantomData, ops::Bound};

use bytemuck::Pod;
use serde::{Deserialize, Serialize};

use super::{
    raw_sequence::{Bounds, resolve},
    sequence::{as_std, range_panic},
};
use crate::{bulk::FromBlock, shared};

/// Which collection a [`RawNumbers`] is: objects of the same key in different collections are different objects.
#[doc(hidden)]
pub mod kind {
    use super::{Deserialize, Serialize};

    /// That of an `Array`.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Array;

    /// That of a `Matrix`.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Matrix;
}

/// What an [`Array`](super::Array) and a [`Matrix`](super::Matrix) may hold: integers and floats of fixed size.
///
/// Integers wrap around, as those of [`atomic`](crate::sync::atomic) do.
#[diagnostic::on_unimplemented(
    message = "an array or a matrix can't hold `{Self}`",
    label = "not a number of fixed size",
    note = "it holds `f32`, `f64`, and integers of up to 64 bits; `crucial::collections::Vec` holds anything"
)]
pub trait Number: Arithmetic {}

/// How to compute with a number.
#[doc(hidden)]
pub trait Arithmetic: Pod + PartialOrd + Send + Sync {
    const KIND: Kind;
    const ZERO: Self;
    const ONE: Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn least(self, other: Self) -> Self;
    fn greatest(self, other: Self) -> Self;
    fn wrap(numbers: Vec<Self>) -> Numbers;
    fn unwrap(numbers: Numbers) -> Result<Vec<Self>, Kind>;
}

macro_rules! numbers {
    ($($variant:ident $type:ident $plus:ident $minus:ident $times:ident $least:ident $greatest:ident;)*) => {
        /// The type of a number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[doc(hidden)]
        pub enum Kind {
            $($variant,)*
        }

        impl Kind {
            fn name(self) -> &'static str {
                match self {
                    $(Kind::$variant => stringify!($type),)*
                }
            }

            fn zeros(self, len: usize) -> Numbers {
                match self {
                    $(Kind::$variant => Numbers::$variant(zeros(len)),)*
                }
            }

            fn numbers(self, bytes: &[u8]) -> Numbers {
                match self {
                    $(Kind::$variant => {
                        Numbers::$variant(Vec::from_block(bytes).unwrap_or_else(|error| panic!("{error}")))
                    })*
                }
            }
        }

        /// Numbers of one type, which travel as one block.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[doc(hidden)]
        pub enum Numbers {
            $($variant(#[serde(with = "crate::bulk")] Vec<$type>),)*
        }

        impl Numbers {
            fn kind(&self) -> Kind {
                match self {
                    $(Numbers::$variant(_) => Kind::$variant,)*
                }
            }
        }

        /// Runs the same code for each type of numbers.
        macro_rules! each {
            ($numbers:expr, $items:ident => $body:expr) => {
                match $numbers {
                    $(Numbers::$variant($items) => $body,)*
                }
            };
        }

        $(
            impl Number for $type {}

            impl Arithmetic for $type {
                const KIND: Kind = Kind::$variant;
                const ZERO: Self = 0 as $type;
                const ONE: Self = 1 as $type;
                fn plus(self, other: Self) -> Self {
                    $type::$plus(self, other)
                }
                fn minus(self, other: Self) -> Self {
                    $type::$minus(self, other)
                }
                fn times(self, other: Self) -> Self {
                    $type::$times(self, other)
                }
                fn least(self, other: Self) -> Self {
                    $type::$least(self, other)
                }
                fn greatest(self, other: Self) -> Self {
                    $type::$greatest(self, other)
                }
                fn wrap(numbers: Vec<Self>) -> Numbers {
                    Numbers::$variant(numbers)
                }
                fn unwrap(numbers: Numbers) -> Result<Vec<Self>, Kind> {
                    match numbers {
                        Numbers::$variant(numbers) => Ok(numbers),
                        other => Err(other.kind()),
                    }
                }
            }
        )*
    };
}

// `min` and `max` of floats are those of the type itself, which pass over NaN; of integers, those of `Ord`.
use std::{
    cmp::Ord,
    ops::{Add, Mul, Sub},
};

numbers! {
    F32 f32 add sub mul min max;
    F64 f64 add sub mul min max;
    I8 i8 wrapping_add wrapping_sub wrapping_mul min max;
    I16 i16 wrapping_add wrapping_sub wrapping_mul min max;
    I32 i32 wrapping_add wrapping_sub wrapping_mul min max;
    I64 i64 wrapping_add wrapping_sub wrapping_mul min max;
    Isize isize wrapping_add wrapping_sub wrapping_mul min max;
    U8 u8 wrapping_add wrapping_sub wrapping_mul min max;
    U16 u16 wrapping_add wrapping_sub wrapping_mul min max;
    U32 u32 wrapping_add wrapping_sub wrapping_mul min max;
    U64 u64 wrapping_add wrapping_sub wrapping_mul min max;
    Usize usize wrapping_add wrapping_sub wrapping_mul min max;
}

/// So many zeros.
fn zeros<T: Arithmetic>(len: usize) -> Vec<T> {
    let mut numbers = Vec::new();
    if let Err(error) = numbers.try_reserve_exact(len) {
        panic!("the server has no memory for {len} numbers of type {}: {error}", T::KIND.name());
    }
    numbers.resize(len, T::ZERO);
    numbers
}

/// Some of the numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[doc(hidden)]
pub enum Place {
    All,
    Range(Bounds),
    /// As many as are given, from this one on.
    From(usize),
    Index(usize),
    Row(usize),
    Column(usize),
    Cell(usize, usize),
}

/// Why something can't be done; the object is as it was.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[doc(hidden)]
pub enum Problem {
    /// The numbers are of another type.
    Kind(Kind),
    /// There are so many rows, columns or elements, but the index is another.
    Index { len: usize, index: usize },
    /// There are so many elements, but the range is another.
    Range { len: usize, bounds: Bounds },
    /// So many numbers are given for so many.
    Length { len: usize, given: usize },
}

impl Problem {
    /// Panics, in std's words where it has them.
    #[track_caller]
    pub(super) fn panic<T: Number>(self) -> ! {
        match self {
            Problem::Kind(kind) => {
                panic!("the numbers of this object are `{}`, not `{}`", kind.name(), type_name::<T>())
            }
            Problem::Index { len, index } => as_std(len, |items: &mut Vec<()>| items[index]),
            Problem::Range { len, bounds } => range_panic(len, bounds),
            Problem::Length { len, given } => {
                as_std(len, |items: &mut Vec<()>| items.copy_from_slice(&vec![(); given]))
            }
        }
    }
}

type Outcome<T> = Result<T, Problem>;

/// What is done with each number and the one given for it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[doc(hidden)]
pub enum Change {
    Set,
    Add,
    Sub,
    Mul,
}

impl Change {
    fn apply<T: Arithmetic>(self, slot: &mut T, by: T) {
        *slot = match self {
            Change::Set => by,
            Change::Add => slot.plus(by),
            Change::Sub => slot.minus(by),
            Change::Mul => slot.times(by),
        };
    }
}

/// How many numbers become one: see [`Array::reduce`](super::Array::reduce).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reduction {
    /// Their sum; 0 of none.
    Sum,
    /// Their product; 1 of none.
    Product,
    /// The smallest one. NaN counts only if there is nothing else.
    Min,
    /// The largest one. NaN counts only if there is nothing else.
    Max,
}

/// Numbers in rows of `columns`; those of an array are all in one.
#[shared(instances(RawNumbers<kind::Array>, RawNumbers<kind::Matrix>))]
#[doc(hidden)]
pub struct RawNumbers<M> {
    numbers: Numbers,
    shape: Shape,
    kind: PhantomData<M>,
}

/// Every `step`th number from `start` on, `count` of them.
#[derive(Clone, Copy)]
struct View {
    start: usize,
    step: usize,
    count: usize,
}

impl View {
    fn of<T>(self, items: &[T]) -> impl Iterator<Item = &T> {
        items.get(self.start..).unwrap_or_default().iter().step_by(self.step).take(self.count)
    }

    fn read<T: Arithmetic>(self, items: &[T]) -> Numbers {
        T::wrap(match self.step {
            1 => items[self.start..self.start + self.count].to_vec(),
            _ => self.of(items).copied().collect(),
        })
    }

    /// Changes each number with the one given for it.
    fn zip<T: Copy>(self, items: &mut [T], with: &[T], change: impl Fn(&mut T, T)) {
        if self.step == 1 {
            // Slices of one length: a loop that the compiler makes into vector instructions.
            let items = &mut items[self.start..self.start + self.count];
            items.iter_mut().zip(with).for_each(|(slot, by)| change(slot, *by));
        } else {
            let items = items.get_mut(self.start..).unwrap_or_default().iter_mut().step_by(self.step);
            items.zip(with).for_each(|(slot, by)| change(slot, *by));
        }
    }

    fn each<T>(self, items: &mut [T], change: impl Fn(&mut T)) {
        if self.step == 1 {
            items[self.start..self.start + self.count].iter_mut().for_each(change);
        } else {
            let items = items.get_mut(self.start..).unwrap_or_default().iter_mut().step_by(self.step);
            items.take(self.count).for_each(change);
        }
    }
}

/// The given numbers, if they are of the type of these.
fn given<'a, T: Arithmetic>(items: &[T], kind: Kind, bytes: &'a [u8]) -> Outcome<Cow<'a, [T]>> {
    if kind != T::KIND {
        return Err(Problem::Kind(T::KIND));
    }
    // The bytes may stand at any address.
    Ok(match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) => Cow::Borrowed(numbers),
        Err(_) => {
            let problem = |_| Problem::Length { len: items.len(), given: bytes.len() / size_of::<T>() };
            Cow::Owned(Vec::from_block(bytes).map_err(problem)?)
        }
    })
}

/// The one given number.
fn scalar<T: Arithmetic>(items: &[T], kind: Kind, bytes: &[u8]) -> Outcome<T> {
    given(items, kind, bytes).map(|numbers| numbers.first().copied().unwrap_or(T::ZERO))
}

fn reduce<'a, T: Arithmetic>(items: impl Iterator<Item = &'a T>, how: Reduction) -> Option<T> {
    let mut items = items.copied();
    match how {
        Reduction::Sum => Some(items.fold(T::ZERO, T::plus)),
        Reduction::Product => Some(items.fold(T::ONE, T::times)),
        Reduction::Min => items.next().map(|first| items.fold(first, T::least)),
        Reduction::Max => items.next().map(|first| items.fold(first, T::greatest)),
    }
}

/// Rows and columns. Its own struct, so that it can be asked while the numbers are being changed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Shape {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Shape {
    /// Where a place is, for `given` numbers.
    fn view(self, place: Place, given: Option<usize>) -> Outcome<View> {
        let within = |index, len| if index < len { Ok(index) } else { Err(Problem::Index { len, index }) };
        let Shape { rows, columns } = self;
        let len = rows * columns;
        let range = |bounds| {
            let range = resolve(bounds, len).map_err(|len| Problem::Range { len, bounds })?;
            Ok(View { start: range.start, step: 1, count: range.len() })
        };
        let view = match place {
            Place::All => View { start: 0, step: 1, count: len },
            Place::Range(bounds) => range(bounds)?,
            Place::From(start) => {
                range((Bound::Included(start), Bound::Excluded(start.saturating_add(given.unwrap_or(0)))))?
            }
            Place::Index(index) => View { start: within(index, len)?, step: 1, count: 1 },
            Place::Row(row) => View { start: within(row, rows)? * columns, step: 1, count: columns },
            Place::Column(column) => View { start: within(column, columns)?, step: columns, count: rows },
            Place::Cell(row, column) => {
                View { start: within(row, rows)? * columns + within(column, columns)?, step: 1, count: 1 }
            }
        };
        match given {
            Some(given) if given != view.count => Err(Problem::Length { len: view.count, given }),
            _ => Ok(view),
        }
    }
}

#[shared]
impl<M> RawNumbers<M> {
    /// Zeros.
    pub fn zeros(kind: Kind, shape: Shape) -> Self {
        // The handle has checked that the product is a number.
        let numbers = kind.zeros(shape.rows.saturating_mul(shape.columns));
        RawNumbers { numbers, shape, kind: PhantomData }
    }

    /// These numbers.
    pub fn of(kind: Kind, shape: Shape, bytes: &[u8]) -> Self {
        RawNumbers { numbers: kind.numbers(bytes), shape, kind: PhantomData }
    }

    /// The number of rows and that of columns.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The numbers at a place.
    pub fn read(&self, place: Place) -> Outcome<Numbers> {
        let view = self.shape.view(place, None)?;
        Ok(each!(&self.numbers, items => view.read(items)))
    }

    /// Changes the numbers at a place with as many others.
    pub fn zip(&mut self, place: Place, change: Change, kind: Kind, bytes: &[u8]) -> Outcome<()> {
        let shape = self.shape;
        each!(&mut self.numbers, items => {
            let with = given(items, kind, bytes)?;
            let view = shape.view(place, Some(with.len()))?;
            match change {
                // Each in a loop of its own, which the compiler makes into vector instructions.
                Change::Set => view.zip(items, &with, |slot, by| *slot = by),
                Change::Add => view.zip(items, &with, |slot, by| *slot = slot.plus(by)),
                Change::Sub => view.zip(items, &with, |slot, by| *slot = slot.minus(by)),
                Change::Mul => view.zip(items, &with, |slot, by| *slot = slot.times(by)),
            }
            Ok(())
        })
    }

    /// Adds multiples of as many others to the numbers at a place.
    pub fn axpy(&mut self, place: Place, kind: Kind, factor: &[u8], bytes: &[u8]) -> Outcome<()> {
        let shape = self.shape;
        each!(&mut self.numbers, items => {
            let (factor, with) = (scalar(items, kind, factor)?, given(items, kind, bytes)?);
            let view = shape.view(place, Some(with.len()))?;
            view.zip(items, &with, |slot, by| *slot = slot.plus(factor.times(by)));
            Ok(())
        })
    }

    /// Changes each of the numbers at a place with the same one.
    pub fn each(&mut self, place: Place, change: Change, kind: Kind, by: &[u8]) -> Outcome<()> {
        let view = self.shape.view(place, None)?;
        each!(&mut self.numbers, items => {
            let by = scalar(items, kind, by)?;
            view.each(items, |slot| change.apply(slot, by));
            Ok(())
        })
    }

    /// Changes the numbers at a place with the same one. Gives those before.
    pub fn fetch(&mut self, place: Place, change: Change, kind: Kind, by: &[u8]) -> Outcome<Numbers> {
        let view = self.shape.view(place, None)?;
        each!(&mut self.numbers, items => {
            let by = scalar(items, kind, by)?;
            let before = view.read(items);
            view.each(items, |slot| change.apply(slot, by));
            Ok(before)
        })
    }

    /// Makes one number of those at a place; none of nothing.
    pub fn reduce(&self, place: Place, how: Reduction) -> Outcome<Numbers> {
        let view = self.shape.view(place, None)?;
        Ok(each!(&self.numbers, items => {
            Arithmetic::wrap(reduce(view.of(items), how).into_iter().collect::<Vec<_>>())
        }))
    }

    /// The sum of the products of the numbers at a place with as many others.
    pub fn dot(&self, place: Place, kind: Kind, bytes: &[u8]) -> Outcome<Numbers> {
        each!(&self.numbers, items => {
            let with = given(items, kind, bytes)?;
            let view = self.shape.view(place, Some(with.len()))?;
            Ok(Arithmetic::wrap(vec![dot(view.of(items), &with)]))
        })
    }

    /// The dot product of each row with as many numbers.
    pub fn times(&self, kind: Kind, bytes: &[u8]) -> Outcome<Numbers> {
        let Shape { rows, columns } = self.shape;
        each!(&self.numbers, items => {
            let with = given(items, kind, bytes)?;
            if with.len() != columns {
                return Err(Problem::Length { len: columns, given: with.len() });
            }
            let row = |row: usize| dot(items[row * columns..(row + 1) * columns].iter(), &with);
            Ok(Arithmetic::wrap((0..rows).map(row).collect::<Vec<_>>()))
        })
    }

    /// Makes one number of each row, or of each column. None of nothing.
    pub fn reduce_lines(&self, rows: bool, how: Reduction) -> Outcome<Numbers> {
        let lines = if rows { self.shape.rows } else { self.shape.columns };
        each!(&self.numbers, items => {
            let mut reduced = Vec::with_capacity(lines);
            for line in 0..lines {
                let place = if rows { Place::Row(line) } else { Place::Column(line) };
                reduced.extend(reduce(self.shape.view(place, None)?.of(items), how));
            }
            Ok(Arithmetic::wrap(reduced))
        })
    }

    /// Makes an array this long.
    pub fn resize(&mut self, len: usize, kind: Kind, value: &[u8]) -> crate::Result<Outcome<()>> {
        each!(&mut self.numbers, items => {
            let value = match scalar(items, kind, value) {
                Ok(value) => value,
                Err(problem) => return Ok(Err(problem)),
            };
            items.try_reserve(len.saturating_sub(items.len())).map_err(|error| crate::Error::Refused {
                reason: format!("the server has no memory for {len} numbers: {error}"),
            })?;
            items.resize(len, value);
        });
        self.shape.columns = len;
        Ok(Ok(()))
    }
}

fn dot<'a, T: Arithmetic>(items: impl Iterator<Item = &'a T>, with: &[T]) -> T {
    items.zip(with).fold(T::ZERO, |sum, (a, b)| sum.plus(a.times(*b)))
}
