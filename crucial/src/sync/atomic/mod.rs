//! Atomics that cloud threads share: [`std::sync::atomic`] across processes and machines.
//!
//! Every operation is one call of an object on a server, and the order of all calls of an object is the same for
//! everybody (linearizability), whatever [`Ordering`] says.
//!
//! There is no `AtomicPtr`: an address means something in one process only. What a program publishes through a pointer
//! is an [`OnceLock`](super::OnceLock), a [`Mutex`](super::Mutex) or a handle in a
//! [collection](crate::collections).

mod bool;
mod int;

pub use self::{
    bool::AtomicBool,
    int::{
        AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        AtomicUsize,
    },
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Memory orderings. Follows [`std::sync::atomic::Ordering`].
///
/// It is there so that programs need no change. Shared objects are linearizable, which is stronger than
/// [`Ordering::SeqCst`]; any ordering is accepted everywhere and makes no difference. So a combination for which std
/// panics, as a load that releases, does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ordering {
    /// No ordering asked for.
    Relaxed,
    /// For stores.
    Release,
    /// For loads.
    Acquire,
    /// For operations that load and store.
    AcqRel,
    /// Sequential consistency.
    SeqCst,
}

impl From<std::sync::atomic::Ordering> for Ordering {
    fn from(order: std::sync::atomic::Ordering) -> Self {
        use std::sync::atomic::Ordering as Std;
        match order {
            Std::Relaxed => Ordering::Relaxed,
            Std::Release => Ordering::Release,
            Std::Acquire => Ordering::Acquire,
            Std::AcqRel => Ordering::AcqRel,
            _ => Ordering::SeqCst,
        }
    }
}

/// Orders what this thread does with the memory of its own process, as [`std::sync::atomic::fence`] with
/// [`SeqCst`](Ordering::SeqCst). Calls of shared objects are in the order of the program without it.
///
/// Any ordering is accepted, where std panics for [`Relaxed`](Ordering::Relaxed).
pub fn fence(_order: Ordering) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// As [`fence`], for the compiler only. Follows [`std::sync::atomic::compiler_fence`].
pub fn compiler_fence(_order: Ordering) {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

// One byte on the wire.
impl Serialize for Ordering {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for Ordering {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
        let byte = u8::deserialize(deserializer)?;
        [Relaxed, Release, Acquire, AcqRel, SeqCst]
            .into_iter()
            .find(|order| *order as u8 == byte)
            .ok_or_else(|| de::Error::custom("no such ordering"))
    }
}
