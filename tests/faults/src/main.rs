//! Runs schedules: `cargo run -p tests-faults --release -- --schedules 20 --seed 1 --nodes 3`.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tests_faults::{
    arena::{self, NODES, Network},
    cluster::Abilities,
    nemesis::{KINDS, Kind, Plan},
    schedule::{self, Settings, Shape, Took},
    workload::CLIENT,
};

fn command() -> Command {
    let number = |name: &'static str, default: &'static str| {
        let arg = Arg::new(name).long(name).value_name("N").default_value(default);
        arg.value_parser(value_parser!(u64)).overrides_with(name)
    };
    Command::new("faults")
        .about("Breaks clusters and checks what their clients saw")
        .arg(number("schedules", "10").help("How many schedules, with seeds that follow each other"))
        .arg(number("seed", "1").help("The seed of the first"))
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("How many nodes a cluster has; 3 or 5 if nothing is said, as the seed decides"),
        )
        .arg(number("seconds", "4").help("How long there is load in each"))
        .arg(
            Arg::new("minutes")
                .long("minutes")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("Begin no schedule after so many minutes"),
        )
        .arg(number("jobs", "1").help("How many schedules at once, each in an arena of its own"))
        .arg(
            Arg::new("faults")
                .long("faults")
                .value_name("KIND,..")
                .value_delimiter(',')
                .value_parser(|name: &str| name.parse::<Kind>())
                .help(format!("Only these kinds of faults: {}", KINDS.map(|(_, name)| name).join(", "))),
        )
        .arg(
            Arg::new("program")
                .long("program")
                .value_name("PATH")
                .help("Another build of this program as the server"),
        )
        .arg(
            Arg::new("data").long("data").value_name("DIR").help(
                "Where the nodes' disks are; in memory if nothing is said, and then a disk can be full",
            ),
        )
        .arg(
            Arg::new("logs")
                .long("logs")
                .value_name("DIR")
                .default_value("faults-logs")
                .help("Where the logs of nodes are kept whose schedule failed"),
        )
        .arg(
            Arg::new("memory")
                .long("memory")
                .action(ArgAction::SetTrue)
                .help("Start all servers without --data-dir; else those of some seeds"),
        )
        .arg(
            Arg::new("loopback")
                .long("loopback")
                .action(ArgAction::SetTrue)
                .help("Make no namespaces: no link can be broken then"),
        )
        .arg(Arg::new("plan").long("plan").action(ArgAction::SetTrue).help("Only print the plans"))
}

#[crucial::main]
fn main() -> ExitCode {
    let matches = command().get_matches();
    if !matches.get_flag("loopback") && !matches.get_flag("plan") && !arena::is_inside() {
        match arena::obstacle() {
            None => {
                let error = arena::enter(std::env::args_os().skip(1));
                return fail(&error);
            }
            Some(obstacle) => {
                say(&format!("no namespaces on this machine, so no link can be broken: {obstacle}"))
            }
        }
    }
    match run(&matches) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &io::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(2)
}

/// What the lines begin with that say in short which schedules failed. They come last, where they are seen.
const FAILED: &str = "failed:";

/// Prints a line; a closed terminal is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn run(matches: &ArgMatches) -> io::Result<bool> {
    let number = |name: &str| *matches.get_one::<u64>(name).expect("it has a default");
    let (schedules, seed) = (number("schedules"), number("seed"));
    let nodes = matches.get_one::<u64>("nodes").map(|nodes| *nodes as usize);
    if nodes.is_some_and(|nodes| nodes == 0 || nodes >= NODES) {
        return Err(io::Error::other(format!("there can be 1 to {} nodes", NODES - 1)));
    }
    let program = match matches.get_one::<String>("program") {
        Some(program) => PathBuf::from(program),
        None => std::env::current_exe()?,
    };
    let plans_only = matches.get_flag("plan");
    let abilities = Abilities::of(&program)?;
    if nodes.is_some_and(|nodes| nodes > 1) && !abilities.cluster && !plans_only {
        return Err(io::Error::other(
            "the servers of this build have no --join, so there are no clusters: --nodes 1",
        ));
    }
    end_at_signal();
    quiet_clients();

    let inside = arena::is_inside();
    if number("jobs") > 1 && inside && !plans_only {
        return run_jobs(number("jobs"), seed, schedules);
    }
    let network = if inside { Network::build()? } else { Network::loopback() };
    let settings = Settings {
        program,
        abilities,
        nodes,
        memory: matches.get_flag("memory"),
        kinds: matches.get_many::<Kind>("faults").map(|kinds| kinds.copied().collect()),
        lasts: Duration::from_secs(number("seconds")),
        data: matches.get_one::<String>("data").map(PathBuf::from),
    };
    let links = network.has_links() || plans_only;
    if plans_only {
        for seed in seed..seed + schedules {
            let shape = Shape::new(&settings, seed);
            let kinds = shape.kinds(&settings, links).map_err(io::Error::other)?;
            let plan = Plan::new(seed, &kinds, shape.nodes, settings.lasts);
            say(&format!("seed {seed}  {shape}  [{plan}]"));
        }
        return Ok(true);
    }
    let disks = match (abilities.disk && !settings.memory, settings.has_own_disks(links)) {
        (false, _) => "none",
        (true, true) => "in memory",
        (true, false) => "in a folder",
    };
    let slow = if inside { network.slowness() } else { "none" };
    let size = nodes.map_or_else(|| "3 or 5".to_owned(), |nodes| nodes.to_string());
    say(&format!("{schedules} schedules from seed {seed}: {size} nodes, disks: {disks}, slow links: {slow}"));
    for (kind, obstacle) in settings.left_out(links) {
        say(&format!("without {kind}: {obstacle}"));
    }
    let logs = PathBuf::from(&matches.get_one::<String>("logs").expect("it has a default"));
    let most = matches.get_one::<u64>("minutes").map(|minutes| Duration::from_secs(minutes * 60));
    run_all(&settings, &network, seed..seed + schedules, most, &logs)
}

/// Runs schedules at once. The arenas are inside of this one, and end with it.
fn run_jobs(jobs: u64, seed: u64, schedules: u64) -> io::Result<bool> {
    let (from, to) = (seed, seed + schedules);
    let share = schedules.div_ceil(jobs);
    let start = Instant::now();
    let mut running = Vec::new();
    for seed in (from..to).step_by(share as usize) {
        // What is said last holds.
        let own = [("--jobs", 1), ("--seed", seed), ("--schedules", share.min(to - seed))];
        let own = own.into_iter().flat_map(|(name, value)| [name.into(), value.to_string().into()]);
        let mut job = arena::another(std::env::args_os().skip(1).chain(own))?;
        let mut job = job.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(job.stdout.take().expect("it is piped"));
        let reader = std::thread::spawn(move || {
            let mut last = Vec::new();
            for line in output.lines().map_while(Result::ok) {
                if line.starts_with(FAILED) { last.push(line) } else { say(&line) }
            }
            last
        });
        running.push((job, reader));
    }
    let (mut failed, mut last) = (0, Vec::new());
    for (mut job, reader) in running {
        failed += u64::from(!job.wait()?.success());
        // It ends with the output of its job.
        last.extend(reader.join().unwrap_or_default());
    }
    let took = start.elapsed();
    say(&format!("{schedules} schedules by {jobs} jobs in {took:.0?}; {failed} jobs have violations"));
    last.iter().for_each(|line| say(line));
    Ok(failed == 0)
}

fn run_all(
    settings: &Settings,
    network: &Network,
    seeds: std::ops::Range<u64>,
    most: Option<Duration>,
    logs: &std::path::Path,
) -> io::Result<bool> {
    let start = Instant::now();
    let (mut failed, mut operations, mut unknown, mut faults) = (Vec::new(), 0, 0, 0);
    let mut took = Took::default();
    let mut count = 0;
    for seed in seeds.clone() {
        if most.is_some_and(|most| start.elapsed() > most) {
            say(&format!("the time is up: seeds {seed} to {} are left out", seeds.end - 1));
            break;
        }
        count += 1;
        let report = match schedule::run(settings, network, seed, logs) {
            Ok(report) => report,
            Err(error) => {
                let error = format!("it did not start: {error}");
                say(&format!("seed {seed}  VIOLATED  {error}"));
                failed.push((seed, vec![error]));
                continue;
            }
        };
        say(&report.to_string());
        let findings = &report.findings;
        operations += findings.operations;
        unknown += findings.unknown;
        faults += report.plan.faults.len();
        took.start += report.took.start;
        took.load += report.took.load;
        took.end += report.took.end;
        if report.is_well() {
            continue;
        }
        failed.push((seed, findings.violations.clone()));
        findings.violations.iter().for_each(|violation| say(&format!("  - {violation}")));
        for (error, count) in &findings.errors {
            say(&format!("  {count} × {error}"));
        }
        if let Some(evidence) = &findings.evidence {
            say(evidence);
        }
        say(&format!("  the nodes' logs: {}", logs.join(seed.to_string()).display()));
    }
    let each = |part: Duration| part.as_secs_f64() / count.max(1) as f64;
    say(&format!(
        "{count} schedules with {faults} faults in {:.0?} ({:.1} s to start, {:.1} s of load, {:.1} s to end and check each): \
         {operations} calls, {unknown} with an unknown outcome; {} failed{}",
        start.elapsed(),
        each(took.start),
        each(took.load),
        each(took.end),
        failed.len(),
        if failed.is_empty() { "" } else { ":" }
    ));
    for (seed, violations) in &failed {
        let first = violations.first().and_then(|violation| violation.lines().next()).unwrap_or_default();
        let more = if violations.len() > 1 {
            format!(" (and {} more)", violations.len() - 1)
        } else {
            String::new()
        };
        say(&format!("{FAILED} seed {seed}: {first}{more}"));
    }
    Ok(failed.is_empty())
}

/// The first process of an arena ignores what it doesn't ask for; and all others end with it.
fn end_at_signal() {
    crucial::run::io().spawn(async {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
}

/// What clients panic with is part of a schedule's report.
fn quiet_clients() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some(CLIENT) {
            usual(info);
        }
    }));
}
