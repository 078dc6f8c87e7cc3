//! TCP without anything on top: what no call over a socket can beat.

use std::{
    ffi::OsStr,
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use super::child::{Child, Pipes, SERVING};
use crate::Error;

/// What a request carries beside its payload: as much as one of ours.
const REQUEST_OVERHEAD: usize = 52;
/// And an answer.
const ANSWER_OVERHEAD: usize = 16;

/// Answers requests, one connection at a time. A request begins with its length and that of its answer.
pub(super) fn serve(spin: bool) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{SERVING}{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(spin)?;
        let mut buffer = vec![0; 16 << 10];
        let answer = vec![1; 16 << 10];
        // A client that is gone ends its connection, not this process.
        while let Ok(length) = request(&mut stream, &mut buffer) {
            if stream.write_all(&answer[..length.min(answer.len())]).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Reads a request; returns the length of the answer that it asks for.
fn request(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    loop {
        filled += read(stream, &mut buffer[filled..])?;
        if filled < 8 {
            continue;
        }
        let number = |at: usize| {
            u32::from_le_bytes(buffer[at..at + 4].try_into().expect("these are four bytes")) as usize
        };
        if filled >= number(0) {
            return Ok(number(4));
        }
    }
}

/// Reads something, spinning where the socket doesn't block.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            result => return result,
        }
    }
}

/// The other end, in a process of its own.
#[derive(Debug)]
pub(super) struct Raw {
    address: String,
    spin: bool,
    _child: Child,
}

impl Raw {
    pub(super) fn start(spin: bool) -> Result<Self, Error> {
        let spins = spin.then_some("--spin");
        let mut child = Child::role([OsStr::new("echo")], spins, &[], Pipes::Output)?;
        Ok(Raw { address: child.address()?, spin, _child: child })
    }

    /// A connection for one turn: an end that spins would disturb the others' turns.
    pub(super) fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(self.spin)?;
        Ok(Connection { stream, buffer: vec![0; 16 << 10] })
    }
}

/// A connection to the other end.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends as many bytes and waits for an answer with as many.
    pub(super) fn exchange(&mut self, send: usize, receive: usize) -> io::Result<()> {
        let (send, receive) = (send + REQUEST_OVERHEAD, receive + ANSWER_OVERHEAD);
        self.buffer[..4].copy_from_slice(&(send as u32).to_le_bytes());
        self.buffer[4..8].copy_from_slice(&(receive as u32).to_le_bytes());
        self.stream.write_all(&self.buffer[..send])?;
        let mut filled = 0;
        while filled < receive {
            filled += read(&mut self.stream, &mut self.buffer[filled..])?;
        }
        Ok(())
    }
}
