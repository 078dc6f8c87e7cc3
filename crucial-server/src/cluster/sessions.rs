//! The sessions that have called the persistent objects of a partition.

use std::collections::{HashMap, VecDeque};

use crucial_runtime::{
    error::{Error, Result},
    holder::Lost,
    id::{MemberId, ObjectId, SessionId},
};
use serde::{Deserialize, Serialize};

use crate::session::{Begin, Session};

/// How many sessions are remembered that are over.
const REMEMBERED: usize = 20_000;

/// Who has called, and which calls were applied.
///
/// Invariant: a call is applied once, also if it arrives again when its session is over: of the last 20,000 of
/// those, the numbers that may have been applied are known. A client has later numbers for what it calls then, so a
/// session that was quiet for a lease goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sessions {
    open: HashMap<SessionId, Known>,
    past: HashMap<SessionId, u64>,
    /// The sessions of `past`, as they ended.
    order: VecDeque<SessionId>,
}

/// A session, and the process that it belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    member: MemberId,
    session: Session,
}

impl Sessions {
    /// A call arrives, with the acknowledgement of all answers below `ack`.
    ///
    /// # Errors
    /// As [`Session::begin`]; and if nobody can tell any more whether it was applied.
    pub fn begin(
        &mut self,
        id: SessionId,
        member: MemberId,
        (seq, ack): (u64, u64),
        object: ObjectId,
    ) -> Result<Begin> {
        if self.past.get(&id).is_some_and(|next| seq < *next) {
            return Err(Error::session_is_over(String::new()));
        }
        let new = || Known { member, session: Session::default() };
        self.open.entry(id).or_insert_with(new).session.begin(seq, ack, object)
    }

    /// A client takes a call back. Returns the object where it may be parked.
    pub fn withdraw(&mut self, id: SessionId, seq: u64) -> Option<ObjectId> {
        self.open.get_mut(&id)?.session.withdraw(seq)
    }

    /// A call has ended with this answer.
    pub fn finish(&mut self, id: SessionId, seq: u64, frame: &[u8]) {
        if let Some(known) = self.open.get_mut(&id) {
            known.session.finish(seq, frame);
        }
    }

    /// A session is over. Returns the calls that have not ended, with their objects.
    pub fn end(&mut self, id: SessionId) -> Vec<(u64, ObjectId)> {
        let Some(Known { session, .. }) = self.open.remove(&id) else { return Vec::new() };
        if self.past.insert(id, session.next()).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.past.remove(&oldest);
        }
        session.running()
    }

    /// The sessions of lost processes, in an order that is the same everywhere: it decides who of the waiting comes first.
    #[must_use]
    pub fn of(&self, lost: &Lost) -> Vec<SessionId> {
        let of_lost = |known: &Known| lost.members().binary_search(&known.member).is_ok();
        let mut ids: Vec<_> =
            self.open.iter().filter(|(_, known)| of_lost(known)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Those that are open, and their processes.
    #[must_use]
    pub fn list(&self) -> Vec<(SessionId, MemberId)> {
        self.open.iter().map(|(id, known)| (*id, known.member)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectId = ObjectId(3);

    fn begin(sessions: &mut Sessions, id: u128, seq: u64, ack: u64) -> Result<Begin> {
        sessions.begin(SessionId(id), MemberId(1), (seq, ack), OBJECT)
    }

    #[test]
    fn a_call_is_not_applied_again_when_its_session_is_over() {
        let mut sessions = Sessions::default();
        assert_eq!(begin(&mut sessions, 1, 5, 5), Ok(Begin::Fresh));
        sessions.finish(SessionId(1), 5, b"answer");
        assert_eq!(begin(&mut sessions, 1, 6, 5), Ok(Begin::Fresh));
        assert_eq!(sessions.end(SessionId(1)), [(6, OBJECT)]);
        let over =
            |again: Result<Begin>| assert!(matches!(again, Err(Error::OutcomeUnknown { .. })), "{again:?}");
        over(begin(&mut sessions, 1, 5, 5));
        over(begin(&mut sessions, 1, 6, 5));
        // What is new goes on, and is remembered as well.
        assert_eq!(begin(&mut sessions, 1, 7, 7), Ok(Begin::Fresh));
        let mut sessions = copy(&sessions);
        assert_eq!(begin(&mut sessions, 1, 7, 7), Ok(Begin::Running));
        over(begin(&mut sessions, 1, 6, 5));
        assert_eq!(sessions.end(SessionId(1)), [(7, OBJECT)]);
        over(begin(&mut sessions, 1, 7, 7));
    }

    /// As it comes out of a snapshot.
    fn copy(sessions: &Sessions) -> Sessions {
        let mut bytes = Vec::new();
        crucial_runtime::codec::encode("sessions", sessions, &mut bytes).unwrap();
        crucial_runtime::codec::decode("sessions", &bytes).unwrap()
    }

    #[test]
    fn only_the_last_sessions_are_remembered() {
        let mut sessions = Sessions::default();
        for id in 0..REMEMBERED as u128 + 1 {
            assert_eq!(begin(&mut sessions, id, 1, 1), Ok(Begin::Fresh));
            sessions.end(SessionId(id));
        }
        assert_eq!((sessions.past.len(), sessions.order.len()), (REMEMBERED, REMEMBERED));
        assert!(begin(&mut sessions, 0, 1, 1).is_ok());
        assert!(begin(&mut sessions, 1, 1, 1).is_err());
    }
}
