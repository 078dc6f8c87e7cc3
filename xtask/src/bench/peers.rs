//! Where peers are installed that come without a package of the system.

use std::{
    env, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder that the variable `PEERS` names, or else one in the user's cache.
pub(super) fn folder() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/crucial-peers"));
    env::var_os("PEERS").map(PathBuf::from).or_else(home)
}

/// A port that is free for now: for servers that take no port 0.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The Python of a peer, if it is installed there and has these modules.
pub(super) fn python(peer: &str, modules: &str) -> Option<PathBuf> {
    let python = folder()?.join(peer).join("bin/python");
    imports(&python, modules).then_some(python)
}

fn imports(python: &Path, modules: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {modules}")]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
