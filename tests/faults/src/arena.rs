//! A place where nodes have a network and disks of their own, which can be broken.
//!
//! It is made of namespaces: of processes, so that none outlives the suite; of mounts, so that no disk does; and of the
//! network, so that each node has a link. The kernel takes all of it back when the first process of it ends, however
//! it ends. A user who isn't root gets one in a user namespace.
//!
//! The nodes' addresses are of 127.0.0.0/8 all the same, as a server serves no others without TLS.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

/// Set in the arena.
const INSIDE: &str = "FAULTS_INSIDE";
/// An address on the link that no interface has: what is sent there is lost without a word.
const NOWHERE: &str = "02:00:00:00:00:fe";
/// Where `ip netns` keeps its names. An arena has a folder of its own there.
const RUN: &str = "/run";
/// The port of each node.
const PORT: u16 = 7878;
/// The most nodes.
pub const NODES: usize = 9;

/// Runs a command of the system.
///
/// # Errors
/// If it isn't there or fails; the error has what it said.
pub fn run(command: &str) -> io::Result<String> {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| io::Error::new(error.kind(), format!("{command}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command}: {}: {}", output.status, said.trim())))
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// Whether this process is in an arena.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Why there can be no arena on this machine, if so.
#[must_use]
pub fn obstacle() -> Option<String> {
    // All that is needed there is tried.
    let script = "mount -t tmpfs tmpfs /run && ip netns add try && ip link add port type veth peer name eth0 netns try && \
                  ip link add br0 type bridge && ip link set port master br0 && nsenter --net=/run/netns/try true";
    match unshare().args(["sh", "-c", script]).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// A command that starts this program in an arena of its own.
///
/// # Errors
/// If the program can't be found.
pub fn another(args: impl Iterator<Item = OsString>) -> io::Result<Command> {
    let mut command = unshare();
    command.arg(std::env::current_exe()?).args(args).env(INSIDE, "1");
    Ok(command)
}

/// Continues this program, with the same arguments, in an arena. Returns only if that fails.
pub fn enter(args: impl Iterator<Item = OsString>) -> io::Error {
    another(args).map_or_else(|error| error, |mut command| command.exec())
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The clients, all of them.
    Clients,
    /// The node with this number, from 1.
    Node(usize),
}

impl Host {
    /// Its address.
    #[must_use]
    pub fn ip(self) -> String {
        match self {
            Host::Clients => "127.77.0.1".to_owned(),
            Host::Node(number) => format!("127.77.0.{}", 10 + number),
        }
    }

    /// Where a node listens.
    #[must_use]
    pub fn address(self) -> String {
        format!("{}:{PORT}", self.ip())
    }

    /// The options of `ip` that choose its namespace, and its interface.
    fn link(self) -> (String, &'static str) {
        match self {
            Host::Clients => (String::new(), "br0"),
            Host::Node(number) => (format!("-n node{number}"), "eth0"),
        }
    }
}

/// The network of an arena.
#[derive(Debug)]
pub struct Network {
    /// Which way is blocked: from, to.
    blocked: Mutex<Vec<(Host, Host)>>,
    slow: Mutex<Vec<usize>>,
    /// Whether links can be given a delay; else they get little bandwidth, which delays too.
    delays: bool,
    inside: bool,
}

impl Network {
    /// The network of this machine, where no link can be broken.
    #[must_use]
    pub fn loopback() -> Self {
        Network { blocked: Mutex::default(), slow: Mutex::default(), delays: false, inside: false }
    }

    /// Makes links for [`NODES`] nodes and the clients in this arena.
    ///
    /// # Errors
    /// If a command fails.
    pub fn build() -> io::Result<Self> {
        run(&format!("mount -t tmpfs tmpfs {RUN}"))?;
        let mut script = String::from(
            "link set lo up\naddr del 127.0.0.1/8 dev lo\naddr add 127.0.0.1/32 dev lo\n\
             link add br0 type bridge forward_delay 0\n",
        );
        let _ = writeln!(script, "addr add {}/24 dev br0\nlink set br0 up", Host::Clients.ip());
        for node in 1..=NODES {
            let _ = writeln!(
                script,
                "netns add node{node}\nlink add port{node} type veth peer name eth0 netns node{node}\n\
                 link set port{node} master br0 up"
            );
        }
        batch("", &script)?;
        fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")?;
        for node in 1..=NODES {
            // The file shows the network of the process that opens it.
            let set = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet";
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/node{node}")).args(["sh", "-c", set]).stdin(Stdio::null());
            if !command.status()?.success() {
                return Err(io::Error::other("a node's network can't be set up"));
            }
            let script = format!(
                "link set lo up\naddr del 127.0.0.1/8 dev lo\naddr add 127.0.0.1/32 dev lo\n\
                 addr add {}/24 dev eth0\nlink set eth0 up\n",
                Host::Node(node).ip()
            );
            batch(&format!("-n node{node}"), &script)?;
        }
        let delays = run("tc qdisc add dev port1 root netem delay 1ms").is_ok();
        if delays {
            run("tc qdisc del dev port1 root")?;
        }
        Ok(Network { blocked: Mutex::default(), slow: Mutex::default(), delays, inside: true })
    }

    /// Whether links can be broken.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.inside
    }

    /// How a slow link is made.
    #[must_use]
    pub fn slowness(&self) -> &'static str {
        if self.delays {
            "a delay of 40 ms ± 20 ms and 1 % loss"
        } else {
            "256 kbit/s, as there is no netem here"
        }
    }

    /// A command that runs a program at a host.
    #[must_use]
    pub fn at(&self, host: Host, program: &Path) -> Command {
        match host {
            Host::Node(node) if self.inside => {
                // It becomes the program, so that the process has the same number.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/node{node}")).arg(program);
                command
            }
            _ => Command::new(program),
        }
    }

    /// From now on nothing gets from one host to the other. No error tells of it, as on a broken network.
    ///
    /// # Errors
    /// If the command fails.
    pub fn block(&self, from: Host, to: Host) -> io::Result<()> {
        let (options, device) = from.link();
        self.blocked.lock().unwrap().push((from, to));
        run(&format!("ip {options} neigh replace {} lladdr {NOWHERE} nud permanent dev {device}", to.ip()))
            .map(drop)
    }

    /// Blocks both ways between each of one side and each of the other.
    ///
    /// # Errors
    /// If a command fails.
    pub fn part(&self, one: &[Host], other: &[Host]) -> io::Result<()> {
        for a in one {
            for b in other {
                self.block(*a, *b)?;
                self.block(*b, *a)?;
            }
        }
        Ok(())
    }

    /// Ends every block.
    ///
    /// # Errors
    /// If a command fails.
    pub fn unblock(&self) -> io::Result<()> {
        let mut blocked: Vec<_> = std::mem::take(&mut *self.blocked.lock().unwrap());
        blocked.sort_unstable();
        blocked.dedup();
        blocked.into_iter().try_for_each(|(from, to)| {
            let (options, device) = from.link();
            run(&format!("ip {options} neigh del {} dev {device}", to.ip())).map(drop)
        })
    }

    /// Makes the link of a node slow, both ways.
    ///
    /// # Errors
    /// If a command fails.
    pub fn slow(&self, node: usize) -> io::Result<()> {
        let how = if self.delays {
            "netem delay 40ms 20ms loss 1%"
        } else {
            "tbf rate 256kbit burst 4kb latency 500ms"
        };
        self.slow.lock().unwrap().push(node);
        run(&format!("tc qdisc replace dev port{node} root {how}"))?;
        run(&format!("tc -n node{node} qdisc replace dev eth0 root {how}")).map(drop)
    }

    /// Makes every link fast.
    ///
    /// # Errors
    /// If a command fails.
    pub fn quicken(&self) -> io::Result<()> {
        let slow = std::mem::take(&mut *self.slow.lock().unwrap());
        slow.into_iter().try_for_each(|node| {
            run(&format!("tc qdisc del dev port{node} root"))?;
            run(&format!("tc -n node{node} qdisc del dev eth0 root")).map(drop)
        })
    }
}

/// Gives `ip` many commands at once.
fn batch(options: &str, script: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut ip = Command::new("ip");
    ip.args(options.split_whitespace()).args(["-batch", "-"]);
    let mut ip = ip.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    ip.stdin.take().expect("it is piped").write_all(script.as_bytes())?;
    let output = ip.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {options}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// A folder for the data of nodes, which goes with this.
#[derive(Debug)]
pub struct Disks {
    /// The folder.
    pub path: PathBuf,
    /// Each node's part is a disk of its own, in memory.
    mounts: Mutex<Vec<PathBuf>>,
    inside: bool,
}

/// The size of a disk in memory.
const DISK: &str = "256m";

impl Disks {
    /// Makes the folder, in `parent`; else in memory if this is an arena whose network is built, or where the system has
    /// its temporary files.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new(parent: Option<&Path>, inside: bool) -> io::Result<Self> {
        let in_memory = inside && parent.is_none();
        // An arena's own, so that not even the folder is there after it.
        let own = if inside { PathBuf::from(RUN) } else { std::env::temp_dir() };
        let parent = parent.map_or(own, Path::to_owned);
        // Outside of an arena two suites can have the same parent.
        let path = parent.join(format!("crucial-faults-{}-{:x}", std::process::id(), now()));
        fs::create_dir_all(&path)?;
        let mounts = Mutex::default();
        Ok(Disks { path, mounts, inside: in_memory })
    }

    /// Whether a node's disk can be full without another's being so.
    #[must_use]
    pub fn can_be_full(&self) -> bool {
        self.inside
    }

    /// An empty disk.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn disk(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        if self.inside {
            run(&format!("mount -t tmpfs -o size={DISK} tmpfs {}", path.display()))?;
            self.mounts.lock().unwrap().push(path.clone());
        }
        Ok(path)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        let mounts = self.mounts.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for mount in mounts.drain(..).rev() {
            // A process that is still there keeps it busy; lazily it goes with that.
            if let Err(error) = run(&format!("umount --lazy {}", mount.display())) {
                eprintln!("{error}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}

/// Something that no other process has made a name of.
fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
