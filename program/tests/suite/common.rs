//! Programs made by hand, and files made by ExecuTorch.

use std::fs;
use std::path::{Path, PathBuf};

use fuseline_program::{
    Call, Data, Delegate, Dim, Instruction, IoSlot, Method, MlxGraph, NamedData, NamedSlot,
    Operator, Program, ScalarType, SlotCounts, Storage, TensorMeta, TensorValue, Tid, Value,
};

/// Files that ExecuTorch 1.5.1 made: the ones of this crate, and those of the operator cases.
pub fn executorch_files() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = read_dir(&here.join("tests/fixtures"));
    let folders = ["et_ops", "executorch"].map(|name| here.join("../tests/fixtures").join(name));
    // Those with weights in other files are no whole programs.
    let alone = |case: &PathBuf| {
        !read_dir(case)
            .iter()
            .any(|f| f.extension() == Some("ptd".as_ref()))
    };
    for case in folders
        .iter()
        .flat_map(|folder| read_dir(folder))
        .filter(alone)
    {
        let file = case.join("model.pte");
        if file.exists() {
            files.push(file);
        }
    }
    assert!(
        files.len() > 50,
        "the fixtures are not where they should be"
    );
    files
}

fn read_dir(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}

/// The bytes of one of this crate's fixtures.
pub fn fixture(name: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name),
    )
    .unwrap()
}

/// `out = exp(x) · weight` over up to 16 rows.
pub fn scaled_exp(key: &str) -> MlxGraph {
    let rows = Dim::Dynamic {
        min: 1,
        max: Some(16),
    };
    let shape = vec![rows, Dim::Static(4)];
    let matrix = TensorMeta {
        dtype: ScalarType::F32,
        shape,
    };
    let (weight, x, out, temp) = (Tid(0), Tid(1), Tid(2), Tid(3));
    let exp = Instruction::build("Exp", &[("x", x.into()), ("out", temp.into())]);
    let product = [
        ("a", temp.into()),
        ("b", weight.into()),
        ("out", out.into()),
    ];
    MlxGraph {
        counts: SlotCounts {
            constants: 1,
            inputs: 1,
            outputs: 1,
            temps: 1,
            ..SlotCounts::default()
        },
        chains: vec![vec![
            exp.unwrap(),
            Instruction::build("Multiply", &product).unwrap(),
        ]],
        main_chain: 0,
        init_chain: None,
        inputs: vec![IoSlot::Tensor(x)],
        outputs: vec![IoSlot::Tensor(out)],
        state: Vec::new(),
        names: vec![NamedSlot {
            name: key.to_owned(),
            slot: IoSlot::Tensor(weight),
        }],
        tensors: vec![
            TensorMeta::fixed(ScalarType::F32, &[4]),
            matrix.clone(),
            matrix,
        ],
    }
}

fn tensor(storage: Storage) -> Value {
    Value::Tensor(TensorValue {
        dtype: ScalarType::F32,
        sizes: vec![16, 4],
        dynamic: true,
        storage,
    })
}

/// Two delegates, and between them a call of the host's `aten::add.out` with a constant tensor.
pub fn sample() -> Program<'static> {
    let weight: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let bias = TensorValue {
        dtype: ScalarType::F32,
        sizes: vec![1],
        dynamic: false,
        storage: Storage::Constant(0),
    };
    let caller = || tensor(Storage::Caller);
    let values = vec![
        caller(),
        caller(),
        caller(),
        caller(),
        Value::Tensor(bias),
        Value::Int(1),
        Value::None,
    ];
    let mut method = Method {
        name: "forward".to_owned(),
        values,
        inputs: vec![0],
        outputs: vec![3],
        chains: vec![vec![
            Call::Delegate {
                delegate: 0,
                args: vec![0, 1],
            },
            Call::Kernel {
                operator: 0,
                args: vec![1, 4, 5, 2, 2],
            },
            Call::Delegate {
                delegate: 1,
                args: vec![2, 3],
            },
        ]],
        operators: vec![Operator {
            name: "aten::add".to_owned(),
            overload: "out".to_owned(),
        }],
        delegates: vec![
            Delegate::mlx(scaled_exp("0000/first")),
            Delegate::mlx(scaled_exp("0000/second")),
        ],
        ..Method::default()
    };
    method.plan_memory().unwrap();
    let named = |key: &str| NamedData {
        key: key.to_owned(),
        data: Data::owned(weight.clone()),
    };
    Program {
        methods: vec![method],
        constants: vec![Data::owned(0.5_f32.to_le_bytes().to_vec())],
        named_data: vec![named("0000/first"), named("0000/second")],
    }
}
