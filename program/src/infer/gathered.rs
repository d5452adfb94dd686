//! Indices behind other axes that a file gathers as if they stood in front.
//!
//! ExecuTorch 1.5.1 writes `x[:, i, j]` as a `Gather`, whose result has the axes of the indices in front, and a `Reshape` to the shape in which they stand where the
//! indexed axes stood. The elements are not in that order.

use std::collections::BTreeSet;

use crate::graph::{IoSlot, MlxGraph};
use crate::instr::{Gather, Instruction, IntOrVid, Reshape, Transpose};

/// The program with a `Transpose` between each such two instructions, if there are any. Only a program that names what it returns is looked at, as
/// ExecuTorch's do: others mean what they say.
#[must_use]
pub fn indices_behind_axes(graph: &MlxGraph) -> Option<MlxGraph> {
    let named: BTreeSet<IoSlot> = graph.names.iter().map(|named| named.slot).collect();
    if !graph.outputs.iter().any(|slot| named.contains(slot)) {
        return None;
    }
    let mut changed = None;
    for (number, chain) in graph.chains.iter().enumerate() {
        let pairs = chain.iter().zip(chain.iter().skip(1));
        let turned = pairs.map(|pair| match pair {
            (Instruction::Gather(gather), Instruction::Reshape(reshape)) => {
                let (x, out) = (gather.out, gather.out);
                let perm = order(gather, reshape)?;
                Some(Transpose { x, out, perm }.into())
            }
            _ => None,
        });
        let turned: Vec<Option<Instruction>> = turned.collect();
        if turned.iter().all(Option::is_none) {
            continue;
        }
        let behind = turned.into_iter().chain([None]);
        let whole = chain.iter().cloned().zip(behind);
        let whole = whole.flat_map(|(instruction, behind)| [Some(instruction), behind]);
        let changed = changed.get_or_insert_with(|| graph.clone());
        changed.chains[number] = whole.flatten().collect();
    }
    changed
}

/// The order of the gathered axes in which the elements of the reshaped one lie.
fn order(gather: &Gather, reshape: &Reshape) -> Option<Vec<i32>> {
    let first = *gather.axes.first().filter(|first| **first > 0)?;
    let together = gather
        .axes
        .iter()
        .zip(first..)
        .all(|(axis, at)| *axis == at);
    let before = usize::try_from(first).ok()?;
    let behind = before.checked_add(gather.axes.len())?;
    let (sizes, rank) = (&gather.slice_sizes, gather.slice_sizes.len());
    let shape = reshape.shape.iter().map(|length| match length {
        IntOrVid::Int(length) => i32::try_from(*length).ok(),
        IntOrVid::Vid(_) => None,
    });
    let shape = shape.collect::<Option<Vec<i32>>>()?;
    let indices = (shape.len() + gather.axes.len()).checked_sub(rank)?;
    let single = sizes.get(before..behind)?.iter().all(|size| *size == 1);
    let (front, back) = (sizes.get(..before)?, sizes.get(behind..)?);
    let meant = shape.starts_with(front) && shape.get(before + indices..)? == back;
    let follows = together && single && meant && reshape.x == gather.out;
    let axes = |range: std::ops::Range<usize>| range.map(|axis| i32::try_from(axis).ok());
    follows.then_some(())?;
    axes(indices..indices + before)
        .chain(axes(0..indices))
        .chain(axes(indices + before..indices + rank))
        .collect()
}
