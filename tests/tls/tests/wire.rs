//! What somebody sees and achieves who has the network, but not the token.

use crucial::{Config, collections::HashMap};
use crucial_runtime::security::Token;
use tests::{
    begin,
    objects::{Journal, Tally},
    proxy::Proxy,
    server::{LocalServer, OwnRun, client},
};
use tests_tls::{client_with, with};

const SECRET: &str = "meet me at the bridge at midnight";

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// All that passes while a client writes and reads something secret, blocking and not.
fn heard(server: &Config, client: impl FnOnce(&str) -> Config) -> Vec<u8> {
    let server = LocalServer::start(server);
    let proxy = Proxy::start(&server.address, 1);
    proxy.listen();
    let _run = OwnRun::enter(client(&proxy.address));
    let map = HashMap::<String, String>::at("plans").new();
    map.insert("tonight".to_owned(), SECRET.to_owned());
    assert_eq!(map.get("tonight").as_deref(), Some(SECRET));
    let journal = Journal::at("a well-known name").new();
    crucial::run::block_on(journal.remote().push(1)).unwrap();
    proxy.heard()
}

#[test]
fn what_is_said_and_the_token_are_not_heard() {
    let token = Token::generate();
    let plain = heard(&Config::default(), client);
    // What is heard is heard: without this, the rest would prove nothing.
    for part in [SECRET, "tonight", "plans", "a well-known name", "CRUCIALd", "Journal"] {
        assert!(contains(&plain, part.as_bytes()), "{part}");
    }
    let secured = heard(&with(&token), |address| client_with(address, &token));
    assert!(secured.len() > plain.len());
    for part in [SECRET, "tonight", "plans", "a well-known name", "CRUCIAL", "Journal", &token.reveal()] {
        assert!(!contains(&secured, part.as_bytes()), "{part}");
    }
    let text = token.reveal();
    let raw: Vec<_> = (0..32).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert!(!contains(&secured, &raw[..8]) && !contains(&secured, &raw[24..]));
}

#[test]
fn changed_bytes_break_the_connection_and_change_nothing() {
    let token = Token::generate();
    let server = LocalServer::start(&with(&token));
    let proxy = Proxy::start(&server.address, 99);
    let run = OwnRun::enter(client_with(&proxy.address, &token));
    let (tally, journal) = (Tally::new(0), Journal::new());
    proxy.set_flip_odds(20);
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let (tally, journal, run) = (tally.clone(), journal.clone(), run.run.clone());
            begin(move || {
                let _entered = run.enter();
                let mut before = Vec::new();
                for n in 0..60 {
                    if thread % 2 == 0 {
                        before.push(tally.add(1));
                        journal.push(thread << 32 | n);
                    } else {
                        before.push(crucial::run::block_on(tally.remote().add(1)).unwrap());
                        crucial::run::block_on(journal.remote().push(thread << 32 | n)).unwrap();
                    }
                }
                before
            })
        })
        .collect();
    let mut before: Vec<_> =
        threads.into_iter().flat_map(|t| t.within("calls in spite of the proxy")).collect();
    proxy.set_flip_odds(0);
    assert!(proxy.flips() > 20, "{} bytes were changed", proxy.flips());
    before.sort_unstable();
    assert_eq!(before, (0..240).collect::<Vec<_>>());
    assert_eq!(tally.get(), 240);
    let tokens = journal.tokens();
    for thread in 0..4 {
        let own = tokens.iter().filter(|token| **token >> 32 == thread).map(|token| token & 0xffff_ffff);
        assert!(own.eq(0..60), "the calls of thread {thread}");
    }
    assert_eq!(tokens.len(), 240);
}
