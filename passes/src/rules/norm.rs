//! Norms, recovered from their arithmetic in small steps: the core, then a centre, a weight, a bias, a cast around it.

use crate::pass::Numerics::{Reassociates, Ulps};
use crate::rule::Rule;
use crate::sort::Elem::Float;
use crate::sort::Range::{Any, Positive};
use crate::sort::Sort::{Holds, Literal, Number, Share, Tame, Tensor, Vector};

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "rsqrt_of_reciprocal",
        doc: "1/√y in one op.",
        vars: &[("y", Tensor(Float("T"), "L.."))],
        lhs: "reciprocal(sqrt(?y))",
        rhs: "rsqrt(?y)",
        class: Ulps(2),
    },
    Rule {
        name: "rsqrt_of_quotient",
        doc: "x/√y is x · (1/√y).",
        vars: &[
            ("x", Tensor(Float("T"), "L..")),
            ("y", Tensor(Float("T"), "M..")),
        ],
        lhs: "div(?x, sqrt(?y))",
        rhs: "mul(?x, rsqrt(?y))",
        class: Ulps(2),
    },
    Rule {
        name: "rms_norm",
        doc: "x / √(mean(x²) + eps) over the last axis. The fused op squares and sums in f32 at least, so a narrow dtype gets nearer to exact arithmetic. Not where eps is unknown or not \
              positive, nor over another axis.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("eps", Number("T", Positive)),
        ],
        lhs: "mul(?x, rsqrt(add(mean[axes=[-1], keepdim=true](square(?x)), ?eps)))",
        rhs: "rms_norm[eps=?eps](?x)",
        class: Reassociates,
    },
    Rule {
        name: "rms_norm_weight_first",
        doc: "As `rms_norm`, where the weight meets x before the root does.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("w", Vector("T", "D")),
            ("eps", Number("T", Positive)),
        ],
        lhs: "mul(mul(?x, ?w), rsqrt(add(mean[axes=[-1], keepdim=true](square(?x)), ?eps)))",
        rhs: "rms_norm[eps=?eps](?x, vector(?w))",
        class: Reassociates,
    },
    Rule {
        name: "mean_of_sum",
        doc: "A sum over D places times 1/D is their mean.",
        vars: &[("x", Tensor(Float("T"), "L.. D")), ("c", Share("T", "D"))],
        lhs: "mul(sum[axes=[-1], keepdim=true](?x), ?c)",
        rhs: "mean[axes=[-1], keepdim=true](?x)",
        class: Reassociates,
    },
    Rule {
        name: "square_of_root",
        doc: "(√x)² is x, as in a vector's length squared. Below 0 it is no number, and nothing is promised.",
        vars: &[("x", Tensor(Float("T"), "L.."))],
        lhs: "square(sqrt(?x))",
        rhs: "?x",
        class: Reassociates,
    },
    Rule {
        name: "variance",
        doc: "mean(x²) − mean(x)² is the mean of the squares of x − mean(x), which loses no digits.",
        vars: &[("x", Tensor(Float("T"), "L.. D"))],
        lhs: "sub(mean[axes=[-1], keepdim=true](square(?x)), square(mean[axes=[-1], keepdim=true](?x)))",
        rhs: "mean[axes=[-1], keepdim=true](square(sub(?x, mean[axes=[-1], keepdim=true](?x))))",
        class: Reassociates,
    },
    Rule {
        name: "rms_norm_weight",
        doc: "A factor for each place along the last axis is the norm's weight. Not a factor that varies along other axes.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("w", Vector("T", "D")),
            ("e", Literal(Any)),
        ],
        lhs: "mul(rms_norm[eps=$e](?x), ?w)",
        rhs: "rms_norm[eps=$e](?x, vector(?w))",
        class: Ulps(2),
    },
    Rule {
        name: "rms_norm_narrow",
        doc: "The fused op computes in f32 whatever it is given, so the casts around it may go. Not where the input is wider than the casts' middle.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("e", Literal(Any)),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](rms_norm[eps=$e](cast[dtype=U](?x)))",
        rhs: "rms_norm[eps=$e](?x)",
        class: Ulps(1),
    },
    Rule {
        name: "rms_norm_narrow_weight",
        doc: "As without a weight; the weight is rounded to the narrow dtype, once, when it is a constant (Gemma's 1 + w).",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("w", Tensor(Float("U"), "D")),
            ("e", Literal(Any)),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](rms_norm[eps=$e](cast[dtype=U](?x), ?w))",
        rhs: "rms_norm[eps=$e](?x, cast[dtype=T](?w))",
        class: Ulps(2),
    },
    Rule {
        name: "layer_norm",
        doc: "The root-mean-square norm of x − mean(x) is the layer norm of x: the mean of the squares of what is centred is the variance.",
        vars: &[("x", Tensor(Float("T"), "L.. D")), ("e", Literal(Any))],
        lhs: "rms_norm[eps=$e](sub(?x, mean[axes=[-1], keepdim=true](?x)))",
        rhs: "layer_norm[eps=$e](?x)",
        class: Reassociates,
    },
    Rule {
        name: "layer_norm_centred_weight",
        doc: "As `layer_norm`, where the weight was recognised first.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("w", Tensor(Float("T"), "D")),
            ("e", Literal(Any)),
        ],
        lhs: "rms_norm[eps=$e](sub(?x, mean[axes=[-1], keepdim=true](?x)), ?w)",
        rhs: "layer_norm[eps=$e](?x, ?w)",
        class: Reassociates,
    },
    Rule {
        name: "layer_norm_weight",
        doc: "A factor for each place along the last axis is the norm's weight. Not where the norm has a bias already.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("w", Vector("T", "D")),
            ("e", Literal(Any)),
        ],
        lhs: "mul(layer_norm[eps=$e](?x), ?w)",
        rhs: "layer_norm[eps=$e](?x, vector(?w))",
        class: Ulps(2),
    },
    Rule {
        name: "layer_norm_bias",
        doc: "A term for each place along the last axis, added to a weighted norm, is its bias. A norm without a weight has no place for one.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("w", Tensor(Float("T"), "D")),
            ("b", Vector("T", "D")),
            ("e", Literal(Any)),
        ],
        lhs: "add(layer_norm[eps=$e](?x, ?w), ?b)",
        rhs: "layer_norm[eps=$e](?x, ?w, vector(?b))",
        class: Reassociates,
    },
    Rule {
        name: "layer_norm_narrow",
        doc: "The fused op computes in f32 whatever it is given, so the casts around it may go.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("e", Literal(Any)),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](layer_norm[eps=$e](cast[dtype=U](?x)))",
        rhs: "layer_norm[eps=$e](?x)",
        class: Ulps(1),
    },
    Rule {
        name: "layer_norm_narrow_weights",
        doc: "As without weights; the weights are rounded to the narrow dtype.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. D")),
            ("w", Tensor(Float("U"), "D")),
            ("b", Tensor(Float("U"), "D")),
            ("e", Literal(Any)),
            ("U", Holds("T")),
        ],
        lhs: "cast[dtype=T](layer_norm[eps=$e](cast[dtype=U](?x), ?w, ?b))",
        rhs: "layer_norm[eps=$e](?x, cast[dtype=T](?w), cast[dtype=T](?b))",
        class: Reassociates,
    },
    Rule {
        name: "softmax",
        doc: "eˣ over its sum, with the largest x taken off first. A row of −∞ alone has no meaning.",
        vars: &[("x", Tensor(Float("T"), "L.. D"))],
        lhs: "div(exp(sub(?x, amax[axes=[-1], keepdim=true](?x))), sum[axes=[-1], keepdim=true](exp(sub(?x, amax[axes=[-1], keepdim=true](?x)))))",
        rhs: "softmax[axis=-1](?x)",
        class: Reassociates,
    },
    Rule {
        name: "softmax_of_logarithm",
        doc: "The exponential of x less the logarithm of the sum of eˣ, as `log_softmax` and `logsumexp` give it. What is taken off before the sum is any number of a row.",
        vars: &[
            ("x", Tame(Float("T"), "L.. D")),
            ("m", Tame(Float("T"), "L.. 1")),
        ],
        lhs: "exp(sub(?x, add(?m, log(sum[axes=[-1], keepdim=true](exp(sub(?x, ?m)))))))",
        rhs: "softmax[axis=-1](?x)",
        class: Reassociates,
    },
    Rule {
        name: "softmax_shifted",
        doc: "Taking the largest element of a row off it doesn't change its softmax, which does so itself.",
        vars: &[("x", Tensor(Float("T"), "L.. D"))],
        lhs: "softmax[axis=-1](sub(?x, amax[axes=[-1], keepdim=true](?x)))",
        rhs: "softmax[axis=-1](?x)",
        class: Reassociates,
    },
    Rule {
        name: "softmax_narrow",
        doc: "The fused op computes in f32 whatever it is given, so the casts around it may go.",
        vars: &[("x", Tensor(Float("T"), "L.. D")), ("U", Holds("T"))],
        lhs: "cast[dtype=T](softmax[axis=-1](cast[dtype=U](?x)))",
        rhs: "softmax[axis=-1](?x)",
        class: Ulps(1),
    },
    Rule {
        name: "cast_round_trip",
        doc: "A wider dtype and back again changes nothing. Written as a rule because other rules make such pairs.",
        vars: &[("x", Tensor(Float("T"), "L..")), ("U", Holds("T"))],
        lhs: "cast[dtype=T](cast[dtype=U](?x))",
        rhs: "?x",
        class: crate::pass::Numerics::Exact,
    },
];
