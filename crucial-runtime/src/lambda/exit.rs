//! How a process ended, in Lambda's words.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

/// The message of a `Runtime.ExitError`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (None, Some(signal)) => {
            let core = if status.core_dumped() { " (core dumped)" } else { "" };
            match name(signal) {
                Some(name) => format!("Runtime exited with error: signal: {name}{core}"),
                None => format!("Runtime exited with error: signal: signal {signal}{core}"),
            }
        }
        (None, None) => format!("Runtime exited with error: {status}"),
    }
}

fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_a_process_ended() {
        for (raw, expected) in [
            (0, "Runtime exited without providing a reason"),
            (3 << 8, "Runtime exited with error: exit status 3"),
            (9, "Runtime exited with error: signal: killed"),
            (11 | 0x80, "Runtime exited with error: signal: segmentation fault (core dumped)"),
            (40, "Runtime exited with error: signal: signal 40"),
        ] {
            assert_eq!(describe(ExitStatus::from_raw(raw)), expected);
        }
    }
}
