//! The nodes of a cluster, as processes that can be stopped, killed and started again.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use crucial::Config;
use crucial_server::admin;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tests::{
    process::{Guarded, Signal, is_alive, signal},
    random::Random,
};

use crate::arena::{Disks, Host, Network};

/// Longer than a node that works takes to start or to stop, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many nodes have a persistent object, if there are as many: the servers' default.
const REPLICAS: usize = 3;

/// What the servers of this build can do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// They have `--join`, and make a cluster.
    pub cluster: bool,
    /// They have `--data-dir`, and lose nothing when they are killed.
    pub disk: bool,
}

impl Abilities {
    /// Asks the program for its help.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn of(program: &Path) -> io::Result<Self> {
        let help = Command::new(program).args(["crucial", "serve", "--help"]).output()?;
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        Ok(Abilities { cluster: help.contains("--join"), disk: help.contains("--data-dir") })
    }
}

/// How a cluster is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program, whose servers are the nodes.
    pub program: PathBuf,
    /// How many nodes there are at first.
    pub nodes: usize,
    /// Whether they keep logs on disk.
    pub disk: bool,
    /// Variables of the servers.
    pub variables: Vec<(String, String)>,
}

/// A node.
#[derive(Debug)]
struct Node {
    process: Option<Guarded>,
    paused: bool,
    /// Its disk, and the folder on it that holds its log and state.
    disk: PathBuf,
    log: PathBuf,
    /// It may end by itself: something is being done to it that no process has to survive.
    excused: bool,
    /// How many lives it had.
    lives: usize,
    /// The length of its output when it was started last.
    said: u64,
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster<'a> {
    /// Its network.
    pub network: &'a Network,
    settings: Settings,
    disks: Disks,
    /// Number 1 is the first.
    nodes: Vec<Node>,
    /// Those that belong to the cluster.
    members: Vec<usize>,
    /// What nodes did that they must not.
    complaints: Vec<String>,
}

impl<'a> Cluster<'a> {
    /// A cluster whose nodes aren't started yet.
    #[must_use]
    pub fn new(network: &'a Network, disks: Disks, settings: Settings) -> Self {
        let members = (1..=settings.nodes).collect();
        Cluster { network, settings, disks, nodes: Vec::new(), members, complaints: Vec::new() }
    }

    /// Starts the nodes.
    ///
    /// # Errors
    /// If one doesn't start.
    pub fn start(&mut self) -> io::Result<()> {
        let nodes = self.settings.nodes;
        self.spawn(1)?;
        // The others join it.
        self.ready(1)?;
        (2..=nodes).try_for_each(|number| self.spawn(number))?;
        (2..=nodes).try_for_each(|number| self.ready(number))
    }

    fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// The numbers of the nodes that belong to the cluster.
    #[must_use]
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    /// The addresses of the nodes that belong to the cluster.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|number| Host::Node(*number).address()).collect()
    }

    /// Whether a node's process is there.
    pub fn is_up(&mut self, number: usize) -> bool {
        self.node(number).process.is_some()
    }

    fn add(&mut self) -> io::Result<()> {
        let number = self.nodes.len() + 1;
        let disk = self.disks.disk(&format!("node{number}"))?;
        self.nodes.push(Node {
            process: None,
            paused: false,
            log: self.disks.path.join(format!("node{number}.log")),
            disk,
            excused: false,
            lives: 0,
            said: 0,
        });
        Ok(())
    }

    /// Starts the process of a node.
    fn spawn(&mut self, number: usize) -> io::Result<()> {
        while self.nodes.len() < number {
            self.add()?;
        }
        let host = Host::Node(number);
        let mut command = self.network.at(host, &self.settings.program);
        command.args(["crucial", "serve", "--listen", &host.address()]);
        let others: Vec<_> =
            self.members.iter().filter(|n| **n != number).map(|n| Host::Node(*n).address()).collect();
        // The first node of all starts the cluster.
        let first = number == 1 && self.nodes[0].lives == 0;
        if first && self.settings.nodes > 1 {
            command.args(["--cluster", "faults"]);
        } else if !others.is_empty() {
            command.args(["--join", &others.join(",")]);
        }
        let node = &mut self.nodes[number - 1];
        if self.settings.disk {
            command.arg("--data-dir").arg(node.disk.join("data"));
        }
        let log = File::options().create(true).append(true).open(&node.log)?;
        node.said = log.metadata()?.len();
        let child = command
            .env("CRUCIAL_LOG", std::env::var("CRUCIAL_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .env("RUST_BACKTRACE", "0")
            .envs(self.settings.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        node.process = Some(Guarded(child));
        (node.paused, node.excused) = (false, false);
        node.lives += 1;
        Ok(())
    }

    /// What a node has said since it was started last.
    fn said(&self, number: usize) -> String {
        let node = &self.nodes[number - 1];
        let mut said = Vec::new();
        let read = File::open(&node.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(node.said))?;
            log.read_to_end(&mut said)
        });
        read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&said).into_owned())
    }

    /// The last lines that a node has said.
    #[must_use]
    pub fn last_words(&self, number: usize) -> String {
        let said = self.said(number);
        let lines: Vec<_> = said.lines().map(|line| line.chars().take(300).collect::<String>()).collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    }

    /// Waits until a node serves.
    fn ready(&mut self, number: usize) -> io::Result<()> {
        let start = Instant::now();
        loop {
            if self.said(number).lines().any(|line| line.starts_with("serving at ")) {
                return Ok(());
            }
            let process = &mut self.node(number).process.as_mut().expect("it was started").0;
            let ended = process.try_wait()?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let how =
                    ended.map_or_else(|| "is not ready".to_owned(), |status| format!("ended with {status}"));
                return Err(io::Error::other(format!(
                    "node {number} {how} after {:.1?}: {}",
                    start.elapsed(),
                    self.last_words(number)
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether a node that is killed loses what it had, and others have it.
    #[must_use]
    pub fn forgets(&self) -> bool {
        !self.settings.disk && self.settings.nodes > 1
    }

    /// Waits until every partition has all its replicas, on nodes that are up.
    ///
    /// # Errors
    /// If that takes too long; the error says what is missing.
    pub fn settle(&mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            match self.missing() {
                None => return Ok(()),
                Some(missing) if start.elapsed() > PATIENCE => {
                    return Err(io::Error::other(format!("the nodes don't settle: {missing}")));
                }
                Some(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Which replica is missing, if any is.
    fn missing(&self) -> Option<String> {
        let replicas = REPLICAS.min(self.members.len());
        for address in self.addresses() {
            let asked = crucial::run::block_on(admin::status(&address, &Config::default()));
            let Some(status) = asked.ok().and_then(|status| status.cluster) else {
                return Some(format!("{address} does not answer"));
            };
            let up: Vec<_> = status.nodes.iter().filter(|n| n.state == "up").map(|n| n.node).collect();
            if up.len() != self.members.len() {
                return Some(format!("at {address}, {} nodes are up", up.len()));
            }
            let lacks = |held: &[u64]| held.len() != replicas || !held.iter().all(|node| up.contains(node));
            if let Some(partition) =
                status.partitions.iter().find(|p| lacks(&p.replicas) || p.leader.is_none() || p.changing)
            {
                return Some(format!("at {address}, {partition:?}"));
            }
        }
        None
    }

    /// Kills a node's process at once.
    pub fn kill(&mut self, number: usize) {
        self.notice();
        // It is killed and waited for when it is dropped.
        self.node(number).process = None;
        self.node(number).paused = false;
    }

    /// Starts nodes that are down.
    ///
    /// # Errors
    /// If one doesn't start.
    pub fn revive(&mut self, numbers: &[usize]) -> io::Result<()> {
        let down: Vec<_> = numbers.iter().copied().filter(|n| self.nodes[n - 1].process.is_none()).collect();
        down.iter().try_for_each(|number| self.spawn(*number))
    }

    /// Waits until all members that are up serve.
    ///
    /// # Errors
    /// If that takes too long, or one ends.
    pub fn await_members(&mut self) -> io::Result<()> {
        let members = self.members.clone();
        members
            .into_iter()
            .try_for_each(|number| if self.is_up(number) { self.ready(number) } else { Ok(()) })
    }

    /// Ends a node as an operator does, and waits until it has ended.
    ///
    /// # Errors
    /// If it doesn't end, or ends badly.
    pub fn stop(&mut self, number: usize) -> io::Result<()> {
        self.notice();
        let Some(process) = &self.node(number).process else { return Ok(()) };
        signal(process.pid(), Signal::TERM);
        self.end(number)
    }

    /// Waits until a node has ended.
    fn end(&mut self, number: usize) -> io::Result<()> {
        let start = Instant::now();
        let Some(mut process) = self.node(number).process.take() else { return Ok(()) };
        loop {
            if let Some(status) = process.0.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                let words = self.last_words(number);
                return Err(io::Error::other(format!("node {number} ended with {status}: {words}")));
            }
            if start.elapsed() > PATIENCE {
                let words = self.last_words(number);
                return Err(io::Error::other(format!(
                    "node {number} did not end within {PATIENCE:?}: {words}"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops a node's process where it is, or lets it go on.
    pub fn pause(&mut self, number: usize, pause: bool) {
        let node = self.node(number);
        if let Some(process) = &node.process
            && is_alive(process.pid())
        {
            signal(process.pid(), if pause { Signal::STOP } else { Signal::CONT });
            node.paused = pause;
        }
    }

    /// Whether a node's process is stopped where it is.
    pub fn is_paused(&mut self, number: usize) -> bool {
        self.node(number).paused
    }

    /// Adds a node to the cluster.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn join(&mut self, number: usize) -> io::Result<()> {
        if !self.members.contains(&number) {
            self.spawn(number)?;
            self.ready(number)?;
            self.members.push(number);
        }
        Ok(())
    }

    /// Takes a node out of the cluster, with its data.
    ///
    /// # Errors
    /// If it doesn't leave.
    pub fn leave(&mut self, number: usize) -> io::Result<()> {
        self.notice();
        let mut command = Command::new(&self.settings.program);
        command.args(["crucial", "leave", "--server", &Host::Node(number).address()]);
        command.envs(self.settings.variables.iter().cloned());
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // It is killed when it takes too long.
        let mut command = Guarded(command);
        let start = Instant::now();
        let status = loop {
            match command.0.try_wait()? {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => {
                    return Err(io::Error::other(format!("node {number} did not leave within {PATIENCE:?}")));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if !status.success() {
            let mut said = String::new();
            command.0.stderr.take().expect("it is piped").read_to_string(&mut said)?;
            return Err(io::Error::other(format!("node {number} can't leave: {}", said.trim())));
        }
        self.members.retain(|member| *member != number);
        self.end(number)?;
        // When it comes back it is a new one.
        let data = self.node(number).disk.join("data");
        if data.exists() { fs::remove_dir_all(data) } else { Ok(()) }
    }

    /// The member that worked most in the last moment: the one that leads, or leads most.
    pub fn busiest(&mut self) -> Option<usize> {
        let members = self.members.clone();
        let work = |cluster: &mut Self| -> Vec<u64> {
            members.iter().map(|n| cluster.node(*n).process.as_ref().map_or(0, |p| ticks(p.pid()))).collect()
        };
        let before = work(self);
        std::thread::sleep(Duration::from_millis(200));
        let after = work(self);
        let worked =
            members.iter().zip(before.iter().zip(&after)).map(|(n, (b, a))| (a.saturating_sub(*b), *n));
        worked.max().map(|(_, number)| number)
    }

    /// Fills a node's disk to the last byte.
    ///
    /// # Errors
    /// If it can't be written for another reason.
    pub fn fill(&mut self, number: usize) -> io::Result<()> {
        self.node(number).excused = true;
        let mut ballast = File::create(self.node(number).disk.join("ballast"))?;
        let mut chunk = vec![1; 1 << 20];
        while !chunk.is_empty() {
            match ballast.write(&chunk) {
                Ok(1..) => {}
                Ok(0) => chunk.truncate(chunk.len() / 2),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => chunk.truncate(chunk.len() / 2),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes room again, and starts the node if it gave up.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn empty(&mut self, number: usize) -> io::Result<()> {
        let ballast = self.node(number).disk.join("ballast");
        if ballast.exists() {
            fs::remove_file(ballast)?;
        }
        self.notice();
        self.node(number).excused = false;
        Ok(())
    }

    /// Lets a node die in the middle of a write to its log, as a crash of the machine would: some bytes of a record are
    /// there, and the rest is not. Nothing that it has acknowledged is lost by that.
    ///
    /// Where no write comes to an end so, the node is killed, and bytes of a record that was never written follow the log.
    /// Returns which of both it was.
    ///
    /// # Errors
    /// If its files can't be read or written.
    pub fn tear(&mut self, number: usize, random: &mut Random) -> io::Result<&'static str> {
        let data = self.node(number).disk.join("data");
        let Some(newest) = newest(&data)? else {
            self.kill(number);
            return Ok("there is no log");
        };
        let limit = end_of_data(&newest)? + 1 + random.below(200);
        self.notice();
        self.node(number).excused = true;
        let Some(process) = &mut self.node(number).process else { return Ok("it is down") };
        let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
        // A write over the limit ends at the limit, and the next one ends the process.
        prlimit(pid, Resource::Fsize, Rlimit { current: Some(limit), maximum: None })?;
        let start = Instant::now();
        while process.0.try_wait()?.is_none() {
            if start.elapsed() > Duration::from_millis(1500) {
                self.kill(number);
                garble(&data, random)?;
                return Ok("garbage behind the log");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.node(number).process = None;
        Ok("half a record")
    }

    /// Everything as it should be: all links whole, all members up.
    ///
    /// # Errors
    /// If a node doesn't start.
    pub fn heal(&mut self) -> io::Result<()> {
        self.network.unblock()?;
        self.network.quicken()?;
        self.notice();
        let members = self.members.clone();
        for number in &members {
            if self.node(*number).paused {
                self.pause(*number, false);
            }
            self.empty(*number)?;
        }
        self.revive(&members)?;
        self.await_members()
    }

    /// Looks for nodes that have ended by themselves.
    pub fn notice(&mut self) {
        for number in 1..=self.nodes.len() {
            let node = self.node(number);
            let Some(process) = &mut node.process else { continue };
            let Ok(Some(status)) = process.0.try_wait() else { continue };
            node.process = None;
            if !node.excused {
                let words = self.last_words(number);
                self.complaints.push(format!("node {number} ended by itself with {status}: {words}"));
            }
        }
    }

    /// What nodes did that they must not: ended by themselves, or panicked.
    pub fn complaints(&mut self) -> Vec<String> {
        self.notice();
        let mut complaints = std::mem::take(&mut self.complaints);
        for (index, node) in self.nodes.iter().enumerate() {
            let said = fs::read_to_string(&node.log).unwrap_or_default();
            let lines: Vec<_> = said.lines().collect();
            if let Some(at) = lines.iter().position(|line| line.contains("panicked at")) {
                let words = lines[at..lines.len().min(at + 3)].join("\n");
                complaints.push(format!("node {} panicked: {words}", index + 1));
            }
        }
        complaints
    }

    /// Keeps what the nodes said, and how those that are up see the cluster, in this folder.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn keep_logs(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (index, _) in self.nodes.iter().enumerate().filter(|(_, node)| node.process.is_some()) {
            let address = Host::Node(index + 1).address();
            let status = match crucial::run::block_on(admin::status(&address, &Config::default())) {
                Ok(status) => format!("{status:#?}\n"),
                Err(error) => format!("{error}\n"),
            };
            fs::write(folder.join(format!("node{}.status", index + 1)), status)?;
        }
        self.nodes.iter().enumerate().try_for_each(|(index, node)| {
            fs::copy(&node.log, folder.join(format!("node{}.log", index + 1))).map(drop)
        })
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for error in [self.network.unblock(), self.network.quicken()].into_iter().filter_map(Result::err) {
            eprintln!("{error}");
        }
        // Processes before their disks.
        self.nodes.clear();
    }
}

/// The processor time of a process, in ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may have any character, and ends with the last parenthesis.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// The log: the file that was written last, in a folder and those in it. Snapshots are no logs: a crash adds nothing to
/// one that is complete.
fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if entry.file_name().to_string_lossy().contains("snapshot") {
                continue;
            }
            if about.is_dir() {
                folders.push(entry.path());
            } else if about.len() > 0
                && newest.as_ref().is_none_or(|(time, _)| about.modified().is_ok_and(|t| t > *time))
            {
                newest = Some((about.modified()?, entry.path()));
            }
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the data of a file ends: zeros at its end are room that was allocated ahead.
fn end_of_data(path: &Path) -> io::Result<u64> {
    const BLOCK: usize = 64 << 10;
    let file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Writes what a crash can leave behind the end of a log: bytes of a record that was never complete.
///
/// Nothing is cut off. The records at the end may have been acknowledged, and a disk that loses those is not one that
/// consensus can make good for: neither is it a crash.
fn garble(data: &Path, random: &mut Random) -> io::Result<()> {
    /// A record may end with zeros, which [`end_of_data`] takes for room: that much is left alone.
    const MARGIN: u64 = 4096;
    let Some(path) = newest(data)? else { return Ok(()) };
    let file = File::options().write(true).open(&path)?;
    let (length, end) = (file.metadata()?.len(), end_of_data(&path)?);
    let offset = if length - end < MARGIN { length } else { end + MARGIN };
    let count = 1 + random.below(200) as usize;
    file.write_all_at(&random.bytes(count), offset)?;
    file.sync_all()
}
