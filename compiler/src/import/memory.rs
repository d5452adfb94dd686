//! Tensors as PyTorch has them: views of storages that operators may write to.
//!
//! The exported graph's tensors are references: `select`, `transpose`, a `to` that has nothing to convert, … return views, and an in-place operator
//! changes every view of the same storage. The IR has values only. In between, each tensor is recorded as a chain of IR movement ops from its
//! storage, and each storage has a newest value and a version:
//!
//! - Reading a tensor gives its cached value if that is of the storage's version, and otherwise applies its chain to the newest value again.
//! - Writing a tensor takes the written value back through the inverse of each link (a `slice` becomes a `slice_update`, movement its inverse), and
//!   the storage gets the result as its newest value, under a new version.
//!
//! So every alias sees every write before it in program order, and nothing is copied or recomputed where nothing was written.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Dim, Op, TensorType, Value};

use super::build::Builder;
use super::error::{Fail, Result, unsupported};

/// A tensor of the exported graph: a storage, or a view of another tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TensorId(usize);

/// A storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StorageId(usize);

#[derive(Debug)]
struct Tensor {
    storage: StorageId,
    /// The tensor that this is a view of, and the op that makes it; `None` for the whole storage.
    view: Option<(TensorId, Op)>,
    /// The value, and the storage's version that it was read at.
    cached: Option<(Value, u32)>,
}

#[derive(Debug)]
struct Storage {
    /// The tensor that is the whole of it.
    root: TensorId,
    /// The newest value of the whole; `None` until someone needs it.
    value: Option<Value>,
    /// Number of writes so far.
    version: u32,
    /// Set where PyTorch has a view of another storage, of which only the value at that storage's version is known here.
    snapshot_of: Option<(StorageId, u32)>,
}

/// All tensors and storages of an import.
#[derive(Debug, Default)]
pub(super) struct Memory {
    tensors: Vec<Tensor>,
    storages: Vec<Storage>,
}

/// Makes a storage's first value when it is first needed.
pub(super) trait Sources {
    /// The value of `storage` at the entry of the program.
    fn first(&mut self, storage: StorageId, build: &mut Builder) -> Result<Value>;
}

impl Memory {
    /// A tensor with a storage of its own. Without a value, [`Sources`] is asked for one when it is first read.
    pub fn root(&mut self, value: Option<Value>) -> TensorId {
        let storage = StorageId(self.storages.len());
        let root = TensorId(self.tensors.len());
        self.storages.push(Storage {
            root,
            value,
            version: 0,
            snapshot_of: None,
        });
        self.tensors.push(Tensor {
            storage,
            view: None,
            cached: value.map(|value| (value, 0)),
        });
        root
    }

    /// A view that can't be expressed as a chain of movement ops: its value, good as long as nobody writes to it or to what it views.
    pub fn snapshot(&mut self, value: Value, of: TensorId) -> TensorId {
        let base = self.storage(of);
        let record = &self.storages[base.0];
        let seen = record.snapshot_of.unwrap_or((base, record.version));
        let tensor = self.root(Some(value));
        let storage = self.storage(tensor);
        self.storages[storage.0].snapshot_of = Some(seen);
        tensor
    }

    /// The storage that a tensor views.
    pub fn storage(&self, tensor: TensorId) -> StorageId {
        self.tensors[tensor.0].storage
    }

    /// The tensor that is the whole of a storage.
    pub fn root_of(&self, storage: StorageId) -> TensorId {
        self.storages[storage.0].root
    }

    /// How often a storage was written to.
    pub fn writes(&self, storage: StorageId) -> u32 {
        self.storages[storage.0].version
    }

    /// The view that `op`, a movement op of one argument, makes of a tensor.
    pub fn view(&mut self, of: TensorId, op: impl Into<Op>) -> TensorId {
        let storage = self.storage(of);
        self.tensors.push(Tensor {
            storage,
            view: Some((of, op.into())),
            cached: None,
        });
        TensorId(self.tensors.len() - 1)
    }

    /// The value of a tensor now.
    pub fn read(
        &mut self,
        tensor: TensorId,
        build: &mut Builder,
        sources: &mut impl Sources,
    ) -> Result<Value> {
        // Up to the first fresh tensor, then down again.
        let storage = self.storage(tensor);
        if let Some((base, seen)) = self.storages[storage.0].snapshot_of
            && self.storages[base.0].version != seen
        {
            return unsupported(
                "reading a view by index (such as `unfold`) after a write to what it views",
            );
        }
        let version = self.storages[storage.0].version;
        let mut stale = Vec::new();
        let mut at = tensor;
        let mut value = loop {
            let record = &self.tensors[at.0];
            match (&record.cached, &record.view) {
                (Some((value, cached)), _) if *cached == version => break *value,
                (_, Some((of, _))) => {
                    stale.push(at);
                    at = *of;
                }
                (_, None) => {
                    let value = match self.storages[storage.0].value {
                        Some(value) => value,
                        None => sources.first(storage, build)?,
                    };
                    self.storages[storage.0].value = Some(value);
                    self.tensors[at.0].cached = Some((value, version));
                    break value;
                }
            }
        };
        for at in stale.into_iter().rev() {
            if let Some((_, op)) = &self.tensors[at.0].view {
                value = build.add(op.clone(), &[value])?;
            }
            self.tensors[at.0].cached = Some((value, version));
        }
        Ok(value)
    }

    /// Overwrites a tensor with `value`, which has its shape and dtype. Every alias sees it from now on.
    pub fn write(
        &mut self,
        tensor: TensorId,
        value: Value,
        build: &mut Builder,
        sources: &mut impl Sources,
    ) -> Result<()> {
        let storage = self.storage(tensor);
        if self.storages[storage.0].snapshot_of.is_some() {
            return unsupported("writing through a view by index (such as `unfold`)");
        }
        let version = self.storages[storage.0].version + 1;
        let mut fresh = vec![(tensor, value)];
        let (mut at, mut value) = (tensor, value);
        while let Some((of, op)) = self.tensors[at.0].view.clone() {
            let whole = self.read(of, build, sources)?;
            value = write_back(&op, whole, value, build)?;
            fresh.push((of, value));
            at = of;
        }
        for (tensor, value) in fresh {
            self.tensors[tensor.0].cached = Some((value, version));
        }
        let record = &mut self.storages[storage.0];
        record.value = Some(value);
        record.version = version;
        Ok(())
    }
}

/// `whole` with the part that `op` views replaced by `part`.
fn write_back(op: &Op, whole: Value, part: Value, build: &mut Builder) -> Result<Value> {
    let TensorType { shape, .. } = build.ty(whole)?.clone();
    match op {
        Op::Reshape(_) => build.reshape(part, shape),
        Op::Transpose(op::Transpose { perm }) => {
            let mut inverse = vec![0; perm.len()];
            for (to, &from) in perm.iter().enumerate() {
                if let Some(at) = inverse.get_mut(from) {
                    *at = to;
                }
            }
            build.transpose(part, inverse)
        }
        Op::Slice(op::Slice {
            axis, start, step, ..
        }) => {
            let covers_all = start.is(0) && *step == 1 && build.ty(part)?.shape == shape;
            if covers_all {
                return Ok(part);
            }
            build.add(
                op::SliceUpdate {
                    axis: *axis,
                    start: start.clone(),
                    step: *step,
                },
                &[whole, part],
            )
        }
        Op::Broadcast(_) if is_padded_with_ones(&build.ty(part)?.shape, &shape) => {
            build.reshape(part, shape)
        }
        Op::Broadcast(_) => {
            unsupported("writing to a broadcast (expanded) tensor, whose elements share memory")
        }
        other => Err(Fail::Bug(format!("a write through a view by `{other}`"))),
    }
}

/// A broadcast that only adds leading axes of size 1 repeats nothing.
fn is_padded_with_ones(wide: &[Dim], narrow: &[Dim]) -> bool {
    wide.len()
        .checked_sub(narrow.len())
        .and_then(|lead| wide.split_at_checked(lead))
        .is_some_and(|(lead, rest)| rest == narrow && lead.iter().all(|size| size.is(1)))
}
