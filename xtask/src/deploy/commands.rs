//! The commands: look, plan, ask, do.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, SystemTime},
};

use super::{
    Args, Consent, DestroyArgs, LogsArgs, StatusArgs, Which,
    apply::{self, Deploying, Progress},
    archive,
    aws::Aws,
    client::Files,
    cost,
    network::Network,
    plan::{self, Action, Desired, Function, Observed, Plan, Server, Side, Source},
    policy,
    program::{Executable, Program},
    servers,
};
use crate::Error;

/// The program that is meant, and the name of its deployment.
fn target(which: &Which) -> Result<(Program, String), Error> {
    let program = Program::find(which)?;
    let name = which.name.clone().unwrap_or_else(|| program.bin.replace('_', "-").to_lowercase());
    Ok((program, name))
}

/// Whether somebody can be asked, if somebody has to be. Before anything takes time.
fn check_consent(consent: Consent) -> Result<(), Error> {
    if consent.yes || consent.dry_run || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::Message(
        "there is no terminal to ask on: say --yes to go ahead, or --dry-run to see the plan".to_owned(),
    ))
}

/// Whether to go ahead.
fn agreed(consent: Consent, question: &str) -> Result<bool, Error> {
    if consent.yes {
        return Ok(true);
    }
    if consent.dry_run {
        return Ok(false);
    }
    let mut out = std::io::stdout();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let is_yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if !is_yes {
        writeln!(out, "nothing was done")?;
    }
    Ok(is_yes)
}

fn show(plan: &Plan, aws: &Aws) -> Result<(), Error> {
    let mut out = std::io::stdout();
    for step in &plan.0 {
        writeln!(out, "  {}", step.text(&aws.names))?;
    }
    Ok(())
}

pub(super) async fn deploy(args: &Args) -> Result<(), Error> {
    check_consent(args.consent)?;
    let (program, name) = target(&args.which)?;
    let aws = Aws::connect(&name).await?;
    println!("deployment {name} in {}, account {}", aws.names.region, aws.names.account);
    let built = program.build(args)?;
    let mut progress = Progress::start();
    let zip = archive::of(&built.function)?;
    println!(
        "{}: functions {:.1} MB, {:.1} MB as a zip; servers {:.1} MB",
        program.bin,
        megabytes(built.function.len()),
        megabytes(zip.len()),
        megabytes(built.server.bytes.len())
    );
    let network = aws.network(args).await?;
    let observed = apply::observe(&aws, args.private).await?;
    let desired = desired(args, &aws, &network, &observed, &built.server, &zip)?;
    let plan = plan::deploy(&desired, &observed);
    if args.no_wait && plan.is_rolling() {
        show(&plan, &aws)?;
        return Err(Error::Message(
            "servers are restarted and replaced one after the other, each when the others are well: that can't be done with \
             --no-wait"
                .to_owned(),
        ));
    }
    let files = Files::of(&program.root, &name);
    let nothing = plan.is_empty();
    let mut deploying = Deploying {
        aws: &aws,
        args,
        desired: &desired,
        network: &network,
        server: &built.server,
        zip: &zip,
        files: &files,
        observed,
    };
    if nothing {
        println!("nothing to do");
        if args.consent.dry_run {
            return Ok(());
        }
    } else {
        show(&plan, &aws)?;
        let cost = cost::estimate(
            desired.servers.len(),
            &args.instance_type,
            args.volume,
            args.private,
            args.memory,
        );
        println!("{cost}");
        if !agreed(args.consent, "Go ahead?")? {
            return Ok(());
        }
        deploying.run(&plan, &mut progress).await?;
    }
    deploying.tell_clients().await?;
    println!(
        "done in {:.1} s; {} has the settings: CRUCIAL_DEPLOYMENT={name} cargo run",
        progress.seconds(),
        files.settings().display()
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// What there should be.
fn desired(
    args: &Args,
    aws: &Aws,
    network: &Network,
    observed: &Observed,
    server: &Executable,
    zip: &[u8],
) -> Result<Desired, Error> {
    let mut sources: std::collections::BTreeSet<_> = Side::ALL.map(Source::Group).into();
    sources.extend(args.client_cidr.iter().cloned().map(Source::Cidr));
    let servers = (0..usize::from(args.servers)).map(|server| {
        let volume = observed.volume(server);
        let subnet = servers::place(&network.subnets, server, volume).ok_or_else(|| {
            let zone = volume.map_or("", |volume| &volume.zone);
            Error::Message(format!(
                "the volume of server {server} is in the zone {zone}, where none of the subnets is: add one with --vpc and \
                 --subnets"
            ))
        })?;
        Ok(Server {
            subnet: subnet.id.clone(),
            zone: subnet.zone.clone(),
            instance_type: args.instance_type.clone(),
            setup: servers::setup(&aws.names, server, args.private),
            volume: args.volume,
        })
    });
    Ok(Desired {
        binary: archive::hex(&server.bytes),
        function: Function {
            code: archive::base64(zip),
            memory: args.memory,
            timeout: args.timeout,
            concurrency: args.concurrency,
            subnets: network.subnets.iter().map(|subnet| subnet.id.clone()).collect(),
        },
        function_policy: policy::function(&aws.names),
        server_policy: policy::server(&aws.names),
        sources,
        servers: servers.collect::<Result<_, Error>>()?,
        wait: !args.no_wait,
        private: args.private,
    })
}

pub(super) async fn destroy(args: &DestroyArgs) -> Result<(), Error> {
    check_consent(args.consent)?;
    let (program, name) = target(&args.which)?;
    let aws = Aws::connect(&name).await?;
    let mut progress = Progress::start();
    let observed = apply::observe(&aws, false).await?;
    let plan = plan::destroy(&observed, args.keep_data);
    if plan.is_empty() {
        println!("nothing to do");
    } else {
        println!("deployment {name} in {}, account {}", aws.names.region, aws.names.account);
        show(&plan, &aws)?;
        let question =
            if args.keep_data { "Remove this?" } else { "Remove this, with all persistent objects?" };
        if !agreed(args.consent, question)? {
            return Ok(());
        }
        apply::destroy(&aws, &observed, &plan, &mut progress).await?;
    }
    if args.consent.dry_run {
        return Ok(());
    }
    let left = plan::destroy(&apply::observe(&aws, false).await?, args.keep_data);
    if left.0.iter().any(|step| step.action != Action::Keep) {
        show(&left, &aws)?;
        return Err(Error::Message("this is still there: give the same command again".to_owned()));
    }
    Files::of(&program.root, &name).remove()?;
    match left.0.len() {
        0 => {
            println!("nothing of {name} is left in {}; done in {:.1} s", aws.names.region, progress.seconds())
        }
        _ => println!(
            "volumes and addresses are kept for a later deployment of {name}; done in {:.1} s",
            progress.seconds()
        ),
    }
    Ok(())
}

pub(super) async fn status(args: &StatusArgs) -> Result<(), Error> {
    let (_, name) = target(&args.which)?;
    let aws = Aws::connect(&name).await?;
    let observed = apply::observe(&aws, false).await?;
    let mut out = std::io::stdout();
    writeln!(out, "deployment {name} in {}, account {}", aws.names.region, aws.names.account)?;
    match &observed.function {
        Some(function) => writeln!(
            out,
            "function {}  {}  {} MiB  {} s",
            aws.names.function(),
            function.state,
            function.is.memory,
            function.is.timeout
        )?,
        None => writeln!(out, "no function")?,
    }
    if observed.instances.is_empty() {
        writeln!(out, "no servers")?;
    }
    for instance in &observed.instances {
        let state = if instance.stopped { "stopped" } else { "running" };
        let address = format!("{}:{}", instance.host, super::names::PORT);
        let reach = reach(&address);
        let runs = &instance.runs[..instance.runs.len().min(12)];
        writeln!(
            out,
            "server {}  {}  {state}  {address}  {reach}  program {runs}",
            instance.server, instance.id
        )?;
    }
    for volume in &observed.volumes {
        let user = volume.instance.as_deref().unwrap_or("nobody's");
        writeln!(out, "volume {}  {}  {}  {user}", volume.server, volume.id, volume.zone)?;
    }
    Ok(())
}

/// Whether somebody listens there.
fn reach(address: &str) -> String {
    use std::net::{TcpStream, ToSocketAddrs};

    let connect = || {
        let found = address.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("no address"))?;
        TcpStream::connect_timeout(&found, Duration::from_secs(3))
    };
    match connect() {
        Ok(_) => "reached from here".to_owned(),
        Err(error) => format!("not reached from here ({error})"),
    }
}

pub(super) async fn logs(args: &LogsArgs) -> Result<(), Error> {
    let (_, name) = target(&args.which)?;
    let aws = Aws::connect(&name).await?;
    let since = SystemTime::now() - Duration::from_secs(u64::from(args.minutes) * 60);
    let mut out = std::io::stdout().lock();
    aws.log(since, args.with.as_deref(), |time, line| {
        let seconds = time.div_euclid(1000) % 86_400;
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        Ok(writeln!(out, "{h:02}:{m:02}:{s:02}.{:03}Z {}", time.rem_euclid(1000), line.trim_end())?)
    })
    .await
}
