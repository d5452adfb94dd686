//! Masks that a model keeps as data: a triangle of one number beside another, as `tril` and `triu` leave it, is a comparison of row and column.

use super::{Form, Key};
use fuseline_ir::ops::pointwise as p;
use fuseline_ir::{DType, Dim, Graph, Node, Op, Scalar, Symbol, Tensor, TensorType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most elements of a constant that is looked at.
const MOST: i64 = 1 << 24;

/// Row i and column j of the last two axes hold `below` where j ≤ i + `shift`, else `above`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Triangle {
    /// The columns that row 0 has of `below`, less one.
    pub shift: i64,
    /// On and below the diagonal.
    pub below: Scalar,
    /// Above it.
    pub above: Scalar,
}

/// The constants of a graph that are triangles, by name. Weights are not looked into: only a constant that is read as a mask is, by its place and by pointwise ops.
pub fn triangles(graph: &Graph) -> BTreeMap<Symbol, Triangle> {
    let masks = read_as_masks(graph);
    let mut out = BTreeMap::new();
    for (value, node) in graph.values() {
        let Op::Constant(constant) = &node.op else {
            continue;
        };
        let few = constant.ty.numel().as_const().is_some_and(|n| n <= MOST);
        if !few || !masks[value.index()] || !is_square(&constant.ty) {
            continue;
        }
        let data = graph.constants.get(&constant.name);
        let bytes = data.and_then(|c| c.data.as_ref()?.bytes().ok());
        if let Some(triangle) = bytes.and_then(|bytes| fit(&constant.ty, &bytes)) {
            out.insert(constant.name.clone(), triangle);
        }
    }
    out
}

/// Whether the last two axes have one size, more than 1, and the others 1.
fn is_square(ty: &TensorType) -> bool {
    match ty.shape.as_slice() {
        [lead @ .., rows, columns] => {
            rows == columns && !rows.is(1) && lead.iter().all(|d| d.is(1))
        }
        _ => false,
    }
}

/// For each value whether all that reads it takes elements of it by place.
fn read_as_masks(graph: &Graph) -> Vec<bool> {
    let mut masks = vec![true; graph.nodes().len()];
    let by_place = |node: &Node, n: usize| match &node.op {
        Op::Slice(_) | Op::Reshape(_) | Op::Broadcast(_) => true,
        Op::Take(_) | Op::Gather(_) => n == 0,
        Op::Sdpa(_) => n == 3,
        Op::Where(_) | Op::Eq(_) | Op::Ne(_) | Op::Lt(_) | Op::Le(_) => true,
        Op::LogicalNot(_) | Op::LogicalAnd(_) | Op::LogicalOr(_) | Op::Cast(_) => true,
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) => true,
        _ => false,
    };
    for node in graph.nodes() {
        for (n, a) in node.args.iter().enumerate() {
            masks[a.index()] &= by_place(node, n);
        }
    }
    masks
}

/// The triangle that square data is.
fn fit(ty: &TensorType, bytes: &[u8]) -> Option<Triangle> {
    let size = usize::try_from(ty.shape.last()?.as_const()?).ok()?;
    let width = bytes.len().checked_div(size * size).filter(|w| *w > 0)?;
    let rows: Vec<&[u8]> = bytes.chunks_exact(size * width).collect();
    let (first, last) = (rows.first()?, rows.last()?);
    let (below, above) = (&last[..width], &first[first.len() - width..]);
    let run = |row: &[u8], of: &[u8]| row.chunks_exact(width).take_while(|e| *e == of).count();
    // A row that holds both tells where the diagonal is.
    let (at, columns) = rows
        .iter()
        .enumerate()
        .map(|(n, row)| (n, run(row, below)))
        .find(|(_, n)| (1..size).contains(n))?;
    let shift = i64::try_from(columns).ok()? - 1 - i64::try_from(at).ok()?;
    let holds = |(n, row): (usize, &&[u8])| {
        let columns = i64::try_from(n).ok()? + shift + 1;
        let columns = usize::try_from(columns.max(0)).ok()?.min(size);
        let (left, right) = row.split_at(columns * width);
        let all = |part: &[u8], of: &[u8]| part.chunks_exact(width).all(|e| e == of);
        Some(all(left, below) && all(right, above))
    };
    let fits = below != above && rows.iter().enumerate().all(|r| holds(r) == Some(true));
    fits.then_some(Triangle {
        shift,
        below: element(ty.dtype, below)?,
        above: element(ty.dtype, above)?,
    })
}

fn element(dtype: DType, bytes: &[u8]) -> Option<Scalar> {
    let one = Tensor::from_bytes(dtype, vec![], bytes).ok()?;
    (one.len() == 1).then(|| one.get(0))
}

impl Triangle {
    /// The form of a constant of that rank that is the triangle.
    pub fn form<K: Key>(self, dtype: DType, rank: usize) -> Option<Arc<Form<K>>> {
        let (row, column) = (rank.checked_sub(2)?, rank - 1);
        let shift = Form::dim(DType::I64, &Dim::from(self.shift));
        let at = super::construct::add(Form::index(row), shift);
        let below = Form::apply(
            &Op::Le(p::Le {}),
            DType::Bool,
            vec![Form::index(column), at],
        );
        let numbers = [self.below, self.above].map(|n| Form::number(dtype, n));
        let [yes, no] = numbers;
        Some(match (dtype, self.below) {
            (DType::Bool, Scalar::Bool(true)) => below,
            (DType::Bool, _) => {
                Form::apply(&Op::LogicalNot(p::LogicalNot {}), DType::Bool, vec![below])
            }
            _ => Form::apply(&Op::Where(p::Where {}), dtype, vec![below, yes, no]),
        })
    }
}

/// The forms of the constants of a graph that are triangles, or a single number, by name.
pub fn constant_forms<K: Key>(graph: &Graph) -> BTreeMap<Symbol, Arc<Form<K>>> {
    let number = |(name, number): (Symbol, Scalar)| {
        let dtype = graph.constants.get(&name)?.ty.dtype;
        Some((name, Form::number(dtype, number)))
    };
    let triangle = |(name, triangle): (Symbol, Triangle)| {
        let ty = &graph.constants.get(&name)?.ty;
        let form = triangle.form(ty.dtype, ty.rank())?;
        Some((name, form))
    };
    let numbers = crate::egraph::numbers(graph).into_iter();
    let triangles = triangles(graph).into_iter();
    (numbers.filter_map(number))
        .chain(triangles.filter_map(triangle))
        .collect()
}
