//! What objects remember of the things that processes hold: locks, permits, the ends of channels.

use std::collections::BTreeMap;

use crucial_runtime::holder::{Holder, Lost};
use serde::{Deserialize, Serialize};

use crate::{Shared, typed::done};

/// What was given to holders and not yet taken back: each piece has a number of its own, the fencing token.
///
/// Invariant: a token is accepted once. Whoever was found lost holds tokens that are no longer here, so nothing that
/// it gives back or writes is accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Holdings<T = ()> {
    given: u64,
    held: BTreeMap<u64, (Holder, T)>,
}

impl<T> Default for Holdings<T> {
    fn default() -> Self {
        Holdings { given: 0, held: BTreeMap::new() }
    }
}

impl<T> Holdings<T> {
    /// Gives something to a holder. Returns the token.
    pub(super) fn give(&mut self, holder: Holder, what: T) -> u64 {
        let token = self.given;
        self.given += 1;
        self.held.insert(token, (holder, what));
        token
    }

    /// Takes back what was given under this token, if it is still held.
    pub(super) fn take(&mut self, token: u64) -> Option<T> {
        self.held.remove(&token).map(|(_, what)| what)
    }

    /// Takes back what lost processes hold.
    pub(super) fn take_lost(&mut self, lost: &Lost) -> Vec<T> {
        self.held.extract_if(.., |_, (holder, _)| lost.includes(*holder)).map(|(_, (_, what))| what).collect()
    }

    /// What is held under this token.
    pub(super) fn get(&self, token: u64) -> Option<&T> {
        self.held.get(&token).map(|(_, what)| what)
    }

    /// The tokens and what they stand for, in the order in which they were given.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.held.iter_mut().map(|(token, (_, what))| (*token, what))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.held.iter().map(|(token, (_, what))| (*token, what))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// This process, as a holder.
#[track_caller]
pub(super) fn me() -> Holder {
    done(Holder::current())
}

/// A guard can't write or give back what it held. A destructor that panics while its thread panics would end the
/// process, and hide the first panic.
#[track_caller]
pub(super) fn fail(message: &str) {
    if std::thread::panicking() {
        tracing::error!("{message}");
    } else {
        panic!("{message}");
    }
}

/// An object's name for a message.
pub(super) fn name(what: &str, object: &impl Shared) -> String {
    match object.key() {
        Some(key) => format!("the {what} {key:?}"),
        None => format!("the {what}"),
    }
}
