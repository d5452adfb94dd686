//! Positions become sizes: a number that the host must read anyway is read once, and what depends on it is a function of the index with a known origin.
//!
//! A cache is often written at `position + arange(n)`, where the position is one element of a tensor. The target's copy by index waits for its indices on the host, each time.
//! Here the position is read once ([`Item`](fuseline_ir::ops::control::Item)) and the copy becomes a slice update that starts at that number; rotary offsets and masks that
//! follow the same position see a size in place of a tensor, so that recognisers can compare them. Exact: the copy is only defined where its indices lie within the axis, and
//! that range is what the symbol is declared to have. Of indices that may count from the end, those that pass from the last place to the first are refused when the program runs.
//!
//! Numbers that are read twice, or that are sizes already, are read once, or not at all.

use crate::closed_form::{self, Expr, Form, position};
use crate::pass::{PassCx, PassError};
use crate::regions::has_region;
use fuseline_ir::ops::{control, create, index, movement};
use fuseline_ir::{
    Attr, Dim, Graph, Loc, Op, OpError, Range, Requirement, Symbol, Type, Value, attr,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pass's name.
pub const NAME: &str = "positions";

/// The pass: see the module.
///
/// # Errors
/// An op that doesn't take what it is given any more, which is a bug of the pass.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    let forms = closed_form::analyse(graph);
    let writes = writes(graph, &forms);
    // A graph inside an op may mention a symbol by its name.
    let closed = !graph.nodes().iter().any(has_region);
    let mut out = Rebuilt {
        graph: graph.rebuilt(),
        renamed: BTreeMap::new(),
        read: BTreeMap::new(),
    };
    let mut wanted: BTreeMap<Value, Range> = BTreeMap::new();
    for write in writes.values() {
        if let Some(key) = write.key {
            let range = wanted.entry(key).or_insert(write.range);
            range.min = range.min.max(write.range.min);
            range.max = range.max.min(write.range.max).max(range.min);
        }
    }
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let fail = PassError::at(NAME, graph, value);
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let made = match (&node.op, writes.get(&value)) {
            (Op::Item(item), _) if closed => {
                let known = node.args.first().map(|x| source(&forms, *x));
                out.item(&item.symbol, known, &args, &node.loc)
            }
            (Op::IndexCopy(copy), Some(write)) => {
                let start = match write.key.and_then(|k| out.read.get(&k)) {
                    Some(symbol) => &write.constant + &Dim::symbol(symbol.clone()),
                    None => write.constant.clone(),
                };
                let update = index::SliceUpdate {
                    axis: copy.axis,
                    start: out.dim(&start),
                    step: 1,
                };
                let args: Vec<Value> = args
                    .first()
                    .into_iter()
                    .chain(args.last())
                    .copied()
                    .collect();
                out.graph.add(update, &args, &node.loc)
            }
            _ => out.add(&node.op, &args, &node.loc),
        };
        let mut made = made.map_err(fail)?;
        if let Some(range) = wanted.get(&value) {
            made = out.number(value, made, *range, &node.loc).map_err(fail)?;
        }
        map.push(made);
    }
    let required = std::mem::take(&mut out.graph.requirements);
    for Requirement { dim, range } in required {
        let dim = out.dim(&dim);
        out.graph.require(&dim, range);
    }
    crate::decompose::copy_ends(graph, &mut out.graph, &map);
    crate::sweep::sweep(&out.graph).map_err(|error| PassError::Op {
        pass: NAME,
        place: "the sweep at the end".into(),
        error,
    })
}

/// A copy to places that follow each other.
struct Write {
    /// What is read for the first place, where it isn't a size.
    key: Option<Value>,
    /// What is added to it.
    constant: Dim,
    /// What the number read can be.
    range: Range,
}

/// The copies by index that are slice updates, by value.
fn writes(graph: &Graph, forms: &[Option<Arc<Form<Value>>>]) -> BTreeMap<Value, Write> {
    let live = graph.live();
    let mut out = BTreeMap::new();
    for (value, node) in graph.values() {
        let (Op::IndexCopy(copy), &[x, indices, _]) = (&node.op, node.args.as_slice()) else {
            continue;
        };
        if !live[value.index()] {
            continue;
        }
        let Some(write) = write(graph, forms, x, indices, copy) else {
            continue;
        };
        out.insert(value, write);
    }
    out
}

fn write(
    graph: &Graph,
    forms: &[Option<Arc<Form<Value>>>],
    x: Value,
    indices: Value,
    copy: &index::IndexCopy,
) -> Option<Write> {
    let rows = graph.ty(indices).as_tensor()?.shape.first()?;
    let size = graph.ty(x).as_tensor()?.shape.get(copy.axis)?;
    let (key, constant) = if rows.is(1) && forms[indices.index()].is_none() {
        (Some(indices), Dim::from(0i64))
    } else {
        let at = position(forms[indices.index()].as_ref()?)?;
        let counts = match at.axes.iter().next() {
            None => rows.is(1),
            Some((axis, step)) => at.axes.len() == 1 && *axis == 0 && step.is(1),
        };
        let mut scalars = at.scalars.iter();
        let key = match (scalars.next(), scalars.next()) {
            _ if !counts => return None,
            (None, _) => None,
            (Some((key, 1)), None) => Some(*key),
            _ => return None,
        };
        (key, at.constant)
    };
    let least = |d: &Dim| d.range(&graph.symbols).min;
    let room = &(size - rows) - &constant;
    let lowest = if copy.wraps { -size } else { Dim::from(0i64) };
    let range = Range {
        min: least(&(&lowest - &constant)),
        max: room.range(&graph.symbols).max,
    };
    // More rows than there are places: a copy that always fails.
    (range.min <= range.max).then_some(Write {
        key,
        constant,
        range,
    })
}

/// What an item reads: a size, or the one element of a value.
enum Source {
    Size(Dim),
    Element(Value),
}

fn source(forms: &[Option<Arc<Form<Value>>>], x: Value) -> Source {
    match forms[x.index()].as_ref().map(|f| f.uncast()) {
        Some(form) => match (form.as_dim(), &form.expr) {
            (Some(dim), _) => Source::Size(dim),
            (None, Expr::Scalar(key)) => Source::Element(*key),
            _ => Source::Element(x),
        },
        None => Source::Element(x),
    }
}

/// The graph to come.
struct Rebuilt {
    graph: Graph,
    /// Symbols that are known by another name.
    renamed: BTreeMap<Symbol, Dim>,
    /// The symbols of the values that were read.
    read: BTreeMap<Value, Symbol>,
}

impl Rebuilt {
    fn dim(&self, dim: &Dim) -> Dim {
        dim.substitute(&|s| self.renamed.get(s).cloned())
    }

    fn add(&mut self, op: &Op, args: &[Value], loc: &Loc) -> Result<Value, OpError> {
        if self.renamed.is_empty() {
            return self.graph.add(op.clone(), args, loc);
        }
        let renamed = |s: &Symbol| self.renamed.get(s).cloned();
        let attrs = op.attrs();
        let attrs: Vec<(&str, Attr)> = attrs
            .iter()
            .map(|(name, a)| (*name, attr::substitute(a, &renamed)))
            .collect();
        let op = Op::build(op.name(), &attrs)?;
        self.graph.add(op, args, loc)
    }

    /// An item of the graph: its number under the name that it has already, or read now.
    fn item(
        &mut self,
        symbol: &Symbol,
        known: Option<Source>,
        args: &[Value],
        loc: &Loc,
    ) -> Result<Value, OpError> {
        let number = match known {
            Some(Source::Size(dim)) => self.dim(&dim),
            Some(Source::Element(key)) => match self.read.get(&key) {
                Some(earlier) => Dim::symbol(earlier.clone()),
                None => {
                    self.read.insert(key, symbol.clone());
                    let op = control::Item {
                        symbol: symbol.clone(),
                    };
                    return self.graph.add(op, args, loc);
                }
            },
            None => return Err(OpError::new("item", "has no argument")),
        };
        let range = self.graph.symbols.remove(symbol);
        if let (Some(range), Some(earlier)) = (range, number.as_symbol()) {
            let kept = self.graph.symbols.entry(earlier.clone()).or_insert(range);
            kept.min = kept.min.max(range.min);
            kept.max = kept.max.min(range.max).max(kept.min);
        }
        self.renamed.insert(symbol.clone(), number.clone());
        self.graph.add(create::Size { value: number }, &[], loc)
    }

    /// `x`, the value `old` of the graph before, made from the number that is read from it.
    fn number(&mut self, old: Value, x: Value, range: Range, loc: &Loc) -> Result<Value, OpError> {
        let Type::Tensor(ty) = self.graph.ty(x).clone() else {
            return Ok(x);
        };
        let symbol = self.fresh();
        self.graph.declare_symbol(symbol.clone(), range);
        let read = control::Item {
            symbol: symbol.clone(),
        };
        let read = self.graph.add(read, &[x], loc)?;
        self.read.insert(old, symbol);
        let number = create::IntTensor { dtype: ty.dtype };
        let number = self.graph.add(number, &[read], loc)?;
        let shape = ty.shape;
        self.graph.add(movement::Reshape { shape }, &[number], loc)
    }

    fn fresh(&self) -> Symbol {
        (0..=self.graph.symbols.len())
            .map(|n| Symbol::from(format!("at{n}")))
            .find(|s| !self.graph.symbols.contains_key(s))
            .unwrap_or_else(|| "at".into())
    }
}
