//! Operators that become calls of the host: those of a user's library, and those that the user sends there.
//!
//! Nothing goes to the host in silence: the report names each call, its place and its reason. There go, beside what [`HostOps`] names,
//!
//! - operators that a runtime has kernels for, because the target can't express them: their handlers say so with [`built_in`];
//! - operators of a library that the compiler does not know, which have no other meaning than their kernel;
//! - operators of PyTorch's own that have no handler. The program that runs the model must register a kernel for each.
//!
//! The kernel of `mylib::foo` is `mylib::foo.out`, of `mylib::foo.bar` it is `mylib::foo.bar_out`: the name of the variant that writes into given tensors, as
//! ExecuTorch calls it. Its arguments are those of the operator's schema in order, defaults included. An archive has neither the schema of a library's operator nor
//! defaults: without a schema in [`HostOps`] the arguments are those that the export wrote, first the positional ones and then the named ones. In both cases
//!
//! - a tensor or a list of tensors is itself; what is absent is nothing;
//! - a number, truth value or string is itself, an element type, memory format or layout is its number in ATen, a device is its name;
//! - a number that is known only at run time is a tensor without axes.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Attr, Dim, F64, Scalar, TensorType, Type, Value};
use fuseline_program::ScalarType as Code;

use super::call::{Call, Num};
use super::error::{Fail, Result, invalid, unsupported};
use super::{Importer, Out, symbolic};
use crate::pt2::exported::{
    Argument, OptionalTensor, SymBoolArgument, SymFloatArgument, SymIntArgument, TensorName,
};
use crate::pt2::schema::{BaseType, Literal, Return, Schema};

/// Libraries whose operators the compiler knows, or whose graphs it reads: what it lacks of them is missing here, and no kernel of a user's.
const KNOWN: &[&str] = &[
    "aten",
    "higher_order",
    "kvcache",
    "mlx",
    "prim",
    "prims",
    "quantized_decomposed",
    "torchao",
];

/// Which operators the user sends to the host, and the schemas of those that the compiler can't know.
#[derive(Debug, Clone, Default)]
pub struct HostOps {
    patterns: Vec<String>,
    schemas: Vec<Schema>,
}

impl HostOps {
    /// Reads a list of operators: names as in an export, with `*` for any characters (`aten.topk.*`), or schemas as PyTorch writes them
    /// (`mylib::foo(Tensor x, int k=2) -> Tensor`).
    ///
    /// # Errors
    ///
    /// A schema that can't be read.
    pub fn new<S: AsRef<str>>(
        ops: impl IntoIterator<Item = S>,
    ) -> std::result::Result<Self, String> {
        let mut all = Self::default();
        for text in ops {
            let text = text.as_ref().trim();
            match text.split_once('(') {
                None => all.patterns.push(text.replace("::", ".")),
                Some((name, rest)) => {
                    let mut name = name.trim().replace("::", ".");
                    if name.matches('.').count() == 1 {
                        name.push_str(".default");
                    }
                    all.patterns.push(name.clone());
                    all.schemas.push(Schema::parse(&format!("{name}({rest}"))?);
                }
            }
        }
        Ok(all)
    }

    /// Those that fit none of an archive's operators: what was asked for that can't be done.
    pub fn unused<'t>(&self, operators: impl IntoIterator<Item = &'t str>) -> Vec<&str> {
        let operators: Vec<_> = operators
            .into_iter()
            .map(|name| name.strip_prefix("torch.ops.").unwrap_or(name))
            .collect();
        let fits = |pattern: &&String| operators.iter().any(|name| matches(pattern, name));
        let unused = self.patterns.iter().filter(|pattern| !fits(pattern));
        unused.map(String::as_str).collect()
    }

    /// Whether the user sends the operator to the host.
    pub(super) fn has(&self, target: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, target))
    }

    fn schema(&self, target: &str) -> Option<&Schema> {
        self.schemas.iter().find(|schema| schema.name == target)
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters. A name without its overload means all of them.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty() || (rest.starts_with('.') && first.matches('.').count() == 1);
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether the operator is one of a user's library. `full` is its target as the export writes it.
pub(super) fn is_custom(full: &str) -> bool {
    let parts = full
        .strip_prefix("torch.ops.")
        .map(|name| name.split('.').collect::<Vec<_>>());
    matches!(parts.as_deref(), Some([library, _, _]) if !KNOWN.contains(library))
}

/// Imports an operator as a call of a kernel that the runtime need not have.
pub(super) fn import(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let library = call.target.split('.').next().unwrap_or_default();
    let reason = if is_custom(&call.node.target) {
        format!("an operator of the library `{library}`")
    } else if cx.host_ops.has(call.target) {
        "sent to the host by option".to_owned()
    } else {
        NO_KERNEL.to_owned()
    };
    import_as(cx, call, &reason, &[])
}

/// The reason of a call that only a kernel of the program that runs the model can answer.
pub(super) const NO_KERNEL: &str = "it has no form in the target's instructions; the program that runs the model registers a kernel of this name";

/// Imports an operator as a call of a kernel that every runtime has. `given` are arguments with other values than the call has.
pub(super) fn built_in(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    reason: &str,
    given: &[(&str, Attr)],
) -> Result<Vec<Out>> {
    import_as(cx, call, reason, given)
}

fn import_as(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    reason: &str,
    given: &[(&str, Attr)],
) -> Result<Vec<Out>> {
    let own = cx.host_ops.schema(call.target).cloned();
    let schema = own.as_ref().or(call.schema);
    check_effects(call, schema)?;
    let mut results: Vec<Type> = Vec::new();
    for output in &call.node.outputs {
        match output {
            Argument::Tensor(name) => results.push(result(call, name)?),
            Argument::Tensors(names) => {
                for name in names {
                    results.push(result(call, name)?);
                }
            }
            Argument::None(_) => {}
            other => {
                return unsupported(format!(
                    "it returns {}: only tensors come back from a call of the host",
                    other.kind()
                ));
            }
        }
    }
    let mut tensors = Vec::new();
    let mut arguments = arguments(cx, call, schema, &mut tensors)?;
    for (name, value) in given {
        let named = schema.and_then(|schema| schema.args.iter().position(|arg| arg.name == *name));
        if let Some(argument) = named.and_then(|at| arguments.get_mut(at)) {
            *argument = value.clone();
        }
    }
    let single = results.len() == 1;
    let ty = match results.pop() {
        Some(only) if single => only,
        last => Type::Tuple(results.into_iter().chain(last).collect()),
    };
    let host = op::Host {
        kernel: kernel(call.target).as_str().into(),
        reason: reason.into(),
        call: arguments,
        ty,
    };
    results_of(cx, host, &tensors).map(|all| all.into_iter().map(Out::Value).collect())
}

/// Adds a call of the host, and returns its results.
pub(super) fn results_of(
    cx: &mut Importer<'_>,
    host: op::Host,
    tensors: &[Value],
) -> Result<Vec<Value>> {
    let count = match &host.ty {
        Type::Tuple(items) => Some(items.len()),
        _ => None,
    };
    let value = cx.build.add(host, tensors)?;
    match count {
        None => Ok(vec![value]),
        Some(count) => (0..count)
            .map(|index| cx.build.add(op::Get { index }, &[value]))
            .collect(),
    }
}

/// Why an operator of PyTorch's own that has no handler can't be a call of the host either; `None` for one that can.
pub(super) fn obstacle(schema: &Schema) -> Option<&'static str> {
    let alias = |write| {
        let all = schema.args.iter().filter_map(|arg| arg.alias.as_ref());
        all.into_iter().any(|alias| alias.write == write)
    };
    let tensors = |one: &Return| one.ty.base == BaseType::Tensor;
    if alias(true) {
        Some("writes to an argument")
    } else if alias(false) {
        Some("returns a view of an argument's memory")
    } else if schema.returns.is_empty() || !schema.returns.iter().all(tensors) {
        Some("returns something else than tensors")
    } else {
        None
    }
}

/// A call of the host takes values and gives values: it can't write to a tensor, and what it returns is no view.
fn check_effects(call: &Call<'_>, schema: Option<&Schema>) -> Result<()> {
    if let Some(schema) = schema {
        let args = schema.args.iter().map(|arg| (&arg.name, &arg.alias));
        for (name, alias) in args {
            match alias {
                Some(alias) if alias.write => {
                    return unsupported(format!(
                        "it writes to its argument `{name}`, which a call of the host can't"
                    ));
                }
                Some(_) => {
                    return unsupported(format!(
                        "it returns a view of its argument `{name}`, which a call of the host can't"
                    ));
                }
                None => {}
            }
        }
    }
    let name = call.target.split('.').nth(1).unwrap_or_default();
    if name.ends_with('_') && !name.ends_with("__") {
        return unsupported("by its name it writes to an argument, which a call of the host can't");
    }
    let gives = |output: &Argument| match output {
        Argument::None(_) => false,
        Argument::Tensors(names) => !names.is_empty(),
        _ => true,
    };
    if !call.node.outputs.iter().any(gives) {
        return unsupported(
            "it returns nothing: it can only write to its arguments or to something outside, which a call of the host can't",
        );
    }
    Ok(())
}

/// The kernel's name in the file.
fn kernel(target: &str) -> String {
    let mut parts = target.splitn(3, '.');
    let (library, name) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    match parts.next() {
        None | Some("default") => format!("{library}::{name}.out"),
        Some(overload) => format!("{library}::{name}.{overload}_out"),
    }
}

fn result(call: &Call<'_>, name: &TensorName) -> Result<Type> {
    let meta = call.meta(&name.name)?;
    Ok(TensorType::new(symbolic::dtype(meta.dtype)?, symbolic::sizes(&meta.sizes)?).into())
}

fn arguments(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    schema: Option<&Schema>,
    tensors: &mut Vec<Value>,
) -> Result<Vec<Attr>> {
    let Some(schema) = schema else {
        let given = call.node.inputs.iter();
        return given
            .map(|input| literal(cx, call, &input.arg, tensors))
            .collect();
    };
    let unknown = call
        .node
        .inputs
        .iter()
        .find(|input| schema.arg(&input.name).is_none());
    if let Some(input) = unknown {
        return unsupported(format!("argument `{}`, which its schema lacks", input.name));
    }
    let mut all = Vec::new();
    for arg in &schema.args {
        let given = call.node.inputs.iter().find(|input| input.name == arg.name);
        all.push(match (given, &arg.default) {
            (Some(input), _) => literal(cx, call, &input.arg, tensors)?,
            (None, Some(default)) => default_literal(default),
            (None, None) => return invalid(format!("argument `{}` is missing", arg.name)),
        });
    }
    Ok(all)
}

fn default_literal(default: &Literal) -> Attr {
    match default {
        Literal::None => Attr::None,
        Literal::Bool(b) => Attr::Bool(*b),
        Literal::Int(n) => int(*n),
        Literal::Float(x) => Attr::Float(F64::new(*x)),
        Literal::Str(text) | Literal::Name(text) => Attr::Str(text.as_str().into()),
        Literal::Ints(all) => Attr::List(all.iter().map(|n| int(*n)).collect()),
    }
}

fn int(n: i64) -> Attr {
    Attr::Int(Dim::from(n))
}

/// An argument as the call has it. Tensors among it are added to `tensors`.
fn literal(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    argument: &Argument,
    tensors: &mut Vec<Value>,
) -> Result<Attr> {
    use Argument as A;
    let list = |items: Result<Vec<Attr>>| items.map(Attr::List);
    Ok(match argument {
        A::None(_) | A::OptionalTensor(OptionalTensor::None(_)) => Attr::None,
        A::Tensor(name) | A::OptionalTensor(OptionalTensor::Tensor(name)) => {
            tensor(cx, call, name, tensors)?
        }
        A::Tensors(names) => list(
            names
                .iter()
                .map(|name| tensor(cx, call, name, tensors))
                .collect(),
        )?,
        A::OptionalTensors(all) => list(
            all.iter()
                .map(|one| match one {
                    OptionalTensor::Tensor(name) => tensor(cx, call, name, tensors),
                    OptionalTensor::None(_) => Ok(Attr::None),
                })
                .collect(),
        )?,
        A::Bool(b) => Attr::Bool(*b),
        A::Bools(all) => Attr::List(all.iter().map(|b| Attr::Bool(*b)).collect()),
        A::Int(n) | A::MemoryFormat(n) | A::Layout(n) => int(*n),
        A::Ints(all) => Attr::List(all.iter().map(|n| int(*n)).collect()),
        A::Float(x) => Attr::Float(F64::new(x.0)),
        A::Floats(all) => Attr::List(all.iter().map(|x| Attr::Float(F64::new(x.0))).collect()),
        A::String(text) => Attr::Str(text.as_str().into()),
        A::Device(device) => Attr::Str(device.kind.as_str().into()),
        A::ScalarType(dtype) => {
            let dtype = symbolic::dtype(*dtype)?;
            match Code::from_name(dtype.name()) {
                Some(code) => int(i64::from(code.code())),
                None => return unsupported(format!("the element type {dtype}")),
            }
        }
        A::SymInts(all) => list(
            all.iter()
                .map(|one| match one {
                    SymIntArgument::Int(n) => Ok(int(*n)),
                    SymIntArgument::Name(name) => number(cx, call, name, tensors),
                })
                .collect(),
        )?,
        A::SymInt(SymIntArgument::Int(n)) => int(*n),
        A::SymFloat(SymFloatArgument::Float(x)) => Attr::Float(F64::new(x.0)),
        A::SymBool(SymBoolArgument::Bool(b)) => Attr::Bool(*b),
        A::SymInt(SymIntArgument::Name(name))
        | A::SymFloat(SymFloatArgument::Name(name))
        | A::SymBool(SymBoolArgument::Name(name)) => number(cx, call, name, tensors)?,
        other => {
            return unsupported(format!("an argument that is {}", other.kind()));
        }
    })
}

fn from_scalar(scalar: Scalar) -> Attr {
    match scalar {
        Scalar::Bool(b) => Attr::Bool(b),
        Scalar::Int(n) => int(n),
        Scalar::Float(x) => Attr::Float(x),
    }
}

fn tensor(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    name: &TensorName,
    tensors: &mut Vec<Value>,
) -> Result<Attr> {
    let tensor = call.named_tensor(name)?;
    let value = cx.read(tensor)?;
    Ok(placed(value, tensors))
}

/// A number by its name: known, or in a tensor without axes.
fn number(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    name: &str,
    tensors: &mut Vec<Value>,
) -> Result<Attr> {
    let number = call.named_num(cx, name)?;
    if let Num::Known(scalar) = number {
        return Ok(from_scalar(scalar));
    }
    let dtype = number.category(cx)?;
    let value = cx.number(&number, dtype)?;
    Ok(placed(value, tensors))
}

fn placed(value: Value, tensors: &mut Vec<Value>) -> Attr {
    let at = tensors.iter().position(|known| *known == value);
    Attr::Arg(at.unwrap_or_else(|| {
        tensors.push(value);
        tensors.len() - 1
    }))
}

/// What to say of an operator that is not imported.
pub(super) fn refusal<T>(target: &str) -> Result<T> {
    let names = target.split('.').count() == 3;
    Err(Fail::Unsupported(if names {
        format!(
            "this operator is not supported (--host {target} leaves it to a kernel of your program)"
        )
    } else {
        "this operator is not supported".to_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::{HostOps, is_custom, kernel};

    #[test]
    fn operators_are_chosen_by_name_pattern_and_schema() {
        let ops = HostOps::new([
            "aten.topk",
            "aten::so*t.*",
            "mylib::foo(Tensor x, int k=2) -> Tensor",
        ]);
        let ops = ops.unwrap();
        for yes in ["aten.topk.default", "aten.sort.stable", "mylib.foo.default"] {
            assert!(ops.has(yes), "{yes}");
        }
        for no in [
            "aten.topk_.default",
            "aten.sum.default",
            "mylib.foo.bar",
            "aten.argsort.default",
        ] {
            assert!(!ops.has(no), "{no}");
        }
        assert_eq!(
            ops.schema("mylib.foo.default").map(|s| s.args.len()),
            Some(2)
        );
        assert_eq!(
            ops.unused(["torch.ops.aten.sort.stable", "torch.ops.mylib.foo.default"]),
            ["aten.topk"]
        );
        assert!(HostOps::new(["mylib::foo(Tensor"]).is_err());
    }

    #[test]
    fn libraries_and_kernels_have_names() {
        assert!(is_custom("torch.ops.mylib.foo.default"));
        for known in [
            "torch.ops.aten.foo.default",
            "_operator.add",
            "torch.sym_max",
            "torch.ops.higher_order.cond",
        ] {
            assert!(!is_custom(known), "{known}");
        }
        assert_eq!(kernel("mylib.foo.default"), "mylib::foo.out");
        assert_eq!(kernel("mylib.foo.bar"), "mylib::foo.bar_out");
    }
}
