//! Rotary embeddings written out: pairs of places, halves apart or neighbours, turned by tables of cosines and sines.

use crate::pass::Numerics::{Exact, Reassociates, Ulps};
use crate::rule::Rule;
use crate::sort::Columns::{self, Halves, Neighbours, Once};
use crate::sort::Elem::{F32, Float, Roomy, Single};
use crate::sort::Range::{Any, Finite};
use crate::sort::Sort::{
    self, Counted, Elements, Equals, Flag, Given, Holds, Listed, Literal, Number, Positions,
    Product, Regroups, RotaryCos, RotarySin, Tensor,
};

/// What is turned, by tables with these columns.
const fn turned(columns: Columns) -> [(&'static str, Sort); 7] {
    [
        ("x", Tensor(Single("T"), "L.. S D")),
        ("D", Equals("2*H")),
        ("cos", tables(columns, true)),
        ("sin", RotarySin),
        ("offset", Given),
        ("freqs", Given),
        ("scale", Given),
    ]
}

/// As [`turned`], by tables that share a factor.
const fn scaled(columns: Columns) -> [(&'static str, Sort); 8] {
    [
        ("x", Tensor(Single("T"), "L.. S D")),
        ("D", Equals("2*H")),
        ("cos", tables(columns, false)),
        ("sin", RotarySin),
        ("offset", Given),
        ("freqs", Given),
        ("scale", Given),
        ("amplitude", Given),
    ]
}

/// The second place of a pair of neighbours.
const BESIDE: (&str, Sort) = ("P", Equals("O + 1"));
/// That of a pair that lies H apart.
const APART_BY_HALF: (&str, Sort) = ("H", Equals("Q - O"));

/// As [`turned`], for R places of x from O on, where the second of the first pair stands at `second`.
const fn turned_part(columns: Columns, second: (&'static str, Sort)) -> [(&'static str, Sort); 8] {
    [
        ("x", Tensor(Single("T"), "L.. S D")),
        second,
        ("R", Equals("2*H")),
        ("cos", tables(columns, true)),
        ("sin", RotarySin),
        ("offset", Given),
        ("freqs", Given),
        ("scale", Given),
    ]
}

/// As [`turned_part`], by tables that share a factor.
const fn scaled_part(columns: Columns, second: (&'static str, Sort)) -> [(&'static str, Sort); 9] {
    [
        ("x", Tensor(Single("T"), "L.. S D")),
        second,
        ("R", Equals("2*H")),
        ("cos", tables(columns, false)),
        ("sin", RotarySin),
        ("offset", Given),
        ("freqs", Given),
        ("scale", Given),
        ("amplitude", Given),
    ]
}

const fn tables(columns: Columns, plain: bool) -> Sort {
    RotaryCos {
        sin: "sin",
        columns,
        plain,
    }
}

/// x·cos + rotate_half(x)·sin.
const BY_HALVES: &str = "add(mul(?x, ?cos), mul(cat[axis=-1](neg(slice[axis=-1, start=H, stop=D, step=1](?x)), slice[axis=-1, start=0, stop=H, step=1](?x)), ?sin))";
/// As [`BY_HALVES`], of R places of x.
const HALVES_OF_PART: &str = "add(mul(slice[axis=-1, start=O, stop=O + 2*H, step=1](?x), ?cos), \
    mul(cat[axis=-1](neg(slice[axis=-1, start=Q, stop=O + 2*H, step=1](?x)), slice[axis=-1, start=O, stop=Q, step=1](?x)), ?sin))";
/// The two halves one by one.
const APART: &str = "cat[axis=-1](\
    sub(mul(slice[axis=-1, start=O, stop=Q, step=1](?x), ?cos), mul(slice[axis=-1, start=Q, stop=O + 2*H, step=1](?x), ?sin)), \
    add(mul(slice[axis=-1, start=Q, stop=O + 2*H, step=1](?x), ?cos), mul(slice[axis=-1, start=O, stop=Q, step=1](?x), ?sin)))";
/// Even and odd places one by one; so does a product of complex numbers.
const PAIRS: &str = "reshape[shape=[L.., S, R]](cat[axis=-1](\
    reshape[shape=[L.., S, H, 1]](sub(mul(slice[axis=-1, start=O, stop=O + 2*H - 1, step=2](?x), ?cos), mul(slice[axis=-1, start=P, stop=O + 2*H, step=2](?x), ?sin))), \
    reshape[shape=[L.., S, H, 1]](add(mul(slice[axis=-1, start=P, stop=O + 2*H, step=2](?x), ?cos), mul(slice[axis=-1, start=O, stop=O + 2*H - 1, step=2](?x), ?sin)))))";
/// x·cos + rotate_neighbours(x)·sin.
const BY_NEIGHBOURS: &str = "add(mul(?x, ?cos), mul(reshape[shape=[L.., S, D]](cat[axis=-1](\
    reshape[shape=[L.., S, H, 1]](neg(slice[axis=-1, start=1, stop=2*H, step=2](?x))), \
    reshape[shape=[L.., S, H, 1]](slice[axis=-1, start=0, stop=2*H - 1, step=2](?x)))), ?sin))";

/// As [`BY_NEIGHBOURS`], of R places of x.
const NEIGHBOURS_OF_PART: &str = "add(mul(slice[axis=-1, start=O, stop=O + 2*H, step=1](?x), ?cos), mul(reshape[shape=[L.., S, R]](cat[axis=-1](\
    reshape[shape=[L.., S, H, 1]](neg(slice[axis=-1, start=P, stop=O + 2*H, step=2](?x))), \
    reshape[shape=[L.., S, H, 1]](slice[axis=-1, start=O, stop=O + 2*H - 1, step=2](?x)))), ?sin))";

/// As [`BY_HALVES`], turned the other way: (b, −a) in the place of (−b, a).
const BACK_BY_HALVES: &str = "add(mul(?x, ?cos), mul(cat[axis=-1](slice[axis=-1, start=H, stop=D, step=1](?x), neg(slice[axis=-1, start=0, stop=H, step=1](?x))), ?sin))";
/// As [`APART`], turned the other way.
const BACK_APART: &str = "cat[axis=-1](\
    add(mul(slice[axis=-1, start=O, stop=Q, step=1](?x), ?cos), mul(slice[axis=-1, start=Q, stop=O + 2*H, step=1](?x), ?sin)), \
    sub(mul(slice[axis=-1, start=Q, stop=O + 2*H, step=1](?x), ?cos), mul(slice[axis=-1, start=O, stop=Q, step=1](?x), ?sin)))";
/// Even places, and behind them odd ones.
const PAIRS_APART: &str = "cat[axis=-1](\
    sub(mul(slice[axis=-1, start=O, stop=O + 2*H - 1, step=2](?x), ?cos), mul(slice[axis=-1, start=P, stop=E, step=2](?x), ?sin)), \
    add(mul(slice[axis=-1, start=P, stop=E, step=2](?x), ?cos), mul(slice[axis=-1, start=O, stop=O + 2*H - 1, step=2](?x), ?sin)))";

const HALVES: &str =
    "rope[dims=D, traditional=false, base=none, scale=$scale](?x, ?offset, ?freqs)";
const HALVES_SCALED: &str = "mul(rope[dims=D, traditional=false, base=none, scale=$scale](?x, ?offset, ?freqs), ?amplitude)";
const TRADITIONAL: &str =
    "rope[dims=D, traditional=true, base=none, scale=$scale](?x, ?offset, ?freqs)";
const TRADITIONAL_SCALED: &str =
    "mul(rope[dims=D, traditional=true, base=none, scale=$scale](?x, ?offset, ?freqs), ?amplitude)";

const HALVES_PART: &str = "rope[dims=R, traditional=false, base=none, scale=$scale](part[start=O, stop=O + 2*H](?x), ?offset, ?freqs)";
const HALVES_PART_SCALED: &str = "mul(rope[dims=R, traditional=false, base=none, scale=$scale](part[start=O, stop=O + 2*H](?x), ?offset, ?freqs), ?amplitude)";
const BACK: &str =
    "rope[dims=D, traditional=false, base=none, scale=$scale*-1](?x, ?offset, ?freqs)";
const BACK_PART: &str = "rope[dims=R, traditional=false, base=none, scale=$scale*-1](part[start=O, stop=O + 2*H](?x), ?offset, ?freqs)";
const TRADITIONAL_PART_APART: &str = "reshape[shape=[L.., S, R]](swapped(reshape[shape=[L.., S, H, 2]](rope[dims=R, traditional=true, base=none, scale=$scale](part[start=O, stop=O + 2*H](?x), ?offset, ?freqs))))";
const TRADITIONAL_PART: &str = "rope[dims=R, traditional=true, base=none, scale=$scale](part[start=O, stop=O + 2*H](?x), ?offset, ?freqs)";
const TRADITIONAL_PART_SCALED: &str = "mul(rope[dims=R, traditional=true, base=none, scale=$scale](part[start=O, stop=O + 2*H](?x), ?offset, ?freqs), ?amplitude)";

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "rope_halves",
        doc: "x·cos + rotate_half(x)·sin, where the tables are provably the cosines and sines of (offset + s)·freqs[j mod D/2] for rows s that count up by one: pairs (j, j + D/2) turned by the \
              angle. The tables' origin doesn't matter, only what they hold. Not where positions are arbitrary data, nor where the tables are scaled.",
        vars: &turned(Halves),
        lhs: BY_HALVES,
        rhs: HALVES,
        class: Reassociates,
    },
    Rule {
        name: "rope_halves_scaled",
        doc: "As `rope_halves`, with tables that share a factor (YaRN, longrope): the factor follows the rotation.",
        vars: &scaled(Halves),
        lhs: BY_HALVES,
        rhs: HALVES_SCALED,
        class: Reassociates,
    },
    Rule {
        name: "rope_apart",
        doc: "As `rope_halves`, with the two halves, of all of x or of a part, computed one by one: (a·cos − b·sin, b·cos + a·sin) with tables of half as many columns.",
        vars: &turned_part(Once, APART_BY_HALF),
        lhs: APART,
        rhs: HALVES_PART,
        class: Reassociates,
    },
    Rule {
        name: "rope_apart_scaled",
        doc: "As `rope_apart`, with tables that share a factor.",
        vars: &scaled_part(Once, APART_BY_HALF),
        lhs: APART,
        rhs: HALVES_PART_SCALED,
        class: Reassociates,
    },
    Rule {
        name: "rope_halves_back",
        doc: "As `rope_halves`, turned the other way, by the negative of each angle.",
        vars: &turned(Halves),
        lhs: BACK_BY_HALVES,
        rhs: BACK,
        class: Reassociates,
    },
    Rule {
        name: "rope_apart_back",
        doc: "As `rope_apart`, turned the other way, by the negative of each angle.",
        vars: &turned_part(Once, APART_BY_HALF),
        lhs: BACK_APART,
        rhs: BACK_PART,
        class: Reassociates,
    },
    Rule {
        name: "rope_pairs_apart",
        doc: "As `rope_pairs`, with the even places first and the odd ones behind them (DeepSeek): two fewer passes over x, and its places in another order afterwards.",
        vars: &[
            ("x", Tensor(Single("T"), "L.. S D")),
            BESIDE,
            ("H", Equals("floordiv(E - O, 2)")),
            ("R", Equals("2*H")),
            ("cos", tables(Once, true)),
            ("sin", RotarySin),
            ("offset", Given),
            ("freqs", Given),
            ("scale", Given),
        ],
        lhs: PAIRS_APART,
        rhs: TRADITIONAL_PART_APART,
        class: Reassociates,
    },
    Rule {
        name: "rope_pairs",
        doc: "Pairs of neighbours (2j, 2j + 1) turned by the angle: even and odd places, of all of x or of a part, computed one by one, or as complex numbers, and put side by side again.",
        vars: &turned_part(Once, BESIDE),
        lhs: PAIRS,
        rhs: TRADITIONAL_PART,
        class: Reassociates,
    },
    Rule {
        name: "rope_pairs_scaled",
        doc: "As `rope_pairs`, with tables that share a factor.",
        vars: &scaled_part(Once, BESIDE),
        lhs: PAIRS,
        rhs: TRADITIONAL_PART_SCALED,
        class: Reassociates,
    },
    Rule {
        name: "rope_neighbours",
        doc: "As `rope_pairs`, with each frequency twice in the tables: x·cos + (−x₁, x₀, −x₃, x₂, …)·sin.",
        vars: &turned(Neighbours),
        lhs: BY_NEIGHBOURS,
        rhs: TRADITIONAL,
        class: Reassociates,
    },
    Rule {
        name: "rope_neighbours_scaled",
        doc: "As `rope_neighbours`, with tables that share a factor.",
        vars: &scaled(Neighbours),
        lhs: BY_NEIGHBOURS,
        rhs: TRADITIONAL_SCALED,
        class: Reassociates,
    },
    Rule {
        name: "rope_neighbours_part",
        doc: "As `rope_neighbours`, for R places of x from O on.",
        vars: &turned_part(Neighbours, BESIDE),
        lhs: NEIGHBOURS_OF_PART,
        rhs: TRADITIONAL_PART,
        class: Reassociates,
    },
    Rule {
        name: "rope_neighbours_part_scaled",
        doc: "As `rope_neighbours_part`, with tables that share a factor.",
        vars: &scaled_part(Neighbours, BESIDE),
        lhs: NEIGHBOURS_OF_PART,
        rhs: TRADITIONAL_PART_SCALED,
        class: Reassociates,
    },
    Rule {
        name: "rope_halves_part",
        doc: "As `rope_halves`, for R places of x from O on.",
        vars: &turned_part(Halves, APART_BY_HALF),
        lhs: HALVES_OF_PART,
        rhs: HALVES_PART,
        class: Reassociates,
    },
    Rule {
        name: "rope_halves_part_scaled",
        doc: "As `rope_halves_part`, with tables that share a factor.",
        vars: &scaled_part(Halves, APART_BY_HALF),
        lhs: HALVES_OF_PART,
        rhs: HALVES_PART_SCALED,
        class: Reassociates,
    },
    Rule {
        name: "rope_apart_partial",
        doc: "As `rope_apart`, for the first R places, with the others as they are: the op leaves the others alone by itself.",
        vars: &[
            ("x", Tensor(Single("T"), "L.. S D")),
            ("R", Equals("2*H")),
            ("cos", tables(Once, true)),
            ("sin", RotarySin),
            ("offset", Given),
            ("freqs", Given),
            ("scale", Given),
        ],
        lhs: "cat[axis=-1](\
              sub(mul(slice[axis=-1, start=0, stop=H, step=1](?x), ?cos), mul(slice[axis=-1, start=H, stop=R, step=1](?x), ?sin)), \
              add(mul(slice[axis=-1, start=H, stop=R, step=1](?x), ?cos), mul(slice[axis=-1, start=0, stop=H, step=1](?x), ?sin)), \
              slice[axis=-1, start=R, stop=D, step=1](?x))",
        rhs: "rope[dims=R, traditional=false, base=none, scale=$scale](?x, ?offset, ?freqs)",
        class: Reassociates,
    },
    Rule {
        name: "rope_partial",
        doc: "A rotation of the first R places, and the others as they are: the op leaves the others alone by itself.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S D")),
            ("offset", Positions("L.. S")),
            ("freqs", Tensor(F32, "H")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Any)),
        ],
        lhs: "cat[axis=-1](rope[dims=R, traditional=$t, base=none, scale=$c](slice[axis=-1, start=0, stop=R, step=1](?x), ?offset, ?freqs), \
              slice[axis=-1, start=R, stop=D, step=1](?x))",
        rhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs)",
        class: Exact,
    },
    Rule {
        name: "pairs_joined",
        doc: "Pairs that get another shape at once are joined in one axis between: the form that the rules about pairs look for, where axes of size 1 made two reshapes one.",
        vars: &[
            ("a", Elements(Float("T"), "L.. N")),
            ("b", Elements(Float("T"), "L.. N")),
            ("R", Equals("2*N")),
            ("M", Regroups("L.. R")),
        ],
        lhs: "reshape[shape=[M..]](cat[axis=-1](reshape[shape=[L.., N, 1]](?a), reshape[shape=[L.., N, 1]](?b)))",
        rhs: "reshaped[shape=[M..]](reshape[shape=[L.., R]](cat[axis=-1](reshape[shape=[L.., N, 1]](?a), reshape[shape=[L.., N, 1]](?b))))",
        class: Exact,
    },
    Rule {
        name: "rope_rows",
        doc: "Rows that all have a position of their own are a batch each of one row: the op takes as many offsets as there are in the batch.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S D")),
            ("offset", Listed("L.. S")),
            ("freqs", Tensor(F32, "H")),
            ("N", Product("L.. S")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Any)),
        ],
        lhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs)",
        rhs: "reshape[shape=[L.., S, D]](rope[dims=R, traditional=$t, base=none, scale=$c](\
              reshape[shape=[N, 1, D]](?x), reshape[shape=[N]](broadcast[shape=[L.., S]](?offset)), ?freqs))",
        class: Exact,
    },
    Rule {
        name: "rope_rows_of_heads",
        doc: "As `rope_rows`, where the heads of one position lie side by side: they are turned together.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S G D")),
            ("offset", Listed("L.. S 1")),
            ("freqs", Tensor(F32, "H")),
            ("N", Product("L.. S")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Any)),
        ],
        lhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs)",
        rhs: "reshape[shape=[L.., S, G, D]](rope[dims=R, traditional=$t, base=none, scale=$c](\
              reshape[shape=[N, G, 1, D]](?x), reshape[shape=[N]](broadcast[shape=[L.., S, 1]](?offset)), ?freqs))",
        class: Exact,
    },
    Rule {
        name: "rope_rows_across",
        doc: "As `rope_rows_of_heads`, where each head has its rows in one place: the axes change places before and after, which is free where something exchanged them before.",
        vars: &[
            ("x", Tensor(Float("T"), "B G S D")),
            ("offset", Listed("B 1 S")),
            ("freqs", Tensor(F32, "H")),
            ("N", Product("B S")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Any)),
        ],
        lhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs)",
        rhs: "transpose[perm=[0, 2, 1, 3]](reshape[shape=[B, S, G, D]](rope[dims=R, traditional=$t, base=none, scale=$c](\
              reshape[shape=[N, G, 1, D]](transpose[perm=[0, 2, 1, 3]](?x)), reshape[shape=[N]](broadcast[shape=[B, 1, S]](?offset)), ?freqs)))",
        class: Exact,
    },
    Rule {
        name: "rope_counted_across",
        doc: "Rows that count up by one along the axis before the heads: the op counts along the second to last axis, so the two change places, which is free where something exchanges them again.",
        vars: &[
            ("x", Tensor(Float("T"), "B S G D")),
            ("p", Counted("B S 1")),
            ("offset", Given),
            ("freqs", Tensor(F32, "H")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Any)),
        ],
        lhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?p, ?freqs)",
        rhs: "transpose[perm=[0, 2, 1, 3]](rope[dims=R, traditional=$t, base=none, scale=$c](transpose[perm=[0, 2, 1, 3]](?x), ?offset, ?freqs))",
        class: Exact,
    },
    Rule {
        name: "rope_of_multiple",
        doc: "A rotation is linear: a factor that is one number follows it, and may be an attention's scale there. Not in f16, where what is turned may be too large without it.",
        vars: &[
            ("x", Tensor(Roomy("T"), "L.. S D")),
            ("a", Number("T", Finite)),
            ("offset", Positions("L.. S")),
            ("freqs", Tensor(F32, "H")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Any)),
        ],
        lhs: "rope[dims=R, traditional=$t, base=none, scale=$c](mul(?x, ?a), ?offset, ?freqs)",
        rhs: "mul(rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs), ?a)",
        class: Reassociates,
    },
    Rule {
        name: "rope_narrow",
        doc: "The fused op computes in f32 whatever it is given, so the casts around it may go.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. S D")),
            ("offset", Positions("L.. S")),
            ("freqs", Tensor(F32, "H")),
            ("R", Equals("2*H")),
            ("t", Flag),
            ("c", Literal(Any)),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](rope[dims=R, traditional=$t, base=none, scale=$c](cast[dtype=U](?x), ?offset, ?freqs))",
        rhs: "rope[dims=R, traditional=$t, base=none, scale=$c](?x, ?offset, ?freqs)",
        class: Ulps(1),
    },
];
