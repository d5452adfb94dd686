//! Activations written out.

use crate::pass::Numerics::{Exact, Reassociates, Ulps};
use crate::rule::Rule;
use crate::sort::Elem::{Float, Single};
use crate::sort::Range::Threshold;
use crate::sort::Sort::{self, Flag, Holds, Number, Shape, Tensor};

const X: &[(&str, Sort)] = &[("x", Tensor(Float("T"), "L.."))];
const NARROW: &[(&str, Sort)] = &[("x", Tensor(Float("T"), "L..")), ("U", Holds("T"))];

const THRESHOLD: &[(&str, Sort)] = &[
    ("x", Tensor(Single("T"), "L..")),
    ("t", Number("T", Threshold)),
];

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "sigmoid",
        doc: "1/(1 + e⁻ˣ) in one op.",
        vars: X,
        lhs: "reciprocal(add(exp(neg(?x)), 1))",
        rhs: "sigmoid(?x)",
        class: Ulps(4),
    },
    Rule {
        name: "silu",
        doc: "x · sigmoid(x).",
        vars: X,
        lhs: "mul(?x, sigmoid(?x))",
        rhs: "silu(?x)",
        class: Ulps(2),
    },
    Rule {
        name: "silu_quotient",
        doc: "x/(1 + e⁻ˣ) is x · sigmoid(x).",
        vars: X,
        lhs: "div(?x, add(exp(neg(?x)), 1))",
        rhs: "silu(?x)",
        class: Ulps(4),
    },
    Rule {
        name: "silu_tanh",
        doc: "½ · x · (1 + tanh(x/2)) is x · sigmoid(x).",
        vars: X,
        lhs: "mul(mul(?x, 0.5), add(tanh(mul(?x, 0.5)), 1))",
        rhs: "silu(?x)",
        class: Reassociates,
    },
    Rule {
        name: "silu_arranged",
        doc: "An activation doesn't care how its elements are arranged.",
        vars: &[("x", Tensor(Float("T"), "L..")), ("s", Shape("x"))],
        lhs: "silu(reshape[shape=$s](?x))",
        rhs: "reshape[shape=$s](silu(?x))",
        class: Exact,
    },
    Rule {
        name: "gelu_arranged",
        doc: "As `silu_arranged`.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("s", Shape("x")),
            ("k", Flag),
        ],
        lhs: "gelu[tanh=$k](reshape[shape=$s](?x))",
        rhs: "reshape[shape=$s](gelu[tanh=$k](?x))",
        class: Exact,
    },
    Rule {
        name: "product_arranged",
        doc: "Elements that are arranged alike may be multiplied before: a gate and what it lets through.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("y", Tensor(Float("T"), "L..")),
            ("s", Shape("x")),
        ],
        lhs: "mul(reshape[shape=$s](?x), reshape[shape=$s](?y))",
        rhs: "reshape[shape=$s](mul(?x, ?y))",
        class: Exact,
    },
    Rule {
        name: "silu_narrow",
        doc: "The fused op rounds once, so the casts around it may go.",
        vars: NARROW,
        lhs: "cast[dtype=T](silu(cast[dtype=U](?x)))",
        rhs: "silu(?x)",
        class: Ulps(1),
    },
    Rule {
        name: "gelu_erf",
        doc: "½ · x · (1 + erf(x/√2)): x times the normal distribution's Φ(x). The factor ½ is beside x by `share_into_factor`.",
        vars: X,
        lhs: "mul(mul(?x, 0.5), add(erf(mul(?x, 0.7071067811865476)), 1))",
        rhs: "gelu[tanh=false](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_erf_apart",
        doc: "x · (½ + ½ · erf(x/√2)).",
        vars: X,
        lhs: "mul(?x, add(mul(erf(mul(?x, 0.7071067811865476)), 0.5), 0.5))",
        rhs: "gelu[tanh=false](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_erf_sum",
        doc: "½ · x + ½ · x · erf(x/√2).",
        vars: X,
        lhs: "add(mul(?x, 0.5), mul(mul(?x, 0.5), erf(mul(?x, 0.7071067811865476))))",
        rhs: "gelu[tanh=false](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_erfc",
        doc: "½ · x · erfc(−x/√2). The fused op takes the difference 1 − erf, as PyTorch's does, and loses what is left of it far below 0, where it is next to nothing beside x.",
        vars: X,
        lhs: "mul(mul(?x, 0.5), erfc(mul(?x, -0.7071067811865476)))",
        rhs: "gelu[tanh=false](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_erf_complement",
        doc: "½ · x · (1 − erf(−x/√2)), as erfc gives it.",
        vars: X,
        lhs: "mul(mul(?x, 0.5), sub(1, erf(mul(?x, -0.7071067811865476))))",
        rhs: "gelu[tanh=false](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_tanh_factored",
        doc: "As `gelu_tanh`, with x taken out of the polynomial.",
        vars: X,
        lhs: "mul(mul(?x, 0.5), add(tanh(mul(mul(?x, 0.7978845608028654), add(mul(square(?x), 0.044715), 1))), 1))",
        rhs: "gelu[tanh=true](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_tanh_sigmoid",
        doc: "½ · (1 + tanh(z)) is sigmoid(2·z).",
        vars: X,
        lhs: "mul(?x, sigmoid(mul(add(?x, mul(pow(?x, 3), 0.044715)), 1.5957691216057308)))",
        rhs: "gelu[tanh=true](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_tanh",
        doc: "½ · x · (1 + tanh(√(2/π) · (x + 0.044715·x³))).",
        vars: X,
        lhs: "mul(mul(?x, 0.5), add(tanh(mul(add(?x, mul(pow(?x, 3), 0.044715)), 0.7978845608028654)), 1))",
        rhs: "gelu[tanh=true](?x)",
        class: Reassociates,
    },
    Rule {
        name: "gelu_tanh_products",
        doc: "As `gelu_tanh`, with the cube as a product.",
        vars: X,
        lhs: "mul(mul(?x, 0.5), add(tanh(mul(add(?x, mul(mul(?x, square(?x)), 0.044715)), 0.7978845608028654)), 1))",
        rhs: "gelu[tanh=true](?x)",
        class: Reassociates,
    },
    Rule {
        name: "softplus",
        doc: "log(1 + eˣ), and x itself above a threshold, is log(eˣ + e⁰), which neither overflows nor needs a threshold: above 20 the two agree to the last digit of f32.",
        vars: THRESHOLD,
        lhs: "where(lt(?t, ?x), ?x, log1p(exp(?x)))",
        rhs: "logaddexp(?x, zero_of(?x))",
        class: Ulps(4),
    },
    Rule {
        name: "softplus_guarded",
        doc: "As `softplus`, where the op is there already.",
        vars: THRESHOLD,
        lhs: "where(lt(?t, ?x), ?x, logaddexp(?x, 0))",
        rhs: "logaddexp(?x, zero_of(?x))",
        class: Ulps(4),
    },
    Rule {
        name: "gelu_narrow",
        doc: "The fused op rounds once, so the casts around it may go.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("k", Flag),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](gelu[tanh=$k](cast[dtype=U](?x)))",
        rhs: "gelu[tanh=$k](?x)",
        class: Ulps(1),
    },
];
