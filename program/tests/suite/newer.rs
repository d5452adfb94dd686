//! Files of schemas that are newer than this crate's: each is refused with the name of what is not known.

use fuseline_program::{Fault, FormatError, MlxGraph, Ptd, Pte};

/// Bytes of the header of a delegate.
const HEADER: usize = 24;

/// The delegate of [`crate::common::scaled_exp`], and what a reader of FlatBuffers does to find places in it.
struct Blob(Vec<u8>);

impl Blob {
    fn new() -> Self {
        Self(crate::common::scaled_exp("w").to_blob().unwrap())
    }

    fn u16(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes(self.0[at..at + 2].try_into().unwrap()))
    }

    fn u32(&self, at: usize) -> usize {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap()) as usize
    }

    /// Where the offset at `at` leads to.
    fn follow(&self, at: usize) -> usize {
        at + self.u32(at)
    }

    fn root(&self) -> usize {
        self.follow(HEADER)
    }

    fn entries(&self, table: usize) -> usize {
        let back = i32::from_le_bytes(self.0[table..table + 4].try_into().unwrap());
        table.checked_add_signed(-(back as isize)).unwrap()
    }

    /// Where a field of a table is.
    fn field(&self, table: usize, field: usize) -> usize {
        table + self.u16(self.entries(table) + 4 + 2 * field)
    }

    /// The table in a vector of tables.
    fn item(&self, vector: usize, item: usize) -> usize {
        self.follow(vector + 4 + 4 * item)
    }

    /// An instruction of the first chain.
    fn instruction(&self, at: usize) -> usize {
        let chains = self.follow(self.field(self.root(), 7));
        let chain = self.item(chains, 0);
        self.item(self.follow(self.field(chain, 0)), at)
    }

    /// Gives a table one field more than the `known` ones of its schema.
    fn add_field(&mut self, table: usize, known: usize) {
        let entries = self.entries(table);
        let length = self.u16(entries);
        let mut bytes = self.0[entries..entries + length].to_vec();
        bytes.resize(4 + 2 * known, 0);
        bytes.extend_from_slice(&4_u16.to_le_bytes());
        let new = bytes.len() as u16;
        bytes[..2].copy_from_slice(&new.to_le_bytes());
        let back = table as i32 - self.0.len() as i32;
        self.0[table..table + 4].copy_from_slice(&back.to_le_bytes());
        self.0.extend_from_slice(&bytes);
        self.0.resize(self.0.len().next_multiple_of(16), 0);
        let end = self.0.len() as u64;
        self.0[8..16].copy_from_slice(&end.to_le_bytes());
    }

    fn refused(&self) -> FormatError {
        MlxGraph::from_blob(&self.0).unwrap_err()
    }
}

#[test]
fn a_node_that_is_not_known_is_named_by_number() {
    for number in [137, 255] {
        let mut blob = Blob::new();
        let tag = blob.field(blob.instruction(1), 0);
        blob.0[tag] = number;
        assert_eq!(
            blob.refused().to_string(),
            format!(
                "chain 0, instruction 1: no instruction has the number {number}: as of ExecuTorch 1.5.1 there are 136"
            )
        );
    }
}

#[test]
fn a_field_that_is_not_known_is_named_with_its_table() {
    let blob = Blob::new();
    let instruction = blob.instruction(0);
    let node = blob.follow(blob.field(instruction, 1));
    let meta = blob.item(blob.follow(blob.field(blob.root(), 14)), 1);
    let dim = blob.item(blob.follow(blob.field(meta, 0)), 0);
    let slot = blob.item(blob.follow(blob.field(blob.root(), 10)), 0);
    for (table, known, place, name) in [
        (blob.root(), 15, "", "MLXGraph"),
        (instruction, 2, "chain 0, instruction 0: ", "Instruction"),
        (node, 2, "chain 0, instruction 0: ", "ExpNode"),
        (meta, 3, "tensor 1: ", "TensorMeta"),
        (dim, 3, "tensor 1: ", "ShapeDim"),
        (slot, 2, "inputs: ", "SlotVariant"),
    ] {
        let mut blob = Blob::new();
        blob.add_field(table, known);
        assert_eq!(
            blob.refused().to_string(),
            format!(
                "{place}{name} has a field {}, and as of ExecuTorch 1.5.1 it has {known}: the file is newer than what is known",
                known + 1
            )
        );
    }
}

#[test]
fn other_versions_are_named() {
    let mut blob = Blob::new();
    let version = blob.follow(blob.field(blob.root(), 0));
    blob.0[version + 4] = b'2';
    assert_eq!(
        blob.refused().to_string(),
        "the program of an MLX delegate of version 2: only 1 is known"
    );
    let mut blob = Blob::new();
    blob.0[4..8].copy_from_slice(b"MLX1");
    assert_eq!(
        blob.refused().to_string(),
        "an MLX delegate of version MLX1: only MLX0 is known"
    );
    for (at, found, said) in [
        (
            4,
            b"ET13",
            "header: an ExecuTorch program of version ET13: only ET12 is known",
        ),
        (
            8,
            b"eh01",
            "header: an ExecuTorch program with an extended header of version eh01: only eh00 is known",
        ),
    ] {
        let mut file = crate::common::fixture("kv_cache.pte");
        file[at..at + 4].copy_from_slice(found);
        assert_eq!(Pte::parse(&file).unwrap_err().to_string(), said);
        assert!(Pte::is_one(&file));
    }
}

#[test]
fn other_bytes_are_no_version() {
    for found in [b"ET1", b"XT13".as_slice(), b"PK\x03\x04", b"ETxx", b"FT01"] {
        let mut file = crate::common::fixture("kv_cache.pte");
        file[4..4 + found.len()].copy_from_slice(found);
        if found.len() < 4 {
            file[7] = 0xff;
        }
        let error = Pte::parse(&file).unwrap_err();
        let other = matches!(error.fault(), Fault::Magic { .. } | Fault::OtherKind { .. });
        assert!(other, "{error}");
        assert!(!Pte::is_one(&file));
        assert_eq!(Ptd::is_one(&file), found == b"FT01");
    }
}
