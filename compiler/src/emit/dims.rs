//! Symbolic integers as instructions: each expression is computed once a chain, from the sizes of the segment's inputs.

use super::slots::Place;
use fuseline_ir::dim::Atom;
use fuseline_ir::{DType, Dim, Symbol};
use fuseline_program::ScalarType;
use fuseline_program::instr::{BuildError, Field, Instruction, IntOrVid, Vid};
use std::collections::BTreeMap;

/// Where a symbol's value comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The size of an axis of a tensor slot.
    Size(Place, usize),
    /// The size of an axis of a tensor slot, less `offset`, divided by `factor`.
    Linear {
        /// The slot.
        place: Place,
        /// The axis.
        axis: usize,
        /// What the symbol is multiplied by in the size.
        factor: i64,
        /// What is added to that.
        offset: i64,
    },
    /// The number in a one-element tensor slot.
    Item(Place),
    /// A value slot that has been set.
    Value(Vid),
}

/// The integers of one chain.
#[derive(Debug, Default)]
pub struct Dims {
    sources: BTreeMap<Symbol, Source>,
    known: BTreeMap<Dim, IntOrVid>,
    /// Quotients, remainders, minima and maxima.
    atoms: BTreeMap<Atom, IntOrVid>,
    count: u32,
}

type Build<T> = Result<T, DimError>;

/// Why a dim can't be computed.
#[derive(Debug)]
pub enum DimError {
    /// A symbol has no source.
    Symbol(Symbol),
    /// The instruction table refused an instruction.
    Build(BuildError),
}

impl From<BuildError> for DimError {
    fn from(e: BuildError) -> DimError {
        DimError::Build(e)
    }
}

impl Dims {
    /// Says where a symbol comes from; the first source stays.
    pub fn define(&mut self, symbol: &Symbol, source: Source) {
        self.sources.entry(symbol.clone()).or_insert(source);
    }

    /// Whether every symbol of the dim has a source.
    pub fn knows(&self, dim: &Dim) -> bool {
        let mut all = true;
        dim.visit_symbols(&mut |s| all &= self.sources.contains_key(s));
        all
    }

    /// A new value slot.
    pub fn value(&mut self) -> Vid {
        self.count += 1;
        Vid(self.count - 1)
    }

    /// Leaves the value slots below `count` to others.
    pub fn start_at(&mut self, count: u32) {
        self.count = self.count.max(count);
    }

    /// How many value slots there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The dim as a literal or a value slot; instructions that compute it are appended to `chain`.
    pub fn get(&mut self, dim: &Dim, chain: &mut Vec<Instruction>) -> Build<IntOrVid> {
        if let Some(n) = dim.as_const() {
            return Ok(IntOrVid::Int(n));
        }
        if let Some(known) = self.known.get(dim) {
            return Ok(*known);
        }
        // What differs by a number shares the rest.
        let number = dim.terms().iter().find(|(mono, _)| mono.is_empty());
        if let Some((_, n)) = number {
            let rest = self.get(&(dim - &Dim::from(*n)), chain)?;
            let result = self.binary("AddInt", rest, IntOrVid::Int(*n), chain)?;
            self.known.insert(dim.clone(), result);
            return Ok(result);
        }
        let mut sum: Option<IntOrVid> = None;
        // What is taken off comes last, so that there is something to take it off.
        let mut terms: Vec<_> = dim.terms().iter().collect();
        terms.sort_by_key(|(_, coefficient)| *coefficient == -1);
        for (mono, coefficient) in terms {
            let mut product: Option<IntOrVid> = None;
            for atom in mono {
                let factor = self.atom(atom, chain)?;
                product = Some(match product {
                    None => factor,
                    Some(p) => self.binary("MultiplyInt", p, factor, chain)?,
                });
            }
            if let (Some(s), Some(p), -1) = (sum, product, *coefficient) {
                sum = Some(self.binary("SubtractInt", s, p, chain)?);
                continue;
            }
            let term = match product {
                None => IntOrVid::Int(*coefficient),
                Some(p) if *coefficient == 1 => p,
                Some(p) => self.binary("MultiplyInt", p, IntOrVid::Int(*coefficient), chain)?,
            };
            sum = Some(match sum {
                None => term,
                Some(s) => self.binary("AddInt", term, s, chain)?,
            });
        }
        let result = sum.unwrap_or(IntOrVid::Int(0));
        self.known.insert(dim.clone(), result);
        Ok(result)
    }

    /// The number in a value slot, for fields that have no room for a literal.
    pub fn slot(&mut self, n: IntOrVid, chain: &mut Vec<Instruction>) -> Result<Vid, BuildError> {
        match n {
            IntOrVid::Vid(vid) => Ok(vid),
            IntOrVid::Int(_) => self.computed("AddInt", n, IntOrVid::Int(0), chain),
        }
    }

    fn computed(
        &mut self,
        node: &str,
        a: IntOrVid,
        b: IntOrVid,
        chain: &mut Vec<Instruction>,
    ) -> Result<Vid, BuildError> {
        let out = self.value();
        chain.push(Instruction::build(
            node,
            &[
                ("a", Field::IntOrVid(a)),
                ("b", Field::IntOrVid(b)),
                ("out", Field::Vid(out)),
            ],
        )?);
        Ok(out)
    }

    fn binary(
        &mut self,
        node: &str,
        a: IntOrVid,
        b: IntOrVid,
        chain: &mut Vec<Instruction>,
    ) -> Build<IntOrVid> {
        Ok(IntOrVid::Vid(self.computed(node, a, b, chain)?))
    }

    fn atom(&mut self, atom: &Atom, chain: &mut Vec<Instruction>) -> Build<IntOrVid> {
        let (a, b) = match atom {
            Atom::Sym(symbol) => return self.symbol(symbol, chain),
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => (a, b),
        };
        if let Some(known) = self.atoms.get(atom) {
            return Ok(*known);
        }
        let (a, b) = (self.get(a, chain)?, self.get(b, chain)?);
        let result = match atom {
            Atom::Sym(_) | Atom::FloorDiv(..) => self.binary("FloorDivideInt", a, b, chain)?,
            Atom::Mod(..) => self.binary("ModInt", a, b, chain)?,
            Atom::Min(..) => {
                let more = self.more(b, a, chain)?;
                self.binary("SubtractInt", b, more, chain)?
            }
            Atom::Max(..) => {
                let more = self.more(b, a, chain)?;
                self.binary("AddInt", a, more, chain)?
            }
        };
        self.atoms.insert(atom.clone(), result);
        Ok(result)
    }

    /// The size of an axis, in a new value slot.
    fn size(&mut self, place: Place, axis: usize, chain: &mut Vec<Instruction>) -> Build<Vid> {
        let out = self.value();
        let fields = [
            ("a", Field::Tid(place.provisional())),
            ("dim", Field::Int(axis as i64)),
            ("out", Field::Vid(out)),
        ];
        chain.push(Instruction::build("SymSize", &fields)?);
        Ok(out)
    }

    fn symbol(&mut self, symbol: &Symbol, chain: &mut Vec<Instruction>) -> Build<IntOrVid> {
        let key = Dim::symbol(symbol.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let source = *self
            .sources
            .get(symbol)
            .ok_or_else(|| DimError::Symbol(symbol.clone()))?;
        let vid = match source {
            Source::Value(vid) => vid,
            Source::Size(place, axis) => self.size(place, axis, chain)?,
            Source::Linear {
                place,
                axis,
                factor,
                offset,
            } => {
                let size = IntOrVid::Vid(self.size(place, axis, chain)?);
                let moved = match offset {
                    0 => size,
                    n => self.binary("SubtractInt", size, IntOrVid::Int(n), chain)?,
                };
                let number = self.binary("FloorDivideInt", moved, IntOrVid::Int(factor), chain)?;
                self.known.insert(key, number);
                return Ok(number);
            }
            Source::Item(place) => {
                let out = self.value();
                let fields = [
                    ("x", Field::Tid(place.provisional())),
                    ("out", Field::Vid(out)),
                ];
                chain.push(Instruction::build("ItemInt", &fields)?);
                out
            }
        };
        self.known.insert(key, IntOrVid::Vid(vid));
        Ok(IntOrVid::Vid(vid))
    }

    /// How much more a is than b; 0 where it isn't. The instruction set has neither minimum nor maximum of integers. Sizes fit 32 bits, and so must their differences: then the
    /// quotient of `b − a` by the largest such number, rounded down, is −1 or 0.
    fn more(&mut self, a: IntOrVid, b: IntOrVid, chain: &mut Vec<Instruction>) -> Build<IntOrVid> {
        let difference = self.binary("SubtractInt", b, a, chain)?;
        let largest = IntOrVid::Int(i64::from(i32::MAX));
        let sign = self.binary("FloorDivideInt", difference, largest, chain)?;
        self.binary("MultiplyInt", sign, difference, chain)
    }
}

/// The format's name of a dtype, where it has one.
pub fn checked_scalar_type(dtype: DType) -> Option<ScalarType> {
    ScalarType::from_name(dtype.name())
}
