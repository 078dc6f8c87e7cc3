//! `cargo xtask deploy`, `destroy`, `status` and `logs`: a program on AWS.
//!
//! What there should be ([`plan::Desired`]) and what there is ([`plan::Observed`]) are plain data, and so is the
//! [`plan::Plan`] that leads from the one to the other. Every command looks at AWS anew, and every step can be repeated,
//! so a command that was interrupted anywhere is continued by giving it again. No file of this machine is needed for that.

mod apply;
mod archive;
mod aws;
mod client;
mod commands;
mod compute;
mod cost;
mod glibc;
mod names;
mod network;
mod plan;
mod policy;
mod program;
mod roles;
mod rolling;
mod servers;
mod storage;

use crate::{
    Error,
    deploy_args::{Args, Command, Consent, DestroyArgs, LogsArgs, StatusArgs, Which},
};

/// Runs a command.
pub(crate) fn run(command: &Command) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Deploy(args) => commands::deploy(args).await,
            Command::Destroy(args) => commands::destroy(args).await,
            Command::Status(args) => commands::status(args).await,
            Command::Logs(args) => commands::logs(args).await,
        }
    })
}
