//! The table of passes, the lists that make up the levels, and the loop that runs them.

use crate::pass::{PassCx, PassError};
use crate::{
    affine, biases, canon, chains, decompose, experts, filled, fold, horizontal, layout, ordered,
    positions, saturate, unpack,
};
use fuseline_ir::Graph;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A row of the table of passes.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What it does, in a line.
    pub doc: &'static str,
    run: fn(&Graph, &PassCx, &mut Report) -> Result<Done, PassError>,
}

/// What a pass leaves.
struct Done {
    graph: Graph,
    /// Nodes of the e-graph, where there was one.
    e_nodes: usize,
    /// Layers that were solved as one.
    layers: usize,
}

impl From<Graph> for Done {
    fn from(graph: Graph) -> Done {
        Done {
            graph,
            e_nodes: 0,
            layers: 0,
        }
    }
}

/// Every pass.
pub const PASSES: &[Pass] = &[
    Pass {
        name: canon::NAME,
        doc: "rewrites that are always better, equal values shared, dead ones dropped",
        run: |graph, cx, _| canon::run(graph, cx).map(Done::from),
    },
    Pass {
        name: fold::NAME,
        doc: "small values that depend on constants alone are computed",
        run: |graph, cx, _| fold::run(graph, cx).map(Done::from),
    },
    Pass {
        name: ordered::NAME,
        doc: "rows that are put in an order for experts, and back again, are left where they are",
        run: |graph, cx, _| ordered::run(graph, cx).map(Done::from),
    },
    Pass {
        name: experts::NAME,
        doc: "where every token goes through every expert and few count, it goes through those that it chose, and products with copies of chosen matrices take them where they are, if the target's costs say that it pays",
        run: |graph, cx, _| experts::run(graph, cx).map(Done::from),
    },
    Pass {
        name: affine::NAME,
        doc: "what a convolution's or product's channels are multiplied by goes into its weights, what is added to them is one summand",
        run: |graph, cx, _| affine::run(graph, cx).map(Done::from),
    },
    Pass {
        name: positions::NAME,
        doc: "positions that the host must know are read once, and are sizes from then on",
        run: |graph, cx, _| positions::run(graph, cx).map(Done::from),
    },
    Pass {
        name: "saturate",
        doc: "every rule to a fixed point in an e-graph, and the cheapest graph for the target out of it",
        run: saturated,
    },
    Pass {
        name: filled::NAME,
        doc: "attention reads the keys that some query can see, and no mask where none is needed",
        run: |graph, cx, _| filled::run(graph, cx).map(Done::from),
    },
    Pass {
        name: horizontal::NAME,
        doc: "products of one value, and what follows all their parts, become one where the target's costs say that it pays",
        run: |graph, cx, _| horizontal::run(graph, cx).map(Done::from),
    },
    Pass {
        name: layout::NAME,
        doc: "transpositions that steps lie between which don't care how axes lie meet and cancel",
        run: |graph, cx, _| layout::run(graph, cx).map(Done::from),
    },
    Pass {
        name: unpack::NAME,
        doc: "within a budget of memory, products with quantised weights become products of floats where the target's costs say that it pays",
        run: |graph, cx, _| unpack::run(graph, cx).map(Done::from),
    },
    Pass {
        name: biases::NAME,
        doc: "biases of quantised weights that follow from their scales are computed when the program is loaded",
        run: |graph, cx, _| biases::run(graph, cx).map(Done::from),
    },
    Pass {
        name: "decompose",
        doc: "ops that the target has no instruction for become ops that it has",
        run: |graph, cx, _| decompose::run(graph, cx).map(Done::from),
    },
    Pass {
        name: chains::NAME,
        doc: "steps that go over elements one by one stand side by side",
        run: |graph, cx, _| chains::run(graph, cx).map(Done::from),
    },
];

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only what the target needs.
    O0,
    /// Canonical form and constant folding.
    O1,
    /// Equality saturation as well.
    O2,
}

impl Level {
    /// Every level, the least effort first.
    pub const ALL: [Level; 3] = [Level::O0, Level::O1, Level::O2];

    /// The names of the passes that the level runs, in order.
    pub fn passes(self) -> &'static [&'static str] {
        match self {
            Level::O0 => &["decompose"],
            Level::O1 => &["canon", "fold", "canon", "decompose", "canon"],
            Level::O2 => &[
                "canon",
                "fold",
                "canon",
                "ordered",
                "experts",
                "affine",
                "positions",
                "canon",
                "saturate",
                "filled",
                "canon",
                "horizontal",
                "layout",
                "canon",
                "horizontal",
                "unpack",
                "biases",
                "decompose",
                "fold",
                "canon",
                "chains",
            ],
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::O0 => "O0",
            Level::O1 => "O1",
            Level::O2 => "O2",
        })
    }
}

impl FromStr for Level {
    type Err = String;
    fn from_str(s: &str) -> Result<Level, String> {
        match s.trim_start_matches('O') {
            "0" => Ok(Level::O0),
            "1" => Ok(Level::O1),
            "2" => Ok(Level::O2),
            _ => Err(format!("`{s}` is no level; there are 0, 1 and 2")),
        }
    }
}

/// What one pass did.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// Its name.
    pub name: &'static str,
    /// Live nodes before it.
    pub before: usize,
    /// Live nodes after it.
    pub after: usize,
    /// The most nodes that it held at once: those of the graphs before and after it, or of the e-graph.
    pub peak: usize,
    /// How many layers were alike and solved as one; 0 where the graph was taken whole.
    pub layers: usize,
    /// How long it took. Says nothing about the result and never decides anything.
    pub time: Duration,
}

/// What a list of passes did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The passes, in order.
    pub passes: Vec<PassReport>,
    /// How often each rule of the e-graph fired. Those of the canonical form are many and small; [`canon::canonical`] counts them.
    pub rules: BTreeMap<String, usize>,
    /// What a person should know: limits that were hit, for instance.
    pub notes: Vec<String>,
}

/// Runs the passes of a level. `observe` sees the graph after each pass, with the pass' name.
///
/// # Errors
/// As [`run_passes`].
pub fn optimise(
    graph: &Graph,
    level: Level,
    cx: &PassCx,
    observe: &mut dyn FnMut(&'static str, &Graph),
) -> Result<(Graph, Report), PassError> {
    run_passes(graph, level.passes(), cx, observe)
}

/// Runs passes by name, in order, and verifies the graph after each.
///
/// # Errors
/// An unknown name; a pass that fails or leaves an invalid graph, which on a verified graph is a bug of the pass.
pub fn run_passes(
    graph: &Graph,
    names: &[&str],
    cx: &PassCx,
    observe: &mut dyn FnMut(&'static str, &Graph),
) -> Result<(Graph, Report), PassError> {
    let mut graph = crate::regions::run(graph, names, cx)?;
    let mut report = Report::default();
    for name in names {
        let pass = PASSES.iter().find(|p| p.name == *name);
        let pass = pass
            .ok_or_else(|| PassError::broken("pipeline", *name, "there is no pass of that name"))?;
        let before = live_nodes(&graph);
        let start = Instant::now();
        let done = (pass.run)(&graph, cx, &mut report)?;
        let next = crate::pass::verified(pass.name, done.graph)?;
        report.passes.push(PassReport {
            name: pass.name,
            before,
            after: live_nodes(&next),
            peak: (graph.nodes().len() + next.nodes().len()).max(done.e_nodes),
            layers: done.layers,
            time: start.elapsed(),
        });
        observe(pass.name, &next);
        graph = next;
    }
    Ok((graph, report))
}

/// Saturation, which of its rules fired, and the limit that ended it.
fn saturated(graph: &Graph, cx: &PassCx, report: &mut Report) -> Result<Done, PassError> {
    let (graph, done) = saturate::report(graph, cx)?;
    for (rule, n) in done.fired {
        *report.rules.entry(rule.to_string()).or_insert(0) += n;
    }
    if let Some(limit) = done.limit {
        report.notes.push(format!(
            "saturate stopped at its limit of {limit} after {} rounds",
            done.rounds
        ));
    }
    Ok(Done {
        graph,
        e_nodes: done.nodes,
        layers: done.layers,
    })
}

fn live_nodes(graph: &Graph) -> usize {
    graph.live().iter().filter(|l| **l).count()
}
