//! docs/models.md: what the compiler makes of whole models and of modules written by hand, in instructions. Made of `tests/recorded/zoo.json`, which `tools/models.py` renews from a folder of
//! exports, so that the repository needs none of them.

use super::documents::check;
use fuseline_ir::ops::{Flag, table::TABLE};
use fuseline_tests::{Result, workspace};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

const FORMS: [&str; 3] = ["plain", "func", "core"];

/// Of the Llama family, at most so much of ExecuTorch's number.
const FAMILY: (&str, f64) = ("llama", 0.55);

fn record() -> Result<Value> {
    Ok(serde_json::from_str(&workspace::read(
        "tests/recorded/zoo.json",
    )?)?)
}

/// What the compiler made of one form of a model.
struct Made {
    instructions: BTreeMap<String, u64>,
    once: u64,
    segments: u64,
}

impl Made {
    fn total(&self) -> u64 {
        self.instructions.values().sum()
    }
}

/// The forms of a model that were compiled, in the order of [`FORMS`].
fn made(model: &Value) -> Vec<(&'static str, Made)> {
    let number = |form: &Value, name: &str| form[name].as_u64().unwrap_or_default();
    FORMS
        .into_iter()
        .filter_map(|name| {
            let form = &model[name];
            let instructions = form["instructions"].as_object()?;
            let counted = instructions
                .iter()
                .map(|(k, n)| (k.clone(), n.as_u64().unwrap_or_default()));
            let made = Made {
                instructions: counted.collect(),
                once: number(form, "once"),
                segments: number(form, "segments"),
            };
            Some((name, made))
        })
        .collect()
}

fn object<'v>(record: &'v Value, name: &str) -> Result<&'v Map<String, Value>> {
    Ok(record[name]
        .as_object()
        .ok_or_else(|| format!("no {name}"))?)
}

/// The instructions that fused ops of the IR become, and updates in place.
fn is_landing(instruction: &str) -> bool {
    let camel = |name: &str| -> String {
        name.split('_')
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect()
    };
    let fused = TABLE.iter().filter(|row| row.flags.contains(&Flag::Fused));
    ["IndexCopy", "SliceUpdate", "GatherMm", "QuantizedMatmul"].contains(&instruction)
        || fused
            .map(|row| camel(row.name))
            .any(|name| name == instruction)
}

#[test]
fn documents() -> Result {
    let record = record()?;
    let executorch = object(&record, "executorch")?;
    let models = object(&record, "models")?;
    let mut text = String::from(
        "# Models in instructions\n\nInstructions of the main chain: what a call runs, without what runs once, when the program is loaded. Compiled for `metal` at `-O2`.\n`python3 tools/models.py` \
         renews the record behind this page.\n\n## Beside ExecuTorch\n\nExecuTorch 1.5.1 lowers the same export (the plain one; `func` where that holds what only TorchAO unpacks) with its own MLX delegate.\n\n\
         | model | instructions | ExecuTorch | ratio | segments | once, at load | forms |\n|---|---|---|---|---|---|---|\n",
    );
    let by_hand = |name: &str| name.starts_with("hand_") || !executorch.contains_key(name);
    for (name, theirs) in executorch.iter().filter(|(n, _)| !by_hand(n)) {
        let forms = made(&models[name]);
        let Some((_, first)) = forms.first() else {
            continue;
        };
        let theirs = theirs.as_u64().unwrap_or(1);
        let ratio = first.total() as f64 / theirs as f64;
        writeln!(
            text,
            "| {name} | {} | {theirs} | {ratio:.2} | {} | {} | {} |",
            first.total(),
            first.segments,
            first.once,
            same_forms(&forms)
        )?;
    }
    text.push_str(
        "\n## Written by hand\n\nModules that spell out in plain PyTorch what a fused instruction does, what they land on, and what ExecuTorch makes of the plain form, where it takes all of it.\n\n| module | fused instructions | plain | func | core | ExecuTorch |\n|---|---|---|---|---|---|\n",
    );
    for (name, model) in models.iter().filter(|(n, _)| by_hand(n)) {
        let forms = made(model);
        let Some((_, first)) = forms.first() else {
            continue;
        };
        let fused = first.instructions.iter().filter(|(i, _)| is_landing(i));
        let fused: Vec<String> = fused.map(|(i, n)| format!("{n} {i}")).collect();
        let total = |form: &str| {
            let found = forms.iter().find(|(f, _)| *f == form);
            found.map_or_else(|| "–".into(), |(_, m)| m.total().to_string())
        };
        writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            if fused.is_empty() {
                "–".to_string()
            } else {
                fused.join(", ")
            },
            total("plain"),
            total("func"),
            total("core"),
            executorch.get(name).map_or("–".into(), ToString::to_string)
        )?;
    }
    check("docs/models.md", &text)
}

/// Which forms there are, and which of them give the same instructions.
fn same_forms(forms: &[(&'static str, Made)]) -> String {
    let mut text = String::new();
    for (n, (form, made)) in forms.iter().enumerate() {
        let before = n.checked_sub(1).map(|n| &forms[n].1);
        text.push_str(match before {
            None => "",
            Some(b) if b.instructions == made.instructions => " = ",
            Some(_) => " ≠ ",
        });
        text.push_str(form);
    }
    text
}

#[test]
fn never_more_instructions_than_executorch() -> Result {
    let record = record()?;
    let models = object(&record, "models")?;
    let mut above = Vec::new();
    for (name, theirs) in object(&record, "executorch")? {
        let forms = made(&models[name]);
        let first = forms
            .first()
            .ok_or_else(|| format!("{name} is not compiled"))?;
        let ratio = first.1.total() as f64 / theirs.as_u64().unwrap_or(1) as f64;
        let most = if name.starts_with(FAMILY.0) {
            FAMILY.1
        } else {
            1.0
        };
        if ratio > most {
            above.push(format!(
                "{name}: {ratio:.3} of ExecuTorch's, at most {most}"
            ));
        }
    }
    assert!(above.is_empty(), "{above:#?}");
    Ok(())
}

#[test]
fn every_form_gives_the_same_instructions() -> Result {
    let record = record()?;
    let mut differ = Vec::new();
    for (name, model) in object(&record, "models")? {
        let forms = made(model);
        if forms
            .windows(2)
            .any(|w| w[0].1.instructions != w[1].1.instructions)
        {
            differ.push(name.as_str());
        }
    }
    assert!(differ.is_empty(), "{differ:?}");
    Ok(())
}
