//! Documents that are made from the code: the commands' help, the table of ops and the table of rules, in `docs/`.
//! `FUSELINE_BLESS=1 cargo test -p fuseline-tests documents` rewrites them.

use fuseline_compiler::import::{self, Road};
use fuseline_compiler::pt2::schema::Schema;
use fuseline_ir::lower::{LowerCx, Lowering};
use fuseline_ir::ops::table::TABLE;
use fuseline_ir::{DType, Op, Symbols, Type};
use fuseline_passes::cost::{FIGURES, table};
use fuseline_passes::{PASSES, Target, canon, rules};
use fuseline_tests::{Result, bins, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

/// Compares a document with what the code says now, or rewrites it.
pub fn check(path: &str, text: &str) -> Result {
    if std::env::var_os("FUSELINE_BLESS").is_some() {
        fs::write(workspace::root().join(path), text)?;
    }
    let found = workspace::read(path)?;
    assert!(
        found == text,
        "{path} is out of date: run FUSELINE_BLESS=1 cargo test -p fuseline-tests documents"
    );
    Ok(())
}

/// A cell of a table: one line, with `|` escaped.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

#[test]
fn commands() -> Result {
    let mut text = String::from("# The commands\n\nTheir own help, as `--help` prints it.\n");
    let pages: &[(&str, &[&str])] = &[
        ("fuseline", &[]),
        ("fuseline", &["compile"]),
        ("fuseline", &["inspect"]),
        ("fuseline", &["diff"]),
        ("fuseline", &["opt"]),
        ("fuseline-run", &[]),
        ("fuseline-run", &["run"]),
        ("fuseline-run", &["generate"]),
        ("fuseline-run", &["bench"]),
        ("fuseline-run", &["calibrate"]),
        ("fuseline-run", &["perplexity"]),
    ];
    for (command, sub) in pages {
        let name = [&[*command], *sub].concat().join(" ");
        let done = bins::run(command, sub.iter().chain(&["--help"]))?;
        assert_eq!(done.code, Some(0), "{name} --help: {}", done.stderr);
        // The target that a machine compiles for by default is the machine's.
        let help = done
            .stdout
            .replace("[default: metal]", "[default: the machine's]")
            .replace("[default: cpu]", "[default: the machine's]");
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        write!(
            text,
            "\n## `{name}`\n\n```text\n{}\n```\n",
            help.join("\n").trim_end()
        )?;
    }
    check("docs/commands.md", &text)
}

#[test]
fn ops() -> Result {
    let mut text = String::from(
        "# The ops of the IR\n\nMade from the table in `ir/src/ops/table.rs`. Arguments marked `?` may be left out, `*` stands for any number. The ATen overloads listed \
         import as the op without further code; others reach it through the importer's handlers.\n",
    );
    let mut theme = "";
    for row in TABLE {
        if row.theme != theme {
            theme = row.theme;
            write!(
                text,
                "\n## {theme}\n\n| op | arguments | attributes | meaning | ATen |\n|---|---|---|---|---|\n"
            )?;
        }
        let attributes: Vec<_> = row
            .attrs
            .iter()
            .map(|(name, kind)| format!("`{name}`: {kind}"))
            .collect();
        let aten: Vec<_> = row.aten.iter().map(|a| format!("`{a}`")).collect();
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            row.name,
            cell(&row.args.join(", ")),
            cell(&attributes.join(", ")),
            cell(row.doc),
            cell(&aten.join(", "))
        )?;
    }
    check("docs/ops.md", &text)
}

/// How a table of costs reads as a file, and the tables that are built in, each figure with its source.
#[test]
fn cost_tables() -> Result {
    let mut text = String::from(
        "# Tables of costs\n\nMade from the tables in `passes/src/cost`. The optimiser weighs what it may choose by what things cost on the target: an op costs the host's time for each \
         primitive that it becomes, a launch, and the longer of its memory traffic and its arithmetic, at the rates of a table. Each target has one; `fuseline-run calibrate -o COSTS.json` \
         measures one on the machine at hand, and `fuseline compile --cost COSTS.json` and `fuseline opt --cost COSTS.json` use it in the place of the built-in one. A report names the \
         table that was used.\n\n## The file\n\nJSON:\n\n```json\n{\n  \"format\": \"fuseline-costs\",\n  \"version\": 1,\n  \"target\": \"cuda\",\n  \"device\": \
         \"the machine in words\",\n  \"figures\": {\n    \"host_ns\": {\"value\": 3000.0, \"source\": \"who measured or stated it, on what\"},\n    …\n  }\n}\n```\n\n\
         `target` is `metal`, `cuda` or `cpu`. Every figure below must be there once, and no other; a value is a number from 0.000001 to 1000000000. Anything else is refused, with its \
         place. `version` grows when a figure is added, or its meaning changes.\n\n| figure | meaning |\n|---|---|\n",
    );
    for figure in FIGURES {
        writeln!(text, "| `{}` | {} |", figure.name, cell(figure.doc))?;
    }
    text.push_str("\n## The built-in tables\n\n\"Assumed\" says that nobody has measured it; `calibrate` does.\n");
    for target in Target::ALL {
        write!(
            text,
            "\n### `{target}`\n\n| figure | value | source |\n|---|---|---|\n"
        )?;
        for (name, figure) in table(target).figures() {
            writeln!(
                text,
                "| `{name}` | {} | {} |",
                figure.value,
                cell(&figure.source)
            )?;
        }
    }
    check("docs/cost-tables.md", &text)
}

/// What a table op becomes on the target, and the dtypes that it takes, found by asking it.
fn lowered(name: &str) -> Result<(&'static str, String)> {
    let op = Op::build(name, &[])?;
    let count = Op::find(name).map_or(1, |row| row.args.len());
    let (mut how, mut dtypes) = ("refused", Vec::new());
    for dtype in DType::ALL {
        let ty = Type::tensor(dtype, vec![2i64.into()]);
        let args = vec![&ty; count];
        let Ok(out) = op.infer(&args) else { continue };
        let cx = LowerCx {
            args: &args,
            out: &out,
            symbols: &Symbols::new(),
        };
        how = match op.lower(&cx) {
            Ok(Lowering::Insts(all)) if all.len() == 1 => "one instruction",
            Ok(Lowering::Insts(_) | Lowering::Decompose | Lowering::Branch) => {
                "several instructions"
            }
            Ok(Lowering::Host) => "host",
            Ok(Lowering::Alias(_) | Lowering::Nothing) => "nothing",
            Err(_) => continue,
        };
        dtypes.push(dtype.name());
    }
    Ok((how, dtypes.join(", ")))
}

#[test]
fn aten() -> Result {
    let mut operators: BTreeMap<&str, Vec<(&str, Option<Road>)>> = BTreeMap::new();
    let (mut imported, mut all) = (0, 0);
    for target in Schema::names() {
        if let Some((operator, overload)) = target.rsplit_once('.') {
            let road = import::road(target);
            all += 1;
            imported += usize::from(!matches!(road, None | Some(Road::Kernel)));
            operators
                .entry(operator)
                .or_default()
                .push((overload, road));
        }
    }
    let mut text = format!(
        "# The operators of exports\n\nMade from the importer's registry: of {all} overloads that an inference export can hold, {imported} are imported. Operators of a user's own library become calls of \
         the host.\n\nAn operator that is an op of the IR ([ops.md](ops.md)) says what that becomes on the target, and the dtypes that it takes; the others are written in ops of the IR by the named file of \
         `compiler/src/import/ops/`, for the dtypes that those take, and promote as PyTorch does. What takes a kernel of the host, one that the runtime brings along, says so. \"Tested\" are the dtypes of the first tensor in which \
         `tests/scripts/sweep_operators.py` compared the operator with PyTorch, over the samples of PyTorch's own tests, and both agreed.\n\n| operator | overloads | how | dtypes |\n|---|---|---|---|\n"
    );
    let mut refused: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut kernels: Vec<String> = Vec::new();
    let recorded = fs::read_to_string(workspace::root().join("tests/recorded/operators.tsv"))?;
    let mut agreed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in recorded.lines() {
        let (target, dtypes) = line.split_once('\t').ok_or("a line without a tab")?;
        agreed.insert(target, dtypes.split(' ').collect());
    }
    for (operator, overloads) in &operators {
        let mut by_road: BTreeMap<Road, Vec<&str>> = BTreeMap::new();
        for (overload, road) in overloads {
            match road {
                Some(Road::Kernel) => kernels.push(format!("`{operator}.{overload}`")),
                Some(road) => by_road.entry(*road).or_default().push(overload),
                None => {
                    let name = format!("{operator}.{overload}");
                    let reason = import::refused(&name).unwrap_or_default();
                    refused.entry(reason).or_default().push(format!("`{name}`"));
                }
            }
        }
        for (road, overloads) in by_road {
            let seen = overloads
                .iter()
                .filter_map(|overload| agreed.get(format!("{operator}.{overload}").as_str()))
                .flatten();
            let seen: BTreeSet<&str> = seen.copied().collect();
            let in_order = DType::ALL.iter().map(|dtype| dtype.name());
            let tested: Vec<&str> = in_order.filter(|name| seen.contains(name)).collect();
            let tested = match tested.is_empty() {
                true => String::new(),
                false => format!("tested: {}", tested.join(", ")),
            };
            let (how, dtypes) = match road {
                Road::Op(name) => {
                    let (how, dtypes) = lowered(name)?;
                    (format!("`{name}`: {how}"), dtypes)
                }
                Road::Handler(file @ ("data_dependent" | "factor" | "bits")) => {
                    (format!("with a kernel of the host, `{file}`"), tested)
                }
                Road::Handler(file) => (format!("written in ops, `{file}`"), tested),
                Road::InPlace => ("in place".to_owned(), tested),
                Road::Check => ("left out".to_owned(), String::new()),
                Road::Requirement => ("required of integers".to_owned(), String::new()),
                Road::Kernel => continue,
            };
            writeln!(
                text,
                "| `{operator}` | {} | {how} | {dtypes} |",
                overloads.join(", ")
            )?;
        }
    }
    write!(
        text,
        "\n## Kernels of your program\n\nThese have no form in ops. Each call becomes one of the host under the operator's name, and is in the report; the program that runs the model registers a kernel.\n\n{}\n",
        kernels.join(", ")
    )?;
    text.push_str("\n## Refused\n\n| it | operators |\n|---|---|\n");
    for (reason, names) in &refused {
        writeln!(text, "| {reason} | {} |", names.join(", "))?;
    }
    check("docs/aten.md", &text)
}

#[test]
fn rewrites() -> Result {
    let mut text = String::from(
        "# Passes and rewrite rules\n\nMade from the tables in `passes/src`.\n\n## Passes\n\n| pass | what it does |\n|---|---|\n",
    );
    for pass in PASSES {
        writeln!(text, "| `{}` | {} |", pass.name, cell(pass.doc))?;
    }
    text.push_str("\n## Canonical form\n\nAlways better, so done while a graph is rebuilt.\n\n| rule | what it does |\n|---|---|\n");
    for rule in canon::RULES.iter().copied().flatten() {
        writeln!(text, "| `{}` | {} |", rule.name, cell(rule.doc))?;
    }
    text.push_str(
        "\n## Rules of the e-graph\n\nChoices, which the target's costs decide. `?x` is a value, `$e` an attribute; the class says how far the two sides may lie apart:\n\n\
         - `exact`: bit for bit, except that any NaN equals any other and that −0 equals +0.\n\
         - `ulps(N)`: each element within N units in its last place, or nearer to exact arithmetic than the left side is; NaN, infinities and −0 as with `exact`.\n\
         - `reassociates`: within rounding of the sum of the terms' magnitudes. In `f16` no factor leaves a product that it keeps in range; a dtype with the range of `f32` is taken to have room \
         for three factors, and every dtype for the terms of a sum in any order. Where the left side gives NaN or leaves the range of its dtype on the way (∞ − ∞, a row of scores that is hidden \
         whole), nothing is promised: often the right side is a number.\n",
    );
    for rule in rules::all() {
        let sorts = rule
            .vars
            .iter()
            .map(|(name, sort)| format!("- `{name}`: {sort}\n"));
        write!(
            text,
            "\n### `{}`\n\n{}\n\n```text\n   {}\n = {}\n```\n\n{}Numerics: {}. Case: `tests/cases/rules/{}.ir`.\n",
            rule.name,
            cell(rule.doc),
            rule.lhs,
            rule.rhs,
            sorts.collect::<String>() + "\n",
            rule.class,
            rule.name
        )?;
    }
    check("docs/rules.md", &text)
}
