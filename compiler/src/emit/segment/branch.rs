//! Branches: one of two chains of instructions, over the slots of the chain around them.

use super::{Place, PlanSegment, Segment, copy};
use crate::emit::error::EmitError;
use fuseline_ir::{Graph, Node, Op, Region, Value};
use fuseline_passes::partition::{Plan, Step, partition};
use fuseline_program::ScalarType;
use fuseline_program::instr::{Field, If, Instruction, IntOrVid};

impl Segment<'_> {
    /// Whether the value is a result of a branch: it gets its slot with the branch.
    pub(super) fn is_branch_result(&self, value: Value) -> bool {
        let node = self.graph.node(value);
        let is_branch = |a: &Value| matches!(self.graph.node(*a).op, Op::Branch(_));
        matches!(node.op, Op::Get(_)) && node.args.iter().any(is_branch)
    }

    /// Both sides become chains that leave their results in the same slots.
    pub(super) fn branch(&mut self, value: Value, node: &Node) -> Result<(), EmitError> {
        let Op::Branch(op) = &node.op else {
            return Err(self.refuse(value, "is not a branch"));
        };
        let mut places = Vec::new();
        for arg in &node.args {
            places.push(self.read(*arg)?);
        }
        let Some((condition, operands)) = places.split_first() else {
            return Err(self.refuse(value, "has no condition"));
        };
        let mut results = Vec::new();
        let mut unread = Vec::new();
        for index in 0..op.yes.graph().outputs.len() {
            let place = self.result(value, index);
            if !self.place.values().any(|p| *p == place) {
                unread.push(place);
            }
            results.push(place);
        }
        // A truth value is one byte, and ExecuTorch reads four.
        let cond = self.main.dims.value();
        let wide = self.main.temps.take();
        let fields = [
            ("x", Field::Tid(condition.provisional())),
            ("out", Field::Tid(wide.provisional())),
            ("scalar_type", Field::DType(ScalarType::I32)),
        ];
        let widen = Instruction::build("AsType", &fields);
        let fields = [
            ("x", Field::Tid(wide.provisional())),
            ("out", Field::Vid(cond)),
        ];
        for built in [widen, Instruction::build("ItemInt", &fields)] {
            let instruction = built.map_err(|error| EmitError::Instruction {
                place: self.describe(value),
                error,
            })?;
            self.main.instructions.push(instruction);
        }
        self.main.temps.free(wide);
        let operands = operands.to_vec();
        let then_chain_idx = self.side(value, &op.yes, &operands, &results)?;
        let else_chain_idx = self.side(value, &op.no, &operands, &results)?;
        self.main.instructions.push(Instruction::If(If {
            cond: IntOrVid::Vid(cond),
            then_chain_idx,
            else_chain_idx,
        }));
        for place in unread {
            self.main.temps.free(place);
        }
        Ok(())
    }

    /// A slot for a result: an output's, or a temporary. All that read the result read it there.
    fn result(&mut self, branch: Value, index: usize) -> Place {
        let graph = self.graph;
        let reads = |node: &Node| {
            matches!(&node.op, Op::Get(get) if get.index == index) && node.args == [branch]
        };
        let readers = graph.values().filter(|(_, node)| reads(node));
        let readers: Vec<Value> = readers.map(|(value, _)| value).collect();
        let output = self.spec.outputs.iter().position(|o| readers.contains(o));
        let place = match output {
            Some(n) => Place::Output(super::number(n)),
            None => self.main.temps.take(),
        };
        let inside = readers.iter().filter(|v| self.spec.nodes.contains(v));
        if let Some(first) = inside.min().copied() {
            let last = readers.iter().map(|v| self.last_use[v.index()]).max();
            for reader in readers {
                self.root[reader.index()] = first;
            }
            self.last_use[first.index()] = last.unwrap_or(0);
            self.place.insert(first, place);
        }
        place
    }

    /// Lowers a side of a branch to a chain, and returns its number.
    fn side(
        &mut self,
        branch: Value,
        region: &Region,
        operands: &[Place],
        results: &[Place],
    ) -> Result<u32, EmitError> {
        let graph = region.graph();
        let spec = whole(graph).ok_or_else(|| {
            self.refuse(
                branch,
                "has a call of the host or a loop inside, where only instructions can be",
            )
        })?;
        let mut inner = Segment::new(graph, &spec, self.prefixes, operands)?;
        for input in graph.inputs() {
            // The chain around may need what it handed in.
            inner.last_use[input.index()] = usize::MAX;
        }
        for output in &graph.outputs {
            let root = inner.root[output.value.index()];
            inner.last_use[root.index()] = usize::MAX;
            inner.needed[root.index()] = true;
        }
        std::mem::swap(&mut inner.constants, &mut self.constants);
        std::mem::swap(&mut inner.constant_keys, &mut self.constant_keys);
        std::mem::swap(&mut inner.init, &mut self.init);
        std::mem::swap(&mut inner.branches, &mut self.branches);
        std::mem::swap(&mut inner.main.temps, &mut self.main.temps);
        std::mem::swap(&mut inner.limits, &mut self.limits);
        inner.main.dims.start_at(self.main.dims.count());
        inner.requirements()?;
        for &value in &spec.nodes {
            inner.node(value)?;
        }
        let mut sources = Vec::new();
        for output in &graph.outputs {
            sources.push(inner.output_source(output.value)?);
        }
        for (from, to) in sources.into_iter().zip(results) {
            let text = || format!("a result of {branch}");
            inner.main.instructions.push(copy(from, *to, text)?);
        }
        std::mem::swap(&mut inner.constants, &mut self.constants);
        std::mem::swap(&mut inner.constant_keys, &mut self.constant_keys);
        std::mem::swap(&mut inner.init, &mut self.init);
        std::mem::swap(&mut inner.branches, &mut self.branches);
        std::mem::swap(&mut inner.main.temps, &mut self.main.temps);
        std::mem::swap(&mut inner.limits, &mut self.limits);
        self.main.dims.start_at(inner.main.dims.count());
        self.branches.push(inner.main.instructions);
        // The main chain is number 0.
        Ok(super::number(self.branches.len()))
    }
}

/// The whole graph as one segment that hands back nothing by itself; none where it does not fit into one.
fn whole(graph: &Graph) -> Option<PlanSegment> {
    let Plan { steps, .. } = partition(graph);
    let nodes = match steps.as_slice() {
        [] => Vec::new(),
        [Step::Segment(segment)] => segment.nodes.clone(),
        _ => return None,
    };
    Some(PlanSegment {
        nodes,
        inputs: graph.inputs().to_vec(),
        ..PlanSegment::default()
    })
}
