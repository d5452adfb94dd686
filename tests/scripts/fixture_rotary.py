"""Rotary embeddings by tables that a model keeps, at positions that are given, and before the heads' axes are exchanged: registered with fixture_spellings."""
import torch
import torch.nn.functional as F
from fixture_spellings import FREQUENCIES, ROPE, R, group, rotated

LENGTH = 24
ANGLES = torch.outer(torch.arange(LENGTH).float(), FREQUENCIES)
TWICE = torch.cat((ANGLES, ANGLES), -1)
COS, SIN = ANGLES.cos(), ANGLES.sin()
COS_TWICE, SIN_TWICE = TWICE.cos(), TWICE.sin()
BOTH = torch.cat((COS, SIN), -1)
TURNS = torch.polar(torch.ones_like(ANGLES), ANGLES)
MATRIX = torch.stack((COS, SIN), -1)


def by_halves(x, cos, sin):
    left, right = x.chunk(2, -1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), -1)


def by_pairs(x, cos, sin):
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def by_numbers(x, turns):
    return torch.view_as_real(torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2)) * turns).flatten(-2).type_as(x)


# --- the first rows of a kept table -------------------------------------------------------------------------------------

FIRST = {"q": ROPE["q"], "k": ROPE["k"]}


def first_calls():
    return [(torch.randn(1, 4, n, 16), torch.randn(1, 2, n, 16)) for n in (6, 1)]


kept = group("rope_kept", first_calls, FIRST)


@kept
def rotate_half(self, q, k):
    cos, sin = COS_TWICE[: q.shape[2]], SIN_TWICE[: q.shape[2]]
    return q * cos + rotated(q) * sin, k * cos + rotated(k) * sin


@kept
def halves(self, q, k):
    cos, sin = COS[: q.shape[2]], SIN[: q.shape[2]]
    return by_halves(q, cos, sin), by_halves(k, cos, sin)


@kept
def halves_of_one_table(self, q, k):
    cos, sin = BOTH[: q.shape[2]].chunk(2, -1)
    return by_halves(q, cos, sin), by_halves(k, cos, sin)


@kept
def halves_in_place(self, q, k):
    cos, sin = COS[: q.shape[2]], SIN[: q.shape[2]]

    def turn(x):
        out, half = torch.empty_like(x), x.shape[-1] // 2
        out[..., :half] = x[..., :half] * cos - x[..., half:] * sin
        out[..., half:] = x[..., half:] * cos + x[..., :half] * sin
        return out

    return turn(q), turn(k)


@kept
def halves_by_axis(self, q, k):
    cos, sin = COS[: q.shape[2]], SIN[: q.shape[2]]

    def turn(x):
        left, right = x.unflatten(-1, (2, -1)).unbind(-2)
        return torch.stack((left * cos + (-right) * sin, right * cos + left * sin), -2).flatten(-2)

    return turn(q), turn(k)


@kept
def numbers(self, q, k):
    turns = TURNS[: q.shape[2]]
    return by_numbers(q, turns), by_numbers(k, turns)


@kept
def matrices(self, q, k):
    table = MATRIX[: q.shape[2]]
    return by_pairs(q, table[..., 0], table[..., 1]), by_pairs(k, table[..., 0], table[..., 1])


@kept
def interleaved(self, q, k):
    cos, sin = COS[: q.shape[2]].repeat_interleave(2, -1), SIN[: q.shape[2]].repeat_interleave(2, -1)

    def turn(x):
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)

    return q * cos + turn(q) * sin, k * cos + turn(k) * sin


# --- positions that are given -------------------------------------------------------------------------------------------

LISTED = {"q": {1: R}, "k": {1: R}, "positions": {1: R}}


def listed_calls():
    def positions(n, batch):
        return torch.stack([torch.randperm(LENGTH)[:n] for _ in range(batch)])

    return [(torch.randn(2, n, 4, 16), torch.randn(2, n, 2, 16), positions(n, 2)) for n in (6, 1)]


listed = group("rope_listed", listed_calls, LISTED)


@listed
def taken(self, q, k, positions):  # noqa: F811
    cos, sin = COS_TWICE[positions].unsqueeze(2), SIN_TWICE[positions].unsqueeze(2)
    return q * cos + rotated(q) * sin, k * cos + rotated(k) * sin


@listed
def embedded(self, q, k, positions):
    cos, sin = F.embedding(positions, COS)[:, :, None], F.embedding(positions, SIN)[:, :, None]
    return by_halves(q, cos, sin), by_halves(k, cos, sin)


@listed
def taken_from_one_table(self, q, k, positions):
    cos, sin = BOTH[positions].unsqueeze(2).chunk(2, -1)
    return by_pairs(q, cos, sin), by_pairs(k, cos, sin)


@listed
def taken_numbers(self, q, k, positions):
    turns = TURNS[positions][:, :, None]
    return by_numbers(q, turns), by_numbers(k, turns)


# --- before the heads' axes are exchanged -------------------------------------------------------------------------------

ROWS_FIRST = {"q": {1: R}, "k": {1: R}}
rows_first = group("rope_rows_first", lambda: [(torch.randn(2, n, 4, 16), torch.randn(2, n, 2, 16)) for n in (6, 1)], ROWS_FIRST)


@rows_first
def rows_rotate_half(self, q, k):
    cos, sin = COS_TWICE[: q.shape[1], None], SIN_TWICE[: q.shape[1], None]
    return (q * cos + rotated(q) * sin).transpose(1, 2), (k * cos + rotated(k) * sin).transpose(1, 2)


@rows_first
def rows_numbers(self, q, k):
    turns = TURNS[: q.shape[1]].view(1, q.shape[1], 1, -1)
    return by_numbers(q, turns).transpose(1, 2), by_numbers(k, turns).transpose(1, 2)


@rows_first
def rows_computed(self, q, k):
    angles = torch.arange(q.shape[1])[:, None, None] * FREQUENCIES
    return by_pairs(q, angles.cos(), angles.sin()).transpose(1, 2), by_pairs(k, angles.cos(), angles.sin()).transpose(1, 2)


# --- a part of each head ------------------------------------------------------------------------------------------------

part = group("rope_part", first_calls, FIRST)
FEW = ANGLES[:, :4]


@part
def part_of_pairs(self, q, k):
    cos, sin = FEW.cos()[: q.shape[2]], FEW.sin()[: q.shape[2]]

    def turn(x):
        return torch.cat((by_pairs(x[..., :8], cos, sin), x[..., 8:]), -1)

    return turn(q), turn(k)


@part
def part_of_neighbours(self, q, k):
    cos, sin = FEW.cos()[: q.shape[2]].repeat_interleave(2, -1), FEW.sin()[: q.shape[2]].repeat_interleave(2, -1)

    def turn(x):
        first, rest = x[..., :8], x[..., 8:]
        swapped = torch.stack((-first[..., 1::2], first[..., ::2]), -1).flatten(-2)
        return torch.cat((first * cos + swapped * sin, rest), -1)

    return turn(q), turn(k)


@part
def part_of_halves(self, q, k):
    angles = torch.cat((FEW, FEW), -1)
    cos, sin = angles.cos()[: q.shape[2]], angles.sin()[: q.shape[2]]

    def turn(x):
        first, rest = x[..., :8], x[..., 8:]
        return torch.cat((first * cos + rotated(first) * sin, rest), -1)

    return turn(q), turn(k)
