//! `fuseline opt` and the pictures, through the real command: what someone who writes a pass sees.

use fuseline_tests::bins::{self, Finished};
use fuseline_tests::{Result, workspace};
use std::fs;
use std::path::Path;

const NORM: &str = r#"graph "case" {
  %x = input[name="x", ty=f32[2, 4, 8]]
  %w = input[name="w", ty=f32[8]]
  %sq = square(%x) at "norm"
  %mean = mean[axes=[2], keepdim=true](%sq) at "norm"
  %eps = full[value=1e-05, ty=f32[]]
  %shifted = add(%mean, %eps) at "norm"
  %root = rsqrt(%shifted) at "norm"
  %normed = mul(%x, %root) at "norm"
  %y = mul(%normed, %w) at "norm"
  %z = mul(%y, %y)
  output "out" = %z
}
"#;

/// A list of passes that stays as it is, whatever the levels run.
const PASSES: &str = "canon,fold,saturate";

/// Runs `fuseline opt` on a text.
fn opt(text: &str, arguments: &[&str]) -> Result<Finished> {
    let folder = tempfile::tempdir()?;
    let case = folder.path().join("case.ir");
    fs::write(&case, text)?;
    let case = case.to_string_lossy().into_owned();
    let mut all = vec!["opt", &case];
    all.extend(arguments);
    let mut done = bins::run("fuseline", all)?;
    done.stderr = done.stderr.replace(&case, "case.ir");
    Ok(done)
}

fn works(text: &str, arguments: &[&str]) -> Result<String> {
    let done = opt(text, arguments)?;
    assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
    Ok(done.stdout)
}

fn refused(text: &str, arguments: &[&str], code: i32) -> Result<String> {
    let done = opt(text, arguments)?;
    assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.stderr);
    Ok(done.stderr)
}

/// The lines that hold these words, in this order.
fn assert_in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let at = rest.find(word);
        assert!(
            at.is_some(),
            "`{word}` is missing, or too early, in\n{text}"
        );
        rest = &rest[at.unwrap_or_default() + word.len()..];
    }
}

#[test]
fn numerics_bound_the_rules_that_fire() -> Result {
    // The norm reassociates its sum; a reciprocal of a root is a matter of rounding; neither is exact.
    let root = NORM.replace("rsqrt(%shifted)", "sqrt(%shifted)").replace(
        "%normed = mul(%x, %root)",
        "%inverse = reciprocal(%root)\n  %normed = mul(%x, %inverse)",
    );
    let after = |numerics: &str| works(&root, &["--numerics", numerics]);
    let exact = after("exact")?;
    assert!(
        exact.contains(" sqrt(") && !exact.contains("rsqrt"),
        "{exact}"
    );
    let near = after("ulps(1)")?;
    assert!(near.contains(" sqrt(") && !near.contains("rsqrt"), "{near}");
    let ulps = after("ulps")?;
    assert!(
        ulps.contains("rsqrt(") && !ulps.contains("rms_norm["),
        "{ulps}"
    );
    let free = after("reassociate")?;
    assert!(free.contains("rms_norm["), "{free}");
    Ok(())
}

#[test]
fn numerics_bound_a_compile_too() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.pte");
    let model = workspace::fixtures().join("modules/rms_norm_plain/model.pt2");
    let compiled = |numerics: &str| -> Result<String> {
        let model = model.to_string_lossy();
        let output = output.to_string_lossy();
        let arguments = [
            "compile",
            &*model,
            "-q",
            "-o",
            &*output,
            "--emit",
            "ir",
            "--numerics",
            numerics,
        ];
        let done = bins::run("fuseline", arguments)?;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        Ok(done.stdout)
    };
    assert!(!compiled("exact")?.contains("rms_norm["));
    assert!(!compiled("ulps")?.contains("rms_norm["));
    assert!(compiled("reassociate")?.contains("rms_norm["));
    Ok(())
}

#[test]
fn an_explanation_is_a_chain_of_rules_and_terms() -> Result {
    let text = works(NORM, &["--passes", PASSES, "--explain", "%y"])?;
    assert_in_order(
        &text,
        &[
            "%y = mul(%normed, %w)",
            "canon\n  operand-order",
            "saturate\n",
            "= mul(%w, mul(%x, rsqrt(add(mean[axes=[2], keepdim=true](square(%x)), 1e-5))))",
            "rms_norm ⟶ mul(%w, rms_norm[",
            "rms_norm_weight ⟶ rms_norm[",
            "](%x, %w)\n",
            "result\n  %y = rms_norm[",
        ],
    );
    // What a fused op has absorbed says so, and where.
    let text = works(NORM, &["--explain", "mean"])?;
    assert_in_order(
        &text,
        &[
            "no longer computed",
            "rms_norm looked through it at %normed",
        ],
    );
    // Rules that only the canonical form has.
    let doubled = NORM.replace("%z = mul(%y, %y)", "%two = neg(%y)\n  %z = neg(%two)");
    let text = works(&doubled, &["--explain", "z", "--passes", "canon"])?;
    assert!(
        text.contains("canon\n  ") && text.contains("⟶ mul(%w, %normed)"),
        "{text}"
    );
    Ok(())
}

/// An explanation ends with what was taken out, or says what absorbed the value. Every seventh value, so that each kind has its turn.
#[test]
fn values_of_whole_layers_can_be_explained() -> Result {
    for path in workspace::files("tests/cases/egraph", "ir")? {
        let text = workspace::read(&path)?;
        for (graph, names) in fuseline_ir::text::parse_named(&text)? {
            let called = names.iter().map(|(n, v)| (*v, n.clone())).collect();
            let passes = fuseline_passes::Level::O2.passes();
            let cx = fuseline_passes::PassCx::new(fuseline_passes::Target::Metal);
            for value in names.values().filter(|v| v.index() % 7 == 0) {
                let text = fuseline_passes::explain::explain(&graph, passes, &cx, *value, &called)?;
                let ends = ["result\n", "nothing needs it", "no longer computed"];
                assert!(ends.iter().any(|e| text.contains(e)), "{path}: {text}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_difference_of_stages_and_of_files() -> Result {
    let stages = works(NORM, &["--diff", "canon", "saturate"])?;
    assert_in_order(
        &stages,
        &[
            "ops: ",
            "rms_norm 0 → 1",
            "@@ norm",
            "- ",
            "rsqrt",
            "+ ",
            "rms_norm[",
        ],
    );
    let none = works(
        NORM,
        &[
            "--passes",
            "canon,saturate,canon",
            "--diff",
            "saturate",
            "canon.2",
        ],
    )?;
    assert!(none.starts_with("no difference"), "{none}");
    let folder = tempfile::tempdir()?;
    let (a, b) = (folder.path().join("a.ir"), folder.path().join("b.ir"));
    fs::write(&a, NORM)?;
    fs::write(&b, NORM.replace("1e-05", "1e-06"))?;
    let done = bins::run("fuseline", [Path::new("opt"), Path::new("--diff"), &a, &b])?;
    assert_in_order(
        &done.stdout,
        &["- %4 = full[value=1e-5", "+ %4 = full[value=1e-6"],
    );
    Ok(())
}

#[test]
fn pictures_stand_alone_and_are_always_the_same() -> Result {
    let case = workspace::read("tests/cases/egraph/llama_layer.ir")?;
    for form in ["dot", "svg", "html"] {
        let picture = works(&case, &["--emit", form])?;
        assert!(
            picture.contains("rms_norm") && picture.contains("µs"),
            "{form}"
        );
        assert_eq!(picture, works(&case, &["--emit", form])?, "{form}");
        let links = picture.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !links.contains("http:") && !links.contains("https:"),
            "{form}"
        );
    }
    let two = format!("{NORM}{NORM}");
    let said = refused(&two, &["--emit", "svg"], 2)?;
    assert!(said.contains("--emit html"), "{said}");
    assert_eq!(works(&two, &["--emit", "html"])?.matches("<svg").count(), 2);
    Ok(())
}

#[test]
fn stages_are_printed_where_they_are_asked_for() -> Result {
    let all = works(NORM, &["--passes", PASSES, "--print-after", "all"])?;
    let heads = [
        "// 1: after canon",
        "// 2: after fold",
        "// 3: after saturate",
        "// fired",
    ];
    assert_in_order(&all, &heads);
    let one = works(NORM, &["--passes", PASSES, "--print-after", "saturate"])?;
    assert!(
        !one.contains("after canon") && one.contains("// 3: after saturate"),
        "{one}"
    );
    let none = works(NORM, &["--stop-after", "1"])?;
    assert!(
        none.contains("rsqrt") && !none.contains("// fired"),
        "{none}"
    );
    Ok(())
}

#[test]
fn errors_say_where_and_what_was_meant() -> Result {
    let op = refused(&NORM.replace("square(", "sqare("), &[], 4)?;
    assert_eq!(
        op,
        "fuseline: case.ir: 4:9: no op `sqare`; did you mean `square`?\n  |\n4 |   %sq = sqare(%x) at \"norm\"\n  |         ^\n"
    );
    let attribute = refused(&NORM.replace("axes=", "axis="), &[], 4)?;
    assert!(
        attribute.contains("mean has no attribute `axis`; did you mean `axes`?"),
        "{attribute}"
    );
    let argument = refused(&NORM.replace("rsqrt(%shifted)", "rsqrt(%shifte)"), &[], 4)?;
    assert!(
        argument.contains("%shifte is not defined before its use"),
        "{argument}"
    );
    let ty = refused(&NORM.replace("mul(%y, %y)", "mul(%y, %y) : f32[3]"), &[], 4)?;
    assert!(ty.contains("the type is f32[2, 4, 8], not f32[3]"), "{ty}");
    let pass = refused(NORM, &["--passes", "cannon"], 2)?;
    assert!(
        pass.contains("no pass `cannon`; did you mean `canon`?"),
        "{pass}"
    );
    let value = refused(NORM, &["--explain", "meen"], 2)?;
    assert!(
        value.contains("no value `%meen`; did you mean `%mean`?"),
        "{value}"
    );
    let stage = refused(NORM, &["--diff", "canon", "saturat"], 2)?;
    assert!(
        stage.contains("no stage `saturat`; there are 0 input, 1 canon"),
        "{stage}"
    );
    Ok(())
}
