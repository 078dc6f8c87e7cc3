//! A client, and a node of a cluster, that speak the protocol by hand, so that they can break it.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use crucial_runtime::{
    codec,
    dso::{Create, HEADROOM, Head, Operation},
    error::{Error, Result},
    id::{self, MemberId, ObjectId, RunId, SessionId},
    object::{Methods, TypeInfo, lookup},
    reference::Lifetime,
    wire::{self, Elsewhere, Hello, Incoming, MAGIC, Map, Place, Plane, Welcome},
};

use crate::PATIENCE;

/// A connection after its greeting.
#[derive(Debug)]
pub struct Raw {
    /// The socket.
    pub stream: TcpStream,
    /// What it greeted with.
    pub hello: Hello,
    /// What the server said.
    pub welcome: Welcome,
}

/// A greeting that starts a run and a session.
#[must_use]
pub fn hello() -> Hello {
    Hello {
        version: wire::VERSION,
        run: RunId(id::fresh()),
        member: MemberId(id::fresh()),
        starts_run: true,
        node: None,
        session: SessionId(id::fresh()),
        connection: 0,
        since: 0,
    }
}

/// The bytes of a greeting.
#[must_use]
pub fn greeting(hello: &Hello) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(Plane::Data as u8);
    bytes.extend_from_slice(&wire::value_frame(hello));
    bytes
}

/// Connects without a word.
///
/// # Panics
/// If nobody listens.
#[must_use]
pub fn dial(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads a frame without its length.
///
/// # Errors
/// If the connection ends before.
pub fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Greets, and returns the server's answer.
///
/// # Errors
/// If the server refuses.
pub fn greet(address: &str, hello: Hello) -> Result<Raw> {
    let mut stream = dial(address);
    stream.write_all(&greeting(&hello)).unwrap();
    let body = read_frame(&mut stream).unwrap();
    let welcome = codec::decode::<Result<Welcome>>("the greeting", &body)??;
    Ok(Raw { stream, hello, welcome })
}

/// The number of a method.
///
/// # Panics
/// If there is none of this name.
#[must_use]
pub fn method(info: &TypeInfo, name: &str) -> u16 {
    let number = info.methods.iter().position(|m| m.name == name);
    u16::try_from(number.unwrap_or_else(|| panic!("{} has no method `{name}`", info.name))).unwrap()
}

/// The registered type of a handle.
///
/// # Panics
/// If it isn't registered.
#[must_use]
pub fn info<T: Methods>() -> &'static TypeInfo {
    lookup(T::NAME).unwrap()
}

/// The bytes of a request.
#[must_use]
pub fn request(head: &Head, seq: u64, ack: u64, args: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(args);
    wire::request_frame(head, seq, ack, &mut buffer).to_vec()
}

impl Raw {
    /// A connection that starts a run.
    ///
    /// # Panics
    /// If the server refuses it.
    #[must_use]
    pub fn connect(address: &str) -> Self {
        greet(address, hello()).unwrap()
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer: its number and what it says.
    ///
    /// # Panics
    /// If the connection ends before.
    pub fn receive(&mut self) -> (u64, Result<Vec<u8>>) {
        let body = read_frame(&mut self.stream).unwrap();
        let answer = wire::parse_answer(&body).unwrap();
        (answer.seq, answer.result().map(<[u8]>::to_vec))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// What the server says.
    ///
    /// # Panics
    /// If the answer is for another request.
    pub fn ask(&mut self, head: &Head, seq: u64, args: &[u8]) -> Result<Vec<u8>> {
        self.send(&request(head, seq, seq, args));
        let (answered, result) = self.receive();
        // A refusal of the connection has no number.
        assert!(answered == seq || answered == 0, "{answered} was answered, not {seq}");
        result
    }

    /// Makes a request and waits for its answer, of a node that serves the object sooner or later.
    ///
    /// # Errors
    /// What the server says.
    ///
    /// # Panics
    /// If the answer is for another request.
    pub fn ask_node(&mut self, head: &Head, seq: u64, ack: u64, args: &[u8]) -> Result<Vec<u8>> {
        loop {
            self.send(&request(head, seq, ack, args));
            let body = read_frame(&mut self.stream).unwrap();
            let answer = wire::parse_answer(&body)?;
            assert_eq!(answer.seq, seq);
            if answer.elsewhere()?.is_none() {
                return answer.result().map(<[u8]>::to_vec);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes an ephemeral object of this type by its first constructor, as call number 1.
    ///
    /// # Errors
    /// What the server says.
    pub fn create(
        &mut self,
        type_name: &str,
        tag: u64,
        object: ObjectId,
        key: Option<&str>,
        args: &[u8],
    ) -> Result<()> {
        let mut encoded = Vec::new();
        let create = Create { type_name, key, lifetime: Lifetime::Ephemeral, constructor: 0, args };
        codec::encode("a constructor call", &create, &mut encoded)?;
        let head = Head { operation: Operation::Create, object, tag, method: 0 };
        self.ask(&head, 1, &encoded).map(drop)
    }

    /// What the server says before it hangs up, if it says something.
    pub fn last_words(&mut self) -> Option<Error> {
        let body = read_frame(&mut self.stream).ok()?;
        wire::parse_answer(&body).ok()?.result().err()
    }
}

/// Sends bytes on a connection of their own and reads until the server hangs up, or for a moment.
pub fn throw(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = dial(address);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // The server may hang up while this writes.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
    answer
}

/// What a node that speaks the protocol by hand says to a call of an object.
#[derive(Clone, Debug)]
pub enum Says {
    /// This is its result.
    Result(Vec<u8>),
    /// The call was taken, but another node serves the object by now.
    Moved,
    /// The call was not taken: that node leads the object's partition.
    Led(u64),
    /// Nothing: the connection ends.
    Nothing,
}

/// Starts the only node of a cluster, which grants all that isn't a call of an object. Returns its address.
///
/// # Panics
/// If it can't listen.
#[must_use]
pub fn node(says: impl Fn(&Incoming<'_>) -> Says + Send + Sync + 'static) -> String {
    nodes(1, move |_, call| says(call)).remove(0)
}

/// Likewise, nodes with the numbers from 1. The first one owns all.
///
/// # Panics
/// If they can't listen.
#[must_use]
pub fn nodes(count: u64, says: impl Fn(u64, &Incoming<'_>) -> Says + Send + Sync + 'static) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    let map = Map { epoch: 1, nodes: (1..).zip(addresses.clone()).collect(), owners: vec![1] };
    let says = Arc::new(says);
    for (node, listener) in (1..).zip(listeners) {
        let (map, says) = (map.clone(), says.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (place, says) = (Place { node, map: map.clone() }, says.clone());
                // It ends when the client is gone.
                thread::spawn(move || converse(stream?, &place, &|call| says(node, call)));
            }
        });
    }
    addresses
}

fn converse(mut stream: TcpStream, place: &Place, says: &dyn Fn(&Incoming<'_>) -> Says) -> io::Result<()> {
    stream.read_exact(&mut [0; MAGIC.len() + 1])?;
    read_frame(&mut stream)?;
    let welcome = Welcome {
        node: u128::from(place.node),
        resumed: true,
        frame_limit: 1 << 20,
        cluster: Some(place.clone()),
    };
    stream.write_all(&wire::value_frame(&Ok::<_, Error>(welcome)))?;
    loop {
        let body = read_frame(&mut stream)?;
        let call = wire::parse_request(&body).map_err(io::Error::other)?;
        let mut answer = Vec::new();
        let start = wire::begin_answer(&mut answer);
        let elsewhere = match call.head.operation {
            Operation::Attend => continue,
            Operation::Call => match says(&call) {
                Says::Result(bytes) => {
                    answer.extend(bytes);
                    None
                }
                Says::Nothing => return Ok(()),
                Says::Moved => Some((None, true)),
                Says::Led(node) => Some((Some(node), false)),
            },
            _ => None,
        };
        match elsewhere {
            Some((leader, begun)) => {
                answer.clear();
                let elsewhere = Elsewhere { map: place.map.clone(), leader, begun };
                wire::elsewhere_answer(&mut answer, call.seq, &elsewhere);
            }
            None => wire::end_answer(&mut answer, start, call.seq, Ok(()), u64::MAX),
        }
        stream.write_all(&answer)?;
    }
}
