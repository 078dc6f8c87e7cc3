//! Async calls: many callers share one connection to each node, driven by tasks on the process's async runtime.
//!
//! Callers append their frames to one buffer; the task writes what has gathered with one `write`, and completes every
//! answer that a read brings. So the more callers there are, the fewer system calls each of them costs.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
};

use super::{
    Link,
    patience::Patience,
    routes::{ALONE, NodeId},
};
use crate::{
    dso::{BoxFuture, CallName, Head, OwnedRequest},
    error::{Error, Result},
    id::{self, SessionId},
    net::Stream,
    run,
    wire::{self, Elsewhere},
};

/// A session that many calls share, with a connection to each node that they go to.
pub(super) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    link: Arc<Link>,
    session: Mutex<SessionId>,
    calls: Mutex<Calls>,
}

/// What is to be written to a node.
struct Way {
    node: NodeId,
    output: Vec<u8>,
    work: Arc<Notify>,
}

/// The calls in flight. Their numbers are consecutive, so that a deque finds them without a search.
struct Calls {
    /// The number of the first call in `slots`: every answer below it is here.
    base: u64,
    slots: VecDeque<Slot>,
    ways: Vec<Way>,
    /// Why there is no connection any more.
    broken: Option<Error>,
    /// No more calls will come.
    closed: bool,
}

struct Slot {
    state: State,
    head: Head,
    /// Where it was sent.
    node: NodeId,
    /// What is left of the time to find the node that answers it.
    patience: Patience,
    /// The request's buffer, kept until the answer is here, to be sent again on another connection.
    request: Vec<u8>,
    /// Whether it does no harm to send it to a server that may have applied it.
    repeatable: bool,
    /// Whether it may have been applied, although there is no answer.
    in_doubt: bool,
    /// The caller gave up: its call is taken back if it is parked.
    withdrawn: bool,
    /// It is about to be sent again.
    ///
    /// Invariant: that is so at most once at a time, and where it was just sent again, after a pause. Two nodes may each name
    /// the other for a while; every answer then is a change of the routes, and if each change sent all calls again, each of
    /// which is answered, they would soon be busy with nothing else.
    again: bool,
    /// When it was sent again.
    repeated: Option<Instant>,
}

impl Slot {
    fn waits_at(&self, node: NodeId) -> bool {
        self.node == node && !self.is_answered()
    }

    fn is_answered(&self) -> bool {
        self.request.is_empty()
    }

    /// A node has not answered it, but may have had it for long.
    fn was_taken(&mut self) {
        if let Some(sent) = self.repeated {
            self.patience.was_taken(sent);
        }
    }

    fn frame(&self) -> &[u8] {
        wire::frame_in(&self.request)
    }

    /// What a failure means for this call.
    fn fails(&self, error: Error) -> Error {
        if self.in_doubt && !self.repeatable { error.in_doubt(String::new()) } else { error }
    }
}

enum State {
    Waiting(Option<Waker>),
    /// The caller is gone before the answer came.
    Abandoned,
    Answered(Result<Vec<u8>>),
    /// Nothing is to come, and nobody waits.
    Over,
}

impl Shared {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        let inner = Arc::new(Inner {
            calls: Mutex::new(Calls {
                base: 1,
                slots: VecDeque::new(),
                ways: Vec::new(),
                broken: None,
                closed: false,
            }),
            link: link.clone(),
            session: Mutex::new(SessionId(id::fresh())),
        });
        Shared { inner }
    }

    /// Makes a call.
    pub(super) fn call(&self, request: OwnedRequest) -> BoxFuture<'static, Result<Vec<u8>>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let OwnedRequest { head, buffer, timeout, repeatable, type_name, object, method } = request;
            let answer = inner.submit(&head, repeatable, buffer);
            let result = match timeout {
                None => answer.await,
                Some(timeout) => answer.within(&head, timeout).await,
            };
            result.map_err(|error| match error {
                Error::Withdrawn => Error::Timeout {
                    what: CallName { type_name, object: &object, method }.to_string(),
                    after: timeout.unwrap_or_default(),
                },
                error => error,
            })
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut calls = self.inner.calls.lock().unwrap();
        calls.closed = true;
        calls.ways.iter().for_each(|way| way.work.notify_one());
    }
}

impl Inner {
    fn submit(self: Arc<Self>, head: &Head, repeatable: bool, mut request: Vec<u8>) -> Answer {
        let mut calls = self.calls.lock().unwrap();
        let seq = calls.base + calls.slots.len() as u64;
        let ack = calls.base;
        let frame = wire::request_frame(head, seq, ack, &mut request);
        let node = self.link.routes.node(head);
        let state = match &calls.broken {
            None => {
                self.write(&mut calls, node, frame);
                State::Waiting(None)
            }
            Some(error) => State::Answered(Err(error.clone())),
        };
        let patience = Patience::new(self.link.config.connect_timeout);
        calls.slots.push_back(Slot {
            state,
            head: *head,
            node,
            patience,
            request,
            repeatable,
            in_doubt: false,
            withdrawn: false,
            again: false,
            repeated: None,
        });
        drop(calls);
        Answer { inner: self, seq, head: *head, taken: false }
    }

    fn is_over(&self) -> bool {
        let calls = self.calls.lock().unwrap();
        calls.closed && calls.slots.is_empty()
    }

    /// Fails the waiting calls for which `which` holds; with `for_good`, every later one too.
    fn fail(&self, error: &Error, for_good: bool, which: impl Fn(&Slot) -> bool) {
        let mut calls = self.calls.lock().unwrap();
        if for_good {
            calls.broken = Some(error.clone());
        }
        let failed: Vec<_> = (calls.base..)
            .zip(&calls.slots)
            .filter(|(_, slot)| which(slot))
            .map(|(seq, slot)| (seq, slot.fails(error.clone())))
            .collect();
        let wakers: Vec<_> =
            failed.into_iter().filter_map(|(seq, error)| calls.answer(seq, Err(error))).collect();
        calls.forget();
        drop(calls);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn withdraw(self: &Arc<Self>, head: &Head, seq: u64) {
        let mut calls = self.calls.lock().unwrap();
        if let Some(slot) = calls.slot(seq) {
            slot.withdrawn = true;
            let node = slot.node;
            self.write(&mut calls, node, &wire::withdraw_frame(head, seq));
        }
    }

    /// Adds frames to what is written to a node; the first ones bring up the connection.
    fn write(self: &Arc<Self>, calls: &mut Calls, node: NodeId, frames: &[u8]) {
        let at = calls.ways.iter().position(|way| way.node == node).unwrap_or_else(|| {
            calls.ways.push(Way { node, output: Vec::new(), work: Arc::default() });
            run::own().spawn(drive(self.clone(), node));
            calls.ways.len() - 1
        });
        let way = &mut calls.ways[at];
        if way.output.is_empty() {
            way.work.notify_one();
        }
        way.output.extend_from_slice(frames);
    }

    /// Sends a call again that has no answer yet, to the node where its object is by now.
    fn send_again(self: &Arc<Self>, seq: u64) {
        let mut calls = self.calls.lock().unwrap();
        let Some(slot) = calls.slot(seq) else { return };
        slot.again = false;
        if slot.is_answered() {
            return;
        }
        slot.repeated = Some(Instant::now());
        let node = self.link.routes.node(&slot.head);
        slot.node = node;
        let mut frames = slot.frame().to_vec();
        if slot.withdrawn {
            frames.extend_from_slice(&wire::withdraw_frame(&slot.head, seq));
        }
        self.write(&mut calls, node, &frames);
    }

    /// The node `from` did not serve a call. Fails the call if it was tried for long enough.
    fn elsewhere(
        self: &Arc<Self>,
        calls: &mut Calls,
        seq: u64,
        from: NodeId,
        elsewhere: &Elsewhere,
    ) -> Option<Waker> {
        let slot = calls.slot(seq).filter(|slot| slot.waits_at(from))?;
        slot.in_doubt |= elsewhere.begun;
        if elsewhere.begun {
            slot.was_taken();
        }
        let routes = &self.link.routes;
        routes.elsewhere(&slot.head, from, elsewhere);
        let at_once = slot.patience.is_fresh() && routes.node(&slot.head) != from;
        let Some(pause) = slot.patience.pause() else {
            let after = self.link.config.connect_timeout;
            let tried = "the nodes of the cluster: none of them serves the object".to_owned();
            let error = slot.fails(Error::Unreachable { tried, after });
            return calls.answer(seq, Err(error));
        };
        if !std::mem::replace(&mut slot.again, true) {
            self.send_later(seq, if at_once { Duration::ZERO } else { pause });
        }
        None
    }

    fn send_later(self: &Arc<Self>, seq: u64, pause: Duration) {
        let inner = self.clone();
        run::own().spawn(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            inner.send_again(seq);
        });
    }

    /// Sends the calls that wait at `node` to other nodes, if their objects are there by now. With `lost` the node can't
    /// be reached, and calls that were tried for long enough fail.
    fn move_on(self: &Arc<Self>, node: NodeId, lost: Option<&Error>) {
        let routes = &self.link.routes;
        let mut calls = self.calls.lock().unwrap();
        let base = calls.base;
        let (mut moved, mut failed) = (Vec::new(), Vec::new());
        for (seq, slot) in (base..).zip(&mut calls.slots) {
            if !slot.waits_at(node) {
                continue;
            }
            if let Some(error) = lost {
                routes.unreachable(node);
                if routes.node(&slot.head) == node {
                    routes.another(&slot.head, node);
                }
                if slot.patience.pause().is_none() {
                    failed.push((seq, slot.fails(error.clone())));
                    continue;
                }
            }
            if routes.node(&slot.head) != node {
                // If there is a connection, it was sent.
                slot.in_doubt |= lost.is_none();
                if !std::mem::replace(&mut slot.again, true) {
                    let since = slot.repeated.map_or(PAUSE, |at| at.elapsed());
                    moved.push((seq, PAUSE.saturating_sub(since)));
                }
            }
        }
        let mut wakers = Vec::new();
        for (seq, error) in failed {
            wakers.extend(calls.answer(seq, Err(error)));
        }
        calls.forget();
        drop(calls);
        for (seq, pause) in moved {
            if pause.is_zero() {
                self.send_again(seq);
            } else {
                self.send_later(seq, pause);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn has_calls(&self, node: NodeId) -> bool {
        self.calls.lock().unwrap().slots.iter().any(|slot| slot.waits_at(node))
    }

    fn work(&self, node: NodeId) -> Arc<Notify> {
        let calls = self.calls.lock().unwrap();
        calls.ways.iter().find(|way| way.node == node).map(|way| way.work.clone()).unwrap_or_default()
    }
}

impl Calls {
    fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        seq.checked_sub(self.base).and_then(|i| self.slots.get_mut(i as usize))
    }

    /// Forgets the calls at the front whose callers have their answers.
    fn forget(&mut self) {
        while matches!(self.slots.front(), Some(Slot { state: State::Over, .. })) {
            self.slots.pop_front();
            self.base += 1;
        }
    }

    fn output(&mut self, node: NodeId) -> &mut Vec<u8> {
        &mut self.ways.iter_mut().find(|way| way.node == node).expect("a connection has a way").output
    }

    fn answer(&mut self, seq: u64, result: Result<Vec<u8>>) -> Option<Waker> {
        let slot = self.slot(seq)?;
        slot.request = Vec::new();
        match &mut slot.state {
            State::Waiting(waker) => {
                let waker = waker.take();
                slot.state = State::Answered(result);
                waker
            }
            State::Abandoned => {
                slot.state = State::Over;
                None
            }
            // The second answer to a call that was sent twice: the first one counts.
            State::Answered(_) | State::Over => None,
        }
    }

    /// The frames of all unanswered calls of a node, for a new connection.
    fn unanswered(&mut self, node: NodeId) -> Vec<u8> {
        let mut frames = Vec::new();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if slot.waits_at(node) {
                slot.repeated = Some(Instant::now());
                frames.extend_from_slice(slot.frame());
                if slot.withdrawn {
                    frames.extend_from_slice(&wire::withdraw_frame(&slot.head, self.base + i as u64));
                }
            }
        }
        self.output(node).clear();
        frames
    }
}

/// A caller's wait for its answer. Dropping it takes the call back, if it is parked.
struct Answer {
    inner: Arc<Inner>,
    seq: u64,
    head: Head,
    taken: bool,
}

impl Answer {
    /// Waits this long, then asks for the call back. What the server says then is the answer: a call that ran
    /// already gives its result.
    async fn within(mut self, head: &Head, timeout: Duration) -> Result<Vec<u8>> {
        let sleep = {
            // The caller's executor may have no timer.
            let own = run::own();
            let _own = own.enter();
            tokio::time::sleep(timeout)
        };
        tokio::select! {
            biased;
            result = &mut self => return result,
            () = sleep => self.inner.withdraw(head, self.seq),
        }
        self.await
    }
}

impl Future for Answer {
    type Output = Result<Vec<u8>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.inner.clone();
        let mut calls = inner.calls.lock().unwrap();
        let slot = calls.slot(self.seq).expect("a call is forgotten only when it is over");
        match std::mem::replace(&mut slot.state, State::Over) {
            State::Answered(result) => {
                calls.forget();
                self.taken = true;
                Poll::Ready(result)
            }
            State::Waiting(_) => {
                slot.state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::Abandoned | State::Over => panic!("a call was polled after it had ended"),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut calls = self.inner.calls.lock().unwrap();
        let Some(slot) = calls.slot(self.seq) else { return };
        if matches!(slot.state, State::Answered(_)) {
            slot.state = State::Over;
            calls.forget();
        } else {
            slot.state = State::Abandoned;
            drop(calls);
            self.inner.withdraw(&self.head, self.seq);
        }
    }
}

/// Room for the answers that one read may bring.
const INPUT: usize = 64 << 10;

/// Drives the connection to a node until nobody needs it any more, over as many connections as it takes.
async fn drive(calls: Arc<Inner>, node: NodeId) {
    let mut resuming = None;
    let work = calls.work(node);
    while !calls.is_over() {
        let session = *calls.session.lock().unwrap();
        let dialled = match node {
            ALONE => calls.link.reach(session).await,
            node => calls.link.reach_node(node, session).await,
        };
        let stream = match dialled {
            Ok((stream, welcome)) => {
                let before = resuming.replace(welcome.node);
                if !welcome.resumed && before == Some(welcome.node) {
                    // As for blocking calls: what was sent may have been applied.
                    let clustered = welcome.cluster.is_some();
                    let in_doubt =
                        |slot: &Slot| !(slot.repeatable || clustered && slot.head.object.is_persistent());
                    let error = Error::session_is_over(String::new());
                    calls.fail(&error, false, |slot| slot.node == node && in_doubt(slot));
                }
                stream
            }
            Err(error @ Error::Unreachable { .. }) if node != ALONE => {
                // What is kept for the next connection is with the calls; whoever adds more wakes this task.
                calls.calls.lock().unwrap().output(node).clear();
                calls.move_on(node, Some(&error));
                // Also when the calls have gone to another node: while none can be reached, they come back at once.
                tokio::time::sleep(PAUSE).await;
                if !calls.has_calls(node) {
                    work.notified().await;
                }
                continue;
            }
            Err(error) => {
                // Out of reach now is not out of reach for ever: the next call tries again. A run that is lost, or
                // a client that is refused, stays so.
                let passing = matches!(error, Error::Unreachable { .. });
                // Invariant: whoever adds to an empty output wakes this task. So it is emptied before callers hear of the
                // failure, and may call again.
                calls.calls.lock().unwrap().output(node).clear();
                calls.fail(&error, !passing, |_| true);
                if !passing {
                    return;
                }
                // The callers have given up, but their calls may be parked: they go with the old session.
                *calls.session.lock().unwrap() = SessionId(id::fresh());
                resuming = None;
                work.notified().await;
                continue;
            }
        };
        let ended = match stream {
            Stream::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                converse(reader, writer, &calls, node, &work).await
            }
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                converse(reader, writer, &calls, node, &work).await
            }
        };
        match ended {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(%error, "the shared connection broke; connecting again");
                let mut calls = calls.calls.lock().unwrap();
                calls.slots.iter_mut().filter(|slot| slot.waits_at(node)).for_each(|slot| {
                    slot.in_doubt = true;
                    slot.was_taken();
                });
            }
        }
    }
}

/// The pause between attempts to reach a node of a cluster, and between two moves of a call as routes change.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes and reads until the connection breaks (an error) or nobody needs it any more.
async fn converse(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    calls: &Arc<Inner>,
    node: NodeId,
    work: &Notify,
) -> io::Result<()> {
    let again = calls.calls.lock().unwrap().unanswered(node);
    let mut told = 0;
    let mut news = || {
        let version = calls.link.news.load(Ordering::Relaxed);
        let changed = std::mem::replace(&mut told, version) != version;
        changed.then(|| calls.link.news()).flatten()
    };
    // Invariant: answers are read while calls are written, those of the last connection, too. A server that has answers to
    // write reads nothing until they are taken.
    let write = async {
        if let Some(news) = news() {
            writer.write_all(&news).await?;
            writer.flush().await?;
        }
        let mut frames = again;
        loop {
            if !frames.is_empty() {
                if let Some(news) = news() {
                    writer.write_all(&news).await?;
                }
                writer.write_all(&frames).await?;
                writer.flush().await?;
                frames.clear();
            }
            std::mem::swap(calls.calls.lock().unwrap().output(node), &mut frames);
            if frames.is_empty() {
                if calls.is_over() {
                    return io::Result::Ok(());
                }
                work.notified().await;
            }
        }
    };
    let read = async {
        let mut input = vec![0; INPUT];
        let mut filled = 0;
        let mut wakers = Vec::new();
        loop {
            let read = reader.read(&mut input[filled..]).await?;
            if read == 0 {
                return io::Result::<()>::Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let used = settle(calls, node, &input[..filled], &mut wakers).map_err(io::Error::other)?;
            wakers.drain(..).for_each(Waker::wake);
            input.copy_within(used..filled, 0);
            filled -= used;
            if let Some(length) = input[..filled].first_chunk::<4>() {
                let needed = 4 + u32::from_le_bytes(*length) as usize;
                if needed > input.len() {
                    input.resize(needed, 0);
                }
            }
        }
    };
    let follow = async {
        let mut changes = calls.link.routes.changes();
        while changes.changed().await.is_ok() {
            calls.move_on(node, None);
        }
    };
    tokio::select! {
        result = write => result,
        result = read => result,
        () = follow => Ok(()),
    }
}

/// Completes every answer that is whole; returns how many bytes that used.
fn settle(calls: &Arc<Inner>, node: NodeId, bytes: &[u8], wakers: &mut Vec<Waker>) -> Result<usize> {
    let mut used = 0;
    let mut guard = calls.calls.lock().unwrap();
    while let Some(end) = wire::complete(&bytes[used..], u64::MAX)? {
        let answer = wire::parse_answer(&bytes[used + 4..used + end])?;
        if let Some(elsewhere) = answer.elsewhere()? {
            wakers.extend(calls.elsewhere(&mut guard, answer.seq, node, &elsewhere));
        } else {
            let result = answer.result().map(<[u8]>::to_vec);
            wakers.extend(guard.answer(answer.seq, result));
        }
        used += end;
    }
    guard.forget();
    Ok(used)
}
