//! The back end `http` over `https`, and with the tokens that are wanted by what is in front of functions.

mod authority;
#[path = "../../../tests/http/front.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod front;
#[path = "../../../tests/http/lab.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod lab;
mod metadata;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use authority::Authority;
use front::{Fate, Front};
use lab::{App, Lab, Process, address, worker};
use metadata::Metadata;
use tests::{assert_says, eventually};

/// The program of the tests.
pub const APP: &str = env!("CARGO_BIN_EXE_https-app");

/// The name of the machine that the tests are on.
const HERE: &str = "127.0.0.1";

/// Function processes behind TLS.
struct Secure {
    lab: Lab,
    authority: Authority,
}

impl Secure {
    /// So many, with a certificate for this machine; `name` is unlike others.
    fn start(name: &str, workers: usize) -> Secure {
        Secure::with(name, HERE, workers, &[])
    }

    fn with(name: &str, certified: &str, workers: usize, fates: &[Fate]) -> Secure {
        let authority = Authority::new(name);
        let front = Front::over(fates, authority.open(certified));
        let mut secure = Secure { lab: Lab { workers: Vec::new(), front }, authority };
        secure.add((0..workers).map(|_| worker(APP)));
        secure
    }

    fn add(&mut self, workers: impl Iterator<Item = App>) {
        let workers: Vec<_> = workers.map(App::start).collect();
        for worker in workers {
            self.lab.front.add(&address(&worker));
            self.lab.workers.push(worker);
        }
    }

    fn url(&self) -> String {
        format!("https://{}", self.lab.front.address)
    }

    fn trusted(&self) -> &str {
        self.authority.file().to_str().unwrap()
    }

    /// A program that trusts the authority.
    fn app(&self, args: &str) -> App {
        self.lab.app(args).set([("CRUCIAL_HTTP_URL", &*self.url()), ("SSL_CERT_FILE", self.trusted())])
    }

    /// Lets those pass that have a token that `accepts` does.
    fn guard(&self, status: u16, mut accepts: impl FnMut(&str) -> bool + Send + 'static) {
        self.lab.front.guard(move |request| {
            let is_accepted = bearer(request).is_some_and(|token| accepts(&token));
            if is_accepted { None } else { Some(status) }
        });
    }
}

/// The token of a request.
fn bearer(request: &[u8]) -> Option<String> {
    let request = String::from_utf8_lossy(request);
    let mut lines = request.split("\r\n\r\n").next().unwrap().lines();
    lines.find_map(|line| line.strip_prefix("authorization: Bearer ")).map(str::to_owned)
}

/// It says so when it starts, before `main` runs, and doesn't try again.
#[track_caller]
fn assert_refused(app: App, parts: &[&str]) {
    let (out, errors) = app.run();
    assert_says(&errors, &["error: "]);
    assert_says(&errors, parts);
    assert!(!errors.contains("Tried for"), "{errors}");
    assert!(!out.contains("started"), "{out}");
}

/// A file that a test writes, and replaces.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, content: &str) -> TokenFile {
        let file =
            TokenFile(std::env::temp_dir().join(format!("crucial-{}-{name}.token", std::process::id())));
        file.replace(content);
        file
    }

    fn replace(&self, content: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    fn setting(&self) -> String {
        format!("file:{}", self.0.display())
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Waits until a program has waited so often.
fn until_waiting(app: &Process, times: usize) {
    eventually("it waits", || app.out().matches("waiting").count() == times);
}

// ---- certificates

#[test]
fn cloud_threads_run_over_https() {
    let secure = Secure::start("https", 3);
    assert_says(&secure.app("meet,3").run().0, &["sum 6 in 3 processes", "runs 3"]);
    assert_eq!(secure.lab.front.answered("outcome"), 3);
}

#[test]
fn what_is_sent_again_is_sent_again_over_https() {
    let secure =
        Secure::with("again", HERE, 1, &[Fate::Refuse(429), Fate::Refuse(503), Fate::Lose, Fate::LoseAnswer]);
    assert_says(&secure.app("work,1,0").run().0, &["sum 0 in 1 processes", "runs 1"]);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let (secure, other) = (Secure::start("unknown", 1), Authority::new("other"));
    let app = secure.app("nothing").set([("SSL_CERT_FILE", other.file().to_str().unwrap())]);
    assert_refused(
        app,
        &["no request to https://127.", "certificate is not accepted", "UnknownIssuer", "SSL_CERT_FILE"],
    );
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let secure = Secure::with("names", "workers.example", 1, &[]);
    assert_refused(
        secure.app("nothing"),
        &["certificate is not accepted", "workers.example", "Is CRUCIAL_HTTP_URL right?"],
    );
}

#[test]
fn a_system_without_certificates_is_told_which() {
    let secure = Secure::start("none", 1);
    let app = secure.app("nothing").set([("SSL_CERT_FILE", "/nowhere/ca.pem")]);
    assert_refused(app, &["this system has none", "/nowhere/ca.pem", "`ca-certificates`", "SSL_CERT_FILE"]);
}

#[test]
fn something_that_speaks_no_tls_is_named() {
    let secure = Secure::start("plain", 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let app = secure.app("nothing").set([("CRUCIAL_HTTP_URL", &*url)]);
    assert_refused(app, &["no request to https://127.", "does not speak TLS 1.3"]);
}

// ---- tokens in files

#[test]
fn a_token_in_a_file_goes_with_each_request_and_may_be_replaced() {
    let secure = Secure::start("file", 1);
    let file = TokenFile::new("replaced", "first.Token\n");
    let right = Arc::new(Mutex::new("first.Token"));
    let accepted = right.clone();
    secure.guard(403, move |token| token == *accepted.lock().unwrap());
    let mut app = secure
        .app("pauses,2")
        .set([("CRUCIAL_HTTP_AUTH", file.setting().as_str()), ("CRUCIAL_LOG", "trace")])
        .start();
    until_waiting(&app, 1);
    *right.lock().unwrap() = "second.Token";
    file.replace("second.Token");
    app.go_on();
    until_waiting(&app, 2);
    app.go_on();
    let (out, errors) = app.finish();
    assert_says(&out, &["locked 2, runs 2"]);
    // Not even where everything is logged.
    assert!(!errors.contains("irst.Token") && !errors.contains("econd.Token"), "{errors}");
}

/// They have settings of their own, as what they start may be somebody else's to pay for.
#[test]
fn functions_that_start_functions_show_their_own_token() {
    let mut secure = Secure::start("nested", 0);
    let (program, function) = (TokenFile::new("program", "program"), TokenFile::new("function", "function"));
    let (certificates, auth) = (secure.trusted().to_owned(), function.setting());
    secure.add((0..3).map(|_| {
        worker(APP).set([("SSL_CERT_FILE", certificates.as_str()), ("CRUCIAL_HTTP_AUTH", auth.as_str())])
    }));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let saw = seen.clone();
    secure.guard(403, move |token| {
        saw.lock().unwrap().push(token.to_owned());
        ["program", "function"].contains(&token)
    });
    let app = secure.app("tree,1").set([("CRUCIAL_HTTP_AUTH", program.setting().as_str())]);
    assert_says(&app.run().0, &["2 leaves"]);
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|token| token == "function"), "{seen:?}");
}

#[test]
fn a_program_that_is_not_accepted_is_told_which_setting_is_about_that() {
    let secure = Secure::start("forbidden", 1);
    secure.guard(403, |token| token == "right");
    assert_refused(
        secure.app("nothing"),
        &["HTTP status 403", "set CRUCIAL_HTTP_AUTH to `google` or `file:PATH`"],
    );
    let file = TokenFile::new("wrong", "wrong");
    let app = secure.app("nothing").set([("CRUCIAL_HTTP_AUTH", file.setting().as_str())]);
    assert_refused(app, &["HTTP status 403", "CRUCIAL_HTTP_AUTH = file:", "was sent", "roles/run.invoker"]);
}

#[test]
fn a_file_without_a_token_is_named_at_the_start() {
    let secure = Secure::start("files", 1);
    let app = |setting: &str| secure.app("nothing").set([("CRUCIAL_HTTP_AUTH", setting)]);
    assert_refused(app("file:/nowhere/token"), &["/nowhere/token", "No such file", "CRUCIAL_HTTP_AUTH"]);
    let file = TokenFile::new("empty", " \n");
    assert_refused(app(&file.setting()), &["-empty.token", "it is empty"]);
    for content in ["two words", "two\nlines", "Schlüssel"] {
        file.replace(content);
        let (_, errors) = app(&file.setting()).run();
        assert_says(&errors, &["-empty.token", "can't be sent in a header"]);
        assert!(!errors.contains(content), "{errors}");
    }
}

#[test]
fn a_token_is_not_sent_where_others_could_read_it() {
    let metadata = Metadata::start(Duration::from_secs(3600));
    let file = TokenFile::new("plain", "token");
    let host = metadata.address.to_string();
    for auth in ["google", &file.setting()] {
        let app = App::new("nothing").set([
            ("CRUCIAL_BACKEND", "http"),
            ("CRUCIAL_SERVERS", "127.0.0.1:1"),
            ("CRUCIAL_HTTP_URL", "http://workers.example"),
            ("CRUCIAL_HTTP_AUTH", auth),
            ("GCE_METADATA_HOST", &host),
        ]);
        assert_refused(app, &["http://workers.example", "could read it", "`https`", "CRUCIAL_HTTP_AUTH"]);
    }
    assert!(metadata.tokens().is_empty());
}

// ---- tokens of Google Cloud

/// A program that gets its tokens there.
fn on_google(secure: &Secure, metadata: &Metadata, args: &str) -> App {
    let host = metadata.address.to_string();
    secure.app(args).set([("CRUCIAL_HTTP_AUTH", "google"), ("GCE_METADATA_HOST", &host)])
}

/// Runs two cloud threads one after the other, in front of somebody who counts requests and accepts the newest token.
fn two_threads(secure: &Secure, metadata: &Arc<Metadata>) -> usize {
    let requests = Arc::new(AtomicUsize::new(0));
    let (counted, source) = (requests.clone(), metadata.clone());
    secure.guard(403, move |token| {
        counted.fetch_add(1, SeqCst);
        source.tokens().last().is_some_and(|newest| newest == token)
    });
    let mut app = on_google(secure, metadata, "pauses,2").start();
    for times in 1..=2 {
        until_waiting(&app, times);
        app.go_on();
    }
    assert_says(&app.finish().0, &["locked 2, runs 2"]);
    requests.load(SeqCst)
}

#[test]
fn an_identity_token_is_used_for_as_long_as_it_lasts() {
    let (secure, metadata) =
        (Secure::start("lasting", 1), Arc::new(Metadata::start(Duration::from_secs(3600))));
    assert!(two_threads(&secure, &metadata) >= 3);
    assert_eq!(metadata.tokens().len(), 1);
}

#[test]
fn an_identity_token_that_ends_soon_is_replaced() {
    let (secure, metadata) = (Secure::start("ending", 1), Arc::new(Metadata::start(Duration::from_secs(60))));
    let requests = two_threads(&secure, &metadata);
    assert_eq!(metadata.tokens().len(), requests);
}

#[test]
fn an_identity_token_that_is_not_accepted_is_replaced_once() {
    let (secure, metadata) =
        (Secure::start("refused", 1), Arc::new(Metadata::start(Duration::from_secs(3600))));
    let source = metadata.clone();
    secure.guard(401, move |token| source.tokens().iter().position(|given| given == token) == Some(1));
    let app = on_google(&secure, &metadata, "work,3,0");
    assert_says(&app.run().0, &["sum 6", "runs 3"]);
    assert_eq!(metadata.tokens().len(), 2);
    // The next ones are not accepted either.
    let app = on_google(&secure, &metadata, "nothing");
    assert_refused(app, &["HTTP status 401", "CRUCIAL_HTTP_AUTH = google", "roles/run.invoker"]);
    assert_eq!(metadata.tokens().len(), 4);
}

#[test]
fn where_there_is_no_metadata_server_that_is_said() {
    let secure = Secure::start("elsewhere", 1);
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let app = secure.app("nothing").set([
        ("CRUCIAL_HTTP_AUTH", "google"),
        ("GCE_METADATA_HOST", unused.as_str()),
        ("CRUCIAL_CONNECT_TIMEOUT", "200ms"),
    ]);
    let (out, errors) = app.run();
    assert_says(
        &errors,
        &[
            "error: ",
            "no identity token",
            &unused,
            "onnection refused",
            "works on Google Cloud only",
            "`file:PATH`",
        ],
    );
    assert!(!out.contains("started"), "{out}");
    // Something else is there.
    let other = Front::start(&[]);
    other.guard(|_| Some(404));
    let host = other.address.to_string();
    let app = secure.app("nothing").set([("CRUCIAL_HTTP_AUTH", "google"), ("GCE_METADATA_HOST", &host)]);
    assert_refused(app, &["no identity token", "HTTP status 404", "with a service account"]);
}
