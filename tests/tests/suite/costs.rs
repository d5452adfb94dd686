//! What `fuseline-run calibrate` writes is what `fuseline --cost` reads, and the target's table decides what a graph becomes.

use fuseline_compiler::cost_file;
use fuseline_passes::cost::FIGURES;
use fuseline_passes::{Level, PassCx, Target, optimise};
use fuseline_tests::{Result, bins, workspace};
use std::fs;

#[test]
fn a_measured_table_is_read_and_named_in_the_report() -> Result {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (costs, output, report) = (path("costs.json"), path("model.pte"), path("report.json"));
    // Any figures will do here, so not much time goes into them.
    let done = bins::run(
        "fuseline-run",
        [
            "calibrate",
            "--target",
            "cpu",
            "--seconds",
            "0.1",
            "-o",
            costs.as_str(),
        ],
    )?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let (target, table) = cost_file::read(costs.as_ref())?;
    assert_eq!(
        (target, table.figures().len()),
        (Target::Cpu, FIGURES.len())
    );
    for (name, figure) in table.figures() {
        assert!(
            figure.source.contains("fuseline-run calibrate"),
            "{name}: {}",
            figure.source
        );
    }
    let model = workspace::fixtures()
        .join("modules/swiglu/model.pt2")
        .display()
        .to_string();
    let compile = |more: &[&str]| {
        let args = [
            "compile", &model, "-o", &output, "--report", &report, "-q", "--cost", &costs,
        ];
        bins::run("fuseline", args.iter().chain(more))
    };
    assert_eq!(compile(&[])?.code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report)?)?;
    assert_eq!(json["target"], "cpu");
    assert!(
        json["costs"]
            .as_str()
            .is_some_and(|name| name.starts_with(&costs)),
        "{json:#}"
    );
    let other = compile(&["--target", "cuda"])?;
    assert_eq!(other.code, Some(2));
    assert!(
        other
            .stderr
            .contains("it was measured for cpu, not for cuda"),
        "{}",
        other.stderr
    );
    fs::write(
        &costs,
        fs::read_to_string(&costs)?.replacen("copy_gbs", "copy", 1),
    )?;
    let bad = compile(&[])?;
    assert_eq!(bad.code, Some(4));
    assert!(
        bad.stderr.contains("there is no figure `copy`"),
        "{}",
        bad.stderr
    );
    fs::remove_file(&costs)?;
    assert_eq!(compile(&[])?.code, Some(3));
    Ok(())
}

/// The same graph becomes another one where the target's costs differ.
#[test]
fn the_target_decides_what_is_extracted() -> Result {
    let ops = |name: &str, target: Target| -> Result<Vec<&'static str>> {
        let text = fs::read_to_string(workspace::root().join("tests/cases").join(name))?;
        let graphs = fuseline_ir::text::parse_all(&text)?;
        let graph = graphs.first().ok_or("no graph")?;
        let (out, _) = optimise(graph, Level::O2, &PassCx::new(target), &mut |_, _| {})?;
        Ok(out.nodes().iter().map(|node| node.op.name()).collect())
    };
    // The CPU sums a narrow quantised product in its own dtype: there it is taken in f32.
    let narrow = "rules/quantized_matmul_wide.ir";
    assert!(!ops(narrow, Target::Metal)?.contains(&"cast"));
    assert!(ops(narrow, Target::Cpu)?.contains(&"cast"));
    // Many rows with gaps are dear on the CPU, so there gate and up stay two products.
    let wide = "horizontal/gate_up_many_rows.ir";
    let matmuls =
        |target| ops(wide, target).map(|all| all.iter().filter(|n| **n == "matmul").count());
    assert_eq!((matmuls(Target::Metal)?, matmuls(Target::Cpu)?), (1, 2));
    Ok(())
}
