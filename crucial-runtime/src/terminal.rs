//! The terminal that this process shares with its progress bars and its function processes.

use std::{
    cell::Cell,
    io::{self, Write},
    sync::OnceLock,
};

/// Prints without garbling what else is on the terminal.
pub type Guard = fn(&mut dyn FnMut());

static GUARD: OnceLock<Guard> = OnceLock::new();

thread_local! {
    static PRINTING: Cell<bool> = const { Cell::new(false) };
}

/// Says how to print from now on: what draws at the end of the terminal makes room for lines above. The first one to
/// say so wins.
pub fn set_guard(guard: Guard) {
    let _ = GUARD.set(guard);
}

/// Prints something: whole lines.
pub fn print<R>(f: impl FnOnce() -> R) -> R {
    // What is printed while something is printed, as a log message about it, has the room already.
    let Some(guard) = GUARD.get().filter(|_| !PRINTING.get()) else { return f() };
    let mut f = Some(f);
    let mut result = None;
    guard(&mut || {
        PRINTING.set(true);
        result = f.take().map(|f| f());
        PRINTING.set(false);
    });
    result.expect("a guard calls what it is given")
}

/// Standard error, whose writes are [printed](print()).
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        print(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
