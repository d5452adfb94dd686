//! A program as a language model: tokens and positions in, logits out.

use fuseline_runtime::{Dim, InputKind, Program, ScalarType, Session, Tensor, Value};

use crate::failure::Failure;

/// A session of a method that takes token ids `[1, length]` and their positions `[length]`, and gives logits.
pub struct Decoder {
    session: Session,
    method: String,
    /// The place of the ids among the inputs, and of the positions.
    ids: usize,
    positions: usize,
    /// The most tokens of one call, if there is a bound.
    longest: Option<u32>,
}

impl Decoder {
    /// Starts a session.
    pub fn new(program: &Program, method: &str) -> Result<Self, Failure> {
        let inputs = program.inputs(method)?;
        let find = |rank: usize| {
            inputs.iter().position(|input| match &input.kind {
                InputKind::Tensor {
                    dtype: ScalarType::I64,
                    shape,
                } => shape.len() == rank,
                _ => false,
            })
        };
        match (inputs.len(), find(2), find(1)) {
            (2, Some(ids), Some(positions)) => {
                let longest = match &inputs[ids].kind {
                    InputKind::Tensor { shape, .. } => {
                        shape.last().and_then(|dim| Dim::upper(*dim))
                    }
                    _ => None,
                };
                let session = program.session()?;
                Ok(Self {
                    session,
                    method: method.to_owned(),
                    ids,
                    positions,
                    longest,
                })
            }
            _ => Err(Failure::unsupported(format!(
                "`{method}` is no decoder with a cache: it should take token ids i64[1, length] and positions i64[length]"
            ))),
        }
    }

    /// The most tokens that one call takes, if there is a bound.
    pub fn longest(&self) -> Option<usize> {
        self.longest.map(|length| length as usize)
    }

    /// Feeds tokens that begin at a position; gives the logits, which may be on their way.
    pub fn feed(&mut self, tokens: &[i64], start: usize) -> Result<Tensor, Failure> {
        let positions: Vec<i64> = (start..start + tokens.len()).map(|at| at as i64).collect();
        let ids = Tensor::from_slice(&[1, tokens.len()], tokens)?;
        let positions = Tensor::from_slice(&[positions.len()], &positions)?;
        let mut inputs = [Value::None, Value::None];
        inputs[self.ids] = ids.into();
        inputs[self.positions] = positions.into();
        let outputs = self.session.run(&self.method, &inputs)?;
        match outputs.into_iter().next() {
            Some(Value::Tensor(logits)) => Ok(logits),
            _ => Err(Failure::unsupported(format!(
                "`{}` gives no logits",
                self.method
            ))),
        }
    }

    /// Forgets everything that was fed.
    pub fn reset(&mut self) {
        self.session.reset();
    }
}

/// The elements of a float tensor.
pub fn floats(tensor: &Tensor) -> Result<Vec<f32>, Failure> {
    Ok(match tensor.dtype() {
        ScalarType::F32 => tensor.to_vec()?,
        ScalarType::F16 => tensor
            .to_vec()?
            .into_iter()
            .map(half::f16::to_f32)
            .collect(),
        ScalarType::BF16 => tensor
            .to_vec()?
            .into_iter()
            .map(half::bf16::to_f32)
            .collect(),
        other => return Err(Failure::unsupported(format!("logits of type {other}"))),
    })
}

/// The token with the largest logit at the last position; the first of equals.
pub fn most_likely(logits: &Tensor) -> Result<i64, Failure> {
    let vocabulary = logits.shape().last().copied().unwrap_or(0);
    let all = floats(logits)?;
    let last = &all[all.len().saturating_sub(vocabulary)..];
    let mut best = 0;
    for (token, logit) in last.iter().enumerate() {
        if *logit > last[best] {
            best = token;
        }
    }
    Ok(best as i64)
}
