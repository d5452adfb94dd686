//! `fuseline-run perplexity`: how well a language model predicts a text.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use tokenizers::Tokenizer;

use crate::decoder::{Decoder, floats};
use crate::failure::Failure;

/// What `perplexity` takes.
#[derive(Args)]
pub struct PerplexityArgs {
    #[command(flatten)]
    model: crate::ModelArgs,
    /// The tokenizer (tokenizer.json, as the Hugging Face library writes it).
    #[arg(long)]
    tokenizer: PathBuf,
    /// The text to predict.
    text: PathBuf,
    /// A token to put before each piece, by number.
    #[arg(long)]
    bos: Option<i64>,
    /// How many tokens are fed to an empty cache at a time; each piece is predicted from what it holds alone. Without it, as many as one call takes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    context: Option<u32>,
}

/// Prints the perplexity, and of how many tokens it is the mean.
pub fn perplexity(args: &PerplexityArgs) -> Result<(), Failure> {
    let tokenizer = Tokenizer::from_bytes(crate::read_file(&args.tokenizer)?)
        .map_err(|error| Failure::malformed(&args.tokenizer, &error))?;
    let text = String::from_utf8(crate::read_file(&args.text)?)
        .map_err(|error| Failure::malformed(&args.text, &error))?;
    let encoded = tokenizer
        .encode(text.as_str(), false)
        .map_err(|error| Failure::input(format!("the text can't be tokenized: {error}")))?;
    let ids: Vec<i64> = encoded.get_ids().iter().map(|id| i64::from(*id)).collect();
    let program = args.model.open()?;
    let mut decoder = Decoder::new(&program, &args.model.method)?;
    let asked = args.context.map(|context| context as usize);
    let longest = decoder.longest();
    let context = match (asked, longest) {
        (Some(asked), Some(longest)) if asked > longest => {
            let text = format!("one call takes {longest} tokens, not {asked}");
            return Err(Failure::input(text));
        }
        (asked, longest) => asked.or(longest).unwrap_or(512),
    };
    let room = context - usize::from(args.bos.is_some());
    let (mut sum, mut count) = (0.0, 0usize);
    for piece in ids.chunks(room.max(1)) {
        let tokens: Vec<i64> = args.bos.into_iter().chain(piece.iter().copied()).collect();
        if tokens.len() < 2 {
            continue;
        }
        decoder.reset();
        let logits = decoder.feed(&tokens, 0)?;
        let vocabulary = logits.shape().last().copied().unwrap_or(0);
        let all = floats(&logits)?;
        if vocabulary == 0 || all.len() != tokens.len() * vocabulary {
            let text = "the model gives logits for the last token alone".to_owned();
            return Err(Failure::unsupported(text));
        }
        for (row, next) in all.chunks_exact(vocabulary).zip(&tokens[1..]) {
            sum += surprise(row, *next)?;
            count += 1;
        }
    }
    if count == 0 {
        return Err(Failure::input("the text has less than two tokens"));
    }
    let mean = (sum / count as f64).exp();
    writeln!(io::stdout(), "perplexity {mean:.4} over {count} tokens")
        .map_err(|error| Failure::output(&error))
}

/// −ln of the probability that logits give a token.
fn surprise(logits: &[f32], token: i64) -> Result<f64, Failure> {
    let at = usize::try_from(token).ok().and_then(|at| logits.get(at));
    let Some(logit) = at else {
        return Err(Failure::input(format!(
            "token {token} is not among the model's {}",
            logits.len()
        )));
    };
    let most = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    Ok(sum.ln() + f64::from(most - logit))
}
