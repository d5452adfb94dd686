//! Programs that are one instruction many times, and how long a step of them takes.

use std::time::{Duration, Instant};

use fuseline_program::instr::{Field, FloatOrVid, IntOrVid};
use fuseline_program::{
    Call, Delegate, Instruction, IoSlot, Method, MlxGraph, Program, ScalarType, SlotCounts,
    Storage, TensorMeta, TensorValue, Tid, Value,
};
use fuseline_runtime::{Device, Options};

use crate::failure::Failure;

/// How many steps a short chain has, and a long one.
#[derive(Clone, Copy)]
pub struct Steps(usize, usize);

impl Steps {
    /// For steps that take microseconds.
    pub fn many() -> Self {
        Self(64, 576)
    }

    /// For steps that take milliseconds.
    pub fn few() -> Self {
        Self(2, 6)
    }
}

/// The slot of the value that a chain works on. It is the program's output.
const CURRENT: Tid = Tid(0);

/// A chain of instructions in the making: operands that are filled first, then steps from the current value to the next.
pub struct Chain {
    meta: TensorMeta,
    temps: u32,
    instructions: Vec<Result<Instruction, String>>,
}

impl Chain {
    /// A chain whose first value has this type, and ones in it.
    pub fn new(dtype: ScalarType, shape: &[u32]) -> Self {
        let mut chain = Self {
            meta: TensorMeta::fixed(dtype, shape),
            temps: 0,
            instructions: Vec::new(),
        };
        chain.fill(CURRENT, dtype, shape, 1.0);
        chain
    }

    fn push(&mut self, name: &str, fields: &[(&str, Field)]) {
        let made = Instruction::build(name, fields).map_err(|error| format!("{name}: {error}"));
        self.instructions.push(made);
    }

    fn fill(&mut self, out: Tid, dtype: ScalarType, shape: &[u32], number: f64) {
        let fields = [
            ("out", out.into()),
            ("shape", ints(shape)),
            ("v", Field::FloatOrVid(FloatOrVid::Float(number))),
            ("scalar_type", dtype.into()),
        ];
        self.push("Full", &fields);
    }

    fn temp(&mut self) -> Tid {
        self.temps += 1;
        Tid(self.temps)
    }

    /// A tensor of one number, made before the steps that follow.
    pub fn operand(&mut self, dtype: ScalarType, shape: &[u32], number: f64) -> Tid {
        let out = self.temp();
        self.fill(out, dtype, shape, number);
        out
    }

    /// The first `width` of a tensor along an axis.
    pub fn left(&mut self, x: Tid, axis: i64, width: u32) -> Tid {
        let out = self.temp();
        let int = |n: i64| Field::IntOrVid(IntOrVid::Int(n));
        let fields = [
            ("x", x.into()),
            ("out", out.into()),
            ("axis", int(axis)),
            ("start", int(0)),
            ("stop", int(width.into())),
        ];
        self.push("Slice", &fields);
        out
    }

    /// A step that reads the current value as `x`.
    pub fn step(&mut self, name: &str, operands: &[(&str, Field)]) {
        self.step_on(name, "x", operands);
    }

    /// A step that reads the current value under that name.
    pub fn step_on(&mut self, name: &str, current: &str, operands: &[(&str, Field)]) {
        let mut fields = vec![(current, CURRENT.into()), ("out", CURRENT.into())];
        fields.extend_from_slice(operands);
        self.push(name, &fields);
    }

    fn program(self) -> Result<Program<'static>, Failure> {
        let bug = |error: String| Failure::bug(format!("a program that measures: {error}"));
        let instructions = self
            .instructions
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(bug)?;
        let sizes = self.meta.static_shape().unwrap_or_default();
        let output = TensorValue {
            dtype: self.meta.dtype,
            sizes,
            dynamic: false,
            storage: Storage::Caller,
        };
        let graph = MlxGraph {
            counts: SlotCounts {
                outputs: 1,
                temps: self.temps,
                ..SlotCounts::default()
            },
            chains: vec![instructions],
            main_chain: 0,
            init_chain: None,
            inputs: Vec::new(),
            outputs: vec![IoSlot::Tensor(CURRENT)],
            state: Vec::new(),
            names: Vec::new(),
            tensors: vec![self.meta],
        };
        let mut method = Method {
            name: "forward".to_owned(),
            values: vec![Value::Tensor(output)],
            outputs: vec![0],
            chains: vec![vec![Call::Delegate {
                delegate: 0,
                args: vec![0],
            }]],
            delegates: vec![Delegate::mlx(graph)],
            ..Method::default()
        };
        method
            .plan_memory()
            .map_err(|error| bug(error.to_string()))?;
        Ok(Program {
            methods: vec![method],
            ..Program::default()
        })
    }
}

/// Integers as a field.
pub fn ints(all: &[u32]) -> Field {
    Field::IntOrVids(all.iter().map(|n| IntOrVid::Int(i64::from(*n))).collect())
}

/// A device that is measured, and how long a figure may take.
pub struct Probe {
    device: Device,
    budget: Duration,
    folder: tempfile::TempDir,
}

impl Probe {
    /// A probe of a device that takes about `budget` for a figure.
    pub fn new(device: Device, budget: Duration) -> Result<Self, Failure> {
        let folder =
            tempfile::tempdir().map_err(|error| Failure::file(&std::env::temp_dir(), &error))?;
        Ok(Self {
            device,
            budget,
            folder,
        })
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Nanoseconds of one step: what a long chain takes longer than a short one. The two run in turn, and the shortest time of each counts, since whatever else the machine does only adds.
    pub fn time(
        &self,
        name: &str,
        steps: Steps,
        chain: &dyn Fn(usize) -> Chain,
    ) -> Result<f64, Failure> {
        let failed = |failure: Failure| failure.at(name);
        let mut short = self.open(chain(steps.0)).map_err(failed)?;
        let mut long = self.open(chain(steps.1)).map_err(failed)?;
        let (mut least_short, mut least_long) = (f64::INFINITY, f64::INFINITY);
        let started = Instant::now();
        for turn in 0..MOST_TURNS {
            let (a, b) = (
                run(&mut short).map_err(failed)?,
                run(&mut long).map_err(failed)?,
            );
            // The first turn compiles kernels and fills caches.
            if turn > 0 {
                (least_short, least_long) = (least_short.min(a), least_long.min(b));
            }
            if turn >= LEAST_TURNS && started.elapsed() > self.budget {
                break;
            }
        }
        let step = (least_long - least_short) / (steps.1 - steps.0) as f64;
        // On a machine that is busy enough, the short one may never have had its turn.
        Ok(if step > 0.0 {
            step
        } else {
            least_long / steps.1 as f64
        })
    }

    /// Work a nanosecond, at the first size from `least` on, doubled up to `most`, at which a step takes long enough to be measured.
    pub fn rate(
        &self,
        name: &str,
        least: u32,
        most: u32,
        chain: &dyn Fn(usize, u32) -> Chain,
        work: &dyn Fn(f64) -> f64,
    ) -> Result<f64, Failure> {
        let mut size = least;
        loop {
            let mut once = self
                .open(chain(1, size))
                .map_err(|failure| failure.at(name))?;
            run(&mut once)?;
            if run(&mut once)? > LONG_ENOUGH || size >= most {
                break;
            }
            size *= 2;
        }
        let time = self.time(name, Steps::few(), &|n| chain(n, size))?;
        Ok(work(f64::from(size)) / time)
    }

    fn open(&self, chain: Chain) -> Result<fuseline_runtime::Session, Failure> {
        let path = self.folder.path().join("probe.pte");
        chain
            .program()?
            .write_file(&path)
            .map_err(|error| Failure::file(&path, &error))?;
        let options = Options {
            device: Some(self.device),
            ..Options::default()
        };
        let program = fuseline_runtime::Program::open_with(&path, &options)?;
        Ok(program.session()?)
    }
}

/// The fewest turns that count for something, and the most that are taken.
const LEAST_TURNS: usize = 3;
const MOST_TURNS: usize = 50;

/// Nanoseconds that a call takes if the clock and the launch don't matter.
const LONG_ENOUGH: f64 = 2e6;

/// Nanoseconds of one call, until everything is computed.
fn run(session: &mut fuseline_runtime::Session) -> Result<f64, Failure> {
    let started = Instant::now();
    let outputs = session.run("forward", &[])?;
    session.synchronize()?;
    let time = started.elapsed();
    drop(outputs);
    Ok(time.as_secs_f64() * 1e9)
}
