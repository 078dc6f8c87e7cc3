//! Cloud threads over HTTP: what runs on Kubernetes, Knative and Cloud Run.
//!
//! A function process [serves](serve()) one cloud thread at a time. An attempt is a `POST` of its event, and the body of
//! the answer is its outcome. Every answer of a function process has a header that says what it is; an answer
//! without one is somebody else's: an ingress that reaches no function, or another program.
//!
//! | status | `x-crucial` | what it is |
//! |---|---|---|
//! | 200 | `outcome` | what became of the attempt: a result, a panic, an error |
//! | 200 | `ready` | to `GET`: requests are welcome |
//! | 503 | `busy` | another cloud thread is running here |
//! | 503 | `stopping` | the process is about to end; to `GET`, too |
//! | 400, 403, 405, 413 | `refused` | the request will never do; the body says why |
//!
//! With a cluster token, events and outcomes are [sealed](crate::security). What is in headers is not, nor are the other
//! answers: who can change them can hold up a request anyway.
//!
//! Invariant: an answer other than an outcome means that the request has run nothing. So it can be sent again, and so can
//! one that has no answer, since attempts are claimed.
//!
//! Invariant: `busy` and `stopping` end their connection. What distributes requests over processes, as a Service of
//! Kubernetes does, distributes connections; the same request on the same connection would find the same busy process.

mod client;
mod connect;
mod identity;
mod server;

pub(super) use self::client::Http;
pub use self::server::{End, listen, serve};

/// The header of an answer that says what it is.
const MARK: &str = "x-crucial";
/// The headers of a request that name it in logs: unique to each, with the function and the attempt that it is about.
const REQUEST_ID: &str = "x-request-id";
const FUNCTION: &str = "x-crucial-function";
const ATTEMPT: &str = "x-crucial-attempt";

/// The type of a body that is sealed with the cluster token.
const SEALED: &str = "application/vnd.crucial.sealed";

/// The most bytes of arguments that travel in a request: in Base64 they are a third more, and an ingress of nginx takes
/// 1 MiB if it isn't told otherwise.
pub(super) const INLINE: usize = 512 << 10;
