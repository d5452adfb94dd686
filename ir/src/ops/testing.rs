//! What the unit tests of the themes share.

use crate::dim::{Dim, Symbols};
use crate::dtype::DType;
use crate::error::OpError;
use crate::eval::eval_decomposed;
use crate::graph::{Graph, Value};
use crate::lower::{LowerCx, Lowering};
use crate::ops::EvalCx;
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::Type;
use std::collections::BTreeMap;

pub(crate) fn type_of(t: &Tensor) -> Type {
    Type::tensor(t.dtype(), t.shape().iter().map(|&n| Dim::from(n)).collect())
}

/// Infers, evaluates, and checks that the result is of the inferred type.
pub(crate) fn run(op: impl Into<Op>, args: &[&Tensor]) -> Result<Tensor, OpError> {
    evaluated(&op.into(), args, Op::eval)
}

/// As [`run`], by what the op means in plain ops.
pub(crate) fn run_decomposed(op: impl Into<Op>, args: &[&Tensor]) -> Result<Tensor, OpError> {
    evaluated(&op.into(), args, eval_decomposed)
}

type Eval = fn(&Op, &EvalCx<'_>, &[&Tensor]) -> Result<Vec<Tensor>, OpError>;

fn evaluated(op: &Op, args: &[&Tensor], eval: Eval) -> Result<Tensor, OpError> {
    let types: Vec<Type> = args.iter().map(|t| type_of(t)).collect();
    let types: Vec<&Type> = types.iter().collect();
    let out = op.infer(&types)?;
    let symbols = BTreeMap::new();
    let cx = EvalCx {
        symbols: &symbols,
        args: &types,
        out: &out,
    };
    let mut results = eval(op, &cx, args)?;
    assert_eq!(results.len(), 1);
    let result = results.remove(0);
    assert_eq!(type_of(&result), out);
    Ok(result)
}

pub(crate) fn lowered(op: impl Into<Op>, args: &[Type]) -> Result<Lowering, OpError> {
    let op = op.into();
    let types: Vec<&Type> = args.iter().collect();
    let out = op.infer(&types)?;
    op.lower(&LowerCx {
        args: &types,
        out: &out,
        symbols: &Symbols::new(),
    })
}

pub(crate) fn nodes(lowering: &Lowering) -> Vec<&'static str> {
    match lowering {
        Lowering::Insts(insts) => insts.iter().map(|i| i.node).collect(),
        _ => vec![],
    }
}

pub(crate) fn f(shape: &[usize], data: &[f64]) -> Tensor {
    Tensor::floats(DType::F32, shape.to_vec(), data.to_vec()).unwrap()
}

pub(crate) fn i(dtype: DType, shape: &[usize], data: &[i64]) -> Tensor {
    Tensor::ints(dtype, shape.to_vec(), data.to_vec()).unwrap()
}

/// Evaluates a fused op and the plain ops that it stands for.
pub(crate) fn both_ways(op: impl Into<Op>, args: &[&Tensor]) -> (Tensor, Tensor) {
    let op = op.into();
    let direct = run(op.clone(), args).unwrap();
    let mut graph = Graph::new("test");
    let inputs: Vec<Value> = args
        .iter()
        .enumerate()
        .map(|(n, t)| graph.input(format!("x{n}"), type_of(t)).unwrap())
        .collect();
    let value = op.decompose(&mut graph, &inputs).unwrap().unwrap();
    assert_eq!(graph.ty(value), &type_of(&direct));
    let mut values: Vec<Tensor> = vec![];
    for (n, node) in graph.nodes().iter().enumerate() {
        let args: Vec<&Tensor> = match args.get(n) {
            Some(input) => {
                values.push((*input).clone());
                continue;
            }
            None => node.args.iter().map(|v| &values[v.index()]).collect(),
        };
        let next = run(node.op.clone(), &args).unwrap();
        values.push(next);
    }
    (direct, values[value.index()].clone())
}

pub(crate) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64) {
    assert_eq!(a.shape(), b.shape());
    for (x, y) in a.to_f64().into_iter().zip(b.to_f64()) {
        let same = x == y || x.is_nan() && y.is_nan();
        assert!(
            same || (x - y).abs() <= tolerance * (1.0 + y.abs()),
            "{x} and {y}"
        );
    }
}
