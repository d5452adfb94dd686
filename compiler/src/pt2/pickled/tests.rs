//! Streams made opcode by opcode.

use serde_json::{Value, json};

use super::machine;
use super::values::Tensors;
use crate::pt2::exported::{Argument, InputSpec};
use crate::pt2::testing::{Parts, dense, payload};

/// A stream under construction.
#[derive(Clone, Default)]
struct Stream(Vec<u8>);

impl Stream {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.bytes(format!("c{module}\n{name}\n").as_bytes())
    }

    fn text(self, text: &str) -> Self {
        let count = u32::try_from(text.len()).unwrap().to_le_bytes();
        self.bytes(b"X").bytes(&count).bytes(text.as_bytes())
    }

    fn int(self, n: i32) -> Self {
        self.bytes(b"J").bytes(&n.to_le_bytes())
    }

    fn ints(self, list: &[i32]) -> Self {
        list.iter()
            .fold(self.bytes(b"("), |s, n| s.int(*n))
            .bytes(b"t")
    }

    /// A dense tensor of a storage.
    fn tensor(self, storage: &str, key: &str, sizes: &[i32], strides: &[i32]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .bytes(b"((")
            .text("storage")
            .global("torch", storage)
            .text(key)
            .text("cpu")
            .int(0)
            .bytes(b"tQ")
            .int(0)
            .ints(sizes)
            .ints(strides)
            .bytes(b"\x89")
            .global("collections", "OrderedDict")
            .bytes(b")RtR")
    }

    /// The beginning of a wrapper subclass, up to the first attribute.
    fn wrapper(self, module: &str, class: &str) -> Self {
        self.bytes(b"\x80\x02")
            .global("torch._tensor", "_rebuild_from_type_v2")
            .bytes(b"(")
            .global("torch._utils", "_rebuild_wrapper_subclass")
            .global(module, class)
            .bytes(b"q\x00(h\x00")
            .global("torch", "float32")
            .ints(&[2, 32])
            .ints(&[32, 1])
            .int(0)
            .bytes(b"t}(")
    }
}

/// `Linear(32, 2)` whose weight is 8-bit integers in groups of 32, unpacked.
fn int8(attributes: impl FnOnce(Stream) -> Stream) -> Vec<u8> {
    let stream = Stream::default()
        .wrapper("torchao.quantization", "IntxUnpackedToInt8Tensor")
        .text("qdata")
        .tensor("CharStorage", "0", &[2, 32], &[32, 1])
        .text("scale")
        .tensor("FloatStorage", "1", &[2, 1], &[1, 1])
        .text("zero_point")
        .tensor("CharStorage", "2", &[2, 1], &[1, 1])
        .text("target_dtype")
        .global("torch", "int4")
        .text("block_size")
        .ints(&[1, 32])
        .text("activation_quantization");
    attributes(stream).bytes(b"utR.").0
}

/// The weight's payload around a stream.
fn zip(stream: &[u8]) -> Vec<u8> {
    let entry = |name: &str, bytes: &[u8]| (format!("archive/{name}"), bytes.to_vec());
    Parts(vec![
        entry("data.pkl", stream),
        entry("byteorder", b"little"),
        entry("data/0", &[1; 64]),
        entry("data/1", &[0; 8]),
        entry("data/2", &[0; 2]),
    ])
    .zip()
}

/// A model that has the weight, and reads it by these nodes.
fn model(weight: Vec<u8>, nodes: Value) -> Parts {
    let tensor = |name: &str| json!({"as_tensor": {"name": name}});
    let program = json!({
        "graph_module": {
            "graph": {
                "inputs": [tensor("p_w"), tensor("x")],
                "outputs": [tensor("y")],
                "nodes": nodes,
                "tensor_values": {
                    "p_w": dense(7, &[2, 32]), "x": dense(7, &[1, 32]), "y": dense(7, &[1, 2]),
                    "q": dense(2, &[2, 32]), "q2": dense(2, &[2, 32]),
                },
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
                    {"user_input": {"arg": tensor("x")}},
                ],
                "output_specs": [{"user_output": {"arg": tensor("y")}}],
            },
        },
        "schema_version": {"major": 8, "minor": 20},
    });
    let mut config = payload("weight_0", dense(7, &[2, 32]));
    config["use_pickle"] = json!(true);
    Parts::new(
        &program,
        vec![("weight_0".to_owned(), weight)],
        json!({ "w": config }),
        Vec::new(),
        json!({}),
    )
}

fn linear() -> Value {
    let tensor = |name: &str| json!({"as_tensor": {"name": name}});
    json!([{
        "target": "torch.ops.aten.linear.default",
        "inputs": [{"name": "input", "arg": tensor("x")}, {"name": "weight", "arg": tensor("p_w")}],
        "outputs": [tensor("y")],
    }])
}

fn refused(stream: &[u8]) -> String {
    let error = model(zip(stream), linear()).error();
    assert!(
        error.contains("`w`") && error.contains("run_decompositions({})"),
        "{error}"
    );
    error
}

#[test]
fn an_object_becomes_tensors_and_a_call() {
    let archive = model(zip(&int8(|s| s.bytes(b"N"))), linear())
        .open()
        .unwrap();
    let module = &archive.program().graph_module;
    let names: Vec<_> = archive.weights().keys().map(String::as_str).collect();
    assert_eq!(names, ["w.qdata", "w.scale", "w.zero_point"]);
    assert_eq!(archive.weights()["w.qdata"].sizes, [2, 32]);
    assert_eq!(module.graph.inputs.len(), 4);
    assert!(matches!(
        &module.signature.input_specs[3],
        InputSpec::UserInput { .. }
    ));
    let call = &module.graph.nodes[0];
    assert_eq!(call.target, "torch.ops.torchao.dequantize_affine.default");
    assert!(matches!(&call.outputs[0], Argument::Tensor(name) if name.name == "p_w"));
    let least = call
        .inputs
        .iter()
        .find(|input| input.name == "quant_min")
        .unwrap();
    assert!(matches!(least.arg, Argument::Int(-8)));
}

#[test]
fn tensors_that_a_graph_takes_out_are_inputs() {
    let access = |result: &str| {
        json!({
            "target": "torch.ops.export.access_subclass_inner_tensor.default",
            "inputs": [
                {"name": "src_subclass_tensor", "arg": {"as_tensor": {"name": "p_w"}}},
                {"name": "attr", "arg": {"as_string": "qdata"}},
            ],
            "outputs": [{"as_tensor": {"name": result}}],
        })
    };
    let add = json!({
        "target": "torch.ops.aten.add.Tensor",
        "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "q"}}}, {"name": "other", "arg": {"as_tensor": {"name": "q2"}}}],
        "outputs": [{"as_tensor": {"name": "y"}}],
    });
    // An activation's quantisation is in such a graph.
    let weight = zip(&int8(|s| s.text("int8_asym_per_token")));
    let archive = model(weight, json!([access("q"), access("q2"), add]))
        .open()
        .unwrap();
    let [add] = archive.program().graph_module.graph.nodes.as_slice() else {
        panic!("nodes are left");
    };
    for input in &add.inputs {
        assert!(matches!(&input.arg, Argument::Tensor(name) if name.name == "p_w.qdata"));
    }
}

#[test]
fn a_plain_tensor_may_be_pickled() {
    let stream = Stream::default().tensor("FloatStorage", "0", &[2, 8], &[8, 1]);
    let error = refused_or_type(&stream.bytes(b".").0);
    assert!(error.contains("sizes [2, 8]"), "{error}");
}

fn refused_or_type(stream: &[u8]) -> String {
    model(zip(stream), linear()).error()
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let sound = int8(|s| s.bytes(b"N"));
    for (class, module) in [
        ("system", "os"),
        ("MXTensor", "torchao.prototype.mx_formats.mx_tensor"),
    ] {
        let stream = Stream::default()
            .global(module, class)
            .text("x")
            .bytes(b"\x85R.");
        let error = refused(&stream.0);
        assert!(
            error.contains(&format!(
                "at byte 0 of its pickle stream: `{module}.{class}`"
            )),
            "{error}"
        );
    }
    let says = |stream: Stream, reason: &str| {
        let error = refused(&stream.0);
        assert!(error.contains(reason), "{error} instead of {reason}");
    };
    let start = Stream::default;
    says(start().bytes(b"i"), "opcode 0x69");
    says(start().bytes(b"."), "more from the stack");
    says(start().bytes(b"N."), "makes no tensor");
    says(start().bytes(b"R"), "more from the stack");
    says(start().bytes(b"Nr\xff\xff\xff\xff."), "4294967295");
    says(
        start().bytes(b"h\x05."),
        "nothing is remembered as number 5",
    );
    says(start().bytes(b"X\xff\xff\xff\xff"), "in the middle");
    says(start().bytes(b"(N(NR"), "more from the stack");
    says(start().bytes(b"\x80\x09"), "protocol 9");
    says(start().bytes(b"N").text("x").bytes(b"R"), "no global");
    says(start().bytes(b"\x8a\x20"), "in the middle");
    says(
        start().tensor("FloatStorage", "9", &[1], &[1]),
        "`9` is not there",
    );
    says(
        start().tensor("FloatStorage", "0", &[2, 32], &[32, 1]),
        "needs 256 bytes",
    );
    says(
        start().tensor("FloatStorage", "0", &[-1], &[1]),
        "-1 where a size belongs",
    );
    says(
        start().tensor(
            "FloatStorage",
            "0",
            &[1 << 30, 1 << 30, 1 << 30],
            &[0, 0, 0],
        ),
        "too large",
    );
    let calls = start()
        .global("collections", "OrderedDict")
        .bytes(b"q\x00")
        .bytes(&b"h\x00)R".repeat(300));
    says(calls, "calls");
    // Quantised activations, where the graph doesn't say so.
    says(
        Stream(int8(|s| s.text("int8_asym_per_token"))),
        "quantise their other operand",
    );
    for cut in 0..sound.len() {
        refused(&sound[..cut]);
    }
}

#[test]
fn no_stream_breaks_the_machine() {
    let sound = int8(|s| s.bytes(b"N"));
    let maker = Tensors {
        fqn: "w",
        storage: &|_| None,
    };
    for at in 0..sound.len() {
        for byte in 0..=255 {
            let mut changed = sound.clone();
            changed[at] = byte;
            // Every storage is missing: no stream makes a tensor, and none does harm.
            let _ = machine::read(&changed, &maker);
        }
    }
    // A tuple in a tuple in a tuple…: nothing recurses, not even the end of it.
    let deep = Stream::default()
        .bytes(b")")
        .bytes(&[0x85; 200_000])
        .bytes(b".");
    assert!(machine::read(&deep.0, &maker).is_ok());
    let long = vec![b'N'; 1 << 21];
    assert!(machine::read(&long, &maker).is_err());
}
