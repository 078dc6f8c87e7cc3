//! The body of a `#[crucial::test]`, and the servers that tests need.
//!
//! The test harness owns `main`, so function processes and servers are the test program itself, started to run one test:
//! its body finds out which role the process has.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    thread,
};

use crucial_runtime::{
    config::{BackendKind, Config},
    error::{Error, Result},
    run::{self, Run},
};
use crucial_server::{listener::Listener, node::Node};

use crate::entry::fail;

/// What a process does that a test has started.
const ROLE: &str = "CRUCIAL_ROLE";
/// The value of [`ROLE`] for a server that serves tests, until its standard input ends.
const SERVER: &str = "test-server";
/// The same for a node of a cluster; the address of the one that it joins follows, unless it is the first.
const NODE: &str = "test-node ";
/// What a server says when others can reach it; its address follows.
const LISTENING: &str = "test server at ";
/// How many nodes the server of the tests has. More than one are a cluster.
const NODES: &str = "CRUCIAL_TEST_NODES";

/// How a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the environment configures it.
    Configured,
    /// A DSO node in the test's process; cloud threads are threads.
    Embedded,
    /// A DSO node in the test's process; cloud threads are processes.
    Processes,
    /// A DSO server in a process of its own, or several that are a cluster; cloud threads are threads.
    Server,
}

/// The body of a `#[crucial::test]`; `path` is the test's name with its crate. Each test is a run of its own.
pub fn test<R>(path: &str, mode: Mode, body: impl FnOnce() -> R) -> R {
    let name = path.split_once("::").map_or(path, |(_crate, name)| name);
    #[cfg(feature = "processes")]
    if crucial_runtime::backend::instance::is_instance() {
        crate::entry::function();
        std::process::exit(0);
    }
    if let Some(role) = env::var(ROLE).ok().filter(|role| role == SERVER || role.starts_with(NODE)) {
        serve(&role);
    }
    Run::forbid_global();
    let run = configure(name, mode).and_then(Run::start).unwrap_or_else(|error| panic!("{error}"));
    let result = {
        let _entered = run.enter();
        catch_unwind(AssertUnwindSafe(body))
    };
    run.end();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

fn configure(name: &str, mode: Mode) -> Result<Config> {
    let mut config = Config::load()?;
    match mode {
        Mode::Configured => {}
        Mode::Embedded => {
            config.backend = BackendKind::Threads;
            config.servers.clear();
        }
        Mode::Processes => {
            config.backend = BackendKind::Processes;
            config.servers.clear();
        }
        Mode::Server => {
            config.backend = BackendKind::Threads;
            config.servers = servers(name)?;
        }
    }
    config.launch = launch(name);
    Ok(config)
}

/// The arguments that make the test harness run just this test, with its output passed on.
fn launch(test: &str) -> Vec<String> {
    ["--exact", test, "--nocapture", "--include-ignored"].map(str::to_owned).to_vec()
}

/// The addresses of the servers that the tests of this process share.
fn servers(test: &str) -> Result<Vec<String>> {
    static SERVERS: OnceLock<Result<Vec<Server>>> = OnceLock::new();
    let started = SERVERS.get_or_init(|| {
        let count = nodes()?;
        if count == 1 {
            return Ok(vec![start(test, SERVER)?]);
        }
        let first = start(test, NODE)?;
        let role = format!("{NODE}{}", first.0);
        let others = (1..count).map(|_| start(test, &role));
        std::iter::once(Ok(first)).chain(others).collect()
    });
    let servers = started.as_ref().map_err(Clone::clone)?;
    Ok(servers.iter().map(|(address, _)| address.clone()).collect())
}

/// How many nodes are to serve the tests.
fn nodes() -> Result<usize> {
    let Some(value) = env::var_os(NODES) else { return Ok(1) };
    let value = value.to_string_lossy();
    let wrong = |reason: &str| Error::Config {
        key: NODES.to_owned(),
        value: value.clone().into_owned(),
        source_name: "the environment".to_owned(),
        reason: reason.to_owned(),
    };
    match value.parse() {
        Ok(1) => Ok(1),
        Ok(2..=64) if cfg!(not(feature = "cluster")) => Err(wrong(
            "several nodes need crucial with the feature `cluster`: cargo test --features crucial/cluster",
        )),
        Ok(count @ 2..=64) => Ok(count),
        _ => Err(wrong("it is a number of nodes from 1 to 64")),
    }
}

/// The address of a server, and the process, which ends with its standard input.
type Server = (String, Mutex<Child>);

fn start(test: &str, role: &str) -> Result<Server> {
    let program = env::current_exe().map_err(|e| Error::io("finding this program's file", &e))?;
    let mut server = Command::new(program)
        .args(launch(test))
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Error::io("starting a server for the tests", &e))?;
    let mut lines =
        BufReader::new(server.stdout.take().expect("it is piped")).lines().map_while(std::io::Result::ok);
    let address = lines.find_map(|line| line.strip_prefix(LISTENING).map(str::to_owned));
    let address = address.ok_or_else(|| Error::Io {
        what: "starting a server for the tests".to_owned(),
        reason: "it ended before it had an address".to_owned(),
    })?;
    // Somebody has to read what it prints: else methods that print would panic, and the harness, which says when a test
    // takes long, would end it.
    thread::spawn(move || lines.filter(|line| !is_of_harness(line)).for_each(|line| println!("{line}")));
    Ok((address, Mutex::new(server)))
}

/// Whether the harness of a server says this, to which serving is a test that takes long.
fn is_of_harness(line: &str) -> bool {
    line.starts_with("test ") && line.contains(" has been running for over ")
}

fn serve(role: &str) -> ! {
    let serve = async {
        let config = Config::load()?;
        let listener = Listener::bind(Node::new(&config), "127.0.0.1:0", &config).await?;
        let address = listener.address().map_err(|e| Error::io("asking for the server's address", &e))?;
        match role.strip_prefix(NODE) {
            Some(first) => join(listener, first).await?,
            None => drop(run::io().spawn(listener.serve())),
        }
        // A line of its own: with one thread, the harness has begun one with the test's name.
        println!("\n{LISTENING}{address}");
        Ok(())
    };
    if let Err(error) = run::io().block_on(serve) {
        fail(&error);
        std::process::exit(2);
    }
    // The test process holds the other end: this one ends with it, however it ends.
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

/// Serves as a node of the cluster that the node at `first` belongs to, or begins one.
#[cfg(feature = "cluster")]
async fn join(listener: Listener, first: &str) -> Result<()> {
    use crucial_server::cluster::{Cluster, Options};

    let options = Options {
        advertise: None,
        join: Some(first).filter(|first| !first.is_empty()).map(str::to_owned).into_iter().collect(),
        data_dir: None,
        name: "test".to_owned(),
        partitions: 6,
        replicas: 3,
    };
    let (cluster, _serving) = Cluster::start(listener, options).await?;
    // As long as the process lives.
    std::mem::forget(cluster);
    Ok(())
}

#[cfg(not(feature = "cluster"))]
async fn join(_: Listener, _: &str) -> Result<()> {
    unreachable!("whoever starts nodes is the same program")
}
