//! Repository tasks, as `cargo xtask TASK`.
//!
//! This is a library with a thin binary, so that another workspace can have the same tasks. Each task is a
//! module with its arguments and a `run`.

mod bench;
mod cluster;
#[cfg(feature = "deploy")]
mod deploy;
mod deploy_args;
mod inner_loop;
mod lines;
mod manifests;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks for this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Bench(bench::Args),
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchChild {
        #[command(subcommand)]
        role: bench::child::Role,
    },
    Cluster(cluster::Args),
    Deploy(deploy_args::Args),
    Destroy(deploy_args::DestroyArgs),
    #[command(hide = true)]
    ExecWithParent(cluster::nodes::Exec),
    Fix(inner_loop::FixArgs),
    Lines(lines::Args),
    Logs(deploy_args::LogsArgs),
    Manifests(manifests::Args),
    Status(deploy_args::StatusArgs),
    Verify(inner_loop::VerifyArgs),
}

/// Runs the task that the command line asks for. A task that fails says why on stderr.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Bench(args) => bench::run(&args),
        #[cfg(feature = "bench")]
        Task::BenchChild { role } => bench::child::run(role),
        Task::Cluster(args) => match cluster::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Task::Deploy(args) => deploy_args::run(&deploy_args::Command::Deploy(args)),
        Task::Destroy(args) => deploy_args::run(&deploy_args::Command::Destroy(args)),
        Task::ExecWithParent(args) => Err(cluster::nodes::exec(&args)),
        Task::Fix(args) => inner_loop::fix(&args),
        Task::Lines(args) => lines::run(&args),
        Task::Logs(args) => deploy_args::run(&deploy_args::Command::Logs(args)),
        Task::Manifests(args) => manifests::run(&args),
        Task::Status(args) => deploy_args::run(&deploy_args::Command::Status(args)),
        Task::Verify(args) => inner_loop::verify(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough, as `head` does.
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why a task failed.
#[derive(Debug)]
enum Error {
    /// Output could not be written.
    Io(io::Error),
    /// Anything that is explained in words.
    Message(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Message(message) => message.fmt(f),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
