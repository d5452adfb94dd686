//! Calls that are queued: whether their results mean anything.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::late::Pending;
use crate::mlx::{Array, Failures, MlxError, Stream};
use crate::ops::mark;
use crate::program::Program;
use crate::tensor::TensorError;

/// A call whose results may still be on their way, or may turn out to be none: because computing failed, or because an index was out of range.
pub(crate) struct Call {
    failures: Arc<Failures>,
    /// How many failures there were when the call began. Any that is told later may be its own.
    before: u64,
    kept: bool,
    /// Empty once the outcome is known.
    left: Mutex<Option<Left>>,
    outcome: OnceLock<Result<(), TensorError>>,
}

/// What an outcome waits for.
struct Left {
    /// An array that is there when all of the call is.
    mark: Array,
    /// Calls whose results this one has used.
    earlier: Vec<Arc<Call>>,
    pending: Vec<Pending>,
    /// For what is said of those that are out of range. Results that somebody keeps don't keep their program.
    program: Option<Program>,
}

impl Call {
    /// A call that began when its stream had `before` failures, and that is about to be started. `earlier` are the calls whose results it has used, `pending` is what it leaves to be looked at,
    /// `kept` says whether it changes what its session keeps.
    pub(crate) fn new(
        program: &Program,
        stream: &Stream,
        before: u64,
        earlier: Vec<Arc<Self>>,
        pending: Vec<Pending>,
        kept: bool,
    ) -> Result<Self, MlxError> {
        let mark = mark(stream)?;
        Ok(Self {
            failures: Arc::clone(stream.failures()),
            before,
            kept,
            left: Mutex::new(Some(Left {
                mark,
                earlier,
                program: (!pending.is_empty()).then(|| program.clone()),
                pending,
            })),
            outcome: OnceLock::new(),
        })
    }

    /// Whether the call changed what its session keeps.
    pub(crate) fn kept(&self) -> bool {
        self.kept
    }

    /// What must be started with the results.
    pub(crate) fn marks(&self) -> Result<Vec<Array>, MlxError> {
        let left = self.left();
        let left = left.iter();
        let marks = left.flat_map(|left| {
            let flags = left.pending.iter().map(Pending::flag);
            flags.chain([&left.mark])
        });
        marks.map(Array::share).collect()
    }

    /// The outcome, if it is known without waiting.
    pub(crate) fn outcome(&self) -> Option<Result<(), TensorError>> {
        if self.outcome.get().is_none()
            && self.failures.count() == self.before
            && let Some(left) = &*self.left()
        {
            // A failure is told here too.
            let computed = self.failures.watch(|| left.mark.is_computed());
            let failed = self.failures.count() != self.before;
            if !failed && (!computed || left.earlier.iter().any(|call| call.outcome().is_none())) {
                return None;
            }
        }
        Some(self.settle())
    }

    /// Waits for the call and those before it that it builds on: the first failure, or the first instruction that had an index out of range.
    pub(crate) fn settle(&self) -> Result<(), TensorError> {
        let settled = self.outcome.get_or_init(|| {
            let Some(left) = self.left().take() else {
                return Ok(());
            };
            self.failures.since(self.before)?;
            // Whether this call is told or another, it is noted.
            let _ = self.failures.watch(|| left.mark.read());
            self.failures.since(self.before)?;
            left.earlier.iter().try_for_each(|call| call.settle())?;
            let pending = left.pending.into_iter();
            let program = left.program.iter().cycle();
            pending
                .zip(program)
                .try_for_each(|(one, program)| one.settle(program))
        });
        settled.clone()
    }

    fn left(&self) -> MutexGuard<'_, Option<Left>> {
        // Nothing panics while holding it.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::mlx::start;
    use crate::mlx::tests as work;

    /// A call of a program that is not there, about to be started.
    fn call(stream: &Stream, earlier: &[&Arc<Call>]) -> Arc<Call> {
        Arc::new(Call {
            failures: Arc::clone(stream.failures()),
            before: stream.failures().count(),
            kept: false,
            left: Mutex::new(Some(Left {
                mark: mark(stream).unwrap(),
                earlier: earlier.iter().map(|call| Arc::clone(call)).collect(),
                pending: Vec::new(),
                program: None,
            })),
            outcome: OnceLock::new(),
        })
    }

    fn queue(call: &Call, results: &[&Array]) {
        let marks = call.marks().unwrap();
        start(results.iter().copied().chain(&marks)).unwrap();
    }

    #[test]
    fn a_failure_is_that_of_all_results_and_of_the_calls_behind_it() {
        // Told to whoever looks first, waiting or not.
        for first in 0..3 {
            let stream = Stream::on(Device::Cpu).unwrap();
            let calls = [0, 1, 2].map(|_| call(&stream, &[]));
            queue(&calls[0], &[&work::working(&stream).0]);
            calls[0].settle().unwrap();
            queue(
                &calls[1],
                &[&work::working(&stream).0, &work::failing(&stream)],
            );
            queue(&calls[2], &[&work::working(&stream).0]);
            match first {
                0 => assert!(calls[1].settle().is_err()),
                1 => assert!(calls[2].settle().is_err()),
                _ => while calls[1].outcome().is_none() {},
            }
            calls[0].settle().unwrap();
            calls[1].settle().unwrap_err();
            calls[2].settle().unwrap_err();
            assert!(calls[1].outcome().unwrap().is_err());

            let next = call(&stream, &[]);
            queue(&next, &[&work::working(&stream).0]);
            next.settle().unwrap();
        }
    }

    #[test]
    fn a_call_on_another_stream_fails_with_the_one_that_it_builds_on() {
        let [one, other] = [0, 1].map(|_| Stream::on(Device::Cpu).unwrap());
        let failed = call(&one, &[]);
        queue(&failed, &[&work::failing(&one)]);
        let next = call(&other, &[&failed]);
        queue(&next, &[&work::working(&other).0]);
        next.settle().unwrap_err();
        let alone = call(&other, &[]);
        queue(&alone, &[&work::working(&other).0]);
        alone.settle().unwrap();
    }
}
