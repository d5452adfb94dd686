//! Reference evaluation of the kernels that every runtime has: operators whose results' sizes depend on data.

use super::util::{broadcast, broadcast_flat, fail, for_each_index};
use crate::attr::Attr;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::tensor::{Data, Tensor};

/// Runs the kernel of that name on the arguments of `call`.
///
/// Errors: a kernel that is not one of these, or arguments that it does not take.
pub(super) fn eval(kernel: &str, call: &[Attr], args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    match (kernel, call, args) {
        ("aten::nonzero.out", _, [x]) => nonzero(x),
        ("aten::masked_select.out", _, [x, mask]) => masked_select(x, mask),
        ("aten::_unique2.out", [_, _, Attr::Bool(inverse), Attr::Bool(counts)], [x]) => {
            unique(x, false, *inverse, *counts)
        }
        (
            "aten::unique_consecutive.out",
            [_, Attr::Bool(inverse), Attr::Bool(counts), Attr::None],
            [x],
        ) => unique(x, true, *inverse, *counts),
        _ => fail("the reference evaluation doesn't know this kernel"),
    }
}

/// The indices of the elements that aren't zero, a row each, in row-major order: i64 [n, rank].
fn nonzero(x: &Tensor) -> Result<Vec<Tensor>, OpError> {
    let mut rows = Vec::new();
    let mut n = 0;
    for_each_index(x.shape(), |flat, index| {
        if x.get(flat).as_f64() != 0.0 {
            rows.extend(index.iter().map(|&i| i as i64));
            n += 1;
        }
    });
    let shape = vec![n, x.shape().len()];
    Ok(vec![Tensor::ints(DType::I64, shape, rows)?])
}

/// The elements of x where the mask holds, in row-major order of the shape that both broadcast to: 1-d.
fn masked_select(x: &Tensor, mask: &Tensor) -> Result<Vec<Tensor>, OpError> {
    let dims = |t: &Tensor| t.shape().iter().map(|&n| Dim::from(n)).collect::<Vec<_>>();
    let shape: Option<Vec<usize>> = broadcast(&dims(x), &dims(mask))?
        .iter()
        .map(|d| d.as_const().and_then(|n| usize::try_from(n).ok()))
        .collect();
    let mut picked = Vec::new();
    for_each_index(&shape.unwrap_or_default(), |_, index| {
        if mask.get(broadcast_flat(mask.shape(), index)).as_f64() != 0.0 {
            picked.push(broadcast_flat(x.shape(), index));
        }
    });
    Ok(vec![x.pick(vec![picked.len()], picked.into_iter())?])
}

/// The distinct elements of x, ascending with NaN last; for each element of x, which of them it is; how often each occurs. The last two are empty where they are not wanted.
/// `runs`: elements need only differ from the one before them, and stay where they are. NaN differs from itself.
fn unique(x: &Tensor, runs: bool, inverse: bool, counts: bool) -> Result<Vec<Tensor>, OpError> {
    let compare = |a: usize, b: usize| match x.data() {
        Data::Int(v) => v[a].cmp(&v[b]),
        Data::Float(v) => v[a]
            .partial_cmp(&v[b])
            .unwrap_or_else(|| v[a].is_nan().cmp(&v[b].is_nan())),
    };
    let differ = |a: usize, b: usize| match x.data() {
        Data::Int(v) => v[a] != v[b],
        Data::Float(v) => v[a] != v[b],
    };
    let mut order: Vec<usize> = (0..x.len()).collect();
    if !runs {
        order.sort_by(|a, b| compare(*a, *b));
    }
    let (mut first, mut kind, mut times) = (Vec::new(), vec![0; x.len()], Vec::new());
    let mut last: Option<usize> = None;
    for at in order {
        if last.is_none_or(|last| differ(last, at)) {
            first.push(at);
            times.push(0);
        }
        last = Some(at);
        kind[at] = first.len() as i64 - 1;
        if let Some(n) = times.last_mut() {
            *n += 1;
        }
    }
    let wanted = |wanted: bool, shape: Vec<usize>, data: Vec<i64>| match wanted {
        true => Tensor::ints(DType::I64, shape, data),
        false => Tensor::ints(DType::I64, vec![0], vec![]),
    };
    Ok(vec![
        x.pick(vec![first.len()], first.iter().copied())?,
        wanted(inverse, x.shape().to_vec(), kind)?,
        wanted(counts, vec![first.len()], times)?,
    ])
}
