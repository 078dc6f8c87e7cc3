//! The attributes of `crucial`: [`macro@shared`], [`macro@cloud_fn`], [`macro@main`] and [`macro@test`].
//!
//! Programs import them from `crucial`. Each goes from tokens to a model (`parse`), which is checked (`check`, all
//! mistakes at once) and expanded (`expand`) into code that calls `crucial::__private`, where the logic is.

mod check;
mod errors;
mod expand;
mod model;
mod parse;
mod text;

use proc_macro::TokenStream;

/// Shares a struct, its impl block, a static, or a function that servers apply to values, so that all threads of a
/// program see the same, wherever they run.
///
/// ```ignore
/// use crucial::{cloud_fn, shared};
///
/// #[shared]
/// pub struct Semaphore {
///     permits: u32,
/// }
///
/// #[shared]
/// impl Semaphore {
///     pub fn new(permits: u32) -> Self {
///         Semaphore { permits }
///     }
///
///     #[when(self.permits >= n)]
///     pub fn acquire(&mut self, n: u32) {
///         self.permits -= n;
///     }
///
///     pub fn release(&mut self, n: u32) {
///         self.permits += n;
///     }
///
///     pub fn permits(&self) -> u32 {
///         self.permits
///     }
/// }
///
/// #[shared]
/// static CPUS: Semaphore = Semaphore::new(4);
///
/// #[cloud_fn]
/// fn work() {
///     CPUS.acquire(1);
///     // ...
///     CPUS.release(1);
/// }
/// ```
///
/// # On a struct
///
/// The name becomes the *handle* of an object: small, `Clone`, `Send + Sync`, comparable, and serializable, so that it
/// can be an argument of a cloud function or a field of another object. The fields move to the *state*, which lives on
/// a server and derives serde's traits.
///
/// | option | meaning |
/// |---|---|
/// | `key = "model"` | constructors make the one object with this key, or find it |
/// | `persistent` | objects live until they are removed, and all runs of the program share them |
/// | `instances(Stats<f64>, Stats<u32>)` | the instances of a generic struct, which a server has to know by name |
///
/// - Put `#[shared]` above all other attributes. `#[derive(..)]` below it is for the state; the handle has what it
///   needs.
/// - Fields own their data, and their types implement `Serialize`, `Deserialize`, `Send` and `Sync`. Serde's field
///   attributes work.
/// - `Vec<P>`, `Box<[P]>` and `[P; N]` with `P` a number are stored and sent as one block of bytes, as arguments and
///   results, too.
/// - Type parameters get the bounds that data needs.
///
/// # On its impl block
///
/// Public methods become calls, and all others stay helpers. Inside of the block the struct's name and `Self` mean the
/// state, so that bodies are plain Rust. A type has one shared impl block.
///
/// - `&self` is a read and `&mut self` is a write. Reads of an object run in parallel, a write runs alone and exactly
///   once.
/// - A public function that returns `Self` is a constructor. `Semaphore::new(4)` makes an object without a name,
///   `Semaphore::at("cpus").new(4)` makes or finds the one with this key, and `.persistent()` in between makes it
///   persistent.
/// - `semaphore.acquire(1)` blocks, and panics if the call fails. A method that returns `Result<_, E>` with
///   `E: From<crucial::Error>` returns the failure instead. `semaphore.remote().acquire(1)` is a `Call`, to be awaited
///   or waited for, that gives a `Result`.
/// - Arguments and results travel: they are owned and serializable. An argument may be a reference as a whole (`&str`,
///   `&[T]`, `&T`): it is lent to the body.
/// - `cx: &mut Context` (or `&Context`) is no argument: it gives a method the time and random numbers of its call.
///
/// **`#[when(condition)]`** is a guard: a call waits on the server until the condition holds. `self` is the state and
/// arguments go by their names; neither can be changed. Calls that wait are tried in the order of their arrival after
/// every write.
///
/// **`#[then(method)]`** on a `&mut self` method lets a call continue in another method of the block, with the returned
/// value as its one argument, in the same round trip. The caller gets what that one returns. A barrier is: arrive, then
/// pass when the round is over.
///
/// ```ignore
/// #[shared]
/// impl Barrier {
///     #[then(pass)]
///     pub fn wait(&mut self) -> u64 {
///         let round = self.round;
///         self.waiting += 1;
///         if self.waiting == self.parties {
///             self.waiting = 0;
///             self.round += 1;
///         }
///         round
///     }
///
///     #[when(self.round > round)]
///     fn pass(&mut self, round: u64) {}
/// }
/// ```
///
/// **`#[lost]`** on a `&mut self` method with one argument, a `&Lost`, has the server call it when processes are lost: when
/// they died, or were cut off for longer than the lease. A type that gives things away for a time takes the caller, a
/// `Holder`, as an argument where it does so, and takes back there what the lost ones hold. A block has at most one.
///
/// ```ignore
/// #[shared]
/// impl Pool {
///     #[when(!self.free.is_empty())]
///     pub fn take(&mut self, holder: Holder) -> Option<u32> {
///         let item = self.free.pop()?;
///         self.taken.push((holder, item));
///         Some(item)
///     }
///
///     #[lost]
///     fn take_back(&mut self, lost: &Lost) {
///         let back = self.taken.extract_if(.., |(holder, _)| lost.includes(*holder));
///         self.free.extend(back.map(|(_, item)| item));
///     }
/// }
/// ```
///
/// A private method is registered if it has a guard or is where another continues, but the handle doesn't have it.
///
/// # On a static
///
/// The object's key is the path of the static, and it is made on first use by the constructor call that initializes
/// the static. Options: `key = "hits"` for another key, and `persistent`.
///
/// # On a function
///
/// A collection's methods take shared functions where those of std take closures: the function runs on the server,
/// where the values are, and nobody sees a value half changed.
///
/// ```ignore
/// use crucial::{collections::HashMap, shared};
///
/// #[shared]
/// fn add(total: &mut u64, by: u64) {
///     *total += by;
/// }
///
/// let hits: HashMap<String, u64> = HashMap::new();
/// hits.merge("home".to_owned(), 1, add);
/// hits.merge("home".to_owned(), 1, add);
/// assert_eq!(hits.get("home"), Some(2));
///
/// let mut local = 1;
/// add(&mut local, 1); // runs here
/// ```
///
/// - The first argument is the value, which stays on its server: `&mut T` to change it, `&T` to look at it. A `&str` is
///   that of a `String`, and a `&[T]` that of a `Vec<T>`.
/// - The others travel. An argument may be a reference as a whole (`&str`, `&[T]`, `&T`): callers give the owned value
///   (`String`, `Vec<T>`, `T`), which is lent to the body. Several arguments are given as a tuple, none as `()`.
/// - The result travels back.
/// - The name becomes a constant, a [`Function`](../crucial/struct.Function.html), so that a closure, or a function
///   without the attribute, doesn't compile. As with any constant, no variable or argument in its scope can have the
///   same name. The server finds the function by its path, so it is no method, has no type
///   parameters and captures nothing; it isn't `async`.
/// - It has to be deterministic, and a panic in it is a panic in the collection's method: it poisons the collection if
///   the method is one that changes it.
#[proc_macro_attribute]
pub fn shared(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::shared(options.into(), item.into()).into()
}

/// Makes a function one that cloud threads run: calling it describes the work, as with an `async fn`.
///
/// ```ignore
/// use crucial::{cloud_fn, thread};
///
/// #[cloud_fn(retries = 3, timeout = "30s", memory = "512MB")]
/// fn sum(values: &[f64]) -> f64 {
///     values.iter().sum()
/// }
///
/// let values = vec![0.5; 1000];
/// let total = thread::spawn(|| sum(&values)).join().unwrap();
/// ```
///
/// `fn f(args) -> T` becomes `fn f(args) -> Task<T>`, and the arguments are encoded by the call. `task.here()` runs it
/// on the calling thread.
///
/// | option | meaning |
/// |---|---|
/// | `retries = 3` | how often a failed attempt is repeated |
/// | `timeout = "30s"` | how long an attempt may take: a whole number of `us`, `ms`, `s`, `min` or `h` |
/// | `memory = "512MB"` | how much memory an attempt may use, in `MB` or `GB` (of 2²⁰ and 2³⁰ bytes, as on AWS), or as a number of MB |
/// | `instances(f<u64>, f<String>)` | the instances of a generic function, which a cloud thread has to find by name |
///
/// Without an option the configuration decides.
///
/// - Arguments and results travel: they are owned and serializable. An argument may be a reference as a whole (`&str`,
///   `&[T]`, `&T`): it is lent to the body. Blocks of numbers move at the speed of memory.
/// - The function stands alone: it is no method and captures nothing. It may be generic over types and constants; its type
///   parameters are [`Data`](../crucial/trait.Data.html). As generic code may call it for any, it is at run time that
///   it fails for those that it doesn't name: as a thread that can't be spawned. It may be `async`; its
///   future has to be `Send`.
/// - Its name is its path, so two functions in one module, be it inside of other functions, have different names.
#[proc_macro_attribute]
pub fn cloud_fn(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::cloud_fn(options.into(), item.into()).into()
}

/// The entry point of a program, which is client, cloud function and server in one.
///
/// ```ignore
/// #[crucial::main]
/// fn main() {
///     println!("only the client comes here");
/// }
/// ```
///
/// How the process was started decides its role; the body is the client's. The function takes no arguments, returns
/// anything that `main` may return, and may be `async`: then it runs on a multi-thread runtime.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(options.into(), item.into()).into()
}

/// A test that may use shared objects and cloud threads. Each test is a run of its own.
///
/// ```ignore
/// #[crucial::test]
/// fn counts() { /* as the environment configures it */ }
///
/// #[crucial::test(modes(embedded, processes, server))]
/// fn counts_everywhere() { /* `counts_everywhere::embedded` and so on */ }
/// ```
///
/// | mode | shared objects | cloud threads |
/// |---|---|---|
/// | `embedded` | in the test's process | threads |
/// | `processes` | in the test's process | processes |
/// | `server` | in a process of their own, or with `CRUCIAL_TEST_NODES=3` in a cluster of three | threads |
///
/// With `modes`, the test becomes a module with one test for each of them. `#[ignore]`, `#[should_panic]` and a
/// returned `Result` work as usual, and the test may be `async`.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(options.into(), item.into()).into()
}
