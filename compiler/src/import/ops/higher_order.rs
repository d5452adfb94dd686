//! Operators over graphs: `cond`, `map`, `scan`, `while_loop`, and the batching that `associative_scan` leaves.
//!
//! Graphs of a program are pure. Both sides of a condition are computed and one result is chosen where that costs next to nothing and can't fail; else they become a branch.
//! What is repeated a known, small number of times is imported as often; else it becomes a loop.

use std::collections::{BTreeMap, BTreeSet};

use fuseline_ir::ops::EvalCx;
use fuseline_ir::{DType, Op, Tensor, Type, Value};

use super::random;
use crate::import::call::{Call, Names, Val};
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::memory::StorageId;
use crate::import::{Importer, Out, Scope, at, describe, target};
use crate::pt2::exported::{Argument, Graph, Node, SymBoolArgument, SymIntArgument};
use crate::pt2::sym::SymExpr;

/// The most steps that a loop is unrolled to.
const MAX_STEPS: i64 = 256;

/// Tensors of at most this many elements are looked at to find out how often a loop runs.
const SMALL: usize = 64;

/// Whether the operator runs graphs.
pub(in crate::import) fn is_higher_order(target: &str) -> bool {
    matches!(
        target,
        "higher_order.cond"
            | "higher_order.map_impl"
            | "higher_order.scan"
            | "higher_order.while_loop"
    )
}

/// What opens and closes nodes that see one element of a batch.
const BATCH_OPENS: &str = "torch._functorch.predispatch._vmap_increment_nesting";
const BATCH_CLOSES: &str = "torch._functorch.predispatch._vmap_decrement_nesting";

impl<'a> Importer<'a> {
    /// Imports an operator that runs graphs.
    pub(in crate::import) fn higher_order(
        &mut self,
        node: &'a Node,
        scope: &mut Scope<'a>,
    ) -> Result<Vec<(String, Val)>> {
        let target = target(node);
        let args: Vec<&'a Argument> = node.inputs.iter().map(|input| &input.arg).collect();
        let outs = match (target, args.as_slice()) {
            (
                "higher_order.cond",
                [
                    predicate,
                    Argument::Graph(yes),
                    Argument::Graph(no),
                    operands,
                ],
            ) => self.cond(scope, predicate, [&yes.graph, &no.graph], operands)?,
            ("higher_order.map_impl", [Argument::Graph(body), xs, rest]) => {
                let (xs, rest) = (operands(scope, xs)?, operands(scope, rest)?);
                self.repeat(&body.graph, Vec::new(), xs, rest)?
            }
            ("higher_order.scan", [Argument::Graph(body), init, xs, rest]) => {
                let init = operands(scope, init)?;
                let (xs, rest) = (operands(scope, xs)?, operands(scope, rest)?);
                self.repeat(&body.graph, init, xs, rest)?
            }
            (
                "higher_order.while_loop",
                [
                    Argument::Graph(condition),
                    Argument::Graph(body),
                    carried,
                    rest,
                ],
            ) => {
                let (carried, rest) = (operands(scope, carried)?, operands(scope, rest)?);
                self.while_loop([&condition.graph, &body.graph], carried, rest)?
            }
            _ => return invalid(format!("`{target}` has other arguments than it takes")),
        };
        let mut results = Vec::new();
        for out in outs {
            results.push(match out {
                Val::Tensor(tensor) => Out::Value(self.read(tensor)?),
                Val::Poison => return Err(Fail::Poisoned),
                other => Out::Number(other),
            });
        }
        let call = Call {
            node,
            target,
            schema: None,
            scope,
        };
        self.bind(&call, results)
    }

    /// Imports a graph in this place, and returns what its outputs stand for.
    pub(in crate::import) fn run_graph(
        &mut self,
        graph: &'a Graph,
        inputs: Vec<Val>,
    ) -> Result<Vec<Val>> {
        if graph.inputs.len() != inputs.len() {
            return invalid(format!(
                "a graph with {} inputs is given {}",
                graph.inputs.len(),
                inputs.len()
            ));
        }
        let mut names = Names::new();
        for (formal, actual) in graph.inputs.iter().zip(inputs) {
            match formal {
                Argument::Tensor(name) => names.insert(name.name.clone(), actual),
                Argument::SymInt(SymIntArgument::Name(name)) => names.insert(name.clone(), actual),
                _ => None,
            };
        }
        let mut inner = Scope { graph, names };
        self.run_nodes(&mut inner)
            .map_err(|error| Fail::Nested(Box::new(error)))?;
        let mut outs = Vec::new();
        for output in &graph.outputs {
            match output {
                Argument::None(_) => {}
                other => outs.extend(operands(&inner, other)?),
            }
        }
        Ok(outs)
    }

    /// A condition: see the module.
    fn cond(
        &mut self,
        scope: &Scope<'a>,
        predicate: &'a Argument,
        sides: [&'a Graph; 2],
        args: &'a Argument,
    ) -> Result<Vec<Val>> {
        let args = operands(scope, args)?;
        let predicate = match operands(scope, predicate)?.as_slice() {
            [Val::Tensor(tensor)] | [Val::Number(tensor)] => self.read(*tensor)?,
            [Val::Poison] => return Err(Fail::Poisoned),
            [Val::Sym(expr)] => {
                let number = self.sym_number(expr)?;
                self.number(&number, DType::Bool)?
            }
            _ => return unsupported("a condition that is no truth value"),
        };
        let predicate = self.build.reshape(predicate, Vec::new())?;
        let predicate = self.build.cast(predicate, DType::Bool)?;
        let [yes, no] = sides;
        let yes_made = self.region("yes", &args, |cx, vals| cx.run_graph(yes, vals))?;
        let no_made = self.region("no", &args, |cx, vals| cx.run_graph(no, vals))?;
        let (a, b) = (yes_made.types()?, no_made.types()?);
        if a.len() != b.len() {
            return invalid("the branches return different numbers of results");
        }
        if let Some((a, b)) = a.iter().zip(&b).find(|(a, b)| a != b) {
            return unsupported(format!(
                "branches that return tensors of different types, {a} and {b}"
            ));
        }
        let cheap = yes_made.is_cheap() && no_made.is_cheap();
        if !cheap && yes_made.is_one_chain() && no_made.is_one_chain() {
            return self.branch(predicate, &args, [&yes_made, &no_made]);
        }
        let before = self.versions(&args);
        let results = [
            self.run_graph(yes, args.clone())?,
            self.run_graph(no, args.clone())?,
        ];
        if self.versions(&args) != before {
            return unsupported(
                "a branch with a loop or a call of the host that writes to a tensor from outside",
            );
        }
        let mut chosen = Vec::new();
        for (yes, no) in results[0].iter().zip(&results[1]) {
            let (yes, no) = (self.tensor_of(yes)?, self.tensor_of(no)?);
            let value = self.build.select(predicate, yes, no)?;
            chosen.push(Val::Tensor(self.memory.root(Some(value))));
        }
        Ok(chosen)
    }

    /// How often the storages behind these values were written to.
    fn versions(&self, values: &[Val]) -> BTreeMap<StorageId, u32> {
        let storages = values.iter().filter_map(|value| match value {
            Val::Tensor(tensor) => Some(self.memory.storage(*tensor)),
            _ => None,
        });
        storages
            .map(|storage| (storage, self.memory.writes(storage)))
            .collect()
    }

    /// Element `n` of the first axis of each tensor.
    fn elements(&mut self, xs: &[Val], n: i64) -> Result<Vec<Val>> {
        let mut elements = Vec::new();
        for x in xs {
            let value = self.tensor_of(x)?;
            let element = self.element(value, 0, n)?;
            elements.push(Val::Tensor(self.memory.root(Some(element))));
        }
        Ok(elements)
    }

    fn element(&mut self, x: Value, axis: usize, n: i64) -> Result<Value> {
        let one = self.build.slice(x, axis, n.into(), (n + 1).into())?;
        let mut shape = self.build.shape(one)?;
        if axis < shape.len() {
            shape.remove(axis);
        }
        self.build.reshape(one, shape)
    }

    /// The value of a tensor.
    pub(in crate::import) fn tensor_of(&mut self, value: &Val) -> Result<Value> {
        match value {
            Val::Tensor(tensor) => self.read(*tensor),
            Val::Poison => Err(Fail::Poisoned),
            _ => unsupported("a loop over something that is no tensor"),
        }
    }

    /// A body run for each element of the first axis of `xs`: what it carries on, then the rest of its results, stacked.
    fn repeat(
        &mut self,
        body: &'a Graph,
        carried: Vec<Val>,
        xs: Vec<Val>,
        rest: Vec<Val>,
    ) -> Result<Vec<Val>> {
        let Some(first) = xs.first() else {
            return unsupported("a loop over no tensor");
        };
        let first = self.tensor_of(first)?;
        let Some(steps) = self.build.shape(first)?.first().cloned() else {
            return invalid("a loop over a 0-d tensor");
        };
        let known = steps
            .as_const()
            .filter(|steps| (1..=MAX_STEPS).contains(steps));
        let Some(steps) = known else {
            let body = |cx: &mut Self, vals: Vec<Val>| cx.run_graph(body, vals);
            return self.looped([carried, xs, rest], &steps, body);
        };
        let count = carried.len();
        let mut carried = carried;
        let mut stacks: Vec<Vec<Value>> = Vec::new();
        for n in 0..steps {
            let mut inputs = carried;
            inputs.extend(self.elements(&xs, n)?);
            inputs.extend(rest.iter().cloned());
            let mut outs = self.run_graph(body, inputs)?;
            if outs.len() < count {
                return invalid("a loop whose body returns less than it carries");
            }
            let results = outs.split_off(count);
            carried = outs;
            stacks.resize_with(results.len(), Vec::new);
            for (stack, result) in stacks.iter_mut().zip(&results) {
                let value = self.tensor_of(result)?;
                stack.push(self.build.unsqueeze(value, 0)?);
            }
        }
        for stack in stacks {
            let value = self.build.cat(&stack, 0)?;
            carried.push(Val::Tensor(self.memory.root(Some(value))));
        }
        Ok(carried)
    }

    /// A loop. Where its condition depends on constants alone, such as a counter, and it ends soon, its steps are imported one by one.
    fn while_loop(
        &mut self,
        [condition, body]: [&'a Graph; 2],
        start: Vec<Val>,
        rest: Vec<Val>,
    ) -> Result<Vec<Val>> {
        let mut carried = start.clone();
        let mut memo = BTreeMap::new();
        for _ in 0..MAX_STEPS {
            let mut inputs = carried.clone();
            inputs.extend(rest.iter().cloned());
            let verdict = self.run_graph(condition, inputs.clone())?;
            let [verdict] = verdict.as_slice() else {
                return invalid("the condition of a loop has one result");
            };
            let verdict = self.tensor_of(verdict)?;
            match self
                .known(verdict, &mut memo)
                .map(Tensor::to_f64)
                .as_deref()
            {
                Some([x]) if *x == 0.0 => return Ok(carried),
                Some([_]) => carried = self.run_graph(body, inputs)?,
                _ => break,
            }
        }
        let mut operands = start;
        operands.extend(rest);
        if !random::may_draw(body) {
            return self.endless(
                &operands,
                |cx, vals| cx.run_graph(condition, vals),
                |cx, vals| cx.run_graph(body, vals),
            );
        }
        // Each round draws other numbers, so that it must know which one it is.
        let counter = self.build.scalar(fuseline_ir::Scalar::Int(0), DType::I64)?;
        operands.insert(0, Val::Tensor(self.memory.root(Some(counter))));
        let mut all = self.endless(
            &operands,
            |cx, vals| cx.run_graph(condition, vals[1..].to_vec()),
            |cx, vals| {
                let at = cx.tensor_of(&vals[0])?;
                let made = cx.in_round(at, |cx| cx.run_graph(body, vals[1..].to_vec()))?;
                let one = cx.build.scalar(fuseline_ir::Scalar::Int(1), DType::I64)?;
                let next = cx.build.plus(at, one)?;
                let mut outs = vec![Val::Tensor(cx.memory.root(Some(next)))];
                outs.extend(made);
                Ok(outs)
            },
        )?;
        all.remove(0);
        Ok(all)
    }

    /// The value of a small tensor that depends on constants alone. What was found out on the way is kept in `known`, by the number of the value.
    fn known<'k>(
        &self,
        value: Value,
        known: &'k mut BTreeMap<usize, Tensor>,
    ) -> Option<&'k Tensor> {
        let graph = &self.build.graph;
        let mut needed = BTreeSet::new();
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if !known.contains_key(&value.index()) && needed.insert(value.index()) {
                open.extend_from_slice(&graph.nodes()[value.index()].args);
            }
        }
        let symbols = BTreeMap::new();
        for index in needed {
            let node = &graph.nodes()[index];
            let size = match &node.ty {
                Type::Tensor(ty) => ty.numel().as_const()?,
                _ => 1,
            };
            if usize::try_from(size).ok()? > SMALL {
                return None;
            }
            let result = match &node.op {
                Op::Constant(constant) => graph.constant_tensor(&constant.name).ok()?,
                op => {
                    let args = node.args.iter().map(|arg| known.get(&arg.index()));
                    let args: Vec<&Tensor> = args.collect::<Option<_>>()?;
                    let types: Vec<&Type> = node.args.iter().map(|arg| graph.ty(*arg)).collect();
                    let cx = EvalCx {
                        symbols: &symbols,
                        args: &types,
                        out: &node.ty,
                    };
                    op.eval(&cx, &args).ok()?.into_iter().next()?
                }
            };
            known.insert(index, result);
        }
        known.get(&value.index())
    }

    /// If node `n` opens a batch: imports the nodes up to its end once for each element, and returns the index after them.
    pub(in crate::import) fn batched(
        &mut self,
        nodes: &'a [Node],
        n: usize,
        scope: &mut Scope<'a>,
    ) -> std::result::Result<Option<usize>, crate::import::Error> {
        let node = &nodes[n];
        if target(node) != BATCH_OPENS {
            return Ok(None);
        }
        let fail = |fail| at(&describe(node), fail);
        let Some(Argument::Int(size)) = node.inputs.first().map(|input| &input.arg) else {
            return Err(fail(Fail::Unsupported(
                "a batch of a dynamic size".to_owned(),
            )));
        };
        let size = (*size).clamp(0, MAX_STEPS);
        let mut depth = 0;
        let end = nodes[n..].iter().position(|node| {
            depth += match target(node) {
                BATCH_OPENS => 1,
                BATCH_CLOSES => -1,
                _ => 0,
            };
            depth == 0
        });
        let Some(end) = end.map(|end| n + end) else {
            return Err(fail(Fail::Invalid("a batch without an end".to_owned())));
        };
        let inner = &nodes[n + 1..end];
        let mut collected: BTreeMap<&str, (i64, Vec<Value>)> = BTreeMap::new();
        for element in 0..size {
            let mut at = 0;
            while at < inner.len() {
                let node = &inner[at];
                if let Some(next) = self.batched(inner, at, scope)? {
                    at = next;
                    continue;
                }
                let name = crate::import::all_out_names(node).next();
                match (target(node), name) {
                    ("torch._functorch.predispatch._add_batch_dim", Some(name)) => {
                        let part = self.of_batch(node, scope, element).map_err(fail)?;
                        scope.names.insert(name.to_owned(), part);
                    }
                    ("torch._functorch.predispatch._remove_batch_dim", Some(name)) => {
                        let (axis, value) = self.out_of_batch(node, scope).map_err(fail)?;
                        collected
                            .entry(name)
                            .or_insert((axis, Vec::new()))
                            .1
                            .push(value);
                    }
                    _ => self.run_one(node, scope)?,
                }
                at += 1;
            }
        }
        for (name, (axis, parts)) in collected {
            let value = self.stacked(&parts, axis).map_err(fail)?;
            let tensor = self.memory.root(Some(value));
            scope.names.insert(name.to_owned(), Val::Tensor(tensor));
        }
        Ok(Some(end + 1))
    }

    /// Element `n` of a tensor that becomes a batch.
    fn of_batch(&mut self, node: &Node, scope: &Scope<'a>, n: i64) -> Result<Val> {
        let [x, axis, ..] = node.inputs.as_slice() else {
            return invalid("a batch without an axis");
        };
        let (values, Argument::Int(axis)) = (operands(scope, &x.arg)?, &axis.arg) else {
            return invalid("a batch without an axis");
        };
        let [x] = values.as_slice() else {
            return invalid("a batch of several tensors");
        };
        let x = self.tensor_of(x)?;
        let axis = self.build.axis(x, *axis)?;
        let element = self.element(x, axis, n)?;
        Ok(Val::Tensor(self.memory.root(Some(element))))
    }

    /// The value for one element, and the axis that the batch becomes.
    fn out_of_batch(&mut self, node: &Node, scope: &Scope<'a>) -> Result<(i64, Value)> {
        let [x, _, _, axis] = node.inputs.as_slice() else {
            return invalid("the end of a batch without an axis");
        };
        let (values, Argument::Int(axis)) = (operands(scope, &x.arg)?, &axis.arg) else {
            return invalid("the end of a batch without an axis");
        };
        match values.as_slice() {
            [x] => Ok((*axis, self.tensor_of(x)?)),
            _ => invalid("a batch of several tensors"),
        }
    }

    fn stacked(&mut self, parts: &[Value], axis: i64) -> Result<Value> {
        let Some(first) = parts.first() else {
            return unsupported("an empty batch");
        };
        let axis = crate::import::build::wrap_axis(axis, self.build.rank(*first)? + 1)?;
        let mut lifted = Vec::new();
        for part in parts {
            lifted.push(self.build.unsqueeze(*part, axis)?);
        }
        self.build.cat(&lifted, axis)
    }
}

/// What the names in an argument stand for.
fn operands(scope: &Scope<'_>, argument: &Argument) -> Result<Vec<Val>> {
    let find = |name: &str| match scope.get(name) {
        Some(value) => Ok(value.clone()),
        None => invalid(format!("`{name}` is used before it is computed")),
    };
    match argument {
        Argument::Tensor(name) => Ok(vec![find(&name.name)?]),
        Argument::Tensors(names) => names.iter().map(|name| find(&name.name)).collect(),
        Argument::Int(n) => Ok(vec![Val::Int((*n).into())]),
        Argument::Ints(all) => Ok(all.iter().map(|n| Val::Int((*n).into())).collect()),
        Argument::Bool(b) => Ok(vec![Val::Sym(SymExpr::Bool(*b))]),
        Argument::SymInt(one) => Ok(vec![sym_int(one, find)?]),
        Argument::SymInts(all) => all.iter().map(|one| sym_int(one, find)).collect(),
        Argument::SymBool(SymBoolArgument::Name(name)) => Ok(vec![find(name)?]),
        other => unsupported(format!("a graph over {}", other.kind())),
    }
}

fn sym_int(value: &SymIntArgument, find: impl Fn(&str) -> Result<Val>) -> Result<Val> {
    match value {
        SymIntArgument::Int(n) => Ok(Val::Int((*n).into())),
        SymIntArgument::Name(name) => find(name),
    }
}
