//! A connection, with or without TLS, of a thread that blocks.

#[cfg(feature = "tls")]
use std::time::Instant;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

#[cfg(feature = "tls")]
use crate::net::Source;
use crate::security::Security;

/// The bytes between a thread and a server.
pub(super) enum Channel {
    /// As the network has them.
    Plain(TcpStream),
    /// Through TLS, which the thread does itself.
    #[cfg(feature = "tls")]
    Tls(Box<Secured>),
}

#[cfg(feature = "tls")]
pub(super) struct Secured {
    socket: TcpStream,
    session: rustls::ClientConnection,
}

impl Channel {
    /// Secures a new connection.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "only a handshake takes time"))]
    pub(super) fn open(socket: TcpStream, security: &Security, patience: Duration) -> io::Result<Self> {
        match security {
            Security::Plain => Ok(Channel::Plain(socket)),
            #[cfg(feature = "tls")]
            Security::Tls(keys) => {
                let session = keys.connect_blocking(&socket, Instant::now() + patience)?;
                Ok(Channel::Tls(Box::new(Secured { socket, session })))
            }
        }
    }

    /// How long a read waits; none for ever.
    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Channel::Plain(socket) => socket.set_read_timeout(timeout),
            #[cfg(feature = "tls")]
            Channel::Tls(secured) => secured.socket.set_read_timeout(timeout),
        }
    }

    /// Reads what is there: `WouldBlock` if there is nothing.
    pub(super) fn try_receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(socket) => look(socket, room),
            #[cfg(feature = "tls")]
            Channel::Tls(secured) => secured.receive(room, look),
        }
    }

    /// Writes all of it.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Channel::Plain(socket) => socket.write_all(bytes),
            #[cfg(feature = "tls")]
            Channel::Tls(secured) => secured.write_all(bytes),
        }
    }
}

/// Waits for bytes until the read timeout is over: then `TimedOut`.
impl Read for Channel {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(socket) => wait(socket, room),
            #[cfg(feature = "tls")]
            Channel::Tls(secured) => secured.receive(room, wait),
        }
    }
}

fn look(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let (read, _) = recv(socket, room, RecvFlags::DONTWAIT)?;
    Ok(read)
}

fn wait(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(socket, &mut *room, RecvFlags::empty()) {
            Ok((read, _)) => return Ok(read),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(feature = "tls")]
impl Secured {
    fn receive(
        &mut self,
        room: &mut [u8],
        read: fn(&TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match self.session.reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            self.session.read_tls(&mut Source(&self.socket, read))?;
            self.session.process_new_packets().map_err(io::Error::other)?;
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // It takes as much as it is willing to keep, and has written that before it gets more.
            let taken = self.session.writer().write(bytes)?;
            bytes = &bytes[taken..];
            while self.session.wants_write() {
                self.session.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }
}
