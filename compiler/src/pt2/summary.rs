//! What an archive holds, in a form to print.

use super::Archive;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A summary of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// PyTorch's version as the file states it.
    pub torch_version: String,
    /// `TRAINING` straight from the export, `ATEN` after decompositions.
    pub dialect: Vec<String>,
    /// The symbols' ranges, as text.
    pub ranges: BTreeMap<String, String>,
    /// Weights and buffers by name: dtype, sizes, bytes.
    pub weights: Vec<Weight>,
    /// Operators and how often each occurs.
    pub targets: BTreeMap<String, usize>,
}

/// A weight of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct Weight {
    /// Its name in the model.
    pub name: String,
    /// Its element type, as PyTorch names it.
    pub dtype: String,
    /// Its sizes.
    pub sizes: Vec<usize>,
}

/// The summary of an archive.
pub fn of(archive: &Archive) -> Summary {
    let program = archive.program();
    let bound = |n: Option<i64>| n.map_or("inf".to_string(), |n| n.to_string());
    let mut targets = BTreeMap::new();
    for node in &program.graph_module.graph.nodes {
        *targets.entry(node.target.clone()).or_insert(0) += 1;
    }
    let all = archive.weights().iter().chain(archive.constants());
    Summary {
        torch_version: program.torch_version.clone(),
        dialect: program.verifiers.clone(),
        ranges: program
            .range_constraints
            .iter()
            .map(|(name, r)| {
                (
                    name.clone(),
                    format!("{}..={}", bound(r.min_val), bound(r.max_val)),
                )
            })
            .collect(),
        weights: all
            .map(|(name, w)| Weight {
                name: name.clone(),
                dtype: format!("{:?}", w.dtype).to_lowercase(),
                sizes: w.sizes.clone(),
            })
            .collect(),
        targets,
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "exported program of torch {} ({})",
            self.torch_version,
            self.dialect.join(", ")
        )?;
        for (name, range) in &self.ranges {
            writeln!(f, "symbol {name} in {range}")?;
        }
        writeln!(f, "{} weights, buffers and constants:", self.weights.len())?;
        for w in &self.weights {
            writeln!(f, "  {} {}{:?}", w.name, w.dtype, w.sizes)?;
        }
        writeln!(f, "operators:")?;
        for (target, n) in &self.targets {
            writeln!(f, "  {n:>5}  {target}")?;
        }
        Ok(())
    }
}
