//! Files of inputs: the command's own reader, and changes to the header that keep its length right.

pub use crate::tensors::{Side, parse_calls};

use crate::edit;
use crate::random::Random;

const WORDS: &[&str] = &[
    "in0",
    "in1",
    "call0_in0",
    "call1_in0",
    "out0",
    "\"dtype\"",
    "\"shape\"",
    "\"data_offsets\"",
    "\"F32\"",
    "\"BF16\"",
    "\"I64\"",
    "\"F8_E4M3\"",
    "\"BOOL\"",
    "\"__metadata__\"",
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "-1",
    "1e3",
    "[]",
    "{}",
    "null",
];

/// A changed file: the header's text or the data, with the header's length as it then is.
pub fn edited(file: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    if random.one_in(6) {
        return None;
    }
    let (length, rest) = file.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length))
        .ok()
        .filter(|length| *length <= rest.len())?;
    let (header, data) = rest.split_at(length);
    let header = edit::text(std::str::from_utf8(header).ok()?, WORDS, random);
    let mut made = (header.len() as u64).to_le_bytes().to_vec();
    made.extend(header.as_bytes());
    made.extend(
        &data[..if random.one_in(8) {
            random.below(data.len())
        } else {
            data.len()
        }],
    );
    Some(made)
}
