//! What instances print, line by line.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    process::Stdio,
    sync::Arc,
};

use tokio::net::unix::pipe;

/// The longest line that is delivered in one piece, in bytes. A longer one arrives in several.
pub const MAX_LINE: usize = 16 * 1024;

/// A line that an instance printed, or that the service adds about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// The instance's number, counted from 1.
    pub instance: u64,
    /// The invocation that ran, or none between two of them and during initialization.
    pub request_id: Option<Arc<str>>,
    /// Where it was printed.
    pub stream: OutputStream,
    /// The text without its line break; bytes that aren't UTF-8 are replaced.
    pub line: String,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// The instance's standard output.
    Stdout,
    /// The instance's standard error.
    Stderr,
    /// The service: `START`, `END` and `REPORT`, and what went wrong.
    Platform,
}

/// The user's callback.
pub(crate) struct Sink(Box<dyn Fn(OutputLine) + Send + Sync>);

impl Sink {
    pub(crate) fn new(callback: impl Fn(OutputLine) + Send + Sync + 'static) -> Sink {
        Sink(Box::new(callback))
    }

    pub(crate) fn deliver(&self, line: OutputLine) {
        // `println!` panics when standard output is closed; that mustn't take the service down.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.0)(line)));
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    pending: Vec<u8>,
}

impl LineBuffer {
    /// Takes bytes and hands out every line that is complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..end], &mut line);
            self.flush_line(&mut line);
            bytes = &bytes[end + 1..];
        }
        self.append(bytes, &mut line);
    }

    /// Hands out what is left when nothing more comes.
    pub(crate) fn finish(&mut self, line: impl FnOnce(String)) {
        if !self.pending.is_empty() {
            self.flush_line(line);
        }
    }

    fn append(&mut self, mut bytes: &[u8], line: &mut impl FnMut(String)) {
        while self.pending.len() + bytes.len() > MAX_LINE {
            let (head, tail) = bytes.split_at(MAX_LINE - self.pending.len());
            self.pending.extend_from_slice(head);
            bytes = tail;
            // A character that the cut would split starts the next piece.
            let split = self.pending.split_off(whole_characters(&self.pending));
            self.flush_line(&mut *line);
            self.pending = split;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn flush_line(&mut self, line: impl FnOnce(String)) {
        if self.pending.last() == Some(&b'\r') {
            self.pending.pop();
        }
        line(String::from_utf8_lossy(&self.pending).into_owned());
        self.pending.clear();
    }
}

/// The length of the longest prefix that doesn't end inside of a UTF-8 character.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// The reading end of an instance's output.
#[derive(Debug)]
pub(crate) struct OutputPipe {
    pub(crate) stream: OutputStream,
    receiver: pipe::Receiver,
    lines: std::cell::RefCell<LineBuffer>,
}

/// Whether there will be more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing at the moment.
    Empty,
    /// There may be more already.
    More,
    /// The other end is closed.
    Closed,
}

impl OutputPipe {
    /// A pipe and the end of it that the process gets.
    pub(crate) fn new(stream: OutputStream) -> io::Result<(OutputPipe, Stdio)> {
        let (reader, writer) = io::pipe()?;
        let receiver = pipe::Receiver::from_owned_fd(reader.into())?;
        Ok((OutputPipe { stream, receiver, lines: Default::default() }, writer.into()))
    }

    /// Waits for output and hands it out, until the other end is closed.
    pub(crate) async fn follow(&self, mut line: impl FnMut(String)) {
        while self.receiver.readable().await.is_ok() {
            let progress = self.read(|buffer| self.receiver.try_read(buffer), &mut line);
            match progress {
                Progress::Closed => return,
                // A process that prints without end leaves time for the others.
                Progress::More => tokio::task::yield_now().await,
                Progress::Empty => {}
            }
        }
    }

    /// Hands out everything that is in the pipe at this moment.
    ///
    /// This asks the system, not the runtime, which may not have heard of the latest bytes: what a process
    /// printed before it answered, or before it ended, is in the pipe by then.
    pub(crate) fn drain(&self, mut line: impl FnMut(String)) {
        // Pipes hold at most 1 MiB; a process that goes on printing is left to `follow`.
        for _ in 0..1024 * 1024 / READ {
            let progress = self.read(|buffer| Ok(rustix::io::read(&self.receiver, buffer)?), &mut line);
            if progress != Progress::More {
                return;
            }
        }
    }

    /// Hands out the beginning of a line that will not be completed.
    pub(crate) fn finish(&self, line: impl FnOnce(String)) {
        self.lines.borrow_mut().finish(line);
    }

    fn read(
        &self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
        line: &mut impl FnMut(String),
    ) -> Progress {
        let mut buffer = [0; READ];
        loop {
            return match read(&mut buffer) {
                Ok(0) => Progress::Closed,
                Ok(length) => {
                    self.lines.borrow_mut().push(&buffer[..length], line);
                    if length == READ { Progress::More } else { Progress::Empty }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Empty,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Progress::Closed,
            };
        }
    }
}

/// Bytes read at once.
const READ: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.push(chunk, |line| lines.push(line));
        }
        buffer.finish(|line| lines.push(line));
        lines
    }

    #[test]
    fn cuts_at_line_breaks_wherever_the_chunks_end() {
        assert_eq!(lines(&[b"one\ntw", b"o\r\n", b"\nlast"]), ["one", "two", "", "last"]);
        assert_eq!(lines(&[b"done\n"]), ["done"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn replaces_what_is_not_text() {
        assert_eq!(lines(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }

    #[test]
    fn cuts_long_lines_between_characters() {
        let text = "ä".repeat(MAX_LINE + 10);
        // An odd first byte makes every cut fall inside of a character.
        let all = format!("x{text}");
        let (head, tail) = all.as_bytes().split_at(MAX_LINE / 3);
        let lines = lines(&[head, tail]);
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE && !line.contains('\u{fffd}')));
        assert_eq!(lines.concat(), all);
    }

    #[test]
    fn a_line_of_the_greatest_length_stays_whole() {
        let line = "x".repeat(MAX_LINE);
        assert_eq!(lines(&[line.as_bytes(), b"\nnext\n"]), [line.as_str(), "next"]);
    }
}
