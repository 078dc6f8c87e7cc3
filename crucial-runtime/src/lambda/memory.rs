//! How much memory a process holds.

use std::{fs::File, os::unix::fs::FileExt};

/// A process whose memory is watched. The open file belongs to that process, never to a later one with the
/// same number.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    status: Option<File>,
    used: MemoryUse,
}

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// Now.
    pub(crate) current: u64,
    /// The most there ever was.
    pub(crate) peak: u64,
}

impl MemoryUse {
    /// The peak in MiB, rounded up.
    pub(crate) fn peak_mb(self) -> u64 {
        self.peak.div_ceil(1024)
    }
}

impl MemoryWatch {
    /// Watches a process. Where the system has no `/proc`, it is taken to use nothing.
    pub(crate) fn new(pid: u32) -> MemoryWatch {
        MemoryWatch { status: File::open(format!("/proc/{pid}/status")).ok(), used: MemoryUse::default() }
    }

    /// The memory it holds or, once it has ended, what it held when last asked.
    pub(crate) fn read(&mut self) -> MemoryUse {
        let mut buffer = [0; 4096];
        if let Some(file) = &self.status
            && let Ok(length) = file.read_at(&mut buffer, 0)
            && let Some(used) = parse(&buffer[..length])
        {
            self.used = used;
        }
        self.used
    }
}

/// Reads `VmHWM` and `VmRSS` from the text of `/proc/PID/status`.
fn parse(status: &[u8]) -> Option<MemoryUse> {
    // Names come first and could be anything, so only whole lines count; they're in this order in the file.
    let mut lines = status.split(|byte| *byte == b'\n');
    let mut value = |key: &[u8]| {
        let rest = lines.find_map(|line| line.strip_prefix(key))?;
        std::str::from_utf8(rest).ok()?.trim().strip_suffix("kB")?.trim_end().parse().ok()
    };
    let peak = value(b"VmHWM:")?;
    let current = value(b"VmRSS:")?;
    Some(MemoryUse { current, peak })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status_of_a_process() {
        let text = b"Name:\tx\nVmPeak:\t  3000 kB\nVmHWM:\t    2049 kB\nVmRSS:\t   1000 kB\nThreads:\t1\n";
        let used = parse(text).unwrap();
        assert_eq!(used, MemoryUse { current: 1000, peak: 2049 });
        assert_eq!(used.peak_mb(), 3);
    }

    #[test]
    fn a_process_that_has_ended_has_no_figures() {
        assert_eq!(parse(b"Name:\tx\nState:\tZ (zombie)\nThreads:\t1\n"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let used = MemoryWatch::new(std::process::id()).read();
        assert!(used.current > 0 && used.peak >= used.current, "{used:?}");
    }
}
