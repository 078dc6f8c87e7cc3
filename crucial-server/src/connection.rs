//! One connection of a client.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
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
    sync::oneshot,
    time::{Instant as Time, timeout_at},
};

use crate::{
    admin,
    frames::{Inbox, Outbox},
    listener::Reception,
    node::{Client, Link, Node},
};

/// How long a client may take to greet, and to show that it has the token.
const GREETING: Duration = Duration::from_secs(5);
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
        Greeting::Peer(plane) => return node.serve_peer(stream, plane).await,
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
    Peer(Plane),
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
        b if b == Plane::Peer as u8 => return Ok(Greeting::Peer(Plane::Peer)),
        b if b == Plane::Log as u8 => return Ok(Greeting::Peer(Plane::Log)),
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
    inbox: Inbox,
    output: Vec<u8>,
    spin: Spin,
}

impl<'a> Connection<'a> {
    fn new(node: &'a Node, client: &'a Arc<Client>, outbox: &'a Outbox, spin: Duration) -> Self {
        Connection {
            node,
            client,
            outbox,
            inbox: Inbox::default(),
            output: Vec::new(),
            spin: Spin::new(spin),
        }
    }

    async fn run(mut self) -> Result<(), End> {
        loop {
            self.serve_frames()?;
            if !self.output.is_empty() || self.outbox.is_pending() {
                self.outbox.write(&mut self.output).await?;
            }
            match self.receive().await? {
                Received::Bytes(0) => return Ok(()),
                Received::Bytes(read) => self.inbox.came(read),
                Received::Answers if self.outbox.closed.load(Ordering::Acquire) => return Ok(()),
                Received::Answers => {}
            }
        }
    }

    /// Runs every frame that is there; their answers gather in `output`.
    fn serve_frames(&mut self) -> Result<(), End> {
        let Connection { node, client, output, .. } = self;
        let serve = |body: &[u8]| node.serve(client, body, output);
        self.inbox.take(node.limits().frame, serve).map_err(End::Refused)
    }

    /// Waits for bytes of the client, or for answers to send to it. Looks for bytes for a moment first, if that has
    /// paid before.
    async fn receive(&mut self) -> io::Result<Received> {
        let room = self.inbox.room();
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
