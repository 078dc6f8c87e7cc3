//! `cargo xtask deploy`, `destroy`, `status` and `logs`: a program on AWS.
//!
//! What there should be ([`plan::Desired`]) and what there is ([`plan::Observed`]) are plain data, and so is the
//! [`plan::Plan`] that leads from the one to the other. Every command looks at AWS anew, and every step can be repeated,
//! so a command that was interrupted anywhere is continued by giving it again. No file of this machine is needed for that.

use crate::Error;

#[cfg(feature = "deploy")]
mod apply;
#[cfg(feature = "deploy")]
mod archive;
#[cfg(feature = "deploy")]
mod aws;
#[cfg(feature = "deploy")]
mod client;
#[cfg(feature = "deploy")]
mod commands;
#[cfg(feature = "deploy")]
mod compute;
#[cfg(feature = "deploy")]
mod cost;
#[cfg(feature = "deploy")]
mod glibc;
#[cfg(feature = "deploy")]
mod names;
#[cfg(feature = "deploy")]
mod network;
#[cfg(feature = "deploy")]
mod plan;
#[cfg(feature = "deploy")]
mod policy;
#[cfg(feature = "deploy")]
mod program;
#[cfg(feature = "deploy")]
mod roles;
#[cfg(feature = "deploy")]
mod rolling;
#[cfg(feature = "deploy")]
mod servers;
#[cfg(feature = "deploy")]
mod storage;

/// Which deployment.
#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// The deployment's name [default: that of the program]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The package with the program [default: that of the working directory]
    #[arg(long, value_name = "PACKAGE")]
    package: Option<String>,

    /// The program [default: the only one]
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,
}

/// Whether to go ahead.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Consent {
    /// Don't ask
    #[arg(long)]
    yes: bool,

    /// Print the plan, and do nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// Builds a program and makes it run on AWS: a Lambda function, and servers for its objects
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    consent: Consent,

    /// The profile that the program is built with
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,

    /// What the program is built for: x86-64 and Linux
    #[arg(long, value_name = "TRIPLE", default_value = "x86_64-unknown-linux-gnu")]
    target: String,

    /// How many servers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    servers: u8,

    /// What machine a server is: an EC2 instance type with x86-64 CPUs, of the Nitro system
    #[arg(long, value_name = "TYPE", default_value = "t3.small")]
    instance_type: String,

    /// What servers start from: an Amazon Linux 2023 image [default: the newest]
    #[arg(long, value_name = "AMI")]
    image: Option<String>,

    /// The size of each server's data volume, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=16384))]
    volume: i32,

    /// The function's memory, in MiB; its share of a CPU grows with it, 1769 are a whole one
    #[arg(long, value_name = "MIB", default_value_t = 1769, value_parser = clap::value_parser!(i32).range(128..=10240))]
    memory: i32,

    /// How long a cloud thread may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(i32).range(1..=900))]
    timeout: i32,

    /// How many functions may run at once, kept for this one [default: what the account has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    concurrency: Option<i32>,

    /// The network [default: the region's default VPC]
    #[arg(long, value_name = "VPC", requires = "subnets")]
    vpc: Option<String>,

    /// The subnets of that network for servers and functions [default: those of the default VPC]
    #[arg(long, value_name = "SUBNET,..", value_delimiter = ',')]
    subnets: Vec<String>,

    /// Addresses that may connect to the servers, beside the functions and machines in the client's security group
    #[arg(long, value_name = "CIDR,..", value_delimiter = ',')]
    client_cidr: Vec<String>,

    /// Servers have no public addresses: clients must be in the network, and it needs a way to S3
    #[arg(long)]
    private: bool,

    /// Don't wait until the servers can be reached from here
    #[arg(long)]
    no_wait: bool,
}

/// Removes all that `deploy` has made
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DestroyArgs {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    consent: Consent,

    /// Keep the data volumes; a later deployment of the same name uses them again
    #[arg(long)]
    keep_data: bool,
}

/// Shows what there is of a deployment, and whether its servers can be reached
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    which: Which,
}

/// Shows what the functions of a deployment have printed
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    which: Which,

    /// How far back, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    minutes: u32,

    /// Only lines with this text, which may be the id of a request
    #[arg(long, value_name = "TEXT")]
    with: Option<String>,
}

/// What to do.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "deploy"),
    expect(dead_code, reason = "the program that is run instead reads the arguments itself")
)]
pub(crate) enum Command {
    Deploy(Args),
    Destroy(DestroyArgs),
    Status(StatusArgs),
    Logs(LogsArgs),
}

/// Runs this command again in a program that has the AWS SDK. Not an optimised one: its build takes longer than a deployment.
#[cfg(not(feature = "deploy"))]
pub(crate) fn run(_: &Command) -> Result<(), Error> {
    use std::os::unix::process::CommandExt;

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let error = std::process::Command::new(cargo)
        .args(["run", "--package", "xtask", "--features", "deploy", "--"])
        .args(std::env::args_os().skip(1))
        .exec();
    Err(Error::Message(format!("the program that deploys can't be run: {error}")))
}

/// Runs a command.
#[cfg(feature = "deploy")]
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
