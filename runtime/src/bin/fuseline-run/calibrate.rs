//! `fuseline-run calibrate`: what things cost on this machine, as a table that `fuseline compile --cost` reads.
//!
//! Every figure is measured with programs of the kind that the compiler writes: a chain of one instruction, once short and once long, so that what a call costs in any case falls out of the
//! difference. `docs/cost-tables.md` says what the file holds.

mod probe;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use fuseline_program::ScalarType;
use fuseline_program::command::paths::Paths;
use fuseline_runtime::Device;
use serde_json::{Value, json};

use crate::failure::Failure;
use probe::{Chain, Probe, Steps};

/// The version of the file's form.
const VERSION: u32 = 1;

/// What `calibrate` takes.
#[derive(Args)]
pub struct CalibrateArgs {
    /// Where to write the table, `-` for standard output.
    #[arg(short, long)]
    output: PathBuf,
    /// What to measure: cpu, or the GPU as metal or cuda, whichever MLX has here. Without it, where MLX prefers to run.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["metal", "cuda", "cpu"]))]
    target: Option<String>,
    /// About how long to measure, in seconds.
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("from 0.1 to 3600 seconds".to_owned())
    }
}

/// The backend of MLX's GPU here.
const GPU: &str = if cfg!(target_os = "macos") {
    "metal"
} else {
    "cuda"
};

/// Measures, and writes the table.
pub fn calibrate(args: &CalibrateArgs) -> Result<(), Failure> {
    let paths = Paths::new();
    paths.writes_text("--output", &args.output).check()?;
    let device = match args.target.as_deref() {
        None => Device::preferred().map_err(|error| Failure::execution(error.to_string()))?,
        Some("cpu") => Device::Cpu,
        Some(gpu) if gpu == GPU => Device::Gpu,
        Some(other) => return Err(Failure::unsupported(format!("there is no {other} here"))),
    };
    if !device.is_available() {
        return Err(Failure::unsupported("MLX finds no GPU here"));
    }
    let target = if device == Device::Cpu { "cpu" } else { GPU };
    let started = Instant::now();
    let probe = Probe::new(device, Duration::from_secs_f64(args.seconds / COUNT))?;
    let figures = measure(&probe)?;
    let machine = machine(device);
    let source = format!(
        "fuseline-run calibrate {} on {machine}",
        env!("CARGO_PKG_VERSION")
    );
    let figures: serde_json::Map<String, Value> = figures
        .into_iter()
        .map(|(name, value)| {
            (
                name.to_owned(),
                json!({ "value": rounded(value), "source": source }),
            )
        })
        .collect();
    let table = json!({
        "format": "fuseline-costs",
        "version": VERSION,
        "target": target,
        "device": machine,
        "figures": figures,
    });
    let text = format!("{table:#}\n");
    if args.output.as_os_str() == "-" {
        return std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| Failure::output(&error));
    }
    crate::write_whole(&args.output, text.as_bytes())
        .map_err(|error| Failure::file(&args.output, &error))?;
    let mut errors = std::io::stderr();
    // A note that can't be given is no failure.
    drop(writeln!(
        errors,
        "{target}: {COUNT} figures in {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Four digits are more than a measurement has.
fn rounded(value: f64) -> f64 {
    let scale = 10f64.powf(3.0 - value.abs().log10().floor());
    let rounded = (value * scale).round() / scale;
    if rounded.is_finite() { rounded } else { value }
}

/// The device in words.
fn machine(device: Device) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let gpu = if device == Device::Gpu {
        format!("the GPU ({GPU}) beside ")
    } else {
        String::new()
    };
    format!("{gpu}{processor}, {cores} threads")
}

/// How many figures there are.
const COUNT: f64 = 11.0;

/// The figures in the order and the units of the compiler's table.
fn measure(probe: &Probe) -> Result<Vec<(&'static str, f64)>, Failure> {
    let gpu = probe.device() == Device::Gpu;
    let float = if gpu {
        ScalarType::F16
    } else {
        ScalarType::F32
    };
    let host = probe.time("host_ns", Steps::many(), &views)?;
    let add = probe.time("launch_ns", Steps::many(), &|n| adds(n, 64, false))?;
    // Arrays that no cache holds.
    let large: u32 = if gpu { 1 << 26 } else { 1 << 22 };
    let bytes = f64::from(large) * 4.0;
    let copy = probe.time("copy_gbs", Steps::few(), &|n| adds(n, large, false))?;
    let gaps = probe.time("strided_gbs", Steps::few(), &|n| adds(n, large, true))? - host;
    // An addition reads two arrays and writes one; only one of those read has gaps.
    let copy_rate = 3.0 * bytes / copy;
    let strided_rate = 1.0 / (1.0 / copy_rate + (gaps - copy).max(0.0) / bytes);
    let functions = probe.time("pointwise_gops", Steps::few(), &|n| functions(n, large / 4))?;
    let product = |name, dtype| {
        probe.rate(
            name,
            256,
            8192,
            &|n, size| products(n, size, dtype),
            &|size| 2.0 * size * size * size,
        )
    };
    let quantized = |name, rows: u32| {
        let work = move |size: f64| {
            // A row is bound by bytes: half a byte an element, and scale and bias for each 64.
            let each = if gpu { 2.0 } else { 4.0 };
            match rows {
                1 => size * size * (0.5 + 2.0 * each / 64.0) + 2.0 * size * each,
                _ => 2.0 * f64::from(rows) * size * size,
            }
        };
        probe.rate(
            name,
            512,
            8192,
            &|n, size| quantized_products(n, rows, size, float),
            &work,
        )
    };
    Ok(vec![
        ("host_ns", host),
        ("launch_ns", (add - host).max(1.0)),
        ("copy_gbs", copy_rate),
        ("strided_gbs", strided_rate),
        ("pointwise_gops", f64::from(large / 4) / functions),
        (
            "matmul_f32_gflops",
            product("matmul_f32_gflops", ScalarType::F32)?,
        ),
        (
            "matmul_f16_gflops",
            product("matmul_f16_gflops", ScalarType::F16)?,
        ),
        (
            "matmul_bf16_gflops",
            product("matmul_bf16_gflops", ScalarType::BF16)?,
        ),
        ("quantized_row_gbs", quantized("quantized_row_gbs", 1)?),
        ("quantized_gflops", quantized("quantized_gflops", 128)?),
        (
            "attention_gflops",
            probe.rate(
                "attention_gflops",
                128,
                8192,
                &|n, size| attention(n, size, float),
                &|size| 4.0 * HEADS * size * size * WIDTH,
            )?,
        ),
    ])
}

/// Heads and their width in the attention that is measured.
const HEADS: f64 = 8.0;
const WIDTH: f64 = 64.0;

/// `n` views of a small tensor.
fn views(n: usize) -> Chain {
    let mut chain = Chain::new(ScalarType::F32, &[64]);
    for step in 0..n {
        let shape: &[u32] = if step % 2 == 0 { &[8, 8] } else { &[64] };
        chain.step("Reshape", &[("shape", probe::ints(shape))]);
    }
    chain
}

/// `n` additions of so many elements in rows of 1024 at most; with `gaps`, one operand is the left half of rows twice as long.
fn adds(n: usize, elements: u32, gaps: bool) -> Chain {
    let width = elements.min(1024);
    let mut chain = Chain::new(ScalarType::F32, &[elements / width, width]);
    let wide = if gaps { 2 * width } else { width };
    let other = chain.operand(ScalarType::F32, &[elements / width, wide], 0.5);
    for _ in 0..n {
        let b = if gaps {
            chain.left(other, 1, width)
        } else {
            other
        };
        chain.step_on("Add", "a", &[("b", b.into())]);
    }
    chain
}

/// `n` times 1/(1 + e⁻ˣ) of so many elements.
fn functions(n: usize, elements: u32) -> Chain {
    let mut chain = Chain::new(ScalarType::F32, &[elements]);
    (0..n).for_each(|_| chain.step("Sigmoid", &[]));
    chain
}

/// `n` products of square matrices.
fn products(n: usize, size: u32, dtype: ScalarType) -> Chain {
    let mut chain = Chain::new(dtype, &[size, size]);
    let w = chain.operand(dtype, &[size, size], 1.0 / f64::from(size));
    (0..n).for_each(|_| chain.step_on("Addmm", "mat1", &[("mat2", w.into())]));
    chain
}

/// `n` products of so many rows with a square weight of 4 bits in groups of 64.
fn quantized_products(n: usize, rows: u32, size: u32, dtype: ScalarType) -> Chain {
    let mut chain = Chain::new(dtype, &[rows, size]);
    // Every element is 1 · scale + 0.
    let w = chain.operand(ScalarType::U32, &[size, size / 8], f64::from(0x1111_1111));
    let scales = chain.operand(dtype, &[size, size / 64], 1.0 / f64::from(size));
    let biases = chain.operand(dtype, &[size, size / 64], 0.0);
    for _ in 0..n {
        let operands = [
            ("w", w.into()),
            ("scales", scales.into()),
            ("biases", biases.into()),
            ("group_size", 64_i64.into()),
            ("bits", 4_i64.into()),
            ("mode", "affine".into()),
            ("transpose", true.into()),
        ];
        chain.step("QuantizedMatmul", &operands);
    }
    chain
}

/// `n` attentions of so many queries over as many keys.
fn attention(n: usize, size: u32, dtype: ScalarType) -> Chain {
    let shape = [1, HEADS as u32, size, WIDTH as u32];
    let mut chain = Chain::new(dtype, &shape);
    let keys = chain.operand(dtype, &shape, 0.5);
    let values = chain.operand(dtype, &shape, 0.25);
    for _ in 0..n {
        let operands = [
            ("k", keys.into()),
            ("v", values.into()),
            ("scale", 0.125_f32.into()),
        ];
        chain.step_on("Sdpa", "q", &operands);
    }
    chain
}
