//! A program with an operator of a library, run with a kernel of our own for it.
//!
//! The model calls `torch.ops.mylib.clamp_above(x, limit)`, an operator that no compiler knows; the file then has a call of the kernel `mylib::clamp_above.out` between
//! two parts that run on the device (`fuseline inspect MODEL.pte` lists such calls with their places in the model). Opening the file without the kernel is an error
//! that names it.
//!
//! ```text
//! fuseline compile model.pt2 -o model.pte
//! cargo run -p fuseline-runtime --example host_kernels -- model.pte
//! ```
//!
//! Every input is filled with the numbers 0, 1, 2, …; sizes that may differ are at their least.

#![expect(clippy::print_stdout, reason = "a program, not a library")]

use fuseline_runtime::{
    Dim, Input, InputKind, KernelError, Kernels, Options, Program, Tensor, Value,
};

/// `mylib::clamp_above(Tensor x, float limit=1.0) -> Tensor`. An argument at its default may be missing.
fn clamp_above(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let bad = |position: usize, problem: &str| KernelError::Argument {
        position,
        problem: problem.to_owned(),
    };
    let x = arguments.first().and_then(Value::as_tensor);
    let x = x.ok_or_else(|| bad(0, "is not a tensor"))?;
    let limit = match arguments.get(1) {
        None => 1.0,
        Some(limit) => limit.as_float().ok_or_else(|| bad(1, "is not a number"))?,
    };
    let elements: Vec<f32> = x.to_vec()?;
    let clamped: Vec<f32> = elements.iter().map(|x| x.min(limit as f32)).collect();
    Ok(vec![Tensor::from_slice(&x.shape(), &clamped)?.into()])
}

/// 0, 1, 2, … in the least shape that an input takes.
fn ramp(input: &Input) -> Result<Value, Box<dyn std::error::Error>> {
    let InputKind::Tensor { dtype, shape } = &input.kind else {
        return Ok(Value::Int(1));
    };
    let least = |dim: &Dim| match dim {
        Dim::Static(length) => *length as usize,
        Dim::Dynamic { min, .. } => *min as usize,
    };
    let shape: Vec<usize> = shape.iter().map(least).collect();
    let count: usize = shape.iter().product();
    let tensor = match dtype.name() {
        "f32" => Tensor::from_slice(&shape, &(0..count).map(|n| n as f32).collect::<Vec<_>>())?,
        "i64" => Tensor::from_slice(&shape, &(0..count as i64).collect::<Vec<_>>())?,
        other => return Err(format!("input `{}` has elements of type {other}", input.name).into()),
    };
    Ok(tensor.into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("give the path of a .pte file")?;
    let mut kernels = Kernels::standard();
    kernels.register("mylib::clamp_above", 2, 1, clamp_above);
    let options = Options {
        kernels: Some(kernels),
        ..Options::default()
    };
    let program = Program::open_with(&path, &options)?;
    let method = program
        .methods()
        .next()
        .ok_or("a file without methods")?
        .to_owned();
    let inputs = program.inputs(&method)?;
    let inputs = inputs
        .into_iter()
        .map(ramp)
        .collect::<Result<Vec<_>, _>>()?;
    for (number, output) in program.session()?.run(&method, &inputs)?.iter().enumerate() {
        match output {
            Value::Tensor(tensor) => println!("out{number}: {tensor:?} {:?}", tensor.to_floats()?),
            other => println!("out{number}: {other:?}"),
        }
    }
    Ok(())
}
