//! `std` for a datacenter: threads run as serverless functions, and shared state lives in linearizable remote objects.
//!
//! A multi-threaded program written with [`std::thread`] and [`std::sync`] becomes a distributed one: the imports
//! change, and three attributes are added. The modules here are those of `std`: [`thread`], [`sync`],
//! [`sync::atomic`], [`collections`]. Two more hold what programs build from threads: [`executor`] and [`iter`].
//!
//! In the repository, `docs/porting.md` ports a program step by step, and `docs/std.md` says of every method of `std`
//! what became of it here.
//!
//! # Quick start
//!
//! ```toml
//! [dependencies]
//! crucial = { git = "…" }                             # or a path
//! serde = { version = "1.0", features = ["derive"] }  # used by the code that the attributes generate
//! ```
//!
//! ```
//! use crucial::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use crucial::{cloud_fn, shared, thread};
//!
//! #[shared]
//! static HITS: AtomicU64 = AtomicU64::new(0);
//!
//! /// Throws darts at a square and counts those that hit the quarter circle in it.
//! #[cloud_fn]
//! fn throw(mut seed: u64, darts: u64) {
//!     let mut random = || {
//!         seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
//!         (seed >> 11) as f64 / (1_u64 << 53) as f64
//!     };
//!     let hits = (0..darts).filter(|_| random().powi(2) + random().powi(2) <= 1.0).count();
//!     HITS.fetch_add(hits as u64, Relaxed);
//! }
//!
//! #[crucial::main]
//! fn main() {
//!     let threads: Vec<_> = (0..8).map(|i| thread::spawn(move || throw(i, 100_000))).collect();
//!     for thread in threads {
//!         thread.join().unwrap();
//!     }
//!     println!("π ≈ {}", 4.0 * HITS.load(Relaxed) as f64 / 800_000.0);
//! }
//! ```
//!
//! `cargo run` runs this in one process: the threads are threads, and the counter lives in a server inside the
//! program. `CRUCIAL_BACKEND=processes cargo run` gives each thread a process. The program is the same.
//!
//! # The attributes
//!
//! **[`#[crucial::main]`](main)** goes on `fn main`, which may be `async`. It finds out how the process was started:
//! as the program, as a function process that runs one cloud thread at a time, or as `app crucial ...`, the tool to
//! serve and inspect objects.
//!
//! **[`#[cloud_fn]`](cloud_fn)** goes on a function. Calling it then only describes the work, as with an `async fn`:
//! it returns a [`Task`]. [`thread::spawn`] takes a task, or a closure that returns one, and runs it in a cloud
//! thread; [`Task::here`] runs it on this thread. Arguments and results are copied, so their types implement serde's
//! traits. `#[cloud_fn(retries = 3, timeout = "30s", memory = "512MB")]` sets limits.
//!
//! **[`#[shared]`](shared)** goes on four things.
//!
//! - *A struct and its impl block.* The fields move to a server, and the name becomes a handle: small, [`Clone`],
//!   [`Send`], and able to travel as an argument of a cloud function or inside another object. Public methods become
//!   calls. A method with `&self` is a read and may run in parallel with others; one with `&mut self` is a write and
//!   runs alone.
//! - *A static.* It names one object that all threads share, which is made on first use.
//! - *A function* whose first argument is a `&mut T` or `&T`. [Collections](collections) take it where those of std
//!   take a closure, and the server applies it to its values: see [`Function`].
//!
//! ```
//! use crucial::{cloud_fn, shared, thread};
//!
//! #[shared]
//! struct Mean {
//!     sum: f64,
//!     count: u32,
//! }
//!
//! #[shared]
//! impl Mean {
//!     pub fn new() -> Self {
//!         Mean { sum: 0.0, count: 0 }
//!     }
//!
//!     /// Adds values: the loop runs on the server, and nobody else sees it half done.
//!     pub fn add(&mut self, values: &[f64]) {
//!         self.sum += values.iter().sum::<f64>();
//!         self.count += values.len() as u32;
//!     }
//!
//!     /// Waits until there are `n` values.
//!     #[when(self.count >= n)]
//!     pub fn of(&self, n: u32) -> f64 {
//!         self.sum / f64::from(self.count)
//!     }
//! }
//!
//! #[cloud_fn]
//! fn measure(mean: &Mean, start: u32) {
//!     mean.add(&[f64::from(start), f64::from(start + 1)]);
//! }
//!
//! let mean = Mean::new();
//! let threads: Vec<_> = (0..4).map(|i| thread::spawn(|| measure(&mean, 2 * i))).collect();
//! assert_eq!(mean.of(8), 3.5);
//! for thread in threads {
//!     thread.join().unwrap();
//! }
//! ```
//!
//! `#[when(condition)]` is a guard: the call waits on the server, without a thread of its own, until the condition
//! holds. `#[then(method)]` goes on in another guarded method with the value that this one returned, in the same
//! call. Time and randomness in a method come from its last argument, a [`Context`].
//!
//! `#[lost]` goes on the method that takes back what lost processes held. A method that gives something away takes the
//! caller, a [`Holder`], as an argument, and remembers it; when the server finds that holders are [`Lost`] (they died,
//! or were cut off for longer than the [lease](Config::lease)), it calls that method. This is how
//! [locks, permits and channels](sync#when-a-process-dies) are made.
//!
//! ```
//! use std::collections::VecDeque;
//! use crucial::{Holder, Lost, cloud_fn, shared, thread};
//!
//! /// Jobs, each of which is done although some of the workers may die.
//! #[shared]
//! struct Jobs {
//!     waiting: VecDeque<String>,
//!     taken: Vec<(Holder, String)>,
//! }
//!
//! #[shared]
//! impl Jobs {
//!     pub fn new(jobs: &[String]) -> Self {
//!         Jobs { waiting: jobs.iter().cloned().collect(), taken: Vec::new() }
//!     }
//!
//!     /// Waits for a job; `None` when all of them are done.
//!     #[when(!self.waiting.is_empty() || self.taken.is_empty())]
//!     pub fn take(&mut self, worker: Holder) -> Option<String> {
//!         let job = self.waiting.pop_front()?;
//!         self.taken.push((worker, job.clone()));
//!         Some(job)
//!     }
//!
//!     /// False if the worker was taken for lost: then somebody else does the job.
//!     pub fn done(&mut self, worker: Holder, job: &str) -> bool {
//!         let found = self.taken.iter().position(|(holder, taken)| *holder == worker && taken == job);
//!         found.map(|at| self.taken.swap_remove(at)).is_some()
//!     }
//!
//!     #[lost]
//!     fn take_back(&mut self, lost: &Lost) {
//!         let back = self.taken.extract_if(.., |(holder, _)| lost.includes(*holder));
//!         self.waiting.extend(back.map(|(_, job)| job));
//!     }
//! }
//!
//! #[cloud_fn]
//! fn work(jobs: &Jobs) -> Result<u32, crucial::Error> {
//!     let me = Holder::current()?;
//!     let mut done = 0;
//!     while let Some(job) = jobs.take(me) {
//!         // ...
//!         done += u32::from(jobs.done(me, &job));
//!     }
//!     Ok(done)
//! }
//!
//! let jobs = Jobs::new(&["sweep", "mop", "dust"].map(String::from));
//! let workers: Vec<_> = (0..2).map(|_| thread::spawn(|| work(&jobs))).collect();
//! let done: u32 = workers.into_iter().map(|worker| worker.join().unwrap().unwrap()).sum();
//! assert_eq!(done, 3);
//! ```
//!
//! # Names and lifetimes
//!
//! An object made by its constructor, as `Mean::new()`, is reached through its handle alone. `Mean::at("key").new()`
//! is the object of that name: it is made if it isn't there. A static has its path as its name. These objects are
//! *ephemeral*: they belong to one run of the program and end with it. `Mean::at("key").persistent().new()` and
//! `#[shared(persistent)]` make an object that outlives its programs and is shared by their runs. One server keeps it in
//! memory, and it ends with that; the servers of a cluster, which the feature `cluster` makes possible, keep copies of
//! it, also on disk.
//!
//! # Ways to call
//!
//! ```
//! use std::time::Duration;
//! use crucial::sync::atomic::{AtomicU64, Ordering::SeqCst};
//!
//! # fn main() -> Result<(), crucial::Error> {
//! let n = AtomicU64::new(1);
//! n.fetch_add(1, SeqCst); // blocks; panics if the call fails for good
//! let call = n.remote().fetch_add(1, SeqCst); // a `Call`: `.await` it, or
//! assert_eq!(call.timeout(Duration::from_secs(5)).wait()?, 2); // wait for a `Result`
//! # Ok(()) }
//! ```
//!
//! A method whose result is a `Result<_, E>` with `E: From<crucial::Error>` reports failed calls in it.
//!
//! # Where things run
//!
//! | setting | effect |
//! |---|---|
//! | (none) | cloud threads are threads, objects live in this process |
//! | `CRUCIAL_BACKEND=processes` | each cloud thread runs in a process of this machine, started when needed and reused |
//! | `CRUCIAL_BACKEND=hybrid` | cloud threads are threads as long as the machine has CPUs for them, the others run in processes |
//! | `CRUCIAL_BACKEND=lambda` | each cloud thread is an invocation of a function on AWS Lambda; with the feature `aws` |
//! | `CRUCIAL_BACKEND=http` | each cloud thread is a request to a process of this program at `CRUCIAL_HTTP_URL`, started with `app crucial function` |
//! | `CRUCIAL_SERVERS=host:port` | objects live in a server: `app crucial serve` starts one, `app crucial status` looks into it |
//! | `CRUCIAL_TOKEN_FILE=file` | connections are encrypted, and only those who have the cluster token take part: `app crucial token` makes one; with the feature `tls` |
//!
//! `app` is your program: every program built with [`#[crucial::main]`](main) serves its own shared types. All
//! settings are fields of [`Config`], and come from `crucial.toml` in the working directory or above it, then from
//! the environment: `timeout = "30s"` is `CRUCIAL_TIMEOUT=30s`.
//!
//! # Many tasks
//!
//! [`thread::scope`] joins the threads that it started. An [`Executor`](executor::Executor) runs tasks from a queue,
//! so many at a time, and can be shut down. A parallel [iterator](iter) calls a function for each of its items, many
//! items to a cloud thread:
//!
//! ```
//! use crucial::{cloud_fn, iter::IntoCloudIterator};
//!
//! #[cloud_fn]
//! fn render(row: u32) -> Vec<u8> {
//!     (0..64).map(|column| ((row ^ column) * 4) as u8).collect()
//! }
//!
//! let picture: Vec<Vec<u8>> = (0..64).into_cloud_iter().map(render).collect();
//! assert_eq!(picture[1][3], 8);
//! ```
//!
//! Both show how far they are, if asked to: `.progress("rendering")`, with the feature `progress`, which is on by
//! default.
//!
//! # Errors
//!
//! [`JoinHandle::join`](thread::JoinHandle::join) returns an [`Error`] when the function panicked, exited, took too
//! long or used too much memory. Blocking calls panic, [`Call`]s return the error. A method that panics poisons its
//! object if it was a write, as a panic poisons [`std::sync::Mutex`]. An object whose server is gone is
//! [`Error::StateLost`], never an empty new one.
//!
//! # Tests
//!
//! `#[crucial::test]` goes on a test, each of which is a run of its own.
//! `#[crucial::test(modes(embedded, processes, server))]` makes one test for each place where things can run.

// Generated code says `::crucial`, here too: the library is written with its own macros.
extern crate self as crucial;

pub use crucial_macros::{cloud_fn, main, shared, test};
pub use crucial_runtime::{
    bulk,
    call::Call,
    config::{BackendKind, Config, HttpAuth, Limits},
    context::Context,
    data::Data,
    error::{Error, Result},
    holder::{Holder, Lost},
    reference::{Shared, Static},
    run,
    shared_fn::{Function, Inspect, Update},
    task::Task,
};

pub mod collections;
pub mod executor;
pub mod iter;
pub mod sync;
pub mod thread;

mod cli;
mod entry;
mod progress;
mod test;
mod typed;

/// The README's programs compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The porting guide's programs compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/porting.md")]
pub struct Porting;

/// What generated code uses. Not for people: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crucial_runtime::support::*;

    pub use crate::{
        entry::{main, main_async},
        test::{Mode, test},
    };
}
