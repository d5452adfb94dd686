//! Weights: descriptions in JSON, payloads in the mapping.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;

use super::container::{Container, MappedBytes};
use super::error::{Error, Result};
use super::exported::{ScalarType, SymInt, TensorMeta};
use super::pickled::{self, Pickled, Quantised};

/// A parameter, buffer or constant whose bytes lie in the mapped archive.
///
/// Several names can share one payload (tied weights, views of one tensor); then their [`entry`](Self::entry) is equal.
#[derive(Debug, Clone)]
pub struct WeightRef {
    /// Fully qualified name.
    pub fqn: String,
    /// Element type.
    pub dtype: ScalarType,
    /// Extent of each dimension.
    pub sizes: Vec<usize>,
    /// Distance between neighbours in each dimension, in elements of the storage.
    pub strides: Vec<usize>,
    /// Position of the first element, in elements of the storage.
    pub storage_offset: usize,
    /// Name of the entry that holds the storage.
    pub entry: String,
    /// The whole storage; it can be larger than the tensor.
    pub storage: MappedBytes,
}

impl WeightRef {
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.sizes.iter().zip(&self.strides).rev() {
            if size == 0 {
                return true;
            }
            if size != 1 && stride != expected {
                return false;
            }
            expected *= size;
        }
        true
    }

    /// The tensor as a slice of the mapping, if it is contiguous.
    pub fn mapped(&self) -> Option<MappedBytes> {
        let start = self.storage_offset * self.dtype.size();
        if self.numel() == 0 {
            return self.storage.slice(0..0);
        }
        if !self.is_contiguous() {
            return None;
        }
        self.storage
            .slice(start..start + self.numel() * self.dtype.size())
    }

    /// The elements in row-major order, where they lie so.
    pub fn stored(&self) -> Option<&[u8]> {
        if self.numel() == 0 {
            return Some(&[]);
        }
        let width = self.dtype.size();
        let start = self.storage_offset * width;
        let range = start..start + self.numel() * width;
        self.storage.get(range).filter(|_| self.is_contiguous())
    }

    /// The elements in row-major order: borrowed where they lie so, gathered where they don't.
    pub fn contiguous_bytes(&self) -> Cow<'_, [u8]> {
        let len = self.numel() * self.dtype.size();
        self.range(0..len).unwrap_or_default()
    }

    /// Those bytes of the elements in row-major order that lie in `range`: borrowed or gathered.
    ///
    /// # Errors
    /// A range that reaches past the end.
    pub fn range(&self, range: Range<usize>) -> std::result::Result<Cow<'_, [u8]>, String> {
        let width = self.dtype.size();
        let len = self.numel() * width;
        if range.start > range.end || range.end > len {
            return Err(format!(
                "bytes {}..{} of the {len} of `{}`",
                range.start, range.end, self.fqn
            ));
        }
        if let Some(all) = self.stored() {
            // Bounds were checked when the archive was opened.
            return Ok(Cow::Borrowed(all.get(range).unwrap_or_default()));
        }
        let (first, last) = (range.start / width, range.end.div_ceil(width));
        let mut index = self.index_of(first);
        let mut out = Vec::with_capacity((last - first) * width);
        for _ in first..last {
            let at: usize = index
                .iter()
                .zip(&self.strides)
                .map(|(i, stride)| i * stride)
                .sum();
            let at = (self.storage_offset + at) * width;
            out.extend_from_slice(self.storage.get(at..at + width).unwrap_or_default());
            for (i, size) in index.iter_mut().zip(&self.sizes).rev() {
                *i += 1;
                if *i < *size {
                    break;
                }
                *i = 0;
            }
        }
        let skipped = range.start - first * width;
        out.truncate(skipped + range.len());
        out.drain(..skipped);
        Ok(Cow::Owned(out))
    }

    /// Where the element with that number in row-major order is, along each dimension.
    fn index_of(&self, mut element: usize) -> Vec<usize> {
        let mut index = vec![0; self.sizes.len()];
        for (i, &size) in index.iter_mut().zip(&self.sizes).rev() {
            if size > 0 {
                (*i, element) = (element % size, element / size);
            }
        }
        index
    }
}

/// The weights of one configuration entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Weights {
    /// Those that are plain bytes.
    pub mapped: BTreeMap<String, WeightRef>,
    /// Those that are pickled tensor subclasses.
    pub quantised: BTreeMap<String, Quantised>,
    /// Those that are pickled and not read, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// `model_weights_config.json` and `model_constants_config.json`.
#[derive(Deserialize)]
struct Config {
    config: BTreeMap<String, Payload>,
}

#[derive(Deserialize)]
struct Payload {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Option<TensorMeta>,
}

impl Weights {
    /// Reads the configuration entry `config`, whose payloads lie in `folder`.
    pub(super) fn read(container: &Container, folder: &str, config: &str) -> Result<Self> {
        let json = container.checked(config, "it lists the weights and their shapes")?;
        let parsed: Config = super::json::parse(config, &json)?;
        let mut weights = Self::default();
        for (fqn, payload) in parsed.config {
            let entry = format!("{folder}{}", payload.path_name);
            let fail = |reason: String| Error::Weight {
                fqn: fqn.clone(),
                entry: entry.clone(),
                reason,
            };
            let storage = container
                .get(&entry)
                .ok_or_else(|| fail("the archive has no such entry".to_owned()))?;
            let Some(meta) = payload.tensor_meta.filter(|_| !payload.use_pickle) else {
                match pickled::read(&fqn, &entry, &storage) {
                    Ok(Pickled::Plain(weight)) => {
                        weights.mapped.insert(fqn, weight);
                    }
                    Ok(Pickled::Quantised(object)) => {
                        weights.quantised.insert(fqn, object);
                    }
                    Err(reason) => {
                        weights.unreadable.insert(fqn, reason);
                    }
                }
                continue;
            };
            let weight = WeightRef {
                dtype: meta.dtype,
                sizes: known(&meta.sizes)
                    .ok_or_else(|| fail("its sizes are not plain numbers".to_owned()))?,
                strides: known(&meta.strides)
                    .ok_or_else(|| fail("its strides are not plain numbers".to_owned()))?,
                storage_offset: known(std::slice::from_ref(&meta.storage_offset))
                    .and_then(|offset| offset.first().copied())
                    .ok_or_else(|| fail("its storage offset is not a plain number".to_owned()))?,
                fqn: fqn.clone(),
                entry: entry.clone(),
                storage,
            };
            check_bounds(&weight).map_err(fail)?;
            weights.mapped.insert(fqn, weight);
        }
        Ok(weights)
    }
}

/// Payloads have no symbols: all sizes are non-negative numbers.
fn known(values: &[SymInt]) -> Option<Vec<usize>> {
    values
        .iter()
        .map(|value| match value {
            SymInt::Int(n) => usize::try_from(*n).ok(),
            SymInt::Expr(_) => None,
        })
        .collect()
}

/// Every element must lie inside the storage, computed without overflow.
pub(super) fn check_bounds(weight: &WeightRef) -> Result<(), String> {
    const TOO_LARGE: &str = "its shape is too large to address";
    let width = weight.dtype.size();
    if weight.sizes.len() != weight.strides.len() {
        return Err(format!(
            "it has {} sizes but {} strides",
            weight.sizes.len(),
            weight.strides.len()
        ));
    }
    let bytes = weight
        .sizes
        .iter()
        .try_fold(width, |acc, &size| acc.checked_mul(size))
        .ok_or(TOO_LARGE)?;
    if bytes == 0 {
        return Ok(());
    }
    let last = weight
        .sizes
        .iter()
        .zip(&weight.strides)
        .try_fold(weight.storage_offset, |acc, (&size, &stride)| {
            acc.checked_add(stride.checked_mul(size - 1)?)
        })
        .ok_or(TOO_LARGE)?;
    let needed = last
        .checked_add(1)
        .and_then(|n| n.checked_mul(width))
        .ok_or(TOO_LARGE)?;
    let len = weight.storage.len();
    if needed > len {
        let WeightRef {
            dtype,
            sizes,
            strides,
            storage_offset,
            ..
        } = weight;
        return Err(format!(
            "{dtype:?} of sizes {sizes:?}, strides {strides:?} and offset {storage_offset} needs {needed} bytes, but the entry has {len}"
        ));
    }
    // A stride of 0 lets a small storage describe a huge tensor. Real exports write whole storages.
    if bytes / 64 > len {
        return Err(format!(
            "its sizes {:?} describe {bytes} bytes in a storage of {len}",
            weight.sizes
        ));
    }
    Ok(())
}
