//! The exported program as typed data: the JSON of `models/*.json`, schema version 8.
//!
//! The shapes of these types are the shapes of the JSON. Unions there are objects with one key, which is how
//! serde writes enums by default, so that a wrong type anywhere is an error with its path, line and column.
//! Keys that carry nothing for a compiler are skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

pub use super::scalar::ScalarType;
use super::sym::SymExpr;

/// `models/<name>.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct ExportedProgram {
    /// The graph and its signature.
    pub graph_module: GraphModule,
    /// The range of each symbol; keys can be expressions of symbols.
    #[serde(default)]
    pub range_constraints: BTreeMap<String, RangeConstraint>,
    /// Version of this JSON's layout.
    pub schema_version: SchemaVersion,
    /// `TRAINING` for the dialect with in-place ops, `ATEN` for the functional one.
    #[serde(default)]
    pub verifiers: Vec<String>,
    /// The PyTorch that wrote the file.
    #[serde(default)]
    pub torch_version: String,
    /// Conditions on inputs as Python expressions.
    #[serde(default)]
    pub guards_code: Vec<String>,
}

/// Version of the JSON's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SchemaVersion {
    /// Incompatible changes.
    pub major: i64,
    /// Compatible additions.
    pub minor: i64,
}

/// Inclusive bounds of a symbol; `None` is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RangeConstraint {
    /// Least value.
    pub min_val: Option<i64>,
    /// Greatest value.
    pub max_val: Option<i64>,
}

/// The graph with what its inputs and outputs are for.
#[derive(Debug, Clone, Deserialize)]
pub struct GraphModule {
    /// The computation.
    pub graph: Graph,
    /// Which input is a weight, which output is a mutation.
    pub signature: GraphSignature,
    /// Calling conventions of the modules; the first is the model's own.
    #[serde(default)]
    pub module_call_graph: Vec<ModuleCallEntry>,
}

/// A graph: the top one, or the body of a higher-order op.
#[derive(Debug, Clone, Deserialize)]
pub struct Graph {
    /// Inputs in order. A constant input stands here as its value.
    pub inputs: Vec<Argument>,
    /// Outputs in order.
    pub outputs: Vec<Argument>,
    /// Operations in execution order.
    pub nodes: Vec<Node>,
    /// Type of each tensor by name.
    pub tensor_values: BTreeMap<String, TensorMeta>,
    /// Value of each symbolic integer by name.
    #[serde(default)]
    pub sym_int_values: BTreeMap<String, SymInt>,
    /// Value of each symbolic boolean by name.
    #[serde(default)]
    pub sym_bool_values: BTreeMap<String, SymBool>,
    /// Value of each symbolic float by name.
    #[serde(default)]
    pub sym_float_values: BTreeMap<String, SymFloat>,
    /// For the body of a higher-order op: it returns a tensor, not a tuple of one.
    #[serde(default)]
    pub is_single_tensor_return: bool,
}

/// One operation.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// `torch.ops.aten.add.Tensor`, `_operator.add`, `torch.ops.higher_order.cond`, `torch.sym_max`, …
    pub target: String,
    /// Arguments as they were given; what equals a schema's default may be missing.
    pub inputs: Vec<NamedArgument>,
    /// One entry per result; a list of tensors is one entry.
    pub outputs: Vec<Argument>,
    /// Where in the model the operation comes from.
    #[serde(default, rename = "metadata")]
    pub place: Place,
    /// PyTorch's name of the node; the graph's inner ones are unique.
    #[serde(default)]
    pub name: Option<String>,
    /// For a higher-order op: it returns one tensor, not a tuple of one.
    #[serde(default)]
    pub is_hop_single_tensor_return: Option<bool>,
}

/// An argument with its name in the operator's schema; empty for positional arguments of higher-order ops.
#[derive(Debug, Clone, Deserialize)]
pub struct NamedArgument {
    /// Name in the schema.
    pub name: String,
    /// The value.
    pub arg: Argument,
}

/// Where in the model's source an operation comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawMetadata")]
pub struct Place {
    /// Fully qualified name of the innermost module, such as `model.layers.0.mlp`; empty for the root.
    pub module: String,
    /// Innermost line of the source, such as `modeling_llama.py:243 in forward`.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct RawMetadata {
    #[serde(default)]
    stack_trace: Option<String>,
    #[serde(default)]
    nn_module_stack: Option<String>,
}

impl From<RawMetadata> for Place {
    fn from(raw: RawMetadata) -> Self {
        Self {
            module: raw
                .nn_module_stack
                .as_deref()
                .map(innermost_module)
                .unwrap_or_default(),
            source: raw.stack_trace.as_deref().and_then(innermost_line),
        }
    }
}

/// From `key,path,type;key,path,type;…`, outermost first: the last path. The root is the empty path; PyTorch
/// spells it `L__self__`-prefixed in some exports.
fn innermost_module(stack: &str) -> String {
    let last = stack.rsplit(';').next().unwrap_or_default();
    let path = last.split(',').nth(1).unwrap_or_default();
    let path = path.strip_prefix("L['self']").unwrap_or(path);
    path.trim_start_matches('.').to_owned()
}

/// From a Python traceback, innermost call last: `file.py:123 in function`. The line of the model counts, not the one inside PyTorch
/// that it leads to, if the traceback has both.
fn innermost_line(trace: &str) -> Option<String> {
    let frames = || {
        trace
            .lines()
            .rev()
            .filter_map(|line| line.trim_start().strip_prefix("File \""))
    };
    let line = frames()
        .find(|line| !line.contains("site-packages/torch/"))
        .or_else(|| frames().next())?;
    let (file, rest) = line.split_once("\", line ")?;
    let (number, function) = rest.split_once(", in ").unwrap_or((rest, ""));
    let file = file.rsplit(['/', '\\']).next().unwrap_or(file);
    Some(match function.trim() {
        "" => format!("{file}:{}", number.trim()),
        function => format!("{file}:{} in {function}", number.trim()),
    })
}

/// A tensor's type and layout. Strides and offset are in elements.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TensorMeta {
    /// Element type.
    pub dtype: ScalarType,
    /// Extent of each dimension.
    #[serde(deserialize_with = "sizes")]
    pub sizes: Vec<SymInt>,
    /// Distance between neighbours in each dimension.
    pub strides: Vec<SymInt>,
    /// Position of the first element in its storage.
    pub storage_offset: SymInt,
}

/// The most dimensions that a tensor of PyTorch can have.
pub(super) const MAX_RANK: usize = 64;

/// Sizes that a tensor can have.
fn sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SymInt>, D::Error> {
    let sizes = Vec::<SymInt>::deserialize(deserializer)?;
    if sizes.len() > MAX_RANK {
        let reason = format!(
            "{} dimensions, more than the {MAX_RANK} that a tensor can have",
            sizes.len()
        );
        return Err(de::Error::custom(reason));
    }
    match sizes
        .iter()
        .find(|size| matches!(size, SymInt::Int(n) if *n < 0))
    {
        Some(SymInt::Int(n)) => Err(de::Error::custom(format!("{n} is no size"))),
        _ => Ok(sizes),
    }
}

/// An integer or an integer expression.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum SymInt {
    /// A known integer.
    #[serde(rename = "as_int")]
    Int(i64),
    /// An expression of symbols.
    #[serde(rename = "as_expr")]
    Expr(SymExprWithHint),
}

/// A boolean or a boolean expression.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum SymBool {
    /// A known boolean.
    #[serde(rename = "as_bool")]
    Bool(bool),
    /// An expression of symbols.
    #[serde(rename = "as_expr")]
    Expr(SymExprWithHint),
}

/// A float or a float expression.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum SymFloat {
    /// A known float.
    #[serde(rename = "as_float")]
    Float(JsonFloat),
    /// An expression of symbols.
    #[serde(rename = "as_expr")]
    Expr(SymExprWithHint),
}

/// An expression of symbols. (The hint beside it, the example's value, is of no use to a compiler.)
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SymExprWithHint {
    /// The expression.
    #[serde(rename = "expr_str", deserialize_with = "sym_expr")]
    pub expr: SymExpr,
}

fn sym_expr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SymExpr, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

/// A float in JSON; those that JSON lacks are written as the strings `Infinity`, `-Infinity` and `NaN`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JsonFloat(
    /// The value.
    pub f64,
);

impl<'de> Deserialize<'de> for JsonFloat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = JsonFloat;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a float, \"Infinity\", \"-Infinity\" or \"NaN\"")
            }

            fn visit_f64<E>(self, value: f64) -> Result<JsonFloat, E> {
                Ok(JsonFloat(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<JsonFloat, E> {
                Ok(JsonFloat(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<JsonFloat, E> {
                Ok(JsonFloat(value as f64))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<JsonFloat, E> {
                match value {
                    "Infinity" => Ok(JsonFloat(f64::INFINITY)),
                    "-Infinity" => Ok(JsonFloat(f64::NEG_INFINITY)),
                    "NaN" => Ok(JsonFloat(f64::NAN)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A reference to a tensor of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TensorName {
    /// Name in `tensor_values`.
    pub name: String,
}

/// A value of any kind, as an argument or a result.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "each variant is the value that its name says")]
pub enum Argument {
    #[serde(rename = "as_none")]
    None(de::IgnoredAny),
    #[serde(rename = "as_tensor")]
    Tensor(TensorName),
    #[serde(rename = "as_tensors")]
    Tensors(Vec<TensorName>),
    #[serde(rename = "as_optional_tensor")]
    OptionalTensor(OptionalTensor),
    #[serde(rename = "as_optional_tensors")]
    OptionalTensors(Vec<OptionalTensor>),
    #[serde(rename = "as_nested_tensors")]
    NestedTensors(Vec<Vec<TensorName>>),
    #[serde(rename = "as_int")]
    Int(i64),
    #[serde(rename = "as_ints")]
    Ints(Vec<i64>),
    #[serde(rename = "as_int_lists")]
    IntLists(Vec<Vec<i64>>),
    #[serde(rename = "as_float")]
    Float(JsonFloat),
    #[serde(rename = "as_floats")]
    Floats(Vec<JsonFloat>),
    #[serde(rename = "as_float_lists")]
    FloatLists(Vec<Vec<JsonFloat>>),
    #[serde(rename = "as_complex")]
    Complex(JsonComplex),
    #[serde(rename = "as_bool")]
    Bool(bool),
    #[serde(rename = "as_bools")]
    Bools(Vec<bool>),
    #[serde(rename = "as_string")]
    String(String),
    #[serde(rename = "as_strings")]
    Strings(Vec<String>),
    #[serde(rename = "as_sym_int")]
    SymInt(SymIntArgument),
    #[serde(rename = "as_sym_ints")]
    SymInts(Vec<SymIntArgument>),
    #[serde(rename = "as_sym_float")]
    SymFloat(SymFloatArgument),
    #[serde(rename = "as_sym_floats")]
    SymFloats(Vec<SymFloatArgument>),
    #[serde(rename = "as_sym_bool")]
    SymBool(SymBoolArgument),
    #[serde(rename = "as_sym_bools")]
    SymBools(Vec<SymBoolArgument>),
    #[serde(rename = "as_scalar_type")]
    ScalarType(ScalarType),
    #[serde(rename = "as_memory_format")]
    MemoryFormat(i64),
    #[serde(rename = "as_layout")]
    Layout(i64),
    #[serde(rename = "as_device")]
    Device(Device),
    #[serde(rename = "as_operator")]
    Operator(String),
    #[serde(rename = "as_graph")]
    Graph(Box<GraphArgument>),
    #[serde(rename = "as_custom_obj")]
    CustomObj(CustomObj),
    #[serde(rename = "as_string_to_argument")]
    StringToArgument(BTreeMap<String, Argument>),
}

impl Argument {
    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None(_) => "None",
            Self::Tensor(_) => "a tensor",
            Self::Tensors(_) => "a list of tensors",
            Self::OptionalTensor(_) => "an optional tensor",
            Self::OptionalTensors(_) => "a list of optional tensors",
            Self::NestedTensors(_) => "lists of tensors",
            Self::Int(_) => "an integer",
            Self::Ints(_) => "a list of integers",
            Self::IntLists(_) => "lists of integers",
            Self::Float(_) => "a float",
            Self::Floats(_) => "a list of floats",
            Self::FloatLists(_) => "lists of floats",
            Self::Complex(_) => "a complex number",
            Self::Bool(_) => "a boolean",
            Self::Bools(_) => "a list of booleans",
            Self::String(_) => "a string",
            Self::Strings(_) => "a list of strings",
            Self::SymInt(_) => "a symbolic integer",
            Self::SymInts(_) => "a list of symbolic integers",
            Self::SymFloat(_) => "a symbolic float",
            Self::SymFloats(_) => "a list of symbolic floats",
            Self::SymBool(_) => "a symbolic boolean",
            Self::SymBools(_) => "a list of symbolic booleans",
            Self::ScalarType(_) => "an element type",
            Self::MemoryFormat(_) => "a memory format",
            Self::Layout(_) => "a layout",
            Self::Device(_) => "a device",
            Self::Operator(_) => "an operator",
            Self::Graph(_) => "a graph",
            Self::CustomObj(_) => "a custom object",
            Self::StringToArgument(_) => "a dictionary",
        }
    }
}

/// A tensor or nothing.
#[derive(Debug, Clone, Deserialize)]
pub enum OptionalTensor {
    /// A tensor.
    #[serde(rename = "as_tensor")]
    Tensor(TensorName),
    /// Nothing.
    #[serde(rename = "as_none")]
    None(de::IgnoredAny),
}

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct JsonComplex {
    /// Real part.
    pub real: JsonFloat,
    /// Imaginary part.
    pub imag: JsonFloat,
}

/// An integer, or the name of one that the graph computes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub enum SymIntArgument {
    /// Name in `sym_int_values`.
    #[serde(rename = "as_name")]
    Name(String),
    /// A known integer.
    #[serde(rename = "as_int")]
    Int(i64),
}

/// A float, or the name of one that the graph computes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum SymFloatArgument {
    /// Name in `sym_float_values`.
    #[serde(rename = "as_name")]
    Name(String),
    /// A known float.
    #[serde(rename = "as_float")]
    Float(JsonFloat),
}

/// A boolean, or the name of one that the graph computes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub enum SymBoolArgument {
    /// Name in `sym_bool_values`.
    #[serde(rename = "as_name")]
    Name(String),
    /// A known boolean.
    #[serde(rename = "as_bool")]
    Bool(bool),
}

/// A device, such as `cpu`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Device {
    /// Kind of device.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The body of a higher-order op.
#[derive(Debug, Clone, Deserialize)]
pub struct GraphArgument {
    /// Name of the body.
    pub name: String,
    /// The body.
    pub graph: Graph,
}

/// A reference to a script object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CustomObj {
    /// Name of the input that carries it.
    pub name: String,
}

/// What inputs and outputs are for, in the graph's order.
#[derive(Debug, Clone, Deserialize)]
pub struct GraphSignature {
    /// One per graph input.
    pub input_specs: Vec<InputSpec>,
    /// One per graph output; mutations come first.
    pub output_specs: Vec<OutputSpec>,
}

/// What an input is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSpec {
    /// An argument of the model.
    UserInput {
        /// The graph's input, or a constant that the export fixed.
        arg: Argument,
    },
    /// A trained weight.
    Parameter {
        /// The graph's input.
        arg: TensorName,
        /// Fully qualified name.
        parameter_name: String,
    },
    /// A buffer: state, or a constant of the model.
    Buffer {
        /// The graph's input.
        arg: TensorName,
        /// Fully qualified name.
        buffer_name: String,
        /// Part of the state dict; if not, its value is among the constants.
        persistent: bool,
    },
    /// A tensor literal of the model's code.
    TensorConstant {
        /// The graph's input.
        arg: TensorName,
        /// Name among the constants.
        tensor_constant_name: String,
    },
    /// A script object.
    CustomObj {
        /// The graph's input.
        arg: CustomObj,
        /// Name among the constants.
        custom_obj_name: String,
    },
    /// An argument of the model whose value the export fixed.
    ConstantInput {
        /// Name of the argument.
        name: String,
        /// The value.
        value: Argument,
    },
    /// An ordering token of an effectful op.
    Token {
        /// The graph's input.
        arg: TensorName,
    },
}

/// What an output is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSpec {
    /// A result of the model.
    UserOutput {
        /// The graph's output.
        arg: Argument,
    },
    /// A result that is a loss.
    LossOutput {
        /// The graph's output.
        arg: TensorName,
    },
    /// The new value of a buffer.
    BufferMutation {
        /// The graph's output.
        arg: TensorName,
        /// Fully qualified name.
        buffer_name: String,
    },
    /// The new value of a parameter.
    ParameterMutation {
        /// The graph's output.
        arg: TensorName,
        /// Fully qualified name.
        parameter_name: String,
    },
    /// The new value of an argument of the model.
    UserInputMutation {
        /// The graph's output.
        arg: TensorName,
        /// Name of the input.
        user_input_name: String,
    },
    /// A gradient.
    GradientToParameter {
        /// The graph's output.
        arg: TensorName,
        /// Fully qualified name.
        parameter_name: String,
    },
    /// A gradient.
    GradientToUserInput {
        /// The graph's output.
        arg: TensorName,
        /// Name of the input.
        user_input_name: String,
    },
    /// An ordering token of an effectful op.
    Token {
        /// The graph's output.
        arg: TensorName,
    },
}

/// Calling convention of a module.
#[derive(Debug, Clone, Deserialize)]
pub struct ModuleCallEntry {
    /// Fully qualified name; empty for the model itself.
    pub fqn: String,
    /// Present for the model itself.
    #[serde(default)]
    pub signature: Option<ModuleCallSignature>,
}

/// How Python values become the flat inputs, and the flat outputs Python values.
#[derive(Debug, Clone, Deserialize)]
pub struct ModuleCallSignature {
    /// Tree of the inputs, JSON in a string: (positional tuple, keyword dictionary).
    #[serde(default)]
    pub in_spec: String,
    /// Tree of the outputs, JSON in a string.
    #[serde(default)]
    pub out_spec: String,
    /// Names of the arguments of `forward`.
    #[serde(default)]
    pub forward_arg_names: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_innermost_module_and_line() {
        let metadata = serde_json::json!({
            "stack_trace": "  File \"a/b/outer.py\", line 1, in forward\n    x\n  File \"a/b/inner.py\", line 22, in attend\n    y\n",
            "nn_module_stack": "L__self__,,pkg.Model;1,model.layers.0,pkg.Layer;2,model.layers.0.attn,pkg.Attn",
            "from_node": "[]",
        });
        let place: Place = serde_json::from_value(metadata).unwrap();
        assert_eq!(place.module, "model.layers.0.attn");
        assert_eq!(place.source.as_deref(), Some("inner.py:22 in attend"));
        let place: Place = serde_json::from_value(
            serde_json::json!({"stack_trace": "odd", "nn_module_stack": ""}),
        )
        .unwrap();
        assert_eq!(place, Place::default());
    }

    #[test]
    fn unions_are_objects_with_one_key() {
        let read = |text| serde_json::from_str::<Argument>(text);
        assert!(matches!(
            read(r#"{"as_none": true}"#),
            Ok(Argument::None(_))
        ));
        assert!(matches!(
            read(r#"{"as_float": "-Infinity"}"#),
            Ok(Argument::Float(JsonFloat(f64::NEG_INFINITY)))
        ));
        assert!(matches!(
            read(r#"{"as_float": 2}"#),
            Ok(Argument::Float(JsonFloat(2.0)))
        ));
        assert!(
            matches!(read(r#"{"as_sym_ints": [{"as_int": 1}, {"as_name": "n"}]}"#), Ok(Argument::SymInts(v)) if v.len() == 2)
        );
        assert!(
            read(r#"{"as_float": "huge"}"#)
                .unwrap_err()
                .to_string()
                .contains("Infinity")
        );
        assert!(
            read(r#"{"as_unheard_of": 1}"#)
                .unwrap_err()
                .to_string()
                .contains("as_unheard_of")
        );
        assert!(
            read(r#"{"as_scalar_type": 99}"#)
                .unwrap_err()
                .to_string()
                .contains("99 is not the number")
        );
    }
}
