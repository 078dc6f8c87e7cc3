use super::{
    dense::{bytes, dense, fits, number, numbers},
    numbers::{__RawNumbersAt, Change, Number, Place, Problem, RawNumbers, Reduction, Shape, kind},
};
use crate::typed::typed;

type RawMatrix = RawNumbers<kind::Matrix>;
type RawMatrixAt = __RawNumbersAt<kind::Matrix>;

typed! {
    /// A dense matrix of numbers that cloud threads share: it moves in blocks, at the speed of memory, and the server
    /// computes with it.
    ///
    /// `T` is as in an [`Array`](super::Array). Numbers are in row-major order: a row is a block, a column is not. Each
    /// method is one call, which no other call comes in between. A position or a length that doesn't fit panics in
    /// std's words, and leaves the matrix as it is.
    ///
    /// ```
    /// use crucial::collections::Matrix;
    ///
    /// let centers = Matrix::<f64>::new(2, 3);
    /// centers.set_row(0, &[1.0, 2.0, 3.0]);
    /// centers.add_row(1, &[4.0, 5.0, 6.0]);
    /// assert_eq!(centers.column(2), [3.0, 6.0]);
    /// assert_eq!(centers.mul_vec(&[1.0, 0.0, 1.0]), [4.0, 10.0]);
    /// centers.scale(2.0);
    /// assert_eq!(centers.get(1, 0), Some(8.0));
    /// ```
    pub struct Matrix<T>(RawMatrix), at NamedMatrix(RawMatrixAt);
}

#[track_caller]
fn shape(rows: usize, columns: usize) -> Shape {
    assert!(rows.checked_mul(columns).is_some(), "capacity overflow");
    Shape { rows, columns }
}

dense! { Matrix, ", row by row" }

impl<T: Number> Matrix<T> {
    /// A matrix of zeros.
    ///
    /// # Panics
    /// If the server has no memory for it.
    #[must_use]
    #[track_caller]
    pub fn new(rows: usize, columns: usize) -> Self {
        Matrix::over(RawMatrix::zeros(T::KIND, shape(rows, columns)))
    }

    /// A matrix of these numbers, row by row.
    ///
    /// # Panics
    /// If there aren't `rows * columns` of them.
    #[must_use]
    #[track_caller]
    pub fn from_slice(rows: usize, columns: usize, values: &[T]) -> Self {
        let shape = shape(rows, columns);
        if values.len() != rows * columns {
            Problem::Length { len: rows * columns, given: values.len() }.panic::<T>()
        }
        Matrix::over(RawMatrix::of(T::KIND, shape, bytes(values)))
    }

    /// The number of rows.
    #[track_caller]
    pub fn rows(&self) -> usize {
        self.raw.shape().rows
    }

    /// The number of columns.
    #[track_caller]
    pub fn columns(&self) -> usize {
        self.raw.shape().columns
    }

    /// The number in a row and a column, or `None` if one of them is out of bounds. Follows [`slice::get`].
    #[track_caller]
    pub fn get(&self, row: usize, column: usize) -> Option<T> {
        match self.raw.read(Place::Cell(row, column)) {
            Err(Problem::Index { .. }) => None,
            outcome => number(outcome),
        }
    }

    /// Sets the number in a row and a column: as `matrix[row][column] = value`.
    ///
    /// # Panics
    /// If one of them is out of bounds.
    #[track_caller]
    pub fn set(&self, row: usize, column: usize, value: T) {
        fits::<T, _>(self.raw.each(Place::Cell(row, column), Change::Set, T::KIND, bytes(&[value])));
    }

    /// Adds to the number in a row and a column. Returns the one before. Follows
    /// [`AtomicU64::fetch_add`](std::sync::atomic::AtomicU64::fetch_add).
    ///
    /// # Panics
    /// If one of them is out of bounds.
    #[track_caller]
    pub fn fetch_add(&self, row: usize, column: usize, value: T) -> T {
        let before = self.raw.fetch(Place::Cell(row, column), Change::Add, T::KIND, bytes(&[value]));
        number(before).expect("one number was changed")
    }

    /// A row.
    ///
    /// # Panics
    /// If it is out of bounds.
    #[track_caller]
    pub fn row(&self, row: usize) -> Vec<T> {
        numbers(self.raw.read(Place::Row(row)))
    }

    /// A column.
    ///
    /// # Panics
    /// If it is out of bounds.
    #[track_caller]
    pub fn column(&self, column: usize) -> Vec<T> {
        numbers(self.raw.read(Place::Column(column)))
    }

    /// Sets a row.
    ///
    /// # Panics
    /// If it is out of bounds, or the length isn't the number of columns.
    #[track_caller]
    pub fn set_row(&self, row: usize, values: &[T]) {
        fits::<T, _>(self.raw.zip(Place::Row(row), Change::Set, T::KIND, bytes(values)));
    }

    /// Sets a column.
    ///
    /// # Panics
    /// If it is out of bounds, or the length isn't the number of rows.
    #[track_caller]
    pub fn set_column(&self, column: usize, values: &[T]) {
        fits::<T, _>(self.raw.zip(Place::Column(column), Change::Set, T::KIND, bytes(values)));
    }

    /// Adds to a row, element by element.
    ///
    /// # Panics
    /// If it is out of bounds, or the length isn't the number of columns.
    #[track_caller]
    pub fn add_row(&self, row: usize, values: &[T]) {
        fits::<T, _>(self.raw.zip(Place::Row(row), Change::Add, T::KIND, bytes(values)));
    }

    /// Adds to a column, element by element.
    ///
    /// # Panics
    /// If it is out of bounds, or the length isn't the number of rows.
    #[track_caller]
    pub fn add_column(&self, column: usize, values: &[T]) {
        fits::<T, _>(self.raw.zip(Place::Column(column), Change::Add, T::KIND, bytes(values)));
    }

    /// The matrix times a column vector: the dot product of each row with it.
    ///
    /// # Panics
    /// If the length isn't the number of columns.
    #[track_caller]
    pub fn mul_vec(&self, vector: &[T]) -> Vec<T> {
        numbers(self.raw.times(T::KIND, bytes(vector)))
    }

    /// Makes one number of each row. Empty if the rows are, and the reduction has no value for that.
    #[track_caller]
    pub fn reduce_rows(&self, how: Reduction) -> Vec<T> {
        numbers(self.raw.reduce_lines(true, how))
    }

    /// Makes one number of each column. Empty if the columns are, and the reduction has no value for that.
    #[track_caller]
    pub fn reduce_columns(&self, how: Reduction) -> Vec<T> {
        numbers(self.raw.reduce_lines(false, how))
    }
}

impl<T: Number> NamedMatrix<T> {
    /// The matrix that has this key, whatever its shape, or a new one of zeros.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new(rows, columns)`")]
    #[must_use]
    #[track_caller]
    pub fn new(self, rows: usize, columns: usize) -> Matrix<T> {
        let shape = shape(rows, columns);
        self.build(|named| named.zeros(T::KIND, shape))
    }
}
