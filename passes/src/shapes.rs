//! Facts about shapes that several passes need.

use fuseline_ir::ops::movement::Slice;
use fuseline_ir::{Dim, Graph, Op, Value};
use std::collections::BTreeMap;
use std::ops::Range;

/// A run of axes of one shape that holds the same elements in the same order as a run of axes of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Axes of the first shape.
    pub from: Range<usize>,
    /// Axes of the second shape.
    pub to: Range<usize>,
}

/// The finest way to see a reshape as independent reshapes of runs of axes: in each group the sizes multiply to the same number. An axis of size 1 is a group alone
/// (empty on the other side) unless it lies inside a larger one. `None` where the algebra of sizes can't tell, or where a size is 0.
pub fn groups(from: &[Dim], to: &[Dim]) -> Option<Vec<Group>> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    if from.iter().chain(to).any(|d| d.is(0)) {
        return None;
    }
    while i < from.len() || j < to.len() {
        let (i0, j0) = (i, j);
        if from.get(i).is_some_and(|d| d.is(1)) && !to.get(j).is_some_and(|d| d.is(1)) {
            i += 1;
        } else if to.get(j).is_some_and(|d| d.is(1)) && !from.get(i).is_some_and(|d| d.is(1)) {
            j += 1;
        } else {
            let (mut p, mut q) = (from.get(i)?.clone(), to.get(j)?.clone());
            (i, j) = (i + 1, j + 1);
            while p != q {
                if q.exact_div(&p).is_some() || less(&p, &q) {
                    p = &p * from.get(i)?;
                    i += 1;
                } else if p.exact_div(&q).is_some() || less(&q, &p) {
                    q = &q * to.get(j)?;
                    j += 1;
                } else {
                    return None;
                }
            }
        }
        out.push(Group {
            from: i0..i,
            to: j0..j,
        });
    }
    Some(out)
}

fn less(a: &Dim, b: &Dim) -> bool {
    matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a < b)
}

/// The sizes that are not 1, in order.
pub fn without_ones(shape: &[Dim]) -> Vec<&Dim> {
    shape.iter().filter(|d| !d.is(1)).collect()
}

/// Whether a reshape between the two shapes only adds and removes axes of size 1.
pub fn only_ones_differ(from: &[Dim], to: &[Dim]) -> bool {
    without_ones(from) == without_ones(to)
}

/// The product of sizes; 1 for none.
pub fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::from(1i64), |n, d| &n * d)
}

/// The axes that are not of size 1.
pub fn wide_axes(shape: &[Dim]) -> usize {
    shape.iter().filter(|d| !d.is(1)).count()
}

/// Whether `users`, readers of one value, are slices that divide an axis of it among them: the axis, and the slices in the order in which they lie.
pub fn partition(graph: &Graph, users: &[Value]) -> Option<(usize, Vec<Value>)> {
    let mut by_start: BTreeMap<&Dim, (Value, &Slice)> = BTreeMap::new();
    let mut axis = None;
    for &user in users {
        let Op::Slice(slice) = &graph.node(user).op else {
            return None;
        };
        if slice.step != 1 || *axis.get_or_insert(slice.axis) != slice.axis {
            return None;
        }
        if by_start.insert(&slice.start, (user, slice)).is_some() {
            return None;
        }
    }
    let axis = axis?;
    let source = graph.node(*users.first()?).args.first()?;
    let all = graph.ty(*source).as_tensor()?.shape.get(axis)?;
    let mut at = Dim::from(0i64);
    let mut slices = Vec::with_capacity(users.len());
    while slices.len() < users.len() {
        let (value, slice) = by_start.remove(&at)?;
        slices.push(value);
        at = slice.stop.clone();
    }
    (at == *all && slices.len() > 1).then_some((axis, slices))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Vec<Dim> {
        text.split(' ')
            .map(|d| d.parse::<i64>().map_or_else(|_| Dim::symbol(d), Dim::from))
            .collect()
    }

    fn show(from: &str, to: &str) -> Option<String> {
        let g = groups(&shape(from), &shape(to))?;
        Some(
            g.iter()
                .map(|g| format!("{:?}>{:?}", g.from, g.to))
                .collect::<Vec<_>>()
                .join(" "),
        )
    }

    #[test]
    fn groups_are_the_finest() {
        assert_eq!(
            show("1 s 256", "1 s 4 64").as_deref(),
            Some("0..1>0..1 1..2>1..2 2..3>2..4")
        );
        assert_eq!(
            show("s 256", "1 s 256").as_deref(),
            Some("0..0>0..1 0..1>1..2 1..2>2..3")
        );
        assert_eq!(show("2 3 s", "6 s").as_deref(), Some("0..2>0..1 2..3>1..2"));
        assert_eq!(show("2 s 4", "s 8"), None);
        assert_eq!(show("4 6", "8 3").as_deref(), Some("0..2>0..2"));
        assert_eq!(show("0 2", "2 0"), None);
    }
}
