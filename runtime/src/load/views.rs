//! Tensors that nothing writes because they are others in another shape: ExecuTorch leaves a view out of its files where it can say by memory alone what it shows.

use std::collections::{BTreeMap, BTreeSet};

use fuseline_program as format;
use fuseline_program::{ScalarType, Storage, TensorValue};

use crate::program::Step;

/// What two tensors of a method have in common if they are the same bytes: arena, offset, element type, number of bytes.
type Place = (u32, u64, ScalarType, u64);

/// Puts a step before each that reads such a tensor: it takes the elements from what has last been written to the same place. Jumps are led around.
pub(super) fn add(method: &format::Method<'_>, chains: &mut [Vec<Step>]) {
    let tensor = |at: usize| method.values.get(at).and_then(format::Value::as_tensor);
    let place = |at: usize| tensor(at).and_then(place);
    let inputs: BTreeSet<usize> = method.inputs.iter().map(|at| *at as usize).collect();
    let mut written = inputs.clone();
    written.extend(chains.iter().flatten().flat_map(|step| step.slots().1));
    let places: BTreeSet<Place> = written.iter().filter_map(|at| place(*at)).collect();
    let outputs: BTreeSet<usize> = method.outputs.iter().map(|at| *at as usize).collect();
    let last_chain = chains.len().saturating_sub(1);
    let given = inputs.iter().filter_map(|at| Some((place(*at)?, *at)));
    let given: BTreeMap<Place, usize> = given.collect();
    for (number, chain) in chains.iter_mut().enumerate() {
        let mut last: BTreeMap<Place, usize> = BTreeMap::new();
        let view = |at: usize, last: &BTreeMap<Place, usize>| {
            let place = place(at).filter(|place| places.contains(place))?;
            let from = last.get(&place).or(given.get(&place));
            let from = from.copied().filter(|_| !written.contains(&at))?;
            let sizes = &tensor(at)?.sizes;
            let shape = sizes.iter().map(|n| i64::from(*n)).collect();
            Some(Step::View {
                from,
                to: at,
                shape,
            })
        };
        let mut steps = Vec::with_capacity(chain.len());
        // Where each step has come to stand, with what is put before it.
        let mut moved = Vec::with_capacity(chain.len() + 1);
        for step in std::mem::take(chain) {
            moved.push(steps.len());
            let (reads, writes) = step.slots();
            let reads: BTreeSet<usize> = reads.into_iter().collect();
            steps.extend(reads.into_iter().filter_map(|at| view(at, &last)));
            last.extend(writes.into_iter().filter_map(|at| Some((place(at)?, at))));
            steps.push(step);
        }
        moved.push(steps.len());
        if number == last_chain {
            steps.extend(outputs.iter().filter_map(|at| view(*at, &last)));
        }
        for step in &mut steps {
            if let Step::JumpFalse { target, .. } = step
                && let Some(at) = moved.get(*target)
            {
                *target = *at;
            }
        }
        *chain = steps;
    }
}

/// Where a tensor of known lengths lies.
fn place(tensor: &TensorValue) -> Option<Place> {
    match tensor.storage {
        Storage::Planned {
            arena,
            offset,
            initial: None,
        } if !tensor.dynamic => Some((arena, offset, tensor.dtype, tensor.max_bytes()?)),
        _ => None,
    }
}
