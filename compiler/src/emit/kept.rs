//! States that the method keeps among its values, because several delegates read or set them.

use super::segment::ConstantSource;
use super::{EValue, EmitError, MethodEmitter};
use fuseline_ir::{Op, State};
use fuseline_program::container::{Data, Storage, ValueIdx};

impl MethodEmitter<'_, '_> {
    /// Makes a planned tensor one that keeps what is in it from call to call, and begins with what the state does.
    pub(super) fn keep(&mut self, idx: ValueIdx, state: &State) -> Result<(), EmitError> {
        let content = state.init.clone().map(ConstantSource::Graph);
        let content = content.map(|source| self.data(&source)).transpose()?;
        let Some(EValue::Tensor(tensor)) = self.out.values.get_mut(idx as usize) else {
            return Ok(());
        };
        let size = tensor.max_bytes().unwrap_or(0);
        let zeros = || Data::made(size, |range| Ok(vec![0; range.len()]));
        tensor.storage = Storage::Planned {
            arena: 1,
            offset: 0,
            initial: Some(self.contents.len() as u32),
        };
        self.contents.push(content.unwrap_or_else(zeros));
        let name = format!("{}/{}", self.state_prefix, state.name);
        self.kept_names.insert(idx, name);
        Ok(())
    }

    /// Gives the states that the method keeps their next values, after everything else has been done.
    pub(super) fn next_states(&mut self) -> Result<(), EmitError> {
        let graph = self.graph;
        let mut next = Vec::new();
        for state in self.kept.clone() {
            let is_it = |op: &Op| matches!(op, Op::State(op) if op.name == state.name);
            let old = graph.values().find(|(_, node)| is_it(&node.op));
            if let (Some((old, _)), Some(new)) = (old, state.next) {
                next.push((self.tensor(new)?, self.tensor(old)?));
            }
        }
        next.retain(|(new, old)| new != old);
        // What a caller gets of an old state, and what becomes another one's next value, is taken before it changes.
        let mut saved = Vec::new();
        let old: Vec<ValueIdx> = next.iter().map(|(_, old)| *old).collect();
        let mut outputs = std::mem::take(&mut self.out.outputs);
        for from in outputs
            .iter_mut()
            .chain(next.iter_mut().map(|(new, _)| new))
        {
            if old.contains(from) {
                let copy = self.fresh(*from);
                saved.push((*from, copy));
                *from = copy;
            }
        }
        self.out.outputs = outputs;
        self.copies(saved)?;
        self.copies(next)
    }
}
