//! One life of a cluster, from its start to the verdict.
//!
//! A seed decides all that can be decided: the cluster, the faults and when they come, what the clients want to do and how
//! long they wait. What it can't decide is how the threads and processes take turns, so a seed that failed once may need
//! a few attempts.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    arena::{Disks, Network},
    cluster::{self, Abilities, Cluster},
    nemesis::{self, KINDS, Kind, Plan},
    workload::{self, Findings, Workload},
};

/// What schedules have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program, whose servers are the nodes.
    pub program: PathBuf,
    /// What it can do.
    pub abilities: Abilities,
    /// How many nodes there are, if the seed doesn't decide it.
    pub nodes: Option<usize>,
    /// Whether no node has a disk.
    pub memory: bool,
    /// The kinds of faults, if not all that can be.
    pub kinds: Option<Vec<Kind>>,
    /// How long there is load.
    pub lasts: Duration,
    /// Where the nodes' disks are, if not in memory.
    pub data: Option<PathBuf>,
}

/// What kind of cluster a seed has, and what kind of clients.
///
/// The numbers that it depends on have no common divisor, nor one with the number of kinds of faults: so some hundred
/// seeds that follow each other have all that there is, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many nodes there are.
    pub nodes: usize,
    /// Whether they keep logs on disk.
    pub disk: bool,
    /// Whether the clients wait as long as it takes. If not, there are calls with unknown outcomes.
    pub is_patient: bool,
}

impl Shape {
    /// That of a seed, of all that `settings` allow.
    #[must_use]
    pub fn new(settings: &Settings, seed: u64) -> Self {
        let usual = if !settings.abilities.cluster {
            1
        } else if seed % 4 == 3 {
            5
        } else {
            3
        };
        let nodes = settings.nodes.unwrap_or(usual);
        let in_memory = settings.memory || !settings.abilities.disk || nodes >= 3 && seed % 7 == 5;
        Shape { nodes, disk: !in_memory, is_patient: seed % 11 % 3 != 2 }
    }

    /// The kinds of faults that there are.
    ///
    /// # Errors
    /// If there are none.
    pub fn kinds(self, settings: &Settings, links: bool) -> Result<Vec<Kind>, String> {
        let all = KINDS.iter().map(|(kind, _)| *kind);
        let can = |kind: &Kind| self.obstacle(*kind, settings, links).is_none();
        let kinds = settings.kinds.clone().unwrap_or_else(|| all.filter(can).collect());
        if kinds.is_empty() { Err("no fault is possible here".to_owned()) } else { Ok(kinds) }
    }

    fn obstacle(self, kind: Kind, settings: &Settings, links: bool) -> Option<&'static str> {
        let abilities = Abilities { disk: self.disk, ..settings.abilities };
        kind.obstacle(self.nodes, abilities, links, settings.has_own_disks(links))
    }
}

impl Settings {
    /// Whether each node has a disk of its own, which can be full; `links` says whether this is an arena.
    #[must_use]
    pub fn has_own_disks(&self, links: bool) -> bool {
        links && self.data.is_none()
    }

    /// The kinds of faults that no cluster has, and why.
    #[must_use]
    pub fn left_out(&self, links: bool) -> Vec<(Kind, &'static str)> {
        if self.kinds.is_some() {
            return Vec::new();
        }
        let most = if self.abilities.cluster { 3 } else { 1 };
        let disk = self.abilities.disk && !self.memory;
        let shape = Shape { nodes: self.nodes.unwrap_or(most), disk, is_patient: true };
        let left_out = |kind| Some((kind, shape.obstacle(kind, self, links)?));
        KINDS.iter().filter_map(|(kind, _)| left_out(*kind)).collect()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disks = if self.disk { "" } else { " without disks" };
        let clients = if self.is_patient { "" } else { ", clients that give up" };
        write!(f, "{} nodes{disks}{clients}", self.nodes)
    }
}

/// How a schedule went.
#[derive(Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its cluster.
    pub shape: Shape,
    /// Its faults.
    pub plan: Plan,
    /// What was decided on the way.
    pub notes: Vec<String>,
    /// What the clients saw.
    pub findings: Findings,
    /// How long its parts took.
    pub took: Took,
}

/// How long the parts of a schedule took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// Until the objects were there.
    pub start: Duration,
    /// The load, and the faults.
    pub load: Duration,
    /// Until all was well again, the clients had ended, and the histories were checked.
    pub end: Duration,
}

impl Report {
    /// Whether all was well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, shape, plan, notes, findings, took } = self;
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        let result = if self.is_well() { "ok" } else { "VIOLATED" };
        write!(
            f,
            "seed {seed}  {result}  {shape}: {} calls, {} unknown, {} failures, longest silence {:.1}s  [{plan}]{notes}  \
             {:.1} + {:.1} + {:.1}s",
            findings.operations,
            findings.unknown,
            findings.errors.values().sum::<usize>(),
            findings.gap.as_secs_f32(),
            took.start.as_secs_f32(),
            took.load.as_secs_f32(),
            took.end.as_secs_f32()
        )
    }
}

/// Runs the schedule of a seed. What the nodes of one that failed have said is kept in a folder of `keep`.
///
/// # Errors
/// If the cluster doesn't start, so that there is nothing to break.
pub fn run(settings: &Settings, network: &Network, seed: u64, keep: &Path) -> Result<Report, String> {
    let began = Instant::now();
    let shape = Shape::new(settings, seed);
    let plan = Plan::new(seed, &shape.kinds(settings, network.has_links())?, shape.nodes, settings.lasts);
    let disks =
        Disks::new(settings.data.as_deref(), network.has_links()).map_err(|error| error.to_string())?;
    let how = cluster::Settings {
        program: settings.program.clone(),
        nodes: shape.nodes,
        disk: shape.disk,
        variables: Vec::new(),
    };
    let mut cluster = Cluster::new(network, disks, how);
    let folder = keep.join(seed.to_string());
    let started = cluster.start().map_err(|error| error.to_string());
    let start = Instant::now();
    let clients = workload::Settings {
        servers: cluster.addresses(),
        patience: if shape.is_patient {
            settings.lasts + workload::RECOVERY
        } else {
            Duration::from_millis(1500)
        },
        lasts: settings.lasts,
    };
    let workload = started.and_then(|()| Workload::start(&clients, seed, start));
    let workload = match workload {
        Ok(workload) => workload,
        Err(error) => {
            cluster.keep_logs(&folder).map_err(|error| error.to_string())?;
            return Err(error);
        }
    };
    let mut took = Took { start: began.elapsed(), ..Took::default() };
    let (notes, mut violations) = nemesis::unleash(&plan, &mut cluster, seed, Instant::now());
    took.load = began.elapsed() - took.start;
    if let Err(error) = cluster.heal() {
        violations.push(format!("after the last fault: {error}"));
    }
    let mut findings = workload.finish();
    violations.extend(cluster.complaints());
    findings.violations.extend(violations);
    took.end = began.elapsed() - took.start - took.load;
    let report = Report { seed, shape, plan, notes, findings, took };
    if !report.is_well() {
        cluster.keep_logs(&folder).map_err(|error| error.to_string())?;
    }
    Ok(report)
}
