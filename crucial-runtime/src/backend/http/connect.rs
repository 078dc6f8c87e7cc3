//! Connections to functions: plain ones, or TLS with a certificate that this system trusts.
//!
//! Without the feature `tls` there are plain ones only.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Uri, body::Incoming, http::uri::Scheme};
use hyper_util::client::legacy::Error;

use crate::lambda::CLIENT;
#[cfg(not(feature = "tls"))]
use crate::security::check_https;

/// A pool of connections, which the whole process shares.
#[derive(Clone, Copy)]
pub(super) enum Connections {
    Plain,
    #[cfg(feature = "tls")]
    Tls(&'static tls::TlsClient),
}

impl Connections {
    /// The pool for this URL.
    ///
    /// # Errors
    /// Why this process can't connect there.
    pub(super) fn to(uri: &Uri) -> Result<Self, String> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(Connections::Plain);
        }
        #[cfg(feature = "tls")]
        return tls::CLIENT.as_ref().map(Connections::Tls).map_err(String::clone);
        #[cfg(not(feature = "tls"))]
        check_https().map(|()| Connections::Plain)
    }

    pub(super) async fn request(self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        match self {
            Connections::Plain => CLIENT.request(request).await,
            #[cfg(feature = "tls")]
            Connections::Tls(client) => client.request(request).await,
        }
    }
}

/// Why the same connection will fail again, if it will.
#[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "plain connections know no such reason"))]
pub(super) fn refusal(error: &Error) -> Option<String> {
    // Once a handshake is complete, bytes may be wrong for other reasons.
    #[cfg(feature = "tls")]
    return if error.is_connect() { tls::refusal(error) } else { None };
    #[cfg(not(feature = "tls"))]
    None
}

#[cfg(feature = "tls")]
mod tls {
    use std::{
        error::Error,
        io,
        sync::{Arc, LazyLock},
    };

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper_rustls::HttpsConnector;
    use hyper_util::{
        client::legacy::{Client, connect::HttpConnector},
        rt::TokioExecutor,
    };
    use rustls::{
        AlertDescription, ClientConfig, InvalidMessage, RootCertStore, crypto::ring::default_provider,
        version::TLS13,
    };
    use rustls_native_certs::load_native_certs;

    use crate::lambda::connector;

    pub(in super::super) type TlsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

    /// The system's certificates are read once, when the first program or function wants to connect.
    pub(super) static CLIENT: LazyLock<Result<TlsClient, String>> = LazyLock::new(|| {
        let provider = Arc::new(default_provider());
        // TLS 1.3 alone, as among those who have the cluster token.
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_root_certificates(roots()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut connector = connector();
        connector.enforce_http(false);
        Ok(Client::builder(TokioExecutor::new()).build(HttpsConnector::from((connector, config))))
    });

    /// Whom this system trusts.
    fn roots() -> Result<RootCertStore, String> {
        let found = load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some that nobody can use are in every collection.
        let (used, _) = roots.add_parsable_certificates(found.certs);
        if used > 0 {
            return Ok(roots);
        }
        let why: String = found.errors.iter().map(|error| format!(" ({error})")).collect();
        Err(format!(
            "`https` needs the certificates of authorities, and this system has none{why}: install its package \
             `ca-certificates`, or set SSL_CERT_FILE to a file that has them (PEM)"
        ))
    }

    pub(super) fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
        match cause(error)? {
            error @ rustls::Error::InvalidCertificate(_) => Some(format!(
                "its certificate is not accepted: {error}. Is CRUCIAL_HTTP_URL right? If the certificate is of an authority \
                 of your own, set SSL_CERT_FILE to a file with that authority's certificate (PEM)"
            )),
            error @ (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            )) => Some(format!("it does not speak TLS 1.3: {error}")),
            _ => None,
        }
    }

    /// The error of TLS among the causes of another one. An [`io::Error`] is not the cause of what it wraps, but has it.
    fn cause<'a>(mut error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
        loop {
            if let Some(error) = error.downcast_ref() {
                return Some(error);
            }
            error = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => inner,
                None => error.source()?,
            };
        }
    }

    #[cfg(test)]
    mod tests {
        use rustls::CertificateError;

        use super::*;

        #[test]
        fn a_refused_certificate_is_found_among_causes() {
            let wrapped =
                |error: rustls::Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            let reason = refusal(&wrapped(CertificateError::UnknownIssuer.into())).unwrap();
            for part in ["UnknownIssuer", "CRUCIAL_HTTP_URL", "SSL_CERT_FILE"] {
                assert!(reason.contains(part), "{reason}");
            }
            // What may be well the next time.
            assert_eq!(refusal(&wrapped(rustls::Error::DecryptError)), None);
            assert_eq!(refusal(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
        }
    }
}
