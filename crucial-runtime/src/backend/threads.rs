//! Cloud threads as threads of this process.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Backend, Retry, Work, cancelled, cpus, failed, turn};
use crate::{
    error::{Error, Result},
    function::{FunctionInfo, Options},
    run::{self, Run},
    thread::Identity,
    transit::Transit,
};

/// Runs every cloud thread as a thread of this process; with a limit, the others wait for their turn.
pub(crate) struct Threads {
    slots: Option<Arc<Semaphore>>,
    parallelism: usize,
}

impl Threads {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let slots = limit.map(|limit| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))));
        Threads { slots, parallelism: limit.unwrap_or_else(cpus) }
    }

    /// Starts a cloud thread if one more may run now; otherwise gives the work back.
    pub(super) fn try_start(&self, run: &Arc<Run>, work: Work) -> Result<Option<Work>> {
        let slot = match &self.slots {
            None => None,
            Some(slots) => match slots.clone().try_acquire_owned() {
                Ok(slot) => Some(slot),
                Err(_) => return Ok(Some(work)),
            },
        };
        Attempts::start(run.clone(), work, slot).map(|()| None)
    }
}

impl Backend for Threads {
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()> {
        let Some(work) = self.try_start(run, work)? else { return Ok(()) };
        let turn = turn(self.slots.as_ref().expect("without a limit, everything starts at once"));
        let run = run.clone();
        run::io().spawn(async move {
            let slot = tokio::select! {
                biased;
                () = work.abort.aborted() => {
                    let _ = work.done.send(Err(cancelled(work.function)));
                    return;
                }
                // The queue is closed when the run ends.
                slot = turn => match slot {
                    Ok(slot) => slot,
                    Err(_) => return,
                },
            };
            // The one who waits has been told.
            let _ = Attempts::start(run, work, Some(slot));
        });
        Ok(())
    }

    fn parallelism(&self) -> usize {
        self.parallelism
    }

    fn shutdown(&self) {
        // Threads end with the process, as std's do; those that wait for their turn never start.
        if let Some(slots) = &self.slots {
            slots.close();
        }
    }
}

/// The attempts of one cloud thread, each in a thread of its own.
struct Attempts {
    run: Arc<Run>,
    function: &'static FunctionInfo,
    args: Vec<u8>,
    options: Options,
    thread: Arc<Identity>,
    state: Mutex<State>,
}

struct State {
    retry: Retry,
    /// Gone when there is a result.
    done: Option<oneshot::Sender<Result<Vec<u8>>>>,
    transit: Transit,
    /// Ends the attempt when it takes too long.
    timer: Option<tokio::task::AbortHandle>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Attempts {
    /// Makes the first attempt. If that fails, `work.done` has the error, too.
    fn start(run: Arc<Run>, work: Work, slot: Option<OwnedSemaphorePermit>) -> Result<()> {
        let Work { function, args, transit, options, thread, abort, done } = work;
        let retry = Retry::new(options.retries.unwrap_or(0));
        let state = Mutex::new(State { retry, done: Some(done), transit, timer: None, slot });
        let attempts = Arc::new(Attempts { run, function, args, options, thread, state });
        let weak = Arc::downgrade(&attempts);
        abort.then(move || {
            if let Some(attempts) = weak.upgrade() {
                attempts.finish(&mut attempts.state.lock().unwrap(), Err(cancelled(attempts.function)));
            }
        });
        attempts.attempt(1)
    }

    /// Makes an attempt, unless the thread was aborted.
    fn attempt(self: Arc<Self>, number: u32) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if state.done.is_none() {
            return Ok(());
        }
        let me = self.clone();
        let started = thread::Builder::new().name(self.thread.system_name()).spawn(move || {
            let result = {
                let _run = me.run.enter();
                let thread = me.thread.enter();
                let result = me.function.run(me.args.clone(), number);
                // One that took too long must not tidy up behind the next.
                if me.state.lock().unwrap().retry.attempt() != number {
                    thread.abandon();
                }
                result
            };
            me.ended(number, result);
        });
        if let Err(error) = started {
            let error = Error::io("starting a thread", &error);
            self.finish(&mut state, Err(error.clone()));
            return Err(error);
        }
        if let Some(timeout) = self.options.timeout {
            let weak = Arc::downgrade(&self);
            let timer = run::io().spawn(async move {
                tokio::time::sleep(timeout).await;
                if let Some(me) = weak.upgrade() {
                    let reason =
                        format!("timed out after {timeout:?}; its thread can't be stopped and runs on");
                    let error = failed(me.function, number, &reason);
                    me.ended(number, Err(error));
                }
            });
            state.timer = Some(timer.abort_handle());
        }
        Ok(())
    }

    /// An attempt has a result, or took too long. What comes of it after that is nobody's any more: a thread can't be
    /// killed, so it runs on.
    fn ended(self: Arc<Self>, number: u32, result: Result<Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        if state.done.is_none() || state.retry.attempt() != number {
            return;
        }
        if let Some(timer) = state.timer.take() {
            timer.abort();
        }
        match result.as_ref().err().and_then(|error| Some((error, state.retry.after(error)?))) {
            None => self.finish(&mut state, result),
            Some((error, pause)) => {
                tracing::info!(function = self.function.name, %error, "a cloud thread is tried again");
                drop(state);
                run::io().spawn(async move {
                    tokio::time::sleep(pause).await;
                    // The one who waits has been told.
                    let _ = self.attempt(number + 1);
                });
            }
        }
    }

    /// Tells the one who waits, and lets the next one start.
    fn finish(&self, state: &mut State, result: Result<Vec<u8>>) {
        // Before the result is there: who has it finds the slot free.
        drop(state.slot.take());
        drop(std::mem::take(&mut state.transit));
        if let Some(done) = state.done.take() {
            // Nobody waits if the handle was dropped: the thread was detached, as in std.
            let _ = done.send(result);
        }
    }
}
