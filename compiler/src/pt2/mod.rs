//! Reading `.pt2` archives, as `torch.export.save` writes them.
//!
//! An archive is a zip of stored entries: `models/model.json` (the exported program), raw storages of weights and
//! constants with a JSON file each that says which name, type and shape they have, and a few version marks. This module is the
//! only place that knows that layout and that JSON; the importer sees [`Archive`] and the types of [`exported`].
//!
//! The file is mapped, never read as a whole, and nothing in it is ever unpickled: a quantised weight that is a pickled object is read as data (see `pickled`). [`Archive::open`] validates everything
//! that later code relies on, so that the rest of the compiler handles an archive without further checks: the zip's directory,
//! checksums and types of all JSON, versions, and for every weight that the graph names that its payload holds the bytes its shape
//! asks for. What fails is an [`Error`] with its place and reason.

mod container;
mod error;
pub mod exported;
mod json;
mod pickled;
mod scalar;
pub mod schema;
pub mod summary;
pub mod sym;
mod weights;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use container::MappedBytes;
pub use error::{Error, Result};
pub use weights::WeightRef;

use container::Container;
use exported::{ExportedProgram, InputSpec, SymInt};
use fuseline_program::Mapping;
use weights::Weights;

/// The version of the JSON layout that [`exported`] describes.
const SCHEMA_MAJOR: i64 = 8;

/// A validated archive.
#[derive(Debug, Clone)]
pub struct Archive {
    program: ExportedProgram,
    weights: BTreeMap<String, WeightRef>,
    constants: BTreeMap<String, WeightRef>,
    entries: BTreeMap<String, Range<usize>>,
    source: Arc<Mapping>,
}

impl Archive {
    /// Opens, maps and validates the archive at `path`.
    ///
    /// The file should not be changed while the archive, or any [`MappedBytes`] from it, is alive. If it is cut, what is missing reads as zeros and
    /// the check of [`Archive::source`] fails.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; see the module's documentation for what is checked.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let container = Container::open(path.as_ref())?;
        let root = root(&container)?;
        expect_text(
            &container,
            &format!("{root}archive_format"),
            "archive format",
            "pt2",
        )?;
        expect_text(
            &container,
            &format!("{root}archive_version"),
            "archive version",
            "0",
        )?;
        expect_text(
            &container,
            &format!("{root}byteorder"),
            "byte order",
            "little",
        )?;

        let model = sole_model(&container, &root)?;
        let json = container.checked(&model, "it holds the exported program")?;
        let mut program = read_program(&model, &json)?;

        let weights_config = format!("{root}data/weights/model_weights_config.json");
        let mut weights =
            Weights::read(&container, &format!("{root}data/weights/"), &weights_config)?;
        let constants_config = format!("{root}data/constants/model_constants_config.json");
        let constants = Weights::read(
            &container,
            &format!("{root}data/constants/"),
            &constants_config,
        )?;
        pickled::unwrap(&mut program, &mut weights)?;
        check_named_weights(
            &program,
            &weights,
            &weights_config,
            &constants,
            &constants_config,
        )?;
        Ok(Self {
            program,
            weights: weights.mapped,
            constants: constants.mapped,
            entries: container.places(),
            source: Arc::clone(container.source()),
        })
    }

    /// The file.
    pub fn source(&self) -> &Arc<Mapping> {
        &self.source
    }

    /// The entries of the zip by name: where the bytes of each lie in the file.
    pub fn entries(&self) -> &BTreeMap<String, Range<usize>> {
        &self.entries
    }

    /// The exported program.
    pub fn program(&self) -> &ExportedProgram {
        &self.program
    }

    /// Parameters and persistent buffers, by fully qualified name.
    pub fn weights(&self) -> &BTreeMap<String, WeightRef> {
        &self.weights
    }

    /// Non-persistent buffers and tensor literals, by fully qualified name.
    pub fn constants(&self) -> &BTreeMap<String, WeightRef> {
        &self.constants
    }

    /// The weight behind a graph input, or `None` if the input is not a weight.
    pub fn weight_of(&self, spec: &InputSpec) -> Option<&WeightRef> {
        match spec {
            InputSpec::Parameter { parameter_name, .. } => self.weights.get(parameter_name),
            InputSpec::Buffer {
                buffer_name,
                persistent: true,
                ..
            } => self.weights.get(buffer_name),
            InputSpec::Buffer {
                buffer_name,
                persistent: false,
                ..
            } => self.constants.get(buffer_name),
            InputSpec::TensorConstant {
                tensor_constant_name,
                ..
            } => self.constants.get(tensor_constant_name),
            _ => None,
        }
    }
}

/// The folder that everything lies in, with its slash: the one that holds `archive_format`.
fn root(container: &Container) -> Result<String> {
    const MARK: &str = "archive_format";
    let mut roots = container.names().filter_map(|name| {
        let root = name.strip_suffix(MARK)?;
        let depth_one = root.ends_with('/') && root.matches('/').count() == 1;
        (root.is_empty() || depth_one).then_some(root)
    });
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root.to_owned()),
        (None, _) => Err(Error::MissingEntry {
            entry: MARK.to_owned(),
            reason: "so this zip was not written by torch.export.save of PyTorch 2.9 or later (files of torch.save and torch.jit.save \
                     can't be compiled; export the model and save that)"
                .to_owned(),
        }),
        (Some(first), Some(second)) => {
            Err(Error::malformed(format!("{second}{MARK}"), format!("a second archive beside `{first}`")))
        }
    }
}

/// Checks that a small text entry says the one thing that is known here.
fn expect_text(
    container: &Container,
    entry: &str,
    what: &'static str,
    known: &'static str,
) -> Result<()> {
    let bytes = container.checked(entry, "every archive states it")?;
    let found = String::from_utf8_lossy(bytes.get(..bytes.len().min(40)).unwrap_or_default())
        .trim()
        .to_owned();
    if found == known {
        return Ok(());
    }
    Err(Error::UnsupportedVersion {
        entry: entry.to_owned(),
        what,
        found,
        known,
    })
}

/// The entry of the one exported program in the archive.
fn sole_model(container: &Container, root: &str) -> Result<String> {
    let folder = format!("{root}models/");
    let models: Vec<&str> = container
        .names()
        .filter(|name| name.starts_with(&folder) && name.ends_with(".json"))
        .collect();
    match models.as_slice() {
        [model] => Ok((*model).to_owned()),
        [] => Err(Error::MissingEntry {
            entry: format!("{folder}model.json"),
            reason: "it holds the exported program".to_owned(),
        }),
        several => {
            let reason = format!(
                "the archive holds {} programs ({}); save each in a file of its own",
                several.len(),
                several.join(", ")
            );
            Err(Error::malformed(folder, reason))
        }
    }
}

/// Parses the program, its version first: a program of another version would fail with a misleading message.
fn read_program(entry: &str, json: &[u8]) -> Result<ExportedProgram> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema_version: exported::SchemaVersion,
    }
    if let Ok(Version { schema_version }) = serde_json::from_slice(json)
        && schema_version.major != SCHEMA_MAJOR
    {
        return Err(Error::UnsupportedVersion {
            entry: entry.to_owned(),
            what: "schema version",
            found: format!("{}.{}", schema_version.major, schema_version.minor),
            known: "8 (PyTorch 2.9 to 2.13)",
        });
    }
    let program: ExportedProgram = json::parse(entry, json)?;
    let GraphCounts {
        inputs,
        outputs,
        input_specs,
        output_specs,
    } = GraphCounts::of(&program);
    if inputs != input_specs || outputs != output_specs {
        let reason = format!(
            "the graph has {inputs} inputs and {outputs} outputs, but its signature describes {input_specs} and {output_specs}"
        );
        return Err(Error::malformed(entry, reason));
    }
    Ok(program)
}

struct GraphCounts {
    inputs: usize,
    outputs: usize,
    input_specs: usize,
    output_specs: usize,
}

impl GraphCounts {
    fn of(program: &ExportedProgram) -> Self {
        let module = &program.graph_module;
        Self {
            inputs: module.graph.inputs.len(),
            outputs: module.graph.outputs.len(),
            input_specs: module.signature.input_specs.len(),
            output_specs: module.signature.output_specs.len(),
        }
    }
}

/// Checks that each weight the signature names is there, is one that can be read, and has the type that the graph says.
fn check_named_weights(
    program: &ExportedProgram,
    weights: &Weights,
    weights_config: &str,
    constants: &Weights,
    constants_config: &str,
) -> Result<()> {
    let module = &program.graph_module;
    let mut unreadable = Vec::new();
    for spec in &module.signature.input_specs {
        let (arg, fqn, from, config) = match spec {
            InputSpec::Parameter {
                arg,
                parameter_name,
            } => (arg, parameter_name, weights, weights_config),
            InputSpec::Buffer {
                arg,
                buffer_name,
                persistent: true,
            } => (arg, buffer_name, weights, weights_config),
            InputSpec::Buffer {
                arg,
                buffer_name,
                persistent: false,
            } => (arg, buffer_name, constants, constants_config),
            InputSpec::TensorConstant {
                arg,
                tensor_constant_name,
            } => (arg, tensor_constant_name, constants, constants_config),
            _ => continue,
        };
        if let Some(reason) = from.unreadable.get(fqn) {
            unreadable.push((fqn, reason));
            continue;
        }
        let weight = from.mapped.get(fqn).ok_or_else(|| Error::MissingWeight {
            fqn: fqn.clone(),
            config: config.to_owned(),
        })?;
        let fail = |reason| Error::Weight {
            fqn: fqn.clone(),
            entry: weight.entry.clone(),
            reason,
        };
        let meta = module.graph.tensor_values.get(&arg.name).ok_or_else(|| {
            fail(format!(
                "the graph has no type for its input `{}`",
                arg.name
            ))
        })?;
        let same_sizes = meta.sizes.len() == weight.sizes.len()
            && meta
                .sizes
                .iter()
                .zip(&weight.sizes)
                .all(|(said, &is)| match said {
                    SymInt::Int(n) => usize::try_from(*n) == Ok(is),
                    SymInt::Expr(_) => false,
                });
        if meta.dtype != weight.dtype || !same_sizes {
            return Err(fail(format!(
                "it is {:?} of sizes {:?}, but the graph says {:?} of sizes {}",
                weight.dtype,
                weight.sizes,
                meta.dtype,
                show_sizes(&meta.sizes)
            )));
        }
    }
    match unreadable.as_slice() {
        [] => Ok(()),
        [(fqn, reason), more @ ..] => Err(Error::PickledWeight {
            fqn: (*fqn).clone(),
            reason: (*reason).clone(),
            more: more.len(),
        }),
    }
}

fn show_sizes(sizes: &[SymInt]) -> String {
    let sizes: Vec<String> = sizes
        .iter()
        .map(|size| match size {
            SymInt::Int(n) => n.to_string(),
            SymInt::Expr(expr) => expr.expr.to_string(),
        })
        .collect();
    format!("[{}]", sizes.join(", "))
}
