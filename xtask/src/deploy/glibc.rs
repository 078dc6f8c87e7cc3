//! Whether a program runs where it is to run: it needs symbols of the C library in versions that are there.

use object::{
    Endianness,
    elf::{EM_X86_64, FileHeader64},
    read::elf::FileHeader,
};

use crate::Error;

/// The version in Lambda's `provided.al2023` and in Amazon Linux 2023.
const NEWEST: (u32, u32) = (2, 34);

/// Checks that this ELF file is for x86-64 and needs no symbol of a newer glibc.
pub(super) fn check(program: &[u8]) -> Result<(), Error> {
    let missing =
        newer(program).map_err(|error| Error::Message(format!("the program that was built: {error}")))?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Message(format!(
        "the program does not start on Amazon Linux 2023, which has glibc {}.{}: it needs {}. Build it where glibc is not \
         newer, as in a container of Amazon Linux 2023 or Debian 11, or for a target that brings its own C library: \
         --target x86_64-unknown-linux-musl; or do without that function",
        NEWEST.0,
        NEWEST.1,
        missing.join(", ")
    )))
}

/// The symbols that are too new, as `name@GLIBC_2.39`.
fn newer(program: &[u8]) -> Result<Vec<String>, String> {
    let words = |error: object::read::Error| error.to_string();
    let header = FileHeader64::<Endianness>::parse(program).map_err(words)?;
    let endian = header.endian().map_err(words)?;
    if header.e_machine(endian) != EM_X86_64 {
        return Err("it is not for x86-64".to_owned());
    }
    let sections = header.sections(endian, program).map_err(words)?;
    let symbols = sections.symbols(endian, program, object::elf::SHT_DYNSYM).map_err(words)?;
    // Without these tables, it is linked statically.
    let Some(versions) = sections.versions(endian, program).map_err(words)? else { return Ok(Vec::new()) };
    let Some((mut files, _)) = sections.gnu_verneed(endian, program).map_err(words)? else {
        return Ok(Vec::new());
    };
    let strings = symbols.strings();
    let mut newer = Vec::new();
    while let Some((_, mut needs)) = files.next().map_err(words)? {
        while let Some(need) = needs.next().map_err(words)? {
            let name = String::from_utf8_lossy(need.name(endian, strings).map_err(words)?);
            if !is_newer(&name) {
                continue;
            }
            let mut symbols: Vec<_> = symbols
                .enumerate()
                .filter(|(index, _)| {
                    versions.version_index(endian, *index).index() == need.vna_other(endian).index()
                })
                .filter_map(|(_, symbol)| symbols.symbol_name(endian, symbol).ok())
                .map(|symbol| format!("{}@{name}", String::from_utf8_lossy(symbol)))
                .collect();
            // Some are about the file, not about a symbol.
            if symbols.is_empty() {
                symbols.push(name.into_owned());
            }
            newer.append(&mut symbols);
        }
    }
    Ok(newer)
}

fn is_newer(version: &str) -> bool {
    let Some(number) = version.strip_prefix("GLIBC_") else { return false };
    let mut parts = number.split('.').map(str::parse::<u32>);
    // Those without numbers are private, and change with each release, or are younger.
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return true };
    (major, minor) > NEWEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, newer) in [
            ("GLIBC_2.2.5", false),
            ("GLIBC_2.34", false),
            ("GLIBC_2.4", false),
            ("GLIBC_2.35", true),
            ("GLIBC_2.100", true),
            ("GLIBC_3.0", true),
            ("GLIBC_PRIVATE", true),
            ("GLIBC_ABI_DT_RELR", true),
            ("GCC_3.0", false),
        ] {
            assert_eq!(is_newer(version), newer, "{version}");
        }
    }

    #[test]
    fn what_is_too_new_is_named() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        // Its needs depend on the machine that built it; with one of its versions renamed, they don't.
        assert!(newer(&program).is_ok());
        let old =
            program.windows(12).position(|text| text == b"GLIBC_2.2.5\0").expect("it needs an old version");
        let mut renamed = program.clone();
        renamed[old..old + 11].copy_from_slice(b"GLIBC_2.9.9");
        assert_eq!(newer(&renamed), newer(&program));
        renamed[old..old + 11].copy_from_slice(b"GLIBC_2.999");
        let error = check(&renamed).unwrap_err().to_string();
        assert!(error.contains("@GLIBC_2.999") && error.contains("glibc 2.34"), "{error}");

        assert!(check(b"#!/bin/sh").unwrap_err().to_string().contains("the program that was built"));
    }
}
