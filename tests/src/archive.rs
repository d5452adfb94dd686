//! Taking a `.pt2` archive apart, and putting it together otherwise: how tests make broken ones.

use crate::Result;
use serde_json::Value;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The entries of an archive, in order.
#[derive(Clone, Debug)]
pub struct Entries(pub Vec<(String, Vec<u8>)>);

impl Entries {
    /// Reads an archive.
    ///
    /// # Errors
    /// A file that can't be read, or isn't a zip.
    pub fn read(path: &Path) -> Result<Entries> {
        Entries::parse(&fs::read(path)?)
    }

    /// Takes an archive's bytes apart.
    ///
    /// # Errors
    /// Bytes that are no zip.
    pub fn parse(bytes: &[u8]) -> Result<Entries> {
        let mut zip = ZipArchive::new(Cursor::new(bytes))?;
        let mut entries = Vec::new();
        for index in 0..zip.len() {
            let mut file = zip.by_index(index)?;
            let name = file.name()?.into_owned();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            entries.push((name, bytes));
        }
        Ok(Entries(entries))
    }

    /// The bytes of the entry whose name ends like this.
    ///
    /// # Errors
    /// No such entry.
    pub fn get_mut(&mut self, ending: &str) -> Result<&mut Vec<u8>> {
        let found = self.0.iter_mut().find(|(name, _)| name.ends_with(ending));
        Ok(found
            .map(|(_, bytes)| bytes)
            .ok_or_else(|| format!("no entry {ending}"))?)
    }

    /// Changes an entry that holds JSON.
    ///
    /// # Errors
    /// No such entry, no JSON in it, or an error of `change`.
    pub fn edit_json(&mut self, ending: &str, change: impl FnOnce(&mut Value) -> Result) -> Result {
        let bytes = self.get_mut(ending)?;
        let mut json = serde_json::from_slice(bytes)?;
        change(&mut json)?;
        *bytes = serde_json::to_vec(&json)?;
        Ok(())
    }

    /// Takes the entry whose name ends like this out.
    pub fn remove(&mut self, ending: &str) {
        self.0.retain(|(name, _)| !name.ends_with(ending));
    }

    /// The archive's bytes: every entry stored and aligned as PyTorch does it.
    ///
    /// # Errors
    /// Those of the zip writer.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(64);
        for (name, bytes) in &self.0 {
            zip.start_file(name.as_str(), options)?;
            zip.write_all(bytes)?;
        }
        Ok(zip.finish()?.into_inner())
    }
}
