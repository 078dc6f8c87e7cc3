//! Servers: in this process, or as processes that can be stopped and killed.

use std::{
    io::{BufRead, BufReader, Read},
    process::{ChildStderr, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use crucial::{BackendKind, Config, run, run::Run};
use crucial_server::{
    admin,
    listener::Listener,
    node::{Node, Status},
};

use crate::process::{Guarded, Signal, signal};

/// A server in this process.
#[derive(Debug)]
pub struct LocalServer {
    /// Its node.
    pub node: Arc<Node>,
    /// Where it listens.
    pub address: String,
    task: tokio::task::JoinHandle<()>,
}

impl LocalServer {
    /// Starts a server with these settings.
    #[must_use]
    pub fn start(config: &Config) -> Self {
        Self::at("127.0.0.1:0", config)
    }

    /// Starts a server at an address.
    ///
    /// # Panics
    /// If the address is in use.
    #[must_use]
    pub fn at(address: &str, config: &Config) -> Self {
        let node = Node::new(config);
        let listener = run::io().block_on(Listener::bind(node.clone(), address, Duration::ZERO)).unwrap();
        let address = listener.address().unwrap().to_string();
        LocalServer { node, address, task: run::io().spawn(listener.serve()) }
    }

    /// What it holds.
    #[must_use]
    pub fn status(&self) -> Status {
        self.node.status()
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server process: `app crucial serve`.
#[derive(Debug)]
pub struct ServerProcess {
    /// The process.
    pub process: Guarded,
    /// Where it listens.
    pub address: String,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl ServerProcess {
    /// Starts `program` as a server at a free port.
    #[must_use]
    pub fn start(program: &str, settings: &[(&str, &str)]) -> Self {
        Self::at("127.0.0.1:0", program, settings)
    }

    /// Starts `program` as a server at `address`.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn at(address: &str, program: &str, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(["crucial", "serve", "--listen", address])
            .env("CRUCIAL_LOG", "error")
            // Nobody reads its standard error before it ends, so it must not fill the pipe.
            .env("RUST_BACKTRACE", "0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let process = Guarded(child);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("serving at ").and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("the server says {line:?}")).to_owned();
        ServerProcess { process, address, stdout, stderr }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, number: Signal) {
        signal(self.pid(), number);
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Waits until it has ended; returns its exit code and the rest of what it printed.
    pub fn ended(&mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.stderr.read_to_string(&mut err).unwrap();
        (self.process.0.wait().unwrap().code(), out, err)
    }

    /// What it holds.
    #[must_use]
    pub fn status(&self) -> Status {
        status(&self.address)
    }
}

/// Asks a server for what it holds.
///
/// # Panics
/// If it doesn't answer.
#[must_use]
pub fn status(address: &str) -> Status {
    run::block_on(admin::status(address)).unwrap()
}

/// How many ephemeral objects a server holds.
#[must_use]
pub fn ephemeral(status: &Status) -> u64 {
    status.types.iter().map(|t| t.ephemeral).sum()
}

/// How many calls are parked at a server.
#[must_use]
pub fn parked(status: &Status) -> u64 {
    status.types.iter().map(|t| t.parked).sum()
}

/// Settings of a client of the server at `address`, with threads as its back end.
#[must_use]
pub fn client(address: &str) -> Config {
    let mut config = Config::default();
    config.backend = BackendKind::Threads;
    config.servers = vec![address.to_owned()];
    config
}

/// A run that ends with this.
#[derive(Debug)]
pub struct OwnRun {
    /// The run.
    pub run: Arc<Run>,
    entered: Option<run::Entered>,
}

impl OwnRun {
    /// Starts a run and makes this thread part of it.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn enter(config: Config) -> Self {
        let run = Run::start(config).unwrap_or_else(|error| panic!("{error}"));
        let entered = Some(run.enter());
        OwnRun { run, entered }
    }

    /// Starts a run on the server at `address`.
    #[must_use]
    pub fn on(address: &str) -> Self {
        Self::enter(client(address))
    }
}

impl Drop for OwnRun {
    fn drop(&mut self) {
        self.entered.take();
        self.run.end();
    }
}
