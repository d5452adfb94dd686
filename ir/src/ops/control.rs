//! Between tensors, numbers and tuples.

use super::util::{fail, tensor};
use super::{EvalCx, OpImpl, host};
use crate::attr::Attr;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::Type;

pub use super::table::{After, Branch, Get, Host, Item, WhileLoop};

impl OpImpl for Item {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        if !x.dtype.is_int() || !x.numel().is(1) {
            return fail(format!("takes an integer tensor of one element, not {x}"));
        }
        Ok(Type::Int(Dim::symbol(self.symbol.clone())))
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        match args {
            [x] => Ok(vec![Tensor::ints(DType::I64, vec![], x.to_i64())?]),
            _ => fail("takes one tensor"),
        }
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        // ExecuTorch reads the first four bytes, whatever they are.
        let mut insts = vec![];
        let mut from = Operand::Arg(0);
        if tensor(cx.args, 0)?.dtype.size() < 4 {
            from = Operand::Temp(0);
            insts.push(
                Inst::new("AsType")
                    .tensor("x", Operand::Arg(0))
                    .tensor("out", from)
                    .with("scalar_type", Field::DType(DType::I32)),
            );
        }
        insts.push(Inst::new("ItemInt").tensor("x", from).out());
        Ok(Lowering::Insts(insts))
    }
}

impl OpImpl for Get {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        match args {
            [Type::Tuple(items)] => match items.get(self.index) {
                Some(item) => Ok(item.clone()),
                None => fail(format!("result {} of {}", self.index, items.len())),
            },
            [other, ..] => fail(format!("argument 0 is {other}, not a tuple")),
            [] => fail("argument 0 is missing"),
        }
    }

    fn eval(&self, _cx: &EvalCx<'_>, _args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        fail("a tuple has no tensor of its own: the evaluator reads its items")
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Alias(0))
    }
}

impl OpImpl for After {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        tensor(args, 0).map(|x| Type::Tensor(x.clone()))
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        match args {
            [x, ..] => Ok(vec![(*x).clone()]),
            [] => fail("takes a tensor"),
        }
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Alias(0))
    }
}

impl Host {
    /// The types of the results, in order.
    pub fn results(&self) -> &[Type] {
        match &self.ty {
            Type::Tuple(items) => items,
            one => std::slice::from_ref(one),
        }
    }

    fn check(&self, item: &Attr, count: usize) -> Result<(), OpError> {
        match item {
            Attr::Arg(n) if *n >= count => fail(format!("the call names argument {n} of {count}")),
            Attr::List(items) => items.iter().try_for_each(|item| self.check(item, count)),
            Attr::Int(dim) if dim.as_const().is_none() => {
                fail(format!("the call has the dynamic size {dim}"))
            }
            Attr::DType(_) | Attr::Type(_) => fail("the call has a type in the place of a value"),
            _ => Ok(()),
        }
    }
}

impl OpImpl for Host {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        for n in 0..args.len() {
            tensor(args, n)?;
        }
        for item in &self.call {
            self.check(item, args.len())?;
        }
        match self.results().iter().find(|ty| ty.as_tensor().is_none()) {
            Some(other) => fail(format!("gives tensors, not {other}")),
            None => Ok(self.ty.clone()),
        }
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        host::eval(&self.kernel, &self.call, args)
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Host)
    }
}

/// The reference evaluation gives up on a loop after so many steps.
const MAX_STEPS: usize = 1 << 16;

impl OpImpl for Branch {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let [cond, operands @ ..] = args else {
            return fail("takes a condition");
        };
        if **cond != Type::tensor(DType::Bool, vec![]) {
            return fail(format!("the condition is {cond}, not a bool without axes"));
        }
        let (yes, no) = (self.yes.results(operands)?, self.no.results(operands)?);
        if yes != no || yes.iter().any(|ty| ty.as_tensor().is_none()) {
            let (yes, no) = (Type::Tuple(yes), Type::Tuple(no));
            return fail(format!(
                "the sides give {yes} and {no}: both give the same tensors"
            ));
        }
        Ok(Type::Tuple(yes))
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        match args {
            [cond, operands @ ..] if cond.to_i64() == [0] => self.no.eval(operands),
            [_, operands @ ..] => self.yes.eval(operands),
            [] => fail("takes a condition"),
        }
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Branch)
    }
}

impl OpImpl for WhileLoop {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let results = self.step.results(args)?;
        let carried: Vec<Type> = args.iter().map(|ty| (*ty).clone()).collect();
        if results.is_empty() || carried.get(..results.len()) != Some(&results) {
            let (carried, results) = (Type::Tuple(carried), Type::Tuple(results));
            return fail(format!(
                "a step makes {results} of {carried}: other types than it takes"
            ));
        }
        match self.cond.results(args)?.as_slice() {
            [Type::Tensor(t)] if t.dtype == DType::Bool && t.rank() == 0 => {
                Ok(Type::Tuple(results))
            }
            other => fail(format!(
                "the condition is {}, not a bool without axes",
                Type::Tuple(other.to_vec())
            )),
        }
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let mut values: Vec<Tensor> = args.iter().map(|tensor| (*tensor).clone()).collect();
        let count = self.step.graph().outputs.len();
        for _ in 0..MAX_STEPS {
            let now: Vec<&Tensor> = values.iter().collect();
            if self
                .cond
                .eval(&now)?
                .iter()
                .all(|verdict| verdict.to_i64() == [0])
            {
                values.truncate(count);
                return Ok(values);
            }
            let next = self.step.eval(&now)?;
            values.splice(..count.min(next.len()), next);
        }
        fail(format!("the loop goes on after {MAX_STEPS} steps"))
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    #[test]
    fn item_needs_one_integer_by_its_static_type() {
        let item = Item {
            symbol: "u0".into(),
        };
        let of =
            |dtype, shape: &[i64]| Type::tensor(dtype, shape.iter().map(|&n| n.into()).collect());
        assert_eq!(
            item.infer(&[&of(DType::I32, &[1, 1])]),
            Ok(Type::Int(Dim::symbol("u0")))
        );
        assert!(item.infer(&[&of(DType::F32, &[])]).is_err());
        assert!(item.infer(&[&of(DType::I64, &[2])]).is_err());
        assert!(
            item.infer(&[&Type::tensor(DType::I64, vec![Dim::symbol("s0")])])
                .is_err()
        );
    }

    #[test]
    fn get_checks_its_index() {
        let pair = Type::Tuple(vec![
            Type::Int(1i64.into()),
            Type::tensor(DType::F32, vec![]),
        ]);
        assert_eq!(
            Get { index: 1 }.infer(&[&pair]),
            Ok(Type::tensor(DType::F32, vec![]))
        );
        assert!(Get { index: 2 }.infer(&[&pair]).is_err());
    }
    #[test]
    fn after_is_its_first_argument() {
        let x = Tensor::floats(DType::F32, vec![2], vec![1.0, 2.0]).unwrap();
        let first = Tensor::ints(DType::I64, vec![], vec![7]).unwrap();
        assert_eq!(run(After {}, &[&x, &first]).unwrap(), x);
        assert!(run(After {}, &[&x]).is_err());
    }
}
