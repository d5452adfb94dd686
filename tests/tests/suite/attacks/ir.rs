//! Texts of graphs that nest, count and refer as none may.

use super::Attack;

fn graph(body: &str) -> Vec<u8> {
    format!("graph \"forward\" {{\n  symbol s0 in 1..=8\n  %0 = input[name=\"x\", ty=f32[s0, 4]] : f32[s0, 4]\n{body}\n  output \"y\" = %1\n}}\n").into_bytes()
}

fn line(statement: &str) -> Vec<u8> {
    graph(&format!("  {statement}"))
}

fn size(dim: &str) -> Vec<u8> {
    line(&format!("%1 = reshape[shape=[{dim}]](%0)"))
}

/// A rotary embedding of more rows than 64 bits count the cost of.
const ROWS: &str = r#"graph "forward" {
  symbol s0 in 4611686018427387904..=4611686018427387904
  data "f" : f32[8] = [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125]
  %0 = input[name="q", ty=f32[1, 4, s0, 16]] : f32[1, 4, s0, 16]
  %2 = input[name="start", ty=i64[]] : i64[]
  %3 = arange[start=0, step=1, len=s0, dtype=i64] : i64[s0]
  %4 = add(%2, %3)
  %5 = reshape[shape=[s0, 1]](%4)
  %6 = cast[dtype=f32](%5)
  %7 = constant[name="f", ty=f32[8]] : f32[8]
  %8 = mul(%6, %7)
  %9 = full[value=1.0, ty=f32[s0, 8]] : f32[s0, 8]
  %10 = cos(%8)
  %11 = sin(%8)
  %12 = mul(%9, %10)
  %13 = mul(%9, %11)
  %14 = slice[axis=3, start=0, stop=8, step=1](%0)
  %15 = slice[axis=3, start=8, stop=16, step=1](%0)
  %16 = reshape[shape=[1, 4, s0, 8, 1]](%14)
  %17 = reshape[shape=[1, 4, s0, 8, 1]](%15)
  %18 = cat[axis=4](%16, %17)
  %19 = slice[axis=4, start=0, stop=1, step=1](%18)
  %20 = reshape[shape=[1, 4, s0, 8]](%19)
  %21 = slice[axis=4, start=1, stop=2, step=1](%18)
  %22 = reshape[shape=[1, 4, s0, 8]](%21)
  %23 = mul(%20, %12)
  %24 = mul(%22, %13)
  %25 = mul(%20, %13)
  %26 = mul(%22, %12)
  %27 = sub(%23, %24)
  %28 = add(%25, %26)
  %29 = reshape[shape=[1, 4, s0, 8, 1]](%27)
  %30 = reshape[shape=[1, 4, s0, 8, 1]](%28)
  %31 = cat[axis=4](%29, %30)
  %32 = slice[axis=4, start=0, stop=1, step=1](%31)
  %33 = reshape[shape=[1, 4, s0, 8]](%32)
  %34 = slice[axis=4, start=1, stop=2, step=1](%31)
  %35 = reshape[shape=[1, 4, s0, 8]](%34)
  %36 = cat[axis=3](%33, %35)
  output "y" = %36
}
"#;

/// All of them.
pub fn attacks() -> Vec<Attack> {
    let nested = |open: &str, close: &str| {
        [open.repeat(20_000), "s0".to_owned(), close.repeat(20_000)].concat()
    };
    vec![
        ("sound", line("%1 = neg(%0)")),
        ("costs_beyond_counting", ROWS.into()),
        ("empty", Vec::new()),
        ("only_a_brace", b"graph \"x\" {".to_vec()),
        ("string_without_end", b"graph \"x".to_vec()),
        ("escape_without_end", b"graph \"x\\".to_vec()),
        ("brackets_nested_deep", size(&nested("[", "]"))),
        ("dimensions_nested_deep", size(&nested("(", ")"))),
        ("functions_nested_deep", size(&nested("max(", ", 1)"))),
        ("signs_without_end", size(&"-".repeat(20_000))),
        ("dimension_to_the_hundredth", size(&vec!["s0"; 100].join("*"))),
        ("dimension_of_many_terms", size(&vec!["(s0 + 1)"; 40].join("*"))),
        ("dimension_divided_by_zero", size("s0//0")),
        ("dimension_beyond_64_bits", size("99999999999999999999999")),
        ("dimension_overflows", size("9223372036854775807*s0*9223372036854775807")),
        ("dimension_negative", size("-4")),
        ("symbol_that_nobody_names", size("s9")),
        ("symbol_of_an_empty_range", b"graph \"f\" {\n  symbol s0 in 8..=1\n  %0 = input[name=\"x\", ty=f32[s0]]\n  output \"y\" = %0\n}\n".to_vec()),
        ("symbol_of_a_negative_range", b"graph \"f\" {\n  symbol s0 in -8..=-1\n  %0 = input[name=\"x\", ty=f32[s0]]\n  output \"y\" = %0\n}\n".to_vec()),
        ("symbols_repeat", line("symbol s0 in 1..=9")),
        ("values_repeat", line("%0 = neg(%0)")),
        ("value_reads_itself", line("%1 = neg(%1)")),
        ("values_read_each_other", graph("  %1 = neg(%2)\n  %2 = neg(%1)")),
        ("value_that_is_not_there", line("%1 = neg(%77)")),
        ("outputs_repeat", graph("  %1 = neg(%0)\n  output \"y\" = %1")),
        ("inputs_repeat", line("%1 = input[name=\"x\", ty=f32[4]]")),
        ("op_that_is_not_there", line("%1 = frobnicate(%0)")),
        ("op_with_too_many_arguments", line("%1 = neg(%0, %0, %0)")),
        ("attribute_twice", line("%1 = softmax[axis=0, axis=1](%0)")),
        ("axis_beyond_the_rank", line("%1 = softmax[axis=99](%0)")),
        ("axis_beyond_64_bits", line("%1 = softmax[axis=99999999999999999999](%0)")),
        ("epsilon_is_no_number", line("%1 = rms_norm[eps=nan](%0, %0)")),
        ("epsilon_is_infinite", line("%1 = rms_norm[eps=1e999](%0, %0)")),
        ("elements_too_few", line("data \"w\" : f32[1000000000000] = [1.0]")),
        ("elements_beyond_counting", line("data \"w\" : f32[9223372036854775807, 9223372036854775807]")),
        ("elements_of_a_negative_count", line("data \"w\" : f32[-1] = []")),
        ("data_repeats", graph("  data \"w\" : f32[1] = [1.0]\n  data \"w\" : f32[1] = [2.0]\n  %1 = neg(%0)")),
        ("type_is_another", line("%1 = neg(%0) : i64[3]")),
        ("iota_of_exabytes", line("%1 = arange[start=0, step=1, len=4611686018427387904, dtype=i64]()")),
        ("state_without_data", line("state \"s\" : f32[4] = \"nothing\"")),
        ("a_zero_among_the_letters", line("%1 = neg\0(%0)")),
    ]
}
