//! Rotary embeddings as Hugging Face's models export them: halves rotated, tables of cosines and sines.

use crate::pass::Numerics::{Exact, Reassociates, Ulps};
use crate::rule::Rule;
use crate::sort::Elem::{F32, Float, Single};
use crate::sort::Range::Finite;
use crate::sort::Sort::{Equals, Flag, Given, Holds, Literal, RotaryCos, RotarySin, Tensor, Whole};

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "rope_halves",
        doc: "x·cos + rotate_half(x)·sin, where the tables are provably the cosines and sines of (offset + s)·freqs[j mod D/2] for rows s that count up by one: pairs (j, j + D/2) turned by the \
              angle. The tables' origin doesn't matter, only what they hold. Not where positions are arbitrary data, nor where the tables are scaled.",
        vars: &[
            ("x", Tensor(Single("T"), "L.. S D")),
            (
                "cos",
                RotaryCos {
                    sin: "sin",
                    plain: true,
                },
            ),
            ("sin", RotarySin),
            ("offset", Given),
            ("freqs", Given),
            ("scale", Given),
            ("D", Equals("2*H")),
        ],
        lhs: "add(mul(?x, ?cos), mul(cat[axis=-1](neg(slice[axis=-1, start=H, stop=D, step=1](?x)), slice[axis=-1, start=0, stop=H, step=1](?x)), ?sin))",
        rhs: "rope[dims=D, traditional=false, base=none, scale=$scale](?x, ?offset, ?freqs)",
        class: Reassociates,
    },
    Rule {
        name: "rope_halves_scaled",
        doc: "As `rope_halves`, with tables that share a factor (YaRN, longrope): the factor follows the rotation.",
        vars: &[
            ("x", Tensor(Single("T"), "L.. S D")),
            (
                "cos",
                RotaryCos {
                    sin: "sin",
                    plain: false,
                },
            ),
            ("sin", RotarySin),
            ("offset", Given),
            ("freqs", Given),
            ("scale", Given),
            ("amplitude", Given),
            ("D", Equals("2*H")),
        ],
        lhs: "add(mul(?x, ?cos), mul(cat[axis=-1](neg(slice[axis=-1, start=H, stop=D, step=1](?x)), slice[axis=-1, start=0, stop=H, step=1](?x)), ?sin))",
        rhs: "mul(rope[dims=D, traditional=false, base=none, scale=$scale](?x, ?offset, ?freqs), ?amplitude)",
        class: Reassociates,
    },
    Rule {
        name: "rope_partial",
        doc: "A rotation of the first R places, and the others as they are: the op leaves the others alone by itself.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S D")),
            ("offset", Whole),
            ("freqs", Tensor(F32, "H")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Finite)),
        ],
        lhs: "cat[axis=-1](rope[dims=R, traditional=$t, base=none, scale=$c](slice[axis=-1, start=0, stop=R, step=1](?x), ?offset, ?freqs), \
              slice[axis=-1, start=R, stop=D, step=1](?x))",
        rhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs)",
        class: Exact,
    },
    Rule {
        name: "rope_narrow",
        doc: "The fused op computes in f32 whatever it is given, so the casts around it may go.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S D")),
            ("offset", Whole),
            ("freqs", Tensor(F32, "H")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Finite)),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](rope[dims=R, traditional=$t, base=none, scale=$c](cast[dtype=U](?x), ?offset, ?freqs))",
        rhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs)",
        class: Ulps(1),
    },
];
