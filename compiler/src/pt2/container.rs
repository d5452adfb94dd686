//! The zip around an archive: mapped once, validated once, then read by slicing.
//!
//! What is checked before anything else looks at an entry:
//! - the central directory parses, and no name occurs twice;
//! - names are relative UTF-8 paths without `..`, backslashes or NUL;
//! - every entry is stored (not compressed, not encrypted), and its data lies inside the file;
//! - no byte belongs to two entries, and local headers agree with the directory.
//!
//! Checksums are verified for the entries that are parsed ([`Container::checked`]); payloads of weights are not
//! touched until someone reads them.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use fuseline_program::{Kind, Mapping};
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::error::{Error, Result};

/// A shared slice of a mapped file. Cloning it copies no bytes; the mapping lives as long as any slice of it.
#[derive(Clone)]
pub struct MappedBytes {
    map: Arc<Mapping>,
    range: Range<usize>,
}

impl MappedBytes {
    /// The part of this slice at `range`, or `None` if it is out of bounds.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| Self {
            map: Arc::clone(&self.map),
            range: start..end,
        })
    }
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::ops::Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.get(self.range.clone()).unwrap_or_default()
    }
}

impl std::fmt::Debug for MappedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "MappedBytes({} bytes at {})",
            self.len(),
            self.range.start
        )
    }
}

/// One stored entry.
#[derive(Debug, Clone)]
struct Entry {
    range: Range<usize>,
    crc32: u32,
}

/// A validated zip of stored entries: a mapped file, or an entry of one.
#[derive(Debug, Clone)]
pub(super) struct Container {
    bytes: MappedBytes,
    entries: BTreeMap<String, Entry>,
}

impl Container {
    /// Maps `path` and validates its directory.
    ///
    /// The file should not be changed while the container, or any slice of it, is alive; [`Container::source`] says whether it was cut.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let map = Arc::new(Mapping::open(path).map_err(io)?);
        if map.is_empty() {
            return Err(Error::NotAZip {
                path: path.to_owned(),
                reason: "the file is empty".to_owned(),
            });
        }
        let range = 0..map.len();
        let bytes = MappedBytes { map, range };
        let entries = directory(&bytes, path)?;
        Ok(Self { bytes, entries })
    }

    /// Validates the directory of a zip that is the entry `name` of another one.
    pub(super) fn within(bytes: &MappedBytes, name: &str) -> Result<Self> {
        let entries = directory(bytes, Path::new(name))?;
        let bytes = bytes.clone();
        Ok(Self { bytes, entries })
    }

    /// The file.
    pub(super) fn source(&self) -> &Arc<Mapping> {
        &self.bytes.map
    }

    /// All entries: where the bytes of each lie in the file.
    pub(super) fn places(&self) -> BTreeMap<String, Range<usize>> {
        let entries = self.entries.iter();
        entries
            .map(|(name, entry)| (name.clone(), entry.range.clone()))
            .collect()
    }

    /// Names of all entries, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes of an entry, not yet compared with their checksum.
    pub(super) fn get(&self, name: &str) -> Option<MappedBytes> {
        self.bytes.slice(self.entries.get(name)?.range.clone())
    }

    /// The bytes of an entry that is about to be parsed; its checksum must hold.
    pub(super) fn checked(&self, name: &str, needed_for: &str) -> Result<MappedBytes> {
        let missing = || Error::MissingEntry {
            entry: name.to_owned(),
            reason: needed_for.to_owned(),
        };
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let bytes = self.get(name).ok_or_else(missing)?;
        let found = crc32fast::hash(&bytes);
        if found == entry.crc32 {
            Ok(bytes)
        } else {
            Err(Error::malformed(
                name,
                format!(
                    "its bytes have checksum {found:08x}, but the archive says {:08x}: the file is damaged",
                    entry.crc32
                ),
            ))
        }
    }
}

/// Reads and validates the central directory.
fn directory(map: &[u8], path: &Path) -> Result<BTreeMap<String, Entry>> {
    let other = Kind::of(map).filter(|kind| *kind != Kind::Archive);
    if let Some(found) = other {
        let path = path.to_owned();
        return Err(Error::OtherKind { path, found });
    }
    let not_a_zip = |e: zip::result::ZipError| Error::NotAZip {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let in_directory = |e: zip::result::ZipError| Error::malformed("zip directory", e.to_string());
    // An archive holds another zip, of sample inputs, near its end. The directory's places count from the start of the file, so that the inner one's are not taken for it.
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut zip = ZipArchive::with_config(config, Cursor::new(map)).map_err(not_a_zip)?;
    if zip.has_duplicate_names() {
        return Err(Error::malformed(
            "zip directory",
            "two entries have the same name",
        ));
    }
    let mut entries = BTreeMap::new();
    for index in 0..zip.len() {
        let file = zip.by_index_raw(index).map_err(in_directory)?;
        let name = std::str::from_utf8(file.name_raw())
            .map_err(|_| {
                Error::malformed(
                    String::from_utf8_lossy(file.name_raw()),
                    "the name is not UTF-8",
                )
            })?
            .to_owned();
        check_name(&name)?;
        if file.encrypted() {
            return Err(Error::malformed(name, "the entry is encrypted"));
        }
        if file.compression() != CompressionMethod::Stored || file.compressed_size() != file.size()
        {
            let reason = format!(
                "the entry is compressed ({}); torch.export.save stores entries uncompressed, and only those can be mapped",
                file.compression()
            );
            return Err(Error::malformed(name, reason));
        }
        let range = file
            .data_start()
            .and_then(|start| Some((start, start.checked_add(file.size())?)))
            .and_then(|(start, end)| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?))
            .filter(|range| range.end <= map.len());
        let Some(range) = range else {
            let reason = format!(
                "its {} bytes reach past the end of the file ({} bytes)",
                file.size(),
                map.len()
            );
            return Err(Error::malformed(name, reason));
        };
        entries.insert(
            name,
            Entry {
                range,
                crc32: file.crc32(),
            },
        );
    }
    if zip.has_overlapping_entries().map_err(in_directory)? {
        return Err(Error::malformed(
            "zip directory",
            "two entries share bytes of the file",
        ));
    }
    zip.validate_header_consistency().map_err(in_directory)?;
    Ok(entries)
}

fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name.starts_with('/')
        || name.contains(['\\', '\0'])
        || name.split('/').any(|part| part == "..");
    if bad {
        return Err(Error::malformed(
            name.escape_debug().to_string(),
            "the name is not a plain relative path",
        ));
    }
    Ok(())
}
