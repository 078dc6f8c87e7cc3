//! What happens to a cluster: it follows from the seed.

use std::{fmt, time::Duration};

use tests::random::Random;

/// How long there are faults and load.
pub const LASTS: Duration = Duration::from_secs(15);
/// When the first fault comes.
const QUIET: Duration = Duration::from_secs(2);

/// What a simulation consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many clients there are.
    pub clients: usize,
    /// How many partitions the cluster has.
    pub partitions: usize,
    /// The longest time that a message takes without a fault.
    pub latency: Duration,
    /// How long clients go on without a server, and nodes without a client.
    pub patience: Patience,
    /// The faults, in the order of time.
    pub faults: Vec<Planned>,
}

/// How long clients go on without a server, and nodes without a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Longer than any fault: no call of a persistent object may fail.
    Long,
    /// Not so long.
    Short,
}

/// A fault with its time.
#[derive(Clone, Debug)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A node, by its number from 0.
    Node(usize),
    /// A client, by its number from 0.
    Client(usize),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Node(n) => write!(f, "node-{n}"),
            Host::Client(n) => write!(f, "client-{n}"),
        }
    }
}

/// What may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A host dies, and starts again later. `silent`: nobody is told, as when its power fails.
    Crash {
        /// The host.
        host: Host,
        /// Nobody is told.
        silent: bool,
    },
    /// All nodes die at once.
    CrashAll,
    /// A node dies and comes back with an empty disk.
    LoseDisk(usize),
    /// A node hands over what it serves, stops, and starts again later.
    Stop(usize),
    /// A node leaves for good. Later another one comes to its address.
    Leave(usize),
    /// What these hosts and the others send to each other comes when the fault is over, as with a TCP that sends again.
    CutOff(Vec<Host>),
    /// Nothing comes from one to the other, as in `CutOff`, for this link alone.
    CutLink(Host, Host),
    /// The connections between two hosts break; what was on its way is lost.
    Reset(Host, Host),
    /// A link is slow.
    Slow(Host, Host),
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms, for {:>4} ms: {:?}", self.at.as_millis(), self.lasts.as_millis(), self.fault)
    }
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let random = &mut Random(seed);
        let nodes = [3, 3, 3, 4, 5][random.below(5) as usize];
        let clients = 2 + random.below(2) as usize;
        let patience = if random.below(3) == 0 { Patience::Short } else { Patience::Long };
        let mut plan = Plan {
            nodes,
            clients,
            partitions: 1 + random.below(4) as usize,
            latency: Duration::from_millis([2, 5, 20, 60][random.below(4) as usize]),
            patience,
            faults: Vec::new(),
        };
        let count = 1 + random.below(10);
        let window = (LASTS - QUIET).as_millis() as u64;
        let mut disks = 1;
        for _ in 0..count {
            let at = QUIET + Duration::from_millis(random.below(window));
            let longest = [300, 1500, 4000][random.below(3) as usize];
            let lasts = Duration::from_millis(20 + random.below(longest));
            let fault = plan.fault(random, &mut disks);
            plan.faults.push(Planned { at, lasts, fault });
        }
        plan.faults.sort_by_key(|planned| planned.at);
        plan
    }

    fn fault(&self, random: &mut Random, disks: &mut usize) -> Fault {
        let node = random.below(self.nodes as u64) as usize;
        match random.below(20) {
            0..4 => Fault::Crash { host: Host::Node(node), silent: random.below(2) == 0 },
            4 if self.patience == Patience::Short => {
                let client = random.below(self.clients as u64) as usize;
                Fault::Crash { host: Host::Client(client), silent: random.below(2) == 0 }
            }
            4 | 5 => Fault::CrashAll,
            // Two disks that are lost could be more than replication promises to survive; and a node that dies while it
            // leaves can't come back with its disk.
            6 | 7 if *disks > 0 => {
                *disks -= 1;
                if random.below(2) == 0 { Fault::LoseDisk(node) } else { Fault::Leave(node) }
            }
            6..10 => Fault::Stop(node),
            10..13 => {
                let hosts = self.hosts();
                let side: Vec<_> = hosts.iter().filter(|_| random.below(2) == 0).copied().collect();
                Fault::CutOff(side)
            }
            13 | 14 => Fault::CutOff(vec![Host::Node(node)]),
            kind => {
                let (a, b) = self.link(random);
                match kind {
                    15 => Fault::CutLink(a, b),
                    16 => Fault::Slow(a, b),
                    _ => Fault::Reset(a, b),
                }
            }
        }
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        (0..self.nodes).map(Host::Node).chain((0..self.clients).map(Host::Client)).collect()
    }

    /// Two hosts, the first of them a node.
    fn link(&self, random: &mut Random) -> (Host, Host) {
        let a = Host::Node(random.below(self.nodes as u64) as usize);
        let others: Vec<_> = self.hosts().into_iter().filter(|host| *host != a).collect();
        (a, others[random.below(others.len() as u64) as usize])
    }
}
