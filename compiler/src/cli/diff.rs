//! `fuseline diff`.

use super::inspect::{json, open_external, open_program};
use super::output;
use crate::error::Error;
use fuseline_program::Mapping;
use fuseline_program::diff::Differences;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 if the programs say the same, with 1 if they differ, with another code on an error."
)]
pub struct Args {
    /// The one program (.pte)
    first: PathBuf,
    /// The other (.pte)
    second: PathBuf,
    /// A file with weights of the first (.ptd); may be given several times
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// A file with weights of the second (.ptd); may be given several times
    #[arg(long, value_name = "FILE")]
    second_data: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what differs. Returns whether nothing does.
pub fn run(args: &Args) -> Result<bool, Error> {
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |e: std::io::Error| Error::File {
            path,
            reason: e.to_string(),
        }
    };
    let maps = [&args.first, &args.second].map(|path| Mapping::open(path).map_err(failed(path)));
    let [first_map, second_map] = maps;
    let (first_map, second_map) = (first_map?, second_map?);
    let (first_beside, second_beside) = (
        open_external(&args.data)?,
        open_external(&args.second_data)?,
    );
    let first = open_program(&first_map, &args.first, &first_beside)?;
    let second = open_program(&second_map, &args.second, &second_beside)?;
    let differences =
        Differences::between(&first.program, &second.program).map_err(failed(&args.first))?;
    first_map.check().map_err(failed(&args.first))?;
    second_map.check().map_err(failed(&args.second))?;
    let text = if args.json {
        json("fuseline-differences", &differences, &args.first)?
    } else {
        differences.to_string()
    };
    output::print(&text)?;
    Ok(differences.is_empty())
}
