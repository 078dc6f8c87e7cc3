use std::collections::VecDeque;

use crucial_runtime::holder::{Holder, Lost};
use serde::{Deserialize, Serialize};

use crate::{Result, shared, sync::holdings::Holdings, typed::Blob};

/// How many messages may wait.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capacity {
    Unbounded,
    /// With 0, a message waits only until it is taken, and its sender with it.
    Bounded(u64),
}

/// The object behind both ends of a channel.
#[shared]
#[doc(hidden)]
#[derive(Debug)]
pub struct RawChannel {
    capacity: Capacity,
    messages: VecDeque<Blob>,
    /// How many messages were taken or withdrawn from the front: the first in `messages` has this number.
    taken: u64,
    senders: Holdings,
    receivers: Holdings,
}

/// What became of a message.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sent {
    Delivered,
    Full,
    Disconnected,
}

/// How many messages a receiver takes at once.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Batch {
    pub messages: usize,
    /// The first message is taken whatever its size.
    pub bytes: usize,
}

/// Which end of the channel.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Sender,
    Receiver,
}

#[shared]
impl RawChannel {
    /// A channel with one sender and one receiver, both with this holder, and both with the token 0.
    pub fn new(capacity: Capacity, holder: Holder) -> Self {
        let mut channel = RawChannel {
            capacity,
            messages: VecDeque::new(),
            taken: 0,
            senders: Holdings::default(),
            receivers: Holdings::default(),
        };
        channel.senders.give(holder, ());
        channel.receivers.give(holder, ());
        channel
    }

    // ---- ends

    fn ends(&mut self, end: End) -> &mut Holdings {
        match end {
            End::Sender => &mut self.senders,
            End::Receiver => &mut self.receivers,
        }
    }

    /// One more.
    pub fn add(&mut self, end: End, holder: Holder) -> u64 {
        self.ends(end).give(holder, ())
    }

    /// One fewer, if that one is there.
    pub fn remove(&mut self, end: End, token: u64) -> Result<()> {
        self.ends(end).take(token);
        self.tidy();
        Ok(())
    }

    /// One that was on its way has arrived. It may arrive again, with a thread that is tried again.
    pub fn adopt(&mut self, end: End, token: u64, holder: Holder) -> u64 {
        let ends = self.ends(end);
        ends.take(token);
        ends.give(holder, ())
    }

    #[lost]
    fn take_back(&mut self, lost: &Lost) {
        self.senders.take_lost(lost);
        self.receivers.take_lost(lost);
        self.tidy();
    }

    /// What nobody can receive any more needs no room.
    fn tidy(&mut self) {
        if self.receivers.is_empty() {
            self.messages = VecDeque::new();
        }
    }

    // ---- messages

    fn is_full(&self) -> bool {
        match self.capacity {
            Capacity::Unbounded => false,
            Capacity::Bounded(bound) => self.messages.len() as u64 >= bound.max(1),
        }
    }

    /// Waits for room. Returns whether the message was accepted.
    #[when(!self.is_full() || self.receivers.is_empty())]
    pub fn send(&mut self, message: Blob) -> bool {
        let connected = !self.receivers.is_empty();
        if connected {
            self.messages.push_back(message);
        }
        connected
    }

    pub fn try_send(&mut self, message: Blob) -> Sent {
        if self.receivers.is_empty() {
            Sent::Disconnected
        } else if self.is_full() || self.capacity == Capacity::Bounded(0) {
            Sent::Full
        } else {
            self.messages.push_back(message);
            Sent::Delivered
        }
    }

    /// Sends, and waits until the message is taken.
    #[then(handed_over)]
    pub fn hand_over(&mut self, message: Blob) -> u64 {
        let number = self.taken + self.messages.len() as u64;
        if !self.receivers.is_empty() {
            self.messages.push_back(message);
        }
        number
    }

    #[when(self.taken > number || self.receivers.is_empty())]
    fn handed_over(&self, number: u64) -> bool {
        self.taken > number
    }

    fn take(&mut self, batch: Batch) -> Vec<Blob> {
        let mut bytes = 0;
        let fits = |message: &&Blob| {
            bytes += message.bytes().len();
            bytes <= batch.bytes
        };
        let count = self.messages.iter().take(batch.messages).take_while(fits).count();
        let count = count.max(1).min(self.messages.len());
        self.taken += count as u64;
        self.messages.drain(..count).collect()
    }

    /// Waits for a message. None means that no more will come.
    #[when(!self.messages.is_empty() || self.senders.is_empty())]
    pub fn receive(&mut self, batch: Batch) -> Vec<Blob> {
        self.take(batch)
    }

    /// The messages that are there, and whether more may come.
    pub fn try_receive(&mut self, batch: Batch) -> (Vec<Blob>, bool) {
        (self.take(batch), !self.senders.is_empty())
    }
}
