//! Typed JSON with errors that say where.

use serde::de::DeserializeOwned;

use super::error::{Error, Result};

/// Parses an entry. The quick way first; only a failing entry is read again, slowly, to find the path of its error.
pub(super) fn parse<T: DeserializeOwned>(entry: &str, bytes: &[u8]) -> Result<T> {
    let first = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let (json_path, error) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        // The value itself is fine, so what is wrong comes after it.
        Ok(_) => ("the end".to_owned(), first),
        Err(error) => (error.path().to_string(), error.into_inner()),
    };
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let reason = full
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&full)
        .to_owned();
    let json_path = if json_path == "." {
        "the top".to_owned()
    } else {
        json_path
    };
    Err(Error::Json {
        entry: entry.to_owned(),
        json_path,
        line,
        column,
        reason,
    })
}
