//! Files that take the place of others when they are complete, and not before.
//!
//! What is written goes to a temporary file in the same folder, `.fuseline-….tmp`, which is renamed at the end. Whatever happens before, the old file
//! stays as it was, and the temporary one is removed: when a [`Replacement`] is dropped, and by [`abandon`] when a signal ends the process. Only a kill
//! that a process can't see (SIGKILL, a power cut) can leave a temporary file behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The temporary files that there are; none any more once the process is about to end.
static PENDING: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

fn pending() -> MutexGuard<'static, Option<BTreeSet<PathBuf>>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary files of all replacements under way. None of them can be completed after this, and none begun.
///
/// For whoever is about to end the process.
pub fn abandon() {
    for path in pending().take().unwrap_or_default() {
        // There is nobody left to tell that it failed.
        drop(fs::remove_file(path));
    }
}

/// As [`abandon`], but does nothing if a replacement is being begun or completed right now, by this thread perhaps.
pub fn try_abandon() {
    if let Ok(mut pending) = PENDING.try_lock() {
        for path in pending.take().unwrap_or_default() {
            drop(fs::remove_file(path));
        }
    }
}

/// Bytes after which the system is told to begin bringing them to the disk, so that little is left to wait for at the end.
const STRIDE: u64 = 16 << 20;

/// A file that is being written.
#[derive(Debug)]
pub struct Replacement {
    file: tempfile::NamedTempFile,
    target: PathBuf,
    /// Bytes written.
    written: u64,
    /// Those of them that are on their way to the disk.
    begun: u64,
}

impl Replacement {
    /// Begins a file that will take the place of what is at `path`, if anything is. A link is followed: what it points at is replaced.
    ///
    /// # Errors
    /// No file can be made in the folder, or the process is about to end.
    pub fn of(path: &Path) -> io::Result<Self> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = target
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".fuseline-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut pending = pending();
        let pending = pending.as_mut().ok_or_else(ending)?;
        let made = builder.tempfile_in(folder);
        let file = made.map_err(|error| why_not(folder, &error))?;
        pending.insert(file.path().to_owned());
        Ok(Self {
            file,
            target,
            written: 0,
            begun: 0,
        })
    }

    /// Puts the file in its place, when all of it is on the disk.
    ///
    /// # Errors
    /// It can't be brought to the disk or renamed, or the process is about to end. What was there is untouched.
    pub fn complete(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        let Self { file, target, .. } = self;
        let mut pending = pending();
        let pending = pending.as_mut().ok_or_else(ending)?;
        let path = file.path().to_owned();
        // On failure the error holds the file, and removes it.
        file.persist(&target)?;
        pending.remove(&path);
        // The new name is on the disk when the folder is. Not every file system can do this for a folder.
        if let Some(Ok(folder)) = target.parent().map(File::open) {
            drop(folder.sync_all());
        }
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.as_file_mut().write(bytes)?;
        self.written += count as u64;
        if self.written - self.begun >= STRIDE {
            begin_to_store(self.file.as_file(), self.begun..self.written);
            self.begun = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

/// Lets the system begin to bring bytes of a file to the disk. That they are there, and any error, is for [`File::sync_all`] to say.
#[cfg(target_os = "linux")]
fn begin_to_store(file: &File, range: Range<u64>) {
    use std::os::fd::AsRawFd;
    let offset = |at: u64| libc::off64_t::try_from(at).unwrap_or(libc::off64_t::MAX);
    // SAFETY: the call takes no memory, and the descriptor is open.
    unsafe {
        let length = offset(range.end - range.start);
        libc::sync_file_range(
            file.as_raw_fd(),
            offset(range.start),
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

#[cfg(not(target_os = "linux"))]
fn begin_to_store(_file: &File, _range: Range<u64>) {}

/// The reason in words about the folder: the name of the temporary file is nothing to tell.
fn why_not(folder: &Path, error: &io::Error) -> io::Error {
    let folder_is = folder.display();
    let reason = match fs::metadata(folder) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            format!("there is no folder {folder_is}")
        }
        Ok(about) if !about.is_dir() => format!("{folder_is} is no folder"),
        _ => {
            let os = error.raw_os_error();
            let os = os.or_else(|| cause(error)?.raw_os_error());
            let reason = os.map_or_else(
                || error.to_string(),
                |os| io::Error::from_raw_os_error(os).to_string(),
            );
            format!("no file can be made in the folder {folder_is}: {reason}")
        }
    };
    io::Error::new(error.kind(), reason)
}

/// The system's own error within one that adds a path to it.
fn cause(error: &io::Error) -> Option<&io::Error> {
    error.get_ref()?.source()?.downcast_ref()
}

fn ending() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the process is about to end")
}
