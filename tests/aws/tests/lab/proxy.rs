//! HTTP between a client and the Lambda service, with faults.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, OnceLock},
    thread,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on, and so is its answer.
    Pass,
    /// It is answered with this status and this error, and not passed on.
    Refuse(u16, &'static str),
    /// The connection ends before it is passed on.
    Lose,
    /// It is passed on, and the connection ends instead of an answer.
    LoseAnswer,
    /// It is passed on twice at once. The client gets the answer that comes last.
    Double,
}

/// A proxy that treats requests as it is told, one after the other, and then passes them on.
pub struct Proxy {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    service: Arc<OnceLock<SocketAddr>>,
}

#[derive(Default)]
struct Seen {
    fates: Vec<Fate>,
    /// Invocations that were passed on, as they came.
    requests: Vec<Vec<u8>>,
    /// The status codes of what the service answered.
    statuses: Vec<u16>,
}

impl Proxy {
    /// A proxy for a service that is yet to start.
    pub fn bind(fates: &[Fate]) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen { fates: fates.iter().rev().copied().collect(), ..Seen::default() };
        let proxy = Proxy { address, seen: Arc::new(Mutex::new(seen)), service: Arc::default() };
        let (seen, service) = (proxy.seen.clone(), proxy.service.clone());
        // It ends with the test process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (seen, service) = (seen.clone(), *service.wait());
                // The client or the service may end a connection at any time.
                thread::spawn(move || drop(serve(client, service, &seen)));
            }
        });
        proxy
    }

    /// The service is here.
    pub fn serve(&self, service: SocketAddr) {
        self.service.set(service).unwrap();
    }

    /// How many invocations were passed on.
    pub fn passed(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    /// How many answers of the service had this status.
    pub fn answered(&self, status: u16) -> usize {
        self.seen.lock().unwrap().statuses.iter().filter(|seen| **seen == status).count()
    }

    /// Sends the last request again, as Lambda might, and returns the answer's body.
    pub fn repeat(&self) -> String {
        let request = self.seen.lock().unwrap().requests.last().unwrap().clone();
        let answer = exchange(*self.service.wait(), &request).unwrap();
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        String::from_utf8(answer[body..].to_vec()).unwrap()
    }
}

fn serve(mut client: TcpStream, service: SocketAddr, seen: &Mutex<Seen>) -> io::Result<()> {
    client.set_nodelay(true)?;
    while let Some(request) = message(&mut client)? {
        let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let is_check = head.split("\r\n\r\n").next().unwrap().contains("x-amz-invocation-type: dryrun");
        // The check at the start is none of the test's business.
        let fate = if is_check { Fate::Pass } else { seen.lock().unwrap().fates.pop().unwrap_or(Fate::Pass) };
        let pass = || {
            if !is_check {
                seen.lock().unwrap().requests.push(request.clone());
            }
            let answer = exchange(service, &request)?;
            let status = String::from_utf8_lossy(&answer[9..12]).parse().map_err(io::Error::other)?;
            seen.lock().unwrap().statuses.push(status);
            io::Result::Ok(answer)
        };
        let answer = match fate {
            Fate::Pass => pass()?,
            Fate::Refuse(status, error) => refusal(status, error),
            Fate::Lose => return Ok(()),
            Fate::LoseAnswer => return pass().map(drop),
            Fate::Double => thread::scope(|scope| {
                let (answers, answered) = std::sync::mpsc::channel();
                for answers in [answers.clone(), answers] {
                    scope.spawn(move || answers.send(pass()));
                }
                answered.iter().last().expect("two were sent")
            })?,
        };
        client.write_all(&answer)?;
    }
    Ok(())
}

fn refusal(status: u16, error: &str) -> Vec<u8> {
    let body = r#"{"Type":"Service","Message":"as the test wants it"}"#;
    format!(
        "HTTP/1.1 {status} x\r\nx-amzn-errortype: {error}\r\nx-amzn-requestid: refused-1\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends a request to the service, on a connection of its own, and reads the answer.
fn exchange(service: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(service)?;
    stream.write_all(request)?;
    message(&mut stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Reads a request or an answer with its body. None if the connection ends before it.
fn message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
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
            let head = String::from_utf8_lossy(&message[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            whole = end + 4 + length.map_or(0, |length| length.trim().parse().unwrap());
        }
    }
    Ok(Some(message))
}
