//! Settings: from `crucial.toml`, then the file of a deployment, then `CRUCIAL_*` variables, then code.

use std::{
    collections::BTreeMap,
    env, fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    function::Options,
    security::{self, Token},
};

/// Where cloud threads run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BackendKind {
    /// Threads of this process.
    #[default]
    Threads,
    /// Processes of this machine, through a local implementation of the Lambda Runtime API.
    Processes,
    /// Threads of this process as long as there is room, then another back end.
    Hybrid,
    /// Functions on AWS Lambda.
    Lambda,
    /// Function processes that serve HTTP: on Kubernetes, Knative, or Cloud Run.
    Http,
}

/// How a program shows who it is to what is in front of its functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpAuth {
    /// Not at all.
    #[default]
    None,
    /// By an identity token of the service account that Google Cloud has given to this machine.
    Google,
    /// By the token in this file, which may be replaced at any time.
    File(PathBuf),
}

/// Limits of a server and of what clients may send to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The largest frame on a connection, in bytes: a call with its arguments, or an answer.
    pub frame: u64,
    /// The longest key, in bytes.
    pub key: u64,
    /// The most objects on one node.
    pub objects: u64,
    /// The most calls that wait at the guards of one object.
    pub parked: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { frame: 64 << 20, key: 1024, objects: 100_000_000, parked: 100_000 }
    }
}

/// Every setting of a program. Each has a name in `crucial.toml` (`connect_timeout`) and the same in the
/// environment (`CRUCIAL_CONNECT_TIMEOUT`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `backend`: where cloud threads run: `threads` (default), `processes`, `lambda`, `http`, or `hybrid`: threads first,
    /// then `hybrid_overflow`.
    pub backend: BackendKind,
    /// `servers`: the addresses of the DSO servers, `host:port`, separated by commas. Empty: a node in this process.
    pub servers: Vec<String>,
    /// `token`: the cluster token itself; `token_file`: the path of a file that holds it, which nobody but its owner may be
    /// able to read, relative to where the setting is. If both are set, `token` counts, which is read from the environment
    /// only. With a token, all connections are secured, and only those who have it take part; see [`crate::security`].
    /// Default: none.
    pub token: Option<Token>,
    /// `concurrency`: how many cloud threads run at once; more wait. Default: as many as are spawned in `threads`,
    /// 1,000 in `processes`, `lambda` and `http`, and in `hybrid` 1,000 of those that overflow.
    pub concurrency: Option<usize>,
    /// `deployment`: the name of what `cargo xtask deploy` has made. The settings in its file, `.crucial/NAME.toml` in the
    /// working directory or one above it, come between those of `crucial.toml` and the environment's. No default.
    pub deployment: Option<String>,
    /// `hybrid_threads`: in `hybrid`, how many cloud threads run in this process before others overflow. Default: as
    /// many as the machine runs at once.
    pub hybrid_threads: Option<usize>,
    /// `hybrid_overflow`: in `hybrid`, the back end of the cloud threads that find no room: `processes` (default), `lambda`
    /// or `http`.
    pub hybrid_overflow: BackendKind,
    /// `lambda_function`: in `lambda`, the function that runs this program: its name or ARN, with a version or an alias
    /// behind a colon if it isn't the latest. No default.
    pub lambda_function: Option<String>,
    /// `lambda_patience`: in `lambda`, how long an invocation is sent again that AWS throttles, can't serve at the moment,
    /// or doesn't answer. Default: 5 minutes.
    pub lambda_patience: Duration,
    /// `http_url`: in `http`, where function processes of this program are served: a URL with `http`, or with `https` if
    /// the program has the feature `tls`. No default.
    pub http_url: Option<String>,
    /// `http_auth`: in `http`, whose bearer token goes with each request, for what is in front of the functions: `none`
    /// (default); `google`, an identity token from the metadata server of Google Cloud; or `file:PATH`, the content of a file,
    /// which is read for each request. The path is relative to where the setting is. A token is sent over `https` only, or
    /// to this machine.
    pub http_auth: HttpAuth,
    /// `http_patience`: in `http`, how long an invocation is sent again that can't be delivered or gets no answer. One that
    /// finds all functions busy waits for as long as that takes. Default: 5 minutes.
    pub http_patience: Duration,
    /// `log`: what is logged to standard error: `off`, `error`, `warn`, `info`, `debug` or `trace`, also for single
    /// targets, as `warn,crucial_server=debug`. Default: `warn`, and `info` of a server.
    pub log: String,
    /// `spin`: how long a blocked caller and an idle connection of a server look for an answer before they sleep,
    /// where that helps. Default: 50 µs; `0s` turns it off.
    pub spin: Duration,
    /// `connect_timeout`: how long a client tries to reach a server, at first and again. Of several servers, one that doesn't
    /// answer is left for the next after 2 s. Default: 10 s.
    pub connect_timeout: Duration,
    /// `lease`: how long a run, its sessions, and what a process [holds](crate::holder) outlive their last connection.
    /// Default: 30 s.
    pub lease: Duration,
    /// `retries`: how often a failed cloud thread is repeated when its attribute does not say. Default: 0.
    pub retries: u32,
    /// `timeout`: how long a cloud thread may take when its attribute does not say. Default: 15 minutes in
    /// `processes`, the function's own in `lambda`, no limit in `threads` and `http`; in `hybrid`, that of the place where it
    /// runs.
    pub timeout: Option<Duration>,
    /// `memory`: how much memory a function process may use when its attribute does not say, in MiB. Default: 1769,
    /// for which Lambda gives a whole CPU. In `lambda` and `http`, the function's own counts.
    pub memory: u64,
    /// `usage`: whether a program says at its end what its cloud threads cost in `lambda`, or would have cost there, in
    /// `processes`: requests, GB-seconds that are billed, and dollars. Default: `false`.
    pub usage: bool,
    /// `idle`: how long a function process without work is kept. Default: 60 s.
    pub idle: Duration,
    /// The arguments with which this program starts its function processes. Not a setting: tests need it.
    #[doc(hidden)]
    pub launch: Vec<String>,
    /// `limit_frame`, `limit_key`, `limit_objects`, `limit_parked`: see [`Limits`].
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            backend: BackendKind::default(),
            servers: Vec::new(),
            token: None,
            concurrency: None,
            deployment: None,
            hybrid_threads: None,
            hybrid_overflow: BackendKind::Processes,
            lambda_function: None,
            lambda_patience: Duration::from_secs(5 * 60),
            http_url: None,
            http_auth: HttpAuth::None,
            http_patience: Duration::from_secs(5 * 60),
            log: String::new(),
            spin: Duration::from_micros(50),
            connect_timeout: Duration::from_secs(10),
            lease: Duration::from_secs(30),
            retries: 0,
            timeout: None,
            memory: 1769,
            usage: false,
            idle: Duration::from_secs(60),
            launch: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// A setting's value and where it was found.
struct Found {
    value: String,
    source: String,
}

impl Config {
    /// The settings of this process: `crucial.toml` in the working directory or one above it, then the file of the
    /// deployment, if one is named there or in the environment, then the environment.
    ///
    /// # Errors
    /// Names the key, the value and its source.
    pub fn load() -> Result<Config> {
        let working = env::current_dir().map_err(|e| Error::io("finding the working directory", &e))?;
        let variables =
            env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Config::gather(&working, variables)
    }

    fn gather(working: &Path, variables: impl Iterator<Item = (String, String)>) -> Result<Config> {
        let mut found = BTreeMap::new();
        let mut from_env = BTreeMap::new();
        if let Some(path) = above(working, Path::new("crucial.toml")) {
            read_file(&path, &mut found)?;
        }
        read_env(variables, &mut from_env);
        if let Some(deployment) = from_env.get("deployment").or_else(|| found.get("deployment")) {
            let path = deployment_file(working, deployment)?;
            read_file(&path, &mut found)?;
        }
        found.extend(from_env);
        Config::from_found(found)
    }

    /// The options of a task for which neither its caller nor its function's attribute says more.
    #[doc(hidden)]
    #[must_use]
    pub fn task_options(&self) -> Options {
        Options { retries: Some(self.retries), timeout: self.timeout, memory: Some(self.memory) }
    }

    /// Whether cloud threads run in this back end, at least some of them.
    pub(crate) fn uses(&self, kind: BackendKind) -> bool {
        self.backend == kind || self.backend == BackendKind::Hybrid && self.hybrid_overflow == kind
    }

    fn from_found(mut found: BTreeMap<String, Found>) -> Result<Config> {
        let mut config = Config::default();
        {
            let mut setting =
                |key: &str| found.remove(key).map(|found| Setting { key: key.to_owned(), found });
            if let Some(s) = setting("backend") {
                config.backend = s.parse(backend_kind)?;
            }
            if let Some(s) = setting("servers") {
                config.servers = s.parse(servers)?;
            }
            let file = setting("token_file");
            if let Some(s) = setting("token") {
                config.token = Some(s.parse(str::parse)?);
            } else if let Some(s) = file {
                config.token = Some(s.parse(|path| security::load(Path::new(path)))?);
            }
            if let Some(s) = setting("concurrency") {
                config.concurrency = Some(s.parse(at_least_one)?);
            }
            if let Some(s) = setting("deployment") {
                config.deployment = Some(s.found.value);
            }
            if let Some(s) = setting("hybrid_threads") {
                config.hybrid_threads = Some(s.parse(at_least_one)?);
            }
            if let Some(s) = setting("hybrid_overflow") {
                config.hybrid_overflow = s.parse(overflow)?;
            }
            if let Some(s) = setting("lambda_function") {
                config.lambda_function = Some(s.found.value);
            }
            if let Some(s) = setting("lambda_patience") {
                config.lambda_patience = s.parse(duration)?;
            }
            if let Some(s) = setting("http_url") {
                config.http_url = Some(s.parse(http_url)?);
            }
            if let Some(s) = setting("http_auth") {
                config.http_auth = s.parse(http_auth)?;
            }
            if let Some(s) = setting("http_patience") {
                config.http_patience = s.parse(duration)?;
            }
            if let Some(s) = setting("log") {
                config.log = s.found.value;
            }
            if let Some(s) = setting("spin") {
                config.spin = s.parse(duration)?;
            }
            if let Some(s) = setting("connect_timeout") {
                config.connect_timeout = s.parse(duration)?;
            }
            if let Some(s) = setting("lease") {
                config.lease = s.parse(duration)?;
            }
            if let Some(s) = setting("retries") {
                config.retries = s.parse(number)?;
            }
            if let Some(s) = setting("timeout") {
                config.timeout = Some(s.parse(duration)?);
            }
            if let Some(s) = setting("memory") {
                config.memory = s.parse(number)?;
            }
            if let Some(s) = setting("usage") {
                config.usage = s.parse(yes_or_no)?;
            }
            if let Some(s) = setting("idle") {
                config.idle = s.parse(duration)?;
            }
            let limits = &mut config.limits;
            for (key, limit) in [
                ("limit_frame", &mut limits.frame),
                ("limit_key", &mut limits.key),
                ("limit_objects", &mut limits.objects),
                ("limit_parked", &mut limits.parked),
            ] {
                if let Some(s) = setting(key) {
                    *limit = s.parse(number)?;
                }
            }
        }
        // What is left over was not asked for.
        match found.into_iter().next() {
            None => Ok(config),
            Some((key, found)) => {
                let reason = format!("there is no such setting; there are {}", KEYS.join(", "));
                Err(Setting { key, found }.error(&reason))
            }
        }
    }
}

const KEYS: [&str; 26] = [
    "backend",
    "concurrency",
    "connect_timeout",
    "deployment",
    "http_auth",
    "http_patience",
    "http_url",
    "hybrid_overflow",
    "hybrid_threads",
    "idle",
    "lambda_function",
    "lambda_patience",
    "lease",
    "limit_frame",
    "limit_key",
    "limit_objects",
    "limit_parked",
    "log",
    "memory",
    "retries",
    "servers",
    "spin",
    "timeout",
    "token",
    "token_file",
    "usage",
];

/// A longer `http_auth` that is wrong may be a token itself.
const LONGEST_AUTH: usize = 16;

/// Variables that are no settings: they belong to the roles of a process, and to tests.
const NOT_SETTINGS: [&str; 3] = ["CRUCIAL_PARENT_PID", "CRUCIAL_ROLE", "CRUCIAL_TEST_NODES"];

struct Setting {
    key: String,
    found: Found,
}

impl Setting {
    fn error(self, reason: &str) -> Error {
        let Setting { key, found: Found { value, source } } = self;
        // Also where a token was put by mistake, or under a wrong name.
        let last = value.rsplit('/').next().unwrap_or_default();
        let is_secret = key != "token_file" && key.contains("token")
            || last.parse::<Token>().is_ok()
            || key == "http_auth" && value.len() > LONGEST_AUTH;
        let value = if is_secret { "(not shown)".to_owned() } else { value };
        Error::Config { key, value, source_name: source, reason: reason.to_owned() }
    }

    fn parse<T>(self, parse: fn(&str) -> Result<T, String>) -> Result<T> {
        parse(&self.found.value).map_err(|reason| self.error(&reason))
    }
}

/// A file in a directory or one above it.
fn above(directory: &Path, file: &Path) -> Option<PathBuf> {
    directory.ancestors().map(|dir| dir.join(file)).find(|path| path.is_file())
}

/// Where `cargo xtask deploy` has written what clients need to know.
fn deployment_file(working: &Path, deployment: &Found) -> Result<PathBuf> {
    let name = &deployment.value;
    let error = |reason: String| Error::Config {
        key: "deployment".to_owned(),
        value: name.clone(),
        source_name: deployment.source.clone(),
        reason,
    };
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(error("expected the name of a deployment: letters, digits and hyphens".to_owned()));
    }
    let file = Path::new(".crucial").join(format!("{name}.toml"));
    above(working, &file).ok_or_else(|| {
        error(format!(
            "there is no {} in {} or above it: `cargo xtask deploy --name {name}` writes it, where the program's \
             Cargo.toml is",
            file.display(),
            working.display()
        ))
    })
}

fn read_file(path: &Path, found: &mut BTreeMap<String, Found>) -> Result<()> {
    let source = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(format!("reading {source}"), &e))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| Error::Config {
        key: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        value: String::new(),
        source_name: source.clone(),
        reason: e.to_string(),
    })?;
    for (key, value) in table {
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Array(items) => items
                .iter()
                .map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(","),
            other => other.to_string(),
        };
        let value = match key.as_str() {
            "token" => {
                let reason = "a program's settings are shared, and the token is secret: set `token_file` here, or \
                              CRUCIAL_TOKEN in the environment";
                return Err(Setting { key, found: Found { value, source } }.error(reason));
            }
            "token_file" => path.with_file_name(value).display().to_string(),
            "http_auth" => match value.strip_prefix(FILE) {
                Some(file) if !file.is_empty() => format!("{FILE}{}", path.with_file_name(file).display()),
                _ => value,
            },
            _ => value,
        };
        found.insert(key, Found { value, source: source.clone() });
    }
    Ok(())
}

fn read_env(variables: impl Iterator<Item = (String, String)>, found: &mut BTreeMap<String, Found>) {
    for (name, value) in variables {
        if let Some(key) = name.strip_prefix("CRUCIAL_")
            && !NOT_SETTINGS.contains(&name.as_str())
        {
            // An empty variable means "not set", as in most programs.
            if !value.is_empty() {
                found.insert(key.to_lowercase(), Found { value, source: format!("the variable {name}") });
            }
        }
    }
}

fn backend_kind(text: &str) -> Result<BackendKind, String> {
    match text {
        "threads" => Ok(BackendKind::Threads),
        "processes" => Ok(BackendKind::Processes),
        "hybrid" => Ok(BackendKind::Hybrid),
        "lambda" => Ok(BackendKind::Lambda),
        "http" => Ok(BackendKind::Http),
        _ => Err("expected `threads`, `processes`, `lambda`, `http` or `hybrid`".into()),
    }
}

/// What `hybrid_overflow` can be.
pub(crate) const OVERFLOWS: &str = "expected `processes`, `lambda` or `http`";

fn overflow(text: &str) -> Result<BackendKind, String> {
    match text {
        "processes" => Ok(BackendKind::Processes),
        "lambda" => Ok(BackendKind::Lambda),
        "http" => Ok(BackendKind::Http),
        _ => Err(OVERFLOWS.into()),
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendKind::Threads => "threads",
            BackendKind::Processes => "processes",
            BackendKind::Hybrid => "hybrid",
            BackendKind::Lambda => "lambda",
            BackendKind::Http => "http",
        })
    }
}

/// What is before the path of a file with a token.
const FILE: &str = "file:";

fn http_auth(text: &str) -> Result<HttpAuth, String> {
    match text {
        "none" => Ok(HttpAuth::None),
        "google" => Ok(HttpAuth::Google),
        _ => match text.strip_prefix(FILE) {
            Some(path) if !path.is_empty() => Ok(HttpAuth::File(path.into())),
            _ => {
                Err("expected `none`, `google`, or `file:` and the path of a file that holds a token".into())
            }
        },
    }
}

impl fmt::Display for HttpAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpAuth::None => f.write_str("none"),
            HttpAuth::Google => f.write_str("google"),
            HttpAuth::File(path) => write!(f, "{FILE}{}", path.display()),
        }
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let secure = text.strip_prefix("https://");
    if secure.is_some() {
        security::check_https()?;
    }
    let authority = secure.or_else(|| text.strip_prefix("http://"));
    let authority = authority.and_then(|rest| rest.split(['/', '?', '#']).next());
    // The colons in the brackets of an IPv6 address come before no port.
    let (host, port) = match authority.and_then(|authority| authority.rsplit_once(':')) {
        Some((host, port)) if !port.ends_with(']') => (Some(host), port.parse::<u16>().is_ok()),
        _ => (authority, true),
    };
    match host {
        Some(host) if !host.is_empty() && port => Ok(text.to_owned()),
        _ => Err("expected a URL, as `http://workers:8080` or `https://workers.example`".into()),
    }
}

fn servers(text: &str) -> Result<Vec<String>, String> {
    let servers: Vec<_> =
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
    for server in &servers {
        let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
            return Err(format!("`{server}` is not `host:port`"));
        }
    }
    Ok(servers)
}

fn number<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.replace('_', "").parse().map_err(|e| format!("expected a number: {e}"))
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "expected `true` or `false`".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match number(text)? {
        0 => Err("expected at least 1".into()),
        n => Ok(n),
    }
}

/// Parses a duration: a number with a unit, as in `250ms` or `1.5s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number with a unit: `50us`, `250ms`, `30s`, `15min` or `1h`".to_owned();
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ').ok_or_else(expected)?;
    let (value, unit) = text.split_at(split);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let value: f64 = value.trim().parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(value * seconds).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    fn from_env(variables: &[(&str, &str)]) -> Result<Config> {
        let mut found = BTreeMap::new();
        read_env(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), &mut found);
        Config::from_found(found)
    }

    #[test]
    fn variables_become_settings() {
        let config = from_env(&[
            ("CRUCIAL_BACKEND", "processes"),
            ("CRUCIAL_SERVERS", "127.0.0.1:7878"),
            ("CRUCIAL_SPIN", "0s"),
            ("CRUCIAL_LIMIT_FRAME", "1_000"),
            ("CRUCIAL_CONCURRENCY", ""),
            ("PATH", "x"),
        ])
        .unwrap();
        assert_eq!(config.backend, BackendKind::Processes);
        assert_eq!(config.servers, ["127.0.0.1:7878"]);
        assert_eq!(config.spin, Duration::ZERO);
        assert_eq!(config.limits.frame, 1000);
        assert_eq!(config.concurrency, None);
    }

    #[test]
    fn functions_have_urls_of_many_forms() {
        for url in [
            "http://workers",
            "http://workers:8080/run",
            "http://[::1]",
            "http://[::1]:8080",
            "http://10.0.0.1/",
        ] {
            assert_eq!(from_env(&[("CRUCIAL_HTTP_URL", url)]).unwrap().http_url.as_deref(), Some(url));
        }
    }

    #[test]
    fn https_is_for_programs_with_tls() {
        for url in ["https://workers", "https://workers.example:8443/run"] {
            let found = from_env(&[("CRUCIAL_HTTP_URL", url)]);
            if cfg!(feature = "tls") {
                assert_eq!(found.unwrap().http_url.as_deref(), Some(url));
            } else {
                let error = found.unwrap_err().to_string();
                for part in ["http_url", url, "CRUCIAL_HTTP_URL", "the feature `tls`", "features = [\"tls\"]"]
                {
                    assert!(error.contains(part), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_program_shows_who_it_is_or_does_not() {
        let auth = |value: &str| from_env(&[("CRUCIAL_HTTP_AUTH", value)]).map(|config| config.http_auth);
        assert_eq!(from_env(&[]).unwrap().http_auth, HttpAuth::None);
        for (value, expected) in [
            ("none", HttpAuth::None),
            ("google", HttpAuth::Google),
            ("file:/run/token", HttpAuth::File("/run/token".into())),
        ] {
            assert_eq!(auth(value).unwrap(), expected);
            assert_eq!(expected.to_string(), value);
        }
        // A token that was put there by mistake is not shown.
        let error = auth("Bearer header.payload.signature").unwrap_err().to_string();
        assert!(error.contains("(not shown)") && !error.contains("payload"), "{error}");
    }

    #[test]
    fn an_error_names_key_value_and_source() {
        for (name, value, reason) in [
            ("CRUCIAL_BACKEND", "proceses", "expected `threads`, `processes`, `lambda`, `http` or `hybrid`"),
            ("CRUCIAL_HTTP_URL", "workers:8080", "expected a URL"),
            ("CRUCIAL_HTTP_URL", "http://:8080", "expected a URL"),
            ("CRUCIAL_HTTP_URL", "http://workers:99999/run", "expected a URL"),
            ("CRUCIAL_HTTP_AUTH", "googel", "expected `none`, `google`, or `file:`"),
            ("CRUCIAL_HTTP_AUTH", "file:", "the path of a file"),
            ("CRUCIAL_HYBRID_OVERFLOW", "threads", "expected `processes`"),
            ("CRUCIAL_HYBRID_THREADS", "0", "at least 1"),
            ("CRUCIAL_SERVERS", "localhost", "`localhost` is not `host:port`"),
            ("CRUCIAL_CONCURRENCY", "0", "at least 1"),
            ("CRUCIAL_USAGE", "yes", "expected `true` or `false`"),
            ("CRUCIAL_SPIN", "50", "a number with a unit"),
            ("CRUCIAL_LEASE", "-1s", "a number with a unit"),
            ("CRUCIAL_BACKENT", "threads", "no such setting; there are backend, concurrency"),
        ] {
            let error = from_env(&[(name, value)]).unwrap_err().to_string();
            let key = name.strip_prefix("CRUCIAL_").unwrap().to_lowercase();
            for part in [key.as_str(), value, name, reason] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn a_deployment_comes_between_the_file_and_the_variables() {
        let root = env::temp_dir().join(format!("crucial-deployment-{}", std::process::id()));
        let program = root.join("program/src");
        std::fs::create_dir_all(root.join(".crucial")).unwrap();
        std::fs::create_dir_all(&program).unwrap();
        let file = "http_auth = \"file:id.token\"\ndeployment = \"prod\"\nservers = [\"10.0.0.1:1\"]\nretries = 3\nlease = \"9s\"\n";
        std::fs::write(root.join("crucial.toml"), file).unwrap();
        let gather = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Config::gather(&program, variables)
        };

        let missing = gather(&[]).unwrap_err().to_string();
        for part in
            ["deployment", "= prod", "crucial.toml", ".crucial/prod.toml", "cargo xtask deploy --name prod"]
        {
            assert!(missing.contains(part), "{missing}");
        }
        let escaping = gather(&[("CRUCIAL_DEPLOYMENT", "../prod")]).unwrap_err().to_string();
        assert!(escaping.contains("the name of a deployment"), "{escaping}");

        let file = "backend = \"lambda\"\nservers = [\"10.0.0.2:1\"]\nretries = 4\n";
        std::fs::write(root.join(".crucial/prod.toml"), file).unwrap();
        std::fs::write(root.join(".crucial/test.toml"), "retries = 5\n").unwrap();
        let config = gather(&[("CRUCIAL_SERVERS", "10.0.0.3:1")]).unwrap();
        assert_eq!((config.backend, config.retries, config.lease.as_secs()), (BackendKind::Lambda, 4, 9));
        assert_eq!(config.servers, ["10.0.0.3:1"]);
        // Beside the file that names it.
        assert_eq!(config.http_auth, HttpAuth::File(root.join("id.token")));
        // The variable says which one, too.
        assert_eq!(gather(&[("CRUCIAL_DEPLOYMENT", "test")]).unwrap().retries, 5);

        // A token is treated as in `crucial.toml`: it is in a file beside it, which nobody else can use.
        let token = Token::generate();
        let in_file = root.join(".crucial/prod.toml");
        std::fs::write(&in_file, "token_file = \"prod.token\"\n").unwrap();
        token.store(&root.join(".crucial/prod.token")).unwrap();
        assert_eq!(gather(&[]).unwrap().token.as_ref(), Some(&token));
        let other = Token::generate();
        assert_eq!(gather(&[("CRUCIAL_TOKEN", &other.reveal())]).unwrap().token, Some(other));
        let open = Permissions::from_mode(0o640);
        std::fs::set_permissions(root.join(".crucial/prod.token"), open).unwrap();
        let open = gather(&[]).unwrap_err().to_string();
        assert!(open.contains("prod.toml") && open.contains("chmod 600"), "{open}");
        std::fs::write(&in_file, format!("token = \"{}\"\n", token.reveal())).unwrap();
        let shared = gather(&[]).unwrap_err().to_string();
        assert!(shared.contains("set `token_file` here") && !shared.contains(&token.reveal()), "{shared}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn every_key_in_the_list_is_known_and_no_other() {
        for key in KEYS {
            let error = from_env(&[(&format!("CRUCIAL_{}", key.to_uppercase()), "\u{1}")]);
            let text = error.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(!text.contains("no such setting"), "{text}");
        }
    }

    #[test]
    fn the_readme_tells_every_setting_and_no_other() {
        let table = include_str!("../../README.md").split("| key | meaning | default |").nth(1).unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let mut told: Vec<_> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, KEYS);
    }
}
