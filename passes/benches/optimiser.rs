//! How long the optimiser takes and how much memory it uses, by the number of layers: `cargo bench -p fuseline-passes`.
//!
//! The graphs are plain decoders as an export has them, norms and rotary embeddings written out, at the sizes of Llama 3.2 1B and of Mixtral 8x7B, without weights. The columns µs/node and
//! KiB/node say whether time and memory grow as the number of nodes does. `alike` is how many layers were solved as one, `peak` the most nodes that a pass held. With `-- --json` a machine reads it.

use fuseline_ir::{Graph, text};
use fuseline_passes::{Level, PassCx, Target, optimise};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// The system's allocator, and how many bytes it has given, now and at most.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(
            NOW.fetch_add(layout.size(), Relaxed) + layout.size(),
            Relaxed,
        );
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The sizes of a decoder.
struct Sizes {
    name: &'static str,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    inner: usize,
    vocabulary: usize,
    /// How many experts there are, of which each token takes two; 0 where the inner product is one for all.
    experts: usize,
}

const LLAMA: Sizes = Sizes {
    name: "Llama 3.2 1B",
    hidden: 2048,
    heads: 32,
    kv_heads: 8,
    head: 64,
    inner: 8192,
    vocabulary: 128_256,
    experts: 0,
};

const MIXTRAL: Sizes = Sizes {
    name: "Mixtral 8x7B",
    hidden: 4096,
    heads: 32,
    kv_heads: 8,
    head: 128,
    inner: 14_336,
    vocabulary: 32_000,
    experts: 8,
};

const CACHE: usize = 2048;

/// The text of a graph in the making.
struct Writer {
    data: String,
    body: String,
    ends: String,
}

impl Writer {
    fn line(&mut self, name: &str, term: &str) {
        writeln!(self.body, "  %{name} = {term}").unwrap_or_default();
    }

    fn weight(&mut self, name: &str, shape: &str) {
        writeln!(self.data, "  data \"{name}\" : bf16[{shape}]").unwrap_or_default();
        self.line(
            name,
            &format!("constant[name=\"{name}\", ty=bf16[{shape}]]"),
        );
    }

    fn linear(&mut self, out: &str, x: &str, width: usize, inner: usize) {
        self.weight(&format!("{out}_w"), &format!("{width}, {inner}"));
        self.line(
            &format!("{out}_wt"),
            &format!("transpose[perm=[1, 0]](%{out}_w)"),
        );
        self.line(out, &format!("matmul(%{x}, %{out}_wt)"));
    }

    fn norm(&mut self, out: &str, x: &str, hidden: usize) {
        self.weight(&format!("{out}_w"), &hidden.to_string());
        for (step, term) in [
            ("32", format!("cast[dtype=f32](%{x})")),
            ("sq", format!("square(%{out}32)")),
            ("mean", format!("mean[axes=[2], keepdim=true](%{out}sq)")),
            ("eps", format!("add(%{out}mean, %eps)")),
            ("rsqrt", format!("rsqrt(%{out}eps)")),
            ("scaled", format!("mul(%{out}32, %{out}rsqrt)")),
            ("cast", format!("cast[dtype=bf16](%{out}scaled)")),
            ("", format!("mul(%{out}_w, %{out}cast)")),
        ] {
            self.line(&format!("{out}{step}"), &term);
        }
    }

    fn heads(&mut self, out: &str, count: usize, head: usize) {
        self.line(
            &format!("{out}_h"),
            &format!("reshape[shape=[1, s, {count}, {head}]](%{out})"),
        );
        self.line(
            &format!("{out}_t"),
            &format!("transpose[perm=[0, 2, 1, 3]](%{out}_h)"),
        );
    }

    fn rotary(&mut self, x: &str, head: usize) {
        let half = head / 2;
        for (step, term) in [
            ("cos", format!("mul(%{x}_t, %cos)")),
            (
                "lo",
                format!("slice[axis=3, start=0, stop={half}, step=1](%{x}_t)"),
            ),
            (
                "hi",
                format!("slice[axis=3, start={half}, stop={head}, step=1](%{x}_t)"),
            ),
            ("neg", format!("neg(%{x}_hi)")),
            ("rot", format!("cat[axis=3](%{x}_neg, %{x}_lo)")),
            ("sin", format!("mul(%{x}_rot, %sin)")),
            ("emb", format!("add(%{x}_cos, %{x}_sin)")),
        ] {
            self.line(&format!("{x}_{step}"), &term);
        }
    }
}

/// A decoder of so many layers as text.
fn decoder(sizes: &Sizes, layers: usize) -> String {
    let Sizes {
        hidden,
        heads,
        kv_heads,
        head,
        inner,
        vocabulary,
        experts,
        ..
    } = *sizes;
    let half = head / 2;
    let mut w = Writer {
        data: format!(
            "graph \"forward\" {{\n  symbol s in 1..={}\n  data \"inv_freq\" : f32[{half}]\n",
            CACHE - 1
        ),
        body: String::new(),
        ends: String::new(),
    };
    for (name, term) in [
        ("ids", "input[name=\"ids\", ty=i64[1, s]]".to_string()),
        ("at", "input[name=\"at\", ty=i64[s]]".to_string()),
        (
            "inv_freq",
            format!("constant[name=\"inv_freq\", ty=f32[{half}]]"),
        ),
        ("eps", "full[value=1e-05, ty=f32[]]".to_string()),
        (
            "first",
            "slice[axis=0, start=0, stop=1, step=1](%at)".to_string(),
        ),
        ("length", "reshape[shape=[]](%first)".to_string()),
        (
            "range",
            "arange[start=0, step=1, len=s, dtype=i64]".to_string(),
        ),
        ("positions", "add(%range, %length)".to_string()),
        (
            "rows",
            "reshape[shape=[1, 1, s, 1]](%positions)".to_string(),
        ),
        (
            "cols",
            format!("arange[start=0, step=1, len={CACHE}, dtype=i64]"),
        ),
        ("mask", "le(%cols, %rows)".to_string()),
        ("freqs", format!("reshape[shape=[1, {half}, 1]](%inv_freq)")),
        ("pos3", "reshape[shape=[1, 1, s]](%positions)".to_string()),
        ("posf", "cast[dtype=f32](%pos3)".to_string()),
        ("angles_t", "matmul(%freqs, %posf)".to_string()),
        ("angles", "transpose[perm=[0, 2, 1]](%angles_t)".to_string()),
        ("both", "cat[axis=2](%angles, %angles)".to_string()),
        ("cos32", "cos(%both)".to_string()),
        ("sin32", "sin(%both)".to_string()),
        ("cos16", "cast[dtype=bf16](%cos32)".to_string()),
        ("sin16", "cast[dtype=bf16](%sin32)".to_string()),
        ("cos", format!("reshape[shape=[1, 1, s, {head}]](%cos16)")),
        ("sin", format!("reshape[shape=[1, 1, s, {head}]](%sin16)")),
    ] {
        w.line(name, &term);
    }
    w.weight("table", &format!("{vocabulary}, {hidden}"));
    w.line("x0", "take[axis=0](%table, %ids)");
    for n in 0..layers {
        let l = |name: &str| format!("l{n}_{name}");
        let x = format!("x{n}");
        w.norm(&l("norm1"), &x, hidden);
        for (name, count) in [("q", heads), ("k", kv_heads), ("v", kv_heads)] {
            w.linear(&l(name), &l("norm1"), count * head, hidden);
            w.heads(&l(name), count, head);
        }
        w.rotary(&l("q"), head);
        w.rotary(&l("k"), head);
        for (cache, new) in [("keys", l("k_emb")), ("values", l("v_t"))] {
            let (state, ty) = (l(cache), format!("bf16[1, {kv_heads}, {CACHE}, {head}]"));
            writeln!(w.data, "  state \"{state}\" : {ty}").unwrap_or_default();
            w.line(&state, &format!("state[name=\"{state}\", ty={ty}]"));
            w.line(
                &format!("{state}_next"),
                &format!("index_copy[axis=2, wraps=false](%{state}, %positions, %{new})"),
            );
            writeln!(w.ends, "  next \"{state}\" = %{state}_next").unwrap_or_default();
            let repeat = heads / kv_heads;
            w.line(
                &format!("{state}_5"),
                &format!("reshape[shape=[1, {kv_heads}, 1, {CACHE}, {head}]](%{state}_next)"),
            );
            w.line(
                &format!("{state}_wide"),
                &format!("broadcast[shape=[1, {kv_heads}, {repeat}, {CACHE}, {head}]](%{state}_5)"),
            );
            w.line(
                &format!("{state}_rep"),
                &format!("reshape[shape=[1, {heads}, {CACHE}, {head}]](%{state}_wide)"),
            );
        }
        let scale = 1.0 / (head as f64).sqrt();
        w.line(
            &l("att"),
            &format!(
                "sdpa[scale={scale}, causal=false](%{}, %{}, %{}, %mask)",
                l("q_emb"),
                l("keys_rep"),
                l("values_rep")
            ),
        );
        w.line(
            &l("att_t"),
            &format!("transpose[perm=[0, 2, 1, 3]](%{})", l("att")),
        );
        w.line(
            &l("flat"),
            &format!("reshape[shape=[1, s, {}]](%{})", heads * head, l("att_t")),
        );
        w.linear(&l("o"), &l("flat"), hidden, heads * head);
        w.line(&l("res"), &format!("add(%{x}, %{})", l("o")));
        w.norm(&l("norm2"), &l("res"), hidden);
        if experts == 0 {
            mlp(&mut w, &l(""), &l("norm2"), inner, hidden);
        } else {
            mixture(&mut w, &l(""), &l("norm2"), sizes);
        }
        w.line(
            &format!("x{}", n + 1),
            &format!("add(%{}, %{})", l("res"), l("down")),
        );
    }
    w.norm("norm", &format!("x{layers}"), hidden);
    w.linear("head", "norm", vocabulary, hidden);
    format!(
        "{}{}{}  output \"logits\" = %head\n}}\n",
        w.data, w.body, w.ends
    )
}

/// down(silu(gate(x)) · up(x))
fn mlp(w: &mut Writer, l: &str, x: &str, inner: usize, hidden: usize) {
    w.linear(&format!("{l}gate"), x, inner, hidden);
    w.line(&format!("{l}act"), &format!("silu(%{l}gate)"));
    w.linear(&format!("{l}up"), x, inner, hidden);
    w.line(&format!("{l}mid"), &format!("mul(%{l}act, %{l}up)"));
    w.linear(&format!("{l}down"), &format!("{l}mid"), hidden, inner);
}

/// Every expert on every token, weighed by a softmax over a router's products: what an export without loops has.
fn mixture(w: &mut Writer, l: &str, x: &str, sizes: &Sizes) {
    let (experts, hidden) = (sizes.experts, sizes.hidden);
    w.linear(&format!("{l}router"), x, experts, hidden);
    w.line(
        &format!("{l}share"),
        &format!("softmax[axis=2](%{l}router)"),
    );
    let mut sum = String::new();
    for e in 0..experts {
        let le = format!("{l}e{e}_");
        mlp(w, &le, x, sizes.inner, hidden);
        w.line(
            &format!("{le}share"),
            &format!(
                "slice[axis=2, start={e}, stop={}, step=1](%{l}share)",
                e + 1
            ),
        );
        w.line(&format!("{le}part"), &format!("mul(%{le}down, %{le}share)"));
        let next = if e + 1 == experts {
            format!("{l}down")
        } else {
            format!("{le}sum")
        };
        if e == 0 {
            sum = format!("{le}part");
        } else {
            w.line(&next, &format!("add(%{sum}, %{le}part)"));
            sum = next;
        }
    }
}

/// A clock in milliseconds: of this thread's time on a processor where the system tells, so that a busy machine doesn't count, else the time of day.
struct Clock {
    started: Instant,
    processor: Option<f64>,
}

impl Clock {
    fn start() -> Clock {
        Clock {
            started: Instant::now(),
            processor: Clock::processor(),
        }
    }

    fn processor() -> Option<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let nanoseconds: f64 = text.split_whitespace().next()?.parse().ok()?;
        Some(nanoseconds / 1e6)
    }

    fn milliseconds(&self) -> f64 {
        match (self.processor, Clock::processor()) {
            (Some(from), Some(to)) => to - from,
            _ => self.started.elapsed().as_secs_f64() * 1e3,
        }
    }
}

/// What one graph took.
struct Row {
    name: &'static str,
    layers: usize,
    nodes: usize,
    after: usize,
    milliseconds: f64,
    bytes: usize,
    /// Layers that were solved as one.
    alike: usize,
    /// The most nodes that a pass held at once.
    peak: usize,
    /// Wall time by pass.
    passes: BTreeMap<&'static str, f64>,
}

fn measure(sizes: &Sizes, layers: usize) -> Result<Row, String> {
    let graph: Graph = text::parse(&decoder(sizes, layers)).map_err(|e| e.to_string())?;
    let cx = PassCx::new(Target::Metal);
    let mut best: Option<Row> = None;
    for _ in 0..3 {
        let before = NOW.load(Relaxed);
        MOST.store(before, Relaxed);
        let clock = Clock::start();
        let (out, report) =
            optimise(&graph, Level::O2, &cx, &mut |_, _| {}).map_err(|e| e.to_string())?;
        let milliseconds = clock.milliseconds();
        let mut passes = BTreeMap::new();
        for pass in &report.passes {
            *passes.entry(pass.name).or_insert(0.0) += pass.time.as_secs_f64() * 1e3;
        }
        if best.as_ref().is_none_or(|b| milliseconds < b.milliseconds) {
            best = Some(Row {
                name: sizes.name,
                layers,
                nodes: graph.nodes().len(),
                after: out.nodes().len(),
                milliseconds,
                bytes: MOST.load(Relaxed).saturating_sub(before),
                alike: report.passes.iter().map(|p| p.layers).max().unwrap_or(0),
                peak: report.passes.iter().map(|p| p.peak).max().unwrap_or(0),
                passes,
            });
        }
    }
    best.ok_or_else(|| "nothing was measured".to_string())
}

impl Row {
    /// The passes with their times, each as `form` says.
    fn passes(&self, form: impl Fn(&str, f64) -> String) -> String {
        let all: Vec<String> = self
            .passes
            .iter()
            .map(|(name, ms)| form(name, *ms))
            .collect();
        all.join(", ")
    }

    fn json(&self) -> String {
        format!(
            "{{\"graph\": \"{}\", \"layers\": {}, \"nodes\": {}, \"after\": {}, \"alike\": {}, \"peak_nodes\": {}, \"ms\": {:.3}, \"bytes\": {}, \"passes_ms\": {{{}}}}}",
            self.name,
            self.layers,
            self.nodes,
            self.after,
            self.alike,
            self.peak,
            self.milliseconds,
            self.bytes,
            self.passes(|name, ms| format!("\"{name}\": {ms:.3}"))
        )
    }

    fn line(&self) -> String {
        format!(
            "{:<14} {:>6} {:>6} {:>6} {:>6} {:>7} {:>8.1} {:>8.1} {:>7.1} {:>9.2}  {}",
            self.name,
            self.layers,
            self.nodes,
            self.after,
            self.alike,
            self.peak,
            self.milliseconds,
            self.milliseconds * 1e3 / self.nodes as f64,
            self.bytes as f64 / f64::from(1 << 20),
            self.bytes as f64 / 1024.0 / self.nodes as f64,
            self.passes(|name, ms| format!("{name} {ms:.0}"))
        )
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args().any(|a| a == "--json");
    let mut out = io::stdout().lock();
    if !json {
        writeln!(
            out,
            "{:<14} {:>6} {:>6} {:>6} {:>6} {:>7} {:>8} {:>8} {:>7} {:>9}  of it",
            "graph",
            "layers",
            "nodes",
            "after",
            "alike",
            "peak",
            "ms",
            "µs/node",
            "MiB",
            "KiB/node"
        )?;
    }
    for (sizes, counts) in [(&LLAMA, &[8, 16, 32, 80][..]), (&MIXTRAL, &[8, 16, 32])] {
        for &layers in counts {
            let row = measure(sizes, layers)?;
            writeln!(out, "{}", if json { row.json() } else { row.line() })?;
        }
    }
    Ok(())
}
