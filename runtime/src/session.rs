//! Running methods, and what is kept between calls.

#[cfg(test)]
mod inferred;

use std::collections::VecDeque;
use std::sync::Arc;

use fuseline_program::container::sizes::{Misfit, Rule, Sizes};
use fuseline_program::{Dim, IoSlot, ScalarType};

use crate::budget::Budget;
use crate::call::Call;
use crate::error::{Error, InputProblem};
use crate::fault::Fault;
use crate::frame::{Frame, Number};
use crate::kernels::KernelError;
use crate::late::Late;
use crate::mlx::{self, Array, Stream};
use crate::ops::{self, Caches};
use crate::program::{Argument, FixedInput, Input, InputKind, Method, Program, Segment, Step};
use crate::tensor::Tensor;
use crate::value::Value;
use crate::{kernels, replay};
use fuseline_program::container::TensorValue;

/// One caller's view of a program: its state (a key/value cache, say) and its place in the device's queue.
///
/// A session can move between threads; it is used from one at a time.
pub struct Session {
    program: Program,
    stream: Stream,
    /// Each of the program's states; none before its first use and after a reset.
    state: States,
    /// The caches that instructions name by layer.
    caches: Caches,
    /// The values that each method keeps; none before its first call and after a reset.
    values: Vec<Option<Vec<Value>>>,
    /// Calls of which is not known yet how they went, in their order.
    unsettled: VecDeque<Arc<Call>>,
    /// Failures on the stream after which it has been emptied.
    emptied: u64,
    lost: bool,
}

/// How many calls a session runs ahead of the device.
const AHEAD: usize = 64;

/// The program's states.
type States = Vec<Option<Array>>;

/// What a call changes, to be kept if the whole call works out.
struct Changes {
    state: States,
    caches: Caches,
    /// What the method keeps among its values.
    values: Vec<Value>,
}

impl Changes {
    /// Whether the call changes anything.
    fn any(&self) -> bool {
        let states = self.state.iter().any(Option::is_some);
        states || self.caches.arrays().next().is_some() || !self.values.is_empty()
    }
}

impl Session {
    pub(crate) fn new(program: Program) -> Result<Self, Error> {
        let stream = Stream::on(program.device())?;
        let state = program.0.states.iter().map(|_| None).collect();
        let values = program.0.methods.iter().map(|_| None).collect();
        Ok(Self {
            program,
            stream,
            state,
            caches: Caches::default(),
            values,
            unsettled: VecDeque::new(),
            emptied: 0,
            lost: false,
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs a method and returns its outputs, which may still be on their way: reading one waits for it.
    ///
    /// State changes only if the call succeeds.
    ///
    /// An index that the device computes may turn out to be wrong only when the results are there ([`crate::Options::late_checks`]), and computing can fail, for want of memory, say.
    /// Reading any of the results is an error then, and so is reading what later calls have made of them; after a failure, of whatever had been queued when it was noticed. If such a call has
    /// changed the state, that is lost: the next call says why, and those after it fail until [`Session::reset`].
    ///
    /// # Errors
    /// No such method, inputs that it does not take, an instruction or an operator of the host that fails.
    pub fn run(&mut self, method: &str, inputs: &[Value]) -> Result<Vec<Value>, Error> {
        if self.lost {
            return Err(Error::StateLost);
        }
        let program = self.program.clone();
        program.0.check_files()?;
        let method = program.0.method(method)?;
        let earlier = self.earlier(inputs)?;
        self.empty_stream();
        let failures = Arc::clone(self.stream.failures());
        let before = failures.count();
        let late = Late::new(program.0.late_checks);
        let replayed = failures.watch(|| self.replay(method, inputs, &late));
        let kept = matches!(&replayed, Ok((_, changes)) if changes.any());
        let pending = late.into_pending();
        let indices = !pending.is_empty() || !earlier.is_empty();
        let call = Call::new(&program, &self.stream, before, earlier, pending, kept)?;
        match replayed {
            Ok((outputs, changes)) => self.submit(method.number, outputs, changes, call),
            Err(error) => {
                if indices && failures.count() == before {
                    // It may have failed because of what an index out of range has left.
                    failures.watch(|| mlx::start(&call.marks()?))?;
                    call.settle()?;
                }
                Err(error)
            }
        }
    }

    /// After a failure, waits for what had been queued by then, so that no call to come is told of it.
    fn empty_stream(&mut self) {
        let failures = self.stream.failures();
        if failures.count() != self.emptied {
            // Its failures are noted.
            let _ = self.stream.synchronize();
            self.emptied = self.stream.failures().count();
        }
    }

    /// The calls that one with these inputs builds on, and of which is not known yet how they went.
    fn earlier(&mut self, inputs: &[Value]) -> Result<Vec<Arc<Call>>, Error> {
        self.settle(AHEAD)?;
        let kept = self.unsettled.iter().filter(|call| call.kept());
        let mut earlier: Vec<_> = kept.cloned().collect();
        for call in inputs
            .iter()
            .filter_map(Value::as_tensor)
            .filter_map(Tensor::call)
        {
            match call.outcome() {
                Some(outcome) => outcome?,
                None if earlier.iter().any(|known| Arc::ptr_eq(known, call)) => {}
                None => earlier.push(Arc::clone(call)),
            }
        }
        Ok(earlier)
    }

    /// Looks at how the calls went that are computed, and waits for all calls but the last few.
    fn settle(&mut self, ahead: usize) -> Result<(), Error> {
        while let Some(call) = self.unsettled.front() {
            let outcome = if self.unsettled.len() > ahead {
                Some(call.settle())
            } else {
                call.outcome()
            };
            let Some(outcome) = outcome else { break };
            let kept = call.kept();
            self.unsettled.pop_front();
            if let (Err(error), true) = (outcome, kept) {
                // All calls after it have built on what it has left.
                self.unsettled.clear();
                self.lost = true;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Walks the steps of a method; its outputs, and what is to be kept if all of them can be computed.
    fn replay(
        &self,
        method: &Method,
        inputs: &[Value],
        late: &Late,
    ) -> Result<(Vec<Value>, Changes), Error> {
        let program = &self.program;
        let mut values = method.values.clone();
        if let Some(kept) = &self.values[method.number] {
            for (at, value) in method.kept.iter().zip(kept) {
                values[*at] = value.clone();
            }
        }
        for (at, number) in &method.states {
            let kept = self.state[*number].as_ref();
            if let Some(array) = kept.or(program.0.states[*number].initial.as_ref()) {
                values[*at] = Tensor::from(array.share()?).into();
            }
        }
        take_inputs(method, inputs, &mut values)?;

        let mut changes = Changes {
            state: self.state.iter().map(|_| None).collect(),
            caches: self.caches.share()?,
            values: Vec::new(),
        };
        let budget = program.0.budget();
        for chain in &method.chains {
            let mut at = 0;
            while let Some(step) = chain.get(at) {
                at += 1;
                let Step::JumpFalse { condition, target } = step else {
                    self.step(step, &mut values, &mut changes, &budget, late)?;
                    continue;
                };
                let jumps = is_false(&values[*condition])?;
                late.look(program)?;
                if !jumps {
                    continue;
                }
                if let Some(repeated) = chain.get(*target..at) {
                    let repeated = repeated.iter().map(|step| program.0.steps(step));
                    let enough = budget.jump(repeated.sum(), values.len());
                    enough.map_err(|_| Error::Endless {
                        method: method.name.clone(),
                        limit: program.0.max_steps,
                    })?;
                    // Each step of a loop is queued before the next one is built on it.
                    let tensors = values.iter().filter_map(Value::as_tensor);
                    mlx::start(tensors.map(Tensor::array))?;
                    late.start()?;
                }
                at = *target;
            }
        }
        let outputs: Vec<Value> = method
            .outputs
            .iter()
            .map(|(value, _)| values[*value].clone())
            .collect();
        let results = outputs.iter().filter_map(Value::as_tensor);
        let results = results.map(|tensor| tensor.array().bytes());
        let caches = changes.caches.arrays().map(Array::bytes);
        let new = results.chain(caches).fold(0, u64::saturating_add);
        program.0.memory.check(new)?;
        changes.values = method.kept.iter().map(|at| values[*at].clone()).collect();
        for (at, number) in &method.states {
            if let Value::Tensor(tensor) = &values[*at] {
                changes.state[*number] = Some(tensor.array().share()?);
            }
        }
        Ok((outputs, changes))
    }

    /// Keeps the new state and queues everything that is to be computed.
    fn submit(
        &mut self,
        method: usize,
        mut outputs: Vec<Value>,
        changes: Changes,
        call: Call,
    ) -> Result<Vec<Value>, Error> {
        let stateful = changes.any();
        for (kept, new) in self.state.iter_mut().zip(changes.state) {
            if new.is_some() {
                // The old state goes here, before anything is computed, so that MLX writes the new one in its place.
                *kept = new;
            }
        }
        self.caches = changes.caches;
        self.values[method] = Some(changes.values);
        let marks = call.marks()?;
        let kept = self.values.iter().flatten().flatten();
        let tensors = outputs
            .iter()
            .chain(kept)
            .filter_map(Value::as_tensor)
            .map(Tensor::array);
        let state = self.state.iter().flatten().chain(self.caches.arrays());
        let all = tensors.chain(state).chain(&marks);
        if let Err(error) = self.stream.failures().watch(|| mlx::start(all)) {
            self.lost = stateful;
            return Err(error.into());
        }
        let call = Arc::new(call);
        for output in &mut outputs {
            if let Value::Tensor(tensor) = output {
                *tensor = tensor.clone().of_call(Arc::clone(&call));
            }
        }
        self.unsettled.push_back(call);
        Ok(outputs)
    }

    fn step(
        &self,
        step: &Step,
        values: &mut [Value],
        changes: &mut Changes,
        budget: &Budget,
        late: &Late,
    ) -> Result<(), Error> {
        match step {
            Step::Delegate {
                segment,
                inputs,
                outputs,
            } => {
                let program = self.program.clone();
                let body = &program.0.segments[*segment];
                late.enter(*segment);
                let mut frame = self.frame(body, budget, late);
                self.load_state(body, &changes.state, &mut frame)?;
                frame.caches = std::mem::take(&mut changes.caches);
                for (slot, value) in body.graph.inputs.iter().zip(inputs) {
                    put_input(*slot, &values[*value], &mut frame).map_err(Error::Interface)?;
                }
                replay::run_chain(&body.graph, body.graph.main_chain, &mut frame)?;
                for (slot, (value, declared)) in body.graph.outputs.iter().zip(outputs) {
                    let dtype = declared.as_ref().map(|tensor| tensor.dtype);
                    let result = read_output(*slot, dtype, &frame).map_err(Error::Interface)?;
                    if let (Value::Tensor(made), Some(declared)) = (&result, declared) {
                        check_shape(&made.shape(), declared)?;
                    }
                    values[*value] = result;
                }
                for (tid, state) in &body.state {
                    changes.state[*state] = Some(frame.take(*tid).map_err(Error::Interface)?);
                }
                changes.caches = frame.caches;
            }
            Step::Kernel {
                name,
                kernel,
                inputs,
                outputs,
            } => {
                let arguments: Vec<Value> = inputs.iter().map(|at| gather(at, values)).collect();
                let failed = |source| Error::Kernel {
                    operator: name.clone(),
                    source,
                };
                let at_once = Late::new(false);
                let frame = self.empty_frame(budget, &at_once);
                let results = kernels::call(kernel, &arguments, outputs, frame).map_err(failed)?;
                if results.len() != outputs.len() {
                    let (made, wanted) = (results.len(), outputs.len());
                    return Err(failed(KernelError::Results { made, wanted }));
                }
                for (position, ((at, wanted), result)) in outputs.iter().zip(results).enumerate() {
                    if let Some(wanted) = wanted {
                        kernels::check_result(position, &result, wanted).map_err(failed)?;
                    }
                    values[*at] = result;
                }
            }
            Step::Move { from, to } => values[*to] = values[*from].clone(),
            Step::View { from, to, shape } => {
                let at_once = Late::new(false);
                let frame = self.empty_frame(budget, &at_once);
                let viewed = kernels::view(&values[*from], shape, frame);
                values[*to] = viewed.map_err(|source| Error::Kernel {
                    operator: kernels::VIEW.to_owned(),
                    source,
                })?;
            }
            Step::Free { value } => values[*value] = Value::None,
            Step::JumpFalse { .. } => {}
        }
        Ok(())
    }

    fn frame<'a>(&'a self, segment: &'a Segment, budget: &'a Budget, late: &'a Late) -> Frame<'a> {
        Frame {
            constants: &segment.constants,
            steps: &segment.steps,
            tensors: std::iter::repeat_with(|| None)
                .take(segment.free_slots())
                .collect(),
            values: vec![None; segment.graph.counts.values as usize],
            limits: &segment.limits,
            ..self.empty_frame(budget, late)
        }
    }

    /// A frame without slots.
    fn empty_frame<'a>(&'a self, budget: &'a Budget, late: &'a Late) -> Frame<'a> {
        Frame {
            constants: &[],
            tensors: Vec::new(),
            values: Vec::new(),
            limits: &[],
            stream: &self.stream,
            budget,
            late,
            steps: &[],
            caches: Caches::default(),
            layout: &self.program.0.layout,
        }
    }

    /// Puts the state into its slots: what this call has left there already, what the last one left, or what it starts with.
    fn load_state(
        &self,
        segment: &Segment,
        new_state: &States,
        frame: &mut Frame<'_>,
    ) -> Result<(), Error> {
        for (tid, number) in &segment.state {
            let state = &self.program.0.states[*number];
            let kept = new_state[*number].as_ref().or(self.state[*number].as_ref());
            let array = match kept.or(state.initial.as_ref()) {
                Some(kept) => kept.share()?,
                None => state.info.zeros(frame)?,
            };
            frame.put(*tid, array).map_err(Error::Interface)?;
        }
        Ok(())
    }

    /// A copy of a state tensor.
    ///
    /// # Errors
    /// There is no state of this name. Reading the copy is an error if a call has computed it with an index that is out of range.
    pub fn state(&self, name: &str) -> Result<Tensor, Error> {
        let number = self.find_state(name)?;
        let state = &self.program.0.states[number];
        let array = match self.state[number].as_ref().or(state.initial.as_ref()) {
            Some(kept) => kept.share()?,
            None => {
                let budget = self.program.0.budget();
                let late = Late::new(false);
                let zeros = state.info.zeros(&self.empty_frame(&budget, &late))?;
                mlx::eval([&zeros])?;
                zeros
            }
        };
        let tensor = Tensor::from(array);
        let last = self.unsettled.iter().rfind(|call| call.kept());
        Ok(match last {
            Some(call) => tensor.of_call(Arc::clone(call)),
            None => tensor,
        })
    }

    /// Replaces a state tensor.
    ///
    /// # Errors
    /// There is no state of this name, or the tensor has another type or shape.
    pub fn set_state(&mut self, name: &str, tensor: &Tensor) -> Result<(), Error> {
        let number = self.find_state(name)?;
        let info = &self.program.0.states[number].info;
        let dims: Vec<Dim> = info
            .shape
            .iter()
            .map(|length| Dim::Static(u32::try_from(*length).unwrap_or(u32::MAX)))
            .collect();
        InputKind::check(info.dtype, &dims, tensor).map_err(|problem| Error::State {
            name: name.to_owned(),
            problem,
        })?;
        if let Some(call) = tensor.call() {
            call.settle()?;
        }
        self.state[number] = Some(tensor.array().share()?);
        Ok(())
    }

    /// Puts all state back to what it was at the start, once the calls are computed that are still queued: a failure of theirs is not for those to come.
    pub fn reset(&mut self) {
        if !self.unsettled.is_empty() {
            // Failures are noted for the results of those calls.
            let _ = self.stream.synchronize();
        }
        self.emptied = self.stream.failures().count();
        self.state.iter_mut().for_each(|kept| *kept = None);
        self.caches = Caches::default();
        self.values.iter_mut().for_each(|kept| *kept = None);
        self.unsettled.clear();
        self.lost = false;
    }

    /// Waits until everything that has been queued is computed.
    ///
    /// # Errors
    /// Computing it failed, or has changed the state with an index that is out of range.
    pub fn synchronize(&mut self) -> Result<(), Error> {
        self.stream.synchronize()?;
        self.settle(0)
    }

    fn find_state(&self, name: &str) -> Result<usize, Error> {
        let found = self.program.state().position(|info| info.name == name);
        found.ok_or_else(|| Error::NoState {
            name: name.to_owned(),
            known: self
                .program
                .state()
                .map(|info| format!("`{}`", info.name))
                .collect(),
        })
    }
}

/// Checks the inputs and puts them into their places.
fn take_inputs(method: &Method, inputs: &[Value], values: &mut [Value]) -> Result<(), Error> {
    let free;
    let mut inputs = inputs;
    let fixed = fixed_among(method, inputs.len());
    if !fixed.is_empty() {
        free = without_fixed(method, &fixed, inputs)?;
        inputs = &free;
    }
    if inputs.len() != method.inputs.len() {
        return Err(Error::InputCount {
            method: method.name.clone(),
            wanted: method.inputs.len(),
            given: inputs.len(),
            names: method
                .inputs
                .iter()
                .map(|(_, input)| input.name.clone())
                .collect(),
        });
    }
    for (position, (given, (value, input))) in inputs.iter().zip(&method.inputs).enumerate() {
        let taken = accept(input, given).map_err(|problem| Error::Input {
            method: method.name.clone(),
            position,
            name: input.name.clone(),
            problem,
        })?;
        values[*value] = taken;
    }
    match &method.sizes {
        Some(sizes) => check_sizes(method, sizes, values),
        None => Ok(()),
    }
}

/// Checks the lengths of inputs against each other.
fn check_sizes(method: &Method, sizes: &Sizes, values: &[Value]) -> Result<(), Error> {
    let given = |rule: &Rule| {
        let value = &values[method.inputs.get(rule.input)?.0];
        match (rule.dimension, value) {
            (Some(dimension), Value::Tensor(tensor)) => {
                i64::try_from(*tensor.shape().get(dimension)?).ok()
            }
            (None, value) => value.as_int(),
            _ => None,
        }
    };
    let name = |input: usize| {
        method
            .inputs
            .get(input)
            .map_or("", |(_, input)| input.name.as_str())
    };
    sizes
        .check(given)
        .map_err(|(rule, given, misfit)| Error::Input {
            method: method.name.clone(),
            position: rule.input,
            name: name(rule.input).to_owned(),
            problem: InputProblem::Size {
                dimension: rule.dimension,
                given,
                wanted: match misfit {
                    Misfit::Form if rule.plus == 0 => format!("a multiple of {}", rule.times),
                    Misfit::Form => format!("{} more than a multiple of {}", rule.plus, rule.times),
                    Misfit::Range(least, i64::MAX) => format!("{least} or more"),
                    Misfit::Range(least, most) => format!("{least} to {most}"),
                    Misfit::Related(wanted, other) => {
                        let name = name(other.input);
                        match other.dimension {
                            Some(dimension) => format!(
                                "{wanted}, which follows from dimension {dimension} of `{name}`"
                            ),
                            None => format!("{wanted}, which follows from `{name}`"),
                        }
                    }
                },
            },
        })
}

/// Which of the fixed inputs are among so many: all, those that are numbers, as in a file of tensors, or none; each with its place.
fn fixed_among(method: &Method, given: usize) -> Vec<(usize, &FixedInput)> {
    use fuseline_program::container::Value as V;
    let text = |one: &FixedInput| matches!(one.value, V::None | V::String(_));
    let numbers = || method.fixed.iter().filter(|one| !text(one));
    let places = method.fixed.iter().map(|one| (one.position, one));
    if given == method.inputs.len() + method.fixed.len() {
        places.collect()
    } else if given == method.inputs.len() + numbers().count() {
        let left_out = |at: usize| {
            let before = method.fixed.iter().filter(|one| text(one));
            before.filter(|one| one.position < at).count()
        };
        numbers()
            .map(|one| (one.position - left_out(one.position), one))
            .collect()
    } else {
        Vec::new()
    }
}

/// The inputs without those that the export fixed, which must have the values of the export.
fn without_fixed(
    method: &Method,
    fixed: &[(usize, &FixedInput)],
    inputs: &[Value],
) -> Result<Vec<Value>, Error> {
    let mut fixed = fixed.iter().peekable();
    let mut free = Vec::new();
    for (position, given) in inputs.iter().enumerate() {
        match fixed.next_if(|(at, _)| *at == position) {
            None => free.push(given.clone()),
            Some((_, one)) => one.check(given).map_err(|problem| Error::Input {
                method: method.name.clone(),
                position,
                name: one.name.clone(),
                problem,
            })?,
        }
    }
    Ok(free)
}

impl FixedInput {
    /// Checks a value that is given. A number may come as a tensor of one element, in single precision too.
    fn check(&self, given: &Value) -> Result<(), InputProblem> {
        use fuseline_program::container::Value as V;
        let number = given.as_float();
        let same = match &self.value {
            V::Int(wanted) => given.as_int() == Some(*wanted),
            V::Bool(wanted) => match given {
                Value::Bool(flag) => flag == wanted,
                _ => given.as_int() == Some(i64::from(*wanted)),
            },
            V::Double(wanted) => {
                number == Some(*wanted) || number == Some(f64::from(*wanted as f32))
            }
            V::String(wanted) => matches!(given, Value::String(text) if text == wanted),
            _ => matches!(given, Value::None),
        };
        if same {
            return Ok(());
        }
        let wanted = match &self.value {
            V::Int(n) => n.to_string(),
            V::Bool(flag) => flag.to_string(),
            V::Double(x) => x.to_string(),
            V::String(text) => format!("{text:?}"),
            _ => "nothing".to_owned(),
        };
        let given = match (number, given) {
            (Some(number), _) => number.to_string(),
            (None, Value::Bool(flag)) => flag.to_string(),
            (None, Value::String(text)) => format!("{text:?}"),
            (None, other) => other.kind().to_owned(),
        };
        Err(InputProblem::Fixed { given, wanted })
    }
}

/// An input in the form that the method takes. A single number may come as a tensor without dimensions.
fn accept(input: &Input, given: &Value) -> Result<Value, InputProblem> {
    let kind = |wanted| {
        Err(InputProblem::Kind {
            given: given.kind(),
            wanted,
        })
    };
    match (&input.kind, given) {
        (InputKind::Tensor { dtype, shape }, Value::Tensor(tensor)) => {
            InputKind::check(*dtype, shape, tensor).map(|()| given.clone())
        }
        (InputKind::Tensor { .. }, _) => kind("a tensor"),
        (InputKind::Int, Value::Int(_))
        | (InputKind::Bool, Value::Bool(_))
        | (InputKind::Float, Value::Float(_))
        | (InputKind::Other, _) => Ok(given.clone()),
        (InputKind::Int, Value::Tensor(tensor)) => {
            let number = tensor
                .to_vec::<i64>()
                .ok()
                .filter(|numbers| numbers.len() == 1);
            number.map_or_else(|| kind("an integer"), |numbers| Ok(Value::Int(numbers[0])))
        }
        (InputKind::Bool, Value::Tensor(tensor)) => {
            let flag = tensor
                .to_vec::<bool>()
                .ok()
                .filter(|flags| flags.len() == 1);
            flag.map_or_else(|| kind("a truth value"), |flags| Ok(Value::Bool(flags[0])))
        }
        (InputKind::Float, Value::Tensor(tensor)) => {
            let number = tensor
                .to_vec::<f64>()
                .ok()
                .filter(|numbers| numbers.len() == 1);
            number.map_or_else(|| kind("a float"), |numbers| Ok(Value::Float(numbers[0])))
        }
        (InputKind::Int, _) => kind("an integer"),
        (InputKind::Bool, _) => kind("a truth value"),
        (InputKind::Float, _) => kind("a float"),
    }
}

fn put_input(slot: IoSlot, value: &Value, frame: &mut Frame<'_>) -> Result<(), Fault> {
    match (slot, value) {
        (IoSlot::Tensor(tid), Value::Tensor(tensor)) => frame.put(tid, tensor.array().share()?),
        (IoSlot::Int(vid) | IoSlot::Bool(vid), Value::Int(number)) => frame.put_value(vid, *number),
        (IoSlot::Int(vid) | IoSlot::Bool(vid), Value::Bool(flag)) => {
            frame.put_value(vid, i64::from(*flag))
        }
        (IoSlot::Float(vid), Value::Float(number)) => frame.put_number(vid, Number::Float(*number)),
        (IoSlot::Tensor(tid), _) => Err(Fault::UnsetTensor { slot: tid.0 }),
        (IoSlot::Int(vid) | IoSlot::Bool(vid) | IoSlot::Float(vid), _) => {
            Err(Fault::UnsetValue { slot: vid.0 })
        }
    }
}

/// What is in an output slot, with the element type that the method promises.
fn read_output(slot: IoSlot, dtype: Option<ScalarType>, frame: &Frame<'_>) -> Result<Value, Fault> {
    Ok(match slot {
        IoSlot::Tensor(tid) => {
            let array = frame.get(tid)?;
            Value::Tensor(ops::cast(array, dtype.unwrap_or(array.dtype()), frame)?.into())
        }
        IoSlot::Int(vid) | IoSlot::Float(vid) | IoSlot::Bool(vid) => match frame.value(vid)? {
            Number::Int(number) if matches!(slot, IoSlot::Bool(_)) => Value::Bool(number != 0),
            Number::Int(number) => Value::Int(number),
            Number::Float(number) => Value::Float(number),
        },
    })
}

/// That a result has the shape that the file declares, where that does not depend on the inputs.
fn check_shape(made: &[usize], declared: &TensorValue) -> Result<(), Error> {
    let same = |(made, wanted): (&usize, &u32)| usize::try_from(*wanted) == Ok(*made);
    let fits = made.len() == declared.sizes.len() && made.iter().zip(&declared.sizes).all(same);
    if declared.dynamic || fits {
        return Ok(());
    }
    Err(Error::ResultShape {
        made: made.to_vec(),
        wanted: declared.sizes.clone(),
    })
}

fn gather(argument: &Argument, values: &[Value]) -> Value {
    match argument {
        Argument::One(at) => values[*at].clone(),
        Argument::List(items) => Value::List(
            items
                .iter()
                .map(|item| item.map_or(Value::None, |at| values[at].clone()))
                .collect(),
        ),
    }
}

fn is_false(condition: &Value) -> Result<bool, Error> {
    Ok(match condition {
        Value::Bool(flag) => !flag,
        Value::Tensor(tensor) => tensor.to_vec::<bool>()?.iter().all(|flag| !flag),
        _ => false,
    })
}
