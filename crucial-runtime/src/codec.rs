//! Values to bytes and back: MessagePack.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Appends the MessagePack form of `value` to `out`. `what` names it in the error.
pub fn encode<T: Serialize + ?Sized>(what: &str, value: &T, out: &mut Vec<u8>) -> Result<()> {
    rmp_serde::encode::write(out, value)
        .map_err(|e| Error::Encode { what: what.to_owned(), reason: e.to_string() })
}

/// Takes the first bytes of `rest`, which is the end of `what`.
pub fn take<const N: usize>(what: &str, rest: &mut &[u8]) -> Result<[u8; N]> {
    let (first, later) = rest.split_first_chunk().ok_or_else(|| cut(what))?;
    *rest = later;
    Ok(*first)
}

/// Says that `what` ends too early.
#[must_use]
pub fn cut(what: &str) -> Error {
    Error::Refused { reason: format!("{what} is cut off") }
}

/// Decodes a value that may borrow from `bytes`. `what` names it in the error.
pub fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|e| Error::Decode { what: what.to_owned(), reason: e.to_string() })
}
