//! moto, an emulator of AWS, from the Python Package Index.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A package of Python, by the name of its folder.
#[derive(Clone, Copy, Debug)]
pub struct Package(&'static str, &'static str);

/// The emulator.
pub const MOTO: Package = Package("moto-5.2.0", "moto[server,ec2,iam,s3,awslambda]==5.2.0");
/// Amazon's program `aws`.
pub const AWSCLI: Package = Package("awscli-1.46.3", "awscli==1.46.3");

/// Installs it in a virtual environment of its own, once for all tests. Says why it can't, if it can't.
pub fn install(Package(name, package): Package) -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let ready = directory.join("ready");
    // Tests of two programs may come here at once.
    let lock = fs::File::create(directory.with_extension("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if ready.exists() {
        return Ok(directory);
    }
    let run = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then_some(()).ok_or(format!(
            "{} {}: {errors}",
            program.display(),
            args.join(" ")
        ))
    };
    run(Path::new("python3"), &["-m", "venv", directory.to_str().expect("it is text")])?;
    run(
        &directory.join("bin/pip"),
        &["install", "--quiet", "--disable-pip-version-check", "--no-compile", package],
    )?;
    fs::write(ready, "").map_err(|error| error.to_string())?;
    Ok(directory)
}

/// A server, until it is dropped.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    pub address: SocketAddr,
}

impl Moto {
    /// # Errors
    /// Why there can be none.
    pub fn start(ip: &str) -> Result<Moto, String> {
        let program = install(MOTO)?.join("bin/moto_server");
        let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        // The shell reads until this process is gone, however it ends, and takes the server with it.
        let process = Command::new("sh")
            .args(["-c", "\"$@\" </dev/null & read -r _; kill $!; wait", "sh"])
            .arg(program)
            .args(["-H", ip, "-p", &address.port().to_string()])
            .env("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
            .env("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "true")
            .env("MOTO_ENABLE_AMI_VALIDATION", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(120), "moto does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Moto { process, address })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
