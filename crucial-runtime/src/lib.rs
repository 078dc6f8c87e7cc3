//! What generated code, clients and servers of `crucial` share.
//!
//! Programs use the `crucial` crate; this one is its machinery:
//!
//! - [`object`]: the object trait and the registry of shared types; [`digest`]: whether two states are equal,
//! - [`mod@reference`]: object references, keys and the handles' common trait,
//! - [`data`]: what can travel; [`function`] and [`task`]: the registry of cloud functions and the work they describe,
//! - [`shared_fn`]: the registry of the functions that servers apply to values; [`ordered`] encodes keys in order,
//! - [`thread`]: which thread this is; [`transit`]: what arguments on their way hold,
//! - [`backend`]: where cloud threads run; [`lambda`] is the local Lambda service of the process back end,
//! - [`holder`]: who holds a lock and the like, and what is done when that process is lost,
//! - [`wire`] and [`client`]: the data plane's protocol and its client side; [`net`]: the connections of async
//!   code; [`security`]: who may take part,
//! - [`run`]: one execution of a program, which ties these together,
//! - [`config`]: every setting, with its default and its source.

// The macros' code says `::crucial`, here too.
#[cfg(feature = "processes")]
extern crate self as crucial;

pub mod backend;
pub mod bulk;
pub mod call;
pub mod client;
pub mod codec;
pub mod config;
pub mod context;
pub mod data;
pub mod digest;
pub mod dso;
pub mod error;
pub mod function;
pub mod holder;
pub mod id;
#[cfg(feature = "processes")]
pub mod lambda;
pub mod net;
pub mod object;
pub mod ordered;
pub mod reference;
mod registry;
pub mod run;
pub mod security;
pub mod shared_fn;
pub mod support;
pub mod task;
pub mod terminal;
pub mod thread;
pub mod transit;
pub mod wire;

// For shared types of these crates' own.
#[doc(hidden)]
pub use support as __private;
