//! The two ways of a connection that carries frames: what comes in, and what goes out.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crucial_runtime::{error::Result, net::Duplex, wire};
use tokio::sync::Notify;

use crate::node::Link;

/// The room that a read gets at first.
const INPUT: usize = 16 << 10;
/// The room that it gets where the other end sends that much at once: the more frames one read brings, the fewer system calls
/// each of them costs.
const BATCH: usize = 128 << 10;
/// Buffers above this size are given back to the allocator when they are empty.
const KEPT: usize = 1 << 20;

/// The way in: bytes that have come, of which the last frame may not be complete.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox { bytes: vec![0; INPUT], filled: 0 }
    }
}

impl Inbox {
    /// Where the next bytes belong.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// So many bytes have come.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Gives every frame that is complete, without its length.
    ///
    /// # Errors
    /// If one is longer than `limit`, or `each` fails.
    pub(crate) fn take(&mut self, limit: u64, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let mut used = 0;
        let full = self.filled == self.bytes.len();
        while let Some(end) = wire::complete(&self.bytes[used..self.filled], limit)? {
            each(&self.bytes[used + 4..used + end])?;
            used += end;
        }
        self.bytes.copy_within(used..self.filled, 0);
        self.filled -= used;
        if self.filled == 0 && self.bytes.len() > KEPT {
            self.bytes = vec![0; INPUT];
        } else if full {
            let begun = self.bytes[..self.filled].first_chunk::<4>();
            let needed = begun.map_or(0, |length| 4 + u32::from_le_bytes(*length) as usize);
            // The room grows with what has come: a length alone takes no memory.
            let room = self.bytes.len();
            self.bytes.resize(needed.max(BATCH).min(2 * room).max(room), 0);
        }
        Ok(())
    }
}

/// The way out. Whoever has a frame writes it itself, which spares a wake-up of the connection's task; what the socket doesn't
/// take, the task writes when it does. On a client's connection these are answers of its own calls, and those that come later,
/// of calls that were parked or found their object busy.
///
/// Invariant: all writes are made under the lock, and nothing is written while something is pending: frames go out whole,
/// and in the order in which they came.
pub(crate) struct Outbox {
    pub(crate) stream: Duplex,
    pending: Mutex<Pending>,
    /// Answers for a session that is resumed come after the greeting. Set under the lock.
    greeted: AtomicBool,
    /// Something is left for the task to write.
    pub(crate) filled: Notify,
    /// The connection is to be closed, by the task.
    pub(crate) closed: AtomicBool,
}

/// Frames that are to be written. They stay until the last of them is: to move the rest up whenever the socket takes
/// some would take long for a large answer.
#[derive(Default)]
struct Pending {
    frames: Vec<u8>,
    /// How many bytes of the frames are written; fewer than there are, unless there are none.
    written: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.frames.len() {
            self.written = 0;
            self.frames.clear();
            if self.frames.capacity() > KEPT {
                self.frames = Vec::new();
            }
        }
    }
}

impl Link for Outbox {
    fn push(&self, frame: &[u8]) {
        self.pending.lock().unwrap().frames.extend_from_slice(frame);
    }

    fn flush(&self) {
        let mut pending = self.pending.lock().unwrap();
        if !self.greeted.load(Ordering::Relaxed) {
            return;
        }
        // An error is for the connection's task to find.
        if self.write_some(&mut pending).is_ok_and(|()| pending.is_empty()) {
            return;
        }
        drop(pending);
        self.filled.notify_one();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.filled.notify_one();
    }
}

impl Outbox {
    /// Of a client that is to be greeted before anything else.
    pub(crate) fn new(stream: Duplex) -> Self {
        let (greeted, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Outbox { stream, pending: Mutex::default(), greeted, filled: Notify::new(), closed }
    }

    /// Of a connection whose greetings are exchanged.
    #[cfg(feature = "cluster")]
    pub(crate) fn greeted(stream: Duplex) -> Self {
        Outbox { greeted: AtomicBool::new(true), ..Outbox::new(stream) }
    }

    /// Writes the greeting, before all that is pending.
    pub(crate) async fn greet(&self, mut greeting: Vec<u8>) -> io::Result<()> {
        {
            let mut pending = self.pending.lock().unwrap();
            greeting.append(&mut pending.frames);
            pending.frames = greeting;
            self.greeted.store(true, Ordering::Relaxed);
        }
        self.write(&mut Vec::new()).await
    }

    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.lock().unwrap().is_empty()
    }

    /// Writes what the socket takes without waiting.
    fn write_some(&self, pending: &mut Pending) -> io::Result<()> {
        while !pending.is_empty() {
            match self.stream.try_write(&pending.frames[pending.written..]) {
                Ok(bytes) => pending.wrote(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes these frames after those that are pending.
    fn queue(&self, frames: &mut Vec<u8>) {
        let mut pending = self.pending.lock().unwrap();
        if pending.is_empty() {
            std::mem::swap(&mut pending.frames, frames);
        } else {
            pending.frames.append(frames);
        }
    }

    /// Writes these frames now, or leaves them to the task.
    #[cfg(feature = "cluster")]
    pub(crate) fn send(&self, mut frames: Vec<u8>) {
        self.queue(&mut frames);
        self.flush();
    }

    /// Writes these frames after those that are pending, and waits until all are written. Takes them out of `frames`.
    pub(crate) async fn write(&self, frames: &mut Vec<u8>) -> io::Result<()> {
        self.queue(frames);
        self.finish().await
    }

    /// Waits until all that is pending is written.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        loop {
            {
                let mut pending = self.pending.lock().unwrap();
                self.write_some(&mut pending)?;
                if pending.is_empty() {
                    return Ok(());
                }
            }
            self.stream.writable().await?;
        }
    }
}
