//! The text form: every graph that the compiler makes of a fixture prints to text that parses back to the same graph.

use fuseline_ir::{Graph, text};
use fuseline_passes::Level;
use fuseline_tests::{Result, cases, roads, workspace};

fn check(name: &str, graph: &Graph) -> Result {
    let printed = graph.to_string();
    let read = text::parse(&printed).map_err(|e| format!("{name}: {e}"))?;
    assert!(
        read.same(graph),
        "{name}: the text reads back as another graph"
    );
    assert_eq!(
        read.to_string(),
        printed,
        "{name}: the text prints differently the second time"
    );
    read.verify().map_err(|e| format!("{name}: {e}"))?;
    Ok(())
}

#[test]
fn every_graph_reads_back_from_its_text() -> Result {
    for case in cases::all()? {
        for (form, path) in case.forms() {
            let name = format!("{}/{form}", case.name);
            let Ok(graph) = roads::imported(&path) else {
                continue; // `end_to_end` lists what can't be imported.
            };
            check(&name, &graph)?;
            check(
                &format!("{name} at O2"),
                &roads::optimised(&graph, Level::O2)?,
            )?;
        }
    }
    Ok(())
}

#[test]
fn the_demo_model_reads_back_from_its_text() -> Result {
    let graph = roads::imported(&workspace::fixtures().join("stdlib-llama/stdlib-llama-bf16.pt2"))?;
    check("imported", &graph)?;
    for level in Level::ALL {
        check(&level.to_string(), &roads::optimised(&graph, level)?)?;
    }
    Ok(())
}
