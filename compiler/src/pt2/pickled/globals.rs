//! Every global that a pickle stream may name.

use super::super::scalar::ScalarType;

/// What a global stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `torch._tensor._rebuild_from_type_v2`: a function called, its result given another type and attributes.
    FromType,
    /// `torch._utils._rebuild_wrapper_subclass`: a tensor without elements of its own.
    Wrapper,
    /// `torch._utils._rebuild_tensor_v2`: a view of a storage.
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`: the same with a dtype of its own.
    TypedTensor,
    /// `torch._utils._rebuild_parameter`: a tensor.
    Parameter,
    /// Something that is called or named, and says nothing that matters here: a dictionary of hooks, a layout, a device.
    Nothing,
    /// `torch.Size`: a tuple of integers.
    Size,
    /// The storage of elements of a dtype; of bytes where there is none.
    Storage(Option<ScalarType>),
    /// A dtype of tensors.
    Dtype(ScalarType),
    /// `torch.intN`: the integers of so many bits, which tensors hold in wider ones.
    Int(u32),
    /// A quantised tensor's class.
    Class(Class),
}

/// The tensor subclasses that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// TorchAO's `IntxUnpackedToInt8Tensor`.
    IntxUnpackedToInt8,
    /// TorchAO's `Int8Tensor`.
    Int8,
    /// ExecuTorch's `ExportableInt4Tensor`.
    Int4,
    /// ExecuTorch's `ExportableNVFP4Tensor`.
    NvFp4,
    /// ExecuTorch's `ExportableMXTensor`.
    Mx,
}

impl Class {
    /// Its name in Python.
    pub fn name(self) -> &'static str {
        match self {
            Self::IntxUnpackedToInt8 => "IntxUnpackedToInt8Tensor",
            Self::Int8 => "Int8Tensor",
            Self::Int4 => "ExportableInt4Tensor",
            Self::NvFp4 => "ExportableNVFP4Tensor",
            Self::Mx => "ExportableMXTensor",
        }
    }
}

impl Global {
    /// The global of that name.
    ///
    /// # Errors
    /// There is none: its name.
    pub fn named(module: &str, name: &str) -> Result<Global, String> {
        Ok(match (module, name) {
            ("torch._tensor", "_rebuild_from_type_v2") => Self::FromType,
            ("torch._utils", "_rebuild_wrapper_subclass") => Self::Wrapper,
            ("torch._utils", "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::TypedTensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch", "Size") => Self::Size,
            ("collections", "OrderedDict")
            | ("torch", "device")
            | ("torch.serialization", "_get_layout")
            | ("torch.nn.parameter", "Parameter") => Self::Nothing,
            ("torch.storage", "UntypedStorage") => Self::Storage(None),
            ("torchao.quantization", "IntxUnpackedToInt8Tensor") => {
                Self::Class(Class::IntxUnpackedToInt8)
            }
            ("torchao.quantization", "Int8Tensor") => Self::Class(Class::Int8),
            ("executorch.extension.llm.export.int4", "ExportableInt4Tensor") => {
                Self::Class(Class::Int4)
            }
            ("executorch.extension.llm.export.nvfp4", "ExportableNVFP4Tensor") => {
                Self::Class(Class::NvFp4)
            }
            ("executorch.extension.llm.export.mx", "ExportableMXTensor") => Self::Class(Class::Mx),
            ("torch", name) => of_torch(name).ok_or_else(|| refused(module, name))?,
            _ => return Err(refused(module, name)),
        })
    }
}

fn refused(module: &str, name: &str) -> String {
    format!(
        "`{}.{}` is none of the classes that are read",
        shown(module),
        shown(name)
    )
}

/// A name for messages, which may be of any length and of any characters.
pub(super) fn shown(name: &str) -> String {
    let start: String = name.chars().take(100).collect();
    start.escape_debug().to_string()
}

/// Dtypes and storages.
fn of_torch(name: &str) -> Option<Global> {
    use ScalarType::{
        BFloat16, Bool, Float8E4M3FN, Float8E5M2, Float8E8M0FNU, Float16, Float32, Float64, Int8,
        Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64,
    };
    Some(match name {
        "ByteStorage" => Global::Storage(Some(UInt8)),
        "CharStorage" => Global::Storage(Some(Int8)),
        "ShortStorage" => Global::Storage(Some(Int16)),
        "IntStorage" => Global::Storage(Some(Int32)),
        "LongStorage" => Global::Storage(Some(Int64)),
        "BoolStorage" => Global::Storage(Some(Bool)),
        "HalfStorage" => Global::Storage(Some(Float16)),
        "BFloat16Storage" => Global::Storage(Some(BFloat16)),
        "FloatStorage" => Global::Storage(Some(Float32)),
        "DoubleStorage" => Global::Storage(Some(Float64)),
        "uint8" => Global::Dtype(UInt8),
        "uint16" => Global::Dtype(UInt16),
        "uint32" => Global::Dtype(UInt32),
        "uint64" => Global::Dtype(UInt64),
        "int8" => Global::Dtype(Int8),
        "int16" => Global::Dtype(Int16),
        "int32" => Global::Dtype(Int32),
        "int64" => Global::Dtype(Int64),
        "bool" => Global::Dtype(Bool),
        "float16" => Global::Dtype(Float16),
        "bfloat16" => Global::Dtype(BFloat16),
        "float32" => Global::Dtype(Float32),
        "float64" => Global::Dtype(Float64),
        "float8_e4m3fn" => Global::Dtype(Float8E4M3FN),
        "float8_e5m2" => Global::Dtype(Float8E5M2),
        "float8_e8m0fnu" => Global::Dtype(Float8E8M0FNU),
        "int1" | "int2" | "int3" | "int4" | "int5" | "int6" | "int7" => {
            Global::Int(name.strip_prefix("int")?.parse().ok()?)
        }
        _ => return None,
    })
}
