//! Attention written out, and what its fused op does by itself.

use crate::pass::Numerics::{Exact, Reassociates};
use crate::rule::Rule;
use crate::sort::Elem::{Bool, Float};
use crate::sort::Range::{Any, Finite, Hiding, HidingFinite, MinusInfinity};
use crate::sort::Sort;
use crate::sort::Sort::{
    Causal, Equals, Flag, Holds, Literal, Mask, Number, Shape, Spread, Tame, Tensor,
};

const Q: (&str, Sort) = ("q", Tensor(Float("T"), "B H S D"));
const K: (&str, Sort) = ("k", Tensor(Float("T"), "B H D N"));
const V: (&str, Sort) = ("v", Tensor(Float("T"), "B H N E"));
const SCALE: (&str, Sort) = ("c", Number("T", Finite));

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "sdpa",
        doc: "softmax(c · q kᵀ) v.",
        vars: &[Q, K, V, SCALE],
        lhs: "matmul(softmax[axis=-1](mul(matmul(?q, ?k), ?c)), ?v)",
        rhs: "sdpa[scale=?c, causal=false](?q, swapped(?k), ?v)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_unscaled",
        doc: "softmax(q kᵀ) v: the scale is 1.",
        vars: &[Q, K, V],
        lhs: "matmul(softmax[axis=-1](matmul(?q, ?k)), ?v)",
        rhs: "sdpa[scale=1.0, causal=false](?q, swapped(?k), ?v)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_added",
        doc: "softmax(c · q kᵀ + m) v. A row of −∞ alone is NaN when written out and 0 from the op; a mask that hides a whole row has no meaning.",
        vars: &[Q, K, V, SCALE, ("m", Mask(Float("T"), "B H S N"))],
        lhs: "matmul(softmax[axis=-1](add(mul(matmul(?q, ?k), ?c), ?m)), ?v)",
        rhs: "sdpa[scale=?c, causal=false](?q, swapped(?k), ?v, ?m)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_unscaled_added",
        doc: "softmax(q kᵀ + m) v: the scale is 1, as in T5, or is in q already.",
        vars: &[Q, K, V, ("m", Mask(Float("T"), "B H S N"))],
        lhs: "matmul(softmax[axis=-1](add(matmul(?q, ?k), ?m)), ?v)",
        rhs: "sdpa[scale=1.0, causal=false](?q, swapped(?k), ?v, ?m)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_chosen",
        doc: "softmax(where(m, c · q kᵀ, −∞)) v: a key is seen where the mask holds.",
        vars: &[
            Q,
            K,
            V,
            SCALE,
            ("m", Mask(Bool, "B H S N")),
            ("n", Number("T", MinusInfinity)),
        ],
        lhs: "matmul(softmax[axis=-1](where(?m, mul(matmul(?q, ?k), ?c), ?n)), ?v)",
        rhs: "sdpa[scale=?c, causal=false](?q, swapped(?k), ?v, ?m)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_chosen_finite",
        doc: "As `sdpa_chosen`, with a very low number in place of −∞. It is added instead of chosen: beside it a score is nothing, and a row that is hidden whole stays uniform. Scores are taken to be finite.",
        vars: &[
            ("q", Tame(Float("T"), "B H S D")),
            ("k", Tame(Float("T"), "B H D N")),
            V,
            SCALE,
            ("m", Spread(Bool, "B H S N")),
            ("n", Number("T", HidingFinite)),
        ],
        lhs: "matmul(softmax[axis=-1](where(?m, mul(matmul(?q, ?k), ?c), ?n)), ?v)",
        rhs: "sdpa[scale=?c, causal=false](?q, swapped(?k), ?v, where(?m, zero_of(?n), ?n))",
        class: Reassociates,
    },
    Rule {
        name: "hidden_turned",
        doc: "What is hidden where a condition holds is chosen by the opposite condition: the order that the attention rules look for.",
        vars: &[
            ("s", Tensor(Float("T"), "L..")),
            ("m", Spread(Bool, "L..")),
            ("n", Number("T", Hiding)),
        ],
        lhs: "where(?m, ?n, ?s)",
        rhs: "where(logical_not(?m), ?s, ?n)",
        class: Exact,
    },
    Rule {
        name: "hidden_added",
        doc: "What adds 0 or −∞ chooses between the score and −∞. A score of +∞ where −∞ is added is no number, and nothing is promised.",
        vars: &[
            ("s", Tensor(Float("T"), "L..")),
            ("m", Spread(Bool, "L..")),
            ("n", Number("T", MinusInfinity)),
        ],
        lhs: "add(?s, where(?m, 0, ?n))",
        rhs: "where(?m, ?s, ?n)",
        class: Reassociates,
    },
    Rule {
        name: "not_reshaped",
        doc: "What is negated under one shape and again under another is the same under the other shape.",
        vars: &[("m", Tensor(Bool, "L..")), ("s", Shape("m"))],
        lhs: "logical_not(reshape[shape=$s](logical_not(?m)))",
        rhs: "reshape[shape=$s](?m)",
        class: Exact,
    },
    Rule {
        name: "masks_meet",
        doc: "Two masks, or a mask and a position bias, added to scores one after the other are one mask; their sum serves every layer.",
        vars: &[
            ("s", Tensor(Float("T"), "B H S N")),
            ("m", Mask(Float("T"), "B H S N")),
            ("n", Mask(Float("T"), "B H S N")),
        ],
        lhs: "softmax[axis=-1](add(add(?s, ?m), ?n))",
        rhs: "softmax[axis=-1](add(?s, add(?m, ?n)))",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_mask_chosen",
        doc: "A mask that adds 0 or −∞ is the condition that chooses between them. Not for finite numbers, which leave a hidden row uniform.",
        vars: &[
            ("q", Tensor(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B J N D")),
            ("v", Tensor(Float("T"), "B J N E")),
            ("m", Spread(Bool, "B H S N")),
            ("n", Number("T", MinusInfinity)),
            ("c", Literal(Any)),
            ("o", Flag),
        ],
        lhs: "sdpa[scale=$c, causal=$o](?q, ?k, ?v, where(?m, 0, ?n))",
        rhs: "sdpa[scale=$c, causal=$o](?q, ?k, ?v, ?m)",
        class: Exact,
    },
    Rule {
        name: "mask_reshaped",
        doc: "A choice between two numbers may get its shape before it is made: a mask that is 0 or −∞ got its axes late.",
        vars: &[
            ("m", Tensor(Bool, "L..")),
            ("a", Number("T", Finite)),
            ("n", Number("T", MinusInfinity)),
            ("s", Shape("m")),
        ],
        lhs: "reshape[shape=$s](where(?m, ?a, ?n))",
        rhs: "where(reshape[shape=$s](?m), ?a, ?n)",
        class: Exact,
    },
    Rule {
        name: "sdpa_sink",
        doc: "softmax over scores and one more for each head (a sink), whose weight then falls away: attention with a further key and value of zeros, for which the mask holds the sink. Queries are taken to be finite: their product with the key of zeros must be 0.",
        vars: &[
            ("q", Tame(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B H D N")),
            ("v", Tensor(Float("T"), "B H N E")),
            ("c", Number("T", Finite)),
            ("m", Spread(Float("T"), "B H S N")),
            ("w", Tame(Float("T"), "B H S 1")),
        ],
        lhs: "matmul(slice[axis=-1, start=0, stop=N, step=1](softmax[axis=-1](cat[axis=-1](add(mul(matmul(?q, ?k), ?c), ?m), ?w))), ?v)",
        rhs: "sdpa[scale=?c, causal=false](?q, cat[axis=2](swapped(?k), broadcast[shape=[B, H, 1, D]](zero_of(?c))), \
              cat[axis=2](?v, broadcast[shape=[B, H, 1, E]](zero_of(?c))), cat[axis=3](broadcast[shape=[B, H, S, N]](?m), ?w))",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_sink_shared",
        doc: "As `sdpa_sink`, where keys and values were repeated for groups of query heads, which the op does by itself.",
        vars: &[
            ("q", Tame(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B J N D")),
            ("v", Tensor(Float("T"), "B J N E")),
            ("c", Number("T", Finite)),
            ("m", Spread(Float("T"), "B H S N")),
            ("w", Tame(Float("T"), "B H S 1")),
            ("H", Equals("J*R")),
        ],
        lhs: "matmul(slice[axis=-1, start=0, stop=N, step=1](softmax[axis=-1](cat[axis=-1](add(mul(matmul(?q, \
              transpose[perm=[0, 1, 3, 2]](reshape[shape=[B, J*R, N, D]](broadcast[shape=[B, J, R, N, D]](reshape[shape=[B, J, 1, N, D]](?k))))), ?c), ?m), ?w))), \
              reshape[shape=[B, J*R, N, E]](broadcast[shape=[B, J, R, N, E]](reshape[shape=[B, J, 1, N, E]](?v))))",
        rhs: "sdpa[scale=?c, causal=false](?q, cat[axis=2](?k, broadcast[shape=[B, J, 1, D]](zero_of(?c))), \
              cat[axis=2](?v, broadcast[shape=[B, J, 1, E]](zero_of(?c))), cat[axis=3](broadcast[shape=[B, H, S, N]](?m), ?w))",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_safe",
        doc: "Core ATen guards its softmax: a row whose scores are all −∞ gives zeros, and so does the op.",
        vars: &[Q, K, V, SCALE, ("m", Spread(Float("T"), "B H S N"))],
        lhs: "matmul(where(any[axes=[-1], keepdim=true](ne(add(mul(matmul(?q, ?k), ?c), ?m), -inf)), softmax[axis=-1](add(mul(matmul(?q, ?k), ?c), ?m)), 0), ?v)",
        rhs: "sdpa[scale=?c, causal=false](?q, swapped(?k), ?v, ?m)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_safe_unscaled",
        doc: "As `sdpa_safe`, with a scale of 1.",
        vars: &[Q, K, V, ("m", Spread(Float("T"), "B H S N"))],
        lhs: "matmul(where(any[axes=[-1], keepdim=true](ne(add(matmul(?q, ?k), ?m), -inf)), softmax[axis=-1](add(matmul(?q, ?k), ?m)), 0), ?v)",
        rhs: "sdpa[scale=1.0, causal=false](?q, swapped(?k), ?v, ?m)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_safe_open",
        doc: "As `sdpa_safe`, without a mask.",
        vars: &[Q, K, V, SCALE],
        lhs: "matmul(where(any[axes=[-1], keepdim=true](ne(mul(matmul(?q, ?k), ?c), -inf)), softmax[axis=-1](mul(matmul(?q, ?k), ?c)), 0), ?v)",
        rhs: "sdpa[scale=?c, causal=false](?q, swapped(?k), ?v)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_safe_unscaled_open",
        doc: "As `sdpa_safe`, without a mask and with a scale of 1.",
        vars: &[Q, K, V],
        lhs: "matmul(where(any[axes=[-1], keepdim=true](ne(matmul(?q, ?k), -inf)), softmax[axis=-1](matmul(?q, ?k)), 0), ?v)",
        rhs: "sdpa[scale=1.0, causal=false](?q, swapped(?k), ?v)",
        class: Reassociates,
    },
    Rule {
        name: "shared_by_heads",
        doc: "A matrix that a product shares among all heads is one for each head: the form that the attention rules look for, and which the op then shares by itself.",
        vars: &[
            ("a", Tensor(Float("T"), "B H S D")),
            ("b", Tensor(Float("T"), "B 1 D N")),
        ],
        lhs: "matmul(?a, ?b)",
        rhs: "matmul(?a, broadcast[shape=[B, H, D, N]](?b))",
        class: Exact,
    },
    Rule {
        name: "sdpa_narrow",
        doc: "The fused op computes in f32 whatever it is given, so the casts around it may go.",
        vars: &[
            ("q", Tensor(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B J N D")),
            ("v", Tensor(Float("T"), "B J N E")),
            ("c", Literal(Any)),
            ("o", Flag),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](sdpa[scale=$c, causal=$o](cast[dtype=U](?q), cast[dtype=U](?k), cast[dtype=U](?v)))",
        rhs: "sdpa[scale=$c, causal=$o](?q, ?k, ?v)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_narrow_chosen",
        doc: "As `sdpa_narrow`, with a mask of truth values.",
        vars: &[
            ("q", Tensor(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B J N D")),
            ("v", Tensor(Float("T"), "B J N E")),
            ("m", Mask(Bool, "B H S N")),
            ("c", Literal(Any)),
            ("o", Flag),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](sdpa[scale=$c, causal=$o](cast[dtype=U](?q), cast[dtype=U](?k), cast[dtype=U](?v), ?m))",
        rhs: "sdpa[scale=$c, causal=$o](?q, ?k, ?v, ?m)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_narrow_added",
        doc: "As `sdpa_narrow`, with a mask that was as narrow.",
        vars: &[
            ("q", Tensor(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B J N D")),
            ("v", Tensor(Float("T"), "B J N E")),
            ("m", Spread(Float("T"), "B H S N")),
            ("c", Literal(Any)),
            ("o", Flag),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](sdpa[scale=$c, causal=$o](cast[dtype=U](?q), cast[dtype=U](?k), cast[dtype=U](?v), cast[dtype=U](?m)))",
        rhs: "sdpa[scale=$c, causal=$o](?q, ?k, ?v, ?m)",
        class: Reassociates,
    },
    Rule {
        name: "sdpa_repeated_heads",
        doc: "Keys and values repeated so that each query head has its own: the op shares them among a group of heads by itself.",
        vars: &[
            ("q", Tensor(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B J N D")),
            ("v", Tensor(Float("T"), "B J N E")),
            ("c", Literal(Any)),
            ("o", Flag),
            ("H", Equals("J*R")),
        ],
        lhs: "sdpa[scale=$c, causal=$o](?q, reshape[shape=[B, J*R, N, D]](broadcast[shape=[B, J, R, N, D]](reshape[shape=[B, J, 1, N, D]](?k))), \
              reshape[shape=[B, J*R, N, E]](broadcast[shape=[B, J, R, N, E]](reshape[shape=[B, J, 1, N, E]](?v))), ?m*)",
        rhs: "sdpa[scale=$c, causal=$o](?q, ?k, ?v, ?m*)",
        class: Exact,
    },
    Rule {
        name: "sdpa_shared_head",
        doc: "One head of keys and values, repeated for every query head (Gemma's multi-query attention): the op shares it by itself.",
        vars: &[
            ("q", Tensor(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B 1 N D")),
            ("v", Tensor(Float("T"), "B 1 N E")),
            ("c", Literal(Any)),
            ("o", Flag),
        ],
        lhs: "sdpa[scale=$c, causal=$o](?q, broadcast[shape=[B, H, N, D]](?k), broadcast[shape=[B, H, N, E]](?v), ?m*)",
        rhs: "sdpa[scale=$c, causal=$o](?q, ?k, ?v, ?m*)",
        class: Exact,
    },
    Rule {
        name: "sdpa_causal",
        doc: "A mask that lets query i see the keys up to i + N − S is what the op calls causal, and needs no array. Not for a cache of a fixed length, whose last row isn't the newest.",
        vars: &[
            ("q", Tensor(Float("T"), "B H S D")),
            ("k", Tensor(Float("T"), "B J N D")),
            ("v", Tensor(Float("T"), "B J N E")),
            ("m", Causal),
            ("c", Literal(Any)),
        ],
        lhs: "sdpa[scale=$c, causal=false](?q, ?k, ?v, ?m)",
        rhs: "sdpa[scale=$c, causal=true](?q, ?k, ?v)",
        class: Exact,
    },
];
