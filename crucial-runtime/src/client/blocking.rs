//! Blocking calls: the calling thread writes and reads on a connection of its own.

use std::{
    cell::RefCell,
    io::{self, ErrorKind, Write},
    net::TcpStream,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, recv};

use super::{Link, Spin};
use crate::{
    dso::{CallName, Head, Request},
    error::{Error, Result},
    id::{self, SessionId},
    wire,
};

/// A thread's connection. It has a session of its own, and one call at a time.
pub(super) struct Connection {
    stream: TcpStream,
    session: SessionId,
    seq: u64,
    input: Vec<u8>,
    /// How many bytes of `input` are read but not used.
    filled: usize,
    spin: Spin,
    link: Weak<Link>,
    /// The server could not be reached again. Its session must not go on: a call of it may be parked there, whose
    /// caller has given up, and which goes when the session's lease ends.
    lost: bool,
}

/// What a thread keeps between its calls. When the thread ends, another one gets it.
struct Kept(Option<Connection>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.give_back();
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept(None)) };
}

/// Makes a call on this thread's connection.
pub(super) fn call(link: &Arc<Link>, request: Request<'_>, decode: &mut dyn FnMut(&[u8])) -> Result<()> {
    link.check_size(&request.name, request.buffer.len())?;
    // While it is in use the connection is not in the thread-local: a panic in `decode` drops it.
    let kept = KEPT.try_with(|kept| kept.borrow_mut().0.take()).ok().flatten();
    let mut connection = match kept {
        Some(connection) if connection.link.as_ptr() == Arc::as_ptr(link) => connection,
        other => {
            if let Some(connection) = other {
                connection.give_back();
            }
            let idle = link.idle.lock().unwrap().pop();
            idle.map_or_else(|| Connection::open(link), Ok)?
        }
    };
    let result = connection.exchange(link, request, decode);
    if connection.lost {
        return result;
    }
    // The thread-local is gone while the thread ends: then the connection goes back at once.
    let mut connection = Some(connection);
    let _ = KEPT.try_with(|kept| kept.borrow_mut().0 = connection.take());
    if let Some(connection) = connection {
        connection.give_back();
    }
    result
}

/// The room that a read gets.
const INPUT: usize = 16 << 10;
/// Input buffers above this size are given back to the allocator after the call.
const KEPT_INPUT: usize = 1 << 20;

impl Connection {
    pub(super) fn open(link: &Arc<Link>) -> Result<Self> {
        let session = SessionId(id::fresh());
        let (stream, _) = link.dial(session)?;
        let spin = Spin::new(link.config.spin);
        Ok(Connection {
            stream,
            session,
            seq: 0,
            input: vec![0; INPUT],
            filled: 0,
            spin,
            link: Arc::downgrade(link),
            lost: false,
        })
    }

    fn give_back(self) {
        if let Some(link) = self.link.upgrade() {
            link.idle.lock().unwrap().push(self);
        }
    }

    /// Sends the request and reads its answer, over as many connections as it takes.
    fn exchange(&mut self, link: &Link, request: Request<'_>, decode: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.seq += 1;
        let deadline = request.timeout.map(|timeout| Instant::now() + timeout);
        // This thread has every earlier answer, so it acknowledges all of them.
        let Request { head, buffer, timeout, repeatable, name } = request;
        let frame = wire::request_frame(&head, self.seq, self.seq, buffer);
        let mut news = link.news();
        loop {
            let told = news.take().map_or(Ok(()), |news| self.stream.write_all(&news));
            match told.and_then(|()| self.attempt(&head, frame, deadline)) {
                Ok(end) => {
                    let answer = wire::parse_answer(&self.input[4..end])?;
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
                    self.consume(end);
                    return result;
                }
                Err(error) => {
                    tracing::debug!(%error, "the connection broke; connecting again");
                    self.reconnect(link, repeatable, name)?;
                }
            }
        }
    }

    fn reconnect(&mut self, link: &Link, repeatable: bool, name: CallName<'_>) -> Result<()> {
        let (stream, welcome) = link.dial(self.session).inspect_err(|_| self.lost = true)?;
        self.stream = stream;
        self.filled = 0;
        if welcome.resumed || repeatable {
            return Ok(());
        }
        // The session's answers are gone. A call that was sent may have been applied: to send it again could apply
        // it twice.
        Err(Error::OutcomeUnknown { what: name.to_string() })
    }

    /// Sends the frame and reads until the answer is complete at the start of `input`; returns its end.
    fn attempt(&mut self, head: &Head, frame: &[u8], deadline: Option<Instant>) -> io::Result<usize> {
        self.stream.write_all(frame)?;
        let mut withdrawn = false;
        loop {
            while let Some(end) =
                wire::complete(&self.input[..self.filled], u64::MAX).map_err(io::Error::other)?
            {
                // After a reconnect an answer can come twice: the second one is for a call that is over.
                if wire::parse_answer(&self.input[4..end]).map_err(io::Error::other)?.seq == self.seq {
                    return Ok(end);
                }
                self.consume(end);
            }
            if let Some(length) = self.input[..self.filled].first_chunk::<4>() {
                let needed = 4 + u32::from_le_bytes(*length) as usize;
                if self.input.len() < needed {
                    self.input.resize(needed, 0);
                }
            }
            let timeout = match deadline {
                Some(deadline) if !withdrawn => Some(deadline.saturating_duration_since(Instant::now())),
                _ => None,
            };
            match self.receive(timeout) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                // The answer may be on its way: the server says which of both it is.
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    withdrawn = true;
                    self.stream.write_all(&wire::withdraw_frame(head, self.seq))?;
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
                match recv(&self.stream, &mut *room, RecvFlags::DONTWAIT) {
                    Ok((read, _)) => {
                        self.spin.found();
                        return Ok(read);
                    }
                    Err(rustix::io::Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
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
        if timeout.is_some() {
            self.stream.set_read_timeout(timeout)?;
        }
        let result = loop {
            match recv(&self.stream, &mut *room, RecvFlags::empty()) {
                Ok((read, _)) => break Ok(read),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break Err(ErrorKind::TimedOut.into()),
                Err(error) => break Err(error.into()),
            }
        };
        if timeout.is_some() {
            self.stream.set_read_timeout(None)?;
        }
        result
    }
}
