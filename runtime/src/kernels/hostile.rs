//! Kernels get whatever a file's call lists: each is called with arguments that it does not expect, and says so.

use super::{Kernels, Run, call};
use crate::budget::Budget;
use crate::device::Device;
use crate::frame::Frame;
use crate::late::Late;
use crate::mlx::Stream;
use crate::ops::{CacheLayout, Caches};
use crate::tensor::Tensor;
use crate::value::Value;
use fuseline_program::{ScalarType as T, Storage, TensorValue};

/// Numbers without a pattern, the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
    }

    fn of<E: Copy>(&mut self, list: &[E]) -> E {
        list[self.below(list.len())]
    }

    fn int(&mut self) -> i64 {
        let far = [i64::MIN, i64::MAX, -(1 << 40), 1 << 31, 1 << 62, -100, 100];
        match self.below(3) {
            0 => self.of(&far),
            _ => i64::try_from(self.below(7)).unwrap() - 2,
        }
    }

    fn tensor(&mut self) -> Value {
        let shapes: [&[usize]; 10] = [
            &[],
            &[0],
            &[1],
            &[4],
            &[2, 3],
            &[3, 3],
            &[0, 3],
            &[1, 2, 2, 3],
            &[2, 1],
            &[2, 4, 4],
        ];
        let types = [
            T::F32,
            T::F32,
            T::F64,
            T::C64,
            T::I64,
            T::I32,
            T::Bool,
            T::F16,
            T::BF16,
            T::U8,
            T::I8,
        ];
        let (shape, dtype) = (self.of(&shapes), self.of(&types));
        let size = usize::try_from(dtype.size()).unwrap();
        let count = shape.iter().product::<usize>();
        let mut bytes = vec![0_u8; count * size];
        match self.below(4) {
            0 => {}
            1 => bytes.fill(0xff),
            2 => bytes.iter_mut().step_by(size).for_each(|byte| *byte = 3),
            _ => bytes
                .iter_mut()
                .for_each(|byte| *byte = u8::try_from(self.below(256)).unwrap()),
        }
        if dtype == T::Bool {
            bytes.iter_mut().for_each(|byte| *byte &= 1);
        }
        Tensor::from_bytes(dtype, shape, &bytes).unwrap().into()
    }

    /// What a file says of a result.
    fn wanted(&mut self) -> Option<TensorValue> {
        let dtype = self.of(&[T::F32, T::I64, T::Bool, T::F16, T::U8, T::F64, T::C64]);
        let wanted = TensorValue {
            dtype,
            sizes: vec![2, 3],
            dynamic: false,
            storage: Storage::Caller,
        };
        (self.below(3) > 0).then_some(wanted)
    }

    fn value(&mut self) -> Value {
        match self.below(12) {
            0 => Value::None,
            1 => Value::Int(self.int()),
            2 => Value::Bool(self.below(2) == 0),
            3 => Value::Float(self.of(&[0.0, -1.5, f64::NAN, f64::INFINITY, 1e300])),
            4 => Value::String("constant".to_owned()),
            5 | 6 => {
                let count = self.below(5);
                Value::List((0..count).map(|_| Value::Int(self.int())).collect())
            }
            7 => {
                let count = self.below(3);
                Value::List((0..count).map(|_| self.value()).collect())
            }
            _ => self.tensor(),
        }
    }
}

#[test]
fn arguments_that_no_kernel_expects() {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let kernels = Kernels::standard();
    let stream = Stream::on(Device::Cpu).unwrap();
    let (late, layout) = (Late::new(false), CacheLayout::default());
    let budget = Budget::new(1 << 20, 1 << 20);
    let mut worked = 0;
    for (name, kernel) in &kernels.0 {
        for _ in 0..300 {
            // A call may leave out arguments at the end.
            let count = match draw.below(4) {
                0 => draw.below(kernel.inputs + 1),
                _ => kernel.inputs,
            };
            let mut arguments: Vec<Value> = (0..count).map(|_| draw.value()).collect();
            if let Some(first) = arguments.first_mut().filter(|_| draw.below(4) > 0) {
                *first = draw.tensor();
            }
            let before = std::time::Instant::now();
            let frame = Frame {
                constants: &[],
                tensors: Vec::new(),
                values: Vec::new(),
                limits: &[],
                stream: &stream,
                budget: &budget,
                late: &late,
                steps: &[],
                caches: Caches::default(),
                layout: &layout,
            };
            let wanted = (0..draw.below(3))
                .map(|at| (at, draw.wanted()))
                .collect::<Vec<_>>();
            let result = call(kernel, &arguments, &wanted, frame);
            for made in result.iter().flatten().filter_map(Value::as_tensor) {
                // What instructions make is computed when it is read.
                let _ = made.to_bytes();
            }
            let passed = before.elapsed();
            assert!(passed.as_secs() < 5, "{name} {arguments:?}: {passed:?}");
            worked += usize::from(result.is_ok());
        }
    }
    assert!(
        worked > 1000,
        "{worked} calls worked: hardly any got further than its arguments"
    );
}

#[test]
fn a_pixel_of_many_weights_is_refused_before_they_are_laid_out() {
    // Twelve million rows of which each is made of all of the plane's.
    let kernels = Kernels::standard();
    let Some(Run::Host(run)) = kernels
        .get("aten::_upsample_bilinear2d_aa.out")
        .map(|kernel| &kernel.run)
    else {
        panic!("an operator of the host");
    };
    let plane = Tensor::from_slice(&[1, 1, 1 << 14, 1], &vec![1.0_f32; 1 << 14]).unwrap();
    let size = vec![Value::Int(12 << 20), Value::Int(1)];
    let wide = Value::Float(1e-9);
    let arguments = [
        plane.into(),
        Value::List(size),
        Value::Bool(false),
        wide,
        Value::None,
    ];
    assert!(run(&arguments).is_err());
}
