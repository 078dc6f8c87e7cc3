//! What a partition's leader puts into one log entry: the calls that have come since the last one.
//!
//! | part | bytes | |
//! |---|---|---|
//! | time | 8 | microseconds since the Unix epoch, little-endian as all numbers |
//! | seed | 8 | of the random numbers |
//! | parked | 8 | how many calls may be parked at an object |
//! | frame | 8 | the longest answer, in bytes |
//! | items | the rest | |
//!
//! An item starts with a byte for its kind. A call (0) has the session (16), the process (16), the length of the frame (4)
//! and the frame as it came from the client; the end of a session (1) has the session (16); lost processes (2) have a
//! length (4) and the encoded arguments of a `#[lost]` method; a step of the check whether replicas are equal (3) has a
//! length (4) and the encoded [`Step`](super::divergence::Step).

use crucial_runtime::{
    codec,
    config::Limits,
    context::Context,
    error::{Error, Result},
    id::{MemberId, SessionId},
};

const CALL: u8 = 0;
const EXPIRE: u8 = 1;
const LOST: u8 = 2;
const CHECK: u8 = 3;
const HEADER: usize = 32;
/// What can't be read if a command is wrong.
const WHAT: &str = "a log entry";

/// What the leader decides for the calls of a command, so that every replica does the same with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The time of the call, and its random numbers.
    pub context: Context,
    /// How many calls may be parked at an object.
    pub parked: u64,
    /// The longest frame of an answer.
    pub frame: u64,
}

/// One thing to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A call of an object.
    Call {
        /// The caller's session.
        session: SessionId,
        /// The caller's process.
        member: MemberId,
        /// The request's frame without its length field.
        body: &'a [u8],
    },
    /// A session is over.
    Expire {
        /// Which.
        session: SessionId,
    },
    /// Processes are lost.
    Lost {
        /// The encoded arguments of a `#[lost]` method.
        members: &'a [u8],
    },
    /// A step of the check whether replicas are equal.
    Check {
        /// An encoded [`Step`](super::divergence::Step).
        step: &'a [u8],
    },
}

/// Items that gather until they are proposed.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// Adds an item.
    pub fn push(&mut self, item: Item<'_>) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER, 0);
        }
        match item {
            Item::Call { session, member, body } => {
                self.bytes.push(CALL);
                self.bytes.extend_from_slice(&session.0.to_le_bytes());
                self.bytes.extend_from_slice(&member.0.to_le_bytes());
                self.block(body);
            }
            Item::Expire { session } => {
                self.bytes.push(EXPIRE);
                self.bytes.extend_from_slice(&session.0.to_le_bytes());
            }
            Item::Lost { members } => {
                self.bytes.push(LOST);
                self.block(members);
            }
            Item::Check { step } => {
                self.bytes.push(CHECK);
                self.block(step);
            }
        }
    }

    fn block(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The command, with the time and the seed of its calls, and the leader's limits.
    #[must_use]
    pub fn finish(mut self, micros: u64, seed: u64, limits: &Limits) -> Vec<u8> {
        let header = [micros, seed, limits.parked, limits.frame];
        for (place, number) in self.bytes[..HEADER].chunks_exact_mut(8).zip(header) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.bytes
    }
}

/// A command as it is applied.
#[derive(Debug)]
pub struct Batch<'a> {
    micros: u64,
    seeds: Context,
    parked: u64,
    frame: u64,
    rest: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads a command.
    pub fn parse(command: &'a [u8]) -> Result<Self> {
        let mut rest = command;
        let mut number = || take(&mut rest).map(u64::from_le_bytes);
        let (micros, seed, parked, frame) = (number()?, number()?, number()?, number()?);
        Ok(Batch { micros, seeds: Context::new(0, seed), parked, frame, rest })
    }

    /// The next item, with its terms.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(Item<'a>, Terms)>> {
        let Some((kind, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let item = match *kind {
            CALL => {
                let session = SessionId(u128::from_le_bytes(take(&mut self.rest)?));
                let member = MemberId(u128::from_le_bytes(take(&mut self.rest)?));
                Item::Call { session, member, body: self.block()? }
            }
            EXPIRE => Item::Expire { session: SessionId(u128::from_le_bytes(take(&mut self.rest)?)) },
            LOST => Item::Lost { members: self.block()? },
            CHECK => Item::Check { step: self.block()? },
            other => {
                return Err(Error::Refused { reason: format!("a log entry has an item of kind {other}") });
            }
        };
        // Neighbouring seeds would give calls overlapping sequences, so each seed is a random number itself.
        let context = Context::new(self.micros, self.seeds.random());
        Ok(Some((item, Terms { context, parked: self.parked, frame: self.frame })))
    }

    fn block(&mut self) -> Result<&'a [u8]> {
        let length = u32::from_le_bytes(take(&mut self.rest)?) as usize;
        let (block, rest) = self.rest.split_at_checked(length).ok_or_else(|| codec::cut(WHAT))?;
        self.rest = rest;
        Ok(block)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    codec::take(WHAT, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_as_they_went_in() {
        let items = [
            Item::Call { session: SessionId(1), member: MemberId(2), body: b"body" },
            Item::Expire { session: SessionId(3) },
            Item::Lost { members: b"lost" },
            Item::Check { step: b"step" },
            Item::Call { session: SessionId(4), member: MemberId(5), body: b"" },
        ];
        let mut builder = Builder::default();
        assert!(builder.is_empty());
        items.into_iter().for_each(|item| builder.push(item));
        let limits = Limits { parked: 5, frame: 6, ..Limits::default() };
        let command = builder.finish(7, 8, &limits);
        let mut batch = Batch::parse(&command).unwrap();
        let mut contexts = Vec::new();
        for item in items {
            let (read, Terms { context, parked: 5, frame: 6 }) = batch.next().unwrap().unwrap() else {
                panic!()
            };
            assert_eq!(read, item);
            assert!(!contexts.contains(&context), "every call has random numbers of its own");
            contexts.push(context);
        }
        assert_eq!(batch.next().unwrap(), None);
        for end in 1..command.len() {
            let read = Batch::parse(&command[..end]).and_then(|mut batch| {
                while batch.next()?.is_some() {}
                Ok(())
            });
            // A cut between items is a shorter command.
            let whole = [0, 41, 41 + 17, 41 + 17 + 9, 41 + 17 + 9 + 9].map(|items| HEADER + items);
            assert_eq!(read.is_ok(), whole.contains(&end), "{end}");
        }
    }
}
