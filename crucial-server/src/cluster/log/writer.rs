//! The one writer of a node's log: it gathers what has come from all groups and makes it durable at once.

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use openraft::storage::IOFlushed;

use super::{disk::Disk, group::Group, record};
use crate::cluster::raft::Types;

/// How long that may wait on which nobody waits.
const LAZY: Duration = Duration::from_millis(20);
/// How long a record gets before what follows goes to the next.
const RECORD: usize = 4 << 20;

/// Something to write.
#[derive(Debug)]
pub(super) struct Job {
    /// Items.
    pub(super) bytes: Vec<u8>,
    pub(super) then: Then,
}

/// What to do when it is durable.
pub(super) enum Then {
    /// Nobody waits for it, so it goes along with the next that somebody waits for, or after a while.
    Nothing,
    /// The log of the group is durable up to the index `end`, if it was not cut since.
    Entries { group: Arc<Group>, end: u64, cuts: u64, callback: IOFlushed<Types> },
    /// Somebody waits.
    Tell(Box<dyn FnOnce(io::Result<()>) + Send>),
}

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Entries { .. } => "Entries",
            Self::Tell(_) => "Tell",
        })
    }
}

impl Then {
    fn complete(self, result: &Result<(), Failure>) {
        let result = result.as_ref().copied().map_err(|failure| failure.error());
        match self {
            Self::Nothing => {}
            Self::Entries { group, end, cuts, callback } => {
                if result.is_ok() {
                    group.durable(end, cuts);
                }
                callback.io_completed(result);
            }
            Self::Tell(tell) => tell(result),
        }
    }
}

/// Why nothing can be written any more.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: io::ErrorKind,
    message: Arc<str>,
}

impl Failure {
    fn new(e: &io::Error) -> Self {
        let advice = if e.kind() == io::ErrorKind::StorageFull { ", when there is space again" } else { "" };
        let message = format!("{e}; this node acknowledges nothing until it is started again{advice}");
        Self { kind: e.kind(), message: message.into() }
    }

    pub(super) fn error(&self) -> io::Error {
        io::Error::new(self.kind, &*self.message)
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

/// What the groups and the writer share.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    come: Condvar,
    failure: OnceLock<Failure>,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    /// Somebody waits for one of them.
    urgent: bool,
    /// Groups that are committed further than was written.
    committed: Vec<Arc<Group>>,
    closing: bool,
    /// Since when there is something for which nobody waits.
    lazy_since: Option<Instant>,
    /// The writer sleeps.
    asleep: bool,
}

impl Queue {
    /// Why nothing can be written any more, if so.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// Gives the writer something to do. Of one group, what comes first is written first.
    pub(super) fn push(&self, job: Job) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some(failure) = self.failure() {
            return Err(failure.error());
        }
        if state.closing {
            return Err(io::Error::other("the store is closed"));
        }
        let urgent = !matches!(job.then, Then::Nothing);
        state.jobs.push(job);
        if urgent {
            state.urgent = true;
            self.wake(&mut state);
        } else {
            self.lazy(&mut state);
        }
        Ok(())
    }

    /// The group is committed further. That is written along with something else, or after a while.
    pub(super) fn push_committed(&self, group: Arc<Group>) {
        let mut state = self.state.lock().unwrap();
        if !state.closing && self.failure().is_none() {
            state.committed.push(group);
            self.lazy(&mut state);
        }
    }

    /// Makes the writer write what there is, and end.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap();
        state.closing = true;
        self.wake(&mut state);
    }

    fn lazy(&self, state: &mut State) {
        if state.lazy_since.is_none() {
            state.lazy_since = Some(Instant::now());
            // It has to look at the clock.
            self.wake(state);
        }
    }

    fn wake(&self, state: &mut State) {
        if mem::take(&mut state.asleep) {
            self.come.notify_one();
        }
    }

    /// Waits for work, unless there is other work to do.
    fn next(&self, busy: bool) -> Work {
        let mut state = self.state.lock().unwrap();
        while !(busy || state.urgent || state.closing) {
            let left = state.lazy_since.map(|since| LAZY.saturating_sub(since.elapsed()));
            state.asleep = true;
            state = match left {
                None => self.come.wait(state).unwrap(),
                Some(Duration::ZERO) => break,
                Some(left) => self.come.wait_timeout(state, left).unwrap().0,
            };
        }
        state.asleep = false;
        state.urgent = false;
        let late = state.lazy_since.is_some_and(|since| since.elapsed() >= LAZY);
        let committed = if late || state.closing { mem::take(&mut state.committed) } else { Vec::new() };
        if state.committed.is_empty() {
            state.lazy_since = None;
        }
        Work { jobs: mem::take(&mut state.jobs), committed, last: state.closing }
    }
}

/// What the writer has to do.
struct Work {
    jobs: Vec<Job>,
    /// Groups of which to write how far they are committed.
    committed: Vec<Arc<Group>>,
    /// Nothing comes after this.
    last: bool,
}

/// Starts the writer.
pub(super) fn start(disk: Disk, queue: Arc<Queue>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("crucial-log".to_owned()).spawn(move || {
        let writer = Writer { disk, queue, record: vec![record::VERSION], then: Vec::new() };
        writer.run();
    })
}

struct Writer {
    disk: Disk,
    queue: Arc<Queue>,
    /// What is gathered.
    record: Vec<u8>,
    /// What to do when it is durable.
    then: Vec<Then>,
}

impl Writer {
    fn run(mut self) {
        let mut busy = false;
        loop {
            let work = self.queue.next(busy);
            for job in work.jobs {
                self.gather(&job.bytes);
                self.then.push(job.then);
            }
            for group in work.committed {
                match group.committed_item() {
                    Ok(bytes) => self.gather(&bytes),
                    Err(e) => self.fail(&e),
                }
            }
            self.commit();
            if work.last {
                return;
            }
            busy = self.reclaim();
        }
    }

    /// Adds items to the record; when it is full, writes it.
    fn gather(&mut self, mut items: &[u8]) {
        while !items.is_empty() {
            let room = self.disk.longest_record().min(RECORD).saturating_sub(self.record.len());
            let mut taken = record::whole_items(items, room);
            if taken == 0 && self.record.len() > 1 {
                self.commit();
                continue;
            }
            if taken == 0 {
                // It is too long for a record with others, and gets one of its own.
                taken = record::first_item(items);
            }
            let (now, later) = items.split_at(taken);
            self.record.extend_from_slice(now);
            items = later;
        }
    }

    /// Writes the record, makes it durable, and tells those who wait.
    fn commit(&mut self) {
        if self.record.len() > 1
            && self.queue.failure().is_none()
            && let Err(e) = self.disk.commit(&self.record)
        {
            self.fail(&e);
        }
        self.record.truncate(1);
        let result = self.queue.failure().map_or(Ok(()), |failure| Err(failure.clone()));
        for then in self.then.drain(..) {
            then.complete(&result);
        }
    }

    /// Gives back some space; says whether there is more to do.
    fn reclaim(&mut self) -> bool {
        if self.queue.failure().is_some() {
            return false;
        }
        self.disk.reclaim().unwrap_or_else(|e| {
            self.fail(&e);
            false
        })
    }

    fn fail(&self, e: &io::Error) {
        let failure = Failure::new(e);
        tracing::error!("{}", failure.message());
        let _ = self.queue.failure.set(failure);
    }
}

impl Drop for Writer {
    // If it panicked, nobody may wait for it in vain.
    fn drop(&mut self) {
        let _ = self.queue.failure.set(Failure {
            kind: io::ErrorKind::Other,
            message: if thread::panicking() {
                "the writer of the log panicked"
            } else {
                "the store is closed"
            }
            .into(),
        });
        let jobs = mem::take(&mut self.queue.state.lock().unwrap().jobs);
        let result =
            Err(self.queue.failure().cloned().unwrap_or_else(|| Failure::new(&io::Error::other("closed"))));
        for then in self.then.drain(..).chain(jobs.into_iter().map(|job| job.then)) {
            then.complete(&result);
        }
    }
}
