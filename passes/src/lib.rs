//! From a graph to a better graph.
//!
//! A *pass* is a function from a verified graph to a verified graph that means the same, within the numerics that the caller allows. [`PASSES`] names them all;
//! [`optimise`] runs the list that belongs to a level, checks the graph after each one, and says what each did. Nothing here knows a model, MLX, or a file
//! format, and nothing depends on a clock or on the order of a hash table: the same graph gives the same result.
//!
//! What is always better is done by [`canon`], while the graph is rebuilt: identities, merged movements, one spelling for each thing. What is a choice (is this arithmetic a
//! norm? where does a transpose go?) is left to the e-graph, [`saturate`], which holds all spellings at once and extracts the cheapest by the target's cost table.
//!
//! Around it stand passes for what no rule sees, each of which says what it does at its head. Before it: [`ordered`] and [`experts`] (a mixture of experts does no work that it needn't),
//! [`affine`] (scales of channels go into weights), [`positions`] (an index that the host must read is a size from then on). Behind it: [`filled`] (a cache is read as far as it is
//! filled), [`horizontal`] (what several values are computed from one value alike), [`layout`] (transpositions meet), [`unpack`] and [`biases`] (weights in few bits), [`chains`]
//! (elementwise steps stand side by side).
//!
//! [`fold`] evaluates what depends on constants alone where the result is small; the rest of that kind is marked by [`hoist`] and computed once, when the program is
//! loaded. [`decompose`] replaces what the target has no instruction for. At the end [`partition`] decides what runs where.
//!
//! What serves the passes: [`closed_form`], which knows values as functions of their index (a rotary table, a causal mask); [`pattern`], [`matcher`], [`sort`], [`rule`], [`rules`] and
//! [`extract`], the e-graph's parts; [`layers`], which finds layers that are alike, so that one is solved; [`explain`] and [`proof`], which say what was done; [`pass`], the types that
//! all passes share.

pub mod affine;
mod beside;
pub mod biases;
pub mod build;
pub mod canon;
pub mod chains;
pub mod closed_form;
pub mod cost;
pub mod decompose;
pub mod egraph;
pub mod experts;
pub mod explain;
pub mod extract;
pub mod filled;
pub mod fold;
pub mod heads;
pub mod hoist;
pub mod horizontal;
pub mod layers;
pub mod layout;
pub mod leading;
mod masks;
pub mod matcher;
pub mod ordered;
pub mod partition;
pub mod pass;
pub mod pattern;
pub mod pipeline;
pub mod positions;
pub mod proof;
mod regions;
mod rotary;
pub mod rule;
pub mod rules;
pub mod saturate;
pub mod shapes;
pub mod sort;
pub mod sweep;
pub mod tables;
pub mod unpack;

pub use pass::{Limits, Numerics, PassCx, PassError, Target};
pub use pipeline::{Level, PASSES, Pass, PassReport, Report, optimise, run_passes};
