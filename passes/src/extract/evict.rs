//! Switches that pay only together.
//!
//! A value that several others read is freed only when the last of them does without it, and the first to do so gains nothing; a value that is only arranged may be arranged some steps
//! later, and gains nothing before it meets what undoes it. So for each such value all its readers are switched to nodes that don't lead to it, or their own readers are, a few steps
//! on; where the whole graph is cheaper for it, it stays so, else every switch is taken back.

use super::Choice;
use fuseline_ir::Op;

/// How many steps from a value the readers that do without it may be.
const DEPTH: usize = 3;

/// The most readers of a value that is tried.
const READERS: usize = 256;

/// How many switches are tried for a value, for each of its readers and in any case.
const TRIES: (usize, usize) = (12, 24);

/// How to take back what was done: classes, each with the node that it had chosen.
type Log = Vec<(usize, usize)>;

/// What is being tried.
struct Trial {
    /// The class to do without.
    target: usize,
    /// How many more switches may be tried.
    left: usize,
    log: Log,
}

impl Choice<'_> {
    /// Frees each value that the graph is cheaper without. Whether there was one.
    pub(super) fn evict_all(&mut self) -> bool {
        let readers = self.readers();
        let before = self.total;
        let mut order: Vec<usize> = (0..self.classes.len()).collect();
        order.sort_by_key(|c| (self.classes[*c].near, *c));
        for class in order {
            let uses = self.classes[class].uses;
            let least = if self.moves(class) { 1 } else { 2 };
            if !(least..=READERS).contains(&uses) || self.needs(class).is_empty() {
                continue;
            }
            let mut trial = Trial {
                target: class,
                left: TRIES.1 + TRIES.0 * uses,
                log: Log::new(),
            };
            let total = self.total;
            let freed = self.evict(class, DEPTH, &readers, &mut trial);
            if !freed || self.total >= total {
                self.take_back(&mut trial.log, 0);
            }
        }
        self.total < before
    }

    /// Whether the class only arranges another value: its readers may take that as it is, and hand the arrangement on.
    fn moves(&self, class: usize) -> bool {
        let class = &self.classes[class];
        let op = class.candidates[class.chosen].op;
        matches!(op, Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_))
    }

    /// For each class, those that have a node that needs it.
    fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.classes.len()];
        for (n, class) in self.classes.iter().enumerate() {
            for need in class.candidates.iter().flat_map(|k| &k.needs) {
                if readers[*need].last() != Some(&n) {
                    readers[*need].push(n);
                }
            }
        }
        readers
    }

    fn reads(&self, reader: usize, class: usize) -> bool {
        self.classes[reader].uses > 0 && self.needs(reader).contains(&class)
    }

    /// Switches all that reads `class` to what doesn't lead to the target, or frees it in turn. Where that fails, some of it may have been done.
    fn evict(
        &mut self,
        class: usize,
        depth: usize,
        readers: &[Vec<usize>],
        trial: &mut Trial,
    ) -> bool {
        let mut present = readers[class].clone();
        present.retain(|r| self.reads(*r, class));
        if present.len() != self.classes[class].uses {
            // A root.
            return false;
        }
        for reader in present {
            if self.reads(reader, class) && !self.leave(reader, depth, readers, trial) {
                return false;
            }
        }
        true
    }

    /// The reader takes the cheapest of its nodes that don't lead to the target, or is freed itself where that is cheaper.
    fn leave(
        &mut self,
        reader: usize,
        depth: usize,
        readers: &[Vec<usize>],
        trial: &mut Trial,
    ) -> bool {
        let mark = trial.log.len();
        let mut best: Option<(u64, Option<usize>)> = None;
        for to in 0..self.classes[reader].candidates.len() {
            if self.turn(reader, to, trial) && best.is_none_or(|(total, _)| self.total < total) {
                best = Some((self.total, Some(to)));
            }
            self.take_back(&mut trial.log, mark);
        }
        if depth > 0 {
            let freed = self.evict(reader, depth - 1, readers, trial);
            if freed && best.is_none_or(|(total, _)| self.total < total) {
                return true;
            }
            self.take_back(&mut trial.log, mark);
        }
        match best {
            Some((_, Some(to))) => self.turn(reader, to, trial),
            _ => false,
        }
    }

    /// The class takes that node, if it doesn't lead to the target, nor back to the class.
    fn turn(&mut self, class: usize, to: usize, trial: &mut Trial) -> bool {
        let present = self.classes[class].chosen;
        if to == present || trial.left == 0 {
            return false;
        }
        trial.left -= 1;
        let needs = self.classes[class].candidates[to].needs.clone();
        let avoids = needs.iter().all(|n| self.steer(*n, DEPTH, trial));
        if !avoids || self.reaches(&needs, class) {
            return false;
        }
        trial.log.push((class, present));
        self.switch(class, to);
        true
    }

    /// Whether the choice below a class does without the target; classes that nothing uses yet may choose otherwise for it.
    fn steer(&mut self, class: usize, depth: usize, trial: &mut Trial) -> bool {
        if !self.reaches(&[class], trial.target) {
            return true;
        }
        if self.classes[class].uses > 0 || depth == 0 || class == trial.target {
            return false;
        }
        let present = self.classes[class].chosen;
        for to in 0..self.classes[class].candidates.len() {
            let mark = trial.log.len();
            let needs = self.classes[class].candidates[to].needs.clone();
            let avoids = needs.iter().all(|n| self.steer(*n, depth - 1, trial));
            if avoids && !self.reaches(&needs, class) {
                trial.log.push((class, present));
                self.classes[class].chosen = to;
                return true;
            }
            self.take_back(&mut trial.log, mark);
        }
        false
    }

    /// Undoes what was done since the log had that length.
    fn take_back(&mut self, log: &mut Log, mark: usize) {
        while log.len() > mark {
            if let Some((class, chosen)) = log.pop() {
                match self.classes[class].uses {
                    0 => self.classes[class].chosen = chosen,
                    _ => self.switch(class, chosen),
                }
            }
        }
    }
}
