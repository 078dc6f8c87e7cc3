//! A program that looks like a node from outside, to try the faults on: it tells which other nodes it reaches, and
//! appends records to a log.

use std::{
    env, fs,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// The bytes of a record: all the same, and none of them 0.
const RECORD: usize = 100;

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let option =
        |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    let result = if args.iter().any(|arg| arg == "--help") {
        print("--join --data-dir")
    } else if args.get(1).is_some_and(|arg| arg == "leave") {
        leave(&option("--server").unwrap_or_default())
    } else {
        serve(
            &option("--listen").unwrap_or_default(),
            option("--join"),
            option("--data-dir").map(PathBuf::from),
        )
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

fn leave(server: &str) -> io::Result<()> {
    let mut node = TcpStream::connect(server)?;
    node.write_all(b"leave\n")
}

fn serve(listen: &str, join: Option<String>, data: Option<PathBuf>) -> io::Result<()> {
    // Without a disk there is no log, and nothing can be appended.
    data.iter().try_for_each(fs::create_dir_all)?;
    let log = data.map_or_else(|| PathBuf::from("/dev/null/log"), |data| data.join("log"));
    let found = recover(&log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = {
        let _entered = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
    };
    std::thread::spawn(move || {
        runtime.block_on(terminate.recv());
        std::process::exit(0);
    });
    let listener = TcpListener::bind(listen)?;
    // As a node that comes back, and can do nothing without the others.
    let others = join.as_deref().filter(|_| log.exists() && env::var_os("STAND_IN_WAITS").is_some());
    while others.is_some_and(|others| others.split(',').all(|other| TcpStream::connect(other).is_err())) {
        std::thread::sleep(Duration::from_millis(10));
    }
    print(&format!(
        "serving at {} (process {}); joined {}",
        listener.local_addr()?,
        std::process::id(),
        join.unwrap_or_default()
    ))?;
    for client in listener.incoming() {
        let mut client = client?;
        let mut line = String::new();
        BufReader::new(&client).read_line(&mut line)?;
        let answer = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("found", _) => found.clone(),
            ("leave", _) => return Ok(()),
            ("hello", _) => "hello".to_owned(),
            ("reach", other) => {
                reach(other).map_or_else(|error| error.to_string(), |()| "reached".to_owned())
            }
            ("append", _) => append(&log).map_or_else(|error| error.to_string(), |()| "appended".to_owned()),
            (other, _) => format!("what is {other:?}?"),
        };
        // It may not wait for the answer.
        let _ = client.write_all(answer.as_bytes());
    }
    Ok(())
}

fn reach(other: &str) -> io::Result<()> {
    let address = other.parse().map_err(io::Error::other)?;
    let patience = Duration::from_millis(400);
    let mut node = TcpStream::connect_timeout(&address, patience)?;
    node.set_read_timeout(Some(patience))?;
    node.write_all(b"hello\n")?;
    node.read_exact(&mut [0; 5])
}

fn append(log: &Path) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).open(log)?;
    file.write_all(&[b'r'; RECORD])?;
    file.sync_all()
}

/// Cuts off what is no record; says what there was.
fn recover(log: &Path) -> io::Result<String> {
    let bytes = if log.exists() { fs::read(log)? } else { Vec::new() };
    let whole =
        bytes.chunks_exact(RECORD).take_while(|record| record.iter().all(|byte| *byte == b'r')).count();
    if bytes.len() > whole * RECORD {
        File::options().write(true).open(log)?.set_len((whole * RECORD) as u64)?;
    }
    Ok(format!("{whole} records and {} bytes", bytes.len() - whole * RECORD))
}
