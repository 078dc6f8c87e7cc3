//! A connection, with or without TLS, as one task uses it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{TcpStream, prepare};
use crate::security::Security;

/// A connection that is ready for use. What is written has to be flushed: TLS may keep some of it until then.
#[derive(Debug)]
pub enum Stream {
    /// As the network has it.
    Plain(TcpStream),
    /// Through TLS, after the handshake.
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to `address` (`host:port`).
    ///
    /// # Errors
    /// If it can't be reached, or one end doesn't [accept](crate::security::is_refusal) the other.
    pub async fn connect(address: &str, security: &Security) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        prepare(&stream)?;
        security.connect(stream).await
    }
}

/// Calls a method of whichever it is.
macro_rules! forward {
    ($self:ident, $method:ident($($arg:expr),*)) => {
        match $self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).$method($($arg),*),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown(cx))
    }
}
