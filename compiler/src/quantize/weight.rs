//! One weight in few bits, made block by block when somebody asks for some of its bytes. Nothing of it is kept but how well it fits.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fuseline_ir::DType;
use fuseline_ir::graph::Payload;
use fuseline_ir::ops::quant::Mode;

use super::block::{self, Made, Sums};
use super::scheme::Scheme;

/// Elements that are made at once, and whose differences are summed together: a multiple of every group.
const BLOCK: usize = 1 << 16;

/// A weight and the form that it gets.
pub(super) struct Weight {
    /// The weight's own elements, rows of groups.
    pub data: Arc<dyn Payload>,
    /// Their dtype; the scales' and biases' too.
    pub dtype: DType,
    /// How many there are: whole groups.
    pub elements: usize,
    pub scheme: Scheme,
    /// Whether scales are searched for, beyond MLX's.
    pub search: bool,
    /// Where the lists may be kept that are made before they are asked for.
    room: Arc<Room>,
    blocks: Vec<Block>,
}

/// What is known of a block, beside its own elements.
#[derive(Default)]
struct Block {
    sums: OnceLock<Sums>,
    /// Scales and biases.
    beside: Mutex<[Beside; 2]>,
}

/// A list that is made along with another one.
#[derive(Default)]
enum Beside {
    #[default]
    Unknown,
    /// Nobody has asked for it yet.
    Kept(Vec<u8>),
    /// Somebody has; mostly nobody will again.
    Given,
}

/// Bytes that all weights together may keep: scales and biases are written after the elements of their weight, so this is enough for those of a weight of 2^30 elements. What
/// doesn't fit is made again when it is asked for.
const ROOM: usize = 64 << 20;

/// How much of [`ROOM`] is taken.
#[derive(Default)]
pub(super) struct Room(AtomicUsize);

impl Room {
    /// Takes so many bytes, if there are.
    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= ROOM);
        self.0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Relaxed);
    }
}

/// The lists of numbers that a quantised weight consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Codes,
    Scales,
    Biases,
}

impl Weight {
    pub fn new(
        data: Arc<dyn Payload>,
        dtype: DType,
        elements: usize,
        scheme: Scheme,
        search: bool,
        room: Arc<Room>,
    ) -> Weight {
        let mut blocks = Vec::new();
        blocks.resize_with(elements.div_ceil(BLOCK), Block::default);
        Weight {
            data,
            dtype,
            elements,
            scheme,
            search,
            room,
            blocks,
        }
    }

    /// Bytes of a list for so many elements.
    pub fn bytes(&self, list: List, elements: usize) -> usize {
        let each = if self.scheme.mode == Mode::Affine {
            self.dtype.size()
        } else {
            1
        };
        match list {
            List::Codes => elements / 8 * self.scheme.bits,
            List::Scales | List::Biases => elements / self.scheme.group * each,
        }
    }

    /// How the whole weight differs. Where no block of it was made yet, it is made for this.
    ///
    /// # Errors
    /// The weight's bytes can't be had.
    pub fn sums(&self) -> Result<Sums, String> {
        let mut all = Sums::default();
        for (at, block) in self.blocks.iter().enumerate() {
            if block.sums.get().is_none() {
                self.block(at, List::Codes, &mut Vec::new())?;
            }
            all.add(block.sums.get().unwrap_or(&Sums::default()));
        }
        Ok(all)
    }

    /// Appends a list's bytes for a block. The other lists that come with it are kept, as far as there is room.
    fn block(&self, at: usize, list: List, out: &mut Vec<u8>) -> Result<(), String> {
        let known = (self.blocks.get(at)).ok_or("bytes past the end of a quantised weight")?;
        if let Some(kept) = self.kept(known, list) {
            out.extend_from_slice(&kept);
            return Ok(());
        }
        let width = self.dtype.size();
        let range = at * BLOCK..((at + 1) * BLOCK).min(self.elements);
        let bytes = self.data.range(range.start * width..range.end * width)?;
        let mut made = Made {
            codes: (list == List::Codes).then(|| std::mem::take(out)),
            ..Made::default()
        };
        let how = (self.scheme, self.search);
        let sums = match self.dtype {
            DType::BF16 => block::make::<half::bf16>(how, &bytes, &mut made),
            DType::F16 => block::make::<half::f16>(how, &bytes, &mut made),
            DType::F32 => block::make::<f32>(how, &bytes, &mut made),
            other => return Err(format!("{other} is not a dtype that is quantised")),
        };
        let Made {
            codes,
            scales,
            biases,
        } = made;
        match (list, codes) {
            (List::Codes, Some(codes)) => {
                *out = codes;
                // What is there already is the same.
                known.sums.get_or_init(|| sums);
                self.keep(known, [scales, biases]);
            }
            (List::Biases, _) => out.extend_from_slice(&biases),
            _ => {
                out.extend_from_slice(&scales);
                self.keep(known, [Vec::new(), biases]);
            }
        }
        Ok(())
    }

    /// A list of a block that was made before; it is given away.
    fn kept(&self, block: &Block, list: List) -> Option<Vec<u8>> {
        let mut beside = block.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = match list {
            List::Codes => return None,
            List::Scales => &mut beside[0],
            List::Biases => &mut beside[1],
        };
        let Beside::Kept(given) = std::mem::replace(asked, Beside::Given) else {
            return None;
        };
        self.room.give(given.len());
        Some(given)
    }

    /// Keeps scales and biases, those that are not empty, that nobody knows yet, and that there is room for.
    fn keep(&self, block: &Block, lists: [Vec<u8>; 2]) {
        let mut beside = block.beside.lock().unwrap_or_else(PoisonError::into_inner);
        for (beside, mut list) in beside.iter_mut().zip(lists) {
            let unknown = matches!(beside, Beside::Unknown);
            if unknown && !list.is_empty() && self.room.take(list.len()) {
                list.shrink_to_fit();
                *beside = Beside::Kept(list);
            }
        }
    }
}

/// A list of a quantised weight, as a constant.
pub(super) struct Part {
    pub weight: Arc<Weight>,
    pub list: List,
}

impl Payload for Part {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        self.range(0..self.weight.bytes(self.list, self.weight.elements))
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let unit = self.weight.bytes(self.list, BLOCK);
        let (first, last) = (range.start / unit, range.end.div_ceil(unit));
        let mut out = Vec::with_capacity((last - first) * unit);
        for block in first..last {
            self.weight.block(block, self.list, &mut out)?;
        }
        let skipped = range.start - first * unit;
        if out.len() < skipped + range.len() {
            return Err("bytes past the end of a quantised weight".to_owned());
        }
        out.truncate(skipped + range.len());
        out.drain(..skipped);
        Ok(Cow::Owned(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(elements: usize, scheme: &str, search: bool) -> Arc<Weight> {
        let bytes: Vec<u8> = (0..elements)
            .flat_map(|i| half::bf16::from_f32(((i * 7919) as f32).sin()).to_le_bytes())
            .collect();
        let scheme = scheme.parse().unwrap();
        Arc::new(Weight::new(
            Arc::new(bytes),
            DType::BF16,
            elements,
            scheme,
            search,
            Arc::default(),
        ))
    }

    #[test]
    fn any_range_is_a_slice_of_all() {
        for scheme in ["affine3g32", "affine6g128", "affine8g64", "mxfp8", "nvfp4"] {
            let weight = weight(2 * BLOCK + 1280, scheme, false);
            for list in [List::Codes, List::Scales] {
                let part = Part {
                    weight: Arc::clone(&weight),
                    list,
                };
                let all = part.bytes().unwrap();
                assert_eq!(all.len(), weight.bytes(list, weight.elements));
                for (from, to) in [
                    (0, 1),
                    (5, 77),
                    (1, all.len()),
                    (all.len() / 2, all.len() - 3),
                ] {
                    assert_eq!(part.range(from..to).unwrap(), &all[from..to]);
                }
            }
        }
    }

    #[test]
    fn what_is_kept_is_given_away_once() {
        let weight = weight(2 * BLOCK + 64, "affine4g64", false);
        let taken = || weight.room.0.load(Relaxed);
        let all = |list| {
            let weight = Arc::clone(&weight);
            Part { weight, list }.bytes().unwrap().into_owned()
        };
        let codes = all(List::Codes);
        let scales = weight.bytes(List::Scales, weight.elements);
        assert_eq!(taken(), 2 * scales);
        let biases = all(List::Biases);
        assert_eq!(taken(), scales);
        let scales = all(List::Scales);
        assert_eq!(taken(), 0);
        // What was given once is made again when it is asked for again.
        assert_eq!((all(List::Codes), taken()), (codes, 0));
        assert_eq!((all(List::Scales), all(List::Biases)), (scales, biases));
        assert_eq!(taken(), 0);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let room = Room::default();
        assert!(room.take(ROOM) && !room.take(1));
        room.give(2);
        assert!(room.take(1) && !room.take(2));
    }

    #[test]
    fn more_bits_and_a_search_fit_better() {
        let error = |scheme: &str, search: bool| weight(BLOCK, scheme, search).sums().unwrap();
        let errors =
            ["affine2g64", "affine3g64", "affine4g64", "affine8g64"].map(|s| error(s, false).error);
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        for scheme in ["affine2g64", "affine4g32", "nvfp4", "mxfp4"] {
            let sums = error(scheme, true);
            assert!(sums.error < sums.plain && sums.plain == error(scheme, false).error);
        }
    }
}
