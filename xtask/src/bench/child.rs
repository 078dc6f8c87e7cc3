//! Child processes: servers that end with the benchmark, however it ends.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child as Process, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crucial_runtime::lambda::{PARENT_VARIABLE, die_with_parent};

use crate::Error;

/// What this program does as a child of a benchmark.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// Becomes another program that ends with its parent
    Exec {
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Answers raw requests over TCP
    Echo {
        /// Look for data all the time instead of sleeping
        #[arg(long)]
        spin: bool,
    },
}

/// What the children print before their address.
pub(super) const SERVING: &str = "serving at ";

/// The body of a child process.
pub(crate) fn run(role: Role) -> Result<(), Error> {
    // This outlives `exec`, so it works for programs that know nothing about it.
    die_with_parent();
    match role {
        Role::Exec { program, args } => {
            let error = Command::new(&program).args(args).env_remove(PARENT_VARIABLE).exec();
            Err(Error::Message(format!("{} can't be run: {error}", program.display())))
        }
        Role::Echo { spin } => super::raw::serve(spin).map_err(Error::Io),
    }
}

/// Which of a child's standard streams the benchmark holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pipes {
    Neither,
    Output,
    Both,
}

/// A running child. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    /// Kept open: a server that prints more must find a reader, or at least no broken pipe.
    stdout: Option<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a program. It has this thread's CPUs and the environment, without settings of crucial other than these.
    ///
    /// Call it on the main thread: children end with the *thread* that started them.
    pub(super) fn start<A: AsRef<OsStr>>(
        program: &OsStr,
        args: impl IntoIterator<Item = A>,
        settings: &[(&str, String)],
        pipes: Pipes,
    ) -> Result<Self, Error> {
        Self::role([OsStr::new("exec"), OsStr::new("--"), program], args, settings, pipes)
    }

    /// Starts this program in one of its child roles.
    pub(super) fn role<'a, A: AsRef<OsStr>>(
        role: impl IntoIterator<Item = &'a OsStr>,
        args: impl IntoIterator<Item = A>,
        settings: &[(&str, String)],
        pipes: Pipes,
    ) -> Result<Self, Error> {
        let stdin = if pipes == Pipes::Both { Stdio::piped() } else { Stdio::null() };
        let stdout = if pipes == Pipes::Neither { Stdio::null() } else { Stdio::piped() };
        let mut command = Command::new(env::current_exe()?);
        command.arg("bench-child").args(role).args(args).stdin(stdin).stdout(stdout);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CRUCIAL_") {
                command.env_remove(name);
            }
        }
        command.env(PARENT_VARIABLE, std::process::id().to_string());
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().map(BufReader::new);
        Ok(Child { process, stdout })
    }

    /// The address that it prints.
    pub(super) fn address(&mut self) -> Result<String, Error> {
        let rest = self.said(SERVING)?;
        Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Waits for a line that begins like this and returns the rest of it.
    pub(super) fn said(&mut self, prefix: &str) -> Result<String, Error> {
        let stdout = self.stdout.as_mut().expect("its output is piped");
        let mut line = String::new();
        while stdout.read_line(&mut line)? > 0 {
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.trim().to_owned());
            }
            line.clear();
        }
        Err(Error::Message(format!("a child process ended without a line that begins with `{prefix}`")))
    }

    /// Sends it a line.
    pub(super) fn tell(&mut self, line: &str) -> Result<(), Error> {
        let stdin = self.process.stdin.as_mut().expect("its input is piped");
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Ends its input and waits until it ends by itself, but not for ever.
    pub(super) fn finish(&mut self) {
        drop(self.process.stdin.take());
        for _ in 0..100 {
            if !self.is_alive().unwrap_or(false) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has not ended.
    pub(super) fn is_alive(&mut self) -> io::Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
