//! Forms of graphs written as text.

use super::{Pairing, Wave, analyse, position, rotary_table};
use fuseline_ir::{Graph, Value, text};
use std::collections::BTreeMap;

fn parse(text: &str) -> Graph {
    text::parse(text).unwrap_or_else(|e| panic!("{e}"))
}

/// The form of output `name` as it prints.
fn form(body: &str) -> String {
    let graph = parse(&format!("graph \"t\" {{ symbol s in 1..=511\n{body}\n}}"));
    let at = graph.outputs[0].value;
    analyse(&graph)[at.index()]
        .as_ref()
        .map_or("none".into(), ToString::to_string)
}

#[test]
fn movement_substitutes_indices() {
    assert_eq!(
        form(
            "%a = arange[start=3, step=2, len=s, dtype=i64]\n%b = reshape[shape=[1, s, 1]](%a)\noutput \"o\" = %b"
        ),
        "add(mul(i1, 2), 3)"
    );
    assert_eq!(
        form(
            "%a = arange[start=0, step=1, len=6, dtype=i64]\n%b = reshape[shape=[2, 3]](%a)\n%c = transpose[perm=[1, 0]](%b)\noutput \"o\" = %c"
        ),
        "add(mul(i1, 3), i0)"
    );
    assert_eq!(
        form(
            "%a = arange[start=0, step=1, len=6, dtype=i64]\n%b = slice[axis=0, start=2, stop=6, step=2](%a)\n%c = broadcast[shape=[s, 2]](%b)\noutput \"o\" = %c"
        ),
        "add(mul(i1, 2), 2)"
    );
}

#[test]
fn every_nth_place_has_its_count_as_quotient() {
    let of = |op: &str| {
        form(&format!(
            "%a = arange[start=1, step=2, len=4, dtype=i64]\n%n = full[value=2, ty=i64[]]\n%b = {op}(%a, %n)\noutput \"o\" = %b"
        ))
    };
    assert_eq!([of("floor_div"), of("remainder")], ["i0", "1"]);
}

#[test]
fn one_element_of_a_vector_is_opaque_itself() {
    let text = "%p = input[name=\"p\", ty=i64[s]]\n%a = slice[axis=0, start=0, stop=1, step=1](%p)\n%b = reshape[shape=[]](%a)\n\
                %c = arange[start=0, step=1, len=s, dtype=i64]\n%d = add(%c, %b)\noutput \"o\" = %d";
    assert_eq!(form(text), "add(i0, %1)");
}

#[test]
fn causal_mask() {
    let text = "%n = input[name=\"n\", ty=i64[]]\n%q = arange[start=0, step=1, len=s, dtype=i64]\n%r = add(%q, %n)\n%q2 = reshape[shape=[1, 1, s, 1]](%r)\n\
                %k = arange[start=0, step=1, len=512, dtype=i64]\n%k2 = reshape[shape=[1, 1, 1, 512]](%k)\n%m = le(%k2, %q2)\noutput \"m\" = %m";
    assert_eq!(form(text), "le(i3, add(i2, %0))");
}

/// The rotary part of an exported Llama, as the demo spells it.
const LLAMA: &str = r#"graph "rope" {
  symbol s in 1..=511
  data "inv_freq" : bf16[32]
  %n = input[name="n", ty=i64[]]
  %a = arange[start=0, step=1, len=s, dtype=i64]
  %p = add(%a, %n)
  %p1 = reshape[shape=[1, s, 1]](%p)
  %pf = cast[dtype=f32](%p1)
  %w = constant[name="inv_freq", ty=bf16[32]]
  %wf = cast[dtype=f32](%w)
  %t = mul(%pf, %wf)
  %e = cat[axis=2](%t, %t)
  %c = cos(%e)
  %one = full[value=1.0, ty=f32[]]
  %c1 = mul(%c, %one)
  %c2 = cast[dtype=bf16](%c1)
  output "cos" = %c2
}"#;

/// The same as a matrix product of inner size 1, transposed, and of the sine.
const LLAMA_MATMUL: &str = r#"graph "rope" {
  symbol s in 1..=511
  data "inv_freq" : f32[32]
  %n = input[name="n", ty=i64[]]
  %a = arange[start=0, step=1, len=s, dtype=i64]
  %p = add(%a, %n)
  %p1 = reshape[shape=[1, 1, s]](%p)
  %pf = cast[dtype=f32](%p1)
  %w = constant[name="inv_freq", ty=f32[32]]
  %w1 = reshape[shape=[1, 32, 1]](%w)
  %t = matmul(%w1, %pf)
  %u = transpose[perm=[0, 2, 1]](%t)
  %e = cat[axis=2](%u, %u)
  %c = sin(%e)
  %u2 = reshape[shape=[1, 1, s, 64]](%c)
  output "sin" = %u2
}"#;

#[test]
fn rotary_tables_are_recognised() {
    for (text, wave, offset_axis) in [(LLAMA, Wave::Cos, 1), (LLAMA_MATMUL, Wave::Sin, 2)] {
        let graph = parse(text);
        let forms = analyse(&graph);
        let form = forms[graph.outputs[0].value.index()].as_ref().unwrap();
        let table = rotary_table(form).unwrap_or_else(|| panic!("{form}"));
        assert_eq!((table.wave, table.freq_axis), (wave, offset_axis + 1));
        let at = position(&table.position).unwrap();
        assert_eq!(at.scalars, BTreeMap::from([(Value::from_index(0), 1)]));
        assert_eq!(at.axes, BTreeMap::from([(offset_axis, 1.into())]));
        assert!(at.constant.is(0));
        assert_eq!(table.pairing, Pairing::Halves { half: 32.into() });
        assert_eq!((table.angle_scale, table.amplitude), (1.0, 1.0));
    }
}

#[test]
fn a_table_of_something_else_is_not_rotary() {
    // Angles that take the position twice.
    let squared = LLAMA.replace("mul(%pf, %wf)", "mul(%pf, %pf)");
    // Angles in bf16.
    let low = LLAMA
        .replace("cast[dtype=f32](%p1)", "cast[dtype=bf16](%p1)")
        .replace("%wf = cast[dtype=f32](%w)\n", "")
        .replace("%wf", "%w")
        .replace("ty=f32[]", "ty=bf16[]");
    for text in [squared, low] {
        let graph = parse(&text);
        let forms = analyse(&graph);
        assert_eq!(
            forms[graph.outputs[0].value.index()]
                .as_ref()
                .and_then(rotary_table),
            None
        );
    }
}
