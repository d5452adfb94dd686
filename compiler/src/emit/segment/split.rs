//! Slices that divide an axis of a value among them become one instruction.

use super::Segment;
use crate::emit::error::EmitError;
use fuseline_ir::{Op, Value};
use fuseline_passes::shapes::partition;
use fuseline_program::instr::{Field, Instruction};
use std::collections::BTreeMap;

impl Segment<'_> {
    /// Finds the slices of one value that together are the whole of it. Those of a constant are made once, each for itself.
    pub(super) fn find_splits(&mut self) {
        let mut slices: BTreeMap<(Value, usize), Vec<Value>> = BTreeMap::new();
        for &value in &self.spec.nodes {
            let node = self.graph.node(value);
            if let (Op::Slice(slice), Some(source)) = (&node.op, node.args.first())
                && !self.constant[value.index()]
                && self.root[value.index()] == value
            {
                slices.entry((*source, slice.axis)).or_default().push(value);
            }
        }
        for parts in slices.into_values() {
            if let (Some((_, in_order)), Some(first)) =
                (partition(self.graph, &parts), parts.first())
            {
                self.splits.insert(*first, in_order);
            }
        }
    }

    /// The instruction for all parts of which `first` comes first among the nodes.
    pub(super) fn split(&mut self, first: Value) -> Result<(), EmitError> {
        let node = self.graph.node(first);
        let parts = self.splits.remove(&first).unwrap_or_default();
        let (Op::Slice(slice), &[source]) = (&node.op, node.args.as_slice()) else {
            return Err(self.refuse(first, "is no slice"));
        };
        let x = self.read(source)?;
        let mut sizes = Vec::new();
        for part in &parts {
            let len = self
                .graph
                .ty(*part)
                .as_tensor()
                .and_then(|ty| ty.shape.get(slice.axis));
            let len = len.ok_or_else(|| self.refuse(*part, "has no such axis"))?;
            sizes.push(self.dim(*part, len, false)?);
        }
        let mut outs = Vec::new();
        for part in parts {
            let node = self.graph.node(part);
            let Some(ty) = node.ty.as_tensor() else {
                return Err(self.refuse(part, "is no tensor"));
            };
            let place = self.out_place(part, node, ty, &[], false)?;
            self.place.insert(part, place);
            outs.push(place.provisional());
        }
        let fields = [
            ("x", Field::Tid(x.provisional())),
            ("outs", Field::Tids(outs)),
            ("sizes", Field::IntOrVids(sizes)),
            ("axis", Field::Int(slice.axis as i64)),
        ];
        let split =
            Instruction::build("Split", &fields).map_err(|error| EmitError::Instruction {
                place: self.describe(first),
                error,
            })?;
        self.main.instructions.push(split);
        Ok(())
    }
}
