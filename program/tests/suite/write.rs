//! Writing: how a file lies, what is shared, and what happens when it can't be written.

use std::fs;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use fuseline_program::{Data, Fault, NamedData, Payload, Program, Pte, Storage, Value, WriteError};

fn bytes_of(program: &Program<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = program.write(&mut bytes).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    bytes
}

#[test]
fn a_program_comes_back_as_it_was() {
    let program = crate::common::sample();
    let bytes = bytes_of(&program);
    let pte = Pte::parse(&bytes).unwrap();
    pte.validate().unwrap();
    assert_eq!(pte.program, program);
    assert_eq!(
        bytes,
        bytes_of(&program),
        "the same program, the same bytes"
    );
}

#[test]
fn the_file_lies_as_executorch_wants_it() {
    let bytes = bytes_of(&crate::common::sample());
    assert_eq!(&bytes[4..8], b"ET12");
    assert_eq!(&bytes[8..12], b"eh00");
    let pte = Pte::parse(&bytes).unwrap();
    assert_eq!(pte.header.segment_base % 128, 0);
    // The constants, two delegates, and one segment for the two weights of equal content.
    let holds: Vec<String> = pte
        .segments
        .iter()
        .map(|segment| segment.holds.join(", "))
        .collect();
    let delegates = ["delegate 0 of \"forward\"", "delegate 1 of \"forward\""];
    assert_eq!(
        holds,
        [
            "constants",
            delegates[0],
            delegates[1],
            "\"0000/first\", \"0000/second\""
        ]
    );
    for segment in &pte.segments {
        assert_eq!(segment.offset % 128, 0);
    }
    let last = pte.segments.last().unwrap();
    assert_eq!(
        pte.header.segment_base + last.offset + last.size,
        bytes.len() as u64
    );
}

#[test]
fn planned_memory_is_shared_only_by_lives_that_do_not_meet() {
    let program = crate::common::sample();
    let method = &program.methods[0];
    let offset = |value: usize| match &method.values[value] {
        Value::Tensor(tensor) => match tensor.storage {
            Storage::Planned {
                arena: 1, offset, ..
            } => offset,
            other => panic!("value {value} is in {other:?}"),
        },
        other => panic!("value {value} is {other:?}"),
    };
    // Values 1 and 2 meet in the kernel call; input and output keep their places.
    let offsets: Vec<u64> = (0..4).map(offset).collect();
    assert_eq!(offsets, [0, 256, 512, 768]);
    assert_eq!(method.arenas, [0, 1024]);
}

#[test]
fn data_is_made_when_it_is_written_and_one_at_a_time() {
    let made = AtomicU32::new(0);
    let mut program = crate::common::sample();
    let weight = program.named_data[0].data.bytes().unwrap().into_owned();
    program.named_data.push(NamedData {
        key: "made".to_owned(),
        data: Data::made(3, |range| {
            made.fetch_add(1, Ordering::Relaxed);
            Ok([1, 2, 3][range].to_vec())
        }),
    });
    let bytes = bytes_of(&program);
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let pte = Pte::parse(&bytes).unwrap();
    assert_eq!(
        pte.program.named("made").and_then(Data::as_borrowed),
        Some(&[1, 2, 3][..])
    );
    assert_eq!(
        pte.program.named("0000/second").and_then(Data::as_slice),
        Some(&weight[..])
    );
}

#[test]
fn data_of_equal_length_and_ends_is_told_apart() {
    let mut program = Program::default();
    let mut bytes = vec![0_u8; 20_000];
    for (key, middle) in [("a", 1), ("b", 2), ("c", 1)] {
        bytes[10_000] = middle;
        program.named_data.push(NamedData {
            key: key.to_owned(),
            data: Data::owned(bytes.clone()),
        });
    }
    let file = bytes_of(&program);
    let pte = Pte::parse(&file).unwrap();
    assert_eq!(pte.program, program);
    assert_eq!(pte.segments.len(), 3);
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pte");
    fs::write(&path, "what was there before").unwrap();
    let mut program = crate::common::sample();
    let data = Data::made(16, |_| Err(io::Error::other("the weights are gone")));
    program.named_data[1].data = data;
    let error = program.write_file(&path).unwrap_err();
    assert!(
        matches!(&error, WriteError::Data { key, .. } if key == "0000/second"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"what was there before");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );

    let program = crate::common::sample();
    program.write_file(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes_of(&program));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn output_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let program = crate::common::sample();
    for path in [
        folder.path().join("no/such/folder/model.pte"),
        folder.path().to_owned(),
    ] {
        let error = program.write_file(&path).unwrap_err();
        assert!(
            matches!(&error, WriteError::Output { path: named, .. } if *named == path),
            "{error}"
        );
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

/// A disk with room for so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_happens() {
    let program = crate::common::sample();
    let size = bytes_of(&program).len();
    for room in 0..size {
        let error = program.write(&mut Full(room)).unwrap_err();
        let full = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
        assert!(
            matches!(&error, WriteError::Output { source, .. } if full(source)),
            "{room}: {error}"
        );
    }
    program.write(&mut Full(size)).unwrap();
}

#[test]
fn a_program_that_could_not_be_read_back_is_not_written() {
    let mut program = crate::common::sample();
    let Payload::Mlx(graph) = &mut program.methods[0].delegates[1].payload else {
        panic!("not an MLX delegate")
    };
    graph.chains[0].swap(0, 1);
    let error = program.write(&mut io::sink()).unwrap_err();
    let WriteError::Program(error) = error else {
        panic!("{error}")
    };
    assert!(matches!(error.fault(), Fault::Undefined { .. }), "{error}");
    let place = "method \"forward\", delegate 1, chain 0, instruction 0 (Multiply): %t0 is read before it is written";
    assert_eq!(error.to_string(), place);
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_written_to_not_replaced() {
    let program = crate::common::sample();
    program
        .write_file(std::path::Path::new("/dev/null"))
        .unwrap();
    let error = program
        .write_file(std::path::Path::new("/dev/full"))
        .unwrap_err();
    assert!(
        error.to_string().starts_with("can't write /dev/full: "),
        "{error}"
    );
    for device in ["/dev/null", "/dev/full"] {
        assert!(!fs::metadata(device).unwrap().is_file(), "{device}");
    }
}
