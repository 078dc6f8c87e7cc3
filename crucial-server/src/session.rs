//! Which calls of a client were applied, and their answers.

use std::{collections::VecDeque, sync::Arc};

use crucial_runtime::{
    error::{Error, Result},
    id::ObjectId,
};
use serde::{Deserialize, Serialize};

/// The calls of one session that the client has not acknowledged.
///
/// Invariant: of a number that was begun, [`Session::begin`] never says [`Begin::Fresh`] again while the client may
/// still repeat it, that is until it acknowledges the number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Session {
    /// The number of the first entry: all calls below it are acknowledged.
    base: u64,
    entries: VecDeque<Entry>,
    /// Its process was found lost.
    closed: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum Entry {
    /// Not arrived, or a read, which is not remembered.
    #[default]
    Unknown,
    /// Runs, waits for its object to be free, or is parked at it.
    Running { object: ObjectId, withdrawn: bool, repeated: bool },
    /// Ended, with this frame as its answer.
    Done(#[serde(with = "crucial_runtime::bulk")] Arc<[u8]>),
}

/// What to do with a call that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is new: run it.
    Fresh,
    /// It has arrived before and goes on: its answer will come.
    Running,
    /// It was applied before: this is its answer.
    Done(Arc<[u8]>),
}

/// How many unacknowledged calls a client may have.
const MOST_OPEN: u64 = 1 << 20;

impl Session {
    /// A call arrives, with the acknowledgement of all answers below `ack`.
    pub fn begin(&mut self, seq: u64, ack: u64, object: ObjectId) -> Result<Begin> {
        if self.closed {
            return Err(Error::Refused {
                reason: "this process was taken for lost, and what it held was given to others".to_owned(),
            });
        }
        self.acknowledge(ack);
        let Some(at) = seq.checked_sub(self.base) else {
            return Err(Error::Refused { reason: format!("call {seq} was acknowledged before it was made") });
        };
        if at >= MOST_OPEN {
            return Err(Error::TooMany {
                what: "calls without an acknowledged answer".to_owned(),
                limit: MOST_OPEN,
                setting: "(fixed)".to_owned(),
            });
        }
        let at = at as usize;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, Entry::default);
        }
        match &mut self.entries[at] {
            entry @ Entry::Unknown => {
                *entry = Entry::Running { object, withdrawn: false, repeated: false };
                Ok(Begin::Fresh)
            }
            Entry::Running { repeated, .. } => {
                *repeated = true;
                Ok(Begin::Running)
            }
            Entry::Done(frame) => Ok(Begin::Done(frame.clone())),
        }
    }

    /// Accepts no more calls: a process that was found lost must not take anything new, since nobody would take it back.
    pub fn close(&mut self) {
        self.closed = true;
    }

    fn acknowledge(&mut self, ack: u64) {
        while self.base < ack {
            match self.entries.front() {
                // The client has the answer of a call that runs: it can't be. Keep it rather than run it twice.
                Some(Entry::Running { .. }) => return,
                Some(_) => {
                    self.entries.pop_front();
                    self.base += 1;
                }
                None => self.base = ack,
            }
        }
    }

    /// A call has ended with this answer. Returns whether it arrived again meanwhile: then the client waits for the
    /// answer on its newest connection.
    pub fn finish(&mut self, seq: u64, frame: &[u8]) -> bool {
        let Some(entry) = self.entry(seq) else { return false };
        let before = std::mem::replace(entry, Entry::Done(frame.into()));
        matches!(before, Entry::Running { repeated: true, .. })
    }

    /// The call was not made after all: it may arrive again, here or elsewhere.
    pub fn forget(&mut self, seq: u64) {
        if let Some(entry @ Entry::Running { .. }) = self.entry(seq) {
            *entry = Entry::Unknown;
        }
    }

    /// The part that another node needs to go on with the objects to which this applies: what has ended, and what waits at
    /// them. None if there is nothing.
    pub fn part(&self, belongs: impl Fn(ObjectId) -> bool) -> Option<Session> {
        let mut part = self.clone();
        let mut empty = !part.closed;
        for entry in &mut part.entries {
            match entry {
                Entry::Running { object, .. } if !belongs(*object) => *entry = Entry::Unknown,
                Entry::Unknown => {}
                _ => empty = false,
            }
        }
        (!empty).then_some(part)
    }

    /// Goes on with what another node has told. What has ended anywhere has ended.
    pub fn merge(&mut self, part: Session) {
        self.closed |= part.closed;
        self.acknowledge(part.base);
        for (seq, entry) in (part.base..).zip(part.entries) {
            let Some(at) = seq.checked_sub(self.base).map(|at| at as usize) else { continue };
            if self.entries.len() <= at {
                self.entries.resize_with(at + 1, Entry::default);
            }
            match (&self.entries[at], &entry) {
                (Entry::Unknown, _) | (Entry::Running { .. }, Entry::Done(_)) => self.entries[at] = entry,
                _ => {}
            }
        }
    }

    /// The client takes the call back. Returns the object where it may be parked.
    pub fn withdraw(&mut self, seq: u64) -> Option<ObjectId> {
        match self.entry(seq)? {
            Entry::Running { object, withdrawn, .. } => {
                *withdrawn = true;
                Some(*object)
            }
            _ => None,
        }
    }

    /// Whether the client has taken this call back already.
    pub fn is_withdrawn(&mut self, seq: u64) -> bool {
        matches!(self.entry(seq), Some(Entry::Running { withdrawn: true, .. }))
    }

    /// The number after all that have arrived.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// The calls that have not ended, with their objects: what has to be withdrawn when the session goes.
    pub fn running(&self) -> Vec<(u64, ObjectId)> {
        let running = |(i, entry): (usize, &Entry)| match entry {
            Entry::Running { object, .. } => Some((self.base + i as u64, *object)),
            _ => None,
        };
        self.entries.iter().enumerate().filter_map(running).collect()
    }

    fn entry(&mut self, seq: u64) -> Option<&mut Entry> {
        seq.checked_sub(self.base).and_then(|at| self.entries.get_mut(at as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectId = ObjectId(1);

    #[test]
    fn a_repeated_call_is_applied_once() {
        let mut session = Session::default();
        assert_eq!(session.begin(1, 1, OBJECT), Ok(Begin::Fresh));
        assert_eq!(session.begin(1, 1, OBJECT), Ok(Begin::Running));
        assert!(session.finish(1, b"answer"), "the second request waits for the answer");
        assert_eq!(session.begin(1, 1, OBJECT), Ok(Begin::Done(b"answer"[..].into())));
        assert_eq!(session.begin(2, 2, OBJECT), Ok(Begin::Fresh));
        assert!(!session.finish(2, b"answer"));
        // The client said that it has the first answer, so it can't ask for it again.
        assert!(session.begin(1, 2, OBJECT).is_err());
    }

    #[test]
    fn calls_end_in_any_order() {
        let mut session = Session::default();
        for seq in [3, 1, 2] {
            assert_eq!(session.begin(seq, 1, OBJECT), Ok(Begin::Fresh));
        }
        session.finish(2, b"2");
        assert_eq!(session.running(), [(1, OBJECT), (3, OBJECT)]);
        session.finish(1, b"1");
        session.finish(3, b"3");
        assert_eq!(session.begin(4, 3, OBJECT), Ok(Begin::Fresh));
        assert_eq!(session.begin(3, 3, OBJECT), Ok(Begin::Done(b"3"[..].into())));
    }

    #[test]
    fn numbers_out_of_reach_are_refused() {
        let mut session = Session::default();
        assert!(session.begin(MOST_OPEN + 7, 0, OBJECT).is_err());
        assert!(session.entries.is_empty());
    }

    #[test]
    fn a_closed_session_takes_no_calls() {
        let mut session = Session::default();
        session.begin(1, 1, OBJECT).unwrap();
        session.close();
        assert!(session.begin(1, 1, OBJECT).is_err() && session.begin(2, 1, OBJECT).is_err());
        assert_eq!(session.running(), [(1, OBJECT)]);
    }

    #[test]
    fn a_withdrawn_call_is_remembered_until_it_ends() {
        let mut session = Session::default();
        session.begin(1, 1, OBJECT).unwrap();
        assert!(!session.is_withdrawn(1));
        assert_eq!(session.withdraw(1), Some(OBJECT));
        assert!(session.is_withdrawn(1));
        session.finish(1, b"answer");
        assert_eq!(session.withdraw(1), None);
    }
}
