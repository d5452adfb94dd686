//! Whole rows that a file takes by an instruction for single elements.
//!
//! ExecuTorch 1.5.1 writes `x[indices]` as `TakeAlongAxis` where `x` and `indices` have as many axes. The rows of a matrix at a matrix of positions have three axes,
//! its elements along an axis two: what is meant is told by what a program says of its results.

use super::{Extent, SlotType, Types};
use crate::graph::{Dim, IoSlot, MlxGraph, TensorMeta};
use crate::instr::{Instruction, IntOrVidOrTid, Slot, Take};

/// The most instructions that are looked at. Each is looked at with all of the program.
const MOST: usize = 8;

/// The program with `Take` for each `TakeAlongAxis` of its main chain that takes whole rows, if there is such a one: results have the shapes that the program gives them
/// in more places then.
#[must_use]
pub fn taken_as_rows(graph: &MlxGraph) -> Option<MlxGraph> {
    let main = graph.main_chain as usize;
    let chain = graph.chains.get(main)?;
    let along = |instruction: &Instruction| matches!(instruction, Instruction::TakeAlongAxis(_));
    let places: Vec<usize> = (0..chain.len()).filter(|at| along(&chain[*at])).collect();
    if places.is_empty() || places.len() > MOST {
        return None;
    }
    let as_it_is = agreement(graph);
    let mut best = (as_it_is, None);
    let singles = places.iter().map(std::slice::from_ref);
    for chosen in singles.chain([places.as_slice()]) {
        let mut changed = best.1.clone().unwrap_or_else(|| graph.clone());
        for at in chosen {
            as_rows(&mut changed.chains[main][*at]);
        }
        let now = agreement(&changed);
        if now > best.0 {
            best = (now, Some(changed));
        }
    }
    best.1
}

fn as_rows(instruction: &mut Instruction) {
    if let Instruction::TakeAlongAxis(i) = instruction {
        *instruction = Instruction::Take(Take {
            x: i.x,
            index: IntOrVidOrTid::Tid(i.indices),
            out: i.out,
            axis: i.axis,
        });
    }
}

/// How well what is known of results agrees with what the program says of them: 2 for each that has the shape, 1 where nothing is known.
fn agreement(graph: &MlxGraph) -> usize {
    let types = Types::of(graph);
    let main = graph.main_chain as usize;
    let left = |tid| {
        let chain = graph.chains.get(main).into_iter().flatten().enumerate();
        let mut last = None;
        for (position, instruction) in chain {
            for (slot, result) in instruction
                .writes()
                .into_iter()
                .zip(types.results(main, position))
            {
                if slot == Slot::Tensor(tid) {
                    last = Some(result);
                }
            }
        }
        last
    };
    let outputs = graph.outputs.iter().filter_map(|slot| match slot {
        IoSlot::Tensor(tid) => Some((left(*tid), graph.tensors.get(tid.0 as usize)?)),
        _ => None,
    });
    outputs.map(|(result, said)| agrees(result, said)).sum()
}

fn agrees(result: Option<&SlotType>, said: &TensorMeta) -> usize {
    let Some(SlotType::Tensor {
        shape: Some(shape), ..
    }) = result
    else {
        return 1;
    };
    let same = |(known, said): (&Extent, &Dim)| match (known, said) {
        (Extent::Known(n), Dim::Static(said)) => *n == i64::from(*said),
        _ => true,
    };
    if shape.len() == said.shape.len() && shape.iter().zip(&said.shape).all(same) {
        2
    } else {
        0
    }
}
