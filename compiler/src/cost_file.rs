//! Tables of costs as files: what `fuseline-run calibrate` writes. `docs/cost-tables.md` describes the form.

use fuseline_passes::cost::{Figure, FigureError, Table};
use fuseline_passes::{PassCx, Target};
use fuseline_program::Kind;
use fuseline_program::command::read_whole;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What a file of this kind says of itself.
pub const FORMAT: &str = "fuseline-costs";

/// The version of the form that is read.
pub const VERSION: u64 = 1;

/// The most bytes that a table may have: some hundred times what one needs.
const MOST_BYTES: u64 = 1 << 20;

/// Why a table can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The file can't be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is no text.
    #[error("not a table of costs: it is no text (UTF-8){}", .0.map_or_else(String::new, |kind| format!(" but {kind}")))]
    NoText(Option<Kind>),
    /// The file is too large for a table.
    #[error("more than {MOST_BYTES} bytes are no table of costs")]
    TooLarge,
    /// The text is no JSON, or lacks a field, or has one that isn't known or is of another kind.
    #[error("{0}")]
    Json(#[from] serde_path_to_error::Error<serde_json::Error>),
    /// The JSON is about something else.
    #[error("its format is {0:?}, not {FORMAT:?}")]
    Format(String),
    /// The table has a form that is not known.
    #[error("its version is {0}; version {VERSION} can be read")]
    Version(u64),
    /// There is no such target.
    #[error("{0}")]
    Target(String),
    /// A figure is missing, not known, or no time and no rate.
    #[error("{0}")]
    Figure(#[from] FigureError),
    /// The table is for another target than the one that was asked for.
    #[error("it was measured for {measured}, not for {wanted}")]
    OtherTarget {
        /// What the table is for.
        measured: Target,
        /// What was asked for.
        wanted: Target,
    },
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u64,
    target: String,
    device: String,
    #[serde(deserialize_with = "in_order")]
    figures: Vec<(String, Entry)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: f64,
    source: String,
}

/// All entries of a map, those of one name as well.
fn in_order<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, Entry)>, D::Error> {
    struct All;

    impl<'de> Visitor<'de> for All {
        type Value = Vec<(String, Entry)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("figures by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(entry) = map.next_entry()? {
                all.push(entry);
            }
            Ok(all)
        }
    }

    from.deserialize_map(All)
}

/// Reads a table, and for which target it is.
///
/// # Errors
/// The file can't be read, or is no table that can be used.
pub fn read(path: &Path) -> Result<(Target, Table), CostError> {
    let bytes = read_whole(path, MOST_BYTES).map_err(|e| match e.kind() {
        std::io::ErrorKind::FileTooLarge => CostError::TooLarge,
        _ => e.into(),
    })?;
    let text = String::from_utf8(bytes).map_err(|e| CostError::NoText(Kind::of(e.as_bytes())))?;
    parse(&text, &path.display().to_string())
}

/// Reads the text of a table; `place` is where it comes from, for reports.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, place: &str) -> Result<(Target, Table), CostError> {
    // What it is and of which version comes first: another version may have any other fields.
    let head: Head =
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text))?;
    if head.format != FORMAT {
        return Err(CostError::Format(head.format));
    }
    if head.version != VERSION {
        return Err(CostError::Version(head.version));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let file: File = serde_path_to_error::deserialize(&mut json)?;
    json.end().map_err(|error| {
        serde_path_to_error::Error::new(serde_path_to_error::Track::new().path(), error)
    })?;
    let target = file.target.parse().map_err(CostError::Target)?;
    let figures = file
        .figures
        .into_iter()
        .map(|(name, Entry { value, source })| {
            let source = source.into();
            (name, Figure { value, source })
        });
    Ok((
        target,
        Table::new(format!("{place} ({})", file.device), figures)?,
    ))
}

/// The context for a target with its own table, or with one from a file: then for that one's target, which must be the one that was asked for if one was.
///
/// # Errors
/// As [`read`]; a table for another target.
pub fn context(
    wanted: Option<Target>,
    file: Option<&Path>,
    otherwise: Target,
) -> Result<PassCx, CostError> {
    let Some(path) = file else {
        return Ok(PassCx::new(wanted.unwrap_or(otherwise)));
    };
    let (measured, table) = read(path)?;
    match wanted {
        Some(wanted) if wanted != measured => Err(CostError::OtherTarget { measured, wanted }),
        _ => Ok(PassCx {
            costs: Arc::new(table),
            ..PassCx::new(measured)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuseline_passes::cost::{FIGURES, table};
    use serde_json::{Value, json};

    fn file() -> Value {
        let table = table(Target::Cuda);
        let figures: serde_json::Map<String, Value> = table
            .figures()
            .into_iter()
            .map(|(name, figure)| {
                (
                    name.to_string(),
                    json!({ "value": figure.value, "source": figure.source }),
                )
            })
            .collect();
        json!({ "format": FORMAT, "version": VERSION, "target": "cuda", "device": "a machine", "figures": figures })
    }

    fn error(value: &Value) -> String {
        parse(&value.to_string(), "t").unwrap_err().to_string()
    }

    #[test]
    fn a_table_is_read_back() {
        let (target, read) = parse(&file().to_string(), "t.json").unwrap();
        assert_eq!(target, Target::Cuda);
        assert_eq!(read.name, "t.json (a machine)");
        assert_eq!(read.figures(), table(Target::Cuda).figures());
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_place() {
        for info in FIGURES {
            let mut without = file();
            without["figures"]
                .as_object_mut()
                .unwrap()
                .remove(info.name);
            assert_eq!(
                error(&without),
                format!("the figure `{}` is missing", info.name)
            );
        }
        let changed = |path: &str, value: Value| {
            let mut all = file();
            *all.pointer_mut(path).unwrap() = value;
            error(&all)
        };
        assert_eq!(
            changed("/figures/copy_gbs/value", json!(-1)),
            "`copy_gbs` is -1; a figure is a number from 0.000001 to 1000000000"
        );
        assert!(changed("/figures/copy_gbs/value", json!(0)).starts_with("`copy_gbs` is 0;"));
        assert!(
            changed("/figures/copy_gbs/value", json!("NaN"))
                .contains("copy_gbs.value: invalid type")
        );
        assert!(changed("/figures/copy_gbs", json!(3)).contains("figures.copy_gbs: invalid type"));
        assert_eq!(
            changed("/version", json!(2)),
            "its version is 2; version 1 can be read"
        );
        assert_eq!(
            changed("/format", json!("x")),
            "its format is \"x\", not \"fuseline-costs\""
        );
        assert_eq!(
            changed("/target", json!("tpu")),
            "`tpu` is no target; there are metal, cuda and cpu"
        );
        let mut more = file();
        more["figures"]["speed"] = json!({ "value": 1, "source": "me" });
        assert_eq!(error(&more), "there is no figure `speed`");
        let text = file().to_string();
        let figure = file()["figures"]["copy_gbs"]["value"].to_string();
        for bad in [
            text.replace(
                "\"copy_gbs\":{\"",
                "\"copy_gbs\":{\"value\":1,\"source\":\"\"},\"copy_gbs\":{\"",
            ),
            text.replacen("\"device\"", "\"divice\"", 1),
            text.replacen(&figure, "NaN", 1),
            text.replacen(&figure, "1e999", 1),
            format!("{text}x"),
            text[..text.len() / 2].to_string(),
            String::new(),
            "[]".to_string(),
        ] {
            assert!(parse(&bad, "t").is_err(), "{bad}");
        }
    }
}
