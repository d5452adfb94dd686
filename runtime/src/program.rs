//! Programs: what has been loaded, and what can be known about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuseline_program as format;
use fuseline_program::container::limits::Limit;
use fuseline_program::container::sizes::Sizes;
use fuseline_program::{Dim, Mapping, MlxGraph, Ptd, ScalarType, SlotClass, Tid};

use crate::budget::{self, Budget, MAX_STEPS};
use crate::device::Device;
use crate::error::{Error, InputProblem};
use crate::frame::{Constant, Frame};
use crate::kernels::{Kernel, Kernels};
use crate::load::{Loader, cache_layout, has_outside_caches, kept_bytes};
use crate::mlx::{Array, MlxError, Stream};
use crate::ops::{self, CacheLayout, CacheOptions};
use crate::session::Session;
use crate::tensor::Tensor;
use crate::value::Value;

/// A compiled model, ready to run. Cloning copies a reference; any number of sessions and threads can share it.
#[derive(Clone)]
pub struct Program(pub(crate) Arc<Inner>);

/// How to open a program.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where to run; the device that MLX prefers if none is given.
    pub device: Option<Device>,
    /// Operators that run on the host; none given means [`Kernels::standard`].
    pub kernels: Option<Kernels>,
    /// How many steps one call may take in branches and loops, so that a loop in a file that never ends is an error; none given means [`MAX_STEPS`].
    pub max_steps: Option<u64>,
    /// Whether indices that the device computes are looked at with the results of a call, instead of waiting for them before they are used; none given means yes on
    /// a GPU, and no on a CPU. Either way nothing outside of an array is read or written.
    pub late_checks: Option<bool>,
    /// How to keep the caches that instructions name by layer.
    pub cache: CacheOptions,
    /// Files with weights that the program does not hold itself: ExecuTorch's `.ptd`.
    pub data: Vec<PathBuf>,
    /// The most bytes that the program may ask for: weights and the state of one session together when it is opened, with the results of a
    /// call when that is made, and each array that an instruction makes for itself. What a device needs in between comes on top.
    pub max_memory: Option<u64>,
}

pub(crate) struct Inner {
    pub(crate) device: Device,
    pub(crate) methods: Vec<Method>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) states: Vec<State>,
    pub(crate) max_steps: u64,
    pub(crate) late_checks: bool,
    pub(crate) layout: CacheLayout,
    pub(crate) outside_caches: bool,
    pub(crate) memory: MemoryLimit,
    /// The file and those beside it, which arrays may lie in.
    pub(crate) files: Arc<Vec<Mapping>>,
}

/// What a session keeps, and what it starts with: zeros where there is nothing.
pub(crate) struct State {
    pub(crate) info: StateInfo,
    pub(crate) initial: Option<Array>,
}

/// What a program may take of memory.
pub(crate) struct MemoryLimit {
    /// Weights, and the state of one session.
    fixed: u64,
    most: Option<u64>,
}

impl MemoryLimit {
    /// That so many bytes on top of what is fixed are not too many.
    pub(crate) fn check(&self, more: u64) -> Result<(), Error> {
        let needed = self.fixed.saturating_add(more);
        match self.most {
            Some(limit) if needed > limit => Err(Error::Memory { needed, limit }),
            _ => Ok(()),
        }
    }
}

/// What can be called.
pub(crate) struct Method {
    pub(crate) name: String,
    /// The values at the start of a call: constants, and nothing in the place of what is computed.
    pub(crate) values: Vec<Value>,
    pub(crate) inputs: Vec<(usize, Input)>,
    /// Arguments that may be left out, all of them or none, and must have these values.
    pub(crate) fixed: Vec<FixedInput>,
    /// How the inputs' lengths hang together, where the file says.
    pub(crate) sizes: Option<Sizes>,
    pub(crate) outputs: Vec<(usize, Output)>,
    pub(crate) chains: Vec<Vec<Step>>,
    /// Its place among the methods.
    pub(crate) number: usize,
    /// The values that a session keeps from call to call.
    pub(crate) kept: Vec<usize>,
    /// Those of them that a delegate reads or writes under a name, and the numbers of the states that they are.
    pub(crate) states: Vec<(usize, usize)>,
}

/// An argument that no instruction reads, because its value was a constant when the model was exported.
#[derive(Debug, Clone, PartialEq)]
pub struct FixedInput {
    /// Its place among all arguments of a call.
    pub position: usize,
    /// The name in the model, or its place if the file does not tell.
    pub name: String,
    /// The value that it must have: a number, truth value or string, or nothing.
    pub(crate) value: fuseline_program::container::Value,
}

/// An input of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The name in the model, or `in0`, `in1`, … if the file does not tell.
    pub name: String,
    /// What it takes.
    pub kind: InputKind,
}

/// What an input takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// A tensor.
    Tensor {
        /// The element type.
        dtype: ScalarType,
        /// The dimensions with their ranges.
        shape: Vec<Dim>,
    },
    /// An integer.
    Int,
    /// A truth value.
    Bool,
    /// A float.
    Float,
    /// Something else, that the program does not look at.
    Other,
}

/// An output of a method: the element type if it is a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// The element type, if it is a tensor.
    pub dtype: Option<ScalarType>,
}

pub(crate) enum Step {
    Delegate {
        segment: usize,
        inputs: Vec<usize>,
        /// The values, and the types that they must have.
        outputs: Vec<(usize, Option<format::TensorValue>)>,
    },
    Kernel {
        name: String,
        kernel: Kernel,
        inputs: Vec<Argument>,
        /// The values, and the types that they must have.
        outputs: Vec<(usize, Option<format::TensorValue>)>,
    },
    Move {
        from: usize,
        to: usize,
    },
    /// The same elements in another shape.
    View {
        from: usize,
        to: usize,
        shape: Vec<i64>,
    },
    JumpFalse {
        condition: usize,
        target: usize,
    },
    Free {
        value: usize,
    },
}

impl Step {
    /// The values that it reads and those that it writes.
    pub(crate) fn slots(&self) -> (Vec<usize>, Vec<usize>) {
        match self {
            Self::Delegate {
                inputs, outputs, ..
            } => (
                inputs.clone(),
                outputs.iter().map(|(value, _)| *value).collect(),
            ),
            Self::Kernel {
                inputs, outputs, ..
            } => {
                let read = inputs.iter().flat_map(|argument| match argument {
                    Argument::One(value) => vec![*value],
                    Argument::List(items) => items.iter().flatten().copied().collect(),
                });
                let written = outputs.iter().map(|(value, _)| *value);
                (read.collect(), written.collect())
            }
            Self::Move { from, to } | Self::View { from, to, .. } => (vec![*from], vec![*to]),
            Self::JumpFalse { condition, .. } => (vec![*condition], Vec::new()),
            Self::Free { .. } => (Vec::new(), Vec::new()),
        }
    }
}

/// An argument of a kernel: a value, or a list of values.
pub(crate) enum Argument {
    One(usize),
    List(Vec<Option<usize>>),
}

/// A part of a method that MLX runs.
pub(crate) struct Segment {
    pub(crate) graph: MlxGraph,
    /// The steps of each chain, as a [`crate::budget::Budget`] counts them.
    pub(crate) steps: Vec<u64>,
    /// What the main chain may put into value slots, in the order of their numbers.
    pub(crate) limits: Vec<Limit>,
    /// What is in the constant slots once the init chain has run.
    pub(crate) constants: Vec<Constant>,
    /// The state slots, and which of the program's states each holds.
    pub(crate) state: Vec<(Tid, usize)>,
}

/// A tensor that a session keeps from call to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateInfo {
    /// The name in the model.
    pub name: String,
    /// The element type.
    pub dtype: ScalarType,
    /// The shape.
    pub shape: Vec<usize>,
}

impl Program {
    /// Opens a file on the device that MLX prefers, with the standard operators of the host.
    ///
    /// The file is mapped, and stays so for as long as the program lives; where the device can read the mapping, weights are not
    /// copied. It should not be changed meanwhile. If it is cut, what is missing reads as zeros, and opening it or the next call says so; a GPU that
    /// uses the mapping itself (Metal) is beyond that.
    ///
    /// # Errors
    /// The file can't be read, is not a valid program, or asks for something that is not there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &Options::default())
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`Program::open`], and the device that is asked for is not there.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        let path = path.as_ref();
        let device = match options.device {
            Some(device) if !device.is_available() => return Err(Error::NoDevice { device }),
            Some(device) => device,
            None => Device::preferred()?,
        };
        let paths: Vec<&Path> = std::iter::once(path)
            .chain(options.data.iter().map(PathBuf::as_path))
            .collect();
        let files = paths.iter().map(|path| {
            Mapping::open(path).map_err(|source| Error::Read {
                path: (*path).to_owned(),
                source,
            })
        });
        let files = Arc::new(files.collect::<Result<Vec<_>, _>>()?);
        let loaded = Self::load(&paths, &files, device, options);
        // What a cut file seems to say, right or wrong, counts for nothing.
        for (path, file) in paths.iter().zip(files.iter()) {
            file.check().map_err(|source| Error::Read {
                path: (*path).to_owned(),
                source,
            })?;
        }
        loaded
    }

    /// The program of the first file, with weights of the others.
    fn load(
        paths: &[&Path],
        files: &Arc<Vec<Mapping>>,
        device: Device,
        options: &Options,
    ) -> Result<Self, Error> {
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Format { path, source }
        };
        let path = paths.first().copied().unwrap_or(Path::new(""));
        let (main, beside) = files
            .split_first()
            .map_or((&[][..], &[][..]), |(m, b)| (&**m, b));
        let external = paths.iter().skip(1).zip(beside);
        let external = external
            .map(|(path, file)| Ptd::parse(file).map_err(broken(path)))
            .collect::<Result<Vec<_>, _>>()?;
        let pte = format::Pte::parse_with(main, &external).map_err(broken(path))?;
        pte.validate().map_err(broken(path))?;

        let memory = MemoryLimit {
            fixed: kept_bytes(&pte.program),
            most: options.max_memory,
        };
        memory.check(0)?;

        let standard;
        let kernels = match &options.kernels {
            Some(kernels) => kernels,
            None => {
                standard = Kernels::standard();
                &standard
            }
        };
        let max_steps = options.max_steps.unwrap_or(MAX_STEPS);
        let mut loader = Loader {
            files,
            program: &pte.program,
            named: pte
                .program
                .named_data
                .iter()
                .map(|named| (named.key.as_str(), &named.data))
                .collect(),
            kernels,
            stream: Stream::on(device)?,
            max_steps,
            largest: options.max_memory.unwrap_or(u64::MAX),
            segments: Vec::new(),
            states: Vec::new(),
            known_states: BTreeMap::new(),
            needs: Vec::new(),
            known_needs: BTreeSet::new(),
        };
        let methods: Vec<Method> = pte
            .program
            .methods
            .iter()
            .enumerate()
            .map(|(number, method)| loader.method(number, method))
            .collect::<Result<_, _>>()?;
        if !loader.needs.is_empty() {
            return Err(Error::Unsupported {
                path: path.to_owned(),
                needs: loader.needs,
            });
        }
        let layout = cache_layout(&pte.program, &options.cache);
        Ok(Self(Arc::new(Inner {
            device,
            methods,
            segments: loader.segments,
            states: loader.states,
            max_steps,
            late_checks: options.late_checks.unwrap_or(device == Device::Gpu),
            layout,
            outside_caches: has_outside_caches(&pte.program),
            memory,
            files: Arc::clone(files),
        })))
    }

    /// Starts a session, with state of its own.
    ///
    /// # Errors
    /// MLX can't make a stream.
    pub fn session(&self) -> Result<Session, Error> {
        Session::new(self.clone())
    }

    /// Where it runs.
    #[must_use]
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// The names of the methods, in the order of the file.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.0.methods.iter().map(|method| method.name.as_str())
    }

    /// The inputs of a method, in the order in which [`Session::run`] takes them.
    ///
    /// # Errors
    /// There is no such method.
    pub fn inputs(&self, method: &str) -> Result<Vec<&Input>, Error> {
        Ok(self
            .0
            .method(method)?
            .inputs
            .iter()
            .map(|(_, input)| input)
            .collect())
    }

    /// The arguments of a method that the export fixed. A call leaves all of them out, or has all of them at their places with the values of the export; strings and what is absent may be
    /// left out alone.
    ///
    /// # Errors
    /// There is no such method.
    pub fn fixed_inputs(&self, method: &str) -> Result<&[FixedInput], Error> {
        Ok(&self.0.method(method)?.fixed)
    }

    /// The outputs of a method, in the order in which [`Session::run`] returns them.
    ///
    /// # Errors
    /// There is no such method.
    pub fn outputs(&self, method: &str) -> Result<Vec<Output>, Error> {
        Ok(self
            .0
            .method(method)?
            .outputs
            .iter()
            .map(|(_, output)| *output)
            .collect())
    }

    /// Whether a session keeps key/value caches that the program only names by layer, which is what [`Options::cache`] is about.
    #[must_use]
    pub fn has_outside_caches(&self) -> bool {
        self.0.outside_caches
    }

    /// The tensors that a session keeps from call to call.
    pub fn state(&self) -> impl Iterator<Item = &StateInfo> {
        self.0.states.iter().map(|state| &state.info)
    }
}

impl Inner {
    /// What a call begins with.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.max_steps, self.memory.most.unwrap_or(u64::MAX))
    }

    /// What a step of a method takes of a [`crate::budget::Budget`] when it is repeated.
    pub(crate) fn steps(&self, step: &Step) -> u64 {
        let (read, written) = step.slots();
        let inside = match step {
            Step::Delegate { segment, .. } => {
                let segment = &self.segments[*segment];
                budget::delegate_steps(&segment.graph, &segment.steps)
            }
            _ => 1,
        };
        inside.saturating_add((read.len() + written.len()) as u64)
    }

    /// That no bytes of the program have turned out to be missing.
    pub(crate) fn check_files(&self) -> Result<(), Error> {
        let whole = self.files.iter().try_for_each(Mapping::check);
        whole.map_err(|source| Error::Gone { source })
    }

    pub(crate) fn method(&self, name: &str) -> Result<&Method, Error> {
        self.methods
            .iter()
            .find(|method| method.name == name)
            .ok_or_else(|| Error::NoMethod {
                name: name.to_owned(),
                known: self
                    .methods
                    .iter()
                    .map(|method| format!("`{}`", method.name))
                    .collect(),
            })
    }
}

impl InputKind {
    /// Checks a tensor against type and ranges.
    pub(crate) fn check(
        dtype: ScalarType,
        dims: &[Dim],
        tensor: &Tensor,
    ) -> Result<(), InputProblem> {
        if tensor.dtype() != dtype {
            return Err(InputProblem::DType {
                given: tensor.dtype(),
                wanted: dtype,
            });
        }
        let given = tensor.shape();
        if given.len() != dims.len() {
            return Err(InputProblem::Rank {
                given,
                wanted: dims.len(),
            });
        }
        for (dimension, (given, wanted)) in given.into_iter().zip(dims).enumerate() {
            let fits = match *wanted {
                Dim::Static(length) => given == length as usize,
                Dim::Dynamic { min, max } => {
                    given >= min as usize && max.is_none_or(|max| given <= max as usize)
                }
            };
            if !fits {
                return Err(InputProblem::Dimension {
                    dimension,
                    given,
                    wanted: *wanted,
                });
            }
        }
        Ok(())
    }
}

impl StateInfo {
    pub(crate) fn zeros(&self, frame: &Frame<'_>) -> Result<Array, Error> {
        let lengths = self.shape.iter().map(|length| i32::try_from(*length));
        let lengths: Vec<i32> = lengths
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Mlx(MlxError("a length beyond 31 bits".to_owned())))?;
        ops::zeros(&lengths, self.dtype, frame).map_err(Error::Interface)
    }
}

impl Segment {
    /// How many tensor slots are not constants.
    pub(crate) fn free_slots(&self) -> usize {
        let all = usize::try_from(self.graph.counts.tensors()).unwrap_or_default();
        all.saturating_sub(self.graph.counts.of(SlotClass::Constant) as usize)
    }
}
