//! Where the command's words go: results to standard output, everything else to standard error, progress only to a terminal.

use crate::compile::Observer;
use crate::error::Error;
use fuseline_ir::Graph;
use fuseline_program::Kind;
use fuseline_program::command;
use fuseline_program::replace::Replacement;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Prints an error with its place. A closed standard error is no reason to fail.
pub fn error(error: &Error) {
    let _ = writeln!(io::stderr().lock(), "fuseline: {error}");
}

/// Prints text to standard output.
///
/// # Errors
/// Standard output can't be written, unless it was closed by its reader, which is no error.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::File {
            path: PathBuf::from("<standard output>"),
            reason: e.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Writes a side file whole: to a temporary file beside it, then renamed. `-` is standard output.
///
/// # Errors
/// The file can't be written; what was there is untouched.
pub fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    if path == Path::new("-") {
        return print(text);
    }
    let failed = |e: io::Error| Error::File {
        path: path.to_path_buf(),
        reason: e.to_string(),
    };
    if path.exists() && !path.is_file() {
        // A device or a pipe can't be replaced, only written.
        return std::fs::write(path, text).map_err(failed);
    }
    let mut file = Replacement::of(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.complete().map_err(failed)
}

/// Reads a text file.
///
/// # Errors
/// The file can't be read, is not UTF-8, or too long for a text.
pub fn read_file(path: &Path) -> Result<String, Error> {
    let bytes = command::read_whole(path, command::MOST_TEXT).map_err(|e| Error::File {
        path: path.to_path_buf(),
        reason: e.to_string(),
    })?;
    String::from_utf8(bytes).map_err(|e| {
        let but = Kind::of(e.as_bytes()).map_or_else(String::new, |kind| format!(" but {kind}"));
        Error::Malformed {
            path: path.to_path_buf(),
            reason: format!("not text (UTF-8){but}"),
        }
    })
}

/// Shows the steps of a compile on a terminal, keeps quiet elsewhere, and hands graphs on.
pub struct Progress<F: FnMut(&'static str, &Graph)> {
    bar: Option<ProgressBar>,
    on_graph: F,
}

impl<F: FnMut(&'static str, &Graph)> Progress<F> {
    /// A progress line on standard error, where that is a terminal.
    pub fn new(on_graph: F) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { bar, on_graph }
    }

    /// Takes the line away.
    pub fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl<F: FnMut(&'static str, &Graph)> Observer for Progress<F> {
    fn step(&mut self, name: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(name);
        }
    }

    fn written(&mut self, bytes: u64, of: u64) {
        if let Some(bar) = &self.bar {
            if bar.length().is_none()
                && let Ok(style) = ProgressStyle::with_template(
                    "{spinner} {msg} {bar:40} {bytes}/{total_bytes} {elapsed}",
                )
            {
                bar.set_style(style);
            }
            bar.set_length(of);
            bar.set_position(bytes);
        }
    }

    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        (self.on_graph)(pass, graph);
    }
}

/// Prints text to standard error, for people.
pub fn warn(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
