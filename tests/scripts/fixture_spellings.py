"""Groups of modules that mean the same and are spelled differently: each group must become one program (see make_fixtures.py)."""
import math

import torch
import torch.nn.functional as F
from make_fixtures import Case
from torch import nn
from torch.export import Dim

CASES = {}
WIDTH = 16
SCALE = 8**-0.5


def group(name, calls, dynamic_shapes=None, weights=None, buffers=None, note="", **options):
    """Registers the spellings of one thing. `calls()` gives the recorded calls of all of them; `weights` are parameters that they share by name and shape,
    `buffers` states that start as zeros."""

    options.setdefault("forms", ("model", "core"))

    def register(spelling):
        def forward(self, *args):
            return spelling(self, *args)

        module = type(name, (nn.Module,), {"forward": renamed(forward, spelling)})

        def build(case_name):
            instance = module()
            torch.manual_seed(7)
            for key, shape in (weights or {}).items():
                setattr(instance, key, nn.Parameter(torch.randn(shape) / 4 + (0.0 if len(shape) > 1 else 1.0)))
            for key, shape in (buffers or {}).items():
                instance.register_buffer(key, torch.zeros(shape))
            made = calls()
            return Case(case_name, instance, made[0], [list(c) for c in made], dynamic_shapes=dynamic_shapes, note=note, group="spellings", **options)

        CASES[f"{name}.{spelling.__name__}"] = build
        return spelling

    return register


def renamed(forward, spelling):
    """`forward` with the parameters of `spelling`, which torch.export takes names from."""
    import inspect

    forward.__signature__ = inspect.signature(spelling)
    return forward


# --- attention ----------------------------------------------------------------------------------------------------------

T = Dim("t", min=2, max=16)
QKV = {"q": {2: T}, "k": {2: T}, "v": {2: T}}


def qkv(length, heads=4, key_heads=2, width=8):
    return torch.randn(2, heads, length, width), torch.randn(2, key_heads, length, width), torch.randn(2, key_heads, length, width)


def repeated(x, times=2):
    batch, heads, length, width = x.shape
    return x[:, :, None].expand(batch, heads, times, length, width).reshape(batch, heads * times, length, width)


def below(q, k):
    return torch.arange(k.shape[2])[None, :] <= torch.arange(q.shape[2])[:, None]


causal = group("causal", lambda: [qkv(6), qkv(2)], QKV)


@causal
def flag(self, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


@causal
def flag_repeated(self, q, k, v):
    return F.scaled_dot_product_attention(q, repeated(k), repeated(v), is_causal=True)


@causal
def flag_interleaved(self, q, k, v):
    return F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, dim=1), is_causal=True)


@causal
def mask_tril(self, q, k, v):
    length = q.shape[2]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(length, length, dtype=torch.bool).tril(), enable_gqa=True)


@causal
def mask_triu_infinite(self, q, k, v):
    length = q.shape[2]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.full((length, length), -torch.inf).triu(1), enable_gqa=True)


@causal
def mask_compared(self, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=below(q, k)[None, None].expand(2, 1, -1, -1), enable_gqa=True)


@causal
def mask_lowest_added(self, q, k, v):
    mask = torch.where(below(q, k), 0.0, torch.finfo(q.dtype).min)[None, None]
    scores = q @ repeated(k).transpose(2, 3) / math.sqrt(8) + mask
    return F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ repeated(v)


@causal
def written_filled(self, q, k, v):
    scores = torch.matmul(q, repeated(k).transpose(-2, -1)) * SCALE
    return torch.matmul(scores.masked_fill(~below(q, k), float("-inf")).softmax(-1), repeated(v))


@causal
def written_filled_lowest(self, q, k, v):
    scores = torch.matmul(q * SCALE, repeated(k).mT)
    return torch.matmul(scores.masked_fill(torch.logical_not(below(q, k)), -1e30).softmax(-1), repeated(v))


@causal
def written_where(self, q, k, v):
    length = q.shape[2]
    future = torch.ones(length, length).triu(diagonal=1).bool()
    scores = torch.where(future, torch.tensor(float("-inf")), q @ (repeated(k) * SCALE).transpose(-2, -1))
    return scores.softmax(-1) @ repeated(v)


@causal
def written_scaled_twice(self, q, k, v):
    scale = math.sqrt(SCALE)
    length = q.shape[2]
    mask = torch.zeros(length, length).masked_fill(torch.ones(length, length).tril() == 0, -torch.inf)
    return ((q * scale) @ (repeated(k) * scale).transpose(-2, -1) + mask).softmax(-1) @ repeated(v)


@causal
def written_einsum(self, q, k, v):
    scores = torch.einsum("bhsd,bhtd->bhst", q, repeated(k)) * SCALE
    return torch.einsum("bhst,bhtd->bhsd", scores.masked_fill(~below(q, k), -torch.inf).softmax(-1), repeated(v))


@causal
def written_exp(self, q, k, v):
    scores = (q @ repeated(k).transpose(2, 3) * SCALE).masked_fill(~below(q, k), -torch.inf)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True) @ repeated(v)


def padded(length):
    q, k, v = qkv(length, key_heads=4)
    keep = torch.ones(2, length, dtype=torch.bool)
    keep[1, : length // 3] = False
    return q, k, v, keep


key_padding = group("key_padding", lambda: [padded(6), padded(4)], {**QKV, "keep": {1: T}})


@key_padding
def mask(self, q, k, v, keep):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :])


@key_padding
def mask_expanded(self, q, k, v, keep):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :].expand(-1, 4, q.shape[2], -1))


@key_padding
def mask_infinite(self, q, k, v, keep):
    added = torch.zeros(keep.shape).masked_fill(~keep, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added[:, None, None, :])


@key_padding
def written(self, q, k, v, keep):
    scores = q @ k.transpose(-2, -1) * SCALE
    return scores.masked_fill(keep[:, None, None, :] == 0, -torch.inf).softmax(-1) @ v


@key_padding
def written_turned(self, q, k, v, keep):
    scores = torch.where(keep.logical_not().view(2, 1, 1, -1), -torch.inf, q @ k.transpose(-2, -1) * SCALE)
    return scores.softmax(-1) @ v


# A window of 5 keys.
window = group("window", lambda: [qkv(6), qkv(2)], QKV)


@window
def compared(self, q, k, v):
    i, j = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(j <= i) & (j > i - 5), enable_gqa=True)


@window
def distance(self, q, k, v):
    ahead = torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=((ahead >= 0) & (ahead < 5))[None, None], enable_gqa=True)


@window
def triangles(self, q, k, v):
    ones = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=ones.tril() & ones.triu(-4), enable_gqa=True)


@window
def added(self, q, k, v):
    i, j = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])
    mask = torch.where(j > i, -torch.inf, 0.0) + torch.where(j <= i - 5, -torch.inf, 0.0)
    return (q @ repeated(k).transpose(2, 3) * SCALE + mask).softmax(-1) @ repeated(v)


softcap = group("softcap", lambda: [qkv(6), qkv(2)], QKV)


@softcap
def divided(self, q, k, v):
    scores = q @ repeated(k).transpose(-1, -2) * SCALE
    scores = torch.tanh(scores / 30.0) * 30.0
    return scores.masked_fill(~below(q, k), -torch.inf).softmax(-1) @ repeated(v)


@softcap
def scaled_queries(self, q, k, v):
    scores = torch.matmul(q * SCALE, repeated(k).mT)
    scores = 30.0 * torch.tanh(scores * (1 / 30.0))
    mask = torch.where(below(q, k), 0.0, -torch.inf)
    return (scores + mask).softmax(-1) @ repeated(v)


sinks = group("sinks", lambda: [qkv(6), qkv(2)], QKV, weights={"sinks": (4,)})


def sink_scores(q, k):
    return q @ repeated(k).transpose(-1, -2) * SCALE + torch.where(below(q, k), 0.0, -torch.inf)


@sinks
def joined(self, q, k, v):
    scores = sink_scores(q, k)
    sinks = self.sinks.reshape(1, -1, 1, 1).expand(q.shape[0], -1, q.shape[2], -1)
    joined = torch.cat([scores, sinks], dim=-1)
    return joined.softmax(-1)[..., :-1] @ repeated(v)


@sinks
def joined_safe(self, q, k, v):
    scores = sink_scores(q, k)
    joined = torch.cat([scores, self.sinks.view(-1, 1, 1).expand(2, 4, q.shape[2], 1)], dim=-1)
    joined = joined - joined.max(dim=-1, keepdim=True).values
    return F.softmax(joined, dim=-1, dtype=joined.dtype)[..., : k.shape[2]] @ repeated(v)


# --- a cache ------------------------------------------------------------------------------------------------------------

LENGTH = 16


def step(start, length):
    q, k, v = qkv(length)
    return q[:1], k[:1], v[:1], torch.tensor(start)


def steps():
    return [step(0, 5), step(5, 1), step(6, 3)]


S = Dim("s", min=1, max=8)
STEP = {"q": {2: S}, "k": {2: S}, "v": {2: S}, "start": None}
cached = group("cached", steps, STEP, buffers={"keys": (1, 2, LENGTH, 8), "values": (1, 2, LENGTH, 8)}, deferred_asserts=True)


def attend(q, keys, values, positions):
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=torch.arange(LENGTH) <= positions[:, None], enable_gqa=True)


@cached
def index_copy(self, q, k, v, start):
    positions = start + torch.arange(q.shape[2])
    self.keys.index_copy_(2, positions, k)
    self.values.index_copy_(2, positions, v)
    return attend(q, self.keys, self.values, positions)


@cached
def index_put(self, q, k, v, start):
    positions = torch.arange(q.shape[2]) + start
    self.keys[:, :, positions] = k
    self.values[:, :, positions] = v
    return attend(q, self.keys, self.values, positions)


@cached
def lowest_added(self, q, k, v, start):
    positions = start + torch.arange(q.shape[2])
    keys, values = self.keys.index_copy(2, positions, k), self.values.index_copy(2, positions, v)
    self.keys.copy_(keys)
    self.values.copy_(values)
    mask = torch.full((q.shape[2], LENGTH), torch.finfo(q.dtype).min)
    mask = mask * (torch.arange(LENGTH) > positions.reshape(-1, 1))
    scores = q @ repeated(keys).transpose(2, 3) * SCALE + mask[None, None]
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ repeated(values)


# --- rotary embeddings --------------------------------------------------------------------------------------------------


def turned(length, start=0):
    return torch.randn(1, 4, length, 16), torch.randn(1, 2, length, 16), torch.tensor(start)


R = Dim("s", min=1, max=16)
ROPE = {"q": {2: R}, "k": {2: R}, "start": None}
FREQUENCIES = 1.0 / 10000.0 ** (torch.arange(0, 16, 2).float() / 16)


def rotated(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def rope_calls():
    return [turned(6), turned(1, 6), turned(3, 7)]


halves = group("rope_halves", rope_calls, ROPE)


@halves
def tables(self, q, k, start):
    positions = start + torch.arange(q.shape[2])
    angles = (FREQUENCIES[None, :, None] @ positions[None, None, :].float()).transpose(1, 2)
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    return q * cos + rotated(q) * sin, k * cos + rotated(k) * sin


@halves
def outer(self, q, k, start):
    angles = torch.outer((torch.arange(q.shape[2]) + start).float(), FREQUENCIES)
    cos, sin = angles.cos(), angles.sin()

    def turn(x):
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)

    return turn(q), turn(k)


@halves
def split(self, q, k, start):
    angles = torch.einsum("i,j->ij", (torch.arange(q.shape[2]) + start).to(torch.float32), FREQUENCIES)
    cos, sin = angles.cos()[None, None], angles.sin()[None, None]

    def turn(x):
        left, right = x[..., :8], x[..., 8:]
        return torch.cat((cos * left - sin * right, sin * left + cos * right), -1)

    return turn(q), turn(k)


@halves
def complex_halves(self, q, k, start):
    angles = (start + torch.arange(q.shape[2]))[:, None].float() * FREQUENCIES
    turn = torch.polar(torch.ones_like(angles), angles)

    def apply(x):
        pairs = torch.view_as_real(torch.view_as_complex(torch.stack(x.chunk(2, -1), -1)) * turn)
        return torch.cat([pairs[..., 0], pairs[..., 1]], -1)

    return apply(q), apply(k)


@halves
def rolled(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES).repeat(1, 2)
    signs = torch.cat([-torch.ones(8), torch.ones(8)])
    cos, sin = angles.cos(), angles.sin()
    return q * cos + torch.roll(q, 8, -1) * signs * sin, k * cos + torch.roll(k, 8, -1) * signs * sin


@halves
def signed_sines(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES)
    cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([-angles.sin(), angles.sin()], -1)
    return q * cos + q.roll(8, dims=-1) * sin, k * cos + k.roll(8, dims=-1) * sin


pairs = group("rope_pairs", rope_calls, ROPE)


@pairs
def complex_product(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES)
    turn = torch.polar(torch.ones_like(angles), angles)

    def apply(x):
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(3).type_as(x)

    return apply(q), apply(k)


@pairs
def stacked(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES)
    cos, sin = angles.cos(), angles.sin()

    def apply(x):
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)

    return apply(q), apply(k)


@pairs
def unbound(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES)
    cos, sin = angles.cos()[None, None], angles.sin()[None, None]

    def apply(x):
        even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).reshape(x.shape)

    return apply(q), apply(k)


def rotations(q, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([cos, -sin, sin, cos], -1).view(q.shape[2], 8, 2, 2)


@pairs
def by_columns(self, q, k, start):
    turns = rotations(q, start)

    def apply(x):
        each = x.view(*x.shape[:-1], 8, 1, 2)
        return (turns[..., 0] * each[..., 0] + turns[..., 1] * each[..., 1]).reshape(x.shape)

    return apply(q), apply(k)


@pairs
def by_matrices(self, q, k, start):
    turns = rotations(q, start)

    def apply(x):
        return (turns @ x.view(*x.shape[:-1], 8, 2, 1)).squeeze(-1).flatten(-2)

    return apply(q), apply(k)


@pairs
def rotated_neighbours(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES)
    cos, sin = angles.cos().repeat_interleave(2, dim=-1), angles.sin().repeat_interleave(2, -1)

    def turn(x):
        return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)

    return q * cos + turn(q) * sin, k * cos + turn(k) * sin


@pairs
def rotation_matrices(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), FREQUENCIES)
    cache = torch.stack([angles.cos(), angles.sin()], dim=-1)

    def apply(x):
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        out = torch.stack([pairs[..., 0] * cache[..., 0] - pairs[..., 1] * cache[..., 1], pairs[..., 1] * cache[..., 0] + pairs[..., 0] * cache[..., 1]], -1)
        return out.flatten(3)

    return apply(q), apply(k)


partial = group("rope_partial", rope_calls, ROPE)
SHORT = 1.0 / 10000.0 ** (torch.arange(0, 8, 2).float() / 8)


@partial
def joined_halves(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), SHORT)
    angles = torch.cat([angles, angles], -1)
    cos, sin = angles.cos(), angles.sin()

    def apply(x):
        turn, rest = x[..., :8], x[..., 8:]
        return torch.cat([turn * cos + rotated(turn) * sin, rest], -1)

    return apply(q), apply(k)


@partial
def split_halves(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), SHORT)
    cos, sin = angles.cos(), angles.sin()

    def apply(x):
        left, right, rest = x.split([4, 4, 8], -1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin, rest], -1)

    return apply(q), apply(k)


# Frequencies and amplitude scaled by numbers, as YaRN and longrope do.
scaled = group("rope_scaled", rope_calls, ROPE)
LONG = FREQUENCIES / torch.linspace(1.0, 8.0, 8)


@scaled
def after_the_waves(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), LONG)
    angles = torch.cat((angles, angles), -1)
    cos, sin = angles.cos() * 1.25, angles.sin() * 1.25
    return q * cos + rotated(q) * sin, k * cos + rotated(k) * sin


@scaled
def chunked(self, q, k, start):
    angles = torch.outer((start + torch.arange(q.shape[2])).float(), LONG)
    cos, sin = angles.cos() * 1.25, angles.sin() * 1.25

    def apply(x):
        left, right = x.chunk(2, -1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)

    return apply(q), apply(k)


# --- norms --------------------------------------------------------------------------------------------------------------

ROWS = {"x": {1: Dim("t", min=1, max=16)}}


def rows():
    return [(torch.randn(2, n, WIDTH),) for n in (6, 1)]


rms = group("rms_norm", rows, ROWS, weights={"weight": (WIDTH,)})
EPS = 1e-5


@rms
def op(self, x):
    return F.rms_norm(x, (WIDTH,), self.weight, EPS)


@rms
def rsqrt_of_mean(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS))


@rms
def weight_first(self, x):
    return x * self.weight * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


@rms
def root_of_sum(self, x):
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) / x.shape[-1] + EPS) * self.weight


@rms
def power(self, x):
    return x * (x.pow(2).mean(-1, keepdim=True) + EPS).pow(-0.5) * self.weight


@rms
def power_of_half(self, x):
    return x / (EPS + x.pow(2).mean(-1, keepdim=True)) ** 0.5 * self.weight


@rms
def length(self, x):
    return x * torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).pow(2) / WIDTH + EPS) * self.weight


@rms
def one_over_root(self, x):
    return x * (1.0 / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + EPS)) * self.weight


@rms
def expanded(self, x):
    return x * torch.rsqrt(torch.mean(x**2, dim=2).unsqueeze(-1).expand(-1, -1, WIDTH) + EPS) * self.weight.expand(2, x.shape[1], -1)


@rms
def einsum(self, x):  # noqa: F811
    return x * torch.rsqrt(torch.einsum("bsd,bsd->bs", x, x)[..., None] / WIDTH + EPS) * self.weight


@rms
def variance_and_mean(self, x):
    square = x.var(-1, keepdim=True, unbiased=False) + x.mean(-1, keepdim=True) ** 2
    return x * (torch.rsqrt(square + EPS) * self.weight)


# Without a number that keeps the length from being 0.
length = group("length", rows, ROWS, weights={"weight": (WIDTH,)})


@length
def root_of_mean(self, x):
    return x / x.norm(dim=-1, keepdim=True).mul(WIDTH**-0.5) * self.weight


@length
def over_root_of_width(self, x):
    return self.weight * (x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) / math.sqrt(WIDTH)))


layer = group("layer_norm", rows, ROWS, weights={"weight": (WIDTH,), "bias": (WIDTH,)})


@layer
def op(self, x):  # noqa: F811
    return F.layer_norm(x, (WIDTH,), self.weight, self.bias, EPS)


@layer
def native(self, x):
    return torch.native_layer_norm(x, (WIDTH,), self.weight, self.bias, EPS)[0]


@layer
def centred(self, x):
    c = x - x.mean(-1, keepdim=True)
    return c * torch.rsqrt(c.pow(2).mean(-1, keepdim=True) + EPS) * self.weight + self.bias


@layer
def variance(self, x):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + EPS) * self.weight + self.bias


@layer
def variance_and_mean(self, x):
    var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return torch.addcmul(self.bias, (x - mean) * (var + EPS).rsqrt(), self.weight)


@layer
def second_moment(self, x):
    mean = x.mean(-1, keepdim=True)
    var = (x * x).mean(-1, keepdim=True) - mean * mean
    return (x - mean) / (var + EPS).sqrt() * self.weight + self.bias


@layer
def sums(self, x):
    mean = x.sum(-1, keepdim=True) / WIDTH
    c = x - mean
    return self.weight * c / torch.sqrt((c * c).sum(-1, keepdim=True) / WIDTH + EPS) + self.bias


# --- activations --------------------------------------------------------------------------------------------------------

gelu = group("gelu", rows, ROWS)


@gelu
def op(self, x):  # noqa: F811
    return F.gelu(x)


@gelu
def half_of_sum(self, x):
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


@gelu
def half_outside(self, x):
    return x * 0.5 * (torch.erf(x * 0.70710678118654752440) + 1)


@gelu
def distribution(self, x):
    return x * (0.5 * (1 + torch.erf(x / 1.4142135623730951)))


@gelu
def halves_apart(self, x):
    return x * (0.5 + 0.5 * torch.erf(x / math.sqrt(2)))


@gelu
def sum_of_products(self, x):
    return 0.5 * x + 0.5 * x * torch.erf(x * math.sqrt(0.5))


@gelu
def complement(self, x):
    return 0.5 * x * torch.erfc(-x / math.sqrt(2))


gelu_tanh = group("gelu_tanh", rows, ROWS)


@gelu_tanh
def op(self, x):  # noqa: F811
    return F.gelu(x, approximate="tanh")


@gelu_tanh
def cube(self, x):
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


@gelu_tanh
def factored(self, x):
    return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))


@gelu_tanh
def products(self, x):
    return x * 0.5 * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@gelu_tanh
def through_sigmoid(self, x):
    return x * torch.sigmoid(1.5957691216057308 * (x + 0.044715 * x**3))


@gelu_tanh
def distribution_tanh(self, x):
    return x * (0.5 * (1.0 + (math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))).tanh()))


silu = group("silu", rows, ROWS)


@silu
def op(self, x):  # noqa: F811
    return F.silu(x)


@silu
def sigmoid(self, x):
    return x * torch.sigmoid(x)


@silu
def quotient(self, x):
    return x / (1 + torch.exp(-x))


@silu
def reciprocal(self, x):
    return x * (1 / (1 + torch.exp(-x)))


@silu
def halved_tanh(self, x):
    return 0.5 * x * (1 + torch.tanh(x / 2))


GATE = {"gate": (24, WIDTH), "up": (24, WIDTH), "down": (WIDTH, 24)}
swiglu = group("swiglu", rows, ROWS, weights=GATE)


@swiglu
def op(self, x):  # noqa: F811
    return F.linear(F.silu(F.linear(x, self.gate)) * F.linear(x, self.up), self.down)


@swiglu
def other_order(self, x):
    gate = x @ self.gate.t()
    return torch.matmul((x @ self.up.t()) * (torch.sigmoid(gate) * gate), self.down.t())


@swiglu
def rows_first(self, x):
    flat = x.reshape(-1, WIDTH)
    gate, up = torch.mm(flat, self.gate.t()), torch.mm(flat, self.up.t())
    return torch.mm(gate * gate.sigmoid() * up, self.down.t()).view(x.shape)


@swiglu
def einsum(self, x):
    gate, up = torch.einsum("bsd,fd->bsf", x, self.gate), torch.einsum("bsd,fd->bsf", x, self.up)
    return torch.einsum("bsf,df->bsd", F.silu(gate) * up, self.down)


@layer
def einsum(self, x):  # noqa: F811
    centred = x - x.mean(-1, keepdim=True)
    variance = torch.einsum("bsd,bsd->bs", centred, centred).unsqueeze(-1) / WIDTH
    return centred * torch.rsqrt(variance + EPS) * self.weight + self.bias


@layer
def scaled_and_shifted(self, x):
    mean, scale = x.mean(-1, keepdim=True), torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + EPS) * self.weight
    return x * scale + (self.bias - mean * scale)


def images():
    return [(torch.randn(2, WIDTH, 3, 5),), (torch.randn(2, WIDTH, 3, 5),)]


channels = group("channel_norm", images, weights={"weight": (WIDTH,), "bias": (WIDTH,)})


@channels
def moved(self, x):
    return F.layer_norm(x.permute(0, 2, 3, 1), (WIDTH,), self.weight, self.bias, EPS).permute(0, 3, 1, 2)


@channels
def in_front(self, x):
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return self.weight[:, None, None] * ((x - mean) / torch.sqrt(variance + EPS)) + self.bias[:, None, None]


@channels
def in_front_viewed(self, x):
    variance, mean = torch.var_mean(x, 1, keepdim=True, correction=0)
    return (x - mean) * (variance + EPS).rsqrt() * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


groups_of_channels = group("group_norm", images, weights={"weight": (WIDTH,), "bias": (WIDTH,)})


@groups_of_channels
def op(self, x):  # noqa: F811
    return F.group_norm(x, 4, self.weight, self.bias, EPS)


@groups_of_channels
def five_axes(self, x):
    groups = x.view(2, 4, WIDTH // 4, 3, 5)
    mean = groups.mean((2, 3, 4), keepdim=True)
    variance = (groups - mean).square().mean((2, 3, 4), keepdim=True)
    normed = ((groups - mean) * torch.rsqrt(variance + EPS)).view(x.shape)
    return normed * self.weight[:, None, None] + self.bias[:, None, None]


@groups_of_channels
def rows_of_groups(self, x):
    groups = x.reshape(2, 4, -1)
    normed = (groups - groups.mean(-1, keepdim=True)) / torch.sqrt(groups.var(-1, keepdim=True, unbiased=False) + EPS)
    return normed.reshape(x.shape) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


planes = group("instance_norm", images, weights={"weight": (WIDTH,), "bias": (WIDTH,)})


@planes
def groups_of_one(self, x):
    return F.group_norm(x, WIDTH, self.weight, self.bias, EPS)


@planes
def two_axes(self, x):
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + EPS) * self.weight[None, :, None, None] + self.bias[None, :, None, None]


# Four experts, of which each row takes two, and one projection in each.
EXPERTS = 4
TOKENS = Dim("tokens", min=1, max=16)
EXPERT = {"router": (EXPERTS, WIDTH), "gate": (EXPERTS, 8, WIDTH), "up": (EXPERTS, 8, WIDTH), "down": (EXPERTS, WIDTH, 8)}


def tokens():
    return [(torch.randn(6, WIDTH),), (torch.randn(1, WIDTH),)]


def best(self, x):
    weights, chosen = torch.topk(F.softmax(F.linear(x, self.router), dim=-1), 2, dim=-1)
    return weights / weights.sum(-1, keepdim=True), chosen


def expert(self, number, x):
    return F.linear(F.silu(F.linear(x, self.gate[number])) * F.linear(x, self.up[number]), self.down[number])


def weighed(self, x, columns):
    result = torch.zeros_like(x)
    for number in range(EXPERTS):
        result = result + expert(self, number, x) * columns[:, number : number + 1]
    return result


experts = group("experts", tokens, {"x": {0: TOKENS}}, weights=EXPERT)


@experts
def chosen_products(self, x):
    weights, chosen = best(self, x)
    row = x[:, None, None]
    hidden = F.silu(row @ self.gate[chosen].mT) * (row @ self.up[chosen].mT)
    return ((hidden @ self.down[chosen].mT).squeeze(2) * weights[..., None]).sum(1)


@experts
def chosen_einsum(self, x):
    weights, chosen = best(self, x)
    gate, up = torch.einsum("td,tkfd->tkf", x, self.gate[chosen]), torch.einsum("td,tkfd->tkf", x, self.up[chosen])
    return (torch.einsum("tkf,tkdf->tkd", F.silu(gate) * up, self.down[chosen]) * weights[..., None]).sum(1)


@experts
def one_hot(self, x):
    weights, chosen = best(self, x)
    return weighed(self, x, (F.one_hot(chosen, EXPERTS).to(x.dtype) * weights.unsqueeze(-1)).sum(1))


@experts
def one_hot_permuted(self, x):
    weights, chosen = best(self, x)
    mask = F.one_hot(chosen, EXPERTS).permute(2, 1, 0)
    result = torch.zeros_like(x)
    for number in range(EXPERTS):
        result = result + expert(self, number, x) * (mask[number].t() * weights).sum(-1, keepdim=True)
    return result


@experts
def compared(self, x):  # noqa: F811
    weights, chosen = best(self, x)
    result = 0
    for number in range(EXPERTS):
        result = result + torch.where(chosen == number, weights, 0.0).sum(-1)[:, None] * expert(self, number, x)
    return result


@experts
def scattered(self, x):
    weights, chosen = best(self, x)
    return weighed(self, x, torch.zeros(x.shape[0], EXPERTS).scatter_(1, chosen, weights))


@experts
def assigned(self, x):
    weights, chosen = best(self, x)
    columns = torch.zeros(x.shape[0], EXPERTS)
    columns[torch.arange(x.shape[0])[:, None], chosen] = weights
    return sum(columns[:, number, None] * expert(self, number, x) for number in range(EXPERTS))


@experts
def stacked(self, x):  # noqa: F811
    weights, chosen = best(self, x)
    columns = torch.zeros(x.shape[0], EXPERTS).scatter(1, chosen, weights)
    return torch.einsum("te,ted->td", columns, torch.stack([expert(self, number, x) for number in range(EXPERTS)], 1))


@experts
def stacked_gather(self, x):
    weights, chosen = best(self, x)
    values = torch.stack([expert(self, number, x) for number in range(EXPERTS)], 1)
    return (values.gather(1, chosen[..., None].expand(-1, -1, WIDTH)) * weights[..., None]).sum(1)


# As modules of their own, with biases; one of them for each row.
APART = {f"{name}{n}": shape for n in range(3) for name, shape in {"up": (8, WIDTH), "bias": (8,), "down": (WIDTH, 8)}.items()}
experts_apart = group("experts_apart", rows, ROWS, weights={"router": (3, WIDTH), **APART})


def apart(self, number, x):
    up, bias, down = (getattr(self, f"{name}{number}") for name in ("up", "bias", "down"))
    return F.linear(F.gelu(F.linear(x, up, bias)), down)


@experts_apart
def largest(self, x):
    weight, chosen = F.softmax(F.linear(x, self.router), dim=-1).max(-1)
    result = x
    for number in range(3):
        result = result + apart(self, number, x) * (weight * (chosen == number)).unsqueeze(-1)
    return result


@experts_apart
def largest_one_hot(self, x):
    weight, chosen = F.softmax(F.linear(x, self.router), dim=-1).max(-1, keepdim=True)
    columns = F.one_hot(chosen.squeeze(-1), 3) * weight
    return x + sum(columns[..., number : number + 1] * apart(self, number, x) for number in range(3))


softplus = group("softplus", rows, ROWS)


@softplus
def op(self, x):  # noqa: F811
    return F.softplus(x)


@softplus
def guarded(self, x):
    return torch.where(x > 20, x, torch.log1p(torch.exp(x)))
