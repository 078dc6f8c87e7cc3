//! What an invocation needs on the servers: room for what is too large for a payload, and the word on who runs it.
//!
//! AWS Lambda may deliver one request twice, and a request whose answer was lost is sent again, there and over HTTP. So each attempt is
//! *claimed*: the first process that asks runs it, and any other waits for the outcome of the first and answers the same.
//! The client makes the object before it sends a request and removes it when the thread has ended, so a delivery that
//! comes later finds none and ends without effect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::{Freight, INLINE, Reply};
use crate::{
    call, codec,
    config::Config,
    error::{Error, Result},
    holder::{Holder, Lost},
    id::ThreadId,
    object::SharedType,
    reference::{Lifetime, ObjectRef, Origin},
    run::Run,
};
use crucial_macros::shared;

/// The most bytes in one call.
const PART: usize = 1 << 20;

/// A cloud thread's invocations: an ephemeral object of the run.
#[shared]
pub struct Delivery {
    args: Vec<u8>,
    /// The latest attempt that was claimed, from 1; before that, 0.
    attempt: u32,
    state: Claim,
    result: Vec<u8>,
}

/// What became of a claimed attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Claim {
    /// This process runs it.
    Running(Holder),
    /// It has this encoded outcome.
    Settled(Vec<u8>),
    /// The process that ran it is lost.
    Lost,
}

#[shared]
impl Delivery {
    pub fn new() -> Self {
        Delivery { args: Vec::new(), attempt: 0, state: Claim::Lost, result: Vec::new() }
    }

    /// Adds to the arguments.
    pub fn put_args(&mut self, part: &[u8]) {
        self.args.extend_from_slice(part);
    }

    /// A part of the arguments.
    pub fn args(&self, from: u64, length: u64) -> Vec<u8> {
        part(&self.args, from, length)
    }

    /// Whether the caller is the first that wants to run this attempt. An attempt ends those before it.
    pub fn claim(&mut self, attempt: u32, by: Holder) -> bool {
        let first = attempt > self.attempt;
        if first {
            self.attempt = attempt;
            self.state = Claim::Running(by);
            self.result = Vec::new();
        }
        first
    }

    /// Adds to the result of an attempt.
    pub fn put_result(&mut self, attempt: u32, part: &[u8]) {
        if attempt == self.attempt {
            self.result.extend_from_slice(part);
        }
    }

    /// A part of the result of the latest attempt.
    pub fn result(&self, from: u64, length: u64) -> Vec<u8> {
        part(&self.result, from, length)
    }

    /// Tells the outcome of an attempt to those that wait for it. The process that runs it tells it, and once: what others
    /// have been told stays so.
    pub fn settle(&mut self, attempt: u32, by: Holder, outcome: &[u8]) {
        if attempt == self.attempt && matches!(self.state, Claim::Running(holder) if holder == by) {
            self.state = Claim::Settled(outcome.to_vec());
        }
    }

    /// Waits for the outcome of an attempt that another process has claimed. None if there is none, and never will be.
    #[when(attempt != self.attempt || !matches!(self.state, Claim::Running(_)))]
    pub fn outcome(&self, attempt: u32) -> Option<Vec<u8>> {
        match &self.state {
            Claim::Settled(outcome) if attempt == self.attempt => Some(outcome.clone()),
            _ => None,
        }
    }

    #[lost]
    fn give_up(&mut self, lost: &Lost) {
        if matches!(self.state, Claim::Running(holder) if lost.includes(holder)) {
            self.state = Claim::Lost;
        }
    }
}

fn part(bytes: &[u8], from: u64, length: u64) -> Vec<u8> {
    let from = bytes.len().min(from as usize);
    let to = bytes.len().min(from.saturating_add(length as usize));
    bytes[from..to].to_vec()
}

impl Delivery {
    /// That of this thread, if it was made.
    pub(super) fn of(thread: ThreadId) -> Self {
        let key = format!("{:032x}", thread.0);
        Self::from_object(ObjectRef::named(Self::NAME, key.into(), Lifetime::Ephemeral))
    }

    /// That of this thread, which is made if it isn't there.
    pub(super) async fn make(run: &Run, thread: ThreadId) -> Result<Self> {
        let delivery = Self::of(thread);
        call::make_async::<Self>(run, delivery.object_ref(), &origin()).await?;
        Ok(delivery)
    }

    /// Removes it. If that fails, it ends with the run.
    pub(super) async fn discard(self, run: &Run) {
        if let Err(error) = call::remove_async::<Self>(run, self.object_ref()).await {
            tracing::debug!(%error, "what a cloud thread left on the servers could not be removed");
        }
    }

    // For what doesn't block: the client, and a function process that is about to end.

    /// Stores arguments.
    pub(super) async fn send_args(&self, run: &Arc<Run>, args: &[u8]) -> Result<()> {
        for part in args.chunks(size_of_part(run.config())) {
            let call = {
                let _run = run.enter();
                self.remote().put_args(part)
            };
            call.await?;
        }
        Ok(())
    }

    /// The result of the latest attempt, which has this length.
    pub(super) async fn receive_result(&self, run: &Arc<Run>, length: u64) -> Result<Vec<u8>> {
        let mut result = Vec::new();
        while (result.len() as u64) < length {
            let call = {
                let _run = run.enter();
                self.remote().result(result.len() as u64, size_of_part(run.config()) as u64)
            };
            take(&mut result, call.await?)?;
        }
        Ok(result)
    }

    /// Tells what became of an attempt that this process runs, whose own thread can't say it any more.
    pub(super) async fn give_outcome(&self, run: &Arc<Run>, attempt: u32, reply: &Reply) -> Result<()> {
        let outcome = encode(reply)?;
        let call = {
            let _run = run.enter();
            self.remote().settle(attempt, Holder::current()?, &outcome)
        };
        call.await
    }

    // For the function process, in whose run the calling thread is.

    /// The arguments of an event.
    pub(super) fn receive_args(&self, args: Freight, config: &Config) -> Result<Vec<u8>> {
        let length = match args {
            Freight::Inline(args) => return Ok(args),
            Freight::Stored(length) => length,
        };
        let mut args = Vec::new();
        while (args.len() as u64) < length {
            let part = self.remote().args(args.len() as u64, size_of_part(config) as u64).wait()?;
            take(&mut args, part)?;
        }
        Ok(args)
    }

    /// Packs a result: what is too large for an answer is stored.
    pub(super) fn send_result(&self, attempt: u32, result: Vec<u8>, config: &Config) -> Result<Freight> {
        if result.len() <= INLINE {
            return Ok(Freight::Inline(result));
        }
        let delivery = Self::from_object(self.object_ref().clone().made_by(origin()));
        // Whoever runs an attempt that nobody had to claim is its first.
        delivery.remote().claim(attempt, Holder::current()?).wait()?;
        for part in result.chunks(size_of_part(config)) {
            delivery.remote().put_result(attempt, part).wait()?;
        }
        Ok(Freight::Stored(result.len() as u64))
    }

    /// Runs an attempt, unless another process does or did: then waits for what comes of that. None if that process was
    /// lost, or another attempt has begun.
    pub(super) fn once(&self, attempt: u32, run: impl FnOnce() -> Reply) -> Result<Option<Reply>> {
        if self.remote().claim(attempt, Holder::current()?).wait()? {
            let reply = run();
            let outcome = encode(&reply)?;
            if let Err(error) = self.remote().settle(attempt, Holder::current()?, &outcome).wait() {
                // The answer itself is on its way; this is for others, if there are any.
                tracing::warn!(%error, "the outcome of a cloud thread could not be kept");
            }
            return Ok(Some(reply));
        }
        tracing::info!("another process runs this attempt, or did");
        let outcome = self.remote().outcome(attempt).wait()?;
        outcome.map(|outcome| codec::decode("an outcome", &outcome)).transpose()
    }
}

fn encode(reply: &Reply) -> Result<Vec<u8>> {
    let mut outcome = Vec::new();
    codec::encode("an outcome", reply, &mut outcome)?;
    Ok(outcome)
}

/// How it is made.
fn origin() -> Origin {
    let mut args = Vec::new();
    codec::encode("no arguments", &(), &mut args).expect("nothing can be encoded");
    Origin { constructor: 0, args }
}

/// A call has to fit into a frame.
fn size_of_part(config: &Config) -> usize {
    PART.min(usize::try_from(config.limits.frame / 2).unwrap_or(PART)).max(1)
}

fn take(all: &mut Vec<u8>, part: Vec<u8>) -> Result<()> {
    if part.is_empty() {
        return Err(Error::StateLost {
            object: "a large payload".to_owned(),
            reason: "the attempt that stored it was followed by another".to_owned(),
        });
    }
    all.extend_from_slice(&part);
    Ok(())
}
