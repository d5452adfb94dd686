//! Programs in the file's own JSON, built node by node.

use std::collections::BTreeMap;

use fuseline_ir::{DType, Graph, Tensor};
use serde_json::{Value, json};

use crate::import::{Error, import};
use crate::pt2::testing::{Parts, Weight, floats};

pub(super) const F16: i64 = 6;
pub(super) const F32: i64 = 7;
pub(super) const BF16: i64 = 13;
pub(super) const I64: i64 = 5;
pub(super) const I32: i64 = 4;
pub(super) const BOOL: i64 = 12;

/// A program under construction.
#[derive(Default)]
pub(super) struct Program {
    pub(super) inputs: Vec<(Value, Value)>,
    pub(super) nodes: Vec<Value>,
    pub(super) types: serde_json::Map<String, Value>,
    pub(super) outputs: Vec<(Value, Value)>,
    pub(super) sym_ints: serde_json::Map<String, Value>,
    pub(super) ranges: serde_json::Map<String, Value>,
}

pub(super) fn t(name: &str) -> Value {
    json!({"as_tensor": {"name": name}})
}

pub(super) fn int(n: i64) -> Value {
    json!({"as_int": n})
}

pub(super) fn ints(n: &[i64]) -> Value {
    json!({"as_ints": n})
}

impl Program {
    pub(super) fn buffer(mut self, name: &str, meta: Value) -> Self {
        let arg = format!("b_{name}");
        self.inputs.push((
            t(&arg),
            json!({"buffer": {"arg": {"name": arg}, "buffer_name": name, "persistent": true}}),
        ));
        self.types.insert(arg, meta);
        self
    }

    pub(super) fn input(mut self, name: &str, meta: Value) -> Self {
        self.inputs
            .push((t(name), json!({"user_input": {"arg": t(name)}})));
        self.types.insert(name.to_owned(), meta);
        self
    }

    /// A node of one tensor result.
    pub(super) fn node(
        self,
        out: &str,
        meta: Value,
        target: &str,
        inputs: &[(&str, Value)],
    ) -> Self {
        self.call(&[(out, meta)], &format!("aten.{target}"), inputs)
    }

    /// A node of any operator, with its results.
    pub(super) fn call(
        mut self,
        outs: &[(&str, Value)],
        target: &str,
        inputs: &[(&str, Value)],
    ) -> Self {
        let inputs: Vec<Value> = inputs
            .iter()
            .map(|(name, arg)| json!({"name": name, "arg": arg, "kind": 1}))
            .collect();
        self.nodes.push(json!({
            "target": format!("torch.ops.{target}"), "inputs": inputs, "name": outs[0].0,
            "outputs": outs.iter().map(|(out, _)| t(out)).collect::<Vec<_>>(),
            "metadata": {
                "nn_module_stack": "a,block,pkg.Block",
                "stack_trace": format!("  File \"m/model.py\", line {}, in forward\n", self.nodes.len() + 1),
            },
        }));
        for (out, meta) in outs {
            self.types.insert((*out).to_owned(), meta.clone());
        }
        self
    }

    pub(super) fn output(mut self, name: &str) -> Self {
        self.outputs
            .push((t(name), json!({"user_output": {"arg": t(name)}})));
        self
    }

    pub(super) fn mutation(mut self, name: &str, buffer: &str) -> Self {
        self.outputs.push((
            t(name),
            json!({"buffer_mutation": {"arg": {"name": name}, "buffer_name": buffer}}),
        ));
        self
    }

    pub(super) fn json(&self) -> Value {
        let first =
            |pairs: &[(Value, Value)]| pairs.iter().map(|pair| pair.0.clone()).collect::<Vec<_>>();
        let second =
            |pairs: &[(Value, Value)]| pairs.iter().map(|pair| pair.1.clone()).collect::<Vec<_>>();
        json!({
            "graph_module": {
                "graph": {
                    "inputs": first(&self.inputs), "outputs": first(&self.outputs), "nodes": self.nodes,
                    "tensor_values": self.types, "sym_int_values": self.sym_ints,
                },
                "signature": {"input_specs": second(&self.inputs), "output_specs": second(&self.outputs)},
            },
            "schema_version": {"major": 8, "minor": 20},
            "range_constraints": self.ranges,
        })
    }

    pub(super) fn import(&self, weights: &[Weight<'_>]) -> std::result::Result<Graph, Error> {
        import(&Parts::with_weights(&self.json(), weights).open().unwrap())
    }

    /// Imports a program without weights.
    pub(super) fn graph(&self) -> Graph {
        let graph = self.import(&[]).unwrap();
        graph.verify().unwrap();
        graph
    }

    /// Imports a program without weights and evaluates it.
    pub(super) fn run(&self, inputs: &[Tensor]) -> Vec<Tensor> {
        self.graph().eval(inputs, &BTreeMap::new()).unwrap().outputs
    }

    pub(super) fn error(&self) -> String {
        self.import(&[]).unwrap_err().to_string()
    }
}

pub(super) fn f32s(shape: &[usize], data: &[f64]) -> Tensor {
    Tensor::floats(DType::F32, shape.to_vec(), data.to_vec()).unwrap()
}

/// A graph with one buffer `b`: its outputs and the buffer after one run.
pub(super) fn run_with_buffer(
    program: &Program,
    sizes: &[i64],
    data: &[f32],
    inputs: &[Tensor],
) -> (Vec<Tensor>, Tensor) {
    let weight = Weight {
        fqn: "b",
        dtype: F32,
        sizes,
        bytes: floats(data.iter().copied()),
    };
    let graph = program.import(&[weight]).unwrap();
    graph.verify().unwrap();
    let states = graph.initial_states().unwrap();
    let results = graph.eval(inputs, &states).unwrap();
    (results.outputs, results.states["b"].clone())
}
