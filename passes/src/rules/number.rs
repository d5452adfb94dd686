//! Known numbers travel outwards, so that other rules find them in one place.
//!
//! Not out of products of `f16`, which may have them to stay below 65504: there they only go from one factor to another, where they make none larger.

use crate::pass::Numerics::{Exact, Reassociates, Ulps};
use crate::rule::Rule;
use crate::sort::Elem::{Float, Roomy};
use crate::sort::Range::{Any, Finite, Share};
use crate::sort::Sort::{Holds, Number, Order, Shape, Tensor};

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "div_by_number",
        doc: "x / c is x · (1/c). The product is rounded once more than the quotient. Not for c = 0, nor where 1/c is too small to be exact enough.",
        vars: &[("x", Tensor(Float("T"), "L..")), ("c", Number("T", Any))],
        lhs: "div(?x, ?c)",
        rhs: "mul(?x, reciprocal_of(?c))",
        class: Ulps(2),
    },
    Rule {
        name: "number_out_of_product",
        doc: "(x · c) · y is (x · y) · c: a factor that is known moves outwards, past one that isn't.",
        vars: &[
            ("x", Tensor(Roomy("T"), "L..")),
            ("y", Tensor(Roomy("T"), "M..")),
            ("c", Number("T", Finite)),
        ],
        lhs: "mul(mul(?x, ?c), ?y)",
        rhs: "mul(mul(?x, ?y), ?c)",
        class: Reassociates,
    },
    Rule {
        name: "share_into_factor",
        doc: "(x · y) · c is (x · c) · y for a c from ½ to 1, which makes x no larger: the form that activations are looked for in, and which no dtype is too narrow for.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("y", Tensor(Float("T"), "M..")),
            ("c", Number("T", Share)),
        ],
        lhs: "mul(mul(?x, ?y), ?c)",
        rhs: "mul(mul(?x, ?c), ?y)",
        class: Reassociates,
    },
    Rule {
        name: "share_to_other_factor",
        doc: "x · (y · c) is (x · c) · y for a c from ½ to 1: as `share_into_factor`.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("y", Tensor(Float("T"), "M..")),
            ("c", Number("T", Share)),
        ],
        lhs: "mul(?x, mul(?y, ?c))",
        rhs: "mul(mul(?x, ?c), ?y)",
        class: Reassociates,
    },
    Rule {
        name: "square",
        doc: "x · x in one op: factors meet that others stood between.",
        vars: &[("x", Tensor(Float("T"), "L.."))],
        lhs: "mul(?x, ?x)",
        rhs: "square(?x)",
        class: Exact,
    },
    Rule {
        name: "number_out_of_matmul_left",
        doc: "(a · c) b is (a b) · c, since a matrix product is linear.",
        vars: &[
            ("a", Tensor(Roomy("T"), "L.. S D")),
            ("b", Tensor(Roomy("T"), "L.. D N")),
            ("c", Number("T", Finite)),
        ],
        lhs: "matmul(mul(?a, ?c), ?b)",
        rhs: "mul(matmul(?a, ?b), ?c)",
        class: Reassociates,
    },
    Rule {
        name: "number_out_of_matmul_right",
        doc: "a (b · c) is (a b) · c, since a matrix product is linear.",
        vars: &[
            ("a", Tensor(Roomy("T"), "L.. S D")),
            ("b", Tensor(Roomy("T"), "L.. D N")),
            ("c", Number("T", Finite)),
        ],
        lhs: "matmul(?a, mul(?b, ?c))",
        rhs: "mul(matmul(?a, ?b), ?c)",
        class: Reassociates,
    },
    Rule {
        name: "number_out_of_matmul_shared",
        doc: "As `number_out_of_matmul_right`, where all heads share the matrix.",
        vars: &[
            ("a", Tensor(Roomy("T"), "B H S D")),
            ("b", Tensor(Roomy("T"), "B 1 D N")),
            ("c", Number("T", Finite)),
        ],
        lhs: "matmul(?a, broadcast[shape=[B, H, D, N]](mul(?b, ?c)))",
        rhs: "mul(matmul(?a, broadcast[shape=[B, H, D, N]](?b)), ?c)",
        class: Reassociates,
    },
    Rule {
        name: "number_out_of_reshape",
        doc: "(x · c) reshaped is x reshaped, · c: a factor that is one number moves outwards past what only arranges.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("c", Tensor(Float("T"), "")),
            ("s", Shape("x")),
        ],
        lhs: "reshape[shape=$s](mul(?x, ?c))",
        rhs: "mul(reshape[shape=$s](?x), ?c)",
        class: Exact,
    },
    Rule {
        name: "number_out_of_transpose",
        doc: "As `number_out_of_reshape`, of axes in another order.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("c", Tensor(Float("T"), "")),
            ("p", Order("x")),
        ],
        lhs: "transpose[perm=$p](mul(?x, ?c))",
        rhs: "mul(transpose[perm=$p](?x), ?c)",
        class: Exact,
    },
    Rule {
        name: "number_out_of_wider",
        doc: "(x · c) in a wider dtype is x in that dtype, · c: the product is rounded once less.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("c", Number("T", Finite)),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=U](mul(?x, ?c))",
        rhs: "mul(cast[dtype=U](?x), cast[dtype=U](?c))",
        class: Reassociates,
    },
    Rule {
        name: "numbers_meet",
        doc: "(x · c) · d is x · (c·d): two known factors are one.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("c", Number("T", Any)),
            ("d", Number("T", Any)),
        ],
        lhs: "mul(mul(?x, ?c), ?d)",
        rhs: "mul(?x, product(?c, ?d))",
        class: Reassociates,
    },
];
