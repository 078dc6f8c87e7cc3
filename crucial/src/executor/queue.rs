use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crucial_runtime::{
    backend::{self, Abort, Turn, Work},
    error::Error,
    id::ThreadId,
    run::{self, Run},
};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{progress::Progress, thread::Result};

/// Work that is done so much at a time.
pub(crate) struct Queue {
    run: Arc<Run>,
    slots: Arc<Semaphore>,
    concurrency: usize,
    state: watch::Sender<State>,
    aborts: Mutex<HashMap<ThreadId, Abort>>,
    progress: Option<Progress>,
}

#[derive(Default)]
struct State {
    waiting: usize,
    running: usize,
    /// It takes no more work.
    closed: bool,
    /// Nothing more starts.
    stopped: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Queue")
            .field("concurrency", &self.concurrency)
            .field("waiting", &state.waiting)
            .field("running", &state.running)
            .finish_non_exhaustive()
    }
}

impl Queue {
    pub(crate) fn new(concurrency: Option<usize>, progress: Option<Progress>) -> Result<Self> {
        let run = Run::current()?;
        // Started here rather than by the first work, whose thread must not block.
        let parallelism = run.backend()?.parallelism();
        let concurrency = concurrency.unwrap_or(parallelism).clamp(1, Semaphore::MAX_PERMITS);
        Ok(Queue {
            run,
            slots: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            state: watch::Sender::default(),
            aborts: Mutex::default(),
            progress,
        })
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency
    }

    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Adds work, which counts as so many steps of the progress.
    pub(crate) fn add(self: &Arc<Self>, work: Work, steps: u64) -> Result<()> {
        let is_open = self.state.send_if_modified(|state| {
            state.waiting += usize::from(!state.closed);
            !state.closed
        });
        if !is_open {
            return Err(Error::ExecutorShutDown);
        }
        if let Some(progress) = &self.progress {
            progress.expect(steps);
        }
        self.aborts().insert(work.thread.id, work.abort.clone());
        let turn = backend::turn(&self.slots);
        run::io().spawn(self.clone().work(work, turn, steps));
        Ok(())
    }

    async fn work(self: Arc<Self>, work: Work, turn: Turn, steps: u64) {
        let Work { function, args, transit, options, thread, abort, done } = work;
        let id = thread.id;
        let slot = tokio::select! {
            biased;
            () = abort.aborted() => None,
            slot = turn => slot.ok(),
        };
        let starts = slot.is_some()
            && self.state.send_if_modified(|state| {
                if !state.stopped {
                    state.waiting -= 1;
                    state.running += 1;
                }
                !state.stopped
            });
        let result = if starts {
            let (inner, outcome) = oneshot::channel();
            let work = Work { function, args, transit, options, thread, abort, done: inner };
            match self.run.backend().and_then(|backend| backend.start(&self.run, work)) {
                Ok(()) => outcome.await.unwrap_or_else(|_| Err(backend::never(function.name))),
                Err(error) => Err(error),
            }
        } else {
            Err(Error::FunctionCancelled { function: function.name.to_owned() })
        };
        self.aborts().remove(&id);
        if let Some(progress) = &self.progress {
            progress.advance(steps);
        }
        // Nobody waits if the handle was dropped.
        let _ = done.send(result);
        // After the result: that of whoever gets the slot must not come before it.
        drop(slot);
        // After a shutdown, the results are there.
        self.state.send_modify(|state| {
            if starts {
                state.running -= 1;
            } else {
                state.waiting -= 1;
            }
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// Takes no more work.
    pub(crate) fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Takes no more work, and ends what there is. Returns how much of it never starts.
    pub(crate) fn close_now(&self) -> usize {
        let mut never = 0;
        self.state.send_modify(|state| {
            // What was told of once is not told of again.
            never = if state.stopped { 0 } else { state.waiting };
            (state.closed, state.stopped) = (true, true);
        });
        self.slots.close();
        let aborts = std::mem::take(&mut *self.aborts());
        aborts.values().for_each(Abort::abort);
        if let Some(progress) = &self.progress {
            progress.finish();
        }
        never
    }

    /// Waits until there is nothing left to do.
    pub(crate) async fn emptied(&self) {
        let mut state = self.state.subscribe();
        // The sender is here, so it isn't gone.
        let _ = state.wait_for(|state| state.waiting + state.running == 0).await;
        if let Some(progress) = &self.progress {
            progress.finish();
        }
    }

    fn aborts(&self) -> MutexGuard<'_, HashMap<ThreadId, Abort>> {
        self.aborts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
