//! The protocol of the data plane: length-delimited frames over TCP.
//!
//! A connection starts with [`MAGIC`] and a byte for its [`Plane`]. On the data plane the client then sends one
//! [`Hello`] frame and the server answers with one frame that holds `Result<Welcome, Error>`. From then on the client
//! sends requests and the server sends answers, in any order; the sequence number joins them.
//!
//! | part of a request | bytes | |
//! |---|---|---|
//! | length of the rest | 4 | little-endian, as all numbers |
//! | operation | 1 | [`Operation`] |
//! | sequence number | 8 | counts the calls of the session, from 1 |
//! | acknowledged | 8 | the client has every answer below this number |
//! | object | 16 | [`ObjectId`] |
//! | tag of the type | 8 | a call with another tag than the server's is refused |
//! | method | 2 | |
//! | arguments | the rest | MessagePack |
//!
//! | part of an answer | bytes | |
//! |---|---|---|
//! | length of the rest | 4 | |
//! | status | 1 | 0: a result, 1: an [`Error`], 2: [`Elsewhere`] |
//! | sequence number | 8 | of the request |
//! | result, error or place | the rest | MessagePack |
//!
//! **Exactly once.** Invariant: the server applies a (session, sequence number) once. It keeps the answer of every
//! write until the client acknowledges it; a client whose connection broke connects again, resumes its session, and
//! sends its unanswered requests with the same numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    codec,
    dso::{HEADROOM, Head, Operation},
    error::{Error, Result},
    id::{MemberId, ObjectId, RunId, SessionId, ThreadId},
};

/// What every connection starts with.
pub const MAGIC: &[u8; 7] = b"CRUCIAL";

/// The version of this protocol. Other versions are refused.
pub const VERSION: u16 = 7;

/// What a connection is for: the byte after [`MAGIC`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Plane {
    /// Calls of objects.
    Data = b'd',
    /// Administration, over tarpc.
    Control = b'c',
    /// Nodes of a cluster among themselves, over tarpc, but for their logs.
    Peer = b'p',
    /// Nodes of a cluster among themselves: entries of logs.
    Log = b'l',
}

/// The client's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`]
    pub version: u16,
    /// The run that the connection belongs to.
    pub run: RunId,
    /// The process that connects.
    pub member: MemberId,
    /// Whether the run starts with this connection.
    pub starts_run: bool,
    /// The node that the run is on, once it is known: another one has lost the run's state.
    pub node: Option<u128>,
    /// The session that is started or resumed. On every node of a cluster it is the same one.
    pub session: SessionId,
    /// Counts the connections of the process. Of two with the same session, the server answers on the later one, in
    /// whichever order it comes to accept them.
    pub connection: u64,
    /// The epoch of the cluster's map when the run started, if it did not start with this connection.
    pub since: u64,
}

/// The server's first frame, if it accepts the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Identifies this start of this node.
    pub node: u128,
    /// Whether the server still knows the session.
    pub resumed: bool,
    /// The largest frame that the server accepts, in bytes.
    pub frame_limit: u64,
    /// If the node belongs to a cluster: which one it is, and where the objects are.
    pub cluster: Option<Place>,
}

/// A node's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The node's number.
    pub node: u64,
    /// Where the objects are.
    pub map: Map,
}

/// Which node of a cluster serves which objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Counts the changes.
    pub epoch: u64,
    /// The nodes that are up, by number, with their addresses.
    pub nodes: BTreeMap<u64, String>,
    /// The node that serves each partition, by the number of the partition.
    pub owners: Vec<u64>,
}

/// The answer of a node that doesn't serve the object, or doesn't at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The map as that node knows it.
    pub map: Map,
    /// The node that leads the partition's replicas, if this node knows: the one to ask for a persistent object.
    pub leader: Option<u64>,
    /// Whether the call may have been begun there: it is applied once, wherever it is sent, but it may not be given up as
    /// if it had never been made.
    pub begun: bool,
}

/// The length of a request's header, with its length field.
pub const REQUEST_HEADER: usize = 47;
/// The length of an answer's header, with its length field.
pub const ANSWER_HEADER: usize = 13;

const _: () = assert!(REQUEST_HEADER <= HEADROOM);

/// Where a request's frame starts in its buffer.
const START: usize = HEADROOM - REQUEST_HEADER;

/// A request's frame: its header is put into the headroom of `buffer`, before the arguments.
#[must_use]
pub fn request_frame<'a>(head: &Head, seq: u64, ack: u64, buffer: &'a mut [u8]) -> &'a [u8] {
    let frame = &mut buffer[START..];
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4] = head.operation as u8;
    frame[5..13].copy_from_slice(&seq.to_le_bytes());
    frame[13..21].copy_from_slice(&ack.to_le_bytes());
    frame[21..37].copy_from_slice(&head.object.0.to_le_bytes());
    frame[37..45].copy_from_slice(&head.tag.to_le_bytes());
    frame[45..47].copy_from_slice(&head.method.to_le_bytes());
    frame
}

/// The frame in a buffer that [`request_frame`] has filled.
#[must_use]
pub fn frame_in(buffer: &[u8]) -> &[u8] {
    &buffer[START..]
}

/// The frame that takes back the call `seq`.
#[must_use]
pub fn withdraw_frame(head: &Head, seq: u64) -> [u8; REQUEST_HEADER] {
    let mut buffer = [0; HEADROOM];
    let frame = request_frame(&Head { operation: Operation::Withdraw, ..*head }, seq, 0, &mut buffer);
    frame.try_into().expect("a frame without arguments is its header")
}

/// The frame that says which cloud thread the process runs. It belongs to no call, so it has no number.
#[must_use]
pub fn attend_frame(thread: ThreadId) -> [u8; REQUEST_HEADER] {
    let head = Head { operation: Operation::Attend, object: ObjectId(thread.0), tag: 0, method: 0 };
    let mut buffer = [0; HEADROOM];
    request_frame(&head, 0, 0, &mut buffer).try_into().expect("a frame without arguments is its header")
}

/// The frame that asks a node of a cluster for its map. It belongs to no call, so it has no number.
#[must_use]
pub fn map_frame() -> [u8; REQUEST_HEADER] {
    let head = Head { operation: Operation::Map, object: ObjectId(0), tag: 0, method: 0 };
    let mut buffer = [0; HEADROOM];
    request_frame(&head, 0, 0, &mut buffer).try_into().expect("a frame without arguments is its header")
}

/// A request as the server reads it.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The fixed part.
    pub head: Head,
    /// The sequence number.
    pub seq: u64,
    /// The client has every answer below this number.
    pub ack: u64,
    /// The encoded arguments.
    pub args: &'a [u8],
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes were asked for")
}

/// Reads a request's frame without its length field.
pub fn parse_request(body: &[u8]) -> Result<Incoming<'_>> {
    if body.len() < REQUEST_HEADER - 4 {
        return Err(Error::Refused { reason: format!("a request of {} bytes is cut off", body.len()) });
    }
    let operation = Operation::from_byte(body[0])
        .ok_or_else(|| Error::Refused { reason: format!("there is no operation number {}", body[0]) })?;
    Ok(Incoming {
        head: Head {
            operation,
            object: ObjectId(u128::from_le_bytes(number(body, 17))),
            tag: u64::from_le_bytes(number(body, 33)),
            method: u16::from_le_bytes(number(body, 41)),
        },
        seq: u64::from_le_bytes(number(body, 1)),
        ack: u64::from_le_bytes(number(body, 9)),
        args: &body[43..],
    })
}

/// Starts an answer's frame at the end of `out`; [`end_answer`] completes it.
pub fn begin_answer(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; ANSWER_HEADER]);
    start
}

/// Completes the answer's frame that starts at `start`. With an error, what was appended since is replaced; a result
/// that makes the frame longer than `limit` is an error too.
pub fn end_answer(out: &mut Vec<u8>, start: usize, seq: u64, result: Result<()>, limit: u64) {
    let size = (out.len() - start - 4) as u64;
    let result = result.and_then(|()| {
        let (what, setting) = ("the answer".to_owned(), "limit_frame".to_owned());
        if size > limit { Err(Error::TooLarge { what, size, limit, setting }) } else { Ok(()) }
    });
    let status = u8::from(result.is_err());
    if let Err(error) = result {
        out.truncate(start + ANSWER_HEADER);
        codec::encode("an error", &error, out).expect("an error is text and numbers, which can be encoded");
    }
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4] = status;
    out[start + 5..start + 13].copy_from_slice(&seq.to_le_bytes());
}

/// An answer that has a frame of its own, of at most `limit` bytes.
#[must_use]
pub fn answer_frame(seq: u64, result: Result<Vec<u8>>, limit: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    let start = begin_answer(&mut frame);
    let result = result.map(|bytes| frame.extend_from_slice(&bytes));
    end_answer(&mut frame, start, seq, result, limit);
    frame
}

/// Appends the answer of a request that failed.
pub fn error_answer(out: &mut Vec<u8>, seq: u64, error: Error) {
    let start = begin_answer(out);
    end_answer(out, start, seq, Err(error), u64::MAX);
}

/// The status of an answer that holds [`Elsewhere`].
const ELSEWHERE: u8 = 2;

/// Appends the answer of a node that doesn't serve the object.
pub fn elsewhere_answer(out: &mut Vec<u8>, seq: u64, elsewhere: &Elsewhere) {
    let start = begin_answer(out);
    codec::encode("a map", elsewhere, out).expect("a map is text and numbers, which can be encoded");
    end_answer(out, start, seq, Ok(()), u64::MAX);
    out[start + 4] = ELSEWHERE;
}

/// An answer as the client reads it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The sequence number of the request.
    pub seq: u64,
    status: u8,
    payload: &'a [u8],
}

/// Reads an answer's frame without its length field.
pub fn parse_answer(body: &[u8]) -> Result<Answer<'_>> {
    if body.len() < ANSWER_HEADER - 4 || body[0] > ELSEWHERE {
        return Err(Error::Refused { reason: "the server's answer is no answer".to_owned() });
    }
    Ok(Answer { seq: u64::from_le_bytes(number(body, 1)), status: body[0], payload: &body[9..] })
}

impl<'a> Answer<'a> {
    /// The encoded result, or the error.
    pub fn result(self) -> Result<&'a [u8]> {
        if self.status == 0 {
            Ok(self.payload)
        } else {
            Err(codec::decode("the server's error", self.payload)?)
        }
    }

    /// Where to ask instead, if the node doesn't serve the object.
    pub fn elsewhere(self) -> Result<Option<Elsewhere>> {
        if self.status == ELSEWHERE { codec::decode("a map", self.payload).map(Some) } else { Ok(None) }
    }
}

/// A value as a frame of its own: [`Hello`], and the answer to it.
pub fn value_frame<T: Serialize>(value: &T) -> Vec<u8> {
    let mut frame = vec![0; 4];
    codec::encode("a greeting", value, &mut frame)
        .expect("a greeting is numbers and text, which can be encoded");
    end_frame(&mut frame);
    frame
}

/// Sets the length of a frame that is whole now, and begins with room for it.
pub fn end_frame(frame: &mut [u8]) {
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
}

/// The longest greeting that is read.
pub const GREETING_LIMIT: usize = 64 << 10;

/// Where the first frame in `bytes` ends, if it is complete. Fails if its length is above `limit`.
pub fn complete(bytes: &[u8], limit: u64) -> Result<Option<usize>> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u64::from(u32::from_le_bytes(*length));
    if length > limit {
        return Err(Error::TooLarge {
            what: "a frame".to_owned(),
            size: length,
            limit,
            setting: "limit_frame".to_owned(),
        });
    }
    let end = 4 + length as usize;
    Ok((bytes.len() >= end).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { operation: Operation::Call, object: ObjectId(7 << 100 | 5), tag: 11, method: 3 }
    }

    #[test]
    fn a_request_survives_the_wire() {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(b"args");
        let frame = request_frame(&head(), 42, 41, &mut buffer).to_vec();
        assert_eq!(complete(&frame, 100).unwrap(), Some(frame.len()));
        assert_eq!(complete(&frame[..frame.len() - 1], 100).unwrap(), None);
        let request = parse_request(&frame[4..]).unwrap();
        assert_eq!((request.head, request.seq, request.ack, request.args), (head(), 42, 41, &b"args"[..]));
    }

    #[test]
    fn an_answer_survives_the_wire() {
        let mut out = b"before".to_vec();
        let start = begin_answer(&mut out);
        out.extend_from_slice(b"result");
        end_answer(&mut out, start, 9, Ok(()), u64::MAX);
        let answer = parse_answer(&out[start + 4..]).unwrap();
        assert_eq!((answer.seq, answer.result().unwrap()), (9, &b"result"[..]));

        let start = begin_answer(&mut out);
        out.extend_from_slice(b"half a res");
        end_answer(&mut out, start, 10, Err(Error::NoRun), u64::MAX);
        assert_eq!(parse_answer(&out[start + 4..]).unwrap().result(), Err(Error::NoRun));
    }

    #[test]
    fn cut_off_and_oversized_frames_are_refused() {
        assert!(parse_request(&[1; 42]).is_err());
        assert!(parse_request(&[99; 43]).is_err());
        assert!(parse_answer(&[0; 8]).is_err());
        assert!(complete(&[255, 255, 255, 255], 1 << 20).is_err());
        assert_eq!(complete(&[1, 0, 0], 1 << 20).unwrap(), None);
    }
}
