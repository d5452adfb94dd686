//! Factorisations of matrices, and what PyTorch computes by them. The target has none, so that each is a call of a kernel of the host; what is made of their results is written in ops.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Attr, DType, Dim, Scalar, TensorType, Type, Value};

use super::composite::on_diagonal;
use super::matmul::matmul;
use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out, host, promote};
use crate::pt2::exported::Argument;

const REASON: &str = "a factorisation of matrices, which the target's instructions lack";

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "linalg_cholesky_ex"
        | "linalg_lu_factor_ex"
        | "linalg_lu"
        | "lu_unpack"
        | "linalg_lu_solve"
        | "_linalg_solve_ex"
        | "linalg_inv_ex"
        | "linalg_solve_triangular"
        | "_linalg_det"
        | "_linalg_slogdet"
        | "linalg_qr"
        | "geqrf"
        | "linalg_householder_product"
        | "_linalg_eigh"
        | "_linalg_svd"
        | "linalg_matrix_exp" => kernel,
        "linalg_inv" | "inverse" => |cx, call| {
            let x = matrices(cx, call)?;
            done(inverse(cx, x))
        },
        "linalg_solve" => |cx, call| {
            let (a, b) = (call.value(cx, "A")?, call.value(cx, "B")?);
            let left = call.bool("left")?;
            done(solve(cx, a, b, left, call.out_shape(0)?))
        },
        "linalg_solve_ex" => |cx, call| {
            let (a, b) = (call.value(cx, "A")?, call.value(cx, "B")?);
            let options = [call.bool("left")?, call.bool("check_errors")?];
            let all = solved(cx, a, b, options, call.out_shape(0)?)?;
            take(all, &[0, 3])
        },
        "linalg_cholesky" | "cholesky" => |cx, call| {
            let x = call.value(cx, "self")?;
            let arguments = vec![
                Attr::Arg(0),
                Attr::Bool(call.bool("upper")?),
                Attr::Bool(true),
            ];
            let ty = cx.build.ty(x)?.clone();
            let codes = TensorType::new(DType::I32, batch(&ty.shape));
            take(
                run(cx, "linalg_cholesky_ex", arguments, &[x], vec![ty, codes])?,
                &[0],
            )
        },
        "cholesky_solve" => |cx, call| {
            let (b, factor) = (call.value(cx, "self")?, call.value(cx, "input2")?);
            done(by_cholesky(cx, factor, b, call.bool("upper")?))
        },
        "cholesky_inverse" => |cx, call| {
            let factor = call.value(cx, "self")?;
            let b = identity(cx, factor)?;
            done(by_cholesky(cx, factor, b, call.bool("upper")?))
        },
        "triangular_solve" => |cx, call| {
            let (b, a) = (call.value(cx, "self")?, call.value(cx, "A")?);
            let (upper, turned) = (call.bool("upper")?, call.bool("transpose")?);
            let system = if turned { transposed(cx, a)? } else { a };
            let options = [upper != turned, true, call.bool("unitriangular")?];
            let x = triangular(cx, system, b, options)?;
            Ok(vec![x.into(), a.into()])
        },
        "linalg_lu_factor" | "_lu_with_info" => |cx, call| {
            let x = matrices(cx, call)?;
            let pivot = Attr::Bool(call.bool("pivot")?);
            let check = match call.target.contains("info") {
                true => call.bool("check_errors")?,
                false => true,
            };
            let ty = cx.build.ty(x)?.clone();
            let pivots = TensorType::new(DType::I32, call.out_shape(1)?);
            let codes = TensorType::new(DType::I32, batch(&ty.shape));
            let arguments = vec![Attr::Arg(0), pivot, Attr::Bool(check)];
            let all = run(
                cx,
                "linalg_lu_factor_ex",
                arguments,
                &[x],
                vec![ty, pivots, codes],
            )?;
            take(
                all,
                if call.target.contains("info") {
                    &[0, 1, 2]
                } else {
                    &[0, 1]
                },
            )
        },
        "lu_solve" => |cx, call| {
            let b = call.value(cx, "self")?;
            let (packed, pivots) = (call.value(cx, "LU_data")?, call.value(cx, "LU_pivots")?);
            let ty = TensorType::new(cx.build.dtype(b)?, call.out_shape(0)?);
            let mut arguments: Vec<Attr> = (0..3).map(Attr::Arg).collect();
            arguments.extend([Attr::Bool(true), Attr::Bool(false)]);
            take(
                run(
                    cx,
                    "linalg_lu_solve",
                    arguments,
                    &[packed, pivots, b],
                    vec![ty],
                )?,
                &[0],
            )
        },
        "linalg_det" | "det" => |cx, call| {
            let x = matrices(cx, call)?;
            let all = by_lu(cx, "_linalg_det", x, 1)?;
            take(all, &[0])
        },
        "linalg_slogdet" | "slogdet" => |cx, call| {
            let x = matrices(cx, call)?;
            let all = by_lu(cx, "_linalg_slogdet", x, 2)?;
            take(all, &[0, 1])
        },
        "logdet" => |cx, call| {
            let x = call.value(cx, "self")?;
            let all = by_lu(cx, "_linalg_slogdet", x, 2)?;
            let [sign, size, ..] = all.as_slice() else {
                return Err(Fail::Bug("a determinant has two parts".to_owned()));
            };
            // A negative determinant has no logarithm.
            let dtype = cx.build.dtype(x)?;
            let (zero, none) = (
                cx.build.float(0.0, dtype)?,
                cx.build.float(f64::NAN, dtype)?,
            );
            let negative = cx.build.add(op::Lt {}, &[*sign, zero])?;
            done(cx.build.select(negative, none, *size))
        },
        "qr" => |cx, call| {
            let x = call.value(cx, "self")?;
            let mode = if call.bool("some")? {
                "reduced"
            } else {
                "complete"
            };
            let dtype = cx.build.dtype(x)?;
            let types = (0..2)
                .map(|n| Ok(TensorType::new(dtype, call.out_shape(n)?)))
                .collect::<Result<_>>()?;
            take(
                run(
                    cx,
                    "linalg_qr",
                    vec![Attr::Arg(0), Attr::Str(mode.into())],
                    &[x],
                    types,
                )?,
                &[0, 1],
            )
        },
        "orgqr" => |cx, call| {
            let (x, tau) = (call.value(cx, "self")?, call.value(cx, "input2")?);
            let ty = cx.build.ty(x)?.clone();
            let arguments = vec![Attr::Arg(0), Attr::Arg(1)];
            take(
                run(
                    cx,
                    "linalg_householder_product",
                    arguments,
                    &[x, tau],
                    vec![ty],
                )?,
                &[0],
            )
        },
        "linalg_eigh" | "linalg_eigvalsh" => |cx, call| {
            let x = call.value(cx, "self")?;
            let part = call.opt_str("UPLO")?.unwrap_or("L").to_owned();
            let vectors = call.target.contains("eigh.");
            let all = eigen(cx, x, &part, vectors)?;
            take(all, if vectors { &[0, 1] } else { &[0] })
        },
        "linalg_svd" => |cx, call| {
            let x = call.value(cx, "A")?;
            let all = singular(cx, x, call.bool("full_matrices")?, true)?;
            take(all, &[0, 1, 2])
        },
        "linalg_svdvals" => |cx, call| {
            let x = call.value(cx, "A")?;
            done(singular_values(cx, x))
        },
        "svd" => old_svd,
        "linalg_pinv" | "pinverse" => |cx, call| {
            let x = call.value(cx, "self")?;
            let hermitian = call.target.contains("linalg") && call.bool("hermitian")?;
            let limits = Limits::of(cx, call, x)?;
            done(pseudo_inverse(cx, x, hermitian, limits))
        },
        "linalg_matrix_rank" => |cx, call| {
            let x = matrices(cx, call)?;
            let [rows, columns] = sides(&cx.build.shape(x)?)?;
            if rows.is(0) || columns.is(0) {
                return done(
                    cx.build
                        .full(Scalar::Int(0), DType::I64, call.out_shape(0)?),
                );
            }
            let sizes = if call.bool("hermitian")? {
                let values = eigen(cx, x, "L", false)?[0];
                cx.build.add(op::Abs {}, &[values])?
            } else {
                singular_values(cx, x)?
            };
            let above = Limits::of(cx, call, x)?.above(cx, sizes)?;
            let above = cx.build.cast(above, DType::I64)?;
            let axes = vec![cx.build.rank(above)?.saturating_sub(1)];
            let keepdim = false;
            done(cx.build.add(op::Sum { axes, keepdim }, &[above]))
        },
        "linalg_cond" => condition,
        "linalg_tensorinv" => |cx, call| {
            let x = call.value(cx, "self")?;
            let at = usize::try_from(call.int("ind")?).unwrap_or(0);
            let shape = cx.build.shape(x)?;
            let side = numel(&shape[..at.min(shape.len())]);
            let square = cx.build.reshape(x, vec![side.clone(), side])?;
            let inverse = inverse(cx, square)?;
            done(cx.build.reshape(inverse, call.out_shape(0)?))
        },
        "linalg_tensorsolve" => |cx, call| {
            let (mut a, b) = (call.value(cx, "self")?, call.value(cx, "other")?);
            let rank = cx.build.rank(a)?;
            if let Some(axes) = call.opt_ints("dims")? {
                let last = axes
                    .iter()
                    .map(|axis| cx.build.axis(a, *axis))
                    .collect::<Result<Vec<_>>>()?;
                let order = (0..rank)
                    .filter(|axis| !last.contains(axis))
                    .chain(last.iter().copied());
                a = cx.build.transpose(a, order.collect())?;
            }
            let side = cx.build.ty(b)?.numel();
            let a = cx.build.reshape(a, vec![side.clone(), side.clone()])?;
            let b = cx.build.reshape(b, vec![side.clone()])?;
            let x = solve(cx, a, b, true, vec![side])?;
            done(cx.build.reshape(x, call.out_shape(0)?))
        },
        "matrix_exp" => |cx, call| {
            let x = call.value(cx, "self")?;
            let ty = cx.build.ty(x)?.clone();
            take(
                run(cx, "linalg_matrix_exp", vec![Attr::Arg(0)], &[x], vec![ty])?,
                &[0],
            )
        },
        "nuclear_norm" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axes = match call.target.ends_with("dim") {
                true => call.ints("dim")?,
                false => vec![0, 1],
            };
            let [rows, columns] = axes.as_slice() else {
                return invalid(format!("a norm of matrices over {} axes", axes.len()));
            };
            let axes = [cx.build.axis(x, *rows)?, cx.build.axis(x, *columns)?];
            let norm = matrix_norm(cx, x, axes, Spectral::Sum)?;
            done(cx.build.reshape(norm, call.out_shape(0)?))
        },
        _ => return None,
    })
}

/// An operator that a kernel of the same name computes. Where the export checks the code that it returns, the kernel does.
fn kernel(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    const CHECK: &str = "torch.ops.aten._linalg_check_errors.default";
    let names = call.out_names();
    let checks = call.scope.graph.nodes.iter().filter(|node| {
        let wraps = |arg: &Argument| matches!(arg, Argument::Operator(name) if name == CHECK);
        node.target == CHECK || node.inputs.iter().any(|input| wraps(&input.arg))
    });
    let reads = |arg: &Argument| matches!(arg, Argument::Tensor(info) if names.contains(&info.name.as_str()));
    let checked = checks
        .flat_map(|node| &node.inputs)
        .any(|input| reads(&input.arg));
    let given: &[(&str, Attr)] = match checked {
        true => &[("check_errors", Attr::Bool(true))],
        false => &[],
    };
    host::built_in(cx, call, REASON, given)
}

/// The first argument, whatever its name.
fn matrices(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Value> {
    match call.schema.and_then(|schema| schema.args.first()) {
        Some(arg) => call.value(cx, &arg.name),
        None => invalid("an operator without arguments"),
    }
}

/// The axes before the last two.
fn batch(shape: &[Dim]) -> Vec<Dim> {
    shape[..shape.len().saturating_sub(2)].to_vec()
}

/// Sizes of the last two axes.
fn sides(shape: &[Dim]) -> Result<[Dim; 2]> {
    match shape {
        [.., rows, columns] => Ok([rows.clone(), columns.clone()]),
        _ => invalid("a matrix has two axes"),
    }
}

fn numel(shape: &[Dim]) -> Dim {
    shape.iter().fold(Dim::from(1i64), |n, size| &n * size)
}

fn transposed(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    match cx.build.rank(x)? {
        rank @ 2.. => cx.build.swap(x, rank - 2, rank - 1),
        _ => invalid("a matrix has two axes"),
    }
}

/// Ones on the diagonals of matrices as large as those of a tensor.
fn identity(cx: &mut Importer<'_>, like: Value) -> Result<Value> {
    let ty = cx.build.ty(like)?.clone();
    let side = ty.shape[..ty.rank().saturating_sub(1)].to_vec();
    let ones = cx.build.full(Scalar::Int(1), ty.dtype, side)?;
    on_diagonal(cx, ones, 0)
}

/// Some results of a kernel.
fn take(all: Vec<Value>, wanted: &[usize]) -> Result<Vec<Out>> {
    let one = |at: &usize| all.get(*at).map(|value| Out::Value(*value));
    match wanted.iter().map(one).collect() {
        Some(outs) => Ok(outs),
        None => Err(Fail::Bug(
            "a kernel has fewer results than its operator".to_owned(),
        )),
    }
}

/// Calls the kernel of an operator of ATen. `call` are its arguments.
fn run(
    cx: &mut Importer<'_>,
    operator: &str,
    call: Vec<Attr>,
    args: &[Value],
    results: Vec<TensorType>,
) -> Result<Vec<Value>> {
    let single = results.len() == 1;
    let mut types: Vec<Type> = results.into_iter().map(Type::from).collect();
    let ty = match types.pop() {
        Some(only) if single => only,
        last => Type::Tuple(types.into_iter().chain(last).collect()),
    };
    let call = op::Host {
        kernel: format!("aten::{operator}.out").as_str().into(),
        reason: REASON.into(),
        call,
        ty,
    };
    host::results_of(cx, call, args)
}

/// A⁻¹; a matrix without one is an error of the run.
pub(in crate::import) fn inverse(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    Ok(inverted(cx, x, true)?[0])
}

fn inverted(cx: &mut Importer<'_>, x: Value, check: bool) -> Result<Vec<Value>> {
    let ty = cx.build.ty(x)?.clone();
    let codes = TensorType::new(DType::I32, batch(&ty.shape));
    run(
        cx,
        "linalg_inv_ex",
        vec![Attr::Arg(0), Attr::Bool(check)],
        &[x],
        vec![ty, codes],
    )
}

fn solve(cx: &mut Importer<'_>, a: Value, b: Value, left: bool, shape: Vec<Dim>) -> Result<Value> {
    Ok(solved(cx, a, b, [left, true], shape)?[0])
}

/// What `_linalg_solve_ex` gives, for the shape of its first result.
fn solved(
    cx: &mut Importer<'_>,
    a: Value,
    b: Value,
    [left, check]: [bool; 2],
    shape: Vec<Dim>,
) -> Result<Vec<Value>> {
    let ty = cx.build.ty(a)?.clone();
    let outer = ty.shape[..ty.rank().saturating_sub(1)].to_vec();
    let results = vec![
        TensorType::new(ty.dtype, shape),
        ty.clone(),
        TensorType::new(DType::I32, outer),
        TensorType::new(DType::I32, batch(&ty.shape)),
    ];
    let call = vec![
        Attr::Arg(0),
        Attr::Arg(1),
        Attr::Bool(left),
        Attr::Bool(check),
    ];
    run(cx, "_linalg_solve_ex", call, &[a, b], results)
}

/// The solution of a triangular system of equations: is it the upper triangle, does A stand on the left, is its diagonal ones.
fn triangular(cx: &mut Importer<'_>, a: Value, b: Value, options: [bool; 3]) -> Result<Value> {
    let (left, right) = (cx.build.ty(a)?.clone(), cx.build.ty(b)?.clone());
    let outer = broadcast(&batch(&left.shape), &batch(&right.shape));
    let shape = [outer, sides(&right.shape)?.to_vec()].concat();
    let mut call = vec![Attr::Arg(0), Attr::Arg(1)];
    call.extend(options.map(Attr::Bool));
    let results = vec![TensorType::new(right.dtype, shape)];
    Ok(run(cx, "linalg_solve_triangular", call, &[a, b], results)?[0])
}

/// The shape that two shapes broadcast to.
fn broadcast(a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut shape = long.to_vec();
    let from = long.len() - short.len();
    for (own, other) in shape[from..].iter_mut().zip(short) {
        if own.is(1) {
            *own = other.clone();
        }
    }
    shape
}

/// The solution of a system given by Cholesky's factor of it.
fn by_cholesky(cx: &mut Importer<'_>, factor: Value, b: Value, upper: bool) -> Result<Value> {
    let turned = transposed(cx, factor)?;
    let (lower, upper) = if upper {
        (turned, factor)
    } else {
        (factor, turned)
    };
    let half = triangular(cx, lower, b, [false, true, false])?;
    triangular(cx, upper, half, [true, true, false])
}

/// A determinant in `parts` parts, then the factors and the pivots that it was computed by.
fn by_lu(cx: &mut Importer<'_>, operator: &str, x: Value, parts: usize) -> Result<Vec<Value>> {
    let ty = cx.build.ty(x)?.clone();
    let mut results = vec![TensorType::new(ty.dtype, batch(&ty.shape)); parts];
    let outer = ty.shape[..ty.rank().saturating_sub(1)].to_vec();
    results.extend([ty, TensorType::new(DType::I32, outer)]);
    run(cx, operator, vec![Attr::Arg(0)], &[x], results)
}

/// The eigenvalues of symmetric matrices, ascending, and their vectors.
fn eigen(cx: &mut Importer<'_>, x: Value, part: &str, vectors: bool) -> Result<Vec<Value>> {
    let ty = cx.build.ty(x)?.clone();
    let values = TensorType::new(ty.dtype, ty.shape[..ty.rank().saturating_sub(1)].to_vec());
    let columns = match vectors {
        true => ty,
        false => TensorType::new(ty.dtype, vec![Dim::from(0i64)]),
    };
    let call = vec![Attr::Arg(0), Attr::Str(part.into()), Attr::Bool(vectors)];
    run(cx, "_linalg_eigh", call, &[x], vec![values, columns])
}

/// U, the singular values, descending, and Vᵀ.
fn singular(cx: &mut Importer<'_>, x: Value, full: bool, vectors: bool) -> Result<Vec<Value>> {
    let ty = cx.build.ty(x)?.clone();
    let [rows, columns] = sides(&ty.shape)?;
    let count = rows.minimum(&columns);
    let part = |axes: [&Dim; 2]| {
        let shape = match vectors {
            true => [batch(&ty.shape), axes.map(Dim::clone).to_vec()].concat(),
            false => vec![Dim::from(0i64)],
        };
        TensorType::new(ty.dtype, shape)
    };
    let (width, height) = if full {
        (&rows, &columns)
    } else {
        (&count, &count)
    };
    let results = vec![
        part([&rows, width]),
        TensorType::new(ty.dtype, [batch(&ty.shape), vec![count.clone()]].concat()),
        part([height, &columns]),
    ];
    let call = vec![
        Attr::Arg(0),
        Attr::Bool(full),
        Attr::Bool(vectors),
        Attr::None,
    ];
    run(cx, "_linalg_svd", call, &[x], results)
}

fn singular_values(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    Ok(singular(cx, x, false, false)?[1])
}

/// `svd(self, some, compute_uv)`: the right vectors as columns, and zeros where vectors are not wanted.
fn old_svd(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let vectors = call.bool("compute_uv")?;
    let all = singular(cx, x, !call.bool("some")?, vectors)?;
    let (left, right) = if vectors {
        (all[0], transposed(cx, all[2])?)
    } else {
        let dtype = cx.build.dtype(x)?;
        let mut zeros = |n| cx.build.full(Scalar::Int(0), dtype, call.out_shape(n)?);
        (zeros(0)?, zeros(2)?)
    };
    Ok(vec![left.into(), all[1].into(), right.into()])
}

/// What counts as zero: at most the larger of an absolute limit and one relative to the largest.
struct Limits {
    absolute: Value,
    relative: Value,
}

impl Limits {
    /// As the arguments say. Relative to the largest it is the elements' precision times the longer side where nothing is said.
    fn of(cx: &mut Importer<'_>, call: &Call<'_>, x: Value) -> Result<Self> {
        let dtype = cx.build.dtype(x)?;
        let given = |cx: &mut Importer<'_>, name: &str| match call.schema {
            Some(schema) if schema.arg(name).is_some() => match call.opt_value(cx, name)? {
                Some(value) => cx.build.cast(value, dtype).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        };
        let absolute = match given(cx, "atol")? {
            Some(limit) => Some(limit),
            None => given(cx, "tol")?,
        };
        let relative = match given(cx, "rtol")? {
            Some(limit) => Some(limit),
            None => given(cx, "rcond")?,
        };
        let zero = cx.build.float(0.0, dtype)?;
        let relative = match (relative, absolute) {
            (Some(relative), _) => relative,
            (None, Some(_))
                if call.target.contains("tol_tensor") && !call.target.contains("atol") =>
            {
                zero
            }
            (None, absolute) => {
                let default = precision(cx, x)?;
                match absolute {
                    None => default,
                    // An absolute limit above zero replaces the other one.
                    Some(limit) if call.target.contains("atol") => {
                        let positive = cx.build.add(op::Gt {}, &[limit, zero])?;
                        cx.build.select(positive, zero, default)?
                    }
                    Some(_) => zero,
                }
            }
        };
        let absolute = absolute.unwrap_or(zero);
        Ok(Self { absolute, relative })
    }

    /// Whether each of the sizes along the last axis is above the limit.
    fn above(&self, cx: &mut Importer<'_>, sizes: Value) -> Result<Value> {
        let last = cx.build.rank(sizes)?.saturating_sub(1);
        let axes = vec![last];
        let keepdim = true;
        let largest = cx.build.add(op::Amax { axes, keepdim }, &[sizes])?;
        let mut column = |limit: Value| {
            let rank = cx.build.rank(limit)?;
            if rank == 0 {
                Ok(limit)
            } else {
                cx.build.unsqueeze(limit, rank)
            }
        };
        let (absolute, relative) = (column(self.absolute)?, column(self.relative)?);
        let relative = cx.build.times(relative, largest)?;
        let limit = cx.build.add(op::Maximum {}, &[absolute, relative])?;
        cx.build.add(op::Gt {}, &[sizes, limit])
    }
}

/// The precision of the elements times the longer side.
fn precision(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let ty = cx.build.ty(x)?.clone();
    let [rows, columns] = sides(&ty.shape)?;
    let epsilon = if ty.dtype == DType::F64 {
        f64::EPSILON
    } else {
        f64::from(f32::EPSILON)
    };
    match rows.maximum(&columns).as_const() {
        Some(side) => cx.build.float(epsilon * side as f64, ty.dtype),
        None => unsupported("a tolerance that follows from a dynamic size; give rtol"),
    }
}

/// V·diag(1/s)·Uᵀ over the singular values that count.
fn pseudo_inverse(
    cx: &mut Importer<'_>,
    x: Value,
    hermitian: bool,
    limits: Limits,
) -> Result<Value> {
    let shape = cx.build.shape(x)?;
    let [rows, columns] = sides(&shape)?;
    let dtype = cx.build.dtype(x)?;
    if numel(&shape).is(0) {
        let shape = [batch(&shape), vec![columns, rows]].concat();
        return cx.build.full(Scalar::Int(0), dtype, shape);
    }
    let (left, values, right) = if hermitian {
        let all = eigen(cx, x, "L", true)?;
        (all[1], all[0], transposed(cx, all[1])?)
    } else {
        let all = singular(cx, x, false, true)?;
        (all[0], all[1], all[2])
    };
    let sizes = cx.build.add(op::Abs {}, &[values])?;
    let above = limits.above(cx, sizes)?;
    let zero = cx.build.float(0.0, dtype)?;
    let inverses = cx.build.add(op::Reciprocal {}, &[values])?;
    let inverses = cx.build.select(above, inverses, zero)?;
    let last = cx.build.rank(inverses)?;
    let column = cx.build.unsqueeze(inverses, last.saturating_sub(1))?;
    let right = transposed(cx, right)?;
    let right = cx.build.times(right, column)?;
    let left = transposed(cx, left)?;
    matmul(cx, right, left)
}

/// Which norm by singular values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Spectral {
    /// The largest of them.
    Largest,
    /// The smallest.
    Smallest,
    /// Their sum.
    Sum,
}

/// A norm of the matrices in two axes; both axes are gone.
pub(in crate::import) fn matrix_norm(
    cx: &mut Importer<'_>,
    x: Value,
    [rows, columns]: [usize; 2],
    norm: Spectral,
) -> Result<Value> {
    let rank = cx.build.rank(x)?;
    let outer = (0..rank).filter(|axis| *axis != rows && *axis != columns);
    let order = outer.chain([rows, columns]).collect();
    let x = cx.build.transpose(x, order)?;
    let values = singular_values(cx, x)?;
    let axes = vec![cx.build.rank(values)?.saturating_sub(1)];
    let keepdim = false;
    match norm {
        Spectral::Largest => cx.build.add(op::Amax { axes, keepdim }, &[values]),
        Spectral::Smallest => cx.build.add(op::Amin { axes, keepdim }, &[values]),
        Spectral::Sum => cx.build.add(op::Sum { axes, keepdim }, &[values]),
    }
}

/// `linalg_cond`: the norm of a matrix times that of its inverse, infinite where there is none.
fn condition(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let (word, order) = match call.target.ends_with("p_str") {
        true => (call.opt_str("p")?, None),
        false => (None, call.opt_float(cx, "p")?),
    };
    let dtype = cx.build.dtype(x)?;
    let rank = cx.build.rank(x)?;
    let Some(axes) = rank.checked_sub(2).map(|row| [row, row + 1]) else {
        return invalid("a matrix has two axes");
    };
    if word.is_none() && order.is_none_or(|order| order.abs() == 2.0) {
        let values = singular_values(cx, x)?;
        let axes = vec![rank - 2];
        let keepdim = false;
        let largest = cx.build.add(
            op::Amax {
                axes: axes.clone(),
                keepdim,
            },
            &[values],
        )?;
        let smallest = cx.build.add(op::Amin { axes, keepdim }, &[values])?;
        return done(match order {
            Some(order) if order < 0.0 => cx.build.over(smallest, largest),
            _ => cx.build.over(largest, smallest),
        });
    }
    let all = inverted(cx, x, false)?;
    let size = |cx: &mut Importer<'_>, x: Value| match (word, order) {
        (Some("nuc"), _) => matrix_norm(cx, x, axes, Spectral::Sum),
        (Some("fro"), _) => super::reduce::vector_norm(cx, x, 2.0, axes.to_vec(), false, dtype),
        (None, Some(order)) => super::linalg::norm_of_sums(cx, x, axes, order),
        _ => unsupported("this norm of a matrix"),
    };
    let codes = cx.build.cast(all[1], DType::Bool)?;
    let (own, other) = (size(cx, x)?, {
        // A matrix without an inverse may have been divided by zero; its elements must be numbers for what follows.
        let rank = cx.build.rank(codes)?;
        let column = cx.build.unsqueeze(codes, rank)?;
        let column = cx.build.unsqueeze(column, rank + 1)?;
        let zero = cx.build.float(0.0, dtype)?;
        let clean = cx.build.select(column, zero, all[0])?;
        size(cx, clean)?
    });
    let product = cx.build.times(own, other)?;
    let infinity = cx
        .build
        .float(f64::INFINITY, promote::compute_type(dtype))?;
    let infinity = cx.build.cast(infinity, dtype)?;
    done(cx.build.select(codes, infinity, product))
}
