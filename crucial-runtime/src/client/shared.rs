//! Async calls: many callers share one connection, driven by a task on the process's async runtime.
//!
//! Callers append their frames to one buffer; the task writes what has gathered with one `write`, and completes every
//! answer that a read brings. So the more callers there are, the fewer system calls each of them costs.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use super::Link;
use crate::{
    dso::{BoxFuture, CallName, Head, OwnedRequest},
    error::{Error, Result},
    id::{self, SessionId},
    run,
    wire::{self, REQUEST_HEADER},
};

/// A connection that many calls share.
pub(super) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    calls: Mutex<Calls>,
    work: Notify,
}

/// The calls in flight. Their numbers are consecutive, so that a deque finds them without a search.
struct Calls {
    /// The number of the first call in `slots`: every answer below it is here.
    base: u64,
    slots: VecDeque<Slot>,
    /// Frames that are to be written.
    output: Vec<u8>,
    /// Why there is no connection any more.
    broken: Option<Error>,
    /// No more calls will come.
    closed: bool,
}

struct Slot {
    state: State,
    /// Kept until the answer is here, to be sent again on another connection.
    frame: Vec<u8>,
    /// Whether it does no harm to send it to a server that may have applied it.
    repeatable: bool,
    /// The caller gave up: its call is taken back if it is parked.
    withdrawn: bool,
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
                output: Vec::new(),
                broken: None,
                closed: false,
            }),
            work: Notify::new(),
        });
        run::io().spawn(drive(inner.clone(), link.clone(), SessionId(id::fresh())));
        Shared { inner }
    }

    /// Makes a call; `news` is sent before it.
    pub(super) fn call(
        &self,
        request: OwnedRequest,
        news: Option<[u8; REQUEST_HEADER]>,
    ) -> BoxFuture<'static, Result<Vec<u8>>> {
        let inner = self.inner.clone();
        if let Some(news) = news {
            inner.calls.lock().unwrap().output.extend_from_slice(&news);
            inner.work.notify_one();
        }
        Box::pin(async move {
            let OwnedRequest { head, mut buffer, timeout, repeatable, type_name, object, method } = request;
            let answer = inner.submit(&head, repeatable, &mut buffer);
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
        self.inner.calls.lock().unwrap().closed = true;
        self.inner.work.notify_one();
    }
}

impl Inner {
    fn submit(self: Arc<Self>, head: &Head, repeatable: bool, buffer: &mut [u8]) -> Answer {
        let mut calls = self.calls.lock().unwrap();
        let seq = calls.base + calls.slots.len() as u64;
        let ack = calls.base;
        let frame = wire::request_frame(head, seq, ack, buffer).to_vec();
        let idle = calls.output.is_empty();
        let state = match &calls.broken {
            None => {
                calls.output.extend_from_slice(&frame);
                State::Waiting(None)
            }
            Some(error) => State::Answered(Err(error.clone())),
        };
        calls.slots.push_back(Slot { state, frame, repeatable, withdrawn: false });
        drop(calls);
        if idle {
            self.work.notify_one();
        }
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
        calls.output.clear();
        let failed: Vec<_> =
            (calls.base..).zip(&calls.slots).filter(|(_, slot)| which(slot)).map(|(seq, _)| seq).collect();
        let wakers: Vec<_> =
            failed.into_iter().filter_map(|seq| calls.answer(seq, Err(error.clone()))).collect();
        calls.forget();
        drop(calls);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn withdraw(&self, head: &Head, seq: u64) {
        let mut calls = self.calls.lock().unwrap();
        if let Some(slot) = calls.slot(seq) {
            slot.withdrawn = true;
            calls.output.extend_from_slice(&wire::withdraw_frame(head, seq));
            drop(calls);
            self.work.notify_one();
        }
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

    fn answer(&mut self, seq: u64, result: Result<Vec<u8>>) -> Option<Waker> {
        let slot = self.slot(seq)?;
        slot.frame = Vec::new();
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

    /// The frames of all unanswered calls, for a new connection.
    fn unanswered(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        for (i, slot) in self.slots.iter().enumerate() {
            if !slot.frame.is_empty() {
                frames.extend_from_slice(&slot.frame);
                if slot.withdrawn {
                    let request = wire::parse_request(&slot.frame[4..]).expect("this end wrote it");
                    frames.extend_from_slice(&wire::withdraw_frame(&request.head, self.base + i as u64));
                }
            }
        }
        self.output.clear();
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
            let _io = run::io().enter();
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

/// Drives the connection until nobody needs it any more, over as many connections as it takes.
async fn drive(calls: Arc<Inner>, link: Arc<Link>, mut session: SessionId) {
    let mut resuming = false;
    while !calls.is_over() {
        let dialled = {
            let link = link.clone();
            tokio::task::spawn_blocking(move || link.dial(session)).await
        };
        let connected = match dialled {
            Ok(Ok((stream, welcome))) if resuming && !welcome.resumed => {
                // As for blocking calls: what was sent may have been applied.
                calls.fail(&Error::OutcomeUnknown { what: String::new() }, false, |slot| !slot.repeatable);
                stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream))
            }
            Ok(Ok((stream, _))) => stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)),
            Ok(Err(error)) => {
                // Out of reach now is not out of reach for ever: the next call tries again. A run that is lost, or
                // a client that is refused, stays so.
                let passing = matches!(error, Error::Unreachable { .. });
                calls.fail(&error, !passing, |_| true);
                if !passing {
                    return;
                }
                // The callers have given up, but their calls may be parked: they go with the old session.
                session = SessionId(id::fresh());
                resuming = false;
                calls.work.notified().await;
                continue;
            }
            Err(error) => Err(io::Error::other(error)),
        };
        match connected {
            Ok(stream) => {
                resuming = true;
                match converse(stream, &calls).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "the shared connection broke; connecting again"),
                }
            }
            Err(error) => tracing::warn!(%error, "the shared connection can't be opened"),
        }
    }
}

/// Writes and reads until the connection breaks (an error) or nobody needs it any more.
async fn converse(mut stream: TcpStream, calls: &Inner) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let again = calls.calls.lock().unwrap().unanswered();
    writer.write_all(&again).await?;
    drop(again);
    let write = async {
        let mut frames = Vec::new();
        loop {
            std::mem::swap(&mut calls.calls.lock().unwrap().output, &mut frames);
            if !frames.is_empty() {
                writer.write_all(&frames).await?;
                frames.clear();
            } else if calls.is_over() {
                return io::Result::Ok(());
            } else {
                calls.work.notified().await;
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
            let used = settle(calls, &input[..filled], &mut wakers).map_err(io::Error::other)?;
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
    tokio::select! {
        result = write => result,
        result = read => result,
    }
}

/// Completes every answer that is whole; returns how many bytes that used.
fn settle(calls: &Inner, bytes: &[u8], wakers: &mut Vec<Waker>) -> Result<usize> {
    let mut used = 0;
    let mut guard = calls.calls.lock().unwrap();
    while let Some(end) = wire::complete(&bytes[used..], u64::MAX)? {
        let answer = wire::parse_answer(&bytes[used + 4..used + end])?;
        let result = answer.result().map(<[u8]>::to_vec);
        wakers.extend(guard.answer(answer.seq, result));
        used += end;
    }
    guard.forget();
    Ok(used)
}
