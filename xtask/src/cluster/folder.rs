//! Where nodes keep their data.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::Error;

/// A directory, which goes with this if it is temporary.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// A directory that stays.
    pub(crate) fn kept(path: &Path) -> Result<Self, Error> {
        Self::make(path.to_owned(), false)
    }

    /// A new directory in `parent`, for as long as this lives.
    pub(crate) fn temporary(parent: &Path, name: &str) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = parent.join(format!("{name}-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed)));
        // A process with the same number may have been killed before it could clean up.
        let _ = fs::remove_dir_all(&path);
        Self::make(path, true)
    }

    fn make(path: PathBuf, temporary: bool) -> Result<Self, Error> {
        let failed = |e| Error::Message(format!("the directory {} can't be used: {e}", path.display()));
        fs::create_dir_all(&path).map_err(failed)?;
        Ok(Folder { path, temporary })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("warning: {} could not be removed: {error}", self.path.display());
        }
    }
}
