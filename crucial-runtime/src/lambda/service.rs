//! The service: it owns the instances and decides who works on what.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, oneshot, watch},
    task::{JoinSet, LocalSet, spawn_local},
};

use super::{
    clock,
    error::{InvokeError, MAX_EVENT_REQUEST, MAX_REQUEST},
    function::Function,
    http,
    instance::{Answer, Instance, Kill, Work, encode},
    invocation::{ErrorDocument, FunctionError, Invocation, InvokeOptions},
    invoke_api,
    output::{OutputLine, Sink},
    pool::{InstanceId, Placement, Pool},
    runtime_api, spawn,
};

/// How many asynchronous invocations may wait for an instance.
const QUEUE: usize = 10_000;

/// How long callers may take to read their last answers when the service ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// A function that runs in processes on this machine.
///
/// The service has a thread of its own, which starts the instances and serves both APIs on 127.0.0.1. A clone
/// is a handle to the same service. It ends with [`LocalLambda::shutdown`], or when the last handle is dropped;
/// either kills every instance and waits for it. Dropping the last handle blocks for the few milliseconds that
/// this takes.
#[derive(Debug, Clone)]
pub struct LocalLambda {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: SocketAddr,
    commands: mpsc::UnboundedSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    function: Arc<Function>,
}

#[derive(Debug)]
enum Command {
    Invoke(Box<Work>),
    Stop(String, oneshot::Sender<bool>),
    Shutdown(oneshot::Sender<()>),
}

impl LocalLambda {
    /// Starts the service. Instances are started when they are needed.
    ///
    /// `output` gets every line that instances print, in order for each stream of each instance. It runs on
    /// the service's thread, so it should be quick.
    ///
    /// # Errors
    /// If the function's name isn't allowed, or no port or thread can be had.
    pub async fn start(
        function: Function,
        output: impl Fn(OutputLine) + Send + Sync + 'static,
    ) -> io::Result<LocalLambda> {
        function.check().map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))?;
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let endpoint = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let function = Arc::new(function);
        let (commands, receiver) = mpsc::unbounded_channel();
        let sink = Sink::new(output);
        let thread = thread::Builder::new().name("crucial-lambda".to_owned()).spawn({
            let function = function.clone();
            move || {
                // The service lives and ends on this thread: the signal that ends an instance with its parent
                // follows the thread that started it.
                LocalSet::new().block_on(&runtime, serve(function, sink, listener, receiver));
            }
        })?;
        let thread = Mutex::new(Some(thread));
        Ok(LocalLambda { shared: Arc::new(Shared { endpoint, commands, thread, function }) })
    }

    /// The address of the Invoke API: an AWS SDK takes `http://` and this as its endpoint URL.
    pub fn endpoint(&self) -> SocketAddr {
        self.shared.endpoint
    }

    /// Runs the function and waits for its answer: a synchronous invocation, without HTTP.
    ///
    /// If the returned future is dropped, the function runs on and its answer is lost.
    ///
    /// # Errors
    /// If the function was not run. When it ran and failed, the outcome is an [`Invocation`] with a
    /// [`FunctionError`].
    pub async fn invoke(&self, payload: Bytes, options: InvokeOptions) -> Answer {
        let (work, answer) = prepare(&self.shared.function, payload, options, MAX_REQUEST)?;
        self.shared.commands.send(Command::Invoke(work)).map_err(|_| InvokeError::shut_down())?;
        answer.await.unwrap_or_else(|_| Err(InvokeError::shut_down()))
    }

    /// Kills the instance that works on the invocation with this [token](InvokeOptions::stop_token), which fails.
    /// Returns whether there was one.
    pub async fn stop(&self, token: &str) -> bool {
        let (found, is_found) = oneshot::channel();
        let sent = self.shared.commands.send(Command::Stop(token.to_owned(), found));
        sent.is_ok() && is_found.await.unwrap_or(false)
    }

    /// Kills every instance and waits until they are gone. Invocations under way fail with
    /// [`InvokeError::Service`], as do later ones.
    ///
    /// Instances are killed without a warning, as Lambda does with functions that have no extensions.
    pub async fn shutdown(&self) {
        let (done, is_done) = oneshot::channel();
        if self.shared.commands.send(Command::Shutdown(done)).is_ok() {
            // Without an answer, the service has ended otherwise.
            let _ = is_done.await;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The service ends when nobody can command it any more.
        self.commands = mpsc::unbounded_channel().0;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Checks what a caller gave and makes work of it.
pub(crate) fn prepare(
    function: &Function,
    payload: Bytes,
    options: InvokeOptions,
    limit: usize,
) -> Result<(Box<Work>, oneshot::Receiver<Answer>), InvokeError> {
    if payload.len() > limit {
        return Err(InvokeError::too_large(limit));
    }
    // Lambda takes no payload for an empty object.
    let payload = if payload.is_empty() { Bytes::from_static(b"{}") } else { payload };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        let message = format!("Could not parse request body into json: {error}");
        return Err(InvokeError::InvalidRequestContent { message });
    }
    let client_context = match options.client_context {
        Some(context) => Some(header_json(&context)?),
        None => None,
    };
    let trace_id = options
        .trace_id
        .filter(|id| hyper::header::HeaderValue::from_str(id).is_ok())
        .unwrap_or_else(|| clock::trace_id(SystemTime::now()));
    let (answer, receiver) = oneshot::channel();
    let work = Work {
        request_id: clock::request_id().into(),
        payload,
        timeout: options.timeout.map_or(function.timeout, |timeout| timeout.min(function.timeout)),
        memory: options.memory.map_or(function.memory, |memory| memory.min(function.memory)),
        stop_token: options.stop_token,
        client_context,
        trace_id,
        answer,
    };
    Ok((Box::new(work), receiver))
}

/// JSON that fits into a header: on one line, in ASCII.
fn header_json(text: &str) -> Result<String, InvokeError> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| InvokeError::InvalidRequestContent {
            message: format!("Client context must be a valid JSON object: {error}"),
        })?;
    let mut out = String::new();
    for character in value.to_string().chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(out)
}

/// What the service's thread does.
async fn serve(
    function: Arc<Function>,
    sink: Sink,
    listener: StdListener,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the local Lambda service can't start");
            return;
        }
    };
    let service = Rc::new(Service::new(function, sink));
    let (close, is_closing) = watch::channel(());
    let api = spawn_local(http::serve(listener, is_closing, {
        let service = service.clone();
        move |request| invoke_api::handle(service.clone(), request)
    }));
    let reaper = spawn_local(service.clone().reap());

    let mut done = None;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Invoke(work) => service.submit(work),
            Command::Stop(token, found) => {
                let _ = found.send(service.stop(&token));
            }
            Command::Shutdown(sender) => {
                done = Some(sender);
                break;
            }
        }
    }
    reaper.abort();
    service.shut_down().await;
    commands.close();
    // Callers get the answers that there are now; one that doesn't read them isn't waited for.
    drop(close);
    let _ = tokio::time::timeout(FAREWELL, api).await;
    if let Some(done) = done {
        let _ = done.send(());
    }
}

/// The service's state. It belongs to one thread.
#[derive(Debug)]
pub(crate) struct Service {
    function: Arc<Function>,
    arn: String,
    sink: Sink,
    pool: RefCell<Pool>,
    instances: RefCell<HashMap<InstanceId, Rc<Instance>>>,
    /// The tasks that watch the processes. They end with them.
    supervisors: RefCell<JoinSet<()>>,
    /// Asynchronous invocations that wait for their turn.
    queue: RefCell<VecDeque<Box<Work>>>,
    /// There is an idle instance, after there was none.
    idle: Notify,
    is_closed: Cell<bool>,
}

impl Service {
    fn new(function: Arc<Function>, sink: Sink) -> Service {
        Service {
            arn: function.arn(),
            sink,
            pool: RefCell::new(Pool::new(function.concurrency, function.idle)),
            instances: RefCell::default(),
            supervisors: RefCell::new(JoinSet::new()),
            queue: RefCell::default(),
            idle: Notify::new(),
            is_closed: Cell::new(false),
            function,
        }
    }

    pub(crate) fn function(&self) -> &Arc<Function> {
        &self.function
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    pub(crate) fn print(&self, line: OutputLine) {
        self.sink.deliver(line);
    }

    /// Runs an invocation, or refuses it.
    pub(crate) fn submit(self: &Rc<Self>, work: Box<Work>) {
        if let Err(work) = self.place(work) {
            let error =
                if self.is_closed.get() { InvokeError::shut_down() } else { InvokeError::throttled() };
            let _ = work.answer.send(Err(error));
        }
    }

    /// Runs an asynchronous invocation now or when there is room.
    pub(crate) fn enqueue(self: &Rc<Self>, work: Box<Work>) -> Result<(), InvokeError> {
        if self.is_closed.get() {
            return Err(InvokeError::shut_down());
        }
        if let Err(work) = self.place(work) {
            let mut queue = self.queue.borrow_mut();
            if queue.len() >= QUEUE {
                return Err(InvokeError::throttled());
            }
            queue.push_back(work);
        }
        Ok(())
    }

    /// Finds an instance for an invocation; gives it back if none may be had.
    pub(crate) fn place(self: &Rc<Self>, work: Box<Work>) -> Result<(), Box<Work>> {
        if self.is_closed.get() {
            return Err(work);
        }
        let placement = self.pool.borrow_mut().place();
        match placement {
            Placement::Refused => return Err(work),
            Placement::Cold(id) => self.start(id, work),
            Placement::Warm(id) => {
                let instance = self.instances.borrow().get(&id).cloned();
                match instance {
                    Some(instance) => instance.assign(work),
                    // Not to be: instances leave the pool and this table together.
                    None => {
                        self.pool.borrow_mut().remove(id);
                        return self.place(work);
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts an instance for an invocation.
    fn start(self: &Rc<Self>, id: InstanceId, work: Box<Work>) {
        let started = Instant::now();
        let process = (|| {
            // An address of its own ties every request of the Runtime API to this instance.
            let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let listener = TcpListener::from_std(listener)?;
            let (child, pipes) = spawn::spawn(&self.function, address)?;
            io::Result::Ok((listener, child, pipes))
        })();
        let (listener, child, pipes) = match process {
            Ok(process) => process,
            Err(error) => {
                self.pool.borrow_mut().remove(id);
                self.not_started(*work, started, &error);
                return;
            }
        };
        let pid = child.id().unwrap_or_default();
        tracing::debug!(instance = id, pid, "instance started");
        let instance = Rc::new(Instance::new(id, self.clone(), started, pid, pipes, work));
        self.instances.borrow_mut().insert(id, instance.clone());
        let mut helpers = JoinSet::new();
        // Its connections end with it, without ceremony.
        let (open, is_closing) = watch::channel(());
        helpers.spawn_local(http::serve(listener, is_closing, {
            let instance = instance.clone();
            move |request| runtime_api::handle(instance.clone(), request)
        }));
        for pipe in 0..2 {
            helpers.spawn_local(instance.clone().follow(pipe));
        }
        let mut supervisors = self.supervisors.borrow_mut();
        // Tasks that have ended are dropped here, so they don't pile up.
        while supervisors.try_join_next().is_some() {}
        supervisors.spawn_local(async move {
            instance.supervise(child).await;
            drop((helpers, open));
        });
    }

    /// The program can't be started.
    fn not_started(&self, work: Work, started: Instant, error: &io::Error) {
        let error_type = "Runtime.InvalidEntrypoint";
        let id = &work.request_id;
        let document = ErrorDocument {
            error_type: error_type.to_owned(),
            error_message: format!("RequestId: {id} Error: {}", spawn::describe(&self.function, error)),
            output: Vec::new(),
        };
        let duration = started.elapsed();
        let invocation = Invocation {
            request_id: id.to_string(),
            payload: encode(&document),
            function_error: Some(FunctionError::Unhandled),
            log_tail: format!(
                "START RequestId: {id} Version: $LATEST\n{}\n{error_type}\nEND RequestId: {id}\n",
                document.error_message
            ),
            duration,
            init_duration: None,
            max_memory_mb: 0,
            cold_start: true,
        };
        let _ = work.answer.send(Ok(invocation));
    }

    /// An instance has answered and can take more.
    pub(crate) fn released(self: &Rc<Self>, id: InstanceId) {
        let mut pool = self.pool.borrow_mut();
        let was_empty = pool.next_expiry().is_none();
        pool.release(id, Instant::now());
        drop(pool);
        if was_empty {
            self.idle.notify_one();
        }
        self.take_from_queue();
    }

    /// An instance has ended.
    pub(crate) fn removed(self: &Rc<Self>, id: InstanceId) {
        self.pool.borrow_mut().remove(id);
        self.instances.borrow_mut().remove(&id);
        self.take_from_queue();
    }

    fn take_from_queue(self: &Rc<Self>) {
        let Some(work) = self.queue.borrow_mut().pop_front() else { return };
        if let Err(work) = self.place(work) {
            self.queue.borrow_mut().push_front(work);
        }
    }

    /// Ends instances that have been idle for too long.
    async fn reap(self: Rc<Self>) {
        loop {
            let next = self.pool.borrow().next_expiry();
            match next {
                // Instances that are used meanwhile only expire later, so this isn't too late for any.
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => self.idle.notified().await,
            }
            let expired = self.pool.borrow_mut().expire(Instant::now());
            for id in expired {
                self.kill(id, Kill::Idle);
            }
        }
    }

    fn kill(&self, id: InstanceId, why: Kill) {
        let instance = self.instances.borrow().get(&id).cloned();
        if let Some(instance) = instance {
            instance.kill(why);
        }
    }

    /// Ends the instance that has the invocation with this token.
    pub(crate) fn stop(&self, token: &str) -> bool {
        let instance = self.instances.borrow().values().find(|instance| instance.has(token)).cloned();
        instance.is_some_and(|instance| {
            instance.kill(Kill::Stopped);
            true
        })
    }

    async fn shut_down(&self) {
        self.is_closed.set(true);
        for work in self.queue.take() {
            let _ = work.answer.send(Err(InvokeError::shut_down()));
        }
        let ids: Vec<_> = self.instances.borrow().keys().copied().collect();
        for id in ids {
            self.kill(id, Kill::Shutdown);
        }
        let mut supervisors = self.supervisors.take();
        while supervisors.join_next().await.is_some() {}
    }
}

/// The largest payload of an invocation of this kind.
pub(crate) fn payload_limit(is_event: bool) -> usize {
    if is_event { MAX_EVENT_REQUEST } else { MAX_REQUEST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_context_fits_into_a_header() {
        assert_eq!(header_json("{\n \"ä\": \"\\n\u{1f600}\" }").unwrap(), r#"{"\u00e4":"\n\ud83d\ude00"}"#);
        assert!(matches!(header_json("{"), Err(InvokeError::InvalidRequestContent { .. })));
    }

    #[test]
    fn the_smaller_limit_counts() {
        let function = Function { memory: 100, timeout: Duration::from_secs(5), ..Function::new("f", "f") };
        let work = |timeout, memory| {
            let options = InvokeOptions { timeout, memory, ..InvokeOptions::default() };
            let (work, _) = prepare(&function, Bytes::new(), options, MAX_REQUEST).unwrap();
            (work.timeout.as_secs(), work.memory)
        };
        assert_eq!(work(None, None), (5, 100));
        assert_eq!(work(Some(Duration::from_secs(2)), Some(64)), (2, 64));
        assert_eq!(work(Some(Duration::MAX), Some(u64::MAX)), (5, 100));
    }
}
