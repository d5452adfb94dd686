//! Rotations of pairs that are spelled otherwise than the rules for `rope` have them.

use crate::pass::Numerics::{Exact, Reassociates};
use crate::rule::Rule;
use crate::sort::Elem::{Float, Roomy};
use crate::sort::Sort::{Equals, Tensor};

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "sign_before_sines",
        doc: "A sign of a half of the sines is one of a half of what they are multiplied with.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. A")),
            ("b", Tensor(Float("T"), "L.. B")),
            ("c", Tensor(Float("T"), "M.. A")),
            ("d", Tensor(Float("T"), "M.. B")),
        ],
        lhs: "mul(cat[axis=-1](?a, ?b), cat[axis=-1](neg(?c), ?d))",
        rhs: "mul(cat[axis=-1](neg(?a), ?b), cat[axis=-1](?c, ?d))",
        class: Exact,
    },
    Rule {
        name: "turned_by_columns",
        doc: "Pairs turned by the columns of a rotation: the one times (cos, sin), the other times (−sin, cos).",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S R")),
            ("R", Equals("2*H")),
            ("c", Tensor(Float("T"), "M.. S H")),
            ("s", Tensor(Float("T"), "M.. S H")),
        ],
        lhs: "add(mul(cat[axis=-1](reshape[shape=[M.., S, H, 1]](?c), reshape[shape=[M.., S, H, 1]](?s)), slice[axis=-1, start=0, stop=1, step=1](reshape[shape=[L.., S, H, 2]](?x))), mul(cat[axis=-1](reshape[shape=[M.., S, H, 1]](neg(?s)), reshape[shape=[M.., S, H, 1]](?c)), slice[axis=-1, start=1, stop=2, step=1](reshape[shape=[L.., S, H, 2]](?x))))",
        rhs: "cat[axis=-1](reshape[shape=[L.., S, H, 1]](sub(mul(slice[axis=-1, start=0, stop=2*H - 1, step=2](?x), ?c), mul(slice[axis=-1, start=1, stop=2*H, step=2](?x), ?s))), reshape[shape=[L.., S, H, 1]](add(mul(slice[axis=-1, start=1, stop=2*H, step=2](?x), ?c), mul(slice[axis=-1, start=0, stop=2*H - 1, step=2](?x), ?s))))",
        class: Reassociates,
    },
    Rule {
        name: "turned_by_matrices",
        doc: "Pairs turned by a matrix for each: a product with each pair as a column. Not in f16, where the product keeps in range what its terms don't.",
        vars: &[
            ("x", Tensor(Roomy("T"), "L.. S R")),
            ("R", Equals("2*H")),
            ("c", Tensor(Float("T"), "M.. S H")),
            ("s", Tensor(Float("T"), "M.. S H")),
        ],
        lhs: "matmul(reshape[shape=[M.., S, H, 2, 2]](cat[axis=-1](reshape[shape=[M.., S, H, 1]](?c), reshape[shape=[M.., S, H, 1]](neg(?s)), reshape[shape=[M.., S, H, 1]](?s), reshape[shape=[M.., S, H, 1]](?c))), reshape[shape=[L.., S, H, 2, 1]](?x))",
        rhs: "reshape[shape=[L.., S, H, 2, 1]](cat[axis=-1](reshape[shape=[L.., S, H, 1]](sub(mul(slice[axis=-1, start=0, stop=2*H - 1, step=2](?x), ?c), mul(slice[axis=-1, start=1, stop=2*H, step=2](?x), ?s))), reshape[shape=[L.., S, H, 1]](add(mul(slice[axis=-1, start=1, stop=2*H, step=2](?x), ?c), mul(slice[axis=-1, start=0, stop=2*H - 1, step=2](?x), ?s)))))",
        class: Reassociates,
    },
];
