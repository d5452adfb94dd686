//! Archives of torch.export: changes to one entry, sealed again with the right checksum, size and place.

use crate::edit;
use crate::random::Random;
use fuseline_tests::archive::Entries;
use serde_json::Value;

const WORDS: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "{\"as_int\": -1}",
    "{\"as_none\": true}",
    "{\"as_tensor\": {\"name\": \"x\"}}",
    "{\"as_ints\": [0, -1]}",
    "{\"as_float\": \"NaN\"}",
    "{\"as_expr\": {\"expr_str\": \"s0*s1\", \"hint\": null}}",
    "\"s0\"",
    "9223372036854775807",
    "1e999",
    "0.5",
    "\"torch.ops.aten.add.Tensor\"",
    "\"torch.ops.aten.view.default\"",
    "\"torch.ops.aten.cat.default\"",
    "\"torch.ops.aten.index.Tensor\"",
    "\"torch.ops.aten.slice.Tensor\"",
];

/// A changed archive; none where the bytes are none.
pub fn edited(file: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    if random.one_in(10) {
        return None;
    }
    let mut entries = Entries::parse(file)
        .ok()
        .filter(|entries| !entries.0.is_empty())?;
    let model = entries
        .0
        .iter()
        .position(|(name, _)| name.contains("/models/") && name.ends_with(".json"));
    match (model, random.below(12)) {
        (_, 0) => {
            let (at, to) = (random.below(entries.0.len()), random.below(entries.0.len()));
            match random.below(3) {
                0 => drop(entries.0.remove(at)),
                1 => entries.0[at].1 = entries.0[to].1.clone(),
                _ => {
                    entries.0[at].0 =
                        edit::text(&entries.0[at].0, &["..", "/", "\\", "weights"], random)
                }
            }
        }
        (Some(at), 1..=10) => {
            let bytes = &mut entries.0[at].1;
            *bytes = model_edited(bytes, random)?;
        }
        _ => {
            let at = random.below(entries.0.len());
            let bytes = &mut entries.0[at].1;
            match std::str::from_utf8(bytes) {
                Ok(text) => *bytes = edit::text(text, WORDS, random).into_bytes(),
                Err(_) => edit::word(bytes, random),
            }
        }
    }
    entries.to_bytes().ok()
}

/// The program's JSON with a value in another's place, or with a word changed.
fn model_edited(json: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    if random.one_in(5) {
        return Some(edit::text(std::str::from_utf8(json).ok()?, WORDS, random).into_bytes());
    }
    let mut model: Value = serde_json::from_slice(json).ok()?;
    let mut places = Vec::new();
    paths(&model, String::new(), &mut places);
    for _ in 0..=random.below(2) {
        let from = model.pointer(random.pick(&places)?).cloned();
        let value = match random.below(4) {
            0 => Value::from(random.odd()),
            1 => serde_json::from_str(random.pick(WORDS)?).unwrap_or(Value::Null),
            _ => from.unwrap_or(Value::Null),
        };
        if let Some(place) = model.pointer_mut(random.pick(&places)?) {
            match (place, random.below(6)) {
                (Value::Array(items), 0) if !items.is_empty() => {
                    drop(items.remove(random.below(items.len())))
                }
                (Value::Array(items), 1) if !items.is_empty() => {
                    let again = items[random.below(items.len())].clone();
                    items.insert(random.below(items.len()), again);
                }
                (place, _) => *place = value,
            }
        }
    }
    serde_json::to_vec(&model).ok()
}

/// The paths of the values that mean something: not those that only messages name.
fn paths(value: &Value, here: String, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| (at.to_string(), item))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, item)| (key.replace('~', "~0").replace('/', "~1"), item))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children.into_iter().filter(|(key, _)| key != "metadata") {
        let place = format!("{here}/{key}");
        found.push(place.clone());
        paths(child, place, found);
    }
}
