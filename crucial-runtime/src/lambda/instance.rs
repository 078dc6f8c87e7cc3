//! One instance: a process, the invocation it works on, and what happens when either ends.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::{
    process::Child,
    sync::{Notify, oneshot},
    time::sleep_until,
};

use super::{
    clock,
    error::{InvokeError, MAX_RESPONSE},
    exit,
    invocation::{ErrorDocument, FunctionError, Invocation},
    log::{Report, Tail},
    memory::{MemoryUse, MemoryWatch},
    output::{OutputLine, OutputPipe, OutputStream},
    pool::InstanceId,
    service::Service,
};

/// How often memory and time are looked at while an instance works.
const LOOK: Duration = Duration::from_millis(25);

/// How long work waits for an instance that has answered to ask for more, before another is looked for.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long an instance may live on after it reported that its initialization failed.
const LINGER: Duration = Duration::from_millis(500);

/// How many of its last lines a process that ended leaves in the error.
const LAST_LINES: usize = 10;

/// What a caller gets.
pub(crate) type Answer = Result<Invocation, InvokeError>;

/// An invocation on its way.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) request_id: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) timeout: Duration,
    /// MiB.
    pub(crate) memory: u64,
    pub(crate) stop_token: Option<String>,
    pub(crate) client_context: Option<String>,
    pub(crate) trace_id: String,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What an instance gets as the answer to `next`.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) request_id: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) deadline_ms: u64,
    pub(crate) client_context: Option<String>,
    pub(crate) trace_id: String,
}

/// Why the Runtime API refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No such request is under way here.
    InvalidRequestId,
    /// The request doesn't fit what the instance is doing.
    InvalidState { from: &'static str, to: &'static str },
    /// The response is too large; the caller has been told.
    TooLarge,
}

/// Why the service kills an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kill {
    /// The invocation took too long.
    Timeout,
    /// It didn't get ready in time.
    InitTimeout,
    /// It used too much memory.
    OutOfMemory,
    /// It answered but never asked for more, or reported an init error and stayed.
    Unresponsive,
    /// It had nothing to do for long enough.
    Idle,
    /// The caller doesn't want its answer any longer.
    Stopped,
    /// The service ends.
    Shutdown,
}

#[derive(Debug)]
struct Running {
    work: Box<Work>,
    since: Instant,
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct State {
    /// The instance waits for work here.
    next: Option<oneshot::Sender<Event>>,
    /// Work that it gets when it asks; it has certainly not seen it.
    assigned: Option<Box<Work>>,
    /// Since when.
    assigned_at: Instant,
    /// It took so long to ask that its work went to another. It is in nobody's reach until it asks.
    passed_over: bool,
    /// Work that it has.
    running: Option<Running>,
    /// How long it took to ask for the first time.
    init: Option<Duration>,
    init_error: Option<Bytes>,
    /// The invocation that waits for the instance to start is told how long that took.
    cold: bool,
    /// The request it answered last.
    answered: Option<Arc<str>>,
    /// When it has to have asked for work again, or ended.
    settle_by: Option<Instant>,
    killed: Option<Kill>,
    memory: MemoryWatch,
    log: Tail,
    /// What the process itself printed last, for the error if it ends.
    printed: VecDeque<String>,
}

/// One instance of the function.
#[derive(Debug)]
pub(crate) struct Instance {
    id: InstanceId,
    service: Rc<Service>,
    started: Instant,
    pid: Option<Pid>,
    pipes: [OutputPipe; 2],
    state: RefCell<State>,
    /// Wakes the supervisor when there is something to watch or to do.
    changed: Notify,
    /// The supervisor sleeps until something changes, without a timer.
    asleep: Cell<bool>,
}

impl Instance {
    /// An instance whose process was started for `work`, which began at `started`.
    pub(crate) fn new(
        id: InstanceId,
        service: Rc<Service>,
        started: Instant,
        pid: u32,
        pipes: [OutputPipe; 2],
        work: Box<Work>,
    ) -> Instance {
        let state = State {
            next: None,
            assigned: Some(work),
            assigned_at: started,
            passed_over: false,
            running: None,
            init: None,
            init_error: None,
            cold: true,
            answered: None,
            settle_by: None,
            killed: None,
            memory: MemoryWatch::new(pid),
            log: Tail::default(),
            printed: VecDeque::new(),
        };
        Instance {
            id,
            service,
            started,
            pid: i32::try_from(pid).ok().and_then(Pid::from_raw),
            pipes,
            state: RefCell::new(state),
            changed: Notify::new(),
            asleep: Cell::new(false),
        }
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Gives an idle instance something to do.
    pub(crate) fn assign(&self, work: Box<Work>) {
        {
            let mut state = self.state.borrow_mut();
            state.assigned = Some(work);
            state.assigned_at = Instant::now();
        }
        self.deliver();
    }

    /// Ends the process. What becomes of its invocation is settled when it has ended.
    pub(crate) fn kill(&self, why: Kill) {
        let mut state = self.state.borrow_mut();
        if state.killed.is_none() {
            state.killed = Some(why);
            self.changed.notify_one();
        }
    }

    /// Whether it works on the invocation with this token, or is about to.
    pub(crate) fn has(&self, token: &str) -> bool {
        let state = self.state.borrow();
        let work = state.running.as_ref().map(|running| &running.work).or(state.assigned.as_ref());
        work.is_some_and(|work| work.stop_token.as_deref() == Some(token))
    }

    // What the Runtime API asks for.

    /// The instance wants work.
    pub(crate) fn next(&self, reply: oneshot::Sender<Event>) -> Result<(), Refusal> {
        let mut state = self.state.borrow_mut();
        if state.running.is_some() {
            return Err(Refusal::InvalidState { from: "InvocationRunning", to: "Ready" });
        }
        if state.init_error.is_some() {
            return Err(Refusal::InvalidState { from: "InitError", to: "Ready" });
        }
        state.init.get_or_insert_with(|| self.started.elapsed());
        state.settle_by = None;
        state.next = Some(reply);
        let was_passed_over = std::mem::take(&mut state.passed_over);
        drop(state);
        if was_passed_over {
            self.service.released(self.id);
        } else {
            self.deliver();
        }
        Ok(())
    }

    /// The function returned; `None` stands for a body over the limit.
    pub(crate) fn respond(&self, request_id: &str, body: Option<Bytes>) -> Result<(), Refusal> {
        self.check(request_id, "InvocationResponse")?;
        match body {
            Some(body) => {
                self.complete(body, None);
                Ok(())
            }
            None => {
                let error = "Function.ResponseSizeTooLarge";
                let document = ErrorDocument {
                    error_type: error.to_owned(),
                    error_message: format!(
                        "Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
                    ),
                    output: Vec::new(),
                };
                self.complete(encode(&document), Some(error));
                Err(Refusal::TooLarge)
            }
        }
    }

    /// The function failed.
    pub(crate) fn fail(&self, request_id: &str, error_type: &str, body: Bytes) -> Result<(), Refusal> {
        self.check(request_id, "InvocationErrorResponse")?;
        self.complete(body, Some(error_type));
        Ok(())
    }

    /// The instance can't get ready. Its process is expected to end.
    pub(crate) fn init_failed(&self, body: Bytes) -> Result<(), Refusal> {
        let mut state = self.state.borrow_mut();
        if state.init.is_some() || state.init_error.is_some() {
            return Err(Refusal::InvalidState { from: "Ready", to: "InitError" });
        }
        state.init_error = Some(body);
        state.settle_by = Some(Instant::now() + LINGER);
        Ok(())
    }

    fn check(&self, request_id: &str, to: &'static str) -> Result<(), Refusal> {
        let state = self.state.borrow();
        match &state.running {
            Some(running) if *running.work.request_id == *request_id => Ok(()),
            None if state.answered.as_deref() == Some(request_id) => {
                Err(Refusal::InvalidState { from: "ResponseSent", to })
            }
            _ => Err(Refusal::InvalidRequestId),
        }
    }

    /// Hands over the work if there is some and the instance waits for it.
    fn deliver(&self) {
        let mut state = self.state.borrow_mut();
        // A process that is about to end must not get what another could do.
        if state.assigned.is_none() || state.killed.is_some() || self.has_ended() {
            return;
        }
        let Some(next) = state.next.take() else {
            self.expect_next(&mut state);
            return;
        };
        let Some(work) = state.assigned.take() else { return };

        let since = Instant::now();
        let deadline_ms = clock::epoch_millis(SystemTime::now())
            .saturating_add(work.timeout.as_millis().try_into().unwrap_or(u64::MAX));
        let event = Event {
            request_id: work.request_id.clone(),
            payload: work.payload.clone(),
            deadline_ms,
            client_context: work.client_context.clone(),
            trace_id: work.trace_id.clone(),
        };
        if next.send(event).is_err() {
            // Its connection broke. Either it asks again or it ends.
            state.assigned = Some(work);
            self.expect_next(&mut state);
            return;
        }
        state.log.clear();
        state.printed.clear();
        let start = format!("START RequestId: {} Version: $LATEST", work.request_id);
        let deadline = since.checked_add(work.timeout);
        state.running = Some(Running { work, since, deadline });
        drop(state);
        self.print(OutputStream::Platform, start);
        self.wake();
    }

    /// Work waits for an instance that is up: give it as long to ask for it as it had to get ready.
    fn expect_next(&self, state: &mut State) {
        if state.init.is_some() && state.settle_by.is_none() {
            state.settle_by = Instant::now().checked_add(self.service.function().init_timeout);
            self.wake();
        }
    }

    /// Makes sure that the supervisor watches.
    fn wake(&self) {
        if self.asleep.get() {
            self.changed.notify_one();
        }
    }

    /// Whether the process has ended, even if the supervisor hasn't heard of it. The process isn't collected
    /// before that, so its number can't have gone to another.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid.is_some_and(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    /// The running invocation has an answer.
    fn complete(&self, payload: Bytes, error: Option<&str>) {
        // What it printed before it answered belongs to this invocation.
        self.drain();
        let used = self.state.borrow_mut().memory.read();
        if self.is_over_limit(used) {
            // Caught between two looks. Whether it got away with it must not depend on when we look.
            self.kill(Kill::OutOfMemory);
            return;
        }
        let Some(running) = self.state.borrow_mut().running.take() else { return };
        let elapsed = running.since.elapsed();
        {
            let mut state = self.state.borrow_mut();
            state.answered = Some(running.work.request_id.clone());
            // Until it asks for more it is still on this invocation's time.
            state.settle_by = running.deadline;
        }
        self.finish_work(*running.work, payload, elapsed, used, error.map(|error| ("error", Some(error))));
        // Invariant: what stops an invocation stops no other. One that was to be stopped, and answered before its process
        // ended, frees nothing.
        if self.state.borrow().killed.is_none() {
            self.service.released(self.id);
        }
    }

    /// Writes the end of the log and answers the caller.
    fn finish_work(
        &self,
        work: Work,
        payload: Bytes,
        duration: Duration,
        used: MemoryUse,
        status: Option<(&str, Option<&str>)>,
    ) {
        let (cold, init) = {
            let mut state = self.state.borrow_mut();
            let cold = std::mem::take(&mut state.cold);
            (cold, state.init.filter(|_| cold))
        };
        let report = Report {
            request_id: &work.request_id,
            duration,
            memory: work.memory,
            max_memory: used.peak_mb(),
            init,
            status,
        };
        self.log(&work.request_id, format!("END RequestId: {}", work.request_id));
        self.log(&work.request_id, report.line());
        let invocation = Invocation {
            request_id: work.request_id.to_string(),
            payload,
            function_error: status.map(|_| FunctionError::Unhandled),
            log_tail: self.state.borrow().log.text().to_owned(),
            duration,
            init_duration: init,
            max_memory_mb: used.peak_mb(),
            cold_start: cold,
        };
        // The caller may have lost interest.
        let _ = work.answer.send(Ok(invocation));
    }

    // The process.

    /// Watches the process until it has ended.
    pub(crate) async fn supervise(self: Rc<Self>, mut child: Child) {
        let mut signalled = false;
        let status = loop {
            let look = self.next_look();
            self.asleep.set(look.is_none());
            tokio::select! {
                biased;
                status = child.wait() => break status,
                () = self.changed.notified() => {}
                () = sleep_until(look.unwrap_or_else(Instant::now).into()), if look.is_some() => self.look(),
            }
            if !signalled && self.state.borrow().killed.is_some() {
                // It fails only if the process has ended, which `wait` is about to tell.
                let _ = child.start_kill();
                signalled = true;
            }
        };
        self.drain();
        for pipe in &self.pipes {
            pipe.finish(|line| self.print(pipe.stream, line));
        }
        let message = match status {
            Ok(status) => exit::describe(status),
            Err(error) => format!("Runtime exited with error: {error}"),
        };
        tracing::debug!(instance = self.id, %message, "instance ended");
        self.settle(&message);
    }

    /// Hands out what the process prints on one of its streams.
    pub(crate) async fn follow(self: Rc<Self>, index: usize) {
        let pipe = &self.pipes[index];
        pipe.follow(|line| self.print(pipe.stream, line)).await;
    }

    /// When to look next; nothing needs watching while the instance is idle.
    fn next_look(&self) -> Option<Instant> {
        let state = self.state.borrow();
        if state.killed.is_some() {
            return None;
        }
        let end = match &state.running {
            Some(running) => running.deadline,
            None if state.settle_by.is_some() => state.settle_by,
            None if state.init.is_none() => self.started.checked_add(self.service.function().init_timeout),
            None => return None,
        };
        let look = Instant::now() + LOOK;
        Some(end.map_or(look, |end| end.min(look)))
    }

    /// Looks at the clock and the memory.
    fn look(&self) {
        let now = Instant::now();
        let is_past = |end: Option<Instant>| end.is_some_and(|end| now >= end);
        let mut state = self.state.borrow_mut();
        let used = state.memory.read();
        let why = match &state.running {
            Some(running) if is_past(running.deadline) => Some(Kill::Timeout),
            Some(_) => None,
            None if is_past(state.settle_by) => Some(Kill::Unresponsive),
            None if state.init.is_none()
                && is_past(self.started.checked_add(self.service.function().init_timeout)) =>
            {
                Some(Kill::InitTimeout)
            }
            None => None,
        };
        drop(state);
        if self.is_over_limit(used) {
            self.kill(Kill::OutOfMemory);
        } else if let Some(why) = why {
            self.kill(why);
        } else {
            self.pass_over(now);
        }
    }

    /// Gives work that has waited for long enough to another instance, if one may be had.
    ///
    /// An instance counts as free when it has answered, a moment before it asks for more, so that a caller's
    /// next invocation finds it. Most ask at once; some are busy with something else first.
    fn pass_over(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        if state.init.is_none() || now.saturating_duration_since(state.assigned_at) < PATIENCE {
            return;
        }
        let Some(work) = state.assigned.take() else { return };
        drop(state);
        let result = self.service.place(work);
        let mut state = self.state.borrow_mut();
        match result {
            Ok(()) => state.passed_over = true,
            Err(work) => state.assigned = Some(work),
        }
    }

    /// The function's limit holds for all that the instance ever used; an invocation's own, which may be
    /// smaller than an earlier one's, for what is used now.
    fn is_over_limit(&self, used: MemoryUse) -> bool {
        let kib = |mib: u64| mib.saturating_mul(1024);
        let own = self.state.borrow().running.as_ref().map(|running| kib(running.work.memory));
        used.peak > kib(self.service.function().memory) || own.is_some_and(|own| used.current > own)
    }

    /// The process has ended: nobody waits in vain.
    fn settle(&self, exit: &str) {
        let (running, assigned, why, is_ready, init_error) = {
            let mut state = self.state.borrow_mut();
            state.next = None;
            (
                state.running.take(),
                state.assigned.take(),
                state.killed,
                state.init.is_some(),
                state.init_error.take(),
            )
        };
        self.service.removed(self.id);
        if why == Some(Kill::Shutdown) {
            for work in running.map(|running| running.work).into_iter().chain(assigned) {
                let _ = work.answer.send(Err(InvokeError::shut_down()));
            }
            return;
        }
        if let Some(Running { work, since, .. }) = running {
            self.ended(*work, since, why, exit, None);
        } else if let Some(work) = assigned {
            if is_ready && why != Some(Kill::Stopped) {
                // It ended between two invocations, and the second has not begun.
                self.service.submit(work);
            } else {
                self.log(
                    &work.request_id.clone(),
                    format!(
                        "INIT_REPORT Init Duration: {:.2} ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError",
                        self.started.elapsed().as_secs_f64() * 1e3
                    ),
                );
                self.ended(*work, self.started, why, exit, init_error);
            }
        }
    }

    /// The process has ended with this invocation unanswered.
    fn ended(&self, work: Work, since: Instant, why: Option<Kill>, exit: &str, init_error: Option<Bytes>) {
        let id = work.request_id.clone();
        let duration = since.elapsed();
        let (error_type, message) = match why {
            Some(Kill::Timeout) => (
                "Sandbox.Timedout",
                format!("Task timed out after {:.2} seconds", work.timeout.as_secs_f64()),
            ),
            Some(Kill::InitTimeout) => (
                "Sandbox.Timedout",
                format!(
                    "Initialization timed out after {:.2} seconds",
                    self.service.function().init_timeout.as_secs_f64()
                ),
            ),
            Some(Kill::Stopped) => ("Sandbox.Stopped", "Stopped by its caller".to_owned()),
            Some(Kill::OutOfMemory) => ("Runtime.OutOfMemory", exit.to_owned()),
            _ => ("Runtime.ExitError", exit.to_owned()),
        };
        let is_timeout = error_type == "Sandbox.Timedout";
        let output = self.state.borrow().printed.iter().cloned().collect();
        let document = ErrorDocument {
            error_type: error_type.to_owned(),
            error_message: format!("RequestId: {id} Error: {message}"),
            output: if is_timeout { Vec::new() } else { output },
        };
        if is_timeout {
            self.log(&id, format!("{} {id} {message}", clock::timestamp(SystemTime::now())));
        } else {
            self.log(&id, document.error_message.clone());
            self.log(&id, error_type.to_owned());
        }
        let used = self.state.borrow_mut().memory.read();
        let status = if is_timeout { ("timeout", None) } else { ("error", Some(error_type)) };
        let payload = init_error.unwrap_or_else(|| encode(&document));
        self.finish_work(work, payload, duration, used, Some(status));
    }

    // Output.

    fn drain(&self) {
        for pipe in &self.pipes {
            pipe.drain(|line| self.print(pipe.stream, line));
        }
    }

    /// Delivers a line as part of what is under way.
    fn print(&self, stream: OutputStream, line: String) {
        let request_id = {
            let mut state = self.state.borrow_mut();
            state.log.push(&line);
            if stream != OutputStream::Platform {
                if state.printed.len() == LAST_LINES {
                    state.printed.pop_front();
                }
                state.printed.push_back(line.clone());
            }
            state.running.as_ref().map(|running| running.work.request_id.clone())
        };
        self.service.print(OutputLine { instance: self.id, request_id, stream, line });
    }

    /// Adds a line of the service to the log of an invocation.
    fn log(&self, request_id: &Arc<str>, line: String) {
        self.state.borrow_mut().log.push(&line);
        self.service.print(OutputLine {
            instance: self.id,
            request_id: Some(request_id.clone()),
            stream: OutputStream::Platform,
            line,
        });
    }
}

pub(crate) fn encode(document: &ErrorDocument) -> Bytes {
    // Three strings always make valid JSON.
    serde_json::to_vec(document).unwrap_or_default().into()
}
