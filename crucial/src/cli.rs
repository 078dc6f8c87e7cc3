//! The operations tool that every program carries: `app crucial ...`.

use std::{env, ffi::OsString, io::Write, net::ToSocketAddrs, path::Path, process::ExitCode};

use clap::{Arg, ArgMatches, Command};
use crucial_runtime::{
    config::Config,
    error::{Error, Result},
    function::FunctionInfo,
    object::{self, TypeInfo},
    security::{self, Token},
    support::inventory,
};
use crucial_server::{
    admin,
    listener::Listener,
    node::{ClusterStatus, DivergedStatus, Node, Status},
};

use crate::entry::{fail, log};

/// Where a server listens, and where one is looked for, if nothing is said.
const ADDRESS: &str = "127.0.0.1:7878";

/// What a server logs. Of its libraries, only what this program doesn't report by itself.
const SERVER_LOG: &str = "info,openraft=error,tarpc=off";

fn command() -> Command {
    let program = env::args_os().next().unwrap_or_default();
    let program =
        Path::new(&program).file_name().map_or_else(|| "app".into(), |n| n.to_string_lossy().into_owned());
    Command::new("crucial")
        .bin_name(format!("{program} crucial"))
        .about("Runs and inspects the DSO servers of this program, and serves its cloud functions")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("serve")
                .about("Serves the shared objects of this program until Ctrl-C")
                .arg(
                    Arg::new("listen")
                        .long("listen")
                        .value_name("HOST:PORT")
                        .default_value(ADDRESS)
                        .help(
                            "Where to listen; port 0 takes a free one. Without a cluster token, only on loopback addresses",
                        ),
                )
                .arg(
                    Arg::new("advertise")
                        .long("advertise")
                        .value_name("HOST:PORT")
                        .value_parser(host_and_port)
                        .help("Where clients and other nodes of the cluster reach this one [default: where it listens]"),
                )
                .arg(
                    Arg::new("join")
                        .long("join")
                        .value_name("HOST:PORT,..")
                        .value_delimiter(',')
                        .help(
                            "Nodes of the cluster to join, unless the data directory says which. If this node's own \
                             address is among them and all have the same list, the lowest one begins a cluster when \
                             none of them is in one",
                        ),
                )
                .arg(
                    Arg::new("data-dir")
                        .long("data-dir")
                        .value_name("DIR")
                        .help("Where persistent objects are kept on disk; without, they live in memory"),
                )
                .arg(Arg::new("cluster").long("cluster").value_name("NAME").help(
                    "Begin a cluster of this name that others can join [default with --data-dir: main]",
                ))
                .arg(
                    Arg::new("replicas")
                        .long("replicas")
                        .value_name("N")
                        .value_parser(clap::value_parser!(u8).range(1..=7))
                        .default_value("3")
                        .help("How many nodes of a cluster that begins hold each persistent object"),
                )
                .arg(
                    Arg::new("partitions")
                        .long("partitions")
                        .value_name("N")
                        .value_parser(clap::value_parser!(u16).range(1..=1024))
                        .default_value("6")
                        .help("Into how many parts a cluster that begins divides its objects, for ever"),
                ),
        )
        .subcommand(
            Command::new("function")
                .about("Runs cloud threads of programs with CRUCIAL_BACKEND=http, one at a time, until Ctrl-C")
                .arg(Arg::new("listen").long("listen").value_name("HOST:PORT").help(
                    "Where to listen; port 0 takes a free one. Without a cluster token, only on loopback addresses [default: \
                     0.0.0.0:$PORT, or 127.0.0.1:8080 without PORT]",
                )),
        )
        .subcommand(
            Command::new("leave").about("Takes a node out of its cluster; the others get what it had").arg(
                Arg::new("server")
                    .long("server")
                    .value_name("HOST:PORT")
                    .required(true)
                    .help("The node that leaves"),
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
        .subcommand(
            Command::new("token")
                .about("Makes a cluster token: who has it takes part, over connections that nobody else can read")
                .arg(
                    Arg::new("file")
                        .long("file")
                        .value_name("FILE")
                        .default_value("crucial.token")
                        .help("The new file that holds it, for CRUCIAL_TOKEN_FILE"),
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
        Some(("function", args)) => match function::serve(args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Some(("leave", args)) => leave(args),
        Some(("status", args)) => status(args),
        Some(("token", args)) => token(args),
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
    log(&config, SERVER_LOG)?;
    let listen: &String = args.get_one("listen").expect("it has a default");
    if is_clustered(args) && !args.contains_id("advertise") {
        check_reachable(listen)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("crucial-serve")
        .enable_all()
        .build()
        .map_err(|e| Error::io("starting the async runtime", &e))?;
    runtime.block_on(async {
        let listener = Listener::bind(Node::new(&config), listen, &config).await?;
        let address = listener.address().map_err(|e| Error::io("asking for the address", &e))?;
        let hello =
            || say(&format!("serving at {address} (process {}); Ctrl-C stops it", std::process::id()));
        if is_clustered(args) {
            return cluster::serve(args, listener, hello).await;
        }
        hello();
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

/// A node says where it is to clients and other nodes; "everywhere" is no place.
fn check_reachable(listen: &str) -> Result<()> {
    let mut addresses =
        listen.to_socket_addrs().map_err(|e| Error::io(format!("looking up {listen}"), &e))?;
    if addresses.any(|address| address.ip().is_unspecified()) {
        let reason = format!(
            "{listen} is no address at which clients and other nodes can reach this one: name one that is, with \
             --advertise HOST:PORT"
        );
        return Err(Error::Refused { reason });
    }
    Ok(())
}

fn is_clustered(args: &ArgMatches) -> bool {
    ["join", "data-dir", "cluster"].iter().any(|arg| args.contains_id(arg))
}

#[cfg(not(feature = "processes"))]
mod function {
    use std::process::ExitCode;

    use clap::ArgMatches;
    use crucial_runtime::error::{Error, Result};

    pub(super) fn serve(_: &ArgMatches) -> Result<ExitCode> {
        Err(Error::Refused {
            reason:
                "this program was built without the feature `processes`: add it to the features of crucial"
                    .to_owned(),
        })
    }
}

#[cfg(feature = "processes")]
mod function {
    use std::{env, process::ExitCode};

    use clap::ArgMatches;
    use crucial_runtime::{
        backend::http::{self, End},
        config::Config,
        error::{Error, Result},
        run,
    };
    use tokio::sync::Notify;

    use super::{say, stop_signal};
    use crate::entry::log;

    /// Where functions are served if nothing is said.
    const ADDRESS: &str = "127.0.0.1:8080";
    /// What a function process logs.
    const LOG: &str = "info";
    /// The exit status after a cloud thread that took too long, as that of `timeout` of the GNU core utilities.
    const TIMED_OUT: u8 = 124;

    pub(super) fn serve(args: &ArgMatches) -> Result<ExitCode> {
        let config = Config::load()?;
        log(&config, LOG)?;
        let given = args.get_one::<String>("listen").cloned();
        // Knative and Cloud Run say so where a program has to listen.
        let from_port =
            || env::var("PORT").ok().filter(|port| !port.is_empty()).map(|port| format!("0.0.0.0:{port}"));
        let listen = given.or_else(from_port).unwrap_or_else(|| ADDRESS.to_owned());
        run::block_on(async {
            let listener = http::listen(&config, &listen).await?;
            let address = listener.local_addr().map_err(|e| Error::io("asking for the address", &e))?;
            let asked = Notify::new();
            let stop = async {
                let signal = stop_signal().await;
                say(&format!(
                    "stopping ({signal}): takes no more, and finishes what runs; the same again stops at once"
                ));
                asked.notify_one();
            };
            let at_once = async {
                asked.notified().await;
                stop_signal().await
            };
            say(&format!("functions at http://{address} (process {}); Ctrl-C stops it", std::process::id()));
            tokio::select! {
                end = http::serve(config, listener, stop) => Ok(match end? {
                    End::Asked => ExitCode::SUCCESS,
                    End::TimedOut => ExitCode::from(TIMED_OUT),
                }),
                signal = at_once => {
                    say(&format!("stopped by {signal}"));
                    Ok(ExitCode::SUCCESS)
                }
            }
        })
    }
}

#[cfg(not(feature = "cluster"))]
mod cluster {
    use clap::ArgMatches;
    use crucial_runtime::error::{Error, Result};
    use crucial_server::listener::Listener;

    pub(super) async fn serve(_: &ArgMatches, _: Listener, _: impl Fn()) -> Result<()> {
        Err(Error::Refused {
            reason: "this program was built without the feature `cluster`, which --join, --data-dir and --cluster \
                     need: depend on crucial with features = [\"cluster\"]"
                .to_owned(),
        })
    }
}

#[cfg(feature = "cluster")]
mod cluster {
    use std::time::Duration;

    use clap::ArgMatches;
    use crucial_runtime::error::Result;
    use crucial_server::{
        cluster::{Cluster, Options},
        listener::Listener,
    };

    use super::{counted, say, stop_signal};

    /// How long a node that has left the cluster still answers.
    const FAREWELL: Duration = Duration::from_millis(500);
    /// How long a node that can't go on tries to give away what it has.
    const RETIRING: Duration = Duration::from_secs(10);

    pub(super) async fn serve(args: &ArgMatches, listener: Listener, hello: impl Fn()) -> Result<()> {
        let text = |name: &str| args.get_one::<String>(name).cloned();
        let options = Options {
            advertise: text("advertise"),
            join: args.get_many::<String>("join").into_iter().flatten().cloned().collect(),
            data_dir: text("data-dir").map(Into::into),
            name: text("cluster").unwrap_or_else(|| "main".to_owned()),
            partitions: usize::from(*args.get_one::<u16>("partitions").expect("it has a default")),
            replicas: usize::from(*args.get_one::<u8>("replicas").expect("it has a default")),
        };
        let durable = options.data_dir.is_some();
        let (cluster, serving) = tokio::select! {
            started = Cluster::start(listener, options) => started?,
            signal = stop_signal() => {
                say(&format!("stopped by {signal}"));
                return Ok(());
            }
        };
        hello();
        let placement = cluster.placement();
        let kept = if durable { "on disk" } else { "in memory" };
        say(&format!(
            "node {} of cluster {:?} with {}; persistent objects are kept {kept}, with {}",
            cluster.id(),
            placement.name,
            counted(placement.nodes.len() as u64, "node"),
            counted(placement.replicas.min(placement.nodes.len()) as u64, "replica"),
        ));
        if placement.nodes.len() > placement.owners.len() {
            say(&format!(
                "the cluster was begun with {}, and each belongs to one node: some of its nodes will have nothing to do. Begin \
                 a cluster of many nodes with --partitions",
                counted(placement.owners.len() as u64, "partition"),
            ));
        }
        let result = tokio::select! {
            signal = stop_signal() => {
                say(&format!("stopping ({signal}): other nodes get what this one serves; the same again stops at once"));
                tokio::select! {
                    retired = cluster.retire(false) => retired?,
                    signal = stop_signal() => say(&format!("stopped by {signal}")),
                }
                Ok(())
            }
            ended = cluster.ended() => {
                if ended.is_ok() {
                    // Whoever asked for it gets the answer first.
                    tokio::time::sleep(FAREWELL).await;
                    say("this node has left the cluster");
                } else {
                    say("this node can't go on: other nodes get what it serves");
                    // What it can't give away any more, others take over when they take it for lost.
                    let _ = tokio::time::timeout(RETIRING, cluster.retire(false)).await;
                }
                ended
            }
        };
        serving.abort();
        cluster.close().await;
        result
    }
}

fn leave(args: &ArgMatches) -> Result<()> {
    let server: &String = args.get_one("server").expect("it is required");
    crucial_runtime::run::block_on(admin::leave(server, &Config::load()?))?;
    say(&format!("{server} has left the cluster"));
    Ok(())
}

fn token(args: &ArgMatches) -> Result<()> {
    security::check_built()?;
    let file: &String = args.get_one("file").expect("it has a default");
    let what = || format!("making the file {file}");
    Token::generate().store(Path::new(file)).map_err(|e| Error::io(what(), &e))?;
    let path = Path::new(file).canonicalize().map_err(|e| Error::io(what(), &e))?;
    say(&format!("{file} holds a new cluster token. All servers and clients need it, on this machine as"));
    say(&format!("  CRUCIAL_TOKEN_FILE={}", path.display()));
    say(
        "and on others with the path of a copy, or with the token itself in CRUCIAL_TOKEN. Keep it secret: who has it can",
    );
    say("read and change everything.");
    Ok(())
}

fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("expected `host:port`, which others can reach".to_owned()),
    }
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
    let status = crucial_runtime::run::block_on(admin::status(&server, &config))?;
    show(&server, &status);
    Ok(())
}

fn show(server: &str, status: &Status) {
    let Status { incarnation, uptime, runs, sessions, types, cluster } = status;
    say(&format!(
        "{server}  node {:08x}  up {}  runs {runs}  sessions {sessions}",
        incarnation >> 96,
        humane(uptime.as_secs())
    ));
    if let Some(cluster) = cluster {
        show_cluster(cluster);
        show_diverged(cluster, types.iter().map(|t| t.diverged).sum());
    }
    if types.is_empty() {
        return say("no objects");
    }
    let width = types.iter().map(|t| t.name.len()).max().unwrap_or(0).max("type".len());
    say(&format!(
        "{:width$}  {:>10}  {:>10}  {:>8}  {:>8}  {:>8}",
        "type", "ephemeral", "persistent", "parked", "poisoned", "diverged"
    ));
    for t in types {
        say(&format!(
            "{:width$}  {:>10}  {:>10}  {:>8}  {:>8}  {:>8}",
            t.name, t.ephemeral, t.persistent, t.parked, t.poisoned, t.diverged
        ));
    }
}

fn show_cluster(cluster: &ClusterStatus) {
    let leader = |node: Option<u64>| node.map_or_else(|| "?".to_owned(), |node| node.to_string());
    say(&format!(
        "node {} of cluster {:?}  epoch {}  placement led by {}",
        cluster.node,
        cluster.name,
        cluster.epoch,
        leader(cluster.leader)
    ));
    if let Some(reason) = &cluster.disk_failure {
        say(&format!(
            "node {}: disk failed: {reason}; it acknowledges nothing until it is started again",
            cluster.node
        ));
    }
    say(&format!("{:>6}  {:22}  {:>8}  {:>5}", "node", "address", "state", "owns"));
    for n in &cluster.nodes {
        say(&format!("{:>6}  {:22}  {:>8}  {:>5}", n.node, n.address, n.state, n.owns));
    }
    say(&format!(
        "{:>9}  {:>5}  {:>6}  {:14}  {:>8}  {:>5}",
        "partition", "owner", "leader", "replicas", "objects", "lag"
    ));
    for p in &cluster.partitions {
        let mut replicas: Vec<_> = p.replicas.iter().map(u64::to_string).collect();
        if p.changing {
            replicas.push("changing".to_owned());
        }
        say(&format!(
            "{:>9}  {:>5}  {:>6}  {:14}  {:>8}  {:>5}",
            p.partition,
            p.owner,
            leader(p.leader),
            replicas.join(" "),
            p.objects,
            p.lag
        ));
    }
}

fn show_diverged(cluster: &ClusterStatus, total: u64) {
    if total == 0 {
        return;
    }
    say(&format!(
        "the replicas of {} differ, because a method is not deterministic:",
        counted(total, "object")
    ));
    for d in &cluster.diverged {
        let DivergedStatus { partition, type_name, key, methods } = d;
        say(&format!("  {type_name} {key} (partition {partition}), changed by {}", methods.join(", ")));
    }
    let more = total.saturating_sub(cluster.diverged.len() as u64);
    if more > 0 {
        say(&format!("  and {more} more"));
    }
    say("  time and random numbers have to come from `cx: &mut Context`; see docs/cluster.md");
}

fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
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
