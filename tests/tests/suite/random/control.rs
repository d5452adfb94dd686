//! Branches, loops and quantised weights at random.

use super::common::{Random, witness};
use fuseline_ir::ops::{control, create, movement as mv, pointwise, quant, reduce};
use fuseline_ir::{DType, Dim, Graph, Loc, Op, Region, Scalar, TensorType, Type, Value};
use std::sync::Arc;

/// What a side of a branch or a step of a loop makes of `x`, of the same type, and of `y`.
fn body(r: &mut Random, g: &mut Graph, x: Value, y: Value) -> Option<Value> {
    let mut add = |name: &str, args: &[Value]| {
        g.add(Op::build(name, &[]).ok()?, args, &Loc::default())
            .ok()
    };
    let mut made = x;
    for _ in 0..1 + r.below(3) {
        let name = *r.pick(&[
            "neg", "abs", "sign", "maximum", "add", "mul", "tanh", "matmul",
        ]);
        let next = match name {
            "maximum" | "add" | "mul" => add(name, &[made, *r.pick(&[x, y, made])]),
            "matmul" => add(name, &[made, y]),
            _ => add(name, &[made]),
        };
        made = next.unwrap_or(made);
    }
    (g.ty(made) == g.ty(x)).then_some(made)
}

/// A graph over inputs of these types that gives what `make` says.
fn region(
    outer: &Graph,
    name: &str,
    types: &[&Type],
    make: impl FnOnce(&mut Graph, &[Value]) -> Option<Vec<Value>>,
) -> Option<Region> {
    let mut g = Graph::new(name);
    g.symbols.clone_from(&outer.symbols);
    let inputs = types.iter().enumerate();
    let inputs = inputs.map(|(n, ty)| g.input(format!("in{n}"), (*ty).clone()).ok());
    let inputs = inputs.collect::<Option<Vec<_>>>()?;
    for (n, value) in make(&mut g, &inputs)?.into_iter().enumerate() {
        g.output(format!("out{n}"), value);
    }
    Region::new(g).ok()
}

/// One of two graphs of `x` and `y`, or a loop over them. The result is the last of the op's.
pub fn control(r: &mut Random, g: &mut Graph, x: Value, y: Value) -> Option<Value> {
    let tensor = g.ty(x).as_tensor()?.clone();
    let types = [g.ty(x).clone(), g.ty(y).clone()];
    let name = |r: &mut Random, what: &str| format!("{what}{}", r.below(1 << 30));
    let loc = Loc::default();
    if r.one_in(2) {
        let axes = (0..tensor.rank()).collect();
        let keepdim = false;
        let any = match r.one_in(2) {
            true => Op::from(reduce::Any { axes, keepdim }),
            false => Op::from(reduce::All { axes, keepdim }),
        };
        let cond = g.add(any, &[x], &loc).ok()?;
        let mut side = |what: &str| {
            let name = name(r, what);
            region(g, &name, &[&types[0], &types[1]], |g, v| {
                Some(vec![body(r, g, v[0], v[1])?])
            })
        };
        let (yes, no) = (side("yes")?, side("no")?);
        let all = g
            .add(control::Branch { yes, no }, &[cond, x, y], &loc)
            .ok()?;
        return g.add(control::Get { index: 0 }, &[all], &loc).ok();
    }
    let count = TensorType::new(DType::I64, vec![]);
    let number = |g: &mut Graph, n: usize| {
        let full = create::Full {
            value: Scalar::Int(n as i64),
            ty: TensorType::new(DType::I64, vec![]),
        };
        g.add(full, &[], &loc).ok()
    };
    let (start, limit) = (number(g, 0)?, number(g, r.below(4))?);
    let counter = Type::Tensor(count);
    let all = [&counter, &types[0], &types[1], &counter];
    let less = |g: &mut Graph, v: &[Value]| {
        Some(vec![
            g.add(Op::build("lt", &[]).ok()?, &[v[0], v[3]], &Loc::default())
                .ok()?,
        ])
    };
    let cond = region(g, &name(r, "cond"), &all, less)?;
    let step_name = name(r, "step");
    let step = region(g, &step_name, &all, |g, v| {
        let one = number(g, 1)?;
        let next = g
            .add(Op::build("add", &[]).ok()?, &[v[0], one], &Loc::default())
            .ok()?;
        Some(vec![next, body(r, g, v[1], v[2])?])
    })?;
    let all = g
        .add(
            control::WhileLoop { cond, step },
            &[start, x, y, limit],
            &loc,
        )
        .ok()?;
    g.add(control::Get { index: 1 }, &[all], &loc).ok()
}

/// The product with a quantised weight, as an export writes it: the weight's elements are made first.
pub fn quantised(r: &mut Random, g: &mut Graph, x: Value) -> Option<Value> {
    let ty = g.ty(x).as_tensor()?.clone();
    if !ty.dtype.is_float() || ty.rank() < 2 || !ty.shape.last()?.is(4) {
        return None;
    }
    let bits = *r.pick(&[4usize, 8]);
    let name = format!("quantised{}", r.below(1 << 30));
    let mut constant =
        |g: &mut Graph, part: &str, dtype: DType, shape: [i64; 2], numbers: &[f64]| {
            let ty = TensorType::new(dtype, shape.iter().map(|n| Dim::from(*n)).collect());
            let data = witness(r, &ty, 1, numbers).to_bytes();
            g.constant(format!("{name}.{part}"), ty, Some(Arc::new(data)))
                .ok()
        };
    let words = [
        305_419_896.0,
        2_882_400_001.0,
        0.0,
        4_294_967_295.0,
        65_537.0,
    ];
    let w = constant(g, "w", DType::U32, [4, bits as i64], &words)?;
    let scales = constant(g, "s", DType::F32, [4, 1], &[0.125, 0.0625, -0.03125])?;
    let biases = constant(g, "b", DType::F32, [4, 1], &[0.0, -0.5, 0.25])?;
    let loc = Loc::default();
    let mut parts = Vec::new();
    for part in [scales, biases] {
        let cast = pointwise::Cast { dtype: ty.dtype };
        parts.push(if ty.dtype == DType::F32 {
            part
        } else {
            g.add(cast, &[part], &loc).ok()?
        });
    }
    let dequantize = quant::Dequantize {
        group: 32,
        bits,
        mode: "affine".into(),
        dtype: ty.dtype,
    };
    let w = g.add(dequantize, &[w, parts[0], parts[1]], &loc).ok()?;
    let w = g.add(mv::Transpose { perm: vec![1, 0] }, &[w], &loc).ok()?;
    let wide = g
        .add(
            mv::Cat {
                axis: ty.rank() - 1,
            },
            &[x; 8],
            &loc,
        )
        .ok()?;
    g.add(Op::build("matmul", &[]).ok()?, &[wide, w], &loc).ok()
}
