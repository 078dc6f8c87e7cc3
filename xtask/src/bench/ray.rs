//! Ray: functions in processes, from Python.

use super::{
    child::{Child, Pipes},
    peers,
    report::Peer,
};
use crate::Error;

const INSTALL: &str = "python3 -m venv $PEERS/ray && $PEERS/ray/bin/pip install ray numpy";

/// What a task of Ray does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// One remote call.
    One,
    /// A hundred that are waited for together.
    Hundred,
}

/// Ray with its workers, driven through a program in Python.
#[derive(Debug)]
pub(super) struct Ray {
    name: String,
    child: Child,
}

impl Ray {
    /// Starts Ray from `$PEERS/ray`; none if it is not installed.
    pub(super) fn start() -> Result<Option<Self>, Error> {
        let Some(python) = peers::python("ray", "ray") else { return Ok(None) };
        let settings = [("RAY_USAGE_STATS_ENABLED", "0".to_owned()), ("PYTHONWARNINGS", "ignore".to_owned())];
        let args = ["-c", include_str!("ray.py")];
        let mut child = Child::start(python.as_os_str(), args, &settings, Pipes::Both)?;
        let name = format!("Ray {}", child.said("version ")?);
        Ok(Some(Ray { name, child }))
    }

    /// The median time in milliseconds.
    pub(super) fn turn(&mut self, task: Task, count: usize) -> Result<f64, Error> {
        let what = match task {
            Task::One => "one",
            Task::Hundred => "hundred",
        };
        self.child.tell(&format!("{what} {count}"))?;
        let answer = self.child.said("median ")?;
        answer.parse().map_err(|_| Error::Message(format!("Ray's time `{answer}` is no number")))
    }
}

impl Drop for Ray {
    fn drop(&mut self) {
        // Its own children end when it does so in order.
        self.child.finish();
    }
}

/// What a figure says of Ray. What it took on another day on a machine with two CPUs stands in for it.
pub(super) fn peer(ray: Option<&Ray>, task: Task, value: f64) -> Peer {
    match (ray, task) {
        (Some(ray), _) => Peer::Measured { name: ray.name.clone(), value },
        (None, Task::One) => noted(1.655),
        (None, Task::Hundred) => noted(48.8),
    }
}

fn noted(value: f64) -> Peer {
    Peer::Noted { name: "Ray 2.60.0".to_owned(), value, install: INSTALL }
}
