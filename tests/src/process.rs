//! Processes, as `/proc` shows them.

use std::{fs, process::Child};

pub use rustix::process::Signal;
use rustix::process::{Pid, getpgid, kill_process, kill_process_group};

/// Sends a signal to a process that this test, or one of its processes, has started.
///
/// # Panics
/// If there is no such process.
pub fn signal(to: u32, signal: Signal) {
    kill_process(pid(to), signal).expect("the process is there");
}

/// Sends a signal to all processes of the group that this one leads, as a terminal does.
///
/// # Panics
/// If there is no such group.
pub fn signal_group(leader: u32, signal: Signal) {
    kill_process_group(pid(leader), signal).expect("the group is there");
}

/// The process that leads the group of this one.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn group(of: u32) -> u32 {
    getpgid(Some(pid(of))).expect("the process is there").as_raw_nonzero().get().cast_unsigned()
}

fn pid(number: u32) -> Pid {
    i32::try_from(number).ok().and_then(Pid::from_raw).expect("a process id is a positive number")
}

/// Whether a process is there and has not ended.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    // What ended and was not waited for is a zombie.
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The state letter of a process.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have any character, and ends with the last parenthesis.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The processes that a process has started and that are alive.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks.into_iter().flatten().flatten().map(|task| task.path().join("children"));
    let lists = lists.filter_map(|list| fs::read_to_string(list).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// What a process holds of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in KiB.
    pub memory: u64,
    /// Threads.
    pub threads: usize,
    /// Open files and sockets.
    pub files: usize,
}

/// What a process holds now.
///
/// # Panics
/// If it has ended.
#[must_use]
pub fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let memory = memory.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB");
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    Usage { memory, threads: count("task"), files: count("fd") }
}

/// A process that ends with the test.
#[derive(Debug)]
pub struct Guarded(pub Child);

impl Guarded {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
