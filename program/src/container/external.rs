//! Bytes by name in a file of their own: ExecuTorch's `.ptd`, where a program's weights may be.
//!
//! Such a file is laid out as a program is: FlatBuffers data with a header put behind its first eight bytes, then segments.

use std::collections::BTreeMap;

use super::header::Header;
use super::read::{Segment, bytes_at};
use super::validate::disjoint;
use super::{Data, TensorValue};
use crate::caps;
use crate::dtype::ScalarType;
use crate::error::{Fault, FormatError, Within};
use crate::generated::flat_tensor as wire;

/// A `.ptd` file that has been read and checked. Bytes are borrowed from the file, never copied.
#[derive(Debug, Clone, PartialEq)]
pub struct Ptd<'a> {
    /// Where the parts lie.
    pub header: Header,
    /// The segments, in the order of the file's list.
    pub segments: Vec<Segment>,
    /// What it holds, in the order of the file.
    pub entries: Vec<ExternalData<'a>>,
}

/// Bytes with a name, and what they are if they are a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalData<'a> {
    /// The name, unique in the file.
    pub key: String,
    /// The bytes.
    pub data: Data<'a>,
    /// Element type and lengths, if the file says that it is a tensor.
    pub layout: Option<Layout>,
}

/// The type of a tensor that lies in row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The element type.
    pub dtype: ScalarType,
    /// The lengths, outermost first.
    pub sizes: Vec<u32>,
}

impl<'a> Ptd<'a> {
    /// Whether the file says that it is a `.ptd`. What else is in it may still be wrong.
    #[must_use]
    pub fn is_one(file: &[u8]) -> bool {
        crate::newer::is_of_kind(file, super::header::EXTERNAL.identifier)
    }

    /// Reads a file and checks all of it.
    ///
    /// # Errors
    /// Other identifying bytes, bytes that end too early, broken FlatBuffers data, byte ranges that leave the file or share
    /// bytes, names that come twice, a tensor of another size than its bytes.
    pub fn parse(file: &'a [u8]) -> Result<Self, FormatError> {
        let header = Header::parse_external(file).within(|| "header".to_owned())?;
        let size = usize::try_from(header.program_size).unwrap_or(usize::MAX);
        let data = file.get(..size).ok_or(Fault::Short {
            need: header.program_size,
            have: file.len() as u64,
        })?;
        let root =
            flatbuffers::root_with_opts::<wire::FlatTensor<'_>>(&caps::verifier(data.len()), data);
        let root = root.map_err(|error| Fault::FlatBuffer(error.to_string()))?;
        if root.version() != 0 {
            return Err(Fault::Version {
                what: "a file of external data",
                found: root.version().to_string(),
                known: "0",
            }
            .into());
        }
        let list = root.segments();
        caps::count("segments", list.map_or(0, |list| list.len()))?;
        let mut bytes = Vec::new();
        let mut segments = Vec::new();
        for (at, segment) in list.iter().flatten().enumerate() {
            let (offset, size) = (segment.offset(), segment.size_());
            let place = || format!("segment {at}");
            bytes.push(bytes_at(file, header.segment_base, offset, size).within(place)?);
            segments.push(Segment {
                offset,
                size,
                holds: Vec::new(),
            });
        }
        disjoint(&segments, &header)?;
        let list = root.named_data();
        caps::count("named data", list.map_or(0, |list| list.len()))?;
        let mut entries: Vec<ExternalData<'a>> = Vec::new();
        let mut keys = BTreeMap::new();
        for (at, named) in list.iter().flatten().enumerate() {
            let key = named
                .key()
                .filter(|key| !key.is_empty())
                .ok_or(Fault::Missing("the key"))
                .within(|| format!("named data {at}"))?;
            if keys.insert(key, at).is_some() {
                let name = key.to_owned();
                return Err(Fault::Repeated { what: "data", name }.into());
            }
            let index = named.segment_index() as usize;
            let missing = || Fault::Index {
                what: "segment",
                index: i64::from(named.segment_index()),
                count: bytes.len() as u64,
            };
            let place = || format!("named data {key:?}");
            let content = *bytes.get(index).ok_or_else(missing).within(place)?;
            let layout = named
                .tensor_layout()
                .map(read_layout)
                .transpose()
                .within(place)?;
            if let Some(layout) = &layout {
                layout.check(content.len() as u64).within(place)?;
            }
            segments[index].holds.push(format!("{key:?}"));
            entries.push(ExternalData {
                key: key.to_owned(),
                data: Data::borrowed(content),
                layout,
            });
        }
        Ok(Self {
            header,
            segments,
            entries,
        })
    }
}

fn read_layout(layout: wire::TensorLayout<'_>) -> Result<Layout, Fault> {
    let code = layout.scalar_type();
    let dtype = ScalarType::from_code(code).ok_or(Fault::UnknownDType(code))?;
    let list = layout.sizes().ok_or(Fault::Missing("the list of sizes"))?;
    caps::rank(list.len())?;
    let size = |size: i32| {
        u32::try_from(size).map_err(|_| Fault::Value {
            what: "a size",
            value: size.to_string(),
            allowed: "0 or more",
        })
    };
    let sizes = list.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let order = layout.dim_order().map_or(&[][..], |order| order.bytes());
    if !order
        .iter()
        .map(|axis| usize::from(*axis))
        .eq(0..sizes.len())
    {
        return Err(Fault::Unsupported(format!(
            "the order of dimensions {order:?}"
        )));
    }
    Ok(Layout { dtype, sizes })
}

impl Layout {
    fn check(&self, have: u64) -> Result<(), Fault> {
        let sizes = self.sizes.iter().map(|size| u64::from(*size));
        let bytes = sizes.fold(self.dtype.size(), u64::saturating_mul);
        if bytes == have {
            return Ok(());
        }
        Err(Fault::Mismatch {
            what: "bytes of the tensor and of its data",
            left: bytes,
            right: have,
        })
    }
}

/// What the files beside a program hold, by name.
pub(super) struct Externals<'r, 'a>(BTreeMap<&'r str, &'r ExternalData<'a>>);

impl<'r, 'a> Externals<'r, 'a> {
    /// All of them together; a name may come in one file only.
    pub(super) fn of(files: &'r [Ptd<'a>]) -> Result<Self, FormatError> {
        let mut all = BTreeMap::new();
        for entry in files.iter().flat_map(|file| &file.entries) {
            if all.insert(entry.key.as_str(), entry).is_some() {
                let name = entry.key.clone();
                let what = "external data";
                return Err(Fault::Repeated { what, name }.into());
            }
        }
        Ok(Self(all))
    }

    /// All, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'r ExternalData<'a>> {
        self.0.values().copied()
    }

    /// The bytes of a tensor that says to be in another file.
    pub(super) fn tensor(&self, name: &str, tensor: &TensorValue) -> Result<Data<'a>, Fault> {
        let Some(entry) = self.0.get(name) else {
            return Err(Fault::External {
                name: name.to_owned(),
            });
        };
        let own = Layout {
            dtype: tensor.dtype,
            sizes: tensor.sizes.clone(),
        };
        own.check(entry.data.len())?;
        match &entry.layout {
            Some(layout) if *layout != own => Err(Fault::Unsupported(format!(
                "{name:?} as {own:?}, while its file says {layout:?}:"
            ))),
            _ => Ok(entry.data.clone()),
        }
    }
}
