//! A graph with an operator in its middle that MLX can't express: two delegate segments and one call of a host kernel between them.

use fuseline_compiler::{Options, Quiet, compile};
use fuseline_passes::{Level, PassCx};
use fuseline_tests::{Result, roads, workspace};

#[test]
fn an_operator_in_the_middle_leaves_two_segments_and_one_host_call() -> Result {
    for level in Level::ALL {
        for form in ["model.pt2", "model_core.pt2"] {
            let options = Options {
                input: workspace::fixtures()
                    .join("modules/host_nonzero")
                    .join(form),
                level,
                cx: PassCx::new(roads::target()),
            };
            let folder = tempfile::tempdir()?;
            let output = folder.path().join("model.pte");
            let report = compile(&options, &mut Quiet)?.write(&output, &mut Quiet)?;
            assert_eq!(report.segments, 2, "{form} at {level}");
            assert_eq!(report.host.len(), 1, "{form} at {level}");
        }
    }
    Ok(())
}
