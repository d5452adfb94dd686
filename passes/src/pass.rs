//! What every pass shares: its context, its error, and the shape of a pass itself.
//!
//! A pass is a function `pub fn run(graph: &Graph, cx: &PassCx) -> Result<Graph, PassError>`. It gets a valid graph and gives a valid graph that
//! means the same within [`PassCx::numerics`].

use crate::cost::{Table, table};
use fuseline_ir::{EvalError, Graph, OpError, ParseError, Value, VerifyError};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The machine that the program is compiled for. Decides costs, never meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Apple GPUs through MLX's Metal backend.
    Metal,
    /// NVIDIA GPUs through MLX's CUDA backend.
    Cuda,
    /// MLX's CPU backend.
    Cpu,
}

impl Target {
    /// Every target.
    pub const ALL: [Target; 3] = [Target::Metal, Target::Cuda, Target::Cpu];

    /// `metal`, `cuda` or `cpu`.
    pub fn name(self) -> &'static str {
        match self {
            Target::Metal => "metal",
            Target::Cuda => "cuda",
            Target::Cpu => "cpu",
        }
    }

    /// How many primitives a fused norm, rotary embedding or attention is. `mlx::fast` has a kernel for each on GPUs and decomposes them on the CPU, into fewer than written out, since
    /// scalars are folded in.
    pub fn fused_primitives(self) -> u64 {
        match self {
            Target::Metal | Target::Cuda => 1,
            Target::Cpu => 4,
        }
    }

    /// Whether a product with matrices that an index chooses takes f16 and bf16.
    pub fn narrow_experts(self) -> bool {
        self != Target::Cpu
    }

    /// Whether a product of f16 or bf16 with a quantised weight is summed in f32, and not in the dtype itself.
    pub fn narrow_quantized(self) -> bool {
        self != Target::Cpu
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(s: &str) -> Result<Target, String> {
        Target::ALL
            .into_iter()
            .find(|t| t.name() == s)
            .ok_or_else(|| format!("`{s}` is no target; there are metal, cuda and cpu"))
    }
}

/// How far the result of a rewrite may lie from the original, as a class of rules and as a bound on them. Ordered from strict to free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Numerics {
    /// Equal bit for bit, except that any NaN equals any other and that −0 equals +0.
    Exact,
    /// Each element within so many units in the last place of its dtype, or nearer to exact arithmetic than the original was.
    Ulps(u32),
    /// Sums and products may be taken in another order or in another precision: within rounding of the sum of the terms' magnitudes. In `f16` no factor leaves a product that it keeps in
    /// range; elsewhere the range of `f32` is taken to have room for three factors, and in every dtype for the terms of a sum in any order.
    /// Where the original gives NaN or leaves the range of its dtype on the way, as in ∞ − ∞ or in a row of scores that is hidden whole, nothing is promised: often it is a number.
    Reassociates,
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Numerics::Exact => f.write_str("exact"),
            Numerics::Ulps(n) => write!(f, "ulps({n})"),
            Numerics::Reassociates => f.write_str("reassociates"),
        }
    }
}

impl FromStr for Numerics {
    type Err = String;
    /// `exact`, `ulps` (any number of them), `ulps(N)` or `reassociate`.
    fn from_str(s: &str) -> Result<Numerics, String> {
        let bound = |n: &str| n.strip_suffix(')')?.parse().ok().map(Numerics::Ulps);
        match s {
            "exact" => Ok(Numerics::Exact),
            "ulps" => Ok(Numerics::Ulps(u32::MAX)),
            "reassociate" | "reassociates" => Ok(Numerics::Reassociates),
            _ => s.strip_prefix("ulps(").and_then(bound).ok_or_else(|| {
                format!(
                    "`{s}` is no class of numerics; there are exact, ulps, ulps(N) and reassociate"
                )
            }),
        }
    }
}

/// Bounds on a saturation. There is no clock among them, so the same graph always stops at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most rounds of search and application.
    pub rounds: usize,
    /// The most e-nodes, as a multiple of the graph's nodes.
    pub growth: usize,
    /// The most e-nodes that are allowed however small the graph is.
    pub nodes: usize,
    /// The most matches of one rule in one round.
    pub matches: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            rounds: 24,
            growth: 6,
            nodes: 2_000,
            matches: 20_000,
        }
    }
}

/// What a pass may know beside the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct PassCx {
    /// Decides costs.
    pub target: Target,
    /// What things cost there: the target's own table, or one that was measured.
    pub costs: Arc<Table>,
    /// The freest class of rules that may fire.
    pub numerics: Numerics,
    /// Bounds on the e-graph.
    pub limits: Limits,
    /// Bytes that weights may fill in floats that stay in few bits in the file: see [`crate::unpack`].
    pub memory_budget: u64,
    /// Other methods of the program have the same weights: how they are laid may not depend on sizes in which methods differ.
    pub shares_weights: bool,
}

impl PassCx {
    /// The target's own table and the default bounds: every class of rules may fire.
    pub fn new(target: Target) -> PassCx {
        PassCx {
            target,
            costs: table(target),
            numerics: Numerics::Reassociates,
            limits: Limits::default(),
            memory_budget: 0,
            shares_weights: false,
        }
    }
}

/// A pass that could not do its work. On a verified graph each of these is a bug of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// An op that the pass built doesn't take its arguments.
    #[error("pass {pass} at {place}: {error}")]
    Op {
        /// The pass.
        pass: &'static str,
        /// The node being rewritten, printed.
        place: String,
        /// What is wrong.
        error: OpError,
    },
    /// The pass left an invalid graph.
    #[error("after pass {pass}: {error}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// The invariant that is broken.
        error: VerifyError,
    },
    /// A rule's row can't be read.
    #[error("rule {rule}, {side}: {error}")]
    Rule {
        /// The rule's name.
        rule: &'static str,
        /// Which text of the row.
        side: &'static str,
        /// What is wrong and where in the text.
        error: ParseError,
    },
    /// An evaluation during compilation failed.
    #[error("pass {pass} at {place}: {error}")]
    Eval {
        /// The pass.
        pass: &'static str,
        /// The node, printed.
        place: String,
        /// What is wrong.
        error: EvalError,
    },
    /// Something that can't be on a valid graph.
    #[error("pass {pass} at {place}: {reason}")]
    Broken {
        /// The pass.
        pass: &'static str,
        /// Where.
        place: String,
        /// What.
        reason: String,
    },
}

impl PassError {
    /// For `map_err`: an op of `pass` that doesn't take its arguments, at `place`.
    pub fn op(pass: &'static str, place: impl Into<String>) -> impl FnOnce(OpError) -> PassError {
        let place = place.into();
        move |error| PassError::Op { pass, place, error }
    }

    /// For `map_err`: an op of `pass` that doesn't take its arguments, where the graph computes `value`. The place is written only if there is an error.
    pub fn at<'a>(
        pass: &'static str,
        graph: &'a Graph,
        value: Value,
    ) -> impl Fn(OpError) -> PassError + Copy + 'a {
        move |error| PassError::Op {
            pass,
            place: graph.describe(value, graph.node(value)),
            error,
        }
    }

    /// Something that can't be on a valid graph.
    pub fn broken(
        pass: &'static str,
        place: impl Into<String>,
        reason: impl Into<String>,
    ) -> PassError {
        PassError::Broken {
            pass,
            place: place.into(),
            reason: reason.into(),
        }
    }
}

/// Verifies the result of `pass`.
///
/// Errors: [`PassError::Verify`].
pub fn verified(pass: &'static str, graph: Graph) -> Result<Graph, PassError> {
    match graph.verify() {
        Ok(()) => Ok(graph),
        Err(error) => Err(PassError::Verify { pass, error }),
    }
}
