//! Ops and graphs at random, of what the canonical form rewrites. Shared, as a file, by the tests of passes and of whole programs.

use super::common::Random;
use fuseline_ir::ops::{create, index, movement as mv, reduce};
use fuseline_ir::{DType, Dim, Graph, Loc, Op, Range, Scalar, TensorType, Type, Value};

pub fn dims(text: &[i64]) -> Vec<Dim> {
    // −1 stands for the symbol.
    text.iter()
        .map(|&n| {
            if n < 0 {
                Dim::symbol("s")
            } else {
                Dim::from(n)
            }
        })
        .collect()
}

const FLOATS: &[f64] = &[0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 4.0, 0.25];
const INTS: &[i64] = &[0, 1, -1, 2, 3, 7];

pub fn literal(r: &mut Random, dtype: DType) -> Scalar {
    match dtype {
        DType::Bool => Scalar::Bool(r.one_in(2)),
        d if d.is_float() => Scalar::float(*r.pick(FLOATS)),
        _ => Scalar::Int(*r.pick(INTS)).cast(dtype),
    }
}

/// The start of a graph: inputs of several dtypes and shapes.
pub fn start() -> Graph {
    let mut g = Graph::new("random");
    g.declare_symbol("s", Range { min: 1, max: 4 });
    let inputs: &[(DType, &[i64])] = &[
        (DType::F32, &[-1, 4]),
        (DType::F32, &[1, 4]),
        (DType::F32, &[2, -1, 4]),
        (DType::BF16, &[-1, 4]),
        (DType::F16, &[4]),
        (DType::F32, &[2, 1, 1, 4]),
        (DType::I64, &[-1, 4]),
        (DType::I64, &[]),
        (DType::I32, &[4, 1]),
        (DType::Bool, &[-1, 4]),
        (DType::Bool, &[4, 4]),
        (DType::F32, &[4, 4]),
        (DType::F32, &[-1, 1]),
    ];
    for (n, (dtype, shape)) in inputs.iter().enumerate() {
        g.input(format!("x{n}"), Type::tensor(*dtype, dims(shape)))
            .unwrap();
    }
    g
}

/// A random op for a value, with attributes that often fit.
pub fn op(r: &mut Random, g: &Graph, x: Value) -> Op {
    let ty = g
        .ty(x)
        .as_tensor()
        .cloned()
        .unwrap_or_else(|| TensorType::new(DType::F32, vec![]));
    let rank = ty.rank();
    let named = |name: &str| Op::build(name, &[]).unwrap();
    let axis = r.below(rank.max(1));
    match r.below(24) {
        0..=1 => named(r.pick::<&str>(&[
            "neg",
            "abs",
            "square",
            "cos",
            "logical_not",
            "bitwise_not",
            "reciprocal",
            "sqrt",
            "exp",
        ])),
        2..=5 => named(r.pick::<&str>(&[
            "add",
            "sub",
            "mul",
            "div",
            "maximum",
            "minimum",
            "mul",
            "add",
            "floor_div",
            "remainder",
        ])),
        6..=7 => named(r.pick::<&str>(&["eq", "ne", "lt", "le", "gt", "ge"])),
        8..=9 => named(r.pick::<&str>(&[
            "logical_and",
            "logical_or",
            "bitwise_and",
            "bitwise_or",
            "bitwise_xor",
            "where",
            "where",
            "pow",
        ])),
        10..=11 => Op::from(fuseline_ir::ops::pointwise::Cast {
            dtype: *r.pick(&[
                DType::F32,
                DType::BF16,
                DType::F16,
                DType::I64,
                DType::I32,
                DType::Bool,
                DType::F64,
            ]),
        }),
        12..=14 => {
            // Split, merge, and add or remove axes of size 1.
            let mut shape = ty.shape.clone();
            match r.below(4) {
                0 => shape.insert(r.below(rank + 1), Dim::from(1i64)),
                1 => shape.retain(|d| !d.is(1)),
                2 if rank >= 2 => {
                    let a = r.below(rank - 1);
                    let both = &shape[a] * &shape[a + 1];
                    shape.splice(a..=a + 1, [both]);
                }
                _ => {
                    if let Some(a) = shape.iter().position(|d| d.is(4)) {
                        shape.splice(a..=a, dims(&[2, 2]));
                    }
                }
            }
            mv::Reshape { shape }.into()
        }
        15..=16 => {
            let mut perm: Vec<usize> = (0..rank).collect();
            for i in (1..rank).rev() {
                perm.swap(i, r.below(i + 1));
            }
            mv::Transpose { perm }.into()
        }
        17..=18 => {
            let mut shape: Vec<Dim> = ty
                .shape
                .iter()
                .map(|d| {
                    if d.is(1) && r.one_in(2) {
                        Dim::from(3i64)
                    } else {
                        d.clone()
                    }
                })
                .collect();
            if r.one_in(3) {
                shape.insert(0, Dim::from(2i64));
            }
            mv::Broadcast { shape }.into()
        }
        19 => {
            let size = ty
                .shape
                .get(axis)
                .cloned()
                .unwrap_or_else(|| Dim::from(1i64));
            let n = size.as_const();
            let start = n.map_or(0, |n| r.below(usize::try_from(n).unwrap_or(0) + 1));
            let stop = n.map_or(size, |n| {
                Dim::from(start + r.below(usize::try_from(n).unwrap_or(0) - start + 1))
            });
            let step = if r.one_in(4) { 2 } else { 1 };
            mv::Slice {
                axis,
                start: start.into(),
                stop,
                step,
            }
            .into()
        }
        20 => mv::Cat { axis }.into(),
        21 => match r.below(7) {
            0 => mv::Flip { axes: vec![axis] }.into(),
            1 => mv::Pad {
                low: vec![Dim::from(0i64); rank],
                high: vec![Dim::from(i64::from(r.one_in(3))); rank],
                value: literal(r, ty.dtype),
            }
            .into(),
            2 => index::Take { axis }.into(),
            3 => index::TakeAlong { axis }.into(),
            4 => index::Gather { axes: vec![axis] }.into(),
            5 => reduce::Cumsum { axis }.into(),
            _ => index::IndexCopy { axis, wraps: true }.into(),
        },
        22 => match r.below(3) {
            0 => reduce::Sum {
                axes: vec![axis],
                keepdim: r.one_in(2),
            }
            .into(),
            1 => index::SliceUpdate {
                axis,
                start: r.below(3).into(),
                step: 1,
            }
            .into(),
            _ => reduce::Amax {
                axes: vec![axis],
                keepdim: r.one_in(2),
            }
            .into(),
        },
        _ => named(r.pick::<&str>(&["matmul", "matmul", "addmm", "silu"])),
    }
}

pub fn leaf(r: &mut Random, g: &mut Graph) -> Option<Value> {
    let dtype = *r.pick(&[
        DType::F32,
        DType::F32,
        DType::BF16,
        DType::I64,
        DType::I64,
        DType::I32,
        DType::Bool,
    ]);
    let op: Op = if r.one_in(4) {
        let len = r
            .pick(&[Dim::symbol("s"), Dim::from(4i64), Dim::from(1i64)])
            .clone();
        let (start, step) = (Dim::from(r.below(3)), Dim::from(1 + r.below(2)));
        let dtype = if dtype.is_int() { dtype } else { DType::I64 };
        create::Arange {
            start,
            step,
            len,
            dtype,
        }
        .into()
    } else if r.one_in(8) {
        let value = r.pick(&[Dim::symbol("s"), Dim::from(2i64)]).clone();
        let n = g.add(create::Size { value }, &[], &Loc::default()).ok()?;
        return g
            .add(
                create::IntTensor { dtype: DType::I64 },
                &[n],
                &Loc::default(),
            )
            .ok();
    } else {
        let shape = r.pick::<&[i64]>(&[&[], &[], &[4], &[-1, 4], &[1]]);
        let ty = TensorType::new(dtype, dims(shape));
        create::Full {
            value: literal(r, dtype),
            ty,
        }
        .into()
    };
    g.add(op, &[], &Loc::default()).ok()
}

/// Ops in a row that random choice seldom puts together, on a random value. `None` where they don't fit it.
pub fn fragment(r: &mut Random, g: &mut Graph, x: Value) -> Option<Value> {
    let ty = g.ty(x).as_tensor()?.clone();
    let loc = Loc::default();
    let mut add = |op: Op, args: &[Value]| g.add(op, args, &loc).ok();
    let named = |name: &str| Op::build(name, &[]).ok();
    let full = |value: Scalar, dtype| -> Op {
        create::Full {
            value,
            ty: TensorType::new(dtype, vec![]),
        }
        .into()
    };
    let axis = ty
        .shape
        .iter()
        .position(|d| d.is(4))
        .filter(|_| !ty.shape.last().is_some_and(|d| d.is(1)))?;
    let slice = |start: i64, stop: i64| -> Op {
        mv::Slice {
            axis,
            start: start.into(),
            stop: stop.into(),
            step: 1,
        }
        .into()
    };
    let merged = |last: usize| -> Op {
        let (lead, rest) = ty.shape.split_at(ty.rank().saturating_sub(last));
        let lead = lead.iter().fold(Dim::from(1i64), |n, d| &n * d);
        mv::Reshape {
            shape: std::iter::once(lead).chain(rest.iter().cloned()).collect(),
        }
        .into()
    };
    match r.below(8) {
        0 => {
            let k = 1 + i64::try_from(r.below(3)).ok()?;
            let (a, b) = (add(slice(0, k), &[x])?, add(slice(k, 4), &[x])?);
            add(
                mv::Cat { axis }.into(),
                &(if r.one_in(4) { [b, a] } else { [a, b] }),
            )
        }
        1 => {
            let n = add(
                create::Arange {
                    start: 1.into(),
                    step: 1.into(),
                    len: 2.into(),
                    dtype: DType::I64,
                }
                .into(),
                &[],
            )?;
            let source = add(slice(0, 2), &[x])?;
            add(
                index::IndexCopy { axis, wraps: true }.into(),
                &[x, n, source],
            )
        }
        2 => {
            let source = add(slice(1, 3), &[x])?;
            let update = add(
                index::SliceUpdate {
                    axis,
                    start: 2.into(),
                    step: 1,
                }
                .into(),
                &[x, source],
            )?;
            let start = if r.one_in(3) { 1 } else { 2 };
            add(slice(start, start + 2), &[update])
        }
        3 => {
            let op = named(r.pick::<&str>(&["add", "mul"]))?;
            let (c, d) = (literal(r, ty.dtype), literal(r, ty.dtype));
            let (c, d) = (add(full(c, ty.dtype), &[])?, add(full(d, ty.dtype), &[])?);
            let once = add(op.clone(), &[x, c])?;
            add(op, &[once, d])
        }
        4 => {
            let rows = add(merged(1), &[x])?;
            let w = Value::from_index(11);
            let product = add(named("matmul")?, &[rows, w])?;
            let shape = ty.shape.clone();
            add(mv::Reshape { shape }.into(), &[product])
        }
        5 => {
            let (a, flat) = (add(merged(2), &[x])?, add(merged(2), &[x])?);
            let turned = add(
                mv::Transpose {
                    perm: vec![0, 2, 1],
                }
                .into(),
                &[flat],
            )?;
            let back = add(
                mv::Transpose {
                    perm: vec![0, 2, 1],
                }
                .into(),
                &[turned],
            )?;
            let b = if r.one_in(2) { turned } else { back };
            add(named("matmul")?, &[a, b]).or_else(|| add(named("matmul").unwrap(), &[a, turned]))
        }
        6 => {
            let c = add(
                Op::from(fuseline_ir::ops::pointwise::Cast { dtype: DType::Bool }),
                &[x],
            )?;
            let not = add(named("logical_not")?, &[c])?;
            let known = add(full(Scalar::Bool(r.one_in(2)), DType::Bool), &[])?;
            let y = if r.one_in(2) {
                c
            } else {
                add(full(Scalar::Bool(r.one_in(2)), DType::Bool), &[])?
            };
            let other = Value::from_index(9);
            let cond = *r.pick(&[not, other]);
            add(
                named("where")?,
                &(if r.one_in(2) {
                    [cond, known, y]
                } else {
                    [cond, y, known]
                }),
            )
        }
        _ => {
            let (w, b) = (Value::from_index(11), Value::from_index(4));
            let b = add(
                Op::from(fuseline_ir::ops::pointwise::Cast { dtype: DType::F32 }),
                &[b],
            )?;
            let shape = ty.shape.clone();
            let c = add(mv::Broadcast { shape }.into(), &[b])?;
            add(named("addmm")?, &[x, w, c])
        }
    }
}

/// Arguments for the op: `x`, and others out of `choose`. `None` where the op on them has a meaning that the reference and PyTorch see differently.
pub fn arguments(
    r: &mut Random,
    g: &Graph,
    op: &Op,
    x: Value,
    choose: impl Fn(&mut Random) -> Value,
) -> Option<Vec<Value>> {
    let (least, most) = op.info().arity();
    let n = if most.is_none() {
        1 + r.below(3)
    } else {
        least
    };
    let mut args: Vec<Value> = vec![x];
    for _ in 1..n {
        args.push(if r.one_in(5) { x } else { choose(r) });
    }
    if matches!(op, Op::Where(_)) {
        args.rotate_right(1);
    }
    // Roots of negative numbers by `pow` are where PyTorch itself leaves `pow`: the rule follows it, the reference doesn't.
    let half = |v: &Value| matches!(&g.node(*v).op, Op::Full(f) if f.value.as_f64().abs() == 0.5);
    let large = |v: &Value| g.ty(*v).as_tensor().is_some_and(|t| t.rank() > 5);
    // A sum of one product may lose the sign of a zero, which a division would make visible.
    let narrow = |v: &Value| {
        g.ty(*v)
            .as_tensor()
            .is_some_and(|t| t.shape.last().is_some_and(|d| d.is(1)))
    };
    let skip = match op {
        Op::Pow(_) => args.iter().any(half),
        Op::Matmul(_) => narrow(&x),
        _ => false,
    };
    (!skip && !args.iter().any(large)).then_some(args)
}
