//! What breaks the cluster, and when: a plan that a seed decides.

use std::{
    collections::HashMap,
    fmt, io,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use tests::random::Random;

use crate::{
    arena::Host,
    cluster::{Abilities, Cluster},
};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `kill -9` of one node, which starts again.
    Kill,
    /// `kill -9` of all nodes at once, which start again.
    KillAll,
    /// All nodes are stopped and started, one after the other.
    Roll,
    /// One node's process is stopped where it is.
    Pause,
    /// One node's process hardly gets to run.
    Stutter,
    /// All nodes stop where they are for a moment, again and again.
    Freeze,
    /// Some nodes, fewer than half, reach no other node.
    Minority,
    /// The node that leads reaches no other node.
    Leader,
    /// One node is heard by no other node, but hears them.
    Mute,
    /// One node is reached by nobody, clients neither.
    Alone,
    /// Clients reach no node.
    Clients,
    /// One node's link is slow.
    Slow,
    /// One node's disk is full.
    Full,
    /// One node dies in the middle of a write to its log.
    Tear,
    /// A node joins, and leaves again.
    Join,
    /// A node leaves, and a new one joins in its place.
    Leave,
}

/// All kinds and their names.
pub const KINDS: [(Kind, &str); 16] = [
    (Kind::Kill, "kill"),
    (Kind::KillAll, "kill-all"),
    (Kind::Roll, "roll"),
    (Kind::Pause, "pause"),
    (Kind::Stutter, "stutter"),
    (Kind::Freeze, "freeze"),
    (Kind::Minority, "minority"),
    (Kind::Leader, "leader"),
    (Kind::Mute, "mute"),
    (Kind::Alone, "alone"),
    (Kind::Clients, "clients"),
    (Kind::Slow, "slow"),
    (Kind::Full, "full"),
    (Kind::Tear, "tear"),
    (Kind::Join, "join"),
    (Kind::Leave, "leave"),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.iter().find(|(kind, _)| kind == self).map_or("?", |(_, name)| name))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = KINDS.map(|(_, name)| name).join(", ");
        let found = KINDS.iter().find(|(_, known)| *known == name);
        found.map(|(kind, _)| *kind).ok_or_else(|| format!("there is no fault `{name}`; there are {known}"))
    }
}

impl Kind {
    /// Why there can't be this fault here, if so.
    #[must_use]
    pub fn obstacle(
        self,
        nodes: usize,
        abilities: Abilities,
        links: bool,
        disks: bool,
    ) -> Option<&'static str> {
        let lossless = abilities.disk || nodes >= 3;
        match self {
            Kind::Minority | Kind::Leader | Kind::Mute | Kind::Alone | Kind::Clients | Kind::Slow
                if !links =>
            {
                Some("there are no network namespaces")
            }
            Kind::Minority | Kind::Leader | Kind::Mute if nodes < 3 => Some("it takes three nodes"),
            Kind::Join | Kind::Leave if !abilities.cluster => Some("the servers have no --join"),
            Kind::Leave if nodes < 3 => Some("it takes three nodes"),
            Kind::KillAll | Kind::Tear if !abilities.disk => Some("the servers have no --data-dir"),
            Kind::Full if !abilities.disk => Some("the servers have no --data-dir"),
            Kind::Full if !disks => Some("there are no mounts"),
            Kind::Kill | Kind::Roll if !lossless => {
                Some("a single server without --data-dir loses everything")
            }
            _ => None,
        }
    }
}

/// A fault with its time and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// When it begins, after the start of the load.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// Where; the one that leads, if that is the kind, is found then.
    pub nodes: Vec<usize>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}s {}", self.at.as_secs_f32(), self.kind)?;
        for (index, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}", if index == 0 { " " } else { "+" })?;
        }
        write!(f, " for {:.1}s", self.lasts.as_secs_f32())
    }
}

/// The faults of a schedule, in the order in which they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The faults.
    pub faults: Vec<Fault>,
    /// How long there is load.
    pub lasts: Duration,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
        f.write_str(&faults.join(", "))
    }
}

impl Plan {
    /// The plan of a seed, with these kinds of faults. Seeds that follow each other begin with different kinds.
    ///
    /// # Panics
    /// If there are no kinds.
    #[must_use]
    pub fn new(seed: u64, kinds: &[Kind], nodes: usize, lasts: Duration) -> Self {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let millis =
            |random: &mut Random, from: u64, to: u64| Duration::from_millis(from + random.below(to - from));
        // In another order each time, as the shape of the cluster goes by the seed, too.
        let count = kinds.len() as u64;
        let mut next = kinds[((seed + seed / count) % count) as usize];
        let mut faults: Vec<Fault> = Vec::new();
        let mut at = millis(&mut random, 100, 600);
        let end = lasts.saturating_sub(Duration::from_millis(500));
        while at < end || faults.is_empty() {
            // Some last longer than an election takes, and some don't.
            let most = if random.below(3) == 0 { 4500 } else { 1500 };
            let length = millis(&mut random, 100, most);
            let fault = Fault { kind: next, at, lasts: length, nodes: victims(next, nodes, &mut random) };
            // Two may come together.
            at += if random.below(4) == 0 { length / 2 } else { length };
            at += millis(&mut random, 50, 600);
            faults.push(fault);
            next = kinds[random.below(count) as usize];
        }
        Plan { faults, lasts }
    }
}

fn victims(kind: Kind, nodes: usize, random: &mut Random) -> Vec<usize> {
    let any = 1 + random.below(nodes as u64) as usize;
    match kind {
        Kind::KillAll | Kind::Roll => (1..=nodes).collect(),
        Kind::Leader | Kind::Clients | Kind::Freeze => Vec::new(),
        Kind::Join => vec![nodes + 1],
        Kind::Minority => {
            let count = 1 + random.below((nodes as u64 - 1) / 2) as usize;
            let mut minority: Vec<_> = (0..count).map(|offset| (any - 1 + offset) % nodes + 1).collect();
            minority.sort_unstable();
            minority
        }
        // Joining goes on while others leave, so the first stays for others to find.
        Kind::Leave => vec![2 + random.below(nodes as u64 - 1) as usize],
        _ => vec![any],
    }
}

/// Does what the plan says; returns what happened in words, and what should not have.
pub fn unleash(
    plan: &Plan,
    cluster: &mut Cluster<'_>,
    seed: u64,
    start: Instant,
) -> (Vec<String>, Vec<String>) {
    let mut events: Vec<(Duration, bool, usize)> = Vec::new();
    for (index, fault) in plan.faults.iter().enumerate() {
        events.push((fault.at, false, index));
        events.push((fault.at + fault.lasts, true, index));
    }
    events.sort_unstable();
    let mut nemesis = Nemesis {
        cluster,
        random: Random(seed ^ 0xfa17),
        victims: HashMap::new(),
        notes: Vec::new(),
        stutter: Vec::new(),
        freezes: false,
    };
    let mut complaints = Vec::new();
    for (at, ends, index) in events {
        nemesis.wait(start + at);
        let fault = &plan.faults[index];
        let done = if ends { nemesis.end(index, fault) } else { nemesis.begin(index, fault) };
        if let Err(error) = done {
            let what = if ends { "after" } else { "at" };
            complaints.push(format!("{what} `{fault}`: {error}"));
        }
    }
    nemesis.wait(start + plan.lasts);
    (nemesis.notes, complaints)
}

struct Nemesis<'a, 'b> {
    cluster: &'a mut Cluster<'b>,
    random: Random,
    /// The nodes that each fault has now, by its place in the plan.
    victims: HashMap<usize, Vec<usize>>,
    notes: Vec<String>,
    stutter: Vec<usize>,
    freezes: bool,
}

impl Nemesis<'_, '_> {
    /// Waits, and lets the nodes that stutter or freeze run for a moment now and then.
    fn wait(&mut self, until: Instant) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.cluster.notice();
            if self.freezes {
                self.freeze(left);
                continue;
            }
            if self.stutter.is_empty() {
                thread::sleep(left.min(Duration::from_millis(100)));
                continue;
            }
            for pause in [true, false] {
                self.stutter.iter().for_each(|number| self.cluster.pause(*number, pause));
                thread::sleep(Duration::from_millis(if pause { 60 } else { 20 }));
            }
        }
    }

    /// Stops all nodes for longer or shorter than a leader's lease, and lets them run. What changes while the lease is over
    /// may be left half done.
    fn freeze(&mut self, most: Duration) {
        let members = self.cluster.members().to_vec();
        let frozen: Vec<_> = members.into_iter().filter(|number| !self.cluster.is_paused(*number)).collect();
        for (pause, longest) in [(true, 1800), (false, 1000)] {
            frozen.iter().for_each(|number| self.cluster.pause(*number, pause));
            thread::sleep(Duration::from_millis(100 + self.random.below(longest)).min(most));
        }
    }

    fn is_busy(&self, number: usize) -> bool {
        self.victims.values().any(|nodes| nodes.contains(&number))
    }

    fn begin(&mut self, index: usize, fault: &Fault) -> io::Result<()> {
        let mut nodes = fault.nodes.clone();
        if fault.kind == Kind::Leader {
            nodes.extend(self.cluster.busiest());
        }
        let joins = fault.kind == Kind::Join;
        let mut can =
            |number: &usize| joins || self.cluster.members().contains(number) && self.cluster.is_up(*number);
        let able: Vec<_> = nodes.iter().copied().filter(&mut can).collect();
        nodes = able.into_iter().filter(|number| !self.is_busy(*number)).collect();
        if nodes.is_empty() && !matches!(fault.kind, Kind::Clients | Kind::Freeze) {
            self.notes.push(format!("{} skipped", fault.kind));
            return Ok(());
        }
        // Members change only while all is well: a cluster may refuse that otherwise, and rightly. And what is only in memory
        // survives the loss of one node, and then of another when that one's replicas are elsewhere. Who asks for the one or the
        // other is a client, which may be cut off.
        let changes = matches!(fault.kind, Kind::Join | Kind::Leave | Kind::Roll);
        let forgets = fault.kind == Kind::Kill && self.cluster.forgets();
        if (changes || forgets) && !self.victims.is_empty() {
            self.notes.push(format!("{} skipped", fault.kind));
            return Ok(());
        }
        if changes {
            self.cluster.await_members()?;
        }
        if forgets {
            self.cluster.settle()?;
        }
        self.victims.insert(index, nodes.clone());
        let members = self.cluster.members().to_vec();
        let others: Vec<_> = members.iter().filter(|n| !nodes.contains(n)).map(|n| Host::Node(*n)).collect();
        let hosts: Vec<_> = nodes.iter().map(|n| Host::Node(*n)).collect();
        let first = nodes.first().copied().unwrap_or_default();
        match fault.kind {
            Kind::Kill | Kind::KillAll => nodes.iter().for_each(|number| self.cluster.kill(*number)),
            Kind::Roll => {
                for number in nodes {
                    self.cluster.stop(number)?;
                    thread::sleep(fault.lasts / 10);
                    self.cluster.revive(&[number])?;
                    self.cluster.await_members()?;
                    thread::sleep(fault.lasts / 10);
                }
            }
            Kind::Pause => self.cluster.pause(first, true),
            Kind::Stutter => self.stutter.push(first),
            Kind::Freeze => self.freezes = true,
            Kind::Minority => self.cluster.network.part(&hosts, &others)?,
            Kind::Leader => {
                self.notes.push(format!("leader {first}"));
                self.cluster.network.part(&hosts, &others)?;
            }
            Kind::Mute => others.iter().try_for_each(|other| self.cluster.network.block(hosts[0], *other))?,
            Kind::Alone => {
                self.cluster.network.part(&hosts, &others)?;
                self.cluster.network.part(&hosts, &[Host::Clients])?;
            }
            Kind::Clients => self.cluster.network.part(&others, &[Host::Clients])?,
            Kind::Slow => self.cluster.network.slow(first)?,
            Kind::Full => self.cluster.fill(first)?,
            Kind::Tear => {
                let how = self.cluster.tear(first, &mut self.random)?;
                self.notes.push(format!("torn: {how}"));
            }
            Kind::Join => self.cluster.join(first)?,
            Kind::Leave => self.cluster.leave(first)?,
        }
        Ok(())
    }

    fn end(&mut self, index: usize, fault: &Fault) -> io::Result<()> {
        let Some(nodes) = self.victims.remove(&index) else { return Ok(()) };
        let first = nodes.first().copied().unwrap_or_default();
        match fault.kind {
            Kind::Kill | Kind::KillAll | Kind::Tear => self.revive(&nodes),
            Kind::Roll => Ok(()),
            Kind::Pause => {
                self.cluster.pause(first, false);
                Ok(())
            }
            Kind::Stutter => {
                self.stutter.retain(|number| *number != first);
                self.cluster.pause(first, false);
                Ok(())
            }
            Kind::Freeze => {
                self.freezes = false;
                Ok(())
            }
            // Another fault of the network that has begun meanwhile ends with this one.
            Kind::Minority | Kind::Leader | Kind::Mute | Kind::Alone | Kind::Clients => {
                self.cluster.network.unblock()
            }
            Kind::Slow => self.cluster.network.quicken(),
            Kind::Full => {
                self.cluster.empty(first)?;
                self.revive(&nodes)
            }
            Kind::Join => {
                self.relent()?;
                self.cluster.leave(first)
            }
            Kind::Leave => {
                self.relent()?;
                self.cluster.join(first)
            }
        }
    }

    /// Starts nodes that are down, and waits until they serve, unless another fault lasts: they may need those that it keeps
    /// from them.
    fn revive(&mut self, nodes: &[usize]) -> io::Result<()> {
        self.cluster.revive(nodes)?;
        if self.victims.is_empty() { self.cluster.await_members() } else { Ok(()) }
    }

    /// Ends all faults. A node can come and go only if most others agree.
    fn relent(&mut self) -> io::Result<()> {
        self.victims.clear();
        self.stutter.clear();
        self.freezes = false;
        self.cluster.heal()
    }
}
