//! Who holds something of an object, and what becomes of it when that process is lost.
//!
//! A lock, a permit or the end of a channel is given to a process, which may die before it gives it back. The object
//! remembers the [`Holder`]; when the server finds that holders are [`Lost`], it tells every object whose type has a
//! `#[lost]` method.
//!
//! A process is lost when it had no connection to the server for the length of the lease, when its run has ended, or as
//! soon as a back end reports that the process has died.
//!
//! Invariant: a process that comes back after it was lost holds nothing. Its calls of before are withdrawn or refused,
//! and what it was given carries a number (a fencing token) that the object no longer accepts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{codec, error::Result, id::MemberId, run::Run};

/// A process, as the one that holds something of an object.
///
/// A method that gives something away takes it as an argument, and remembers it beside what it gave, until it is given
/// back or the object's `#[lost]` method is told that the process is [`Lost`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder(MemberId);

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {:08x}", (self.0.0 >> 96) as u32)
    }
}

impl Holder {
    /// This process, in the run that this thread belongs to.
    ///
    /// # Errors
    /// If there is no run and none can be started; see [`Run::current`].
    pub fn current() -> Result<Self> {
        Run::with(|run| Holder(run.member()))
    }
}

/// Processes that are lost: what a `#[lost]` method is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// In their order.
    members: Vec<MemberId>,
}

impl Lost {
    /// These processes.
    #[must_use]
    pub fn new(mut members: Vec<MemberId>) -> Self {
        members.sort_unstable();
        Lost { members }
    }

    /// Whether the holder is among them.
    #[must_use]
    pub fn includes(&self, holder: Holder) -> bool {
        self.members.binary_search(&holder.0).is_ok()
    }

    /// The encoded arguments of a `#[lost]` method.
    ///
    /// # Panics
    /// Never: numbers can be encoded.
    #[must_use]
    pub fn to_args(&self) -> Vec<u8> {
        let mut args = Vec::new();
        codec::encode("lost holders", &(self,), &mut args).expect("numbers can be encoded");
        args
    }

    /// Which they are, in their order.
    #[must_use]
    pub fn members(&self) -> &[MemberId] {
        &self.members
    }
}
