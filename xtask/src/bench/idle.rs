//! What a cluster costs that nobody uses.

use std::{collections::HashSet, io::ErrorKind, process::Command, thread::sleep, time::Duration};

use super::{
    Effort,
    cluster::{Cluster, Kept},
    machine::{cpu_time, resident},
    replicated::etcd,
    report::{Figure, Goal, Peer, Unit},
};
use crate::Error;

const NODES: usize = 3;
/// The second is the default.
const PARTITIONS: [usize; 4] = [1, 6, 16, 64];
/// How long it is watched, and how long it is left alone before.
const WATCHED: Duration = Duration::from_secs(20);
const BEFORE: Duration = Duration::from_secs(5);
/// The most of a CPU that it may use in all, in percent.
const MOST: f64 = 3.0;

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>, Error> {
    let time = if effort.quick { WATCHED / 5 } else { WATCHED };
    let etcd = match etcd::Nodes::start()? {
        Ok(nodes) => {
            eprintln!("idle: {}", nodes.name());
            Ok((nodes.name().to_owned(), watch(&nodes.pids(), nodes.ports(), time)?))
        }
        Err(missing) => Err(missing),
    };
    let mut figures = Vec::new();
    for partitions in PARTITIONS {
        eprintln!("idle: {partitions} partitions");
        let cluster = Cluster::start(Kept::OnDisk, NODES, NODES, Some(partitions))?;
        let ports = cluster.addresses();
        let ports: Vec<_> = ports.iter().filter_map(|a| a.rsplit_once(':')?.1.parse().ok()).collect();
        let ours = watch(&cluster.pids(), &ports, time)?;
        let mut figure = |what: &str, unit, value: fn(&Idle) -> Option<f64>, goal| {
            let Some(ours) = value(&ours) else { return };
            let peer = match &etcd {
                Ok((name, idle)) => {
                    value(idle).map_or(Peer::Nothing, |value| Peer::Measured { name: name.clone(), value })
                }
                Err(missing) => missing.clone(),
            };
            let case = format!("{what}, {partitions} partitions");
            figures.push(Figure { bench: "idle", case, unit, ours, peer, rounds: 1, goal });
        };
        figure("CPU of 3 nodes", Unit::Percent, |idle| Some(idle.cpu), Some(Goal::Below(MOST)));
        figure("memory of 3 nodes", Unit::MiB, |idle| Some(idle.memory), None);
        figure("network of 3 nodes", Unit::KiBPerSecond, |idle| idle.network, None);
    }
    Ok(figures)
}

/// What processes use that have nothing to do.
struct Idle {
    /// Percent of one CPU.
    cpu: f64,
    /// MiB.
    memory: f64,
    /// KiB in a second that all of them send.
    network: Option<f64>,
}

fn watch(pids: &[u32], ports: &[u16], time: Duration) -> Result<Idle, Error> {
    sleep(BEFORE);
    let used = || pids.iter().copied().map(cpu_time).sum::<f64>();
    let (cpu, network) = (used(), sent(ports)?);
    sleep(time);
    let seconds = time.as_secs_f64();
    let network = sent(ports)?
        .zip(network)
        .map(|(after, before)| after.saturating_sub(before) as f64 / 1024.0 / seconds);
    Ok(Idle {
        cpu: (used() - cpu) / seconds * 100.0,
        memory: pids.iter().filter_map(|pid| resident(*pid)).sum(),
        network,
    })
}

/// How many bytes were sent on the connections at these ports, in both directions. None without the program that knows.
fn sent(ports: &[u16]) -> Result<Option<u64>, Error> {
    let output = match Command::new("ss").args(["-tinOH", "state", "established"]).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("idle: no figures of the network: apt-get install iproute2");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let ports: HashSet<_> = ports.iter().map(u16::to_string).collect();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| {
        let ends = line.split_whitespace().skip(2).take(2);
        ends.filter_map(|end| end.rsplit_once(':')).any(|(_, port)| ports.contains(port))
    });
    // Each end of a connection has a line, with what it has sent.
    let bytes = |line: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix("bytes_sent:")?.parse::<u64>().ok())
    };
    Ok(Some(lines.filter_map(bytes).sum()))
}
