//! `cargo xtask cluster`: a program with a cluster of its own, on this machine.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

pub(crate) mod folder;
pub(crate) mod nodes;
pub(crate) mod status;

use folder::Folder;
use nodes::{Nodes, Plan};

use crate::Error;

/// Starts a cluster on this machine, runs a program against it, and stops it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    nodes: u8,

    /// Keep persistent objects in this directory; they are there the next time [default: a directory that is removed]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Keep persistent objects in memory only
    #[arg(long, conflicts_with = "data_dir")]
    memory: bool,

    /// How many nodes hold each persistent object
    #[arg(long, value_name = "N", default_value_t = 3)]
    replicas: u8,

    /// Into how many parts the objects are divided
    #[arg(long, value_name = "N")]
    partitions: Option<u16>,

    /// An example, or the path of a program, and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// Runs the program; its exit code is ours.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let (program, arguments) = args.program.split_first().expect("clap requires one");
    let program = find(program)?;
    let data = match (&args.data_dir, args.memory) {
        (_, true) => None,
        (Some(dir), _) => Some(Folder::kept(dir)?),
        (None, _) => Some(Folder::temporary(&env::temp_dir(), "crucial-cluster")?),
    };
    let plan = Plan {
        program: &program,
        nodes: usize::from(args.nodes),
        replicas: usize::from(args.replicas),
        partitions: args.partitions.map(usize::from),
        data: data.as_ref().map(Folder::path),
        settings: &[],
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut nodes = Nodes::start(&plan)?;
    nodes.settle()?;
    // Until now Ctrl-C ends this process, and the nodes with it. From here on the program has a say.
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let kept = data.as_ref().map_or("in memory".to_owned(), |data| format!("in {}", data.path().display()));
    eprintln!("cluster: {} nodes, objects are kept {kept}", args.nodes);
    for (address, pid) in nodes.addresses().iter().zip(nodes.pids()) {
        eprintln!("cluster: node at {address}, process {pid}");
    }

    let name = Path::new(&program).display().to_string();
    let mut command = Command::new(&program);
    command.args(arguments).env("CRUCIAL_SERVERS", nodes.addresses().join(","));
    let failed = |e| Error::Message(format!("{name} can't be run: {e}"));
    let status = runtime.block_on(async {
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(failed)?;
        tokio::select! {
            status = child.wait() => Ok::<_, Error>(status?),
            // The terminal sends it to the program too, which may want to end in its own way; the second ends it.
            _ = interrupt.recv() => tokio::select! {
                status = child.wait() => Ok(status?),
                _ = interrupt.recv() => Ok(ExitStatus::from_raw(2)),
                _ = terminate.recv() => Ok(ExitStatus::from_raw(15)),
            },
            _ = terminate.recv() => Ok(ExitStatus::from_raw(15)),
        }
    })?;
    if let Some((address, status)) = nodes.ended() {
        eprintln!("cluster: warning: the node at {address} did not live until the end ({status})");
    }
    if !status.success() {
        eprintln!("cluster: {name} ended with {status}");
    }
    // As a shell has it.
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// The program: a path, or an example, which is built.
fn find(program: &OsStr) -> Result<OsString, Error> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        if !path.is_file() {
            return Err(Error::Message(format!("there is no program {}", path.display())));
        }
        return Ok(program.to_owned());
    }
    let name = program.to_string_lossy();
    let sources = Path::new("examples/src/bin");
    let is_example = |name: &str| {
        sources.join(format!("{name}.rs")).is_file() || sources.join(name).join("main.rs").is_file()
    };
    if !is_example(&name) {
        let mut known: Vec<_> = fs::read_dir(sources)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned()))
            .filter(|name| is_example(name) && !name.ends_with("_std"))
            .collect();
        known.sort();
        return Err(Error::Message(format!(
            "there is no example `{name}`: give one of {}, or the path of a program (./{name} if it is in this directory)",
            known.join(", ")
        )));
    }
    build(&name)
}

/// Builds an example with all that a node needs.
fn build(name: &str) -> Result<OsString, Error> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--package", "examples", "--features", "crucial/cluster", "--bin", name])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(Error::Message(format!("the example `{name}` can't be built")));
    }
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == name).then(|| message["executable"].as_str().map(OsString::from))?
    };
    let built = String::from_utf8_lossy(&output.stdout).lines().find_map(executable);
    built.ok_or_else(|| Error::Message(format!("cargo does not say where it put the example `{name}`")))
}

/// Waits until `done` says so.
fn wait_for<T>(patience: Duration, mut done: impl FnMut() -> Result<Option<T>, String>) -> Result<T, Error> {
    let start = std::time::Instant::now();
    loop {
        let why = match done() {
            Ok(Some(done)) => return Ok(done),
            Ok(None) => "it takes too long".to_owned(),
            Err(why) => why,
        };
        if start.elapsed() > patience {
            return Err(Error::Message(why));
        }
        thread::sleep(Duration::from_millis(50));
    }
}
