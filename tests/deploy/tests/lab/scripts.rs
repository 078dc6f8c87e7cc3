//! Machines that anybody can have: what the user data installs is run, the fetching of the program and the server, with these
//! changes: folders of the test instead of the system's, a program `aws` that asks moto, and the server listens at its own
//! address only. Systemd's part, starting it again, is done here; disks are folders.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::machines::{Host, Power, Spec, between};

/// Where they run.
#[derive(Debug)]
pub struct Scripts {
    pub disks: PathBuf,
    pub moto: SocketAddr,
    /// The user's `xtask`, which starts what is not to outlive the tests.
    pub xtask: PathBuf,
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

impl Power for Runs {
    // Systemd would stop the server in good order, and start it again.
    fn reboot(&self) {
        self.signal(Signal::TERM);
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.signal(Signal::KILL);
    }
}

impl Host for Scripts {
    fn start(&self, machine: &Spec) -> Box<dyn Power> {
        let (root, data) = (self.disks.join(&machine.id), self.disks.join(&machine.volume));
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
        let xtask = self.xtask.clone();
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
        Box::new(runs)
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
