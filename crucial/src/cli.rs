//! The operations tool that every program carries: `app crucial ...`.

use std::{env, ffi::OsString, io::Write, net::ToSocketAddrs, path::Path, process::ExitCode};

use clap::{Arg, ArgMatches, Command};
use crucial_runtime::{
    config::Config,
    error::{Error, Result},
    function::FunctionInfo,
    object::{self, TypeInfo},
    support::inventory,
};
use crucial_server::{
    admin,
    listener::Listener,
    node::{Node, Status},
};

use crate::entry::{fail, log};

/// Where a server listens, and where one is looked for, if nothing is said.
const ADDRESS: &str = "127.0.0.1:7878";

fn command() -> Command {
    let program = env::args_os().next().unwrap_or_default();
    let program =
        Path::new(&program).file_name().map_or_else(|| "app".into(), |n| n.to_string_lossy().into_owned());
    Command::new("crucial")
        .bin_name(format!("{program} crucial"))
        .about("Runs and inspects the DSO servers of this program")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("serve").about("Serves the shared objects of this program until Ctrl-C").arg(
                Arg::new("listen")
                    .long("listen")
                    .value_name("HOST:PORT")
                    .default_value(ADDRESS)
                    .help("Where to listen; port 0 takes a free one"),
            ),
        )
        .subcommand(
            Command::new("status").about("Shows the objects and clients of a server").arg(
                Arg::new("server")
                    .long("server")
                    .value_name("HOST:PORT")
                    .help(format!("Which server to ask [default: CRUCIAL_SERVERS, or {ADDRESS}]")),
            ),
        )
        .subcommand(Command::new("types").about("Lists the shared types and cloud functions of this program"))
}

/// Runs the command that the arguments name.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = [OsString::from("crucial")].into_iter().chain(args);
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match matches.subcommand() {
        Some(("serve", args)) => serve(args),
        Some(("status", args)) => status(args),
        Some(("types", _)) => types(),
        _ => unreachable!("a subcommand is required"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn serve(args: &ArgMatches) -> Result<()> {
    object::check_registry()?;
    let config = Config::load()?;
    log(&config, "info")?;
    let listen: &String = args.get_one("listen").expect("it has a default");
    let addresses = listen.to_socket_addrs().map_err(|e| Error::io(format!("looking up {listen}"), &e))?;
    if let Some(address) = addresses.into_iter().find(|a| !a.ip().is_loopback()) {
        return Err(Error::Refused {
            reason: format!(
                "{address} can be reached from other machines, and this version has neither TLS nor tokens: listen \
                 on a loopback address (127.0.0.0/8)"
            ),
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("crucial-serve")
        .enable_all()
        .build()
        .map_err(|e| Error::io("starting the async runtime", &e))?;
    runtime.block_on(async {
        let listener = Listener::bind(Node::new(&config), listen, config.spin).await?;
        let address = listener.address().map_err(|e| Error::io("asking for the address", &e))?;
        say(&format!("serving at {address} (process {}); Ctrl-C stops it", std::process::id()));
        say(
            "objects are kept in memory: persistent ones outlive the programs that use them, not this server",
        );
        tokio::select! {
            () = listener.serve() => {}
            signal = stop_signal() => say(&format!("stopped by {signal}")),
        }
        Ok(())
    })
}

async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = tokio::signal::ctrl_c() => "Ctrl-C",
    }
}

/// Prints a line; a closed terminal is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn status(args: &ArgMatches) -> Result<()> {
    let config = Config::load()?;
    let server = args.get_one::<String>("server").cloned();
    let server = server.or_else(|| config.servers.first().cloned()).unwrap_or_else(|| ADDRESS.to_owned());
    let status = crucial_runtime::run::block_on(admin::status(&server))?;
    show(&server, &status);
    Ok(())
}

fn show(server: &str, status: &Status) {
    let Status { incarnation, uptime, runs, sessions, types } = status;
    say(&format!(
        "{server}  node {:08x}  up {}  runs {runs}  sessions {sessions}",
        incarnation >> 96,
        humane(uptime.as_secs())
    ));
    if types.is_empty() {
        return say("no objects");
    }
    let width = types.iter().map(|t| t.name.len()).max().unwrap_or(0).max("type".len());
    say(&format!(
        "{:width$}  {:>10}  {:>10}  {:>8}  {:>8}",
        "type", "ephemeral", "persistent", "parked", "poisoned"
    ));
    for t in types {
        say(&format!(
            "{:width$}  {:>10}  {:>10}  {:>8}  {:>8}",
            t.name, t.ephemeral, t.persistent, t.parked, t.poisoned
        ));
    }
}

fn humane(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, _, _) => format!("{d}d {h}h"),
    }
}

fn types() -> Result<()> {
    object::check_registry()?;
    let mut types: Vec<_> = inventory::iter::<TypeInfo>.into_iter().collect();
    types.sort_by_key(|t| t.name);
    say("shared types");
    for t in types {
        say(&format!("  {}  {:016x}", t.name, t.tag));
        for m in t.methods {
            let guard = if m.guarded { ", guarded" } else { "" };
            say(&format!("    {} ({:?}{guard})", m.name, m.access));
        }
    }
    let mut functions: Vec<_> = inventory::iter::<FunctionInfo>.into_iter().collect();
    functions.sort_by_key(|f| f.name);
    say("cloud functions");
    for f in functions {
        say(&format!("  {}  {:016x}", f.name, f.fingerprint));
    }
    Ok(())
}
