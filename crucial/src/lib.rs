//! `std` for a datacenter: threads as serverless functions, shared state as linearizable remote objects.

// Generated code says `::crucial`, here too: the library is written with its own macros.
extern crate self as crucial;

pub use crucial_macros::{cloud_fn, main, shared, test};
pub use crucial_runtime::{
    bulk,
    call::Call,
    config::{BackendKind, Config, Limits},
    context::Context,
    error::{Error, Result},
    reference::{Shared, Static},
    run,
    task::Task,
};

pub mod collections;
pub mod sync;
pub mod thread;

mod cli;
mod entry;

/// What generated code uses. Not for people: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crucial_runtime::support::*;

    pub use crate::entry::{Mode, main, main_async, test};
}
