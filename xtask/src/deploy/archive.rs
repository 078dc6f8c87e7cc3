//! The zip that Lambda gets.

use std::io::{Cursor, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::Error;

/// A zip with the program as `bootstrap`.
///
/// Invariant: the same program gives the same bytes, so that equal digests mean that nothing is to be done. So its time is
/// always the first of 1980.
pub(super) fn of(program: &[u8]) -> Result<Vec<u8>, Error> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        // A change is to be there soon: the usual level takes twice as long, for a zip that is 3 % smaller.
        .compression_level(Some(4))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    let packed = || {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("bootstrap", options)?;
        zip.write_all(program)?;
        zip.finish()
    };
    Ok(packed().map_err(|error| Error::Message(format!("packing the program: {error}")))?.into_inner())
}

/// The SHA-256 of some bytes in Base64, as Lambda tells that of its code.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(digest(&SHA256, bytes))
}

/// The SHA-256 of some bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_same_program_gives_the_same_zip() {
        let program = b"\x7fELF and so on".repeat(1000);
        let zip = of(&program).unwrap();
        assert_eq!(zip, of(&program).unwrap());
        assert_ne!(base64(&zip), base64(&of(b"another").unwrap()));

        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let mut file = archive.by_name("bootstrap").unwrap();
        // Not the time of today.
        assert_eq!(file.last_modified(), Some(DateTime::default()));
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, program);
    }

    #[test]
    fn digests_are_those_of_other_programs() {
        assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(base64(b"abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }
}
