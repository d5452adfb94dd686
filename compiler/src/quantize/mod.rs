//! Weights quantised while compiling.
//!
//! [`apply`] puts, in the place of each weight that a product or an embedding reads and that the [`Plan`] gives a scheme, the dequantisation of constants in
//! MLX's layout. Rules then fuse it with what reads it. The constants are made when the file is written, block by block on all cores: nothing is computed here.
//!
//! The integers, scales and biases are those of MLX's own `quantize` on the CPU, bit for bit, unless the plan asks for a search. What is quantised is along the
//! axis that products sum over, so a weight that is stored the other way round is transposed on the way.

mod affine;
mod block;
mod element;
mod floats;
mod moved;
mod scheme;
mod uses;
mod weight;

pub use scheme::{Map, MapError, Scheme};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fuseline_ir::graph::Payload;
use fuseline_ir::ops::quant::Mode;
use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Graph, Loc, Op, OpError, Symbol, TensorType, Value};
use fuseline_passes::PassError;
use fuseline_passes::decompose::copy_ends;
use serde::Serialize;

use moved::Swapped;
use uses::{Place, Uses};
use weight::{List, Part, Room, Weight};

/// What to quantise, and to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The scheme of weights that no rule matches.
    pub scheme: Option<Scheme>,
    /// Rules for some of them.
    pub map: Map,
    /// Whether to search for scales that fit better than MLX's.
    pub search: bool,
}

impl Plan {
    /// Whether the plan changes nothing, whatever the weights.
    pub fn is_empty(&self) -> bool {
        self.scheme.is_none() && self.map == Map::default()
    }
}

/// The names of the model's trained weights: for each constant of the graph, all the names that the model has for it. Tied weights have several.
pub type Names = BTreeMap<Symbol, Vec<String>>;

/// What was quantised and what was not.
#[derive(Default)]
pub struct Quantised {
    weights: Vec<(Symbol, Vec<usize>, Arc<Weight>)>,
    kept: Vec<Kept>,
}

/// A weight that was quantised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightReport {
    /// Its name.
    pub name: String,
    /// The scheme that it got.
    pub scheme: String,
    /// Its shape as products read it, what they sum over last.
    pub shape: Vec<usize>,
    /// Its bytes before.
    pub bytes_before: u64,
    /// Its bytes now: elements, scales and biases.
    pub bytes: u64,
    /// The root of the sum of squared differences, divided by that of the weight's squares. Absent where either is not finite.
    pub relative_error: Option<f64>,
    /// The largest difference. Absent where it is not finite.
    pub largest_error: Option<f64>,
    /// `relative_error` as it would be with MLX's own scales, where others were searched for.
    pub relative_error_without_search: Option<f64>,
}

/// A weight that stayed as it was although the plan has a scheme for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: String,
    /// Why.
    pub reason: String,
}

impl Quantised {
    fn keep(&mut self, name: &str, ty: &TensorType, reason: String) {
        if self.kept.iter().all(|kept| kept.name != name) {
            self.kept.push(Kept {
                name: name.to_owned(),
                ty: ty.to_string(),
                reason,
            });
        }
    }

    /// The weights that stayed as they were.
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// How large the weights are and how well they fit, in the graph's order. Cheap after the file was written; else the weights are made for it.
    ///
    /// # Errors
    /// A weight's bytes can't be had: its name, and why.
    pub fn report(&self) -> Result<Vec<WeightReport>, (String, String)> {
        let mut out = Vec::new();
        for (name, shape, weight) in &self.weights {
            let sums = weight.sums().map_err(|reason| (name.to_string(), reason))?;
            let finite = |x: f64| x.is_finite().then_some(x);
            let relative = |error: f64| {
                if sums.power == 0.0 {
                    finite(error.sqrt())
                } else {
                    finite((error / sums.power).sqrt())
                }
            };
            let lists = [List::Codes, List::Scales, List::Biases];
            let lists = &lists[..if weight.scheme.mode == Mode::Affine {
                3
            } else {
                2
            }];
            let bytes: usize = lists
                .iter()
                .map(|list| weight.bytes(*list, weight.elements))
                .sum();
            out.push(WeightReport {
                name: name.to_string(),
                scheme: weight.scheme.to_string(),
                shape: shape.clone(),
                bytes_before: (weight.elements * weight.dtype.size()) as u64,
                bytes: bytes as u64,
                relative_error: relative(sums.error),
                largest_error: finite(sums.worst),
                relative_error_without_search: relative(sums.plain).filter(|_| weight.search),
            });
        }
        Ok(out)
    }
}

/// Quantises the weights of a graph. Only constants that `names` lists are weights.
///
/// # Errors
/// A node that can't be added again: a bug.
pub fn apply(graph: &Graph, plan: &Plan, names: &Names) -> Result<(Graph, Quantised), PassError> {
    let moved = settled(graph, plan, names)?;
    let graph = &moved;
    let uses = Uses::of(graph);
    let mut done = Quantised::default();
    let room = Arc::default();
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    let mut replaced: BTreeSet<Symbol> = BTreeSet::new();
    for (value, node) in graph.values() {
        let fail = |error| PassError::Op {
            pass: "quantize",
            place: graph.describe(value, node),
            error,
        };
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let chosen = match &node.op {
            Op::Constant(constant) => names.get(&constant.name).and_then(|known| {
                let scheme = plan.map.get(known).unwrap_or(plan.scheme)?;
                Some((&constant.name, &constant.ty, scheme))
            }),
            _ => None,
        };
        let mut quantised = None;
        if let Some((name, ty, scheme)) = chosen.filter(|(_, ty, _)| ty.rank() >= 2) {
            let place = if is_bias(name) {
                Err("it is a bias".to_owned())
            } else {
                uses.place(name)
            };
            match Form::of(ty, scheme, place) {
                Ok(form) => {
                    let data = graph.constants.get(name).and_then(|c| c.data.clone());
                    if let Some(data) = data {
                        let built =
                            form.build(&mut out, name, data, (plan.search, &room), &node.loc);
                        let (dequantised, weight) = built.map_err(fail)?;
                        if replaced.insert(name.clone()) {
                            done.weights
                                .push((name.clone(), form.shape.clone(), weight));
                        }
                        quantised = Some(dequantised);
                    }
                }
                Err(reason) => done.keep(name, ty, reason),
            }
        }
        map.push(match quantised {
            Some(value) => value,
            None => out.add(node.op.clone(), &args, &node.loc).map_err(fail)?,
        });
    }
    copy_ends(graph, &mut out, &map);
    let initial: BTreeSet<Symbol> = out.states.iter().filter_map(|s| s.init.clone()).collect();
    for name in replaced.difference(&initial) {
        out.constants.remove(name);
    }
    Ok((out, done))
}

/// The graph with those weights that the plan gives a scheme stored as they are read, where no product can take them as they are.
fn settled(graph: &Graph, plan: &Plan, names: &Names) -> Result<Graph, PassError> {
    let uses = Uses::of(graph);
    let chosen = |name: &Symbol| {
        let known = names.get(name)?;
        plan.map.get(known).unwrap_or(plan.scheme)
    };
    let mut weights = BTreeSet::new();
    for (name, constant) in &graph.constants {
        if constant.ty.rank() >= 2 && chosen(name).is_some() && uses.place(name).is_err() {
            weights.insert(name.clone());
        }
    }
    moved::settled(graph, &weights).map_err(|error| PassError::Op {
        pass: "quantize",
        place: format!("graph \"{}\"", graph.name),
        error,
    })
}

/// Whether a weight is what experts add to their products, by the name that PyTorch's modules give it: a table like an embedding, but small and added as it is.
fn is_bias(name: &str) -> bool {
    name.rsplit(['.', '_']).next() == Some("bias")
}

/// How one weight is quantised.
struct Form {
    scheme: Scheme,
    dtype: DType,
    /// As products read it: what they sum over last.
    shape: Vec<usize>,
    /// Whether it is stored with the last two axes the other way round.
    swapped: bool,
}

impl Form {
    /// The form of a weight that is read so, or why it has none.
    fn of(ty: &TensorType, scheme: Scheme, place: Result<Place, String>) -> Result<Form, String> {
        if !matches!(ty.dtype, DType::F16 | DType::BF16 | DType::F32) {
            return Err(format!("it holds {}", ty.dtype));
        }
        let mut shape = ty.static_shape().ok_or("its shape is not known")?;
        let swapped = place? == Place::SecondLast;
        let rank = shape.len();
        if swapped {
            shape.swap(rank - 2, rank - 1);
        }
        let width = shape[rank - 1];
        if shape.contains(&0) {
            return Err("it has no elements".to_owned());
        }
        if width % scheme.group != 0 {
            return Err(format!(
                "{width} numbers in a row are no multiple of the group of {}",
                scheme.group
            ));
        }
        Ok(Form {
            scheme,
            dtype: ty.dtype,
            shape,
            swapped,
        })
    }

    /// Adds the constants, and the weight that they stand for in its own shape.
    fn build(
        &self,
        graph: &mut Graph,
        name: &str,
        data: Arc<dyn Payload>,
        (search, room): (bool, &Arc<Room>),
        loc: &Loc,
    ) -> Result<(Value, Arc<Weight>), OpError> {
        let (rank, elements) = (self.shape.len(), self.shape.iter().product());
        let (rows, width) = (self.shape[rank - 2], self.shape[rank - 1]);
        let data = if self.swapped {
            let swapped = Swapped {
                data,
                width: self.dtype.size(),
                count: elements / (rows * width),
                rows: width,
                columns: rows,
            };
            Arc::new(swapped)
        } else {
            data
        };
        let Scheme { mode, bits, group } = self.scheme;
        let room = Arc::clone(room);
        let weight = Weight::new(data, self.dtype, elements, self.scheme, search, room);
        let weight = Arc::new(weight);
        let mut list = |list: List, suffix: &str, dtype: DType, last: usize| {
            let mut shape = self.shape.clone();
            shape[rank - 1] = last;
            let ty = TensorType::new(dtype, shape.into_iter().map(Into::into).collect());
            let part = Part {
                weight: Arc::clone(&weight),
                list,
            };
            graph.constant(format!("{name}.{suffix}"), ty, Some(Arc::new(part)))
        };
        let scales = if mode == Mode::Affine {
            self.dtype
        } else {
            DType::U8
        };
        let mut args = vec![
            list(List::Codes, "packed", DType::U32, width * bits / 32)?,
            list(List::Scales, "scales", scales, width / group)?,
        ];
        if mode == Mode::Affine {
            args.push(list(List::Biases, "biases", scales, width / group)?);
        }
        let op = op::Dequantize {
            group,
            bits,
            mode: mode.name().into(),
            dtype: self.dtype,
        };
        let mut value = graph.add(op, &args, loc)?;
        if self.swapped {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.swap(rank - 2, rank - 1);
            value = graph.add(op::Transpose { perm }, &[value], loc)?;
        }
        Ok((value, weight))
    }
}
