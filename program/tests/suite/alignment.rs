//! Payloads as a reader that verifies alignment takes them: everything lies at a multiple of its size. C++'s FlatBuffers
//! insists on that and ExecuTorch's delegate verifies with it; Rust's takes structs from anywhere.

use std::collections::BTreeMap;

use fuseline_program::instr::instruction_table;

use crate::instructions::filled;

const SCHEMA: &str = include_str!("../../schema/mlx.fbs");

/// The types of each table's fields, and the members of each union, in order.
struct Schema(BTreeMap<String, Vec<String>>);

impl Schema {
    fn new() -> Self {
        let text: String = SCHEMA
            .lines()
            .map(|line| line.split("//").next().unwrap())
            .collect();
        let mut rows = BTreeMap::new();
        for (keyword, end) in [("table ", ';'), ("union ", ',')] {
            for part in text.split(keyword).skip(1) {
                let (name, rest) = part.split_once('{').unwrap();
                let body = rest.split_once('}').unwrap().0;
                let ty = |item: &str| {
                    let ty = item.split_once(':').map_or(item, |(_, ty)| ty);
                    ty.split(['=', '(']).next().unwrap().trim().to_owned()
                };
                let items = body.split(end).filter(|item| !item.trim().is_empty());
                rows.insert(name.trim().to_owned(), items.map(ty).collect());
            }
        }
        Self(rows)
    }
}

struct Walk<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    /// How many values of each type were seen.
    seen: BTreeMap<String, usize>,
}

impl Walk<'_> {
    fn u16(&self, at: usize) -> usize {
        u16::from_le_bytes(self.bytes[at..at + 2].try_into().unwrap()).into()
    }

    fn u32(&self, at: usize) -> usize {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn aligned(&mut self, at: usize, to: usize, place: &str, ty: &str) {
        assert_eq!(at % to, 0, "{place}: {ty} at {at}");
        *self.seen.entry(ty.to_owned()).or_default() += 1;
    }

    /// A value of a type that lies in a table or vector, by offset or itself.
    fn value(&mut self, ty: &str, at: usize, place: &str) {
        if let Some(item) = ty.strip_prefix('[') {
            let (item, target) = (item.trim_end_matches(']'), at + self.u32(at));
            self.aligned(target, 4, place, "vector");
            for number in 0..self.u32(target) {
                self.value(item, target + 4 + number * size(item), place);
            }
        } else if ty == "string" {
            self.aligned(at + self.u32(at), 4, place, ty);
        } else if self.schema.0.contains_key(ty) {
            self.table(ty, at + self.u32(at));
        } else {
            self.aligned(at, size(ty), place, ty);
        }
    }

    fn table(&mut self, name: &str, at: usize) {
        self.aligned(at, 4, name, name);
        let vtable = at.wrapping_add_signed(-(self.u32(at) as u32).cast_signed() as isize);
        self.aligned(vtable, 2, name, "vtable");
        let schema = self.schema;
        let mut slot = 4;
        for ty in &schema.0[name] {
            let place = |slot: usize| (slot < self.u16(vtable)).then(|| self.u16(vtable + slot));
            let offset = place(slot).filter(|offset| *offset > 0);
            if ty == "OpNode" {
                let (kind, value) = (offset.unwrap(), place(slot + 2).unwrap());
                let member = &schema.0[ty][usize::from(self.bytes[at + kind]) - 1];
                self.table(member, at + value + self.u32(at + value));
                slot += 2;
            } else if let Some(offset) = offset {
                self.value(ty, at + offset, name);
            }
            slot += 2;
        }
    }
}

/// The bytes that a value takes in a vector.
fn size(ty: &str) -> usize {
    match ty {
        "bool" | "int8" | "uint8" | "SlotType" => 1,
        "int64" | "uint64" | "double" => 8,
        _ => 4,
    }
}

#[test]
fn every_field_of_every_instruction_is_aligned() {
    let schema = Schema::new();
    let mut seen = BTreeMap::new();
    for row in instruction_table() {
        let mut graph = crate::common::scaled_exp("0000/first");
        graph.chains = vec![vec![filled(row), filled(row)]];
        let blob = graph.to_blob().unwrap();
        let bytes = &blob[24..];
        let mut walk = Walk {
            schema: &schema,
            bytes,
            seen,
        };
        walk.table("MLXGraph", walk.u32(0));
        seen = walk.seen;
    }
    for ty in [
        "Tid",
        "Vid",
        "IntOrVid",
        "FloatOrVid",
        "VidOrTid",
        "IntOrVidOrTid",
        "uint64",
    ] {
        assert!(seen.contains_key(ty), "no {ty}");
    }
}
