//! The function role: this process runs cloud threads that it gets from Lambda's Runtime API.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};

use super::{
    event::{Event, PANIC, Reply},
    processes::Processes,
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
    /// The run of the last invocation: the next one is most likely of the same run.
    run: Mutex<Option<Arc<Run>>>,
}

impl Instance {
    async fn handle(self: Arc<Self>, event: Event) -> Result<Reply, Diagnostic> {
        let (done, result) = tokio::sync::oneshot::channel();
        let identity = Arc::new(Identity {
            id: ThreadId(event.thread),
            name: event.name.clone(),
            function: Some(event.runs.as_ref().unwrap_or(&event.function).clone()),
        });
        // A thread of its own, as in std: a blocking call there blocks nothing else.
        let thread = std::thread::Builder::new().name(identity.system_name()).spawn(move || {
            let result = self.work(event, &identity);
            // What the function printed comes before its result.
            let _ = std::io::stdout().flush();
            let _ = done.send(result);
        });
        if let Err(error) = thread {
            return Ok(Reply::Error(Error::io("starting a thread", &error)));
        }
        match result.await.expect("the thread catches panics and answers") {
            Ok(result) => Ok(Reply::Result(result)),
            Err(Error::FunctionPanicked { message, .. }) => {
                Err(Diagnostic { error_type: PANIC.to_owned(), error_message: message })
            }
            Err(error) => Ok(Reply::Error(error)),
        }
    }

    fn work(&self, event: Event, identity: &Arc<Identity>) -> Result<Vec<u8>> {
        let fingerprint = u64::try_from(event.fingerprint).unwrap_or_default();
        let function = function::lookup(&event.function, fingerprint)?;
        let run = self.join(&event)?;
        run.dso().attend(ThreadId(event.thread));
        let _entered = run.enter();
        let _thread = identity.enter();
        function.run(event.args, event.attempt)
    }

    fn join(&self, event: &Event) -> Result<Arc<Run>> {
        let mut last = self.run.lock().unwrap();
        if let Some(run) = &*last
            && run.id() == RunId(event.run)
        {
            return Ok(run.clone());
        }
        let run = Run::join(self.config.clone(), RunId(event.run), &event.servers, event.since)?
            .with_backend(Arc::new(Processes::elsewhere(event.invoke.clone(), &self.config)));
        *last = Some(run.clone());
        Ok(run)
    }
}
