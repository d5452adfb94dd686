use super::{parse, parse_all};

const DEMO: &str = r#"
graph "forward" {
  symbol s0 in 1..=511
  symbol u0 in 0..=inf
  data "eps" : f32[2] = [0.5, -1e-5]
  data "mask" : bool[1] = [true]
  data "w" : bf16[4, 2]
  state "cache" : f32[1, 4] = "init"
  data "init" : f32[1, 4] = [0.0, inf, -inf, nan]
  // A comment.
  %x = input[name="x", ty=f32[s0, 4]] : f32[s0, 4]
  %c = state[name="cache", ty=f32[1, 4]]
  %h = slice[axis=1, start=0, stop=2, step=1](%x) : f32[s0, 2] at "model.layers.0"
  %r = reshape[shape=[2*s0]](%h)
  %z = full[value=-0.0, ty=f32[]]
  %s = add(%r, %z) : f32[2*s0]
  require s0 - 2*u0 in -3..=inf
  require u0*u0 in 0..=9
  next "cache" = %c
  output "out0" = %s
}
"#;

#[test]
fn prints_and_parses_to_the_same_graph() {
    let graph = parse(DEMO).expect("parses");
    graph.verify().expect("verifies");
    let text = graph.to_string();
    let again = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert!(graph.same(&again), "{text}\n{again}");
    assert_eq!(text, again.to_string());
    assert_eq!(
        again.constant_tensor("init").expect("inline").to_f64()[1],
        f64::INFINITY
    );
}

#[test]
fn errors_say_where() {
    let e = parse("graph \"g\" {\n  %0 = nope(%1)\n}").expect_err("no such op");
    assert_eq!((e.line, e.column), (2, 8));
    let e = parse("graph \"g\" {\n  %0 = neg(%1)\n}").expect_err("no %1");
    assert_eq!((e.line, e.column), (2, 12));
    let e =
        parse("graph \"g\" {\n  %0 = input[name=\"x\", ty=f32[2]] : f32[3]\n}").expect_err("type");
    assert!(e.reason.contains("f32[2]"), "{e}");
    let deep = format!("graph \"g\" {{ %0 = full[value={}", "[".repeat(10_000));
    assert!(parse(&deep).is_err());
}

#[test]
fn a_case_file_holds_several_graphs() {
    let graphs = parse_all(&format!("{DEMO}// another\n{DEMO}")).expect("parses");
    assert_eq!(graphs.len(), 2);
    assert!(graphs[0].same(&graphs[1]));
    assert!(parse_all("// nothing").is_err());
}

#[test]
fn an_escape_ends_at_its_brace() {
    let text = "graph \"f\" {\n  %0 = input[name=\"x\\u{0}a\\u{1f}}\", ty=f32[]] : f32[]\n  output \"y\" = %0\n}\n";
    let graph = parse(text).unwrap();
    assert_eq!(graph.to_string(), text);
    assert!(parse(&text.replace("u{0}", "u0")).is_err());
}

/// The digits of the least integer fit 64 bits only together with their sign.
#[test]
fn the_least_integer_reads_back() {
    let text = "graph \"least\" {\n  symbol u in -9223372036854775808..=inf\n  %0 = full[value=-9223372036854775808, ty=i64[2]] : i64[2]\n  output \"out0\" = %0\n}\n";
    let graph = parse(text).unwrap();
    assert!(graph.to_string().contains("value=-9223372036854775808"));
    assert!(parse(&text.replace("5808", "5809")).is_err());
    assert!(parse(&text.replace("-9", "9")).is_err());
}
