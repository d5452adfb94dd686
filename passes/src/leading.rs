//! The law of leading axes: a pointwise op doesn't mind whether an argument has leading axes of size 1, since broadcasting gives it them.
//!
//! Models mix both ways of writing, and a pattern that mentions a value twice would miss it where one mention went through a reshape. So where the e-graph holds both `x` and its
//! reshape to more leading ones, every pointwise op with several arguments that uses one of them gets a twin that uses the other, if the twin has the same type. It is a law about
//! all pointwise ops at once, so it is not a row of the table of rules; nothing is ever rounded differently.

use crate::egraph::{EGraph, ENode};
use egg::Id;
use fuseline_ir::{Dim, Flag, Op};
use std::collections::BTreeMap;

/// The name under which reports count it.
pub const NAME: &str = "leading_axes";

/// For each class that the law speaks of, a twin of one of its nodes. In a fixed order.
pub fn find(egraph: &EGraph) -> Vec<(Id, ENode)> {
    let mut ids: Vec<Id> = egraph.classes().map(|c| c.id).collect();
    ids.sort();
    let same = related(egraph, &ids);
    let mut out = Vec::new();
    for id in ids {
        let class = &egraph[id];
        let several = |n: &&ENode| n.children.len() > 1 && n.op.info().has(Flag::Pointwise);
        for node in class.nodes.iter().filter(several) {
            for (n, child) in node.children.iter().enumerate() {
                for other in same.get(&egraph.find(*child)).into_iter().flatten() {
                    let mut twin = node.clone();
                    twin.children[n] = *other;
                    let types: Vec<_> = twin.children.iter().map(|c| &egraph[*c].data.ty).collect();
                    let fits = twin.op.infer(&types).is_ok_and(|ty| ty == class.data.ty);
                    if fits && egraph.lookup(twin.clone()).is_none() {
                        out.push((id, twin));
                    }
                }
            }
        }
    }
    out
}

/// For each class the classes that are the same values with more or fewer leading axes of size 1.
fn related(egraph: &EGraph, ids: &[Id]) -> BTreeMap<Id, Vec<Id>> {
    let mut same: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    let shape = |id: Id| {
        egraph[id]
            .data
            .ty
            .as_tensor()
            .map(|t| without_ones(&t.shape))
    };
    for id in ids {
        let reshapes = egraph[*id]
            .nodes
            .iter()
            .filter(|n| matches!(n.op, Op::Reshape(_)));
        for child in reshapes.flat_map(|n| n.children.first()) {
            let child = egraph.find(*child);
            if child != *id && shape(child).is_some() && shape(child) == shape(*id) {
                same.entry(child).or_default().push(*id);
                same.entry(*id).or_default().push(child);
            }
        }
    }
    same
}

fn without_ones(shape: &[Dim]) -> &[Dim] {
    let ones = shape.iter().take_while(|d| d.is(1)).count();
    &shape[ones..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egraph::load;
    use fuseline_ir::text;

    fn twins(body: &str) -> usize {
        let text = format!(
            "graph \"case\" {{ %x = input[name=\"x\", ty=f32[3, 4]] %y = input[name=\"y\", ty=f32[1, 3, 4]] {body} output \"out\" = %z }}"
        );
        find(
            &load(&text::parse(&text).unwrap(), &BTreeMap::new())
                .unwrap()
                .egraph,
        )
        .len()
    }

    #[test]
    fn more_and_fewer_leading_ones() {
        let reshape = "%r = reshape[shape=[1, 3, 4]](%x)";
        assert_eq!(
            twins(&format!("{reshape} %s = square(%r) %z = mul(%x, %s)")),
            1
        );
        assert_eq!(twins(&format!("{reshape} %z = mul(%r, %y)")), 1);
    }

    #[test]
    fn not_where_the_type_would_change_or_the_axes_are_regrouped() {
        assert_eq!(
            twins("%r = reshape[shape=[1, 3, 4]](%x) %z = mul(%r, %x)"),
            1
        );
        assert_eq!(
            twins("%r = reshape[shape=[1, 3, 4]](%x) %z = mul(%r, %r)"),
            2
        );
        assert_eq!(
            twins("%r = reshape[shape=[3, 1, 4]](%x) %z = mul(%r, %r)"),
            0
        );
    }
}
