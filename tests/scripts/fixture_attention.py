"""Spellings of attention on other axes than four, with shared heads, with masks from buffers, biases and sinks: groups as in fixture_spellings."""
import torch
import torch.nn.functional as F
from fixture_spellings import group

BATCH, HEADS, SHARED, ROWS, WIDTH = 2, 4, 2, 6, 8
GROUP = HEADS // SHARED
SCALE = WIDTH**-0.5


def below(length=ROWS):
    return torch.ones(length, length, dtype=torch.bool).tril()


def shared_heads():
    return torch.randn(BATCH, HEADS, ROWS, WIDTH), torch.randn(BATCH, SHARED, ROWS, WIDTH), torch.randn(BATCH, SHARED, ROWS, WIDTH)


def in_groups(q):
    return q.view(BATCH, SHARED, GROUP, ROWS, WIDTH)


def together(x):
    return x.reshape(BATCH, HEADS, ROWS, WIDTH)


def flat(x):
    return x.reshape(-1, ROWS, WIDTH)


def repeated(x):
    return x[:, :, None].expand(BATCH, SHARED, GROUP, ROWS, WIDTH).reshape(BATCH, HEADS, ROWS, WIDTH)


grouped = group("grouped", lambda: [shared_heads()])


@grouped
def flag(self, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


@grouped
def fifth_axis(self, q, k, v):
    scores = in_groups(q) @ k[:, :, None].transpose(-1, -2) * SCALE
    return together(scores.masked_fill(~below(), -torch.inf).softmax(-1) @ v[:, :, None])


@grouped
def fifth_axis_einsum(self, q, k, v):
    scores = torch.einsum("bjrsd,bjtd->bjrst", in_groups(q) * SCALE, k)
    weights = (scores + torch.where(below(), 0.0, -torch.inf)).softmax(-1)
    return together(torch.einsum("bjrst,bjtd->bjrsd", weights, v))


@grouped
def fifth_axis_op(self, q, k, v):
    return together(F.scaled_dot_product_attention(in_groups(q), k.unsqueeze(2), v.unsqueeze(2), is_causal=True))


@grouped
def rows_folded(self, q, k, v):
    scores = (q.reshape(BATCH, SHARED, GROUP * ROWS, WIDTH) @ k.mT).view(BATCH, HEADS, ROWS, ROWS) / WIDTH**0.5
    weights = scores.masked_fill(~below(), -torch.inf).softmax(-1)
    return together(weights.view(BATCH, SHARED, GROUP * ROWS, ROWS) @ v)


@grouped
def batches_merged(self, q, k, v):
    q, k, v = flat(q), flat(repeated(k)), flat(repeated(v))
    scores = torch.baddbmm(torch.full((1, ROWS, ROWS), -torch.inf).triu(1), q, k.transpose(1, 2), alpha=SCALE)
    return together(torch.bmm(scores.softmax(-1), v))


@grouped
def batches_merged_op(self, q, k, v):
    return together(F.scaled_dot_product_attention(flat(q), flat(k.repeat_interleave(GROUP, 1)), flat(v.repeat_interleave(GROUP, 1)), is_causal=True))


@grouped
def heads_taken(self, q, k, v):
    heads = torch.tensor([0, 0, 1, 1])
    scores = q @ k.index_select(1, heads).mT * SCALE
    return scores.masked_fill(~below(), -torch.inf).softmax(-1) @ v[:, torch.arange(HEADS) // GROUP]


@grouped
def heads_stacked(self, q, k, v):
    k, v = torch.stack([k] * GROUP, 2).flatten(1, 2), torch.cat([v[:, n // GROUP, None] for n in range(HEADS)], 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def one_head():
    return tuple(torch.randn(ROWS, WIDTH) for _ in range(3))


single = group("one_head", lambda: [one_head()])


@single
def op(self, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@single
def products(self, q, k, v):
    return torch.mm(torch.mm(q, k.t()).div(WIDTH**0.5).masked_fill(below().logical_not(), -torch.inf).softmax(1), v)


@single
def added_in_product(self, q, k, v):
    return torch.addmm(torch.full((ROWS, ROWS), -torch.inf).triu(1), q, k.T, alpha=SCALE).softmax(-1) @ v


def heads():
    return tuple(torch.randn(BATCH, HEADS, ROWS, WIDTH) for _ in range(3))


biased = group("position_bias", lambda: [heads()], weights={"slopes": (HEADS,)})


def distances():
    place = torch.arange(ROWS)
    return place[None] - place[:, None]


@biased
def mask_of_op(self, q, k, v):
    bias = torch.where(below(), self.slopes[:, None, None] * distances(), -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])


@biased
def hidden_after(self, q, k, v):
    scores = q @ k.mT * SCALE + self.slopes.view(1, HEADS, 1, 1) * distances()
    return scores.masked_fill(~below(), -torch.inf).softmax(-1) @ v


sunk = group("sinks_apart", lambda: [heads()], weights={"sinks": (HEADS,)})


def hidden(q, k):
    return (q @ k.mT * SCALE).masked_fill(~below(), -torch.inf)


@sunk
def behind(self, q, k, v):
    sink = self.sinks.view(1, HEADS, 1, 1).expand(BATCH, HEADS, ROWS, 1)
    return torch.cat([hidden(q, k), sink], -1).softmax(-1)[..., :-1] @ v


@sunk
def in_front(self, q, k, v):
    sink = self.sinks.view(1, HEADS, 1, 1).expand(BATCH, HEADS, ROWS, 1)
    return torch.cat([sink, hidden(q, k)], -1).softmax(-1)[..., 1:] @ v


@sunk
def in_the_sum(self, q, k, v):
    scores, sink = hidden(q, k), self.sinks.view(1, HEADS, 1, 1)
    largest = torch.maximum(scores.amax(-1, keepdim=True), sink)
    weights = torch.exp(scores - largest)
    return weights / (weights.sum(-1, keepdim=True) + torch.exp(sink - largest)) @ v
