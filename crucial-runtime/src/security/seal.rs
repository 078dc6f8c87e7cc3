//! Messages that pass through other hands, as those over HTTP do, which ingresses and proxies end and begin anew.
//!
//! TLS would secure the connection to the next of them only. So each body is *sealed*: encrypted and authenticated
//! (AES-256-GCM) with a key that follows from the cluster token (HKDF-SHA-256) and 256 random bits, which precede it. A
//! request's key is used once, and so is an answer's, which also depends on the request's random bits.
//!
//! Invariants, each with a test:
//! - A request that somebody without the token made or changed is refused before a byte of it is decoded.
//! - An answer that opens is that of somebody with the token, to this very request, and unchanged.
//! - A request that is repeated opens again. What it asks for has to be harmless then; see
//!   [`crate::backend`], whose attempts are claimed.

use bytes::Bytes;
#[cfg(feature = "tls")]
use ring::{aead, hkdf};

use crate::{config::Config, error::Result};

/// The random bits in front of a sealed message.
#[cfg(feature = "tls")]
const SALT: usize = 32;
/// What the keys are derived for: nothing else that follows from the token uses this.
#[cfg(feature = "tls")]
const LABEL: &[u8] = b"crucial http 1: keys of single messages";

/// How the messages of a process are sealed.
pub(crate) enum Seal {
    /// Not at all: there is no token.
    Plain,
    /// With keys that follow from the token.
    #[cfg(feature = "tls")]
    Keyed(hkdf::Prk),
}

/// Which request an answer belongs to.
pub(crate) struct Asked(#[cfg(feature = "tls")] [u8; SALT]);

impl Seal {
    /// What these settings ask for.
    ///
    /// # Errors
    /// If there is a token, and this program was built without the feature `tls`.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        match &config.token {
            None => Ok(Seal::Plain),
            #[cfg(feature = "tls")]
            Some(token) => Ok(Seal::Keyed(hkdf::Salt::new(hkdf::HKDF_SHA256, LABEL).extract(token.bytes()))),
            #[cfg(not(feature = "tls"))]
            Some(_) => super::check_built().map(|()| Seal::Plain),
        }
    }

    /// Whether there is a token.
    pub(crate) fn is_keyed(&self) -> bool {
        !matches!(self, Seal::Plain)
    }

    /// Seals a request.
    pub(crate) fn request(&self, body: Bytes) -> (Bytes, Asked) {
        match self {
            Seal::Plain => (body, Asked::plain()),
            #[cfg(feature = "tls")]
            Seal::Keyed(prk) => {
                let salt = random();
                (seal(prk, [b"request", &salt, &[]], &salt, &body), Asked(salt))
            }
        }
    }

    /// Opens a request. None if it was not sealed with the same token.
    pub(crate) fn open_request(&self, body: Bytes) -> Option<(Bytes, Asked)> {
        match self {
            Seal::Plain => Some((body, Asked::plain())),
            #[cfg(feature = "tls")]
            Seal::Keyed(prk) => {
                let (salt, sealed) = body.split_first_chunk::<SALT>()?;
                Some((open(prk, [b"request", salt, &[]], sealed)?, Asked(*salt)))
            }
        }
    }

    /// Seals the answer to a request.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "nothing is sealed"))]
    pub(crate) fn answer(&self, asked: &Asked, body: Vec<u8>) -> Bytes {
        match self {
            Seal::Plain => body.into(),
            #[cfg(feature = "tls")]
            Seal::Keyed(prk) => {
                let salt = random();
                seal(prk, [b"answer", &asked.0, &salt], &salt, &body)
            }
        }
    }

    /// Opens the answer to a request. None if it was not sealed with the same token, or is another request's.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "nothing is sealed"))]
    pub(crate) fn open_answer(&self, asked: &Asked, body: Bytes) -> Option<Bytes> {
        match self {
            Seal::Plain => Some(body),
            #[cfg(feature = "tls")]
            Seal::Keyed(prk) => {
                let (salt, sealed) = body.split_first_chunk::<SALT>()?;
                open(prk, [b"answer", &asked.0, salt], sealed)
            }
        }
    }
}

impl Asked {
    fn plain() -> Self {
        Asked(
            #[cfg(feature = "tls")]
            [0; SALT],
        )
    }
}

#[cfg(feature = "tls")]
fn random() -> [u8; SALT] {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).expect("the operating system gives random numbers");
    salt
}

/// The key of one message. The parts have fixed lengths, so different ones never look the same.
#[cfg(feature = "tls")]
fn key(prk: &hkdf::Prk, parts: [&[u8]; 3]) -> aead::LessSafeKey {
    let okm = prk.expand(&parts, &aead::AES_256_GCM).expect("a key is short");
    aead::LessSafeKey::new(okm.into())
}

/// A key is for one message, so any nonce will do.
#[cfg(feature = "tls")]
fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

#[cfg(feature = "tls")]
fn seal(prk: &hkdf::Prk, parts: [&[u8]; 3], salt: &[u8; SALT], body: &[u8]) -> Bytes {
    let mut sealed = Vec::with_capacity(SALT + body.len() + aead::MAX_TAG_LEN);
    sealed.extend_from_slice(salt);
    sealed.extend_from_slice(body);
    let tag = key(prk, parts)
        .seal_in_place_separate_tag(nonce(), aead::Aad::empty(), &mut sealed[SALT..])
        .expect("messages are shorter than 64 GiB");
    sealed.extend_from_slice(tag.as_ref());
    sealed.into()
}

#[cfg(feature = "tls")]
fn open(prk: &hkdf::Prk, parts: [&[u8]; 3], sealed: &[u8]) -> Option<Bytes> {
    let mut sealed = sealed.to_vec();
    let length = key(prk, parts).open_in_place(nonce(), aead::Aad::empty(), &mut sealed).ok()?.len();
    sealed.truncate(length);
    Some(sealed.into())
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use crate::security::Token;

    fn with(token: &Token) -> Seal {
        Seal::new(&Config { token: Some(token.clone()), ..Config::default() }).unwrap()
    }

    #[test]
    fn who_has_the_token_opens_what_was_sealed_and_nobody_else() {
        let token = Token::generate();
        let (client, server) = (with(&token), with(&token));
        let body = Bytes::from_static(b"an event, which is not to be seen");
        let (request, asked) = client.request(body.clone());
        assert!(!request.windows(5).any(|part| part == b"event"));
        let (opened, answered) = server.open_request(request.clone()).unwrap();
        assert_eq!(opened, body);
        let answer = server.answer(&answered, b"an outcome".to_vec());
        assert_eq!(client.open_answer(&asked, answer.clone()).unwrap(), "an outcome");

        let stranger = with(&Token::generate());
        assert!(stranger.open_request(request).is_none());
        assert!(stranger.open_answer(&asked, answer).is_none());
        assert!(server.open_request(body).is_none() && server.open_request(Bytes::new()).is_none());
    }

    #[test]
    fn nothing_can_be_changed() {
        let seal = with(&Token::generate());
        let (request, asked) = seal.request(Bytes::from_static(b"event"));
        let answer = seal.answer(&asked, b"outcome".to_vec());
        let changed = |message: &Bytes, at: usize| {
            let mut bytes = message.to_vec();
            bytes[at] ^= 1;
            Bytes::from(bytes)
        };
        assert!((0..request.len()).all(|at| seal.open_request(changed(&request, at)).is_none()));
        assert!((0..answer.len()).all(|at| seal.open_answer(&asked, changed(&answer, at)).is_none()));
        assert!((0..request.len()).all(|end| seal.open_request(request.slice(..end)).is_none()));
    }

    #[test]
    fn an_answer_is_for_its_request() {
        let seal = with(&Token::generate());
        let (request, asked) = seal.request(Bytes::from_static(b"event"));
        let (again, other) = seal.request(Bytes::from_static(b"event"));
        assert_ne!(request, again);
        let answer = seal.answer(&asked, b"outcome".to_vec());
        assert!(seal.open_answer(&other, answer.clone()).is_none());
        // Nor is one taken for the other.
        assert!(seal.open_answer(&asked, request).is_none());
        assert!(seal.open_request(answer).is_none());
        // The same request may be answered twice, and then its answers have different keys.
        let (one, two) = (seal.answer(&asked, vec![0; 64]), seal.answer(&asked, vec![0; 64]));
        assert_ne!(one[SALT..], two[SALT..]);
    }
}
