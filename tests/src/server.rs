//! Servers: in this process, or as processes that can be stopped and killed.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{ChildStderr, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crucial::{BackendKind, Config, run, run::Run};
use crucial_runtime::security::Token;
use crucial_server::{
    admin,
    listener::Listener,
    node::{ClusterStatus, Node, Status},
};

use crate::{
    PATIENCE,
    process::{Guarded, Signal, signal},
};

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
        let mut config = config.clone();
        config.spin = Duration::ZERO;
        let listener = run::io().block_on(Listener::bind(node.clone(), address, &config)).unwrap();
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
    /// The token that it was given.
    pub token: Option<Token>,
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
        Self::with(address, program, &[], settings)
    }

    /// Starts `program` as a server at `address`, with more arguments.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn with(address: &str, program: &str, args: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(["crucial", "serve", "--listen", address])
            .args(args)
            .env("CRUCIAL_LOG", "error,tarpc=off")
            // Nobody reads its standard error before it ends, so it must not fill the pipe.
            .env("RUST_BACKTRACE", "0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let process = Guarded(child);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("serving at ").and_then(|rest| rest.split(' ').next());
        let address = address.map(str::to_owned).unwrap_or_else(|| {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            panic!("the server says {line:?} and {said}")
        });
        let token = settings.iter().find(|(key, _)| *key == "CRUCIAL_TOKEN");
        let token = token.map(|(_, token)| token.parse().unwrap());
        ServerProcess { process, address, token, stdout, stderr }
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
        let mut config = Config::default();
        config.token = self.token.clone();
        run::block_on(admin::status(&self.address, &config)).unwrap()
    }
}

/// Asks a server without a token for what it holds.
///
/// # Panics
/// If it doesn't answer.
#[must_use]
pub fn status(address: &str) -> Status {
    run::block_on(admin::status(address, &Config::default())).unwrap()
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

/// How many objects differ from their replicas.
#[must_use]
pub fn diverged(status: &Status) -> u64 {
    status.types.iter().map(|t| t.diverged).sum()
}

/// Settings of a client of the server at `address`, with threads as its back end.
#[must_use]
pub fn client(address: &str) -> Config {
    let mut config = Config::default();
    config.backend = BackendKind::Threads;
    config.servers = vec![address.to_owned()];
    // A busy machine takes its time to elect a leader.
    config.connect_timeout = PATIENCE / 2;
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

/// Several server processes that are one cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes, in the order in which they came.
    pub nodes: Vec<ServerProcess>,
    program: String,
    settings: Vec<(String, String)>,
    /// Where its nodes keep what they keep on disk.
    dir: Option<PathBuf>,
}

impl Cluster {
    /// Starts a cluster that keeps everything in memory.
    #[must_use]
    pub fn start(program: &str, nodes: usize, settings: &[(&str, &str)]) -> Self {
        Self::start_at(None, program, nodes, settings)
    }

    /// Starts a cluster that keeps persistent objects on disk.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    #[must_use]
    pub fn on_disk(program: &str, nodes: usize, settings: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("crucial-cluster-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self::start_at(Some(dir), program, nodes, settings)
    }

    fn start_at(dir: Option<PathBuf>, program: &str, nodes: usize, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut cluster = Cluster { nodes: Vec::new(), program: program.to_owned(), settings, dir };
        for _ in 0..nodes {
            cluster.add();
        }
        cluster.settle();
        cluster
    }

    /// Where a node keeps what it keeps on disk.
    #[must_use]
    pub fn data_dir(&self, node: usize) -> Option<String> {
        self.dir.as_ref().map(|dir| dir.join(node.to_string()).display().to_string())
    }

    /// Adds a node.
    pub fn add(&mut self) {
        let first = self.nodes.first().map(|node| node.address.clone());
        let how = match first {
            None => vec!["--cluster".to_owned(), "test".to_owned()],
            Some(first) => vec!["--join".to_owned(), first],
        };
        let node = self.serve(self.nodes.len(), "127.0.0.1:0", how);
        self.nodes.push(node);
    }

    fn serve(&self, node: usize, address: &str, mut args: Vec<String>) -> ServerProcess {
        args.extend(self.data_dir(node).into_iter().flat_map(|dir| ["--data-dir".to_owned(), dir]));
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let settings: Vec<_> = self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        ServerProcess::with(address, &self.program, &args, &settings)
    }

    /// Starts nodes again that have stopped, all at once, at the addresses where they were.
    pub fn restart(&mut self, nodes: &[usize]) {
        let started: Vec<_> = thread::scope(|scope| {
            let cluster = &*self;
            let start =
                |node: usize| scope.spawn(move || cluster.serve(node, &cluster.nodes[node].address, vec![]));
            let starting: Vec<_> = nodes.iter().map(|node| start(*node)).collect();
            starting.into_iter().map(|started| started.join().unwrap()).collect()
        });
        for (node, started) in nodes.iter().zip(started) {
            self.nodes[*node] = started;
        }
    }

    /// Kills a node, and starts a new one at its address, which has nothing yet.
    ///
    /// # Panics
    /// If what it had can't be removed.
    pub fn replace(&mut self, node: usize) {
        self.nodes[node].kill();
        if let Some(dir) = self.data_dir(node) {
            fs::remove_dir_all(dir).unwrap();
        }
        let address = self.nodes[node].address.clone();
        let others: Vec<_> = self.addresses().into_iter().filter(|other| *other != address).collect();
        self.nodes[node] = self.serve(node, &address, vec!["--join".to_owned(), others.join(",")]);
    }

    /// The addresses of its nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// Settings of a client.
    #[must_use]
    pub fn client(&self) -> Config {
        let mut config = client(&self.nodes[0].address);
        config.servers = self.addresses();
        config.token = self.nodes[0].token.clone();
        config
    }

    /// What a node knows of the cluster.
    ///
    /// # Panics
    /// If it doesn't answer.
    #[must_use]
    pub fn status(&self, node: usize) -> ClusterStatus {
        self.nodes[node].status().cluster.unwrap()
    }

    /// Waits until every node is up and has its share, and every partition is led by its owner.
    pub fn settle(&self) {
        // A node knows only of the partitions that it has a part in.
        crate::eventually("the cluster settles", || {
            (0..self.nodes.len()).all(|node| self.is_settled(&self.status(node)))
        });
    }

    fn is_settled(&self, status: &ClusterStatus) -> bool {
        let count = self.nodes.len();
        // One that was lost and replaced is forgotten later.
        let nodes: Vec<_> = status.nodes.iter().filter(|n| n.state != "leaving").collect();
        let is_held = |replicas: &[u64]| {
            replicas.len() == count.min(3) && replicas.iter().all(|id| nodes.iter().any(|n| n.node == *id))
        };
        let share = status.partitions.len() / count;
        nodes.len() == count
            && nodes.iter().all(|n| n.state == "up" && n.owns + 2 > share && n.owns > 0)
            && status
                .partitions
                .iter()
                .all(|p| p.leader == Some(p.owner) && is_held(&p.replicas) && p.lag == 0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The nodes write there as long as they run.
        self.nodes.clear();
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir_all(dir);
        }
    }
}
