//! Who is refused, how soon, and in which words.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use crucial::{Config, Error, run::Run};
use crucial_runtime::security::Token;
use crucial_server::admin;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::{
        AlwaysResolvesClientRawPublicKeys,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use tests::{
    assert_says, in_time,
    objects::Tally,
    random::Random,
    raw,
    server::{LocalServer, OwnRun, ServerProcess, client},
};
use tests_tls::{app, client_with, with};

/// Somebody who tries again and again would have no answer within the time of a test.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[track_caller]
fn refusal(mut config: Config) -> String {
    config.connect_timeout = FOR_EVER;
    match in_time("a refusal comes at once", move || Run::start(config)) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The three ways not to come together: the server, the client's settings, and what it is told.
fn strangers() -> [(LocalServer, Option<Token>, &'static [&'static str]); 3] {
    let secured = || LocalServer::start(&with(&Token::generate()));
    let token = || Some(Token::generate());
    [
        (
            secured(),
            token(),
            &["another cluster token", "CRUCIAL_TOKEN_FILE", "the same token here and there"],
        ),
        (secured(), None, &["this server speaks TLS", "set CRUCIAL_TOKEN_FILE or CRUCIAL_TOKEN"]),
        (
            LocalServer::start(&Config::default()),
            token(),
            &["speaks no TLS", "CRUCIAL_TOKEN_FILE", "unset it"],
        ),
    ]
}

#[test]
fn clients_are_told_why() {
    for (server, token, says) in strangers() {
        let mut config = client(&server.address);
        config.token = token;
        let told = refusal(config.clone());
        assert_says(&told, &["refused", &server.address]);
        assert_says(&told, says);
        let asked = crucial::run::block_on(admin::status(&server.address, &config));
        assert_says(&asked.unwrap_err(), says);
        // Nobody else notices, and nothing was decoded.
        assert_eq!((server.status().sessions, server.status().runs), (0, 0));
    }
}

#[test]
fn servers_log_whom_they_refuse_but_not_each_time() {
    let token = Token::generate().reveal();
    for (settings, given, says) in [
        (&[("CRUCIAL_TOKEN", token.as_str())][..], Some(Token::generate()), "another cluster token"),
        (&[("CRUCIAL_TOKEN", &token)], None, "this server speaks TLS, and the other end doesn't"),
        (&[], Some(Token::generate()), "the other end speaks TLS"),
    ] {
        let settings = [settings, &[("CRUCIAL_LOG", "warn")]].concat();
        let mut server = ServerProcess::start(app!(), &settings);
        let start = Instant::now();
        for _ in 0..40 {
            let mut config = client(&server.address);
            config.token.clone_from(&given);
            refusal(config);
        }
        server.signal(tests::process::Signal::TERM);
        let (_, _, log) = server.ended();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("a connection is refused")).collect();
        assert_says(&lines[0], &["peer=127.0.0.1:", says, "CRUCIAL_TOKEN_FILE"].map(|part| part));
        let most = 1 + start.elapsed().as_secs() / 10;
        assert!(lines.len() as u64 <= most, "{} lines, {most} at most: {log}", lines.len());
        assert!(!log.contains(&token), "{log}");
        if let Some(given) = &given {
            assert!(!log.contains(&given.reveal()), "{log}");
        }
    }
}

/// Accepts any server: a client of ours would have refused it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// An Ed25519 key of somebody's own, as PKCS #8.
fn own_key() -> Arc<CertifiedKey> {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend(Random(5).bytes(32));
    let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).unwrap();
    let spki = key.public_key().unwrap().as_ref().to_vec();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key))
}

/// Goes through a handshake as far as the server lets it, and asks for a run. Returns what the server says to that.
fn intrude(address: &str, config: ClientConfig) -> io::Result<Vec<u8>> {
    let name = ServerName::try_from("crucial").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, raw::dial(address));
    stream.write_all(&raw::greeting(&raw::hello()))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_client_that_accepts_any_server_is_accepted_by_none() {
    let server = LocalServer::start(&with(&Token::generate()));
    let config = || {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
    };
    // With a key of its own; with the server's public key, which it has seen, and a signature by another; with none.
    let other_key =
        config().with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own_key())));
    let seen = {
        let mut session =
            ClientConnection::new(Arc::new(other_key.clone()), ServerName::try_from("crucial").unwrap())
                .unwrap();
        let mut socket = raw::dial(&server.address);
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        session.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let mut forged = CertifiedKey::clone(&own_key());
    forged.cert = vec![seen];
    let forged =
        config().with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(forged.into())));
    let none = config().with_no_client_auth();
    for (how, config) in [("another key", other_key), ("a forged signature", forged), ("no key", none)] {
        let answer = intrude(&server.address, config);
        assert!(answer.is_err(), "{how}: the server said {:?}", String::from_utf8_lossy(&answer.unwrap()));
    }
    assert_eq!((server.status().sessions, server.status().runs), (0, 0));
}

#[test]
fn garbage_and_silence_hold_nobody_up() {
    let token = Token::generate();
    let server = LocalServer::start(&with(&token));
    let mut random = Random(7);
    let mut silent: Vec<_> = [&[][..], &[22], &[22, 3, 1, 2, 0, 1], b"CRUC"]
        .map(|bytes| {
            let mut stream = raw::dial(&server.address);
            stream.write_all(bytes).unwrap();
            stream
        })
        .into();
    for length in [1, 5, 100, 70_000] {
        raw::throw(&server.address, &random.bytes(length));
        // As if it were TLS.
        raw::throw(&server.address, &[&[22, 3, 1, 0xff, 0xff], &random.bytes(length)[..]].concat());
    }
    // While those wait, others are served.
    let _run = OwnRun::enter(client_with(&server.address, &token));
    assert_eq!(Tally::new(7).get(), 7);
    // The deadline ends what says nothing more.
    for stream in &mut silent {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
    }
}

/// With the 513th, the first has to go: otherwise they would keep everybody else out.
#[test]
fn connections_that_do_not_greet_are_bounded() {
    let server = ServerProcess::start(app!(), &[]);
    let mut first = raw::dial(&server.address);
    // The server has accepted it before the others come.
    let _client = OwnRun::on(&server.address);
    let others: Vec<TcpStream> = (0..512).map(|_| raw::dial(&server.address)).collect();
    let mut said = Vec::new();
    first.read_to_end(&mut said).unwrap();
    // At the deadline, it would have been told about that.
    assert!(said.is_empty(), "{:?}", String::from_utf8_lossy(&said));
    assert_eq!(Tally::new(3).get(), 3);
    drop(others);
}

// ---- the token and where it is kept

fn app(args: &[&str], settings: &[(&str, &str)]) -> Output {
    Command::new(app!()).args(args).envs(settings.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn fails_with(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_says(&text, parts);
}

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crucial-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_token_is_made_kept_and_used() {
    let folder = Folder::new("token");
    let file = folder.file("own.token");
    let made = app(&["crucial", "token", "--file", &file], &[]);
    let said = String::from_utf8_lossy(&made.stdout);
    assert_says(&said, &[&format!("CRUCIAL_TOKEN_FILE={file}"), "CRUCIAL_TOKEN", "secret"]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!said.contains(text.trim()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fails_with(&app(&["crucial", "token", "--file", &file], &[]), &[&file, "exists"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "it is not overwritten");

    let server = ServerProcess::start(app!(), &[("CRUCIAL_TOKEN_FILE", &file)]);
    let status =
        |settings: &[(&str, &str)]| app(&["crucial", "status", "--server", &server.address], settings);
    assert!(status(&[("CRUCIAL_TOKEN_FILE", &file)]).status.success());
    assert!(status(&[("CRUCIAL_TOKEN", &text)]).status.success());
    // A path in a settings file is relative to that file.
    fs::write(folder.file("crucial.toml"), "token_file = \"own.token\"\n").unwrap();
    fs::create_dir(folder.file("below")).unwrap();
    let below = Command::new(app!())
        .args(["crucial", "status", "--server", &server.address])
        .current_dir(folder.file("below"))
        .output()
        .unwrap();
    assert!(below.status.success(), "{}", String::from_utf8_lossy(&below.stderr));
    fails_with(&status(&[]), &[&server.address, "this server speaks TLS", "CRUCIAL_TOKEN_FILE"]);
}

#[test]
fn wrong_tokens_and_files_are_explained_and_not_shown() {
    let folder = Folder::new("tokens");
    let token = Token::generate().reveal();
    let file = folder.file("open.token");
    fs::write(&file, &token).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let broken = folder.file("broken.token");
    fs::write(&broken, &token[..40]).unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o600)).unwrap();
    let missing = folder.file("missing.token");
    let chmod = format!("chmod 600 {file}");
    for (name, value, says) in [
        ("CRUCIAL_TOKEN_FILE", file.as_str(), &["`token_file`", &file, "others than its owner", &chmod][..]),
        ("CRUCIAL_TOKEN_FILE", &missing, &["`token_file`", &missing, "can't open it"]),
        ("CRUCIAL_TOKEN_FILE", &broken, &["`token_file`", &broken, "64 hexadecimal digits", "40 characters"]),
        ("CRUCIAL_TOKEN_FILE", &token, &["`token_file`", "(not shown)", "set CRUCIAL_TOKEN to it"]),
        (
            "CRUCIAL_TOKEN",
            &token[1..],
            &["`token`", "(not shown)", "64 hexadecimal digits", "app crucial token"],
        ),
        ("CRUCIAL_TOKENS", &token, &["`tokens`", "(not shown)", "no such setting"]),
    ] {
        for args in
            [&["client"][..], &["crucial", "serve", "--listen", "127.0.0.1:0"], &["crucial", "status"]]
        {
            let output = app(args, &[(name, value)]);
            fails_with(&output, says);
            assert!(!String::from_utf8_lossy(&output.stderr).contains(&token[1..40]), "{name}");
        }
    }
    fs::write(folder.file("crucial.toml"), format!("token = \"{token}\"\n")).unwrap();
    let shared = Command::new(app!()).current_dir(&folder.0).output().unwrap();
    fails_with(&shared, &["`token`", "(not shown)", "crucial.toml", "token_file"]);
    fs::write(folder.file("crucial.toml"), format!("token_file = \"{token}\"\n")).unwrap();
    let mistaken = Command::new(app!()).current_dir(&folder.0).output().unwrap();
    fails_with(&mistaken, &["`token_file`", "(not shown)", "crucial.toml", "this is a token"]);
    assert!(!String::from_utf8_lossy(&mistaken.stderr).contains(&token));
    // Not on a command line, where every user of the machine sees it.
    fails_with(&app(&["crucial", "serve", "--token", &token], &[]), &["unexpected argument '--token'"]);
}

#[test]
fn only_who_has_a_token_can_be_reached_from_elsewhere() {
    fails_with(
        &app(&["crucial", "serve", "--listen", "192.0.2.1:0"], &[]),
        &["192.0.2.1:0", "loopback", "no cluster token", "app crucial token", "CRUCIAL_TOKEN_FILE"],
    );
    // With one it may, and it is the system that says whose address it is.
    let token = Token::generate().reveal();
    fails_with(
        &app(&["crucial", "serve", "--listen", "192.0.2.1:0"], &[("CRUCIAL_TOKEN", &token)]),
        &["listening at 192.0.2.1:0", "annot assign requested address"],
    );
}
