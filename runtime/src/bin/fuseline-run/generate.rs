//! `fuseline-run generate`: continues a text.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use fuseline_runtime::{Program, Value};
use tokenizers::Tokenizer;

use crate::decoder::{Decoder, floats, most_likely};
use crate::failure::Failure;
use crate::tensors::{Side, read_calls};

/// What `generate` takes.
#[derive(Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: crate::ModelArgs,
    /// The tokenizer (tokenizer.json, as the Hugging Face library writes it).
    #[arg(long)]
    tokenizer: PathBuf,
    /// The text to continue.
    #[arg(
        long,
        required_unless_present = "prompt_file",
        conflicts_with = "prompt_file"
    )]
    prompt: Option<String>,
    /// A file with the text to continue.
    #[arg(long)]
    prompt_file: Option<PathBuf>,
    /// A token to put before the prompt, by number, if the tokenizer does not do so by itself.
    #[arg(long)]
    bos: Option<i64>,
    /// How many tokens to add.
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// A token that ends the text, by number; may be given several times.
    #[arg(long)]
    stop: Vec<i64>,
    /// Afterwards run the calls of this file (`call0_in0`, …) in a fresh session and print the largest difference from its
    /// outputs (`call0_out0`, …).
    #[arg(long)]
    reference: Option<PathBuf>,
    /// The largest difference from the reference that passes, in units of the largest reference value (at least 1).
    #[arg(long, requires = "reference")]
    tolerance: Option<f32>,
    /// A JSON file with `prompt_ids` and the tokens that must follow, `greedy`.
    #[arg(long)]
    expect_greedy: Option<PathBuf>,
}

/// Continues a text.
pub fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let tokenizer = Tokenizer::from_bytes(crate::read_file(&args.tokenizer)?)
        .map_err(|error| Failure::malformed(&args.tokenizer, &error))?;
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(path)) => String::from_utf8(crate::read_file(path)?)
            .map_err(|error| Failure::malformed(path, &error))?,
        (None, None) => String::new(),
    };
    let encoded = tokenizer
        .encode(prompt.as_str(), true)
        .map_err(|error| Failure::input(format!("the prompt can't be tokenized: {error}")))?;
    let text_ids = encoded.get_ids().iter().map(|id| i64::from(*id));
    let ids: Vec<i64> = args.bos.into_iter().chain(text_ids).collect();
    if ids.is_empty() {
        return Err(Failure::input("the prompt has no tokens"));
    }

    let program = args.model.open()?;
    let mut decoder = Decoder::new(&program, &args.model.method)?;
    let mut writer = Writer::new(&tokenizer, encoded.get_ids());
    writer.text(&prompt)?;
    let mut tokens = Vec::new();
    let ended = continue_text(&mut decoder, &ids, args, &mut writer, &mut tokens);
    writer.end()?;
    ended?;
    if let Some(path) = &args.expect_greedy {
        compare_tokens(path, &ids, &tokens)?;
    }
    if let Some(path) = &args.reference {
        compare_reference(path, &program, args)?;
    }
    Ok(())
}

/// Feeds the prompt, then each token that comes out; what has come is in `tokens` also when a call fails.
fn continue_text(
    decoder: &mut Decoder,
    prompt: &[i64],
    args: &GenerateArgs,
    writer: &mut Writer<'_>,
    tokens: &mut Vec<i64>,
) -> Result<(), Failure> {
    let started = Instant::now();
    // A prompt longer than one call takes is fed in pieces.
    let piece = decoder.longest().unwrap_or(prompt.len()).max(1);
    let mut position = 0;
    let mut next = None;
    for part in prompt.chunks(piece) {
        let logits = decoder.feed(part, position);
        let tokens = prompt.len();
        let logits = logits.map_err(|e| e.at(&format!("the prompt of {tokens} tokens")))?;
        position += part.len();
        if position == prompt.len() {
            next = Some(most_likely(&logits)?);
        }
    }
    let first = started.elapsed();
    let decoding = Instant::now();
    while let Some(token) = next {
        if tokens.len() == args.max_tokens || args.stop.contains(&token) {
            break;
        }
        tokens.push(token);
        writer.token(token)?;
        if tokens.len() == args.max_tokens {
            break;
        }
        let logits = decoder.feed(&[token], position);
        let (before, new) = (prompt.len(), tokens.len());
        let place = || format!("after {before} tokens of the prompt and {new} new ones");
        let logits = logits.map_err(|e| e.at(&place()))?;
        position += 1;
        next = Some(most_likely(&logits)?);
    }
    let steps = tokens.len().saturating_sub(1);
    let rate = steps as f64 / decoding.elapsed().as_secs_f64();
    writer.note(&format!(
        "{} prompt tokens, first token after {:.1} ms; {} tokens, {rate:.1} tokens/s after the first",
        prompt.len(),
        first.as_secs_f64() * 1e3,
        tokens.len(),
    ));
    Ok(())
}

/// The text on standard output, and what is to be said about it afterwards.
///
/// What a token adds depends on those before it (a leading space, the first bytes of a character), so tokens are decoded
/// together with the last ones that made complete text.
struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// Where the tokens begin that are decoded for context.
    context: usize,
    /// Where the tokens begin that are not written yet.
    unwritten: usize,
    note: Option<String>,
}

impl<'a> Writer<'a> {
    /// Begins behind a prompt.
    fn new(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Self {
        Self {
            tokenizer,
            tokens: prompt.to_vec(),
            context: 0,
            unwritten: prompt.len(),
            note: None,
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        write!(out, "{text}")
            .and_then(|()| out.flush())
            .map_err(|error| Failure::output(&error))
    }

    /// Writes what a token adds to the text; nothing while a character is not complete.
    fn token(&mut self, token: i64) -> Result<(), Failure> {
        let token =
            u32::try_from(token).map_err(|_| Failure::execution(format!("{token} is no token")))?;
        self.tokens.push(token);
        let new = self.new_text()?;
        if new.ends_with('\u{fffd}') {
            return Ok(());
        }
        self.context = self.unwritten;
        self.unwritten = self.tokens.len();
        self.text(&new)
    }

    /// What the unwritten tokens say after their context.
    fn new_text(&self) -> Result<String, Failure> {
        let before = self.decode(&self.tokens[self.context..self.unwritten])?;
        let all = self.decode(&self.tokens[self.context..])?;
        Ok(all.get(before.len()..).unwrap_or_default().to_owned())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        let text = self.tokenizer.decode(tokens, true);
        text.map_err(|error| Failure::execution(format!("the tokens can't be decoded: {error}")))
    }

    fn note(&mut self, note: &str) {
        self.note = Some(note.to_owned());
    }

    fn end(mut self) -> Result<(), Failure> {
        let rest = self.new_text()?;
        self.text(&format!("{rest}\n"))?;
        if let Some(note) = self.note {
            say(&note);
        }
        Ok(())
    }
}

/// A line on standard error. Nothing is left to do if that is closed.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn compare_tokens(path: &Path, ids: &[i64], tokens: &[i64]) -> Result<(), Failure> {
    let bytes = crate::read_file(path)?;
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| Failure::malformed(path, &error))?;
    let list = |key: &str| {
        let numbers = json.get(key).and_then(serde_json::Value::as_array);
        let numbers = numbers.and_then(|list| list.iter().map(serde_json::Value::as_i64).collect());
        numbers.ok_or_else(|| Failure::malformed(path, &format!("`{key}` is no list of integers")))
    };
    let (prompt, expected): (Vec<i64>, Vec<i64>) = (list("prompt_ids")?, list("greedy")?);
    if prompt != ids {
        let text = format!(
            "the prompt is {ids:?}, but {} expects {prompt:?}",
            path.display()
        );
        return Err(Failure::input(text));
    }
    let compared = expected.len().min(tokens.len());
    if let Some(at) = (0..compared).find(|at| expected[*at] != tokens[*at]) {
        return Err(Failure::execution(format!(
            "token {at} is {}, but {} expects {}",
            tokens[at],
            path.display(),
            expected[at]
        )));
    }
    say(&format!(
        "the {compared} tokens compared with {} are equal",
        path.display()
    ));
    Ok(())
}

fn compare_reference(path: &Path, program: &Program, args: &GenerateArgs) -> Result<(), Failure> {
    let inputs = read_calls(path, Side::Input, None)?.calls;
    let outputs = read_calls(path, Side::Output, None)?.calls;
    let mut session = program.session()?;
    let numbered = inputs.keys().any(Option::is_some);
    let (mut difference, mut largest) = (0.0_f32, 1.0_f32);
    // The unnumbered call of a file with numbered ones is not part of the sequence.
    for (call, inputs) in inputs
        .iter()
        .filter(|(call, _)| call.is_some() || !numbered)
    {
        let results = session.run(&args.model.method, inputs)?;
        let expected = outputs.get(call).map_or(&[][..], Vec::as_slice);
        if expected.len() > results.len() {
            let text = format!("a call has {} outputs", expected.len());
            return Err(Failure::malformed(path, &text));
        }
        for (got, want) in results.iter().zip(expected) {
            let (Value::Tensor(got), Value::Tensor(want)) = (got, want) else {
                continue;
            };
            if got.shape() != want.shape() {
                return Err(Failure::execution(format!(
                    "{got:?} where {} has {want:?}",
                    path.display()
                )));
            }
            for (got, want) in floats(got)?.into_iter().zip(floats(want)?) {
                largest = largest.max(want.abs());
                let apart = (got - want).abs();
                // Not a number here and a number there is as far apart as can be.
                let apart = if got.is_nan() != want.is_nan() {
                    f32::INFINITY
                } else {
                    apart
                };
                difference = difference.max(apart);
            }
        }
    }
    say(&format!(
        "largest difference from {} in {} calls: {difference:.4} (its values reach {largest:.1})",
        path.display(),
        inputs.len()
    ));
    match args.tolerance {
        Some(tolerance) if difference > tolerance * largest => Err(Failure::execution(format!(
            "that is more than {tolerance} of the largest value"
        ))),
        _ => Ok(()),
    }
}
