//! What can go wrong, worded for the person who has to act on it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A failure of a remote call or of a cloud thread.
///
/// Every variant says what failed, where, and what to do about it. It crosses the wire, so that a client sees
/// the words of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An object's state went with the server that held it. The object is never silently created anew.
    #[error("the state of {object} is lost: {reason}")]
    StateLost {
        /// The object: its type and key.
        object: String,
        /// What happened to it.
        reason: String,
    },
    /// A method of the object panicked earlier, so that its state may be inconsistent (as a poisoned
    /// [`std::sync::Mutex`]). [`clear_poison`](crate::reference::Shared::clear_poison) accepts the state as it is.
    #[error("{object} is poisoned: an earlier call panicked: {message}")]
    Poisoned {
        /// The object: its type and key.
        object: String,
        /// The message of the panic.
        message: String,
    },
    /// The called method panicked. If it was a write (`&mut self`), its object is poisoned now.
    #[error("{method} of {object} panicked: {message}")]
    MethodPanicked {
        /// The object: its type and key.
        object: String,
        /// The method's name.
        method: String,
        /// The message of the panic.
        message: String,
    },
    /// No object has this key (any more): it was removed, or belongs to another run.
    #[error("{object} does not exist: it was removed, or it is an ephemeral object of another run")]
    NoSuchObject {
        /// The object: its type and key.
        object: String,
    },
    /// The server's program has no such shared type.
    #[error(
        "the server knows no shared type `{name}`; it has {known}. If the type is in a library crate, make sure \
         that the program links it: `use that_crate as _;`"
    )]
    UnknownType {
        /// The type's name.
        name: String,
        /// The types that are registered.
        known: String,
    },
    /// Client and server were built from different definitions of a shared type.
    #[error(
        "type `{name}` differs between this program and the server: redeploy, so that both run the same build"
    )]
    TypeDiffers {
        /// The type's name.
        name: String,
    },
    /// The function's program has no such cloud function.
    #[error(
        "the function's program knows no cloud function `{name}`; it has {known}. If the function is in a library \
         crate, make sure that the program links it: `use that_crate as _;`"
    )]
    UnknownFunction {
        /// The function's name.
        name: String,
        /// The functions that are registered.
        known: String,
    },
    /// Client and function were built from different definitions of a cloud function.
    #[error("cloud function `{name}` differs between this program and the one that runs it: redeploy")]
    FunctionDiffers {
        /// The function's name.
        name: String,
    },
    /// The server's program has no such shared function.
    #[error(
        "the server knows no shared function `{name}`; it has {known}. If the function is in a library crate, make \
         sure that the program links it: `use that_crate as _;`"
    )]
    UnknownSharedFn {
        /// The function's name.
        name: String,
        /// The functions that are registered.
        known: String,
    },
    /// Client and server were built from different definitions of a shared function.
    #[error(
        "shared function `{name}` differs between this program and the server: redeploy, so that both run the same \
         build"
    )]
    SharedFnDiffers {
        /// The function's name.
        name: String,
    },
    /// A cloud function panicked.
    #[error("cloud function `{function}` panicked (attempt {attempt}): {message}")]
    FunctionPanicked {
        /// The function's name.
        function: String,
        /// Which attempt this was, from 1.
        attempt: u32,
        /// The message of the panic.
        message: String,
    },
    /// The instance that ran a cloud function ended, timed out, ran out of memory or could not be started; or its service
    /// could not take it. On AWS Lambda, the reason has the id of the request.
    #[error("cloud function `{function}` failed (attempt {attempt}): {reason}")]
    FunctionFailed {
        /// The function's name.
        function: String,
        /// Which attempt this was, from 1.
        attempt: u32,
        /// What happened, in the words of the back end.
        reason: String,
    },
    /// A cloud thread was aborted, or the executor that it waited in was shut down.
    #[error("cloud function `{function}` was cancelled")]
    FunctionCancelled {
        /// The function's name.
        function: String,
    },
    /// An executor got a task after it was shut down.
    #[error("the executor takes no more tasks: it was shut down")]
    ExecutorShutDown,
    /// A call did not finish in the time it was given. If it was parked at a guard, it has certainly not run.
    #[error("{what} timed out after {after:?}")]
    Timeout {
        /// The call.
        what: String,
        /// The time it was given.
        after: Duration,
    },
    /// A parked call was taken back before it ran. Clients see [`Error::Timeout`].
    #[doc(hidden)]
    #[error("the call was withdrawn")]
    Withdrawn,
    /// No server could be reached. If it is a write that fails so, it was certainly not applied.
    #[error(
        "no server reachable within {after:?}: {tried}. Is it running (`app crucial serve`), and is that its address \
         (CRUCIAL_SERVERS, or --server, or --join)?"
    )]
    Unreachable {
        /// Every address tried, and why it failed.
        tried: String,
        /// How long it was tried.
        after: Duration,
    },
    /// The call was sent, and nobody can tell whether it was applied: the connection broke, and no server was reachable
    /// after that, or the server no longer knew this client's session.
    #[error("{what} may or may not have been applied: {reason}")]
    OutcomeUnknown {
        /// The call.
        what: String,
        /// Why nobody can tell.
        reason: String,
    },
    /// Something is larger than a limit.
    #[error("{what} has {size} bytes, more than the limit of {limit}; split it, or raise `{setting}`")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
        /// The setting that holds the limit.
        setting: String,
    },
    /// There are more of something than a limit allows.
    #[error("too many {what}: the limit is {limit}; raise `{setting}` on the server if this is meant")]
    TooMany {
        /// What there are too many of.
        what: String,
        /// The limit.
        limit: u64,
        /// The setting that holds the limit.
        setting: String,
    },
    /// Bytes could not be decoded as the type they should be.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// What was decoded.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// A value could not be encoded.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// What was encoded.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The peer refused the connection or broke the protocol.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A shared method called a shared object.
    #[error(
        "a shared object was called from inside a shared method ({what}): methods run on the server and can't wait \
         for other objects. Call the other object before or after, and pass its value as an argument"
    )]
    NestedCall {
        /// The call that was refused.
        what: String,
    },
    /// A blocking call was made inside a current-thread async runtime, which it would stop.
    #[error(
        "a blocking call ({what}) inside a current-thread async runtime would stop the whole runtime: write \
         `.remote()` before the method and `.await` it, or use a multi-thread runtime"
    )]
    BlockingInAsync {
        /// The call that was refused.
        what: String,
    },
    /// This thread belongs to no run.
    #[error(
        "this thread belongs to no run: in a test, a plain `std::thread` does not know which test it belongs to. \
         Use `crucial::thread::spawn`, or enter the run with `crucial::run::Run::current()` and `enter()`"
    )]
    NoRun,
    /// A setting is wrong.
    #[error("setting `{key}` = {value} (from {source_name}): {reason}")]
    Config {
        /// The setting's name.
        key: String,
        /// Its value.
        value: String,
        /// Where the value came from.
        source_name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that is needed is missing.
    #[error("`{key}` is not set: {reason}")]
    NotConfigured {
        /// The setting's name.
        key: String,
        /// What it is needed for, and where it is set.
        reason: String,
    },
    /// A program's registry of shared types, statics or functions is inconsistent.
    #[error("{reason}")]
    Registry {
        /// What is wrong, and how to mend it.
        reason: String,
    },
    /// An operating-system call failed.
    #[error("{what}: {reason}")]
    Io {
        /// What was done.
        what: String,
        /// The system's answer.
        reason: String,
    },
}

/// The result of a remote call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A session that a server doesn't know any more.
    #[must_use]
    pub fn session_is_over(what: String) -> Self {
        let reason = "the connection was lost for longer than the session's lease".to_owned();
        Error::OutcomeUnknown { what, reason }
    }

    /// What this failure means for a call that may have been applied: if it says no more than that nobody was reachable,
    /// nobody can tell.
    pub(crate) fn in_doubt(self, what: String) -> Self {
        match self {
            Error::Unreachable { .. } => Error::OutcomeUnknown { what, reason: self.to_string() },
            error => error,
        }
    }

    /// An operating-system failure while doing `what`.
    pub fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        Error::Io { what: what.into(), reason: error.to_string() }
    }
}
