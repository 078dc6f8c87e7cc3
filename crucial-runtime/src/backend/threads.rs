//! Cloud threads as threads of this process.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use super::{Backend, Retry, Work};
use crate::{
    error::{Error, Result},
    run::{self, Run},
};

/// Runs every cloud thread as a thread of this process; with a limit, the others wait for their turn.
pub(crate) struct Threads {
    limit: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<(Arc<Run>, Work)>,
}

impl Threads {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Threads { limit: limit.unwrap_or(usize::MAX), queue: Arc::default() }
    }
}

impl Backend for Threads {
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()> {
        let mut queue = self.queue.lock().unwrap();
        if queue.running >= self.limit {
            queue.waiting.push_back((run.clone(), work));
            return Ok(());
        }
        queue.running += 1;
        drop(queue);
        let (run, shared) = (run.clone(), self.queue.clone());
        let name = work.name.clone().unwrap_or_else(|| work.function.name.to_owned());
        let started = thread::Builder::new().name(name).spawn(move || {
            let mut next = Some((run, work));
            while let Some((run, work)) = next {
                attempts(&run, work);
                let mut queue = shared.lock().unwrap();
                next = queue.waiting.pop_front();
                if next.is_none() {
                    queue.running -= 1;
                }
            }
        });
        if let Err(error) = started {
            self.queue.lock().unwrap().running -= 1;
            return Err(Error::io("starting a thread", &error));
        }
        Ok(())
    }

    fn parallelism(&self) -> usize {
        thread::available_parallelism().map_or(1, usize::from).min(self.limit)
    }

    fn shutdown(&self) {
        // Threads end with the process, as std's do; those that wait for their turn never start.
        self.queue.lock().unwrap().waiting.clear();
    }
}

fn attempts(run: &Arc<Run>, work: Work) {
    let _entered = run.enter();
    let Work { function, args, options, done, .. } = work;
    let mut retry = Retry::new(options.retries.unwrap_or(0));
    // A thread can't be killed: one that takes too long runs on, but nobody waits for it any longer.
    let done = match options.timeout {
        None => done,
        Some(timeout) => {
            let (inner, result) = tokio::sync::oneshot::channel();
            run::io().spawn(async move {
                let late = || {
                    Err(Error::FunctionFailed {
                        function: function.name.to_owned(),
                        attempt: 1,
                        reason: format!(
                            "timed out after {timeout:?}; its thread can't be stopped and runs on"
                        ),
                    })
                };
                let result = tokio::time::timeout(timeout, result)
                    .await
                    .map_or_else(|_| late(), |r| r.unwrap_or_else(|_| late()));
                let _ = done.send(result);
            });
            inner
        }
    };
    let start = Instant::now();
    let result = loop {
        match function.run(args.clone(), retry.attempt()) {
            Ok(result) => break Ok(result),
            Err(error) => match retry.after(&error) {
                Some(pause) if options.timeout.is_none_or(|t| start.elapsed() + pause < t) => {
                    thread::sleep(pause)
                }
                _ => break Err(error),
            },
        }
    };
    // Nobody waits if the handle was dropped: the thread was detached, as in std.
    let _ = done.send(result);
}
