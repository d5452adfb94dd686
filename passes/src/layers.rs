//! A graph that repeats itself is solved one repetition at a time, and repetitions that are alike once.
//!
//! A deep model is a short program written down many times: the nodes from some place on are the same, layer after layer, but for the weights and states that they name and for what they
//! get from the layer before. [`find`] finds such a period, and cuts it where the fewest values go from one layer to the next (the residual stream, mostly). [`Layers::solve`] then hands out
//! three graphs: what comes before the layers, one layer, and what comes after. The solved layer is put in once for each, under the layer's own names.
//!
//! - What a layer takes from the one before is an input of its graph: of that nothing is known but the type. What all layers take from before them alike (positions, masks, rotary
//!   tables) is repeated in each graph, where it is small, so that everything is known of it; in the end it is there once.
//! - Two layers are alike only if the same op stands at every place, with the same attributes and types, over the same places; a weight of one element must be the same number, since rules look
//!   at it.
//! - A graph in which a number is read from data, or which calls the host, is left whole: its symbols reach across layers.

use crate::pass::PassError;
use fuseline_ir::ops::create::{self, Input};
use fuseline_ir::{Graph, Loc, Node, Op, OpError, Output, Scalar, Symbol, Type, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const PASS: &str = "saturate";

/// The fewest layers that are worth the cuts.
const FEWEST: usize = 3;

/// The fewest nodes of a layer.
const SHORTEST: usize = 8;

/// How many periods are tried.
const TRIES: usize = 4;

/// The most nodes that are repeated in each graph for a value that all layers read.
const LARGEST_CONE: usize = 64;

/// Where a graph repeats itself.
pub struct Layers<'a> {
    graph: &'a Graph,
    /// The live nodes that have arguments, in order. Those without are leaves: they have no place of their own.
    order: Vec<Value>,
    /// The place of each value in `order`.
    place: Vec<Option<usize>>,
    /// Where the first layer begins.
    start: usize,
    /// How many nodes a layer has.
    period: usize,
    /// How many layers there are.
    count: usize,
    /// For each layer: what it has in the place of what the first one takes from outside.
    outside: Vec<BTreeMap<Value, Value>>,
    /// The places within a layer whose values something outside of it reads.
    results: BTreeSet<usize>,
}

/// A stretch of a graph as a graph of its own.
pub struct Part {
    /// The graph. Its outputs are [`Part::results`].
    pub graph: Graph,
    /// The value of the whole graph that each value was.
    pub origin: Vec<Value>,
    /// How many times it is in the whole graph.
    pub times: usize,
    /// The inputs that stand for values of the whole graph.
    taken: BTreeMap<Symbol, Value>,
    /// The values of the whole graph that the outputs are.
    results: Vec<Value>,
}

/// Finds the repetition that covers most of the graph, if there is one of [`FEWEST`] layers at least.
pub fn find(graph: &Graph) -> Option<Layers<'_>> {
    let live = graph.live();
    let crosses = |n: &Node| matches!(n.op, Op::Item(_) | Op::Host(_) | Op::Get(_));
    if graph.nodes().iter().any(crosses) {
        return None;
    }
    let order: Vec<Value> = graph
        .values()
        .filter(|(v, n)| live[v.index()] && !n.args.is_empty())
        .map(|(v, _)| v)
        .collect();
    let mut place = vec![None; graph.nodes().len()];
    for (at, value) in order.iter().enumerate() {
        place[value.index()] = Some(at);
    }
    let mut layers = Layers {
        graph,
        order,
        place,
        start: 0,
        period: 0,
        count: 0,
        outside: Vec::new(),
        results: BTreeSet::new(),
    };
    let numbers = crate::egraph::numbers(graph);
    let runs = layers
        .periods()
        .into_iter()
        .map(|period| layers.longest(period, &numbers));
    let (from, to, period) =
        runs.max_by_key(|(from, to, period)| (to - from, std::cmp::Reverse(*period)))?;
    if to - from < FEWEST * period {
        return None;
    }
    layers.period = period;
    layers.start = layers.narrowest(from, period);
    layers.count = (to - layers.start) / period;
    layers.outside = (0..layers.count)
        .map_while(|layer| layers.instance(layer))
        .collect();
    layers.count = layers.outside.len();
    if layers.count < FEWEST {
        return None;
    }
    layers.results = layers.read_outside();
    Some(layers)
}

impl Layers<'_> {
    /// The distances at which most nodes of one kind follow each other.
    fn periods(&self) -> Vec<usize> {
        let mut kinds: BTreeMap<(&Op, &Type), Vec<usize>> = BTreeMap::new();
        for (at, value) in self.order.iter().enumerate() {
            let node = self.graph.node(*value);
            kinds.entry((&node.op, &node.ty)).or_default().push(at);
        }
        let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
        for places in kinds.values().filter(|p| p.len() >= FEWEST) {
            for pair in places.windows(2) {
                *votes.entry(pair[1] - pair[0]).or_insert(0) += 1;
            }
        }
        let mut votes: Vec<(usize, usize)> = votes
            .into_iter()
            .filter(|(period, _)| *period >= SHORTEST)
            .collect();
        votes.sort_by_key(|(period, n)| (std::cmp::Reverse(*n), *period));
        votes
            .into_iter()
            .take(TRIES)
            .map(|(period, _)| period)
            .collect()
    }

    /// The longest stretch in which every node is like the one a period before.
    fn longest(&self, period: usize, numbers: &BTreeMap<Symbol, Scalar>) -> (usize, usize, usize) {
        let mut best = (0, 0);
        let mut from = 0;
        for at in 0..self.order.len().saturating_sub(period) {
            if !self.alike(at, at + period, numbers) {
                from = at + 1;
            } else if at + 1 - from > best.1 - best.0 {
                best = (from, at + 1);
            }
        }
        (
            best.0,
            if best.1 > best.0 {
                best.1 + period
            } else {
                best.0
            },
            period,
        )
    }

    fn alike(&self, i: usize, j: usize, numbers: &BTreeMap<Symbol, Scalar>) -> bool {
        let (a, b) = (
            self.graph.node(self.order[i]),
            self.graph.node(self.order[j]),
        );
        let arg = |(x, y): (&Value, &Value)| {
            x == y
                || match (self.place[x.index()], self.place[y.index()]) {
                    (Some(p), Some(q)) => i - p == j - q,
                    (None, None) => self.leaves_alike(*x, *y, numbers),
                    _ => false,
                }
        };
        a.op == b.op
            && a.ty == b.ty
            && a.args.len() == b.args.len()
            && a.args.iter().zip(&b.args).all(arg)
    }

    /// Whether one layer may have `x` where another has `y`.
    fn leaves_alike(&self, x: Value, y: Value, numbers: &BTreeMap<Symbol, Scalar>) -> bool {
        match (&self.graph.node(x).op, &self.graph.node(y).op) {
            (Op::Constant(a), Op::Constant(b)) => {
                a.ty == b.ty && numbers.get(&a.name) == numbers.get(&b.name)
            }
            (Op::State(a), Op::State(b)) => a.ty == b.ty,
            _ => false,
        }
    }

    /// Where, within a period from `from` on, the fewest values of the stretch are passed on.
    fn narrowest(&self, from: usize, period: usize) -> usize {
        // For each place, how many values from before it are read at it or behind it.
        let mut change = vec![0i64; self.order.len() + 1];
        let mut last: Vec<usize> = (0..self.order.len()).collect();
        for (at, value) in self.order.iter().enumerate() {
            for arg in &self.graph.node(*value).args {
                if let Some(p) = self.place[arg.index()] {
                    last[p] = last[p].max(at);
                }
            }
        }
        for (at, last) in last.iter().enumerate().skip(from) {
            change[at + 1] += 1;
            change[last + 1] -= 1;
        }
        let mut passed = 0;
        let mut best = (i64::MAX, from);
        for (at, change) in change.iter().enumerate() {
            passed += change;
            // Within the second period, where what passes is what one layer gives the next.
            if (from + period..from + 2 * period).contains(&at) {
                best = best.min((passed, at - period));
            }
        }
        best.1
    }

    fn range(&self, layer: usize) -> std::ops::Range<usize> {
        let from = self.start + layer * self.period;
        from..from + self.period
    }

    /// What a layer has in the place of what the first one takes from outside, where the two are the same but for that.
    fn instance(&self, layer: usize) -> Option<BTreeMap<Value, Value>> {
        let mut outside = BTreeMap::new();
        let (first, own) = (self.range(0), self.range(layer));
        for (i, j) in first.clone().zip(own.clone()) {
            let (a, b) = (
                self.graph.node(self.order[i]),
                self.graph.node(self.order[j]),
            );
            if a.op != b.op || a.ty != b.ty || a.args.len() != b.args.len() {
                return None;
            }
            for (x, y) in a.args.iter().zip(&b.args) {
                let within = |v: &Value, range: &std::ops::Range<usize>| {
                    self.place[v.index()]
                        .filter(|p| range.contains(p))
                        .map(|p| p - range.start)
                };
                match (within(x, &first), within(y, &own)) {
                    (Some(p), Some(q)) if p == q => {}
                    (None, None) if *outside.entry(*x).or_insert(*y) == *y => {}
                    _ => return None,
                }
            }
        }
        Some(outside)
    }

    /// The places within a layer whose values are read outside of some layer.
    fn read_outside(&self) -> BTreeSet<usize> {
        let end = self.start + self.count * self.period;
        let layer = |p: usize| {
            (self.start..end)
                .contains(&p)
                .then(|| (p - self.start) / self.period)
        };
        let mut results = BTreeSet::new();
        let mut read = |v: &Value, by: Option<usize>| {
            if let Some(p) = self.place[v.index()]
                && let Some(own) = layer(p)
                && by != Some(own)
            {
                results.insert((p - self.start) % self.period);
            }
        };
        for (at, value) in self.order.iter().enumerate() {
            self.graph
                .node(*value)
                .args
                .iter()
                .for_each(|arg| read(arg, layer(at)));
        }
        self.graph.roots().iter().for_each(|root| read(root, None));
        results
    }

    /// How many layers there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The whole graph with its parts solved: `solve` gets each of the three once, in order, and returns a graph with the same inputs, outputs and states.
    ///
    /// # Errors
    /// What `solve` reports; a part that can't be put together again, which is a bug.
    pub fn solve(
        &self,
        mut solve: impl FnMut(&Part) -> Result<Graph, PassError>,
    ) -> Result<Graph, PassError> {
        let end = self.start + self.count * self.period;
        let fail = |error| PassError::Op {
            pass: PASS,
            place: "the parts of a graph that repeats itself".into(),
            error,
        };
        let mut whole = Whole::new(self.graph).map_err(fail)?;
        let nothing = BTreeMap::new();
        let ends = |range: std::ops::Range<usize>| {
            self.part(range.clone(), &self.results_of(range))
                .map_err(fail)
        };
        let before = ends(0..self.start)?;
        whole
            .put(
                &solve(&before)?,
                &before,
                &nothing,
                &BTreeMap::new(),
                &before.results,
            )
            .map_err(fail)?;
        let first = self.range(0);
        let results: Vec<Value> = self
            .results
            .iter()
            .map(|r| self.order[first.start + r])
            .collect();
        let mut part = self.part(first.clone(), &results).map_err(fail)?;
        part.times = self.count;
        let solved = solve(&part)?;
        for (layer, outside) in self.outside.iter().enumerate() {
            let own = self.range(layer);
            let results: Vec<Value> = self
                .results
                .iter()
                .map(|r| self.order[own.start + r])
                .collect();
            let locs = first
                .clone()
                .zip(own)
                .map(|(i, j)| (self.loc(i), self.loc(j)));
            // The first of those that stand in one place.
            let mut map = BTreeMap::new();
            for (from, to) in locs {
                map.entry(from).or_insert(to);
            }
            whole
                .put(&solved, &part, outside, &map, &results)
                .map_err(fail)?;
        }
        let after = ends(end..self.order.len())?;
        whole
            .put(
                &solve(&after)?,
                &after,
                &nothing,
                &BTreeMap::new(),
                &after.results,
            )
            .map_err(fail)?;
        whole.finish().map_err(fail)
    }

    fn loc(&self, at: usize) -> Loc {
        self.graph.node(self.order[at]).loc.clone()
    }

    /// The values of a stretch that something behind it, or nobody in the graph but its caller, reads.
    fn results_of(&self, range: std::ops::Range<usize>) -> Vec<Value> {
        let within = |v: &Value| self.place[v.index()].is_some_and(|p| range.contains(&p));
        let behind = self.order[range.end..]
            .iter()
            .flat_map(|v| self.graph.node(*v).args.iter().copied());
        let all: BTreeSet<Value> = behind.chain(self.graph.roots()).filter(within).collect();
        all.into_iter().collect()
    }

    /// A stretch as a graph.
    fn part(&self, range: std::ops::Range<usize>, results: &[Value]) -> Result<Part, OpError> {
        let mut part = Part {
            graph: self.graph.rebuilt(),
            origin: Vec::new(),
            times: 1,
            taken: BTreeMap::new(),
            results: results.to_vec(),
        };
        let mut done: BTreeMap<Value, Value> = BTreeMap::new();
        for value in &self.order[range.clone()] {
            for arg in &self.graph.node(*value).args {
                if !done.contains_key(arg) {
                    self.bring(*arg, &mut part, &mut done)?;
                }
            }
            part.copy(self.graph, *value, &mut done)?;
        }
        for (n, result) in results.iter().enumerate() {
            if let Some(value) = done.get(result) {
                part.graph.output(format!("{n}"), *value);
            }
        }
        Ok(part)
    }

    /// Brings a value from outside into a part: a leaf as it is, what all layers share with all that it is computed from where that is little, anything else as an input.
    fn bring(
        &self,
        value: Value,
        part: &mut Part,
        done: &mut BTreeMap<Value, Value>,
    ) -> Result<(), OpError> {
        let leaf = self.place[value.index()].is_none();
        let cone = if leaf {
            Some(vec![value])
        } else {
            self.shared_cone(value)
        };
        let Some(cone) = cone else {
            let name = self.free_name(value);
            let ty = self.graph.ty(value).clone();
            done.insert(
                value,
                part.graph.add(
                    Input {
                        name: name.clone(),
                        ty,
                    },
                    &[],
                    &Loc::default(),
                )?,
            );
            part.origin.push(value);
            part.taken.insert(name, value);
            return Ok(());
        };
        for value in cone {
            if !done.contains_key(&value) {
                part.copy(self.graph, value, done)?;
            }
        }
        Ok(())
    }

    /// A name that no input has.
    fn free_name(&self, value: Value) -> Symbol {
        let mut name = value.to_string();
        let taken = |name: &str| {
            self.graph
                .inputs()
                .iter()
                .any(|v| matches!(&self.graph.node(*v).op, Op::Input(i) if *i.name == *name))
        };
        while taken(&name) {
            name.push('%');
        }
        name.into()
    }

    /// What a value from before the layers is computed from, in order, where every layer that reads something in its place reads just it, and it is little and no work.
    fn shared_cone(&self, value: Value) -> Option<Vec<Value>> {
        let before = self.place[value.index()].is_some_and(|p| p < self.start);
        let shared = self
            .outside
            .iter()
            .all(|o| o.get(&value).is_none_or(|v| *v == value));
        if !before || !shared || !self.outside[0].contains_key(&value) {
            return None;
        }
        let mut cone = BTreeSet::new();
        let mut open = vec![value];
        while let Some(v) = open.pop() {
            if cone.insert(v) {
                open.extend(&self.graph.node(v).args);
            }
            if cone.len() > LARGEST_CONE {
                return None;
            }
        }
        Some(cone.into_iter().collect())
    }
}

impl Part {
    fn copy(
        &mut self,
        graph: &Graph,
        value: Value,
        done: &mut BTreeMap<Value, Value>,
    ) -> Result<(), OpError> {
        let node = graph.node(value);
        let args: Option<Vec<Value>> = node.args.iter().map(|a| done.get(a).copied()).collect();
        let args = args
            .ok_or_else(|| OpError::new(node.op.to_string(), "an argument is not in the part"))?;
        done.insert(value, self.graph.add(node.op.clone(), &args, &node.loc)?);
        self.origin.push(value);
        Ok(())
    }
}

/// The whole graph while it is put together again.
struct Whole<'a> {
    graph: &'a Graph,
    out: Graph,
    /// The new value of each old one that is there.
    done: BTreeMap<Value, Value>,
    /// Only looked up, never walked.
    made: HashMap<(Op, Vec<Value>), Value>,
}

impl<'a> Whole<'a> {
    fn new(graph: &'a Graph) -> Result<Whole<'a>, OpError> {
        let mut whole = Whole {
            graph,
            out: graph.rebuilt(),
            done: BTreeMap::new(),
            made: HashMap::new(),
        };
        for input in graph.inputs() {
            whole.leaf(*input)?;
        }
        Ok(whole)
    }

    fn leaf(&mut self, value: Value) -> Result<Value, OpError> {
        let node = self.graph.node(value);
        let new = self.add(node.op.clone(), Vec::new(), &node.loc)?;
        self.done.insert(value, new);
        Ok(new)
    }

    fn add(&mut self, op: Op, args: Vec<Value>, loc: &Loc) -> Result<Value, OpError> {
        let key = (op, args);
        if let Some(value) = self.made.get(&key) {
            return Ok(*value);
        }
        let value = self.out.add(key.0.clone(), &key.1, loc)?;
        self.made.insert(key, value);
        Ok(value)
    }

    /// Puts a solved part in, with `outside` in the place of what the part took, and its outputs as `results`.
    fn put(
        &mut self,
        solved: &Graph,
        part: &Part,
        outside: &BTreeMap<Value, Value>,
        locs: &BTreeMap<Loc, Loc>,
        results: &[Value],
    ) -> Result<(), OpError> {
        let own = |v: &Value| outside.get(v).copied().unwrap_or(*v);
        let mut names: BTreeMap<&Symbol, &Symbol> = BTreeMap::new();
        for (from, to) in outside {
            match (&self.graph.node(*from).op, &self.graph.node(*to).op) {
                (Op::Constant(a), Op::Constant(b)) => names.insert(&a.name, &b.name),
                (Op::State(a), Op::State(b)) => names.insert(&a.name, &b.name),
                _ => None,
            };
        }
        let named = |name: &Symbol| {
            names
                .get(name)
                .map_or_else(|| name.clone(), |n| (*n).clone())
        };
        let live = solved.live();
        let mut map: Vec<Value> = Vec::with_capacity(solved.nodes().len());
        for (value, node) in solved.values() {
            let op = match &node.op {
                Op::Input(input) => {
                    let taken = part.taken.get(&input.name);
                    let known = match taken {
                        Some(taken) => self.done.get(&own(taken)).copied(),
                        None => self.made.get(&(node.op.clone(), Vec::new())).copied(),
                    };
                    map.push(
                        known
                            .ok_or_else(|| OpError::new(node.op.to_string(), "is not there yet"))?,
                    );
                    continue;
                }
                // Never read: any value will do as its place in the map.
                _ if !live[value.index()] => {
                    map.push(Value::from_index(0));
                    continue;
                }
                Op::Constant(c) => create::Constant {
                    name: named(&c.name),
                    ty: c.ty.clone(),
                }
                .into(),
                Op::State(s) => create::State {
                    name: named(&s.name),
                    ty: s.ty.clone(),
                }
                .into(),
                op => op.clone(),
            };
            let args = node.args.iter().map(|a| map[a.index()]).collect();
            let loc = locs.get(&node.loc).unwrap_or(&node.loc);
            map.push(self.add(op, args, loc)?);
        }
        for (output, result) in solved.outputs.iter().zip(results) {
            self.done.insert(*result, map[output.value.index()]);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Graph, OpError> {
        let graph = self.graph;
        let mut end = |v: Value| match self.done.get(&v) {
            Some(value) => Ok(*value),
            None if self.graph.node(v).args.is_empty() => self.leaf(v),
            None => Err(OpError::new(v.to_string(), "was not built")),
        };
        let mut outputs = Vec::new();
        for output in &graph.outputs {
            outputs.push(Output {
                name: output.name.clone(),
                value: end(output.value)?,
            });
        }
        let mut nexts = Vec::new();
        for state in &graph.states {
            nexts.push(state.next.map(&mut end).transpose()?);
        }
        self.out.outputs = outputs;
        for (state, next) in self.out.states.iter_mut().zip(nexts) {
            state.next = next;
        }
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests;
