//! The ends of a segment: states and outputs get their values, slots get their numbers.

use super::{Lowered, Place, Segment, copy, dtype, io_type, meta_dim, number};
use crate::emit::error::EmitError;
use fuseline_ir::{DType, Op, TensorType, Type, Value};
use fuseline_program::SlotCounts;
use fuseline_program::graph::{IoSlot, MlxGraph, NamedSlot, TensorMeta};
use fuseline_program::instr::{Field, FloatOrVid, Instruction, IntOrVid, SlotMut};
use std::collections::BTreeSet;

impl Segment<'_> {
    pub(super) fn finish_states(&mut self) -> Result<(), EmitError> {
        let mut copies = Vec::new();
        for (i, name) in self.states.clone().iter().enumerate() {
            let to = Place::State(number(i));
            let next = self.sets().find(|s| s.name == *name).and_then(|s| s.next);
            if let Some(next) = next {
                let from = self.read(next)?;
                if from != to {
                    copies.push((from, to));
                }
            }
        }
        // A state that is the source of another one's copy is saved before any is overwritten.
        let targets: BTreeSet<Place> = copies.iter().map(|(_, to)| *to).collect();
        for (from, _) in &mut copies {
            if targets.contains(from) {
                let saved = self.main.temps.take();
                self.main
                    .instructions
                    .push(copy(*from, saved, || "state".into())?);
                *from = saved;
            }
        }
        // Outputs that are an old state's value are taken before it changes.
        for i in 0..self.spec.outputs.len() {
            let value = self.spec.outputs[i];
            let from = self.output_source(value)?;
            let to = Place::Output(number(i));
            if targets.contains(&from) {
                self.main
                    .instructions
                    .push(copy(from, to, || "output".into())?);
                self.outputs.push(to);
            }
        }
        for (from, to) in copies {
            self.main
                .instructions
                .push(copy(from, to, || "state".into())?);
        }
        Ok(())
    }

    /// Where the value of an output is.
    pub(super) fn output_source(&mut self, value: Value) -> Result<Place, EmitError> {
        if let Type::Int(dim) = self.graph.ty(value) {
            // An integer output travels as a 0-d tensor.
            let n = self.dim(value, dim, false)?;
            let out = self.main.temps.take();
            let v = match n {
                IntOrVid::Int(n) => FloatOrVid::Float(n as f64),
                IntOrVid::Vid(v) => FloatOrVid::Vid(v),
            };
            let fields = [
                ("out", Field::Tid(out.provisional())),
                ("shape", Field::IntOrVids(vec![])),
                ("v", Field::FloatOrVid(v)),
                (
                    "scalar_type",
                    Field::DType(dtype(DType::I64, || self.describe(value))?),
                ),
            ];
            let full =
                Instruction::build("Full", &fields).map_err(|error| EmitError::Instruction {
                    place: self.describe(value),
                    error,
                })?;
            self.main.instructions.push(full);
            return Ok(out);
        }
        self.read(value)
    }

    pub(super) fn finish_outputs(&mut self) -> Result<(), EmitError> {
        for i in 0..self.spec.outputs.len() {
            let to = Place::Output(number(i));
            if self.outputs.contains(&to) {
                continue;
            }
            let from = self.output_source(self.spec.outputs[i])?;
            if from != to {
                self.main
                    .instructions
                    .push(copy(from, to, || format!("output {i}"))?);
            }
        }
        Ok(())
    }

    pub(super) fn meta(&self, ty: &TensorType, place: &str) -> Result<TensorMeta, EmitError> {
        let mut shape = Vec::new();
        for dim in &ty.shape {
            shape.push(meta_dim(dim, self.graph, place)?);
        }
        Ok(TensorMeta {
            dtype: dtype(ty.dtype, || place.to_string())?,
            shape,
        })
    }

    pub(super) fn build(mut self) -> Result<Lowered, EmitError> {
        let counts = SlotCounts {
            constants: number(self.constants.len()),
            inputs: number(self.spec.inputs.len()),
            outputs: number(self.spec.outputs.len()),
            state: number(self.states.len()),
            temps: self.main.temps.count().max(self.init.temps.count()),
            values: self.main.dims.count().max(self.init.dims.count()),
        };
        let mut tensors: Vec<TensorMeta> = self
            .constants
            .iter()
            .map(|(_, _, meta)| meta.clone())
            .collect();
        let mut names = Vec::new();
        let tid = |place: Place| Place::resolve(place.provisional(), &counts);
        for (i, (key, _, _)) in self.constants.iter().enumerate() {
            names.push(NamedSlot {
                name: key.clone(),
                slot: IoSlot::Tensor(tid(Place::Constant(number(i)))),
            });
        }
        let values = self
            .spec
            .inputs
            .iter()
            .map(|v| ("input", *v))
            .chain(self.spec.outputs.iter().map(|v| ("output", *v)));
        for (what, value) in values {
            let ty = io_type(self.graph.ty(value))
                .ok_or_else(|| self.refuse(value, &format!("can't be an {what}")))?;
            tensors.push(self.meta(&ty, &format!("{what} {value}"))?);
        }
        for (i, value) in self.spec.inputs.iter().enumerate() {
            let name = match &self.graph.node(*value).op {
                Op::Input(input) => format!("{}/{}", self.prefixes[0], input.name),
                // One that the method keeps.
                Op::State(state) => format!("{}/{}", self.prefixes[1], state.name),
                _ => continue,
            };
            names.push(NamedSlot {
                name,
                slot: IoSlot::Tensor(tid(Place::Input(number(i)))),
            });
        }
        for (i, name) in self.states.iter().enumerate() {
            let state = self.graph.states.iter().find(|s| s.name == *name);
            if let Some(state) = state {
                tensors.push(self.meta(&state.ty, &format!("state \"{name}\""))?);
                names.push(NamedSlot {
                    name: format!("{}/{name}", self.prefixes[1]),
                    slot: IoSlot::Tensor(tid(Place::State(number(i)))),
                });
            }
        }
        for instruction in self
            .main
            .instructions
            .iter_mut()
            .chain(&mut self.init.instructions)
            .chain(self.branches.iter_mut().flatten())
        {
            instruction.for_each_slot_mut(|slot| {
                if let SlotMut::Tensor(t) = slot {
                    *t = Place::resolve(*t, &counts);
                }
            });
        }
        let io = |n: usize, place: fn(u32) -> Place| {
            (0..number(n))
                .map(|i| IoSlot::Tensor(tid(place(i))))
                .collect::<Vec<_>>()
        };
        let inputs = io(self.spec.inputs.len(), Place::Input);
        let outputs = io(self.spec.outputs.len(), Place::Output);
        let state = io(self.states.len(), Place::State);
        let mut chains = vec![self.main.instructions];
        chains.extend(self.branches);
        let init_chain = (!self.init.instructions.is_empty()).then_some(number(chains.len()));
        if init_chain.is_some() {
            chains.push(self.init.instructions);
        }
        Ok(Lowered {
            graph: MlxGraph {
                counts,
                chains,
                main_chain: 0,
                init_chain,
                inputs,
                outputs,
                state,
                names,
                tensors,
            },
            constants: self
                .constants
                .into_iter()
                .map(|(key, source, _)| (key, source))
                .collect(),
            limits: self.limits,
        })
    }
}
