//! What reads a weight: which of its axes products sum over.

use std::collections::BTreeMap;

use fuseline_ir::{Graph, Op, Symbol, Value};
use fuseline_passes::shapes::without_ones;

/// The axis that neighbours in a group lie along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Last,
    SecondLast,
}

impl Place {
    fn other(self) -> Place {
        match self {
            Place::Last => Place::SecondLast,
            Place::SecondLast => Place::Last,
        }
    }
}

/// Who reads each value of a graph.
pub(super) struct Uses<'g> {
    graph: &'g Graph,
    /// The nodes that read a value, and as which argument.
    users: Vec<Vec<(Value, usize)>>,
    /// The values that read each constant.
    readers: BTreeMap<&'g Symbol, Vec<Value>>,
    roots: Vec<Value>,
}

/// How a value that is made of a weight relates to it.
#[derive(Clone, Copy)]
struct View {
    /// Whether the last two axes are the other way round.
    swapped: bool,
    /// Whether an index chose among the weight's matrices.
    taken: bool,
    /// Which of the weight's last two axes were cut: groups along them may not be whole.
    cut: [bool; 2],
}

impl View {
    /// Takes note of a product that sums over an axis of the weight.
    fn summed(self, place: Place, places: &mut Vec<Place>) -> Result<(), String> {
        if self.cut[place as usize] {
            return Err("a product sums over a part of it".to_owned());
        }
        places.push(place);
        Ok(())
    }
}

impl<'g> Uses<'g> {
    pub fn of(graph: &'g Graph) -> Uses<'g> {
        let mut users = vec![Vec::new(); graph.nodes().len()];
        let mut readers: BTreeMap<&Symbol, Vec<Value>> = BTreeMap::new();
        let live = graph.live();
        for (value, node) in graph.values().filter(|(value, _)| live[value.index()]) {
            if let Op::Constant(op) = &node.op {
                readers.entry(&op.name).or_default().push(value);
            }
            for (at, arg) in node.args.iter().enumerate() {
                users[arg.index()].push((value, at));
            }
        }
        Uses {
            graph,
            users,
            readers,
            roots: graph.roots(),
        }
    }

    /// The axis of a weight that all that reads it agrees on, or what reads it otherwise.
    pub fn place(&self, weight: &Symbol) -> Result<Place, String> {
        let mut places = Vec::new();
        let view = View {
            swapped: false,
            taken: false,
            cut: [false; 2],
        };
        for reader in self.readers.get(weight).into_iter().flatten() {
            self.follow(*reader, view, &mut places)?;
        }
        match places.split_first() {
            Some((first, rest)) if rest.iter().all(|p| p == first) => Ok(*first),
            Some(_) => Err("products read it both as it is and transposed".to_owned()),
            None => Err("nothing reads it".to_owned()),
        }
    }

    fn follow(&self, value: Value, view: View, places: &mut Vec<Place>) -> Result<(), String> {
        if self.roots.contains(&value) {
            return Err("it is a result of the model".to_owned());
        }
        for &(user, at) in &self.users[value.index()] {
            self.see(value, user, at, view, places)?;
        }
        Ok(())
    }

    fn see(
        &self,
        value: Value,
        user: Value,
        at: usize,
        view: View,
        places: &mut Vec<Place>,
    ) -> Result<(), String> {
        let rank = self.graph.ty(value).as_tensor().map_or(0, |t| t.rank());
        let node = self.graph.node(user);
        let refused = || {
            Err(format!(
                "{} reads it, and there is no quantised kernel for that",
                node.op.name()
            ))
        };
        // A product sums over the second last axis of its right side.
        let summed = if view.swapped {
            Place::Last
        } else {
            Place::Last.other()
        };
        match &node.op {
            Op::Cast(op) if op.dtype.is_float() => self.follow(user, view, places),
            Op::Transpose(op) => {
                let swaps = |(axis, from): (usize, &usize)| {
                    *from
                        == match rank - axis {
                            1 => rank - 2,
                            2 => rank - 1,
                            _ => axis,
                        }
                };
                let still = op.perm.iter().enumerate().all(|(axis, from)| axis == *from);
                let swapped = rank >= 2 && op.perm.iter().enumerate().all(swaps);
                if !still && !swapped {
                    return refused();
                }
                let view = View {
                    swapped: view.swapped != swapped,
                    ..view
                };
                self.follow(user, view, places)
            }
            // Some rows or some matrices: their groups are whole.
            Op::Slice(op) if op.axis < rank => {
                let mut view = view;
                let cut = match rank - op.axis {
                    1 => Some(Place::Last),
                    2 => Some(Place::SecondLast),
                    _ => None,
                };
                if let Some(place) = cut {
                    let place = if view.swapped { place.other() } else { place };
                    view.cut[place as usize] = true;
                }
                self.follow(user, view, places)
            }
            // Without the axis along which one matrix was cut out.
            Op::Reshape(op) => {
                let (from, to) = (self.graph.ty(value).as_tensor(), op.shape.as_slice());
                let from = from.map_or(&[][..], |ty| ty.shape.as_slice());
                let same = rank >= 2 && from.last_chunk::<2>() == to.last_chunk::<2>();
                if !same || without_ones(from) != without_ones(to) {
                    return refused();
                }
                self.follow(user, view, places)
            }
            Op::Take(op) if at == 0 && op.axis == 0 && !view.taken && rank == 2 => {
                if view.swapped {
                    return refused();
                }
                // Rows of an embedding.
                view.summed(Place::Last, places)
            }
            Op::Take(op) if at == 0 && op.axis == 0 && !view.taken && rank == 3 => {
                let view = View {
                    taken: true,
                    ..view
                };
                self.follow(user, view, places)
            }
            Op::Matmul(_) | Op::Addmm(_) if at == 1 && (rank == 2 || view.taken) => {
                view.summed(summed, places)
            }
            Op::Matmul(_) if at == 1 && rank == 3 => view.summed(summed, places),
            // On the left, matrices are summed over their last axis.
            Op::Matmul(_) | Op::Addmm(_) if at == 0 && rank == 2 => {
                view.summed(summed.other(), places)
            }
            Op::Matmul(_)
                if at == 0 && (view.taken && !view.swapped || !view.taken && rank == 3) =>
            {
                view.summed(summed.other(), places)
            }
            Op::GatherMm(_) if at == 1 => view.summed(summed, places),
            _ => refused(),
        }
    }
}
