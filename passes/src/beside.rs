//! Constants side by side, without a copy: a new constant's bytes are where the old ones' are, and are put together piece by piece when the file is written.

use fuseline_ir::graph::Payload;
use fuseline_ir::{Graph, Op, Symbol, Value};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Name and bytes for a constant that holds these, `constants` of the graph, one behind the other along an axis. Along axis 0 that is also what stacks them. No bytes in a graph that was
/// read from text, which names weights only; `None` where one is no constant or has another number of axes.
pub(crate) fn joined(
    graph: &Graph,
    constants: &[Value],
    axis: usize,
) -> Option<(Symbol, Option<Arc<dyn Payload>>)> {
    let mut names = Vec::new();
    let mut parts = Vec::new();
    let mut outer = 1;
    for value in constants {
        let Op::Constant(op) = &graph.node(*value).op else {
            return None;
        };
        names.push(op.name.clone());
        let shape = op.ty.static_shape()?;
        outer = product(shape.get(..axis)?);
        let stretch = product(shape.get(axis..)?).saturating_mul(op.ty.dtype.size());
        let data = graph.constants.get(&op.name).and_then(|c| c.data.clone());
        parts.extend(data.map(|data| (data, stretch)));
    }
    let data = (parts.len() == names.len())
        .then(|| Arc::new(SideBySide { outer, parts }) as Arc<dyn Payload>);
    Some((free_name(graph, &joint_name(&names)), data))
}

/// A name that no constant of the graph has: the wanted one, or that with a number behind.
pub(crate) fn free_name(graph: &Graph, wanted: &str) -> Symbol {
    let numbered = (2..).map(|n| format!("{wanted}.{n}"));
    std::iter::once(wanted.to_string())
        .chain(numbered)
        .map(Symbol::from)
        .find(|n| !graph.constants.contains_key(n))
        .unwrap_or_else(|| wanted.into())
}

fn product(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n: usize, d| n.saturating_mul(*d))
}

/// `layers.0.attention.{q,k,v}.weight`: what the names have in common, by their dots, and between braces what they don't.
fn joint_name(names: &[Symbol]) -> String {
    let split: Vec<Vec<&str>> = names.iter().map(|n| n.split('.').collect()).collect();
    let least = split.iter().map(Vec::len).min().unwrap_or(0);
    let alike = |at: &dyn Fn(&[&str]) -> Option<String>| {
        let mut all = split.iter().map(|s| at(s));
        let first = all.next();
        all.all(|a| Some(a) == first)
    };
    let head = (0..least)
        .take_while(|&n| alike(&|s| s.get(n).map(|t| t.to_string())))
        .count();
    let tail = (0..least - head)
        .take_while(|&n| alike(&|s| s.iter().rev().nth(n).map(|t| t.to_string())))
        .count();
    let middles: Vec<String> = split
        .iter()
        .map(|s| s[head..s.len() - tail].join("."))
        .collect();
    let first = split.first().map(Vec::as_slice).unwrap_or_default();
    let middle = format!("{{{}}}", middles.join(","));
    let mut name: Vec<&str> = first[..head].to_vec();
    name.push(&middle);
    name.extend(&first[first.len() - tail..]);
    name.join(".")
}

/// The bytes of tensors that are laid side by side along an axis: `outer` times a stretch of each. They are put together only as far as they are asked for.
struct SideBySide {
    /// The product of the sizes before the axis.
    outer: usize,
    /// The tensors' bytes, and how long a stretch of each is.
    parts: Vec<(Arc<dyn Payload>, usize)>,
}

impl SideBySide {
    /// Bytes of one index before the axis.
    fn row(&self) -> usize {
        self.parts.iter().map(|(_, stretch)| stretch).sum()
    }
}

impl Payload for SideBySide {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        self.range(0..self.row() * self.outer)
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let row = self.row();
        if range.start > range.end || range.end > row * self.outer {
            let all = row * self.outer;
            return Err(format!("bytes {}..{} of {all}", range.start, range.end));
        }
        let mut out = Vec::with_capacity(range.len());
        if range.is_empty() {
            return Ok(Cow::Owned(out));
        }
        // What has to be made is made once for all rows that the range touches.
        let rows = range.start / row..range.end.div_ceil(row);
        let mut parts = Vec::with_capacity(self.parts.len());
        for (payload, stretch) in &self.parts {
            let span = match rows.len() {
                1 => None,
                _ => Some(payload.range(rows.start * stretch..rows.end * stretch)?),
            };
            parts.push((payload, *stretch, span));
        }
        for n in rows.clone() {
            let mut start = n * row;
            for (payload, stretch, span) in &parts {
                let (from, to) = (range.start.max(start), range.end.min(start + stretch));
                if from < to {
                    let part = n * stretch + from - start..n * stretch + to - start;
                    match span {
                        Some(span) => {
                            let skipped = rows.start * stretch;
                            out.extend_from_slice(&span[part.start - skipped..part.end - skipped]);
                        }
                        None => out.extend_from_slice(&payload.range(part)?),
                    }
                }
                start += stretch;
            }
        }
        Ok(Cow::Owned(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> String {
        joint_name(&all.iter().map(|n| Symbol::from(*n)).collect::<Vec<_>>())
    }

    #[test]
    fn names_say_what_is_in_them() {
        assert_eq!(names(&["m.0.q.weight", "m.0.k.weight"]), "m.0.{q,k}.weight");
        assert_eq!(names(&["w1", "w3"]), "{w1,w3}");
        assert_eq!(names(&["m.w", "m.x.w"]), "m.{,x}.w");
        assert_eq!(names(&["a", "a"]), "a.{,}");
    }

    #[test]
    fn any_range_is_a_slice_of_the_whole() {
        let part = |bytes: &[u8]| Arc::new(bytes.to_vec()) as Arc<dyn Payload>;
        let rows = SideBySide {
            outer: 2,
            parts: vec![(part(&[1, 2, 3, 4]), 2), (part(&[]), 0), (part(&[5, 6]), 1)],
        };
        let whole = [1, 2, 5, 3, 4, 6];
        assert_eq!(*rows.bytes().unwrap(), whole);
        for start in 0..=6 {
            for end in start..=6 {
                assert_eq!(*rows.range(start..end).unwrap(), whole[start..end]);
            }
        }
        assert!(rows.range(0..7).is_err());
        let one = SideBySide {
            outer: 1,
            parts: vec![(part(&[1, 2]), 2), (part(&[3]), 1)],
        };
        assert_eq!(*one.range(1..3).unwrap(), [2, 3]);
        let wrong = SideBySide {
            outer: 2,
            parts: vec![(part(&[1, 2, 3]), 2)],
        };
        assert!(wrong.bytes().is_err());
        let nothing = SideBySide {
            outer: 0,
            parts: vec![(part(&[]), 4)],
        };
        assert!(nothing.bytes().unwrap().is_empty());
    }
}
