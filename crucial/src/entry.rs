//! Which role this process has, and what it does in it.

use std::{
    future::Future,
    process::{ExitCode, Termination},
};

/// How a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the environment configures it.
    Configured,
    /// A DSO node in the test's process; cloud threads are threads.
    Embedded,
    /// A DSO node in the test's process; cloud threads are processes.
    Processes,
    /// A DSO server in a process of its own; cloud threads are threads.
    Server,
}

/// The body of `#[crucial::main] fn main()`.
pub fn main<R: Termination>(body: impl FnOnce() -> R) -> ExitCode {
    body().report()
}

/// The body of `#[crucial::main] async fn main()`.
pub fn main_async<R: Termination>(body: impl Future<Output = R>) -> ExitCode {
    main(|| crucial_runtime::run::block_on(body))
}

/// The body of a `#[crucial::test]`; `path` is the test's name with its crate.
pub fn test<R>(_path: &str, _mode: Mode, body: impl FnOnce() -> R) -> R {
    body()
}
