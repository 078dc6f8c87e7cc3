//! What moto lacks of EC2: machines that start. What the user data installs is run as it is, the fetching of the program and
//! the server, with these changes: folders of the test instead of the system's, a program `aws` that asks moto, and the
//! server listens at its own address only. Systemd's part, starting it again, is done here; disks are folders.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::process::{Pid, Signal, kill_process_group};

/// All machines.
#[derive(Clone, Debug)]
pub struct Machines {
    /// None: they never start.
    disks: Option<PathBuf>,
    moto: SocketAddr,
    /// The user's `xtask`, which starts what is not to outlive the tests.
    xtask: Arc<OnceLock<PathBuf>>,
    all: Arc<Mutex<BTreeMap<String, Machine>>>,
}

#[derive(Debug)]
struct Machine {
    user_data: String,
    volume: Option<String>,
    runs: Option<Runs>,
}

/// A machine that runs.
#[derive(Debug)]
struct Runs {
    over: Arc<AtomicBool>,
    process: Arc<Mutex<Option<u32>>>,
}

impl Runs {
    fn signal(&self, signal: Signal) {
        if let Some(process) = *self.process.lock().unwrap() {
            let _ = kill_process_group(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal);
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.signal(Signal::KILL);
    }
}

/// What stands between two texts.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(part, _)| part)
}

impl Machines {
    pub fn new(moto: SocketAddr, disks: Option<PathBuf>) -> Machines {
        Machines { disks, moto, xtask: Arc::default(), all: Arc::default() }
    }

    /// Machines can start from now on.
    pub fn set_xtask(&self, xtask: &Path) {
        self.xtask.set(xtask.to_owned()).unwrap();
    }

    /// Sees what moto was told, and does it.
    pub fn look(&self, action: &str, form: &[(String, String)], answer: &str) {
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let ids = || form.iter().filter(|(key, _)| key.starts_with("InstanceId")).map(|(_, id)| id.clone());
        let mut all = self.all.lock().unwrap();
        match action {
            "ec2:RunInstances" => {
                let id = between(answer, "<instanceId>", "</instanceId>").unwrap().to_owned();
                let user_data = BASE64_STANDARD.decode(field("UserData").unwrap()).unwrap();
                let user_data = String::from_utf8(user_data).unwrap();
                all.insert(id, Machine { user_data, volume: None, runs: None });
            }
            "ec2:AttachVolume" => {
                let id = field("InstanceId").unwrap();
                let machine = all.get_mut(&id).unwrap();
                machine.volume = field("VolumeId");
                self.boot(&id, machine);
            }
            // Systemd stops the server in good order, and starts it again.
            "ec2:RebootInstances" => {
                for id in ids() {
                    match &all[&id].runs {
                        Some(runs) => runs.signal(Signal::TERM),
                        None => self.boot(&id, all.get_mut(&id).unwrap()),
                    }
                }
            }
            "ec2:TerminateInstances" => {
                for id in ids() {
                    all.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// A machine loses its power.
    pub fn kill(&self, server: usize) {
        let mut all = self.all.lock().unwrap();
        let text = format!("nodes/{server} ");
        let machine = all.values_mut().find(|machine| machine.user_data.contains(&text)).unwrap();
        machine.runs = None;
    }

    /// Starts a machine, or starts it again.
    fn boot(&self, id: &str, machine: &mut Machine) {
        machine.runs = None;
        let Some(disks) = &self.disks else { return };
        let volume = machine.volume.as_deref().unwrap();
        // The user data names the volume that it waits for.
        assert!(machine.user_data.contains(&volume.replace('-', "")), "{}", machine.user_data);
        let (root, data) = (disks.join(id), disks.join(volume));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(data.join("data")).unwrap();
        let script = |name: &str| {
            let (start, end) = (format!("<<'{name}'\n"), format!("\n{name}\n"));
            let script = between(&machine.user_data, &start, &end).unwrap();
            let script = script.replace("/opt/crucial", root.to_str().unwrap());
            let script = script.replace("/var/lib/crucial", data.to_str().unwrap());
            let path = root.join(name.to_lowercase());
            fs::write(&path, script.replace("--listen 0.0.0.0:7878", "--listen \"$ADVERTISE\"")).unwrap();
            path
        };
        let (fetch, run) = (script("FETCH"), script("RUN"));
        // Bucket and key are those of the line: `aws s3 cp --only-show-errors --region R s3://BUCKET/KEY FILE`.
        // The object is private; moto doesn't look at signatures.
        let aws = format!(
            "#!/usr/bin/env python3\nimport shutil, sys, urllib.request\nfrom_, to = sys.argv[-2:]\n\
             request = urllib.request.Request('http://{}/' + from_.removeprefix('s3://'), headers={{'Authorization': \
             'AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0'}})\n\
             shutil.copyfileobj(urllib.request.urlopen(request), open(to, 'wb'))\n",
            self.moto
        );
        fs::write(root.join("aws"), aws).unwrap();
        fs::set_permissions(root.join("aws"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", root.display(), std::env::var("PATH").unwrap());

        let runs = Runs { over: Arc::default(), process: Arc::default() };
        let (over, process) = (runs.over.clone(), runs.process.clone());
        let xtask = self.xtask.get().unwrap().clone();
        machine.runs = Some(runs);
        thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                for script in [&fetch, &run] {
                    let mut child = {
                        let mut process = process.lock().unwrap();
                        if over.load(Ordering::SeqCst) {
                            return;
                        }
                        let child = command(&xtask, script, &path, &root);
                        *process = Some(child.id());
                        child
                    };
                    let ended = child.wait().unwrap();
                    *process.lock().unwrap() = None;
                    if !ended.success() {
                        break;
                    }
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
    }
}

fn command(xtask: &Path, script: &Path, path: &str, root: &Path) -> std::process::Child {
    let log = fs::File::options().create(true).append(true).open(root.join("log")).unwrap();
    let mut command = Command::new(xtask);
    command.args(["exec-with-parent", &std::process::id().to_string(), "bash"]);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_") || name.starts_with("CRUCIAL_")) {
            command.env_remove(name);
        }
    }
    command
        .arg(script)
        .env("PATH", path)
        .env("CRUCIAL_TOKEN_FILE", root.join("token"))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}
