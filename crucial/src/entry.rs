//! Which role this process has, and what it does in it.

use std::{
    env,
    future::Future,
    io::{BufRead, BufReader, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{Child, Command, ExitCode, Stdio, Termination},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crucial_runtime::{
    config::{BackendKind, Config},
    error::{Error, Result},
    run::{self, Run},
    terminal,
};
use crucial_server::{listener::Listener, node::Node};

use crate::cli;

/// What a process that was started by another one of the same program does; see [`Mode`].
const ROLE: &str = "CRUCIAL_ROLE";
/// The value of [`ROLE`] for a server that serves a test, until its standard input ends.
const TEST_SERVER: &str = "test-server";

/// The body of `#[crucial::main] fn main()`: looks at how the process was started, and does what that role does.
pub fn main<R: Termination>(body: impl FnOnce() -> R) -> ExitCode {
    #[cfg(feature = "processes")]
    if crucial_runtime::backend::instance::is_instance() {
        return function();
    }
    let mut args = env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == "crucial") {
        return cli::run(args);
    }
    client(body)
}

/// The body of `#[crucial::main] async fn main()`.
pub fn main_async<R: Termination>(body: impl Future<Output = R>) -> ExitCode {
    main(|| run::block_on(body))
}

/// Prints an error that ends the process.
pub(crate) fn fail(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(2)
}

/// Starts logging to standard error, unless the program has done so.
pub(crate) fn log(config: &Config, default: &str) -> Result<()> {
    use tracing_subscriber::{
        filter::{ParseError, Targets},
        layer::SubscriberExt,
        util::SubscriberInitExt,
    };
    let filter = if config.log.is_empty() { default } else { &config.log };
    let filter: Targets = filter.parse().map_err(|error: ParseError| Error::Config {
        key: "log".to_owned(),
        value: filter.to_owned(),
        source_name: "the configuration".to_owned(),
        reason: error.to_string(),
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(|| terminal::Stderr);
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
    Ok(())
}

fn client<R: Termination>(body: impl FnOnce() -> R) -> ExitCode {
    let start = || {
        let config = Config::load()?;
        log(&config, "warn")?;
        let remote = !config.servers.is_empty() || config.backend != BackendKind::Threads;
        let run = Run::start(config)?;
        if remote {
            end_at_interrupt(run.clone());
        }
        Ok(run)
    };
    let run = match start() {
        Ok(run) => run,
        Err(error) => return fail(&error),
    };
    run.clone().make_global();
    let result = catch_unwind(AssertUnwindSafe(|| body().report()));
    while INTERRUPTED.load(Ordering::SeqCst) {
        // Ending the run made what `main` waited for fail. How the program ends was decided before that.
        std::thread::park();
    }
    run.end();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Ctrl-C ends this program.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C ends the run's function processes and its objects on the servers, then the program.
fn end_at_interrupt(run: Arc<Run>) {
    run::io().spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            // Ending the run blocks, and this is a thread that others need.
            std::thread::spawn(move || {
                INTERRUPTED.store(true, Ordering::SeqCst);
                // Threads that fail because the run ends have nothing to say to the person who ended it.
                std::panic::set_hook(Box::new(|_| ()));
                run.end();
                // The status of a process that SIGINT has ended, as shells see it.
                std::process::exit(130);
            });
        }
    });
}

#[cfg(feature = "processes")]
fn function() -> ExitCode {
    match crucial_runtime::backend::instance::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// How a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the environment configures it.
    Configured,
    /// A DSO node in the test's process; cloud threads are threads.
    Embedded,
    /// A DSO node in the test's process; cloud threads are processes.
    Processes,
    /// A DSO server in a process of its own; cloud threads are threads.
    Server,
}

/// The body of a `#[crucial::test]`; `path` is the test's name with its crate. Each test is a run of its own.
///
/// The test harness owns `main`, so function processes and servers are this program, started to run this one test:
/// here they find out which role they have.
pub fn test<R>(path: &str, mode: Mode, body: impl FnOnce() -> R) -> R {
    let name = path.split_once("::").map_or(path, |(_crate, name)| name);
    #[cfg(feature = "processes")]
    if crucial_runtime::backend::instance::is_instance() {
        function();
        std::process::exit(0);
    }
    if env::var_os(ROLE).is_some_and(|role| role == TEST_SERVER) {
        serve_test();
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
            config.servers = vec![test_server(name)?];
        }
    }
    config.launch = launch(name);
    Ok(config)
}

/// The arguments that make the test harness run just this test, with its output passed on.
fn launch(test: &str) -> Vec<String> {
    ["--exact", test, "--nocapture", "--include-ignored"].map(str::to_owned).to_vec()
}

/// The server that the tests of this process share.
fn test_server(test: &str) -> Result<String> {
    static SERVER: OnceLock<Result<(String, Mutex<Child>)>> = OnceLock::new();
    let started = SERVER.get_or_init(|| {
        let program = env::current_exe().map_err(|e| Error::io("finding this program's file", &e))?;
        let mut server = Command::new(program)
            .args(launch(test))
            .env(ROLE, TEST_SERVER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Error::io("starting a server for the tests", &e))?;
        let lines = BufReader::new(server.stdout.take().expect("it is piped")).lines();
        let address = lines
            .map_while(std::io::Result::ok)
            .find_map(|line| line.strip_prefix(LISTENING).map(str::to_owned));
        let address = address.ok_or_else(|| Error::Io {
            what: "starting a server for the tests".to_owned(),
            reason: "it ended before it had an address".to_owned(),
        })?;
        Ok((address, Mutex::new(server)))
    });
    started.as_ref().map(|(address, _)| address.clone()).map_err(Clone::clone)
}

const LISTENING: &str = "test server at ";

fn serve_test() -> ! {
    let serve = async {
        let config = Config::load()?;
        let listener = Listener::bind(Node::new(&config), "127.0.0.1:0", &config).await?;
        let address = listener.address().map_err(|e| Error::io("asking for the server's address", &e))?;
        println!("{LISTENING}{address}");
        run::io().spawn(listener.serve());
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
