//! What the cloud threads of a run cost: what Lambda bills for their invocations.

use std::{
    fmt,
    io::{self, Write},
    sync::Mutex,
};

use crate::{
    lambda::{self, Figures},
    terminal,
};

/// Adds up what invocations used.
#[derive(Debug)]
pub(super) struct Usage {
    /// Who runs them.
    service: &'static str,
    sum: Mutex<Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    requests: u64,
    /// Those whose log doesn't say what they used.
    unknown: u64,
    gb_seconds: f64,
}

impl Usage {
    pub(super) fn new(service: &'static str) -> Self {
        Usage { service, sum: Mutex::default() }
    }

    /// An invocation has ended, with this at the end of its log.
    pub(super) fn add(&self, log: &str) {
        let mut sum = self.sum.lock().unwrap();
        sum.requests += 1;
        match Figures::read(log) {
            Some(Figures { billed, memory, .. }) => {
                sum.gb_seconds += billed.as_secs_f64() * memory as f64 / 1024.0;
            }
            None => sum.unknown += 1,
        }
    }

    /// Tells the user, on standard error.
    pub(super) fn tell(&self) {
        let sum = self.sum.lock().unwrap();
        // A closed terminal is no reason to fail.
        let _ = terminal::print(|| writeln!(io::stderr().lock(), "{}: {sum}", self.service));
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sum { requests, unknown, gb_seconds } = *self;
        let dollars = gb_seconds * lambda::GB_SECOND + requests as f64 * lambda::REQUEST;
        write!(f, "{requests} requests, {gb_seconds:.1} GB-seconds billed, about ${dollars:.4}")?;
        if unknown > 0 {
            write!(f, "; and what {unknown} of them used, whose logs don't say it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_billed_adds_up() {
        let usage = Usage::new("lambda");
        let report = "REPORT RequestId: 1\tDuration: 1499.20 ms\tBilled Duration: 1500 ms\tMemory Size: 2048 MB\tMax Memory \
                      Used: 9 MB\t\n";
        usage.add(report);
        usage.add(&format!("START RequestId: 2\nhello\n{report}"));
        assert_eq!(usage.sum.lock().unwrap().to_string(), "2 requests, 6.0 GB-seconds billed, about $0.0001");
        usage.add("");
        let text = usage.sum.lock().unwrap().to_string();
        assert!(text.contains("3 requests") && text.contains("1 of them"), "{text}");
    }
}
