//! The function's side: a process that is asked for one cloud thread after the other.

use std::{
    future::Future,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use tokio::{net::TcpListener, sync::watch, task::LocalSet};

use super::{ATTEMPT, FUNCTION, MARK, REQUEST_ID, SEALED};
use crate::{
    backend::{
        event::{Event, Reply},
        instance::Instance,
    },
    config::Config,
    error::{Error, Result},
    id::ThreadId,
    lambda::{self, Body},
    net,
    security::{
        self,
        seal::{Asked, Seal},
    },
};

/// The largest request: arguments that are larger than a few hundred KiB don't travel in it.
const MAX_REQUEST: usize = 8 << 20;
/// How long answers may take to be read when there is nothing else left to do.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a process has stopped serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Asked,
    /// A cloud thread took longer than it may, and can only be stopped with the process.
    TimedOut,
}

/// Listens at `address` (`host:port`; port 0 takes a free one).
///
/// Invariant: a function process that can be reached from other machines has a token.
///
/// # Errors
/// If the address is wrong or in use, can be reached from other machines although there is no token, or there is one and this
/// program was built without TLS.
pub async fn listen(config: &Config, address: &str) -> Result<TcpListener> {
    let own = !Seal::new(config)?.is_keyed();
    // Not the network of a simulation.
    let listener = async { TcpListener::bind(&net::look_up(address, own).await?[..]).await };
    listener.await.map_err(|error| match error.kind() {
        // What the system says, too, of an address that is another machine's.
        std::io::ErrorKind::AddrNotAvailable if own => security::not_own(address),
        _ => Error::io(format!("listening at {address}"), &error),
    })
}

/// Runs cloud threads that come over HTTP, one at a time, until `stop` is ready or one takes too long; then takes no more
/// and finishes what it has.
///
/// # Errors
/// If the program's registry is wrong.
pub async fn serve(config: Config, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<End> {
    let server = Rc::new(Server {
        seal: Seal::new(&config)?,
        instance: Instance::new(config)?,
        state: watch::Sender::new(State { is_busy: false, end: None }),
    });
    let (open, closing) = watch::channel(());
    let handle = {
        let server = server.clone();
        move |request| answer(server.clone(), request)
    };
    let serving = async move {
        let mut state = server.state.subscribe();
        let served = lambda::serve(listener, closing, handle);
        tokio::pin!(served);
        let end = async {
            tokio::select! {
                () = stop => server.stop(End::Asked),
                _ = state.wait_for(|state| state.end.is_some()) => {}
            }
            let state = state.wait_for(|state| !state.is_busy).await.expect("its sender is here");
            state.end.unwrap_or(End::Asked)
        };
        let end = tokio::select! {
            () = &mut served => unreachable!("it serves until it is told to close"),
            end = end => end,
        };
        drop(open);
        // Who doesn't read its answer, or doesn't finish its request, is not waited for.
        let _ = tokio::time::timeout(FAREWELL, served).await;
        end
    };
    Ok(LocalSet::new().run_until(serving).await)
}

struct Server {
    seal: Seal,
    instance: Arc<Instance>,
    state: watch::Sender<State>,
}

struct State {
    /// Whether a cloud thread runs here.
    is_busy: bool,
    /// Why no more are taken.
    end: Option<End>,
}

impl Server {
    fn stop(&self, end: End) {
        self.state.send_modify(|state| {
            state.end.get_or_insert(end);
        });
    }

    fn is_stopping(&self) -> bool {
        self.state.borrow().end.is_some()
    }

    /// Whether one more cloud thread may run here now; if so, it does.
    fn begin(&self) -> bool {
        self.state.send_if_modified(|state| {
            let may = !state.is_busy && state.end.is_none();
            state.is_busy |= may;
            may
        })
    }

    /// Runs an attempt. Whoever asked may be gone; then the outcome is for those who ask again.
    async fn run(&self, event: Event, asked: &Asked) -> lambda::Reply {
        let (thread, number) = (ThreadId(event.thread), event.attempt);
        let function = event.function.clone();
        let reply = match self.instance.handle(event).await {
            Ok(reply) => reply,
            Err(timeout) => {
                let reason = format!("it timed out after {timeout:?}, and its process has ended");
                let reply = Reply::Error(Error::FunctionFailed { function, attempt: number, reason });
                self.instance.settle(thread, number, &reply).await;
                self.stop(End::TimedOut);
                reply
            }
        };
        self.state.send_modify(|state| state.is_busy = false);
        let body = serde_json::to_vec(&reply).expect("an outcome is text and numbers, which can be encoded");
        marked(StatusCode::OK, "outcome", self.seal.answer(asked, body))
    }
}

async fn answer(server: Rc<Server>, request: Request<Incoming>) -> lambda::Reply {
    let (head, body) = request.into_parts();
    if head.method == Method::GET || head.method == Method::HEAD {
        return if server.is_stopping() { stopping() } else { marked(StatusCode::OK, "ready", "ready\n") };
    }
    // It is read even if nothing comes of it: a client that is still writing would miss the answer.
    let body = lambda::read(body, MAX_REQUEST).await;
    if head.method != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "cloud threads are run by POST");
    }
    let body = match body {
        Body::Whole(body) => body,
        Body::TooLarge => {
            let reason = format!("an event has at most {MAX_REQUEST} bytes");
            return refused(StatusCode::PAYLOAD_TOO_LARGE, &reason);
        }
        Body::Broken => return refused(StatusCode::BAD_REQUEST, "the request ended too early"),
    };
    let is_sealed = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == SEALED);
    let opened = if is_sealed == server.seal.is_keyed() { server.seal.open_request(body) } else { None };
    let Some((body, asked)) = opened else {
        let what = match (is_sealed, server.seal.is_keyed()) {
            (true, true) => "the request is not sealed with the cluster token of this process",
            (true, false) => "the request is sealed with a cluster token, and this process has none",
            (false, _) => "the request is not sealed, and this process has a cluster token",
        };
        tracing::warn!("a request is refused: {what}");
        let remedy = "set CRUCIAL_TOKEN_FILE or CRUCIAL_TOKEN to the same token here and there";
        return refused(StatusCode::FORBIDDEN, &format!("{what}: {remedy}"));
    };
    let event: Event = match serde_json::from_slice(&body) {
        Ok(event) => event,
        Err(error) => {
            let reason = format!("the body is no event of this version of crucial: {error}");
            return refused(StatusCode::BAD_REQUEST, &reason);
        }
    };
    if !server.begin() {
        return if server.is_stopping() {
            stopping()
        } else {
            closing(marked(StatusCode::SERVICE_UNAVAILABLE, "busy", "another cloud thread is running here\n"))
        };
    }
    let text = |name| text(&head.headers, name);
    let (id, start) = (text(REQUEST_ID), Instant::now());
    tracing::debug!(id, function = event.function, attempt = event.attempt, "a cloud thread begins");
    // A task of its own: this one ends when the client's connection does.
    let reply = tokio::task::spawn_local(async move { server.run(event, &asked).await }).await;
    let (function, attempt) = (text(FUNCTION), text(ATTEMPT));
    tracing::info!(id, function, attempt, took = ?start.elapsed(), "a cloud thread has ended");
    reply.expect("it doesn't panic, and nobody aborts it")
}

fn marked(status: StatusCode, mark: &'static str, body: impl Into<bytes::Bytes>) -> lambda::Reply {
    let mut reply = lambda::json(status, body);
    if mark != "outcome" {
        set(&mut reply, CONTENT_TYPE, "text/plain; charset=utf-8");
    }
    set(&mut reply, HeaderName::from_static(MARK), mark);
    reply
}

fn refused(status: StatusCode, reason: &str) -> lambda::Reply {
    marked(status, "refused", format!("{reason}\n"))
}

fn stopping() -> lambda::Reply {
    closing(marked(StatusCode::SERVICE_UNAVAILABLE, "stopping", "this process is about to end\n"))
}

/// An answer that ends its connection, so that the next request may find another process.
fn closing(mut reply: lambda::Reply) -> lambda::Reply {
    set(&mut reply, CONNECTION, "close");
    set(&mut reply, RETRY_AFTER, "1");
    reply
}

fn set(reply: &mut lambda::Reply, name: HeaderName, value: &'static str) {
    reply.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).unwrap_or_default()
}
