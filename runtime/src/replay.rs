//! Chains of instructions: order, branches, loops.

use fuseline_program::instr::{If, Instruction, Scan};
use fuseline_program::{MlxGraph, Tid};

use crate::error::Error;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::Array;
use crate::ops::{self, axis_of};

/// Chains that run chains that run chains: deeper than any real program.
const DEPTH: usize = 64;

/// Runs a chain on the slots of a frame.
pub(crate) fn run_chain(graph: &MlxGraph, chain: u32, frame: &mut Frame<'_>) -> Result<(), Error> {
    run_nested(graph, chain, frame, 0)
}

fn run_nested(
    graph: &MlxGraph,
    chain: u32,
    frame: &mut Frame<'_>,
    depth: usize,
) -> Result<(), Error> {
    for (position, instruction) in graph.chain(chain).iter().enumerate() {
        let here = |fault| Error::Instruction {
            chain,
            position,
            text: instruction.display(&graph.counts).to_string(),
            fault,
        };
        if depth > DEPTH {
            return Err(here(Fault::Depth { limit: DEPTH }));
        }
        frame.late.at(chain, position);
        run_one(instruction, graph, frame, depth).map_err(|e| e.or(here))?;
    }
    Ok(())
}

/// Runs an instruction, with the chains that it runs.
pub(crate) fn run_one(
    instruction: &Instruction,
    graph: &MlxGraph,
    frame: &mut Frame<'_>,
    depth: usize,
) -> Result<(), Nested> {
    match instruction {
        Instruction::If(i) => branch(i, graph, frame, depth),
        Instruction::Scan(i) => scan(i, graph, frame, depth),
        other => Ok(ops::execute(other, frame)?),
    }
}

/// What went wrong in a nested chain: there, which is known already, or in the instruction that runs it.
#[derive(Debug)]
pub(crate) enum Nested {
    There(Error),
    Here(Fault),
}

impl Nested {
    fn or(self, here: impl FnOnce(Fault) -> Error) -> Error {
        match self {
            Self::There(error) => error,
            Self::Here(fault) => here(fault),
        }
    }
}

impl From<Fault> for Nested {
    fn from(fault: Fault) -> Self {
        Self::Here(fault)
    }
}

impl From<Error> for Nested {
    fn from(error: Error) -> Self {
        Self::There(error)
    }
}

fn branch(i: &If, graph: &MlxGraph, frame: &mut Frame<'_>, depth: usize) -> Result<(), Nested> {
    let chain = if frame.number(i.cond)? != 0 {
        i.then_chain_idx
    } else {
        i.else_chain_idx
    };
    take(chain, frame)?;
    Ok(run_nested(graph, chain, frame, depth + 1)?)
}

/// Takes the steps of a chain that is run within another.
fn take(chain: u32, frame: &Frame<'_>) -> Result<(), Fault> {
    let steps = frame.steps.get(chain as usize).copied();
    frame
        .budget
        .take(steps.unwrap_or_default().saturating_add(1))
}

/// Runs the body once for each position along the axis; what it leaves in the outputs is stacked along the same axis.
fn scan(i: &Scan, graph: &MlxGraph, frame: &mut Frame<'_>, depth: usize) -> Result<(), Nested> {
    let chain = u32::try_from(i.body_chain_idx).map_err(|_| Fault::Attribute {
        what: "body_chain_idx",
        value: i64::from(i.body_chain_idx),
    })?;
    let first = i.originals.first().ok_or(Fault::Pieces { wanted: 1 })?;
    let length = length_along(frame, *first, i.scan_axis)?;
    for original in &i.originals {
        if length_along(frame, *original, i.scan_axis)? != length {
            return Err(Fault::Length { length }.into());
        }
    }
    if i.sliced.len() != i.originals.len() {
        return Err(Fault::Pieces {
            wanted: i.originals.len(),
        }
        .into());
    }
    // The body may write to the slots that these are in: what is cut up is what was there before it.
    let originals = i
        .originals
        .iter()
        .map(|tid| frame.get(*tid)?.share().map_err(Fault::from));
    let originals = originals.collect::<Result<Vec<Array>, Fault>>()?;
    let mut collected: Vec<Vec<Array>> = i.outputs.iter().map(|_| Vec::new()).collect();
    for step in 0..length {
        frame
            .budget
            .take((originals.len() + collected.len()) as u64)?;
        take(chain, frame)?;
        for (original, sliced) in originals.iter().zip(&i.sliced) {
            let slice = ops::select(original, step, i.scan_axis, frame)?;
            frame.put(*sliced, slice)?;
        }
        run_nested(graph, chain, frame, depth + 1)?;
        for (output, steps) in i.outputs.iter().zip(&mut collected) {
            steps.push(frame.get(*output)?.share().map_err(Fault::from)?);
        }
    }
    for (output, steps) in i.outputs.iter().zip(&collected) {
        let stacked = ops::stack(steps, i.scan_axis, frame)?;
        frame.put(*output, stacked)?;
    }
    Ok(())
}

fn length_along(frame: &Frame<'_>, tid: Tid, axis: i32) -> Result<i32, Fault> {
    let array = frame.get(tid)?;
    Ok(array.shape()[axis_of(axis, array.rank())?])
}
