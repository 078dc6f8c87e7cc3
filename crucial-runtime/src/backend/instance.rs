//! The function role: this process runs cloud threads that it gets from Lambda's Runtime API, or [over HTTP](super::http).

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};

use super::{
    delivery::Delivery,
    event::{Event, PANIC, Reply, TIMED_OUT},
    invocations::Invocations,
};
use crate::{
    config::Config,
    error::{Error, Result},
    function,
    id::{RunId, ThreadId},
    lambda, object,
    run::{self, Run},
    thread::Identity,
};

/// How long a process that is about to end may take to say why.
const SETTLE: Duration = Duration::from_secs(2);

/// Whether this process was started as a function instance.
#[must_use]
pub fn is_instance() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

/// Runs cloud threads until the service that started this process has no more.
///
/// # Errors
/// If the configuration or the program's registry is wrong, or the service is gone.
pub fn serve() -> Result<()> {
    lambda::die_with_parent();
    let instance = Instance::new(Config::load()?)?;
    let handler = service_fn(move |event: LambdaEvent<Event>| {
        let instance = instance.clone();
        async move {
            let reply = instance.handle(event.payload).await.unwrap_or_else(|timeout| time_out(timeout));
            match reply {
                Reply::Error(Error::FunctionPanicked { message, .. }) => {
                    Err(Diagnostic { error_type: PANIC.to_owned(), error_message: message })
                }
                reply => Ok(reply),
            }
        }
    });
    run::io()
        .block_on(lambda_runtime::run(handler))
        .map_err(|e| Error::Io { what: "serving Lambda's Runtime API".to_owned(), reason: e.to_string() })
}

/// A process that runs cloud threads, one after the other.
pub(super) struct Instance {
    config: Config,
    /// The run of the last invocation, and when that ended: the next one is most likely of the same run.
    run: Mutex<Option<(Arc<Run>, SystemTime)>>,
}

impl Instance {
    /// An instance of this program.
    pub(super) fn new(config: Config) -> Result<Arc<Self>> {
        object::check_registry()?;
        Ok(Arc::new(Instance { config, run: Mutex::default() }))
    }

    /// Runs a cloud thread's attempt. If it takes longer than the event allows, that time is the error, and the thread, which
    /// can't be stopped, runs on.
    pub(super) async fn handle(self: &Arc<Self>, event: Event) -> Result<Reply, Duration> {
        let (done, result) = tokio::sync::oneshot::channel();
        let identity = Arc::new(Identity {
            id: ThreadId(event.thread),
            name: event.name.clone(),
            function: Some(event.runs.as_ref().unwrap_or(&event.function).clone()),
        });
        let (instance, timeout) = (self.clone(), event.timeout.map(Duration::from_millis));
        // A thread of its own, as in std: a blocking call there blocks nothing else.
        let thread = std::thread::Builder::new().name(identity.system_name()).spawn(move || {
            let reply = instance.work(event, &identity).unwrap_or_else(Reply::Error);
            if let Some((_, since)) = &mut *instance.run.lock().unwrap() {
                *since = SystemTime::now();
            }
            // What the function printed comes before its result.
            let _ = std::io::stdout().flush();
            let _ = done.send(reply);
        });
        if let Err(error) = thread {
            return Ok(Reply::Error(Error::io("starting a thread", &error)));
        }
        let reply = match timeout {
            None => result.await,
            Some(timeout) => tokio::time::timeout(timeout, result).await.map_err(|_| timeout)?,
        };
        Ok(reply.expect("the thread catches panics and answers"))
    }

    /// Tells others that get the same attempt what became of it, if this process runs it and its thread can't say so.
    pub(super) async fn settle(&self, thread: ThreadId, attempt: u32, reply: &Reply) {
        // If the thread is still on the way to the servers, it has claimed nothing.
        let run = self.run.try_lock().ok().and_then(|run| run.as_ref().map(|(run, _)| run.clone()));
        let Some(run) = run else { return };
        let delivery = Delivery::of(thread);
        let settled = delivery.give_outcome(&run, attempt, reply);
        if !matches!(tokio::time::timeout(SETTLE, settled).await, Ok(Ok(()))) {
            tracing::warn!("the outcome of a cloud thread could not be kept");
        }
    }

    fn work(&self, event: Event, identity: &Arc<Identity>) -> Result<Reply> {
        let fingerprint = u64::try_from(event.fingerprint).unwrap_or_default();
        let function = function::lookup(&event.function, fingerprint)?;
        let run = self.join(&event)?;
        let _entered = run.enter();
        let (thread, attempt) = (ThreadId(event.thread), event.attempt);
        let delivery = Delivery::of(thread);
        let claim = event.claim;
        let work = || {
            run.dso().attend(thread);
            let result = delivery.receive_args(event.args, &self.config).and_then(|args| {
                let _thread = identity.enter();
                function.run(args, attempt)
            });
            let freight = result.and_then(|result| delivery.send_result(attempt, result, &self.config));
            freight.map_or_else(Reply::Error, Reply::Result)
        };
        if !claim {
            return Ok(work());
        }
        let failed =
            |reason: String| Error::FunctionFailed { function: event.function.clone(), attempt, reason };
        let reply = delivery.once(attempt, work).map_err(|error| {
            failed(format!("this process could not claim it, and has not run it: {error}"))
        })?;
        reply.ok_or_else(|| {
            failed("the process that ran it is lost, and this one got the request a second time".to_owned())
        })
    }

    fn join(&self, event: &Event) -> Result<Arc<Run>> {
        let mut last = self.run.lock().unwrap();
        // A process that was frozen since may have lost its sessions, which it would notice only when it calls.
        let is_fresh = |since: &SystemTime| since.elapsed().is_ok_and(|pause| pause < self.config.lease / 2);
        if let Some((run, since)) = &*last
            && run.id() == RunId(event.run)
            && is_fresh(since)
        {
            return Ok(run.clone());
        }
        let run = Run::join(self.config.clone(), RunId(event.run), &event.servers, event.since)?
            .with_backend(Arc::new(Invocations::elsewhere(&event.invoke, &self.config)?));
        *last = Some((run.clone(), SystemTime::now()));
        Ok(run)
    }
}

/// Ends this process, since a thread can't be stopped. The service says so to the one who waits.
fn time_out(timeout: Duration) -> ! {
    let _ = std::io::stdout().flush();
    let _ = writeln!(std::io::stderr(), "Task timed out after {:.2} seconds", timeout.as_secs_f64());
    std::process::exit(TIMED_OUT);
}
