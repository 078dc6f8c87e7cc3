//! Which role this process has, and what it does in it.

use std::{
    env,
    future::Future,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{ExitCode, Termination},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crucial_runtime::{
    config::{BackendKind, Config},
    error::{Error, Result},
    run::{self, Run},
    terminal,
};

use crate::cli;

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
pub(crate) fn function() -> ExitCode {
    match crucial_runtime::backend::instance::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}
