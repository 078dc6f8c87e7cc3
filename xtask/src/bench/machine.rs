//! The machine that is measured on.

use std::{fs, io, process::Command, thread, time::Duration};

/// More than this part of all CPUs in use before a run makes its figures doubtful.
const BUSY: f64 = 0.12;

/// What tables say about the machine.
#[derive(Debug)]
pub(super) struct Machine {
    text: String,
    busy: f64,
    load: String,
}

impl Machine {
    pub(super) fn look() -> io::Result<Self> {
        let cpus = thread::available_parallelism()?;
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown CPU", |(_, model)| model);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let date = said("date", &["+%F"]);
        let rust = said("rustc", &["--version"]);
        let rust = rust.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
        let text = format!("{date}, Linux {}, {cpus} CPUs ({model}), Rust {rust}", kernel.trim());
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("?").to_owned();
        Ok(Machine { text, busy: busy(), load })
    }

    /// Date, kernel, CPUs, compiler.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// That the machine had other things to do before the run, if so.
    pub(super) fn warning(&self) -> Option<String> {
        (self.busy > BUSY).then(|| {
            format!(
                "the machine is busy: {:.0} % of its CPUs before the start, load {}. Compare ratios, not values.",
                self.busy * 100.0,
                self.load
            )
        })
    }
}

/// Notices what other programs do while a benchmark runs.
#[derive(Debug)]
pub(super) struct Watch {
    all: Option<(u64, u64)>,
    own: Option<u64>,
}

impl Watch {
    pub(super) fn start() -> Self {
        Watch { all: times(), own: own_time() }
    }

    /// Which part of all CPUs others have used since then. Children count as ours once they have ended.
    pub(super) fn others(&self) -> Option<f64> {
        let (before, after) = (self.all?, times()?);
        let (total, idle) = (after.0 - before.0, after.1 - before.1);
        let own = own_time()? - self.own?;
        Some(total.saturating_sub(idle + own) as f64 / total.max(1) as f64)
    }
}

/// The CPU time of this process and of its children that have ended, in the unit of [`times`].
fn own_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, can have spaces. User and system time are fields 14 and 15, those of children follow.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum()
}

/// What a program prints; nothing if it can't be run.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Which part of all CPUs is in use, over 0.4 seconds.
fn busy() -> f64 {
    let Some(before) = times() else { return 0.0 };
    thread::sleep(Duration::from_millis(400));
    let Some(after) = times() else { return 0.0 };
    let (total, idle) = (after.0 - before.0, after.1 - before.1);
    if total == 0 { 0.0 } else { 1.0 - idle as f64 / total as f64 }
}

/// The CPUs' time so far, and how much of it they were idle.
fn times() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let times: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).take(8).flat_map(str::parse).collect();
    Some((times.iter().sum(), times.get(3)? + times.get(4)?))
}

/// How many seconds a process has had a CPU so far.
pub(super) fn cpu_time(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, can have spaces. User and system time are fields 14 and 15.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// How many bytes of memory programs can still have.
pub(super) fn available() -> f64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

/// The resident memory of a process in MiB.
pub(super) fn resident(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
