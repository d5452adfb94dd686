//! The roads that a case can take from its archive to results: the reference evaluation, and the compiled program on MLX.

use crate::Result;
use crate::cases::{self, Array, Case};
use fuseline_compiler::{Options, Quiet, compile, import, pt2};
use fuseline_ir::{DType, Graph, Tensor};
use fuseline_passes::{Level, PassCx, Target, optimise};
use fuseline_program::{Pte, executorch};
use fuseline_runtime::{Program, ScalarType, Session, Value};
use safetensors::Dtype;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that the tests compile for: the one of the machine.
pub fn target() -> Target {
    if cfg!(target_os = "macos") {
        Target::Metal
    } else {
        Target::Cpu
    }
}

/// The graph of an archive, as imported.
///
/// # Errors
/// Those of the reader and the importer.
pub fn imported(path: &Path) -> Result<Graph> {
    Ok(import::import(&pt2::Archive::open(path)?)?)
}

/// The graph after the passes of a level.
///
/// # Errors
/// A pass that fails.
pub fn optimised(graph: &Graph, level: Level) -> Result<Graph> {
    let (graph, _) = optimise(graph, level, &PassCx::new(target()), &mut |_, _| ())?;
    Ok(graph)
}

/// Evaluates a graph call by call, keeping its state.
///
/// # Errors
/// An input of a dtype that the IR lacks, and those of the evaluation.
pub fn evaluate(graph: &Graph, calls: &[Vec<Array>]) -> Result<Vec<Vec<Array>>> {
    let mut states = graph.initial_states()?;
    let mut results = Vec::new();
    for inputs in calls {
        let inputs = inputs.iter().map(to_tensor).collect::<Result<Vec<_>>>()?;
        let run = graph.eval(&inputs, &states)?;
        states.extend(run.states);
        results.push(run.outputs.iter().map(from_tensor).collect());
    }
    Ok(results)
}

/// Compiles an archive to a file.
///
/// # Errors
/// Those of the compiler.
pub fn compile_to(archive: &Path, level: Level, output: &Path) -> Result {
    let options = Options::new(archive, level, PassCx::new(target()));
    compile(&options, &mut Quiet)?.write(output, &mut Quiet)?;
    Ok(())
}

/// Runs the calls on a new session of a program's only method.
///
/// # Errors
/// Those of the runtime.
pub fn replay(program: &Path, calls: &[Vec<Array>]) -> Result<Vec<Vec<Array>>> {
    replay_with(program, Vec::new(), calls)
}

/// Runs the calls on a new session of a program's first method, with weights from other files.
///
/// # Errors
/// Those of the runtime.
pub fn replay_with(
    program: &Path,
    data: Vec<PathBuf>,
    calls: &[Vec<Array>],
) -> Result<Vec<Vec<Array>>> {
    let options = fuseline_runtime::Options {
        data,
        ..fuseline_runtime::Options::default()
    };
    let mut session = Program::open_with(program, &options)?.session()?;
    calls
        .iter()
        .map(|inputs| step(&mut session, inputs))
        .collect()
}

/// Runs one call of the program's first method on a session.
///
/// # Errors
/// Those of the runtime.
pub fn step(session: &mut Session, inputs: &[Array]) -> Result<Vec<Array>> {
    let method = session
        .program()
        .methods()
        .next()
        .ok_or("a program without methods")?
        .to_owned();
    call(session, &method, inputs)
}

/// Runs one call of a method on a session.
///
/// # Errors
/// Those of the runtime.
pub fn call(session: &mut Session, method: &str, inputs: &[Array]) -> Result<Vec<Array>> {
    let inputs = inputs.iter().map(to_value).collect::<Result<Vec<_>>>()?;
    let outputs = session.run(method, &inputs)?;
    outputs.iter().map(from_value).collect()
}

/// Runs a case's calls with a program in ExecuTorch: `runner --pte FILE --inputs FILE --outputs FILE [--data FILE]…` takes and gives
/// safetensors files with the names of `fuseline-run run`, and ends with an exit code other than 0 where it can't. Files in `folder` are replaced.
///
/// # Errors
/// What the runner says where it fails; a file that can't be read.
pub fn abroad(
    runner: &Path,
    program: &Path,
    case: &Case,
    folder: &Path,
) -> Result<Vec<Vec<Array>>> {
    let outputs = folder.join("outputs.safetensors");
    let mut command = Command::new(runner);
    command.arg("--pte").arg(program);
    command
        .arg("--inputs")
        .arg(case.folder.join("inputs.safetensors"));
    command.arg("--outputs").arg(&outputs);
    for data in case.data()? {
        command.arg("--data").arg(data);
    }
    let done = command.output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{}: {said}", done.status).into());
    }
    cases::read_calls(&outputs, "out")
}

/// What is known to keep ExecuTorch from running a program, in words.
///
/// # Errors
/// A file that is no program.
pub fn refusals(program: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(program)?;
    let refusals = executorch::refusals(&Pte::parse(&bytes)?.program);
    Ok(refusals.iter().map(ToString::to_string).collect())
}

/// The dtypes by their name in the IR, in the program, and in safetensors.
const DTYPES: [(Dtype, &str); 12] = [
    (Dtype::BOOL, "bool"),
    (Dtype::U8, "u8"),
    (Dtype::I8, "i8"),
    (Dtype::U16, "u16"),
    (Dtype::I16, "i16"),
    (Dtype::U32, "u32"),
    (Dtype::I32, "i32"),
    (Dtype::I64, "i64"),
    (Dtype::F16, "f16"),
    (Dtype::BF16, "bf16"),
    (Dtype::F32, "f32"),
    (Dtype::F64, "f64"),
];

fn name_of(dtype: Dtype) -> Result<&'static str> {
    let found = DTYPES.iter().find(|(d, _)| *d == dtype);
    Ok(found
        .map(|(_, name)| *name)
        .ok_or_else(|| format!("{dtype:?} has no name here"))?)
}

fn named(name: &str) -> Dtype {
    DTYPES
        .iter()
        .find(|(_, n)| *n == name)
        .map_or(Dtype::U64, |(d, _)| *d)
}

fn to_tensor(array: &Array) -> Result<Tensor> {
    let dtype = DType::from_name(name_of(array.dtype)?).ok_or("a dtype that the IR lacks")?;
    Ok(Tensor::from_bytes(
        dtype,
        array.shape.clone(),
        &array.bytes,
    )?)
}

/// The tensor as it stands in a file.
pub fn from_tensor(tensor: &Tensor) -> Array {
    Array {
        dtype: named(tensor.dtype().name()),
        shape: tensor.shape().to_vec(),
        bytes: tensor.to_bytes(),
    }
}

/// A value for a call.
///
/// # Errors
/// A dtype that programs lack.
pub fn to_value(array: &Array) -> Result<Value> {
    let dtype = ScalarType::from_name(name_of(array.dtype)?).ok_or("a dtype that programs lack")?;
    Ok(Value::Tensor(fuseline_runtime::Tensor::from_bytes(
        dtype,
        &array.shape,
        &array.bytes,
    )?))
}

/// A result as it stands in a file.
///
/// # Errors
/// It is not a tensor nor an integer, or its computation fails.
pub fn from_value(value: &Value) -> Result<Array> {
    match value {
        Value::Tensor(tensor) => Ok(Array {
            dtype: named(tensor.dtype().name()),
            shape: tensor.shape(),
            bytes: tensor.to_bytes()?,
        }),
        Value::Int(number) => Ok(Array {
            dtype: Dtype::I64,
            shape: Vec::new(),
            bytes: number.to_le_bytes().to_vec(),
        }),
        other => Err(format!("an output that is {}", other.kind()).into()),
    }
}
