//! What reads a weight: which of its axes products sum over.

use std::collections::BTreeMap;

use fuseline_ir::{Graph, Op, Symbol, Value};

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
            Op::Take(op) if at == 0 && op.axis == 0 && !view.taken && rank == 2 => {
                if view.swapped {
                    return refused();
                }
                // Rows of an embedding.
                places.push(Place::Last);
                Ok(())
            }
            Op::Take(op) if at == 0 && op.axis == 0 && !view.taken && rank == 3 => {
                let view = View {
                    taken: true,
                    ..view
                };
                self.follow(user, view, places)
            }
            Op::Matmul(_) | Op::Addmm(_) if at == 1 && (rank == 2 || view.taken) => {
                places.push(summed);
                Ok(())
            }
            Op::Matmul(_) if at == 1 && rank == 3 => {
                places.push(summed);
                Ok(())
            }
            // On the left, matrices are summed over their last axis.
            Op::Matmul(_) | Op::Addmm(_) if at == 0 && rank == 2 => {
                places.push(summed.other());
                Ok(())
            }
            Op::Matmul(_)
                if at == 0 && (view.taken && !view.swapped || !view.taken && rank == 3) =>
            {
                places.push(summed.other());
                Ok(())
            }
            Op::GatherMm(_) if at == 1 => {
                places.push(summed);
                Ok(())
            }
            _ => refused(),
        }
    }
}
