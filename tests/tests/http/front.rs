//! One address for several function processes, as a Service of Kubernetes or an ingress, with faults.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

/// What becomes of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on, and so is its answer.
    Pass,
    /// It is answered with this status, as an ingress does that reaches nobody.
    Refuse(u16),
    /// It is answered as if it had been run, by somebody who can't know.
    Forge,
    /// The connection ends before it is passed on.
    Lose,
    /// It is passed on, and the connection ends instead of an answer.
    LoseAnswer,
    /// It is passed on to two processes at once. The client gets the answer that comes last.
    Double,
}

/// Distributes connections over processes, in turn: all requests of one connection go to the same one.
pub struct Front {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    processes: Vec<SocketAddr>,
    turn: usize,
    /// What becomes of the next ones, the first one last.
    fates: Vec<Fate>,
    /// Invocations that were passed on, as they came.
    requests: Vec<Vec<u8>>,
    /// What the processes answered to them.
    marks: Vec<String>,
    guard: Option<Guard>,
}

/// Says with which status a request is refused, if it is.
type Guard = Box<dyn FnMut(&[u8]) -> Option<u16> + Send>;

impl Front {
    /// Deals so with the first invocations, and passes the others on.
    pub fn start(fates: &[Fate]) -> Front {
        Front::over(fates, Ok)
    }

    /// The same, with what `open` makes of clients' connections.
    pub fn over<S, F>(fates: &[Fate], open: F) -> Front
    where
        S: Read + Write,
        F: Fn(TcpStream) -> io::Result<S> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { fates: fates.iter().rev().copied().collect(), ..State::default() };
        let front = Front { address, state: Arc::new(Mutex::new(state)) };
        let state = front.state.clone();
        let open = Arc::new(open);
        // It ends with the test process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, open) = (state.clone(), open.clone());
                // Clients and processes may end a connection at any time.
                thread::spawn(move || {
                    let opened = client.set_nodelay(true).and_then(|()| open(client));
                    drop(opened.and_then(|client| serve(client, &state)));
                });
            }
        });
        front
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on, somebody looks at each request first, as at an invocation as at a question whether a function is there.
    pub fn guard(&self, guard: impl FnMut(&[u8]) -> Option<u16> + Send + 'static) {
        self.state().guard = Some(Box::new(guard));
    }

    /// One more process gets its turns.
    pub fn add(&self, address: &str) {
        self.state().processes.push(address.parse().unwrap());
    }

    /// How many invocations were passed on.
    pub fn passed(&self) -> usize {
        self.state().requests.len()
    }

    /// How many of them were answered like this: `outcome`, `busy`, ...
    pub fn answered(&self, mark: &str) -> usize {
        self.state().marks.iter().filter(|seen| *seen == mark).count()
    }

    /// The invocation that was passed on last.
    pub fn last(&self) -> Vec<u8> {
        self.state().requests.last().unwrap().clone()
    }
}

fn serve(mut client: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    let mut process = None;
    while let Some(request) = message(&mut client)? {
        let refused = state.lock().unwrap().guard.as_mut().and_then(|guard| guard(&request));
        if let Some(status) = refused {
            client.write_all(&refusal(status))?;
            continue;
        }
        let is_invocation = request.starts_with(b"POST ");
        let fate = if is_invocation { state.lock().unwrap().fates.pop() } else { None };
        let fate = fate.unwrap_or(Fate::Pass);
        let pass = |stream: &mut TcpStream| {
            if is_invocation {
                state.lock().unwrap().requests.push(request.clone());
            }
            let answer = exchange(stream, &request)?;
            if is_invocation {
                state.lock().unwrap().marks.push(header(&answer, "x-crucial").unwrap_or_default());
            }
            io::Result::Ok(answer)
        };
        let answer = match fate {
            Fate::Refuse(status) => refusal(status),
            Fate::Forge => {
                b"HTTP/1.1 200 x\r\nx-crucial: outcome\r\ncontent-length: 6\r\n\r\nforged".to_vec()
            }
            Fate::Lose => return Ok(()),
            Fate::Double => thread::scope(|scope| {
                let (answers, answered) = std::sync::mpsc::channel();
                for answers in [answers.clone(), answers] {
                    scope
                        .spawn(move || answers.send(connect(state).and_then(|mut stream| pass(&mut stream))));
                }
                answered.iter().last().expect("two were sent")
            })?,
            Fate::Pass | Fate::LoseAnswer => {
                let stream = match &mut process {
                    Some(stream) => stream,
                    none => none.insert(connect(state)?),
                };
                let answer = pass(stream)?;
                if fate == Fate::LoseAnswer {
                    return Ok(());
                }
                answer
            }
        };
        client.write_all(&answer)?;
        if header(&answer, "connection").as_deref() == Some("close") {
            break;
        }
    }
    Ok(())
}

/// What somebody answers who passes nothing on.
fn refusal(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\ncontent-length: 9\r\n\r\nno luck\r\n").into_bytes()
}

/// A connection to the process whose turn it is.
fn connect(state: &Mutex<State>) -> io::Result<TcpStream> {
    let process = {
        let mut state = state.lock().unwrap();
        let n = state.processes.len();
        if n == 0 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        state.turn += 1;
        state.processes[(state.turn - 1) % n]
    };
    TcpStream::connect(process)
}

/// Sends a request, and reads the answer.
pub fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    message(stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The value of a header, in lower case.
pub fn header(message: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(message).to_ascii_lowercase();
    let head = head.split("\r\n\r\n").next().unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(header, _)| *header == name).map(|(_, value)| value.to_owned())
}

/// Reads a request or an answer with its body. None if the connection ends before it.
pub fn message(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let mut whole = usize::MAX;
    while message.len() < whole {
        match stream.read(&mut chunk)? {
            0 if message.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => message.extend_from_slice(&chunk[..n]),
        }
        if whole == usize::MAX
            && let Some(end) = message.windows(4).position(|end| end == b"\r\n\r\n")
        {
            let length = header(&message, "content-length").map_or(0, |length| length.parse().unwrap());
            whole = end + 4 + length;
        }
    }
    Ok(Some(message))
}
