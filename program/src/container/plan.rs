//! Memory planning: where the tensors of a method lie in its arena.

use super::{Call, Method, Storage, UNBOUNDED, Value, ValueIdx};
use crate::error::{Fault, FormatError};

/// Every planned tensor begins at a multiple of this many bytes, and the arena ends at one.
const ALIGN: u64 = 16;
/// The arena that everything goes to. Number 0 is reserved.
const ARENA: u32 = 1;

/// When a tensor must keep its bytes: from one call to another, both included.
#[derive(Debug, Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

impl Method<'_> {
    /// Gives every tensor that is not a constant, and has upper bounds, a place in arena 1, at the upper bounds of its shape. Inputs and outputs
    /// keep theirs through the whole method; other tensors share memory where their lives, from the first call that
    /// names them to the last one, do not meet.
    ///
    /// # Errors
    /// A call names a value that does not exist.
    pub fn plan_memory(&mut self) -> Result<(), FormatError> {
        let lives = self.lives()?;
        let mut placed: Vec<(u64, u64, Life)> = Vec::new();
        let mut arena = 0;
        // What is kept from call to call shares its memory with nothing.
        let whole = Life {
            first: 0,
            last: self.chains.iter().map(Vec::len).sum(),
        };
        for (value, life) in self.values.iter_mut().zip(lives) {
            let Value::Tensor(tensor) = value else {
                continue;
            };
            let initial = match tensor.storage {
                Storage::Constant(_) => continue,
                Storage::Planned { initial, .. } => initial,
                Storage::Caller => None,
            };
            if tensor.sizes.contains(&UNBOUNDED) {
                continue;
            }
            let life = if initial.is_some() { whole } else { life };
            let size = tensor
                .max_bytes()
                .and_then(|bytes| bytes.checked_next_multiple_of(ALIGN));
            let offset = size.map_or(0, |size| first_fit(&placed, size, life));
            let end = size
                .and_then(|size| offset.checked_add(size))
                .filter(|end| i64::try_from(*end).is_ok());
            let (Some(size), Some(end)) = (size, end) else {
                // At its upper bounds it is larger than any memory: whoever calls the method finds room for what it is.
                continue;
            };
            arena = arena.max(end);
            tensor.storage = Storage::Planned {
                arena: ARENA,
                offset,
                initial,
            };
            let insert = placed.partition_point(|(start, ..)| *start <= offset);
            placed.insert(insert, (offset, size, life));
        }
        self.arenas = vec![0, arena];
        Ok(())
    }

    /// The life of each value.
    fn lives(&self) -> Result<Vec<Life>, FormatError> {
        let calls: Vec<&Call> = self.chains.iter().flatten().collect();
        let whole = Life {
            first: 0,
            last: calls.len(),
        };
        // With a jump, the order of the calls is not the order of the list.
        if calls
            .iter()
            .any(|call| matches!(call, Call::JumpFalse { .. }))
        {
            return Ok(vec![whole; self.values.len()]);
        }
        let mut lives: Vec<Option<Life>> = vec![None; self.values.len()];
        for (at, call) in calls.iter().enumerate() {
            for value in call.values() {
                for tensor in self.tensors_of(value)? {
                    let life = lives
                        .get_mut(tensor as usize)
                        .ok_or_else(|| self.no_value(tensor))?;
                    let first = life.map_or(at, |life| life.first);
                    *life = Some(Life { first, last: at });
                }
            }
        }
        for value in self.inputs.iter().chain(&self.outputs) {
            for tensor in self.tensors_of(*value)? {
                *lives
                    .get_mut(tensor as usize)
                    .ok_or_else(|| self.no_value(tensor))? = Some(whole);
            }
        }
        Ok(lives
            .into_iter()
            .map(|life| life.unwrap_or(whole))
            .collect())
    }

    /// The value itself and, if it is a list, what is in it.
    fn tensors_of(&self, value: ValueIdx) -> Result<Vec<ValueIdx>, Fault> {
        let mut found = vec![value];
        match self
            .values
            .get(value as usize)
            .ok_or_else(|| self.no_value(value))?
        {
            Value::TensorList(items) => found.extend(items),
            Value::OptionalTensorList(items) => found.extend(items.iter().flatten()),
            _ => {}
        }
        Ok(found)
    }

    fn no_value(&self, value: ValueIdx) -> Fault {
        Fault::Index {
            what: "value",
            index: i64::from(value),
            count: self.values.len() as u64,
        }
    }
}

impl Call {
    /// The values that the call names.
    #[must_use]
    pub fn values(&self) -> Vec<ValueIdx> {
        match self {
            Self::Kernel { args, .. } | Self::Delegate { args, .. } => args.clone(),
            Self::Move { from, to } => vec![*from, *to],
            Self::JumpFalse { condition, .. } => vec![*condition],
            Self::Free { value } => vec![*value],
        }
    }
}

/// The lowest place of `size` bytes that no tensor of a life that meets this one has. `placed` is sorted by place.
fn first_fit(placed: &[(u64, u64, Life)], size: u64, life: Life) -> u64 {
    let mut offset: u64 = 0;
    for (start, taken, other) in placed {
        if other.first > life.last || other.last < life.first {
            continue;
        }
        if offset.saturating_add(size) <= *start {
            break;
        }
        offset = offset.max(start + taken);
    }
    offset
}
