//! What a program does as client, server and tool, seen from outside.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use crucial::Config;
use tests::{
    app, assert_says, eventually,
    objects::Tally,
    process::{Guarded, Signal, children, group, is_alive, signal_group},
    server::{LocalServer, OwnRun, ServerProcess, ephemeral},
};

fn app(args: &[&str], settings: &[(&str, &str)]) -> Output {
    Command::new(app!()).args(args).envs(settings.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn fails_with(output: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_says(&text, parts);
    // A message, not a crash report.
    assert!(!text.contains("panicked"), "{text}");
}

// ---- the tool

#[test]
fn status_shows_what_a_server_holds() {
    let server = ServerProcess::start(app!(), &[]);
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    let empty = app(&["crucial", "status", "--server", &server.address], &[]);
    assert!(empty.status.success());
    assert_says(&text(empty), &[&server.address, "runs 0", "sessions 0", "no objects"]);

    let _run = OwnRun::on(&server.address);
    let (_one, _two) = (Tally::new(1), Tally::at("p").persistent().new(1));
    // The address comes from the configuration, too.
    let output = text(app(&["crucial", "status"], &[("CRUCIAL_SERVERS", &server.address)]));
    assert_says(&output, &["runs 1", "ephemeral", "persistent", "parked", "poisoned", "diverged"]);
    let line = output.lines().find(|line| line.starts_with("tests::objects::Tally")).unwrap();
    assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), ["1", "1", "0", "0", "0"]);

    drop(server);
    let gone = app(&["crucial", "status", "--server", "127.0.0.1:1"], &[]);
    fails_with(&gone, 2, &["no server reachable", "127.0.0.1:1"]);
}

#[test]
fn types_lists_what_the_program_has() {
    let output = app(&["crucial", "types"], &[]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in
        ["shared types", "tests::objects::Tally", "take (Write, guarded)", "get (Read)", "app::wait_for_ever"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn wrong_commands_are_explained() {
    fails_with(
        &app(&["crucial", "sreve"], &[]),
        2,
        &["unrecognized subcommand 'sreve'", "serve", "app crucial"],
    );
    fails_with(
        &app(&["crucial", "serve", "--lisen", "x"], &[]),
        2,
        &["unexpected argument '--lisen'", "--listen"],
    );
    fails_with(&app(&["crucial", "status", "--server"], &[]), 2, &["a value is required", "HOST:PORT"]);
    fails_with(&app(&["crucial"], &[]), 2, &["Usage: app crucial", "serve", "status", "types"]);
    let help = app(&["crucial", "--help"], &[]);
    assert!(help.status.success());
    assert_says(&String::from_utf8_lossy(&help.stdout), &["serve", "status", "types"]);
    // Any other first argument is the program's own.
    let own = app(&["crucially"], &[]);
    assert_eq!(String::from_utf8_lossy(&own.stdout), "client Some(\"crucially\")\n");
}

#[test]
fn a_server_says_why_it_cannot_listen() {
    let first = LocalServer::start(&Config::default());
    let serve = |address: &str| app(&["crucial", "serve", "--listen", address], &[]);
    fails_with(&serve(&first.address), 2, &["listening at", &first.address, "in use"]);
    fails_with(&serve("0.0.0.0:0"), 2, &["0.0.0.0:0", "loopback", "app crucial token", "CRUCIAL_TOKEN_FILE"]);
    fails_with(&serve("127.0.0.1"), 2, &["127.0.0.1"]);
    fails_with(&serve("127.0.0.1:99999"), 2, &["127.0.0.1:99999"]);
}

// ---- settings

#[test]
fn a_wrong_variable_is_named_with_its_value() {
    for (name, value, reason) in [
        ("CRUCIAL_BACKEND", "procesess", "expected `threads`, `processes`, `lambda`, `http` or `hybrid`"),
        ("CRUCIAL_HTTP_URL", "https://localhost", "features = [\"tls\"]"),
        ("CRUCIAL_HTTP_AUTH", "googel", "expected `none`, `google`, or `file:`"),
        ("CRUCIAL_HYBRID_OVERFLOW", "threads", "expected `processes`, `lambda` or `http`"),
        ("CRUCIAL_SERVERS", "localhost", "not `host:port`"),
        ("CRUCIAL_CONCURRENCY", "-3", "expected a number"),
        ("CRUCIAL_CONNECT_TIMEOUT", "10", "a number with a unit"),
        ("CRUCIAL_FOO", "bar", "no such setting"),
    ] {
        let key = name.trim_start_matches("CRUCIAL_").to_lowercase();
        for args in [&["client"][..], &["crucial", "serve", "--listen", "127.0.0.1:0"]] {
            fails_with(&app(args, &[(name, value)]), 2, &[&format!("`{key}`"), value, name, reason]);
        }
    }
    fails_with(
        &app(&["client"], &[("CRUCIAL_BACKEND", "lambda")]),
        2,
        &["the feature `aws`", "CRUCIAL_BACKEND"],
    );
    // A token that can't be used is no reason to do without.
    let token = "0123456789abcdef".repeat(4);
    for args in [
        &["client"][..],
        &["crucial", "serve", "--listen", "127.0.0.1:0"],
        &["crucial", "status"],
        &["crucial", "leave", "--server", "127.0.0.1:1"],
        &["crucial", "token", "--file", "/nowhere/token"],
    ] {
        let output = app(args, &[("CRUCIAL_TOKEN", &token), ("CRUCIAL_SERVERS", "127.0.0.1:1")]);
        fails_with(&output, 2, &["the feature `tls`", "features = [\"tls\"]"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains(&token));
    }
    fails_with(&app(&["client"], &[("CRUCIAL_LOG", "a=b=c")]), 2, &["`log`", "a=b=c"]);
    // Empty means not set.
    assert!(app(&["client"], &[("CRUCIAL_BACKEND", "")]).status.success());
}

#[test]
fn an_unreachable_server_is_named() {
    let settings = [("CRUCIAL_SERVERS", "127.0.0.1:1"), ("CRUCIAL_CONNECT_TIMEOUT", "300ms")];
    fails_with(
        &app(&["client"], &settings),
        2,
        &["no server reachable within 300ms", "127.0.0.1:1", "refused"],
    );
}

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crucial-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A directory that stays is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_of_settings_is_read_and_its_mistakes_are_named() {
    let directory = Directory::new("settings");
    let below = directory.0.join("below");
    std::fs::create_dir_all(&below).unwrap();
    let file = directory.0.join("crucial.toml");
    let run = |text: &str, settings: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let app =
            Command::new(app!()).arg("hello").envs(settings.iter().copied()).current_dir(&below).output();
        app.unwrap()
    };
    let path = file.display().to_string();
    fails_with(&run("backend = 'proceses'", &[]), 2, &["`backend`", "proceses", &path, "expected `threads`"]);
    fails_with(&run("bakend = 'threads'", &[]), 2, &["`bakend`", "threads", &path, "no such setting"]);
    fails_with(&run("backend = ", &[]), 2, &["crucial.toml", &path]);
    fails_with(&run("[section]\nx = 1", &[]), 2, &["`section`", &path]);
    let processes = run("backend = 'processes'\nconcurrency = 3\nspin = '0s'", &[]);
    assert_says(&String::from_utf8_lossy(&processes.stdout), &["[process "]);
    // A variable wins over the file.
    let threads = run("backend = 'processes'", &[("CRUCIAL_BACKEND", "threads")]);
    assert_eq!(String::from_utf8_lossy(&threads.stdout), "hello 0 out\nhello 1 out\n");
    // The variable's own mistakes are not blamed on the file.
    let wrong = run("backend = 'threads'", &[("CRUCIAL_BACKEND", "x")]);
    fails_with(&wrong, 2, &["`backend` = x (from the variable CRUCIAL_BACKEND)"]);
}

#[test]
fn a_panic_in_main_ends_the_program_as_usual() {
    let output = app(&["panic"], &[]);
    assert_eq!(output.status.code(), Some(101));
    assert_says(&String::from_utf8_lossy(&output.stderr), &["as it should"]);
}

// ---- ends

/// A client whose cloud threads wait, and their processes.
struct Waiting {
    client: Guarded,
    functions: Vec<u32>,
    stderr: std::process::ChildStderr,
}

fn start(args: &[&str], settings: &[(&str, &str)]) -> Child {
    let mut command = Command::new(app!());
    command.args(args).envs(settings.iter().copied());
    // Signals to its group are not for this process.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn waiting(settings: &[(&str, &str)]) -> Waiting {
    let mut child = start(&["wait"], settings);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let stderr = child.stderr.take().unwrap();
    let client = Guarded(child);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let list = line.trim().strip_prefix("waiting [").and_then(|l| l.strip_suffix(']'));
    let list = list.unwrap_or_else(|| panic!("the client says {line:?}"));
    let functions: Vec<_> = list.split(", ").map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(functions.len(), 3);
    Waiting { client, functions, stderr }
}

fn interrupted(server: Option<&ServerProcess>) {
    let mut settings = vec![("CRUCIAL_BACKEND", "processes")];
    settings.extend(server.map(|server| ("CRUCIAL_SERVERS", &*server.address)));
    let mut waiting = waiting(&settings);
    let mut started = children(waiting.client.pid());
    started.sort_unstable();
    let mut functions = waiting.functions.clone();
    functions.sort_unstable();
    assert_eq!(started, functions, "each cloud thread has a process");
    assert!(functions.iter().all(|pid| is_alive(*pid)));
    // What a terminal sends to the group is for the client alone, or it would see its functions fail.
    assert!(functions.iter().all(|pid| group(*pid) != group(waiting.client.pid())));
    if let Some(server) = server {
        eventually("all wait", || tests::server::parked(&server.status()) == 3);
        assert!(ephemeral(&server.status()) >= 3);
    }
    signal_group(waiting.client.pid(), Signal::INT);
    let status = waiting.client.0.wait().unwrap();
    let mut text = String::new();
    waiting.stderr.read_to_string(&mut text).unwrap();
    assert_eq!((status.code(), &*text), (Some(130), ""), "it ends as asked, without a word");
    for pid in functions {
        assert!(!is_alive(pid), "function process {pid} outlives its client");
    }
    if let Some(server) = server {
        let status = server.status();
        assert_eq!((ephemeral(&status), status.runs), (0, 0), "{status:?}");
    }
}

#[test]
fn ctrl_c_ends_function_processes_and_objects() {
    interrupted(None);
    interrupted(Some(&ServerProcess::start(app!(), &[])));
}

#[test]
fn a_killed_client_takes_its_function_processes_with_it_and_its_objects_go_with_the_lease() {
    let server = ServerProcess::start(app!(), &[("CRUCIAL_LEASE", "1s")]);
    let mut waiting = waiting(&[("CRUCIAL_BACKEND", "processes"), ("CRUCIAL_SERVERS", &server.address)]);
    eventually("all wait", || tests::server::parked(&server.status()) == 3);
    assert!(ephemeral(&server.status()) >= 3);
    waiting.client.0.kill().unwrap();
    waiting.client.0.wait().unwrap();
    for pid in waiting.functions {
        eventually("the function processes end", || !is_alive(pid));
    }
    eventually("the lease ends the run", || server.status().runs == 0);
    let status = server.status();
    assert_eq!((ephemeral(&status), tests::server::parked(&status)), (0, 0), "{status:?}");
    eventually("the sessions end too", || server.status().sessions == 0);
}

#[test]
fn a_server_stops_when_it_is_asked_to() {
    for (number, name) in [(Signal::INT, "Ctrl-C"), (Signal::TERM, "SIGTERM")] {
        let mut server = ServerProcess::start(app!(), &[]);
        // A client that is connected, with a call that waits, keeps it from nothing.
        let run = OwnRun::on(&server.address);
        let waiting = tests::begin({
            let tally = Tally::new(0);
            move || tally.remote().take(1).timeout(tests::PATIENCE).wait()
        });
        eventually("it waits", || tests::server::parked(&server.status()) == 1);
        server.signal(number);
        let (code, out, err) = server.ended();
        assert_eq!((code, &*err), (Some(0), ""));
        assert_says(&out, &["stopped by", name]);
        // The port is free, and the state is gone: the caller learns it from whoever listens there next.
        let _next = ServerProcess::at(&server.address, app!(), &[]);
        let error = waiting.within("the caller learns it").unwrap_err();
        assert_says(&error, &["is lost", "started again"]);
        drop(run);
    }
}
