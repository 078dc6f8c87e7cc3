//! Cloud threads as invocations of this program's function: in processes of this machine, driven through the APIs of AWS
//! Lambda, on AWS Lambda itself, or in processes that serve HTTP.

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
    delivery::Delivery,
    event::{Event, FUNCTION, Freight, INLINE, Invoke, PANIC, Reply, TIMED_OUT},
    failed,
    http::Http,
    turn,
    usage::Usage,
};
use crate::{
    config::Config,
    dso::OwnedRequest,
    error::{Error, Result},
    function::{FunctionInfo, Options},
    id::ThreadId,
    lambda::{
        ErrorDocument, Function, Invocation, InvokeError, InvokeOptions, LocalLambda, OutputLine,
        OutputStream, invoke_http, stop_http,
    },
    run::{self, Run},
    terminal,
};

/// The most cloud threads at once if nothing is configured: what an AWS account has.
const CONCURRENCY: usize = 1000;
/// How long a cloud thread may take if nothing is configured: the most that Lambda allows.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The most memory that a cloud thread can ask for, in MiB: the most that Lambda gives, unless more is configured.
const MEMORY: u64 = 10_240;

/// Runs every cloud thread as an invocation of this program in its function role.
pub(crate) struct Invocations {
    service: Service,
    permits: Arc<Semaphore>,
    parallelism: usize,
    closed: AtomicBool,
    /// What it costs, if that is to be told.
    usage: Option<Arc<Usage>>,
}

impl fmt::Debug for Invocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocations").finish_non_exhaustive()
    }
}

/// Who runs functions: this process's own Lambda service, for a function process its client's, AWS, or who serves HTTP.
#[derive(Clone)]
enum Service {
    Own(Arc<LocalLambda>),
    Elsewhere(String),
    Http(Arc<Http>),
    #[cfg(feature = "aws")]
    Aws(Arc<super::aws::Lambda>),
}

/// What became of an invocation.
pub(super) struct Answer {
    /// What the function answered.
    pub(super) payload: Bytes,
    /// How it failed, if it did.
    pub(super) error: Option<ErrorDocument>,
    /// The end of its log, if there is one.
    pub(super) log: String,
}

impl From<Invocation> for Answer {
    fn from(invocation: Invocation) -> Self {
        Answer { error: invocation.error(), payload: invocation.payload, log: invocation.log_tail }
    }
}

/// What to invoke, for whom.
pub(super) struct Call<'a> {
    pub(super) function: &'static FunctionInfo,
    pub(super) attempt: u32,
    pub(super) options: &'a Options,
    /// The name under which it can be stopped.
    token: &'a str,
    pub(super) abort: &'a Abort,
}

impl Call<'_> {
    /// The error of this attempt.
    pub(super) fn failed(&self, reason: &str) -> Error {
        failed(self.function, self.attempt, reason)
    }
}

impl Service {
    fn endpoint(&self) -> Invoke {
        match self {
            Service::Own(lambda) => Invoke::Local(lambda.endpoint().to_string()),
            Service::Elsewhere(endpoint) => Invoke::Local(endpoint.clone()),
            Service::Http(http) => Invoke::Http(http.url().to_owned()),
            #[cfg(feature = "aws")]
            Service::Aws(lambda) => Invoke::Lambda(lambda.function().to_owned()),
        }
    }

    /// Whether it is not on this machine, or may not be: requests may be delivered twice, carry no limits of their own, and
    /// can't be stopped.
    fn is_remote(&self) -> bool {
        !matches!(self, Service::Own(_) | Service::Elsewhere(_))
    }

    /// The most bytes of arguments that travel in a request.
    fn inline(&self) -> usize {
        if let Service::Http(_) = self { super::http::INLINE } else { INLINE }
    }

    /// Runs the function, and waits as long as it is refused only for now.
    async fn invoke(&self, payload: Bytes, call: &Call<'_>) -> Result<Answer> {
        let options = InvokeOptions {
            timeout: Some(call.options.timeout.unwrap_or(TIMEOUT)),
            memory: call.options.memory,
            stop_token: Some(call.token.to_owned()),
            ..InvokeOptions::default()
        };
        let start = Instant::now();
        let mut pause = Duration::from_millis(10);
        loop {
            let invoked = match self {
                Service::Own(lambda) => lambda.invoke(payload.clone(), options.clone()).await,
                Service::Elsewhere(endpoint) => {
                    invoke_http(endpoint, FUNCTION, payload.clone(), &options).await
                }
                Service::Http(http) => return http.invoke(payload, call).await,
                #[cfg(feature = "aws")]
                Service::Aws(lambda) => return lambda.invoke(payload, call).await,
            };
            match invoked {
                Ok(invocation) => return Ok(invocation.into()),
                // Instances of other callers hold the limit: the function has not run, so waiting is safe.
                Err(InvokeError::TooManyRequests { .. })
                    if start.elapsed() < TIMEOUT && !call.abort.is_aborted() =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(call.failed(&error.to_string())),
            }
        }
    }

    /// Stops a cloud thread until it has ended. It may be on its way to the service, so once may be too early.
    async fn stop(&self, token: &str, mut work: impl Future + Unpin) {
        loop {
            let stop = async {
                match self {
                    Service::Own(lambda) => lambda.stop(token).await,
                    Service::Elsewhere(endpoint) => stop_http(endpoint, token).await,
                    Service::Http(_) => false,
                    #[cfg(feature = "aws")]
                    Service::Aws(_) => false,
                };
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            tokio::select! {
                _ = &mut work => return,
                () = stop => {}
            }
        }
    }
}

impl Invocations {
    /// Starts the local Lambda service. Its instances are started when they are needed.
    pub(crate) fn in_processes(config: &Config, limit: Option<usize>) -> Result<Self> {
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
        // All processes are on this machine, so more of them than it has CPUs make nothing faster.
        let invocations = Self::over(Service::Own(Arc::new(lambda)), limit, limit.unwrap_or_else(cpus));
        Ok(invocations.with_usage(config, "processes, as on Lambda"))
    }

    /// Starts cloud threads on AWS Lambda.
    ///
    /// # Errors
    /// If a setting is missing, or AWS says that the function can't be invoked.
    #[cfg(feature = "aws")]
    pub(crate) fn on_lambda(config: &Config, limit: Option<usize>) -> Result<Self> {
        let lambda = run::aside(|| run::block_on(super::aws::Lambda::start(config)))?;
        let invocations = Self::over(Service::Aws(Arc::new(lambda)), limit, limit.unwrap_or(CONCURRENCY));
        Ok(invocations.with_usage(config, "lambda"))
    }

    /// Starts cloud threads over HTTP.
    ///
    /// # Errors
    /// If a setting is missing, or no function of this program answers there.
    pub(crate) fn over_http(config: &Config, limit: Option<usize>) -> Result<Self> {
        let http = run::aside(|| run::block_on(Http::start(config)))?;
        Ok(Self::over(Service::Http(Arc::new(http)), limit, limit.unwrap_or(CONCURRENCY)))
    }

    /// Starts cloud threads from a function process, where its client does.
    pub(crate) fn elsewhere(invoke: &Invoke, config: &Config) -> Result<Self> {
        let (service, parallelism) = match invoke {
            Invoke::Local(endpoint) => (Service::Elsewhere(endpoint.clone()), cpus()),
            Invoke::Http(url) => (Service::Http(Arc::new(Http::of(url, config)?)), CONCURRENCY),
            #[cfg(feature = "aws")]
            Invoke::Lambda(function) => {
                (Service::Aws(Arc::new(super::aws::Lambda::of(function, config))), CONCURRENCY)
            }
            #[cfg(not(feature = "aws"))]
            Invoke::Lambda(_) => return Err(super::without("aws")),
        };
        Ok(Self::over(service, config.concurrency, config.concurrency.unwrap_or(parallelism)))
    }

    fn over(service: Service, limit: Option<usize>, parallelism: usize) -> Self {
        let permits = limit.unwrap_or(CONCURRENCY).min(Semaphore::MAX_PERMITS);
        Invocations {
            service,
            permits: Arc::new(Semaphore::new(permits)),
            parallelism,
            closed: AtomicBool::new(false),
            usage: None,
        }
    }

    /// Says at the end what it cost, if that is wanted.
    fn with_usage(mut self, config: &Config, service: &'static str) -> Self {
        self.usage = config.usage.then(|| Arc::new(Usage::new(service)));
        self
    }
}

impl Backend for Invocations {
    fn start(&self, run: &Arc<Run>, work: Work) -> Result<()> {
        let Work { function, args, transit, options, thread, abort, done } = work;
        let is_remote = self.service.is_remote();
        let millis = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let event = Event {
            function: function.name.to_owned(),
            fingerprint: function.fingerprint.into(),
            args: Freight::Inline(args),
            thread: thread.id.0,
            name: thread.name.clone(),
            runs: thread.function.clone().filter(|runs| runs != function.name),
            attempt: 1,
            claim: is_remote,
            timeout: options.timeout.filter(|_| is_remote).map(millis),
            run: run.id().0,
            servers: run::aside(|| run.dso().addresses())?,
            since: run.dso().since(),
            invoke: self.service.endpoint(),
        };
        let turn = turn(&self.permits);
        let invoker = Invoker {
            run: run.clone(),
            service: self.service.clone(),
            function,
            options,
            thread: thread.id,
            abort,
            left: AtomicBool::new(false),
            usage: self.usage.clone(),
        };
        run::io().spawn(async move {
            let _transit = transit;
            let permit = tokio::select! {
                biased;
                () = invoker.abort.aborted() => Err(cancelled(function)),
                permit = turn => permit.map_err(|_| failed(function, 1, "the run has ended")),
            };
            let mut work = pin!(async {
                let _permit = permit?;
                invoker.work(event).await
            });
            let result = tokio::select! {
                biased;
                result = &mut work => result,
                () = invoker.abort.aborted() => {
                    let _ = done.send(Err(cancelled(function)));
                    invoker.stop(work).await;
                    return;
                }
            };
            // Nobody waits if the handle was dropped: the thread was detached, as in std.
            let _ = done.send(result);
            invoker.tidy_up().await;
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
        if let Service::Own(lambda) = &self.service {
            run::aside(|| run::block_on(lambda.shutdown()));
        }
        if let Some(usage) = &self.usage {
            usage.tell();
        }
    }
}

/// Runs one cloud thread.
struct Invoker {
    run: Arc<Run>,
    service: Service,
    function: &'static FunctionInfo,
    options: Options,
    thread: ThreadId,
    abort: Abort,
    /// Whether it may have left something on the servers.
    left: AtomicBool,
    usage: Option<Arc<Usage>>,
}

/// Why an attempt failed, and whether its process has died with it.
struct Failure {
    error: Error,
    is_dead: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, is_dead: false }
    }
}

impl Invoker {
    /// Makes attempts until one succeeds or there may be no more.
    async fn work(&self, mut event: Event) -> Result<Vec<u8>> {
        self.prepare(&mut event).await?;
        let mut retry = Retry::new(self.options.retries.unwrap_or(0));
        loop {
            event.attempt = retry.attempt();
            let Failure { error, is_dead } = match self.attempt(&event).await {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            self.left.store(true, Ordering::Relaxed);
            if is_dead {
                // Before the next attempt, which may want what this one held.
                self.report_lost().await;
            }
            match retry.after(&error).filter(|_| !self.abort.is_aborted()) {
                Some(pause) => {
                    tracing::info!(function = self.function.name, %error, "a cloud thread is tried again");
                    tokio::select! {
                        () = self.abort.aborted() => return Err(error),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                None => return Err(error),
            }
        }
    }

    /// Puts on the servers what the attempts need there.
    async fn prepare(&self, event: &mut Event) -> Result<()> {
        let large = match &mut event.args {
            Freight::Inline(args) if args.len() > self.service.inline() => Some(std::mem::take(args)),
            _ => None,
        };
        if event.claim || large.is_some() {
            self.left.store(true, Ordering::Relaxed);
            let delivery = Delivery::make(&self.run, self.thread).await?;
            if let Some(args) = large {
                delivery.send_args(&self.run, &args).await?;
                event.args = Freight::Stored(args.len() as u64);
            }
        }
        Ok(())
    }

    async fn attempt(&self, event: &Event) -> Result<Vec<u8>, Failure> {
        let payload = serde_json::to_vec(event).expect("an event is text and numbers, which can be encoded");
        let token = self.token();
        let call = Call {
            function: self.function,
            attempt: event.attempt,
            options: &self.options,
            token: &token,
            abort: &self.abort,
        };
        let is_remote = event.claim;
        let Answer { payload, error, log } = self
            .service
            .invoke(payload.into(), &call)
            .await
            .map_err(|error| Failure { error, is_dead: !is_remote })?;
        if let Some(usage) = &self.usage {
            usage.add(&log);
        }
        if let Some(error) = error {
            return Err(self.failure(error, event));
        }
        match serde_json::from_slice(&payload) {
            Ok(Reply::Result(Freight::Inline(result))) => Ok(result),
            Ok(Reply::Result(Freight::Stored(length))) => {
                self.left.store(true, Ordering::Relaxed);
                Ok(Delivery::of(self.thread).receive_result(&self.run, length).await?)
            }
            Ok(Reply::Error(error)) => Err(error.into()),
            Err(error) => Err(call.failed(&format!("its answer is no answer: {error}")).into()),
        }
    }

    fn failure(&self, error: ErrorDocument, event: &Event) -> Failure {
        let attempt = event.attempt;
        let ErrorDocument { error_type, error_message, output } = error;
        if error_type == PANIC {
            let function = self.function.name.to_owned();
            return Error::FunctionPanicked { function, attempt, message: error_message }.into();
        }
        let mut reason = format!("{error_type}: {error_message}");
        if let Some(millis) = event.timeout
            && error_message.contains(&format!("exit status {TIMED_OUT}"))
        {
            reason.push_str(&format!(": it timed out after {:?}", Duration::from_millis(millis)));
        }
        if !output.is_empty() {
            reason.push_str("; it printed last: ");
            reason.push_str(&output.join(" | "));
        }
        if error_type.starts_with("Runtime.") && error_message.contains("exit status 0") {
            reason.push_str(". A function process has to ask for work: is `main` marked `#[crucial::main]`?");
        }
        // What the service says itself, it says of a process that has ended.
        let is_dead = error_type.starts_with("Runtime.") || error_type.starts_with("Sandbox.");
        Failure { error: failed(self.function, attempt, &reason), is_dead }
    }

    /// Stops what runs, as far as that is possible.
    ///
    /// Invariant: a process is reported lost only by who was told that it has died. One that answers just before it
    /// would have been stopped lives on, and has the next cloud thread.
    async fn stop(&self, work: impl Future<Output = Result<Vec<u8>>> + Unpin) {
        if !self.service.is_remote() {
            self.service.stop(&self.token(), work).await;
        }
        self.left.store(true, Ordering::Relaxed);
        self.tidy_up().await;
    }

    /// The name under which it can be stopped.
    fn token(&self) -> String {
        format!("{:032x}", self.thread.0)
    }

    /// Tells the DSO layer that the process which ran this cloud thread has died, so that what it held is free before
    /// its lease ends.
    async fn report_lost(&self) {
        // The invariant rests on the lease; this only makes it faster.
        if let Err(error) = self.run.dso().call_async(OwnedRequest::lost(self.thread)).await {
            tracing::debug!(%error, "a lost process could not be reported");
        }
    }

    /// Removes what is left on the servers. A delivery that comes later finds nothing to claim.
    async fn tidy_up(&self) {
        if self.left.load(Ordering::Relaxed) {
            Delivery::of(self.thread).discard(&self.run).await;
        }
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
