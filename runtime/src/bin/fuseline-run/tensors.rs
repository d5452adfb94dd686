//! Tensors in safetensors files, under the names that a sequence of calls has.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use fuseline_program::{Kind, Mapping, command};
use fuseline_runtime::{Error, ScalarType, Tensor, Value};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::failure::Failure;

/// The most bytes of tensors that come through a pipe.
const MOST_STREAMED: u64 = 1 << 30;

/// What the calls of a file take or give, in order: the number of each call, none for the unnumbered one, and its values.
pub type Calls = BTreeMap<Option<u32>, Vec<Value>>;

/// Which side of a call is meant.
#[derive(Clone, Copy)]
pub enum Side {
    /// `in0`, `in1`, …
    Input,
    /// `out0`, `out1`, …
    Output,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Input => "in",
            Self::Output => "out",
        }
    }
}

/// A name taken apart: `call2_in0` is call 2, input 0. Without the first part there is one call, with the number none.
fn parse(name: &str, side: Side) -> Option<(Option<u32>, usize)> {
    let (call, rest) = match name.strip_prefix("call") {
        Some(rest) => {
            let (call, rest) = rest.split_once('_')?;
            (Some(plain_digits(call)?.parse().ok()?), rest)
        }
        None => (None, name),
    };
    let position = plain_digits(rest.strip_prefix(side.word())?)?;
    Some((call, position.parse().ok()?))
}

/// The text, if it is a number as one would write it: `01` names nothing.
fn plain_digits(text: &str) -> Option<&str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then_some(text)
}

/// The name of an output.
pub fn output_name(call: Option<u32>, position: usize) -> String {
    match call {
        Some(call) => format!("call{call}_out{position}"),
        None => format!("out{position}"),
    }
}

/// A tensor as it stands in a file.
pub struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// What a file holds of one side of its calls: the unnumbered call first, then the numbered ones.
pub struct CallFile {
    /// The calls.
    pub calls: Calls,
    /// The tensors of this side, as they stand in the file.
    pub entries: Vec<Entry>,
}

/// The bytes of a file of tensors: mapped, or read where there is nothing to map.
enum Bytes {
    Mapped(Mapping),
    Read(Vec<u8>),
}

impl Bytes {
    fn of(path: &Path) -> std::io::Result<Self> {
        if std::fs::metadata(path)?.is_file() {
            return Mapping::open(path).map(Self::Mapped);
        }
        command::read_whole(path, MOST_STREAMED).map(Self::Read)
    }

    /// That nothing of the file has gone while it was read.
    fn check(&self) -> std::io::Result<()> {
        match self {
            Self::Mapped(mapping) => mapping.check(),
            Self::Read(_) => Ok(()),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapping) => mapping,
            Self::Read(bytes) => bytes,
        }
    }
}

/// Reads one side of the calls in a file, whose tensors may take at most `most` bytes.
pub fn read_calls(path: &Path, side: Side, most: Option<u64>) -> Result<CallFile, Failure> {
    let unreadable = |error| Failure::file(path, &error);
    let bytes = Bytes::of(path).map_err(unreadable)?;
    let read = parse_calls(path, &bytes, side, most);
    bytes.check().map_err(unreadable)?;
    read
}

/// [`read_calls`] of bytes that are there; the path is for messages.
pub fn parse_calls(
    path: &Path,
    bytes: &[u8],
    side: Side,
    most: Option<u64>,
) -> Result<CallFile, Failure> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| match Kind::of(bytes) {
        None | Some(Kind::Safetensors) => Failure::malformed(path, &error),
        Some(found) => Failure::malformed(path, &format!("not a safetensors file but {found}")),
    })?;
    let needed = file.iter().map(|(_, view)| view.data().len() as u64).sum();
    if let Some(limit) = most.filter(|most| needed > *most) {
        return Err(Error::Memory { needed, limit }.into());
    }
    let mut found: BTreeMap<Option<u32>, BTreeMap<usize, Value>> = BTreeMap::new();
    let mut entries = Vec::new();
    for (name, view) in file.iter() {
        let Some((call, position)) = parse(name, side) else {
            let known = parse(name, Side::Input).or_else(|| parse(name, Side::Output));
            if known.is_some() {
                continue;
            }
            return Err(Failure::input(format!(
                "{}: `{name}` is no name for an input: `in0`, or `call0_in0` for a sequence of calls",
                path.display()
            )));
        };
        let here = format!("{}: {name}", path.display());
        let value = read_tensor(&view).map_err(|failure| failure.at(&here))?;
        found.entry(call).or_default().insert(position, value);
        entries.push(Entry {
            name: name.to_owned(),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        });
    }
    let mut calls = Calls::new();
    for (call, values) in found {
        if let Some(at) = (0..values.len()).find(|at| !values.contains_key(at)) {
            let call = call.map_or_else(String::new, |call| format!("call{call}_"));
            let missing = format!("{call}{}{at}", side.word());
            let text = format!("{}: `{missing}` is missing", path.display());
            return Err(Failure::input(text));
        }
        calls.insert(call, values.into_values().collect());
    }
    Ok(CallFile { calls, entries })
}

fn read_tensor(view: &TensorView<'_>) -> Result<Value, Failure> {
    let dtype = DTYPES.iter().find(|(_, code)| *code == view.dtype());
    let (dtype, _) = dtype
        .ok_or_else(|| Failure::unsupported(format!("elements of type {:?}", view.dtype())))?;
    let tensor = Tensor::from_bytes(*dtype, view.shape(), view.data());
    Ok(tensor.map_err(|e| Failure::input(e.to_string()))?.into())
}

/// Tensors on their way to a file.
pub struct OutputFile(Vec<Entry>);

impl OutputFile {
    /// A file that begins with these.
    pub fn with(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// Adds a value; a number becomes a tensor without dimensions.
    pub fn add(&mut self, name: String, value: &Value) -> Result<(), Failure> {
        let tensor = match value {
            Value::Tensor(tensor) => tensor.clone(),
            Value::Int(number) => Tensor::from_scalar(*number)?,
            Value::Bool(flag) => Tensor::from_scalar(*flag)?,
            Value::Float(number) => Tensor::from_scalar(*number)?,
            other => return Err(Failure::unsupported(format!("{name} is {}", other.kind()))),
        };
        let dtype = DTYPES.iter().find(|(dtype, _)| *dtype == tensor.dtype());
        let (_, dtype) = dtype.ok_or_else(|| {
            Failure::unsupported(format!(
                "{name}: a safetensors file can't hold {}",
                tensor.dtype()
            ))
        })?;
        let bytes = tensor
            .to_bytes()
            .map_err(|error| Failure::from(error).at(&name))?;
        self.0.push(Entry {
            name,
            dtype: *dtype,
            shape: tensor.shape(),
            bytes,
        });
        Ok(())
    }

    /// The file.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let views = self.0.iter().map(|entry| {
            let view = TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes);
            view.map(|view| (entry.name.clone(), view))
        });
        let views: BTreeMap<_, _> = views
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::bug(error.to_string()))?;
        safetensors::serialize(&views, None).map_err(|error| Failure::bug(error.to_string()))
    }
}

const DTYPES: &[(ScalarType, Dtype)] = &[
    (ScalarType::Bool, Dtype::BOOL),
    (ScalarType::U8, Dtype::U8),
    (ScalarType::I8, Dtype::I8),
    (ScalarType::U16, Dtype::U16),
    (ScalarType::I16, Dtype::I16),
    (ScalarType::U32, Dtype::U32),
    (ScalarType::I32, Dtype::I32),
    (ScalarType::U64, Dtype::U64),
    (ScalarType::I64, Dtype::I64),
    (ScalarType::F16, Dtype::F16),
    (ScalarType::BF16, Dtype::BF16),
    (ScalarType::F32, Dtype::F32),
    (ScalarType::F64, Dtype::F64),
];

#[cfg(test)]
mod tests {
    use super::{Side, parse};

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(parse("in0", Side::Input), Some((None, 0)));
        assert_eq!(parse("call12_in3", Side::Input), Some((Some(12), 3)));
        assert_eq!(parse("call0_out1", Side::Output), Some((Some(0), 1)));
        for bad in [
            "in",
            "in01",
            "in-1",
            "input0",
            "call_in0",
            "call1in0",
            "callx_in0",
            "out0",
        ] {
            assert_eq!(parse(bad, Side::Input), None, "{bad}");
        }
    }
}
