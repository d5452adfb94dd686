//! `fuseline inspect`.

use super::output;
use crate::error::Error;
use crate::pt2;
use fuseline_program::{Payload, Program, Pte};
use memmap2::Mmap;
use std::fs::File;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .pt2 archive or a .pte program
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::File {
        path: args.file.clone(),
        reason: e.to_string(),
    };
    let file = File::open(&args.file).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::File {
            path: args.file.clone(),
            reason: "is not a file".into(),
        });
    }
    // SAFETY: the mapping is read-only; a file that shrinks while it is mapped is outside what any reader can be sound against.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    let text = if Pte::is_one(&map) {
        program(&map, args)?
    } else {
        archive(args)?
    };
    output::print(&text)
}

fn program(bytes: &[u8], args: &Args) -> Result<String, Error> {
    let malformed = |reason: String| Error::Malformed {
        path: args.file.clone(),
        reason,
    };
    let pte = Pte::parse(bytes).map_err(|e| malformed(e.to_string()))?;
    pte.validate().map_err(|e| malformed(e.to_string()))?;
    let summary = pte.summary();
    if args.json {
        json(&summary, args)
    } else {
        Ok(summary.to_string())
    }
}

fn archive(args: &Args) -> Result<String, Error> {
    let archive = crate::compile::open(&args.file)?;
    let summary = pt2::summary::of(&archive);
    if args.json {
        json(&summary, args)
    } else {
        Ok(summary.to_string())
    }
}

fn json(value: &impl serde::Serialize, args: &Args) -> Result<String, Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::File {
        path: args.file.clone(),
        reason: e.to_string(),
    })?;
    text.push('\n');
    Ok(text)
}

/// The instructions of a program that has not been written, as `inspect` shows them.
pub fn describe_program(program: &Program<'_>) -> String {
    let mut out = String::new();
    for method in &program.methods {
        for (i, delegate) in method.delegates.iter().enumerate() {
            if let Payload::Mlx(graph) = &delegate.payload {
                out.push_str(&format!(
                    "method {}, segment {i}\n{}\n",
                    method.name,
                    graph.summary()
                ));
            }
        }
    }
    out
}
