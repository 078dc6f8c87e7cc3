//! Cloud threads as processes of this machine, driven through the APIs of AWS Lambda.

use std::{
    fmt,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{
    Backend, Retry, Work,
    event::{Event, FUNCTION, PANIC, Reply},
};
use crate::{
    error::{Error, Result},
    function::{FunctionInfo, Options},
    lambda::{
        Function, Invocation, InvokeError, InvokeOptions, LocalLambda, OutputLine, OutputStream, invoke_http,
    },
    run::{self, Run},
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
    limit: usize,
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
}

impl Processes {
    /// Starts the local Lambda service. Its instances are started when they are needed.
    pub(crate) fn start(run: &Run) -> Result<Self> {
        let config = run.config();
        let limit = config.concurrency.unwrap_or(CONCURRENCY);
        let program = std::env::current_exe().map_err(|e| Error::io("finding this program's file", &e))?;
        let function = Function {
            args: config.launch.iter().map(Into::into).collect(),
            concurrency: limit,
            // An invocation's own limits apply; these are the most that it can ask for.
            timeout: TIMEOUT.max(config.timeout.unwrap_or_default()),
            memory: MEMORY.max(config.memory),
            idle: config.idle,
            ..Function::new(FUNCTION, program)
        };
        let quiet = !config.launch.is_empty();
        let lambda = run::block_on(LocalLambda::start(function, move |line| print(&line, quiet)))
            .map_err(|e| Error::io("starting the local Lambda service", &e))?;
        Ok(Self::over(Lambda::Own(Arc::new(lambda)), limit))
    }

    /// Starts cloud threads through the Invoke API at `endpoint`, from a function process.
    pub(crate) fn elsewhere(endpoint: String) -> Self {
        Self::over(Lambda::Elsewhere(endpoint), CONCURRENCY)
    }

    fn over(lambda: Lambda, limit: usize) -> Self {
        Processes { lambda, permits: Arc::new(Semaphore::new(limit)), limit, closed: AtomicBool::new(false) }
    }
}

impl Backend for Processes {
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()> {
        let Work { function, args, options, done, .. } = work;
        let event = Event {
            function: function.name.to_owned(),
            fingerprint: function.fingerprint.into(),
            args,
            attempt: 1,
            run: run.id().0,
            servers: run.dso().addresses()?,
            invoke: self.lambda.endpoint(),
        };
        let (lambda, permits) = (self.lambda.clone(), self.permits.clone());
        run::io().spawn(async move {
            // The queue is this semaphore's: first come, first served.
            let permit = permits.acquire_owned().await;
            let result = match &permit {
                Ok(_) => attempts(&lambda, function, options, event).await,
                Err(_) => Err(failed(function, 1, "the run has ended")),
            };
            drop(permit);
            // Nobody waits if the handle was dropped: the thread was detached, as in std.
            let _ = done.send(result);
        });
        Ok(())
    }

    fn parallelism(&self) -> usize {
        self.limit
    }

    fn shutdown(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.permits.close();
        if let Lambda::Own(lambda) = &self.lambda {
            run::block_on(lambda.shutdown());
        }
    }
}

async fn attempts(
    lambda: &Lambda,
    function: &'static FunctionInfo,
    options: Options,
    mut event: Event,
) -> Result<Vec<u8>> {
    let mut retry = Retry::new(options.retries.unwrap_or(0));
    loop {
        event.attempt = retry.attempt();
        let payload = serde_json::to_vec(&event).expect("an event is text and numbers, which can be encoded");
        let error = match attempt(lambda, function, &options, payload.into(), event.attempt).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        match retry.after(&error) {
            Some(pause) => {
                tracing::info!(function = function.name, %error, "a cloud thread is tried again");
                tokio::time::sleep(pause).await;
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
) -> Result<Vec<u8>> {
    let limits = InvokeOptions {
        timeout: Some(options.timeout.unwrap_or(TIMEOUT)),
        memory: options.memory,
        ..InvokeOptions::default()
    };
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    let invocation = loop {
        match lambda.invoke(payload.clone(), limits.clone()).await {
            Ok(invocation) => break invocation,
            // Instances of other callers hold the limit: the function has not run, so waiting is safe.
            Err(InvokeError::TooManyRequests { .. }) if start.elapsed() < TIMEOUT => {
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

fn failed(function: &FunctionInfo, attempt: u32, reason: &str) -> Error {
    Error::FunctionFailed { function: function.name.to_owned(), attempt, reason: reason.to_owned() }
}

/// Brings what a function process prints to this terminal.
fn print(line: &OutputLine, quiet: bool) {
    // A test's process announces the test first; that is no output of the function.
    if quiet && line.request_id.is_none() {
        return;
    }
    // A closed terminal is no reason to fail.
    let _ = match line.stream {
        OutputStream::Stdout => {
            writeln!(std::io::stdout().lock(), "[process {}] {}", line.instance, line.line)
        }
        OutputStream::Stderr => {
            writeln!(std::io::stderr().lock(), "[process {}] {}", line.instance, line.line)
        }
        OutputStream::Platform => {
            tracing::debug!(instance = line.instance, "{}", line.line);
            Ok(())
        }
    };
}
