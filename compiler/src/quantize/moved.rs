//! Weights with their axes in another order: read from where they are, a piece at a time.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use fuseline_ir::graph::Payload;
use fuseline_ir::ops::table as op;
use fuseline_ir::{Graph, Op, OpError, Symbol, TensorType, Value};
use fuseline_passes::decompose::copy_ends;

/// The graph with these weights stored as they are read: where nothing but one chain of transposes and reshapes reads one, the weight is what the chain makes of it. So a
/// product finds the axis that it sums over where kernels want it.
pub(super) fn settled(graph: &Graph, weights: &BTreeSet<Symbol>) -> Result<Graph, OpError> {
    let mut users: Vec<Vec<Value>> = vec![Vec::new(); graph.nodes().len()];
    let live = graph.live();
    for (value, node) in graph.values().filter(|(value, _)| live[value.index()]) {
        for arg in &node.args {
            users[arg.index()].push(value);
        }
    }
    let roots = graph.roots();
    let initial: BTreeSet<&Symbol> = graph
        .states
        .iter()
        .filter_map(|s| s.init.as_ref())
        .collect();
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    // What stands for the values of a chain, from its second to its last.
    let mut chained = vec![None; graph.nodes().len()];
    for (value, node) in graph.values() {
        if let Some(known) = chained[value.index()] {
            map.push(known);
            continue;
        }
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let chain = match &node.op {
            Op::Constant(op) if weights.contains(&op.name) && !initial.contains(&op.name) => {
                let alone = graph
                    .nodes()
                    .iter()
                    .filter(|n| matches!(&n.op, Op::Constant(c) if c.name == op.name))
                    .count()
                    == 1;
                let chain = chain(graph, &users, &roots, value);
                chain.filter(|_| alone).map(|chain| (op, chain))
            }
            _ => None,
        };
        let Some((op, (ends, ty, data))) = chain else {
            map.push(out.add(node.op.clone(), &args, &node.loc)?);
            continue;
        };
        let name = op.name.clone();
        if let Some(constant) = out.constants.get_mut(&name) {
            (constant.ty, constant.data) = (ty.clone(), Some(data));
        }
        let moved = out.add(op::Constant { name, ty }, &[], &node.loc)?;
        for end in ends {
            chained[end.index()] = Some(moved);
        }
        map.push(moved);
    }
    copy_ends(graph, &mut out, &map);
    Ok(out)
}

/// The values of the chain that begins after a constant, and the constant that its last one is.
fn chain(
    graph: &Graph,
    users: &[Vec<Value>],
    roots: &[Value],
    start: Value,
) -> Option<(Vec<Value>, TensorType, Arc<dyn Payload>)> {
    let Op::Constant(op) = &graph.node(start).op else {
        return None;
    };
    let width = op.ty.dtype.size();
    let mut data = graph.constants.get(&op.name)?.data.clone()?;
    let mut shape = op.ty.static_shape()?;
    let (mut values, mut at) = (Vec::new(), start);
    while let ([user], false) = (users[at.index()].as_slice(), roots.contains(&at)) {
        let node = graph.node(*user);
        match &node.op {
            Op::Transpose(op) => {
                data = transposed(data, width, &shape, &op.perm)?;
                shape = op.perm.iter().map(|axis| shape[*axis]).collect();
            }
            Op::Reshape(_) => shape = node.ty.as_tensor()?.static_shape()?,
            _ => break,
        }
        values.push(*user);
        at = *user;
    }
    let ty = TensorType::new(op.ty.dtype, shape.into_iter().map(Into::into).collect());
    (!values.is_empty() && ty.rank() >= 2).then_some((values, ty, data))
}

/// A tensor with its axes in the order `perm`: rows of the last axis are moved as they are, then two axes are exchanged, then rows are moved again.
fn transposed(
    data: Arc<dyn Payload>,
    width: usize,
    shape: &[usize],
    perm: &[usize],
) -> Option<Arc<dyn Payload>> {
    let old = shape.len().checked_sub(1)?;
    let new = *perm.last()?;
    if new == old {
        return Some(rows(data, width, shape, perm));
    }
    let mut order: Vec<usize> = (0..old).filter(|axis| *axis != new).collect();
    let count = order.iter().map(|axis| shape[*axis]).product();
    order.extend([new, old]);
    let swapped = Swapped {
        data: rows(data, width, shape, &order),
        width,
        count,
        rows: shape[new],
        columns: shape[old],
    };
    order.swap(old - 1, old);
    let between: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let back = perm.iter().map(|axis| order.iter().position(|o| o == axis));
    let back: Option<Vec<usize>> = back.collect();
    Some(rows(Arc::new(swapped), width, &between, &back?))
}

/// The same for an order that leaves the last axis where it is.
fn rows(data: Arc<dyn Payload>, width: usize, shape: &[usize], perm: &[usize]) -> Arc<dyn Payload> {
    let still = perm.iter().enumerate().all(|(at, axis)| at == *axis);
    let Some((last, lead)) = shape.split_last().filter(|_| !still) else {
        return data;
    };
    let strides: Vec<usize> = (0..lead.len())
        .map(|axis| lead[axis + 1..].iter().product())
        .collect();
    let order = &perm[..lead.len()];
    Arc::new(Rows {
        data,
        row: last * width,
        shape: order.iter().map(|axis| lead[*axis]).collect(),
        strides: order.iter().map(|axis| strides[*axis]).collect(),
    })
}

/// Rows in another order.
struct Rows {
    data: Arc<dyn Payload>,
    /// Bytes of a row.
    row: usize,
    /// How many rows there are, along each axis of the result.
    shape: Vec<usize>,
    /// How far neighbours along each axis are apart in the data, in rows.
    strides: Vec<usize>,
}

impl Payload for Rows {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        self.range(0..self.shape.iter().product::<usize>() * self.row)
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let mut out = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let (row, from) = (at / self.row, at % self.row);
            let count = (self.row - from).min(range.end - at);
            let (mut rest, mut start) = (row, 0);
            for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
                (rest, start) = (rest / size, start + rest % size * stride);
            }
            let start = start * self.row + from;
            out.extend_from_slice(&self.data.range(start..start + count)?);
            at += count;
        }
        Ok(Cow::Owned(out))
    }
}

/// The matrices of a weight with rows and columns exchanged, taken from where the weight is.
pub(super) struct Swapped {
    pub data: Arc<dyn Payload>,
    /// Bytes of an element.
    pub width: usize,
    /// Matrices, one after the other.
    pub count: usize,
    /// Rows of a matrix as it is stored: the length of a row of the result.
    pub rows: usize,
    /// Columns of a matrix as it is stored.
    pub columns: usize,
}

impl Payload for Swapped {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        self.range(0..self.count * self.rows * self.columns * self.width)
    }

    /// The ends of the range lie between elements.
    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let (width, line) = (self.width, self.rows * self.width);
        let (first, last) = (range.start / line, range.end.div_ceil(line));
        let mut out = vec![0; (last - first) * line];
        let mut at = first;
        while at < last {
            // Columns of one matrix become rows of the result.
            let (matrix, column) = (at / self.columns, at % self.columns);
            let count = (self.columns - column).min(last - at);
            for row in 0..self.rows {
                let start = ((matrix * self.rows + row) * self.columns + column) * width;
                let taken = self.data.range(start..start + count * width)?;
                for (n, element) in taken.chunks_exact(width).enumerate() {
                    let to = (at - first + n) * line + row * width;
                    out[to..to + width].copy_from_slice(element);
                }
            }
            at += count;
        }
        let skipped = range.start - first * line;
        out.truncate(skipped + range.len());
        out.drain(..skipped);
        Ok(Cow::Owned(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_with_rows_and_columns_exchanged() {
        let data: Vec<u8> = (0..2 * 3 * 5 * 2).collect();
        let swapped = Swapped {
            data: Arc::new(data.clone()),
            width: 2,
            count: 2,
            rows: 3,
            columns: 5,
        };
        let all = swapped.bytes().unwrap();
        let element = |m: usize, c: usize, r: usize| ((m * 5 + c) * 3 + r) * 2;
        for (m, r, c) in [(0, 0, 0), (0, 2, 1), (1, 0, 4), (1, 2, 3)] {
            assert_eq!(all[element(m, c, r)], data[((m * 3 + r) * 5 + c) * 2]);
        }
        for (from, to) in [(0, 2), (4, 34), (26, 60)] {
            assert_eq!(swapped.range(from..to).unwrap(), &all[from..to]);
        }
    }

    #[test]
    fn axes_in_any_order() {
        let shape = [2, 3, 4, 5];
        let data: Vec<u8> = (0..120).collect();
        let strides = [60, 20, 5, 1];
        for perm in [
            [0, 1, 2, 3],
            [1, 0, 2, 3],
            [0, 1, 3, 2],
            [3, 2, 1, 0],
            [2, 0, 3, 1],
            [1, 3, 0, 2],
        ] {
            let moved = transposed(Arc::new(data.clone()), 1, &shape, &perm).unwrap();
            let mut expected = Vec::new();
            for n in 0..120 {
                let (mut rest, mut at) = (n, 0);
                for axis in perm.iter().rev() {
                    (rest, at) = (
                        rest / shape[*axis],
                        at + rest % shape[*axis] * strides[*axis],
                    );
                }
                expected.push(data[at]);
            }
            assert_eq!(*moved.bytes().unwrap(), expected, "{perm:?}");
            assert_eq!(*moved.range(17..83).unwrap(), expected[17..83]);
        }
    }
}
