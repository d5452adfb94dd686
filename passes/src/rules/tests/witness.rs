//! Random graphs that a rule's left side matches, made from the sorts of its variables, with random inputs.
//!
//! A witness is made twice from the same draws: as the rule has it, and *wide*, with every float as `f64`, which says what exact arithmetic would give for the same inputs.

use super::draw::{Draw, Mood, Rng, STRAY, Special};
use crate::matcher::{Bindings, Letter, letters_of, resolve_axes};
use crate::pattern::{Apply, AttrPattern, Pattern};
use crate::rule::Compiled;
use crate::sort::{Columns, Elem, Packing, Sort, resolve, wider};
use fuseline_ir::ops::{create, movement, pointwise};
use fuseline_ir::{Attr, DType, Dim, F64, Graph, Loc, Op, Scalar, Tensor, TensorType, Type, Value};
use std::collections::BTreeMap;

/// A left side as a graph, with inputs.
pub struct Witness {
    pub graph: Graph,
    pub inputs: Vec<Tensor>,
    /// Whether an element is the draw's special number.
    pub placed: bool,
}

struct Maker<'a> {
    rule: &'a Compiled,
    /// The variable or letter that need not keep its sort.
    free: Option<&'a str>,
    dtype: DType,
    wide: bool,
    mood: Mood,
    special: Option<Special<'a>>,
    rng: Rng,
    graph: Graph,
    inputs: Vec<Tensor>,
    values: BTreeMap<usize, Value>,
    attrs: BTreeMap<usize, Attr>,
    rests: BTreeMap<usize, Vec<Value>>,
    b: Bindings,
}

/// A witness of the rule with `T` as `dtype`; `free` is a variable or letter that is drawn without regard to its sort. `None` where these draws give none (no such number in the
/// dtype, or an op that doesn't take them).
pub fn witness(
    rule: &Compiled,
    dtype: DType,
    draw: Draw<'_>,
    wide: bool,
    free: Option<&str>,
) -> Option<Witness> {
    let mut maker = Maker {
        rule,
        free,
        dtype,
        wide,
        mood: draw.mood,
        special: draw.special,
        rng: Rng::of(rule.rule.name, dtype, draw.seed),
        graph: Graph::new("witness"),
        inputs: Vec::new(),
        values: BTreeMap::new(),
        attrs: BTreeMap::new(),
        rests: BTreeMap::new(),
        b: Bindings::new(rule.names.0.len()),
    };
    let (letters, vars): (Vec<_>, Vec<_>) = rule.rule.vars.iter().partition(|(_, s)| s.is_letter());
    for (name, sort) in letters.into_iter().chain(vars) {
        maker.row(name, sort)?;
    }
    let root = maker.apply(&rule.lhs)?;
    maker.graph.output("out", root);
    Some(Witness {
        placed: draw.special.is_some() && maker.special.is_none(),
        graph: maker.graph,
        inputs: maker.inputs,
    })
}

impl Maker<'_> {
    fn row(&mut self, name: &str, sort: Sort) -> Option<()> {
        if self.free == Some(name) && self.rng.below(8) > 0 {
            return self.stray(name, sort);
        }
        self.row_of(name, sort)
    }

    fn row_of(&mut self, name: &str, sort: Sort) -> Option<()> {
        match sort {
            Sort::Holds(narrow) => {
                let narrow = self.float(narrow);
                let holds = |d: &DType| wider(narrow, *d);
                let wide: Vec<DType> = [DType::F32, DType::F64].into_iter().filter(holds).collect();
                if wide.is_empty() {
                    return None;
                }
                let dtype = self.rng.pick(&wide);
                self.b.unify(name, Letter::DType(dtype))
            }
            Sort::Equals(expr) => {
                self.draw_letters(expr);
                let value = letters_of(expr, &self.b)?;
                self.b.unify(name, Letter::Dim(value))
            }
            Sort::Product(schema) => {
                let dims = self.shape(schema)?;
                let product = dims.iter().fold(Dim::from(1i64), |n, d| &n * d);
                self.b.unify(name, Letter::Dim(product))
            }
            Sort::Regroups(schema) => {
                let dims = self.shape(schema)?;
                let dims = self.regrouped(dims);
                self.b.unify(name, Letter::Dims(dims))
            }
            Sort::Flag => self.attr(name, Attr::Bool(true)),
            Sort::Literal(range) => {
                let x = self.rng.number(self.mood, range, DType::F32)?;
                self.attr(name, Attr::Float(F64::new(x)))
            }
            Sort::Shape(of) => {
                let dims = self.dims_of(of)?;
                let shape = self.regrouped(dims);
                self.attr(name, dims_attr(&shape))
            }
            Sort::Order(of) => {
                let mut axes: Vec<usize> = (0..self.dims_of(of)?.len()).collect();
                for last in (1..axes.len()).rev() {
                    let other = self.rng.below(last + 1);
                    axes.swap(last, other);
                }
                let axes = axes.into_iter().map(|a| Attr::Int(Dim::from(a)));
                self.attr(name, Attr::List(axes.collect()))
            }
            Sort::Packed(packing, schema) => self.packed(name, packing, schema),
            Sort::Index(count, schema) => {
                self.draw_letters(count);
                let count = letters_of(count, &self.b)?.as_const()?;
                let shape = self.shape(schema)?;
                let shape = TensorType::new(DType::I64, shape).static_shape()?;
                let n: usize = shape.iter().product();
                let draw = |rng: &mut Rng| {
                    Some(rng.below(usize::try_from(count).ok().filter(|n| *n > 0)?) as i64)
                };
                let data = (0..n).map(|_| draw(&mut self.rng)).collect::<Option<_>>()?;
                let value = self.input(name, Tensor::ints(DType::I64, shape, data).ok()?)?;
                self.bind(name, value)
            }
            Sort::Given | Sort::RotarySin => Some(()),
            Sort::RotaryCos {
                sin,
                columns,
                plain,
            } => self.rotary(name, sin, columns, plain),
            Sort::Tensor(elem, schema) => {
                let shape = self.shape(schema)?;
                self.tensor(name, elem, &shape)
            }
            Sort::NotNegative(elem, schema) => {
                let shape = self.shape(schema)?;
                self.tensor(name, elem, &shape)?;
                let slot = self.slot(name)?;
                let value = self.values[&slot];
                let value = self.add(pointwise::Abs {}, &[value])?;
                self.bind(name, value)
            }
            Sort::Tame(elem, schema) => {
                let mood = std::mem::replace(&mut self.mood, Mood::Plain);
                let shape = self.shape(schema)?;
                let made = self.tensor(name, elem, &shape);
                self.mood = mood;
                made
            }
            Sort::Elements(elem, schema) => {
                let shape = self.shape(schema)?;
                let shape = self.regrouped(shape);
                self.tensor(name, elem, &shape)
            }
            Sort::Vector(letter, schema) => {
                let mut shape = self.shape(schema)?;
                let x = self.dims_of("x")?;
                for _ in 0..self.rng.below(x.len()) {
                    shape.insert(0, Dim::from(1i64));
                }
                self.tensor(name, Elem::Float(letter), &shape)?;
                // Sometimes written out along the other axes.
                if self.rng.below(4) == 0 {
                    let slot = self.slot(name)?;
                    let value = self.values[&slot];
                    let wide = self.add(movement::Broadcast { shape: x }, &[value])?;
                    self.values.insert(slot, wide);
                }
                Some(())
            }
            Sort::Channels(letter, size) => {
                let mut shape = self.shape(size)?;
                shape.extend([Dim::from(1i64), Dim::from(1i64)]);
                for _ in 0..self.rng.below(2) {
                    shape.insert(0, Dim::from(1i64));
                }
                self.tensor(name, Elem::Float(letter), &shape)
            }
            Sort::Spread(elem, over) | Sort::Mask(elem, over) => {
                let mut shape = self.shape(over)?;
                for d in &mut shape {
                    if self.rng.below(3) == 0 {
                        *d = Dim::from(1i64);
                    }
                }
                let drop = self.rng.below(shape.len().max(1));
                self.tensor(name, elem, &shape[drop..])?;
                if matches!(sort, Sort::Mask(..)) {
                    self.unhide();
                }
                Some(())
            }
            Sort::Causal => {
                let dims = self.shape("S N")?;
                let [rows, cols] = dims.as_slice() else {
                    return None;
                };
                let range = |len: &Dim, start: Dim| create::Arange {
                    start,
                    step: Dim::from(1i64),
                    len: len.clone(),
                    dtype: DType::I64,
                };
                let queries = self.add(range(rows, cols - rows), &[])?;
                let shape = vec![rows.clone(), Dim::from(1i64)];
                let queries = self.add(movement::Reshape { shape }, &[queries])?;
                let keys = self.add(range(cols, Dim::from(0i64)), &[])?;
                let mask = self.add(pointwise::Le {}, &[keys, queries])?;
                self.bind(name, mask)
            }
            Sort::Share(letter, size) | Sort::Root(letter, size) => {
                let dtype = self.float(letter);
                let size = self.shape(size)?.first()?.as_const()? as f64;
                let dtype = self.widened(dtype);
                let of = match sort {
                    Sort::Root(..) => size.sqrt(),
                    _ => size,
                };
                let value = Scalar::float(dtype.round(1.0 / of));
                let ty = TensorType::new(dtype, vec![]);
                let value = self.add(create::Full { value, ty }, &[])?;
                self.bind(name, value)
            }
            Sort::Number(letter, range) => {
                let dtype = self.float(letter);
                let number = self.rng.number(self.mood, range, dtype)?;
                let shape = if self.rng.below(2) == 0 {
                    vec![]
                } else {
                    vec![Dim::from(1i64)]
                };
                let value = Scalar::float(dtype.round(number));
                let ty = TensorType::new(self.widened(dtype), shape);
                let value = self.add(create::Full { value, ty }, &[])?;
                self.bind(name, value)
            }
            Sort::Positions(over) => match self.rng.below(4) {
                0 => self.listed(name, over),
                3 => {
                    let value = Dim::from(self.rng.below(40));
                    let size = self.add(create::Size { value }, &[])?;
                    self.bind(name, size)
                }
                rank => {
                    let shape = vec![1; rank - 1];
                    let n = self.rng.below(40) as i64;
                    let tensor = Tensor::ints(DType::I64, shape, vec![n]).ok()?;
                    let value = self.input(name, tensor)?;
                    self.bind(name, value)
                }
            },
            Sort::Listed(over) => self.listed(name, over),
            Sort::Counted(over) => {
                let shape = self.shape(over)?;
                let axis = shape.len().checked_sub(2)?;
                let mut own = vec![Dim::from(1i64); shape.len()];
                own[axis] = shape[axis].clone();
                let count = self.counted(&shape[axis].clone())?;
                let count = self.add(movement::Reshape { shape: own }, &[count])?;
                self.bind(name, count)
            }
        }
    }

    /// Something for a variable or letter that may or may not be of its sort: near it, so that the rest of the rule still fits.
    fn stray(&mut self, name: &str, sort: Sort) -> Option<()> {
        match sort {
            Sort::Holds(_) => {
                let dtype =
                    self.rng
                        .pick(&[DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32]);
                self.b.unify(name, Letter::DType(self.widened(dtype)))
            }
            Sort::Equals(_) | Sort::Product(_) => {
                let size = self.rng.below(7);
                self.b.unify(name, Letter::Dim(Dim::from(size)))
            }
            Sort::Regroups(_) => {
                let dims = self.leading(name);
                self.b.unify(name, Letter::Dims(dims))
            }
            Sort::Literal(_) => {
                let x = self.rng.pick(&STRAY);
                self.attr(name, Attr::Float(F64::new(x)))
            }
            Sort::Flag | Sort::Shape(_) | Sort::Order(_) | Sort::Given | Sort::RotarySin => {
                self.row_of(name, sort)
            }
            Sort::Packed(_, schema) => self.packed(name, Packing::Any, schema),
            Sort::RotaryCos { sin, columns, .. } => {
                let plain = self.rng.clone().below(2) == 0;
                self.rotary(name, sin, columns, plain)
            }
            Sort::Number(letter, _) | Sort::Share(letter, _) | Sort::Root(letter, _) => {
                if self.rng.below(3) == 0 {
                    return self.stray_tensor(name, Elem::Float(letter), Vec::new());
                }
                let dtype = self.float(letter);
                let x = self.rng.pick(&STRAY);
                let value = Scalar::float(dtype.round(x));
                let ty = TensorType::new(self.widened(dtype), vec![]);
                let value = self.add(create::Full { value, ty }, &[])?;
                self.bind(name, value)
            }
            Sort::Tensor(elem, schema)
            | Sort::Tame(elem, schema)
            | Sort::NotNegative(elem, schema)
            | Sort::Elements(elem, schema) => {
                let shape = self.shape(schema)?;
                self.stray_tensor(name, elem, shape)
            }
            Sort::Spread(elem, schema) | Sort::Mask(elem, schema) => {
                let shape = self.shape(schema)?;
                self.stray_tensor(name, elem, shape)
            }
            Sort::Vector(letter, schema) | Sort::Channels(letter, schema) => {
                let shape = self.shape(schema)?;
                self.stray_tensor(name, Elem::Float(letter), shape)
            }
            Sort::Causal => {
                let shape = self.shape("S N")?;
                self.stray_tensor(name, Elem::Bool, shape)
            }
            Sort::Index(count, schema) => {
                self.draw_letters(count);
                let shape = self.shape(schema)?;
                self.stray_tensor(name, Elem::Bool, shape)
            }
            Sort::Positions(over) | Sort::Listed(over) | Sort::Counted(over) => {
                let mut shape = self.shape(over)?;
                if self.rng.below(2) == 0 {
                    shape = vec![Dim::from(1i64)];
                }
                self.stray_tensor(name, Elem::Bool, shape)
            }
        }
    }

    /// A tensor of that shape or one near it, of that element type or another.
    fn stray_tensor(&mut self, name: &str, elem: Elem, mut shape: Vec<Dim>) -> Option<()> {
        for _ in 0..self.rng.below(3) {
            let size = Dim::from(self.rng.pick(&[1i64, 2, 3, 4, 8]));
            let at = self.rng.below(shape.len() + 1);
            match (self.rng.below(4), shape.get_mut(at)) {
                (0 | 1, Some(place)) => *place = Dim::from(1i64),
                (2, Some(place)) => *place = size,
                (2, None) => shape.insert(0, size),
                (3, Some(_)) => drop(shape.remove(at)),
                _ => shape.insert(0, Dim::from(1i64)),
            }
        }
        let like = match elem {
            Elem::Float(letter)
            | Elem::Single(letter)
            | Elem::Narrow(letter)
            | Elem::Roomy(letter) => self.float(letter),
            Elem::F32 => DType::F32,
            Elem::Bool => DType::Bool,
        };
        let other = self.rng.pick(&[
            DType::F16,
            DType::BF16,
            DType::F32,
            DType::F64,
            DType::I64,
            DType::I32,
            DType::Bool,
        ]);
        let dtype = if self.rng.below(3) > 0 { like } else { other };
        let sizes: Vec<usize> = TensorType::new(dtype, shape).static_shape()?;
        let n: usize = sizes.iter().product();
        let tensor = if dtype.is_float() {
            let data = (0..n).map(|_| self.rng.element(self.mood, dtype)).collect();
            let tensor = Tensor::floats(dtype, sizes, data).ok()?;
            let wide = self.widened(dtype);
            Tensor::floats(wide, tensor.shape().to_vec(), tensor.to_f64()).ok()?
        } else {
            let most = if dtype == DType::Bool { 2 } else { 5 };
            let data = (0..n).map(|_| self.rng.below(most) as i64).collect();
            Tensor::ints(dtype, sizes, data).ok()?
        };
        let value = self.input(name, tensor)?;
        self.bind(name, value)
    }

    fn slot(&self, name: &str) -> Option<usize> {
        self.rule.names.find(name)
    }

    fn bind(&mut self, name: &str, value: Value) -> Option<()> {
        self.values.insert(self.slot(name)?, value);
        Some(())
    }

    fn attr(&mut self, name: &str, attr: Attr) -> Option<()> {
        self.attrs.insert(self.slot(name)?, attr);
        Some(())
    }

    fn add(&mut self, op: impl Into<Op>, args: &[Value]) -> Option<Value> {
        self.graph.add(op, args, &Loc::default()).ok()
    }

    fn widened(&self, dtype: DType) -> DType {
        if self.wide && dtype.is_float() {
            DType::F64
        } else {
            dtype
        }
    }

    /// The dtype that a letter names.
    fn float(&mut self, letter: &str) -> DType {
        match self.b.letter(letter) {
            Some(Letter::DType(d)) => *d,
            _ => {
                let dtype = self.dtype;
                let _ = self.b.unify(letter, Letter::DType(dtype));
                dtype
            }
        }
    }

    fn draw_letters(&mut self, expr: &str) {
        let Ok(mut cursor) = fuseline_ir::text::Cursor::new(expr) else {
            return;
        };
        let Ok(dim) = cursor.dim() else { return };
        let mut letters = Vec::new();
        dim.visit_symbols(&mut |s| letters.push(s.to_string()));
        for letter in letters {
            if self.b.letter(&letter).is_none() {
                let known = |name: &str| match self.b.letter(name) {
                    Some(Letter::Dim(d)) => d.as_const(),
                    _ => None,
                };
                let like = match (letter.as_str(), known("O"), known("R"), known("D")) {
                    ("V", _, _, d) if self.rng.below(2) == 0 => d,
                    // The end of a part is behind its start, mostly.
                    ("E", Some(start), _, _) => Some(start + self.rng.pick(&[2, 2, 4, 6, 3])),
                    // Whole rows are longer than their parts, so that there are parts.
                    ("D", Some(start), Some(len), _) => {
                        Some(start + len + self.rng.pick(&[0, 0, 1, 3]))
                    }
                    _ => None,
                };
                let size = like.unwrap_or_else(|| match letter.as_str() {
                    "D" => self.rng.pick(&[1i64, 2, 3, 4, 6, 8, 8, 0]),
                    "H" => self.rng.pick(&[1i64, 1, 2, 2, 3, 4]),
                    "O" => self.rng.pick(&[0i64, 0, 1, 2]),
                    _ => self.rng.pick(&[1i64, 1, 2, 2, 3, 4, 5, 0]),
                });
                let _ = self.b.unify(&letter, Letter::Dim(Dim::from(size)));
            }
        }
    }

    fn shape(&mut self, schema: &str) -> Option<Vec<Dim>> {
        for item in schema.split_whitespace() {
            match item.strip_suffix("..") {
                Some(splice) if self.b.letter(splice).is_none() => {
                    let dims = self.leading(splice);
                    let _ = self.b.unify(splice, Letter::Dims(dims));
                }
                Some(_) => {}
                None => self.draw_letters(item),
            }
        }
        resolve(schema, &self.b)
    }

    /// Leading axes; of `M..`, such that they broadcast with `L..`.
    fn leading(&mut self, splice: &str) -> Vec<Dim> {
        if let (true, Some(Letter::Dims(other))) = (splice == "M", self.b.letter("L").cloned()) {
            let drop = self.rng.below(other.len() + 1);
            let kept = other[drop..].iter().cloned();
            return kept
                .map(|d| {
                    if self.rng.below(3) == 0 {
                        Dim::from(1i64)
                    } else {
                        d
                    }
                })
                .collect();
        }
        let rank = self.rng.pick(&[0, 1, 1, 2, 2, 3]);
        (0..rank)
            .map(|_| Dim::from(self.rng.pick(&[1i64, 1, 2, 3, 0])))
            .collect()
    }

    fn dims_of(&self, name: &str) -> Option<Vec<Dim>> {
        let value = self.values.get(&self.slot(name)?)?;
        Some(self.graph.tensor_ty(*value).ok()?.shape.clone())
    }

    /// Another shape with as many elements.
    fn regrouped(&mut self, mut dims: Vec<Dim>) -> Vec<Dim> {
        if dims.len() > 1 && self.rng.below(2) == 0 {
            let merged = &dims[0] * &dims[1];
            dims.splice(..2, [merged]);
        }
        if self.rng.below(2) == 0 {
            let at = self.rng.below(dims.len() + 1);
            dims.insert(at, Dim::from(1i64));
        }
        dims
    }

    fn tensor(&mut self, name: &str, elem: Elem, shape: &[Dim]) -> Option<()> {
        let sizes: Vec<usize> = TensorType::new(DType::F32, shape.to_vec()).static_shape()?;
        let n: usize = sizes.iter().product();
        let tensor = match elem {
            Elem::Bool => {
                let bits = (0..n).map(|_| i64::from(self.rng.below(3) > 0)).collect();
                Tensor::ints(DType::Bool, sizes, bits).ok()?
            }
            // Periods and the like: positive and moderate.
            Elem::F32 => {
                let data = (0..n).map(|_| 0.5 + self.rng.unit().abs() * 9.0).collect();
                Tensor::floats(DType::F32, sizes, data).ok()?
            }
            Elem::Single(_) if self.dtype == DType::F64 => return None,
            Elem::Narrow(_) if !matches!(self.dtype, DType::F16 | DType::BF16) => return None,
            Elem::Roomy(_) if self.dtype == DType::F16 => return None,
            Elem::Float(letter)
            | Elem::Single(letter)
            | Elem::Narrow(letter)
            | Elem::Roomy(letter) => {
                let dtype = self.float(letter);
                let mood = self.rng.mood_of_tensor(self.mood);
                let mut data: Vec<f64> = (0..n).map(|_| self.rng.element(mood, dtype)).collect();
                self.place(name, &mut data);
                let tensor = Tensor::floats(dtype, sizes, data).ok()?;
                Tensor::floats(
                    self.widened(dtype),
                    tensor.shape().to_vec(),
                    tensor.to_f64(),
                )
                .ok()?
            }
        };
        let value = self.input(name, tensor)?;
        self.bind(name, value)
    }

    /// Puts the special number in some places of the variable that it is for, one at least.
    fn place(&mut self, name: &str, data: &mut [f64]) {
        let special = self.special.filter(|s| s.variable == name);
        let (Some(special), false) = (special, data.is_empty()) else {
            return;
        };
        let one = self.rng.below(data.len());
        for (i, x) in data.iter_mut().enumerate() {
            if i == one || self.rng.below(6) == 0 {
                *x = special.number;
            }
        }
        self.special = None;
    }

    fn input(&mut self, name: &str, tensor: Tensor) -> Option<Value> {
        let shape = tensor.shape().iter().map(|n| Dim::from(*n)).collect();
        let value = self
            .graph
            .input(name, Type::tensor(tensor.dtype(), shape))
            .ok()?;
        self.inputs.push(tensor);
        Some(value)
    }

    /// The words, scales, biases and attributes of a quantised tensor.
    fn packed(&mut self, name: &str, packing: Packing, schema: &str) -> Option<()> {
        let affine = match packing {
            Packing::Affine => true,
            Packing::Floats => false,
            Packing::Any => self.rng.below(2) == 0,
        };
        let (mode, group, bits) = if affine {
            (
                "affine",
                self.rng.pick(&[32usize, 64]),
                self.rng.pick(&[2usize, 3, 4, 5, 6, 8]),
            )
        } else {
            self.rng
                .pick(&[("nvfp4", 16, 4), ("mxfp4", 32, 4), ("mxfp8", 32, 8)])
        };
        let width = group.max(32) * (1 + self.rng.below(2));
        let (lead, last) = schema.rsplit_once(' ')?;
        self.b.unify(last, Letter::Dim(Dim::from(width)))?;
        let lead = self.shape(lead)?;
        let sizes = TensorType::new(DType::U32, lead.clone()).static_shape()?;
        let row = |n: usize| sizes.iter().copied().chain([n]).collect::<Vec<_>>();
        let shape = row(width * bits / 32);
        let n: usize = shape.iter().product();
        // Of FP8, bits that leave NaN and the largest exponents out.
        let mask = if mode == "mxfp8" {
            0xbfbf_bfbf
        } else {
            0xffff_ffff
        };
        let words = (0..n).map(|_| (self.rng.next() & mask) as i64).collect();
        let words = self.input(name, Tensor::ints(DType::U32, shape, words).ok()?)?;
        self.bind(name, words)?;
        let mood = std::mem::replace(&mut self.mood, Mood::Plain);
        let groups = [lead.as_slice(), &[Dim::from(width / group)]].concat();
        if affine {
            self.tensor("s", Elem::Float("T"), &groups)?;
            self.tensor("z", Elem::Float("T"), &groups)?;
        } else {
            self.float("T");
            let shape = row(width / group);
            let n: usize = shape.iter().product();
            let least = if mode == "nvfp4" { 0x30 } else { 120 };
            let scales = (0..n).map(|_| least + self.rng.below(12) as i64).collect();
            let scales = self.input("s", Tensor::ints(DType::U8, shape, scales).ok()?)?;
            self.bind("s", scales)?;
        }
        self.mood = mood;
        if let Some(slot) = self.slot("z") {
            let biases = self.values.get(&slot).copied();
            self.rests.insert(slot, biases.into_iter().collect());
        }
        self.attr("g", Attr::Int(Dim::from(group)))?;
        self.attr("b", Attr::Int(Dim::from(bits)))?;
        self.attr("m", Attr::Str(mode.into()))
    }

    /// The last input becomes a mask that leaves a key in each row; of floats, some elements become −∞.
    fn unhide(&mut self) {
        let Some(mask) = self.inputs.pop() else {
            return;
        };
        let row = mask.shape().last().copied().unwrap_or(1).max(1);
        let keep = self.rng.below(row);
        let bool = mask.dtype() == DType::Bool;
        let mut data = mask.to_f64();
        for (i, x) in data.iter_mut().enumerate() {
            if i % row == keep {
                *x = if bool { 1.0 } else { 0.25 };
            } else if !bool && self.rng.below(4) == 0 {
                *x = f64::NEG_INFINITY;
            }
        }
        let shape = mask.shape().to_vec();
        let again = Tensor::from_fn(mask.dtype(), shape, |i| Scalar::float(data[i]));
        self.inputs.push(again.unwrap_or(mask));
    }

    /// Integers that count up by one, from 0 or from an input.
    fn counted(&mut self, rows: &Dim) -> Option<Value> {
        let arange = create::Arange {
            start: Dim::from(0i64),
            step: Dim::from(1i64),
            len: rows.clone(),
            dtype: DType::I64,
        };
        let count = self.add(arange, &[])?;
        if self.rng.below(2) == 0 {
            return Some(count);
        }
        let n = self.rng.below(40) as i64;
        let offset = self.input("offset", Tensor::ints(DType::I64, vec![], vec![n]).ok()?)?;
        self.add(pointwise::Add {}, &[count, offset])
    }

    /// Integers below 40, in a shape that broadcasts to `over`, as an input.
    fn integers(&mut self, name: &str, over: &[Dim]) -> Option<Value> {
        let mut sizes = TensorType::new(DType::I64, over.to_vec()).static_shape()?;
        for n in &mut sizes {
            *n = if self.rng.below(4) == 0 { 1 } else { *n };
        }
        let n: usize = sizes.iter().product();
        let data = (0..n).map(|_| self.rng.below(40) as i64).collect();
        self.input(name, Tensor::ints(DType::I64, sizes, data).ok()?)
    }

    fn listed(&mut self, name: &str, over: &str) -> Option<()> {
        let shape = self.shape(over)?;
        let value = self.integers(name, &shape)?;
        self.bind(name, value)
    }

    /// Tables of cosines and sines, written as models write them.
    fn rotary(&mut self, cos: &str, sin: &str, columns: Columns, plain: bool) -> Option<()> {
        let (rows, half) = (self.shape("L.. S")?, self.shape("H")?);
        let half = half.first()?;
        // Counted along the last axis of rows, or along any, or listed.
        let axis = match self.rng.below(3) {
            0 => self.rng.below(rows.len()),
            _ => rows.len() - 1,
        };
        let mut rows: Vec<Dim> = rows[axis..].to_vec();
        rows[1..].fill(Dim::from(1i64));
        let listed = axis > 0 && self.rng.below(3) == 0;
        let mut positions = if listed {
            let full = self.shape("L.. S")?;
            let over = full[..full.len() - rows.len()].to_vec();
            rows.splice(..0, over);
            self.integers("offset", &rows)?
        } else {
            self.counted(&rows[0].clone())?
        };
        positions = self.add(pointwise::Cast { dtype: DType::F32 }, &[positions])?;
        rows.push(Dim::from(1i64));
        let shape = rows.clone();
        positions = self.add(movement::Reshape { shape }, &[positions])?;
        rows.pop();
        let with = |last: &[Dim]| [rows.as_slice(), last].concat();
        let n = usize::try_from(half.as_const()?).ok()?;
        let freqs = (0..n).map(|_| 0.01 + self.rng.unit().abs()).collect();
        let freqs = self.input("freqs", Tensor::floats(DType::F32, vec![n], freqs).ok()?)?;
        let angles = self.add(pointwise::Mul {}, &[positions, freqs])?;
        let twice = &Dim::from(2i64) * half;
        let (angles, width) = match columns {
            Columns::Once => (angles, half.clone()),
            Columns::Halves => {
                let axis = rows.len();
                (self.add(movement::Cat { axis }, &[angles, angles])?, twice)
            }
            Columns::Neighbours => {
                let shape = with(&[half.clone(), Dim::from(1i64)]);
                let apart = self.add(movement::Reshape { shape }, &[angles])?;
                let shape = with(&[half.clone(), Dim::from(2i64)]);
                let pairs = self.add(movement::Broadcast { shape }, &[apart])?;
                let shape = with(std::slice::from_ref(&twice));
                (self.add(movement::Reshape { shape }, &[pairs])?, twice)
            }
        };
        let lead = self.rng.below(3);
        for (name, op) in [
            (cos, Op::from(pointwise::Cos {})),
            (sin, Op::from(pointwise::Sin {})),
        ] {
            let mut table = self.add(op, &[angles])?;
            if !plain {
                let value = Scalar::float(1.25);
                let ty = TensorType::new(DType::F32, vec![]);
                let factor = self.add(create::Full { value, ty }, &[])?;
                table = self.add(pointwise::Mul {}, &[table, factor])?;
            }
            let dtype = self.float("T");
            let dtype = self.widened(dtype);
            if dtype != DType::F32 {
                table = self.add(pointwise::Cast { dtype }, &[table])?;
            }
            if lead > 0 && self.dims_of("x")?.len() >= 1 + rows.len() + lead {
                let mut shape = vec![Dim::from(1i64); lead];
                shape.extend(with(std::slice::from_ref(&width)));
                table = self.add(movement::Reshape { shape }, &[table])?;
            }
            self.bind(name, table)?;
        }
        Some(())
    }

    fn term(&mut self, pattern: &Pattern, like: Option<DType>) -> Option<Value> {
        match pattern {
            Pattern::Var(slot) => self.values.get(slot).copied(),
            Pattern::Number(x) => {
                let dtype = like?;
                let value = Scalar::float(dtype.round(*x));
                let ty = TensorType::new(dtype, vec![]);
                self.add(create::Full { value, ty }, &[])
            }
            Pattern::Apply(apply) => self.apply(apply),
        }
    }

    fn apply(&mut self, apply: &Apply) -> Option<Value> {
        // Numbers take the dtype of the float beside them.
        let mut args: Vec<Option<Value>> = Vec::new();
        for arg in &apply.args {
            let number = matches!(arg, Pattern::Number(_));
            args.push(if number {
                None
            } else {
                Some(self.term(arg, None)?)
            });
        }
        let float = |v: &Value| {
            self.graph
                .tensor_ty(*v)
                .ok()
                .map(|t| t.dtype)
                .filter(|d| d.is_float())
        };
        let like = args.iter().flatten().find_map(float);
        for (arg, place) in apply.args.iter().zip(&mut args) {
            if place.is_none() {
                *place = Some(self.term(arg, like)?);
            }
        }
        let mut args: Vec<Value> = args.into_iter().collect::<Option<_>>()?;
        if let Some(rest) = apply.rest.and_then(|slot| self.rests.get(&slot)) {
            args.extend(rest);
        }
        let rank = args
            .first()
            .and_then(|v| Some(self.graph.tensor_ty(*v).ok()?.rank()));
        let attrs = apply
            .attrs
            .iter()
            .map(|(name, pattern)| {
                let attr = match resolve_axes(name, pattern, rank) {
                    AttrPattern::Bind(slot) => self.attrs.get(&slot)?.clone(),
                    pattern => pattern.with_letters(&self.b)?,
                };
                let attr = match attr {
                    Attr::DType(d) => Attr::DType(self.widened(d)),
                    attr => attr,
                };
                Some((name.as_str(), attr))
            })
            .collect::<Option<Vec<_>>>()?;
        let op = Op::build(&apply.name, &attrs).ok()?;
        self.add(op, &args)
    }
}

fn dims_attr(dims: &[Dim]) -> Attr {
    Attr::List(dims.iter().cloned().map(Attr::Int).collect())
}
