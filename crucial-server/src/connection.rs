//! One connection of a client.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crucial_runtime::{
    client::Spin,
    codec,
    error::{Error, Result},
    net::{self, Duplex, Stream, TcpStream},
    security::{self, Rejected},
    wire::{self, Hello, MAGIC, Plane, Welcome},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, oneshot},
    time::{Instant as Time, timeout_at},
};

use crate::{
    admin,
    listener::Reception,
    node::{Client, Link, Node},
};

/// How long a client may take to greet, and to show that it has the token.
const GREETING: Duration = Duration::from_secs(5);
/// The room that a read gets at first.
const INPUT: usize = 16 << 10;
/// The room that it gets where clients send that much at once: the more calls one read brings, the fewer system calls each of
/// them costs.
const BATCH: usize = 128 << 10;
/// Buffers above this size are given back to the allocator when they are empty.
const KEPT: usize = 1 << 20;

/// The way out: answers of this connection's own calls, and those that come later, of calls that were parked or found
/// their object busy. Whoever has such an answer writes it itself, which spares a wake-up of this connection's task; what
/// the socket doesn't take, the task writes when it does.
///
/// Invariant: all writes are made under the lock, and nothing is written while something is pending: frames go out whole,
/// and in the order in which they came.
struct Outbox {
    stream: Duplex,
    pending: Mutex<Pending>,
    /// Answers for a session that is resumed come after the greeting. Set under the lock.
    greeted: AtomicBool,
    filled: Notify,
    /// Its client was found lost.
    closed: AtomicBool,
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
    fn new(stream: Duplex) -> Self {
        let (greeted, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Outbox { stream, pending: Mutex::default(), greeted, filled: Notify::new(), closed }
    }

    /// Writes the greeting, before all that is pending.
    async fn greet(&self, mut greeting: Vec<u8>) -> io::Result<()> {
        {
            let mut pending = self.pending.lock().unwrap();
            greeting.append(&mut pending.frames);
            pending.frames = greeting;
            self.greeted.store(true, Ordering::Relaxed);
        }
        self.write(&mut Vec::new()).await
    }

    fn is_pending(&self) -> bool {
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

    /// Writes these frames after those that are pending, and waits until all are written. Takes them out of `frames`.
    async fn write(&self, frames: &mut Vec<u8>) -> io::Result<()> {
        {
            let mut pending = self.pending.lock().unwrap();
            if pending.is_empty() {
                std::mem::swap(&mut pending.frames, frames);
            } else {
                pending.frames.append(frames);
            }
        }
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

/// Serves a connection until the client closes it, breaks the protocol, or the server stops; or until `turn` is over and the
/// client has not greeted.
pub(crate) async fn serve(
    node: Arc<Node>,
    reception: Arc<Reception>,
    stream: TcpStream,
    mut turn: oneshot::Receiver<()>,
) {
    let peer = stream.peer_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
    if let Err(error) = net::prepare(&stream) {
        tracing::warn!(%peer, %error, "can't set up a connection");
        return;
    }
    let met = tokio::select! {
        biased;
        met = meet(&reception, stream) => met,
        _ = &mut turn => Err((None, Error::Refused { reason: "too many others wanted to greet meanwhile".to_owned() })),
    };
    let (stream, greeting) = match met {
        Ok(met) => met,
        Err((told, error)) => {
            reception.refusals.note(&peer, &error);
            if let Some((stream, words)) = told {
                tokio::select! {
                    biased;
                    () = dismiss(stream, &words) => {}
                    _ = turn => {}
                }
            }
            return;
        }
    };
    drop(turn);
    let hello = match greeting {
        Greeting::Data(hello) => hello,
        Greeting::Control => return admin::serve(node, stream).await,
        Greeting::Peer => return node.serve_peer(stream).await,
    };
    node.ready().await;
    let outbox = Arc::new(Outbox::new(stream.into()));
    let link: Arc<dyn Link> = outbox.clone();
    match node.open(&hello, link.clone()) {
        Err(error) => {
            tracing::info!(%peer, %error, "a client is refused");
            let _ = outbox.greet(refusal(error)).await;
            drain(&outbox.stream).await;
        }
        Ok((client, welcome)) => {
            tracing::debug!(%peer, run = %hello.run, "a client has connected");
            let greeting = wire::value_frame::<Result<Welcome>>(&Ok(welcome));
            let served = match outbox.greet(greeting).await {
                Ok(()) => Connection::new(&node, &client, &outbox, reception.spin).run().await,
                Err(error) => Err(error.into()),
            };
            node.close(&client, &link);
            match served {
                Ok(()) => tracing::debug!(%peer, "a client is gone"),
                Err(End::Broken(error)) => tracing::debug!(%peer, %error, "a connection broke"),
                Err(End::Refused(error)) => {
                    tracing::warn!(%peer, %error, "a client broke the protocol");
                    let mut frame = Vec::new();
                    wire::error_answer(&mut frame, 0, error);
                    let _ = outbox.write(&mut frame).await;
                    drain(&outbox.stream).await;
                }
            }
        }
    }
}

enum Greeting {
    Data(Hello),
    Control,
    Peer,
}

fn refused<T>(reason: impl Into<String>) -> Result<T, Unmet> {
    Err(Unmet::Said(Error::Refused { reason: reason.into() }))
}

/// A connection that is refused, and what it is told.
type Told = Option<(Stream, Vec<u8>)>;

/// Lets a client show that it has the token, if there is one, and greet.
///
/// Invariant: with a token, no byte of a client is decoded before it has shown that it has the token.
async fn meet(reception: &Reception, stream: TcpStream) -> Result<(Stream, Greeting), (Told, Error)> {
    let deadline = Time::now() + GREETING;
    let late = |what: &str| Error::Refused { reason: format!("no {what} within {GREETING:?}") };
    let accepted = timeout_at(deadline, reception.security.accept(stream)).await;
    let mut stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(Rejected { error, plain })) => {
            return Err((plain.map(|stream| (Stream::Plain(stream), refusal(error.clone()))), error));
        }
        Err(_) => return Err((None, late("TLS handshake"))),
    };
    let greeted = timeout_at(deadline, greet(&mut stream)).await;
    match greeted.unwrap_or_else(|_| Err(Unmet::Said(late("greeting")))) {
        Ok(greeting) => Ok((stream, greeting)),
        Err(Unmet::Said(error)) => Err((Some((stream, refusal(error.clone()))), error)),
        Err(Unmet::SpeaksTls) => {
            let reason = "the other end speaks TLS, so it has a cluster token, and this server has none: start the server \
                          with CRUCIAL_TOKEN_FILE set, or unset it there";
            // No record of TLS begins like this, so the other end knows it at once.
            Err((Some((stream, MAGIC.to_vec())), Error::Refused { reason: reason.to_owned() }))
        }
    }
}

/// Why there is no greeting.
enum Unmet {
    Said(Error),
    SpeaksTls,
}

impl From<Error> for Unmet {
    fn from(error: Error) -> Self {
        Unmet::Said(error)
    }
}

async fn greet(stream: &mut Stream) -> Result<Greeting, Unmet> {
    let cut = |e: io::Error| Error::Refused { reason: format!("the greeting is cut off: {e}") };
    let mut magic = [0; MAGIC.len() + 1];
    stream.read_exact(&mut magic).await.map_err(cut)?;
    if magic[..MAGIC.len()] != *MAGIC {
        if security::is_tls_hello(&magic) {
            return Err(Unmet::SpeaksTls);
        }
        return refused("this is the port of a DSO server, and the peer is no client of it");
    }
    match magic[MAGIC.len()] {
        b if b == Plane::Control as u8 => return Ok(Greeting::Control),
        b if b == Plane::Peer as u8 => return Ok(Greeting::Peer),
        b if b == Plane::Data as u8 => {}
        other => return refused(format!("there is no plane {other}")),
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(cut)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > wire::GREETING_LIMIT {
        return refused(format!("a greeting of {length} bytes is too long"));
    }
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting).await.map_err(cut)?;
    Ok(Greeting::Data(codec::decode("the greeting", &greeting)?))
}

/// Says why a client is refused. It may be gone already.
async fn dismiss(mut stream: Stream, words: &[u8]) {
    let _ = stream.write_all(words).await;
    let _ = stream.flush().await;
    drain(&stream.into()).await;
}

fn refusal(error: Error) -> Vec<u8> {
    wire::value_frame(&Result::<(), Error>::Err(error))
}

/// Reads what the peer still sends, for a moment: closing at once would reset the connection, and the peer might
/// never see the reason.
async fn drain(stream: &Duplex) {
    stream.shutdown();
    let mut rest = [0; 4096];
    let mut budget = 64;
    let read = async {
        while budget > 0 && matches!(stream.read(&mut rest).await, Ok(n) if n > 0) {
            budget -= 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(200), read).await;
}

/// Why a connection ended.
enum End {
    Broken(io::Error),
    Refused(Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Broken(error)
    }
}

struct Connection<'a> {
    node: &'a Node,
    client: &'a Arc<Client>,
    outbox: &'a Outbox,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    spin: Spin,
}

impl<'a> Connection<'a> {
    fn new(node: &'a Node, client: &'a Arc<Client>, outbox: &'a Outbox, spin: Duration) -> Self {
        Connection {
            node,
            client,
            outbox,
            input: vec![0; INPUT],
            filled: 0,
            output: Vec::new(),
            spin: Spin::new(spin),
        }
    }

    async fn run(mut self) -> Result<(), End> {
        loop {
            if self.filled > 0 {
                self.serve_frames()?;
            }
            if !self.output.is_empty() || self.outbox.is_pending() {
                self.outbox.write(&mut self.output).await?;
            }
            match self.receive().await? {
                Received::Bytes(0) => return Ok(()),
                Received::Bytes(read) => self.filled += read,
                Received::Answers if self.outbox.closed.load(Ordering::Acquire) => return Ok(()),
                Received::Answers => {}
            }
        }
    }

    /// Runs every frame that is there; their answers gather in `output`.
    fn serve_frames(&mut self) -> Result<(), End> {
        let mut used = 0;
        let full = self.filled == self.input.len();
        let limit = self.node.limits().frame;
        while let Some(end) = wire::complete(&self.input[used..self.filled], limit).map_err(End::Refused)? {
            let body = &self.input[used + 4..used + end];
            self.node.serve(self.client, body, &mut self.output).map_err(End::Refused)?;
            used += end;
        }
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        if self.filled == 0 && self.input.len() > KEPT {
            self.input = vec![0; INPUT];
        } else if full {
            let begun = self.input[..self.filled].first_chunk::<4>();
            let needed = begun.map_or(0, |length| 4 + u32::from_le_bytes(*length) as usize);
            // The room grows with what has come: a length alone takes no memory.
            let room = self.input.len();
            self.input.resize(needed.max(BATCH).min(2 * room).max(room), 0);
        }
        Ok(())
    }

    /// Waits for bytes of the client, or for answers to send to it. Looks for bytes for a moment first, if that has
    /// paid before.
    async fn receive(&mut self) -> io::Result<Received> {
        let room = &mut self.input[self.filled..];
        if let Some(end) = self.spin.begin() {
            loop {
                match self.outbox.stream.try_receive(room) {
                    Ok(read) => {
                        self.spin.found();
                        return Ok(Received::Bytes(read));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                if Instant::now() > end {
                    self.spin.missed();
                    break;
                }
                // Other connections of this worker come first.
                tokio::task::yield_now().await;
            }
        }
        tokio::select! {
            biased;
            read = self.outbox.stream.read(room) => read.map(Received::Bytes),
            () = self.outbox.filled.notified() => Ok(Received::Answers),
        }
    }
}

/// What ended a wait.
enum Received {
    /// So many bytes of the client; none at its end.
    Bytes(usize),
    /// Answers that could not be written at once, or the end of the client.
    Answers,
}
