//! The side of the caller: items go out in chunks, results come in as they are there.

use std::{collections::VecDeque, iter::Fuse, sync::Arc, time::Duration};

use crucial_runtime::{
    backend::{self, Abort, Retry, Work},
    codec,
    error::{Error, Result},
    function::{FunctionInfo, Options},
    run,
    task::{Decode, Task},
    thread::Identity,
    transit::Transit,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Settings,
    worker::{self, Bytes, WORKER},
};
use crate::{executor::Queue, progress::Progress};

/// The most items of a chunk if nothing is set.
const ITEMS: usize = 1000;
/// A chunk is full when its arguments have so many bytes: a function's payload is limited, in Lambda to 6 MB.
const BYTES: usize = 2 << 20;
/// Chunks for each worker that are under way: one to work on, one that waits, so that no worker does.
const AHEAD: usize = 2;

/// One item: its number, and the encoded arguments of its call.
struct Item {
    number: usize,
    args: Vec<u8>,
}

/// Items that go to a worker together.
struct Chunk<R> {
    function: &'static FunctionInfo,
    decode: Decode<R>,
    options: Options,
    retry: Retry,
    items: Vec<Item>,
}

type Answer<R> = (Chunk<R>, Result<Vec<u8>>);

pub(super) struct Pump<I: Iterator, F, R> {
    items: Fuse<I>,
    map: F,
    settings: Settings,
    queue: Arc<Queue>,
    chunk: usize,
    /// The number of the next item.
    next: usize,
    /// An item whose function isn't that of the chunk before it.
    left: Option<(Item, Chunk<R>)>,
    under_way: usize,
    sender: mpsc::UnboundedSender<Answer<R>>,
    receiver: mpsc::UnboundedReceiver<Answer<R>>,
    ready: VecDeque<(usize, Result<R>)>,
}

impl<I, F, R> Pump<I, F, R>
where
    I: Iterator,
    F: FnMut(I::Item) -> Task<R>,
    R: 'static,
{
    pub(super) fn new(items: I, map: F, settings: Settings) -> Self {
        // Refused before anything is started, rather than after.
        run::may_block(&"a parallel iterator").unwrap_or_else(|error| panic!("{error}"));
        let (least, most) = items.size_hint();
        let steps = most.filter(|most| *most == least).and_then(|steps| u64::try_from(steps).ok());
        let progress = settings.progress.as_deref().map(|what| Progress::of(what, steps));
        let queue = Queue::new(settings.concurrency, progress)
            .unwrap_or_else(|error| panic!("failed to start a parallel iterator: {error}"));
        let has_own = settings.init.is_some() || settings.finish.is_some();
        let chunk = settings.chunk.unwrap_or_else(|| chunk_size(least, queue.concurrency(), has_own));
        let (sender, receiver) = mpsc::unbounded_channel();
        Pump {
            items: items.fuse(),
            map,
            settings,
            queue: Arc::new(queue),
            chunk,
            next: 0,
            left: None,
            under_way: 0,
            sender,
            receiver,
            ready: VecDeque::new(),
        }
    }

    /// How many items may be ahead of the one whose result is awaited first.
    pub(super) fn window(&self) -> usize {
        self.chunk.saturating_mul(8 * self.queue.concurrency() + 64)
    }

    /// The next result that is there. Items from number `end` on don't start yet.
    pub(super) fn next(&mut self, end: usize) -> Option<(usize, Result<R>)> {
        loop {
            if let Some(result) = self.ready.pop_front() {
                return Some(result);
            }
            while self.under_way < AHEAD * self.queue.concurrency() && self.next < end {
                let Some(chunk) = self.take() else { break };
                self.start(chunk, Duration::ZERO);
            }
            if self.under_way > 0 && self.ready.is_empty() {
                let answer = run::block_on(self.receiver.recv());
                let (chunk, result) = answer.expect("a sender is here, too");
                self.under_way -= 1;
                self.settle(chunk, result);
            } else if self.ready.is_empty() {
                return None;
            }
        }
    }

    /// Makes a chunk of the next items, if there are any.
    fn take(&mut self) -> Option<Chunk<R>> {
        let mut chunk = None;
        let mut bytes = 0;
        loop {
            let (item, of) = match self.left.take() {
                Some(left) => left,
                None => match self.describe() {
                    Some(described) => described,
                    None => return chunk,
                },
            };
            let chunk = match &mut chunk {
                None => chunk.insert(of),
                Some(chunk) if std::ptr::eq(chunk.function, of.function) && chunk.options == of.options => {
                    chunk
                }
                Some(_) => {
                    self.left = Some((item, of));
                    break;
                }
            };
            bytes += item.args.len();
            chunk.items.push(item);
            if chunk.items.len() >= self.chunk || bytes >= BYTES {
                break;
            }
        }
        chunk
    }

    /// The call for the next item, and an empty chunk that it fits into. Calls that can't be encoded have failed.
    fn describe(&mut self) -> Option<(Item, Chunk<R>)> {
        loop {
            let number = self.next;
            let task = (self.map)(self.items.next()?);
            self.next += 1;
            let (decode, options) = (task.decoder(), task.options());
            let (function, args) = task.into_call();
            match args {
                Ok(args) => {
                    let defaults = self.queue.run().config().task_options();
                    let options = self.settings.options.or(options).or(function.options).or(defaults);
                    let retry = Retry::new(options.retries.unwrap_or(0));
                    let chunk = Chunk { function, decode, options, retry, items: Vec::new() };
                    return Some((Item { number, args }, chunk));
                }
                Err(error) => self.give(number, Err(error)),
            }
        }
    }

    /// Sends a chunk on its way, after a pause.
    fn start(&mut self, mut chunk: Chunk<R>, pause: Duration) {
        let args = chunk.items.iter_mut().map(|item| Bytes(std::mem::take(&mut item.args)));
        let order = worker::Chunk {
            function: chunk.function.name.to_owned(),
            fingerprint: chunk.function.fingerprint,
            attempt: chunk.retry.attempt(),
            init: self.settings.init.clone(),
            finish: self.settings.finish.clone(),
            items: args.collect(),
        };
        let mut args = Vec::new();
        let encoded = codec::encode("a chunk of items", &order, &mut args);
        // They may be needed again: for another attempt, or if the worker leaves some of its items.
        for (item, args) in chunk.items.iter_mut().zip(order.items) {
            item.args = args.0;
        }
        if let Err(error) = encoded {
            return self.fail(chunk, &error);
        }
        let items = u32::try_from(chunk.items.len()).unwrap_or(u32::MAX);
        let (done, outcome) = oneshot::channel();
        let work = Work {
            function: &WORKER,
            args,
            transit: Transit::default(),
            options: Options {
                // Items are tried again on their own, not with the others.
                retries: Some(0),
                timeout: chunk.options.timeout.map(|timeout| timeout.saturating_mul(items)),
                memory: chunk.options.memory,
            },
            thread: Identity::of_task(chunk.function.name, self.settings.name.clone()),
            abort: Abort::default(),
            done,
        };
        self.under_way += 1;
        let (queue, sender) = (self.queue.clone(), self.sender.clone());
        // Chunks start in order; those that are tried again, when it is time.
        let (work, added) = if pause.is_zero() { (None, queue.add(work, 0)) } else { (Some(work), Ok(())) };
        let forward = async move {
            let added = match work {
                None => added,
                Some(work) => {
                    tokio::time::sleep(pause).await;
                    queue.add(work, 0)
                }
            };
            let result = match added {
                Ok(()) => outcome.await.unwrap_or_else(|_| Err(backend::never(WORKER.name))),
                Err(error) => Err(error),
            };
            // Nobody listens if the iterator was dropped.
            let _ = sender.send((chunk, result));
        };
        run::io().spawn(forward);
    }

    /// A worker has ended.
    fn settle(&mut self, mut chunk: Chunk<R>, result: Result<Vec<u8>>) {
        match result.and_then(|bytes| worker::outcome(&bytes, chunk.items.len())) {
            Ok(results) => {
                let decode = chunk.decode;
                let left = chunk.items.split_off(results.len());
                if !left.is_empty() {
                    self.start(Chunk { items: left, ..chunk }, Duration::ZERO);
                }
                for (item, result) in chunk.items.into_iter().zip(results) {
                    match result {
                        Ok(bytes) => self.give(item.number, decode(&bytes.0)),
                        Err(error) => {
                            let chunk = Chunk { items: vec![item], ..chunk };
                            self.fail(chunk, &error);
                        }
                    }
                }
            }
            Err(error) => self.fail(chunk, &error),
        }
    }

    /// An attempt has failed for all items of a chunk.
    fn fail(&mut self, chunk: Chunk<R>, error: &Error) {
        let error = describe(&chunk, error);
        let mut retry = chunk.retry;
        let pause = retry.after(&error);
        for item in chunk.items {
            match pause {
                Some(pause) => self.start(Chunk { retry, items: vec![item], ..chunk }, pause),
                None => self.give(item.number, Err(error.clone())),
            }
        }
    }

    fn give(&mut self, number: usize, result: Result<R>) {
        if let Some(progress) = self.queue.progress() {
            progress.advance(1);
        }
        self.ready.push_back((number, result));
    }
}

impl<I: Iterator, F, R> Drop for Pump<I, F, R> {
    fn drop(&mut self) {
        // Whatever is still under way has no use any more.
        self.queue.close_now();
    }
}

/// The error of a worker in terms of what the caller asked for.
fn describe<R>(chunk: &Chunk<R>, error: &Error) -> Error {
    let function = chunk.function.name.to_owned();
    let (first, last) = (chunk.items.first(), chunk.items.last());
    let items = match (first, last) {
        (Some(first), Some(last)) if first.number != last.number => {
            format!("; its worker had items {} to {}", first.number, last.number)
        }
        _ => String::new(),
    };
    match error {
        Error::FunctionFailed { function: of, reason, .. } if of == WORKER.name => {
            let attempt = chunk.retry.attempt();
            Error::FunctionFailed { function, attempt, reason: format!("{reason}{items}") }
        }
        Error::FunctionCancelled { .. } => Error::FunctionCancelled { function },
        error => error.clone(),
    }
}

/// How many items a worker gets if nothing is set.
fn chunk_size(items: usize, workers: usize, has_own: bool) -> usize {
    if has_own {
        items.div_ceil(workers).max(1)
    } else {
        // Four chunks for each worker, so that one that is done early finds more to do.
        items.div_ceil(workers.saturating_mul(4)).clamp(1, ITEMS)
    }
}
