use std::{fmt, sync::Arc};

use crucial_runtime::{id, thread::Identity};
use serde::{Deserialize, Serialize};

use super::parker;

/// Tells a thread from all others, in whatever process of the run. Follows [`std::thread::ThreadId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ThreadId(pub(super) id::ThreadId);

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadId({:032x})", self.0.0)
    }
}

/// A handle to a thread. Follows [`std::thread::Thread`], and it can travel: as an argument of a cloud function, or
/// inside a shared object.
///
/// ```
/// use crucial::{cloud_fn, thread};
///
/// #[cloud_fn]
/// fn id() -> thread::ThreadId {
///     thread::current().id()
/// }
///
/// let other = thread::spawn(id);
/// let known = other.thread().id();
/// assert_eq!(other.join(), Ok(known));
/// assert_ne!(known, thread::current().id());
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Thread(Arc<Identity>);

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Thread {
    pub(crate) fn of(identity: Arc<Identity>) -> Self {
        Thread(identity)
    }

    /// Its identity: no other thread of this or another run has the same.
    #[must_use]
    pub fn id(&self) -> ThreadId {
        ThreadId(self.0.id)
    }

    /// The name that its [`Builder`](super::Builder) gave it. Threads that aren't cloud threads have std's: `main`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The path of the function that it runs; empty if it isn't a cloud thread.
    #[must_use]
    pub fn function(&self) -> &str {
        self.0.function.as_deref().unwrap_or_default()
    }

    /// Makes the thread's token available: [`park`](super::park) returns, now or when it is called next. Two calls
    /// before that make one token. Works from any thread of the run. Follows [`std::thread::Thread::unpark`].
    ///
    /// # Panics
    /// If the server that holds the token fails, as every blocking call.
    #[track_caller]
    pub fn unpark(&self) {
        parker::of(self.id()).give();
    }
}
