//! The sockets of async code: those of tokio, or with the feature `simulation` those of a simulated network.

#[cfg(feature = "simulation")]
mod simulated;

#[cfg(feature = "simulation")]
pub use simulated::{
    OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream, prepare, reset, shutdown, try_receive,
};
#[cfg(not(feature = "simulation"))]
pub use system::{prepare, shutdown, try_receive};
#[cfg(not(feature = "simulation"))]
pub use tokio::net::{
    TcpListener, TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};

#[cfg(not(feature = "simulation"))]
mod system {
    use std::io;

    use rustix::net::{RecvFlags, recv};
    use tokio::net::TcpStream;

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
