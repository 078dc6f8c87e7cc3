//! What an argument that is on its way holds: the end of a channel, say, which nobody has until the function begins.
//!
//! While the arguments of a task are encoded, such a value says here what is to be done if the function never takes it.
//! That is done when the task has ended, whether it ran or not; it has no effect if the value was taken.

use std::{cell::RefCell, fmt, future::Future, pin::Pin};

use crate::run;

type Release = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    static CURRENT: RefCell<Option<Vec<Release>>> = const { RefCell::new(None) };
}

/// What is to be done when a task has ended.
#[derive(Default)]
pub struct Transit(Vec<Release>);

impl fmt::Debug for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transit").field(&self.0.len()).finish()
    }
}

impl Transit {
    /// Encodes arguments, and collects what they have to be done for when the task has ended.
    pub fn of<R>(encode: impl FnOnce() -> R) -> (R, Transit) {
        struct Restore(Option<Vec<Release>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(Vec::new())));
        let result = encode();
        (result, Transit(CURRENT.take().unwrap_or_default()))
    }

    /// Leaves undone what was to be done: somebody else sees to it.
    pub fn forget(mut self) {
        self.0.clear();
    }
}

impl Drop for Transit {
    fn drop(&mut self) {
        for release in self.0.drain(..) {
            run::io().spawn(release);
        }
    }
}

/// Has something done when the task has ended whose arguments are being encoded; elsewhere, it is never done.
pub fn at_task_end(release: impl Future<Output = ()> + Send + 'static) {
    CURRENT.with_borrow_mut(|current| {
        if let Some(current) = current {
            current.push(Box::pin(release));
        }
    });
}
