//! Running a program that nobody vouches for.

use crate::disk;
use fuseline_program::Dim;
use fuseline_runtime::{Device, InputKind, Options, Program, ScalarType, Session, Tensor, Value};

/// The most bytes of one input.
const INPUT: usize = 1 << 16;

/// Opens the file and calls each of its methods, with the state that the call before left.
pub fn run(file: &[u8]) {
    let path = disk::file("pte", file);
    let options = Options {
        device: Some(Device::Cpu),
        // A loop without end takes minutes to be an error otherwise.
        max_steps: Some(1 << 12),
        // Nor is it of interest here how long a machine takes for gigabytes that a file asks for.
        max_memory: Some(1 << 28),
        // As on a GPU, for every other file.
        late_checks: Some(file.len().is_multiple_of(2)),
        ..Options::default()
    };
    let Ok(program) = Program::open_with(path.path(), &options) else {
        return;
    };
    let methods: Vec<String> = program.methods().map(str::to_owned).collect();
    let Ok(mut session) = program.session() else {
        return;
    };
    for method in &methods {
        for call in 0..2 {
            call_once(&program, &mut session, method, call);
        }
    }
}

fn call_once(program: &Program, session: &mut Session, method: &str, call: usize) {
    let Ok(inputs) = program.inputs(method) else {
        return;
    };
    let inputs: Option<Vec<Value>> = inputs
        .iter()
        .map(|input| value(&input.kind, call))
        .collect();
    let Some(inputs) = inputs else { return };
    if let Ok(outputs) = session.run(method, &inputs) {
        outputs
            .iter()
            .filter_map(Value::as_tensor)
            .for_each(|tensor| drop(tensor.to_bytes()));
    }
}

/// A small value of the kind; none if there is no small one.
fn value(kind: &InputKind, call: usize) -> Option<Value> {
    match kind {
        InputKind::Tensor { dtype, shape } => {
            let length = |dim: &Dim| match *dim {
                Dim::Static(length) => length as usize,
                Dim::Dynamic { min, max } => {
                    (min as usize + 1 + call).min(max.map_or(usize::MAX, |max| max as usize))
                }
            };
            let shape: Vec<usize> = shape.iter().map(length).collect();
            let size = usize::try_from(dtype.size()).ok()?;
            let bytes = shape
                .iter()
                .try_fold(size, |bytes, length| bytes.checked_mul(*length))?;
            let element = element(*dtype);
            let all: Vec<u8> =
                (bytes <= INPUT).then(|| element.into_iter().cycle().take(bytes).collect())?;
            Tensor::from_bytes(*dtype, &shape, &all)
                .ok()
                .map(Value::Tensor)
        }
        InputKind::Int => Some(Value::Int(1 + call as i64)),
        InputKind::Bool => Some(Value::Bool(call == 0)),
        InputKind::Float => Some(Value::Float(0.5)),
        InputKind::Other => Some(Value::None),
    }
}

/// The bytes of three elements: 1, 0 and one that is no position in most tensors.
fn element(dtype: ScalarType) -> Vec<u8> {
    let all = match dtype {
        ScalarType::F32 => vec![
            1.0_f32.to_le_bytes(),
            0.0_f32.to_le_bytes(),
            (-2.5_f32).to_le_bytes(),
        ]
        .concat(),
        ScalarType::I64 | ScalarType::U64 => [
            1_i64.to_le_bytes(),
            0_i64.to_le_bytes(),
            3_i64.to_le_bytes(),
        ]
        .concat(),
        ScalarType::I32 | ScalarType::U32 => [
            1_i32.to_le_bytes(),
            0_i32.to_le_bytes(),
            3_i32.to_le_bytes(),
        ]
        .concat(),
        ScalarType::F64 => vec![
            1.0_f64.to_le_bytes(),
            0.0_f64.to_le_bytes(),
            (-2.5_f64).to_le_bytes(),
        ]
        .concat(),
        ScalarType::BF16 | ScalarType::F16 => vec![0x80, 0x3f, 0, 0, 0, 0xc0],
        _ => Vec::new(),
    };
    if all.is_empty() {
        vec![0; 3 * dtype.size() as usize]
            .iter()
            .enumerate()
            .map(|(at, _)| u8::from(at == 0))
            .collect()
    } else {
        all
    }
}
