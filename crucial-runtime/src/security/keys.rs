//! What follows from the token: a key pair, and how TLS is spoken with it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};

use ring::hkdf;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    DistinguishedName, ServerConfig, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        ring::{default_provider, sign::any_eddsa_type},
        verify_tls13_signature_with_raw_key,
    },
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use subtle::ConstantTimeEq;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{HANDSHAKE, Refusal, Rejected, Token};
use crate::{
    error::Error,
    net::{Stream, TcpStream},
};

/// What the key pair is derived for. Another way to derive or to use it gets another number, so that keys of one are
/// worth nothing to the other. The version of the protocol inside is not in it: who speaks another one is told so.
const LABEL: &[u8] = b"crucial tls 1: ed25519 key of all parties";

/// What an Ed25519 key is wrapped in, in PKCS #8 (RFC 8410): the 32 bytes of the seed follow.
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// How both sides of connections are to be set up.
pub struct Keys {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// The length of an Ed25519 seed, as `ring` wants to have it.
struct Seed;

impl hkdf::KeyType for Seed {
    fn len(&self) -> usize {
        32
    }
}

/// The key pair of the token, in PKCS #8.
fn derive(token: &Token) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&PKCS8);
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(token.bytes());
    let expanded = secret.expand(&[LABEL], Seed).and_then(|expanded| expanded.fill(&mut key[16..]));
    expanded.expect("HKDF-SHA-256 gives 32 bytes");
    key
}

impl Keys {
    /// The keys that follow from the token.
    pub(super) fn derive(token: &Token) -> Self {
        let provider = Arc::new(default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let pkcs8 = derive(token);
        let key =
            any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..])).expect("every seed is an Ed25519 key");
        let spki = key.public_key().expect("Ed25519 keys have a public part").into_owned();
        let identity = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.as_ref().to_vec())], key));
        let only = Arc::new(Only { spki, algorithms });
        Keys {
            client: Arc::new(client(&provider, &identity, only.clone())),
            server: Arc::new(server(&provider, &identity, only)),
        }
    }

    /// The client's side.
    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        let connected = TlsConnector::from(self.client.clone()).connect(name(), stream).await;
        Ok(Stream::Tls(Box::new(TlsStream::Client(connected.map_err(explain)?))))
    }

    /// The client's side, for a thread that blocks; until the deadline.
    pub(crate) fn connect_blocking(
        &self,
        socket: &std::net::TcpStream,
        deadline: Instant,
    ) -> io::Result<ClientConnection> {
        let mut session = ClientConnection::new(self.client.clone(), name()).map_err(io::Error::other)?;
        let mut until = Until { socket, deadline };
        while session.is_handshaking() {
            session.complete_io(&mut until).map_err(explain)?;
        }
        // The last message of a handshake is the client's.
        while session.wants_write() {
            session.write_tls(&mut until)?;
        }
        Ok(session)
    }

    /// The server's side.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<Stream, Rejected> {
        let refuse = |reason: String, plain| Rejected { error: Error::Refused { reason }, plain };
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE => {}
            Ok(1) => {
                let reason = "this server speaks TLS, and the other end doesn't: set CRUCIAL_TOKEN_FILE or CRUCIAL_TOKEN \
                              there to the cluster token that the server has";
                return Err(refuse(reason.to_owned(), Some(stream)));
            }
            Ok(_) => return Err(refuse("it hung up without a word".to_owned(), None)),
            Err(error) => return Err(refuse(format!("the handshake is cut off: {error}"), None)),
        }
        match TlsAcceptor::from(self.server.clone()).accept(stream).await {
            Ok(accepted) => Ok(Stream::Tls(Box::new(TlsStream::Server(accepted)))),
            Err(error) => Err(refuse(explain(error).to_string(), None)),
        }
    }
}

/// A name has to be given, and means nothing: no name is in a raw public key.
fn name() -> ServerName<'static> {
    ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn client(provider: &Arc<CryptoProvider>, identity: &Arc<CertifiedKey>, only: Arc<Only>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(only)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(identity.clone())));
    // Each connection makes a handshake of its own: what is not kept can't be stolen or played back.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config
}

fn server(provider: &Arc<CryptoProvider>, identity: &Arc<CertifiedKey>, only: Arc<Only>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(only)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Accepts one public key.
///
/// Invariant: who completes a handshake has the token. The key is the one that follows from it, and the signature over the
/// handshake shows that the peer has its private part.
#[derive(Debug)]
struct Only {
    spki: SubjectPublicKeyInfoDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Only {
    fn check(&self, presented: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if bool::from(presented.as_ref().ct_eq(self.spki.as_ref())) {
            return Ok(());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(presented.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// TLS 1.2 is neither offered nor accepted.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(presented).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, presented, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Only {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(presented).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, presented, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Says what a failed handshake means here.
fn explain(error: io::Error) -> io::Error {
    use rustls::Error as Tls;
    let refusal = match error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) {
        Some(Tls::InvalidCertificate(_) | Tls::AlertReceived(AlertDescription::AccessDenied)) => {
            Refusal::OtherToken
        }
        Some(Tls::InvalidMessage(_)) => Refusal::NoTls,
        _ => return io::Error::new(error.kind(), format!("the TLS handshake failed: {error}")),
    };
    io::Error::new(io::ErrorKind::PermissionDenied, refusal)
}

/// A socket that is read and written until a deadline, however slow the other end is.
struct Until<'a> {
    socket: &'a std::net::TcpStream,
    deadline: Instant,
}

impl io::Read for Until<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        let read = (&mut &*self.socket).read(room);
        // What it is called differs, and `complete_io` takes one of the names for a socket that doesn't block.
        read.map_err(
            |e| if e.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { e },
        )
    }
}

impl io::Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self.socket).write(bytes)
    }

    /// All records at once: the alert that says why is the last one, and gets one attempt.
    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        (&mut &*self.socket).write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of other implementations: HMAC of Python (RFC 5869 makes HKDF of it), and OpenSSL.
    #[test]
    fn the_keys_follow_from_the_token() {
        let token: Token =
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f".parse().unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let pkcs8 = derive(&token);
        assert_eq!(hex(&pkcs8[16..]), SEED);
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..])).unwrap();
        assert_eq!(hex(key.public_key().unwrap().as_ref()), format!("302a300506032b6570032100{PUBLIC}"));
    }

    const SEED: &str = "b5e176567248dd89c0c8ead8d926c505c623cd09624865ee2ba715fa7e5f8ffb";
    const PUBLIC: &str = "d4022e89ae9910a76c95ccc0fc1f7b5e80320bf5fd659cbda76cd758cff0912b";

    #[test]
    fn only_the_same_key_is_accepted() {
        let only = |token: &Token| {
            let pkcs8 = derive(token);
            let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..])).unwrap();
            let spki = key.public_key().unwrap().into_owned();
            Only { spki, algorithms: default_provider().signature_verification_algorithms }
        };
        let (one, other) = (Token::generate(), Token::generate());
        let shown = CertificateDer::from(only(&one).spki.as_ref().to_vec());
        assert!(only(&one).check(&shown).is_ok());
        assert!(only(&other).check(&shown).is_err());
        assert!(only(&one).check(&CertificateDer::from(shown[..shown.len() - 1].to_vec())).is_err());
        assert!(only(&one).check(&CertificateDer::from(Vec::new())).is_err());
    }
}
