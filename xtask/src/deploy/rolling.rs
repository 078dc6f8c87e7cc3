//! Servers of a cluster, one after the other: the next one is touched only when the cluster is whole.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::aws::{Pauses, wait_with};
use crate::{Error, cluster::status};

/// How long machines may take to start, and a cluster to give all of them their share.
const SETTLING: Duration = Duration::from_secs(600);
/// How many nodes hold each persistent object, if there are so many.
const REPLICAS: usize = 3;

/// A cluster, seen from here through the program's own command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster<'a> {
    pub(super) program: &'a Path,
    pub(super) token: &'a Path,
    pub(super) addresses: &'a [String],
}

impl Cluster<'_> {
    /// What a server says of itself and of the others.
    pub(super) fn ask(&self, address: &str) -> Result<String, String> {
        self.run(&["status", "--server", address])
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(self.program)
            .arg("crucial")
            .args(arguments)
            .env("CRUCIAL_TOKEN_FILE", self.token)
            .env("CRUCIAL_CONNECT_TIMEOUT", "3s")
            .env_remove("CRUCIAL_DEPLOYMENT")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} can't be run: {error}", self.program.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// What is missing until each server says that all of them are up, and that every partition has its replicas.
    ///
    /// Invariant: a server is stopped only after this was true. So a majority of each partition's replicas is there.
    fn missing(&self) -> Option<String> {
        let count = self.addresses.len();
        self.addresses.iter().find_map(|address| {
            let settled =
                self.ask(address).and_then(|text| status::settled(&text, count, REPLICAS.min(count)));
            settled.err().map(|why| format!("{address}: {why}"))
        })
    }

    /// Waits until the cluster is whole.
    pub(super) async fn settle(&self) -> Result<(), Error> {
        let mut missing = String::new();
        let settled = wait_with(Pauses::short(SETTLING), "the servers are not ready", async || {
            missing = self.missing().unwrap_or_default();
            Ok(missing.is_empty().then_some(()))
        });
        settled.await.map_err(|error| {
            Error::Message(format!(
                "{error}. The last that was missing: {missing}. If the servers can't be reached from here at all, admit this \
                 machine with --client-cidr, deploy from a machine in the network, or don't wait: --no-wait. What a server \
                 does is in its system log: journalctl --unit crucial"
            ))
        })
    }

    /// A number that a server has anew each time that it starts; none if it can't be asked.
    pub(super) fn incarnation(&self, address: &str) -> Option<String> {
        let text = self.ask(address).ok()?;
        text.lines().next()?.split_whitespace().nth(2).map(str::to_owned)
    }

    /// Waits until a server is another one than it was.
    pub(super) async fn restarted(&self, address: &str, before: Option<&str>) -> Result<(), Error> {
        let what = format!("the server at {address} has not come back");
        wait_with(Pauses::short(SETTLING), &what, async || {
            let now = self.incarnation(address);
            Ok((now.is_some() && now.as_deref() != before).then_some(()))
        })
        .await
    }

    /// Takes a server out: the others get what it had.
    pub(super) fn leave(&self, address: &str) -> Result<(), Error> {
        self.run(&["leave", "--server", address]).map(drop).map_err(|why| {
            Error::Message(format!("the server at {address} doesn't leave its cluster: {why}"))
        })
    }
}
