//! Machines that run the user data as it is, from the first start on: systemd, users, a disk that is formatted and mounted, a
//! network, Amazon's program `aws`. For that, the test goes on in namespaces of its own, which the kernel takes back when it
//! ends, however it ends.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::machines::{Host, Power, Spec};

/// Set inside the namespaces.
const INSIDE: &str = "DEPLOY_INSIDE";
/// This machine's address there. The network of the deployment is 10.77.0.0/16.
pub const HERE: &str = "10.77.0.1";

/// Whether this process is inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// Why there can be no such machines here, if so.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can mount disks".to_owned());
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        return Some("there is no systemd: install the package systemd".to_owned());
    }
    let needed =
        [("mkfs.xfs", "xfsprogs"), ("losetup", "mount"), ("ip", "iproute2"), ("nsenter", "util-linux")];
    for (program, package) in needed {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        if !found.is_ok_and(|found| found.status.success()) {
            return Some(format!("there is no {program}: install the package {package}"));
        }
    }
    let script = "ip link add br0 type bridge && mount -t tmpfs tmpfs /run && ip netns add try && \
                  ip link add port type veth peer name eth0 netns try && losetup --find";
    match unshare().args(["sh", "-c", script]).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Runs the test `name` of this program inside, to its end.
pub fn run_inside(name: &str) {
    let status = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        // There is no way to a registry there.
        .env("CARGO_NET_OFFLINE", "true")
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}

/// Sets up the network, inside.
pub fn prepare() {
    let script = format!(
        "set -e; mount -t tmpfs tmpfs /run; ip link set lo up; ip link add br0 type bridge; \
         ip address add {HERE}/16 dev br0; ip link set br0 up"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where they run.
#[derive(Debug)]
pub struct Whole {
    pub folder: PathBuf,
    /// A virtual environment of Python with the package awscli.
    pub aws: PathBuf,
    pub moto: SocketAddr,
}

/// A machine that runs.
#[derive(Debug)]
struct Runs {
    /// Its first process.
    process: Child,
    folder: PathBuf,
    /// The name of its network.
    name: String,
}

impl Runs {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap()
    }
}

impl Power for Runs {
    fn reboot(&self) {
        kill_process(self.pid(), Signal::USR1).unwrap();
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.process.wait();
        // Nobody answers at its address any more, which another machine may get. What systemd made of control groups is empty
        // a moment later.
        let script = "ip link delete \"$0\"; ip netns delete \"$0\"; for _ in $(seq 100); do \
                      find \"$1\" -depth -type d -exec rmdir {} + 2>/dev/null; [ -d \"$1\" ] || break; sleep 0.1; done";
        let group = fs::read_to_string(self.folder.join("group")).unwrap_or_default();
        let _ = Command::new("sh").args(["-c", script, &self.name, group.trim()]).status();
    }
}

impl Host for Whole {
    fn start(&self, machine: &Spec) -> Box<dyn Power> {
        let folder = self.folder.join(&machine.id);
        if !folder.exists() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("user-data"), &machine.user_data).unwrap();
        }
        // A name of an interface is short.
        let name = machine.address.replace("10.77.", "m").replace('.', "-");
        let disk = self.folder.join(&machine.volume);
        if !disk.exists() {
            fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
        }
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new("bash");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/machine.sh")).arg("start").arg(&folder);
        command.args([&*name, &machine.address, &machine.volume.replace('-', "")]);
        command.args([&disk, &self.aws]).arg(format!("http://{}", self.moto));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let process = command.spawn().unwrap();
        Box::new(Runs { process, folder, name })
    }
}
