//! What ExecuTorch does not run: of its own files nothing, of ours what is said.

use std::fs;

use fuseline_program::container::UNBOUNDED;
use fuseline_program::executorch::{Reason, refusals};
use fuseline_program::instr::Field;
use fuseline_program::{
    Call, Delegate, Instruction, IoSlot, MlxGraph, NamedSlot, Payload, Program, Pte, ScalarType,
    Storage, TensorMeta, Tid, Value, Vid,
};

/// The reasons, after a change to the sample.
fn reasons(change: impl FnOnce(&mut Program<'static>)) -> Vec<Reason> {
    let mut program = crate::common::sample();
    change(&mut program);
    let refused = refusals(&program).into_iter();
    refused.map(|refusal| refusal.reason).collect()
}

fn with_graph(change: impl FnOnce(&mut MlxGraph)) -> Vec<Reason> {
    reasons(|program| {
        let Payload::Mlx(graph) = &mut program.methods[0].delegates[0].payload else {
            panic!("the sample has other delegates");
        };
        change(graph);
    })
}

/// Puts an instruction before the others of the main chain.
fn with(name: &str, fields: &[(&str, Field)]) -> Vec<Reason> {
    let instruction = Instruction::build(name, fields).unwrap();
    with_graph(|graph| graph.chains[0].insert(0, instruction))
}

#[test]
fn executorch_runs_its_own_files() {
    for file in crate::common::executorch_files() {
        let bytes = fs::read(&file).unwrap();
        // Files without a header, or with kernels alone, are no concern here.
        let Ok(pte) = Pte::parse(&bytes) else {
            continue;
        };
        let mut refused = refusals(&pte.program);
        // Its sampling does read a truth value of one byte as four, and its branches move tensors that nothing writes afterwards.
        refused.retain(|refusal| {
            ![Reason::Narrow(ScalarType::Bool), Reason::Move].contains(&refusal.reason)
        });
        assert_eq!(refused, [], "{}", file.display());
    }
}

#[test]
fn each_limit_is_found() {
    assert_eq!(reasons(|_| ()), []);
    let f64s = with_graph(|graph| graph.tensors[0].dtype = ScalarType::F64);
    assert!(f64s.contains(&Reason::DType(ScalarType::F64)), "{f64s:?}");
    let fields = [
        ("dst", Tid(0).into()),
        ("update", Tid(0).into()),
        ("out", Tid(3).into()),
        ("axis", Field::Int(0)),
        ("start", Field::Int(0)),
        ("stop", Field::Int(1)),
    ];
    assert_eq!(
        with("SliceUpdate", &fields),
        [Reason::Constant("SliceUpdate")]
    );
    let narrow = with_graph(|graph| {
        graph.tensors[1] = TensorMeta::fixed(ScalarType::Bool, &[]);
        let fields = [("x", Tid(1).into()), ("out", Vid(0).into())];
        let read = Instruction::build("ItemInt", &fields).unwrap();
        graph.chains[0].insert(0, read);
    });
    assert_eq!(narrow, [Reason::Narrow(ScalarType::Bool)]);
    let moved = reasons(|program| {
        program.methods[0].chains[0].push(Call::Move { from: 0, to: 1 });
    });
    assert_eq!(moved, [Reason::Move]);
}

#[test]
fn results_need_bounds_that_can_be_counted() {
    let unbounded = reasons(|program| {
        if let Value::Tensor(tensor) = &mut program.methods[0].values[3] {
            tensor.sizes = vec![UNBOUNDED; 3];
            tensor.storage = Storage::Caller;
        }
    });
    assert_eq!(unbounded, [Reason::Unbounded, Reason::Uncountable]);
    let lowered = reasons(|program| {
        if let Value::Tensor(tensor) = &mut program.methods[0].values[3] {
            tensor.sizes = vec![UNBOUNDED; 3];
            tensor.storage = Storage::Caller;
            tensor.lower_bounds();
        }
    });
    assert_eq!(lowered, [Reason::Unbounded]);
}

#[test]
fn states_belong_to_one_delegate_and_have_elements() {
    let state = |shape: &[u32]| {
        let mut graph = crate::common::scaled_exp("0000/first");
        graph.counts.state = 1;
        graph.state = vec![IoSlot::Tensor(Tid(3))];
        graph
            .tensors
            .push(TensorMeta::fixed(ScalarType::F32, shape));
        graph.names.push(NamedSlot {
            name: "kept".to_owned(),
            slot: IoSlot::Tensor(Tid(3)),
        });
        Delegate::mlx(graph)
    };
    let shared = reasons(|program| program.methods[0].delegates = vec![state(&[2]), state(&[2])]);
    assert_eq!(shared, [Reason::Shared("kept".to_owned(), 0)]);
    let empty = reasons(|program| program.methods[0].delegates = vec![state(&[0, 2])]);
    assert_eq!(empty, [Reason::Empty("kept".to_owned())]);
}
