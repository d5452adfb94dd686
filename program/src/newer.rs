//! How a file that is newer than this crate's schemas shows it. Schemas grow at the end only: a table gets further fields, a union further kinds, an identifier
//! a higher number. A field that is not known would be skipped without a word, and what it says would be missing from the results.

use flatbuffers::{Table, VOffsetT};

use crate::error::Fault;

/// The release whose schemas this crate knows.
pub const SCHEMAS: &str = "ExecuTorch 1.5.1";

/// A table that says more than is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{table} has a field {field}, and as of {SCHEMAS} it has {known}: the file is newer than what is known"
)]
pub struct UnknownField {
    /// The table's name in the schema.
    pub table: &'static str,
    /// The number of the field, from 1.
    pub field: usize,
    /// How many fields are known.
    pub known: usize,
}

/// Where the entries for fields begin in what FlatBuffers says of a table, and how long each is.
const FIRST: usize = 4;
const ENTRY: usize = 2;

/// The number of fields, from the place of the last one's entry.
pub(crate) const fn fields_to(last: VOffsetT) -> usize {
    (last as usize - FIRST) / ENTRY + 1
}

/// Checks that a table of a verified buffer has no field behind the first `known`.
pub(crate) fn fields(
    table: Table<'_>,
    name: &'static str,
    known: usize,
) -> Result<(), UnknownField> {
    let entries = table.vtable();
    let end = entries.num_bytes().saturating_sub(FIRST) / ENTRY;
    let set = (known..end).find(|field| {
        VOffsetT::try_from(FIRST + field * ENTRY).is_ok_and(|place| entries.get(place) != 0)
    });
    set.map_or(Ok(()), |field| {
        Err(UnknownField {
            table: name,
            field: field + 1,
            known,
        })
    })
}

/// [`fields`] for a generated table, with its name and its last field.
macro_rules! known_fields {
    ($table:expr, $ty:ident, $last:ident) => {
        $crate::newer::fields(
            $table._tab,
            stringify!($ty),
            $crate::newer::fields_to(wire::$ty::$last),
        )
    };
}
pub(crate) use known_fields;

/// Checks identifying bytes. Bytes that differ from the known ones in their number only are those of another version.
pub(crate) fn identifier(
    what: &'static str,
    found: &[u8],
    known: &'static [u8; 4],
) -> Result<(), Fault> {
    if found == known {
        return Ok(());
    }
    let letters = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic())
            .count()
    };
    let start = letters(known);
    let (name, number) = found.split_at_checked(start).unwrap_or_default();
    let same_kind =
        known.starts_with(name) && !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    match (same_kind, std::str::from_utf8(known)) {
        (true, Ok(known)) => Err(Fault::Version {
            what,
            found: String::from_utf8_lossy(found).into_owned(),
            known,
        }),
        _ => Err(Fault::Magic {
            what,
            found: found.to_vec(),
        }),
    }
}

/// Whether a file's identifier is the known one or that of another version.
pub(crate) fn is_of_kind(file: &[u8], known: &'static [u8; 4]) -> bool {
    let found = file.get(4..8).unwrap_or_default();
    matches!(
        identifier("", found, known),
        Ok(()) | Err(Fault::Version { .. })
    )
}
