//! Fused activations, and how ops of any theme build what they mean out of plain ones.

use super::support::{Takes, eval_floats, infer_unary, wide_float};
use super::{
    Add, Cast, Erf, Erfc, Exp, Gelu, Gt, Mul, Neg, Reciprocal, Sigmoid, Silu, Square, Sub, Tanh,
    Where, erf, erfc, sigmoid,
};
use crate::attr::Scalar;
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::ops::create::Full;
use crate::ops::util::{fail, one};
use crate::ops::{EvalCx, Op, OpImpl};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

/// A chain of plain ops under construction, for `decompose`.
pub(in crate::ops) struct Build<'a> {
    graph: &'a mut Graph,
    /// What the chain computes in: f32 for the narrow floats, else the dtype itself.
    pub(in crate::ops) dtype: DType,
    result: DType,
}

impl<'a> Build<'a> {
    /// A chain whose result has the dtype of `x`.
    pub(in crate::ops) fn new(
        graph: &'a mut Graph,
        x: Option<&Value>,
    ) -> Result<Build<'a>, OpError> {
        let Some(x) = x else {
            return fail("argument 0 is missing");
        };
        let result = graph.tensor_ty(*x)?.dtype;
        Takes::Floats.check(result)?;
        Ok(Build {
            graph,
            dtype: wide_float(result),
            result,
        })
    }

    /// The number of axes of a value.
    pub(in crate::ops) fn rank(&self, x: Value) -> Result<usize, OpError> {
        Ok(self.graph.tensor_ty(x)?.rank())
    }

    /// Applies an op.
    pub(in crate::ops) fn op(
        &mut self,
        op: impl Into<Op>,
        args: &[Value],
    ) -> Result<Value, OpError> {
        self.graph.add(op, args, &Loc::default())
    }

    /// `x` in the dtype of the chain.
    pub(in crate::ops) fn up(&mut self, x: Value) -> Result<Value, OpError> {
        self.convert(x, self.dtype)
    }

    /// `x` in the dtype of the result.
    pub(in crate::ops) fn down(&mut self, x: Value) -> Result<Value, OpError> {
        self.convert(x, self.result)
    }

    fn convert(&mut self, x: Value, dtype: DType) -> Result<Value, OpError> {
        if self.graph.tensor_ty(x)?.dtype == dtype {
            return Ok(x);
        }
        self.op(Cast { dtype }, &[x])
    }

    /// A 0-d number in the dtype of the chain.
    pub(in crate::ops) fn number(&mut self, x: f64) -> Result<Value, OpError> {
        let value = Scalar::float(x).cast(self.dtype);
        self.op(
            Full {
                value,
                ty: TensorType::new(self.dtype, vec![]),
            },
            &[],
        )
    }
}

impl OpImpl for Silu {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_unary(args, Takes::Floats)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_floats(args, |x| x * sigmoid(x))
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let mut b = Build::new(graph, args.first())?;
        let x = b.up(args[0])?;
        let s = b.op(Sigmoid {}, &[x])?;
        let y = b.op(Mul {}, &[x, s])?;
        b.down(y).map(Some)
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(one("Silu", &["x"]))
    }
}

/// √(2/π), the slope inside the tanh approximation of gelu.
const GELU_SLOPE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
/// The weight of x³ inside the tanh approximation of gelu.
const GELU_CUBIC: f64 = 0.044715;

impl OpImpl for Gelu {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_unary(args, Takes::Floats)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        if self.tanh {
            eval_floats(args, |x| {
                0.5 * x * (1.0 + (GELU_SLOPE * (x + GELU_CUBIC * x * x * x)).tanh())
            })
        } else {
            eval_floats(args, |x| {
                0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
            })
        }
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let mut b = Build::new(graph, args.first())?;
        let x = b.up(args[0])?;
        let bent = if self.tanh {
            let cubic = b.number(GELU_CUBIC)?;
            let slope = b.number(GELU_SLOPE)?;
            let square = b.op(Square {}, &[x])?;
            let cube = b.op(Mul {}, &[square, x])?;
            let scaled = b.op(Mul {}, &[cube, cubic])?;
            let inner = b.op(Add {}, &[x, scaled])?;
            let inner = b.op(Mul {}, &[inner, slope])?;
            b.op(Tanh {}, &[inner])?
        } else {
            let scale = b.number(std::f64::consts::FRAC_1_SQRT_2)?;
            let inner = b.op(Mul {}, &[x, scale])?;
            b.op(Erf {}, &[inner])?
        };
        let unit = b.number(1.0)?;
        let half = b.number(0.5)?;
        let gate = b.op(Add {}, &[bent, unit])?;
        let halved = b.op(Mul {}, &[x, half])?;
        let y = b.op(Mul {}, &[halved, gate])?;
        b.down(y).map(Some)
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let inst = Inst::new("Gelu").tensor("x", Operand::Arg(0)).with(
            "approximate",
            Field::Str(if self.tanh { "tanh" } else { "none" }),
        );
        Ok(Lowering::Insts(vec![inst.out()]))
    }
}

/// The coefficients, from the constant one on, of a polynomial p in `t = 1 / (1 + x/2)` such that `t · exp(p)` is `eˣ² · erfc(x)` for x ≥ 0, with a relative error below 1.2·10⁻⁷.
pub const SCALED_ERFC: [f64; 10] = [
    -1.26551223,
    1.00002368,
    0.37409196,
    0.09678418,
    -0.18628806,
    0.27886807,
    -1.13520398,
    1.48851587,
    -0.82215223,
    0.17087277,
];

impl OpImpl for Erfc {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_unary(args, Takes::Floats)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_floats(args, erfc)
    }

    /// Up to ½ as the difference, and beyond, where that would lose what is left of it, by [`SCALED_ERFC`].
    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let mut b = Build::new(graph, args.first())?;
        let x = b.up(args[0])?;
        let (half, unit) = (b.number(0.5)?, b.number(1.0)?);
        let inner = b.op(Erf {}, &[x])?;
        let near = b.op(Sub {}, &[unit, inner])?;
        let scaled = b.op(Mul {}, &[x, half])?;
        let raised = b.op(Add {}, &[scaled, unit])?;
        let t = b.op(Reciprocal {}, &[raised])?;
        let [rest @ .., last] = SCALED_ERFC;
        let mut sum = b.number(last)?;
        for coefficient in rest.iter().rev() {
            let coefficient = b.number(*coefficient)?;
            let product = b.op(Mul {}, &[sum, t])?;
            sum = b.op(Add {}, &[product, coefficient])?;
        }
        let grown = b.op(Exp {}, &[sum])?;
        let grown = b.op(Mul {}, &[t, grown])?;
        let square = b.op(Square {}, &[x])?;
        let below = b.op(Neg {}, &[square])?;
        let decay = b.op(Exp {}, &[below])?;
        let far = b.op(Mul {}, &[decay, grown])?;
        let beyond = b.op(Gt {}, &[x, half])?;
        let y = b.op(Where {}, &[beyond, far, near])?;
        b.down(y).map(Some)
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Decompose)
    }
}
