//! The machine that is compiled for, and how far results may lie apart, as both commands that optimise take it.

use crate::cost_file;
use crate::error::Error;
use fuseline_passes::{Numerics, PassCx, Target};
use fuseline_program::command::parse_bytes;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Machine {
    /// The machine to choose instructions for; the file runs on all of them. By default that of the table in `--cost`; without one, the machine that this is, or metal in `opt`
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["metal", "cuda", "cpu"]))]
    target: Option<String>,
    /// What things cost there, as `fuseline-run calibrate` measured it
    #[arg(long, value_name = "FILE")]
    cost: Option<PathBuf>,
    /// The freest class of rewrite rules that may fire: `exact` bit for bit but for the sign of a zero, `ulps` (or `ulps(N)`) each element within units in its last place, `reassociate` sums and products in another order or precision too: what is finite on the way stays so, but NaN that comes of infinities (∞ − ∞, a row of scores that is hidden whole) may be a number instead
    #[arg(long, value_name = "CLASS", default_value = "reassociate", value_parser = clap::value_parser!(Numerics))]
    numerics: Numerics,
    /// Memory for weights that stay in few bits in the file and are put into floats once, when it is loaded, where the machine is slow with few bits: a number of bytes, or of kB, MB, GB (1000 each) or K, M, G (1024 each)
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = parse_bytes)]
    memory_budget: u64,
}

impl Machine {
    /// Whether nothing is said of the machine.
    pub fn is_open(&self) -> bool {
        self.target.is_none() && self.cost.is_none()
    }

    /// The file of the table, if there is one.
    pub fn cost_file(&self) -> Option<&Path> {
        self.cost.as_deref()
    }

    /// The context, for `otherwise` where neither a target nor a table is named.
    pub fn cx(&self, otherwise: Target) -> Result<PassCx, Error> {
        let wanted = self.target.as_deref().map(str::parse::<Target>).transpose();
        let wanted = wanted.map_err(Error::Usage)?;
        let cx = cost_file::context(wanted, self.cost.as_deref(), otherwise);
        let cx = cx.map_err(|source| Error::Cost {
            path: self.cost.clone().unwrap_or_default(),
            source,
        })?;
        Ok(PassCx {
            numerics: self.numerics,
            memory_budget: self.memory_budget,
            ..cx
        })
    }
}
