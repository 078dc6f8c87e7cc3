use std::{
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// A cloud thread's end before its time: one end asks for it, the back end brings it about.
#[derive(Clone, Default)]
pub struct Abort(Arc<Mutex<State>>);

enum State {
    Waiting(Vec<Box<dyn FnOnce() + Send>>),
    Aborted,
}

impl Default for State {
    fn default() -> Self {
        State::Waiting(Vec::new())
    }
}

impl fmt::Debug for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Abort").finish_non_exhaustive()
    }
}

impl Abort {
    /// Asks for the end. Asking again changes nothing.
    pub fn abort(&self) {
        let before = mem::replace(&mut *self.state(), State::Aborted);
        if let State::Waiting(hooks) = before {
            hooks.into_iter().for_each(|hook| hook());
        }
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        matches!(*self.state(), State::Aborted)
    }

    /// Has something done when the end is asked for: now, if it was.
    pub fn then(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        match &mut *state {
            State::Waiting(hooks) => hooks.push(Box::new(hook)),
            State::Aborted => {
                drop(state);
                hook();
            }
        }
    }

    /// Waits until the end is asked for; for ever, if it isn't.
    pub async fn aborted(&self) {
        let (sender, receiver) = oneshot::channel();
        self.then(move || {
            // Who waited has gone on.
            let _ = sender.send(());
        });
        // This handle keeps the hook, so the sender isn't lost.
        let _ = receiver.await;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Hooks run without the lock, so a panic in one leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
