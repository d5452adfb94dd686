"""Small hand-written modules: one pattern or one construct each (see make_fixtures.py)."""
import torch
import torch.nn.functional as F
from make_fixtures import Case
from torch import nn
from torch.export import Dim

CASES = {}
WIDTH = 32
ALL = ("model", "func", "core")


def module(name, dynamic_shapes=None, dtype=None, note="", **options):
    """Registers a module class. Its `calls()` gives the recorded calls; the first one is the export's example.

    A call is a tuple of positional arguments, or a pair (tuple, dict).
    """

    def register(cls):
        def build(case_name):
            instance = cls().to(dtype) if dtype else cls()
            with torch.no_grad():
                for parameter in instance.parameters():
                    if parameter.dim() == 1:
                        parameter.add_(0.1 * torch.randn(parameter.shape).to(parameter.dtype))
            calls = [c if len(c) == 2 and isinstance(c[1], dict) else (c, {}) for c in instance.calls()]
            if dtype:
                calls = torch.utils._pytree.tree_map(lambda t: t.to(dtype) if torch.is_tensor(t) and t.is_floating_point() else t, calls)
            args, kwargs = calls[0]
            flat = [[torch.as_tensor(t) for t in torch.utils._pytree.tree_leaves(c)] for c in calls]
            return Case(case_name, instance, args, flat, kwargs=kwargs, dynamic_shapes=dynamic_shapes, note=note, **options)

        options.setdefault("forms", ("model", "core"))
        CASES[name] = build
        return cls

    return register


def rows(*lengths, width=WIDTH):
    return [(torch.randn(2, length, width),) for length in lengths]


SEQUENCE = {"x": {1: Dim("t", min=1, max=16)}}


# --- norms --------------------------------------------------------------------------------------------------------------


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))
        self.eps = 1e-5

    def calls(self):
        return rows(6, 1, 16)


@module("rms_norm_upcast", SEQUENCE)
@module("rms_norm_upcast_bf16", SEQUENCE, torch.bfloat16)
@module("rms_norm_upcast_fp16", SEQUENCE, torch.float16)
class RmsUpcast(Norm):
    """Llama's: the mean square in float32, the weight after the cast back."""

    def forward(self, x):
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


@module("rms_norm_plain", SEQUENCE)
class RmsPlain(Norm):
    def forward(self, x):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight


@module("rms_norm_divide", SEQUENCE)
class RmsDivide(Norm):
    def forward(self, x):
        return self.weight * (x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps))


@module("rms_norm_gemma", SEQUENCE)
@module("rms_norm_gemma_bf16", SEQUENCE, torch.bfloat16)
class RmsGemma(Norm):
    """Gemma's: 1 + weight, and the product in float32."""

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * (1.0 + self.weight.float())).type_as(x)


@module("rms_norm_wrong_axis", SEQUENCE, note="looks like RMSNorm, but the mean runs over the sequence: must not be fused")
class RmsWrongAxis(Norm):
    def forward(self, x):
        return x * torch.rsqrt((x * x).mean(1, keepdim=True) + self.eps) * self.weight


@module("layer_norm_written", SEQUENCE)
class LayerNormWritten(Norm):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.pow(2).mean(-1, keepdim=True)
        return centred / torch.sqrt(variance + self.eps) * self.weight + self.bias


@module("layer_norm_op", SEQUENCE)
@module("layer_norm_op_bf16", SEQUENCE, torch.bfloat16)
class LayerNormOp(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.bare = nn.LayerNorm(WIDTH, elementwise_affine=False)

    def forward(self, x):
        return self.norm(x), self.bare(x)

    def calls(self):
        return rows(6, 1, 16)


# --- position and attention ---------------------------------------------------------------------------------------------


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


ROPE_SHAPES = {"q": {2: (T := Dim("t", min=1, max=16))}, "k": {2: T}, "positions": {1: T}}


@module("rope_hf", ROPE_SHAPES)
@module("rope_hf_bf16", ROPE_SHAPES, torch.bfloat16)
class RopeHf(nn.Module):
    """Angles from positions, as Hugging Face computes them; query and key have different head counts."""

    def __init__(self):
        super().__init__()
        self.inverse = 1.0 / 10000.0 ** (torch.arange(0, 16, 2).float() / 16)

    def forward(self, q, k, positions):
        angles = (self.inverse[None, :, None] @ positions[:, None, :].float()).transpose(1, 2)
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().to(q.dtype)[:, None], angles.sin().to(q.dtype)[:, None]
        return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin

    def calls(self):
        def call(start, length):
            return torch.randn(1, 4, length, 16), torch.randn(1, 2, length, 16), torch.arange(start, start + length)[None]

        scattered = torch.randn(1, 4, 4, 16), torch.randn(1, 2, 4, 16), torch.tensor([[9, 2, 2, 40]])
        return [call(0, 6), call(6, 1), call(3, 16), scattered]


def qkv(queries, keys, heads=4, key_heads=4, width=16):
    return torch.randn(2, heads, queries, width), torch.randn(2, key_heads, keys, width), torch.randn(2, key_heads, keys, width)


QKV_SHAPES = {"q": {2: (T2 := Dim("t", min=2, max=16))}, "k": {2: T2}, "v": {2: T2}}


@module("sdpa_causal", QKV_SHAPES, forms=ALL)
class SdpaCausal(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def calls(self):
        return [qkv(6, 6), qkv(2, 2), qkv(16, 16)]


@module("sdpa_bool_mask")
class SdpaBoolMask(nn.Module):
    """A boolean mask with a row that allows one key only."""

    def forward(self, q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.2)

    def calls(self):
        mask = torch.rand(2, 1, 5, 7) > 0.4
        mask[..., 0] = True
        mask[:, :, 2, 1:] = False
        return [(*qkv(5, 7), mask)]


@module("sdpa_float_mask")
@module("sdpa_float_mask_bf16", dtype=torch.bfloat16)
class SdpaFloatMask(nn.Module):
    def forward(self, q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def calls(self):
        mask = torch.randn(5, 7)
        mask[1, 3:] = float("-inf")
        return [(*qkv(5, 7), mask)]


@module("sdpa_repeated_heads", QKV_SHAPES)
class SdpaRepeatedHeads(nn.Module):
    """Key/value heads repeated by unsqueeze, expand and reshape, as Hugging Face writes it."""

    def forward(self, q, k, v):
        def repeat(x):
            batch, heads, length, width = x.shape
            return x[:, :, None].expand(batch, heads, 2, length, width).reshape(batch, heads * 2, length, width)

        return F.scaled_dot_product_attention(q, repeat(k), repeat(v), is_causal=True)

    def calls(self):
        return [qkv(6, 6, key_heads=2), qkv(2, 2, key_heads=2), qkv(16, 16, key_heads=2)]


@module("attention_written", QKV_SHAPES, forms=ALL)
@module("attention_written_bf16", QKV_SHAPES, torch.bfloat16)
class AttentionWritten(nn.Module):
    """matmul, scale, causal mask, softmax in float32, matmul."""

    def forward(self, q, k, v):
        length = q.shape[2]
        scores = q @ k.transpose(-1, -2) * 0.25
        allowed = torch.ones(length, length, dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        return scores.float().softmax(-1).to(q.dtype) @ v

    def calls(self):
        return [qkv(6, 6), qkv(2, 2), qkv(16, 16)]


@module("attention_softcap", QKV_SHAPES)
class AttentionSoftcap(nn.Module):
    """A tanh between scale and softmax: no fused attention computes it."""

    def forward(self, q, k, v):
        scores = torch.tanh(q @ k.transpose(-1, -2) / 4.0 / 5.0) * 5.0
        return scores.softmax(-1) @ v

    def calls(self):
        return [qkv(6, 6), qkv(2, 2), qkv(16, 16)]


@module("range_of_half", dtype=torch.float16, forms=ALL)
class RangeOfHalf(nn.Module):
    """What stays below 65504 since factors stand where they do: before a product, before the sum over a sequence, before a rotation; and means and norms of large numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randint(-1, 2, (WIDTH, WIDTH, 1)).float())
        self.register_buffer("mean", torch.full((WIDTH, 1), 1000.0))
        self.register_buffer("factor", torch.full((WIDTH, 1), 100.0) + torch.arange(WIDTH)[:, None])

    def forward(self, q, k, v):
        scale = q.shape[-1] ** -0.5
        scores = (q * scale) @ k.transpose(-1, -2)
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        attention = scores.masked_fill(hidden, float("-inf")).float().softmax(-1).half() @ v
        sums = (k.transpose(-1, -2) / 1024) @ v
        angle = torch.arange(q.shape[-1], dtype=torch.float32)
        near, far = (q * 0.01).chunk(2, -1)
        turned = torch.cat([near * angle.cos().half()[:8] - far * angle.sin().half()[:8], far], -1)
        normed = v * torch.rsqrt(v.float().pow(2).mean(-1, keepdim=True) + 1e-6).half()
        channels = F.conv1d((v.reshape(1, WIDTH, -1) / 64).round(), self.weight, self.mean[:, 0])
        steps = (channels - self.mean) * self.factor
        return scores, attention, sums, (q * 0.01) * (k * 8), turned, normed, v.mean(-1), steps

    def calls(self):
        return [tuple(60 + 30 * torch.randn(1, 4, 16, 16) for _ in "qkv")]


# --- activations and linears --------------------------------------------------------------------------------------------


@module("swiglu", SEQUENCE)
@module("swiglu_fp16", SEQUENCE, torch.float16)
class SwiGlu(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(WIDTH, 48, bias=False), nn.Linear(WIDTH, 48, bias=False)
        self.down = nn.Linear(48, WIDTH, bias=False)

    def forward(self, x):
        return x + self.down(F.silu(self.gate(x)) * self.up(x))

    def calls(self):
        return rows(6, 1, 16)


@module("activations", SEQUENCE)
@module("activations_bf16", SEQUENCE, torch.bfloat16)
class Activations(nn.Module):
    """Operators and spelled-out forms of SiLU and both GELUs."""

    def forward(self, x):
        erf = 0.5 * x * (1.0 + torch.erf(x / 2.0**0.5))
        tanh = 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x.pow(3))))
        return x * torch.sigmoid(x), F.silu(x), erf, F.gelu(x), tanh, F.gelu(x, approximate="tanh")

    def calls(self):
        return [(4 * x,) for (x,) in rows(6, 1, 16)]


@module("linear_bias", SEQUENCE, forms=ALL)
@module("linear_bias_bf16", SEQUENCE, torch.bfloat16)
class LinearBias(nn.Module):
    """A linear with bias, addmm with factors, and a residual addition."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 48), nn.Linear(48, WIDTH)

    def forward(self, x):
        y = x + self.second(F.relu(self.first(x)))
        return torch.addmm(self.second.bias, y[0], self.first.weight.t() @ self.second.weight.t(), beta=0.5, alpha=2.0)

    def calls(self):
        return rows(6, 1, 16)


@module("tied_embedding", {"tokens": {1: Dim("t", min=1, max=16)}})
class TiedEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(40, WIDTH)
        self.head = nn.Linear(WIDTH, 40, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embed(tokens)))

    def calls(self):
        return [(torch.randint(0, 40, (2, length)),) for length in (6, 1, 16)]


@module("shared_storage")
class SharedStorage(nn.Module):
    """Parameters that are a transposed view and a slice of one storage."""

    def __init__(self):
        super().__init__()
        base = torch.randn(24, 16) / 4
        self.turned = nn.Parameter(base.t())
        self.part = nn.Parameter(base[4:12])
        self.register_buffer("column", base[:, 3])

    def forward(self, x, y):
        return x @ self.turned.t(), y @ self.turned, F.linear(y, self.part), x + self.column

    def calls(self):
        return [(torch.randn(3, 24), torch.randn(3, 16))]


# --- state, mutation, views ---------------------------------------------------------------------------------------------


@module("state_counter", {"x": {0: Dim("n", min=1, max=8)}}, forms=ALL)
class StateCounter(nn.Module):
    """Buffers whose initial values aren't zero, mutated by every call; one is read before and after."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("running", torch.linspace(-1.0, 2.0, WIDTH))
        self.register_buffer("seen", torch.tensor([True, False]), persistent=False)
        self.register_buffer("fixed", torch.full((WIDTH,), 0.5))

    def forward(self, x):
        before = self.running * 1.0
        self.count.add_(x.shape[0])
        self.running.mul_(0.9).add_(0.1 * x.mean(0))
        self.seen.logical_not_()
        return before, self.running + self.fixed, self.count * 2, self.seen & True

    def calls(self):
        return [(torch.randn(n, WIDTH),) for n in (4, 1, 8, 3)]


@module("state_cache", {"x": {1: (T3 := Dim("t", min=1, max=8))}, "positions": {0: T3}}, forms=ALL)
class StateCache(nn.Module):
    """A static cache with a non-zero start, written by index_copy_ and read whole."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.randn(1, 12, 8))

    def forward(self, x, positions):
        self.cache.index_copy_(1, positions, x)
        return self.cache.sum(1), self.cache[:, positions] - x

    def calls(self):
        return [(torch.randn(1, len(p), 8), torch.tensor(p)) for p in ([0, 1, 2, 3], [4], [11, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7])]


@module("inplace_views", {"x": {0: Dim("n", min=3, max=8)}}, forms=ALL)
class InplaceViews(nn.Module):
    """In-place operators on views of intermediates, of views of views, and on overlapping slices read later."""

    def forward(self, x):
        y = x * 2.0
        left = y[:, :16]
        left.add_(1.0)
        left.view(-1, 4, 4)[:, 1].mul_(-3.0)
        y.t()[5].zero_()
        y[:, 20:24].copy_(x[:, :4])
        y[1:].neg_()
        z = y.unsqueeze(0).squeeze(0)
        z.clamp_(min=-4.0)
        return y, left.sum(), x

    def calls(self):
        return [(torch.randn(n, WIDTH),) for n in (4, 3, 8)]


@module("inplace_buffer_views", {"x": {0: Dim("n", min=2, max=4)}, "at": None}, forms=ALL)
class InplaceBufferViews(nn.Module):
    """A ring of rows in a buffer: copy_ into a narrowed, transposed view, and an index_put_ with accumulation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.ones(8, 6))

    def forward(self, x, at):
        length = x.shape[0]
        self.rows.narrow(0, 2, length).t().copy_(x.t())
        self.rows.index_put_((at,), torch.ones(2, 6), accumulate=True)
        self.rows[7].fill_(9.0)
        return self.rows.clone()

    def calls(self):
        return [(torch.randn(n, 6), torch.tensor(a)) for n, a in ((3, [0, 3]), (2, [1, 6]), (4, [5, 0]))]


@module("inplace_input", forms=ALL, mutated=(0,))
class InplaceInput(nn.Module):
    """An input that is mutated: the module's result must show it."""

    def forward(self, x, y):
        x.add_(y)
        x[:, 0].mul_(2.0)
        return x * 1.0, y.sum(0)

    def calls(self):
        return [(torch.randn(3, 4), torch.randn(3, 4))]


# --- sizes, types, signatures -------------------------------------------------------------------------------------------


@module("symbolic_sizes", {"x": {0: Dim("b", min=2, max=4), 1: Dim("t", min=4, max=12)}}, deferred_asserts=True, forms=ALL)
class SymbolicSizes(nn.Module):
    """Two dynamic sizes and arithmetic with them."""

    def forward(self, x):
        batch, length, width = x.shape
        half = length // 2
        folded = x.reshape(batch * length, 2, width // 2).transpose(0, 1).reshape(2, -1)
        joined = torch.cat([x[:, :half], x[:, half:] * length], dim=1)
        grid = torch.arange(length).unsqueeze(0) + torch.arange(batch).unsqueeze(1) * length
        padded = torch.cat([x, x.new_full((batch, 3, width), 1.5)], dim=1)[:, -length - 1 :]
        return folded, joined, grid, padded, torch.full((length,), 2.0) * batch, x.flatten(1)[:, :: max(width // 4, 1)]

    def calls(self):
        return [(torch.randn(b, t, 8),) for b, t in ((3, 6), (2, 4), (4, 12), (3, 5))]


@module("integers")
class Integers(nn.Module):
    """Integer and boolean operators, with negative and wrapping values."""

    def forward(self, a, b, small, flag):
        return (
            a // b, a % b, torch.div(a, b, rounding_mode="trunc"), torch.fmod(a, b), a & b, a | 5, a ^ b, ~a, a << 2, a >> 1,
            small + 100, small.to(torch.int64) * a[:3], (a > b) & flag, flag.to(torch.int32) - 1, a.cumsum(0), a.argmax(), a.max(),
            flag.any(), flag.all(), torch.where(flag, a, b), a / b, a.clamp(-100, 100).float().pow(2).to(torch.int32), a.abs().clamp(max=6), -a, a.sum(),
        )

    def calls(self):
        a = torch.tensor([7, -7, 0, 123456789012, -3, 5])
        b = torch.tensor([2, 3, -4, 1000, -3, -2])
        return [(a, b, torch.tensor([1, 2, 200], dtype=torch.uint8), torch.tensor([True, False, True, True, False, False]))]


@module("special_floats")
class SpecialFloats(nn.Module):
    """NaN, infinities, signed zeros and denormals through comparisons, extrema and rounding."""

    def forward(self, x, y):
        return (torch.maximum(x, y), torch.minimum(x, y), x < y, x == y, x != y, torch.isnan(x), torch.isinf(x), torch.relu(x), x.sign(), x.round(),
                x.floor(), x.trunc(), x.clamp(-1.0, 1.0), torch.where(x > 0, x, y), torch.nan_to_num(x, 1.0, 2.0, 3.0), x.abs(), x.sigmoid(), x.tanh(), torch.exp(x))

    def calls(self):
        nan, inf = float("nan"), float("inf")
        x = torch.tensor([nan, inf, -inf, 0.0, -0.0, 1e-40, 0.5, 1.5, 2.5, -2.5])
        y = torch.tensor([1.0, nan, inf, -0.0, 0.0, -1e-40, inf, 1.5, -inf, nan])
        return [(x, y)]


@module("signature", forms=ALL)
class Signature(nn.Module):
    """Nested inputs by position and keyword; outputs that are an input, a weight, a view, a constant and a repetition."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))
        self.table = torch.arange(4.0)

    def forward(self, x, pair, *, scale, extra):
        y = x + pair[0] * scale
        return {"y": y, "again": (y, x), "weight": self.weight, "table": self.table, "view": y.view(4, 3), "extra": extra["e"] + pair[1]}

    def calls(self):
        return [((torch.randn(3, 4), [torch.randn(4), torch.randn(2)]), {"scale": torch.tensor(0.5), "extra": {"e": torch.randn(1, 2)}})]


@module("scalars_and_empties", {"x": {0: Dim("n", min=0, max=4)}, "s": None})
class ScalarsAndEmpties(nn.Module):
    """Tensors without dimensions, and with none of a dimension."""

    def forward(self, x, s):
        total = x.sum() + s
        return total, s * s, x * total, torch.cat([x, x[:0]], 0), x.new_zeros(0, 3)

    def calls(self):
        return [(torch.randn(n, 3), torch.tensor(1.25)) for n in (3, 0, 4)]


@module("pointwise_functions")
class PointwiseFunctions(nn.Module):
    """The functions of one and two floats that the other modules leave out."""

    def forward(self, x, y):
        p, u = x.abs() + 0.25, torch.tanh(x) * 0.9
        return (torch.expm1(x), torch.log1p(p), torch.log(p), torch.log2(p), torch.log10(p), p.reciprocal(), p.rsqrt(), x.tan(), u.asin(), u.acos(),
                x.atan(), x.sinh(), x.cosh(), u.atanh(), x.asinh(), (1 + p).acosh(), torch.atan2(x, y), torch.logaddexp(x, y), p.pow(y), torch.fmod(x, y),
                torch.remainder(x, y), torch.floor_divide(x, y), x.logical_or(y), x.logical_and(y), x.logical_xor(y), torch.lerp(x, y, 0.25), torch.frac(x),
                torch.addcmul(x, y, p, value=0.5), torch.addcdiv(x, y, p), F.softplus(x), F.elu(x), F.leaky_relu(x, 0.1), F.hardswish(x), F.hardtanh(x), F.relu6(4 * x))

    def calls(self):
        x, y = torch.randn(3, 5), torch.randn(3, 5)
        x[0, 0] = 0.0
        return [(x, y)]


@module("gather_scatter", {"x": {0: Dim("n", min=2, max=8)}, "index": None})
class GatherScatter(nn.Module):
    """Indexing: gather, index_select, advanced indexing, negative indices, topk and sort."""

    def forward(self, x, index):
        values, places = x.topk(3, dim=-1)
        ordered, _ = x.sort(dim=-1, descending=True)
        column = torch.tensor([0, 2, -1])
        return x.gather(1, places), x.index_select(1, index), x[:, column], x[:, -1], values, ordered, x[index.clamp(max=1)], F.one_hot(index, 8)

    def calls(self):
        return [(torch.randn(n, 8), torch.tensor([3, 0, 7])) for n in (4, 2, 8)]


# --- what MLX's delegate can't express ----------------------------------------------------------------------------------


class Sandwich(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 24), nn.Linear(24, 8)

    def calls(self):
        return [(torch.randn(n, WIDTH),) for n in (4, 1, 8)]


@module("complex_layers", note="complex numbers: a diagonal state space, a Fourier layer that writes part of its spectrum, functions, powers, products, numbers with an imaginary part")
class ComplexLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.decay, self.turn, self.mix, self.step = nn.Parameter(torch.zeros(2, 4)), nn.Parameter(torch.arange(4.0).repeat(2, 1)), nn.Parameter(torch.randn(2, 4, 2)), nn.Parameter(torch.randn(2) * 0.1 - 2)
        self.weight = nn.Parameter(torch.randn(2, 2, 3, 2))

    def forward(self, x, y):
        poles = -torch.exp(self.decay) + 1j * self.turn
        steps = poles * torch.exp(self.step)[:, None]
        mix = torch.view_as_complex(self.mix) * (torch.exp(steps) - 1.0) / poles
        kernel = 2 * torch.einsum("hn,hnl->hl", mix, torch.exp(steps.unsqueeze(-1) * torch.arange(8))).real
        spectrum = torch.fft.rfft(x, n=16) * torch.fft.rfft(kernel, n=16)
        states = torch.fft.irfft(spectrum, n=16)[..., :8]
        modes = torch.zeros(2, 2, 5, dtype=torch.cfloat)
        modes[:, :, :3] = torch.einsum("bix,iox->box", torch.fft.rfft(x)[:, :, :3], torch.view_as_complex(self.weight))
        z = torch.complex(x, y)
        z[0] *= 2j
        z.real.add_(1)
        some = [torch.log(z), torch.sqrt(z), torch.tanh(z), z**3, z ** (0.5 + 1j), z @ z.mH, torch.cumprod(z, -1), torch.where(x > 0, z, 1 - 2j * z), torch.vdot(z[0, 0], z[1, 0])]
        return (states, torch.fft.irfft(modes, n=8), torch.fft.hfft(z), *[torch.view_as_real(one) for one in some])

    def calls(self):
        return [(torch.randn(2, 2, 8), torch.randn(2, 2, 8))]


@module("rare_operators", note="integer convolution, fractional pooling with given draws, reductions of segments, logspace between tensors, products of other types")
class RareOperators(nn.Module):
    def forward(self, x, ints, kernel, draws, lengths, end):
        pooled = F.fractional_max_pool2d(x, (2, 3), output_size=(3, 2), _random_samples=draws, return_indices=True)
        rows = x.flatten(0, 2)
        segments = [torch.segment_reduce(rows, how, lengths=lengths) for how in ("sum", "mean", "max", "min", "prod")]
        offsets = torch.segment_reduce(rows, "mean", offsets=F.pad(lengths.cumsum(0), (1, 0)), initial=1.0)
        return F.conv2d(ints, kernel, padding=1, stride=2, groups=2), *pooled, *segments, offsets, torch.logspace(0.5, end, 5, base=3.0), ints.to(torch.int32).view(torch.uint32).to(torch.int64), x[ints.flatten()[0].remainder(2).item() - 1]

    def calls(self):
        return [(torch.randn(2, 3, 6, 7), torch.randint(-9, 9, (1, 4, 5, 5)), torch.randint(-9, 9, (6, 2, 3, 3)), torch.rand(2, 3, 2), torch.tensor([5, 0, 31]), torch.tensor(2.0)) for _ in range(2)]


@module("host_bits", note="bits seen as other types, the next float, incomplete gamma functions: kernels of the host")
class HostBits(nn.Module):
    def forward(self, x, y):
        bits = x.view(torch.int32)
        return bits, (bits ^ 1).view(torch.float32), x.to(torch.bfloat16).view(torch.int16), x.view(torch.uint8), torch.nextafter(x, y), torch.igamma(x.abs(), y.abs()), torch.igammac(x.abs() * 9, y.abs() * 9)

    def calls(self):
        return [(torch.randn(3, 4), torch.randn(3, 4))]


@module("fourier_of_a_row", note="Fourier transforms of a tensor with one axis")
class FourierOfARow(nn.Module):
    def forward(self, x, y):
        z = torch.complex(x, y)
        whole = [torch.view_as_real(torch.fft.fft(x)), torch.view_as_real(torch.fft.ifft(z, n=4)), torch.view_as_real(torch.fft.rfft(x, norm="ortho")), torch.view_as_real(torch.fft.ihfft(x).resolve_conj())]
        return (*whole, torch.fft.irfft(z, n=9), torch.fft.hfft(z))

    def calls(self):
        return [(torch.randn(6), torch.randn(6))]


@module("host_special", note="special functions: Bessel's, Airy's, orthogonal polynomials")
class HostSpecial(nn.Module):
    def forward(self, x, n):
        of, y = torch.special, x.abs() + 0.1
        bessel = [of.bessel_j0(x), of.bessel_j1(x), of.bessel_y0(y), of.bessel_y1(y), of.modified_bessel_k0(y), of.modified_bessel_k1(y), of.scaled_modified_bessel_k0(y), of.scaled_modified_bessel_k1(y), of.spherical_bessel_j0(x), of.airy_ai(x)]
        u = x / 20
        first = [of.chebyshev_polynomial_t(u, n), of.chebyshev_polynomial_u(u, 3), of.chebyshev_polynomial_v(u, n), of.chebyshev_polynomial_w(u, n), of.hermite_polynomial_h(u, n), of.hermite_polynomial_he(0.5, n)]
        return (*bessel, *first, of.laguerre_polynomial_l(u, n), of.legendre_polynomial_p(u, n), of.shifted_chebyshev_polynomial_t(y / 20, n), of.shifted_chebyshev_polynomial_u(y / 20, n))

    def calls(self):
        return [(torch.linspace(-19.0, 18.0, 24), torch.arange(24.0).remainder(7))]


@module("host_missing", {"x": {0: Dim("n", min=1, max=8)}}, note="an operator that nothing has a kernel for, between two linears")
class HostMissing(Sandwich):
    def forward(self, x):
        return self.second(torch.ormqr(torch.eye(24), torch.full((24,), 0.5), F.relu(self.first(x)).mT).mT)


@module("host_nonzero", {"x": {0: Dim("n", min=2, max=8)}}, note="a result whose size depends on the data, used by later computation")
class HostNonzero(Sandwich):
    def forward(self, x):
        hidden = self.first(x)
        rows = torch.nonzero(hidden[:, 0] > -10.0).squeeze(-1)
        return self.second(hidden[rows]) + 1.0

    def calls(self):
        return [(torch.randn(n, WIDTH),) for n in (4, 2, 8)]


@module("lengths", {"x": {0: Dim.AUTO, 2: Dim.AUTO}}, note="two dimensions without bounds: sizes that only the export knows to be equal, a norm over one of them, one row and one column")
class Lengths(nn.Module):
    def forward(self, x):
        pooled = F.avg_pool1d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
        normed = F.layer_norm(x, (x.shape[-1],))
        rotated = torch.cat([-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]], -1)
        return pooled, normed + rotated, torch.arange(2 * x.shape[0] + 1)

    def calls(self):
        return [(torch.randn(b, 2, n),) for b, n in ((3, 8), (1, 5), (2, 33), (4, 6))]
