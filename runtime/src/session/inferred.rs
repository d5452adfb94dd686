//! What `fuseline_program::infer` says of results, beside the results.

use super::{Changes, Frame, Session, Step, put_input, take_inputs};
use crate::late::Late;
use crate::ops::{Caches, span_of};
use crate::program::{InputKind, Options, Program, Segment};
use crate::replay;
use crate::{Device, Tensor, Value};
use fuseline_program::infer::{Extent, SlotType, Types};
use fuseline_program::instr::Slot;
use fuseline_program::{Dim, ScalarType};
use std::path::{Path, PathBuf};

/// All programs below a folder that need no file beside them.
fn programs(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    let weights_beside = entries
        .iter()
        .any(|path| path.extension().is_some_and(|e| e == "ptd"));
    for path in entries {
        if path.is_dir() {
            programs(&path, found);
        } else if path.extension().is_some_and(|e| e == "pte") && !weights_beside {
            found.push(path);
        }
    }
}

/// Ones of the kind; of lengths that vary, the shortest beyond 1 or the longest of a few.
fn value(kind: &InputKind, long: bool) -> Value {
    match kind {
        InputKind::Tensor { dtype, shape } => {
            let shape: Vec<usize> = shape
                .iter()
                .map(|dim| match *dim {
                    Dim::Static(length) => length as usize,
                    Dim::Dynamic { min, max } => {
                        let most = max.unwrap_or(7).min(7);
                        if long {
                            most.max(min) as usize
                        } else {
                            min.max(2).min(max.unwrap_or(2)) as usize
                        }
                    }
                })
                .collect();
            let count = shape.iter().product::<usize>();
            let zero_or_one = match dtype {
                ScalarType::F32 => 1.0_f32.to_le_bytes().to_vec(),
                other => vec![0; usize::try_from(other.size()).unwrap()],
            };
            Value::Tensor(Tensor::from_bytes(*dtype, &shape, &zero_or_one.repeat(count)).unwrap())
        }
        InputKind::Int => Value::Int(1),
        InputKind::Bool => Value::Bool(true),
        InputKind::Float => Value::Float(1.0),
        InputKind::Other => Value::None,
    }
}

fn holds(extent: Extent, number: i64) -> bool {
    match extent {
        Extent::Known(n) => n == number,
        Extent::Between(min, max) => number >= min && max.is_none_or(|max| number <= max),
        Extent::Unknown => true,
    }
}

/// Whether what is in a slot is what was said of it.
fn is_so(said: &SlotType, slot: Slot, frame: &Frame<'_>) -> Result<(), String> {
    let found = match (said, slot) {
        (SlotType::Tensor { dtype, shape }, Slot::Tensor(tid)) => {
            let array = frame.get(tid).map_err(|fault| fault.to_string())?;
            let own = array.shape();
            let lengths = shape.as_ref().is_none_or(|shape| {
                let mut pairs = shape.iter().zip(own);
                shape.len() == own.len() && pairs.all(|(extent, n)| holds(*extent, (*n).into()))
            });
            let fits = lengths && dtype.is_none_or(|dtype| dtype == array.dtype());
            (!fits).then(|| format!("{array:?}"))
        }
        (SlotType::Int(extent), Slot::Value(vid)) => match frame.value(vid) {
            Ok(crate::frame::Number::Int(n)) => (!holds(*extent, n)).then(|| n.to_string()),
            other => Some(format!("{other:?}")),
        },
        other => Some(format!("{other:?}")),
    };
    found.map_or(Ok(()), |found| {
        Err(format!("{said} is said, {found} is there"))
    })
}

/// Whether the integers in a slot lie where they are said to.
fn in_span(slot: Slot, frame: &Frame<'_>) -> Result<(), String> {
    let Slot::Tensor(tid) = slot else {
        return Ok(());
    };
    let known = frame.span(tid, 0).map_err(|fault| fault.to_string())?;
    let Some(said) = known else { return Ok(()) };
    let array = frame.get(tid).map_err(|fault| fault.to_string())?;
    match span_of(array).map_err(|fault| fault.to_string())? {
        Some(found) if !said.covers(found) => Err(format!("{said:?} is said, {found:?} is there")),
        _ => Ok(()),
    }
}

/// Runs the main chain of the first delegate; how many results there were, and of how many everything was known.
fn follow(program: &Program, long: bool) -> Result<(usize, usize), String> {
    let mut counts = (0, 0);
    let Some(method) = program.0.methods.first() else {
        return Ok(counts);
    };
    let Some(Step::Delegate {
        segment, inputs, ..
    }) = method.chains.iter().flatten().next()
    else {
        return Ok(counts);
    };
    let session = program.session().map_err(|e| e.to_string())?;
    let given: Vec<Value> = method
        .inputs
        .iter()
        .map(|(_, input)| value(&input.kind, long))
        .collect();
    let mut values = method.values.clone();
    take_inputs(method, &given, &mut values).map_err(|e| e.to_string())?;
    let body: &Segment = &program.0.segments[*segment];
    let budget = program.0.budget();
    let late = Late::new(false);
    let mut frame = session.frame(body, &budget, &late);
    let fresh = Changes {
        state: session.state.iter().map(|_| None).collect(),
        caches: Caches::default(),
        values: Vec::new(),
    };
    Session::load_state(&session, body, &fresh.state, &mut frame).map_err(|e| e.to_string())?;
    for (slot, value) in body.graph.inputs.iter().zip(inputs) {
        put_input(*slot, &values[*value], &mut frame).map_err(|e| e.to_string())?;
    }
    let types = Types::of(&body.graph);
    let chain = body.graph.main_chain;
    for (position, instruction) in body.graph.chain(chain).iter().enumerate() {
        // Ones are no good input for every program: what fails is followed up to there.
        if replay::run_one(instruction, &body.graph, &mut frame, 0).is_err() {
            break;
        }
        let said = types.results(chain as usize, position);
        let writes = instruction.writes();
        if said.len() != writes.len() {
            return Err(format!(
                "{instruction}: {} of {} results",
                said.len(),
                writes.len()
            ));
        }
        for (said, slot) in said.iter().zip(writes) {
            in_span(slot, &frame).map_err(|wrong| format!("{instruction}: {wrong}"))?;
            is_so(said, slot, &frame).map_err(|wrong| format!("{instruction}: {wrong}"))?;
            counts.0 += 1;
            counts.1 += usize::from(!said.to_string().contains(['?', '.']));
        }
    }
    Ok(counts)
}

#[test]
fn what_is_inferred_is_what_is_there() {
    let mut found = Vec::new();
    programs(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures"),
        &mut found,
    );
    assert!(found.len() > 100, "{}", found.len());
    let options = Options {
        device: Some(Device::Cpu),
        ..Options::default()
    };
    let (mut all, mut known, mut wrong) = (0, 0, Vec::new());
    for path in found {
        let Ok(program) = Program::open_with(&path, &options) else {
            continue;
        };
        for long in [false, true] {
            match follow(&program, long) {
                Ok(counts) => (all, known) = (all + counts.0, known + counts.1),
                Err(error) => wrong.push(format!("{}: {error}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(known * 10 > all * 9, "{known} of {all}");
}
