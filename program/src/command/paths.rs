//! The files that a command is given, looked at before it does anything: no output may take the place of something that is read, or of another output, and every output must have a place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::replace::Replacement;

/// Why a command must not begin.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Two of the files are one, and one of the two is written.
    #[error("{written} is the same file as {other}: it would be lost")]
    Same {
        /// The file that would be written, with what it is.
        written: String,
        /// The other one, likewise.
        other: String,
    },
    /// Two texts go to standard output.
    #[error("{first} and {second} would both go to standard output: name a file for one of them")]
    StandardOutput {
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// `-` for a file that is no text.
    #[error(
        "{what} is a file that is written whole or not at all, and can't go to standard output (a file of the name `-` is `./-`)"
    )]
    NoText {
        /// What was to go there.
        what: &'static str,
    },
    /// There is no place for an output.
    #[error("{}: {source}", path.display())]
    Unwritable {
        /// The output.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a command reads and writes. The names are those of the arguments, as the user knows them.
#[derive(Debug, Default)]
pub struct Paths<'a> {
    read: Vec<(&'static str, &'a Path)>,
    written: Vec<(&'static str, &'a Path)>,
    printed: Vec<&'static str>,
    binary: Option<&'static str>,
}

impl<'a> Paths<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds files that are read.
    #[must_use]
    pub fn reads<P: AsRef<Path> + ?Sized + 'a>(
        mut self,
        name: &'static str,
        paths: impl IntoIterator<Item = &'a P>,
    ) -> Self {
        let paths = paths.into_iter().map(|path| (name, path.as_ref()));
        self.read.extend(paths);
        self
    }

    /// Adds an output that is no text.
    #[must_use]
    pub fn writes(mut self, name: &'static str, path: &'a Path) -> Self {
        if is_standard(path) {
            self.binary.get_or_insert(name);
        }
        self.written.push((name, path));
        self
    }

    /// Adds a text that is written; `-` is standard output.
    #[must_use]
    pub fn writes_text(mut self, name: &'static str, path: &'a Path) -> Self {
        if is_standard(path) {
            self.printed.push(name);
        } else {
            self.written.push((name, path));
        }
        self
    }

    /// Looks at all of them.
    ///
    /// # Errors
    /// An output is the same file as something else here, through whatever links; two texts go to standard output; what is no text goes there; an output can't be made where it should be.
    pub fn check(&self) -> Result<(), PathError> {
        if let Some(what) = self.binary {
            return Err(PathError::NoText { what });
        }
        if let [first, second, ..] = self.printed[..] {
            return Err(PathError::StandardOutput { first, second });
        }
        for (at, (name, path)) in self.written.iter().enumerate() {
            let others = self.read.iter().chain(&self.written[..at]);
            let mut others = others.filter(|(_, other)| Place::of(other).is_same(&Place::of(path)));
            if let Some((other_name, other)) = others.next() {
                return Err(PathError::Same {
                    written: format!("{name} {}", path.display()),
                    other: format!("{other_name} {}", other.display()),
                });
            }
        }
        for (_, path) in &self.written {
            writable(path).map_err(|source| PathError::Unwritable {
                path: path.to_path_buf(),
                source,
            })?;
        }
        Ok(())
    }
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether something can be written there. Files are tried; what can't be replaced is left alone, as opening a pipe may wait.
fn writable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(about) if !about.is_file() => Ok(()),
        _ => Replacement::of(path).map(drop),
    }
}

/// What tells whether two paths lead to one file.
enum Place {
    /// A file that is there: device and number.
    #[cfg(unix)]
    There(u64, u64),
    /// A path without links, of a file that may not be there yet.
    Named(PathBuf),
    /// Nothing that could be lost: a terminal, `/dev/null`, or a path to nowhere.
    Nowhere,
}

impl Place {
    fn of(path: &Path) -> Self {
        #[cfg(unix)]
        if let Ok(about) = fs::metadata(path) {
            use std::os::unix::fs::{FileTypeExt, MetadataExt};
            return match about.file_type().is_char_device() {
                true => Self::Nowhere,
                false => Self::There(about.dev(), about.ino()),
            };
        }
        let whole = fs::canonicalize(path).ok().or_else(|| {
            let folder = path.parent()?;
            let folder = match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            };
            Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
        });
        whole.map_or(Self::Nowhere, Self::Named)
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            #[cfg(unix)]
            (Self::There(device, number), Self::There(other_device, other_number)) => {
                (device, number) == (other_device, other_number)
            }
            (Self::Named(path), Self::Named(other)) => path == other,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PathError, Paths};
    use std::error::Error;
    use std::fs;
    use std::path::Path;

    fn said(paths: &Paths<'_>) -> String {
        paths
            .check()
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn what_is_read_or_written_is_not_written_over() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let (model, other, link, new) = (at("model"), at("other"), at("link"), at("new"));
        fs::write(&model, "model")?;
        fs::write(&other, "other")?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(&model, &link)?;
        #[cfg(not(unix))]
        fs::hard_link(&model, &link)?;
        let around = folder.path().join(".").join("new");
        let reads = |path| Paths::new().reads("MODEL", [path]);

        assert_eq!(said(&reads(&model).writes("-o", &new)), "");
        assert_eq!(said(&reads(&model).writes("-o", &other)), "");
        assert!(said(&reads(&model).writes("-o", &model)).contains("same file as MODEL"));
        assert!(said(&reads(&model).writes("-o", &link)).contains("same file as MODEL"));
        assert!(said(&reads(&link).writes("-o", &model)).contains("same file as MODEL"));
        let twice = reads(&model).writes("-o", &new);
        assert!(said(&twice.writes_text("--report", &around)).contains("same file as -o"));
        assert_eq!(
            fs::read_dir(folder.path())?.count(),
            3,
            "something was left behind"
        );
        Ok(())
    }

    #[test]
    fn standard_output_takes_one_text() {
        let dash = Path::new("-");
        assert_eq!(said(&Paths::new().writes_text("--report", dash)), "");
        let two = Paths::new().writes_text("--report", dash);
        let two = two.writes_text("--emit-to", dash).check();
        assert!(matches!(two, Err(PathError::StandardOutput { .. })));
        let program = Paths::new().writes("-o", dash).check();
        assert!(matches!(program, Err(PathError::NoText { .. })));
    }

    #[test]
    fn an_output_needs_a_folder() {
        let nowhere = Path::new("no/such/folder/file");
        let message = said(&Paths::new().writes("-o", nowhere));
        assert!(
            message.contains("there is no folder no/such/folder"),
            "{message}"
        );
        let folder = said(&Paths::new().writes("-o", Path::new(".")));
        assert!(folder.contains("directory"), "{folder}");
    }

    #[cfg(unix)]
    #[test]
    fn the_void_takes_any_number() {
        let void = Path::new("/dev/null");
        let paths = Paths::new().writes_text("--report", void);
        assert_eq!(said(&paths.writes_text("--emit-to", void)), "");
    }
}
