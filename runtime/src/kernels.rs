//! Operators that run on the host, between the parts of a program that run on the device.
//!
//! A compiler puts an operator here when MLX has no way to express it, mostly because the shape of the result depends on
//! the data. [`Kernels::standard`] has the few that are common; a program that embeds this crate can add its own under the
//! names that the compiled file uses: `aten::nonzero.out`, namespace and overload included.

mod bits;
mod call;
mod complex;
mod gamma;
#[cfg(test)]
mod hostile;
mod indexing;
mod linalg;
mod making;
mod movement;
mod numbers;
mod planes;
mod pointwise;
mod portable;
mod products;
mod reductions;
mod special;
mod types;
mod unique;
mod views;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fuseline_program::{ScalarType, TensorValue, Tid};

pub(crate) use call::Wanted;
use call::{Call, Result as Made};
pub(crate) use numbers::place;

use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx;
use crate::tensor::{Tensor, TensorError};
use crate::value::Value;

/// Why an operator of the host failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// An argument that it can't take.
    #[error("argument {position} {problem}")]
    Argument {
        /// Which one, from 0.
        position: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Another number of results than the file asks for.
    #[error("it made {made} results, the file wants {wanted}")]
    Results {
        /// How many it made.
        made: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A result of another type than the file says.
    #[error("result {position} is {made}, the file wants {wanted}")]
    Result {
        /// Which one, from 0.
        position: usize,
        /// What it made.
        made: String,
        /// What it should be.
        wanted: String,
    },
    /// A matrix that a factorisation does not exist for.
    #[error("matrix {at} of the batch {problem}")]
    Matrix {
        /// Which one of the batch, from 0 in row-major order.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor could not be read or made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// One of the instructions that carry it out failed.
    #[error(transparent)]
    Instruction(#[from] Fault),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The most bytes of a result that a kernel of this crate makes by itself, as instructions have it.
const LIMIT: u64 = 4 << 30;

thread_local! {
    /// The same for the call that runs on this thread.
    static CALL_LIMIT: Cell<u64> = const { Cell::new(LIMIT) };
}

/// Calls a kernel whose results must be of these types. Its instructions run in the frame, which has no slots; what is made on the host may have as
/// many bytes as what they make.
pub(crate) fn call<'a>(
    kernel: &Kernel,
    arguments: &'a [Value],
    wanted: &'a [Wanted],
    frame: Frame<'a>,
) -> Result<Vec<Value>, KernelError> {
    let before = CALL_LIMIT.replace(frame.budget.largest().min(LIMIT));
    let results = carry_out(kernel, arguments, wanted, frame);
    CALL_LIMIT.set(before);
    results
}

fn carry_out<'a>(
    kernel: &Kernel,
    arguments: &'a [Value],
    wanted: &'a [Wanted],
    frame: Frame<'a>,
) -> Result<Vec<Value>, KernelError> {
    match &kernel.run {
        Run::Instructions(run) => {
            let mut call = Call::new(arguments, wanted, frame);
            let made = run(&mut call)?;
            call.finish(&made)
        }
        Run::Host(run) => {
            // What the operator reads has to be on its way before it waits for it.
            let read = arguments.iter().flat_map(|value| match value {
                Value::List(items) => items.as_slice(),
                one => std::slice::from_ref(one),
            });
            let read = read.filter_map(Value::as_tensor).map(Tensor::array);
            mlx::start(read).map_err(TensorError::from)?;
            run(arguments)
        }
    }
}

/// The operator that looks at elements in another shape.
pub(crate) const VIEW: &str = "executorch_prim::et_view.default";

/// A tensor's elements in another shape.
pub(crate) fn view(value: &Value, shape: &[i64], frame: Frame<'_>) -> Result<Value, KernelError> {
    let arguments = std::slice::from_ref(value);
    let mut call = Call::new(arguments, &[], frame);
    let x = call.tensor(0)?;
    let viewed = call.reshape(x, shape)?;
    let made = call.finish(&[viewed])?;
    made.into_iter()
        .next()
        .ok_or(KernelError::Results { made: 0, wanted: 1 })
}

/// Whether a result of this shape is not too large. Complex elements, the widest, are taken for all.
fn is_affordable(shape: &[usize]) -> bool {
    let bytes = shape.iter().try_fold(8_u64, |all, length| {
        all.checked_mul(u64::try_from((*length).max(1)).ok()?)
    });
    bytes.is_some_and(|bytes| bytes <= CALL_LIMIT.get())
}

type OnHost = dyn Fn(&[Value]) -> Result<Vec<Value>, KernelError> + Send + Sync;
type OnDevice = dyn Fn(&mut Call<'_>) -> Made<Vec<Tid>> + Send + Sync;

/// What an operator does.
#[derive(Clone)]
enum Run {
    /// Reads its arguments and computes on the host.
    Host(Arc<OnHost>),
    /// Instructions carry it out on the device; nothing waits. The slots of the results.
    Instructions(Arc<OnDevice>),
}

/// Where the results of an operator stand in its call, behind its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind its arguments, and then once more: a tensor, or a list of several.
    Twice,
    /// Behind its arguments: numbers, and what stands for an argument that was written to.
    Last,
    /// Nowhere: the first argument becomes the result.
    First,
}

/// One operator: how many arguments and results it has, and what it does. Where a result is a list, its length is the call's.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    run: Run,
}

/// Operators by name.
#[derive(Clone, Default)]
pub struct Kernels(BTreeMap<String, Kernel>);

impl Kernels {
    /// No operators.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The built-in ones: those of ExecuTorch's portable library, its arithmetic with numbers (`executorch_prim::add.Scalar`), and what the compiler leaves to the
    /// host: operators whose result's shape depends on data (`aten::nonzero.out`), factorisations of matrices, special functions, bits seen as other types.
    /// `docs/kernels.md` says which of ExecuTorch's there are; [`Kernels::names`] has them all.
    #[must_use]
    pub fn standard() -> Self {
        let mut kernels = Self::none();
        kernels.register("aten::nonzero.out", 1, 1, nonzero);
        kernels.register("aten::masked_select.out", 2, 1, masked_select);
        kernels.register("aten::masked_scatter.out", 3, 1, masked_scatter);
        kernels.register(
            "aten::_adaptive_avg_pool2d.out",
            2,
            1,
            portable::adaptive_average,
        );
        // PyTorch's names for these do not end as its other ones do.
        kernels.insert("aten::max.dim_max", 3, 2, portable::largest);
        kernels.insert("aten::min.dim_min", 3, 2, portable::smallest);
        kernels.register("aten::_unique2.out", 4, 3, unique::sorted);
        kernels.register("aten::unique_consecutive.out", 4, 3, unique::runs);
        pointwise::register(&mut kernels);
        reductions::register(&mut kernels);
        movement::register(&mut kernels);
        making::register(&mut kernels);
        indexing::register(&mut kernels);
        products::register(&mut kernels);
        planes::register(&mut kernels);
        numbers::register(&mut kernels);
        complex::register(&mut kernels);
        views::register(&mut kernels);
        linalg::register(&mut kernels);
        bits::register(&mut kernels);
        gamma::register(&mut kernels);
        special::register(&mut kernels);
        kernels
    }

    /// Adds an operator, or replaces the one of this name.
    ///
    /// `name` is the kernel's in the file (`mylib::foo.out`, what `fuseline inspect` shows), or the operator's in PyTorch (`mylib::foo`, `mylib::foo.bar`, or
    /// `mylib.foo.default` as an export writes it).
    ///
    /// `run` gets the arguments of the call in order, `inputs` at most: a file made without the operator's schema leaves out arguments that
    /// stand at their defaults. It returns `outputs` results, tensors of the types that the model's export recorded. Numbers that are known only
    /// at run time come as tensors of one element ([`Value::as_int`] and [`Value::as_float`] read both), lists as [`Value::List`], what is absent as [`Value::None`],
    /// element types as ATen's numbers.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        inputs: usize,
        outputs: usize,
        run: impl Fn(&[Value]) -> Result<Vec<Value>, KernelError> + Send + Sync + 'static,
    ) {
        self.insert(in_file(&name.into()), inputs, outputs, run);
    }

    /// Adds an operator under the name that stands in files.
    fn insert(
        &mut self,
        name: impl Into<String>,
        inputs: usize,
        outputs: usize,
        run: impl Fn(&[Value]) -> Result<Vec<Value>, KernelError> + Send + Sync + 'static,
    ) {
        let run = Run::Host(Arc::new(run));
        self.add(name, inputs, outputs, run);
    }

    /// Adds an operator that gives a number, under the name that stands in files.
    fn number(
        &mut self,
        name: &str,
        inputs: usize,
        run: impl Fn(&[Value]) -> Result<Value, KernelError> + Send + Sync + 'static,
    ) {
        self.insert(name, inputs, 1, move |arguments| Ok(vec![run(arguments)?]));
    }

    /// Adds an operator that instructions carry out, under the name that stands in files.
    fn device(
        &mut self,
        name: impl Into<String>,
        inputs: usize,
        run: impl Fn(&mut Call<'_>) -> Made + Send + Sync + 'static,
    ) {
        self.devices(name, inputs, 1, move |call| Ok(vec![run(call)?]));
    }

    /// The same with several results, or with a list of them.
    fn devices(
        &mut self,
        name: impl Into<String>,
        inputs: usize,
        outputs: usize,
        run: impl Fn(&mut Call<'_>) -> Made<Vec<Tid>> + Send + Sync + 'static,
    ) {
        let run = Run::Instructions(Arc::new(run));
        self.add(name, inputs, outputs, run);
    }

    fn add(&mut self, name: impl Into<String>, inputs: usize, outputs: usize, run: Run) {
        let kernel = Kernel {
            inputs,
            outputs,
            run,
        };
        self.0.insert(name.into(), kernel);
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Kernel> {
        self.0.get(name)
    }
}

/// Whether a kernel writes to its first argument, as PyTorch's names say: `aten::copy_`.
pub(crate) fn in_place(name: &str) -> bool {
    name.ends_with('_') && !name.ends_with("__")
}

/// The name in a file of the operator of this name: see [`Kernels::register`].
fn in_file(name: &str) -> String {
    let named = match name.split_once("::") {
        Some(_) => name.to_owned(),
        None => name.replacen('.', "::", 1),
    };
    match named.rsplit_once('.') {
        None if in_place(&named) => named,
        None | Some((_, "")) => format!("{named}.out"),
        Some((operator, "default")) => format!("{operator}.out"),
        Some((_, overload)) if overload == "out" || overload.ends_with("_out") => named,
        Some(_) => format!("{named}_out"),
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Checks a result against the type that the file gives it.
pub(crate) fn check_result(
    position: usize,
    result: &Value,
    wanted: &TensorValue,
) -> Result<(), KernelError> {
    let bound = if wanted.dynamic { "at most " } else { "" };
    let (made, fits) = match result {
        Value::Tensor(tensor) => {
            let shape = tensor.shape();
            let sizes = shape.iter().zip(&wanted.sizes).all(|(made, most)| {
                let most = *most as usize;
                *made == most || (wanted.dynamic && *made < most)
            });
            let fits = tensor.dtype() == wanted.dtype && shape.len() == wanted.sizes.len() && sizes;
            (format!("{}{shape:?}", tensor.dtype()), fits)
        }
        other => (other.kind().to_owned(), false),
    };
    if fits {
        return Ok(());
    }
    Err(KernelError::Result {
        position,
        made,
        wanted: format!("{bound}{}{:?}", wanted.dtype, wanted.sizes),
    })
}

fn tensor(arguments: &[Value], position: usize) -> Result<&Tensor, KernelError> {
    let problem = match arguments.get(position) {
        Some(Value::Tensor(tensor)) => return Ok(tensor),
        Some(other) => format!("is {}, not a tensor", other.kind()),
        None => "is missing".to_owned(),
    };
    Err(KernelError::Argument { position, problem })
}

fn bad(position: usize, problem: impl Into<String>) -> KernelError {
    KernelError::Argument {
        position,
        problem: problem.into(),
    }
}

/// A shape with the steps, in elements, from one index to the next along each of its axes. Broadcast axes have step 0.
#[derive(Debug)]
struct Walk {
    shape: Vec<usize>,
    steps: Vec<usize>,
}

impl Walk {
    /// Walks `shape` as if it were broadcast to `target`, which the caller has checked.
    fn broadcast(shape: &[usize], target: &[usize]) -> Self {
        let mut steps = vec![0; target.len()];
        let mut step = 1;
        for (axis, length) in shape.iter().enumerate().rev() {
            if *length != 1 {
                steps[target.len() - shape.len() + axis] = step;
            }
            step *= length;
        }
        Self {
            shape: target.to_vec(),
            steps,
        }
    }

    /// Positions in row-major order, with the element that each stands for.
    fn offsets(&self) -> impl Iterator<Item = usize> {
        let total: usize = self.shape.iter().product();
        (0..total).map(|mut rest| {
            let mut offset = 0;
            for (length, step) in self.shape.iter().zip(&self.steps).rev() {
                offset += rest % length * step;
                rest /= length;
            }
            offset
        })
    }
}

/// The shape that both broadcast to: none if there is none, or if it has more elements than a host should walk.
fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .map_or(1, |axis| shape[axis])
    };
    let shape: Option<Vec<usize>> = (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect();
    shape.filter(|shape| is_affordable(shape))
}

fn mask_of(arguments: &[Value], position: usize) -> Result<(Vec<usize>, Vec<u8>), KernelError> {
    let mask = tensor(arguments, position)?;
    if mask.dtype() != ScalarType::Bool {
        return Err(bad(
            position,
            format!("has elements of type {}, not bool", mask.dtype()),
        ));
    }
    Ok((mask.shape(), mask.to_bytes()?))
}

/// Whether each element differs from zero.
fn truths(tensor: &Tensor) -> Result<Vec<bool>, KernelError> {
    let size = usize::try_from(tensor.dtype().size()).unwrap_or(1);
    let bytes = tensor.to_bytes()?;
    // A float is zero whatever its sign; the sign is the top bit of the last byte.
    let sign = match tensor.dtype() {
        ScalarType::F16 | ScalarType::BF16 | ScalarType::F32 | ScalarType::F64 => 0x80,
        ScalarType::C64 => return Err(bad(0, "has complex elements")),
        _ => 0,
    };
    let is_true = |element: &[u8]| match element {
        [rest @ .., last] => last & !sign != 0 || rest.iter().any(|byte| *byte != 0),
        [] => false,
    };
    Ok(bytes.chunks_exact(size).map(is_true).collect())
}

/// `nonzero(self)`: the positions of elements that are not zero, one row each.
fn nonzero(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    let shape = x.shape();
    let mut positions: Vec<i64> = Vec::new();
    let mut rows = 0;
    for (at, _) in truths(x)?
        .into_iter()
        .enumerate()
        .filter(|(_, is_true)| *is_true)
    {
        rows += 1;
        let start = positions.len();
        let mut rest = at;
        for length in shape.iter().rev() {
            positions.push((rest % length) as i64);
            rest /= length;
        }
        positions[start..].reverse();
    }
    Ok(vec![
        Tensor::from_slice(&[rows, shape.len()], &positions)?.into(),
    ])
}

/// `masked_select(self, mask)`: the elements where the mask is true, both broadcast, in one dimension.
fn masked_select(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    let (mask_shape, mask) = mask_of(arguments, 1)?;
    let shape = broadcast_shape(&x.shape(), &mask_shape).ok_or_else(|| {
        bad(
            1,
            format!("has a shape that does not broadcast with {:?}", x.shape()),
        )
    })?;
    let size = usize::try_from(x.dtype().size()).unwrap_or(1);
    let bytes = x.to_bytes()?;
    let mut chosen = Vec::new();
    let elements = Walk::broadcast(&x.shape(), &shape);
    let masks = Walk::broadcast(&mask_shape, &shape);
    for (element, flag) in elements.offsets().zip(masks.offsets()) {
        if mask[flag] != 0 {
            chosen.extend_from_slice(&bytes[element * size..][..size]);
        }
    }
    let count = chosen.len() / size;
    Ok(vec![
        Tensor::from_bytes(x.dtype(), &[count], &chosen)?.into(),
    ])
}

/// `masked_scatter(self, mask, source)`: `self` with the elements where the mask is true replaced by those of `source`, in order.
fn masked_scatter(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    let (mask_shape, mask) = mask_of(arguments, 1)?;
    let source = tensor(arguments, 2)?;
    if source.dtype() != x.dtype() {
        return Err(bad(
            2,
            format!("has elements of type {}, not {}", source.dtype(), x.dtype()),
        ));
    }
    let shape = broadcast_shape(&x.shape(), &mask_shape).ok_or_else(|| {
        bad(
            1,
            format!("has a shape that does not broadcast with {:?}", x.shape()),
        )
    })?;
    let size = usize::try_from(x.dtype().size()).unwrap_or(1);
    let (bytes, source) = (x.to_bytes()?, source.to_bytes()?);
    let mut replacements = source.chunks_exact(size);
    let mut result = Vec::with_capacity(shape.iter().product::<usize>() * size);
    let elements = Walk::broadcast(&x.shape(), &shape);
    let masks = Walk::broadcast(&mask_shape, &shape);
    for (element, flag) in elements.offsets().zip(masks.offsets()) {
        let own = &bytes[element * size..][..size];
        let element = if mask[flag] == 0 {
            own
        } else {
            replacements
                .next()
                .ok_or_else(|| bad(2, "has fewer elements than the mask selects"))?
        };
        result.extend_from_slice(element);
    }
    Ok(vec![Tensor::from_bytes(x.dtype(), &shape, &result)?.into()])
}
