//! Small programs, written to files the way a compiler does it.

use std::path::PathBuf;

use fuseline_program::container::{
    Call, Delegate, Method, NamedData, Operator, Storage, TensorValue,
};
use fuseline_program::{
    Data, Dim, Instruction, IoSlot, MlxGraph, NamedSlot, Program, ScalarType, SlotCounts,
    TensorMeta, Tid, Value,
};
use tempfile::TempDir;

/// A program file in a folder of its own, which goes when this is dropped.
pub struct File {
    _folder: TempDir,
    pub path: PathBuf,
}

/// A graph with the slots that are described, constants first, and one main chain.
#[derive(Default)]
pub struct GraphBuilder {
    pub constants: Vec<(&'static str, TensorMeta, Vec<u8>)>,
    pub inputs: Vec<(&'static str, TensorMeta)>,
    pub outputs: Vec<TensorMeta>,
    pub state: Vec<(&'static str, TensorMeta)>,
    pub temps: u32,
    pub values: u32,
    pub main: Vec<Instruction>,
    pub init: Vec<Instruction>,
    /// Chains that others run, from number 1, or from 2 where there is an init chain.
    pub more: Vec<Vec<Instruction>>,
    /// Whether results have names as well.
    pub names_results: bool,
}

impl GraphBuilder {
    pub fn build(&self) -> MlxGraph {
        let counts = SlotCounts {
            constants: self.constants.len() as u32,
            inputs: self.inputs.len() as u32,
            outputs: self.outputs.len() as u32,
            state: self.state.len() as u32,
            temps: self.temps,
            values: self.values,
        };
        let slots = |first: u32, count: usize| {
            (first..first + count as u32)
                .map(|at| IoSlot::Tensor(Tid(at)))
                .collect::<Vec<_>>()
        };
        let inputs = slots(counts.constants, self.inputs.len());
        let outputs = slots(counts.constants + counts.inputs, self.outputs.len());
        let state = slots(
            counts.constants + counts.inputs + counts.outputs,
            self.state.len(),
        );
        let names = (self
            .constants
            .iter()
            .map(|(name, ..)| *name)
            .zip(slots(0, self.constants.len())))
        .chain(
            self.inputs
                .iter()
                .map(|(name, _)| *name)
                .zip(inputs.clone()),
        )
        .chain(self.state.iter().map(|(name, _)| *name).zip(state.clone()))
        .chain(
            ["result"]
                .into_iter()
                .filter(|_| self.names_results)
                .zip(outputs.clone()),
        )
        .map(|(name, slot)| NamedSlot {
            name: name.to_owned(),
            slot,
        })
        .collect();
        let metas = (self.constants.iter().map(|(_, meta, _)| meta))
            .chain(self.inputs.iter().map(|(_, meta)| meta))
            .chain(&self.outputs)
            .chain(self.state.iter().map(|(_, meta)| meta));
        let mut chains = vec![self.main.clone()];
        if !self.init.is_empty() {
            chains.push(self.init.clone());
        }
        chains.extend(self.more.iter().cloned());
        MlxGraph {
            counts,
            init_chain: (!self.init.is_empty()).then_some(1),
            main_chain: 0,
            chains,
            inputs,
            outputs,
            state,
            names,
            tensors: metas.cloned().collect(),
        }
    }

    /// A program with one method, `forward`, that is this graph.
    pub fn file(&self) -> File {
        write(method(self), &self.constants)
    }
}

/// A method `forward` that is this graph.
pub fn method(graph: &GraphBuilder) -> Method<'static> {
    let mut method = Method {
        name: "forward".to_owned(),
        ..Method::default()
    };
    let all = graph
        .inputs
        .iter()
        .map(|(_, meta)| meta)
        .chain(&graph.outputs);
    method.values = all.map(value).collect();
    let count = method.values.len() as u32;
    let inputs = graph.inputs.len() as u32;
    method.inputs = (0..inputs).collect();
    method.outputs = (inputs..count).collect();
    method.delegates = vec![Delegate::mlx(graph.build())];
    method.chains = vec![vec![Call::Delegate {
        delegate: 0,
        args: (0..count).collect(),
    }]];
    method.plan_memory().expect("a plan");
    method
}

/// A method's value for a tensor.
pub fn value(meta: &TensorMeta) -> Value {
    let dynamic = meta
        .shape
        .iter()
        .any(|dim| matches!(dim, Dim::Dynamic { .. }));
    Value::Tensor(TensorValue {
        dtype: meta.dtype,
        sizes: meta
            .shape
            .iter()
            .map(|dim| dim.upper().expect("a bound"))
            .collect(),
        dynamic,
        storage: Storage::Caller,
    })
}

/// Writes a program with one method.
pub fn write(
    mut method: Method<'static>,
    constants: &[(&'static str, TensorMeta, Vec<u8>)],
) -> File {
    method.plan_memory().expect("a plan");
    let program = Program {
        methods: vec![method],
        constants: Vec::new(),
        named_data: constants
            .iter()
            .map(|(name, _, bytes)| NamedData {
                key: (*name).to_owned(),
                data: Data::owned(bytes.clone()),
            })
            .collect(),
    };
    write_program(&program)
}

/// Writes a program.
pub fn write_program(program: &Program<'_>) -> File {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.pte");
    program.write_file(&path).expect("a program file");
    File {
        _folder: folder,
        path,
    }
}

/// A host operator's name.
pub fn operator(name: &str, overload: &str) -> Operator {
    Operator {
        name: name.to_owned(),
        overload: overload.to_owned(),
    }
}

/// A tensor whose shape never changes.
pub fn fixed(dtype: ScalarType, shape: &[u32]) -> TensorMeta {
    TensorMeta::fixed(dtype, shape)
}

/// One dimension that varies.
pub fn up_to(dtype: ScalarType, max: u32) -> TensorMeta {
    TensorMeta {
        dtype,
        shape: vec![Dim::Dynamic {
            min: 1,
            max: Some(max),
        }],
    }
}

/// The bytes of floats.
pub fn bytes(floats: &[f32]) -> Vec<u8> {
    floats
        .iter()
        .flat_map(|float| float.to_le_bytes())
        .collect()
}
