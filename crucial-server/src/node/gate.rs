//! Whether calls of a partition's ephemeral objects are let in.

use std::sync::{
    RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
};

/// A gate, closed at first. Who is in doesn't keep it from being closed, only from being empty.
///
/// Invariant: when [`empty`](Gate::empty) returns after [`close`](Gate::close), nobody is in, or gets in until it is opened.
/// Whoever took the lock after that sees that it is closed; whoever took it before was waited for.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: AtomicBool,
    inside: RwLock<()>,
}

impl Gate {
    /// Lets a call in if the gate is open, until the guard is dropped.
    pub(crate) fn enter(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let inside = self.inside.read().unwrap();
        self.is_open().then_some(inside)
    }

    /// Whether calls are let in.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Lets calls in.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Lets no more calls in. Those that are in stay.
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Waits until those have ended that are in.
    pub(crate) fn empty(&self) {
        drop(self.inside.write().unwrap());
    }
}
