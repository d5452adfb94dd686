//! One delegate segment: nodes of the graph become instructions over slots.
//!
//! - What depends on constants alone runs in the init chain, once, into constant slots of its own ("placeholders"): a weight's transpose costs nothing per step.
//! - An op that updates one of its arguments (`index_copy`, …) writes that argument's slot where the argument is dead afterwards: so state is updated in place.
//! - Slices that divide an axis of a value among them are one split, which stands where the first of them does.
//! - A state's next value is computed into the state's slot where nothing reads the old value any more; elsewhere it is copied there at the end.

mod branch;
mod ends;
mod fields;
mod required;
mod split;

use super::dims::{Dims, Source, checked_scalar_type};
use super::error::EmitError;
use super::slots::{Place, Temps};
use fuseline_ir::lower::{Field as IrField, Inst, LowerCx, Lowering, Operand};
use fuseline_ir::{
    DType, Dim, Graph, Node, Op, Requirement, Scalar, State, Symbol, Tensor, TensorType, Type,
    Value,
};
use fuseline_passes::partition::Segment as PlanSegment;
use fuseline_program::ScalarType;
use fuseline_program::graph::{Dim as MetaDim, MlxGraph, TensorMeta};
use fuseline_program::instr::{Field, Instruction, Vid};
use std::collections::{BTreeMap, BTreeSet};

/// Where a constant slot's bytes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ConstantSource {
    /// The graph's constant of that name.
    Graph(Symbol),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// A lowered segment: the program, and what its constant slots hold (by key, in slot order).
pub struct Lowered {
    /// The program.
    pub graph: MlxGraph,
    /// Keys of the constants and where their bytes come from.
    pub constants: Vec<(String, ConstantSource)>,
    /// What must hold of numbers, by value slot.
    pub limits: Vec<(Vid, Requirement)>,
}

/// Lowers a segment. The prefixes go before each constant's name in the file (`<prefix>/<name>`), and before each state's.
///
/// Errors: an op, size or dtype that the target's program can't express, with its place.
pub fn lower(graph: &Graph, spec: &PlanSegment, prefixes: [&str; 2]) -> Result<Lowered, EmitError> {
    let inputs: Vec<Place> = (0..number(spec.inputs.len())).map(Place::Input).collect();
    let mut segment = Segment::new(graph, spec, prefixes, &inputs)?;
    segment.init_states()?;
    segment.requirements()?;
    for &value in &spec.nodes {
        segment.node(value)?;
    }
    segment.finish_states()?;
    segment.finish_outputs()?;
    segment.build()
}

/// The instructions and numbers of one chain.
#[derive(Default)]
struct Chain {
    instructions: Vec<Instruction>,
    dims: Dims,
    temps: Temps,
}

struct Segment<'a> {
    graph: &'a Graph,
    spec: &'a PlanSegment,
    prefixes: [&'a str; 2],
    /// Whether a value depends on constants alone.
    constant: Vec<bool>,
    /// The value whose slot this one shares, through aliases; itself where it has its own.
    root: Vec<Value>,
    /// Position in `spec.nodes` of the last reader of a root; past the end for what must survive.
    last_use: Vec<usize>,
    /// Roots whose slot is decided. Temporaries leave when their value dies.
    place: BTreeMap<Value, Place>,
    /// Whether something that isn't hoisted needs the value.
    needed: Vec<bool>,
    main: Chain,
    init: Chain,
    constants: Vec<(String, ConstantSource, TensorMeta)>,
    constant_keys: BTreeMap<String, u32>,
    states: Vec<Symbol>,
    outputs: Vec<Place>,
    /// Slices that become one instruction: under the first of them all, in the order in which they lie.
    splits: BTreeMap<Value, Vec<Value>>,
    /// Chains that instructions run.
    branches: Vec<Vec<Instruction>>,
    /// What must hold of numbers, by value slot.
    limits: Vec<(Vid, Requirement)>,
    /// The graph's requirements that no instruction has been reached for yet: not all of their numbers are there.
    waiting: Vec<&'a Requirement>,
    position: usize,
}

impl<'a> Segment<'a> {
    /// A segment whose inputs are in these places.
    fn new(
        graph: &'a Graph,
        spec: &'a PlanSegment,
        prefixes: [&'a str; 2],
        inputs: &[Place],
    ) -> Result<Self, EmitError> {
        let n = graph.nodes().len();
        let mut segment = Segment {
            graph,
            spec,
            prefixes,
            constant: fuseline_passes::hoist::const_only(graph),
            root: (0..n).map(Value::from_index).collect(),
            last_use: vec![0; n],
            place: BTreeMap::new(),
            needed: vec![false; n],
            main: Chain::default(),
            init: Chain::default(),
            constants: Vec::new(),
            constant_keys: BTreeMap::new(),
            states: Vec::new(),
            outputs: Vec::new(),
            splits: BTreeMap::new(),
            branches: Vec::new(),
            limits: Vec::new(),
            waiting: graph.requirements.iter().collect(),
            position: 0,
        };
        for (&value, &place) in spec.inputs.iter().zip(inputs) {
            segment.place.insert(value, place);
            match graph.ty(value) {
                Type::Tensor(ty) => {
                    for (axis, dim) in ty.shape.iter().enumerate() {
                        if let Some(symbol) = dim.as_symbol() {
                            segment.main.dims.define(symbol, Source::Size(place, axis));
                        }
                    }
                }
                Type::Int(dim) => {
                    if let Some(symbol) = dim.as_symbol() {
                        segment.main.dims.define(symbol, Source::Item(place));
                    }
                }
                Type::Tuple(_) => {}
            }
        }
        segment.solve_linear_sizes(inputs);
        segment.find_states();
        segment.liveness()?;
        segment.find_splits();
        Ok(segment)
    }

    /// Symbols that no input has as a size of its own come from sizes that are a multiple of them.
    fn solve_linear_sizes(&mut self, inputs: &[Place]) {
        for (&value, &place) in self.spec.inputs.iter().zip(inputs) {
            let Type::Tensor(ty) = self.graph.ty(value) else {
                continue;
            };
            for (axis, dim) in ty.shape.iter().enumerate() {
                if let Some((symbol, factor, offset)) = dim.as_linear() {
                    let source = Source::Linear {
                        place,
                        axis,
                        factor,
                        offset,
                    };
                    self.main.dims.define(symbol, source);
                }
            }
        }
    }

    /// The states that the segment reads or whose next value it has, in the graph's order.
    fn find_states(&mut self) {
        let inside: BTreeSet<Value> = self.spec.nodes.iter().copied().collect();
        let mut read: BTreeMap<&Symbol, Value> = BTreeMap::new();
        let mut used = BTreeSet::new();
        for (value, node) in self.graph.values() {
            if let Op::State(op) = &node.op {
                read.insert(&op.name, value);
            }
            if inside.contains(&value) {
                used.extend(node.args.iter().copied());
            }
        }
        used.extend(self.spec.outputs.iter().copied());
        for (number_in_graph, state) in self.graph.states.iter().enumerate() {
            let value = read.get(&state.name).copied();
            // What the method keeps comes in as an input.
            let is_read = value.is_some_and(|v| used.contains(&v) && !self.place.contains_key(&v));
            if is_read || self.spec.sets.contains(&number_in_graph) {
                let place = Place::State(number(self.states.len()));
                self.states.push(state.name.clone());
                if let Some(v) = value {
                    self.place.insert(v, place);
                }
            }
        }
    }

    fn liveness(&mut self) -> Result<(), EmitError> {
        let graph = self.graph;
        for (position, &value) in self.spec.nodes.iter().enumerate() {
            let node = graph.node(value);
            if !self.is_branch_result(value)
                && let Lowering::Alias(n) = self.lowering(value)?
                && let Some(arg) = node.args.get(n)
            {
                self.root[value.index()] = self.root[arg.index()];
            }
            for arg in &node.args {
                let root = self.root[arg.index()];
                self.last_use[root.index()] = self.last_use[root.index()].max(position);
                self.needed[root.index()] |= !self.constant[value.index()];
            }
        }
        // A state that is not set here keeps the value that it has.
        for (value, node) in graph.values() {
            if let Op::State(op) = &node.op
                && !self.sets().any(|s| s.name == op.name)
            {
                self.last_use[value.index()] = usize::MAX;
            }
        }
        let nexts: Vec<Value> = self.sets().filter_map(|s| s.next).collect();
        for value in self.spec.outputs.iter().copied().chain(nexts) {
            let root = self.root[value.index()];
            self.last_use[root.index()] = usize::MAX;
            self.needed[root.index()] = true;
        }
        Ok(())
    }

    /// The states that get their next value in this segment.
    fn sets(&self) -> impl Iterator<Item = &'a State> + use<'_, 'a> {
        let states = self.spec.sets.iter();
        states.filter_map(|number| self.graph.states.get(*number))
    }

    fn lowering(&self, value: Value) -> Result<Lowering, EmitError> {
        let node = self.graph.node(value);
        let args: Vec<&Type> = node.args.iter().map(|a| self.graph.ty(*a)).collect();
        let cx = LowerCx {
            args: &args,
            out: &node.ty,
            symbols: &self.graph.symbols,
        };
        node.op
            .lower(&cx)
            .map_err(|e| EmitError::op(self.describe(value), &e))
    }

    fn describe(&self, value: Value) -> String {
        self.graph.describe(value, self.graph.node(value))
    }

    /// States that don't start at zero are set by the init chain.
    fn init_states(&mut self) -> Result<(), EmitError> {
        for (i, name) in self.states.clone().iter().enumerate() {
            let state = self.graph.states.iter().find(|s| s.name == *name);
            let Some((init, ty)) = state.and_then(|s| Some((s.init.clone()?, s.ty.clone()))) else {
                continue;
            };
            let source = self.graph_constant(&init, &ty)?;
            let copy = copy(source, Place::State(number(i)), || {
                format!("state \"{name}\"")
            })?;
            self.init.instructions.push(copy);
        }
        Ok(())
    }

    fn node(&mut self, value: Value) -> Result<(), EmitError> {
        let lowering = self.lowering(value)?;
        let node = self.graph.node(value);
        let hoisted = self.constant[value.index()];
        match lowering {
            Lowering::Nothing | Lowering::Alias(_) => {}
            // A part of a split that is done.
            Lowering::Insts(_) if self.place.contains_key(&value) => {}
            Lowering::Insts(_) if self.splits.contains_key(&value) => self.split(value)?,
            Lowering::Insts(insts) => {
                let constant_value = if hoisted {
                    self.small_constant(node)
                } else {
                    None
                };
                if let Some((key, bytes, ty)) = constant_value {
                    let place = self.constant_slot(key, ConstantSource::Bytes(bytes), &ty)?;
                    self.place.insert(value, place);
                } else {
                    self.instructions(value, node, &insts, hoisted)?;
                }
            }
            Lowering::Branch => self.branch(value, node)?,
            Lowering::Decompose => {
                return Err(self.refuse(value, "was not decomposed before emission"));
            }
            Lowering::Host => {
                return Err(
                    self.refuse(value, "is a host kernel, but stands in a delegate segment")
                );
            }
        }
        if !hoisted {
            for arg in &node.args {
                self.release(*arg);
            }
        }
        self.position += 1;
        Ok(())
    }

    fn refuse(&self, value: Value, reason: &str) -> EmitError {
        EmitError::Op {
            place: self.describe(value),
            reason: reason.to_string(),
        }
    }

    /// A `full` of few elements becomes a constant in the file; larger ones are made by the init chain.
    fn small_constant(&self, node: &Node) -> Option<(String, Vec<u8>, TensorType)> {
        let Op::Full(full) = &node.op else {
            return None;
        };
        let shape = full.ty.static_shape()?;
        let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        if len == 0 || len > 64 {
            return None;
        }
        let tensor = Tensor::from_fn(full.ty.dtype, shape, |_| full.value).ok()?;
        Some((
            format!("full.{}.{}", full.ty, scalar_text(full.value)),
            tensor.to_bytes(),
            full.ty.clone(),
        ))
    }

    fn release(&mut self, arg: Value) {
        let root = self.root[arg.index()];
        if self.last_use[root.index()] == self.position
            && let Some(place) = self.place.get(&root).copied()
            && matches!(place, Place::Temp(_))
        {
            self.place.remove(&root);
            self.main.temps.free(place);
        }
    }

    /// The slot that holds a value, loading a constant or making its own slot where it has none yet.
    fn read(&mut self, value: Value) -> Result<Place, EmitError> {
        let root = self.root[value.index()];
        if let Some(place) = self.place.get(&root) {
            return Ok(*place);
        }
        let node = self.graph.node(root);
        match &node.op {
            Op::Constant(op) => {
                let (name, ty) = (op.name.clone(), op.ty.clone());
                let place = self.graph_constant(&name, &ty)?;
                self.place.insert(root, place);
                Ok(place)
            }
            Op::Full(_) | Op::Arange(_) => {
                // A leaf that no pass placed among the nodes.
                Err(self.refuse(root, "is a leaf outside the segment's nodes"))
            }
            Op::State(op) => Err(EmitError::SplitState {
                name: op.name.to_string(),
                place: self.describe(value),
            }),
            _ => Err(self.refuse(root, "is read before it is computed")),
        }
    }

    fn instructions(
        &mut self,
        value: Value,
        node: &'a Node,
        insts: &[Inst],
        hoisted: bool,
    ) -> Result<(), EmitError> {
        let mut args = Vec::new();
        for &arg in &node.args {
            args.push(match self.graph.ty(arg) {
                Type::Tensor(_) => Some(self.read(arg)?),
                _ => None,
            });
        }
        // Sizes are computed while the arguments still hold their slots: the way over tensors takes temporaries.
        for inst in insts {
            self.sizes(value, node, inst, hoisted)?;
        }
        let copies = self.off_constants(insts, &mut args, hoisted)?;
        // With one instruction, an argument that dies here may give its slot to the result.
        if insts.len() == 1 && !hoisted {
            for arg in &node.args {
                self.release(*arg);
            }
        }
        let out = match (&node.op, &node.ty) {
            (Op::Item(_), _) => None,
            (_, Type::Tensor(ty)) => Some(self.out_place(value, node, ty, &args, hoisted)?),
            _ => {
                return Err(
                    self.refuse(value, "has several results, which no instruction gives yet")
                );
            }
        };
        let mut temps: BTreeMap<usize, Place> = BTreeMap::new();
        for inst in insts {
            let instruction =
                self.instruction(value, node, inst, &args, out, &mut temps, hoisted)?;
            self.chain(hoisted).instructions.push(instruction);
        }
        if let (Op::Item(item), false) = (&node.op, hoisted) {
            self.read_number(value, &item.symbol)?;
        }
        for place in temps.into_values().chain(copies) {
            self.chain(hoisted).temps.free(place);
        }
        if let Some(place) = out {
            self.place.insert(value, place);
        }
        Ok(())
    }

    /// ExecuTorch takes no constant where an instruction could write in place, also where it doesn't: such a constant
    /// is handed over in a temporary. The temporaries are returned.
    fn off_constants(
        &mut self,
        insts: &[Inst],
        args: &mut [Option<Place>],
        hoisted: bool,
    ) -> Result<Vec<Place>, EmitError> {
        let mut taken = Vec::new();
        for (name, field) in insts.iter().flat_map(|inst| &inst.fields) {
            let ("dst", IrField::Tensor(Operand::Arg(n))) = (*name, field) else {
                continue;
            };
            let Some(Some(place @ Place::Constant(_))) = args.get_mut(*n) else {
                continue;
            };
            let chain = self.chain(hoisted);
            let temp = chain.temps.take();
            let constant = std::mem::replace(place, temp);
            chain
                .instructions
                .push(copy(constant, temp, || "a constant".into())?);
            taken.push(temp);
        }
        Ok(taken)
    }

    fn chain(&mut self, hoisted: bool) -> &mut Chain {
        if hoisted {
            &mut self.init
        } else {
            &mut self.main
        }
    }

    /// Where the result of `value` goes.
    fn out_place(
        &mut self,
        value: Value,
        node: &Node,
        ty: &TensorType,
        args: &[Option<Place>],
        hoisted: bool,
    ) -> Result<Place, EmitError> {
        if hoisted && !self.needed[value.index()] {
            return Ok(self.init.temps.take());
        }
        if hoisted {
            // One byte in the file stands for what the init chain puts there.
            let key = format!("init.{}", self.constants.len());
            let byte = TensorType::new(DType::U8, vec![]);
            return self.constant_slot(key, ConstantSource::Bytes(vec![0]), &byte);
        }
        let _ = ty;
        if let Some(n) = node.op.updates()
            && let (Some(&arg), Some(Some(place))) = (node.args.get(n), args.get(n))
        {
            let root = self.root[arg.index()];
            let dies = self.last_use[root.index()] == self.position;
            if dies && matches!(place, Place::State(_)) {
                return Ok(*place);
            }
        }
        if let Some(place) = self.state_of(value) {
            return Ok(place);
        }
        if let Some(i) = self
            .spec
            .outputs
            .iter()
            .position(|o| self.root[o.index()] == value)
        {
            return Ok(Place::Output(number(i)));
        }
        Ok(self.main.temps.take())
    }

    /// The slot of the state whose next value this is, where nothing reads the old value any more.
    fn state_of(&self, value: Value) -> Option<Place> {
        let mut sets = self.sets();
        let state = sets.find(|s| s.next.is_some_and(|n| self.root[n.index()] == value))?;
        let index = self.states.iter().position(|n| *n == state.name)?;
        let place = Place::State(number(index));
        let read_later = self
            .place
            .iter()
            .any(|(v, p)| *p == place && self.last_use[v.index()] > self.position);
        (!read_later).then_some(place)
    }

    fn graph_constant(&mut self, name: &Symbol, ty: &TensorType) -> Result<Place, EmitError> {
        self.constant_slot(name.to_string(), ConstantSource::Graph(name.clone()), ty)
    }

    fn constant_slot(
        &mut self,
        name: String,
        source: ConstantSource,
        ty: &TensorType,
    ) -> Result<Place, EmitError> {
        let key = format!("{}/{name}", self.prefixes[0]);
        if let Some(n) = self.constant_keys.get(&key) {
            return Ok(Place::Constant(*n));
        }
        let meta = self.meta(ty, &name)?;
        let n = number(self.constants.len());
        self.constant_keys.insert(key.clone(), n);
        self.constants.push((key, source, meta));
        Ok(Place::Constant(n))
    }
}

/// The tensor type that a value has at a segment's edge: an integer travels as a 0-d `i64` tensor.
pub fn io_type(ty: &Type) -> Option<TensorType> {
    match ty {
        Type::Tensor(t) => Some(t.clone()),
        Type::Int(_) => Some(TensorType::new(DType::I64, vec![])),
        Type::Tuple(_) => None,
    }
}

/// A size as the format describes it: the number, or the range of what the symbols allow.
pub fn meta_dim(dim: &Dim, graph: &Graph, place: &str) -> Result<MetaDim, EmitError> {
    let too_large = || EmitError::Size {
        place: place.to_string(),
        dim: dim.to_string(),
    };
    let fits = |n: i64| u32::try_from(n).ok().filter(|n| *n <= i32::MAX as u32);
    if let Some(n) = dim.as_const() {
        return Ok(MetaDim::Static(fits(n).ok_or_else(too_large)?));
    }
    let range = dim.range(&graph.symbols);
    let min = fits(range.min.max(0)).ok_or_else(too_large)?;
    Ok(MetaDim::Dynamic {
        min,
        max: fits(range.max),
    })
}

fn scalar_text(s: Scalar) -> String {
    match s {
        Scalar::Bool(b) => b.to_string(),
        Scalar::Int(n) => n.to_string(),
        Scalar::Float(x) => x.to_string(),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn dtype(d: DType, place: impl FnOnce() -> String) -> Result<ScalarType, EmitError> {
    checked_scalar_type(d).ok_or_else(|| EmitError::DType {
        place: place(),
        dtype: d.to_string(),
    })
}

fn copy(from: Place, to: Place, place: impl FnOnce() -> String) -> Result<Instruction, EmitError> {
    let fields = [
        ("x", Field::Tid(from.provisional())),
        ("out", Field::Tid(to.provisional())),
    ];
    Instruction::build("IdCopy", &fields).map_err(|error| EmitError::Instruction {
        place: place(),
        error,
    })
}
