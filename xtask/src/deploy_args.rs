//! What `cargo xtask deploy`, `destroy`, `status` and `logs` are told. What they do is large, and a feature.

use crate::Error;

/// Which deployment.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Which {
    /// The deployment's name [default: that of the program]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The package with the program [default: that of the working directory]
    #[arg(long, value_name = "PACKAGE")]
    pub(crate) package: Option<String>,

    /// The program [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) bin: Option<String>,
}

/// Whether to go ahead.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Consent {
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print the plan, and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
}

/// Builds a program and makes it run on AWS: a Lambda function, and servers for its objects
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) which: Which,

    #[command(flatten)]
    pub(crate) consent: Consent,

    /// The profile that the program is built with
    #[arg(long, value_name = "NAME", default_value = "release")]
    pub(crate) profile: String,

    /// What the program is built for: x86-64 and Linux
    #[arg(long, value_name = "TRIPLE", default_value = "x86_64-unknown-linux-gnu")]
    pub(crate) target: String,

    /// How many servers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) servers: u8,

    /// What machine a server is: an EC2 instance type with x86-64 CPUs, of the Nitro system
    #[arg(long, value_name = "TYPE", default_value = "t3.small")]
    pub(crate) instance_type: String,

    /// What servers start from: an Amazon Linux 2023 image [default: the newest]
    #[arg(long, value_name = "AMI")]
    pub(crate) image: Option<String>,

    /// The size of each server's data volume, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=16384))]
    pub(crate) volume: i32,

    /// The function's memory, in MiB; its share of a CPU grows with it, 1769 are a whole one
    #[arg(long, value_name = "MIB", default_value_t = 1769, value_parser = clap::value_parser!(i32).range(128..=10240))]
    pub(crate) memory: i32,

    /// How long a cloud thread may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(i32).range(1..=900))]
    pub(crate) timeout: i32,

    /// How many functions may run at once, kept for this one [default: what the account has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) concurrency: Option<i32>,

    /// The network [default: the region's default VPC]
    #[arg(long, value_name = "VPC", requires = "subnets")]
    pub(crate) vpc: Option<String>,

    /// The subnets of that network for servers and functions [default: those of the default VPC]
    #[arg(long, value_name = "SUBNET,..", value_delimiter = ',')]
    pub(crate) subnets: Vec<String>,

    /// Addresses that may connect to the servers, beside the functions and machines in the client's security group
    #[arg(long, value_name = "CIDR,..", value_delimiter = ',')]
    pub(crate) client_cidr: Vec<String>,

    /// Servers have no public addresses: clients must be in the network, and it needs a way to S3
    #[arg(long)]
    pub(crate) private: bool,

    /// Don't wait until the servers can be reached from here
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Removes all that `deploy` has made
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DestroyArgs {
    #[command(flatten)]
    pub(crate) which: Which,

    #[command(flatten)]
    pub(crate) consent: Consent,

    /// Keep the data volumes; a later deployment of the same name uses them again
    #[arg(long)]
    pub(crate) keep_data: bool,
}

/// Shows what there is of a deployment, and whether its servers can be reached
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) which: Which,
}

/// Shows what the functions of a deployment have printed
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) which: Which,

    /// How far back, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    pub(crate) minutes: u32,

    /// Only lines with this text, which may be the id of a request
    #[arg(long, value_name = "TEXT")]
    pub(crate) with: Option<String>,
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

/// Runs a command.
#[cfg(feature = "deploy")]
pub(crate) fn run(command: &Command) -> Result<(), Error> {
    crate::deploy::run(command)
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
