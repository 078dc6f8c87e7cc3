//! The data that everybody trains with.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use memmap2::{Advice, MmapMut};

use crate::{Error, bench::peers};

/// Coordinates of a point, features of an example.
pub(super) const COLUMNS: usize = 100;
/// How many centres there are.
pub(super) const CENTRES: usize = 25;

/// The files.
#[derive(Debug)]
pub(super) struct Data {
    folder: PathBuf,
    pub(super) rows: usize,
}

impl Data {
    /// Takes the data that an earlier run left, or makes it. None if nothing here can: it takes numpy.
    pub(super) fn of(rows: usize) -> Result<Option<Self>, Error> {
        let Some(folder) = peers::folder() else { return Ok(None) };
        let data = Data { folder: folder.join("data"), rows };
        if data.is_there() {
            return Ok(Some(data));
        }
        let python = ["spark", "ray"].iter().find_map(|peer| peers::python(peer, "numpy"));
        let Some(python) = python else { return Ok(None) };
        eprintln!("ml: making the data in {}", data.folder.display());
        let mut command = Command::new(python);
        command.args(["-c", include_str!("data.py"), &rows.to_string()]).arg(&data.folder);
        if !command.status()?.success() || !data.is_there() {
            return Err(Error::Message(format!("the data can't be made in {}", data.folder.display())));
        }
        Ok(Some(data))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{}.f64", self.rows))
    }

    /// Rows of coordinates.
    pub(super) fn points(&self) -> PathBuf {
        self.file("kmeans")
    }

    /// The points that are the centres at first.
    pub(super) fn centres(&self) -> PathBuf {
        self.file("centres")
    }

    /// Rows of a label and features.
    pub(super) fn examples(&self) -> PathBuf {
        self.file("logistic")
    }

    /// A place beside the data.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file that is too short is that of a run that was stopped.
    fn is_there(&self) -> bool {
        let has = |file: PathBuf, numbers: usize| {
            fs::metadata(file).is_ok_and(|file| file.len() == (numbers * size_of::<f64>()) as u64)
        };
        has(self.points(), self.rows * COLUMNS)
            && has(self.centres(), CENTRES * COLUMNS)
            && has(self.examples(), self.rows * (COLUMNS + 1))
    }
}

/// One worker's share of the rows of a file, in memory.
#[derive(Debug)]
pub(super) struct Rows<const N: usize> {
    memory: MmapMut,
}

impl<const N: usize> Rows<N> {
    /// Reads share `i` of `n`.
    pub(super) fn load(file: &str, i: usize, n: usize) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;

        let file = fs::File::open(file)?;
        let size = size_of::<[f64; N]>();
        let rows = file.metadata()?.len() as usize / size;
        let (start, end) = (rows * i / n, rows * (i + 1) / n);
        let mut memory = MmapMut::map_anon((end - start) * size)?;
        // As numpy does: with pages of 4 KiB, reading it takes a third longer. A kernel without large pages says no, and
        // all is well.
        let _ = memory.advise(Advice::HugePage);
        file.read_exact_at(&mut memory, (start * size) as u64)?;
        Ok(Rows { memory })
    }

    pub(super) fn get(&self) -> &[[f64; N]] {
        bytemuck::cast_slice(&self.memory)
    }
}
