use super::*;
use fuseline_ir::text::parse;
use fuseline_passes::Target;

fn graph() -> Graph {
    parse(
        r#"graph "g" {
  data "w<1>" : f32[8]
  state "s" : f32[4, 8]
  %x = input[name="x", ty=f32[4, 8]]
  %s = state[name="s", ty=f32[4, 8]]
  %w = constant[name="w<1>", ty=f32[8]]
  %n = rms_norm[eps=1e-05](%x, %w) at "model.norm"
  %y = add(%n, %s) at "model.add"
  next "s" = %y
  output "y" = %y
}"#,
    )
    .unwrap()
}

#[test]
fn boxes_clusters_and_arrows() {
    let picture = Picture::new(&graph(), &PassCx::new(Target::Metal));
    let modules: Vec<&str> = picture.clusters.iter().map(|c| c.module.as_str()).collect();
    assert_eq!(modules, ["", "", "model.norm", "model.add", "", ""]);
    // x → norm, norm → add, s → add, add → output, add → next.
    assert_eq!(picture.edges.len(), 5);
    let norm = &picture.shapes[picture.clusters[2].shapes[0]];
    assert_eq!(norm.kind, Kind::Fused);
    assert!(norm.lines.contains(&"\"w<1>\"".to_string()), "{norm:?}");
    assert!(norm.cost > 0);
}

#[test]
fn formats_escape_and_stand_alone() {
    let picture = Picture::new(&graph(), &PassCx::new(Target::Metal));
    let svg = svg(&picture);
    assert!(svg.contains("w&lt;1&gt;") && !svg.contains("w<1>"));
    let page = html(std::slice::from_ref(&picture));
    assert_eq!(page.matches("http").count(), 1, "only the namespace of SVG");
    assert!(page.contains("model.norm"));
    let dot = dot(&picture);
    assert!(
        dot.contains("label=\"model.norm (") && dot.contains("n0 -> "),
        "{dot}"
    );
    assert_eq!(html(std::slice::from_ref(&picture)), page);
}

#[test]
fn costs_as_people_read_them() {
    assert_eq!(time(12), "12 ps");
    assert_eq!(time(1_234), "1.2 ns");
    assert_eq!(time(3_450_000), "3.5 µs");
    assert_eq!(time(7_000_000_000), "7.0 ms");
}
