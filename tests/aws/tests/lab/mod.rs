//! A Lambda service on this machine, and programs that use it as if it were AWS.

pub mod proxy;

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use crucial_runtime::lambda::{Function, LocalLambda};
use proxy::{Fate, Proxy};

/// The function's name.
pub const NAME: &str = "crucial-test";

/// The program of the tests.
pub const APP: &str = env!("CARGO_BIN_EXE_lambda-app");

/// A function of that program.
pub fn function() -> Function {
    let set = |name: &str, value: &str| (name.into(), value.into());
    Function {
        // Functions may be slow on a machine that is busy otherwise.
        timeout: Duration::from_secs(120),
        env: vec![set("RUST_BACKTRACE", "0"), set("CRUCIAL_LEASE", "1s")],
        ..Function::new(NAME, APP)
    }
}

/// The service, behind a proxy.
pub struct Lab {
    _lambda: LocalLambda,
    pub proxy: Proxy,
}

impl Lab {
    /// A service and a proxy that deals so with the first requests.
    pub fn start(mut function: Function, fates: &[Fate]) -> Lab {
        // Functions that start functions need its address before it is the service's.
        let proxy = Proxy::bind(fates);
        function
            .env
            .extend(settings(&proxy.address.to_string()).map(|(name, value)| (name.into(), value.into())));
        // What it prints comes to the program that called it.
        let start = LocalLambda::start(function, |_| ());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let lambda = runtime.block_on(start).unwrap();
        proxy.serve(lambda.endpoint());
        Lab { _lambda: lambda, proxy }
    }

    /// A program that starts its cloud threads there.
    pub fn app(&self, args: &str) -> App {
        App::new(args).at(&self.proxy.address.to_string())
    }
}

fn settings(address: &str) -> [(&'static str, String); 4] {
    [
        ("AWS_ENDPOINT_URL_LAMBDA", format!("http://{address}")),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ]
}

/// A program to be started.
pub struct App(Command);

impl App {
    /// A program that knows nothing of AWS, with these arguments, separated by commas.
    pub fn new(args: &str) -> App {
        let mut command = Command::new(APP);
        command.args(args.split(',').filter(|arg| !arg.is_empty())).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("AWS_") || name.starts_with("CRUCIAL_")) {
                command.env_remove(name);
            }
        }
        App(command).set([
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("CRUCIAL_BACKEND", "lambda"),
            ("CRUCIAL_LAMBDA_FUNCTION", NAME),
            ("CRUCIAL_LEASE", "1s"),
            ("RUST_BACKTRACE", "0"),
        ])
    }

    /// With the settings with which the SDK finds a service at this address, and nothing else.
    pub fn at(self, address: &str) -> App {
        self.set(settings(address))
    }

    /// With these variables.
    pub fn set<const N: usize>(mut self, variables: [(&str, impl AsRef<str>); N]) -> App {
        for (name, value) in variables {
            self.0.env(name, value.as_ref());
        }
        self
    }

    /// Without this variable.
    pub fn unset(mut self, name: &str) -> App {
        self.0.env_remove(name);
        self
    }

    pub fn start(mut self) -> Running {
        let mut child = self.0.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        Running { child, stdin, stdout, errors }
    }

    /// What it prints until it ends, on standard output and on standard error.
    pub fn run(self) -> (String, String) {
        self.start().finish()
    }
}

/// A program that runs.
pub struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    errors: JoinHandle<String>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines that it prints until this one, which begins like this.
    pub fn until(&mut self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it ended, after {lines:?}");
            lines.push(line.trim_end().to_owned());
            if line.starts_with(start) {
                return lines;
            }
        }
    }

    /// It may go on.
    pub fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }

    pub fn finish(mut self) -> (String, String) {
        drop(self.stdin);
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        (text, self.errors.join().unwrap())
    }
}

/// Checks that a text says all of this.
#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 20 s: {what}");
}
