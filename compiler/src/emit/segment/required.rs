//! What must hold of numbers: each becomes the range of a value slot, as soon as all that it is computed from is there.

use super::Segment;
use crate::emit::error::EmitError;
use fuseline_ir::{Dim, Range, Requirement, Symbol, Value};
use fuseline_program::instr::IntOrVid;

impl Segment<'_> {
    /// A number has been read from a tensor: it lies in its symbol's range, and what waited for it can be computed.
    pub(super) fn read_number(&mut self, value: Value, symbol: &Symbol) -> Result<(), EmitError> {
        if let Some(range) = self.graph.symbols.get(symbol) {
            let dim = Dim::symbol(symbol.clone());
            let slot = self.dim(value, &dim, false)?;
            self.limit(slot, dim, *range);
        }
        self.requirements()
    }

    /// Limits the numbers that are known by now.
    pub(super) fn requirements(&mut self) -> Result<(), EmitError> {
        let dims = &self.main.dims;
        let waiting = std::mem::take(&mut self.waiting);
        let (known, waiting) = waiting.into_iter().partition(|one| dims.knows(&one.dim));
        self.waiting = waiting;
        let known: Vec<&Requirement> = known;
        let symbols = &self.graph.symbols;
        for requirement in known.into_iter().filter(|one| !one.follows_from(symbols)) {
            let place = || format!("require {requirement}");
            let slot = self.dim_at(place, &requirement.dim, false)?;
            self.limit(slot, requirement.dim.clone(), requirement.range);
        }
        Ok(())
    }

    fn limit(&mut self, slot: IntOrVid, dim: Dim, range: Range) {
        if let (IntOrVid::Vid(slot), true) = (slot, range != Range::ALL) {
            self.limits.push((slot, Requirement { dim, range }));
        }
    }
}
