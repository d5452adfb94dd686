//! Weights that are pickled objects: tensor subclasses as TorchAO and ExecuTorch's export helpers make them for quantised weights.
//!
//! Such a weight's payload is a zip of its own, of `torch.save`: a pickle stream and storages. [`read`] reads the stream by a [`machine`] that builds nothing but plain values and
//! tensors over the storages, and takes of it what the classes in [`globals`] have: tensors, block sizes, dtypes. [`unwrap`] then says in the graph what the class says in
//! Python, so that the rest of the compiler sees an archive of plain tensors. Everything else is refused by name.

mod globals;
mod machine;
mod unwrap;
mod values;

#[cfg(test)]
mod tests;

pub(super) use unwrap::unwrap;

use super::container::{Container, MappedBytes};
use super::error::Error;
use super::scalar::ScalarType;
use super::weights::WeightRef;
use globals::{Class, Global};
use machine::{Id, Values};
use values::{Node, Object, Tensors, sizes};

/// What a pickled weight turned out to be.
#[derive(Debug, Clone)]
pub(super) enum Pickled {
    /// A tensor like any other.
    Plain(WeightRef),
    /// A tensor subclass.
    Quantised(Quantised),
}

/// A quantised weight: the tensors that it consists of, and the call that gives the floats that it stands for.
#[derive(Debug, Clone)]
pub(super) struct Quantised {
    /// The class in Python.
    pub class: &'static str,
    /// The shape of the floats.
    pub sizes: Vec<usize>,
    /// Their dtype, where the object says it.
    pub dtype: Option<ScalarType>,
    /// The tensors, by attribute.
    pub parts: Vec<(&'static str, WeightRef)>,
    /// The operator that dequantises it.
    pub operator: &'static str,
    /// Its arguments, in order, by name.
    pub args: Vec<(&'static str, Arg)>,
    /// Whether products with it quantise what it is multiplied by too, so that the operator isn't all of it.
    pub activation: bool,
}

/// An argument of the operator.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Arg {
    /// One of the tensors.
    Part(&'static str),
    None,
    Int(i64),
    Ints(Vec<i64>),
    Dtype(ScalarType),
}

/// Reads the pickled weight of that name, whose payload is `bytes`, the entry `entry` of the archive.
///
/// # Errors
/// What is wrong with it, or what is not read.
pub(super) fn read(fqn: &str, entry: &str, bytes: &MappedBytes) -> Result<Pickled, String> {
    let zip = Container::within(bytes, entry).map_err(|error| match error {
        Error::NotAZip { reason, .. } => format!("its payload is no zip of torch.save ({reason})"),
        other => other.to_string(),
    })?;
    let stream = "data.pkl";
    let root = zip
        .names()
        .find_map(|name| {
            name.strip_suffix(stream)
                .filter(|r| r.matches('/').count() == 1)
        })
        .ok_or("its payload has no pickle stream")?
        .to_owned();
    let order = zip.get(&format!("{root}byteorder"));
    if order.is_some_and(|order| &*order != b"little") {
        return Err("its payload is not little-endian".to_owned());
    }
    let checked = zip.checked(&format!("{root}{stream}"), "it describes the tensors");
    let checked = checked.map_err(|e| e.to_string())?;
    let storage = |key: &str| {
        let name = format!("{root}data/{key}");
        let bytes = zip.get(&name)?;
        Some((format!("{entry}/{name}"), bytes))
    };
    let maker = Tensors {
        fqn,
        storage: &storage,
    };
    let (values, result) = machine::read(&checked, &maker)?;
    match values.get(result) {
        Node::Tensor(weight) => Ok(Pickled::Plain((**weight).clone())),
        Node::Object(object) => {
            let class = object.class.name();
            let found = Attributes {
                values: &values,
                object,
            }
            .quantised();
            let found = found.map_err(|reason| format!("{class}: {reason}"))?;
            Ok(Pickled::Quantised(found))
        }
        _ => Err("its pickle stream makes no tensor".to_owned()),
    }
}

/// The attributes of an object.
struct Attributes<'v> {
    values: &'v Values,
    object: &'v Object,
}

impl Attributes<'_> {
    /// The attribute, or `None` in Python's sense where it is absent.
    fn get(&self, name: &str) -> &Node {
        let named = |id: Id| matches!(self.values.get(id), Node::Text(text) if text == name);
        let found = self.object.attributes.iter().find(|(key, _)| named(*key));
        found.map_or(&Node::None, |(_, value)| self.values.get(*value))
    }

    fn tensor(&self, name: &'static str) -> Result<WeightRef, String> {
        match self.get(name) {
            Node::Tensor(weight) => {
                let mut weight = (**weight).clone();
                weight.fqn = format!("{}.{name}", weight.fqn);
                Ok(weight)
            }
            _ => Err(format!("its `{name}` is no tensor")),
        }
    }

    fn int(&self, name: &str) -> Result<i64, String> {
        match self.get(name) {
            Node::Int(n) => Ok(*n),
            _ => Err(format!("its `{name}` is no integer")),
        }
    }

    fn ints(&self, name: &str) -> Result<Vec<i64>, String> {
        let found = sizes(self.values, self.get(name)).map_err(|e| format!("its `{name}`: {e}"))?;
        let found = found
            .into_iter()
            .map(i64::try_from)
            .collect::<Result<_, _>>();
        found.map_err(|_| format!("its `{name}` are too large"))
    }

    fn dtype(&self, name: &str) -> Result<Option<ScalarType>, String> {
        match self.get(name) {
            Node::None => Ok(None),
            Node::Global(Global::Dtype(dtype)) => Ok(Some(*dtype)),
            _ => Err(format!("its `{name}` is no dtype")),
        }
    }

    /// The tensor's attributes in the form of the operator that its class calls.
    fn quantised(&self) -> Result<Quantised, String> {
        let mut of = Quantised {
            class: self.object.class.name(),
            sizes: Vec::new(),
            dtype: None,
            parts: Vec::new(),
            operator: "",
            args: Vec::new(),
            activation: false,
        };
        let part = |of: &mut Quantised, argument, name| -> Result<(), String> {
            of.parts.push((name, self.tensor(name)?));
            of.args.push((argument, Arg::Part(name)));
            Ok(())
        };
        let class = self.object.class;
        match class {
            Class::IntxUnpackedToInt8 | Class::Int8 => {
                of.operator = "torch.ops.torchao.dequantize_affine.default";
                part(&mut of, "input", "qdata")?;
                of.args
                    .push(("block_size", Arg::Ints(self.ints("block_size")?)));
                part(&mut of, "scale", "scale")?;
                match self.get("zero_point") {
                    Node::None => of.args.push(("zero_point", Arg::None)),
                    _ => part(&mut of, "zero_point", "zero_point")?,
                }
                let bits = match self.get("target_dtype") {
                    Node::Global(Global::Int(bits)) => *bits,
                    Node::None | Node::Global(Global::Dtype(ScalarType::Int8)) => 8,
                    _ => return Err("its `target_dtype` is no integer's".to_owned()),
                };
                let half = 1 << (bits - 1);
                of.args.push(("input_dtype", Arg::Dtype(ScalarType::Int8)));
                of.args.push(("quant_min", Arg::Int(-half)));
                of.args.push(("quant_max", Arg::Int(half - 1)));
                of.dtype = self.dtype("dtype")?;
                of.activation = [
                    "activation_quantization",
                    "act_quant_scale",
                    "act_quant_zero_point",
                    "act_pre_scale",
                    "act_quant_kwargs",
                ]
                .iter()
                .any(|name| !matches!(self.get(name), Node::None));
            }
            Class::Int4 => {
                of.operator = "torch.ops.torchao.dequantize_int4_tensor.default";
                part(&mut of, "qdata", "qdata")?;
                part(&mut of, "scale", "scale")?;
                part(&mut of, "zero_point", "zero_point")?;
                of.args
                    .push(("group_size", Arg::Int(self.int("group_size")?)));
                of.dtype = self.dtype("orig_dtype")?;
            }
            Class::NvFp4 => {
                of.operator = "torch.ops.torchao.dequantize_nvfp4.default";
                part(&mut of, "qdata", "qdata")?;
                part(&mut of, "scale", "scale")?;
                part(&mut of, "per_tensor_scale", "per_tensor_scale")?;
                of.args
                    .push(("block_size", Arg::Int(self.int("block_size")?)));
                of.dtype = self.dtype("orig_dtype")?;
            }
            Class::Mx => {
                of.operator = "torch.ops.torchao.dequantize_mx.default";
                part(&mut of, "qdata", "qdata")?;
                part(&mut of, "scale", "scale")?;
                let elements = self.dtype("elem_dtype")?;
                let elements = elements.ok_or("its `elem_dtype` is not given")?;
                of.args.push(("elem_dtype", Arg::Dtype(elements)));
                of.args
                    .push(("block_size", Arg::Int(self.int("block_size")?)));
                of.dtype = self.dtype("orig_dtype")?;
            }
        }
        of.sizes = self.shape(&of)?;
        Ok(of)
    }

    /// The shape of the floats: that of the elements, several of which can be in one number.
    fn shape(&self, of: &Quantised) -> Result<Vec<usize>, String> {
        let data = of.parts.first().map(|(_, data)| data);
        let data = data.ok_or("it has no elements")?;
        let each = match (self.object.class, data.dtype) {
            (Class::IntxUnpackedToInt8 | Class::Int8, ScalarType::Int8) => 1,
            (Class::Int4, ScalarType::UInt8 | ScalarType::Int8) => 2,
            (Class::NvFp4, ScalarType::UInt32) => 8,
            (Class::NvFp4, ScalarType::UInt8) => 2,
            (Class::Mx, ScalarType::Float8E4M3FN | ScalarType::Float8E5M2) => 1,
            (_, other) => return Err(format!("its elements are in {other:?}")),
        };
        let mut sizes = data.sizes.clone();
        if let Some(last) = sizes.last_mut() {
            *last = last.checked_mul(each).ok_or("its shape is too large")?;
        }
        Ok(sizes)
    }
}
