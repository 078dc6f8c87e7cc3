//! Log entries on their way from a leader to another node: what is most of the traffic between nodes, and what writers wait
//! for.
//!
//! A line is a connection of the plane [`Log`](crucial_runtime::wire::Plane::Log), after the greetings. All groups share it,
//! with many requests on their way. Whoever has a request or an answer writes it itself, without a wake-up of the connection's
//! task; nothing has a clock.
//!
//! | part of a request | bytes | |
//! |---|---|---|
//! | length of the rest | 4 | little-endian, as all numbers |
//! | number | 8 | of the request |
//! | group | 4 | |
//! | `AppendEntriesRequest` | the rest | MessagePack |
//!
//! | part of an answer | bytes | |
//! |---|---|---|
//! | length of the rest | 4 | |
//! | number | 8 | of the request that it belongs to, in any order |
//! | `Result<AppendEntriesResponse, Failure>` | the rest | MessagePack |
//!
//! Invariant: whoever waits is told when the connection ends. A request whose answer is not waited for any more may still be
//! carried out: openraft takes old entries for what they are.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, atomic::Ordering},
};

use crucial_runtime::{
    codec,
    error::{Error, Result},
    net::Stream,
    wire::{self, Plane},
};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    Cluster,
    peers::{Connection, Failure, LONGEST, Peers, Unanswered},
    raft::{Entry, GroupId, NodeId, Types, command_bytes},
};
use crate::{
    frames::{Inbox, Outbox},
    node::Link,
};

/// What a node says of entries.
type Answer = Result<AppendEntriesResponse<Types>, Failure>;

/// Room for what of an entry is not its command, and of a frame not its entries.
const AROUND: usize = 64;

/// A line to another node, which ends when this is dropped.
pub(super) struct Line {
    client: Arc<Client>,
}

/// Who asks over a line.
pub(super) struct Client {
    outbox: Outbox,
    waiting: Mutex<Waiting>,
}

/// Who waits for answers.
#[derive(Default)]
struct Waiting {
    /// The number of the last request.
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    ended: bool,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Line {
    /// Over a connection whose greetings are exchanged.
    fn start(stream: Stream) -> Self {
        let client = Arc::new(Client { outbox: Outbox::greeted(stream.into()), waiting: Mutex::default() });
        let reader = client.clone();
        tokio::spawn(async move {
            if let Err(error) = reader.read().await {
                tracing::debug!(%error, "a connection to another node broke");
            }
            // Somebody may still have the client.
            reader.outbox.stream.shutdown();
            let mut waiting = reader.waiting.lock().unwrap();
            waiting.ended = true;
            waiting.answers.clear();
        });
        Line { client }
    }
}

impl Connection for Line {
    type Client = Arc<Client>;

    async fn dial(peers: &Peers, address: &str, to: NodeId) -> Result<Self> {
        Ok(Line::start(peers.reach(address, to, Plane::Log).await?))
    }

    fn has_ended(&self) -> bool {
        self.client.waiting.lock().unwrap().ended
    }

    fn client(&self) -> Arc<Client> {
        self.client.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.client.outbox.close();
    }
}

impl Client {
    /// Sends entries of a group's log, and waits for what the other node says of them.
    ///
    /// # Errors
    /// If the connection ends before.
    pub(super) async fn append(
        &self,
        group: GroupId,
        request: &AppendEntriesRequest<Types>,
    ) -> Result<Answer, Unanswered> {
        let broken = || Unanswered::Broken("the connection has ended".to_owned());
        let (sender, answer) = oneshot::channel();
        let number = {
            let mut waiting = self.waiting.lock().unwrap();
            if waiting.ended {
                return Err(broken());
            }
            waiting.last += 1;
            let number = waiting.last;
            waiting.answers.insert(number, sender);
            number
        };
        // Whoever gives up is not waited for.
        let _withdraw = Withdraw(self, number);
        let mut frame = begin(AROUND + request.entries.iter().map(size).sum::<usize>(), number);
        frame.extend_from_slice(&group.to_le_bytes());
        finish(&mut frame, request).map_err(|error| Unanswered::Refused(error.to_string()))?;
        self.outbox.send(frame);
        answer.await.map_err(|_| broken())
    }

    /// Takes the answers to whoever waits for them, until the connection ends.
    async fn read(&self) -> Result<()> {
        carry(&self.outbox, |mut body| {
            let number = u64::from_le_bytes(codec::take("an answer", &mut body)?);
            let answer = codec::decode("the answer to log entries", body)?;
            let waiting = self.waiting.lock().unwrap().answers.remove(&number);
            if let Some(waiting) = waiting {
                let _ = waiting.send(answer);
            }
            Ok(())
        })
        .await
    }
}

/// Forgets a request when it is dropped.
struct Withdraw<'a>(&'a Client, u64);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().unwrap().answers.remove(&self.1);
    }
}

/// Takes the entries that another node sends, until it closes the connection.
pub(super) async fn serve(cluster: Arc<Cluster>, stream: Stream) {
    let append = move |group, request| {
        let cluster = cluster.clone();
        async move { cluster.group(group).await?.append(request).await }
    };
    if let Err(error) = answer(stream, append).await {
        tracing::debug!(%error, "a connection of another node broke");
    }
}

/// Answers requests, several at a time: each has a task of its own, which writes its answer.
async fn answer<F: Future<Output = Answer> + Send + 'static>(
    stream: Stream,
    append: impl Fn(GroupId, AppendEntriesRequest<Types>) -> F,
) -> Result<()> {
    let outbox = Arc::new(Outbox::greeted(stream.into()));
    carry(&outbox, |mut body| {
        let number = u64::from_le_bytes(codec::take("a request", &mut body)?);
        let group = GroupId::from_le_bytes(codec::take("a request", &mut body)?);
        let answer = append(group, codec::decode("log entries", body)?);
        let outbox = outbox.clone();
        tokio::spawn(async move {
            let mut frame = begin(AROUND, number);
            finish(&mut frame, &answer.await).expect("an answer is numbers and text, which can be encoded");
            outbox.send(frame);
        });
        Ok(())
    })
    .await
}

/// Gives every frame that comes to `each`, and writes what the socket didn't take when frames were sent, until the connection
/// ends or is to be closed.
async fn carry(outbox: &Outbox, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut inbox = Inbox::default();
    let writing = write(outbox);
    tokio::pin!(writing);
    loop {
        let read = tokio::select! {
            ended = &mut writing => return ended.map_err(|error| failed(&error)),
            read = outbox.stream.read(inbox.room()) => read.map_err(|error| failed(&error))?,
        };
        if read == 0 {
            return Ok(());
        }
        inbox.came(read);
        inbox.take(LONGEST as u64, &mut each)?;
    }
}

/// Writes what the socket didn't take when frames were sent, until the connection is to be closed.
async fn write(outbox: &Outbox) -> io::Result<()> {
    while !outbox.closed.load(Ordering::Acquire) {
        tokio::select! {
            written = outbox.finish(), if outbox.is_pending() => written?,
            () = outbox.filled.notified() => {}
        }
    }
    Ok(())
}

/// A frame that says which request it belongs to.
fn begin(capacity: usize, number: u64) -> Vec<u8> {
    let mut frame = Vec::with_capacity(capacity);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&number.to_le_bytes());
    frame
}

/// Adds the rest to a frame.
fn finish(frame: &mut Vec<u8>, value: &impl Serialize) -> Result<()> {
    codec::encode("log entries", value, frame)?;
    wire::end_frame(frame);
    Ok(())
}

fn size(entry: &Entry) -> usize {
    AROUND + command_bytes(entry)
}

fn failed(error: &io::Error) -> Error {
    Error::io("exchanging log entries", error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use openraft::{EntryPayload, alias::CommittedLeaderIdOf};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cluster::raft::{Command, LogId, Vote};

    /// A line, and the other end of its connection.
    async fn line() -> (Line, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, there) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Line::start(Stream::Plain(here.unwrap())), Stream::Plain(there.unwrap().0))
    }

    fn request(bytes: usize) -> AppendEntriesRequest<Types> {
        let leader_id = CommittedLeaderIdOf::<Types> { term: 1, node_id: 1 };
        let log_id = LogId { leader_id, index: 7 };
        let command = Command(vec![b'x'; bytes].into());
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: vec![Entry { log_id, payload: EntryPayload::Normal(command) }],
            leader_commit: None,
        }
    }

    /// What an end says that has to be recognised.
    fn said(group: GroupId, request: &AppendEntriesRequest<Types>) -> Answer {
        Err(format!("group {group} has {} bytes", request.entries.iter().map(size).sum::<usize>()))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_find_who_waits_for_them() {
        let (line, there) = line().await;
        let serving = tokio::spawn(answer(there, |group, request| async move {
            // The first is answered last.
            tokio::time::sleep(Duration::from_millis(u64::from(40 - group))).await;
            said(group, &request)
        }));
        let client = line.client();
        // More than sockets hold, so that each end writes while the other one does.
        let asked = (0..40).map(|group| {
            let (client, request) = (client.clone(), request(group as usize * 10_000));
            async move {
                let answer = client.append(group, &request).await;
                assert_eq!(answer.ok(), Some(said(group, &request)));
            }
        });
        tokio::time::timeout(Duration::from_secs(60), join_all(asked)).await.expect("all are answered");
        assert!(!line.has_ended());
        assert!(client.waiting.lock().unwrap().answers.is_empty());
        drop(line);
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_told_when_the_connection_ends() {
        for given_up in [false, true] {
            let (line, there) = line().await;
            let client = line.client();
            // It isn't read, so not all of it can be written either.
            let request = request(16 << 20);
            let asked = client.append(1, &request);
            tokio::pin!(asked);
            assert!(futures::poll!(&mut asked).is_pending());
            let line = if given_up {
                drop(line);
                None
            } else {
                drop(there);
                Some(line)
            };
            let told = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it is told");
            assert!(matches!(told, Err(Unanswered::Broken(_))));
            assert!(line.is_none_or(|line| line.has_ended()));
            assert!(matches!(client.append(1, &request).await, Err(Unanswered::Broken(_))));
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_is_dropped() {
        let (line, there) = line().await;
        let (client, small) = (line.client(), request(1));
        {
            let asked = client.append(1, &small);
            tokio::pin!(asked);
            assert!(futures::poll!(&mut asked).is_pending());
        }
        assert!(client.waiting.lock().unwrap().answers.is_empty());
        tokio::spawn(answer(there, |group, request| async move { said(group, &request) }));
        assert_eq!(client.append(2, &small).await.ok(), Some(said(2, &small)));
    }
}
