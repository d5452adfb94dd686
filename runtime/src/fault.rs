//! Why an instruction could not be executed.

use fuseline_program::ScalarType;

use crate::mlx::MlxError;

/// Why an instruction could not be executed. Where it stands is said by [`crate::Error::Instruction`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// MLX refused: shapes that do not fit together, types that an operation lacks, no memory.
    #[error(transparent)]
    Mlx(#[from] MlxError),
    /// A slot is read that nothing has been written to in this call.
    #[error("tensor slot {slot} is read before it is written")]
    UnsetTensor {
        /// The number of the slot.
        slot: u32,
    },
    /// A value slot is read that nothing has been written to in this call.
    #[error("value slot {slot} is read before it is written")]
    UnsetValue {
        /// The number of the slot.
        slot: u32,
    },
    /// A constant's slot is written outside of the init chain.
    #[error("tensor slot {slot} holds a constant and can't be written")]
    ReadOnly {
        /// The number of the slot.
        slot: u32,
    },
    /// An axis that the tensor does not have.
    #[error("axis {axis} of a tensor with {rank} dimensions")]
    Axis {
        /// The axis.
        axis: i32,
        /// The number of dimensions.
        rank: usize,
    },
    /// A position outside of the axis.
    #[error("index {index} is out of range for axis {axis} of length {length}")]
    Index {
        /// The index.
        index: i64,
        /// The axis.
        axis: i32,
        /// Its length.
        length: i64,
    },
    /// A number that was read from a tensor, or computed from such, is not one that the model takes.
    #[error("{number} is {value}, which must be {}", range_text(*least, *most))]
    Number {
        /// The number: a symbol of the model, or an expression of them.
        number: String,
        /// What it is.
        value: i64,
        /// The least that the model takes.
        least: i64,
        /// The most.
        most: i64,
    },
    /// A negative length.
    #[error("{length} is no length")]
    Length {
        /// The length.
        length: i32,
    },
    /// An attribute outside of its values.
    #[error("{what} can't be {value}")]
    Attribute {
        /// The attribute.
        what: &'static str,
        /// What it is.
        value: i64,
    },
    /// A word that names nothing here.
    #[error("{text:?} is not known")]
    Text {
        /// The word.
        text: String,
    },
    /// A view with elements outside of the tensor.
    #[error("the view leaves the {elements} elements of the tensor")]
    View {
        /// The number of elements that are there.
        elements: usize,
    },
    /// Another number of parts than there are places for them.
    #[error("the number of parts is not {wanted}")]
    Pieces {
        /// The number that is wanted.
        wanted: usize,
    },
    /// Elements of a type that can't be used here.
    #[error("elements of type {dtype} can't be used here")]
    DType {
        /// The type.
        dtype: ScalarType,
    },
    /// A tensor of which one element is wanted has another number of them.
    #[error("one element is wanted, there are {elements}")]
    NotOne {
        /// How many there are.
        elements: usize,
    },
    /// An integer division by zero.
    #[error("division by zero")]
    Division,
    /// A host integer beyond 64 bits, or a length beyond 32.
    #[error("integer overflow")]
    Overflow,
    /// Scales or biases of a packed matrix that are not as many rows as it has.
    #[error("scales or biases of the shape {scales:?} for packed numbers of the shape {packed:?}")]
    Scales {
        /// The packed matrix.
        packed: Vec<i32>,
        /// What stands beside it.
        scales: Vec<i32>,
    },
    /// A tensor that would be made is too large.
    #[error("{bytes} bytes would be made, more than {limit}")]
    TooLarge {
        /// The bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The positions of a step are not one for each of its rows, in a row and not negative.
    #[error("{count} positions in a row are wanted, not these, which begin with {start}")]
    Positions {
        /// How many rows the step has.
        count: i32,
        /// The first position, -1 if there is none.
        start: i64,
    },
    /// A step that does not follow what a layer's cache holds.
    #[error(
        "position {position} does not follow those that the cache holds, {first} to before {end}"
    )]
    Position {
        /// Where the step begins.
        position: i64,
        /// The first position that the cache holds.
        first: i64,
        /// The one after its last.
        end: i64,
    },
    /// A layer's cache has no room for a step.
    #[error("the cache holds {capacity} positions, {end} are needed")]
    CacheFull {
        /// How many positions there would be.
        end: i64,
        /// How many there may be.
        capacity: i64,
    },
    /// Rows that are not like those that a layer's cache holds.
    #[error("rows of the shape {given:?} for a cache of the shape {held:?}, or of another type")]
    CacheShape {
        /// The cache.
        held: Vec<i32>,
        /// The rows.
        given: Vec<i32>,
    },
    /// Chains run each other too deeply.
    #[error("chains run each other more than {limit} deep")]
    Depth {
        /// The limit.
        limit: usize,
    },
    /// Branches and loops go on and on.
    #[error("branches and loops take more than {limit} steps, the most of a call")]
    Steps {
        /// The limit.
        limit: u64,
    },
    /// An instruction that can't run here.
    #[error("{node} needs {needs}")]
    Unsupported {
        /// Its name in the schema.
        node: &'static str,
        /// What it needs.
        needs: &'static str,
    },
}

/// `0 to 5`, `0 or more`, `5 or less`, `9`.
fn range_text(least: i64, most: i64) -> String {
    match (least, most) {
        _ if least == most => least.to_string(),
        (least, i64::MAX) => format!("{least} or more"),
        (i64::MIN, most) => format!("{most} or less"),
        _ => format!("{least} to {most}"),
    }
}
