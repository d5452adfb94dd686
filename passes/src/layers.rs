//! A graph that repeats itself is solved with one of its repetitions in the place of all.
//!
//! A deep model is a short program written down many times: the nodes from some place on are the same, layer after layer, but for the weights and states that they name and for what they
//! get from the layer before. [`find`] finds such a period, and cuts it where the fewest values go from one layer to the next (the residual stream, mostly). [`Layers::cut`] then gives a
//! graph of what comes before the layers, of one layer, and of what comes after; and [`Layers::whole`] puts what it became together again, the layer once for each, under its own names.
//!
//! - What a layer takes from the one before is an input of the cut graph: of that nothing is known but the type. What all layers take from before them alike (positions, masks, rotary
//!   tables) stays what it is where it is little, so that everything is known of it, and is chosen once for all.
//! - Two layers are alike only if the same op stands at every place, with the same attributes and types, over the same places; a weight of one element must be the same number, and one that is a rotary table the
//!   same table, since rules look at them. What rules find out about one then holds for the other, by its names.
//! - A graph that calls the host, or in which a layer reads a number from data, is left whole: symbols reach across layers. Numbers that are read before the layers are there for all.

use crate::hoist;
use crate::pass::PassError;
use crate::tables::Tables;
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

/// The most nodes that a value which all layers read is computed from, if they are to know them.
const LARGEST_CONE: usize = 64;

/// What rules look at of constants.
type Known<'a> = (&'a BTreeMap<Symbol, Scalar>, &'a Tables);

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

/// A graph with one layer in the place of all.
pub struct Cut {
    /// The graph. Its outputs are what each of the three parts gives to the others and to the caller; it is to be solved into one with the same inputs, outputs and states.
    pub graph: Graph,
    /// The value of the whole graph that each value is.
    pub origin: Vec<Value>,
    /// The inputs that stand for values of the whole graph.
    taken: BTreeMap<Symbol, Value>,
    /// The values of the whole graph that the outputs are: those from before the layers, from the first layer, and from behind them.
    results: [Vec<Value>; 3],
}

/// Finds the repetition that covers most of the graph, if there is one of [`FEWEST`] layers at least.
pub fn find<'a>(graph: &'a Graph, tables: &Tables) -> Option<Layers<'a>> {
    let live = graph.live();
    let apart = |n: &Node| matches!(n.op, Op::Host(_) | Op::Get(_));
    if graph.nodes().iter().any(apart) {
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
        .map(|period| layers.longest(period, &(&numbers, tables)));
    let (from, to, period) =
        runs.max_by_key(|(from, to, period)| (to - from, std::cmp::Reverse(*period)))?;
    if to - from < FEWEST * period {
        return None;
    }
    layers.period = period;
    layers.start = layers.narrowest(from, period);
    let read = |v: &Value| matches!(graph.node(*v).op, Op::Item(_));
    if layers.order[layers.start..].iter().any(read) {
        return None;
    }
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
    fn longest(&self, period: usize, known: &Known<'_>) -> (usize, usize, usize) {
        let mut best = (0, 0);
        let mut from = 0;
        for at in 0..self.order.len().saturating_sub(period) {
            if !self.alike(at, at + period, known) {
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

    fn alike(&self, i: usize, j: usize, known: &Known<'_>) -> bool {
        let (a, b) = (
            self.graph.node(self.order[i]),
            self.graph.node(self.order[j]),
        );
        let arg = |(x, y): (&Value, &Value)| {
            x == y
                || match (self.place[x.index()], self.place[y.index()]) {
                    (Some(p), Some(q)) => i - p == j - q,
                    (None, None) => self.leaves_alike(*x, *y, known),
                    _ => false,
                }
        };
        a.op == b.op
            && a.ty == b.ty
            && a.args.len() == b.args.len()
            && a.args.iter().zip(&b.args).all(arg)
    }

    /// Whether one layer may have `x` where another has `y`.
    fn leaves_alike(&self, x: Value, y: Value, known: &Known<'_>) -> bool {
        match (&self.graph.node(x).op, &self.graph.node(y).op) {
            (Op::Constant(a), Op::Constant(b)) => {
                let (numbers, tables) = known;
                let same = numbers.get(&a.name) == numbers.get(&b.name)
                    && tables.get(&a.name) == tables.get(&b.name);
                a.ty == b.ty && same
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

    /// The graph with the first layer in the place of all.
    ///
    /// # Errors
    /// A node that can't be copied, which a valid graph doesn't have.
    pub fn cut(&self) -> Result<Cut, PassError> {
        self.try_cut()
            .map_err(PassError::op(PASS, "a graph that repeats itself, cut"))
    }

    fn try_cut(&self) -> Result<Cut, OpError> {
        let mut cut = Cut {
            graph: self.graph.rebuilt(),
            origin: Vec::new(),
            taken: BTreeMap::new(),
            results: [const { Vec::new() }; 3],
        };
        let end = self.start + self.count * self.period;
        let parts = [0..self.start, self.range(0), end..self.order.len()];
        let mut before = BTreeMap::new();
        let mut parted = Vec::new();
        for input in self.graph.inputs() {
            cut.copy(self.graph, *input, &mut before)?;
        }
        for (n, range) in parts.iter().enumerate() {
            // A layer and what comes after know nothing of each other.
            let mut own = if n == 0 {
                std::mem::take(&mut before)
            } else {
                before.clone()
            };
            for value in &self.order[range.clone()] {
                for arg in &self.graph.node(*value).args {
                    let near = self.place[arg.index()].is_none_or(|p| range.contains(&p));
                    if own.contains_key(arg) && (near || self.is_shared(*arg)) {
                        continue;
                    }
                    if near {
                        cut.copy(self.graph, *arg, &mut own)?;
                    } else {
                        self.take(*arg, &mut cut, &mut own)?;
                    }
                }
                cut.copy(self.graph, *value, &mut own)?;
            }
            if n == 0 {
                before.clone_from(&own);
            }
            parted.push(own);
        }
        let taken: Vec<Value> = cut.taken.values().copied().collect();
        let within = |v: &Value, range: &std::ops::Range<usize>| {
            self.place[v.index()].is_some_and(|p| range.contains(&p))
        };
        let ends = |range: &std::ops::Range<usize>| {
            let all = taken.iter().copied().chain(self.graph.roots());
            let all: BTreeSet<Value> = all.filter(|v| within(v, range)).collect();
            all.into_iter().collect::<Vec<Value>>()
        };
        let layer = self
            .results
            .iter()
            .map(|r| self.order[self.start + r])
            .collect();
        cut.results = [ends(&parts[0]), layer, ends(&parts[2])];
        let mut number = 0;
        for (results, done) in cut.results.iter().zip(&parted) {
            for result in results {
                if let Some(value) = done.get(result) {
                    cut.graph.output(number.to_string(), *value);
                    number += 1;
                }
            }
        }
        Ok(cut)
    }

    /// How often what the cut graph has in the place of this value of the whole graph is there.
    pub fn times(&self, value: Value) -> usize {
        let first = self.range(0);
        match self.place.get(value.index()) {
            Some(Some(place)) if first.contains(place) => self.count,
            _ => 1,
        }
    }

    /// The whole graph from what its cut became.
    ///
    /// # Errors
    /// What was solved has other inputs or outputs than the cut: a bug.
    pub fn whole(&self, cut: &Cut, solved: &Graph) -> Result<Graph, PassError> {
        self.try_whole(cut, solved).map_err(PassError::op(
            PASS,
            "a graph that repeats itself, put together",
        ))
    }

    fn try_whole(&self, cut: &Cut, solved: &Graph) -> Result<Graph, OpError> {
        let mut whole = Whole::new(self.graph)?;
        let [before, layer, after] = &cut.results;
        let outputs: Vec<Value> = solved.outputs.iter().map(|o| o.value).collect();
        let behind = outputs
            .len()
            .checked_sub(after.len())
            .filter(|n| *n == before.len() + layer.len());
        let behind = behind.ok_or_else(|| OpError::new("cut", "lost an output"))?;
        let same = BTreeMap::new();
        let here = BTreeMap::new();
        let own = |results, outputs| Own {
            outside: &same,
            locs: &here,
            results,
            outputs,
        };
        whole.put(solved, cut, &own(before, &outputs[..before.len()]))?;
        for (number, outside) in self.outside.iter().enumerate() {
            let range = self.range(number);
            let results: Vec<Value> = self
                .results
                .iter()
                .map(|r| self.order[range.start + r])
                .collect();
            let mut locs = BTreeMap::new();
            for (i, j) in self.range(0).zip(range) {
                // The first of those that stand in one place.
                locs.entry(self.loc(i)).or_insert_with(|| self.loc(j));
            }
            let own = Own {
                outside,
                locs: &locs,
                results: &results,
                outputs: &outputs[before.len()..behind],
            };
            whole.put(solved, cut, &own)?;
        }
        whole.put(solved, cut, &own(after, &outputs[behind..]))?;
        whole.finish()
    }

    fn loc(&self, at: usize) -> Loc {
        self.graph.node(self.order[at]).loc.clone()
    }

    /// A value from another part becomes an input.
    fn take(
        &self,
        value: Value,
        cut: &mut Cut,
        own: &mut BTreeMap<Value, Value>,
    ) -> Result<(), OpError> {
        let name = self.free_name(value);
        if let Some(index) = cut
            .taken
            .get(&name)
            .and_then(|_| cut.origin.iter().rposition(|v| *v == value))
        {
            own.insert(value, Value::from_index(index));
            return Ok(());
        }
        let ty = self.graph.ty(value).clone();
        let input = Input {
            name: name.clone(),
            ty,
        };
        own.insert(value, cut.graph.add(input, &[], &Loc::default())?);
        cut.origin.push(value);
        cut.taken.insert(name, value);
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

    /// Whether a value is an op over constants and literals.
    fn of_leaves(&self, value: Value) -> bool {
        let args = &self.graph.node(value).args;
        let leaf = |a: &Value| {
            let node = self.graph.node(*a);
            node.args.is_empty() && hoist::may_be_constant(node)
        };
        args.iter().all(leaf)
    }

    /// Whether a value from before the layers is the same for every layer, and little: then it is no input but what it is.
    fn is_shared(&self, value: Value) -> bool {
        let before = self.place[value.index()].is_some_and(|p| p < self.start);
        let same = |v: &Value| {
            self.outside
                .iter()
                .all(|o| o.get(v).is_none_or(|own| own == v))
        };
        // What is made of constants alone belongs to whatever reads it: a table that a tied product behind the layers reads as well.
        let read = || self.outside[0].contains_key(&value);
        let fixed = || hoist::may_be_constant(self.graph.node(value)) && self.of_leaves(value);
        if !before || !same(&value) || !(read() || fixed()) {
            return false;
        }
        let mut cone = BTreeSet::new();
        let mut open = vec![value];
        while let Some(v) = open.pop() {
            // What a layer has under a name of its own would be renamed here as well.
            if !same(&v) || cone.len() > LARGEST_CONE {
                return false;
            }
            if cone.insert(v) {
                open.extend(&self.graph.node(v).args);
            }
        }
        true
    }
}

impl Cut {
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

/// What a part is called where it is put.
struct Own<'a> {
    /// What stands in the place of what the cut's part takes from outside.
    outside: &'a BTreeMap<Value, Value>,
    /// Places in the model.
    locs: &'a BTreeMap<Loc, Loc>,
    /// The values of the whole graph that the outputs are.
    results: &'a [Value],
    /// The part's outputs in the solved graph.
    outputs: &'a [Value],
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

    /// Puts a part of the solved graph in: all that its outputs are computed from.
    fn put(&mut self, solved: &Graph, cut: &Cut, own: &Own<'_>) -> Result<(), OpError> {
        let mut names: BTreeMap<&Symbol, &Symbol> = BTreeMap::new();
        for (from, to) in own.outside {
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
        let mut needed = BTreeSet::new();
        let mut open = own.outputs.to_vec();
        if own.outside.is_empty() {
            // Numbers read from data, which all parts may mention in sizes.
            let read = solved.values().filter(|(_, n)| matches!(n.op, Op::Item(_)));
            open.extend(read.map(|(value, _)| value));
        }
        while let Some(value) = open.pop() {
            if needed.insert(value) {
                open.extend(&solved.node(value).args);
            }
        }
        let mut map: BTreeMap<Value, Value> = BTreeMap::new();
        for value in needed {
            let node = solved.node(value);
            let op = match &node.op {
                Op::Input(input) => {
                    let known = match cut.taken.get(&input.name) {
                        Some(taken) => self
                            .done
                            .get(own.outside.get(taken).unwrap_or(taken))
                            .copied(),
                        None => self.made.get(&(node.op.clone(), Vec::new())).copied(),
                    };
                    let known = known
                        .ok_or_else(|| OpError::new(node.op.to_string(), "is not there yet"))?;
                    map.insert(value, known);
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
            let args: Option<Vec<Value>> = node.args.iter().map(|a| map.get(a).copied()).collect();
            let args = args
                .ok_or_else(|| OpError::new(node.op.to_string(), "stands before its arguments"))?;
            let loc = own.locs.get(&node.loc).unwrap_or(&node.loc);
            map.insert(value, self.add(op, args, loc)?);
        }
        for (output, result) in own.outputs.iter().zip(own.results) {
            if let Some(value) = map.get(output) {
                self.done.insert(*result, *value);
            }
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
