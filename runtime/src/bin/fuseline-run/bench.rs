//! `fuseline-run bench`: how fast a program runs here.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;
use fuseline_program::command::exit;
use fuseline_runtime::{Dim, InputKind, Program, Tensor, Value};

use crate::decoder::{Decoder, most_likely};
use crate::failure::Failure;

/// What `bench` takes.
#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    model: crate::ModelArgs,
    /// Tokens of the prompt; for other programs the length of every dimension that varies. Without it, 128, or as near to that as the program allows.
    #[arg(long)]
    length: Option<usize>,
    /// Tokens to add after the prompt.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// How often each measurement is taken.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// The length where none is asked for.
const LENGTH: usize = 128;

/// Measures a program.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let program = args.model.open()?;
    let mut figures = vec![("open_ms", millis(started.elapsed()))];
    match Decoder::new(&program, &args.model.method) {
        Ok(mut decoder) => decode(&mut decoder, args, &mut figures)?,
        Err(Failure::Message {
            code: exit::UNSUPPORTED,
            ..
        }) => call(&program, args, &mut figures)?,
        Err(other) => return Err(other),
    }
    if let Some(bytes) = peak_memory() {
        figures.push(("peak_memory_mib", bytes as f64 / f64::from(1 << 20)));
    }
    let device = program.device().to_string();
    let text = if args.json {
        let mut object = serde_json::Map::new();
        object.insert("format".to_owned(), "fuseline-bench".into());
        object.insert("version".to_owned(), 1.into());
        object.insert("device".to_owned(), device.into());
        for (name, value) in figures {
            object.insert(name.to_owned(), ((value * 1e3).round() / 1e3).into());
        }
        format!("{}\n", serde_json::Value::Object(object))
    } else {
        let mut text = format!("{:<24}{device}\n", "device");
        for (name, value) in figures {
            text.push_str(&format!("{name:<24}{value:.3}\n"));
        }
        text
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::output(&error))
}

type Figures = Vec<(&'static str, f64)>;

fn decode(decoder: &mut Decoder, args: &BenchArgs, figures: &mut Figures) -> Result<(), Failure> {
    let bounds = (1, decoder.longest());
    let length = within(args.length, bounds, "tokens of one call")?;
    // Any token does: what is computed does not depend on which.
    let prompt = vec![0_i64; length];
    let (mut first, mut step) = (Vec::new(), Vec::new());
    for repetition in 0..=args.repeat {
        decoder.reset();
        let started = Instant::now();
        let mut token = most_likely(&decoder.feed(&prompt, 0)?)?;
        let to_first = started.elapsed();
        let started = Instant::now();
        for position in length..length + args.tokens {
            token = most_likely(&decoder.feed(&[token], position)?)?;
        }
        if repetition > 0 {
            first.push(millis(to_first));
            step.push(millis(started.elapsed()) / args.tokens.max(1) as f64);
        }
    }
    figures.push(("prefill_tokens", length as f64));
    figures.push(("time_to_first_token_ms", median(first)));
    let step = median(step);
    figures.push(("token_ms", step));
    figures.push(("tokens_per_second", 1e3 / step));
    Ok(())
}

fn call(program: &Program, args: &BenchArgs, figures: &mut Figures) -> Result<(), Failure> {
    let mut inputs = Vec::new();
    for input in program.inputs(&args.model.method)? {
        inputs.push(match &input.kind {
            InputKind::Tensor { dtype, shape } => {
                let shape = shape
                    .iter()
                    .map(|dim| length(*dim, args.length, &input.name));
                let shape: Vec<usize> = shape.collect::<Result<_, _>>()?;
                let bytes =
                    usize::try_from(dtype.size()).unwrap_or(1) * shape.iter().product::<usize>();
                Tensor::from_bytes(*dtype, &shape, &vec![0; bytes])?.into()
            }
            InputKind::Int => Value::Int(0),
            InputKind::Bool => Value::Bool(false),
            InputKind::Float => Value::Float(0.0),
            InputKind::Other => Value::None,
        });
    }
    let mut session = program.session()?;
    let mut times = Vec::new();
    for repetition in 0..=args.repeat {
        let started = Instant::now();
        for output in session.run(&args.model.method, &inputs)? {
            if let Value::Tensor(tensor) = output {
                tensor.to_bytes()?;
            }
        }
        if repetition > 0 {
            times.push(millis(started.elapsed()));
        }
    }
    figures.push(("call_ms", median(times)));
    Ok(())
}

fn length(dim: Dim, wanted: Option<usize>, input: &str) -> Result<usize, Failure> {
    match dim {
        Dim::Static(length) => Ok(length as usize),
        Dim::Dynamic { min, max } => {
            let bounds = (min as usize, max.map(|max| max as usize));
            within(wanted, bounds, &format!("a dimension of `{input}`"))
        }
    }
}

/// The length that is asked for, which must lie within the bounds, or one that does.
fn within(
    wanted: Option<usize>,
    (least, most): (usize, Option<usize>),
    what: &str,
) -> Result<usize, Failure> {
    let near = |length: usize| length.max(least).min(most.unwrap_or(usize::MAX));
    match wanted {
        None => Ok(near(LENGTH)),
        Some(length) if near(length) == length => Ok(length),
        Some(length) => {
            let most = most.map_or_else(String::new, |most| format!(" to {most}"));
            let text = format!("--length {length}: {what} may be {least}{most}");
            Err(Failure::input(text))
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most memory that this process has held, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
