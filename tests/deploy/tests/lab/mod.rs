//! A user's program, and an AWS for it on this machine.

pub mod functions;
pub mod machines;
pub mod moto;
pub mod proxy;
pub mod scripts;
pub mod whole;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use machines::{Host, Machines};
use moto::Moto;
use proxy::Proxy;
use scripts::Scripts;
use tokio::runtime::Runtime;
use whole::Whole;

/// One at a time: they build the same program.
static ONE: Mutex<()> = Mutex::new(());

/// The repository.
pub const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What becomes of the machines of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// They never start.
    Off,
    /// They run what the user data installs.
    Scripts,
    /// They run the user data.
    Whole,
}

/// The user's workspace and the emulator.
pub struct Lab {
    pub proxy: Proxy,
    /// Where the user works.
    pub program: PathBuf,
    /// The user's `xtask`.
    xtask: PathBuf,
    /// Options that every deployment has.
    pub network: Vec<String>,
    runtime: Runtime,
    _moto: Moto,
    _one: MutexGuard<'static, ()>,
}

impl Lab {
    /// None, with a word on standard error, if moto can't be had.
    pub fn start(servers: Servers) -> Option<Lab> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = if servers == Servers::Whole { whole::HERE } else { "127.0.0.1" };
        let moto = match Moto::start(ip) {
            Ok(moto) => moto,
            Err(reason) => {
                eprintln!("left out, since moto can't be installed with pip: {reason}");
                return None;
            }
        };
        let program = workspace();
        let xtask = build(&program);
        let host = (servers != Servers::Off).then(|| -> Arc<dyn Host> {
            let disks = program.with_file_name("disks");
            let _ = fs::remove_dir_all(&disks);
            match servers {
                Servers::Whole => {
                    let aws = moto::install(moto::AWSCLI).expect("it was installed outside");
                    Arc::new(Whole { folder: disks, aws, moto: moto.address })
                }
                _ => Arc::new(Scripts { disks, moto: moto.address, xtask: xtask.clone() }),
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let proxy = runtime.block_on(Proxy::start(moto.address, Machines::new(host)));
        let mut lab = Lab { proxy, program, xtask, network: Vec::new(), runtime, _moto: moto, _one: one };
        // A server that is a process of this machine serves nobody else, so its network has addresses of this machine only.
        let net = if servers == Servers::Whole { "10" } else { "127" };
        let vpc = lab.ec2(&format!("Action=CreateVpc&CidrBlock={net}.77.0.0/16"), "vpcId");
        let subnets: Vec<_> = [("1", "us-east-1a"), ("2", "us-east-1b"), ("3", "us-east-1c")]
            .map(|(subnet, zone)| {
                let query = format!(
                    "Action=CreateSubnet&VpcId={vpc}&CidrBlock={net}.77.{subnet}.0/24&AvailabilityZone={zone}"
                );
                lab.ec2(&query, "subnetId")
            })
            .into();
        lab.network = ["--vpc", &vpc, "--subnets", &subnets.join(","), "--private"].map(str::to_owned).into();
        Some(lab)
    }

    /// Runs the test `name` where there are whole machines, if this machine can have them; returns the lab there.
    pub fn whole(name: &str) -> Option<Lab> {
        if whole::is_inside() {
            whole::prepare();
            return Lab::start(Servers::Whole);
        }
        if let Some(reason) = whole::obstacle() {
            eprintln!("left out, since no machines can be made here: {reason}");
            return None;
        }
        for package in [moto::MOTO, moto::AWSCLI] {
            if let Err(reason) = moto::install(package) {
                eprintln!("left out, since {package:?} can't be installed with pip: {reason}");
                return None;
            }
        }
        // The child builds the same program.
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let program = workspace();
        build(&program);
        let fetched = user(&program, Path::new(env!("CARGO")))
            .args(["fetch", "--target", "x86_64-unknown-linux-gnu"])
            .output();
        let fetched = fetched.unwrap();
        assert!(fetched.status.success(), "{}", text(&fetched));
        whole::run_inside(name);
        None
    }

    /// Sends a request of EC2 and returns the text of the first element with this name.
    pub fn ec2(&self, query: &str, element: &str) -> String {
        let text = self.runtime.block_on(self.proxy.ec2(query));
        let (start, end) = (format!("<{element}>"), format!("</{element}>"));
        text.split_once(&start).unwrap().1.split_once(&end).unwrap().0.to_owned()
    }

    fn user(&self, program: &Path) -> Command {
        let mut command = user(&self.program, program);
        command.env("AWS_ENDPOINT_URL", format!("http://{}", self.proxy.address));
        command
    }

    /// The user's cargo, which builds where these tests are built.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.user(Path::new(env!("CARGO")));
        command.args(arguments);
        command
    }

    /// A program that was built for release.
    pub fn program(&self, name: &str) -> Command {
        let mut command = self.user(&target().join("release").join(name));
        command.env("AWS_REGION", "us-east-1");
        command
    }

    /// A task of the user's.
    pub fn task(&self, arguments: &[&str]) -> Command {
        let mut command = self.user(&self.xtask);
        command.args(arguments).env("CARGO", env!("CARGO")).env("AWS_REGION", "us-east-1");
        command
    }

    /// A deployment with these options, too.
    pub fn deploy(&self, options: &[&str]) -> Command {
        let mut command = self.task(&["deploy", "--profile", "dev"]);
        command.args(&self.network).args(options);
        command
    }

    /// Has functions answer with another word.
    pub fn change(&self, from: &str, to: &str) {
        let path = self.program.join("src/main.rs");
        let text = fs::read_to_string(&path).unwrap();
        let changed =
            text.replace(&format!("VERSION: &str = \"{from}\""), &format!("VERSION: &str = \"{to}\""));
        assert_ne!(text, changed);
        fs::write(path, changed).unwrap();
    }
}

/// The user's workspace, as it is at first.
fn workspace() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("user/program");
    copy(&Path::new(REPOSITORY).join("tests/deploy/program"), &program);
    let _ = fs::remove_dir_all(program.join(".crucial"));
    // The versions of the repository.
    fs::copy(Path::new(REPOSITORY).join("Cargo.lock"), program.join("Cargo.lock")).unwrap();
    program
}

/// Builds the user's `xtask`.
fn build(program: &Path) -> PathBuf {
    let build = user(program, Path::new(env!("CARGO")))
        .args(["build", "--package", "tasks", "--message-format", "json-render-diagnostics"])
        .output();
    let build = build.unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let messages = String::from_utf8(build.stdout).unwrap();
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.unwrap()
}

/// A program that the user runs. It builds where these tests are built.
fn user(workspace: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    // Settings of whoever tests; and what cargo says of this package, for which build scripts would run again.
    let others = ["AWS_", "CRUCIAL_", "CARGO_PKG_", "CARGO_MANIFEST_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| others.iter().any(|other| name.starts_with(other))) {
            command.env_remove(name);
        }
    }
    command.current_dir(workspace).stdin(Stdio::null()).envs([
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("RUST_BACKTRACE", "0"),
    ]);
    command.env("CARGO_TARGET_DIR", target());
    command
}

/// Where all is built: the folder for temporary files of tests is in it.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// Copies a folder. Files that are the same stay as they are, so that they aren't built again.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
            continue;
        }
        let mut text = fs::read_to_string(&from).unwrap();
        if from.extension().is_some_and(|extension| extension == "toml") {
            // The way to the repository is another one.
            for up in ["../../../../", "../../../"] {
                text = text.replace(up, &format!("{REPOSITORY}/"));
            }
        }
        if fs::read_to_string(&to).ok().as_ref() != Some(&text) {
            fs::write(to, text).unwrap();
        }
    }
}

/// What a program has printed, when it ends well.
#[track_caller]
pub fn ok(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// What a program has printed, when it fails.
#[track_caller]
pub fn fails(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = text(&output);
    assert!(!output.status.success(), "{command:?}: {text}");
    text
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Checks that a text says all of this.
#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}
