//! One life of a cluster, from its start to the verdict.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    arena::{Disks, Network},
    cluster::{self, Cluster},
    nemesis::{self, Kind, Plan},
    workload::{self, Findings, Workload},
};

/// What schedules have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the cluster is started.
    pub cluster: cluster::Settings,
    /// The kinds of faults.
    pub kinds: Vec<Kind>,
    /// How long there is load.
    pub lasts: Duration,
    /// Where the nodes' disks are, if not in memory.
    pub data: Option<PathBuf>,
}

/// How a schedule went.
#[derive(Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its faults.
    pub plan: Plan,
    /// What was decided on the way.
    pub notes: Vec<String>,
    /// What the clients saw.
    pub findings: Findings,
    /// How long it took, with start and verdict.
    pub took: Duration,
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
        let Report { seed, plan, notes, findings, took } = self;
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        let result = if self.is_well() { "ok" } else { "VIOLATED" };
        write!(
            f,
            "seed {seed}  {result}  {} calls, {} unknown, {} failures, longest silence {:.1}s  [{plan}]{notes}  {:.1}s",
            findings.operations,
            findings.unknown,
            findings.errors.values().sum::<usize>(),
            findings.gap.as_secs_f32(),
            took.as_secs_f32()
        )
    }
}

/// Whether the clients of this seed give up soon. Then there are calls with unknown outcomes.
fn is_impatient(seed: u64) -> bool {
    seed % 3 == 2
}

/// Runs the schedule of a seed. What the nodes of one that failed have said is kept in a folder of `keep`.
///
/// # Errors
/// If the cluster doesn't start, so that there is nothing to break.
pub fn run(settings: &Settings, network: &Network, seed: u64, keep: &Path) -> Result<Report, String> {
    let began = Instant::now();
    let plan = Plan::new(seed, &settings.kinds, settings.cluster.nodes, settings.lasts);
    let disks =
        Disks::new(settings.data.as_deref(), network.has_links()).map_err(|error| error.to_string())?;
    let mut cluster = Cluster::new(network, disks, settings.cluster.clone());
    let folder = keep.join(seed.to_string());
    if let Err(error) = cluster.start() {
        cluster.keep_logs(&folder).map_err(|error| error.to_string())?;
        return Err(error.to_string());
    }
    let start = Instant::now();
    let clients = workload::Settings {
        servers: cluster.addresses(),
        patience: if is_impatient(seed) {
            Duration::from_millis(1500)
        } else {
            settings.lasts + workload::RECOVERY
        },
        lasts: settings.lasts,
    };
    let workload = match Workload::start(&clients, seed, start) {
        Ok(workload) => workload,
        Err(error) => {
            cluster.keep_logs(&folder).map_err(|error| error.to_string())?;
            return Err(error);
        }
    };
    let (notes, mut violations) = nemesis::unleash(&plan, &mut cluster, seed, start);
    if let Err(error) = cluster.heal() {
        violations.push(format!("after the last fault: {error}"));
    }
    let mut findings = workload.finish();
    violations.extend(cluster.complaints());
    findings.violations.extend(violations);
    let report = Report { seed, plan, notes, findings, took: began.elapsed() };
    if !report.is_well() {
        cluster.keep_logs(&folder).map_err(|error| error.to_string())?;
    }
    Ok(report)
}
