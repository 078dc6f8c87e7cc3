//! What the tests of TLS share.

use crucial::Config;
use crucial_runtime::security::Token;
use tests::server::client;

/// The path of the test program, in an integration test.
#[macro_export]
macro_rules! app {
    () => {
        ::core::env!("CARGO_BIN_EXE_tls-app")
    };
}

/// Settings with a token.
#[must_use]
pub fn with(token: &Token) -> Config {
    let mut config = Config::default();
    config.token = Some(token.clone());
    config
}

/// Settings of a client of the server at `address`, with a token.
#[must_use]
pub fn client_with(address: &str, token: &Token) -> Config {
    let mut config = client(address);
    config.token = Some(token.clone());
    config
}
