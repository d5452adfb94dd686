//! Matrix products.

use crate::pass::Numerics::{Exact, Reassociates};
use crate::rule::Rule;
use crate::sort::Elem::Float;
use crate::sort::Sort::{Elements, Equals, Product, Regroups, Shape, Spread, Tensor};

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "addmm",
        doc: "A sum with a matrix product is made in the product's accumulator: a bias, or a residual. The sum is rounded once instead of twice.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. S K")),
            ("b", Tensor(Float("T"), "K N")),
            ("c", Spread(Float("T"), "L.. S N")),
        ],
        lhs: "add(matmul(?a, ?b), ?c)",
        rhs: "addmm(?a, ?b, ?c)",
        class: Reassociates,
    },
    Rule {
        name: "addmm_of_rows_of_sum",
        doc: "A residual with leading axes of its own, added to a product of plain rows: the rows are arranged as the residual has them, and the sum is made in the product's accumulator.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S N")),
            ("b", Tensor(Float("T"), "K N")),
            ("a", Elements(Float("T"), "L.. S K")),
            ("P", Product("L.. S")),
        ],
        lhs: "add(?x, matmul(reshape[shape=[P, K]](?a), ?b))",
        rhs: "addmm(reshaped[shape=[L.., S, K]](?a), ?b, ?x)",
        class: Reassociates,
    },
    Rule {
        name: "matmul_of_arranged_rows",
        doc: "Rows that are arranged behind a product can be arranged before it, where that is free: they were reshaped anyway, or are constant.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. S K")),
            ("b", Tensor(Float("T"), "K N")),
            ("M", Regroups("L.. S")),
        ],
        lhs: "reshape[shape=[M.., N]](matmul(?a, ?b))",
        rhs: "matmul(reshaped[shape=[M.., K]](?a), ?b)",
        class: Exact,
    },
    Rule {
        name: "addmm_of_arranged_rows",
        doc: "As `matmul_of_arranged_rows`, with a bias for each column.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. S K")),
            ("b", Tensor(Float("T"), "K N")),
            ("c", Tensor(Float("T"), "N")),
            ("M", Regroups("L.. S")),
        ],
        lhs: "reshape[shape=[M.., N]](addmm(?a, ?b, ?c))",
        rhs: "addmm(reshaped[shape=[M.., K]](?a), ?b, ?c)",
        class: Exact,
    },
    Rule {
        name: "matmul_of_rows",
        doc: "A product takes its rows however they are arranged: (a with its rows in other axes) b is a b with its rows in those axes, so the reshape can meet the one that undoes it.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. S K")),
            ("b", Tensor(Float("T"), "K N")),
            ("M", Regroups("L.. S")),
        ],
        lhs: "matmul(reshape[shape=[M.., K]](?a), ?b)",
        rhs: "reshape[shape=[M.., N]](matmul(?a, ?b))",
        class: Exact,
    },
    Rule {
        name: "addmm_of_rows",
        doc: "As `matmul_of_rows`, with a bias for each column.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. S K")),
            ("b", Tensor(Float("T"), "K N")),
            ("c", Tensor(Float("T"), "N")),
            ("M", Regroups("L.. S")),
        ],
        lhs: "addmm(reshape[shape=[M.., K]](?a), ?b, ?c)",
        rhs: "reshape[shape=[M.., N]](addmm(?a, ?b, ?c))",
        class: Exact,
    },
    Rule {
        name: "add_of_rows",
        doc: "A term for each column may be added before the rows are rearranged as well as after it.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S N")),
            ("b", Tensor(Float("T"), "N")),
            ("M", Regroups("L.. S")),
        ],
        lhs: "add(reshape[shape=[M.., N]](?x), ?b)",
        rhs: "reshape[shape=[M.., N]](add(?x, ?b))",
        class: Exact,
    },
    Rule {
        name: "addmm_two_biases",
        doc: "Two terms for each column are one; their sum is computed once where they are weights.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. S K")),
            ("b", Tensor(Float("T"), "K N")),
            ("c", Tensor(Float("T"), "N")),
            ("d", Tensor(Float("T"), "N")),
        ],
        lhs: "add(addmm(?a, ?b, ?c), ?d)",
        rhs: "addmm(?a, ?b, add(?c, ?d))",
        class: Reassociates,
    },
    Rule {
        name: "bias_before_steps",
        doc: "A recurrent network adds a bias in each step to what it takes of the product with all inputs: added to that product once, it leaves the step's own product room for what it takes.",
        vars: &[
            ("a", Tensor(Float("T"), "L.. S K")),
            ("b", Tensor(Float("T"), "K N")),
            ("c", Tensor(Float("T"), "N")),
            ("x", Tensor(Float("T"), "G S N")),
            ("P", Equals("O + 1")),
        ],
        lhs: "add(slice[axis=0, start=O, stop=P, step=1](?x), addmm(?a, ?b, ?c))",
        rhs: "add(matmul(reshaped[shape=[1, S, K]](?a), ?b), slice[axis=0, start=O, stop=P, step=1](add(?x, ?c)))",
        class: Reassociates,
    },
    Rule {
        name: "matmul_of_batches",
        doc: "A product takes its batch axes as they are: two made one before it may as well be made one behind it.",
        vars: &[
            ("a", Tensor(Float("T"), "B H S K")),
            ("b", Tensor(Float("T"), "B H K N")),
            ("P", Product("B H")),
        ],
        lhs: "matmul(reshape[shape=[P, S, K]](?a), reshape[shape=[P, K, N]](?b))",
        rhs: "reshape[shape=[P, S, N]](matmul(?a, ?b))",
        class: Exact,
    },
    Rule {
        name: "slice_of_rows",
        doc: "What is taken of each row is the same however the rows are arranged, so the reshape can meet the one that undoes it.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("M", Regroups("L..")),
            ("R", Equals("Q - O")),
        ],
        lhs: "slice[axis=-1, start=O, stop=Q, step=1](reshape[shape=[M.., D]](?x))",
        rhs: "reshape[shape=[M.., R]](slice[axis=-1, start=O, stop=Q, step=1](?x))",
        class: Exact,
    },
    Rule {
        name: "reshape_twice",
        doc: "Of two reshapes only the last shape counts; none where it is the first one again. Written as a rule because other rules make such pairs.",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("r", Shape("x")),
            ("s", Shape("x")),
        ],
        lhs: "reshape[shape=$s](reshape[shape=$r](?x))",
        rhs: "reshaped[shape=$s](?x)",
        class: Exact,
    },
];
