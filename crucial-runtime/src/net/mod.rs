//! The connections of async code, with or without TLS ([`crate::security`]): over sockets of tokio, or with the feature
//! `simulation` over those of a simulated network.

use std::{io, net::SocketAddr};

mod duplex;
#[cfg(feature = "simulation")]
mod simulated;
mod stream;

pub use duplex::Duplex;
#[cfg(feature = "tls")]
pub(crate) use duplex::Source;
#[cfg(feature = "simulation")]
pub use simulated::{
    OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream, listen, prepare, reset, shutdown, try_receive,
};
pub use stream::Stream;
#[cfg(not(feature = "simulation"))]
pub use system::{listen, prepare, shutdown, try_receive};
#[cfg(not(feature = "simulation"))]
pub use tokio::net::{
    TcpListener, TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};

/// The addresses that `address` (`host:port`) stands for on the system's own network; with `own`, only if nobody but this
/// machine can reach them.
///
/// # Errors
/// `AddrNotAvailable` if others can; if it is wrong.
pub async fn look_up(address: &str, own: bool) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host(address).await?.collect();
    if own && !addresses.iter().map(SocketAddr::ip).all(|ip| ip.is_loopback()) {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    Ok(addresses)
}

#[cfg(not(feature = "simulation"))]
mod system {
    use std::io;

    use rustix::net::{RecvFlags, recv};
    use tokio::net::{TcpListener, TcpStream};

    /// Listens at `address` (`host:port`); with `own`, only if nobody but this machine can reach it.
    ///
    /// # Errors
    /// `AddrNotAvailable` if others can; if it is wrong or in use.
    pub async fn listen(address: &str, own: bool) -> io::Result<TcpListener> {
        TcpListener::bind(&super::look_up(address, own).await?[..]).await
    }

    /// Sets what every connection needs.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn prepare(stream: &TcpStream) -> io::Result<()> {
        crate::client::prepare(stream)
    }

    /// Tells the peer that nothing more will come.
    pub fn shutdown(stream: &TcpStream) {
        // The peer may be gone already.
        let _ = socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write);
    }

    /// Asks the system for bytes, whether or not the runtime knows of any.
    ///
    /// # Errors
    /// `WouldBlock` if there are none; or if the connection is broken.
    pub fn try_receive(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
        let (read, _) = recv(stream, room, RecvFlags::DONTWAIT)?;
        Ok(read)
    }
}
