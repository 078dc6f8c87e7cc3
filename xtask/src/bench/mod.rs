//! `cargo xtask bench`: what calls and cloud threads cost, beside programs that do the same job.
//!
//! Every benchmark runs ours and the peer in one go, taking turns, so that whatever else the machine does hits
//! both. A figure is the median over the rounds.

use clap::ValueEnum;

use crate::Error;

#[cfg(feature = "bench")]
pub(crate) mod child;
#[cfg(feature = "bench")]
mod cluster;
#[cfg(feature = "bench")]
mod embedded;
#[cfg(feature = "bench")]
mod failover;
#[cfg(feature = "bench")]
mod idle;
#[cfg(feature = "bench")]
mod latency;
#[cfg(feature = "bench")]
mod machine;
#[cfg(feature = "bench")]
mod measure;
#[cfg(feature = "bench")]
mod ml;
#[cfg(feature = "bench")]
mod objects;
#[cfg(feature = "bench")]
mod peers;
#[cfg(feature = "bench")]
mod pin;
#[cfg(feature = "bench")]
mod raw;
#[cfg(feature = "bench")]
mod ray;
#[cfg(feature = "bench")]
mod redis;
#[cfg(feature = "bench")]
mod replicated;
#[cfg(feature = "bench")]
mod report;
#[cfg(feature = "bench")]
mod restart;
#[cfg(feature = "bench")]
mod scale;
#[cfg(feature = "bench")]
mod server;
#[cfg(feature = "bench")]
mod spawn;
#[cfg(feature = "bench")]
mod sync;
#[cfg(feature = "bench")]
mod throughput;

/// Measures ours and its peers in turn, and prints the ratios
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which benchmark
    #[arg(value_name = "NAME")]
    name: Name,

    /// Print one line of JSON for each figure
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print tables in Markdown
    #[arg(long)]
    markdown: bool,

    /// Also put the tables into this file, between its `<!-- bench NAME -->` and `<!-- end NAME -->` lines
    #[arg(long, value_name = "FILE")]
    update: Option<std::path::PathBuf>,

    /// Also draw the throughput of `failover` over time, as SVG, into this file
    #[arg(long, value_name = "FILE")]
    plot: Option<std::path::PathBuf>,

    /// How often each contestant has its turn; each benchmark has its own default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Few and short rounds: shows that everything works, not how fast it is
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// One blocking call at a time: put and get of 1 KB
    Latency,
    /// 200 clients that call as fast as they can
    Throughput,
    /// Calls without a server
    Embedded,
    /// Cloud threads: start, join, cold start, memory
    Spawn,
    /// Barriers, hand-overs, channels, results of many threads
    Sync,
    /// k-means and logistic regression
    Ml,
    /// Three nodes that replicate what they keep
    Replicated,
    /// Inference while a node is killed and another joins
    Failover,
    /// A node that is stopped and started again
    Restart,
    /// A cluster that nobody uses
    Idle,
    /// More and more objects, partitions, nodes
    Scale,
    /// All of them
    All,
}

/// Runs this command again in a program that has benchmarks.
#[cfg(not(feature = "bench"))]
pub(crate) fn run(_: &Args) -> Result<(), Error> {
    use std::os::unix::process::CommandExt;

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let error = std::process::Command::new(cargo)
        .args(["run", "--quiet", "--profile", "bench", "--package", "xtask", "--features", "bench", "--"])
        .args(std::env::args_os().skip(1))
        .exec();
    Err(Error::Message(format!("the program with the benchmarks can't be run: {error}")))
}

#[cfg(feature = "bench")]
impl Name {
    fn text(self) -> &'static str {
        match self {
            Name::Latency => "latency",
            Name::Throughput => "throughput",
            Name::Embedded => "embedded",
            Name::Spawn => "spawn",
            Name::Sync => "sync",
            Name::Ml => "ml",
            Name::Replicated => "replicated",
            Name::Failover => "failover",
            Name::Restart => "restart",
            Name::Idle => "idle",
            Name::Scale => "scale",
            Name::All => "all",
        }
    }
}

/// How long a benchmark is to take.
#[cfg(feature = "bench")]
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: Option<u32>,
    quick: bool,
}

#[cfg(feature = "bench")]
impl Effort {
    /// How often each contestant has its turn.
    fn rounds(self, usual: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { usual.min(2) } else { usual })
    }

    /// How much it does in a turn.
    fn count(self, usual: usize) -> usize {
        if self.quick { usual.div_ceil(10) } else { usual }
    }
}

#[cfg(feature = "bench")]
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let names = match args.name {
        Name::All => {
            use Name::{
                Embedded, Failover, Idle, Latency, Ml, Replicated, Restart, Scale, Spawn, Sync, Throughput,
            };
            vec![Latency, Throughput, Embedded, Sync, Spawn, Ml, Replicated, Failover, Restart, Idle, Scale]
        }
        name => vec![name],
    };
    let effort = Effort { rounds: args.rounds, quick: args.quick };
    let machine = machine::Machine::look()?;
    let style = match (args.json, args.markdown) {
        (true, _) => report::Style::Json,
        (_, true) => report::Style::Markdown,
        _ => report::Style::Table,
    };
    // Before anything runs: a noisy machine explains odd figures.
    eprintln!("{}", machine.text());
    if let Some(warning) = machine.warning() {
        eprintln!("warning: {warning}");
    }
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; its figures mean nothing");
    }
    for name in names {
        let watch = machine::Watch::start();
        let figures = match name {
            Name::Latency => latency::run(effort)?,
            Name::Throughput => throughput::run(effort)?,
            Name::Embedded => embedded::run(effort)?,
            Name::Spawn => spawn::run(effort)?,
            Name::Sync => sync::run(effort)?,
            Name::Ml => ml::run(effort)?,
            Name::Replicated => replicated::run(effort)?,
            Name::Failover => failover::run(effort, args.plot.as_deref())?,
            Name::Restart => restart::run(effort)?,
            Name::Idle => idle::run(effort)?,
            Name::Scale => scale::run(effort)?,
            Name::All => unreachable!("it was replaced by the others"),
        };
        if figures.is_empty() {
            continue;
        }
        let others = watch.others().map(|part| {
            format!("Other programs used {:.0} % of the CPUs during `{}`.", part * 100.0, name.text())
        });
        if let Some(others) = &others {
            eprintln!("{others}");
        }
        report::print(style, name.text(), &figures)?;
        if let Some(file) = &args.update {
            let caption = format!("{}. {}", machine.text(), others.unwrap_or_default());
            report::update(file, name.text(), &caption, &figures)?;
        }
    }
    Ok(())
}

#[cfg(feature = "bench")]
impl From<crucial::Error> for Error {
    fn from(error: crucial::Error) -> Self {
        Error::Message(error.to_string())
    }
}

#[cfg(feature = "bench")]
impl From<::redis::RedisError> for Error {
    fn from(error: ::redis::RedisError) -> Self {
        Error::Message(format!("Redis: {error}"))
    }
}
