"""Modules with control flow that only the data decide."""
import torch
from fixture_modules import module
from torch import nn
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.export import Dim


@module("loops_by_data", {"x": {0: Dim("n", min=2, max=8)}, "limit": None}, note="loops that run as often as data say, one inside the other, with a weight; not at all in the last call")
class LoopsByData(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, limit):
        def outer(i, x):
            _, x = while_loop(lambda j, y: j < i, lambda j, y: (j + 1, y + j), (torch.zeros((), dtype=torch.int64), x))
            return i + 1, torch.tanh(self.linear(x)) * x.shape[0]

        steps, x = while_loop(lambda i, x: torch.logical_and(i < limit, x.abs().max() > 0.01), outer, (torch.zeros((), dtype=torch.int64), x))
        return steps, x * 2

    def calls(self):
        return [(torch.randn(n, 4), torch.tensor(limit)) for n, limit in ((4, 3), (2, 5), (8, 1), (3, 0))]


@module("loops_by_length", {"x": {0: Dim("n", min=2, max=8)}, "w": None}, note="map and scan over a dimension of any length")
class LoopsByLength(nn.Module):
    def forward(self, x, w):
        mapped = torch_map(lambda row, w: (row @ w).relu(), x, w)
        last, run = scan(lambda c, row: (c * 0.5 + row, (c + row).tanh()), x[0] * 0, x)
        return mapped, last, run + 1

    def calls(self):
        return [(torch.randn(n, 3), torch.randn(3, 2)) for n in (4, 2, 8)]


@module("branches_not_taken", note="sides of a branch that would fail, or cost much, where they are not chosen; one inside the other; a buffer set from one")
class BranchesNotTaken(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(2, 4))

    def forward(self, x, i):
        picked = torch.cond(i.sum() < 4, lambda x, i: x[:, i] * 2, lambda x, i: x[:, :1] + 0 * i, (x, i))
        mixed = torch.cond(x.sum() > 0, lambda x: torch.cond(x.max() > 2, self.a, self.b, (x,)), lambda x: self.b(x) - 1, (x,))
        self.seen.copy_(torch.cond(x.sum() > 0, lambda x, s: s + self.a(x), lambda x, s: s * 2 - x, (x, self.seen)))
        return picked, mixed, self.seen * 2

    def calls(self):
        x = torch.randn(2, 4)
        return [(x.abs(), torch.tensor([3])), (-x.abs(), torch.tensor([9])), (x.abs() * 9, torch.tensor([0]))]
