//! Arrays, and their way from and to host memory.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::Arc;

use fuseline_program::ScalarType;
use mlx_sys::{mlx_array, mlx_vector_array};

use super::stream::submitting;
use super::{MlxError, catch_errors, check, check_computing, last_error};

/// A counted reference to an array, which may not be computed yet.
pub(crate) struct Array(mlx_array);

// SAFETY: the reference count is atomic, and computing is synchronised by MLX's events.
unsafe impl Send for Array {}
// SAFETY: `&Array` allows to copy the reference and to ask for shape and type, which never change. Arrays that several
// threads share are constants, which are computed before they are shared.
unsafe impl Sync for Array {}

impl Array {
    /// A handle for a call of mlx-c to put an array into.
    pub(crate) fn empty() -> Self {
        // SAFETY: makes an empty handle, which may be freed as it is.
        Self(unsafe { mlx_sys::mlx_array_new() })
    }

    /// Where a call of mlx-c puts the array that it makes.
    pub(crate) fn slot(&mut self) -> *mut mlx_array {
        &raw mut self.0
    }

    /// The array, if the call that it was given to has made one.
    pub(crate) fn if_made(self, status: c_int) -> Result<Self, MlxError> {
        check(status).map(|()| self)
    }

    /// Copies host bytes into a new array.
    ///
    /// `bytes` holds the elements in row-major order; the caller has checked its length.
    pub(crate) fn from_bytes(
        bytes: &[u8],
        shape: &[c_int],
        dtype: ScalarType,
    ) -> Result<Self, MlxError> {
        let code = code_of(dtype)?;
        catch_errors();
        // SAFETY: MLX copies as many bytes as shape and type ask for, which is the length of `bytes`.
        let raw = unsafe {
            mlx_sys::mlx_array_new_data(
                bytes.as_ptr().cast(),
                shape.as_ptr(),
                shape.len() as c_int,
                code,
            )
        };
        if raw.ctx.is_null() {
            Err(last_error())
        } else {
            Ok(Self(raw))
        }
    }

    /// An array over bytes that `owner` keeps alive. The device uses them where they are if it can, else they are copied.
    ///
    /// `bytes` must lie inside `owner`; the caller has checked its length.
    pub(crate) fn over_bytes<T: Any + Send + Sync>(
        bytes: &[u8],
        owner: &Arc<T>,
        shape: &[c_int],
        dtype: ScalarType,
    ) -> Result<Self, MlxError> {
        extern "C" fn release<T>(owner: *mut c_void) {
            // SAFETY: this is the pointer from `Arc::into_raw` below, and MLX calls the deleter once.
            drop(unsafe { Arc::from_raw(owner.cast::<T>().cast_const()) });
        }
        let code = code_of(dtype)?;
        catch_errors();
        let owner = Arc::into_raw(Arc::clone(owner)).cast_mut().cast::<c_void>();
        // SAFETY: the bytes outlive the array because the array holds the owner. MLX takes a pointer to mutable data but does
        // not write to an array that has no operation behind it: it is donated to none while the program holds it.
        let raw = unsafe {
            mlx_sys::mlx_array_new_data_managed_payload(
                bytes.as_ptr().cast_mut().cast(),
                shape.as_ptr(),
                shape.len() as c_int,
                code,
                owner,
                Some(release::<T>),
            )
        };
        if raw.ctx.is_null() {
            Err(last_error())
        } else {
            Ok(Self(raw))
        }
    }

    /// The handle, for calls.
    pub(crate) fn raw(&self) -> mlx_array {
        self.0
    }

    /// Bytes of the elements in row-major order. MLX counts modulo 2⁶⁴; this is the true number, or the largest.
    pub(crate) fn bytes(&self) -> u64 {
        let lengths = self.shape().iter().map(|n| u64::from(n.unsigned_abs()));
        if self.shape().contains(&0) {
            return 0;
        }
        lengths.fold(self.item_size() as u64, u64::saturating_mul)
    }

    /// Another reference to the same array.
    pub(crate) fn share(&self) -> Result<Self, MlxError> {
        let mut shared = Self::empty();
        // SAFETY: both handles are valid.
        let status = unsafe { mlx_sys::mlx_array_set(shared.slot(), self.0) };
        shared.if_made(status)
    }

    /// The lengths of the axes.
    pub(crate) fn shape(&self) -> &[c_int] {
        let rank = self.rank();
        if rank == 0 {
            return &[];
        }
        // SAFETY: MLX keeps `rank` numbers there for as long as the array lives.
        unsafe { std::slice::from_raw_parts(mlx_sys::mlx_array_shape(self.0), rank) }
    }

    /// The number of axes.
    pub(crate) fn rank(&self) -> usize {
        // SAFETY: the handle is valid.
        unsafe { mlx_sys::mlx_array_ndim(self.0) }
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the handle is valid.
        unsafe { mlx_sys::mlx_array_size(self.0) }
    }

    /// The element type.
    pub(crate) fn dtype(&self) -> ScalarType {
        // SAFETY: the handle is valid.
        dtype_of(unsafe { mlx_sys::mlx_array_dtype(self.0) })
    }

    /// Whether the elements are there, so that reading them waits for nothing. They are not if computing them has failed.
    pub(crate) fn is_computed(&self) -> bool {
        let mut computed = false;
        // SAFETY: the handle is valid.
        let asked = unsafe { mlx_sys::_mlx_array_is_available(&raw mut computed, self.0) };
        check_computing(asked).is_ok() && computed
    }

    /// Waits for the elements and returns them in row-major order.
    ///
    /// Computes nothing if the array has been submitted before, so that it can be called from any thread.
    pub(crate) fn read(&self) -> Result<Vec<u8>, MlxError> {
        {
            let _table = submitting();
            // SAFETY: the handle is valid.
            check_computing(unsafe { mlx_sys::mlx_array_eval(self.0) })?;
        }
        let (length, size) = (self.len(), self.item_size());
        if length == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the handle is valid; the accessor does not look at the type.
        let data = unsafe { mlx_sys::mlx_array_data_uint8(self.0) };
        if data.is_null() {
            return Err(last_error());
        }
        let mut bytes = Vec::new();
        let no_room = |_| MlxError(format!("no memory for {length} elements of {size} bytes"));
        let all = length.saturating_mul(size);
        bytes.try_reserve_exact(all).map_err(no_room)?;
        self.for_each_row(|offset, count| {
            // SAFETY: MLX's shape and strides describe elements that lie inside the array's buffer.
            let row = unsafe {
                std::slice::from_raw_parts(data.offset(offset * size as isize), count * size)
            };
            bytes.extend_from_slice(row);
        });
        Ok(bytes)
    }

    fn item_size(&self) -> usize {
        // SAFETY: the handle is valid.
        unsafe { mlx_sys::mlx_array_itemsize(self.0) }
    }

    /// Visits the elements in row-major order as runs that lie together: `(offset of the first, how many)`, in elements.
    fn for_each_row(&self, mut visit: impl FnMut(isize, usize)) {
        let shape = self.shape();
        // SAFETY: MLX keeps one stride for each axis there.
        let strides = match shape.len() {
            0 => &[][..],
            rank => unsafe { std::slice::from_raw_parts(mlx_sys::mlx_array_strides(self.0), rank) },
        };
        // The last axes that lie together make up a run; the others are walked like the digits of a counter.
        let mut run = 1_usize;
        let mut outer = shape.len();
        while outer > 0 && (shape[outer - 1] == 1 || strides[outer - 1] == run) {
            run *= shape[outer - 1] as usize;
            outer -= 1;
        }
        let mut at = vec![0; outer];
        loop {
            let offset = at
                .iter()
                .zip(strides)
                .map(|(at, stride)| *at as isize * *stride as isize);
            visit(offset.sum(), run);
            let mut axis = outer;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                at[axis] += 1;
                if at[axis] < shape[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: the handle is freed once. The status says whether it was a valid one.
        unsafe { mlx_sys::mlx_array_free(self.0) };
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype(), self.shape())
    }
}

/// An array that a call can do without.
#[derive(Clone, Copy)]
pub(crate) struct Optional<'a>(Option<&'a Array>);

impl<'a> Optional<'a> {
    /// This array, or none.
    pub(crate) fn of(array: Option<&'a Array>) -> Self {
        Self(array)
    }

    /// The handle, for calls: an empty one if there is no array.
    pub(crate) fn raw(self) -> mlx_array {
        match self.0 {
            Some(array) => array.raw(),
            None => mlx_array {
                ctx: std::ptr::null_mut(),
            },
        }
    }
}

/// A list of arrays, for calls that take or return one.
pub(crate) struct Vector(mlx_vector_array);

impl Vector {
    /// A list of these arrays.
    pub(crate) fn of<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<Self, MlxError> {
        let handles: Vec<mlx_array> = arrays.into_iter().map(Array::raw).collect();
        // SAFETY: the list takes its own references.
        let raw = unsafe { mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len()) };
        if raw.ctx.is_null() {
            Err(last_error())
        } else {
            Ok(Self(raw))
        }
    }

    /// A handle for a call of mlx-c to put a list into.
    pub(crate) fn empty() -> Self {
        // SAFETY: makes an empty handle, which may be freed as it is.
        Self(unsafe { mlx_sys::mlx_vector_array_new() })
    }

    /// Where a call of mlx-c puts the list that it makes.
    pub(crate) fn slot(&mut self) -> *mut mlx_vector_array {
        &raw mut self.0
    }

    /// The handle, for calls.
    pub(crate) fn raw(&self) -> mlx_vector_array {
        self.0
    }

    /// The arrays.
    pub(crate) fn arrays(&self) -> Result<Vec<Array>, MlxError> {
        // SAFETY: the handle is valid.
        let count = unsafe { mlx_sys::mlx_vector_array_size(self.0) };
        let get = |at| {
            let mut array = Array::empty();
            // SAFETY: the position is below the count.
            let status = unsafe { mlx_sys::mlx_vector_array_get(array.slot(), self.0, at) };
            array.if_made(status)
        };
        (0..count).map(get).collect()
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        // SAFETY: the handle is freed once.
        unsafe { mlx_sys::mlx_vector_array_free(self.0) };
    }
}

/// Computes the arrays and waits for them.
pub(crate) fn eval<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<(), MlxError> {
    let list = Vector::of(arrays)?;
    let _table = submitting();
    // SAFETY: the handle is valid.
    check_computing(unsafe { mlx_sys::mlx_eval(list.raw()) })
}

/// Starts to compute the arrays and returns.
pub(crate) fn start<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<(), MlxError> {
    let list = Vector::of(arrays)?;
    let _table = submitting();
    // SAFETY: the handle is valid.
    check_computing(unsafe { mlx_sys::mlx_async_eval(list.raw()) })
}

macro_rules! dtypes {
    ($($name:ident = $code:ident),+ $(,)?) => {
        /// MLX's number for an element type.
        pub(crate) fn code_of(dtype: ScalarType) -> Result<mlx_sys::mlx_dtype, MlxError> {
            match dtype {
                $(ScalarType::$name => Ok(mlx_sys::$code),)+
                other => Err(MlxError(format!("there are no arrays of {other}"))),
            }
        }

        /// The element type of MLX's number.
        fn dtype_of(code: mlx_sys::mlx_dtype) -> ScalarType {
            match code {
                $(mlx_sys::$code => ScalarType::$name,)+
                // The list above is complete; a library of another release could only add to it.
                _ => ScalarType::U8,
            }
        }
    };
}

dtypes! {
    Bool = mlx_dtype__MLX_BOOL,
    U8 = mlx_dtype__MLX_UINT8,
    U16 = mlx_dtype__MLX_UINT16,
    U32 = mlx_dtype__MLX_UINT32,
    U64 = mlx_dtype__MLX_UINT64,
    I8 = mlx_dtype__MLX_INT8,
    I16 = mlx_dtype__MLX_INT16,
    I32 = mlx_dtype__MLX_INT32,
    I64 = mlx_dtype__MLX_INT64,
    F16 = mlx_dtype__MLX_FLOAT16,
    F32 = mlx_dtype__MLX_FLOAT32,
    F64 = mlx_dtype__MLX_FLOAT64,
    BF16 = mlx_dtype__MLX_BFLOAT16,
    C64 = mlx_dtype__MLX_COMPLEX64,
}
