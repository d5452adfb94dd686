//! Attention over caches that ExecuTorch keeps outside of a program, and a session here: `kvcache::update_and_attend`.
//!
//! Nothing in a graph says that a call changes a cache, and no other value does. So the arguments of the ops say it: a call takes the one for the same layer before it, and what
//! no result depends on is made a condition of one.

use fuseline_ir::ops::table as op;
use fuseline_ir::{F64, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, MAIN, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "kvcache.update_and_attend.default" => update_and_attend,
        _ => return None,
    })
}

/// Puts keys and values where the session keeps those of a layer, and attends to all that are there up to each query's position.
fn update_and_attend(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    if cx.build.graph.name != MAIN {
        return unsupported("a session's cache in a branch or a loop that data decide");
    }
    let mut args = Vec::new();
    for name in ["q", "k", "v", "position"] {
        args.push(call.value(cx, name)?);
    }
    let layer_id = call.int("layer_id")?;
    let Some(out_dtype) = call.opt_dtype("out_dtype")? else {
        return invalid("argument `out_dtype` is missing");
    };
    args.extend(cx.cached.get(&layer_id));
    let scale = F64::new(call.float(cx, "scale")?);
    let attend = op::UpdateAndAttend {
        layer_id,
        scale,
        out_dtype,
    };
    let result = cx.build.add(attend, &args)?;
    cx.cached.insert(layer_id, result);
    done(Ok(result))
}

impl Importer<'_> {
    /// Makes the calls that no result and no state of the finished graph depends on conditions of its first result that is a tensor, or of its first state.
    pub(in crate::import) fn keep_cached(&mut self) -> Result<()> {
        let graph = &mut self.build.graph;
        let live = graph.live();
        let calls = self.cached.values().copied();
        let lost: Vec<Value> = calls.filter(|call| !live[call.index()]).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let is_tensor = |value: Value| graph.ty(value).as_tensor().is_some();
        let output = graph.outputs.iter().position(|o| is_tensor(o.value));
        let mut nexts = graph.states.iter().map(|s| s.next);
        let state = nexts.position(|next| next.is_some());
        let root = match (output, state) {
            (Some(n), _) => Some(graph.outputs[n].value),
            (None, Some(n)) => graph.states[n].next,
            (None, None) => None,
        };
        let Some(root) = root else {
            return unsupported("a program that does nothing but change a session's caches");
        };
        let mut args = vec![root];
        args.extend(lost);
        let root = graph.add(op::After {}, &args, &self.build.loc)?;
        match (output, state) {
            (Some(n), _) => graph.outputs[n].value = root,
            (None, Some(n)) => graph.states[n].next = Some(root),
            (None, None) => {}
        }
        Ok(())
    }
}
