//! Norms over other axes than the last one: over channels that stand in front of rows and columns, and over several axes at once.

use crate::pass::Numerics::{Reassociates, Ulps};
use crate::rule::Rule;
use crate::sort::Elem::Float;
use crate::sort::Range::{Any, Positive};
use crate::sort::Sort::{Channels, Literal, Number, Product, Tensor};

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "rms_norm_channels",
        doc: "As `rms_norm`, over the channels of images that have them in front of their rows: the fused op has them last.",
        vars: &[
            ("x", Tensor(Float("T"), "N C H W")),
            ("eps", Number("T", Positive)),
        ],
        lhs: "mul(?x, rsqrt(add(mean[axes=[1], keepdim=true](square(?x)), ?eps)))",
        rhs: "transpose[perm=[0, 3, 1, 2]](rms_norm[eps=?eps](transpose[perm=[0, 2, 3, 1]](?x)))",
        class: Reassociates,
    },
    Rule {
        name: "layer_norm_channels",
        doc: "As `layer_norm`, over channels.",
        vars: &[("x", Tensor(Float("T"), "N C H W")), ("e", Literal(Any))],
        lhs: "rms_norm[eps=$e](transpose[perm=[0, 2, 3, 1]](sub(?x, mean[axes=[1], keepdim=true](?x))))",
        rhs: "layer_norm[eps=$e](transpose[perm=[0, 2, 3, 1]](?x))",
        class: Reassociates,
    },
    Rule {
        name: "rms_norm_channels_weight",
        doc: "A factor for each channel is the norm's weight.",
        vars: &[
            ("x", Tensor(Float("T"), "N H W C")),
            ("w", Channels("T", "C")),
            ("e", Literal(Any)),
        ],
        lhs: "mul(transpose[perm=[0, 3, 1, 2]](rms_norm[eps=$e](?x)), ?w)",
        rhs: "transpose[perm=[0, 3, 1, 2]](rms_norm[eps=$e](?x, reshaped[shape=[C]](?w)))",
        class: Ulps(2),
    },
    Rule {
        name: "layer_norm_channels_weight",
        doc: "A factor for each channel is the norm's weight.",
        vars: &[
            ("x", Tensor(Float("T"), "N H W C")),
            ("w", Channels("T", "C")),
            ("e", Literal(Any)),
        ],
        lhs: "mul(transpose[perm=[0, 3, 1, 2]](layer_norm[eps=$e](?x)), ?w)",
        rhs: "transpose[perm=[0, 3, 1, 2]](layer_norm[eps=$e](?x, reshaped[shape=[C]](?w)))",
        class: Ulps(2),
    },
    Rule {
        name: "layer_norm_channels_bias",
        doc: "A term for each channel, added to a weighted norm, is its bias.",
        vars: &[
            ("x", Tensor(Float("T"), "N H W C")),
            ("v", Tensor(Float("T"), "C")),
            ("b", Channels("T", "C")),
            ("e", Literal(Any)),
        ],
        lhs: "add(transpose[perm=[0, 3, 1, 2]](layer_norm[eps=$e](?x, ?v)), ?b)",
        rhs: "transpose[perm=[0, 3, 1, 2]](layer_norm[eps=$e](?x, ?v, reshaped[shape=[C]](?b)))",
        class: Reassociates,
    },
    Rule {
        name: "rms_norm_plane",
        doc: "As `rms_norm`, over the last two axes, as norms of groups of channels and of images have it: they become one.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. A B")),
            ("eps", Number("T", Positive)),
            ("P", Product("A B")),
        ],
        lhs: "mul(?x, rsqrt(add(mean[axes=[-2, -1], keepdim=true](square(?x)), ?eps)))",
        rhs: "reshape[shape=[L.., A, B]](rms_norm[eps=?eps](reshape[shape=[L.., P]](?x)))",
        class: Reassociates,
    },
    Rule {
        name: "layer_norm_plane",
        doc: "As `layer_norm`, over the last two axes.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. A B")),
            ("e", Literal(Any)),
            ("P", Product("A B")),
        ],
        lhs: "rms_norm[eps=$e](reshape[shape=[L.., P]](sub(?x, mean[axes=[-2, -1], keepdim=true](?x))))",
        rhs: "layer_norm[eps=$e](reshape[shape=[L.., P]](?x))",
        class: Reassociates,
    },
    Rule {
        name: "rms_norm_block",
        doc: "As `rms_norm`, over the last three axes, as norms of groups of channels and of images have it: they become one.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. A B C")),
            ("eps", Number("T", Positive)),
            ("P", Product("A B C")),
        ],
        lhs: "mul(?x, rsqrt(add(mean[axes=[-3, -2, -1], keepdim=true](square(?x)), ?eps)))",
        rhs: "reshape[shape=[L.., A, B, C]](rms_norm[eps=?eps](reshape[shape=[L.., P]](?x)))",
        class: Reassociates,
    },
    Rule {
        name: "layer_norm_block",
        doc: "As `layer_norm`, over the last three axes.",
        vars: &[
            ("x", Tensor(Float("T"), "L.. A B C")),
            ("e", Literal(Any)),
            ("P", Product("A B C")),
        ],
        lhs: "rms_norm[eps=$e](reshape[shape=[L.., P]](sub(?x, mean[axes=[-3, -2, -1], keepdim=true](?x))))",
        rhs: "layer_norm[eps=$e](reshape[shape=[L.., P]](?x))",
        class: Reassociates,
    },
];
