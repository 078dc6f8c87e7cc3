//! Parallel iterators over cloud threads, after the `rayon` crate's.
//!
//! ```
//! use crucial::{cloud_fn, iter::IntoCloudIterator};
//!
//! #[cloud_fn]
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! let squares: Vec<_> = (0..100).into_cloud_iter().map(square).collect();
//! assert_eq!(squares[99], 9801);
//! let sum: u64 = (0..100).into_cloud_iter().map(square).sum();
//! assert_eq!(sum, 328_350);
//! ```
//!
//! # How items become cloud threads
//!
//! An iterator cuts its items into *chunks*, and a *worker* works on each: a cloud thread that runs the function for
//! one item after the other. So a million small items aren't a million cloud threads. [`CloudIter::with_chunk`] sets
//! the size of a chunk, which otherwise depends on how many items there are and how many workers run at once. A worker
//! whose results are large answers when they have 2 MiB; what is left of its chunk gets another worker.
//!
//! Items are taken, and the arguments of their calls encoded, as workers become free: an iterator may be long or
//! endless, and at no time is more of it in memory than a few chunks for each worker. If the consumer of the results
//! is slower than the workers, they wait for it; and if results have to come in order, one slow chunk lets only some
//! dozens of others go ahead.
//!
//! # When a function fails
//!
//! A function that panics, crashes or takes too long is repeated as often as its `retries` say, each item for itself.
//! If it fails for good, methods that give plain values panic with the item's number, the function, the attempt and
//! the message, as rayon's pass on a panic; what is still running is aborted. [`Map::results`] and
//! [`Map::unordered`] give the failure as a value instead. A function that returns a `Result` is no failure:
//! `collect::<Result<Vec<_>, _>>()` ends at the first `Err`.
//!
//! A worker's timeout is the function's times the number of its items. If its process dies, it isn't known which item
//! it was at: without retries, all its items fail with an error that names them; with retries, each is tried again on
//! its own.

mod map;
mod pump;
mod worker;

use std::fmt;

use crucial_runtime::{
    function::Options,
    task::{IntoTask, Task},
};

pub use self::map::{IntoIter, Map, Results, Unordered};
use self::worker::Call;
use crate::thread;

/// What can be iterated over in cloud threads: everything that can be iterated over.
/// After the `rayon` crate's `IntoParallelIterator`.
///
/// ```
/// use crucial::{cloud_fn, iter::IntoCloudIterator};
///
/// #[cloud_fn]
/// fn length(text: &str) -> usize {
///     text.len()
/// }
///
/// let words = ["one", "three"];
/// let lengths: Vec<_> = words.into_cloud_iter().map(length).collect();
/// assert_eq!(lengths, [3, 5]);
/// ```
pub trait IntoCloudIterator: IntoIterator + Sized {
    /// The items, each of which can become the argument of a cloud function.
    fn into_cloud_iter(self) -> CloudIter<Self::IntoIter> {
        CloudIter { items: self.into_iter(), settings: Settings::default() }
    }
}

impl<I: IntoIterator> IntoCloudIterator for I {}

/// Items for cloud threads, and how to work on them; see [`IntoCloudIterator`].
///
/// ```
/// use crucial::{cloud_fn, iter::IntoCloudIterator, thread};
///
/// #[cloud_fn]
/// fn area(width: f64, height: f64) -> f64 {
///     width * height
/// }
///
/// let sizes = [(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)];
/// let areas = sizes
///     .into_cloud_iter()
///     .with_chunk(1)
///     .with_concurrency(2)
///     .with_builder(thread::Builder::new().name("area").retries(1))
///     .map(|(width, height)| area(width, height));
/// assert_eq!(areas.collect::<Vec<_>>(), [2.0, 12.0, 30.0]);
/// ```
#[derive(Clone)]
#[must_use = "an iterator does nothing before its results are asked for: `.map(f).collect::<Vec<_>>()`"]
pub struct CloudIter<I> {
    items: I,
    settings: Settings,
}

#[derive(Clone, Debug, Default)]
struct Settings {
    chunk: Option<usize>,
    concurrency: Option<usize>,
    name: Option<String>,
    options: Options,
    init: Option<Call>,
    finish: Option<Call>,
    progress: Option<String>,
}

impl<I> fmt::Debug for CloudIter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudIter").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<I: Iterator> CloudIter<I> {
    /// How many items a worker gets. Few of them even out how long they take; many cost less beside the work itself.
    ///
    /// Default: a quarter of a worker's equal share of all items, and at most 1,000; with
    /// [`init`](Self::init) or [`finish`](Self::finish), its whole share, so that they run as seldom as possible. If
    /// the number of items isn't known, the least that it can be counts. Whatever is set, a chunk is full when the
    /// arguments of its calls have 2 MiB.
    ///
    /// # Panics
    /// If it is 0.
    pub fn with_chunk(mut self, items: usize) -> Self {
        assert!(items > 0, "a chunk has to have at least one item");
        self.settings.chunk = Some(items);
        self
    }

    /// How many workers run at once. Default: what
    /// [`available_parallelism`](crate::thread::available_parallelism) says. The setting `concurrency` holds as well.
    ///
    /// # Panics
    /// If it is 0: nothing would ever run.
    pub fn with_concurrency(mut self, workers: usize) -> Self {
        assert!(workers > 0, "at least one worker has to run at once");
        self.settings.concurrency = Some(workers);
        self
    }

    /// The workers' name, and the limits of the function: retries, timeout and memory. The timeout is that of one
    /// item.
    pub fn with_builder(mut self, builder: thread::Builder) -> Self {
        (self.settings.name, self.settings.options) = builder.into_parts();
        self
    }

    /// Runs a cloud function once in each worker, before its items: it loads what they need. Takes a task, or a
    /// closure that returns one.
    ///
    /// It runs in the same thread as the items, so what it leaves in a [`thread_local!`](std::thread_local) is there
    /// for them, in every back end. If it fails, so do the worker's items, and a retry begins with it again. What
    /// rayon's `map_init` passes to its closure stays in a variable here: a cloud function's arguments are encoded
    /// before its worker exists.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use crucial::{cloud_fn, iter::IntoCloudIterator};
    ///
    /// thread_local! {
    ///     static MODEL: RefCell<Vec<f64>> = RefCell::default();
    /// }
    ///
    /// #[cloud_fn]
    /// fn load(size: usize) {
    ///     MODEL.replace(vec![0.5; size]);
    /// }
    ///
    /// #[cloud_fn]
    /// fn apply(x: f64) -> f64 {
    ///     MODEL.with_borrow(|model| model.iter().sum::<f64>() * x)
    /// }
    ///
    /// let results: Vec<_> = [1.0, 2.0].into_cloud_iter().init(|| load(10)).map(apply).collect();
    /// assert_eq!(results, [5.0, 10.0]);
    /// ```
    ///
    /// # Panics
    /// If an argument can't be encoded.
    pub fn init<W: IntoTask>(mut self, work: W) -> Self {
        self.settings.init = Some(Call::of(work));
        self
    }

    /// Runs a cloud function once in each worker, after its items: it saves what they leave, or tells of it. It runs
    /// also when an item has panicked, but not if the initialiser has, or the process died. If it fails, so do the
    /// worker's items. See [`init`](Self::init).
    ///
    /// # Panics
    /// If an argument can't be encoded.
    pub fn finish<W: IntoTask>(mut self, work: W) -> Self {
        self.settings.finish = Some(Call::of(work));
        self
    }

    /// Shows how many items are done, under this name: a bar on standard error, if that is a terminal, and otherwise
    /// nothing. What function processes print appears above it. What threads of this process print may write over it
    /// until it is drawn again.
    #[cfg(feature = "progress")]
    pub fn progress(mut self, what: impl Into<String>) -> Self {
        self.settings.progress = Some(what.into());
        self
    }

    /// Calls a cloud function for each item: `map(f)`, or `map(|item| f(item, &more))`. The closure runs here, as the
    /// one of [`thread::spawn`]. After rayon's `map`.
    pub fn map<F, R: 'static>(self, f: F) -> Map<I, F>
    where
        F: FnMut(I::Item) -> Task<R>,
    {
        Map::new(self.items, f, self.settings)
    }

    /// Calls a cloud function for each item and waits for all of them. After rayon's `for_each`.
    ///
    /// ```
    /// use crucial::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use crucial::{cloud_fn, iter::IntoCloudIterator};
    ///
    /// #[cloud_fn]
    /// fn add(total: &AtomicU64, n: u64) {
    ///     total.fetch_add(n, Relaxed);
    /// }
    ///
    /// let total = AtomicU64::new(0);
    /// (1..=10).into_cloud_iter().for_each(|n| add(&total, n));
    /// assert_eq!(total.load(Relaxed), 55);
    /// ```
    ///
    /// # Panics
    /// If the function fails for an item, or the back end can't be started.
    pub fn for_each<F>(self, f: F)
    where
        F: FnMut(I::Item) -> Task<()>,
    {
        for (item, result) in self.map(f).unordered() {
            result.unwrap_or_else(|error| map::fail(item, &error));
        }
    }
}
