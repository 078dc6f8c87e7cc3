//! Which thread this is: what cloud threads are called, wherever they run.

use std::{cell::RefCell, fmt, marker::PhantomData, sync::Arc, thread};

use serde::{Deserialize, Serialize};

use crate::id::{self, ThreadId};

/// What is known of a thread. It keeps this through all attempts, and it is the same for everybody who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Nobody else's.
    pub id: ThreadId,
    /// The name that was given to it.
    pub name: Option<String>,
    /// The path of the function that it runs; none for a thread that isn't a cloud thread.
    pub function: Option<String>,
}

impl Identity {
    /// A new cloud thread.
    #[must_use]
    pub fn of_task(function: &str, name: Option<String>) -> Arc<Self> {
        Arc::new(Identity { id: ThreadId(id::fresh()), name, function: Some(function.to_owned()) })
    }

    fn of_local_thread() -> Arc<Self> {
        let name = thread::current().name().map(str::to_owned);
        Arc::new(Identity { id: ThreadId(id::fresh()), name, function: None })
    }

    /// The name of an operating-system thread that runs it.
    pub(crate) fn system_name(&self) -> String {
        let name = self.name.as_deref().or(self.function.as_deref()).unwrap_or("cloud");
        // The operating system takes no such name.
        name.replace('\0', "\u{fffd}")
    }

    /// Makes this thread of the machine that cloud thread until the guard is dropped.
    #[must_use = "it is another thread again when the guard is dropped"]
    pub fn enter(self: &Arc<Self>) -> Entered {
        Entered {
            previous: CURRENT.replace(Some(self.clone())),
            at_end: AT_END.take(),
            stays_here: PhantomData,
        }
    }
}

type AtEnd = Vec<Box<dyn FnOnce()>>;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Identity>>> = const { RefCell::new(None) };
    static AT_END: RefCell<AtEnd> = const { RefCell::new(Vec::new()) };
}

/// The thread that calls: a cloud thread, or one of this process.
#[must_use]
pub fn current() -> Arc<Identity> {
    CURRENT.with_borrow_mut(|current| current.get_or_insert_with(Identity::of_local_thread).clone())
}

/// Has something done when the attempt of a cloud thread that runs here ends. Elsewhere, it is never done.
pub fn at_end(f: impl FnOnce() + 'static) {
    if current().function.is_some() {
        AT_END.with_borrow_mut(|at_end| at_end.push(Box::new(f)));
    }
}

/// An attempt of a cloud thread on a thread of this process; see [`Identity::enter`].
pub struct Entered {
    previous: Option<Arc<Identity>>,
    at_end: AtEnd,
    stays_here: PhantomData<*const ()>,
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

impl Entered {
    /// Leaves undone what was to be done at the end: another attempt has taken the place of this one.
    pub fn abandon(self) {
        AT_END.take();
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        for f in AT_END.replace(std::mem::take(&mut self.at_end)) {
            f();
        }
        CURRENT.set(self.previous.take());
    }
}
