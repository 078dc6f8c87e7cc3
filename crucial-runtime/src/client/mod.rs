//! The data plane's client side: a run's DSO layer on a server.
//!
//! Blocking calls are written and read by the calling thread on its own connection (`blocking`); async calls share
//! a few connections (`shared`). Both follow the same rule when a connection breaks (`Remote::greet`): connect again
//! within [`Config::connect_timeout`], resume the session, send the unanswered requests again.

mod blocking;
mod channel;
mod dial;
mod patience;
mod presence;
mod routes;
mod shared;
mod spin;

use std::{
    fmt,
    io::{self, Read},
    net::{TcpStream, ToSocketAddrs},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use channel::Channel;
use patience::Patience;
use routes::{NodeId, Routes};
pub use spin::Spin;

use crate::{
    codec,
    config::Config,
    dso::{BoxFuture, Dso, Operation, OwnedRequest, Request},
    error::{Error, Result},
    id::{MemberId, RunId, SessionId, ThreadId},
    run,
    security::{self, Security},
    wire::{self, Hello, Plane, REQUEST_HEADER, Welcome},
};

/// How a process takes part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It started the run.
    Root,
    /// It works for a run that another process started.
    Member {
        /// The epoch of the cluster's map when the run began.
        since: u64,
    },
}

/// The DSO layer of a run, on a server.
pub struct Remote {
    link: Arc<Link>,
    /// An object's calls all go over the same one, so they keep their order.
    shared: [OnceLock<shared::Shared>; SHARED],
}

/// How many connections the async calls of a process share. A server works on the calls of a connection one after the
/// other, so one would keep it from using more than one CPU.
const SHARED: usize = 4;
/// How long one of several servers may take to be reached, and to answer a greeting. Another one may do so at once.
const NODE: Duration = Duration::from_secs(2);

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("servers", &self.link.servers).finish_non_exhaustive()
    }
}

/// What all connections of a process to a run's server have in common.
struct Link {
    config: Arc<Config>,
    security: Security,
    servers: Vec<String>,
    /// Which of them answered last.
    answered: AtomicUsize,
    run: RunId,
    member: MemberId,
    part: Part,
    /// The cloud thread that the servers have to be told of. `news` counts how often it has changed.
    attends: Mutex<Option<ThreadId>>,
    news: AtomicU64,
    routes: Routes,
    /// How often it was connected.
    dialled: AtomicU64,
    /// The epoch of the cluster's map when the run began.
    since: OnceLock<u64>,
    welcome: OnceLock<Welcome>,
    idle: Mutex<Vec<blocking::Lane>>,
    ended: AtomicBool,
}

impl Remote {
    /// Connects to the first of the servers that answers, and starts or joins the run.
    ///
    /// # Errors
    /// If no server is reachable within [`Config::connect_timeout`], it refuses the client, it doesn't know the run that is
    /// joined, or there is a token and this program was built without TLS.
    pub fn connect(
        config: &Arc<Config>,
        servers: &[String],
        run: RunId,
        member: MemberId,
        part: Part,
    ) -> Result<Self> {
        let link = Link::new(config, servers, run, member, part)?;
        let first = blocking::Lane::open(&link)?;
        link.idle.lock().unwrap().push(first);
        Ok(Self::on(link))
    }

    /// As [`connect`](Self::connect), for async code.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "simulation")]
    pub async fn open(
        config: &Arc<Config>,
        servers: &[String],
        run: RunId,
        member: MemberId,
        part: Part,
    ) -> Result<Self> {
        let link = Link::new(config, servers, run, member, part)?;
        link.reach(SessionId(crate::id::fresh())).await?;
        Ok(Self::on(link))
    }

    fn on(link: Arc<Link>) -> Self {
        if link.routes.is_clustered() {
            presence::start(&link);
        }
        Remote { link, shared: Default::default() }
    }
}

impl Link {
    fn new(
        config: &Arc<Config>,
        servers: &[String],
        run: RunId,
        member: MemberId,
        part: Part,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Link {
            config: config.clone(),
            security: Security::new(config)?,
            servers: servers.to_vec(),
            answered: AtomicUsize::new(0),
            run,
            member,
            part,
            attends: Mutex::default(),
            news: AtomicU64::new(0),
            routes: Routes::new(),
            dialled: AtomicU64::new(0),
            since: match part {
                Part::Root => OnceLock::new(),
                Part::Member { since } => OnceLock::from(since),
            },
            welcome: OnceLock::new(),
            idle: Mutex::default(),
            ended: AtomicBool::new(false),
        }))
    }

    /// Connects and greets; tries again while no server is reachable.
    fn dial(&self, session: SessionId) -> Result<(Channel, Welcome)> {
        let after = self.config.connect_timeout;
        let mut patience = Patience::from_now(after);
        loop {
            let tried = match self.dial_once(session) {
                Ok(connected) => return Ok(connected),
                Err(Dial::Refused(error)) => return Err(error),
                Err(Dial::Unreachable(tried)) => tried,
            };
            // A run that ends keeps nobody waiting: without a server, its lease ends it.
            if self.ended.load(Ordering::SeqCst) || !patience.wait() {
                return Err(Error::Unreachable { tried: tried.join("; "), after });
            }
        }
    }

    fn dial_once(&self, session: SessionId) -> Result<(Channel, Welcome), Dial> {
        let mut tried = Vec::new();
        for (place, server) in self.in_turn() {
            match connect(server, self.each(), &self.security) {
                Ok(mut channel) => match self.greet(&mut channel, session, self.each()) {
                    Ok(Ok(welcome)) => {
                        self.answered.store(place, Ordering::Relaxed);
                        return Ok((channel, welcome));
                    }
                    Ok(Err(refusal)) => return Err(Dial::Refused(at(server, refusal))),
                    Err(error) => tried.push(format!("{server}: no greeting: {error}")),
                },
                Err(error) => self.not_connected(server, &error, &mut tried)?,
            }
        }
        Err(Dial::Unreachable(tried))
    }

    /// The servers, each with its place, from the one that answered last: one that says nothing is waited for once, and not
    /// by each new connection.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &String)> {
        let first = self.answered.load(Ordering::Relaxed);
        self.servers.iter().enumerate().cycle().skip(first).take(self.servers.len())
    }

    /// How long each server may take.
    ///
    /// Invariant: one that is frozen, or has lost its power, keeps nobody from the others. Where there is one only, asking
    /// it again would not help.
    fn each(&self) -> Duration {
        let all = self.config.connect_timeout;
        if self.servers.len() > 1 { all.min(NODE) } else { all }
    }

    /// Connects to a node of the cluster, if it can be reached at once.
    fn dial_node(&self, node: NodeId, session: SessionId) -> Result<(Channel, Welcome)> {
        let patience = self.config.connect_timeout.min(NODE);
        let failed =
            |reason: String| Error::Unreachable { tried: format!("node {node}: {reason}"), after: patience };
        let address = self.routes.address(node).ok_or_else(|| failed("it is not up".to_owned()))?;
        let mut channel =
            connect(&address, patience, &self.security).map_err(|e| failed(format!("{address}: {e}")))?;
        let welcome = self.greet(&mut channel, session, patience);
        Ok((channel, welcome.map_err(|e| failed(format!("{address}: {e}")))??))
    }

    /// Greets the server.
    ///
    /// Invariant: a run stays with the start of the node that it began on. A server that was started again has lost
    /// what the run wrote, so it must refuse the run instead of answering with fresh objects.
    fn greet(
        &self,
        channel: &mut Channel,
        session: SessionId,
        patience: Duration,
    ) -> io::Result<Result<Welcome>> {
        channel.set_read_timeout(Some(patience))?;
        channel.write_all(&self.greeting(session))?;
        let mut length = [0; 4];
        channel.read_exact(&mut length)?;
        let mut answer = vec![0; answer_length(length)?];
        channel.read_exact(&mut answer)?;
        channel.set_read_timeout(None)?;
        Ok(self.greeted(&answer))
    }

    /// Takes down why there is no connection to a server. One that doesn't accept this client, or that this client doesn't,
    /// is not tried again; but where it was accepted before, somebody may have changed bytes on the way.
    fn not_connected(&self, server: &str, error: &io::Error, tried: &mut Vec<String>) -> Result<(), Dial> {
        if security::is_refusal(error) && self.welcome.get().is_none() {
            return Err(Dial::Refused(Error::Refused { reason: format!("{server}: {error}") }));
        }
        tried.push(format!("{server}: {error}"));
        Ok(())
    }

    fn greeting(&self, session: SessionId) -> Vec<u8> {
        let known = self.welcome.get();
        let hello = Hello {
            version: wire::VERSION,
            run: self.run,
            member: self.member,
            starts_run: self.part == Part::Root && known.is_none(),
            node: known.map(|w| w.node),
            session,
            connection: self.dialled.fetch_add(1, Ordering::Relaxed),
            since: self.since.get().copied().unwrap_or(0),
        };
        let mut greeting = wire::MAGIC.to_vec();
        greeting.push(Plane::Data as u8);
        greeting.extend_from_slice(&wire::value_frame(&hello));
        greeting
    }

    /// Learns from the server's answer to a greeting; or it is a refusal.
    fn greeted(&self, answer: &[u8]) -> Result<Welcome> {
        let welcome = codec::decode::<Result<Welcome>>("the server's greeting", answer)??;
        // Threads that connect at the same time got the same answer, or are refused at their next greeting.
        let _ = self.welcome.set(welcome.clone());
        if let Some(place) = &welcome.cluster {
            self.since.get_or_init(|| place.map.epoch);
            self.routes.learn(&place.map);
        }
        Ok(welcome)
    }

    /// What a server has to be told before the next call on a connection that does not know it.
    fn news(&self) -> Option<[u8; REQUEST_HEADER]> {
        self.attends.lock().unwrap().map(wire::attend_frame)
    }

    /// Checks a request's size before it is sent: a server cuts the connection of a client that sends more.
    fn check_size(&self, what: &dyn fmt::Display, size: usize) -> Result<()> {
        let limit = self.welcome.get().map_or(u64::MAX, |w| w.frame_limit).min(self.config.limits.frame);
        if size as u64 <= limit {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: format!("the call {what}"),
            size: size as u64,
            limit,
            setting: "limit_frame".to_owned(),
        })
    }
}

enum Dial {
    Refused(Error),
    Unreachable(Vec<String>),
}

fn answer_length(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(length) as usize;
    if length > wire::GREETING_LIMIT {
        return Err(io::Error::other("this is no DSO server"));
    }
    Ok(length)
}

/// Says which server has refused.
fn at(server: &str, refusal: Error) -> Error {
    match refusal {
        Error::Refused { reason } => Error::Refused { reason: format!("{server}: {reason}") },
        refusal => refusal,
    }
}

fn connect(server: &str, timeout: Duration, security: &Security) -> io::Result<Channel> {
    let mut last = io::Error::other("the name has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                prepare(&stream)?;
                return Channel::open(stream, security, timeout);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How long a peer may say nothing before it is asked whether it is there, how often it is asked, and how many times.
const QUIET: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// When a connection is given up. With nothing on its way, probes find that the peer is gone. With something, there are no
/// probes: TCP repeats what wasn't acknowledged, ever less often, up to two minutes apart. So after a cut of the network a
/// call would wait for as long again as the cut took. It takes a new connection instead; its session sees to it that a call
/// that has been applied is not applied twice.
const GONE: Duration = Duration::from_secs(QUIET.as_secs() + PROBE.as_secs() * PROBES as u64);

/// Sets what every connection needs: no delay of small writes, and that a peer that is gone is found.
pub fn prepare(stream: &impl std::os::fd::AsFd) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let probes = socket2::TcpKeepalive::new().with_time(QUIET).with_interval(PROBE).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(GONE))?;
    Ok(())
}

/// Makes a request about the run to every node. One that can't be reached finds out by itself, when leases end.
fn everywhere(link: &Arc<Link>, request: &mut OwnedRequest) {
    if !link.routes.is_clustered() {
        let _ = blocking::call(link, request.borrow(), &mut |_| ());
        return;
    }
    for node in link.routes.nodes() {
        let _ = blocking::Lane::new(link).exchange(link, Some(node), request.borrow(), &mut |_| ());
    }
}

impl Dso for Remote {
    fn call(&self, request: Request<'_>, decode: &mut dyn FnMut(&[u8])) -> Result<()> {
        blocking::call(&self.link, request, decode)
    }

    fn call_async(&self, mut request: OwnedRequest) -> BoxFuture<'static, Result<Vec<u8>>> {
        let size = request.buffer.len();
        if let Err(error) = self.link.check_size(&request.borrow().name, size) {
            return Box::pin(std::future::ready(Err(error)));
        }
        if request.head.operation == Operation::Lost && self.link.routes.is_clustered() {
            // Each node knows the processes that have called it.
            let link = self.link.clone();
            return Box::pin(async move {
                let told = run::io().spawn_blocking(move || everywhere(&link, &mut request)).await;
                told.map_err(|e| Error::Io { what: "telling the nodes".to_owned(), reason: e.to_string() })?;
                Ok(Vec::new())
            });
        }
        let shared = &self.shared[(request.head.object.0 >> 32) as usize % SHARED];
        shared.get_or_init(|| shared::Shared::new(&self.link)).call(request)
    }

    fn addresses(&self) -> Result<Vec<String>> {
        Ok(self.link.servers.clone())
    }

    fn since(&self) -> u64 {
        self.link.since.get().copied().unwrap_or(0)
    }

    fn attend(&self, thread: ThreadId) {
        *self.link.attends.lock().unwrap() = Some(thread);
        self.link.news.fetch_add(1, Ordering::Release);
    }

    fn end_run(&self) {
        if self.link.part != Part::Root || self.link.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        // If the server can't be reached now, the run's lease ends it.
        everywhere(&self.link, &mut OwnedRequest::end_run());
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_given_up_when_nothing_is_acknowledged() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        prepare(&stream).unwrap();
        assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(GONE));
    }
}
