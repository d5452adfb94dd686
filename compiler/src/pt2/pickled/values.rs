//! What a stream's values are, and what calls of its globals give.

use super::super::container::MappedBytes;
use super::super::scalar::ScalarType;
use super::super::weights::{WeightRef, check_bounds};
use super::globals::{Class, Global, shown};
use super::machine::{Id, Values};

/// One value. Containers hold numbers of values.
#[derive(Clone, Debug)]
pub(super) enum Node {
    None,
    Int(i64),
    Text(String),
    /// A tuple or a list.
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(Box<WeightRef>),
    /// A tensor without elements, and the class that it was made as.
    Wrapper(Class),
    Object(Box<Object>),
    /// A value that nothing here asks about.
    Other,
}

/// A storage among the entries of the weight's own zip.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// The dtype of its elements, where the storage says it.
    dtype: Option<ScalarType>,
    entry: String,
    bytes: MappedBytes,
}

/// A tensor subclass: its class and its attributes, names and values.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub class: Class,
    pub attributes: Vec<(Id, Id)>,
}

/// The most attributes of an object.
const MAX_ATTRIBUTES: usize = 64;

/// What a call gives.
pub(super) enum Made {
    New(Node),
    /// A value that there is.
    Same(Id),
}

/// What a machine asks of the world around it.
pub(super) trait Maker {
    /// The storage that a persistent id names.
    fn storage(&self, values: &Values, id: Id) -> Result<Node, String>;

    /// What a global gives for arguments.
    fn call(&self, values: &Values, global: Global, args: &[Id]) -> Result<Made, String>;
}

/// The maker of values over one weight's zip.
pub(super) struct Tensors<'a> {
    /// The weight's name.
    pub fqn: &'a str,
    /// The bytes of the storage with that key, and its entry's name.
    pub storage: &'a dyn Fn(&str) -> Option<(String, MappedBytes)>,
}

impl Maker for Tensors<'_> {
    /// `('storage', class, key, device, number of elements)`.
    fn storage(&self, values: &Values, id: Id) -> Result<Node, String> {
        let wrong = || "a persistent id is not a storage's".to_owned();
        let Node::Tuple(items) = values.get(id) else {
            return Err(wrong());
        };
        let [kind, class, key, _, _] = items.as_slice() else {
            return Err(wrong());
        };
        let (Node::Text(kind), Node::Global(Global::Storage(dtype)), Node::Text(key)) =
            (values.get(*kind), values.get(*class), values.get(*key))
        else {
            return Err(wrong());
        };
        if kind != "storage" {
            return Err(wrong());
        }
        let found = (self.storage)(key);
        let (entry, bytes) =
            found.ok_or_else(|| format!("the storage `{}` is not there", shown(key)))?;
        Ok(Node::Storage(Storage {
            dtype: *dtype,
            entry,
            bytes,
        }))
    }

    fn call(&self, values: &Values, global: Global, args: &[Id]) -> Result<Made, String> {
        let arg = |n: usize| args.get(n).map_or(&Node::None, |id| values.get(*id));
        match global {
            Global::Nothing => Ok(Made::New(Node::Other)),
            Global::Size | Global::Parameter => args
                .first()
                .map(|id| Made::Same(*id))
                .ok_or_else(|| "a call without arguments".to_owned()),
            Global::Wrapper => match arg(0) {
                Node::Global(Global::Class(class)) => Ok(Made::New(Node::Wrapper(*class))),
                _ => Err("a tensor of an unknown class".to_owned()),
            },
            Global::Tensor | Global::TypedTensor => {
                let Node::Storage(storage) = arg(0) else {
                    return Err("a tensor without a storage".to_owned());
                };
                let dtype = match (arg(6), storage.dtype) {
                    (Node::Global(Global::Dtype(dtype)), _) if global == Global::TypedTensor => {
                        *dtype
                    }
                    (_, Some(dtype)) => dtype,
                    _ => return Err("a tensor without a dtype".to_owned()),
                };
                let weight = WeightRef {
                    fqn: self.fqn.to_owned(),
                    dtype,
                    sizes: sizes(values, arg(2))?,
                    strides: sizes(values, arg(3))?,
                    storage_offset: size(arg(1))?,
                    entry: storage.entry.clone(),
                    storage: storage.bytes.clone(),
                };
                check_bounds(&weight)?;
                Ok(Made::New(Node::Tensor(Box::new(weight))))
            }
            // `(function, type, its arguments, attributes)`.
            Global::FromType => {
                let (Node::Global(function), Node::Tuple(inner)) = (arg(0), arg(2)) else {
                    return Err("a tensor that is made by no known function".to_owned());
                };
                if *function == Global::FromType {
                    return Err("a tensor that is made of one that is made so".to_owned());
                }
                match self.call(values, *function, inner)? {
                    Made::New(Node::Wrapper(class)) => {
                        if !matches!(arg(1), Node::Global(Global::Class(other)) if *other == class)
                        {
                            return Err("a tensor of two classes".to_owned());
                        }
                        let attributes = attributes(values, arg(3))?;
                        Ok(Made::New(Node::Object(Box::new(Object {
                            class,
                            attributes,
                        }))))
                    }
                    other => Ok(other),
                }
            }
            Global::Storage(_) | Global::Dtype(_) | Global::Int(_) | Global::Class(_) => {
                Err(format!("{global:?} is called"))
            }
        }
    }
}

/// The attributes of an object: a dictionary, or a tuple of one and of slots.
fn attributes(values: &Values, state: &Node) -> Result<Vec<(Id, Id)>, String> {
    let state = match state {
        Node::Tuple(items) => items.first().map_or(&Node::None, |id| values.get(*id)),
        other => other,
    };
    match state {
        Node::Dict(items) if items.len() <= MAX_ATTRIBUTES => Ok(items.clone()),
        Node::Dict(items) => Err(format!("a tensor with {} attributes", items.len())),
        _ => Err("a tensor without attributes".to_owned()),
    }
}

/// A number of elements.
fn size(node: &Node) -> Result<usize, String> {
    match node {
        Node::Int(n) => usize::try_from(*n).map_err(|_| format!("{n} where a size belongs")),
        _ => Err("a size that is no integer".to_owned()),
    }
}

/// Numbers of elements.
pub(super) fn sizes(values: &Values, node: &Node) -> Result<Vec<usize>, String> {
    match node {
        Node::Tuple(items) if items.len() <= super::super::exported::MAX_RANK => {
            items.iter().map(|id| size(values.get(*id))).collect()
        }
        _ => Err("sizes that are no short list".to_owned()),
    }
}
