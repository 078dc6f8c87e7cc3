//! The function role: this process runs cloud threads that it gets from Lambda's Runtime API.

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
    object::check_registry()?;
    let config = Config::load()?;
    let instance = Arc::new(Instance { config, run: Mutex::default() });
    let handler = service_fn(move |event: LambdaEvent<Event>| {
        let instance = instance.clone();
        async move { instance.handle(event.payload).await }
    });
    run::io()
        .block_on(lambda_runtime::run(handler))
        .map_err(|e| Error::Io { what: "serving Lambda's Runtime API".to_owned(), reason: e.to_string() })
}

struct Instance {
    config: Config,
    /// The run of the last invocation, and when that ended: the next one is most likely of the same run.
    run: Mutex<Option<(Arc<Run>, SystemTime)>>,
}

impl Instance {
    async fn handle(self: Arc<Self>, event: Event) -> Result<Reply, Diagnostic> {
        let (done, result) = tokio::sync::oneshot::channel();
        let identity = Arc::new(Identity {
            id: ThreadId(event.thread),
            name: event.name.clone(),
            function: Some(event.runs.as_ref().unwrap_or(&event.function).clone()),
        });
        let timeout = event.timeout.map(Duration::from_millis);
        // A thread of its own, as in std: a blocking call there blocks nothing else.
        let thread = std::thread::Builder::new().name(identity.system_name()).spawn(move || {
            let reply = self.work(event, &identity).unwrap_or_else(Reply::Error);
            if let Some((_, since)) = &mut *self.run.lock().unwrap() {
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
            Some(timeout) => {
                tokio::time::timeout(timeout, result).await.unwrap_or_else(|_| time_out(timeout))
            }
        };
        match reply.expect("the thread catches panics and answers") {
            Reply::Error(Error::FunctionPanicked { message, .. }) => {
                Err(Diagnostic { error_type: PANIC.to_owned(), error_message: message })
            }
            reply => Ok(reply),
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
