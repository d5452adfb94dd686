//! What two programs do not have in common.
//!
//! Compared is what programs say, not how they lie in a file: methods with inputs, outputs and calls, the chains of their delegates instruction by
//! instruction, and weights by name, type and content. Offsets of segments and of planned memory, and the order of weights, are left out.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::container::{Data, Method, Payload, Program, Storage, Value};
use crate::inspect::{CallSummary, Texts, between};

/// More differing lines than this between two lists are not aligned: the lists are then shown as replaced.
const MOST_EDITS: usize = 4000;

/// The differences; empty if there are none.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Differences {
    /// Lists that differ: inputs, calls, chains and so on, with the method that they belong to.
    pub lists: Vec<ListDifference>,
    /// Weights that differ.
    pub weights: Vec<WeightDifference>,
}

/// Two lists that are not the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListDifference {
    /// Which ones: `method "forward", delegate 0, chain 0 (main)`.
    pub place: String,
    /// What has to be done to the first to get the second, in order.
    pub edits: Vec<Edit>,
}

/// An entry that one list has and the other has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "in")]
pub enum Edit {
    /// Only the first has it.
    First {
        /// Its position there, from 0.
        position: usize,
        /// What it is.
        text: String,
    },
    /// Only the second has it.
    Second {
        /// Its position there, from 0.
        position: usize,
        /// What it is.
        text: String,
    },
}

/// A weight that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightDifference {
    /// The name, without the four digits that ExecuTorch puts before it.
    pub name: String,
    /// What the first has under the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Weight>,
    /// What the second has under the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<Weight>,
}

/// A weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Weight {
    /// Type and shape, `f32[4, 8]`, if a delegate says them.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// How many bytes.
    pub bytes: u64,
    /// The hash of the bytes, in hexadecimal digits.
    pub sha256: String,
}

impl Differences {
    /// Compares two programs.
    ///
    /// # Errors
    /// Bytes of a weight can't be had.
    pub fn between(first: &Program<'_>, second: &Program<'_>) -> io::Result<Self> {
        let (a, b) = (lists(first), lists(second));
        let empty = Vec::new();
        let places = a.iter().map(|(place, _)| place);
        let mut lists = Vec::new();
        for place in places.chain(b.iter().map(|(place, _)| place).filter(|p| !has(&a, p))) {
            let find = |lists: &[(String, Vec<String>)]| {
                let found = lists.iter().find(|(other, _)| other == place);
                found.map_or_else(|| empty.clone(), |(_, list)| list.clone())
            };
            let edits = edits(&find(&a), &find(&b));
            if !edits.is_empty() {
                let place = place.clone();
                lists.push(ListDifference { place, edits });
            }
        }
        let (a, b) = (weights(first)?, weights(second)?);
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let differ = names
            .into_iter()
            .filter(|name| a.get(*name) != b.get(*name));
        let weights = differ.map(|name| WeightDifference {
            name: name.clone(),
            first: a.get(name).cloned(),
            second: b.get(name).cloned(),
        });
        Ok(Self {
            lists,
            weights: weights.collect(),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.weights.is_empty()
    }
}

fn has(lists: &[(String, Vec<String>)], place: &str) -> bool {
    lists.iter().any(|(other, _)| other == place)
}

/// Everything that a program lists, in words, with its place.
fn lists(program: &Program<'_>) -> Vec<(String, Vec<String>)> {
    let methods = program.methods.iter().map(|method| method.name.clone());
    let mut lists = vec![("methods".to_owned(), methods.collect())];
    for method in &program.methods {
        let bare = unplanned(method);
        let mut add = |what: String, list: Vec<String>| {
            lists.push((format!("method {:?}, {what}", method.name), list));
        };
        let texts = Texts::of(&bare);
        let values = |list: &[u32]| list.iter().map(|value| texts.numbered(*value)).collect();
        add("inputs".to_owned(), values(&method.inputs));
        add("outputs".to_owned(), values(&method.outputs));
        add("values".to_owned(), values(&between(&bare)));
        for (at, chain) in method.chains.iter().enumerate() {
            let calls = chain
                .iter()
                .map(|call| CallSummary::of(&bare, call).to_string());
            add(format!("calls of chain {at}"), calls.collect());
        }
        for (at, delegate) in method.delegates.iter().enumerate() {
            let graph = match &delegate.payload {
                Payload::Mlx(graph) => graph,
                Payload::Other(data) => {
                    let text = format!("{}, {} bytes", delegate.id, data.len());
                    add(format!("delegate {at}"), vec![text]);
                    continue;
                }
            };
            let summary = graph.summary();
            for (what, slots) in [
                ("inputs", &summary.inputs),
                ("outputs", &summary.outputs),
                ("state", &summary.state),
            ] {
                let slots = slots.iter().map(|slot| {
                    let name = slot.name.as_deref().map(plain);
                    format!("{} {}", slot.ty, name.unwrap_or_default())
                });
                add(
                    format!("delegate {at}, {what}"),
                    slots.map(|slot| slot.trim_end().to_owned()).collect(),
                );
            }
            for (number, chain) in summary.chains.into_iter().enumerate() {
                add(
                    format!("delegate {at}, chain {number} ({})", chain.role),
                    chain.instructions.iter().map(ToString::to_string).collect(),
                );
            }
        }
    }
    lists
}

/// The method as if its caller chose where tensors lie.
fn unplanned<'a>(method: &Method<'a>) -> Method<'a> {
    let mut bare = method.clone();
    for value in &mut bare.values {
        if let Value::Tensor(tensor) = value
            && matches!(tensor.storage, Storage::Planned { initial: None, .. })
        {
            tensor.storage = Storage::Caller;
        }
    }
    bare
}

/// All bytes with a name, and the constants of methods by their numbers.
fn weights(program: &Program<'_>) -> io::Result<BTreeMap<String, Weight>> {
    let mut types = BTreeMap::new();
    for delegate in program.methods.iter().flat_map(|method| &method.delegates) {
        if let Payload::Mlx(graph) = &delegate.payload {
            for slot in graph.summary().constants {
                types.insert(slot.name.unwrap_or_default(), slot.ty);
            }
        }
    }
    let weight = |ty: Option<String>, data: &Data<'_>| {
        let bytes = data.bytes()?;
        let digest = Sha256::digest(&bytes);
        Ok::<_, io::Error>(Weight {
            ty,
            bytes: bytes.len() as u64,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    };
    let mut weights = BTreeMap::new();
    for named in &program.named_data {
        let ty = types.get(&named.key).cloned();
        let name = plain(&named.key);
        // Two methods of ExecuTorch's may each have their own constant of one name.
        let name = if weights.contains_key(name) {
            named.key.as_str()
        } else {
            name
        };
        weights.insert(name.to_owned(), weight(ty, &named.data)?);
    }
    for (at, data) in program.constants.iter().enumerate() {
        weights.insert(format!("constant {at}"), weight(None, data)?);
    }
    Ok(weights)
}

/// A name without the four hexadecimal digits and the slash that ExecuTorch puts before those of a model.
#[must_use]
pub fn plain(name: &str) -> &str {
    match name.split_once('/') {
        Some((prefix, rest))
            if prefix.len() == 4 && prefix.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            rest
        }
        _ => name,
    }
}

/// The shortest list of edits from `a` to `b`, by Myers' greedy algorithm.
fn edits(a: &[String], b: &[String]) -> Vec<Edit> {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a_rest, b_rest) = (&a[same..], &b[same..]);
    let tail = a_rest.iter().rev().zip(b_rest.iter().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    let (a_mid, b_mid) = (
        &a_rest[..a_rest.len() - tail],
        &b_rest[..b_rest.len() - tail],
    );
    let (kept_a, kept_b): (Vec<usize>, Vec<usize>) = common(a_mid, b_mid).into_iter().unzip();
    let left = |list: &[String], kept: &[usize]| {
        let mut kept = kept.iter().copied().peekable();
        let all = list.iter().cloned().enumerate();
        let left = all.filter(move |(at, _)| kept.next_if_eq(at).is_none());
        left.collect::<Vec<_>>()
    };
    // Both sides in order of position, first what goes, then what comes, gap by gap.
    let mut edits = Vec::new();
    let (mut going, mut coming) = (
        left(a_mid, &kept_a).into_iter().peekable(),
        left(b_mid, &kept_b).into_iter().peekable(),
    );
    let gaps = kept_a.iter().copied().zip(kept_b.iter().copied());
    for (end_a, end_b) in gaps.chain([(a_mid.len(), b_mid.len())]) {
        while let Some((at, text)) = going.next_if(|(at, _)| *at < end_a) {
            let position = same + at;
            edits.push(Edit::First { position, text });
        }
        while let Some((at, text)) = coming.next_if(|(at, _)| *at < end_b) {
            let position = same + at;
            edits.push(Edit::Second { position, text });
        }
    }
    edits
}

/// The positions of a longest common subsequence; nothing if it takes more than [`MOST_EDITS`] to find it.
fn common(a: &[String], b: &[String]) -> Vec<(usize, usize)> {
    let most = (a.len() + b.len()).min(MOST_EDITS) as isize;
    // How far along `a` one gets on each diagonal, where a position of `a` less one of `b` is constant.
    let mut reach = Reach(vec![0; 2 * most as usize + 3], most + 1);
    let mut rounds = Vec::new();
    for edits in 0..=most {
        rounds.push(reach.around(edits));
        for diagonal in (-edits..=edits).step_by(2) {
            let mut x = reach.step(edits, diagonal).1;
            let same = |x: isize| {
                let pair = a.get(x as usize).zip(b.get((x - diagonal) as usize));
                pair.is_some_and(|(a, b)| a == b)
            };
            while same(x) {
                x += 1;
            }
            *reach.at(diagonal) = x;
            if x as usize >= a.len() && (x - diagonal) as usize >= b.len() {
                return walk_back(rounds, a.len() as isize, b.len() as isize);
            }
        }
    }
    Vec::new()
}

/// A number for each diagonal, and the place of diagonal 0.
struct Reach(Vec<isize>, isize);

impl Reach {
    fn at(&mut self, diagonal: isize) -> &mut isize {
        &mut self.0[(self.1 + diagonal) as usize]
    }

    /// The diagonal that the last edit comes from, and where on `a` it leads.
    fn step(&mut self, edits: isize, diagonal: isize) -> (isize, isize) {
        let (below, above) = (*self.at(diagonal - 1), *self.at(diagonal + 1));
        if diagonal == -edits || (diagonal != edits && below < above) {
            (diagonal + 1, above)
        } else {
            (diagonal - 1, below + 1)
        }
    }

    /// The part that a round with so many edits looks at.
    fn around(&self, edits: isize) -> Self {
        let from = (self.1 - edits - 1) as usize;
        Self(
            self.0[from..=(self.1 + edits + 1) as usize].to_vec(),
            edits + 1,
        )
    }
}

/// The matches on the way to the ends, from what each round began with.
fn walk_back(rounds: Vec<Reach>, mut x: isize, mut y: isize) -> Vec<(usize, usize)> {
    let mut matches = Vec::new();
    for (edits, mut reach) in rounds.into_iter().enumerate().rev() {
        let (from, _) = reach.step(edits as isize, x - y);
        let before = *reach.at(from);
        while x > before && y > before - from {
            (x, y) = (x - 1, y - 1);
            matches.push((x as usize, y as usize));
        }
        if edits > 0 {
            (x, y) = (before, before - from);
        }
    }
    matches.reverse();
    matches
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for list in &self.lists {
            writeln!(f, "{}", list.place)?;
            for edit in &list.edits {
                match edit {
                    Edit::First { position, text } => writeln!(f, "  - {position}: {text}")?,
                    Edit::Second { position, text } => writeln!(f, "  + {position}: {text}")?,
                }
            }
        }
        if !self.weights.is_empty() {
            writeln!(f, "weights")?;
        }
        for WeightDifference {
            name,
            first,
            second,
        } in &self.weights
        {
            for (sign, weight) in [('-', first), ('+', second)] {
                if let Some(weight) = weight {
                    writeln!(f, "  {sign} {name:?}: {weight}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ty) = &self.ty {
            write!(f, "{ty}, ")?;
        }
        let digest = self.sha256.get(..16).unwrap_or(&self.sha256);
        write!(f, "{} bytes, sha256 {digest}…", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Edit, edits};

    fn lines(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    /// The edits as a text, and what they make of the first list.
    fn apply(a: &str, b: &str) -> (String, String) {
        let (mut said, mut result) = (String::new(), lines(a));
        let all = edits(&lines(a), &lines(b));
        for edit in all.iter().rev() {
            if let Edit::First { position, .. } = edit {
                result.remove(*position);
            }
        }
        for edit in &all {
            match edit {
                Edit::First { text, .. } => said.push_str(&format!("-{text}")),
                Edit::Second { position, text } => {
                    said.push_str(&format!("+{text}"));
                    result.insert(*position, text.clone());
                }
            }
        }
        (said, result.concat())
    }

    #[test]
    fn edits_are_few_and_lead_from_one_to_the_other() {
        for (a, b, wanted) in [
            ("abc", "abc", ""),
            ("abc", "axc", "-b+x"),
            ("", "ab", "+a+b"),
            ("ab", "", "-a-b"),
            ("abcabba", "cbabac", "-a-b+b-b+c"),
            ("xabcdy", "xbcdzy", "-a+z"),
        ] {
            let (said, result) = apply(a, b);
            assert_eq!(result, b);
            assert_eq!(said.len(), wanted.len(), "{a} to {b}: {said}");
        }
    }

    #[test]
    fn lists_without_anything_in_common_are_replaced() {
        let (a, b) = ("a".repeat(5000), "b".repeat(5000));
        let (_, result) = apply(&a, &b);
        assert_eq!(result, b);
    }
}
