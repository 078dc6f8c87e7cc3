//! A channel for one message. Follows the module of that name that std has in its nightly version.
//!
//! ```
//! use crucial::{cloud_fn, sync::oneshot::{self, Sender}, thread};
//!
//! #[cloud_fn]
//! fn compute(answer: Sender<u32>) {
//!     answer.send(42).unwrap();
//!     // .. and goes on with something else
//! }
//!
//! let (sender, receiver) = oneshot::channel();
//! let thread = thread::spawn(move || compute(sender));
//! assert_eq!(receiver.recv(), Ok(42));
//! thread.join().unwrap();
//! ```

use std::time::Duration;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::mpsc;

/// A channel for one message.
#[must_use]
#[track_caller]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (Sender(sender), Receiver(receiver))
}

/// The sending end. If it is dropped without a message, or its process dies, the receiver is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Sender<T>(mpsc::Sender<T>);

impl<T: Serialize> Sender<T> {
    /// Sends the message.
    ///
    /// # Errors
    /// If there is no receiver any more; the error holds the message.
    #[track_caller]
    pub fn send(self, message: T) -> Result<(), SendError<T>> {
        self.0.send(message)
    }
}

/// The receiving end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Receiver<T>(mpsc::Receiver<T>);

impl<T: DeserializeOwned> Receiver<T> {
    /// Waits for the message.
    ///
    /// # Errors
    /// If the sender is gone without one.
    #[track_caller]
    pub fn recv(self) -> Result<T, RecvError> {
        self.0.recv()
    }

    /// Takes the message if it is there.
    ///
    /// # Errors
    /// If it is not there yet, or the sender is gone without one.
    #[track_caller]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.try_recv()
    }

    /// Waits for the message, but no longer than that.
    ///
    /// # Errors
    /// If it did not come in time, or the sender is gone without one.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.0.recv_timeout(timeout)
    }
}
