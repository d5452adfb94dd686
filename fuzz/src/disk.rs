//! Files for loaders that map what they read.

use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// A temporary file with these bytes, in memory where there is a file system for that.
pub fn file(extension: &str, bytes: &[u8]) -> NamedTempFile {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let suffix = format!(".{extension}");
    builder.suffix(&suffix);
    let file = if memory.is_dir() {
        builder.tempfile_in(memory)
    } else {
        builder.tempfile()
    };
    let mut file = file.expect("a temporary file");
    file.write_all(bytes).expect("room for a temporary file");
    file
}
