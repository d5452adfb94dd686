//! From an optimised, partitioned graph to a program: segments become delegates, host nodes become kernel calls, and everything that crosses between them becomes a planned value.

mod control;
mod dims;
mod error;
mod kept;
mod limits;
mod segment;
mod slots;

pub use error::EmitError;

use crate::fixed::Fixed;
use crate::import::SEED;
use fuseline_ir::{Attr, Dim, Graph, Node, Op, Requirement, State, Symbol, Type, Value};
use fuseline_passes::partition::{Plan, Segment, Step};
use fuseline_program::ScalarType;
use fuseline_program::container::limits::Limit;
use fuseline_program::container::sizes::{Rule, Sizes};
use fuseline_program::container::{
    Call, Data, Delegate, Method, NamedData, Note, Operator, Program, Storage, TensorValue, Trees,
    UNBOUNDED, Value as EValue, ValueIdx,
};
use fuseline_program::graph::{Dim as MetaDim, TensorMeta};
use segment::{ConstantSource, io_type, meta_dim};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A method to be emitted.
pub struct MethodInput<'a> {
    /// The optimised graph.
    pub graph: &'a Graph,
    /// Its partition.
    pub plan: Cow<'a, Plan>,
    /// How arguments and results nest in Python, where the export says.
    pub trees: Option<Trees>,
    /// The arguments that the export made constants.
    pub fixed: &'a [Fixed],
    /// Whether states of the same name in other methods are the same ones. The runtime knows them by their names in the file.
    pub share_state: bool,
}

/// Builds the program of these methods. Weights are not copied: their bytes are read from where the graph has them when the program is written.
///
/// Errors: something that the format or the target can't express, with its place.
pub fn emit<'a>(methods: &[MethodInput<'a>]) -> Result<Program<'a>, EmitError> {
    let mut program = Program::default();
    let mut keys = BTreeMap::new();
    check_shared(methods)?;
    for input in methods {
        limits::check(input.graph)?;
        let mut method = MethodEmitter {
            graph: input.graph,
            prefix: prefix(&input.graph.name),
            state_prefix: prefix(if input.share_state {
                ""
            } else {
                &input.graph.name
            }),
            out: Method {
                name: input.graph.name.clone(),
                ..Method::default()
            },
            index: BTreeMap::new(),
            calls: Vec::new(),
            keys: &mut keys,
            named: &mut program.named_data,
            contents: &mut program.constants,
            kept_names: BTreeMap::new(),
            kept: (input.plan.kept.iter())
                .filter_map(|number| input.graph.states.get(*number))
                .collect(),
        };
        let mut fixed = input.fixed.iter().peekable();
        let mut given = input.graph.inputs().iter();
        loop {
            let at = method.out.inputs.len();
            let idx = if let Some(one) = fixed.next_if(|one| one.position == at) {
                let idx = method.value(one.value.clone());
                // Nothing reads it; a string behind it is its name.
                method.value(EValue::String(one.name.clone()));
                idx
            } else if let Some(value) = given.next() {
                method.tensor(*value)?
            } else {
                break;
            };
            method.out.inputs.push(idx);
        }
        method.steps(&input.plan)?;
        for output in &input.graph.outputs {
            let idx = method.tensor(output.value)?;
            method.out.outputs.push(idx);
        }
        method.next_states()?;
        if let Some(sizes) = sizes(input.graph) {
            method.value(EValue::String(sizes.to_string()));
        }
        program.methods.push(method.finish(input)?);
    }
    Ok(program)
}

/// How the lengths of a graph's inputs hang together, where ranges alone don't say all of it.
fn sizes(graph: &Graph) -> Option<Sizes> {
    let mut symbols: Vec<&Symbol> = Vec::new();
    let mut sizes = Sizes::default();
    let mut says_more = false;
    for (input, value) in graph.inputs().iter().enumerate() {
        let dims: Vec<(Option<usize>, &Dim)> = match graph.ty(*value) {
            Type::Tensor(ty) => ty
                .shape
                .iter()
                .enumerate()
                .map(|(at, dim)| (Some(at), dim))
                .collect(),
            Type::Int(dim) => vec![(None, dim)],
            Type::Tuple(_) => Vec::new(),
        };
        for (dimension, dim) in dims {
            let linear = dim
                .as_linear()
                .filter(|(symbol, times, _)| *times != 0 && ***symbol != *SEED);
            let Some((name, times, plus)) = linear else {
                continue;
            };
            let Some(range) = graph.symbols.get(name) else {
                continue;
            };
            let known = symbols.iter().position(|symbol| *symbol == name);
            let symbol = known.unwrap_or(symbols.len());
            if known.is_none() {
                symbols.push(name);
                sizes.ranges.push((range.min, range.max));
            }
            says_more |= known.is_some() || dimension.is_none() || (times, plus) != (1, 0);
            sizes.rules.push(Rule {
                input,
                dimension,
                symbol,
                times,
                plus,
            });
        }
    }
    says_more.then_some(sizes)
}

/// Shared states of one name must be of one type.
fn check_shared(methods: &[MethodInput<'_>]) -> Result<(), EmitError> {
    let mut seen = BTreeMap::new();
    for method in methods.iter().filter(|method| method.share_state) {
        let name = &method.graph.name;
        for state in &method.graph.states {
            match seen.insert(&state.name, (&state.ty, name)) {
                Some((ty, other)) if *ty != state.ty => {
                    return Err(EmitError::Op {
                        place: format!("state \"{}\" of `{name}`", state.name),
                        reason: format!(
                            "is {}, in `{other}` it is {ty}: they can't be shared",
                            state.ty
                        ),
                    });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Four hex digits that keep the names of different methods apart, as ExecuTorch's own files do.
fn prefix(method: &str) -> String {
    let digest = Sha256::digest(method.as_bytes());
    format!("{:02x}{:02x}", digest[0], digest[1])
}

struct MethodEmitter<'a, 'k> {
    /// The method's graph, or the one inside a loop that is being emitted.
    graph: &'a Graph,
    /// What the names in the file begin with.
    prefix: String,
    /// The same of states.
    state_prefix: String,
    out: Method<'a>,
    /// The method's values for the graph's.
    index: BTreeMap<Value, ValueIdx>,
    calls: Vec<Call>,
    /// Names in the file that are taken, by all methods.
    keys: &'k mut BTreeMap<String, ConstantSource>,
    named: &'k mut Vec<NamedData<'a>>,
    /// The states that the method keeps.
    kept: Vec<&'a State>,
    /// Their names in the file, by value.
    kept_names: BTreeMap<ValueIdx, String>,
    /// What such states of all methods begin with.
    contents: &'k mut Vec<Data<'a>>,
}

impl<'a> MethodEmitter<'a, '_> {
    fn steps(&mut self, plan: &Plan) -> Result<(), EmitError> {
        for step in &plan.steps {
            match step {
                Step::Segment(spec) => self.segment(spec)?,
                Step::Host { value } => self.host(*value)?,
                Step::Loop { value } => self.while_loop(*value)?,
            }
        }
        Ok(())
    }

    /// The method's value for a value of the graph, planned at first sight.
    fn tensor(&mut self, value: Value) -> Result<ValueIdx, EmitError> {
        if let Some(idx) = self.index.get(&value) {
            return Ok(*idx);
        }
        let node = self.graph.node(value);
        let place = self.graph.describe(value, node);
        let meta = self.meta(self.graph.ty(value), &place)?;
        let idx = self.planned(&meta);
        self.index.insert(value, idx);
        if let Op::State(op) = &node.op
            && let Some(state) = self.kept.iter().find(|state| state.name == op.name)
        {
            self.keep(idx, state)?;
        }
        Ok(idx)
    }

    /// A type as the format describes it. `place` is for messages.
    fn meta(&self, ty: &Type, place: &str) -> Result<TensorMeta, EmitError> {
        let ty = io_type(ty).ok_or_else(|| EmitError::Op {
            place: place.to_string(),
            reason: "a tuple can't cross between segments".into(),
        })?;
        let dtype = ScalarType::from_name(ty.dtype.name()).ok_or_else(|| EmitError::DType {
            place: place.to_string(),
            dtype: ty.dtype.to_string(),
        })?;
        let mut shape = Vec::new();
        for dim in &ty.shape {
            shape.push(meta_dim(dim, self.graph, place)?);
        }
        Ok(TensorMeta { dtype, shape })
    }

    fn planned(&mut self, meta: &TensorMeta) -> ValueIdx {
        self.value(EValue::Tensor(TensorValue {
            dtype: meta.dtype,
            sizes: meta
                .shape
                .iter()
                .map(|d| d.upper().unwrap_or(UNBOUNDED))
                .collect(),
            dynamic: meta
                .shape
                .iter()
                .any(|d| matches!(d, MetaDim::Dynamic { .. })),
            storage: Storage::Caller,
        }))
    }

    fn value(&mut self, value: EValue) -> ValueIdx {
        self.out.values.push(value);
        (self.out.values.len() - 1) as ValueIdx
    }

    fn segment(&mut self, spec: &Segment) -> Result<(), EmitError> {
        let lowered = segment::lower(self.graph, spec, [&self.prefix, &self.state_prefix])?;
        for (key, source) in lowered.constants {
            if self.keys.contains_key(&key) {
                continue;
            }
            self.named.push(NamedData {
                key: key.clone(),
                data: self.data(&source)?,
            });
            self.keys.insert(key, source);
        }
        let mut args = Vec::new();
        for value in spec.inputs.iter().chain(&spec.outputs) {
            args.push(self.tensor(*value)?);
        }
        self.calls.push(Call::Delegate {
            delegate: self.out.delegates.len() as u32,
            args,
        });
        for (slot, Requirement { dim, range }) in lowered.limits {
            let limit = Limit {
                delegate: self.out.delegates.len(),
                slot: slot.0,
                least: range.min,
                most: range.max,
                number: dim.to_string(),
            };
            self.value(EValue::String(limit.to_string()));
        }
        self.out.delegates.push(Delegate::mlx(lowered.graph));
        Ok(())
    }

    fn data(&self, source: &ConstantSource) -> Result<Data<'a>, EmitError> {
        let name = match source {
            ConstantSource::Bytes(bytes) => return Ok(Data::owned(bytes.clone())),
            ConstantSource::Graph(name) => name,
        };
        let missing = |reason: &str| EmitError::Constant {
            name: name.to_string(),
            reason: reason.to_string(),
        };
        let constant = self
            .graph
            .constants
            .get(name)
            .ok_or_else(|| missing("is not in the graph"))?;
        let payload = constant
            .data
            .as_deref()
            .ok_or_else(|| missing("has no data"))?;
        let size = constant.ty.static_shape().map(|s| {
            s.iter().fold(constant.ty.dtype.size() as u64, |n, d| {
                n.saturating_mul(*d as u64)
            })
        });
        let size = size.ok_or_else(|| missing("has a dynamic shape"))?;
        Ok(match payload.stored() {
            // In a mapping, or in memory already: written from where it is.
            Some(bytes) => Data::borrowed(bytes),
            // Made when the file is written, and not kept.
            None => Data::made(size, move |range| {
                let bytes = payload.range(range).map_err(std::io::Error::other)?;
                Ok(bytes.into_owned())
            }),
        })
    }

    /// A kernel call: the arguments in order, then the outputs, which the kernel's `out` overload writes, then what it returns: the output again, or a list of several.
    fn host(&mut self, value: Value) -> Result<(), EmitError> {
        let node = self.graph.node(value);
        let Op::Host(op) = &node.op else {
            return Err(EmitError::Op {
                place: self.graph.describe(value, node),
                reason: "is not a host kernel".into(),
            });
        };
        let (name, overload) = op.kernel.rsplit_once('.').unwrap_or((&*op.kernel, ""));
        let operator = Operator {
            name: name.to_string(),
            overload: overload.to_string(),
        };
        let number = match self.out.operators.iter().position(|o| *o == operator) {
            Some(n) => n,
            None => {
                self.out.operators.push(operator);
                self.out.operators.len() - 1
            }
        };
        let mut args = Vec::new();
        for item in &op.call {
            args.push(self.argument(value, node, item)?);
        }
        let outs = self.results(value)?;
        let returned = match outs.as_slice() {
            [one] => *one,
            _ => self.value(EValue::TensorList(outs.clone())),
        };
        args.extend(outs);
        args.push(returned);
        self.out.notes.push(Note {
            chain: 0,
            call: self.calls.len() as u32,
            module: (node.loc.module.as_deref()).unwrap_or_default().to_string(),
            reason: op.reason.to_string(),
        });
        self.calls.push(Call::Kernel {
            operator: number as u32,
            args,
        });
        Ok(())
    }

    /// The values that the results of a host call or a loop become. A result that nothing reads has one as well.
    fn results(&mut self, value: Value) -> Result<Vec<ValueIdx>, EmitError> {
        let graph = self.graph;
        let Type::Tuple(types) = &graph.node(value).ty else {
            return Ok(vec![self.tensor(value)?]);
        };
        let reads = |node: &Node, index: usize| {
            matches!(&node.op, Op::Get(get) if get.index == index) && node.args == [value]
        };
        let mut outs = Vec::new();
        for (index, ty) in types.iter().enumerate() {
            let all = graph.values().filter(|(_, node)| reads(node, index));
            let mut all = all.map(|(value, _)| value);
            let idx = match all.next() {
                Some(first) => self.tensor(first)?,
                None => {
                    let place = graph.describe(value, graph.node(value));
                    let meta = self.meta(ty, &place)?;
                    self.planned(&meta)
                }
            };
            for same in all {
                self.index.insert(same, idx);
            }
            outs.push(idx);
        }
        Ok(outs)
    }

    /// An argument of a host call.
    fn argument(&mut self, value: Value, node: &Node, item: &Attr) -> Result<ValueIdx, EmitError> {
        let refuse = |reason: &str| EmitError::Op {
            place: self.graph.describe(value, node),
            reason: reason.to_string(),
        };
        let number = |item: &Attr| match item {
            Attr::Int(dim) => dim.as_const(),
            _ => None,
        };
        let literal = match item {
            Attr::Arg(n) => {
                let arg = node
                    .args
                    .get(*n)
                    .ok_or_else(|| refuse("names an argument that it lacks"))?;
                return self.tensor(*arg);
            }
            Attr::None => EValue::None,
            Attr::Bool(b) => EValue::Bool(*b),
            Attr::Int(_) => {
                EValue::Int(number(item).ok_or_else(|| refuse("takes a dynamic size"))?)
            }
            Attr::Float(x) => EValue::Double(x.get()),
            Attr::Str(text) => EValue::String(text.to_string()),
            Attr::List(items) => match items.first() {
                Some(Attr::Float(_)) if items.iter().all(|i| matches!(i, Attr::Float(_))) => {
                    let all = items.iter().map(|i| match i {
                        Attr::Float(x) => x.get(),
                        _ => 0.0,
                    });
                    EValue::DoubleList(all.collect())
                }
                Some(Attr::Bool(_)) if items.iter().all(|i| matches!(i, Attr::Bool(_))) => {
                    EValue::BoolList(items.iter().map(|i| *i == Attr::Bool(true)).collect())
                }
                Some(_) if items.iter().any(|i| matches!(i, Attr::Arg(_))) => {
                    let mut all = Vec::new();
                    for item in items {
                        all.push(match item {
                            Attr::None => None,
                            item => Some(self.argument(value, node, item)?),
                        });
                    }
                    match all.iter().copied().collect::<Option<Vec<_>>>() {
                        Some(all) => EValue::TensorList(all),
                        None => EValue::OptionalTensorList(all),
                    }
                }
                _ if items.iter().all(|i| number(i).is_some()) => {
                    let mut all = Vec::new();
                    for n in items.iter().filter_map(number) {
                        all.push(self.value(EValue::Int(n)));
                    }
                    EValue::IntList(all)
                }
                _ => return Err(refuse("takes a list that the format has no room for")),
            },
            Attr::DType(_) | Attr::Type(_) | Attr::Region(_) => {
                return Err(refuse("takes a type as an argument"));
            }
        };
        Ok(self.value(literal))
    }

    fn finish(mut self, input: &MethodInput<'a>) -> Result<Method<'a>, EmitError> {
        self.out.trees = input.trees.clone();
        self.out.chains = vec![self.calls];
        self.out.plan_memory().map_err(EmitError::Plan)?;
        for value in &mut self.out.values {
            if let EValue::Tensor(tensor) = value {
                tensor.lower_bounds();
            }
        }
        Ok(self.out)
    }
}
