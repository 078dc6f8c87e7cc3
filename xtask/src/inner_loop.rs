//! `cargo xtask verify` and `cargo xtask fix`: the inner loop, one command that only looks and one that changes files.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use crate::Error;

/// Checks formatting, lints, tests and docs; changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {}

/// Formats the code and applies what the compiler and clippy suggest.
#[derive(Debug, clap::Args)]
pub(crate) struct FixArgs {}

const VERIFY: [&[&str]; 4] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--all-targets", "--", "-D", "warnings"],
    &["test"],
    &["doc", "--no-deps"],
];

const FIX: [&[&str]; 2] =
    [&["clippy", "--fix", "--allow-dirty", "--allow-staged", "--all-targets"], &["fmt", "--all"]];

pub(crate) fn verify(_: &VerifyArgs) -> Result<(), Error> {
    VERIFY.iter().try_for_each(|step| cargo(step))
}

pub(crate) fn fix(_: &FixArgs) -> Result<(), Error> {
    FIX.iter().try_for_each(|step| cargo(step))
}

/// Runs cargo; the first step that fails is the last.
fn cargo(arguments: &[&str]) -> Result<(), Error> {
    let line = format!("cargo {}", arguments.join(" "));
    eprintln!("==> {line}");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    if arguments[0] == "doc" {
        cargo.env("RUSTDOCFLAGS", "-D warnings");
    }
    let status = cargo
        .args(arguments)
        .status()
        .map_err(|error| Error::Message(format!("can't run `{line}`: {error}")))?;
    if status.success() { Ok(()) } else { Err(Error::Message(format!("`{line}` failed"))) }
}
