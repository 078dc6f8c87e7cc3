//! Redis: the usual place for state that processes share.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    process::Command,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, Connection, IntoConnectionInfo, aio::MultiplexedConnection, cmd,
    io::tcp::TcpSettings,
};

use super::{
    child::{Child, Pipes},
    peers::free_port,
    report::Peer,
};
use crate::Error;

pub(super) const PROGRAM: &str = "redis-server";
const INSTALL: &str = "apt-get install redis-server";

/// Multiplies a number `ARGV[1]` times and returns it, as `Number::multiply` does.
const MULTIPLY: &str = "local v = tonumber(redis.call('GET', KEYS[1]) or '1.5')
for i = 1, tonumber(ARGV[1]) do v = v * 1.0000001 end
if v > 1e300 then v = 1.5 end
local s = string.format('%.17g', v)
redis.call('SET', KEYS[1], s)
return s";

/// A Redis server without persistence.
#[derive(Debug)]
pub(super) struct Redis {
    name: String,
    client: Client,
    url: String,
    port: u16,
    child: Child,
    multiply: Arc<str>,
}

impl Redis {
    /// Starts a server, on this thread's CPUs; none if Redis is not installed.
    pub(super) fn start() -> Result<Option<Self>, Error> {
        let version = match Command::new(PROGRAM).arg("--version").output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let version = version.split_whitespace().find_map(|word| word.strip_prefix("v="));
        let name = version.map_or_else(|| "Redis".to_owned(), |version| format!("Redis {version}"));
        // Redis takes no port 0: another program may get the free port first, so there is a second try.
        let mut attempt = Self::attempt(&name);
        for _ in 0..2 {
            if attempt.is_err() {
                attempt = Self::attempt(&name);
            }
        }
        attempt.map(Some)
    }

    fn attempt(name: &str) -> Result<Self, Error> {
        let port = free_port()?;
        let text = port.to_string();
        let args =
            ["--bind", "127.0.0.1", "--port", &text, "--save", "", "--appendonly", "no", "--daemonize", "no"];
        let mut child = Child::start(OsStr::new(PROGRAM), args, &[], Pipes::Neither)?;
        let url = format!("redis://127.0.0.1:{port}/");
        let info = url.as_str().into_connection_info()?;
        // Otherwise requests may wait for the acknowledgement of earlier ones.
        let client = Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))?;
        let start = Instant::now();
        let mut connection = loop {
            match client.get_connection() {
                Ok(connection) => break connection,
                Err(error) if !child.is_alive()? || start.elapsed() > Duration::from_secs(10) => {
                    return Err(Error::Message(format!("{PROGRAM} did not start: {error}")));
                }
                Err(_) => sleep(Duration::from_millis(10)),
            }
        };
        let multiply: String = cmd("SCRIPT").arg("LOAD").arg(MULTIPLY).query(&mut connection)?;
        Ok(Redis { name: name.to_owned(), client, url, port, child, multiply: multiply.into() })
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn connect(&self) -> Result<Connection, Error> {
        Ok(self.client.get_connection()?)
    }

    /// A connection that many tasks share.
    pub(super) async fn connect_async(&self) -> Result<MultiplexedConnection, Error> {
        // A slow answer is slow, not an error.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    pub(super) fn set(key: &str, value: &[u8]) -> Cmd {
        let mut set = cmd("SET");
        set.arg(key).arg(value);
        set
    }

    pub(super) fn get(key: &str) -> Cmd {
        let mut get = cmd("GET");
        get.arg(key);
        get
    }

    /// What [`Redis::multiply`] needs to know.
    pub(super) fn script(&self) -> Arc<str> {
        self.multiply.clone()
    }

    pub(super) fn multiply(script: &str, key: &str, times: u32) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(script).arg(1).arg(key).arg(times);
        call
    }
}

/// What a figure says of Redis: its value, or that it is missing. `how` tells how it was used.
pub(super) fn peer(redis: Option<&Redis>, how: &str, value: f64) -> Peer {
    match redis {
        Some(redis) => Peer::Measured { name: format!("{}{how}", redis.name), value },
        None => Peer::Missing { name: "Redis".to_owned(), install: INSTALL },
    }
}
