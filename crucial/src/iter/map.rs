use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    iter::Sum,
};

use crucial_runtime::{
    error::{Error, Result},
    task::Task,
};

use super::{Settings, pump::Pump};

/// Calls of a cloud function, one for each item; see [`CloudIter::map`](super::CloudIter::map). Nothing runs before
/// the results are asked for. After the `rayon` crate's `Map`.
///
/// It can be iterated over: results come in the order of the items, while later ones are worked on. So everything
/// that [`Iterator`] has is there, too.
///
/// ```
/// use crucial::{cloud_fn, iter::IntoCloudIterator};
///
/// #[cloud_fn]
/// fn render(row: u32) -> String {
///     "*".repeat(row as usize)
/// }
///
/// let mut picture = String::new();
/// for row in (1..4).into_cloud_iter().map(render) {
///     picture += &row;
/// }
/// assert_eq!(picture, "******");
/// let longest = (0..4).into_cloud_iter().map(render).into_iter().max().unwrap();
/// assert_eq!(longest, "***");
/// ```
#[must_use = "nothing runs before the results are asked for: `.collect::<Vec<_>>()`"]
pub struct Map<I, F> {
    items: I,
    f: F,
    settings: Settings,
}

impl<I, F> fmt::Debug for Map<I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<I, F, R> Map<I, F>
where
    I: Iterator,
    F: FnMut(I::Item) -> Task<R>,
    R: 'static,
{
    pub(super) fn new(items: I, f: F, settings: Settings) -> Self {
        Map { items, f, settings }
    }

    /// All results, in the order of the items. After rayon's `collect`.
    ///
    /// A collection that takes no more, as `Result<Vec<_>, _>` after the first `Err`, ends the iteration: what is
    /// still under way is aborted.
    ///
    /// ```
    /// use crucial::{cloud_fn, iter::IntoCloudIterator};
    ///
    /// #[cloud_fn]
    /// fn inverse(x: u64) -> Result<u64, String> {
    ///     100_u64.checked_div(x).ok_or_else(|| format!("{x} has no inverse"))
    /// }
    ///
    /// let inverses: Result<Vec<_>, _> = [4, 5].into_cloud_iter().map(inverse).collect();
    /// assert_eq!(inverses, Ok(vec![25, 20]));
    /// let inverses: Result<Vec<_>, _> = [1, 0].into_cloud_iter().map(inverse).collect();
    /// assert_eq!(inverses, Err("0 has no inverse".to_owned()));
    /// ```
    ///
    /// # Panics
    /// If the function fails for an item, or the back end can't be started.
    #[track_caller]
    pub fn collect<C: FromIterator<R>>(self) -> C {
        self.into_iter().collect()
    }

    /// Combines all results, in the order of the items, beginning with `identity()`. After rayon's `reduce`.
    ///
    /// Unlike rayon's, `op` runs here, one result after the other, so it may be any closure; it is for values that
    /// are cheap to combine. Where they aren't, let the mapped function take a range of the input and combine there,
    /// or let it update a shared object.
    ///
    /// ```
    /// use crucial::{cloud_fn, iter::IntoCloudIterator};
    ///
    /// #[cloud_fn]
    /// fn largest(numbers: &[u32]) -> u32 {
    ///     numbers.iter().copied().max().unwrap_or(0)
    /// }
    ///
    /// let numbers = [3, 1, 4, 1, 5, 9, 2, 6];
    /// let max = numbers.chunks(3).into_cloud_iter().map(largest).reduce(|| 0, |a, b| a.max(b));
    /// assert_eq!(max, 9);
    /// ```
    ///
    /// # Panics
    /// If the function fails for an item, or the back end can't be started.
    #[track_caller]
    pub fn reduce(self, identity: impl FnOnce() -> R, op: impl FnMut(R, R) -> R) -> R {
        self.into_iter().fold(identity(), op)
    }

    /// The sum of all results. After rayon's `sum`.
    ///
    /// # Panics
    /// If the function fails for an item, or the back end can't be started.
    #[track_caller]
    pub fn sum<S: Sum<R>>(self) -> S {
        self.into_iter().sum()
    }

    /// The results in the order of the items, with the failures of the function as values.
    ///
    /// ```
    /// use crucial::{cloud_fn, iter::IntoCloudIterator};
    ///
    /// #[cloud_fn]
    /// fn inverse(x: u64) -> u64 {
    ///     100 / x
    /// }
    ///
    /// let results: Vec<_> = [0, 4].into_cloud_iter().map(inverse).results().collect();
    /// assert!(results[0].is_err());
    /// assert_eq!(results[1], Ok(25));
    /// ```
    ///
    /// # Panics
    /// If the back end can't be started.
    pub fn results(self) -> Results<I, F, R> {
        Results { pump: Pump::new(self.items, self.f, self.settings), early: BTreeMap::new(), next: 0 }
    }

    /// The results as they come, each with its item's number, counted from 0, and with the failures of the function
    /// as values. Named after the `futures` crate's `buffer_unordered`.
    ///
    /// ```
    /// use crucial::{cloud_fn, iter::IntoCloudIterator};
    ///
    /// #[cloud_fn]
    /// fn square(x: u64) -> u64 {
    ///     x * x
    /// }
    ///
    /// let mut squares = [0; 20];
    /// for (n, square) in (0..20).into_cloud_iter().map(square).unordered() {
    ///     squares[n] = square.unwrap();
    /// }
    /// assert_eq!(squares[19], 361);
    /// ```
    ///
    /// # Panics
    /// If the back end can't be started.
    pub fn unordered(self) -> Unordered<I, F, R> {
        Unordered { pump: Pump::new(self.items, self.f, self.settings) }
    }
}

/// Says which item failed, as rayon passes on a panic.
#[track_caller]
pub(super) fn fail(item: usize, error: &Error) -> ! {
    panic!("item {item}: {error}")
}

impl<I, F, R> IntoIterator for Map<I, F>
where
    I: Iterator,
    F: FnMut(I::Item) -> Task<R>,
    R: 'static,
{
    type Item = R;
    type IntoIter = IntoIter<I, F, R>;

    fn into_iter(self) -> IntoIter<I, F, R> {
        IntoIter { results: self.results() }
    }
}

/// The results of a [`Map`], in the order of the items. Panics if the function fails for one. Dropping it aborts what
/// is under way.
pub struct IntoIter<I: Iterator, F, R> {
    results: Results<I, F, R>,
}

impl<I, F, R> Iterator for IntoIter<I, F, R>
where
    I: Iterator,
    F: FnMut(I::Item) -> Task<R>,
    R: 'static,
{
    type Item = R;

    #[track_caller]
    fn next(&mut self) -> Option<R> {
        let number = self.results.next;
        self.results.next().map(|result| result.unwrap_or_else(|error| fail(number, &error)))
    }
}

/// The results of a [`Map`], in the order of the items; see [`Map::results`]. Dropping it aborts what is under way.
pub struct Results<I: Iterator, F, R> {
    pump: Pump<I, F, R>,
    /// Results that came before their turn.
    early: BTreeMap<usize, Result<R>>,
    next: usize,
}

impl<I, F, R> Iterator for Results<I, F, R>
where
    I: Iterator,
    F: FnMut(I::Item) -> Task<R>,
    R: 'static,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        loop {
            if let Entry::Occupied(result) = self.early.entry(self.next) {
                self.next += 1;
                return Some(result.remove());
            }
            // One slow item holds up a window of others, not all that there are.
            let end = self.next.saturating_add(self.pump.window());
            let (number, result) = self.pump.next(end)?;
            self.early.insert(number, result);
        }
    }
}

/// The results of a [`Map`] as they come; see [`Map::unordered`]. Dropping it aborts what is under way.
pub struct Unordered<I: Iterator, F, R> {
    pump: Pump<I, F, R>,
}

impl<I, F, R> Iterator for Unordered<I, F, R>
where
    I: Iterator,
    F: FnMut(I::Item) -> Task<R>,
    R: 'static,
{
    type Item = (usize, Result<R>);

    fn next(&mut self) -> Option<(usize, Result<R>)> {
        self.pump.next(usize::MAX)
    }
}

impl<I: Iterator, F, R> fmt::Debug for IntoIter<I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("next", &self.results.next).finish_non_exhaustive()
    }
}

impl<I: Iterator, F, R> fmt::Debug for Results<I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<I: Iterator, F, R> fmt::Debug for Unordered<I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unordered").finish_non_exhaustive()
    }
}
