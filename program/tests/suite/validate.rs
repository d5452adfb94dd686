//! Validation: a sound program, one thing made wrong, and what is said about it.

use fuseline_program::instr::{Field, IntOrVid};
use fuseline_program::{
    Call, Data, Dim, Instruction, IoSlot, Method, MlxGraph, Payload, Program, ScalarType, Storage,
    TensorMeta, Tid, Value, Vid,
};

use crate::common::{sample, scaled_exp};

fn graph_error(change: impl FnOnce(&mut MlxGraph)) -> String {
    let mut graph = scaled_exp("w");
    graph.validate().unwrap();
    change(&mut graph);
    graph.validate().unwrap_err().to_string()
}

fn program_error(change: impl FnOnce(&mut Program<'static>)) -> String {
    let mut program = sample();
    program.validate().unwrap();
    change(&mut program);
    program.validate().unwrap_err().to_string()
}

fn method_error(change: impl FnOnce(&mut Method<'static>)) -> String {
    let error = program_error(|program| change(&mut program.methods[0]));
    error
        .strip_prefix("method \"forward\"")
        .unwrap_or(&error)
        .trim_start_matches([',', ':', ' '])
        .to_owned()
}

fn instruction(name: &str, fields: &[(&str, Field)]) -> Instruction {
    Instruction::build(name, fields).unwrap()
}

/// What is said about the main chain if this instruction comes first; it reads the input and writes the temporary.
fn instruction_error(name: &str, fields: &[(&str, Field)]) -> String {
    let mut all = vec![("x", Tid(1).into()), ("out", Tid(3).into())];
    all.extend(fields.iter().cloned());
    let place = format!("chain 0, instruction 0 ({name}): ");
    let error = graph_error(|graph| graph.chains[0].insert(0, instruction(name, &all)));
    error.strip_prefix(&place).unwrap_or(&error).to_owned()
}

#[test]
fn counts_and_descriptions() {
    let error = graph_error(|graph| graph.counts.temps = 2_000_000);
    assert_eq!(
        error,
        "2000000 tensor slots of a class: more than the 1000000 that are allowed"
    );
    let error = graph_error(|graph| drop(graph.tensors.pop()));
    assert_eq!(
        error,
        "described tensors and slots that are not temporaries: 2 and 3 should be equal"
    );
    let error = graph_error(|graph| graph.tensors[1].dtype = ScalarType::F8E4M3);
    assert_eq!(
        error,
        "tensor 1 (%i0): the element type f8e4m3 can't be used for an array of MLX"
    );
    let error = graph_error(|graph| graph.tensors[0].shape[0] = Dim::Dynamic { min: 1, max: None });
    assert_eq!(
        error,
        "tensor 0 (%c0): a shape that varies is not supported"
    );
    let error =
        graph_error(|graph| graph.tensors[0] = TensorMeta::fixed(ScalarType::F32, &[1 << 30; 4]));
    assert!(
        error.starts_with("tensor 0 (%c0): the tensor has 18446744073709551615 bytes"),
        "{error}"
    );
    let error = graph_error(|graph| graph.tensors[1].shape = vec![Dim::Static(1); 17]);
    assert_eq!(
        error,
        "tensor 1 (%i0): 17 dimensions: more than the 16 that are allowed"
    );
}

#[test]
fn state_is_bounded() {
    let state = |shape: &[u32]| {
        let meta = TensorMeta::fixed(ScalarType::F32, shape);
        graph_error(|graph| {
            graph.counts.state = 1;
            graph.counts.temps = 0;
            graph.state.push(IoSlot::Tensor(Tid(3)));
            graph.tensors.push(meta);
        })
    };
    assert_eq!(
        state(&[1 << 20, 1 << 11]),
        "tensor 3 (%s0): the tensor has 8589934592 bytes, more than 4294967296"
    );
    assert_eq!(
        state(&[4, 0]),
        "tensor 3 (%s0): a state without elements is not supported"
    );
}

#[test]
fn slots_names_and_maps() {
    let error = graph_error(|graph| graph.inputs[0] = IoSlot::Tensor(Tid(2)));
    assert_eq!(
        error,
        "inputs, entry 0: the slot is %2, which is not a slot of that class"
    );
    let error = graph_error(|graph| graph.inputs.push(IoSlot::Tensor(Tid(1))));
    assert_eq!(error, "inputs: the slot `Tensor(Tid(1))` comes twice");
    let error = graph_error(|graph| graph.outputs[0] = IoSlot::Int(Vid(0)));
    assert_eq!(
        error,
        "outputs, entry 0: value slot 0 does not exist (there are 0)"
    );
    let error = graph_error(|graph| graph.names.clear());
    assert_eq!(error, "constant %c0: the name is missing");
    let error = graph_error(|graph| graph.main_chain = 3);
    assert_eq!(error, "main chain 3 does not exist (there are 1)");
    let error = graph_error(|graph| graph.init_chain = Some(1));
    assert_eq!(error, "init chain 1 does not exist (there are 1)");
}

#[test]
fn operands_and_flow() {
    let exp =
        |x: u32, out: u32| instruction("Exp", &[("x", Tid(x).into()), ("out", Tid(out).into())]);
    let error = graph_error(|graph| graph.chains[0].push(exp(9, 2)));
    assert_eq!(
        error,
        "chain 0, instruction 2 (Exp): tensor slot 9 does not exist (there are 4)"
    );
    let error = graph_error(|graph| graph.chains[0].push(exp(1, 0)));
    assert_eq!(
        error,
        "chain 0, instruction 2 (Exp): writing a constant outside of the init chain is not supported"
    );
    let error = graph_error(|graph| graph.chains[0].truncate(1));
    assert_eq!(error, "outputs, entry 0: %o0 is read before it is written");
    let error = graph_error(|graph| drop(graph.chains[0].remove(0)));
    assert_eq!(
        error,
        "chain 0, instruction 0 (Multiply): %t0 is read before it is written"
    );
    let mut graph = scaled_exp("w");
    graph.chains.push(vec![exp(0, 0)]);
    graph.init_chain = Some(1);
    graph.validate().unwrap();
}

#[test]
fn chains_that_run_chains() {
    let branch = |yes: i64, no: i64| {
        let fields = [
            ("cond", 1.into_field()),
            ("then_chain_idx", yes.into()),
            ("else_chain_idx", no.into()),
        ];
        instruction("If", &fields)
    };
    let exp = || instruction("Exp", &[("x", Tid(1).into()), ("out", Tid(3).into())]);
    let error = graph_error(|graph| graph.chains[0].push(branch(0, 7)));
    assert_eq!(
        error,
        "chain 0, instruction 2 (If): chain 7 does not exist (there are 1)"
    );
    let error = graph_error(|graph| graph.chains[0].push(branch(0, 0)));
    assert_eq!(error, "chain 0 runs itself");
    let error = graph_error(|graph| {
        graph.chains[0].push(branch(1, 1));
        graph.chains.push(vec![branch(2, 2)]);
        graph.chains.push(vec![branch(1, 1)]);
    });
    assert!(error.ends_with("runs itself"), "{error}");
    let error = graph_error(|graph| {
        graph.chains[0].push(branch(1, 1));
        graph
            .chains
            .extend((2..40).map(|next| vec![branch(next, next)]));
        graph.chains.push(Vec::new());
    });
    assert_eq!(
        error,
        "33 chains within chains: more than the 32 that are allowed"
    );
    // Only what both branches write is there afterwards.
    let error = graph_error(|graph| {
        graph.chains[0][0] = branch(1, 2);
        graph.chains.push(vec![exp()]);
        graph.chains.push(Vec::new());
    });
    assert_eq!(
        error,
        "chain 0, instruction 1 (Multiply): %t0 is read before it is written"
    );
    let mut graph = scaled_exp("w");
    graph.chains[0][0] = branch(1, 1);
    graph.chains.push(vec![exp()]);
    graph.validate().unwrap();
}

trait IntoField {
    fn into_field(self) -> Field;
}

impl IntoField for i64 {
    fn into_field(self) -> Field {
        Field::IntOrVid(IntOrVid::Int(self))
    }
}

#[test]
fn attributes() {
    let said = |name, fields: &[(&str, Field)]| instruction_error(name, fields);
    let axis = "axis is 2, which is not an axis of the operand";
    assert_eq!(said("Softmax", &[("axis", 2_i64.into())]), axis);
    assert_eq!(
        said("ExpandDims", &[("axis", 3_i64.into())]),
        axis.replace('2', "3")
    );
    assert_eq!(
        said("Sum", &[("axes", vec![0_i64, 2].into())]),
        axis.replace("axis is", "axes is")
    );
    let perm = said("Transpose", &[("perm", vec![0_i64, 0].into())]);
    assert_eq!(
        perm,
        "perm is [0, 0], which is not an order of all the axes"
    );
    let shape = |lengths: &[i64]| ("shape", lengths.to_vec().into());
    let reshape = said("Reshape", &[shape(&[-2, 4])]);
    assert_eq!(reshape, "shape is -2, which is not -1 or more");
    let wide = said("BroadcastTo", &[shape(&[1 << 40])]);
    assert_eq!(wide, "shape is 1099511627776, which is not below 2^31");
    assert_eq!(
        said("Gelu", &[("approximate", "sigmoid".into())]),
        "approximate is \"sigmoid\", which is not \"none\" or \"tanh\""
    );
    let step = [("axis", 0_i64), ("start", 0), ("stop", 4), ("step", 0)]
        .map(|(name, number)| (name, number.into()));
    assert_eq!(
        said("Slice", &step),
        "step is 0, which is not a step that leads anywhere"
    );
    let to = said("AsType", &[("scalar_type", ScalarType::F8E5M2.into())]);
    assert_eq!(
        to,
        "the element type f8e5m2 can't be used for an array of MLX"
    );
    let rolled = said(
        "Roll",
        &[
            ("shift", vec![1_i64, 2].into()),
            ("axes", vec![0_i64].into()),
        ],
    );
    assert_eq!(rolled, "shift and axes: 2 and 1 should be equal");
    let error = graph_error(|graph| {
        let fields = [
            ("out", Tid(3).into()),
            ("v", 0.0_f64.into()),
            shape(&[1 << 20, 1 << 20]),
            ("scalar_type", ScalarType::F32.into()),
        ];
        graph.chains[0].insert(0, instruction("Full", &fields));
    });
    assert!(
        error.ends_with("the new tensor has 4398046511104 bytes, more than 4294967296"),
        "{error}"
    );
}

#[test]
fn names_and_data() {
    let error = program_error(|program| program.named_data[1].key = "0000/first".to_owned());
    assert_eq!(error, "the data `0000/first` comes twice");
    let error = program_error(|program| program.methods[0].name.clear());
    assert_eq!(error, "method is \"\", which is not a name");
    let error = program_error(|program| program.named_data[0].data = Data::owned(vec![0; 12]));
    let place = "method \"forward\", delegate 0, constant %c0 (\"0000/first\"): ";
    assert_eq!(
        error,
        format!("{place}bytes of the data and of the tensor: 12 and 16 should be equal")
    );
    let error = program_error(|program| drop(program.named_data.remove(0)));
    assert_eq!(
        error,
        format!(
            "{place}the data with its name, in the file and in those given beside it (.ptd), is missing"
        )
    );
    let error = program_error(|program| program.constants[0] = Data::owned(vec![0; 2]));
    let reason = "the tensor in its constant: bytes 0 to 0 + 4 leave the 2 that are there";
    assert_eq!(error, format!("method \"forward\", value 4: {reason}"));
}

#[test]
fn values_and_calls() {
    let planned = |method: &mut Method<'_>, value: usize, place: u64| {
        let Value::Tensor(tensor) = &mut method.values[value] else {
            panic!("value {value} is no tensor")
        };
        tensor.storage = Storage::Planned {
            arena: 1,
            offset: place,
            initial: None,
        };
    };
    let error = method_error(|method| planned(method, 3, 900));
    assert_eq!(
        error,
        "value 3: the tensor in its arena: bytes 900 to 900 + 256 leave the 1024 that are there"
    );
    let error = method_error(|method| planned(method, 1, 64));
    assert_eq!(error, "chain 0, call 0: values 0 and 1 overlap");
    let error = method_error(|method| method.arenas.clear());
    assert_eq!(error, "the list of arenas is missing");
    let error = method_error(|method| method.outputs[0] = 70);
    assert_eq!(error, "outputs: value 70 does not exist (there are 7)");
    let error = method_error(|method| method.operators.clear());
    assert_eq!(
        error,
        "chain 0, call 1: operator 0 does not exist (there are 0)"
    );
    let error = method_error(|method| method.operators[0].name = "a".repeat(100));
    assert_eq!(
        error,
        "operator 0: 104 bytes of an operator's name: more than the 99 that are allowed"
    );
    let error = method_error(|method| {
        method.chains[0][0] = Call::Delegate {
            delegate: 0,
            args: vec![0],
        }
    });
    assert_eq!(
        error,
        "chain 0, call 0: arguments and the delegate's inputs and outputs: 1 and 2 should be equal"
    );
    let error = method_error(|method| {
        method.chains[0][0] = Call::Delegate {
            delegate: 0,
            args: vec![5, 1],
        }
    });
    assert_eq!(
        error,
        "chain 0, call 0, argument 0 (value 5): the argument is value 5, which is not a tensor"
    );
    let error = method_error(|method| method.values[6] = Value::TensorList(vec![5]));
    assert_eq!(error, "value 6: an item is value 5, which is not a tensor");
    let error = method_error(|method| method.delegates[0].id = "Other".to_owned());
    assert_eq!(
        error,
        "delegate 0: the delegate's id is \"Other\", which is not the one that its payload is for"
    );
    let error = method_error(|method| {
        let Payload::Mlx(graph) = &mut method.delegates[0].payload else {
            panic!("no MLX delegate")
        };
        graph.tensors[1].dtype = ScalarType::F16;
    });
    let reason =
        "the element type f32 can't be used for an input that the delegate has in another type";
    assert_eq!(
        error,
        format!("chain 0, call 0, argument 0 (value 0): {reason}")
    );
}
