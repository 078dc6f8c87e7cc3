//! Sockets of a network that `turmoil` simulates, with what this project uses of tokio's.

use std::{
    cell::RefCell,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{self, tcp};

thread_local! {
    /// All connections of the simulation, which has one thread.
    static LINES: RefCell<Vec<Weak<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Breaks the connections between two hosts, as a network does that forgets them. Both ends notice at once.
pub fn reset(a: IpAddr, b: IpAddr) {
    let broken: Vec<_> = LINES.with_borrow_mut(|lines| {
        lines.retain(|line| line.strong_count() > 0);
        lines
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|line| line.ends == (a, b) || line.ends == (b, a))
            .collect()
    });
    broken.iter().for_each(|line| line.break_off());
}

/// What keeps an end of a connection from going on for ever: in the simulated network, lost bytes aren't sent again.
#[derive(Debug)]
struct Line {
    ends: (IpAddr, IpAddr),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Line {
    fn new(stream: &net::TcpStream) -> io::Result<Arc<Self>> {
        let ends = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        let line = Arc::new(Line { ends, state: Mutex::default() });
        LINES.with_borrow_mut(|lines| lines.push(Arc::downgrade(&line)));
        Ok(line)
    }

    fn break_off(&self) {
        let mut state = self.state.lock().unwrap();
        state.broken = true;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn check(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap();
        if state.broken { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(state) }
    }

    fn check_read(&self, cx: &Context<'_>) -> io::Result<()> {
        self.check()?.reader = Some(cx.waker().clone());
        Ok(())
    }

    fn check_write(&self, cx: &Context<'_>) -> io::Result<()> {
        self.check()?.writer = Some(cx.waker().clone());
        Ok(())
    }
}

/// An end of a connection, or one of its directions.
#[derive(Debug)]
pub struct End<T> {
    inner: T,
    line: Arc<Line>,
}

/// The direction that is read.
pub type OwnedReadHalf = End<tcp::OwnedReadHalf>;
/// The direction that is written.
pub type OwnedWriteHalf = End<tcp::OwnedWriteHalf>;

impl<T: AsyncRead + Unpin> AsyncRead for End<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.check_read(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for End<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.line.check_write(cx)?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// As `tokio::net::TcpStream`.
#[derive(Debug)]
pub struct TcpStream {
    end: Mutex<End<net::TcpStream>>,
    peer: SocketAddr,
}

impl TcpStream {
    fn new(inner: net::TcpStream) -> io::Result<Self> {
        let (line, peer) = (Line::new(&inner)?, inner.peer_addr()?);
        Ok(TcpStream { end: Mutex::new(End { inner, line }), peer })
    }

    /// As tokio's.
    pub async fn connect(address: &str) -> io::Result<Self> {
        Self::new(net::TcpStream::connect(address).await?)
    }

    /// As tokio's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    /// As tokio's.
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let End { inner, line } = self.end.into_inner().unwrap();
        let (reader, writer) = inner.into_split();
        (End { inner: reader, line: line.clone() }, End { inner: writer, line })
    }

    /// As tokio's.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let mut end = self.end.lock().unwrap();
            end.line.check_read(cx)?;
            let mut byte = [0];
            end.inner.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map_ok(|_| ())
        })
        .await
    }

    /// As tokio's.
    pub fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut end = self.end.lock().unwrap();
        drop(end.line.check()?);
        let mut room = ReadBuf::new(room);
        match Pin::new(&mut end.inner).poll_read(&mut Context::from_waker(Waker::noop()), &mut room) {
            Poll::Ready(read) => read.map(|()| room.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// As tokio's.
    pub async fn writable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let end = self.end.lock().unwrap();
            end.line.check_write(cx)?;
            std::pin::pin!(end.inner.writable()).poll(cx)
        })
        .await
    }

    /// As tokio's.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.end.lock().unwrap();
        drop(end.line.check()?);
        end.inner.try_write(bytes)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.end.get_mut().unwrap()).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.end.get_mut().unwrap()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.end.get_mut().unwrap()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.end.get_mut().unwrap()).poll_shutdown(cx)
    }
}

/// As `tokio::net::TcpListener`.
pub struct TcpListener {
    inner: net::TcpListener,
    address: SocketAddr,
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl TcpListener {
    /// As tokio's. A host has one address, at which it listens.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let inner = net::TcpListener::bind(("0.0.0.0", address.port())).await?;
        Ok(TcpListener { inner, address })
    }

    /// As tokio's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// As tokio's.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.inner.accept().await?;
        Ok((TcpStream::new(stream)?, peer))
    }
}

/// As the system's. Hosts of a simulated network are no machines, so everybody may reach them.
pub async fn listen(address: &str, _: bool) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Nothing to set.
pub fn prepare(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// Tells the peer that nothing more will come.
pub fn shutdown(stream: &TcpStream) {
    let mut end = stream.end.lock().unwrap();
    // The peer may be gone already.
    let _ = Pin::new(&mut end.inner).poll_shutdown(&mut Context::from_waker(Waker::noop()));
}

/// As [`TcpStream::try_read`].
pub fn try_receive(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    stream.try_read(room)
}
