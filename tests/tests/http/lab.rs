//! Function processes behind something that distributes connections over them, and programs that use them.

use std::{
    io::{Read, Write},
    process::{ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tests::{eventually, process::Guarded};

use crate::{
    APP,
    front::{Fate, Front},
};

/// Function processes, and the one address for all of them.
pub struct Lab {
    pub workers: Vec<Process>,
    pub front: Front,
}

impl Lab {
    /// So many function processes, behind something that deals so with the first requests.
    pub fn start(workers: usize, fates: &[Fate]) -> Lab {
        let mut lab = Lab { workers: Vec::new(), front: Front::start(fates) };
        // They start side by side.
        lab.workers = (0..workers).map(|_| worker(APP).start()).collect();
        for worker in &lab.workers {
            lab.front.add(&address(worker));
        }
        lab
    }

    /// One more function process.
    pub fn add(&mut self) {
        let worker = worker(APP).start();
        self.front.add(&address(&worker));
        self.workers.push(worker);
    }

    /// A program that starts its cloud threads there.
    pub fn app(&self, args: &str) -> App {
        App::new(args).set([
            ("CRUCIAL_BACKEND", "http"),
            ("CRUCIAL_HTTP_URL", &format!("http://{}", self.front.address)),
        ])
    }

    /// What the function processes have printed, on standard output and on standard error.
    pub fn log(&self) -> String {
        self.workers.iter().map(|worker| worker.out() + &worker.errors()).collect()
    }
}

/// A function process of this program.
pub fn worker(program: &str) -> App {
    App::of(program, "crucial,function,--listen,127.0.0.1:0")
}

/// Where a function process listens.
pub fn address(worker: &Process) -> String {
    worker.until("functions at http://");
    let out = worker.out();
    out.split("functions at http://").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

/// A program to be started.
pub struct App(Command);

impl App {
    /// With these arguments, separated by commas, and no settings but a short lease.
    pub fn new(args: &str) -> App {
        App::of(APP, args)
    }

    fn of(program: &str, args: &str) -> App {
        let mut command = Command::new(program);
        command.args(args.split(',')).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let ours = ["CRUCIAL_", "SSL_CERT_", "GCE_METADATA_", "PORT"];
            if name.to_str().is_some_and(|name| ours.iter().any(|ours| name.starts_with(ours))) {
                command.env_remove(name);
            }
        }
        App(command).set([("CRUCIAL_LEASE", "1s"), ("RUST_BACKTRACE", "0")])
    }

    /// With these variables.
    pub fn set<const N: usize>(mut self, variables: [(&str, &str); N]) -> App {
        self.0.envs(variables);
        self
    }

    pub fn start(mut self) -> Process {
        let mut child = self.0.spawn().unwrap();
        let stdin = child.stdin.take();
        let out = Collected::of(child.stdout.take().unwrap());
        let errors = Collected::of(child.stderr.take().unwrap());
        Process { child: Guarded(child), stdin, out, errors }
    }

    /// What it prints until it ends, on standard output and on standard error.
    pub fn run(self) -> (String, String) {
        self.start().finish()
    }
}

/// A program that runs, until it is dropped.
pub struct Process {
    child: Guarded,
    stdin: Option<ChildStdin>,
    out: Collected,
    errors: Collected,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub fn out(&self) -> String {
        self.out.text()
    }

    pub fn errors(&self) -> String {
        self.errors.text()
    }

    /// Waits until it has printed this.
    pub fn until(&self, text: &str) {
        eventually(text, || self.out().contains(text));
    }

    /// What waits for a line goes on.
    pub fn go_on(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// How it has ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.0.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || self.has_ended().is_some());
        self.has_ended().unwrap()
    }

    pub fn finish(mut self) -> (String, String) {
        drop(self.stdin.take());
        self.ended();
        (self.out.finish(), self.errors.finish())
    }
}

/// What comes out of a pipe.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collected {
    fn of(mut pipe: impl Read + Send + 'static) -> Collected {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let reader = std::thread::spawn({
            let bytes = bytes.clone();
            move || {
                let mut chunk = [0; 4096];
                while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                    bytes.lock().unwrap().extend_from_slice(&chunk[..n]);
                }
            }
        });
        Collected { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn finish(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}
