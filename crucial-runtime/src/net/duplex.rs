//! A connection, with or without TLS, that one task reads and any thread writes.

use std::io;
#[cfg(feature = "tls")]
use std::sync::{Mutex, MutexGuard};

use super::{Stream, TcpStream};

/// A connection whose every operation is done at once or not at all.
#[derive(Debug)]
pub enum Duplex {
    /// As the network has it.
    Plain(TcpStream),
    /// Through TLS.
    #[cfg(feature = "tls")]
    Tls(Box<Secured>),
}

impl From<Stream> for Duplex {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Plain(stream) => Duplex::Plain(stream),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Duplex::Tls(Box::new(Secured::new(*stream))),
        }
    }
}

impl Duplex {
    fn stream(&self) -> &TcpStream {
        match self {
            Duplex::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Duplex::Tls(secured) => &secured.stream,
        }
    }

    /// Waits for bytes, and reads them; none at the end. Reading right away saves the system call that would only say that
    /// there is something to read.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            // What TLS has read may be more than there was room for.
            #[cfg(feature = "tls")]
            if let Duplex::Tls(secured) = self
                && let Some(read) = secured.left_over(room)?
            {
                return Ok(read);
            }
            self.stream().readable().await?;
            match self.try_read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Duplex::Plain(stream) => stream.try_read(room),
            #[cfg(feature = "tls")]
            Duplex::Tls(secured) => secured.receive(room, TcpStream::try_read),
        }
    }

    /// Asks the system for bytes, whether or not the runtime knows of any.
    ///
    /// # Errors
    /// `WouldBlock` if there are none; or if the connection is broken.
    pub fn try_receive(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Duplex::Plain(stream) => super::try_receive(stream, room),
            #[cfg(feature = "tls")]
            Duplex::Tls(secured) => secured.receive(room, super::try_receive),
        }
    }

    /// Waits until it makes sense to try to write.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream().writable().await
    }

    /// Writes what the socket takes; says how much that was. After `WouldBlock`, the next attempt has to begin with the
    /// same bytes.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing at the moment; or if the connection is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Duplex::Plain(stream) => stream.try_write(bytes),
            #[cfg(feature = "tls")]
            Duplex::Tls(secured) => secured.try_write(bytes),
        }
    }

    /// Tells the peer that nothing more will come.
    pub fn shutdown(&self) {
        super::shutdown(self.stream());
    }
}

/// A connection through TLS, after the handshake.
#[cfg(feature = "tls")]
#[derive(Debug)]
pub struct Secured {
    stream: TcpStream,
    session: Mutex<Session>,
}

#[cfg(feature = "tls")]
#[derive(Debug)]
struct Session {
    tls: rustls::Connection,
    /// How many bytes were taken to be written, but are not said to be: the socket has not all of their records yet.
    owed: usize,
}

#[cfg(feature = "tls")]
impl Secured {
    fn new(stream: tokio_rustls::TlsStream<TcpStream>) -> Self {
        let (stream, tls) = match stream {
            tokio_rustls::TlsStream::Server(stream) => {
                let (stream, tls) = stream.into_inner();
                (stream, tls.into())
            }
            tokio_rustls::TlsStream::Client(stream) => {
                let (stream, tls) = stream.into_inner();
                (stream, tls.into())
            }
        };
        Secured { stream, session: Mutex::new(Session { tls, owed: 0 }) }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap()
    }

    /// What was read and decrypted before, if there is anything.
    fn left_over(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        match io::Read::read(&mut self.session().tls.reader(), room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The frames inside say where they end, so a connection needs no farewell.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)),
            result => result.map(Some),
        }
    }

    fn receive(
        &self,
        room: &mut [u8],
        read: fn(&TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if let Some(read) = self.left_over(room)? {
                return Ok(read);
            }
            let session = &mut *self.session();
            session.tls.read_tls(&mut Source(&self.stream, read))?;
            session.tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Invariant: bytes count as written when the socket has all of their records. So whoever has written everything can
    /// go, and nothing stays behind in here.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let session = &mut *self.session();
        if session.owed == 0 {
            session.owed = io::Write::write(&mut session.tls.writer(), bytes)?;
        }
        while session.tls.wants_write() {
            session.tls.write_tls(&mut Sink(&self.stream))?;
        }
        Ok(std::mem::take(&mut session.owed))
    }
}

/// A socket as rustls reads it.
#[cfg(feature = "tls")]
pub(crate) struct Source<'a, S>(pub &'a S, pub fn(&S, &mut [u8]) -> io::Result<usize>);

#[cfg(feature = "tls")]
impl<S> io::Read for Source<'_, S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.1(self.0, room)
    }
}

/// A socket as rustls writes it.
#[cfg(feature = "tls")]
struct Sink<'a>(&'a TcpStream);

#[cfg(feature = "tls")]
impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
