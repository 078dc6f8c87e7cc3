//! What a client sends to a function process, and what it answers: the payloads of Lambda invocations, in JSON.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

/// An invocation: one attempt of a cloud thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    /// The function's name.
    pub function: String,
    /// The fingerprint of its signature.
    #[serde(with = "hex")]
    pub fingerprint: u128,
    /// Its encoded arguments.
    pub args: Freight,
    /// Which cloud thread this is.
    #[serde(with = "hex", default)]
    pub thread: u128,
    /// The name of that thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The function that the thread is known to run, if that isn't `function`, which runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether the service may deliver this more than once, so that a process has to [claim](super::delivery) it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claim: bool,
    /// The milliseconds that it may take, if the service isn't told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// The run that it belongs to.
    #[serde(with = "hex")]
    pub run: u128,
    /// The addresses of the run's DSO servers.
    pub servers: Vec<String>,
    /// The epoch of their map when the run began.
    #[serde(default)]
    pub since: u64,
    /// Where the function can start more cloud threads.
    pub invoke: Invoke,
}

/// Encoded arguments, or an encoded result.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Freight {
    /// In the payload itself.
    Inline(#[serde(with = "blob")] Vec<u8>),
    /// So many bytes, too many for a payload, in the thread's [`Delivery`](super::delivery::Delivery).
    Stored(u64),
}

/// The most bytes of arguments or of a result that travel in a payload. In Base64 they are a third more, and Lambda takes
/// 6 MiB.
pub(super) const INLINE: usize = 4 << 20;

/// A service that starts functions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Invoke {
    /// A local one, with its Invoke API at this address.
    Local(String),
    /// AWS Lambda, with this function.
    Lambda(String),
    /// Function processes that serve HTTP, at this URL.
    Http(String),
}

/// The answer of a function process that ran the function, or refused to. Panics are Lambda function errors instead.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    /// The encoded result.
    Result(Freight),
    /// Why there is none.
    Error(Error),
}

/// The name of the function in the local Lambda service.
pub(super) const FUNCTION: &str = "crucial";
/// The `errorType` of a function that panicked.
pub(super) const PANIC: &str = "Panic";
/// The exit status of a process whose function took too long, as that of `timeout` of the GNU core utilities.
pub(super) const TIMED_OUT: i32 = 124;

mod blob {
    use super::{BASE64_STANDARD, Deserialize, Deserializer, Engine, Serializer, de};
    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

mod hex {
    use super::{Deserialize, Deserializer, Serializer, de};
    pub(super) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:032x}"))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(de::Error::custom)
    }
}
