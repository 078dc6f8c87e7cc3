//! Our server, in a process of its own.

use std::{env, sync::Arc, time::Duration};

use crucial::{BackendKind, Config, run::Run};
use crucial_runtime::security::Token;

use super::child::{Child, Pipes};
use crate::Error;

/// How the ends wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spin {
    /// As configured by default.
    Default,
    /// They sleep at once.
    Off,
}

/// A DSO server and a run on it.
#[derive(Debug)]
pub(super) struct Server {
    run: Arc<Run>,
    address: String,
    token: Option<Token>,
    child: Child,
}

impl Server {
    pub(super) fn start(spin: Spin) -> Result<Self, Error> {
        Self::start_with(spin, None)
    }

    /// One that speaks TLS.
    pub(super) fn start_secured() -> Result<Self, Error> {
        Self::start_with(Spin::Default, Some(Token::generate()))
    }

    fn start_with(spin: Spin, token: Option<Token>) -> Result<Self, Error> {
        let mut config = Config::default();
        let mut settings = vec![("CRUCIAL_LOG", "warn".to_owned())];
        if spin == Spin::Off {
            config.spin = Duration::ZERO;
            settings.push(("CRUCIAL_SPIN", "0s".to_owned()));
        }
        settings.extend(token.iter().map(|token| ("CRUCIAL_TOKEN", token.reveal())));
        config.token.clone_from(&token);
        let this = env::current_exe()?;
        let args = ["crucial", "serve", "--listen", "127.0.0.1:0"];
        let mut child = Child::start(this.as_os_str(), args, &settings, Pipes::Output)?;
        let address = child.address()?;
        config.servers = vec![address.clone()];
        Ok(Server { run: Run::start(config)?, address, token, child })
    }

    /// Another run on it, with this back end.
    pub(super) fn start_run(&self, backend: BackendKind) -> Result<Arc<Run>, Error> {
        let mut config = Config::default();
        config.servers = vec![self.address.clone()];
        config.backend = backend;
        config.token.clone_from(&self.token);
        Ok(Run::start(config)?)
    }

    pub(super) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run.end();
    }
}
