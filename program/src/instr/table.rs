//! The instructions: one row each.
//!
//! A row is: documentation, number in the wire's union, name, the two generated types that carry it, fields. A field is: what
//! the instruction does with the slots in it (`read`, `write`, `update`: both; `attr`: no slots), name, type, and
//! the value that it has when it is left out. Field order is the wire's.

use super::field::*;
use super::macros::{instructions, role, role_doc};
use super::wire::{Pack, Unpack};
use super::*;
use crate::dtype::ScalarType;
use crate::generated::mlx as wire;
use crate::newer::{fields, known_fields};

instructions! {
    /// Does nothing.
    1 Noop: NoopNode NoopNodeArgs {}
    /// `out = x`: the same array under another slot, no bytes moved.
    2 IdCopy: IdCopyNode IdCopyNodeArgs { read x: Tid, write out: Tid }
    /// `out = alpha · (mat1 @ mat2) + beta · bias`; without `bias` only the product.
    3 Addmm: AddmmNode AddmmNodeArgs {
        read mat1: Tid, read mat2: Tid, write out: Tid, read bias: Option<Tid> = None, attr alpha: f32 = 1.0,
        attr beta: f32 = 1.0,
    }
    /// Reads the single element of an integer tensor into a value slot; waits for the tensor.
    4 ItemInt: ItemIntNode ItemIntNodeArgs { read x: Tid, write out: Vid }
    /// Inserts an axis of length 1 so that it becomes axis `axis` of the result.
    5 ExpandDims: ExpandDimsNode ExpandDimsNodeArgs { read x: Tid, write out: Tid, attr axis: i32 }
    /// Repeats the whole of `x` `reps[i]` times along axis `i`.
    6 Tile: TileNode TileNodeArgs { read x: Tid, write out: Tid, read reps: Vec<IntOrVid> }
    /// `out[…, i, …] = x[…, indices[…, i, …], …]` along `axis`; ranks are equal, the other axes broadcast. Where they can't, it is `Take`.
    7 TakeAlongAxis: TakeAlongAxisNode TakeAlongAxisNodeArgs { read x: Tid, read indices: Tid, write out: Tid, attr axis: i32 }
    /// Selects along `axis`: an integer drops the axis, a tensor of indices replaces it by its own shape.
    8 Take: TakeNode TakeNodeArgs { read x: Tid, write out: Tid, read index: IntOrVidOrTid, attr axis: i32 }
    /// `out = x / sqrt(mean(x², last axis) + eps) · weight`; no `weight` means ones.
    9 RmsNorm: RMSNormNode RMSNormNodeArgs { read x: Tid, read weight: Option<Tid> = None, write out: Tid, attr eps: f32 }
    /// Normalises the last axis to mean 0 and variance 1 (plus `eps`), then scales by `weight` and adds `bias`.
    10 LayerNorm: LayerNormNode LayerNormNodeArgs {
        read x: Tid, write out: Tid, read weight: Option<Tid> = None, read bias: Option<Tid> = None,
        attr eps: f32,
    }
    /// Rotary embedding of the first `dims` entries of the last axis, positions along the one before it.
    /// `offset` is the first position; `freqs`, if there, replaces the powers of `base`; `scale` multiplies
    /// positions; `traditional` pairs neighbours instead of halves.
    11 Rope: RopeNode RopeNodeArgs {
        read x: Tid, write out: Tid, attr dims: i32, read offset: VidOrTid, read freqs: Option<Tid> = None,
        attr traditional: bool = false, attr base: f32 = 500000.0, attr scale: f32 = 1.0,
    }
    /// Attention `softmax(scale · q kᵀ + mask) v` over `[batch, heads, length, width]`. Fewer key/value heads than
    /// query heads are shared by groups. `causal` aligns the lower right corners.
    12 Sdpa: SdpaNode SdpaNodeArgs {
        read q: Tid, read k: Tid, read v: Tid, write out: Tid, attr scale: f32, read mask: Option<Tid> = None,
        attr causal: bool = false,
    }
    /// `out = a + b`, broadcast.
    13 Add: AddNode AddNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a + b` on host integers.
    14 AddInt: AddIntNode AddIntNodeArgs { read a: IntOrVid, read b: IntOrVid, write out: Vid }
    /// `out = a - b` on host integers.
    15 SubtractInt: SubtractIntNode SubtractIntNodeArgs { read a: IntOrVid, read b: IntOrVid, write out: Vid }
    /// `out = a · b` on host integers.
    16 MultiplyInt: MultiplyIntNode MultiplyIntNodeArgs { read a: IntOrVid, read b: IntOrVid, write out: Vid }
    /// `out = floor(a / b)` on host integers.
    17 FloorDivideInt: FloorDivideIntNode FloorDivideIntNodeArgs { read a: IntOrVid, read b: IntOrVid, write out: Vid }
    /// The length of `a` along `dim` as a host integer.
    18 SymSize: SymSizeNode SymSizeNodeArgs { read a: Tid, attr dim: i32, write out: Vid }
    /// `out = a · b`, broadcast.
    19 Multiply: MultiplyNode MultiplyNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a / b`, broadcast; integers divide as floats.
    20 Divide: DivideNode DivideNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a - b`, broadcast.
    21 Subtract: SubtractNode SubtractNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// Convolution of `x` `[N, L, C]` with `w` `[O, K, C / groups]`.
    22 Conv1D: Conv1DNode Conv1DNodeArgs {
        read x: Tid, read w: Tid, write out: Tid, attr stride: i32 = 1, attr padding: i32 = 0,
        attr dilation: i32 = 1, attr groups: i32 = 1,
    }
    /// Convolution of `x` `[N, H, W, C]` with `w` `[O, KH, KW, C / groups]`.
    23 Conv2D: Conv2DNode Conv2DNodeArgs {
        read x: Tid, read w: Tid, write out: Tid, attr stride_h: i32 = 1, attr stride_w: i32 = 1,
        attr padding_h: i32 = 0, attr padding_w: i32 = 0, attr dilation_h: i32 = 1, attr dilation_w: i32 = 1,
        attr groups: i32 = 1,
    }
    /// Convolution of `x` `[N, D, H, W, C]` with `w` `[O, KD, KH, KW, C / groups]`.
    24 Conv3D: Conv3DNode Conv3DNodeArgs {
        read x: Tid, read w: Tid, write out: Tid, attr stride_d: i32 = 1, attr stride_h: i32 = 1,
        attr stride_w: i32 = 1, attr padding_d: i32 = 0, attr padding_h: i32 = 0, attr padding_w: i32 = 0,
        attr dilation_d: i32 = 1, attr dilation_h: i32 = 1, attr dilation_w: i32 = 1, attr groups: i32 = 1,
    }
    /// GELU: exact for `approximate = "none"`, by tanh for `"tanh"`.
    25 Gelu: GeluNode GeluNodeArgs { read x: Tid, write out: Tid, attr approximate: String }
    /// `start, start + step, …` below `stop`; without `scalar_type` 64-bit integers follow the operands.
    26 Arange: ARangeNode ARangeNodeArgs {
        write out: Tid, read start: IntOrVid, read stop: IntOrVid, read step: IntOrVid,
        attr scalar_type: Option<ScalarType> = None,
    }
    /// `out = x · sigmoid(x)`.
    27 Silu: SiluNode SiluNodeArgs { read x: Tid, write out: Tid }
    /// `out = 1 / (1 + exp(-x))`.
    28 Sigmoid: SigmoidNode SigmoidNodeArgs { read x: Tid, write out: Tid }
    /// `out = tanh(x)`, element by element.
    29 Tanh: TanhNode TanhNodeArgs { read x: Tid, write out: Tid }
    /// Drops the axes in `dims`, all of length 1; none listed means every axis of length 1.
    30 Squeeze: SqueezeNode SqueezeNodeArgs { read x: Tid, write out: Tid, attr dims: Vec<i32> = Vec::new() }
    /// Cuts `x` along `axis` into pieces of the lengths `sizes`, one for each of `outs`.
    31 Split: SplitNode SplitNodeArgs { read x: Tid, write outs: Vec<Tid>, read sizes: Vec<IntOrVid>, attr axis: i32 }
    /// `out = 1 / sqrt(x)`, element by element.
    32 Rsqrt: RsqrtNode RsqrtNodeArgs { read x: Tid, write out: Tid }
    /// `out = max(a, b)`, broadcast.
    33 Maximum: MaximumNode MaximumNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = min(a, b)`, broadcast.
    34 Minimum: MinimumNode MinimumNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = ln(x)`, element by element.
    35 Log: LogNode LogNodeArgs { read x: Tid, write out: Tid }
    /// Softmax along `axis`; `precise` accumulates in float32.
    36 Softmax: SoftmaxNode SoftmaxNodeArgs { read x: Tid, write out: Tid, attr axis: i32, attr precise: bool = false }
    /// Broadcasts `x` to `shape`.
    37 BroadcastTo: BroadcastToNode BroadcastToNodeArgs { read x: Tid, write out: Tid, read shape: Vec<IntOrVid> }
    /// Pads axis `i` by `pad_width[2 i]` before and `pad_width[2 i + 1]` after; `mode` is `"constant"` or `"edge"`.
    38 Pad: PadNode PadNodeArgs {
        read x: Tid, write out: Tid, read pad_width: Vec<IntOrVid>, attr mode: String,
        attr constant_value: f32 = 0.0,
    }
    /// `out = condition ? x : y`, broadcast.
    39 Where: WhereNode WhereNodeArgs { read condition: Tid, read x: Tid, read y: Tid, write out: Tid }
    /// The same elements in row-major order under another shape; one entry may be -1.
    40 Reshape: ReshapeNode ReshapeNodeArgs { read x: Tid, write out: Tid, read shape: Vec<IntOrVid> }
    /// Axis `i` of the result is axis `perm[i]` of `x`.
    41 Transpose: TransposeNode TransposeNodeArgs { read x: Tid, write out: Tid, attr perm: Vec<i32> }
    /// A view of the elements of `x` by `shape`, `strides` and `offset`, all in elements.
    42 AsStrided: AsStridedNode AsStridedNodeArgs {
        read x: Tid, write out: Tid, read shape: Vec<IntOrVid>, read strides: Vec<IntOrVid>, attr offset: u64 = 0,
    }
    /// A row-major copy, if `x` is not row-major already.
    43 Contiguous: ContiguousNode ContiguousNodeArgs { read x: Tid, write out: Tid }
    /// Gathers slices of size `slice_sizes` at the positions given by `indices`, one index tensor for each of `axes`.
    44 Gather: GatherNode GatherNodeArgs {
        read x: Tid, read indices: Vec<Tid>, write out: Tid, attr axes: Vec<i32>, attr slice_sizes: Vec<i32>,
    }
    /// `x[start : stop : step]` along `axis`; negative positions count from the end.
    45 Slice: SliceNode SliceNodeArgs {
        read x: Tid, write out: Tid, read axis: IntOrVid, read start: IntOrVid, read stop: IntOrVid,
        attr step: i32 = 1,
    }
    /// Converts to `scalar_type`.
    46 AsType: AsTypeNode AsTypeNodeArgs { read x: Tid, write out: Tid, attr scalar_type: ScalarType }
    /// Joins `tensors` along `axis`.
    47 Concatenate: ConcatenateNode ConcatenateNodeArgs { read tensors: Vec<Tid>, write out: Tid, attr axis: i32 }
    /// A tensor of `shape` filled with `v`.
    48 Full: FullNode FullNodeArgs { write out: Tid, read shape: Vec<IntOrVid>, read v: FloatOrVid, attr scalar_type: ScalarType }
    /// A tensor of the shape of `x` filled with `v`; without `scalar_type` of its dtype too.
    49 FullLike: FullLikeNode FullLikeNodeArgs {
        read x: Tid, write out: Tid, read v: FloatOrVid, attr scalar_type: Option<ScalarType> = None,
    }
    /// The position of the largest element along `axis`.
    50 Argmax: ArgmaxNode ArgmaxNodeArgs { read x: Tid, write out: Tid, attr axis: i32, attr keepdims: bool = false }
    /// `out = dst` with `dst[start : stop : step]` along `axis` replaced by `update`; in place when `out` is `dst`.
    51 SliceUpdate: SliceUpdateNode SliceUpdateNodeArgs {
        read dst: Tid, read update: Tid, write out: Tid, read axis: IntOrVid, read start: IntOrVid,
        read stop: IntOrVid, attr step: i32 = 1,
    }
    /// `out = dst` with the rows `indices` along `axis` replaced by those of `update`.
    52 IndexCopy: IndexCopyNode IndexCopyNodeArgs { read dst: Tid, read update: Tid, read indices: Tid, write out: Tid, attr axis: i32 }
    /// Unpacks a quantised matrix; `biases` for affine mode, `global_scale` for nvfp4.
    53 Dequantize: DequantizeNode DequantizeNodeArgs {
        read w: Tid, read scales: Tid, write out: Tid, read biases: Option<Tid> = None, attr group_size: i32,
        attr bits: i32, attr mode: String, read global_scale: Option<Tid> = None,
        attr dtype: Option<ScalarType> = None,
    }
    /// `out = a < b`, broadcast, bool.
    54 Less: LessNode LessNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a <= b`, broadcast, bool.
    55 LessEqual: LessEqualNode LessEqualNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a > b`, broadcast, bool.
    56 Greater: GreaterNode GreaterNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a >= b`, broadcast, bool.
    57 GreaterEqual: GreaterEqualNode GreaterEqualNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a == b`, broadcast, bool.
    58 Equal: EqualNode EqualNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a != b`, broadcast, bool.
    59 NotEqual: NotEqualNode NotEqualNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = !x` on truth values.
    60 LogicalNot: LogicalNotNode LogicalNotNodeArgs { read x: Tid, write out: Tid }
    /// `out = a && b` on truth values.
    61 LogicalAnd: LogicalAndNode LogicalAndNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a || b` on truth values.
    62 LogicalOr: LogicalOrNode LogicalOrNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// An `n` by `m` matrix with ones where `column <= row + k`, zeros elsewhere.
    63 Tri: TriNode TriNodeArgs {
        write out: Tid, read n: IntOrVid, read m: IntOrVid, attr k: i32 = 0, attr scalar_type: ScalarType,
    }
    /// Keeps the elements with `column <= row + k` of the last two axes, zeros elsewhere.
    64 Tril: TrilNode TrilNodeArgs { read x: Tid, write out: Tid, attr k: i32 = 0 }
    /// Keeps the elements with `column >= row + k` of the last two axes, zeros elsewhere.
    65 Triu: TriuNode TriuNodeArgs { read x: Tid, write out: Tid, attr k: i32 = 0 }
    /// `out = floor(x)`, element by element.
    66 Floor: FloorNode FloorNodeArgs { read x: Tid, write out: Tid }
    /// `out = ceil(x)`, element by element.
    67 Ceil: CeilNode CeilNodeArgs { read x: Tid, write out: Tid }
    /// `out = x²`, element by element.
    68 Square: SquareNode SquareNodeArgs { read x: Tid, write out: Tid }
    /// `out = exp(x)`, element by element.
    69 Exp: ExpNode ExpNodeArgs { read x: Tid, write out: Tid }
    /// `out = sin(x)`, element by element.
    70 Sin: SinNode SinNodeArgs { read x: Tid, write out: Tid }
    /// `out = cos(x)`, element by element.
    71 Cos: CosNode CosNodeArgs { read x: Tid, write out: Tid }
    /// `out = tan(x)`, element by element.
    72 Tan: TanNode TanNodeArgs { read x: Tid, write out: Tid }
    /// `out = arcsin(x)`, element by element.
    73 Arcsin: ArcsinNode ArcsinNodeArgs { read x: Tid, write out: Tid }
    /// `out = arccos(x)`, element by element.
    74 Arccos: ArccosNode ArccosNodeArgs { read x: Tid, write out: Tid }
    /// `out = arctan(x)`, element by element.
    75 Arctan: ArctanNode ArctanNodeArgs { read x: Tid, write out: Tid }
    /// `out = sinh(x)`, element by element.
    76 Sinh: SinhNode SinhNodeArgs { read x: Tid, write out: Tid }
    /// `out = cosh(x)`, element by element.
    77 Cosh: CoshNode CoshNodeArgs { read x: Tid, write out: Tid }
    /// `out = arcsinh(x)`, element by element.
    78 Arcsinh: ArcsinhNode ArcsinhNodeArgs { read x: Tid, write out: Tid }
    /// `out = arccosh(x)`, element by element.
    79 Arccosh: ArccoshNode ArccoshNodeArgs { read x: Tid, write out: Tid }
    /// `out = arctanh(x)`, element by element.
    80 Arctanh: ArctanhNode ArctanhNodeArgs { read x: Tid, write out: Tid }
    /// `out = log₂(x)`, element by element.
    81 Log2: Log2Node Log2NodeArgs { read x: Tid, write out: Tid }
    /// `out = log₁₀(x)`, element by element.
    82 Log10: Log10Node Log10NodeArgs { read x: Tid, write out: Tid }
    /// `out = ln(1 + x)`, element by element.
    83 Log1p: Log1pNode Log1pNodeArgs { read x: Tid, write out: Tid }
    /// `out = erf(x)`, element by element.
    84 Erf: ErfNode ErfNodeArgs { read x: Tid, write out: Tid }
    /// `out = exp(x) - 1`, element by element.
    85 Expm1: Expm1Node Expm1NodeArgs { read x: Tid, write out: Tid }
    /// Rounds to `decimals` places, ties to even.
    86 Round: RoundNode RoundNodeArgs { read x: Tid, write out: Tid, attr decimals: i32 = 0 }
    /// `out = 1 / x`, element by element.
    87 Reciprocal: ReciprocalNode ReciprocalNodeArgs { read x: Tid, write out: Tid }
    /// `out = sqrt(x)`, element by element.
    88 Sqrt: SqrtNode SqrtNodeArgs { read x: Tid, write out: Tid }
    /// `out = |x|`, element by element.
    89 Abs: AbsNode AbsNodeArgs { read x: Tid, write out: Tid }
    /// `out = -x`, element by element.
    90 Neg: NegNode NegNodeArgs { read x: Tid, write out: Tid }
    /// `out = atan2(a, b)`, broadcast.
    91 Atan2: Atan2Node Atan2NodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = ln(exp(a) + exp(b))`, broadcast.
    92 LogAddExp: LogAddExpNode LogAddExpNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = floor(a / b)`, broadcast.
    93 FloorDivide: FloorDivideNode FloorDivideNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a^b`, broadcast.
    94 Power: PowerNode PowerNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// ln of the sum of exponentials over `axes`, none listed means all; `keepdims` leaves them with length 1.
    95 LogSumExp: LogSumExpNode LogSumExpNodeArgs {
        read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false,
    }
    /// Sum over `axes`, none listed means all; `keepdims` leaves them with length 1.
    96 Sum: SumNode SumNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false }
    /// Mean over `axes`, none listed means all; `keepdims` leaves them with length 1.
    97 Mean: MeanNode MeanNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false }
    /// Variance over `axes`, none listed means all, with the divisor `count - ddof`.
    98 Var: VarNode VarNodeArgs {
        read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false,
        attr ddof: i32 = 0,
    }
    /// Standard deviation over `axes`, none listed means all, with the divisor `count - ddof`.
    99 Std: StdNode StdNodeArgs {
        read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false,
        attr ddof: i32 = 0,
    }
    /// Product over `axes`, none listed means all; `keepdims` leaves them with length 1.
    100 Prod: ProdNode ProdNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false }
    /// Maximum over `axes`, none listed means all; `keepdims` leaves them with length 1.
    101 Max: MaxNode MaxNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false }
    /// Minimum over `axes`, none listed means all; `keepdims` leaves them with length 1.
    102 Min: MinNode MinNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false }
    /// The position of the smallest element along `axis`.
    103 Argmin: ArgminNode ArgminNodeArgs { read x: Tid, write out: Tid, attr axis: i32, attr keepdims: bool = false }
    /// Median over `axes`, none listed means all; `keepdims` leaves them with length 1.
    104 Median: MedianNode MedianNodeArgs {
        read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false,
    }
    /// `out = a mod b` on host integers, with the sign of `b`.
    105 ModInt: ModIntNode ModIntNodeArgs { read a: IntOrVid, read b: IntOrVid, write out: Vid }
    /// `out = a mod b` with the sign of `b`, broadcast.
    106 Remainder: RemainderNode RemainderNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// Transposed convolution of `x` `[N, L, C]`.
    107 ConvTranspose1D: ConvTranspose1DNode ConvTranspose1DNodeArgs {
        read x: Tid, read w: Tid, write out: Tid, attr stride: i32 = 1, attr padding: i32 = 0,
        attr dilation: i32 = 1, attr output_padding: i32 = 0, attr groups: i32 = 1,
    }
    /// Transposed convolution of `x` `[N, H, W, C]`.
    108 ConvTranspose2D: ConvTranspose2DNode ConvTranspose2DNodeArgs {
        read x: Tid, read w: Tid, write out: Tid, attr stride_h: i32 = 1, attr stride_w: i32 = 1,
        attr padding_h: i32 = 0, attr padding_w: i32 = 0, attr dilation_h: i32 = 1, attr dilation_w: i32 = 1,
        attr output_padding_h: i32 = 0, attr output_padding_w: i32 = 0, attr groups: i32 = 1,
    }
    /// Transposed convolution of `x` `[N, D, H, W, C]`.
    109 ConvTranspose3D: ConvTranspose3DNode ConvTranspose3DNodeArgs {
        read x: Tid, read w: Tid, write out: Tid, attr stride_d: i32 = 1, attr stride_h: i32 = 1,
        attr stride_w: i32 = 1, attr padding_d: i32 = 0, attr padding_h: i32 = 0, attr padding_w: i32 = 0,
        attr dilation_d: i32 = 1, attr dilation_h: i32 = 1, attr dilation_w: i32 = 1,
        attr output_padding_d: i32 = 0, attr output_padding_h: i32 = 0, attr output_padding_w: i32 = 0,
        attr groups: i32 = 1,
    }
    /// Limits `x` to `a_min` below and `a_max` above; an absent bound does not limit.
    110 Clip: ClipNode ClipNodeArgs { read x: Tid, write out: Tid, read a_min: Option<Tid> = None, read a_max: Option<Tid> = None }
    /// Running sum along `axis`, from the end if `reverse`, without the element itself unless `inclusive`.
    111 Cumsum: CumsumNode CumsumNodeArgs {
        read x: Tid, write out: Tid, attr axis: i32, attr reverse: bool = false, attr inclusive: bool = true,
    }
    /// Joins `tensors` of equal shape along a new axis `axis`.
    112 Stack: StackNode StackNodeArgs { read tensors: Vec<Tid>, write out: Tid, attr axis: i32 = 0 }
    /// `out = sign(x)`, element by element.
    113 Sign: SignNode SignNodeArgs { read x: Tid, write out: Tid }
    /// Whether any element is true over `axes`, none listed means all; `keepdims` leaves them with length 1.
    114 Any: AnyNode AnyNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false }
    /// Whether all elements are true over `axes`, none listed means all; `keepdims` leaves them with length 1.
    115 All: AllNode AllNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> = Vec::new(), attr keepdims: bool = false }
    /// Repeats each element `repeats` times along `axis`.
    116 Repeat: RepeatNode RepeatNodeArgs { read x: Tid, write out: Tid, read repeats: IntOrVid, attr axis: i32 }
    /// Sorts along `axis`, ascending.
    117 Sort: SortNode SortNodeArgs { read x: Tid, write out: Tid, attr axis: i32 }
    /// The positions that sort `x` along `axis`.
    118 Argsort: ArgsortNode ArgsortNodeArgs { read x: Tid, write out: Tid, attr axis: i32 }
    /// Reorders along `axis` so that the element of rank `kth` stands in its place, smaller ones before it.
    119 Partition: PartitionNode PartitionNodeArgs { read x: Tid, write out: Tid, read kth: IntOrVid, attr axis: i32 }
    /// The positions that partition `x` along `axis` at rank `kth`.
    120 ArgPartition: ArgPartitionNode ArgPartitionNodeArgs { read x: Tid, write out: Tid, read kth: IntOrVid, attr axis: i32 }
    /// `out = x @ wᵀ` (or `x @ w` without `transpose`) with `w` packed in groups of `group_size` along its last axis.
    121 QuantizedMatmul: QuantizedMatmulNode QuantizedMatmulNodeArgs {
        read x: Tid, read w: Tid, read scales: Tid, write out: Tid, read biases: Option<Tid> = None,
        attr group_size: i32, attr bits: i32, attr mode: String, attr transpose: bool = true,
    }
    /// `out = x` with `updates` added at `indices` along `axis`.
    122 ScatterAdd: ScatterAddNode ScatterAddNodeArgs {
        read x: Tid, read indices: Tid, read updates: Tid, write out: Tid, attr axis: i32,
    }
    /// `out = a[lhs_indices] @ b[rhs_indices]` over batches of matrices. `sorted_indices_flag`, if there, overrides
    /// `sorted_indices`.
    123 GatherMm: GatherMmNode GatherMmNodeArgs {
        read a: Tid, read b: Tid, write out: Tid, read lhs_indices: Option<Tid> = None,
        read rhs_indices: Option<Tid> = None, attr sorted_indices: bool = false,
        read sorted_indices_flag: Option<IntOrVid> = None,
    }
    /// [`GatherMm`] with a quantised right side.
    124 GatherQmm: GatherQmmNode GatherQmmNodeArgs {
        read x: Tid, read w: Tid, read scales: Tid, write out: Tid, attr mode: String,
        read biases: Option<Tid> = None, read lhs_indices: Option<Tid> = None,
        read rhs_indices: Option<Tid> = None, attr transpose: bool = true, attr group_size: i32, attr bits: i32,
        attr sorted_indices: bool = false, read sorted_indices_flag: Option<IntOrVid> = None,
    }
    /// Runs chain `body_chain_idx` once for each step along `scan_axis`: the step's slice of each of `originals` is put
    /// into `sliced`, what the body leaves in `outputs` is stacked at the end, `carry` persists from step to step.
    125 Scan: ScanNode ScanNodeArgs {
        read originals: Vec<Tid>, write sliced: Vec<Tid>, update outputs: Vec<Tid>, update carry: Vec<Tid>,
        attr body_chain_idx: i32, attr scan_axis: i32 = 1,
    }
    /// A custom Metal kernel. Output shapes are concatenated in `output_shapes_flat`, their ranks are in
    /// `output_shape_lengths`. Template arguments are three parallel lists; their kinds are 0 integer, 1 bool, 2 dtype.
    126 MetalKernel: MetalKernelNode MetalKernelNodeArgs {
        attr name: String, attr source: String, read inputs: Vec<Tid>, write outputs: Vec<Tid>,
        read grid: Vec<IntOrVid>, read threadgroup: Vec<IntOrVid>, attr header: Option<String> = None,
        attr input_names: Vec<String> = Vec::new(), attr output_names: Vec<String> = Vec::new(),
        attr ensure_row_contiguous: bool = true, attr atomic_outputs: bool = false,
        read output_shapes_flat: Vec<IntOrVid> = Vec::new(), attr output_shape_lengths: Vec<i32> = Vec::new(),
        attr output_dtypes: Vec<ScalarType> = Vec::new(), attr template_arg_names: Vec<String> = Vec::new(),
        attr template_arg_kinds: Vec<i8> = Vec::new(), attr template_arg_values: Vec<i32> = Vec::new(),
        attr init_value: Option<f32> = None,
    }
    /// `out = ~x`.
    127 BitwiseInvert: BitwiseInvertNode BitwiseInvertNodeArgs { read x: Tid, write out: Tid }
    /// Shifts axis `axes[i]` by `shift[i]`, what falls off the end comes in at the start.
    128 Roll: RollNode RollNodeArgs { read x: Tid, write out: Tid, read shift: Vec<IntOrVid>, attr axes: Vec<i32> }
    /// `out = a & b`, broadcast.
    129 BitwiseAnd: BitwiseAndNode BitwiseAndNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a | b`, broadcast.
    130 BitwiseOr: BitwiseOrNode BitwiseOrNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// `out = a ^ b`, broadcast.
    131 BitwiseXor: BitwiseXorNode BitwiseXorNodeArgs { read a: Tid, read b: Tid, write out: Tid }
    /// Runs chain `then_chain_idx` if `cond` is not zero, else chain `else_chain_idx`.
    132 If: IfNode IfNodeArgs { read cond: IntOrVid, attr then_chain_idx: u32, attr else_chain_idx: u32 }
    /// Random bits of `width` bytes an element; without `seed` from the process's own sequence.
    133 RandomBits: RandomBitsNode RandomBitsNodeArgs {
        write out: Tid, read shape: Vec<IntOrVid>, read seed: Option<Vid> = None, attr width: i32 = 4,
    }
    /// Appends `k` and `v` at `position` to the cache of layer `layer_id` that the host owns, then attends with `q`.
    /// The last three fields are required in practice, absent ones are told from zeros.
    134 UpdateAndAttend: UpdateAndAttendNode UpdateAndAttendNodeArgs {
        read q: Tid, read k: Tid, read v: Tid, read position: Tid, write out: Tid,
        attr layer_id: Option<i32> = None, attr scale: Option<f32> = None,
        attr out_dtype: Option<ScalarType> = None,
    }
    /// `out = x without its fraction`, element by element.
    135 Trunc: TruncNode TruncNodeArgs { read x: Tid, write out: Tid }
    /// Reverses the order along `axes`.
    136 Flip: FlipNode FlipNodeArgs { read x: Tid, write out: Tid, attr axes: Vec<i32> }
}
