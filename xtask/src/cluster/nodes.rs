//! The nodes of a cluster: processes of one program, which end with this one, however it ends.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio, id},
    time::Duration,
};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::{status, wait_for};
use crate::Error;

/// What a node prints before its address.
const SERVING: &str = "serving at ";
/// Where the addresses of nodes with data are noted: they know each other by them.
const ADDRESSES: &str = "addresses";
/// How long a cluster may take to settle.
const SETTLING: Duration = Duration::from_secs(60);

/// Becomes another program that ends with the process that has started it.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The number of that process
    parent: i32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// The body of [`Exec`].
pub(crate) fn exec(args: &Exec) -> Error {
    // This outlives `exec`, so it works for programs that know nothing about it.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Error::Message(format!("the node could outlive the one that started it: {error}"));
    }
    // The parent may have ended before the signal was asked for; then it never comes.
    if getppid() != Pid::from_raw(args.parent) {
        std::process::exit(1);
    }
    let (program, arguments) = args.program.split_first().expect("there is a program");
    let error = Command::new(program).args(arguments).exec();
    Error::Message(format!("{} can't be run: {error}", program.display()))
}

/// What to start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a OsStr,
    pub(crate) nodes: usize,
    pub(crate) replicas: usize,
    /// None: as many as the program has by default.
    pub(crate) partitions: Option<usize>,
    /// None: in memory.
    pub(crate) data: Option<&'a Path>,
    /// More environment variables.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

/// Running nodes. Dropping this kills them: what they have acknowledged is on disk.
#[derive(Debug)]
pub(crate) struct Nodes {
    program: OsString,
    nodes: Vec<Node>,
    replicas: usize,
}

#[derive(Debug)]
struct Node {
    process: Child,
    address: String,
    /// It has said so.
    serves: bool,
    /// Kept open: a node that prints more must find a reader, or at least no broken pipe.
    stdout: BufReader<ChildStdout>,
}

impl Nodes {
    /// Starts the nodes. Call it on the main thread: they end with the *thread* that started them.
    pub(crate) fn start(plan: &Plan<'_>) -> Result<Self, Error> {
        let noted = plan.data.map(|dir| dir.join(ADDRESSES));
        let known: Vec<String> = noted
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok())
            .map(|text| text.lines().map(str::to_owned).collect())
            .unwrap_or_default();
        if known.len() > plan.nodes {
            let text = "holds the data of a cluster with more nodes";
            return Err(Error::Message(format!(
                "{} {text}: start it with --nodes {}",
                plan.data.unwrap_or(Path::new("")).display(),
                known.len()
            )));
        }
        let mut nodes =
            Nodes { program: plan.program.to_owned(), nodes: Vec::new(), replicas: plan.replicas };
        for i in 0..plan.nodes {
            let address = known.get(i).map_or_else(|| "127.0.0.1:0".to_owned(), Clone::clone);
            nodes.spawn(plan, i, &address)?;
            // Those that were together before need each other to begin; of a new cluster, the first has to be there.
            if i >= known.len() || i + 1 == known.len() {
                nodes.nodes.iter_mut().try_for_each(Node::await_address)?;
            }
        }
        if let Some(file) = noted {
            fs::write(file, nodes.addresses().join("\n") + "\n")?;
        }
        Ok(nodes)
    }

    fn spawn(&mut self, plan: &Plan<'_>, number: usize, address: &str) -> Result<(), Error> {
        let role = match self.nodes.first() {
            None => {
                let mut role = vec!["--cluster".to_owned(), "local".to_owned()];
                role.extend(["--replicas".to_owned(), plan.replicas.to_string()]);
                role.extend(plan.partitions.iter().flat_map(|n| ["--partitions".to_owned(), n.to_string()]));
                role
            }
            Some(first) => vec!["--join".to_owned(), first.address.clone()],
        };
        let node =
            Node::start(plan.program, address, &role, plan.data.map(|dir| data(dir, number)), plan.settings)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Kills a node at once.
    #[cfg(feature = "bench")]
    pub(crate) fn kill(&mut self, number: usize) -> Result<(), Error> {
        let process = &mut self.nodes[number].process;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Asks a node to end, and waits until it has.
    #[cfg(feature = "bench")]
    pub(crate) fn stop(&mut self, number: usize) -> Result<(), Error> {
        let process = &mut self.nodes[number].process;
        rustix::process::kill_process(Pid::from_child(process), Signal::TERM)
            .map_err(std::io::Error::from)?;
        let status = process.wait()?;
        if status.success() { Ok(()) } else { Err(Error::Message(format!("a node doesn't stop: {status}"))) }
    }

    /// Starts a new node, which has nothing yet, at the address of one that was killed. Call it on the main thread.
    #[cfg(feature = "bench")]
    pub(crate) fn replace(&mut self, number: usize, dir: Option<&Path>) -> Result<(), Error> {
        if let Some(dir) = dir {
            fs::remove_dir_all(data(dir, number))?;
        }
        self.resume(number, dir)
    }

    /// Starts a node again that has ended. Call it on the main thread.
    #[cfg(feature = "bench")]
    pub(crate) fn resume(&mut self, number: usize, dir: Option<&Path>) -> Result<(), Error> {
        let address = self.nodes[number].address.clone();
        let others = self.nodes.iter().map(|node| &node.address).filter(|other| **other != address);
        let role = ["--join".to_owned(), others.cloned().collect::<Vec<_>>().join(",")];
        let data = dir.map(|dir| data(dir, number));
        self.nodes[number] = Node::start(&self.program, &address, &role, data, &[])?;
        self.nodes[number].await_address()
    }

    /// Waits until every node has its share, and every partition has its replicas and is led by its owner.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let (count, replicas) = (self.nodes.len(), self.replicas.min(self.nodes.len()));
        wait_for(SETTLING, || {
            if let Some((address, status)) = self.ended() {
                return Err(format!("the node at {address} has ended: {status}"));
            }
            // A node knows only of the groups that it has a part in.
            for address in self.addresses() {
                let output =
                    Command::new(&self.program).args(["crucial", "status", "--server", &address]).output();
                let output = output.map_err(|e| e.to_string())?;
                let text = String::from_utf8_lossy(&output.stdout);
                status::settled(&text, count, replicas)
                    .map_err(|why| format!("the cluster does not settle: at {address}, {why}"))?;
            }
            Ok(Some(()))
        })
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.id()).collect()
    }

    /// A node that has ended, if there is one.
    pub(crate) fn ended(&mut self) -> Option<(String, ExitStatus)> {
        self.nodes.iter_mut().find_map(|node| Some((node.address.clone(), node.process.try_wait().ok()??)))
    }
}

/// Where a node has its data.
fn data(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("node{}", number + 1))
}

impl Node {
    fn start(
        program: &OsStr,
        address: &str,
        role: &[String],
        data: Option<PathBuf>,
        settings: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("exec-with-parent").arg(id().to_string()).arg("--").arg(program);
        command.args(["crucial", "serve", "--listen", address]).args(role);
        if let Some(data) = data {
            command.arg("--data-dir").arg(data);
        }
        if env::var_os("CRUCIAL_LOG").is_none() {
            command.env("CRUCIAL_LOG", "error");
        }
        command.env_remove("CRUCIAL_SERVERS").envs(settings.iter().copied());
        // In a group of their own, the terminal's Ctrl-C does not reach them before the program has ended.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        Ok(Node { process, address: address.to_owned(), serves: false, stdout })
    }

    /// Reads the address that the node prints when it is one of the cluster.
    fn await_address(&mut self) -> Result<(), Error> {
        if self.serves {
            return Ok(());
        }
        let mut line = String::new();
        while self.stdout.read_line(&mut line)? > 0 {
            if let Some(rest) = line.strip_prefix(SERVING) {
                self.address = rest.split_whitespace().next().unwrap_or_default().to_owned();
                self.serves = true;
                return Ok(());
            }
            line.clear();
        }
        let status = self.process.wait()?;
        Err(Error::Message(format!(
            "a node does not start ({status}). The program has to be built with the feature `cluster` of `crucial`, and \
             its `main` needs #[crucial::main]"
        )))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // An error means that it has ended already.
            let _ = node.process.kill();
        }
        for node in &mut self.nodes {
            let _ = node.process.wait();
        }
    }
}
