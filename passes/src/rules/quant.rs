//! Quantised weights meet their users, and experts theirs.

use crate::pass::Numerics::{Exact, Reassociates};
use crate::rule::Rule;
use crate::sort::Elem::{Float, Narrow};
use crate::sort::Packing::{Affine, Any, Floats};
use crate::sort::Range::Finite;
use crate::sort::Sort;
use crate::sort::Sort::{Given, Index, Number, Packed, Spread, Tensor};

const X: (&str, Sort) = ("x", Tensor(Float("T"), "L.. S K"));
const SCALE: (&str, Sort) = ("c", Number("T", Finite));
const G: (&str, Sort) = ("g", Given);
const B: (&str, Sort) = ("b", Given);
const M: (&str, Sort) = ("m", Given);
const S: (&str, Sort) = ("s", Given);
const Z: (&str, Sort) = ("z", Given);

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "quantized_matmul",
        doc: "A product with a dequantised weight is made from the weight in few bits. Elements are not rounded on the way.",
        vars: &[("w", Packed(Any, "N K")), X, S, G, B, M],
        lhs: "matmul(?x, transpose[perm=[1, 0]](dequantize[group=$g, bits=$b, mode=$m, dtype=T](?w, ?s, ?z*)))",
        rhs: "quantized_matmul[group=$g, bits=$b, mode=$m](?x, ?w, ?s, ?z*)",
        class: Reassociates,
    },
    Rule {
        name: "quantized_addmm",
        doc: "As `quantized_matmul`; the sum is made after the product.",
        vars: &[
            ("w", Packed(Any, "N K")),
            X,
            ("c", Spread(Float("T"), "L.. S N")),
            S,
            G,
            B,
            M,
        ],
        lhs: "addmm(?x, transpose[perm=[1, 0]](dequantize[group=$g, bits=$b, mode=$m, dtype=T](?w, ?s, ?z*)), ?c)",
        rhs: "add(quantized_matmul[group=$g, bits=$b, mode=$m](?x, ?w, ?s, ?z*), ?c)",
        class: Reassociates,
    },
    Rule {
        name: "quantized_matmul_scaled",
        doc: "As `quantized_matmul`, for a weight with one more factor for all of it: x (c·w)ᵀ is c · x wᵀ.",
        vars: &[("w", Packed(Any, "N K")), X, SCALE, S, G, B, M],
        lhs: "matmul(?x, transpose[perm=[1, 0]](mul(dequantize[group=$g, bits=$b, mode=$m, dtype=T](?w, ?s, ?z*), ?c)))",
        rhs: "mul(quantized_matmul[group=$g, bits=$b, mode=$m](?x, ?w, ?s, ?z*), ?c)",
        class: Reassociates,
    },
    Rule {
        name: "quantized_addmm_scaled",
        doc: "As `quantized_matmul_scaled`, with a sum.",
        vars: &[
            ("w", Packed(Any, "N K")),
            X,
            SCALE,
            ("d", Spread(Float("T"), "L.. S N")),
            S,
            G,
            B,
            M,
        ],
        lhs: "addmm(?x, transpose[perm=[1, 0]](mul(dequantize[group=$g, bits=$b, mode=$m, dtype=T](?w, ?s, ?z*), ?c)), ?d)",
        rhs: "add(mul(quantized_matmul[group=$g, bits=$b, mode=$m](?x, ?w, ?s, ?z*), ?c), ?d)",
        class: Reassociates,
    },
    Rule {
        name: "quantized_take",
        doc: "Rows taken from a dequantised table are dequantised after they are taken: only those.",
        vars: &[
            ("w", Packed(Affine, "E K")),
            ("i", Index("E", "M..")),
            S,
            Z,
            G,
            B,
            M,
        ],
        lhs: "take[axis=0](dequantize[group=$g, bits=$b, mode=$m, dtype=T](?w, ?s, ?z), ?i)",
        rhs: "dequantize[group=$g, bits=$b, mode=$m, dtype=T](take[axis=0](?w, ?i), take[axis=0](?s, ?i), take[axis=0](?z, ?i))",
        class: Exact,
    },
    Rule {
        name: "quantized_take_floats",
        doc: "As `quantized_take`, for the modes without biases.",
        vars: &[
            ("w", Packed(Floats, "E K")),
            ("i", Index("E", "M..")),
            S,
            G,
            B,
            M,
        ],
        lhs: "take[axis=0](dequantize[group=$g, bits=$b, mode=$m, dtype=T](?w, ?s), ?i)",
        rhs: "dequantize[group=$g, bits=$b, mode=$m, dtype=T](take[axis=0](?w, ?i), take[axis=0](?s, ?i))",
        class: Exact,
    },
    Rule {
        name: "number_out_of_take",
        doc: "Rows of x · c are rows of x, times c.",
        vars: &[
            ("x", Tensor(Float("T"), "E K")),
            ("i", Index("E", "M..")),
            SCALE,
        ],
        lhs: "take[axis=0](mul(?x, ?c), ?i)",
        rhs: "mul(take[axis=0](?x, ?i), ?c)",
        class: Exact,
    },
    Rule {
        name: "gather_mm",
        doc: "A product with matrices that were copied because an index chose them: the product chooses by itself.",
        vars: &[
            X,
            ("w", Tensor(Float("T"), "E K N")),
            ("i", Index("E", "M..")),
        ],
        lhs: "matmul(?x, take[axis=0](?w, ?i))",
        rhs: "gather_mm(?x, ?w, ?i)",
        class: Exact,
    },
    Rule {
        name: "gather_mm_transposed",
        doc: "As `gather_mm`, for matrices that are transposed after they are chosen: they may as well be before.",
        vars: &[
            X,
            ("w", Tensor(Float("T"), "E N K")),
            ("i", Index("E", "I")),
        ],
        lhs: "matmul(?x, transpose[perm=[0, 2, 1]](take[axis=0](?w, ?i)))",
        rhs: "gather_mm(?x, swapped(?w), ?i)",
        class: Exact,
    },
    Rule {
        name: "gather_mm_transposed_pairs",
        doc: "As `gather_mm_transposed`, for indices with two axes: some experts for each row.",
        vars: &[
            X,
            ("w", Tensor(Float("T"), "E N K")),
            ("i", Index("E", "I J")),
        ],
        lhs: "matmul(?x, transpose[perm=[0, 1, 3, 2]](take[axis=0](?w, ?i)))",
        rhs: "gather_mm(?x, swapped(?w), ?i)",
        class: Exact,
    },
    Rule {
        name: "gather_mm_left",
        doc: "As `gather_mm`, for chosen matrices on the left: A x is (xᵀ Aᵀ)ᵀ.",
        vars: &[
            ("w", Tensor(Float("T"), "E N K")),
            ("i", Index("E", "M..")),
            ("x", Tensor(Float("T"), "L.. K S")),
        ],
        lhs: "matmul(take[axis=0](?w, ?i), ?x)",
        rhs: "swapped(gather_mm(swapped(?x), swapped(?w), ?i))",
        class: Reassociates,
    },
    Rule {
        name: "gather_qmm",
        doc: "As `quantized_matmul`, for matrices that an index chooses.",
        vars: &[
            ("w", Packed(Any, "E N K")),
            X,
            ("i", Index("E", "M..")),
            S,
            G,
            B,
            M,
        ],
        lhs: "gather_mm(?x, transpose[perm=[0, 2, 1]](dequantize[group=$g, bits=$b, mode=$m, dtype=T](?w, ?s, ?z*)), ?i)",
        rhs: "gather_qmm[group=$g, bits=$b, mode=$m](?x, ?i, ?w, ?s, ?z*)",
        class: Reassociates,
    },
    Rule {
        name: "quantized_matmul_wide",
        doc: "A product with a quantised weight in f32, rounded once at the end: for a target that sums it in the narrow dtype otherwise.",
        vars: &[
            ("w", Packed(Affine, "N K")),
            ("x", Tensor(Narrow("T"), "L.. S K")),
            S,
            Z,
            G,
            B,
            M,
        ],
        lhs: "quantized_matmul[group=$g, bits=$b, mode=$m](?x, ?w, ?s, ?z)",
        rhs: "cast[dtype=T](quantized_matmul[group=$g, bits=$b, mode=$m](cast[dtype=f32](?x), ?w, cast[dtype=f32](?s), cast[dtype=f32](?z)))",
        class: Reassociates,
    },
    Rule {
        name: "quantized_matmul_wide_floats",
        doc: "As `quantized_matmul_wide`, for the modes without biases.",
        vars: &[
            ("w", Packed(Floats, "N K")),
            ("x", Tensor(Narrow("T"), "L.. S K")),
            S,
            G,
            B,
            M,
        ],
        lhs: "quantized_matmul[group=$g, bits=$b, mode=$m](?x, ?w, ?s)",
        rhs: "cast[dtype=T](quantized_matmul[group=$g, bits=$b, mode=$m](cast[dtype=f32](?x), ?w, ?s))",
        class: Reassociates,
    },
    Rule {
        name: "gather_qmm_wide",
        doc: "As `quantized_matmul_wide`, for matrices that an index chooses.",
        vars: &[
            ("w", Packed(Affine, "E N K")),
            ("x", Tensor(Narrow("T"), "L.. S K")),
            ("i", Index("E", "M..")),
            S,
            Z,
            G,
            B,
            M,
        ],
        lhs: "gather_qmm[group=$g, bits=$b, mode=$m](?x, ?i, ?w, ?s, ?z)",
        rhs: "cast[dtype=T](gather_qmm[group=$g, bits=$b, mode=$m](cast[dtype=f32](?x), ?i, ?w, cast[dtype=f32](?s), cast[dtype=f32](?z)))",
        class: Reassociates,
    },
    Rule {
        name: "gather_qmm_wide_floats",
        doc: "As `gather_qmm_wide`, for the modes without biases.",
        vars: &[
            ("w", Packed(Floats, "E N K")),
            ("x", Tensor(Narrow("T"), "L.. S K")),
            ("i", Index("E", "M..")),
            S,
            G,
            B,
            M,
        ],
        lhs: "gather_qmm[group=$g, bits=$b, mode=$m](?x, ?i, ?w, ?s)",
        rhs: "cast[dtype=T](gather_qmm[group=$g, bits=$b, mode=$m](cast[dtype=f32](?x), ?i, ?w, ?s))",
        class: Reassociates,
    },
    Rule {
        name: "gather_mm_apart",
        doc: "The inverse of `gather_mm`, for a target whose product with chosen matrices takes no narrow floats.",
        vars: &[
            ("x", Tensor(Narrow("T"), "L.. S K")),
            ("w", Tensor(Narrow("T"), "E K N")),
            ("i", Index("E", "M..")),
        ],
        lhs: "gather_mm(?x, ?w, ?i)",
        rhs: "matmul(?x, take[axis=0](?w, ?i))",
        class: Exact,
    },
];
