//! Constant folding: what depends on constants alone is computed while compiling, by the reference evaluation, where the result is small and the work is little.
//!
//! The rest needs no folding to be cheap: what [`crate::hoist`] marks is computed once, when the program is loaded. So a large weight is never copied here to save
//! that, and a product of large weights is never computed by the slow reference.
//!
//! *Index functions* (a mask, a rotary table: what depends on an `arange` and has more than one axis, and integers and truth values made of literals alone) are
//! left as they are: as formulas they can be recognised (see [`crate::closed_form`]), as data they can't.

use crate::pass::{PassCx, PassError};
use crate::shapes::wide_axes;
use crate::{hoist, sweep};
use fuseline_ir::ops::{EvalCx, create};
use fuseline_ir::{
    Constant, EvalError, Flag, Graph, Node, Op, Symbol, Tensor, TensorType, Type, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The pass's name.
pub const NAME: &str = "fold";

/// A result of at most so many bytes is folded whatever it replaces; a larger one only where constants of as many bytes fall away.
pub const SMALL_BYTES: usize = 4096;

/// The most work for one result, in elements read and multiplications: what the reference evaluation does in well under a second.
pub const MAX_WORK: usize = 1 << 21;

/// The most work for all results of a graph.
pub const MAX_TOTAL_WORK: usize = 1 << 25;

/// The pass: see the module.
///
/// # Errors
/// A constant's bytes can't be read, or don't fit its type. What the reference evaluation refuses (an integer divided by zero) is left to fail when it runs.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    let plan = Plan::new(graph);
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    let mut budget = MAX_TOTAL_WORK;
    let mut names = (0..)
        .map(|n| Symbol::from(format!("folded.{n}")))
        .filter(|n| !graph.constants.contains_key(n));
    for (value, node) in graph.values() {
        let fail = PassError::at(NAME, graph, value);
        let mut op = node.op.clone();
        let mut args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        if let Some((tensor, ty)) = plan.fold(value, &mut budget)? {
            op = match uniform(&tensor) {
                Some(value) => create::Full { value, ty }.into(),
                None => {
                    let name = names.next().unwrap_or_else(|| "folded".into());
                    let data = Arc::new(tensor.to_bytes());
                    let constant = Constant {
                        ty: ty.clone(),
                        data: Some(data),
                    };
                    out.constants.insert(name.clone(), constant);
                    create::Constant { name, ty }.into()
                }
            };
            args.clear();
        }
        map.push(out.add(op, &args, &node.loc).map_err(fail)?);
    }
    crate::decompose::copy_ends(graph, &mut out, &map);
    sweep::sweep(&out).map_err(|error| PassError::Op {
        pass: NAME,
        place: "the sweep at the end".into(),
        error,
    })
}

/// The number that all elements are, bit for bit.
fn uniform(tensor: &Tensor) -> Option<fuseline_ir::Scalar> {
    let first = (!tensor.is_empty()).then(|| tensor.get(0))?;
    (1..tensor.len())
        .all(|i| tensor.get(i) == first)
        .then_some(first)
}

/// What is known about a graph before anything is folded.
struct Plan<'a> {
    graph: &'a Graph,
    /// Depends on constants alone, without a large movement on the way: a view of a weight is free, a moved copy of it isn't. Nor is a weight in few bits put into floats,
    /// however small it is.
    fixed: Vec<bool>,
    users: Vec<Vec<Value>>,
    roots: BTreeSet<Value>,
}

/// What a value is computed from: itself, its arguments, theirs, and so on.
#[derive(Default)]
struct Cone {
    values: BTreeSet<Value>,
    work: usize,
    arange: bool,
    constants: BTreeSet<Value>,
}

impl Plan<'_> {
    fn new(graph: &Graph) -> Plan<'_> {
        let mut users = vec![Vec::new(); graph.nodes().len()];
        for (value, node) in graph.values() {
            for a in &node.args {
                users[a.index()].push(value);
            }
        }
        let mut fixed = hoist::const_only(graph);
        for (value, node) in graph.values() {
            let large = node.ty.as_tensor().is_some_and(|t| bytes(t) > SMALL_BYTES);
            let few_bits = matches!(node.op, Op::Dequantize(_));
            if large && node.op.info().has(Flag::Movement)
                || few_bits
                || node.args.iter().any(|a| !fixed[a.index()])
            {
                fixed[value.index()] = false;
            }
        }
        Plan {
            graph,
            fixed,
            users,
            roots: graph.roots().into_iter().collect(),
        }
    }

    /// The elements to put in the place of a value, where folding it pays.
    fn fold(
        &self,
        value: Value,
        budget: &mut usize,
    ) -> Result<Option<(Tensor, TensorType)>, PassError> {
        let node = self.graph.node(value);
        let Some(ty) = node
            .ty
            .as_tensor()
            .filter(|_| self.fixed[value.index()] && !node.args.is_empty())
        else {
            return Ok(None);
        };
        // A value that only other fixed values read is part of theirs.
        let frontier = self.roots.contains(&value)
            || self.users[value.index()]
                .iter()
                .any(|u| !self.fixed[u.index()]);
        let Some(cone) =
            cone(self.graph, value, MAX_WORK).filter(|c| frontier && c.work <= *budget)
        else {
            return Ok(None);
        };
        let index_function = (cone.arange && wide_axes(&ty.shape) > 1)
            || (cone.constants.is_empty() && !ty.dtype.is_float());
        if index_function || bytes(ty) > SMALL_BYTES.max(self.dying(&cone, value)) {
            return Ok(None);
        }
        *budget -= cone.work;
        Ok(eval(self.graph, &cone, value)?.map(|t| (t, ty.clone())))
    }

    /// Bytes of the constants that nothing reads any more once `value` is a constant itself.
    fn dying(&self, cone: &Cone, value: Value) -> usize {
        // From the last value to the first: what something outside the cone reads stays, and so does all that it is computed from.
        let mut stays: BTreeSet<Value> = BTreeSet::new();
        for &v in cone.values.iter().rev().filter(|v| **v != value) {
            let outside = self.roots.contains(&v)
                || self.users[v.index()]
                    .iter()
                    .any(|u| !cone.values.contains(u) || stays.contains(u));
            if outside {
                stays.insert(v);
            }
        }
        let initial = |name: &Symbol| {
            self.graph
                .states
                .iter()
                .any(|s| s.init.as_ref() == Some(name))
        };
        let freed = |v: &Value| match &self.graph.node(*v).op {
            Op::Constant(c) if !stays.contains(v) && !initial(&c.name) => bytes(&c.ty),
            _ => 0,
        };
        cone.constants.iter().map(freed).sum()
    }
}

/// The elements of a value that depends on constants alone, where so much work gives them. `None` of any other value.
pub fn known(graph: &Graph, value: Value, most: usize) -> Option<Tensor> {
    let cone = cone(graph, value, most)?;
    let fixed = |v: &Value| {
        let node = graph.node(*v);
        hoist::may_be_constant(node)
    };
    cone.values.iter().all(fixed).then_some(())?;
    eval(graph, &cone, value).ok()?
}

/// `None` where the work is too much, or a constant is named only.
fn cone(graph: &Graph, value: Value, most: usize) -> Option<Cone> {
    let mut cone = Cone::default();
    let mut open = vec![value];
    while let Some(v) = open.pop() {
        if !cone.values.insert(v) {
            continue;
        }
        let node = graph.node(v);
        cone.work = cone.work.saturating_add(work(graph, node));
        match &node.op {
            Op::Constant(op) => {
                graph.constants.get(&op.name)?.data.as_ref()?;
                cone.constants.insert(v);
            }
            Op::Arange(_) => cone.arange = true,
            _ => {}
        }
        open.extend(&node.args);
        if cone.work > most {
            return None;
        }
    }
    Some(cone)
}

/// Elements written and read, and the multiplications of a matrix product.
fn work(graph: &Graph, node: &Node) -> usize {
    let of = |ty: &Type| ty.as_tensor().map_or(1, size);
    let out = of(&node.ty);
    let read = node
        .args
        .iter()
        .fold(out, |n, a| n.saturating_add(of(graph.ty(*a))));
    let inner = match (&node.op, node.args.first().map(|a| graph.ty(*a))) {
        (Op::Matmul(_) | Op::Addmm(_), Some(Type::Tensor(a))) => {
            a.shape.last().and_then(|d| d.as_const())
        }
        _ => None,
    };
    let inner = inner.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    read.saturating_add(out.saturating_mul(inner))
}

fn eval(graph: &Graph, cone: &Cone, value: Value) -> Result<Option<Tensor>, PassError> {
    let mut values: BTreeMap<Value, Tensor> = BTreeMap::new();
    for &v in &cone.values {
        let node = graph.node(v);
        let tensor = if let Op::Constant(op) = &node.op {
            let read = graph.constant_tensor(&op.name);
            read.map_err(|error: EvalError| PassError::Eval {
                pass: NAME,
                place: graph.describe(v, node),
                error,
            })?
        } else {
            let Some(args) = node
                .args
                .iter()
                .map(|a| values.get(a))
                .collect::<Option<Vec<_>>>()
            else {
                return Ok(None);
            };
            let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
            let cx = EvalCx {
                symbols: &BTreeMap::new(),
                args: &types,
                out: &node.ty,
            };
            match node
                .op
                .eval(&cx, &args)
                .ok()
                .and_then(|mut all| (all.len() == 1).then(|| all.remove(0)))
            {
                Some(tensor) => tensor,
                None => return Ok(None),
            }
        };
        values.insert(v, tensor);
    }
    Ok(values.remove(&value))
}

/// Elements of a static type.
fn size(ty: &TensorType) -> usize {
    let sizes = ty.static_shape().unwrap_or_default();
    sizes.iter().fold(1usize, |n, d| n.saturating_mul(*d))
}

fn bytes(ty: &TensorType) -> usize {
    size(ty).saturating_mul(ty.dtype.size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Target;
    use fuseline_ir::text;

    fn fold(body: &str) -> Graph {
        let graph =
            text::parse(&format!("graph \"t\" {{\n{body}\n}}")).unwrap_or_else(|e| panic!("{e}"));
        let out = run(&graph, &PassCx::new(Target::Cpu)).unwrap();
        out.verify().unwrap();
        out
    }

    fn ops(graph: &Graph) -> String {
        graph
            .nodes()
            .iter()
            .map(|n| n.op.name())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_small_vector_is_computed() {
        let out = fold(
            "data \"w\" : bf16[3] = [1.0, 2.0, 3.0]\n%x = input[name=\"x\", ty=f32[3]]\n%w = constant[name=\"w\", ty=bf16[3]]\n\
             %f = cast[dtype=f32](%w)\n%one = full[value=1.0, ty=f32[]]\n%g = add(%f, %one)\n%y = mul(%x, %g)\noutput \"y\" = %y",
        );
        assert_eq!(ops(&out), "input constant mul");
        assert_eq!(
            out.constants.keys().map(|k| &**k).collect::<Vec<_>>(),
            ["folded.0"]
        );
        assert_eq!(
            out.constant_tensor("folded.0").unwrap().to_f64(),
            [2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn a_weight_in_few_bits_stays_so_however_small() {
        let words = ["305419896"; 8].join(", ");
        let out = fold(&format!(
            "data \"q\" : u32[2, 4] = [{words}]\ndata \"s\" : f32[2, 1] = [0.5, 0.25]\ndata \"z\" : f32[2, 1] = [-1.0, 2.0]\n\
             %x = input[name=\"x\", ty=f32[3, 32]]\n%q = constant[name=\"q\", ty=u32[2, 4]]\n%s = constant[name=\"s\", ty=f32[2, 1]]\n\
             %z = constant[name=\"z\", ty=f32[2, 1]]\n%w = dequantize[group=32, bits=4, mode=\"affine\", dtype=f32](%q, %s, %z)\n\
             %t = transpose[perm=[1, 0]](%w)\n%y = matmul(%x, %t)\noutput \"y\" = %y"
        ));
        assert!(ops(&out).contains("dequantize"), "{}", ops(&out));
    }

    #[test]
    fn equal_elements_become_full() {
        let out = fold(
            "data \"w\" : f32[2] = [1.0, 1.0]\n%x = input[name=\"x\", ty=f32[2]]\n%w = constant[name=\"w\", ty=f32[2]]\n\
             %g = neg(%w)\n%y = mul(%x, %g)\noutput \"y\" = %y",
        );
        assert_eq!(ops(&out), "input full mul");
        assert!(out.constants.is_empty());
    }

    /// A constant of `n` elements that has data.
    fn with_data(n: usize, body: &str) -> Graph {
        let mut graph = text::parse(&format!(
            "graph \"t\" {{\ndata \"w\" : f32[{n}]\n{body}\n}}"
        ))
        .unwrap_or_else(|e| panic!("{e}"));
        let tensor = Tensor::floats(
            fuseline_ir::DType::F32,
            vec![n],
            (0..n).map(|i| i as f64).collect(),
        )
        .unwrap();
        graph
            .constants
            .values_mut()
            .for_each(|c| c.data = Some(Arc::new(tensor.to_bytes())));
        run(&graph, &PassCx::new(Target::Cpu)).unwrap()
    }

    #[test]
    fn a_large_result_is_computed_only_in_place_of_its_operand() {
        let alone = "%x = input[name=\"x\", ty=f32[4096]]\n%w = constant[name=\"w\", ty=f32[4096]]\n%n = neg(%w)\n%y = mul(%x, %n)\noutput \"y\" = %y";
        assert_eq!(ops(&with_data(4096, alone)), "input constant mul");
        let read_again = format!("{alone}\n%z = add(%x, %w)\noutput \"z\" = %z");
        assert_eq!(
            ops(&with_data(4096, &read_again)),
            "input constant neg mul add"
        );
        let grown = alone
            .replace("%n = neg(%w)", "%n = cast[dtype=f64](%w)")
            .replace("ty=f32[4096]]\n%w", "ty=f64[4096]]\n%w");
        assert_eq!(ops(&with_data(4096, &grown)), "input constant cast mul");
    }

    #[test]
    fn a_large_weight_is_not_moved() {
        let body = "%x = input[name=\"x\", ty=f32[2, 64]]\n%w = constant[name=\"w\", ty=f32[4096]]\n%m = reshape[shape=[64, 64]](%w)\n\
                    %n = neg(%m)\n%t = transpose[perm=[1, 0]](%n)\n%y = matmul(%x, %t)\noutput \"y\" = %y";
        assert_eq!(
            ops(&with_data(4096, body)),
            "input constant reshape neg transpose matmul"
        );
        let body = body.replace(
            "reshape[shape=[64, 64]](%w)\n%n = neg(%m)",
            "neg(%w)\n%n = reshape[shape=[64, 64]](%m)",
        );
        assert_eq!(
            ops(&with_data(4096, &body)),
            "input constant reshape transpose matmul"
        );
    }

    #[test]
    fn formulas_of_the_index_and_named_constants_stay() {
        let mask = fold(
            "%x = input[name=\"x\", ty=bool[4, 4]]\n%a = arange[start=0, step=1, len=4, dtype=i64]\n%b = reshape[shape=[4, 1]](%a)\n\
             %m = le(%a, %b)\n%y = logical_and(%m, %x)\noutput \"y\" = %y",
        );
        assert_eq!(ops(&mask), "input arange reshape le logical_and");
        let named = fold(
            "data \"w\" : f32[3]\n%x = input[name=\"x\", ty=f32[3]]\n%w = constant[name=\"w\", ty=f32[3]]\n%n = neg(%w)\n%y = mul(%x, %n)\noutput \"y\" = %y",
        );
        assert_eq!(ops(&named), "input constant neg mul");
    }

    #[test]
    fn what_cannot_be_computed_stays() {
        let out = fold(
            "%x = input[name=\"x\", ty=f32[2]]\ndata \"w\" : i64[2] = [1, 2]\n%w = constant[name=\"w\", ty=i64[2]]\n%z = full[value=0, ty=i64[]]\n\
             %q = floor_div(%w, %z)\n%f = cast[dtype=f32](%q)\n%y = mul(%x, %f)\noutput \"y\" = %y",
        );
        assert_eq!(ops(&out), "input constant full floor_div cast mul");
    }
}
