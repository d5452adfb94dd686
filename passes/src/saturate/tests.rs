use super::*;
use crate::pass::Target;
use fuseline_ir::text;

fn case(name: &str) -> Graph {
    let path = format!("{}/../tests/cases/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let graph = text::parse(&text).unwrap_or_else(|e| panic!("{path}:{e}"));
    graph.verify().unwrap();
    graph
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes().iter().filter(|n| n.op.name() == op).count()
}

#[test]
fn a_llama_layer_becomes_its_fused_ops() {
    let graph = case("egraph/llama_layer.ir");
    for target in Target::ALL {
        let (out, report) = report(&graph, &PassCx::new(target)).unwrap();
        assert_eq!(report.limit, None);
        assert_eq!(count(&out, "rms_norm"), 2, "{target}");
        assert_eq!(count(&out, "rope"), 2, "{target}");
        assert_eq!(count(&out, "sdpa"), 1, "{target}");
        assert_eq!(count(&out, "addmm"), 2, "{target}");
        for gone in ["neg", "cat", "mean", "rsqrt", "cos", "sin", "cast"] {
            assert_eq!(count(&out, gone), 0, "{gone} on {target}");
        }
        assert!(report.cost.1 < report.cost.0);
    }
}
