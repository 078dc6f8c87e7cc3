//! Who may take part: those who have the cluster token, over connections that nobody else can read or change.
//!
//! **The design.** One secret, the [`Token`], is the whole of it. Every party (client, function process, server) derives the
//! same Ed25519 key pair from it, speaks TLS 1.3 with that key as its raw public key (RFC 7250), and accepts no other key
//! of its peer. There are no certificates, names, dates or authorities: who may take part is one question with one answer,
//! and an authority would be one more secret to keep and one more thing that expires. TLS's own key exchange is fresh for
//! each connection, so a token that is stolen later opens no recorded connection.
//!
//! **Against whom.** An attacker who has the network but not the token can't read or change what is said, or take part; what
//! is left to it is to hold up or cut connections. One who has the token can do everything; then a new token is the remedy,
//! with all parties started again.
//!
//! Invariants, each with a test:
//! - A peer without the token is refused in the handshake, before a byte of it is decoded, at either end.
//! - With a token, no connection is plain; without one, a server can be reached from its own machine only.
//! - All parties have one identity, so an attacker can lead a connection to another party than it was meant for. Greetings
//!   name nodes, sessions and runs, and they are checked; see [`crate::wire`].
//! - The token is never printed, and never read from a file that others can read.

#[cfg(feature = "tls")]
mod keys;
#[cfg(feature = "processes")]
pub(crate) mod seal;
mod token;

#[cfg(feature = "tls")]
use std::sync::Arc;
use std::{fmt, io};

pub use token::{Token, load};

#[cfg(feature = "tls")]
pub use self::keys::Keys;
use crate::{
    config::Config,
    error::{Error, Result},
    net::{Stream, TcpStream},
};

/// How the connections of a process are secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all: there is no token.
    Plain,
    /// By TLS, with keys that follow from the token.
    #[cfg(feature = "tls")]
    Tls(Arc<Keys>),
}

/// Why this address, which other machines can reach, is not listened at.
#[must_use]
pub fn not_own(address: &str) -> Error {
    Error::Refused {
        reason: format!(
            "{address} is no loopback address (127.0.0.0/8), and there is no cluster token: listen on one, or make a token \
             with `app crucial token`, and set CRUCIAL_TOKEN_FILE to its file here and for all clients"
        ),
    }
}

/// A token without the means to use it.
///
/// # Errors
/// If this program was built without the feature `tls`.
pub fn check_built() -> Result<()> {
    if cfg!(feature = "tls") {
        return Ok(());
    }
    Err(Error::Refused {
        reason: "a cluster token needs the feature `tls`, and this program was built without it: depend on crucial with \
                 features = [\"tls\"], or set neither CRUCIAL_TOKEN_FILE nor CRUCIAL_TOKEN"
            .to_owned(),
    })
}

/// A URL with `https` without the means to use it.
///
/// # Errors
/// If this program was built without the feature `tls`.
pub(crate) fn check_https() -> Result<(), String> {
    if cfg!(feature = "tls") {
        return Ok(());
    }
    Err("`https` needs the feature `tls`, and this program was built without it: depend on crucial with features = \
         [\"tls\"], or use `http` inside of a cluster or to a proxy on this machine"
        .to_owned())
}

impl Security {
    /// What these settings ask for.
    ///
    /// # Errors
    /// If there is a token, and this program was built without the feature `tls`.
    pub fn new(config: &Config) -> Result<Self> {
        match &config.token {
            None => Ok(Security::Plain),
            #[cfg(feature = "tls")]
            Some(token) => Ok(Security::Tls(Arc::new(Keys::derive(token)))),
            #[cfg(not(feature = "tls"))]
            Some(_) => check_built().map(|()| Security::Plain),
        }
    }

    /// Whether there is a token.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        !matches!(self, Security::Plain)
    }

    /// The client's side of a new connection.
    ///
    /// # Errors
    /// If the connection breaks, or the server is not one that has the token: then [`is_refusal`].
    pub async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        match self {
            Security::Plain => Ok(Stream::Plain(stream)),
            #[cfg(feature = "tls")]
            Security::Tls(keys) => keys.connect(stream).await,
        }
    }

    /// The server's side of a new connection.
    ///
    /// # Errors
    /// If the connection breaks, or the client has not the token. One that speaks no TLS gets its connection back, to be
    /// told so.
    pub async fn accept(&self, stream: TcpStream) -> Result<Stream, Rejected> {
        match self {
            Security::Plain => Ok(Stream::Plain(stream)),
            #[cfg(feature = "tls")]
            Security::Tls(keys) => keys.accept(stream).await,
        }
    }
}

/// A connection that a server doesn't accept.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub error: Error,
    /// The connection, if its client can be told.
    pub plain: Option<TcpStream>,
}

/// What keeps two ends apart although the network is well: another attempt makes no difference.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "without TLS nobody is refused"))]
enum Refusal {
    OtherToken,
    NoTls,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::OtherToken => {
                "the other end has another cluster token: set CRUCIAL_TOKEN_FILE or CRUCIAL_TOKEN to the same token here \
                 and there"
            }
            Refusal::NoTls => {
                "it speaks no TLS, so it has no cluster token, and this end has one: start it with CRUCIAL_TOKEN_FILE set, \
                 too, or unset it here"
            }
        })
    }
}

impl std::error::Error for Refusal {}

/// Whether a connection failed since one end doesn't accept the other.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Refusal>())
}

/// Whether these are the first bytes of a TLS connection: of the record with the client's part of a handshake.
#[must_use]
pub fn is_tls_hello(bytes: &[u8]) -> bool {
    bytes.starts_with(&[HANDSHAKE, 3])
}

/// The type of the first record of a TLS connection.
const HANDSHAKE: u8 = 22;
