//! Graphs of the export that become graphs inside ops: sides of a branch, conditions and steps of a loop.
//!
//! Such a graph is imported on its own, over inputs that stand for what the export hands in. What it needs beyond them, constants and the values of symbols that none
//! of its inputs' sizes tells, becomes further inputs, so that it sees nothing of the graph around it.

use std::collections::BTreeSet;

use fuseline_ir::ops::table as op;
use fuseline_ir::{
    Constant, DType, Dim, Flag, Graph, Op, Output, Range, Region, Scalar, Symbol, TensorType, Type,
    Value, attr,
};

use super::Importer;
use super::build::Builder;
use super::call::{Num, Val};
use super::error::{Fail, Result, invalid, unsupported};
use super::memory::TensorId;
use super::ops::random::Round;

/// A side of a branch of at most so many cheap operators is computed whether it is chosen or not.
const CHEAP: usize = 32;

/// A graph that has been imported on its own.
pub(super) struct Made {
    graph: Graph,
    /// The tensors that its inputs stand for, in the graph around it.
    args: Vec<Value>,
    /// Its results.
    pub outs: Vec<Value>,
    /// The operands that are tensors: by position, and what they hold in the end, where the graph writes to them.
    written: Vec<(usize, Value)>,
    /// What the tensors among the operands hold in the end.
    last: Vec<(usize, Value)>,
}

/// What a graph needs beyond its inputs.
#[derive(Clone)]
enum Extra {
    /// A constant: its name in the graph around, and in the graph itself.
    Constant(Symbol, Symbol, Constant),
    /// The value of a symbol, within its range.
    Symbol(Symbol, Range),
}

impl Made {
    /// The types of its results.
    pub fn types(&self) -> Result<Vec<TensorType>> {
        let types = self
            .outs
            .iter()
            .map(|out| self.graph.tensor_ty(*out).cloned());
        Ok(types.collect::<std::result::Result<_, _>>()?)
    }

    /// Whether computing it costs next to nothing and can't fail, so that it may be computed for nothing.
    pub fn is_cheap(&self) -> bool {
        let integer =
            |node: &fuseline_ir::Node| node.ty.as_tensor().is_some_and(|t| t.dtype.is_int());
        let cheap = |node: &fuseline_ir::Node| match &node.op {
            Op::FloorDiv(_) | Op::Remainder(_) => !integer(node),
            Op::IntTensor(_) | Op::Size(_) | Op::Softmax(_) => true,
            op => [Flag::Leaf, Flag::Pointwise, Flag::Movement, Flag::Reduction]
                .iter()
                .any(|flag| op.info().has(*flag)),
        };
        self.written.is_empty()
            && self.graph.nodes().len() <= CHEAP
            && self.graph.nodes().iter().all(cheap)
    }

    /// Whether all of it can be instructions of one chain.
    pub fn is_one_chain(&self) -> bool {
        let between = |op: &Op| matches!(op, Op::Host(_) | Op::WhileLoop(_));
        !self.graph.nodes().iter().any(|node| between(&node.op))
    }

    fn extras(&self) -> Vec<Extra> {
        let mut all = Vec::new();
        let name =
            |own: &Symbol| -> Symbol { format!("{}.{own}", self.graph.name).as_str().into() };
        for (own, constant) in &self.graph.constants {
            all.push(Extra::Constant(name(own), own.clone(), constant.clone()));
        }
        let (mut needed, mut given) = (BTreeSet::new(), BTreeSet::new());
        for node in self.graph.nodes() {
            if matches!(node.op, Op::Input(_)) {
                let sizes = node.ty.as_tensor().map(|t| t.shape.as_slice());
                let told = sizes.unwrap_or_default().iter().filter_map(Dim::as_linear);
                given.extend(told.map(|(symbol, ..)| symbol.clone()));
            }
            if let Op::Item(item) = &node.op {
                given.insert(item.symbol.clone());
            }
            node.ty.visit_symbols(&mut |s| {
                needed.insert(s.clone());
            });
            for (_, value) in node.op.attrs() {
                attr::visit_symbols(&value, &mut |s| {
                    needed.insert(s.clone());
                });
            }
        }
        for symbol in needed.difference(&given) {
            let range = self.graph.symbols.get(symbol).copied();
            let any = Range {
                min: i64::MIN,
                max: i64::MAX,
            };
            all.push(Extra::Symbol(symbol.clone(), range.unwrap_or(any)));
        }
        all
    }

    /// The graph with `outs` as its results, and with inputs for what it and the other graph of its op need beyond their own.
    fn region(&self, outs: &[Value], extras: &[Extra]) -> Result<Region> {
        let mut graph = self.graph.rebuilt();
        graph.constants.clear();
        let mut map: Vec<Value> = Vec::new();
        let mut added: Vec<Value> = Vec::new();
        let mut taken = 0;
        for node in self.graph.nodes() {
            // The inputs are the first nodes.
            if taken == self.args.len() && added.len() < extras.len() {
                add_extras(&mut graph, extras, &mut added)?;
            }
            taken += usize::from(matches!(node.op, Op::Input(_)));
            let constant = match &node.op {
                Op::Constant(own) => extras.iter().position(
                    |extra| matches!(extra, Extra::Constant(_, name, c) if *name == own.name && c.ty == own.ty),
                ),
                _ => None,
            };
            map.push(match constant.and_then(|n| added.get(n)) {
                Some(value) => *value,
                None => {
                    let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
                    graph.add(node.op.clone(), &args, &node.loc)?
                }
            });
        }
        if added.len() < extras.len() {
            add_extras(&mut graph, extras, &mut added)?;
        }
        for (n, out) in outs.iter().enumerate() {
            graph.outputs.push(Output {
                name: format!("out{n}").as_str().into(),
                value: map[out.index()],
            });
        }
        Ok(Region::new(graph)?)
    }
}

fn add_extras(graph: &mut Graph, extras: &[Extra], added: &mut Vec<Value>) -> Result<()> {
    for (n, extra) in extras.iter().enumerate() {
        let ty: Type = match extra {
            Extra::Constant(_, _, constant) => constant.ty.clone().into(),
            Extra::Symbol(symbol, range) => {
                // One that only the other graph of the op had to know.
                if !graph.symbols.contains_key(symbol) {
                    graph.declare_symbol(symbol.clone(), *range);
                }
                Type::Int(Dim::symbol(symbol.clone()))
            }
        };
        added.push(graph.input(format!("more{n}"), ty)?);
    }
    Ok(())
}

impl<'a> Importer<'a> {
    /// Imports what `run` makes of these operands as a graph of its own. Numbers among the operands are the same inside.
    pub(super) fn region(
        &mut self,
        name: &str,
        operands: &[Val],
        run: impl FnOnce(&mut Self, Vec<Val>) -> Result<Vec<Val>>,
    ) -> Result<Made> {
        let mut args = Vec::new();
        let mut types = Vec::new();
        for operand in operands {
            types.push(match operand {
                Val::Tensor(tensor) | Val::Number(tensor) => {
                    let value = self.read(*tensor)?;
                    args.push(value);
                    Some(self.build.ty(value)?.clone())
                }
                Val::Int(_) | Val::Sym(_) => None,
                Val::Poison => return Err(Fail::Poisoned),
                Val::Complex(..) => return unsupported("a complex tensor into a graph of its own"),
            });
        }
        self.regions += 1;
        let mut graph = Graph::new(format!("{name}{}", self.regions));
        graph.symbols.clone_from(&self.build.graph.symbols);
        let loc = self.build.loc.clone();
        let outer = std::mem::replace(&mut self.build, Builder { graph, loc });
        let round = self.round;
        self.round = round.inside();
        let made = self.inside(operands, types, run);
        self.round = round;
        let inner = std::mem::replace(&mut self.build, outer);
        let (outs, written, last) = made?;
        Ok(Made {
            graph: inner.graph,
            args,
            outs,
            written,
            last,
        })
    }

    #[expect(clippy::type_complexity, reason = "the parts of one result")]
    fn inside(
        &mut self,
        operands: &[Val],
        types: Vec<Option<TensorType>>,
        run: impl FnOnce(&mut Self, Vec<Val>) -> Result<Vec<Val>>,
    ) -> Result<(Vec<Value>, Vec<(usize, Value)>, Vec<(usize, Value)>)> {
        let mut inner = Vec::new();
        let mut tensors: Vec<(usize, TensorId)> = Vec::new();
        for (n, (operand, ty)) in operands.iter().zip(types).enumerate() {
            let Some(ty) = ty else {
                inner.push(operand.clone());
                continue;
            };
            let input = self.build.graph.input(format!("in{n}"), ty)?;
            let tensor = self.memory.root(Some(input));
            tensors.push((n, tensor));
            inner.push(match operand {
                Val::Number(_) => Val::Number(tensor),
                _ => Val::Tensor(tensor),
            });
        }
        let mut outs = Vec::new();
        for out in run(self, inner)? {
            outs.push(match out {
                Val::Tensor(tensor) => self.read(tensor)?,
                Val::Poison => return Err(Fail::Poisoned),
                _ => return unsupported("a graph of its own that returns a number"),
            });
        }
        let (mut written, mut last) = (Vec::new(), Vec::new());
        for (n, tensor) in tensors {
            let value = self.read(tensor)?;
            if self.memory.writes(self.memory.storage(tensor)) > 0 {
                written.push((n, value));
            }
            last.push((n, value));
        }
        Ok((outs, written, last))
    }

    /// The arguments of an op over these graphs: their common operands, then what they need beyond them.
    fn more(&mut self, args: &[Value], extras: &[Extra]) -> Result<Vec<Value>> {
        let mut all = args.to_vec();
        for extra in extras {
            all.push(match extra {
                Extra::Constant(name, _, constant) => {
                    let data = constant.data.clone();
                    self.build
                        .graph
                        .constant(name.clone(), constant.ty.clone(), data)?
                }
                Extra::Symbol(symbol, _) => {
                    self.declare_if_seed(symbol)?;
                    self.number(&Num::Dim(Dim::symbol(symbol.clone())), DType::I64)?
                }
            });
        }
        Ok(all)
    }

    /// A branch: the results of the side that is chosen, after what it wrote to the operands.
    pub(super) fn branch(
        &mut self,
        predicate: Value,
        operands: &[Val],
        [yes, no]: [&Made; 2],
    ) -> Result<Vec<Val>> {
        let mut extras = yes.extras();
        extras.extend(no.extras());
        let places = yes.written.iter().chain(&no.written).map(|(n, _)| *n);
        let places: BTreeSet<usize> = places.collect();
        let results = |side: &Made| {
            let last = side.last.iter().filter(|(n, _)| places.contains(n));
            side.outs
                .iter()
                .copied()
                .chain(last.map(|(_, value)| *value))
                .collect::<Vec<_>>()
        };
        let branch = op::Branch {
            yes: yes.region(&results(yes), &extras)?,
            no: no.region(&results(no), &extras)?,
        };
        let mut args = vec![predicate];
        args.extend(self.more(&yes.args, &extras)?);
        let all = match self.build.graph.add(branch, &args, &self.build.loc) {
            Ok(all) => all,
            Err(error) => return unsupported(format!("sides that don't agree: {}", error.reason)),
        };
        let mut chosen = Vec::new();
        for index in 0..yes.outs.len() {
            let value = self.build.add(op::Get { index }, &[all])?;
            chosen.push(Val::Tensor(self.memory.root(Some(value))));
        }
        for (n, place) in places.into_iter().enumerate() {
            let index = yes.outs.len() + n;
            let value = self.build.add(op::Get { index }, &[all])?;
            if let Val::Tensor(tensor) = &operands[place] {
                self.write(*tensor, value)?;
            }
        }
        Ok(chosen)
    }

    /// A loop over operands, the first of which are carried, as many as a step has results: what they are in the end.
    pub(super) fn endless(
        &mut self,
        operands: &[Val],
        condition: impl FnOnce(&mut Self, Vec<Val>) -> Result<Vec<Val>>,
        step: impl FnOnce(&mut Self, Vec<Val>) -> Result<Vec<Val>>,
    ) -> Result<Vec<Val>> {
        let condition = self.region("cond", operands, |cx, vals| {
            cx.round = Round::Nested;
            let verdict = condition(cx, vals)?;
            let [Val::Tensor(verdict)] = verdict.as_slice() else {
                return invalid("the condition of a loop has one result, a tensor");
            };
            let verdict = cx.read(*verdict)?;
            let verdict = cx.build.reshape(verdict, Vec::new())?;
            let verdict = cx.build.cast(verdict, DType::Bool)?;
            Ok(vec![Val::Tensor(cx.memory.root(Some(verdict)))])
        })?;
        let step = self.region("step", operands, |cx, vals| {
            let before = vals.clone();
            let made = step(cx, vals)?;
            cx.same_types(&before, made)
        })?;
        if !step.written.is_empty() || !condition.written.is_empty() {
            return unsupported("a loop that writes to a tensor from outside");
        }
        let mut extras = condition.extras();
        extras.extend(step.extras());
        let count = step.outs.len();
        let op = op::WhileLoop {
            cond: condition.region(&condition.outs, &extras)?,
            step: step.region(&step.outs, &extras)?,
        };
        let args = self.more(&step.args, &extras)?;
        let all = self.build.add(op, &args)?;
        let mut results = Vec::new();
        for index in 0..count {
            let value = self.build.add(op::Get { index }, &[all])?;
            results.push(Val::Tensor(self.memory.root(Some(value))));
        }
        Ok(results)
    }

    /// What a step made, in the types of what it took: sizes that the export knows to be equal are written alike.
    fn same_types(&mut self, before: &[Val], made: Vec<Val>) -> Result<Vec<Val>> {
        let mut all = Vec::new();
        for (old, new) in before.iter().zip(made) {
            if matches!(new, Val::Poison) {
                return Err(Fail::Poisoned);
            }
            let (Val::Tensor(old), Val::Tensor(new)) = (old, &new) else {
                return unsupported("a loop that carries a number");
            };
            let (old, new) = (self.read(*old)?, self.read(*new)?);
            let (was, is) = (self.build.ty(old)?.clone(), self.build.ty(new)?.clone());
            if was.dtype != is.dtype || was.rank() != is.rank() {
                return unsupported(format!("a loop that carries {was} and makes {is} of it"));
            }
            let value = self.build.reshape(new, was.shape)?;
            all.push(Val::Tensor(self.memory.root(Some(value))));
        }
        Ok(all)
    }

    /// A body run for each element of the first axis of `xs`, as a loop: what it carries on, then the rest of its results, stacked. `body` gets what is carried, the elements, and the rest.
    pub(super) fn looped(
        &mut self,
        [carried, xs, rest]: [Vec<Val>; 3],
        steps: &Dim,
        body: impl Fn(&mut Self, Vec<Val>) -> Result<Vec<Val>>,
    ) -> Result<Vec<Val>> {
        // The types of the results, from a run over an element that nothing else uses.
        let mut operands = carried.clone();
        operands.extend(xs.iter().cloned());
        operands.extend(rest.iter().cloned());
        let split = [carried.len(), carried.len() + xs.len()];
        let probe = self.region("probe", &operands, |cx, vals| {
            let at = cx.build.scalar(Scalar::Int(0), DType::I64)?;
            let vals = cx.with_elements(&vals, split, at)?;
            body(cx, vals)
        })?;
        let Some(results) = probe.types()?.get(carried.len()..).map(<[_]>::to_vec) else {
            return invalid("a loop whose body returns less than it carries");
        };
        let counter = self.build.scalar(Scalar::Int(0), DType::I64)?;
        let mut operands = vec![Val::Tensor(self.memory.root(Some(counter)))];
        operands.extend(carried.iter().cloned());
        for ty in &results {
            let mut shape = vec![steps.clone()];
            shape.extend(ty.shape.iter().cloned());
            let stack = self
                .build
                .full(Scalar::Int(0).cast(ty.dtype), ty.dtype, shape)?;
            operands.push(Val::Tensor(self.memory.root(Some(stack))));
        }
        operands.extend(xs.iter().cloned());
        operands.extend(rest.iter().cloned());
        let (count, stacks) = (carried.len(), results.len());
        let length = steps.clone();
        let all = self.endless(
            &operands,
            move |cx, vals| {
                let at = cx.first(&vals)?;
                let length = cx.number(&Num::Dim(length), DType::I64)?;
                let go_on = cx.build.add(op::Lt {}, &[at, length])?;
                Ok(vec![Val::Tensor(cx.memory.root(Some(go_on)))])
            },
            |cx, vals| {
                let at = cx.first(&vals)?;
                let mut inputs = vals[1..=count].to_vec();
                inputs.extend_from_slice(&vals[1 + count + stacks..]);
                let inputs = cx.with_elements(&inputs, split, at)?;
                let made = cx.in_round(at, |cx| body(cx, inputs))?;
                let one = cx.build.scalar(Scalar::Int(1), DType::I64)?;
                let next = cx.build.add(op::Add {}, &[at, one])?;
                let mut outs = vec![Val::Tensor(cx.memory.root(Some(next)))];
                outs.extend_from_slice(&made[..count]);
                let row = cx.build.reshape(at, vec![1i64.into()])?;
                for (stack, result) in vals[1 + count..].iter().zip(&made[count..]) {
                    let (stack, result) = (cx.tensor_of(stack)?, cx.tensor_of(result)?);
                    let result = cx.build.unsqueeze(result, 0)?;
                    let copy = op::IndexCopy {
                        axis: 0,
                        wraps: false,
                    };
                    let stack = cx.build.add(copy, &[stack, row, result])?;
                    outs.push(Val::Tensor(cx.memory.root(Some(stack))));
                }
                Ok(outs)
            },
        )?;
        Ok(all[1..].to_vec())
    }

    fn first(&mut self, vals: &[Val]) -> Result<Value> {
        match vals.first() {
            Some(value) => self.tensor_of(value),
            None => Err(Fail::Bug("a loop without a counter".to_owned())),
        }
    }

    /// The operands with element `at` of the first axis in the place of each of those from `split[0]` to `split[1]`.
    fn with_elements(&mut self, vals: &[Val], split: [usize; 2], at: Value) -> Result<Vec<Val>> {
        let mut all = vals.to_vec();
        for val in &mut all[split[0]..split[1]] {
            let x = self.tensor_of(val)?;
            let element = self.build.add(op::Take { axis: 0 }, &[x, at])?;
            *val = Val::Tensor(self.memory.root(Some(element)));
        }
        Ok(all)
    }
}
