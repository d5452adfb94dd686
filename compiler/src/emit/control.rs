//! Loops: steps of a method that jumps repeat.

use super::{EValue, EmitError, MethodEmitter};
use fuseline_ir::{Graph, Op, Value};
use fuseline_passes::partition::partition;
use fuseline_program::container::{Call, ValueIdx};

impl<'a> MethodEmitter<'a, '_> {
    /// A loop. Its results' values hold what is carried from step to step, so that they hold the results when it ends:
    ///
    /// ```text
    ///       move what it starts with to the results
    /// top:  the condition's steps
    ///       if the condition is false go to end
    ///       the step's steps
    ///       move what they made to the results
    ///       go to top (a jump on what is always false)
    /// end:
    /// ```
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
        for (from, to) in args.iter().zip(&results) {
            self.calls.push(Call::Move {
                from: *from,
                to: *to,
            });
        }
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
        // What is handed on as it is would be overwritten by an earlier move.
        for (from, to) in made.iter_mut().zip(&results) {
            if from != to && results.contains(from) {
                let copy = self.value(self.out.values[*from as usize].clone());
                self.calls.push(Call::Move {
                    from: *from,
                    to: copy,
                });
                *from = copy;
            }
        }
        for (from, to) in made.iter().zip(&results) {
            if from != to {
                self.calls.push(Call::Move {
                    from: *from,
                    to: *to,
                });
            }
        }
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
}
