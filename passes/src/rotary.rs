//! What rotary tables give the rules that recognise a rotation: where rows stand, and how far each column turns, as terms for the e-graph.

use crate::closed_form::{Expr, Form, Pairing, Position, Rotary, Wave, position, rotary_table};
use crate::egraph::EGraph;
use crate::matcher::Made;
use crate::sort::Columns;
use egg::Id;
use fuseline_ir::ops::{create, index, movement, pointwise};
use fuseline_ir::{DType, Dim, Scalar, TensorType};
use std::sync::Arc;

/// What a pair of tables says, as `rope` takes it.
pub struct Tables {
    /// The position of the first row, or of each row.
    pub offset: Made,
    /// The reciprocals of the frequencies, as a vector of `f32`.
    pub periods: Made,
    /// What positions are multiplied by.
    pub scale: f64,
    /// What both tables are multiplied by, where that isn't 1.
    pub amplitude: Option<Made>,
}

/// Reads a table of cosines and one of sines that turn what has rows `rows` (all its axes but the last). `None` where they aren't tables of the same angles with these columns.
pub fn tables(
    egraph: &EGraph,
    (cos, sin): (Id, Id),
    columns: Columns,
    rows: &[Dim],
) -> Option<Tables> {
    let table = |id: Id| {
        let facts = &egraph[id].data;
        let mut table = rotary_table(facts.form.as_ref()?)?;
        // Forms name classes as they were when they were found.
        let name = |k: &Id| egraph.find(*k);
        table.position = table.position.renamed(&name);
        table.freqs = table.freqs.renamed(&name);
        Some((table, facts.ty.as_tensor()?))
    };
    let ((cos, cos_ty), (sin, sin_ty)) = (table(cos)?, table(sin)?);
    let same = Rotary {
        wave: Wave::Cos,
        ..sin.clone()
    } == cos;
    if cos.wave != Wave::Cos || sin.wave != Wave::Sin || !same || cos_ty.shape != sin_ty.shape {
        return None;
    }
    let (rank, width) = (cos_ty.rank(), cos_ty.shape.last()?);
    // The op that takes as many periods checks that they are half of what is turned.
    let half = match (columns, &cos.pairing) {
        (Columns::Once, Pairing::Once) => width.clone(),
        // One half of a table whose columns are there twice.
        (Columns::Once, Pairing::Halves { half }) if half == width => half.clone(),
        (Columns::Halves, Pairing::Halves { half }) if &(half + half) == width => half.clone(),
        (Columns::Neighbours, Pairing::Neighbours) => width.exact_div(&Dim::from(2i64))?,
        _ => return None,
    };
    let lead = (rows.len() + 1).checked_sub(rank)?;
    if cos.freq_axis + 1 != rank || !cos.amplitude.is_finite() {
        return None;
    }
    let at = cos.position.substitute(&|axis| Form::index(axis + lead));
    Some(Tables {
        offset: offset(egraph, &at, rows)?,
        periods: periods(egraph, &cos, half)?,
        scale: cos.angle_scale,
        amplitude: (cos.amplitude != 1.0).then(|| {
            let full = create::Full {
                value: Scalar::float(cos.amplitude),
                ty: TensorType::new(cos.dtype, Vec::new()),
            };
            Made::op(full, Vec::new())
        }),
    })
}

/// The first of positions that count up by one along the second to last axis of `rows`, and no other.
pub fn counted(egraph: &EGraph, positions: Id, rows: &[Dim]) -> Option<Made> {
    let facts = &egraph[positions].data;
    let ty = facts.ty.as_tensor()?;
    let axis = rows.len().checked_sub(2)?;
    let form = facts.form.as_ref()?.renamed(&|k| egraph.find(*k));
    let (own, first) = first(egraph, &form)?;
    (own == Some(axis) && ty.shape.get(axis) == rows.get(axis)).then_some(first)
}

/// The offset for rows at these positions: that of the first where they count up along the last axis, or there is one; else all of them.
fn offset(egraph: &EGraph, at: &Arc<Form<Id>>, rows: &[Dim]) -> Option<Made> {
    let one = rows.last()?.is(1);
    match first(egraph, at) {
        Some((Some(axis), first)) if axis + 1 == rows.len() => return Some(first),
        Some((None, first)) if one => return Some(first),
        _ => {}
    }
    if at.reach() == 0 && one {
        return Term { egraph, shape: &[] }.of(at);
    }
    // A single axis of positions would say where each of the batch begins.
    if rows.len() < 2 {
        return None;
    }
    if at.reach() == 0 {
        let one = Term { egraph, shape: &[] }.of(at)?;
        let shape = vec![Dim::from(1i64); rows.len()];
        return Some(Made::op(movement::Reshape { shape }, vec![one]));
    }
    let shape: Vec<Dim> = rows
        .iter()
        .enumerate()
        .map(|(axis, n)| {
            if at.depends_on(axis) {
                n.clone()
            } else {
                Dim::from(1i64)
            }
        })
        .collect();
    let term = Term {
        egraph,
        shape: &shape,
    };
    term.of(at)
}

/// The position of the first row as a 0-d tensor or an integer, and the axis along which positions count up by one from it, if they do.
fn first(egraph: &EGraph, at: &Arc<Form<Id>>) -> Option<(Option<usize>, Made)> {
    let at: Position<Id> = position(at)?;
    let mut axes = at.axes.iter();
    let axis = match (axes.next(), axes.next()) {
        (None, _) => None,
        (Some((axis, step)), None) if step.is(1) => Some(*axis),
        _ => return None,
    };
    let constant = || {
        Made::op(
            create::Size {
                value: at.constant.clone(),
            },
            Vec::new(),
        )
    };
    let mut scalars = at.scalars.iter();
    let id = match (scalars.next(), scalars.next()) {
        (None, _) => return Some((axis, constant())),
        (Some((id, 1)), None) => *id,
        _ => return None,
    };
    let ty = egraph[id].data.ty.as_tensor()?;
    let mut made = Made::Class(id);
    if ty.rank() > 0 {
        made = Made::op(movement::Reshape { shape: Vec::new() }, vec![made]);
    }
    if !at.constant.is(0) {
        let constant = Made::op(create::IntTensor { dtype: ty.dtype }, vec![constant()]);
        made = Made::op(pointwise::Add {}, vec![made, constant]);
    }
    Some((axis, made))
}

/// The reciprocals of the frequencies, as a vector of `f32`.
fn periods(egraph: &EGraph, table: &Rotary<Id>, half: Dim) -> Option<Made> {
    let term = Term {
        egraph,
        shape: &[half],
    };
    let mut made = term.of(&table.freqs)?;
    if table.freqs.dtype != DType::F32 {
        made = Made::op(pointwise::Cast { dtype: DType::F32 }, vec![made]);
    }
    Some(Made::op(pointwise::Reciprocal {}, vec![made]))
}

/// A form as a term: a tensor of that shape, or one that broadcasts to it.
struct Term<'a> {
    egraph: &'a EGraph,
    shape: &'a [Dim],
}

impl Term<'_> {
    /// `None` where the form reads a tensor in an order of its own.
    fn of(&self, form: &Form<Id>) -> Option<Made> {
        match &form.expr {
            Expr::Index(axis) => {
                let range = create::Arange {
                    start: Dim::from(0i64),
                    step: Dim::from(1i64),
                    len: self.shape.get(*axis)?.clone(),
                    dtype: form.dtype,
                };
                Some(self.along(&[*axis], Made::op(range, Vec::new())))
            }
            Expr::Literal(value) => {
                let ty = TensorType::new(form.dtype, Vec::new());
                Some(Made::op(create::Full { value: *value, ty }, Vec::new()))
            }
            Expr::Dim(value) => {
                let size = Made::op(
                    create::Size {
                        value: value.clone(),
                    },
                    Vec::new(),
                );
                let dtype = form.dtype;
                Some(Made::op(create::IntTensor { dtype }, vec![size]))
            }
            Expr::Scalar(id) => Some(self.reshaped(Vec::new(), Made::Class(*id))),
            Expr::Element(id, index) => self.element(*id, index),
            Expr::Apply(op, args) => {
                let args = args
                    .iter()
                    .map(|a| self.of(a))
                    .collect::<Option<Vec<_>>>()?;
                Some(Made::Op(op.clone(), args))
            }
        }
    }

    /// A tensor at these indices: all of it where they are the term's own, in order; else what one index picks.
    fn element(&self, id: Id, index: &[Arc<Form<Id>>]) -> Option<Made> {
        let zero = |i: &&Arc<Form<Id>>| i.literal() == Some(Scalar::Int(0));
        let own: Option<Vec<usize>> = index
            .iter()
            .filter(|i| !zero(i))
            .map(|i| match i.expr {
                Expr::Index(axis) => Some(axis),
                _ => None,
            })
            .collect();
        if let Some(axes) = own.filter(|axes| axes.is_sorted_by(|a, b| a < b)) {
            return Some(self.along(&axes, Made::Class(id)));
        }
        let mut picked = index.iter().filter(|i| !zero(i));
        let (Some(at), None) = (picked.next(), picked.next()) else {
            return None;
        };
        let ty = self.egraph[id].data.ty.as_tensor()?;
        let len = ty.shape.iter().fold(Dim::from(1i64), |n, d| &n * d);
        let vector = self.reshaped(vec![len], Made::Class(id));
        Some(Made::op(
            index::Take { axis: 0 },
            vec![vector, self.of(at)?],
        ))
    }

    /// What has these axes, beside the others.
    fn along(&self, axes: &[usize], made: Made) -> Made {
        let sizes = self.shape.iter().enumerate().map(|(axis, n)| {
            if axes.contains(&axis) {
                n.clone()
            } else {
                Dim::from(1i64)
            }
        });
        self.reshaped(sizes.collect(), made)
    }

    fn reshaped(&self, shape: Vec<Dim>, made: Made) -> Made {
        let own = match &made {
            Made::Class(id) => self.egraph[*id].data.ty.as_tensor(),
            Made::Op(..) => None,
        };
        if own.is_some_and(|ty| ty.shape == shape) {
            return made;
        }
        Made::op(movement::Reshape { shape }, vec![made])
    }
}
