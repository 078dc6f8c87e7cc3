//! The back end `http` with a cluster token: who is refused, and what can be seen on the way.

#[path = "../../tests/http/front.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod front;
#[path = "../../tests/http/lab.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod lab;

use std::net::TcpStream;

use crucial_runtime::security::Token;
use front::{Fate, exchange, header};
use lab::{Lab, Process, address, worker};
use tests::{assert_says, server::ServerProcess};
use tests_tls::app;

/// The program of the tests.
pub const APP: &str = app!();

/// Function processes with a token, on all addresses.
fn lab(token: &Token, workers: usize, fates: &[Fate]) -> Lab {
    let mut lab = Lab::start(0, fates);
    lab.workers = (0..workers)
        .map(|_| {
            lab::App::new("crucial,function,--listen,0.0.0.0:0")
                .set([("CRUCIAL_TOKEN", &token.reveal())])
                .start()
        })
        .collect();
    for worker in &lab.workers {
        lab.front.add(&local(worker));
    }
    lab
}

/// How a process that listens everywhere is reached from here.
fn local(worker: &Process) -> String {
    address(worker).replace("0.0.0.0", "127.0.0.1")
}

/// What a program says that uses them and a server, all with these tokens.
fn run(lab: &Lab, server: &Token, client: Option<&Token>) -> (String, String) {
    let server = ServerProcess::start(APP, &[("CRUCIAL_TOKEN", server.reveal().as_str())]);
    let mut app =
        lab.app("all").set([("CRUCIAL_SERVERS", server.address.as_str()), ("CRUCIAL_HTTP_PATIENCE", "1s")]);
    if let Some(token) = client {
        app = app.set([("CRUCIAL_TOKEN", token.reveal().as_str())]);
    }
    app.run()
}

#[test]
fn functions_that_others_can_reach_run_cloud_threads_of_those_with_the_token() {
    let token = Token::generate();
    let lab = lab(&token, 3, &[]);
    let (out, errors) = run(&lab, &token, Some(&token));
    assert_says(&out, &["[0, 1, 2] 3 [Some(0), Some(1), Some(4)] elsewhere: true"]);
    assert!(!errors.contains("refused"), "{errors}");
    // Nobody on the way sees what is asked for, or can ask for it.
    let last = lab.front.last();
    assert_eq!(header(&last, "content-type").as_deref(), Some("application/vnd.crucial.sealed"));
    let body = String::from_utf8_lossy(&last).split_once("\r\n\r\n").unwrap().1.to_owned();
    assert!(!body.contains("take_part") && !body.contains("fingerprint"), "{body}");
}

#[test]
fn functions_refuse_those_without_their_token() {
    let token = Token::generate();
    let lab = lab(&token, 1, &[]);
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(local(&lab.workers[0])).unwrap();
        String::from_utf8(exchange(&mut stream, request.as_bytes()).unwrap()).unwrap()
    };
    let plain = ask("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    assert_says(
        &plain,
        &["HTTP/1.1 403", "x-crucial: refused", "the request is not sealed, and this process has a"],
    );
    let sealed =
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/vnd.crucial.sealed\r\ncontent-length: ";
    for body in ["", "x", &"x".repeat(100)] {
        let answer = ask(&format!("{sealed}{}\r\n\r\n{body}", body.len()));
        assert_says(
            &answer,
            &["HTTP/1.1 403", "not sealed with the cluster token of this process", "CRUCIAL_TOKEN_FILE"],
        );
    }
}

#[test]
fn a_program_is_told_which_token_is_wrong() {
    let (token, other) = (Token::generate(), Token::generate());
    // The program has the token of the server, and the functions have another one.
    let (_, errors) = run(&lab(&other, 1, &[]), &token, Some(&token));
    assert_says(&errors, &["refused", "not sealed with the cluster token of this process", "here and there"]);
    // Or none.
    let mut lab = Lab::start(0, &[]);
    lab.workers = vec![worker(APP).start()];
    lab.front.add(&address(&lab.workers[0]));
    let (_, errors) = run(&lab, &token, Some(&token));
    assert_says(&errors, &["refused", "sealed with a cluster token, and this process has none"]);
}

#[test]
fn a_program_that_has_no_token_is_refused() {
    let token = Token::generate();
    let lab = lab(&token, 1, &[]);
    // Its objects are in itself, so that it gets so far.
    let (_, errors) = lab.app("all").run();
    assert_says(&errors, &["refused", "the request is not sealed, and this process has a cluster token"]);
}

#[test]
fn an_outcome_that_nobody_with_the_token_gave_is_none() {
    let token = Token::generate();
    let lab = lab(&token, 1, &[Fate::Forge; 3]);
    let (_, errors) = run(&lab, &token, Some(&token));
    assert_says(&errors, &["Refused", "is not sealed with this program's cluster token"]);
    assert_eq!(lab.front.passed(), 0);
}
