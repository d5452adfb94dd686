//! Products with matrices that an index chose, however the chosen ones were arranged.
//!
//! `take(w, i)` holds a matrix for each index. A product takes it as an operand behind transposes and reshapes: matrices side by side, as one row of batches, with their axes in another
//! order. As long as each axis of the operand is made of whole axes of it, and one of the matrices' axes alone is summed over, the product is that of each index with its matrix, and
//! what is left is a matter of views.

use crate::canon::Builder;
use crate::shapes::{groups, product};
use fuseline_ir::ops::{movement as mv, table as op};
use fuseline_ir::{Dim, Op, OpError, Value};

/// The most steps between what was taken and the product.
const MOST_STEPS: usize = 8;

/// An operand that is made of chosen matrices.
struct Chosen {
    /// The matrices, `[count, rows, columns]`.
    matrices: Value,
    index: Value,
    /// For each axis of the operand, which axes of what was taken it is made of: those of the index, then rows and columns.
    axes: Vec<Vec<usize>>,
    /// The sizes of those axes.
    sizes: Vec<Dim>,
}

/// What a product is as one with chosen matrices, in the product's own shape.
pub(super) fn chosen(b: &mut Builder, value: Value) -> Result<Option<Value>, OpError> {
    let (Op::Matmul(_), &[x, y]) = (b.op(value), b.args(value)) else {
        return Ok(None);
    };
    let shape = b.shape(value).to_vec();
    if let Some(right) = operand(b, y) {
        return product_of(b, x, right, shape);
    }
    let Some(mut left) = operand(b, x) else {
        return Ok(None);
    };
    // A x is (xᵀ Aᵀ)ᵀ.
    let (rank, own) = (left.axes.len(), b.shape(y).len());
    if rank < 2 || own < 2 || shape.len() < 2 {
        return Ok(None);
    }
    left.axes.swap(rank - 2, rank - 1);
    let turned = swapped(b, y)?;
    let mut back = shape.clone();
    back.swap(shape.len() - 2, shape.len() - 1);
    match product_of(b, turned, left, back)? {
        Some(made) => swapped(b, made).map(Some),
        None => Ok(None),
    }
}

fn swapped(b: &mut Builder, value: Value) -> Result<Value, OpError> {
    let mut perm: Vec<usize> = (0..b.shape(value).len()).collect();
    let rank = perm.len();
    perm.swap(rank - 2, rank - 1);
    b.add(mv::Transpose { perm }, &[value])
}

/// Goes from an operand to what it was taken from.
fn operand(b: &Builder, value: Value) -> Option<Chosen> {
    let mut chain = Vec::new();
    let mut at = value;
    while matches!(b.op(at), Op::Transpose(_) | Op::Reshape(_)) && chain.len() < MOST_STEPS {
        chain.push(at);
        at = b.arg(at, 0);
    }
    let (Op::Take(op::Take { axis: 0 }), &[matrices, index]) = (b.op(at), b.args(at)) else {
        return None;
    };
    if b.shape(matrices).len() != 3 || b.shape(index).is_empty() {
        return None;
    }
    let sizes = b.shape(at).to_vec();
    let mut axes: Vec<Vec<usize>> = (0..sizes.len()).map(|a| vec![a]).collect();
    for step in chain.into_iter().rev() {
        axes = match b.op(step) {
            Op::Transpose(t) => t.perm.iter().map(|a| axes[*a].clone()).collect(),
            _ => regrouped(b.shape(b.arg(step, 0)), b.shape(step), &axes, &sizes)?,
        };
    }
    Some(Chosen {
        matrices,
        index,
        axes,
        sizes,
    })
}

/// What the axes of a reshape's result are made of, where each of them is made of whole axes.
fn regrouped(
    from: &[Dim],
    to: &[Dim],
    axes: &[Vec<usize>],
    sizes: &[Dim],
) -> Option<Vec<Vec<usize>>> {
    let mut out = vec![Vec::new(); to.len()];
    for group in groups(from, to)? {
        let mut all = group.from.flat_map(|a| axes[a].iter().copied()).peekable();
        for axis in group.to {
            let mut size = Dim::from(1i64);
            while size != to[axis] {
                let next = all.next()?;
                size = &size * &sizes[next];
                out[axis].push(next);
            }
        }
        // What is left are axes of size 1: of the last axis of the group, or of any.
        for rest in all {
            sizes[rest].is(1).then_some(())?;
            out.last_mut()?.push(rest);
        }
    }
    Some(out)
}

/// `x` times what is made of chosen matrices, as a product with each of them, under `shape`.
fn product_of(
    b: &mut Builder,
    x: Value,
    right: Chosen,
    shape: Vec<Dim>,
) -> Result<Option<Value>, OpError> {
    let indices = right.sizes.len() - 2;
    let ([batch @ .., summed, columns], [lead @ .., rows, _]) = (right.axes.as_slice(), b.shape(x))
    else {
        return Ok(None);
    };
    let (lead, rows) = (lead.to_vec(), rows.clone());
    let &[summed] = summed.as_slice() else {
        return Ok(None);
    };
    let kept = 2 * indices + 1 - summed;
    let of_index = |axes: &[usize]| axes.iter().all(|a| *a < indices);
    let columns_fit = columns.iter().all(|a| *a < indices || *a == kept) && columns.contains(&kept);
    if summed < indices || !columns_fit || !batch.iter().all(|axes| of_index(axes)) {
        return Ok(None);
    }
    // The axes of x before its rows, taken apart into those of the index; where it has one row for all of an axis, that is of size 1.
    let Some(missing) = batch.len().checked_sub(lead.len()) else {
        return Ok(None);
    };
    let one = Dim::from(1i64);
    let (mut parted, mut order) = (Vec::new(), Vec::new());
    for (n, axes) in batch.iter().enumerate() {
        let own = n.checked_sub(missing).map_or(&one, |n| &lead[n]);
        let sizes: Vec<Dim> = axes.iter().map(|a| right.sizes[*a].clone()).collect();
        if *own != product(&sizes) && !own.is(1) {
            return Ok(None);
        }
        order.extend(axes);
        parted.extend(match own.is(1) {
            true => vec![one.clone(); sizes.len()],
            false => sizes,
        });
    }
    let width = right.sizes[summed].clone();
    parted.extend([rows.clone(), width.clone()]);
    let apart = b.reshape(x, parted.clone())?;
    // Into the order of the index, and axes of size 1 for those that lie among the columns.
    let mut perm: Vec<usize> = (0..order.len()).collect();
    perm.sort_by_key(|n| order[*n]);
    let mut each: Vec<Dim> = (0..indices)
        .map(|a| match order.iter().position(|o| *o == a) {
            Some(n) => parted[n].clone(),
            None => one.clone(),
        })
        .collect();
    each.extend([rows, width]);
    perm.extend([order.len(), order.len() + 1]);
    let sorted = b.add(mv::Transpose { perm }, &[apart])?;
    let sorted = b.reshape(sorted, each)?;
    let matrices = match summed == indices {
        true => right.matrices,
        false => swapped(b, right.matrices)?,
    };
    let made = b.add(op::GatherMm {}, &[sorted, matrices, right.index])?;
    // Back: the axes of the index as the operand had them, rows, and what its columns were made of.
    let place = |a: usize| if a == kept { indices + 1 } else { a };
    let mut perm = order;
    perm.push(indices);
    perm.extend(columns.iter().map(|a| place(*a)));
    if perm.len() != indices + 2 {
        return Ok(None);
    }
    let back = b.add(mv::Transpose { perm }, &[made])?;
    match product(b.shape(back)) == product(&shape) {
        true => b.reshape(back, shape).map(Some),
        false => Ok(None),
    }
}
