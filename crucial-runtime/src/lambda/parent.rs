//! Processes that end with the one that started them.

/// The variable that tells a function instance which process started it.
pub const PARENT_VARIABLE: &str = "CRUCIAL_PARENT_PID";

/// Ends this process when the one that started it as a function instance ends, however it ends.
///
/// Does nothing if [`PARENT_VARIABLE`] isn't set, so it does nothing in the cloud. Call it first thing in
/// `main`. If the parent is gone already, the process exits at once with status 1. Systems other than Linux
/// have no such signal; there an instance ends when the service closes its connection.
pub fn die_with_parent() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

        let Some(parent) =
            std::env::var(PARENT_VARIABLE).ok().and_then(|value| value.parse().ok()).and_then(Pid::from_raw)
        else {
            return;
        };
        if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
            tracing::warn!(%error, "this process may outlive the one that started it");
        }
        // The parent may have ended before the signal was asked for; then it never comes.
        if getppid() != Some(parent) {
            std::process::exit(1);
        }
    }
}
