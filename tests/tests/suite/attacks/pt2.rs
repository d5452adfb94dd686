//! Archives whose zip lies, archives whose JSON does, and weights that are pickle streams.

use super::Attack;
use super::broken_zip::{Entry, zip};
use fuseline_tests::archive::Entries;
use fuseline_tests::{Result, workspace};
use serde_json::{Value, json};

/// A small export with weights.
fn sound() -> Result<Vec<Entry>> {
    let path = workspace::fixtures().join("modules/linear_bias/model.pt2");
    let entries = Entries::read(&path)?;
    Ok(entries
        .0
        .iter()
        .map(|(name, data)| Entry::new(name, data))
        .collect())
}

/// The archive after a change to the list of its entries.
fn entries(change: impl FnOnce(&mut Vec<Entry>)) -> Result<Vec<u8>> {
    let mut entries = sound()?;
    change(&mut entries);
    Ok(zip(&entries, None))
}

/// The archive with one more entry.
fn also(entry: Entry) -> Result<Vec<u8>> {
    entries(|entries| entries.push(entry))
}

/// The archive after a change to the first of its entries.
fn first(change: impl FnOnce(&mut Entry)) -> Result<Vec<u8>> {
    entries(|entries| change(&mut entries[0]))
}

/// The archive with another content of the entry whose name ends so.
fn content(ending: &str, new: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut entries = sound()?;
    let entry = entries
        .iter_mut()
        .find(|entry| entry.name.ends_with(ending.as_bytes()));
    let entry = entry.ok_or("no such entry")?;
    entry.data = new(&entry.data)?;
    Ok(zip(&entries, None))
}

/// The archive with another value at a place of the program's JSON.
fn model(place: &str, value: Value) -> Result<Vec<u8>> {
    json_at("models/model.json", place, value)
}

fn json_at(entry: &str, place: &str, value: Value) -> Result<Vec<u8>> {
    content(entry, |bytes| {
        let mut json: Value = serde_json::from_slice(bytes)?;
        *json
            .pointer_mut(place)
            .ok_or_else(|| format!("no {place}"))? = value;
        Ok(serde_json::to_vec(&json)?)
    })
}

/// The archive with other sizes, strides and offset of the first layer's weight.
fn weight(sizes: &[i64], strides: &[i64], offset: i64) -> Result<Vec<u8>> {
    let ints = |numbers: &[i64]| {
        numbers
            .iter()
            .map(|n| json!({ "as_int": n }))
            .collect::<Vec<_>>()
    };
    content("model_weights_config.json", |bytes| {
        let mut json: Value = serde_json::from_slice(bytes)?;
        let meta = &mut json["config"]["first.weight"]["tensor_meta"];
        meta["sizes"] = ints(sizes).into();
        meta["strides"] = ints(strides).into();
        meta["storage_offset"] = json!({ "as_int": offset });
        Ok(serde_json::to_vec(&json)?)
    })
}

fn zips() -> Result<Vec<Attack>> {
    let root = "model/";
    let named = |name: &str| Entry::new(name, b"x");
    let mut zip64 = Entry::new("model/extra/zip64", b"x");
    zip64.sizes = Some((u32::MAX, u32::MAX));
    zip64.extra = [
        &[1, 0, 16, 0][..],
        &u64::MAX.to_le_bytes(),
        &u64::MAX.to_le_bytes(),
    ]
    .concat();
    let mut link = Entry::new("model/extra/link", b"/etc/passwd");
    link.mode = 0o120_777;
    let mut bomb = Entry::new("model/extra/zeros", &[0x63; 100]);
    bomb.method = 8;
    bomb.sizes = Some((100, 0xffff_fff0));
    let mut ratio = Entry::new("model/extra/zeros", &[0; 10]);
    ratio.sizes = Some((10, 0xffff_fff0));
    let mut whole = sound()?;
    whole[0].sizes = Some((4000, 4000));
    let twice = format!("{root}archive_format");
    Ok(vec![
        ("sound", entries(|_| {})?),
        ("no_entries", zip(&[], None)),
        (
            "end_record_claims_65535_entries",
            zip(&sound()?, Some(u16::MAX)),
        ),
        ("end_record_claims_none", zip(&sound()?, Some(0))),
        (
            "end_record_twice",
            [zip(&sound()?, None), zip(&[], None)].concat(),
        ),
        (
            "bytes_before_the_zip",
            [vec![b'#'; 100], zip(&sound()?, None)].concat(),
        ),
        ("name_goes_up", also(named("model/../../escape"))?),
        ("name_is_absolute", also(named("/etc/passwd"))?),
        ("name_with_backslashes", also(named("model\\..\\escape"))?),
        ("name_with_a_zero", also(named("model/a\0b"))?),
        ("name_is_no_text", {
            let mut e = named("x");
            e.name = vec![0xff, 0xfe];
            also(e)?
        }),
        ("name_is_empty", also(named(""))?),
        (
            "names_repeat",
            entries(|e| {
                let again = e[0].clone();
                e.push(again)
            })?,
        ),
        (
            "name_of_another_in_the_local_header",
            first(|e| e.local_name = Some(vec![b'y'; e.name.len()]))?,
        ),
        ("link", also(link)?),
        ("encrypted", first(|e| e.flags = 1)?),
        ("compressed_to_a_hundredth_of_a_millionth", also(bomb)?),
        ("stored_and_larger_than_its_bytes", also(ratio)?),
        ("zip64_sizes_of_exabytes", also(zip64)?),
        ("entries_overlap", zip(&whole, None)),
        (
            "entries_share_a_header",
            entries(|e| {
                let mut again = e[0].clone();
                again.name = b"model/again".to_vec();
                again.offset = Some(0);
                e.push(again)
            })?,
        ),
        (
            "entry_begins_in_the_directory",
            first(|e| e.offset = Some(0xffff_ff00))?,
        ),
        (
            "entry_beyond_the_end",
            first(|e| e.sizes = Some((0x7fff_ffff, 0x7fff_ffff)))?,
        ),
        (
            "checksum_of_other_bytes",
            content("models/model.json", |b| Ok(b.to_vec())).and_then(|_| {
                entries(|e| {
                    e.iter_mut()
                        .filter(|e| e.name.ends_with(b"model.json"))
                        .for_each(|e| e.damaged = true)
                })
            })?,
        ),
        ("two_roots", also(named("other/archive_format"))?),
        ("version_twice", also(Entry::new(&twice, b"pt2"))?),
    ])
}

fn json() -> Result<Vec<Attack>> {
    let deep = |open: &str, close: &str, times: usize| {
        [open.repeat(times), close.repeat(times)]
            .concat()
            .into_bytes()
    };
    let node = "/graph_module/graph/nodes/0";
    let expr =
        |text: &str| json!([{ "as_expr": { "expr_str": text, "hint": null } }, { "as_int": 1 }]);
    let sizes = |name: &str| format!("/graph_module/graph/tensor_values/{name}/sizes");
    let x = "x";
    Ok(vec![
        (
            "json_nested_deep",
            content("models/model.json", |_| Ok(deep("[", "]", 20_000)))?,
        ),
        (
            "json_objects_nested_deep",
            content("models/model.json", |_| Ok(deep("{\"a\":", "}", 20_000)))?,
        ),
        (
            "json_number_too_long",
            content("models/model.json", |_| {
                Ok(["1".repeat(20_000).as_bytes(), b"e1"].concat())
            })?,
        ),
        (
            "json_is_no_text",
            content("models/model.json", |_| Ok(vec![0xff; 64]))?,
        ),
        (
            "node_reads_itself",
            model(
                &format!("{node}/inputs/0/arg"),
                json!({ "as_tensor": { "name": "linear" } }),
            )?,
        ),
        (
            "node_reads_nothing",
            model(
                &format!("{node}/inputs/0/arg"),
                json!({ "as_tensor": { "name": "nobody" } }),
            )?,
        ),
        (
            "node_without_outputs",
            model(&format!("{node}/outputs"), json!([]))?,
        ),
        (
            "node_argument_is_no_number",
            model(
                &format!("{node}/inputs/0/arg"),
                json!({ "as_float": "NaN" }),
            )?,
        ),
        (
            "node_argument_beyond_64_bits",
            model(
                &format!("{node}/inputs/0/arg"),
                serde_json::from_str("{\"as_int\": 99999999999999999999999}")?,
            )?,
        ),
        (
            "sizes_nested_deep",
            model(
                &sizes(x),
                expr(&["(".repeat(20_000), "s0".to_owned(), ")".repeat(20_000)].concat()),
            )?,
        ),
        (
            "sizes_to_a_huge_power",
            model(&sizes(x), expr("s0**1000000000"))?,
        ),
        (
            "sizes_of_twenty_thousand_terms",
            model(
                &sizes(x),
                expr(&["s0+".repeat(20_000), "s0".to_owned()].concat()),
            )?,
        ),
        (
            "sizes_of_exponentially_many_terms",
            model(
                &sizes(x),
                expr(
                    &(0..40)
                        .map(|n| format!("(a{n}+b{n}+1)"))
                        .collect::<Vec<_>>()
                        .join("*"),
                ),
            )?,
        ),
        ("sizes_divided_by_zero", model(&sizes(x), expr("s0//0"))?),
        (
            "sizes_overflow",
            model(
                &sizes(x),
                expr("9223372036854775807*s0 + 9223372036854775807"),
            )?,
        ),
        (
            "sizes_negative",
            model(&sizes(x), json!([{ "as_int": -4 }, { "as_int": -8 }]))?,
        ),
        (
            "sizes_multiply_beyond_counting",
            model(&sizes(x), json!(vec![json!({ "as_int": i64::MAX }); 8]))?,
        ),
        (
            "twenty_thousand_dimensions",
            model(&sizes(x), json!(vec![json!({ "as_int": 1 }); 20_000]))?,
        ),
        (
            "weight_sizes_overflow",
            weight(&[i64::MAX, i64::MAX], &[1, 1], 0)?,
        ),
        ("weight_sizes_negative", weight(&[-1, 4], &[4, 1], 0)?),
        ("weight_strides_negative", weight(&[4, 4], &[-4, 1], 0)?),
        (
            "weight_offset_beyond_its_storage",
            weight(&[1, 1], &[1, 1], i64::MAX)?,
        ),
        (
            "weight_larger_than_its_storage",
            weight(&[1 << 20, 1 << 20], &[1 << 20, 1], 0)?,
        ),
        (
            "weight_of_strides_zero",
            weight(&[1 << 20, 1 << 20], &[0, 0], 0)?,
        ),
        (
            "weight_path_goes_up",
            json_at(
                "model_weights_config.json",
                "/config/first.weight/path_name",
                json!("../../../../etc/passwd"),
            )?,
        ),
        (
            "weight_of_no_type",
            json_at(
                "model_weights_config.json",
                "/config/first.weight/tensor_meta/dtype",
                json!(99),
            )?,
        ),
        (
            "weight_is_pickled",
            json_at(
                "model_weights_config.json",
                "/config/first.weight/use_pickle",
                json!(true),
            )?,
        ),
    ])
}

/// The archive with a weight that is pickled: this stream, in a zip of its own.
fn pickled(stream: &[u8]) -> Result<Vec<u8>> {
    let mut entries = sound()?;
    let inner = [
        Entry::new("archive/data.pkl", stream),
        Entry::new("archive/byteorder", b"little"),
        Entry::new("archive/data/0", &[0; 64]),
    ];
    entries.push(Entry::new("model/data/weights/pickled", &zip(&inner, None)));
    let config = entries
        .iter_mut()
        .find(|entry| entry.name.ends_with(b"model_weights_config.json"));
    let config = config.ok_or("no configuration")?;
    let mut json: Value = serde_json::from_slice(&config.data)?;
    json["config"]["first.weight"]["use_pickle"] = json!(true);
    json["config"]["first.weight"]["path_name"] = json!("pickled");
    config.data = serde_json::to_vec(&json)?;
    Ok(zip(&entries, None))
}

fn pickles() -> Result<Vec<Attack>> {
    let text = |text: &str| {
        let count = u8::try_from(text.len()).unwrap_or(u8::MAX);
        [&[0x8c, count], text.as_bytes()].concat()
    };
    let tensor = |key: &str, size: &[u8]| {
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text(key),
            b"NNtQK\0".to_vec(),
            size.to_vec(),
            b"\x85K\x01\x85\x89NtR.".to_vec(),
        ]
        .concat()
    };
    let system = [b"cos\nsystem\n".to_vec(), text("true"), b"\x85R.".to_vec()].concat();
    let names = [text("builtins"), text("eval"), b"\x93)R.".to_vec()].concat();
    Ok(vec![
        ("pickle_calls_the_system", pickled(&system)?),
        ("pickle_calls_a_name_from_the_stack", pickled(&names)?),
        ("pickle_cut", pickled(&system[..15])?),
        (
            "pickle_builds_an_object",
            pickled(b"ccollections\nOrderedDict\n)R}b.")?,
        ),
        (
            "pickle_nested_deep",
            pickled(&[&b")"[..], &[0x85; 20_000], b"."].concat())?,
        ),
        (
            "pickle_remembers_a_huge_number",
            pickled(b"Nr\xff\xff\xff\xff.")?,
        ),
        (
            "pickle_text_longer_than_the_stream",
            pickled(b"X\xff\xff\xff\x7fx")?,
        ),
        (
            "pickle_calls_without_end",
            pickled(
                &[
                    &b"ccollections\nOrderedDict\nq\0"[..],
                    &b"h\0)R".repeat(5_000),
                ]
                .concat(),
            )?,
        ),
        (
            "pickle_storage_goes_up",
            pickled(&tensor("../../../first", b"K\x10"))?,
        ),
        (
            "pickle_tensor_larger_than_its_storage",
            pickled(&tensor("0", b"J\xff\xff\xff\x7f"))?,
        ),
        (
            "pickle_size_negative",
            pickled(&tensor("0", b"J\xff\xff\xff\xff"))?,
        ),
        (
            "pickle_of_an_unknown_class",
            pickled(b"ctorchao.quantization\nInt4PreshuffledTensor\n)R.")?,
        ),
    ])
}

/// All of them.
pub fn attacks() -> Result<Vec<Attack>> {
    Ok([zips()?, json()?, pickles()?].concat())
}
