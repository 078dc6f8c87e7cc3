use crucial_runtime::holder::{Holder, Lost};
use serde::{Deserialize, Serialize};

use super::holdings::{Holdings, fail, me};
use crate::{Result, shared};

/// What has become of the closure of a [`Once`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    Incomplete,
    Complete,
    Poisoned,
}

/// What a caller is to do.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Turn {
    /// Run the closure, and say what became of it.
    Run { token: u64, poisoned: bool },
    /// Nothing.
    Complete,
    /// Nothing: a closure failed before.
    Poisoned,
}

/// Runs a closure once, however many cloud threads ask for it. Follows [`std::sync::Once`].
///
/// The closure runs in the thread that asked first, while the others wait on the server without a thread of their own.
/// If it panics, or its process dies, the `Once` is poisoned.
///
/// ```
/// use crucial::{cloud_fn, shared, sync::{Once, atomic::{AtomicU32, Ordering::SeqCst}}, thread};
///
/// #[shared]
/// static START: Once = Once::new();
/// #[shared]
/// static RUNS: AtomicU32 = AtomicU32::new(0);
///
/// #[cloud_fn]
/// fn start() {
///     START.call_once(|| {
///         RUNS.fetch_add(1, SeqCst);
///     });
/// }
///
/// let threads: Vec<_> = (0..5).map(|_| thread::spawn(|| start())).collect();
/// threads.into_iter().for_each(|thread| thread.join().unwrap());
/// assert_eq!(RUNS.load(SeqCst), 1);
/// ```
#[shared]
#[derive(Debug)]
pub struct Once {
    progress: Progress,
    /// Whoever runs its closure.
    running: Holdings,
}

#[shared]
impl Once {
    /// One that has run no closure.
    pub fn new() -> Self {
        Once { progress: Progress::Incomplete, running: Holdings::default() }
    }

    /// Whether a closure has run to its end. Follows [`std::sync::Once::is_completed`].
    pub fn is_completed(&self) -> bool {
        self.progress == Progress::Complete
    }

    #[doc(hidden)]
    #[when(self.running.is_empty())]
    pub fn begin(&mut self, holder: Holder, force: bool) -> Turn {
        match self.progress {
            Progress::Complete => Turn::Complete,
            Progress::Poisoned if !force => Turn::Poisoned,
            progress => {
                Turn::Run { token: self.running.give(holder, ()), poisoned: progress == Progress::Poisoned }
            }
        }
    }

    /// A closure has ended. False if this caller was taken for lost meanwhile.
    #[doc(hidden)]
    pub fn end(&mut self, token: u64, completed: bool) -> Result<bool> {
        let there = self.running.take(token).is_some();
        if there {
            self.progress = if completed { Progress::Complete } else { Progress::Poisoned };
        }
        Ok(there)
    }

    #[doc(hidden)]
    #[when(self.running.is_empty() && (self.progress == Progress::Complete || self.progress == Progress::Poisoned && !force))]
    pub fn ended(&self, force: bool) -> Progress {
        self.progress
    }

    #[lost]
    fn take_back(&mut self, lost: &Lost) {
        if !self.running.take_lost(lost).is_empty() {
            self.progress = Progress::Poisoned;
        }
    }
}

const POISONED: &str = "Once instance has previously been poisoned";

impl Once {
    /// Runs the closure, unless one has run, and waits until it is done. Follows [`std::sync::Once::call_once`].
    ///
    /// # Panics
    /// If a closure panicked, or died with its process.
    #[track_caller]
    pub fn call_once(&self, f: impl FnOnce()) {
        self.call(false, |_| f());
    }

    /// As [`call_once`](Self::call_once), also if a closure panicked before. Follows
    /// [`std::sync::Once::call_once_force`].
    #[track_caller]
    pub fn call_once_force(&self, f: impl FnOnce(&OnceState)) {
        self.call(true, f);
    }

    #[track_caller]
    fn call(&self, force: bool, f: impl FnOnce(&OnceState)) {
        match self.begin(me(), force) {
            Turn::Complete => {}
            Turn::Poisoned => panic!("{POISONED}"),
            Turn::Run { token, poisoned } => {
                let mut running = Running { once: self, token, completed: false };
                f(&OnceState { poisoned });
                running.completed = true;
            }
        }
    }

    /// Waits until a closure has run. Follows [`std::sync::Once::wait`].
    ///
    /// # Panics
    /// If a closure panicked, or died with its process.
    #[track_caller]
    pub fn wait(&self) {
        assert!(self.ended(false) == Progress::Complete, "{POISONED}");
    }

    /// Waits until a closure has run to its end, whatever became of others. Follows [`std::sync::Once::wait_force`].
    #[track_caller]
    pub fn wait_force(&self) {
        self.ended(true);
    }
}

impl Default for Once {
    fn default() -> Self {
        Once::new()
    }
}

/// A closure that runs; its end is reported also if it panics.
struct Running<'a> {
    once: &'a Once,
    token: u64,
    completed: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        match self.once.end(self.token, self.completed) {
            Ok(true) => {}
            Ok(false) => fail(
                "a Once was poisoned while its closure ran, because this process was cut off from the server for longer \
                 than its lease",
            ),
            Err(error) => fail(&format!("the end of a Once's closure could not be reported: {error}")),
        }
    }
}

/// What a closure of [`Once::call_once_force`] is told. Follows [`std::sync::OnceState`].
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Whether a closure panicked before. Follows [`std::sync::OnceState::is_poisoned`].
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}
