//! `fuseline inspect`.

use super::output;
use crate::error::Error;
use crate::import::import;
use crate::pt2;
use crate::report::{self, HostReport};
use fuseline_program::words::counted;
use fuseline_program::{FormatError, Mapping, Payload, Program, Ptd, Pte};
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .pt2 archive, a .pte program, or a .ptd with weights of one
    file: PathBuf,
    /// A file with weights that the program does not hold itself (.ptd); may be given several times
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), Error> {
    let path = &args.file;
    let map = Mapping::open(path).map_err(unreadable(path))?;
    let text = if Pte::is_one(&map) {
        let beside = open_external(&args.data)?;
        show(
            "fuseline-program",
            &open_program(&map, path, &beside)?.summary(),
            args,
        )
    } else if !args.data.is_empty() {
        let why = "--data names weights of a program: the file itself is none";
        return Err(Error::Usage(format!("{}: {why}", path.display())));
    } else if Ptd::is_one(&map) {
        show(
            "fuseline-weights",
            &parse_external(&map, path)?.summary(),
            args,
        )
    } else {
        show(
            "fuseline-exported",
            &Exported::of(&crate::compile::open(path)?),
            args,
        )
    };
    map.check().map_err(unreadable(path))?;
    output::print(&text?)
}

/// An archive, and where what is in it would run.
#[derive(serde::Serialize)]
struct Exported {
    #[serde(flatten)]
    summary: pt2::summary::Summary,
    /// Operators that would run on the host; the rest would be in delegates.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Vec<HostReport>>,
    /// Why it can't be compiled as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Exported {
    fn of(archive: &pt2::Archive) -> Self {
        let imported = import(archive);
        Self {
            summary: pt2::summary::of(archive),
            host: imported.as_ref().ok().map(report::host),
            refused: imported.err().map(|e| e.to_string()),
        }
    }
}

impl Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary)?;
        if let Some(reason) = &self.refused {
            writeln!(f, "can't be compiled as it is: {reason}")?;
        }
        let Some(host) = &self.host else {
            return Ok(());
        };
        f.write_str("would run on the device")?;
        match host.len() {
            0 => writeln!(f)?,
            calls => writeln!(f, ", but for {} of the host", counted(calls, "call"))?,
        }
        for call in host {
            let place = call.module.as_deref().unwrap_or_default();
            let gap = if place.is_empty() { "" } else { " in " };
            writeln!(f, "  {}{gap}{place}: {}", call.kernel, call.reason)?;
        }
        Ok(())
    }
}

fn show(
    format: &str,
    summary: &(impl serde::Serialize + Display),
    args: &Args,
) -> Result<String, Error> {
    if args.json {
        json(format, summary, &args.file)
    } else {
        Ok(summary.to_string())
    }
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |e| Error::File {
        path,
        reason: e.to_string(),
    }
}

fn malformed(path: &Path) -> impl Fn(FormatError) -> Error {
    let path = path.to_owned();
    move |e| Error::Malformed {
        path: path.clone(),
        reason: e.to_string(),
    }
}

/// Maps files with weights of a program.
pub fn open_external(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Mapping)>, Error> {
    let open = |path: &PathBuf| {
        let map = Mapping::open(path).map_err(unreadable(path))?;
        Ok((path.clone(), map))
    };
    paths.iter().map(open).collect()
}

fn parse_external<'a>(map: &'a Mapping, path: &Path) -> Result<Ptd<'a>, Error> {
    Ptd::parse(map).map_err(malformed(path))
}

/// Reads and checks a program with the weights beside it.
pub fn open_program<'a>(
    map: &'a Mapping,
    path: &Path,
    beside: &'a [(PathBuf, Mapping)],
) -> Result<Pte<'a>, Error> {
    let beside = beside.iter().map(|(path, map)| parse_external(map, path));
    let beside = beside.collect::<Result<Vec<_>, _>>()?;
    let pte = Pte::parse_with(map, &beside).map_err(malformed(path))?;
    pte.validate().map_err(malformed(path))?;
    Ok(pte)
}

/// JSON that says what it is.
#[derive(serde::Serialize)]
struct Marked<'a, T> {
    /// What is described.
    format: &'a str,
    /// Goes up when something that was there is gone or means something else.
    version: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// The version of all JSON that the command writes.
const VERSION: u32 = 1;

/// As text of JSON: an object that begins with its format and version.
pub fn json(format: &str, value: &impl serde::Serialize, path: &Path) -> Result<String, Error> {
    let version = VERSION;
    let marked = Marked {
        format,
        version,
        value,
    };
    let mut text = serde_json::to_string_pretty(&marked).map_err(|e| Error::File {
        path: path.to_owned(),
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
