//! Constants that hold rotary tables.
//!
//! Many models compute their cosines and sines once and keep them: as two tables, as one of both, as the two parts of complex numbers. What such a constant holds is read off its numbers:
//! the frequency of each column from its first rows, and then every element is compared with the formula. The tolerance is what two ways of computing an angle in `f32` may differ by, and
//! the rounding to the table's dtype: the same as that between any table and a rotation that computes its angles itself.

use crate::closed_form::{Form, Pairing};
use egg::Id;
use fuseline_ir::ops::pointwise as p;
use fuseline_ir::{Constant, DType, Dim, Graph, Op, Scalar, Symbol, Tensor, TensorType};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most elements of a table: as many as positions and columns of the longest models.
const MOST: usize = 1 << 26;

/// The fewest rows from which frequencies are read.
const FEWEST_ROWS: usize = 2;

/// The unit of rounding of `f32`.
const EPS: f64 = f32::EPSILON as f64;

/// The tables among a graph's constants, by name.
pub type Tables = BTreeMap<Symbol, Table>;

/// What a constant holds: at `[.., s, .., j]`, or `[.., s, .., j, ..]` with an axis that chooses, a cosine or a sine of `s · freqs[j]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The constant with the frequencies.
    pub freqs: Symbol,
    /// How many there are.
    half: usize,
    rows: usize,
    columns: usize,
    pairing: Pairing,
    waves: Waves,
    amplitude: f64,
    dtype: DType,
}

/// Where cosines and sines are.
#[derive(Clone, Debug, PartialEq)]
enum Waves {
    Cos,
    Sin,
    /// Both, chosen by the index along an axis: the first where it is below that.
    Both {
        axis: usize,
        below: usize,
        cos_first: bool,
    },
}

impl Table {
    /// The type of the frequencies.
    pub fn freqs_type(&self) -> TensorType {
        TensorType::new(DType::F32, vec![Dim::from(self.half)])
    }

    /// The formula of an element, where class `freqs` holds the frequencies.
    pub fn form(&self, freqs: Id) -> Option<Arc<Form<Id>>> {
        let column = |start: usize| {
            let column = Form::index(self.columns);
            let column = Form::apply(
                &Op::Sub(p::Sub {}),
                DType::I64,
                vec![column, Form::number(DType::I64, Scalar::Int(start as i64))],
            );
            let by = |op: Op, n: &Dim| {
                Form::apply(
                    &op,
                    DType::I64,
                    vec![column.clone(), Form::dim(DType::I64, n)],
                )
            };
            match &self.pairing {
                Pairing::Once => column,
                Pairing::Halves { half } => by(p::Remainder {}.into(), half),
                Pairing::Neighbours => by(p::FloorDiv {}.into(), &Dim::from(2i64)),
            }
        };
        let of = |op: Op, args| Form::apply(&op, DType::F32, args);
        let wave = |cos: bool, start: usize| {
            let freq = Form::element(freqs, &self.freqs_type())?.substitute(&|_| column(start));
            let row = of(
                p::Cast { dtype: DType::F32 }.into(),
                vec![Form::index(self.rows)],
            );
            let angle = of(p::Mul {}.into(), vec![row, freq]);
            let op: Op = if cos {
                p::Cos {}.into()
            } else {
                p::Sin {}.into()
            };
            let mut wave = of(op, vec![angle]);
            if self.amplitude != 1.0 {
                let factor = Form::number(DType::F32, Scalar::float(self.amplitude));
                wave = of(p::Mul {}.into(), vec![wave, factor]);
            }
            let dtype = self.dtype;
            Some(Form::apply(&p::Cast { dtype }.into(), dtype, vec![wave]))
        };
        match self.waves {
            Waves::Cos => wave(true, 0),
            Waves::Sin => wave(false, 0),
            Waves::Both {
                axis,
                below,
                cos_first,
            } => {
                let second = if axis == self.columns { below } else { 0 };
                let here = Form::apply(
                    &p::Lt {}.into(),
                    DType::Bool,
                    vec![
                        Form::index(axis),
                        Form::number(DType::I64, Scalar::Int(below as i64)),
                    ],
                );
                let (a, b) = (wave(cos_first, 0)?, wave(!cos_first, second)?);
                Some(Form::apply(
                    &p::Where {}.into(),
                    self.dtype,
                    vec![here, a, b],
                ))
            }
        }
    }
}

/// The graph's tables, and the graph with constants for their frequencies, which nothing names yet.
pub fn declared(graph: &Graph) -> (Cow<'_, Graph>, Tables) {
    let mut found = Tables::new();
    let mut freqs: Vec<(Symbol, Vec<f32>)> = Vec::new();
    let mut taken = (0..)
        .map(|n| Symbol::from(format!("frequencies.{n}")))
        .filter(|n| !graph.constants.contains_key(n));
    let mut add = |name: &Symbol, part: &Part<'_>, waves: Waves, turns: &Turns| {
        let known = freqs.iter().find(|(_, f)| *f == turns.freqs);
        let symbol = match known {
            Some((symbol, _)) => symbol.clone(),
            None => {
                let symbol = taken.next().unwrap_or_else(|| "frequencies".into());
                freqs.push((symbol.clone(), turns.freqs.clone()));
                symbol
            }
        };
        let table = Table {
            freqs: symbol,
            half: turns.freqs.len(),
            rows: part.axes.0,
            columns: part.axes.1,
            pairing: turns.pairing.clone(),
            waves,
            amplitude: turns.amplitude,
            dtype: part.dtype,
        };
        found.entry(name.clone()).or_insert(table);
    };
    let (mut cosines, mut sines) = (Vec::new(), Vec::new());
    for (name, constant) in &graph.constants {
        let Some(plain) = Part::of(constant) else {
            continue;
        };
        for (cos, sin, waves) in plain.parted() {
            if let Some(turns) = turns(&cos, &sin) {
                add(name, &plain, waves, &turns);
            }
        }
        if plain.starts_with(|x| x == 0.0) {
            sines.push((name, plain));
        } else if plain.choice.is_none() && plain.starts_with(|x| x != 0.0) {
            cosines.push((name, plain));
        }
    }
    for (name, cos) in &cosines {
        for (other, sin) in &sines {
            if let Some(turns) = turns(cos, sin) {
                add(name, cos, Waves::Cos, &turns);
                add(other, sin, Waves::Sin, &turns);
            }
        }
    }
    if found.is_empty() {
        return (Cow::Borrowed(graph), found);
    }
    let mut out = graph.clone();
    for (name, freqs) in freqs {
        let bytes: Vec<u8> = freqs.iter().flat_map(|f| f.to_le_bytes()).collect();
        let ty = TensorType::new(DType::F32, vec![Dim::from(freqs.len())]);
        let data = Some(Arc::new(bytes) as _);
        out.constants.insert(name, Constant { ty, data });
    }
    (Cow::Owned(out), found)
}

/// Rows and columns of a constant, or some of its columns.
#[derive(Clone)]
struct Part<'a> {
    constant: &'a Constant,
    dtype: DType,
    /// The axes of rows and columns.
    axes: (usize, usize),
    rows: usize,
    columns: usize,
    /// Elements from one row to the next.
    row: usize,
    /// The first element of a row, and from one to the next.
    start: usize,
    step: usize,
    /// The last axis, where that chooses between two tables.
    choice: Option<usize>,
}

impl<'a> Part<'a> {
    /// A float constant as rows and columns, where it has two axes longer than 1, or a third one of two.
    fn of(constant: &'a Constant) -> Option<Part<'a>> {
        let dtype = constant.ty.dtype;
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32) {
            return None;
        }
        let shape = constant.ty.static_shape()?;
        let mut wide = (0..shape.len()).filter(|a| shape[*a] != 1);
        let (first, second) = (wide.next()?, wide.next()?);
        let choice = wide.next();
        if wide.next().is_some() || choice.is_some_and(|axis| shape[axis] != 2) {
            return None;
        }
        let (rows, columns) = (shape[first], shape[second]);
        let step = choice.map_or(1, |_| 2);
        let row = columns.checked_mul(step)?;
        let fits = rows >= FEWEST_ROWS && columns > 0 && rows.checked_mul(row)? <= MOST;
        (fits && constant.data.is_some()).then_some(Part {
            constant,
            dtype,
            axes: (first, second),
            rows,
            columns,
            row,
            start: 0,
            step,
            choice,
        })
    }

    /// Cosines and sines that lie in one constant.
    fn parted(&self) -> Vec<(Part<'a>, Part<'a>, Waves)> {
        let cut = |start: usize, columns: usize| Part {
            start,
            columns,
            ..self.clone()
        };
        let (axis, below, parts) = match self.choice {
            Some(axis) => (axis, 1, [cut(0, self.columns), cut(1, self.columns)]),
            None if self.columns.is_multiple_of(2) => {
                let half = self.columns / 2;
                (self.axes.1, half, [cut(0, half), cut(half, half)])
            }
            None => return Vec::new(),
        };
        let [a, b] = parts;
        let waves = |cos_first| Waves::Both {
            axis,
            below,
            cos_first,
        };
        vec![(a.clone(), b.clone(), waves(true)), (b, a, waves(false))]
    }

    fn numbers(&self, row: usize) -> Option<Vec<f64>> {
        let size = self.row * self.dtype.size();
        let data = self.constant.data.as_ref()?;
        let bytes = data.range(row * size..(row + 1) * size).ok()?;
        let all = Tensor::from_bytes(self.dtype, vec![self.row], &bytes).ok()?;
        let all = all.to_f64();
        let own = all.into_iter().skip(self.start).step_by(self.step);
        Some(own.take(self.columns).collect())
    }

    /// Whether the first row is one number throughout, and that is as `is` says.
    fn starts_with(&self, is: impl Fn(f64) -> bool) -> bool {
        let row = self.numbers(0).unwrap_or_default();
        row.first()
            .is_some_and(|first| is(*first) && row.iter().all(|x| x == first))
    }
}

/// What two tables hold.
struct Turns {
    amplitude: f64,
    freqs: Vec<f32>,
    pairing: Pairing,
}

/// Reads cosines and sines as turns by a frequency for each column, where every element is what that gives.
fn turns(cos: &Part<'_>, sin: &Part<'_>) -> Option<Turns> {
    let alike = (cos.rows, cos.columns, cos.dtype, cos.axes)
        == (sin.rows, sin.columns, sin.dtype, sin.axes);
    if !alike || !sin.starts_with(|x| x == 0.0) || !cos.starts_with(|x| x > 0.0 && x.is_finite()) {
        return None;
    }
    let amplitude = *cos.numbers(0)?.first()?;
    let rows = |row: usize| Some((cos.numbers(row)?, sin.numbers(row)?));
    // Rows 1, 2, 4, … and the last: each says the frequency twice as well as the one before.
    let samples = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < cos.rows);
    let samples = samples.chain([cos.rows - 1]);
    let samples = samples
        .map(|row| Some((row, rows(row)?)))
        .collect::<Option<Vec<_>>>()?;
    let freqs = (0..cos.columns)
        .map(|j| {
            let measured = samples.iter().map(|(row, (c, s))| (*row, c[j], s[j]));
            frequency(measured.clone(), amplitude)
        })
        .collect::<Option<Vec<f32>>>()?;
    let unit = match cos.dtype {
        DType::BF16 => 1.0 / 128.0,
        DType::F16 => 1.0 / 1024.0,
        _ => 2.0 * EPS,
    };
    for row in 0..cos.rows {
        let (c, s) = rows(row)?;
        for (j, freq) in freqs.iter().enumerate() {
            let angle = row as f64 * f64::from(*freq);
            let most = amplitude * (unit + 2.0 * EPS * angle.abs());
            let (y, x) = angle.sin_cos();
            let near = (c[j] - amplitude * x).abs() <= most && (s[j] - amplitude * y).abs() <= most;
            if !near {
                return None;
            }
        }
    }
    let half = freqs.len() / 2;
    let twice = freqs.len().is_multiple_of(2);
    let (freqs, pairing) = if twice && freqs[..half] == freqs[half..] {
        let half = Dim::from(half);
        (freqs[..freqs.len() / 2].to_vec(), Pairing::Halves { half })
    } else if twice && freqs.chunks(2).all(|pair| pair[0] == pair[1]) {
        (
            freqs.iter().copied().step_by(2).collect(),
            Pairing::Neighbours,
        )
    } else {
        (freqs, Pairing::Once)
    };
    Some(Turns {
        amplitude,
        freqs,
        pairing,
    })
}

/// The frequency of a column, from its cosine and sine in some rows: the number of `f32` whose angles, computed in `f32`, fit best.
fn frequency(
    measured: impl Iterator<Item = (usize, f64, f64)> + Clone,
    amplitude: f64,
) -> Option<f32> {
    let mut freq = 0.0;
    for (row, c, s) in measured.clone() {
        let n = row as f64;
        // The first row leaves whole turns open; frequencies are taken to be below half a turn.
        let (y, x) = (n * freq).sin_cos();
        let off = (s * x - c * y).atan2(c * x + s * y);
        if row > 1 && off.abs() > 0.5 {
            return None;
        }
        freq += off / n;
    }
    let nearest = freq as f32;
    let error = |freq: f32| -> f64 {
        let off = |(row, c, s): (usize, f64, f64)| {
            let (y, x) = f64::from(row as f32 * freq).sin_cos();
            (c - amplitude * x).abs() + (s - amplitude * y).abs()
        };
        measured.clone().map(off).sum()
    };
    let near = [nearest, nearest.next_up(), nearest.next_down()];
    let two = [near[1].next_up(), near[2].next_down()];
    near.into_iter()
        .chain(two)
        .filter(|f| f.is_finite())
        .min_by(|a, b| error(*a).total_cmp(&error(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuseline_ir::text;

    const ROWS: usize = 40;
    const FREQS: [f32; 4] = [1.0, 0.1, 0.01, 0.001];

    /// A name, a shape, and the element at a place.
    type Made<'a> = (&'a str, &'a [usize], &'a dyn Fn(usize) -> f64);

    /// A graph with these constants.
    fn graph(tables: &[Made<'_>]) -> Graph {
        let mut graph = text::parse("graph \"t\" {\n}").unwrap();
        for (name, shape, f) in tables {
            let tensor =
                Tensor::from_fn(DType::F32, shape.to_vec(), |i| Scalar::float(f(i))).unwrap();
            let dims = shape.iter().map(|n| Dim::from(*n)).collect();
            let ty = TensorType::new(DType::F32, dims);
            let data = Some(Arc::new(tensor.to_bytes()) as _);
            graph
                .constants
                .insert((*name).into(), Constant { ty, data });
        }
        graph
    }

    fn angle(row: usize, column: usize) -> f64 {
        f64::from(row as f32 * FREQS[column])
    }

    fn forms(graph: &Graph) -> Vec<String> {
        let (graph, tables) = declared(graph);
        tables
            .iter()
            .map(|(name, table)| {
                let freqs = &graph.constants[&table.freqs];
                let bytes = freqs.data.as_ref().unwrap().bytes().unwrap().into_owned();
                let own = Tensor::from_bytes(DType::F32, vec![4], &bytes).unwrap();
                assert_eq!(own.to_f64(), FREQS.map(f64::from));
                format!("{name}: {}", table.form(Id::from(0)).unwrap())
            })
            .collect()
    }

    #[test]
    fn two_tables_are_read_together() {
        let cos = |i: usize| angle(i / 8, i % 4).cos();
        let sin = |i: usize| angle(i / 8, i % 4).sin();
        let shape = &[ROWS, 1, 8][..];
        assert_eq!(
            forms(&graph(&[("c", shape, &cos), ("s", shape, &sin)])),
            [
                "c: cos(mul(f32(i0), 0[remainder(i2, 4)]))",
                "s: sin(mul(f32(i0), 0[remainder(i2, 4)]))"
            ]
        );
        assert!(forms(&graph(&[("c", shape, &cos)])).is_empty());
    }

    #[test]
    fn tables_with_a_factor_and_each_frequency_twice() {
        let cos = |i: usize| 1.5 * angle(i / 8, i % 8 / 2).cos();
        let sin = |i: usize| 1.5 * angle(i / 8, i % 8 / 2).sin();
        let shape = &[ROWS, 8][..];
        assert_eq!(
            forms(&graph(&[("c", shape, &cos), ("s", shape, &sin)])),
            [
                "c: mul(cos(mul(f32(i0), 0[floor_div(i1, 2)])), 1.5)",
                "s: mul(sin(mul(f32(i0), 0[floor_div(i1, 2)])), 1.5)"
            ]
        );
    }

    #[test]
    fn one_constant_may_hold_both() {
        let wave = |turn: f64, cos: bool| if cos { turn.cos() } else { turn.sin() };
        let beside = |i: usize| wave(angle(i / 8, i % 4), i % 8 < 4);
        assert_eq!(
            forms(&graph(&[("cs", &[ROWS, 8], &beside)])),
            ["cs: where(lt(i1, 4), cos(mul(f32(i0), 0[i1])), sin(mul(f32(i0), 0[sub(i1, 4)])))"]
        );
        let complex = |i: usize| wave(angle(i / 8, i % 8 / 2), i.is_multiple_of(2));
        assert_eq!(
            forms(&graph(&[("cs", &[ROWS, 4, 2], &complex)])),
            ["cs: where(lt(i2, 1), cos(mul(f32(i0), 0[i1])), sin(mul(f32(i0), 0[i1])))"]
        );
    }

    #[test]
    fn one_element_that_differs_is_enough() {
        let shape = &[ROWS, 4][..];
        let cos = |i: usize| angle(i / 4, i % 4).cos();
        let sin = |i: usize| angle(i / 4, i % 4).sin();
        let other = |i: usize| sin(i) + if i == 93 { 1e-4 } else { 0.0 };
        assert_eq!(
            forms(&graph(&[("c", shape, &cos), ("s", shape, &sin)])).len(),
            2
        );
        assert!(forms(&graph(&[("c", shape, &cos), ("s", shape, &other)])).is_empty());
    }
}
