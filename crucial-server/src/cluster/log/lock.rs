//! That a data directory has one owner.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::Path,
};

/// A directory that no other process, and no other store of this one, can lock. The kernel unlocks it when the process
/// ends, in whatever way.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Locks `dir`, or says who has it.
    pub(super) fn take(dir: &Path) -> io::Result<Self> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                let owner = owner.trim();
                let owner = if owner.is_empty() { "another process" } else { owner };
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!("the data directory {} is in use by {owner}", dir.display()),
                ));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // Only a message for people depends on it.
        file.set_len(0)?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    // Closing the file would not do: a process that is being forked may have it for a moment.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}
