//! What the tests across the crates share: objects, servers to break, clients that break the rules.

pub mod objects;
pub mod process;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod server;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crucial::{BackendKind, run::Run};

/// The path of the test program, in an integration test.
#[macro_export]
macro_rules! app {
    () => {
        ::core::env!("CARGO_BIN_EXE_app")
    };
}

/// Longer than anything takes that works, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the cloud threads of this run are processes.
///
/// # Panics
/// If there is no run.
pub fn in_processes() -> bool {
    Run::current().unwrap().config().backend == BackendKind::Processes
}

/// Looks again and again until `holds` does.
///
/// # Panics
/// If it doesn't within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs something on a thread of its own, in the current run.
///
/// # Panics
/// If it doesn't end within [`PATIENCE`], or panics itself.
#[track_caller]
pub fn in_time<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    begin(f).within(what)
}

/// Something that runs on a thread of its own.
#[derive(Debug)]
pub struct Begun<T> {
    result: mpsc::Receiver<thread::Result<T>>,
}

/// Starts something on a thread of its own, in the current run if there is one.
pub fn begin<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Begun<T> {
    let run = Run::current().ok();
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        let _entered = run.as_ref().map(Run::enter);
        // Nobody listens if the test has failed.
        let _ = done.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)));
    });
    Begun { result }
}

impl<T> Begun<T> {
    /// Its result.
    ///
    /// # Panics
    /// If there is none within [`PATIENCE`], or it panicked.
    #[track_caller]
    pub fn within(self, what: &str) -> T {
        match self.result.recv_timeout(PATIENCE) {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
        }
    }

    /// Whether it runs still.
    pub fn is_running(&mut self) -> bool {
        match self.result.try_recv() {
            Err(mpsc::TryRecvError::Empty) => true,
            // The result is lost: this is for checks that it doesn't end too early.
            _ => false,
        }
    }
}

/// The message of a panic.
///
/// # Panics
/// If `f` doesn't panic.
#[track_caller]
pub fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(_) => panic!("it should have panicked"),
        Err(payload) => crucial_runtime::function::panic_message(&*payload),
    }
}

/// Checks that a message has all of these parts.
///
/// # Panics
/// If it doesn't.
#[track_caller]
pub fn assert_says(message: &impl ToString, parts: &[&str]) {
    let message = message.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
