//! Data that is embedded in the programs.

use std::io::Read;

use flate2::read::GzDecoder;

/// Unpacks a text that gzip made.
///
/// # Panics
/// If it isn't one: embedded data is wrong for everybody.
#[must_use]
pub fn unpack(gzip: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(gzip).read_to_string(&mut text).unwrap_or_else(|error| panic!("embedded data: {error}"));
    text
}
