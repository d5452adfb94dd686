//! One operation of the exported graph, with its arguments by name and its schema's defaults filled in.

use std::collections::BTreeMap;

use fuseline_ir::{DType, Dim, Scalar, Value};

use super::error::{Fail, Result, invalid, unsupported};
use super::memory::TensorId;
use super::symbolic;
use super::{Importer, Scope};
use crate::pt2::exported::{
    Argument, Node, OptionalTensor, SymBoolArgument, SymFloatArgument, SymIntArgument, TensorMeta,
    TensorName,
};
use crate::pt2::schema::{Literal, Schema};
use crate::pt2::sym::SymExpr;

/// What a name of the exported graph stands for.
#[derive(Debug, Clone)]
pub(super) enum Val {
    /// A tensor.
    Tensor(TensorId),
    /// A symbolic integer.
    Int(Dim),
    /// A symbolic float or boolean, or an integer that the IR's symbolic integers can't express.
    Sym(SymExpr),
    /// A complex tensor: its real and its imaginary part.
    Complex(TensorId, TensorId),
    /// A number that a 0-d tensor holds at run time.
    Number(TensorId),
    /// The result of an operation that could not be imported.
    Poison,
}

/// A Python number in an argument.
#[derive(Debug, Clone)]
pub(super) enum Num {
    /// Known now.
    Known(Scalar),
    /// An integer computed from sizes.
    Dim(Dim),
    /// In a 0-d tensor.
    Tensor(Value),
}

impl Num {
    /// The dtype that stands for the number's category in type promotion.
    pub fn category(&self, cx: &Importer<'_>) -> Result<DType> {
        Ok(match self {
            Self::Known(Scalar::Bool(_)) => DType::Bool,
            Self::Known(Scalar::Int(_)) | Self::Dim(_) => DType::I64,
            Self::Known(Scalar::Float(_)) => super::promote::DEFAULT_FLOAT,
            Self::Tensor(value) => match cx.build.dtype(*value)? {
                DType::Bool => DType::Bool,
                dtype if dtype.is_int() => DType::I64,
                _ => super::promote::DEFAULT_FLOAT,
            },
        })
    }
}

/// An argument as it was found.
enum Found<'a> {
    Given(&'a Argument),
    Default(&'a Literal),
}

/// An operation about to be imported.
pub(super) struct Call<'a> {
    /// The operation in the file.
    pub node: &'a Node,
    /// Its target without `torch.ops.`.
    pub target: &'a str,
    /// Its schema, for operators that have one in the table.
    pub schema: Option<&'a Schema>,
    /// Values of the names in the graph that the operation stands in.
    pub scope: &'a Scope<'a>,
}

impl<'a> Call<'a> {
    fn find(&self, name: &str) -> Result<Option<Found<'a>>> {
        if let Some(input) = self.node.inputs.iter().find(|input| input.name == name) {
            return Ok(Some(Found::Given(&input.arg)));
        }
        match self.schema {
            Some(schema) => match schema.arg(name) {
                Some(arg) => match &arg.default {
                    Some(default) => Ok(Some(Found::Default(default))),
                    None => invalid(format!("argument `{name}` is missing")),
                },
                None => Err(Fail::Bug(format!(
                    "`{}` has no argument `{name}`",
                    schema.name
                ))),
            },
            None => Ok(None),
        }
    }

    fn wrong<T>(&self, name: &str, expected: &str, found: &Argument) -> Result<T> {
        invalid(format!(
            "argument `{name}` is {}, not {expected}",
            found.kind()
        ))
    }

    /// Whether the argument is absent: not given, or `None`.
    pub fn is_none(&self, name: &str) -> Result<bool> {
        Ok(matches!(
            self.find(name)?,
            None | Some(Found::Given(Argument::None(_)) | Found::Default(Literal::None))
                | Some(Found::Given(Argument::OptionalTensor(
                    OptionalTensor::None(_)
                )))
        ))
    }

    /// The tensor of that name.
    pub fn named_tensor(&self, name: &TensorName) -> Result<TensorId> {
        match self.scope.get(&name.name) {
            Some(Val::Tensor(tensor)) => Ok(*tensor),
            Some(Val::Poison) => Err(Fail::Poisoned),
            Some(Val::Complex(..)) => unsupported("a complex tensor in this place"),
            Some(_) => invalid(format!("`{}` is not a tensor", name.name)),
            None => invalid(format!("`{}` is used before it is computed", name.name)),
        }
    }

    /// A tensor argument, as a reference that can be viewed or written to.
    pub fn tensor(&self, name: &str) -> Result<TensorId> {
        match self.find(name)? {
            Some(Found::Given(
                Argument::Tensor(tensor) | Argument::OptionalTensor(OptionalTensor::Tensor(tensor)),
            )) => self.named_tensor(tensor),
            Some(Found::Given(other)) => self.wrong(name, "a tensor", other),
            _ => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A tensor argument's value now. A Python number in its place becomes a 0-d tensor of its default dtype.
    pub fn value(&self, cx: &mut Importer<'_>, name: &str) -> Result<Value> {
        match self.find(name)? {
            Some(Found::Given(Argument::Tensor(_) | Argument::OptionalTensor(_))) => {
                let tensor = self.tensor(name)?;
                cx.read(tensor)
            }
            _ => {
                let number = self.num(cx, name)?;
                let dtype = number.category(cx)?;
                cx.number(&number, dtype)
            }
        }
    }

    /// An optional tensor argument's value.
    pub fn opt_value(&self, cx: &mut Importer<'_>, name: &str) -> Result<Option<Value>> {
        if self.is_none(name)? {
            Ok(None)
        } else {
            self.value(cx, name).map(Some)
        }
    }

    /// A list of tensors, as references.
    pub fn tensors(&self, name: &str) -> Result<Vec<TensorId>> {
        match self.find(name)? {
            Some(Found::Given(Argument::Tensors(names))) => {
                names.iter().map(|name| self.named_tensor(name)).collect()
            }
            Some(Found::Given(other)) => self.wrong(name, "a list of tensors", other),
            _ => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A list of tensors, by value.
    pub fn values(&self, cx: &mut Importer<'_>, name: &str) -> Result<Vec<Value>> {
        self.tensors(name)?
            .into_iter()
            .map(|tensor| cx.read(tensor))
            .collect()
    }

    /// A list of tensors in which some are absent.
    pub fn opt_values(&self, cx: &mut Importer<'_>, name: &str) -> Result<Vec<Option<Value>>> {
        match self.find(name)? {
            Some(Found::Given(Argument::OptionalTensors(all))) => all
                .iter()
                .map(|one| match one {
                    OptionalTensor::Tensor(tensor) => {
                        let tensor = self.named_tensor(tensor)?;
                        cx.read(tensor).map(Some)
                    }
                    OptionalTensor::None(_) => Ok(None),
                })
                .collect(),
            _ => Ok(self.values(cx, name)?.into_iter().map(Some).collect()),
        }
    }

    fn named_dim(&self, name: &str) -> Result<Dim> {
        match self.scope.get(name) {
            Some(Val::Int(dim)) => Ok(dim.clone()),
            Some(Val::Sym(expr)) => symbolic::dim(expr),
            Some(Val::Poison) => Err(Fail::Poisoned),
            Some(Val::Number(_)) => unsupported(format!(
                "the number `{name}`, known only at run time, as a size"
            )),
            Some(Val::Tensor(_) | Val::Complex(..)) => {
                invalid(format!("`{name}` is a tensor, not a number"))
            }
            None => invalid(format!("`{name}` is used before it is computed")),
        }
    }

    fn sym_int(&self, value: &SymIntArgument) -> Result<Dim> {
        match value {
            SymIntArgument::Int(n) => Ok(Dim::from(*n)),
            SymIntArgument::Name(name) => self.named_dim(name),
        }
    }

    /// An integer, possibly symbolic; `None` if absent.
    pub fn opt_dim(&self, name: &str) -> Result<Option<Dim>> {
        match self.find(name)? {
            None | Some(Found::Given(Argument::None(_)) | Found::Default(Literal::None)) => {
                Ok(None)
            }
            Some(Found::Given(Argument::Int(n)) | Found::Default(Literal::Int(n))) => {
                Ok(Some(Dim::from(*n)))
            }
            Some(Found::Given(Argument::SymInt(value))) => self.sym_int(value).map(Some),
            // How losses are reduced.
            Some(Found::Default(Literal::Name(name))) if name == "Mean" => Ok(Some(1i64.into())),
            Some(Found::Given(other)) => self.wrong(name, "an integer", other),
            Some(Found::Default(_)) => Err(Fail::Bug(format!(
                "the default of `{name}` is not an integer"
            ))),
        }
    }

    /// An integer, possibly symbolic.
    pub fn dim(&self, name: &str) -> Result<Dim> {
        match self.opt_dim(name)? {
            Some(dim) => Ok(dim),
            None => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A known integer; `None` if absent.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        match self.opt_dim(name)? {
            None => Ok(None),
            Some(dim) => match dim.as_const() {
                Some(n) => Ok(Some(n)),
                None => unsupported(format!(
                    "argument `{name}` that depends on a dynamic size (`{dim}`)"
                )),
            },
        }
    }

    /// A known integer.
    pub fn int(&self, name: &str) -> Result<i64> {
        match self.opt_int(name)? {
            Some(n) => Ok(n),
            None => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A list of integers, possibly symbolic; `None` if absent. A single integer stands for a list of one.
    pub fn opt_dims(&self, name: &str) -> Result<Option<Vec<Dim>>> {
        Ok(match self.find(name)? {
            None | Some(Found::Given(Argument::None(_)) | Found::Default(Literal::None)) => None,
            Some(Found::Given(Argument::Ints(all)) | Found::Default(Literal::Ints(all))) => {
                Some(all.iter().map(|n| Dim::from(*n)).collect())
            }
            Some(Found::Given(Argument::SymInts(all))) => Some(
                all.iter()
                    .map(|one| self.sym_int(one))
                    .collect::<Result<_>>()?,
            ),
            // An empty list has no element to tell its type.
            Some(Found::Given(Argument::Tensors(all))) if all.is_empty() => Some(Vec::new()),
            Some(Found::Given(Argument::Floats(all))) if all.is_empty() => Some(Vec::new()),
            _ => Some(vec![self.dim(name)?]),
        })
    }

    /// A list of integers, possibly symbolic.
    pub fn dims(&self, name: &str) -> Result<Vec<Dim>> {
        match self.opt_dims(name)? {
            Some(dims) => Ok(dims),
            None => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A list of known integers; `None` if absent.
    pub fn opt_ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        let Some(dims) = self.opt_dims(name)? else {
            return Ok(None);
        };
        dims.into_iter()
            .map(|dim| match dim.as_const() {
                Some(n) => Ok(n),
                None => unsupported(format!(
                    "argument `{name}` that depends on a dynamic size (`{dim}`)"
                )),
            })
            .collect::<Result<_>>()
            .map(Some)
    }

    /// A list of known integers.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        match self.opt_ints(name)? {
            Some(ints) => Ok(ints),
            None => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A list of known floats; `None` if absent.
    pub fn opt_floats(&self, name: &str) -> Result<Option<Vec<f64>>> {
        match self.find(name)? {
            None | Some(Found::Given(Argument::None(_)) | Found::Default(Literal::None)) => {
                Ok(None)
            }
            Some(Found::Given(Argument::Floats(all))) => {
                Ok(Some(all.iter().map(|x| x.0).collect()))
            }
            _ => Ok(self
                .opt_ints(name)?
                .map(|all| all.into_iter().map(|n| n as f64).collect())),
        }
    }

    /// A number of any kind; `None` if absent. A tensor in its place is the number that it holds.
    pub fn opt_num(&self, cx: &mut Importer<'_>, name: &str) -> Result<Option<Num>> {
        Ok(Some(match self.find(name)? {
            None | Some(Found::Given(Argument::None(_)) | Found::Default(Literal::None)) => {
                return Ok(None);
            }
            Some(Found::Given(Argument::Int(n)) | Found::Default(Literal::Int(n))) => {
                Num::Known(Scalar::Int(*n))
            }
            Some(Found::Given(Argument::Bool(b)) | Found::Default(Literal::Bool(b))) => {
                Num::Known(Scalar::Bool(*b))
            }
            Some(Found::Given(Argument::Float(x))) => Num::Known(Scalar::float(x.0)),
            Some(Found::Default(Literal::Float(x))) => Num::Known(Scalar::float(*x)),
            Some(Found::Given(Argument::SymInt(SymIntArgument::Int(n)))) => {
                Num::Known(Scalar::Int(*n))
            }
            Some(Found::Given(Argument::SymFloat(SymFloatArgument::Float(x)))) => {
                Num::Known(Scalar::float(x.0))
            }
            Some(Found::Given(Argument::SymBool(SymBoolArgument::Bool(b)))) => {
                Num::Known(Scalar::Bool(*b))
            }
            Some(Found::Given(Argument::SymInt(SymIntArgument::Name(n))))
            | Some(Found::Given(Argument::SymFloat(SymFloatArgument::Name(n))))
            | Some(Found::Given(Argument::SymBool(SymBoolArgument::Name(n)))) => {
                self.named_num(cx, n)?
            }
            Some(Found::Given(Argument::Tensor(_) | Argument::OptionalTensor(_))) => {
                Num::Tensor(self.value(cx, name)?)
            }
            Some(Found::Given(other)) => return self.wrong(name, "a number", other),
            Some(Found::Default(_)) => {
                return Err(Fail::Bug(format!(
                    "the default of `{name}` is not a number"
                )));
            }
        }))
    }

    /// The number of that name.
    pub fn named_num(&self, cx: &mut Importer<'_>, name: &str) -> Result<Num> {
        match self.scope.get(name) {
            Some(Val::Int(dim)) => Ok(match dim.as_const() {
                Some(n) => Num::Known(Scalar::Int(n)),
                None => Num::Dim(dim.clone()),
            }),
            Some(Val::Number(tensor)) => cx.read(*tensor).map(Num::Tensor),
            Some(Val::Sym(expr)) => cx.sym_number(expr),
            Some(Val::Poison) => Err(Fail::Poisoned),
            Some(Val::Tensor(_) | Val::Complex(..)) => {
                invalid(format!("`{name}` is a tensor, not a number"))
            }
            None => invalid(format!("`{name}` is used before it is computed")),
        }
    }

    /// A number of any kind.
    pub fn num(&self, cx: &mut Importer<'_>, name: &str) -> Result<Num> {
        match self.opt_num(cx, name)? {
            Some(num) => Ok(num),
            None => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A number that must be known now.
    pub fn scalar(&self, cx: &mut Importer<'_>, name: &str) -> Result<Scalar> {
        match self.num(cx, name)? {
            Num::Known(scalar) => Ok(scalar),
            Num::Dim(_) | Num::Tensor(_) => {
                unsupported(format!("argument `{name}` that is known only at run time"))
            }
        }
    }

    /// A known float; `None` if absent.
    pub fn opt_float(&self, cx: &mut Importer<'_>, name: &str) -> Result<Option<f64>> {
        if self.is_none(name)? {
            Ok(None)
        } else {
            self.float(cx, name).map(Some)
        }
    }

    /// A known float.
    pub fn float(&self, cx: &mut Importer<'_>, name: &str) -> Result<f64> {
        self.scalar(cx, name).map(Scalar::as_f64)
    }

    /// A boolean that must be known now.
    pub fn bool(&self, name: &str) -> Result<bool> {
        match self.find(name)? {
            Some(Found::Given(Argument::Bool(b)) | Found::Default(Literal::Bool(b))) => Ok(*b),
            Some(Found::Given(Argument::SymBool(SymBoolArgument::Bool(b)))) => Ok(*b),
            Some(Found::Given(Argument::Int(n)) | Found::Default(Literal::Int(n))) => Ok(*n != 0),
            None | Some(Found::Default(Literal::None)) | Some(Found::Given(Argument::None(_))) => {
                Ok(false)
            }
            Some(Found::Given(Argument::SymBool(_))) => {
                unsupported(format!("argument `{name}` that is known only at run time"))
            }
            Some(Found::Given(other)) => self.wrong(name, "a boolean", other),
            Some(Found::Default(_)) => Err(Fail::Bug(format!(
                "the default of `{name}` is not a boolean"
            ))),
        }
    }

    /// An element type; `None` if absent.
    pub fn opt_dtype(&self, name: &str) -> Result<Option<DType>> {
        match self.find(name)? {
            None | Some(Found::Given(Argument::None(_)) | Found::Default(Literal::None)) => {
                Ok(None)
            }
            Some(Found::Given(Argument::ScalarType(dtype))) => symbolic::dtype(*dtype).map(Some),
            Some(Found::Default(Literal::Name(name))) if name == "long" => Ok(Some(DType::I64)),
            Some(Found::Given(other)) => self.wrong(name, "an element type", other),
            Some(Found::Default(_)) => Err(Fail::Bug(format!(
                "the default of `{name}` is not an element type"
            ))),
        }
    }

    /// A string; `None` if absent.
    pub fn opt_str(&self, name: &str) -> Result<Option<&'a str>> {
        match self.find(name)? {
            None | Some(Found::Given(Argument::None(_)) | Found::Default(Literal::None)) => {
                Ok(None)
            }
            Some(Found::Given(Argument::String(text)) | Found::Default(Literal::Str(text))) => {
                Ok(Some(text))
            }
            Some(Found::Given(other)) => self.wrong(name, "a string", other),
            Some(Found::Default(_)) => Err(Fail::Bug(format!(
                "the default of `{name}` is not a string"
            ))),
        }
    }

    /// The memory format that an argument asks for; `None` where it asks for none or for the preserved one.
    pub fn opt_memory_format(&self, name: &str) -> Result<Option<i64>> {
        match self.find(name)? {
            Some(Found::Given(Argument::MemoryFormat(format))) if *format != PRESERVE_FORMAT => {
                Ok(Some(*format))
            }
            _ => Ok(None),
        }
    }

    /// The names of the tensor results: one name each, or the names in a list.
    pub fn out_names(&self) -> Vec<&'a str> {
        let mut names = Vec::new();
        for output in &self.node.outputs {
            match output {
                Argument::Tensor(name) => names.push(name.name.as_str()),
                Argument::Tensors(all) => names.extend(all.iter().map(|name| name.name.as_str())),
                _ => {}
            }
        }
        names
    }

    /// The type that the export recorded for a tensor of the graph.
    pub fn meta(&self, name: &str) -> Result<&'a TensorMeta> {
        match self.scope.graph.tensor_values.get(name) {
            Some(meta) => Ok(meta),
            None => invalid(format!("the graph has no type for `{name}`")),
        }
    }

    /// The type that the export recorded for the n-th tensor result.
    pub fn out_meta(&self, n: usize) -> Result<&'a TensorMeta> {
        match self.out_names().get(n) {
            Some(name) => self.meta(name),
            None => invalid(format!("result {n} is missing")),
        }
    }

    /// The sizes that the export recorded for the n-th tensor result.
    pub fn out_shape(&self, n: usize) -> Result<Vec<Dim>> {
        symbolic::sizes(&self.out_meta(n)?.sizes)
    }

    /// The element type that the export recorded for the n-th tensor result; of a complex one, that of its parts.
    pub fn out_dtype(&self, n: usize) -> Result<DType> {
        let dtype = self.out_meta(n)?.dtype;
        match symbolic::part_dtype(dtype) {
            Some(part) => Ok(part),
            None => symbolic::dtype(dtype),
        }
    }

    /// The type that the export recorded for a tensor argument.
    pub fn arg_meta(&self, name: &str) -> Result<&'a TensorMeta> {
        match self.find(name)? {
            Some(Found::Given(
                Argument::Tensor(tensor) | Argument::OptionalTensor(OptionalTensor::Tensor(tensor)),
            )) => self.meta(&tensor.name),
            _ => invalid(format!("argument `{name}` is not a tensor")),
        }
    }

    /// Whether one of the names that the operation reads is poisoned.
    pub fn reads_poison(&self) -> bool {
        let poisoned = |name: &str| matches!(self.scope.get(name), Some(Val::Poison));
        let mut inputs = self.node.inputs.iter();
        inputs.any(|input| mentions(&input.arg, &poisoned))
    }

    /// Whether nothing in the graph reads what has this name.
    pub fn is_unread(&self, name: &str) -> bool {
        let graph = self.scope.graph;
        let inputs = graph.nodes.iter().flat_map(|node| &node.inputs);
        let read = inputs.map(|input| &input.arg).chain(&graph.outputs);
        !read
            .into_iter()
            .any(|arg| mentions(arg, &|own| own == name))
    }
}

/// Whether one of the names in an argument is such a one.
fn mentions(arg: &Argument, such: &impl Fn(&str) -> bool) -> bool {
    match arg {
        Argument::Tensor(name) | Argument::OptionalTensor(OptionalTensor::Tensor(name)) => {
            such(&name.name)
        }
        Argument::Tensors(names) => names.iter().any(|name| such(&name.name)),
        Argument::OptionalTensors(all) => all
            .iter()
            .any(|one| matches!(one, OptionalTensor::Tensor(name) if such(&name.name))),
        Argument::SymInt(SymIntArgument::Name(name)) => such(name),
        Argument::SymInts(all) => all
            .iter()
            .any(|one| matches!(one, SymIntArgument::Name(name) if such(name))),
        Argument::SymFloat(SymFloatArgument::Name(name)) => such(name),
        Argument::SymBool(SymBoolArgument::Name(name)) => such(name),
        _ => false,
    }
}

/// `torch.preserve_format`.
const PRESERVE_FORMAT: i64 = 4;

/// Names of a graph and what they stand for.
pub(super) type Names = BTreeMap<String, Val>;
