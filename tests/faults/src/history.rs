//! What the clients of an object saw.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::models::Model;

/// What a client knows of the end of its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It returned this, at this time.
    Returned(R, Duration),
    /// The client gave up. The call may take effect at any later time, or never.
    Unknown,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// Who called. A client has one call at a time; after one with an unknown outcome it goes by another number.
    pub client: u64,
    /// What was called.
    pub op: O,
    /// When the client began.
    pub invoked: Duration,
    /// How it ended.
    pub outcome: Outcome<R>,
}

impl<O, R> Operation<O, R> {
    /// When it returned, if it did.
    pub fn returned(&self) -> Option<Duration> {
        match self.outcome {
            Outcome::Returned(_, at) => Some(at),
            Outcome::Unknown => None,
        }
    }

    /// What it returned, if it did.
    pub fn result(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Returned(result, _) => Some(result),
            Outcome::Unknown => None,
        }
    }
}

impl<O: fmt::Debug, R: fmt::Debug> fmt::Display for Operation<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { client, op, invoked, outcome } = self;
        let micros = invoked.as_micros();
        match outcome {
            Outcome::Returned(result, at) => {
                write!(
                    f,
                    "{micros:>10} .. {:>10} µs  client {client:<4} {op:?} -> {result:?}",
                    at.as_micros()
                )
            }
            Outcome::Unknown => {
                write!(f, "{micros:>10} ..          ? µs  client {client:<4} {op:?} -> unknown")
            }
        }
    }
}

/// The operations of a model's object.
pub type History<M> = Vec<Operation<<M as Model>::Op, <M as Model>::Ret>>;

/// Records the history of one object while clients use it.
pub struct Recorder<M: Model> {
    /// The object's name.
    pub name: String,
    start: Instant,
    operations: Mutex<Vec<Entry<M>>>,
}

struct Entry<M: Model> {
    operation: Operation<M::Op, M::Ret>,
    /// It certainly had no effect.
    void: bool,
    /// Its client still waits.
    running: bool,
}

impl<M: Model> fmt::Debug for Recorder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An operation that was begun.
#[derive(Debug)]
#[must_use = "an operation that isn't ended has an unknown outcome"]
pub struct Begun(usize);

impl<M: Model> Recorder<M> {
    /// Records with times since `start`, which all objects share.
    #[must_use]
    pub fn new(name: impl Into<String>, start: Instant) -> Self {
        Recorder { name: name.into(), start, operations: Mutex::default() }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry<M>>> {
        // A client that panics does so in its call, not in here.
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client begins an operation.
    pub fn begin(&self, client: u64, op: M::Op) -> Begun {
        let invoked = self.start.elapsed();
        let operation = Operation { client, op, invoked, outcome: Outcome::Unknown };
        let mut entries = self.entries();
        entries.push(Entry { operation, void: false, running: true });
        Begun(entries.len() - 1)
    }

    /// It returned.
    pub fn end(&self, begun: Begun, result: M::Ret) {
        let at = self.start.elapsed();
        let entry = &mut self.entries()[begun.0];
        entry.operation.outcome = Outcome::Returned(result, at);
        entry.running = false;
    }

    /// The client gave up, and doesn't know whether it took effect.
    pub fn give_up(&self, begun: Begun) {
        self.entries()[begun.0].running = false;
    }

    /// It certainly had no effect, and will have none.
    pub fn void(&self, begun: Begun) {
        let entry = &mut self.entries()[begun.0];
        entry.void = true;
        entry.running = false;
    }

    /// The operations whose clients still wait.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let entries = self.entries();
        let running = entries.iter().filter(|entry| entry.running);
        running.map(|entry| format!("{}: {}", self.name, entry.operation)).collect()
    }

    /// What was recorded so far.
    #[must_use]
    pub fn history(&self) -> History<M> {
        let entries = self.entries();
        entries.iter().filter(|entry| !entry.void).map(|entry| entry.operation.clone()).collect()
    }
}
