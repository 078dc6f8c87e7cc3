//! Who calls: clients behind connections, and callers in this process.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use crucial_runtime::{
    id::{MemberId, RunId, SessionId},
    wire,
};

use crate::{cell::Answer, session::Session};

/// Where an answer goes that comes later.
#[derive(Clone)]
pub(crate) enum Origin {
    /// To a session's connection.
    Session(Arc<Client>, u64),
    /// To a caller in this process.
    Local(Arc<dyn Local>),
}

/// A caller in this process.
pub(crate) trait Local: Send + Sync {
    fn answer(&self, answer: Answer);
}

/// Where frames for a client go.
pub(crate) trait Link: Send + Sync {
    /// Adds a frame to what is sent with the next [`flush`](Link::flush).
    fn push(&self, frame: &[u8]);
    fn flush(&self);
    /// Closes the connection.
    fn close(&self);
}

/// A client's session on this node.
pub(crate) struct Client {
    pub(super) id: SessionId,
    pub(crate) run: RunId,
    pub(super) member: MemberId,
    /// The epoch of the cluster's map when the run began.
    pub(super) since: u64,
    /// The longest frame of an answer.
    limit: u64,
    state: Mutex<ClientState>,
}

pub(super) struct ClientState {
    pub(super) session: Session,
    pub(super) link: Option<Arc<dyn Link>>,
    /// Which of the client's connections had the link last.
    pub(super) connection: u64,
    /// When the last connection was lost; none while there is one.
    pub(super) lost: Option<Instant>,
}

impl Client {
    pub(super) fn new(id: SessionId, run: RunId, member: MemberId, since: u64, limit: u64) -> Self {
        let state = ClientState { session: Session::default(), link: None, connection: 0, lost: None };
        Client { id, run, member, since, limit, state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap()
    }

    /// A call has ended: its answer is remembered, and goes out with the next flush, if there is a connection.
    fn finish(&self, seq: u64, answer: Answer) -> Option<Arc<dyn Link>> {
        self.finish_frame(seq, &wire::answer_frame(seq, answer, self.limit))
    }

    /// As [`finish`](Self::finish), with the answer as a frame.
    pub(crate) fn finish_frame(&self, seq: u64, frame: &[u8]) -> Option<Arc<dyn Link>> {
        let mut state = self.lock();
        state.session.finish(seq, frame);
        let link = state.link.clone();
        drop(state);
        if let Some(link) = &link {
            link.push(frame);
        }
        link
    }

    /// A call has ended, and its answer goes out on the connection that it came from. If it came again on a newer
    /// one, because the first broke while it ran, the answer has to go there too.
    pub(super) fn finish_here(&self, seq: u64, frame: &[u8]) {
        let mut state = self.lock();
        let repeated = state.session.finish(seq, frame);
        let link = state.link.clone().filter(|_| repeated);
        drop(state);
        if let Some(link) = link {
            link.push(frame);
            link.flush();
        }
    }
}

impl Origin {
    /// Says where the answer goes out with the next flush, if it does.
    pub(super) fn answer(self, answer: Answer) -> Option<Arc<dyn Link>> {
        match self {
            Origin::Session(client, seq) => client.finish(seq, answer),
            Origin::Local(caller) => {
                caller.answer(answer);
                None
            }
        }
    }

    pub(super) fn is(&self, other: &Origin) -> bool {
        match (self, other) {
            (Origin::Session(a, n), Origin::Session(b, m)) => Arc::ptr_eq(a, b) && n == m,
            (Origin::Local(a), Origin::Local(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
