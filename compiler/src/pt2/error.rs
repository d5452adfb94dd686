//! What can be wrong with an archive, and where.

use std::path::PathBuf;

/// Why an archive could not be read.
///
/// Every variant names the place (file, zip entry, weight) and the reason; none of them is a bug of the
/// reader. Messages are complete sentences for a user of the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be opened or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file as it was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is of another kind.
    #[error("{}: not a .pt2 archive (the zip that torch.export.save writes) but {found}", path.display())]
    OtherKind {
        /// The file as it was given.
        path: PathBuf,
        /// What it is.
        found: fuseline_program::Kind,
    },
    /// The file does not hold a readable zip directory.
    #[error(
        "{}: not a .pt2 archive: {reason} (a .pt2 is the zip that torch.export.save writes; a file that was cut short also ends here)",
        path.display()
    )]
    NotAZip {
        /// The file as it was given.
        path: PathBuf,
        /// What the zip directory lacks.
        reason: String,
    },
    /// The zip can be read, but an entry of it breaks a rule of the format.
    #[error("entry `{entry}`: {reason}")]
    Malformed {
        /// The entry, or the part of the archive, that is wrong.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry that every archive has is not there.
    #[error("the archive has no entry `{entry}`: {reason}")]
    MissingEntry {
        /// The name looked for.
        entry: String,
        /// What the entry is needed for.
        reason: String,
    },
    /// An entry's JSON is cut, or does not have the expected types.
    #[error("entry `{entry}`, line {line}, column {column}, at {json_path}: {reason}")]
    Json {
        /// The entry that holds the JSON.
        entry: String,
        /// The path of the offending value, such as `graph_module.graph.nodes[3].target`.
        json_path: String,
        /// 1-based line in the entry.
        line: usize,
        /// 1-based column in the entry.
        column: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// The graph names a weight that the archive does not hold.
    #[error("weight `{fqn}` is named by the graph but is not in {config}")]
    MissingWeight {
        /// Fully qualified name of the parameter, buffer or constant.
        fqn: String,
        /// The configuration entry it was looked up in.
        config: String,
    },
    /// A weight's payload does not hold the bytes that its shape asks for, or its description contradicts the graph.
    #[error("weight `{fqn}` in entry `{entry}`: {reason}")]
    Weight {
        /// Fully qualified name of the parameter, buffer or constant.
        fqn: String,
        /// The payload's entry.
        entry: String,
        /// What does not fit.
        reason: String,
    },
    /// A weight is a Python object that is not read as data. Nothing is ever unpickled.
    #[error(
        "weight `{fqn}` is stored as a pickled Python object that can't be read as plain tensors: {reason}. Nothing is unpickled here; export it with plain tensors \
         instead: `ep = torch.export.export(model, args); ep = ep.run_decompositions({{}}); torch.export.save(ep, \"model.pt2\")`{}",
        others(*more)
    )]
    PickledWeight {
        /// Fully qualified name of the first such weight.
        fqn: String,
        /// What of it is not read, with the class or the byte of the stream.
        reason: String,
        /// How many further weights are not read.
        more: usize,
    },
    /// The archive was written by a format version that this reader does not know.
    #[error("entry `{entry}` says {what} {found}; this reader knows {known}")]
    UnsupportedVersion {
        /// The entry that states the version.
        entry: String,
        /// Which of the format's versions it is.
        what: &'static str,
        /// What the archive says.
        found: String,
        /// What can be read.
        known: &'static str,
    },
}

fn others(more: usize) -> String {
    match more {
        0 => String::new(),
        n => format!(" ({n} more like it)"),
    }
}

/// Result of reading an archive.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn malformed(entry: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed {
            entry: entry.into(),
            reason: reason.into(),
        }
    }
}
