//! The fields of an instruction: operands become slots, sizes become numbers or value slots.

use super::{Place, Segment, dtype};
use crate::emit::dims::{DimError, Source};
use crate::emit::error::EmitError;
use crate::emit::segment::ConstantSource;
use fuseline_ir::lower::{Field as IrField, Inst, Operand};
use fuseline_ir::{DType, Dim, Node, Op, Scalar, TensorType, Type, Value};
use fuseline_program::instr::{
    Field, FieldKind, FloatOrVid, Instruction, IntOrVid, IntOrVidOrTid, Tid, Vid, VidOrTid,
    instruction_table,
};
use std::collections::BTreeMap;

impl Segment<'_> {
    /// Computes every size that an instruction names, so that the fields find them known.
    pub(super) fn sizes(
        &mut self,
        value: Value,
        node: &Node,
        inst: &Inst,
        hoisted: bool,
    ) -> Result<(), EmitError> {
        for (_, field) in &inst.fields {
            match field {
                IrField::Dim(dim) => {
                    self.dim(value, dim, hoisted)?;
                }
                IrField::Dims(dims) => {
                    for dim in dims {
                        self.dim(value, dim, hoisted)?;
                    }
                }
                IrField::Value(Operand::Arg(n)) => {
                    if let Some(Type::Int(dim)) = node.args.get(*n).map(|a| self.graph.ty(*a)) {
                        self.dim(value, dim, hoisted)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the pieces of one instruction")]
    pub(super) fn instruction(
        &mut self,
        value: Value,
        node: &Node,
        inst: &Inst,
        args: &[Option<Place>],
        out: Option<Place>,
        temps: &mut BTreeMap<usize, Place>,
        hoisted: bool,
    ) -> Result<Instruction, EmitError> {
        let bug = |reason: String| EmitError::Op {
            place: self.graph.describe(value, node),
            reason,
        };
        let info = instruction_table()
            .iter()
            .find(|info| {
                info.node.strip_suffix("Node") == Some(inst.node) || info.name == inst.node
            })
            .ok_or_else(|| bug(format!("no instruction {}", inst.node)))?;
        let mut fields = Vec::new();
        for (name, field) in &inst.fields {
            let kind = info.fields.iter().find(|f| f.name == *name).map(|f| f.kind);
            let kind = kind.ok_or_else(|| bug(format!("{} has no field {name}", inst.node)))?;
            let mut tensor = |this: &mut Self, operand: &Operand| -> Result<Tid, EmitError> {
                let place = match operand {
                    Operand::Arg(n) => args.get(*n).copied().flatten(),
                    Operand::Out(0) => out,
                    Operand::Out(_) => None,
                    Operand::Temp(n) => Some(
                        *temps
                            .entry(*n)
                            .or_insert_with(|| this.chain(hoisted).temps.take()),
                    ),
                };
                place.map(Place::provisional).ok_or_else(|| {
                    this.refuse(
                        value,
                        &format!("{} names {operand:?}, which is no tensor", inst.node),
                    )
                })
            };
            let field = match field {
                IrField::Tensor(Operand::Out(0)) | IrField::Value(Operand::Out(0))
                    if kind == FieldKind::Vid =>
                {
                    let chain = self.chain(hoisted);
                    let vid = chain.dims.value();
                    if let Op::Item(item) = &node.op {
                        chain.dims.define(&item.symbol, Source::Value(vid));
                    }
                    Field::Vid(vid)
                }
                IrField::Tensor(operand) => Field::Tid(tensor(self, operand)?),
                IrField::Tensors(operands) => {
                    let tids = operands
                        .iter()
                        .map(|o| tensor(self, o))
                        .collect::<Result<_, _>>()?;
                    Field::Tids(tids)
                }
                IrField::Value(operand) => {
                    self.value_field(value, node, operand, kind, hoisted, &mut tensor)?
                }
                IrField::Int(n) => Field::Int(*n),
                IrField::Ints(ns) if kind == FieldKind::IntOrVids => {
                    Field::IntOrVids(ns.iter().map(|n| IntOrVid::Int(*n)).collect())
                }
                IrField::Ints(ns) => Field::Ints(ns.clone()),
                IrField::Dim(dim) => match (self.dim(value, dim, hoisted)?, kind) {
                    (IntOrVid::Vid(v), FieldKind::FloatOrVid) => {
                        Field::FloatOrVid(FloatOrVid::Vid(v))
                    }
                    (IntOrVid::Int(n), FieldKind::FloatOrVid) => {
                        Field::FloatOrVid(FloatOrVid::Float(n as f64))
                    }
                    (n, _) => Field::IntOrVid(n),
                },
                IrField::Dims(dims) => {
                    let dims = dims
                        .iter()
                        .map(|d| self.dim(value, d, hoisted))
                        .collect::<Result<_, _>>()?;
                    Field::IntOrVids(dims)
                }
                IrField::Float(x) => float(*x, kind),
                IrField::Scalar(s) => match (s, kind) {
                    (Scalar::Int(n), FieldKind::IntOrVid | FieldKind::IntOrVidOrTid) => {
                        Field::IntOrVid(IntOrVid::Int(*n))
                    }
                    (s, kind) => float(s.as_f64(), kind),
                },
                IrField::Bool(b) => Field::Bool(*b),
                IrField::Str(s) => Field::Str((*s).to_string()),
                IrField::DType(d) => Field::DType(dtype(*d, || self.describe(value))?),
            };
            fields.push((*name, field));
        }
        Instruction::build(info.name, &fields).map_err(|error| EmitError::Instruction {
            place: self.graph.describe(value, node),
            error,
        })
    }

    /// A field that takes a tensor or an integer: which of the two the argument is, its type says.
    fn value_field(
        &mut self,
        value: Value,
        node: &Node,
        operand: &Operand,
        kind: FieldKind,
        hoisted: bool,
        tensor: &mut dyn FnMut(&mut Self, &Operand) -> Result<Tid, EmitError>,
    ) -> Result<Field, EmitError> {
        let ty = match operand {
            Operand::Arg(n) => node.args.get(*n).map(|a| self.graph.ty(*a)),
            _ => None,
        };
        if let Some(Type::Int(dim)) = ty {
            let n = self.dim(value, dim, hoisted)?;
            return Ok(match (kind, n) {
                (FieldKind::VidOrTid, IntOrVid::Int(n)) => {
                    // The field has no room for a literal: the number becomes a constant.
                    let ty = TensorType::new(DType::I64, vec![]);
                    let bytes = ConstantSource::Bytes(n.to_le_bytes().to_vec());
                    let place = self.constant_slot(format!("full.{ty}.{n}"), bytes, &ty)?;
                    Field::VidOrTid(VidOrTid::Tid(place.provisional()))
                }
                (FieldKind::VidOrTid, IntOrVid::Vid(v)) => Field::VidOrTid(VidOrTid::Vid(v)),
                (FieldKind::Vid, n) => Field::Vid(self.vid(value, n, hoisted)?),
                (FieldKind::FloatOrVid, IntOrVid::Vid(v)) => Field::FloatOrVid(FloatOrVid::Vid(v)),
                (FieldKind::FloatOrVid, IntOrVid::Int(n)) => {
                    Field::FloatOrVid(FloatOrVid::Float(n as f64))
                }
                (_, n) => Field::IntOrVid(n),
            });
        }
        let tid = tensor(self, operand)?;
        Ok(match kind {
            FieldKind::VidOrTid => Field::VidOrTid(VidOrTid::Tid(tid)),
            FieldKind::IntOrVidOrTid => Field::IntOrVidOrTid(IntOrVidOrTid::Tid(tid)),
            _ => Field::Tid(tid),
        })
    }

    /// A value slot that holds the number.
    fn vid(&mut self, value: Value, n: IntOrVid, hoisted: bool) -> Result<Vid, EmitError> {
        let chain = self.chain(hoisted);
        chain
            .dims
            .slot(n, &mut chain.instructions)
            .map_err(|error| EmitError::Instruction {
                place: self.describe(value),
                error,
            })
    }

    pub(super) fn dim(
        &mut self,
        value: Value,
        dim: &Dim,
        hoisted: bool,
    ) -> Result<IntOrVid, EmitError> {
        let graph = self.graph;
        self.dim_at(|| graph.describe(value, graph.node(value)), dim, hoisted)
    }

    /// As [`dim`](Self::dim), for what stands at a place that is no value.
    pub(super) fn dim_at(
        &mut self,
        place: impl Fn() -> String,
        dim: &Dim,
        hoisted: bool,
    ) -> Result<IntOrVid, EmitError> {
        let chain = if hoisted {
            &mut self.init
        } else {
            &mut self.main
        };
        chain
            .dims
            .get(dim, &mut chain.instructions)
            .map_err(|e| match e {
                DimError::Symbol(symbol) => EmitError::Symbol {
                    place: place(),
                    dim: dim.to_string(),
                    symbol: symbol.to_string(),
                },
                DimError::Build(error) => EmitError::Instruction {
                    place: place(),
                    error,
                },
            })
    }
}

fn float(x: f64, kind: FieldKind) -> Field {
    match kind {
        FieldKind::F32 => Field::F32(x as f32),
        FieldKind::FloatOrVid => Field::FloatOrVid(FloatOrVid::Float(x)),
        _ => Field::F64(x),
    }
}
