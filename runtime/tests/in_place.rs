//! State is updated in the memory that it has. MLX counts memory by process, so this test has one of its own.

#[cfg(test)]
#[expect(dead_code, reason = "the other tests of the runtime use all of it")]
#[path = "suite/programs.rs"]
mod programs;

use fuseline_program::Tid;
use fuseline_program::instr::{IdCopy, IntOrVid, Slice, SliceUpdate};
use fuseline_runtime::{Device, Options, Program, ScalarType, Tensor, memory};
use programs::{GraphBuilder, fixed};

const LENGTH: u32 = 1 << 20;
const BYTES: usize = LENGTH as usize * 4;

#[test]
fn a_cache_is_not_copied_when_a_row_is_written() {
    let one = fixed(ScalarType::F32, &[1]);
    // cache[3] = x; out = cache[3], where the update passes through a temporary as ExecuTorch's files have it.
    let graph = GraphBuilder {
        inputs: vec![("x", one.clone())],
        outputs: vec![one],
        state: vec![("cache", fixed(ScalarType::F32, &[LENGTH]))],
        temps: 1,
        main: vec![
            SliceUpdate {
                dst: Tid(2),
                update: Tid(0),
                out: Tid(3),
                axis: IntOrVid::Int(0),
                start: IntOrVid::Int(3),
                stop: IntOrVid::Int(4),
                step: 1,
            }
            .into(),
            Slice {
                x: Tid(3),
                out: Tid(1),
                axis: IntOrVid::Int(0),
                start: IntOrVid::Int(3),
                stop: IntOrVid::Int(4),
                step: 1,
            }
            .into(),
            IdCopy {
                x: Tid(3),
                out: Tid(2),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let file = graph.file();
    let options = Options {
        device: Some(Device::Cpu),
        ..Options::default()
    };
    let program = Program::open_with(&file.path, &options).unwrap();
    let mut session = program.session().unwrap();
    let mut step = |x: f32| {
        let x = Tensor::from_slice(&[1], &[x]).unwrap();
        let outputs = session.run("forward", &[x.into()]).unwrap();
        outputs[0].as_tensor().unwrap().to_vec::<f32>().unwrap()
    };
    assert_eq!(step(1.0), [1.0]);
    memory::reset_peak().unwrap();
    for x in 2..6 {
        assert_eq!(step(x as f32), [x as f32]);
    }
    let peak = memory::peak().unwrap();
    assert!(peak < 2 * BYTES, "{peak} bytes for a cache of {BYTES}");
}
