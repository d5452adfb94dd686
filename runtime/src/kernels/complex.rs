//! Arithmetic that the partitioner leaves to the host because an operand is complex, and the Fourier transform that makes such operands.

use fuseline_program::ScalarType;

use super::portable::from_floats;
use super::{KernelError, Kernels, bad, tensor};
use crate::tensor::Tensor;
use crate::value::Value;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.register("aten::_conj_physical.out", 1, 1, conjugate);
    kernels.register("aten::_fft_r2c.out", 4, 1, transform);
}

/// A complex number in double precision.
#[derive(Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    const ZERO: Self = Self { re: 0.0, im: 0.0 };

    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }

    fn multiply(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }

    /// The root of unity `exp(-2πi · step / of)`.
    fn root(step: usize, of: usize) -> Self {
        let angle = -std::f64::consts::TAU * (step % of) as f64 / of as f64;
        let (im, re) = angle.sin_cos();
        Self { re, im }
    }

    fn scaled(self, factor: f64) -> Self {
        Self {
            re: self.re * factor,
            im: self.im * factor,
        }
    }
}

/// The elements; real ones have no imaginary part. Types beyond 53 bits are left out.
fn elements(arguments: &[Value], position: usize) -> Result<Vec<Complex>, KernelError> {
    let x = tensor(arguments, position)?;
    match x.dtype() {
        ScalarType::C64 => {
            let bytes = x.to_bytes()?;
            let (numbers, _) = bytes.as_chunks::<8>();
            let half = |bytes: [u8; 4]| f64::from(f32::from_le_bytes(bytes));
            let number = |[a, b, c, d, e, f, g, h]: &[u8; 8]| Complex {
                re: half([*a, *b, *c, *d]),
                im: half([*e, *f, *g, *h]),
            };
            Ok(numbers.iter().map(number).collect())
        }
        ScalarType::I64 | ScalarType::U64 => {
            Err(bad(position, format!("has elements of type {}", x.dtype())))
        }
        _ => Ok(x
            .to_floats()?
            .into_iter()
            .map(|re| Complex { re, im: 0.0 })
            .collect()),
    }
}

fn made(
    dtype: ScalarType,
    shape: &[usize],
    elements: &[Complex],
) -> Result<Vec<Value>, KernelError> {
    let tensor = match dtype {
        ScalarType::C64 => {
            let halves = elements.iter().flat_map(|x| [x.re as f32, x.im as f32]);
            let bytes: Vec<u8> = halves.flat_map(f32::to_le_bytes).collect();
            Tensor::from_bytes(dtype, shape, &bytes)?
        }
        real => {
            let numbers: Vec<f64> = elements.iter().map(|x| x.re).collect();
            from_floats(real, shape, &numbers)?
        }
    };
    Ok(vec![tensor.into()])
}

/// `_conj_physical(self)`: the imaginary parts negated.
fn conjugate(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    if x.dtype() != ScalarType::C64 {
        return Ok(vec![x.clone().into()]);
    }
    let mirrored = elements(arguments, 0)?.into_iter();
    let mirrored = mirrored.map(|x| Complex { im: -x.im, ..x });
    made(x.dtype(), &x.shape(), &mirrored.collect::<Vec<_>>())
}

/// `_fft_r2c(self, dim, normalization, onesided)`: the discrete Fourier transform of real elements along axes. Of the last of these only the first half is
/// kept if `onesided`, the rest being its mirror image. `normalization` is 0 for none, 1 to divide by the root of the number of elements, 2 by the number.
fn transform(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    if x.dtype() != ScalarType::F32 {
        return Err(bad(
            0,
            format!("has elements of type {}, not f32", x.dtype()),
        ));
    }
    let mut shape = x.shape();
    let Some(Value::List(axes)) = arguments.get(1) else {
        return Err(bad(1, "is not a list of axes"));
    };
    let rank = shape.len() as i64;
    let axis = |value: &Value| {
        let axis = value.as_int()?;
        let counted = if axis < 0 { axis + rank } else { axis };
        usize::try_from(counted).ok().filter(|_| counted < rank)
    };
    let axes = axes.iter().map(axis).collect::<Option<Vec<usize>>>();
    let axes = axes.ok_or_else(|| bad(1, format!("is no list of axes of {shape:?}")))?;
    let Some(last) = axes.last().copied() else {
        return Err(bad(1, "names no axis"));
    };
    if shape.contains(&0) {
        return Err(bad(0, "has no elements"));
    }
    let count: usize = axes.iter().map(|axis| shape[*axis]).product();
    let factor = match arguments.get(2).and_then(Value::as_int) {
        Some(0) => 1.0,
        Some(1) => 1.0 / (count as f64).sqrt(),
        Some(2) => 1.0 / count as f64,
        _ => return Err(bad(2, "is no normalization")),
    };
    let mut numbers = elements(arguments, 0)?;
    for axis in axes.iter().rev() {
        let (length, inner) = (shape[*axis], shape[axis + 1..].iter().product::<usize>());
        let half = *axis == last && matches!(arguments.get(3), Some(Value::Bool(true)));
        let kept = if half { length / 2 + 1 } else { length };
        let outer = numbers.len() / (length * inner);
        let mut transformed = vec![Complex::ZERO; outer * kept * inner];
        for row in 0..outer {
            for column in 0..inner {
                let line = (0..length).map(|at| numbers[(row * length + at) * inner + column]);
                let line = spectrum(&line.collect::<Vec<_>>());
                for (at, number) in line.into_iter().take(kept).enumerate() {
                    transformed[(row * kept + at) * inner + column] = number;
                }
            }
        }
        (numbers, shape[*axis]) = (transformed, kept);
    }
    let scaled: Vec<Complex> = numbers.into_iter().map(|x| x.scaled(factor)).collect();
    made(ScalarType::C64, &shape, &scaled)
}

/// The discrete Fourier transform: apart into as many parts as the smallest factor of the length says, and these put together.
fn spectrum(x: &[Complex]) -> Vec<Complex> {
    let length = x.len();
    let factor = (2..)
        .take_while(|n| n * n <= length)
        .find(|n| length.is_multiple_of(*n));
    let parts = factor.unwrap_or(length);
    if length <= 1 {
        return x.to_vec();
    }
    let part = |from: usize| {
        x.iter()
            .skip(from)
            .step_by(parts)
            .copied()
            .collect::<Vec<_>>()
    };
    let parts: Vec<Vec<Complex>> = (0..parts).map(|from| spectrum(&part(from))).collect();
    let one = |at: usize| {
        let terms = parts.iter().enumerate();
        let turned = terms
            .map(|(from, part)| part[at % part.len()].multiply(Complex::root(from * at, length)));
        turned.fold(Complex::ZERO, Complex::add)
    };
    (0..length).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_of_any_length_is_its_definition() {
        for length in [1, 2, 3, 4, 6, 7, 12, 30] {
            let number = |at: usize| Complex {
                re: (at * at) as f64 * 0.25 - 1.0,
                im: at as f64 * 0.5,
            };
            let x: Vec<Complex> = (0..length).map(number).collect();
            for (at, got) in spectrum(&x).into_iter().enumerate() {
                let terms = x.iter().enumerate();
                let wanted = terms.fold(Complex::ZERO, |sum, (n, x)| {
                    sum.add(x.multiply(Complex::root(n * at, length)))
                });
                let off = got.add(wanted.scaled(-1.0));
                assert!(
                    off.re.hypot(off.im) < 1e-9 * length as f64 * length as f64,
                    "{length}, {at}"
                );
            }
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_errors() {
        let f32s = |shape: &[usize]| {
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            Value::from(Tensor::from_bytes(ScalarType::F32, shape, &bytes).unwrap())
        };
        let axes = |axes: &[i64]| Value::List(axes.iter().copied().map(Value::Int).collect());
        for wrong in [
            vec![f32s(&[2, 3]), axes(&[2]), Value::Int(0), Value::Bool(true)],
            vec![f32s(&[2, 3]), axes(&[]), Value::Int(0), Value::Bool(true)],
            vec![f32s(&[2, 0]), axes(&[0]), Value::Int(0), Value::Bool(true)],
            vec![f32s(&[2, 3]), axes(&[1]), Value::Int(3), Value::Bool(true)],
        ] {
            assert!(transform(&wrong).is_err());
        }
    }
}
