//! What the compiler makes of the demo's model and of small cases: the graph as imported, after each pass that changed it, and the
//! program's instructions. The snapshots are in `/snapshots/compile/CASE/`; `cargo insta review` or `INSTA_UPDATE=always` renews them.

use fuseline_compiler::compile::{Observer, Options, compile};
use fuseline_ir::Graph;
use fuseline_passes::{Level, PassCx, Target};
use fuseline_program::Pte;
use fuseline_tests::{Result, workspace};
use std::path::Path;

/// The small cases: one pattern or construct each.
const CASES: [&str; 14] = [
    "activations",
    "attention_written",
    "host_nonzero",
    "inplace_buffer_views",
    "inplace_views",
    "layer_norm_written",
    "linear_bias",
    "rms_norm_gemma_bf16",
    "rms_norm_upcast_bf16",
    "rope_hf",
    "sdpa_causal",
    "sdpa_repeated_heads",
    "state_counter",
    "swiglu",
];

/// Keeps the text of each graph that differs from the one before.
#[derive(Default)]
struct Steps(Vec<(&'static str, String)>);

impl Observer for Steps {
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        let text = graph.to_string();
        if self.0.last().is_none_or(|(_, before)| *before != text) {
            self.0.push((pass, text));
        }
    }
}

fn snapshot(name: &str, archive: &Path) -> Result {
    // Not the machine's target: a snapshot is the same everywhere.
    let options = Options::new(archive, Level::O2, PassCx::new(Target::Metal));
    let mut steps = Steps::default();
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    compile(&options, &mut steps)?.write(&output, &mut fuseline_compiler::Quiet)?;
    let bytes = std::fs::read(&output)?;
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace::root().join("snapshots/compile").join(name));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| -> Result {
        for (number, (pass, text)) in steps.0.iter().enumerate() {
            insta::assert_snapshot!(format!("{number}_{pass}"), text);
        }
        let program = Pte::parse(&bytes)?;
        insta::assert_snapshot!("program", program.summary().to_string());
        Ok(())
    })
}

#[test]
fn small_cases() -> Result {
    for name in CASES {
        let archive = workspace::fixtures()
            .join("modules")
            .join(name)
            .join("model.pt2");
        snapshot(name, &archive).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

#[test]
fn the_demo_model() -> Result {
    snapshot(
        "stdlib_llama",
        &workspace::fixtures().join("stdlib-llama/stdlib-llama-bf16.pt2"),
    )
}
