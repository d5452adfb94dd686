//! The operators of the host: which of ExecuTorch's there are, and what calls each.

use fuseline_program::{Call, Ptd, Pte};
use fuseline_runtime::Kernels;
use fuseline_tests::{Result, cases, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

/// Why there is no operator of this name.
const LEFT_OUT: [(&str, &str); 2] = [
    ("aten::convolution_backward.out", "is for training"),
    (
        "aten::max_pool2d_with_indices_backward.grad_input",
        "is for training",
    ),
];

/// The fixtures whose lowered programs call an operator, by its name.
fn callers() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for case in cases::all()? {
        let Some(path) = case.lowered() else { continue };
        let file = fs::read(path)?;
        let beside = case.data()?;
        let beside = beside.iter().map(fs::read);
        let beside = beside.collect::<std::io::Result<Vec<_>>>()?;
        let beside = beside.iter().map(|file| Ptd::parse(file));
        let beside = beside.collect::<std::result::Result<Vec<_>, _>>()?;
        let pte = Pte::parse_with(&file, &beside)?;
        for method in &pte.program.methods {
            for call in method.chains.iter().flatten() {
                if let Call::Kernel { operator, .. } = call
                    && let Some(operator) = method.operators.get(*operator as usize)
                {
                    let cases = found.entry(operator.to_string()).or_default();
                    cases.insert(case.name.clone());
                }
            }
        }
    }
    Ok(found)
}

#[test]
fn the_portable_library_of_executorch_is_there() -> Result {
    let names = workspace::read("tests/recorded/portable_kernels.txt")?;
    let kernels = Kernels::standard();
    let ours: BTreeSet<&str> = kernels.names().collect();
    let callers = callers()?;
    let mut text = String::from(
        "# Operators of the host\n\nWhat ExecuTorch 1.5.1's partitioner doesn't give to the MLX delegate, the bodies of branches and loops among it, its files call by name: the operators of \
         its portable library, and arithmetic with numbers. They run here too, most of them as instructions on the device. The third column has a program that ExecuTorch wrote, among \
         `tests/fixtures`, which calls the operator and whose results are compared with eager PyTorch's.\n\n| operator | here | called by |\n|---|---|---|\n",
    );
    let mut missing = Vec::new();
    for name in names.lines() {
        let reason = LEFT_OUT.iter().find(|(left_out, _)| *left_out == name);
        let here = match (ours.contains(name), reason) {
            (true, None) => "yes",
            (false, Some((_, reason))) => reason,
            _ => {
                missing.push(name);
                continue;
            }
        };
        let by = callers.get(name).and_then(|cases| cases.first());
        writeln!(
            text,
            "| `{name}` | {here} | {} |",
            by.map_or("", String::as_str)
        )?;
    }
    assert!(
        missing.is_empty(),
        "neither there nor left out: {missing:?}"
    );
    let theirs: BTreeSet<&str> = names.lines().collect();
    let others: Vec<String> = ours
        .difference(&theirs)
        .map(|name| format!("`{name}`"))
        .collect();
    write!(
        text,
        "\nWhere a name is missing, a program that embeds the runtime can add it (`Kernels::register`); without it, opening a file that calls it is an error that says so.\n\nBeyond these \
         there are, for what our compiler leaves to the host and for older files: {}.\n",
        others.join(", ")
    )?;
    super::documents::check("docs/kernels.md", &text)
}
