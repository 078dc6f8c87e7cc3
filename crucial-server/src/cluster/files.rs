//! Files that are there in full or not at all.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The first bytes of every file.
const MAGIC: &[u8; 8] = b"crucial1";
/// What a file that is being written has at the end of its name.
const UNFINISHED: &str = "unfinished";
/// How much is copied at once.
const CHUNK: usize = 256 << 10;

/// What is at the end of a file: the length of its data, and the checksum of everything before the trailer.
const TRAILER: usize = 16;

/// Writes a file with a head, which can be read alone, and data. When this returns it is durable and what was there
/// before is gone; when it fails, what was there is still there.
pub fn write(path: &Path, head: &[u8], data: impl Read) -> io::Result<()> {
    let unfinished = unfinished(path);
    let written = fill(&unfinished, head, data).and_then(|()| fs::rename(&unfinished, path));
    if let Err(e) = written {
        // It would be overwritten anyway, but a full disk needs the space now: not only when no process has the file open,
        // which one that another thread has just forked does until it executes its program.
        let _ = File::create(&unfinished).and_then(|_| fs::remove_file(&unfinished));
        return Err(named(path, "cannot be written", e));
    }
    sync_folder(path)
}

fn fill(path: &Path, head: &[u8], mut data: impl Read) -> io::Result<()> {
    let mut file = Summed { out: BufWriter::with_capacity(CHUNK, File::create(path)?), sum: Xxh3::new() };
    file.write_all(MAGIC)?;
    file.write_all(&u32::try_from(head.len()).map_err(io::Error::other)?.to_le_bytes())?;
    file.write_all(head)?;
    file.write_all(&xxh3_64(head).to_le_bytes())?;
    let length = io::copy(&mut data, &mut file)?;
    file.write_all(&length.to_le_bytes())?;
    let sum = file.sum.digest();
    file.out.write_all(&sum.to_le_bytes())?;
    file.out.into_inner()?.sync_all()
}

/// The head and the data of a file, or nothing if it isn't there.
pub fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|e| named(path, "cannot be read", e))?,
    };
    let Some((head, rest)) = parse_head(&bytes) else { return Err(damaged(path)) };
    let Some((summed, sum)) = bytes.split_last_chunk::<8>() else { return Err(damaged(path)) };
    let Some((data, _)) = rest.split_last_chunk::<TRAILER>() else { return Err(damaged(path)) };
    let length = &summed[summed.len() - 8..];
    if xxh3_64(summed) != u64::from_le_bytes(*sum) || length != (data.len() as u64).to_le_bytes() {
        return Err(damaged(path));
    }
    Ok(Some((head.to_vec(), data.to_vec())))
}

/// The head of a file, or nothing if the file isn't there.
pub fn read_head(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| named(path, "cannot be read", e))?,
    };
    let mut file = BufReader::new(file);
    let mut bytes = vec![0; MAGIC.len() + 4];
    file.read_exact(&mut bytes).map_err(|_| damaged(path))?;
    let length = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    file.take(u64::from(length) + 8).read_to_end(&mut bytes)?;
    parse_head(&bytes).map(|(head, _)| Some(head.to_vec())).ok_or_else(|| damaged(path))
}

/// The head at the beginning of `bytes`, if it is in order, and what follows it.
fn parse_head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (head, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    (xxh3_64(head) == u64::from_le_bytes(*sum)).then_some((head, rest))
}

/// Removes a file; it may be gone already.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(named(path, "cannot be removed", e)),
        Ok(()) => sync_folder(path),
    }
}

/// Makes a folder, and removes the files in it that were not finished.
pub fn prepare(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|e| named(folder, "cannot be made", e))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            remove(&path)?;
        }
    }
    sync_folder(folder)
}

/// Makes durable which names there are in the folder that `path` is in.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    name.into()
}

fn damaged(path: &Path) -> io::Error {
    named(path, "is damaged", io::Error::new(ErrorKind::InvalidData, "its checksum is wrong"))
}

fn named(path: &Path, what: &str, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{} {what}: {e}", path.display()))
}

/// Writes, and keeps the checksum of what was written.
struct Summed<W> {
    out: W,
    sum: Xxh3,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.sum.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
