//! An authority, what trusts it, and what has its certificates.

use std::{
    fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// Who certifies names.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// A new one, which nobody else knows.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = BASE64_STANDARD.encode(params.self_signed(&key).unwrap().der());
        let lines: Vec<_> =
            certificate.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        let file = std::env::temp_dir().join(format!("crucial-{}-{name}.pem", std::process::id()));
        fs::write(&file, pem).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// The file with its certificate.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What makes TLS connections of a server with this name.
    pub fn open(
        &self,
        name: &str,
    ) -> impl Fn(TcpStream) -> io::Result<StreamOwned<ServerConnection, TcpStream>> + Send + Sync + use<>
    {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        move |client| {
            let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            Ok(StreamOwned::new(session, client))
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        fs::remove_file(&self.file).unwrap();
    }
}
