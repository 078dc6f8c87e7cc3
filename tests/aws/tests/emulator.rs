//! The back end `lambda` against AWS's own Runtime Interface Emulator: what the local Lambda service says of Lambda is not
//! only its own opinion.
//!
//! The emulator comes from the package `aws-sam-cli` of the Python Package Index. It takes one invocation at a time, calls
//! every function `function`, passes on no log and doesn't mark errors.

#[allow(dead_code, reason = "shared with a test that uses more of it")]
mod lab;

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use lab::{APP, App, assert_says, eventually};

const PACKAGE: &str = "aws-sam-cli==1.170.0";

/// Fetches the emulator, or says why not.
fn fetch() -> Result<PathBuf, String> {
    let machine = match env::consts::ARCH {
        "aarch64" => "arm64",
        machine => machine,
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (emulator, wheels) = (directory.join(format!("aws-lambda-rie-{machine}")), directory.join("wheels"));
    if emulator.exists() {
        return Ok(emulator);
    }
    let python = |args: &[&str]| {
        let output = Command::new("python3").args(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("python3: {error}"))?;
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then_some(()).ok_or(format!("python3 {}: {errors}", args.join(" ")))
    };
    let text = |path: &Path| path.to_str().expect("the path is text").to_owned();
    python(&["-m", "pip", "download", "--quiet", "--no-deps", "--dest", &text(&wheels), PACKAGE])?;
    let wheel = fs::read_dir(&wheels)
        .ok()
        .and_then(|mut files| files.next()?.ok())
        .ok_or("pip left no wheel")?
        .path();
    python(&["-m", "zipfile", "--extract", &text(&wheel), &text(&wheels)])?;
    let found = wheels.join("samcli/local/rapid").join(emulator.file_name().expect("it has a name"));
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    fs::rename(found, &emulator).map_err(|error| error.to_string())?;
    let _ = fs::remove_dir_all(wheels);
    Ok(emulator)
}

/// The emulator with one function, until it is dropped.
struct Emulator {
    process: Child,
    address: String,
}

impl Emulator {
    fn start(program: &Path, timeout: Duration) -> Emulator {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (address, runtime_api) = (free(), free());
        let process = Command::new(program)
            .args([
                "--runtime-interface-emulator-address",
                &address,
                "--runtime-api-address",
                &runtime_api,
                APP,
            ])
            .env("AWS_LAMBDA_FUNCTION_TIMEOUT", timeout.as_secs().to_string())
            .env("CRUCIAL_LEASE", "1s")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the emulator listens", || TcpStream::connect(&address).is_ok());
        Emulator { process, address }
    }

    fn run(&self, args: &str) -> String {
        let app = App::new(args).at(&self.address).set([("CRUCIAL_LAMBDA_FUNCTION", "function")]);
        let (out, errors) = app.set([("CRUCIAL_CONCURRENCY", "1"), ("CRUCIAL_LAMBDA_PATIENCE", "5s")]).run();
        out + &errors
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Its function ends with it: it has no Runtime API any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_emulator_of_aws_agrees() {
    let program = match fetch() {
        Ok(program) => program,
        Err(reason) => {
            eprintln!("left out, since AWS's Runtime Interface Emulator can't be fetched with pip: {reason}");
            return;
        }
    };
    let emulator = Emulator::start(&program, Duration::from_secs(60));
    assert_says(&emulator.run("work,3,0"), &["sum 6 in 1 processes", "runs 3"]);
    assert_says(&emulator.run("fail,panic"), &["panicked (attempt 1): index out of range", "runs 1"]);
    // Its process is none the worse for it.
    assert_says(&emulator.run("work,2,0"), &["sum 2 in 1 processes"]);
    assert_says(&emulator.run("echo,9000000,ok"), &["9000000 bytes, the same"]);
    assert_says(&emulator.run("fail,exit"), &["Runtime.ExitError", "exit status 3"]);
    assert_says(&emulator.run("linger"), &["exit status 124", "timed out after 1s"]);
    assert_says(&emulator.run("flaky,2"), &["result: 2"]);
    drop(emulator);

    let emulator = Emulator::start(&program, Duration::from_secs(2));
    assert_says(&emulator.run("fail,sleep"), &["Task timed out after 2.00 seconds"]);
    assert_says(&emulator.run("work,1,0"), &["runs 1"]);
}
