//! Channels between cloud threads. Follows [`std::sync::mpsc`].
//!
//! A channel is a queue on a server. Its ends can be arguments of cloud functions: an end that is passed on is one more,
//! as if it were cloned, and the receiver is told that no more messages will come when the last sender is gone, be it
//! that it was dropped or that its process died.
//!
//! ```
//! use crucial::{cloud_fn, sync::mpsc::{self, Sender}, thread};
//!
//! #[cloud_fn]
//! fn squares(sender: Sender<u64>, from: u64, to: u64) {
//!     for n in from..to {
//!         sender.send(n * n).unwrap();
//!     }
//! }
//!
//! let (sender, receiver) = mpsc::channel();
//! let (one, other) = (sender.clone(), sender);
//! thread::spawn(move || squares(one, 0, 5));
//! thread::spawn(move || squares(other, 5, 10));
//! let sum: u64 = receiver.iter().sum();
//! assert_eq!(sum, 285);
//! ```
//!
//! A message is sent in one call, and received in one with others that wait already. With [`sync_channel`], a receiver
//! takes one message at a time, so that its bound is the number of messages that nobody has.
//!
//! An end can't be a field of a shared object. If a thread is tried again, its ends are counted anew; in between, the
//! other end may see the channel disconnected.

mod end;
mod raw;

use std::{
    collections::VecDeque,
    fmt,
    marker::PhantomData,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

use self::{
    end::Counted,
    raw::{Batch, Capacity, End, RawChannel, Sent},
};
use super::holdings::me;
use crate::{
    Error,
    typed::{Blob, done},
};

/// How much a receiver of an unbounded channel fetches in one call.
const MANY: Batch = Batch { messages: 256, bytes: 64 << 10 };
const ONE: Batch = Batch { messages: 1, bytes: 0 };

#[track_caller]
fn ends<T>(capacity: Capacity, batch: Batch) -> (Counted, Receiver<T>) {
    let raw = RawChannel::new(capacity, me());
    let sender = Counted::new(raw.clone(), End::Sender, 0);
    let receiver = Receiver {
        end: Counted::new(raw, End::Receiver, 0),
        batch,
        fetched: Mutex::default(),
        types: PhantomData,
    };
    (sender, receiver)
}

/// A channel for as many messages as there is memory on the server. Follows [`std::sync::mpsc::channel`].
#[must_use]
#[track_caller]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (end, receiver) = ends(Capacity::Unbounded, MANY);
    (Sender { end, types: PhantomData }, receiver)
}

/// A channel in which `bound` messages may wait; more senders wait for room. With 0, a sender waits until its message is
/// received. Follows [`std::sync::mpsc::sync_channel`].
#[must_use]
#[track_caller]
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (end, receiver) = ends(Capacity::Bounded(bound as u64), ONE);
    (SyncSender { end, bound, types: PhantomData }, receiver)
}

/// The sending end of a [`channel`]. Follows [`std::sync::mpsc::Sender`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Sender<T> {
    end: Counted,
    types: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
    /// Sends a message, without waiting for room. Follows [`std::sync::mpsc::Sender::send`].
    ///
    /// # Errors
    /// If there is no receiver any more; the error holds the message.
    #[track_caller]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        if self.end.raw.send(Blob::of(&message)) { Ok(()) } else { Err(SendError(message)) }
    }
}

/// The sending end of a [`sync_channel`]. Follows [`std::sync::mpsc::SyncSender`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct SyncSender<T> {
    end: Counted,
    bound: usize,
    types: PhantomData<fn(T)>,
}

impl<T: Serialize> SyncSender<T> {
    /// Waits for room and sends a message; with a bound of 0, waits until it is received. Follows
    /// [`std::sync::mpsc::SyncSender::send`].
    ///
    /// # Errors
    /// If there is no receiver any more; the error holds the message.
    #[track_caller]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let blob = Blob::of(&message);
        let sent = if self.bound == 0 { self.end.raw.hand_over(blob) } else { self.end.raw.send(blob) };
        if sent { Ok(()) } else { Err(SendError(message)) }
    }

    /// Sends a message if there is room for it. Follows [`std::sync::mpsc::SyncSender::try_send`]; with a bound of 0
    /// there never is, since a server doesn't know which receivers are about to ask.
    ///
    /// # Errors
    /// If there is no room, or no receiver any more; the error holds the message.
    #[track_caller]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        match self.end.raw.try_send(Blob::of(&message)) {
            Sent::Delivered => Ok(()),
            Sent::Full => Err(TrySendError::Full(message)),
            Sent::Disconnected => Err(TrySendError::Disconnected(message)),
        }
    }
}

/// The receiving end of a channel. Follows [`std::sync::mpsc::Receiver`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Receiver<T> {
    end: Counted,
    batch: Batch,
    /// Messages that came with an earlier one. They go where the receiver goes.
    #[serde(serialize_with = "take_along")]
    fetched: Mutex<VecDeque<Blob>>,
    types: PhantomData<fn() -> T>,
}

fn lock(fetched: &Mutex<VecDeque<Blob>>) -> MutexGuard<'_, VecDeque<Blob>> {
    // Nothing panics while it is locked.
    fetched.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_along<S: Serializer>(fetched: &Mutex<VecDeque<Blob>>, serializer: S) -> Result<S::Ok, S::Error> {
    let fetched = std::mem::take(&mut *lock(fetched));
    fetched.serialize(serializer)
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Keeps what came with the first message.
    #[track_caller]
    fn first(&self, messages: Vec<Blob>) -> Option<T> {
        let mut messages = messages.into_iter();
        let first = messages.next()?;
        lock(&self.fetched).extend(messages);
        Some(first.to())
    }

    #[track_caller]
    fn fetched(&self) -> Option<T> {
        let message = lock(&self.fetched).pop_front()?;
        Some(message.to())
    }

    /// Waits for a message. Follows [`std::sync::mpsc::Receiver::recv`].
    ///
    /// # Errors
    /// If all messages were received and no sender is left.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        if let Some(message) = self.fetched() {
            return Ok(message);
        }
        self.first(self.end.raw.receive(self.batch)).ok_or(RecvError)
    }

    /// Takes a message if there is one. Follows [`std::sync::mpsc::Receiver::try_recv`].
    ///
    /// # Errors
    /// If there is none now, or will be none any more.
    #[track_caller]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if let Some(message) = self.fetched() {
            return Ok(message);
        }
        let (messages, connected) = self.end.raw.try_receive(self.batch);
        let none = if connected { TryRecvError::Empty } else { TryRecvError::Disconnected };
        self.first(messages).ok_or(none)
    }

    /// Waits for a message, but no longer than that. Follows [`std::sync::mpsc::Receiver::recv_timeout`].
    ///
    /// # Errors
    /// If none came in time, or will come any more.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        if let Some(message) = self.fetched() {
            return Ok(message);
        }
        match self.end.raw.remote().receive(self.batch).timeout(timeout).wait() {
            Err(Error::Timeout { .. }) => Err(RecvTimeoutError::Timeout),
            result => self.first(done(result)).ok_or(RecvTimeoutError::Disconnected),
        }
    }

    /// As [`recv_timeout`](Self::recv_timeout), with a point in time. Follows the method of that name that std has in
    /// its nightly version.
    ///
    /// # Errors
    /// If none came in time, or will come any more.
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// The messages, until no sender is left; it waits for each. Follows [`std::sync::mpsc::Receiver::iter`].
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there; it doesn't wait. Follows [`std::sync::mpsc::Receiver::try_iter`].
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

/// The messages of a [`Receiver`]: see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// The messages of a [`Receiver`] that are there: see [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for TryIter<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// The messages of a [`Receiver`] that it owns.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for IntoIter<T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;
    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: DeserializeOwned> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<T> Clone for Sender<T> {
    #[track_caller]
    fn clone(&self) -> Self {
        Sender { end: self.end.clone(), types: PhantomData }
    }
}

impl<T> Clone for SyncSender<T> {
    #[track_caller]
    fn clone(&self) -> Self {
        SyncSender { end: self.end.clone(), bound: self.bound, types: PhantomData }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
