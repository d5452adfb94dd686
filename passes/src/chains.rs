//! Steps that go over elements one by one stand side by side.
//!
//! A run of elementwise instructions with nothing between is what MLX's compile makes one kernel of, and what a reader sees as one thing. Extraction and the passes behind it leave views,
//! and work on other values, between such steps. Here the nodes get another order, and nothing else: an elementwise chain is a set of elementwise values that are joined by their uses
//! and of one stage, so that no path from one to another leads through anything else. Each chain stands where its last member stood; what only some of it needs comes before, and what
//! needs it behind.
//!
//! Where the host takes part, or a graph inside an op does, the order stays.
//!
//! Numerics: exact.

use crate::decompose::copy_ends;
use crate::extract::mentions;
use crate::hoist::const_only;
use crate::pass::{PassCx, PassError};
use crate::regions::has_region;
use fuseline_ir::{Flag, Graph, Op, OpError, Symbol, Value};
use std::collections::BTreeMap;

/// The pass's name.
pub const NAME: &str = "chains";

/// The pass: see the module.
///
/// # Errors
/// None on a valid graph.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    let apart = |n: &fuseline_ir::Node| matches!(n.op, Op::Host(_)) || has_region(n);
    if graph.nodes().iter().any(apart) {
        return Ok(graph.clone());
    }
    let chains = Chains::of(graph);
    let reordered = || -> Result<Graph, OpError> {
        let mut out = graph.rebuilt();
        let mut map = vec![Value::from_index(0); graph.nodes().len()];
        for value in chains.order(graph) {
            let node = graph.node(value);
            let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
            map[value.index()] = out.add(node.op.clone(), &args, &node.loc)?;
        }
        copy_ends(graph, &mut out, &map);
        Ok(out)
    };
    reordered().map_err(PassError::op(NAME, format!("graph \"{}\"", graph.name)))
}

/// The chains of a graph; a value that belongs to none is one of its own.
pub struct Chains {
    /// What each value needs: its arguments, and the items whose symbols it mentions.
    needs: Vec<Vec<usize>>,
    /// For each value, the first member of its chain.
    first: Vec<usize>,
    /// For the first member of a chain, all of them in order.
    members: BTreeMap<usize, Vec<usize>>,
}

impl Chains {
    /// Finds them.
    pub fn of(graph: &Graph) -> Chains {
        let items: BTreeMap<&Symbol, usize> = graph
            .values()
            .filter_map(|(v, n)| match &n.op {
                Op::Item(item) => Some((&item.symbol, v.index())),
                _ => None,
            })
            .collect();
        let fixed = const_only(graph);
        let elementwise = |v: usize| {
            let node = graph.node(Value::from_index(v));
            node.op.info().has(Flag::Pointwise) && !fixed[v]
        };
        let count = graph.nodes().len();
        let mut needs = Vec::with_capacity(count);
        // An earlier member of the same chain, or the value itself.
        let mut chain: Vec<usize> = Vec::with_capacity(count);
        // How often the way to a value changes between elementwise steps and others, at most: a way that leaves a chain comes to a later stage, and none leads back.
        let mut stage: Vec<usize> = Vec::with_capacity(count);
        for (value, node) in graph.values() {
            let v = value.index();
            let mut own: Vec<usize> = node.args.iter().map(|a| a.index()).collect();
            mentions(&node.op, &node.ty, &mut |s| own.extend(items.get(s)));
            own.sort_unstable();
            own.dedup();
            let here = own.iter().filter(|n| !fixed[**n]).map(|n| {
                let joined = elementwise(v) && elementwise(*n);
                stage[*n] + usize::from(!joined)
            });
            let here = here.max().unwrap_or(0);
            stage.push(here);
            chain.push(v);
            for n in own.iter().filter(|_| elementwise(v)) {
                if elementwise(*n) && stage[*n] == here {
                    let (a, b) = (head(&mut chain, *n), head(&mut chain, v));
                    chain[a.max(b)] = a.min(b);
                }
            }
            needs.push(own);
        }
        let first: Vec<usize> = (0..count).map(|v| head(&mut chain, v)).collect();
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (v, head) in first.iter().enumerate() {
            members.entry(*head).or_default().push(v);
        }
        Chains {
            needs,
            first,
            members,
        }
    }

    /// How many chains have several members, and how many of those have something else between them in the graph's own order. What is done once, when the program is loaded, doesn't count.
    pub fn broken(&self, graph: &Graph) -> (usize, usize) {
        let fixed = const_only(graph);
        let mut place = Vec::with_capacity(fixed.len());
        let mut next = 0usize;
        for fixed in &fixed {
            place.push(next);
            next += usize::from(!fixed);
        }
        let several: Vec<&Vec<usize>> = self.members.values().filter(|m| m.len() > 1).collect();
        let apart = |m: &&&Vec<usize>| place[m[m.len() - 1]] - place[m[0]] + 1 != m.len();
        (several.len(), several.iter().filter(apart).count())
    }

    /// All values, each behind what it needs, and each chain at the place of its last member.
    fn order(&self, graph: &Graph) -> Vec<Value> {
        let mut order = Vec::with_capacity(self.first.len());
        let mut begun = vec![false; self.first.len()];
        // Inputs stay in order: they are the signature.
        for input in graph.inputs() {
            begun[self.first[input.index()]] = true;
            order.push(*input);
        }
        let mut heads: Vec<usize> = self.members.keys().copied().collect();
        heads.sort_by_key(|head| self.members[head].last().copied());
        for head in heads {
            // (chain, whether what it needs has been pushed)
            let mut stack = vec![(head, false)];
            while let Some((head, ready)) = stack.pop() {
                let members = &self.members[&head];
                if ready {
                    order.extend(members.iter().map(|m| Value::from_index(*m)));
                    continue;
                }
                if std::mem::replace(&mut begun[head], true) {
                    continue;
                }
                stack.push((head, true));
                let needs = members
                    .iter()
                    .rev()
                    .flat_map(|m| self.needs[*m].iter().rev());
                let others = needs.map(|n| self.first[*n]).filter(|n| *n != head);
                stack.extend(others.filter(|n| !begun[*n]).map(|n| (n, false)));
            }
        }
        order
    }
}

/// The first member of the chain that a value belongs to.
fn head(chain: &mut [usize], mut v: usize) -> usize {
    while chain[v] != v {
        chain[v] = chain[chain[v]];
        v = chain[v];
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Target;

    fn broken(text: &str) -> [(usize, usize); 2] {
        let graph = fuseline_ir::text::parse(text).unwrap();
        let out = run(&graph, &PassCx::new(Target::Cpu)).unwrap();
        out.verify().unwrap();
        let again = run(&out, &PassCx::new(Target::Cpu)).unwrap();
        assert!(again.same(&out), "{out}\nbecomes\n{again}");
        [&graph, &out].map(|g| Chains::of(g).broken(g))
    }

    #[test]
    fn views_and_other_work_leave_a_chain() {
        let text = r#"graph "g" {
  %x = input[name="x", ty=f32[4, 8]]
  %w = input[name="w", ty=f32[4, 4]]
  %a = slice[axis=1, start=0, stop=4, step=1](%x)
  %s = silu(%a)
  %b = slice[axis=1, start=4, stop=8, step=1](%x)
  %p = matmul(%s, %w)
  %m = mul(%s, %b)
  %n = neg(%m)
  output "n" = %n
  output "p" = %p
}"#;
        assert_eq!(broken(text), [(1, 1), (1, 0)]);
    }

    #[test]
    fn a_way_through_something_else_ends_a_chain() {
        let text = r#"graph "g" {
  %x = input[name="x", ty=f32[4, 4]]
  %s = silu(%x)
  %p = matmul(%s, %s)
  %e = exp(%p)
  %m = mul(%s, %e)
  output "m" = %m
}"#;
        // The product stands between the steps, whatever the order.
        assert_eq!(broken(text), [(1, 0), (1, 0)]);
    }

    #[test]
    fn a_number_that_is_read_is_read_before_it_is_used() {
        let text = r#"graph "g" {
  symbol u in 0..=4
  %x = input[name="x", ty=f32[4]]
  %n = input[name="n", ty=i64[]]
  %a = exp(%x)
  %u = item[symbol="u"](%n)
  %b = neg(%a)
  %r = arange[start=u, step=1, len=4, dtype=i64]
  output "b" = %b
  output "r" = %r
}"#;
        assert_eq!(broken(text), [(1, 1), (1, 0)]);
    }
}
