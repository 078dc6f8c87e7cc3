use std::cell::Cell;

use crucial_runtime::thread as runtime;

use super::{Thread, ThreadId, current};
use crate::{Shared, shared};

/// A thread's token; see [`park`](super::park). It is made when somebody first asks for it.
#[shared]
#[doc(hidden)]
#[derive(Debug)]
pub struct Parker {
    token: bool,
}

#[shared]
impl Parker {
    /// No token.
    pub fn new() -> Self {
        Parker { token: false }
    }

    /// Makes the token available.
    pub fn give(&mut self) {
        self.token = true;
    }

    /// Waits for the token and takes it.
    #[when(self.token)]
    pub fn take(&mut self) {
        self.token = false;
    }

    /// Takes the token if it is there.
    pub fn try_take(&mut self) -> bool {
        std::mem::take(&mut self.token)
    }
}

pub(super) fn of(thread: ThreadId) -> Parker {
    Parker::at(format!("{:032x}", thread.0.0)).__lazy().new()
}

pub(super) fn of_this_thread() -> Parker {
    thread_local! {
        static IS_USED: Cell<bool> = const { Cell::new(false) };
    }
    let thread: Thread = current();
    let parker = of(thread.id());
    if !IS_USED.replace(true) {
        // A program may have a million threads that park, one after the other.
        let used = parker.clone();
        runtime::at_end(move || {
            IS_USED.set(false);
            // If it can't be reached now, it goes with the run.
            let _ = Shared::remove(&used);
        });
    }
    parker
}
