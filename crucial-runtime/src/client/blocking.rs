//! Blocking calls: the calling thread writes and reads on connections of its own.

use std::{
    cell::RefCell,
    io::{self, ErrorKind, Read},
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Link, Spin,
    channel::Channel,
    patience::Patience,
    routes::{ALONE, NodeId},
};
use crate::{
    dso::{Head, Request},
    error::{Error, Result},
    id::{self, SessionId},
    wire::{self, Elsewhere, Welcome},
};

/// A thread's way to the servers: a session, with one call at a time, and a connection to each node that it has called.
pub(super) struct Lane {
    session: SessionId,
    seq: u64,
    link: Weak<Link>,
    connections: Vec<(NodeId, Connection)>,
    /// The servers could not be reached again. Its session must not go on: a call of it may be parked there, whose
    /// caller has given up, and which goes when the session's lease ends.
    lost: bool,
}

/// A connection to a node.
struct Connection {
    channel: Channel,
    /// The start of the node that it leads to.
    node: u128,
    input: Vec<u8>,
    /// How many bytes of `input` are read but not used.
    filled: usize,
    spin: Spin,
    /// Which of this process's cloud threads the node was told of, by [`Link::news`].
    told: u64,
    /// How long a read waits before it is looked whether the call should go elsewhere; none without a cluster.
    pause: Option<Duration>,
}

/// What a thread keeps between its calls. When the thread ends, another one gets it.
struct Kept(Option<Lane>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(lane) = self.0.take() {
            lane.give_back();
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept(None)) };
}

/// Makes a call on this thread's connections.
pub(super) fn call(link: &Arc<Link>, request: Request<'_>, decode: &mut dyn FnMut(&[u8])) -> Result<()> {
    link.check_size(&request.name, request.buffer.len())?;
    // While it is in use the lane is not in the thread-local: a panic in `decode` drops it.
    let kept = KEPT.try_with(|kept| kept.borrow_mut().0.take()).ok().flatten();
    let mut lane = match kept {
        Some(lane) if lane.link.as_ptr() == Arc::as_ptr(link) => lane,
        other => {
            if let Some(lane) = other {
                lane.give_back();
            }
            let idle = link.idle.lock().unwrap().pop();
            idle.unwrap_or_else(|| Lane::new(link))
        }
    };
    let result = lane.exchange(link, None, request, decode);
    if lane.lost {
        return result;
    }
    // The thread-local is gone while the thread ends: then the lane goes back at once.
    let mut lane = Some(lane);
    let _ = KEPT.try_with(|kept| kept.borrow_mut().0 = lane.take());
    if let Some(lane) = lane {
        lane.give_back();
    }
    result
}

/// The room that a read gets.
const INPUT: usize = 16 << 10;
/// Input buffers above this size are given back to the allocator after the call.
const KEPT_INPUT: usize = 1 << 20;
/// How often a call that waits at a node of a cluster looks whether that is still the one to wait at.
const LOOK: Duration = Duration::from_millis(500);

/// What came of an attempt.
enum Attempt {
    /// The answer is complete, and ends there in the input.
    Answered(usize),
    /// The node does not serve the object.
    Elsewhere(Elsewhere),
    /// By now, another node serves the object.
    Moved,
}

impl Lane {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        let session = SessionId(id::fresh());
        Lane { session, seq: 0, link: Arc::downgrade(link), connections: Vec::new(), lost: false }
    }

    /// One that is connected.
    pub(super) fn open(link: &Arc<Link>) -> Result<Self> {
        let mut lane = Lane::new(link);
        lane.dial(link, ALONE)?;
        Ok(lane)
    }

    fn give_back(self) {
        if let Some(link) = self.link.upgrade() {
            link.idle.lock().unwrap().push(self);
        }
    }

    /// Connects to a node; says which it is, and what it said.
    fn dial(&mut self, link: &Link, node: NodeId) -> Result<(NodeId, Welcome)> {
        let (channel, welcome) =
            if node == ALONE { link.dial(self.session)? } else { link.dial_node(node, self.session)? };
        let node = welcome.cluster.as_ref().map_or(ALONE, |place| place.node);
        let pause = welcome.cluster.is_some().then_some(LOOK);
        channel.set_read_timeout(pause).map_err(|e| Error::io("setting up a connection", &e))?;
        self.connections.retain(|(other, _)| *other != node);
        self.connections.push((
            node,
            Connection {
                channel,
                node: welcome.node,
                input: vec![0; INPUT],
                filled: 0,
                spin: Spin::new(link.config.spin),
                told: 0,
                pause,
            },
        ));
        Ok((node, welcome))
    }

    /// Sends the request, to the node `at` or else to where its object is, and reads its answer, over as many
    /// connections as it takes.
    pub(super) fn exchange(
        &mut self,
        link: &Link,
        at: Option<NodeId>,
        request: Request<'_>,
        decode: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        self.seq += 1;
        let deadline = request.timeout.map(|timeout| Instant::now() + timeout);
        // This thread has every earlier answer, so it acknowledges all of them.
        let Request { head, buffer, timeout, repeatable, name } = request;
        let frame = wire::request_frame(&head, self.seq, self.seq, buffer);
        // The start of the node to which the call was sent last.
        let mut sent_to = None;
        // Whether it may have been applied, although there is no answer.
        let mut in_doubt = false;
        let fails = |error: Error, in_doubt: bool| {
            if in_doubt && !repeatable { error.in_doubt(name.to_string()) } else { error }
        };
        let mut patience = Patience::new(link.config.connect_timeout);
        loop {
            let node = at.unwrap_or_else(|| link.routes.node(&head));
            let place = match self.connections.iter().position(|(other, _)| *other == node) {
                Some(place) => place,
                None => match self.dial(link, node) {
                    Ok((reached, welcome)) => {
                        if !self.may_send(&head, repeatable, sent_to, &welcome) {
                            return Err(Error::session_is_over(name.to_string()));
                        }
                        if reached != node && at.is_none() {
                            continue;
                        }
                        self.connections.len() - 1
                    }
                    Err(error @ Error::Unreachable { .. }) if node != ALONE => {
                        link.routes.unreachable(node);
                        link.routes.another(&head, node);
                        if at.is_some() || !patience.wait() {
                            self.lost = true;
                            return Err(fails(error, in_doubt));
                        }
                        continue;
                    }
                    Err(error) => {
                        self.lost = true;
                        return Err(fails(error, in_doubt));
                    }
                },
            };
            let connection = &mut self.connections[place].1;
            sent_to = Some(connection.node);
            let goes_on = || at.is_some() || link.routes.node(&head) == node;
            let sent = patience.has_begun().then(Instant::now);
            match connection.attempt(link, &head, self.seq, frame, deadline, goes_on) {
                Ok(Attempt::Answered(end)) => {
                    let answer = wire::parse_answer(&connection.input[4..end])?;
                    let result = match answer.result() {
                        Ok(payload) => {
                            decode(payload);
                            Ok(())
                        }
                        Err(Error::Withdrawn) => {
                            Err(Error::Timeout { what: name.to_string(), after: timeout.unwrap_or_default() })
                        }
                        Err(error) => Err(error),
                    };
                    connection.consume(end);
                    return result;
                }
                Ok(Attempt::Moved) => in_doubt = true,
                Ok(Attempt::Elsewhere(elsewhere)) => {
                    in_doubt |= elsewhere.begun;
                    if elsewhere.begun {
                        sent.inspect(|sent| patience.was_taken(*sent));
                    }
                    link.routes.elsewhere(&head, node, &elsewhere);
                    let moved = link.routes.node(&head) != node;
                    let at_once = moved && patience.is_fresh();
                    if !at_once && !patience.wait() {
                        self.lost = true;
                        let after = link.config.connect_timeout;
                        let tried = "the nodes of the cluster: none of them serves the object".to_owned();
                        return Err(fails(Error::Unreachable { tried, after }, in_doubt));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the connection broke; connecting again");
                    self.connections.swap_remove(place);
                    sent.inspect(|sent| patience.was_taken(*sent));
                    in_doubt = true;
                }
            }
        }
    }

    /// Whether the call can be sent to a node that has said this, after it was sent to another start of a node.
    ///
    /// Invariant: a call that may have been applied goes only to where that is known. The replicas of a persistent object
    /// know it, as long as this lane tries; so does a node that goes on with the session, and one that has taken over
    /// an ephemeral object from its owner. One that was started again, or that came after a lost owner, refuses.
    fn may_send(&self, head: &Head, repeatable: bool, sent_to: Option<u128>, welcome: &Welcome) -> bool {
        let persists = welcome.cluster.is_some() && head.object.is_persistent();
        welcome.resumed
            || repeatable
            || persists
            || sent_to.is_none_or(|start| welcome.cluster.is_some() && start != welcome.node)
    }
}

impl Connection {
    /// Sends the frame and reads until the answer is complete at the start of `input`, or `goes_on` says no.
    fn attempt(
        &mut self,
        link: &Link,
        head: &Head,
        seq: u64,
        frame: &[u8],
        deadline: Option<Instant>,
        goes_on: impl Fn() -> bool,
    ) -> io::Result<Attempt> {
        let version = link.news.load(Ordering::Relaxed);
        if version != self.told {
            if let Some(news) = link.news() {
                self.channel.write_all(&news)?;
            }
            self.told = version;
        }
        self.channel.write_all(frame)?;
        let mut withdrawn = false;
        loop {
            while let Some(end) =
                wire::complete(&self.input[..self.filled], u64::MAX).map_err(io::Error::other)?
            {
                // After a reconnect an answer can come twice: the second one is for a call that is over.
                let answer = wire::parse_answer(&self.input[4..end]).map_err(io::Error::other)?;
                if answer.seq != seq {
                    self.consume(end);
                    continue;
                }
                if let Some(elsewhere) = answer.elsewhere().map_err(io::Error::other)? {
                    self.consume(end);
                    return Ok(Attempt::Elsewhere(elsewhere));
                }
                return Ok(Attempt::Answered(end));
            }
            if let Some(length) = self.input[..self.filled].first_chunk::<4>() {
                let needed = 4 + u32::from_le_bytes(*length) as usize;
                if self.input.len() < needed {
                    self.input.resize(needed, 0);
                }
            }
            let left = match deadline {
                Some(deadline) if !withdrawn => Some(deadline.saturating_duration_since(Instant::now())),
                _ => None,
            };
            match self.receive(left) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    if deadline.is_some_and(|deadline| !withdrawn && deadline <= Instant::now()) {
                        // The answer may be on its way: the server says which of both it is.
                        withdrawn = true;
                        self.channel.write_all(&wire::withdraw_frame(head, seq))?;
                    } else if !goes_on() {
                        return Ok(Attempt::Moved);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The first `end` bytes of the input are done with.
    fn consume(&mut self, end: usize) {
        self.input.copy_within(end..self.filled, 0);
        self.filled -= end;
        if self.input.len() > KEPT_INPUT && self.filled <= INPUT {
            self.input.truncate(INPUT);
            self.input.shrink_to_fit();
        }
    }

    /// Reads what there is, or waits for it.
    fn receive(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let room = &mut self.input[self.filled..];
        if let Some(end) = self.spin.begin() {
            loop {
                match self.channel.try_receive(room) {
                    Ok(read) => {
                        self.spin.found();
                        return Ok(read);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                if Instant::now() > end {
                    self.spin.missed();
                    break;
                }
                std::hint::spin_loop();
            }
        }
        if timeout.is_some_and(|t| t.is_zero()) {
            return Err(ErrorKind::TimedOut.into());
        }
        // A wait that is shorter than what is set anyway has to be set.
        let sets = timeout.is_some_and(|timeout| self.pause.is_none_or(|pause| timeout < pause));
        if sets {
            self.channel.set_read_timeout(timeout)?;
        }
        let result = self.channel.read(room);
        if sets {
            self.channel.set_read_timeout(self.pause)?;
        }
        result
    }
}
