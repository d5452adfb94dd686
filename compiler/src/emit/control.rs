//! Loops: steps of a method that jumps repeat.

use super::{EValue, EmitError, MethodEmitter};
use fuseline_ir::{Graph, Op, Value};
use fuseline_passes::partition::partition;
use fuseline_program::container::{Call, Delegate, Storage, TensorValue, UNBOUNDED, ValueIdx};
use fuseline_program::graph::{Dim, IoSlot, MlxGraph, NamedSlot, TensorMeta};
use fuseline_program::{Instruction, SlotCounts, Tid};

impl<'a> MethodEmitter<'a, '_> {
    /// A loop. Its results' values hold what is carried from step to step, so that they hold the results when it ends:
    ///
    /// ```text
    ///       copy what it starts with to the results
    /// top:  the condition's steps
    ///       if the condition is false go to end
    ///       the step's steps
    ///       copy what they made to the results
    ///       go to top (a jump on what is always false)
    /// end:
    /// ```
    ///
    /// The format has a call that moves a value, but in ExecuTorch both are the same tensor afterwards: what the next
    /// step made would overwrite what it has been carried.
    pub(super) fn while_loop(&mut self, value: Value) -> Result<(), EmitError> {
        let node = self.graph.node(value);
        let Op::WhileLoop(op) = &node.op else {
            return Err(EmitError::Op {
                place: self.graph.describe(value, node),
                reason: "is not a loop".into(),
            });
        };
        let mut args = Vec::new();
        for arg in &node.args {
            args.push(self.tensor(*arg)?);
        }
        let results = self.results(value)?;
        self.copies(args.iter().copied().zip(results.iter().copied()).collect())?;
        let mut bound = results.clone();
        bound.extend(args.iter().skip(results.len()));
        let top = self.calls.len();
        let verdicts = self.region(op.cond.graph(), &bound)?;
        let exit = self.calls.len();
        self.calls.push(Call::JumpFalse {
            condition: verdicts.first().copied().unwrap_or_default(),
            target: 0,
        });
        let mut made = self.region(op.step.graph(), &bound)?;
        // What is handed on as it is would be overwritten by an earlier copy.
        let mut saved = Vec::new();
        for (from, to) in made.iter_mut().zip(&results) {
            if from != to && results.contains(from) {
                let copy = self.fresh(*from);
                saved.push((*from, copy));
                *from = copy;
            }
        }
        self.copies(saved)?;
        self.copies(made.into_iter().zip(results).collect())?;
        let never = self.value(EValue::Bool(false));
        self.calls.push(Call::JumpFalse {
            condition: never,
            target: top as u32,
        });
        let end = self.calls.len() as u32;
        if let Some(Call::JumpFalse { target, .. }) = self.calls.get_mut(exit) {
            *target = end;
        }
        Ok(())
    }

    /// The steps of a graph inside an op, whose inputs are these values; the values of its outputs.
    fn region(
        &mut self,
        graph: &'a Graph,
        inputs: &[ValueIdx],
    ) -> Result<Vec<ValueIdx>, EmitError> {
        let outer = std::mem::replace(&mut self.graph, graph);
        let index = graph.inputs().iter().copied().zip(inputs.iter().copied());
        let outer_index = std::mem::replace(&mut self.index, index.collect());
        self.steps(&partition(graph))?;
        let outputs = graph.outputs.iter();
        let outputs = outputs.map(|output| self.tensor(output.value));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        self.graph = outer;
        self.index = outer_index;
        Ok(outputs)
    }

    /// A tensor like that one, for something else.
    pub(super) fn fresh(&mut self, like: ValueIdx) -> ValueIdx {
        let mut value = self.out.values[like as usize].clone();
        if let EValue::Tensor(tensor) = &mut value {
            tensor.storage = Storage::Caller;
        }
        self.value(value)
    }

    /// A call that copies tensors, from the first of each pair to the second; a pair of one tensor needs none.
    pub(super) fn copies(&mut self, mut pairs: Vec<(ValueIdx, ValueIdx)>) -> Result<(), EmitError> {
        pairs.retain(|(from, to)| from != to);
        if pairs.is_empty() {
            return Ok(());
        }
        let count = pairs.len() as u32;
        let (from, to): (Vec<ValueIdx>, Vec<ValueIdx>) = pairs.into_iter().unzip();
        let args: Vec<ValueIdx> = from.into_iter().chain(to).collect();
        let mut instructions = Vec::new();
        for number in 0..count {
            let fields = [
                ("x", Tid(number).into()),
                ("out", Tid(count + number).into()),
            ];
            let copy = Instruction::build("IdCopy", &fields);
            instructions.push(copy.map_err(|error| EmitError::Instruction {
                place: "a value carried by a loop".into(),
                error,
            })?);
        }
        let name = |(number, arg): (u32, &ValueIdx)| {
            let name = self.kept_names.get(arg)?.clone();
            let slot = IoSlot::Tensor(Tid(number));
            Some(NamedSlot { name, slot })
        };
        let names = (0..).zip(&args).filter_map(name).collect();
        let tensors = args
            .iter()
            .filter_map(|arg| match &self.out.values[*arg as usize] {
                EValue::Tensor(tensor) => Some(described(tensor)),
                _ => None,
            });
        let graph = MlxGraph {
            counts: SlotCounts {
                inputs: count,
                outputs: count,
                ..SlotCounts::default()
            },
            chains: vec![instructions],
            main_chain: 0,
            init_chain: None,
            inputs: (0..count).map(|n| IoSlot::Tensor(Tid(n))).collect(),
            outputs: (count..2 * count).map(|n| IoSlot::Tensor(Tid(n))).collect(),
            state: Vec::new(),
            names,
            tensors: tensors.collect(),
        };
        self.calls.push(Call::Delegate {
            delegate: self.out.delegates.len() as u32,
            args,
        });
        self.out.delegates.push(Delegate::mlx(graph));
        Ok(())
    }
}

/// A tensor of a method as a delegate describes it.
fn described(tensor: &TensorValue) -> TensorMeta {
    let dim = |size: &u32| match tensor.dynamic {
        true => Dim::Dynamic {
            min: 0,
            max: (*size != UNBOUNDED).then_some(*size),
        },
        false => Dim::Static(*size),
    };
    TensorMeta {
        dtype: tensor.dtype,
        shape: tensor.sizes.iter().map(dim).collect(),
    }
}
