//! Which code imports which operator.
//!
//! Operators that mean exactly one IR op stand in the IR's own table (its `aten` column); everything else has a handler in a file of [`super::ops`] by theme. An
//! in-place operator (`add_`) needs no handler of its own: it is the functional one (`add`) followed by a write.

use fuseline_ir::{Op, Value};

use super::call::Call;
use super::error::{Fail, Result};
use super::ops::{THEMES, complex};
use super::{Handler, Importer, Out, checks, host, promote};
use crate::pt2::schema::{BaseType, Schema};

/// How an operator is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Road {
    /// It means exactly the op of the IR of this name.
    Op(&'static str),
    /// The handler in this file of the importer writes it in ops of the IR.
    Handler(&'static str),
    /// It writes to its argument what the operator without the underscore gives.
    InPlace,
    /// It checks what the export has proved, and is left out.
    Check,
    /// What it asserts of integers is required in each call.
    Requirement,
    /// It has no handler, and is a call of a kernel that the program which runs the model must register.
    Kernel,
}

/// Why an operator is refused, by its target without `torch.ops.`: what it does that neither ops of the IR nor a call of the host can. `None` for one that is imported.
pub fn refused(target: &str) -> Option<&'static str> {
    match road(target) {
        Some(_) => None,
        None => Schema::find(target).map_or(Some("is not known"), |schema| host::obstacle(&schema)),
    }
}

/// How the operator is imported, by its target without `torch.ops.`; `None` for one that is refused.
pub fn road(target: &str) -> Option<Road> {
    let known = |target: &str| {
        let theme = THEMES.iter().find(|(_, find)| find(target).is_some());
        theme
            .map(|(name, _)| Road::Handler(name))
            .or_else(|| row(target).map(|row| Road::Op(row.name)))
    };
    if checks::is_requirement(target) {
        return Some(Road::Requirement);
    }
    if is_assertion(target) {
        return Some(Road::Check);
    }
    known(target)
        .or_else(|| known(&same_as(target)?))
        .or_else(|| in_place(target, Schema::find(target).as_ref()).map(|_| Road::InPlace))
        .or_else(|| complex::is_own(target).then_some(Road::Handler("complex")))
        .or_else(|| {
            let schema = Schema::find(target).filter(|_| target.starts_with("aten."))?;
            host::obstacle(&schema).is_none().then_some(Road::Kernel)
        })
}

/// The handler of an operator, by its target without `torch.ops.`.
pub(super) fn find(target: &str) -> Option<Handler> {
    let own = |target: &str| {
        THEMES
            .iter()
            .find_map(|(_, find)| find(target))
            .or_else(|| row(target).map(|_| import_row as Handler))
    };
    own(target).or_else(|| own(&same_as(target)?))
}

/// The operator that another one means under a second name: the copying forms of views, the special functions that `torch` itself also has.
fn same_as(target: &str) -> Option<String> {
    let (name, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    let known = match name {
        "absolute" => "abs",
        "special_expit" => "sigmoid",
        "special_gammaln" => "lgamma",
        "special_multigammaln" => "mvlgamma",
        "special_psi" => "digamma",
        "_neg_view" | "_neg_view_copy" => "neg",
        _ => name
            .strip_prefix("special_")
            .or_else(|| name.strip_suffix("_copy"))?,
    };
    Some(format!("aten.{known}.{overload}"))
}

/// The functional handler behind an in-place operator: one whose schema says that it writes to `self` and returns it.
pub(super) fn in_place(target: &str, schema: Option<&Schema>) -> Option<Handler> {
    let writes = schema?.args.first()?.alias.as_ref()?.write;
    find(&functional(target)?).filter(|_| writes)
}

/// The in-place operator of a functional one. Of some, such as `aten.cauchy.default`, only that one stands in the table of schemas; the arguments and defaults are the same.
pub(super) fn writing(target: &str) -> Option<String> {
    let (operator, overload) = target.rsplit_once('.')?;
    operator
        .starts_with("aten.")
        .then(|| format!("{operator}_.{overload}"))
}

/// The operator that an in-place one is named after: `aten.add.Tensor` of `aten.add_.Tensor`.
pub(super) fn functional(target: &str) -> Option<String> {
    let (operator, overload) = target.rsplit_once('.')?;
    let (namespace, name) = operator.rsplit_once('.')?;
    let functional = match name.strip_prefix("__i") {
        Some(rest) => format!("__{rest}"),
        None => name.strip_suffix('_')?.to_owned(),
    };
    Some(format!("{namespace}.{functional}.{overload}"))
}

/// Composite operators that return `self` itself where they have nothing to do, although their schemas do not say so.
pub(super) fn may_return_self(target: &str) -> bool {
    matches!(
        target,
        "aten.dropout.default"
            | "aten.feature_dropout.default"
            | "aten.alpha_dropout.default"
            | "aten.feature_alpha_dropout.default"
            | "aten.type_as.default"
            | "aten._autocast_to_full_precision.default"
            | "aten._autocast_to_reduced_precision.default"
    )
}

/// Operators that return a view or a copy, whichever the strides allow; their handlers decide.
pub(super) fn may_copy(target: &str) -> bool {
    matches!(
        target.split('.').nth(1),
        Some(
            "reshape" | "reshape_as" | "flatten" | "ravel" | "contiguous" | "to" | "_reshape_alias"
        )
    )
}

/// Checks that a program may make at run time. What they say of integers is required of the program as well; what they say of tensors' types, the export has proved.
pub(super) fn is_assertion(target: &str) -> bool {
    matches!(
        target,
        "aten._assert_tensor_metadata.default"
            | "aten._assert_scalar.default"
            | "aten._assert_async.default"
            | "aten._assert_async.msg"
            | "aten.sym_constrain_range.default"
            | "aten.sym_constrain_range_for_size.default"
            | "aten._print.default"
            | "aten._functional_assert_async.msg"
            | "aten._functional_assert_scalar.default"
            | "aten._linalg_check_errors.default"
            | "torch._functorch.predispatch.lazy_load_decompositions"
    )
}

/// The row of the IR's table that imports `target` without further code.
fn row(target: &str) -> Option<&'static fuseline_ir::OpInfo> {
    fuseline_ir::ops::table::TABLE
        .iter()
        .find(|row| row.aten.contains(&target))
}

/// Imports an operator that is a row of the table: its tensors in order, without attributes. Integers in an op of floats become floats first.
fn import_row(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let named = |target: &str| row(target).or_else(|| row(&same_as(target)?));
    let in_place = || named(&functional(call.target)?);
    let Some(row) = named(call.target).or_else(in_place) else {
        return Err(Fail::Bug(format!("no row imports `{}`", call.target)));
    };
    let op = Op::build(row.name, &[])?;
    let Some(schema) = call.schema else {
        return Err(Fail::Bug(format!("no schema of `{}`", call.target)));
    };
    let tensors = schema
        .args
        .iter()
        .filter(|arg| arg.ty.base == BaseType::Tensor && !arg.ty.list);
    let mut args: Vec<Value> = Vec::new();
    for arg in tensors {
        args.push(call.value(cx, &arg.name)?);
    }
    let accepted = {
        let types: Vec<_> = args.iter().map(|value| cx.build.graph.ty(*value)).collect();
        op.infer(&types).is_ok()
    };
    if !accepted {
        for value in &mut args {
            let dtype = match call.out_dtype(0)? {
                out if out.is_int() => out,
                _ => promote::to_float(cx.build.dtype(*value)?),
            };
            *value = cx.build.cast(*value, dtype)?;
        }
    }
    Ok(vec![cx.build.add(op, &args)?.into()])
}
