//! Files of inputs whose header lies.

use super::Attack;

/// A file with this header and as many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; data]].concat()
}

/// A file with one tensor.
fn one(dtype: &str, shape: &str, offsets: &str, data: usize) -> Vec<u8> {
    file(
        &format!(r#"{{"in0":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#),
        data,
    )
}

/// A file with these two places for tensors of eight bytes.
fn two(first: &str, second: &str, data: usize) -> Vec<u8> {
    let entry = |name: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#)
    };
    file(
        &format!("{{{},{}}}", entry("in0", first), entry("in1", second)),
        data,
    )
}

/// All of them.
pub fn attacks() -> Vec<Attack> {
    let with_length = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    vec![
        ("sound", one("F32", "[2]", "[0,8]", 8)),
        ("empty", Vec::new()),
        ("header_length_only", 2_u64.to_le_bytes().to_vec()),
        ("header_length_overflows", with_length(u64::MAX)),
        ("header_longer_than_the_file", with_length(1 << 26)),
        ("header_of_gigabytes", with_length(1 << 33)),
        ("header_of_no_bytes", with_length(0)),
        ("header_is_a_list", file("[]", 0)),
        (
            "header_is_no_text",
            [&4_u64.to_le_bytes()[..], &[0xff; 4]].concat(),
        ),
        (
            "header_nested_deep",
            file(
                &[
                    r#"{"__metadata__":"#,
                    &"[".repeat(20_000),
                    &"]".repeat(20_000),
                    "}",
                ]
                .concat(),
                0,
            ),
        ),
        (
            "names_repeat",
            file(
                r#"{"in0":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"in0":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8,
            ),
        ),
        ("type_that_is_not_there", one("F33", "[2]", "[0,8]", 8)),
        (
            "shape_overflows",
            one(
                "F32",
                "[9223372036854775807,9223372036854775807]",
                "[0,8]",
                8,
            ),
        ),
        ("shape_negative", one("F32", "[-2]", "[0,8]", 8)),
        ("shape_with_a_fraction", one("F32", "[2.5]", "[0,8]", 8)),
        (
            "shape_beyond_31_bits",
            one("F32", "[4294967298,0]", "[0,0]", 0),
        ),
        (
            "shape_of_a_thousand_axes",
            one("F32", &format!("[{}2]", "1,".repeat(1000)), "[0,8]", 8),
        ),
        ("shape_of_another_size", one("F32", "[3]", "[0,8]", 8)),
        ("data_overlaps", two("[0,8]", "[4,12]", 12)),
        ("data_shared", two("[0,8]", "[0,8]", 8)),
        ("data_with_a_gap", two("[0,8]", "[16,24]", 24)),
        ("data_backwards", one("F32", "[2]", "[8,0]", 8)),
        ("data_beyond_the_end", one("F32", "[2]", "[0,8]", 4)),
        (
            "data_from_beyond_64_bits",
            one("F32", "[2]", "[18446744073709551615,7]", 8),
        ),
        ("bytes_behind_the_data", one("F32", "[2]", "[0,8]", 80)),
    ]
}
