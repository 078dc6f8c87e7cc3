//! Cloud threads as processes of this machine, driven through the APIs of AWS Lambda.

use std::{
    fmt,
    io::Write,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{
    Abort, Backend, Retry, Work, cancelled, cpus,
    event::{Event, FUNCTION, PANIC, Reply},
    failed, turn,
};
use crate::{
    config::Config,
    dso::OwnedRequest,
    error::{Error, Result},
    function::{FunctionInfo, Options},
    id::ThreadId,
    lambda::{
        Function, Invocation, InvokeError, InvokeOptions, LocalLambda, OutputLine, OutputStream, invoke_http,
        stop_http,
    },
    run::{self, Run},
    terminal,
};

/// The most cloud threads at once if nothing is configured: what an AWS account has.
const CONCURRENCY: usize = 1000;
/// How long a cloud thread may take if nothing is configured: the most that Lambda allows.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The most memory that a cloud thread can ask for, in MiB: the most that Lambda gives, unless more is configured.
const MEMORY: u64 = 10_240;

/// Runs every cloud thread as an invocation of this program in its function role.
pub(crate) struct Processes {
    lambda: Lambda,
    permits: Arc<Semaphore>,
    parallelism: usize,
    closed: AtomicBool,
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").finish_non_exhaustive()
    }
}

/// The Lambda service: this process's own, or for a function process, its client's.
#[derive(Clone)]
enum Lambda {
    Own(Arc<LocalLambda>),
    Elsewhere(String),
}

impl Lambda {
    fn endpoint(&self) -> String {
        match self {
            Lambda::Own(lambda) => lambda.endpoint().to_string(),
            Lambda::Elsewhere(endpoint) => endpoint.clone(),
        }
    }

    async fn invoke(&self, payload: Bytes, options: InvokeOptions) -> Result<Invocation, InvokeError> {
        match self {
            Lambda::Own(lambda) => lambda.invoke(payload, options).await,
            Lambda::Elsewhere(endpoint) => invoke_http(endpoint, FUNCTION, payload, &options).await,
        }
    }

    /// Stops the invocation that was started with this token. Returns whether there is one.
    async fn stop(&self, token: &str) -> bool {
        match self {
            Lambda::Own(lambda) => lambda.stop(token).await,
            Lambda::Elsewhere(endpoint) => stop_http(endpoint, token).await,
        }
    }
}

impl Processes {
    /// Starts the local Lambda service. Its instances are started when they are needed.
    pub(crate) fn start(run: &Run, limit: Option<usize>) -> Result<Self> {
        let config = run.config();
        let program = std::env::current_exe().map_err(|e| Error::io("finding this program's file", &e))?;
        let function = Function {
            args: config.launch.iter().map(Into::into).collect(),
            concurrency: limit.unwrap_or(CONCURRENCY),
            // An invocation's own limits apply; these are the most that it can ask for.
            timeout: TIMEOUT.max(config.timeout.unwrap_or_default()),
            memory: MEMORY.max(config.memory),
            idle: config.idle,
            ..Function::new(FUNCTION, program)
        };
        let quiet = !config.launch.is_empty();
        let start = || run::block_on(LocalLambda::start(function, move |line| print(&line, quiet)));
        let lambda = run::aside(start).map_err(|e| Error::io("starting the local Lambda service", &e))?;
        Ok(Self::over(Lambda::Own(Arc::new(lambda)), limit))
    }

    /// Starts cloud threads through the Invoke API at `endpoint`, from a function process.
    pub(crate) fn elsewhere(endpoint: String, config: &Config) -> Self {
        Self::over(Lambda::Elsewhere(endpoint), config.concurrency)
    }

    fn over(lambda: Lambda, limit: Option<usize>) -> Self {
        let permits = limit.unwrap_or(CONCURRENCY).min(Semaphore::MAX_PERMITS);
        Processes {
            lambda,
            permits: Arc::new(Semaphore::new(permits)),
            // All processes are on this machine, so more of them than it has CPUs make nothing faster.
            parallelism: limit.unwrap_or_else(cpus),
            closed: AtomicBool::new(false),
        }
    }
}

impl Backend for Processes {
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()> {
        let Work { function, args, transit, options, thread, abort, done } = work;
        let event = Event {
            function: function.name.to_owned(),
            fingerprint: function.fingerprint.into(),
            args,
            thread: thread.id.0,
            name: thread.name.clone(),
            runs: thread.function.clone().filter(|runs| runs != function.name),
            attempt: 1,
            run: run.id().0,
            servers: run::aside(|| run.dso().addresses())?,
            since: run.dso().since(),
            invoke: self.lambda.endpoint(),
        };
        let (lambda, turn) = (self.lambda.clone(), turn(&self.permits));
        let run = run.clone();
        run::io().spawn(async move {
            let _transit = transit;
            let permit = tokio::select! {
                biased;
                () = abort.aborted() => Err(cancelled(function)),
                permit = turn => permit.map_err(|_| failed(function, 1, "the run has ended")),
            };
            let token = token(&event);
            let mut work = pin!(async {
                let _permit = permit?;
                attempts(&run, &lambda, function, options, event, &abort).await
            });
            let result = tokio::select! {
                biased;
                result = &mut work => result,
                () = abort.aborted() => {
                    let _ = done.send(Err(cancelled(function)));
                    stop(&lambda, &token, work).await;
                    report_lost(&run, thread.id).await;
                    return;
                }
            };
            // Nobody waits if the handle was dropped: the thread was detached, as in std.
            let _ = done.send(result);
        });
        Ok(())
    }

    fn parallelism(&self) -> usize {
        self.parallelism
    }

    fn shutdown(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.permits.close();
        if let Lambda::Own(lambda) = &self.lambda {
            run::aside(|| run::block_on(lambda.shutdown()));
        }
    }
}

/// The name under which the function of an event can be stopped.
fn token(event: &Event) -> String {
    format!("{:032x}", event.thread)
}

/// Stops a cloud thread until it has ended. It may be on its way to the service, so once may be too early.
async fn stop(lambda: &Lambda, token: &str, mut work: impl Future + Unpin) {
    loop {
        tokio::select! {
            _ = &mut work => return,
            () = async {
                lambda.stop(token).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            } => {}
        }
    }
}

/// Tells the DSO layer that the process which ran this cloud thread has died, so that what it held is free before its
/// lease ends.
async fn report_lost(run: &Run, thread: ThreadId) {
    // The invariant rests on the lease; this only makes it faster.
    if let Err(error) = run.dso().call_async(OwnedRequest::lost(thread)).await {
        tracing::debug!(%error, "a lost process could not be reported");
    }
}

async fn attempts(
    run: &Run,
    lambda: &Lambda,
    function: &'static FunctionInfo,
    options: Options,
    mut event: Event,
    abort: &Abort,
) -> Result<Vec<u8>> {
    let token = token(&event);
    let mut retry = Retry::new(options.retries.unwrap_or(0));
    loop {
        event.attempt = retry.attempt();
        let payload = serde_json::to_vec(&event).expect("an event is text and numbers, which can be encoded");
        let error =
            match attempt(lambda, function, &options, payload.into(), event.attempt, (&token, abort)).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
        if matches!(error, Error::FunctionFailed { .. }) {
            // Before the next attempt, which may want what this one held.
            report_lost(run, ThreadId(event.thread)).await;
        }
        match retry.after(&error).filter(|_| !abort.is_aborted()) {
            Some(pause) => {
                tracing::info!(function = function.name, %error, "a cloud thread is tried again");
                tokio::select! {
                    () = abort.aborted() => return Err(error),
                    () = tokio::time::sleep(pause) => {}
                }
            }
            None => return Err(error),
        }
    }
}

async fn attempt(
    lambda: &Lambda,
    function: &'static FunctionInfo,
    options: &Options,
    payload: Bytes,
    attempt: u32,
    (token, abort): (&str, &Abort),
) -> Result<Vec<u8>> {
    let limits = InvokeOptions {
        timeout: Some(options.timeout.unwrap_or(TIMEOUT)),
        memory: options.memory,
        stop_token: Some(token.to_owned()),
        ..InvokeOptions::default()
    };
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    let invocation = loop {
        match lambda.invoke(payload.clone(), limits.clone()).await {
            Ok(invocation) => break invocation,
            // Instances of other callers hold the limit: the function has not run, so waiting is safe.
            Err(InvokeError::TooManyRequests { .. }) if start.elapsed() < TIMEOUT && !abort.is_aborted() => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(error) => return Err(failed(function, attempt, &error.to_string())),
        }
    };
    if let Some(error) = invocation.error() {
        if error.error_type == PANIC {
            let (function, message) = (function.name.to_owned(), error.error_message);
            return Err(Error::FunctionPanicked { function, attempt, message });
        }
        let mut reason = format!("{}: {}", error.error_type, error.error_message);
        if !error.output.is_empty() {
            reason.push_str("; it printed last: ");
            reason.push_str(&error.output.join(" | "));
        }
        if error.error_type.starts_with("Runtime.") && error.error_message.contains("exit status 0") {
            reason.push_str(". A function process has to ask for work: is `main` marked `#[crucial::main]`?");
        }
        return Err(failed(function, attempt, &reason));
    }
    match serde_json::from_slice(&invocation.payload) {
        Ok(Reply::Result(result)) => Ok(result),
        Ok(Reply::Error(error)) => Err(error),
        Err(error) => Err(failed(function, attempt, &format!("its answer is no answer: {error}"))),
    }
}

/// Brings what a function process prints to this terminal.
fn print(line: &OutputLine, quiet: bool) {
    // A test's process announces the test first; that is no output of the function.
    if quiet && line.request_id.is_none() {
        return;
    }
    let (stream, text) = (line.stream, format_args!("[process {}] {}", line.instance, line.line));
    // A closed terminal is no reason to fail.
    let _ = match stream {
        OutputStream::Stdout => terminal::print(|| writeln!(std::io::stdout().lock(), "{text}")),
        OutputStream::Stderr => terminal::print(|| writeln!(std::io::stderr().lock(), "{text}")),
        OutputStream::Platform => {
            tracing::debug!(instance = line.instance, "{}", line.line);
            Ok(())
        }
    };
}
