//! The instruction table: against the schema, and what follows from it.

use fuseline_program::instr::{
    BuildError, Field, FieldKind, FieldProblem, InstrInfo, IntOrVid, Role, Slot, SlotMut,
    instruction_table,
};
use fuseline_program::{Instruction, ScalarType, Tid, Vid};

const SCHEMA: &str = include_str!("../../schema/mlx.fbs");

/// A field of a table of the schema: name, type, default, whether it is required.
type SchemaField = (String, String, Option<String>, bool);

fn schema_table(name: &str) -> Vec<SchemaField> {
    let start = SCHEMA
        .find(&format!("table {name} {{"))
        .unwrap_or_else(|| panic!("the schema has no {name}"));
    let body = SCHEMA[start..]
        .split_once('{')
        .unwrap()
        .1
        .split_once('}')
        .unwrap()
        .0;
    let field = |text: &str| {
        let (name, rest) = text.split_once(':').unwrap();
        let required = rest.contains("(required)");
        let rest = rest.replace("(required)", "");
        let (ty, default) = match rest.split_once('=') {
            Some((ty, default)) => (ty.trim().to_owned(), Some(default.trim().to_owned())),
            None => (rest.trim().to_owned(), None),
        };
        (name.trim().to_owned(), ty, default, required)
    };
    body.split(';')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(field)
        .collect()
}

fn schema_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Tid => "Tid",
        FieldKind::Vid => "Vid",
        FieldKind::Tids => "[Tid]",
        FieldKind::I32 => "int32",
        FieldKind::U32 => "uint32",
        FieldKind::U64 => "uint64",
        FieldKind::I8s | FieldKind::DTypes => "[int8]",
        FieldKind::I32s => "[int32]",
        FieldKind::F32 => "float",
        FieldKind::Bool => "bool",
        FieldKind::Str => "string",
        FieldKind::Strs => "[string]",
        FieldKind::DType => "int8",
        FieldKind::IntOrVid => "IntOrVid",
        FieldKind::IntOrVids => "[IntOrVid]",
        FieldKind::FloatOrVid => "FloatOrVid",
        FieldKind::VidOrTid => "VidOrTid",
        FieldKind::IntOrVidOrTid => "IntOrVidOrTid",
    }
}

#[test]
fn table_has_the_union_of_the_schema() {
    let union = SCHEMA
        .split_once("union OpNode {")
        .unwrap()
        .1
        .split_once('}')
        .unwrap()
        .0;
    let nodes: Vec<&str> = union.split(',').map(str::trim).collect();
    assert_eq!(nodes.len(), 136);
    let rows: Vec<&str> = instruction_table().iter().map(|row| row.node).collect();
    assert_eq!(rows, nodes);
    for (at, row) in instruction_table().iter().enumerate() {
        assert_eq!(usize::from(row.number), at + 1, "{}", row.name);
    }
}

#[test]
fn rows_have_the_fields_of_the_schema() {
    for row in instruction_table() {
        let fields = schema_table(row.node);
        assert_eq!(row.fields.len(), fields.len(), "{}", row.name);
        for (info, (name, ty, default, required)) in row.fields.iter().zip(fields) {
            let place = format!("{}.{name}", row.name);
            assert_eq!(info.name, name, "{place}");
            assert_eq!(schema_type(info.kind), ty, "{place}");
            assert!(
                !(required && info.default.is_some()),
                "{place} is required and has a default"
            );
            let content = info.default.map(|make| make());
            match default.as_deref() {
                None => {}
                Some("null") => assert_eq!(content, Some(Field::None), "{place}"),
                Some(text) => {
                    let wanted = match info.kind {
                        FieldKind::F32 => Field::F32(text.parse().unwrap()),
                        FieldKind::Bool => Field::Bool(text.parse().unwrap()),
                        _ => Field::Int(text.parse().unwrap()),
                    };
                    assert_eq!(content, Some(wanted), "{place}");
                }
            }
        }
    }
}

/// An instruction with something in every field, and slots wherever a number may come from one.
pub fn filled(row: &InstrInfo) -> Instruction {
    let fill = |kind| match kind {
        FieldKind::Tid => Field::Tid(Tid(7)),
        FieldKind::Vid => Field::Vid(Vid(3)),
        FieldKind::Tids => Field::Tids(vec![Tid(1), Tid(2)]),
        FieldKind::I32 | FieldKind::U32 | FieldKind::U64 => Field::Int(2),
        FieldKind::I8s | FieldKind::I32s => Field::Ints(vec![1, 0]),
        FieldKind::F32 => Field::F32(0.5),
        FieldKind::Bool => Field::Bool(true),
        FieldKind::Str => Field::Str("text".to_owned()),
        FieldKind::Strs => Field::Strs(vec!["a".to_owned()]),
        FieldKind::DType => Field::DType(ScalarType::BF16),
        FieldKind::DTypes => Field::DTypes(vec![ScalarType::F32]),
        FieldKind::IntOrVid => Field::IntOrVid(IntOrVid::Vid(Vid(1))),
        FieldKind::IntOrVids => Field::IntOrVids(vec![IntOrVid::Int(4), IntOrVid::Vid(Vid(1))]),
        FieldKind::FloatOrVid | FieldKind::VidOrTid | FieldKind::IntOrVidOrTid => {
            Field::Vid(Vid(9))
        }
    };
    let fields: Vec<(&str, Field)> = row
        .fields
        .iter()
        .map(|info| (info.name, fill(info.kind)))
        .collect();
    Instruction::build(row.name, &fields).unwrap()
}

#[test]
fn every_instruction_builds_from_its_own_fields() {
    for row in instruction_table() {
        let built = filled(row);
        assert_eq!(built.info().name, row.name);
        let again: Vec<(&str, Field)> = built
            .fields()
            .into_iter()
            .map(|(info, content)| (info.name, content))
            .collect();
        assert_eq!(Instruction::build(row.name, &again).unwrap(), built);
        let of_slots = |role: fn(Role) -> bool| row.fields.iter().any(|info| role(info.role));
        assert_eq!(
            !built.reads().is_empty(),
            of_slots(Role::reads),
            "{}",
            row.name
        );
        assert_eq!(
            !built.writes().is_empty(),
            of_slots(Role::writes),
            "{}",
            row.name
        );
    }
}

#[test]
fn defaults_fill_in_and_the_text_leaves_them_out() {
    let fields = [
        ("x", Tid(3).into()),
        ("out", Tid(4).into()),
        ("eps", 1e-5_f64.into()),
    ];
    let norm = Instruction::build("RmsNorm", &fields).unwrap();
    assert_eq!(norm.to_string(), "%4 = RmsNorm(x=%3, eps=1e-5)");
    assert_eq!(norm.reads(), [Slot::Tensor(Tid(3))]);
    assert_eq!(norm.writes(), [Slot::Tensor(Tid(4))]);
}

#[test]
fn building_refuses_what_the_row_does_not_say() {
    let x = || ("x", Field::Tid(Tid(0)));
    let out = || ("out", Field::Tid(Tid(1)));
    let unknown = Instruction::build("Convolve", &[]).unwrap_err();
    assert!(
        matches!(unknown, BuildError::UnknownInstruction { .. }),
        "{unknown}"
    );
    let unknown = Instruction::build("Exp", &[x(), out(), ("y", Field::Int(1))]).unwrap_err();
    assert!(
        matches!(
            unknown,
            BuildError::UnknownField {
                instruction: "Exp",
                ..
            }
        ),
        "{unknown}"
    );
    let missing = Instruction::build("Exp", &[x()]).unwrap_err();
    assert_eq!(
        missing,
        BuildError::MissingField {
            instruction: "Exp",
            field: "out"
        }
    );
    let twice = Instruction::build("Exp", &[x(), x(), out()]).unwrap_err();
    assert_eq!(
        twice,
        BuildError::RepeatedField {
            instruction: "Exp",
            field: "x"
        }
    );
    let none = Instruction::build("Exp", &[("x", Field::None), out()]).unwrap_err();
    assert!(
        matches!(
            none,
            BuildError::BadField {
                problem: FieldProblem::WrongKind,
                ..
            }
        ),
        "{none}"
    );
    let wide =
        Instruction::build("Softmax", &[x(), out(), ("axis", Field::Int(1 << 40))]).unwrap_err();
    assert!(
        matches!(
            wide,
            BuildError::BadField {
                problem: FieldProblem::OutOfRange,
                ..
            }
        ),
        "{wide}"
    );
    let huge =
        Instruction::build("RmsNorm", &[x(), out(), ("eps", Field::F64(1e300))]).unwrap_err();
    assert!(
        matches!(
            huge,
            BuildError::BadField {
                problem: FieldProblem::OutOfRange,
                ..
            }
        ),
        "{huge}"
    );
}

#[test]
fn slots_can_be_renumbered() {
    let fields = [
        ("dst", Tid(2).into()),
        ("update", Tid(5).into()),
        ("out", Tid(2).into()),
        ("axis", 2_i64.into()),
        ("start", Vid(0).into()),
        ("stop", Vid(1).into()),
    ];
    let mut update = Instruction::build("SliceUpdate", &fields).unwrap();
    update.for_each_slot_mut(|slot| match slot {
        SlotMut::Tensor(tid) => tid.0 += 10,
        SlotMut::Value(vid) => vid.0 += 20,
    });
    assert_eq!(
        update.to_string(),
        "%12 = SliceUpdate(dst=%12, update=%15, axis=2, start=%v20, stop=%v21)"
    );
    update.for_each_write_mut(|slot| {
        if let SlotMut::Tensor(tid) = slot {
            *tid = Tid(99);
        }
    });
    assert_eq!(update.writes(), [Slot::Tensor(Tid(99))]);
    update.for_each_read_mut(|slot| {
        if let SlotMut::Value(vid) = slot {
            *vid = Vid(0);
        }
    });
    assert_eq!(
        update.to_string(),
        "%99 = SliceUpdate(dst=%12, update=%15, axis=2, start=%v0, stop=%v0)"
    );
}
