//! The distributed shared objects layer, as a client sees it: in this process or behind a socket.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    id::{ObjectId, ThreadId},
    reference::{Lifetime, ObjectRef},
};

/// A future without a name.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a request asks for. The number is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Call a method.
    Call = 1,
    /// Make an object, unless it is there.
    Create = 2,
    /// Remove an object.
    Remove = 3,
    /// Accept the state of a poisoned object.
    ClearPoison = 4,
    /// Ask whether an object is poisoned.
    IsPoisoned = 5,
    /// Take back a call that is parked.
    Withdraw = 6,
    /// End the run and its ephemeral objects.
    EndRun = 7,
    /// Say that this process runs the cloud thread whose identity stands in the place of the object's. No answer.
    Attend = 8,
    /// Say that the process which ran that cloud thread has died.
    Lost = 9,
    /// Ask a node of a cluster for its map.
    Map = 10,
}

impl Operation {
    /// The operation with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        use Operation::{Attend, Call, ClearPoison, Create, EndRun, IsPoisoned, Lost, Map, Remove, Withdraw};
        [Call, Create, Remove, ClearPoison, IsPoisoned, Withdraw, EndRun, Attend, Lost, Map]
            .into_iter()
            .find(|o| *o as u8 == byte)
    }
}

/// The fixed part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What to do.
    pub operation: Operation,
    /// The object it is for.
    pub object: ObjectId,
    /// The tag of the object's type, as the caller knows it.
    pub tag: u64,
    /// The method's number, for a call.
    pub method: u16,
}

/// The arguments of [`Operation::Create`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create<'a> {
    /// The name of the type.
    pub type_name: &'a str,
    /// The key; none for an anonymous object.
    pub key: Option<&'a str>,
    /// How long the object lives.
    pub lifetime: Lifetime,
    /// The constructor's number.
    pub constructor: u16,
    /// The constructor's encoded arguments.
    #[serde(with = "serde_bytes_slice")]
    pub args: &'a [u8],
}

mod serde_bytes_slice {
    use serde::{Deserialize, Deserializer, Serializer};
    pub fn serialize<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

/// Room at the start of a request's buffer, where a transport puts its frame header without moving the arguments.
pub const HEADROOM: usize = 64;

/// A call's name, for messages.
#[derive(Clone, Copy, Debug)]
pub struct CallName<'a> {
    /// The object's type.
    pub type_name: &'static str,
    /// The object.
    pub object: &'a ObjectRef,
    /// The method, constructor or operation.
    pub method: &'static str,
}

impl fmt::Display for CallName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {:?}", self.method, self.type_name, self.object)
    }
}

impl CallName<'_> {
    /// Says which object an error is about, where the server could not: it knows identities, not names.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let object = || format!("{} {:?}", self.type_name, self.object);
        match error {
            Error::NoSuchObject { .. } => Error::NoSuchObject { object: object() },
            Error::StateLost { reason, .. } => Error::StateLost { object: object(), reason },
            Error::OutcomeUnknown { reason, .. } => Error::OutcomeUnknown { what: self.to_string(), reason },
            error => error,
        }
    }
}

/// A request and its arguments.
#[derive(Debug)]
pub struct Request<'a> {
    /// The fixed part.
    pub head: Head,
    /// [`HEADROOM`] bytes that the transport may use, then the encoded arguments.
    pub buffer: &'a mut Vec<u8>,
    /// The time that a call may take; none to wait as long as it needs.
    pub timeout: Option<Duration>,
    /// Whether it does no harm to make the call twice.
    pub repeatable: bool,
    /// The call's name.
    pub name: CallName<'a>,
}

impl Request<'_> {
    /// The encoded arguments.
    #[must_use]
    pub fn args(&self) -> &[u8] {
        &self.buffer[HEADROOM..]
    }

    /// The error for a call that took too long.
    #[must_use]
    pub fn timed_out(&self) -> Error {
        Error::Timeout { what: self.name.to_string(), after: self.timeout.unwrap_or_default() }
    }
}

/// A request that waits in a future.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    /// The fixed part.
    pub head: Head,
    /// As in [`Request::buffer`].
    pub buffer: Vec<u8>,
    /// As in [`Request::timeout`].
    pub timeout: Option<Duration>,
    /// As in [`Request::repeatable`].
    pub repeatable: bool,
    /// The type's name.
    pub type_name: &'static str,
    /// The object.
    pub object: ObjectRef,
    /// The method's name.
    pub method: &'static str,
}

impl OwnedRequest {
    /// The same, borrowed.
    pub fn borrow(&mut self) -> Request<'_> {
        Request {
            head: self.head,
            buffer: &mut self.buffer,
            timeout: self.timeout,
            repeatable: self.repeatable,
            name: CallName { type_name: self.type_name, object: &self.object, method: self.method },
        }
    }

    /// Says that the process which ran this cloud thread has died.
    #[must_use]
    pub fn lost(thread: ThreadId) -> Self {
        OwnedRequest::of_run(Operation::Lost, ObjectId(thread.0), "lost")
    }

    /// Says that the run is over.
    #[must_use]
    pub fn end_run() -> Self {
        OwnedRequest::of_run(Operation::EndRun, ObjectId(0), "end")
    }

    /// What concerns no object, but the run.
    fn of_run(operation: Operation, object: ObjectId, method: &'static str) -> Self {
        OwnedRequest {
            head: Head { operation, object, tag: 0, method: 0 },
            buffer: vec![0; HEADROOM],
            timeout: None,
            repeatable: true,
            type_name: "run",
            object: ObjectRef::anonymous(),
            method,
        }
    }
}

/// The DSO layer of one run.
pub trait Dso: Send + Sync + 'static {
    /// Makes a call and blocks until its answer is there; `decode` gets the encoded answer, once.
    fn call(&self, request: Request<'_>, decode: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Makes a call without blocking.
    fn call_async(&self, request: OwnedRequest) -> BoxFuture<'static, Result<Vec<u8>>>;

    /// The addresses at which function processes reach this layer; opens one if there is none.
    fn addresses(&self) -> Result<Vec<String>>;

    /// The epoch of the cluster's map when the run began; 0 without a cluster.
    fn since(&self) -> u64 {
        0
    }

    /// This process runs that cloud thread from now on. The server hears of it before the next call.
    fn attend(&self, thread: ThreadId);

    /// Ends the run: its ephemeral objects go.
    fn end_run(&self);
}
