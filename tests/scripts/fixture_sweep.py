"""What the sweep over PyTorch's operator database found, by theme (see make_fixtures.py and sweep_operators.py)."""
import torch
import torch.nn.functional as F
from fixture_modules import module
from torch import nn

NAN, INF = float("nan"), float("inf")
REDUCTIONS = ("sum", "prod", "amax", "amin", "mean")


@module("scatters_in_part", forms=("model",))
class ScattersInPart(nn.Module):
    """Indices that cover only part of the other axes, 0-d and boolean tensors."""

    def forward(self, x, n, index, source, point):
        out = []
        for values, into in ((source, x), ((source * 4).long(), n)):
            out += [torch.scatter_reduce(into, axis, index, values, way, include_self=kept) for way in REDUCTIONS for kept in (True, False) for axis in (0, 1)]
        zero, bits = torch.zeros((), dtype=torch.long), x > 0
        return (*out, point.scatter_add(0, zero, x[0, 0]), point.index_add(0, zero, x[0, 1]), point.scatter_reduce(0, zero, x[0, 2], "mean", include_self=False),
                x.scatter_reduce(0, index[:0], source[:0], "amax"), bits.scatter_add(0, index, source > 0), bits.index_add(0, index[0], bits[:3]),
                torch.index_put(bits, (index[0],), bits[:3], accumulate=True), bits.put(index, source > 0, accumulate=True),
                torch.index_reduce(x, 0, index[0], x[:3] * 2, "prod"), torch.addr(bits[:3, :2], bits[0, :3], bits[0, :2]), torch.addbmm(n[:2, :2].int(), n[:2, :4].int().view(2, 2, 2), n[2:, :4].int().view(2, 2, 2)))

    def calls(self):
        return [(torch.randn(4, 5), torch.randint(-9, 9, (4, 5)), torch.tensor([[0, 1, 1], [2, 0, 2]]), torch.randn(2, 3), torch.tensor(2.0))]


@module("margins", forms=("model",))
class Margins(nn.Module):
    def forward(self, a, b, c, sign, one, many, weight):
        out = []
        for reduction in ("none", "mean", "sum"):
            out += [F.cosine_embedding_loss(a, b, sign, 0.1, reduction=reduction), F.triplet_margin_loss(a, b, c, swap=True, reduction=reduction),
                    F.multi_margin_loss(a, one, p=2, margin=0.5, weight=weight, reduction=reduction), F.multilabel_margin_loss(a, many, reduction=reduction)]
        return (*out, F.cosine_embedding_loss(a[0], b[0], sign[0]), F.triplet_margin_loss(a, b, c, p=1, margin=2), F.multi_margin_loss(a[0], one[0]),
                F.multilabel_margin_loss(a[0], many[0]), F.poisson_nll_loss(a, b.abs() * 3, full=True))

    def calls(self):
        many = torch.tensor([[3, 0, -1, 2, 1, 1], [-1] * 6, [0, 1, 2, 3, 4, 5], [5, 5, -1, 0, 0, 0]])
        return [(torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 6), torch.tensor([1, -1, 1, -1]), torch.tensor([1, 0, 5, 2]), many, torch.rand(6))]


@module("differences_and_areas", forms=("model",))
class DifferencesAndAreas(nn.Module):
    def forward(self, x, rows, columns, n):
        return (torch.trapezoid(x), torch.trapezoid(x, rows, dim=0), torch.trapezoid(n, dim=0), torch.cumulative_trapezoid(x, columns), torch.cumulative_trapezoid(n, dx=2),
                *torch.gradient(x), *torch.gradient(x, spacing=0.5, edge_order=2), *torch.gradient(x, spacing=(rows, columns)), *torch.gradient(x, spacing=(rows, columns), edge_order=2),
                torch.diff(x, n=0), torch.diff(x, prepend=x[:, :1], append=n[:, :1]), torch.diff(n > 1), torch.diff(x[:, :0]))

    def calls(self):
        return [(torch.randn(4, 5), torch.tensor([0.0, 1, 1.5, 4]), torch.tensor([0.0, 1, 2.5, 3, 3.1]), torch.randint(0, 9, (4, 5)))]


@module("looked_up", forms=("model",))
class LookedUp(nn.Module):
    def forward(self, rows, values, order):
        search = torch.searchsorted
        return (search(rows, values), search(rows, values, right=True), search(rows, values, side="right", out_int32=True), search(rows[0], values), search(rows[0], 0.1),
                search(rows.flip(1), values, sorter=order), torch.bucketize(0.3, rows[1], right=True), torch.isin(values, rows), torch.isin(0.0, values), torch.isin(values, 0.1, invert=True),
                torch.nonzero_static(values > 0, size=3), torch.nonzero_static(rows, size=20, fill_value=-7), torch.nonzero_static(rows[:0], size=2))

    def calls(self):
        rows = torch.sort(torch.randn(3, 5))[0]
        return [(rows, torch.tensor([[NAN, 0.0, 9], [-9, 0.1, INF], [0.2, 0.3, -INF]]), torch.arange(4, -1, -1).repeat(3, 1))]


@module("real_parts", forms=("model",))
class RealParts(nn.Module):
    def forward(self, x, n, wide):
        return (torch.angle(x), torch.angle(n), torch.conj(x), torch.conj_physical(n), x.real, torch.resolve_conj(x), x.sum_to_size(1, 4), x.sum_to_size(3, 1), *torch.atleast_2d(x, n),
                F.pad(wide, (1, 2), value=2**53 + 1), F.pad(n.int(), (1, 2), value=2**31 - 1), torch.cummin(wide, 1)[0],
                torch.nn.utils.rnn.pad_sequence([x[0], x[1, :2]], batch_first=True, padding_value=-1.0), 2.5, True, x.shape[0] / 2)

    def calls(self):
        return [(torch.tensor([[1.0, -2, 0, -0.0], [NAN, INF, -INF, 3], [1, 2, 3, 4]]), torch.tensor([-1, 0, 2, 5]), torch.randint(-9, 9, (2, 3)))]


@module("fake_quantised")
class FakeQuantised(nn.Module):
    def forward(self, x, scale, zero):
        return (torch.fake_quantize_per_tensor_affine(x, 0.1, 3, -8, 7), torch.fake_quantize_per_tensor_affine(x, scale[0], zero[0], 0, 15),
                torch.fake_quantize_per_channel_affine(x, scale, zero, 1, -8, 7))

    def calls(self):
        return [(torch.randn(3, 4), torch.rand(4) * 0.1 + 0.01, torch.tensor([0, 1, -2, 3], dtype=torch.int32))]


@module("running_without_bound", ({0: torch.export.Dim.AUTO}, {0: torch.export.Dim.AUTO}), forms=("model",))
class RunningWithoutBound(nn.Module):
    def forward(self, x, n):
        return torch.logcumsumexp(x, 0), torch.cumprod(x, 0), *torch.cummax(x, 0), *torch.cummin(n, 0), torch.cumprod(n, 0)

    def calls(self):
        return [(torch.tensor([1.0, 3, NAN, 2, 3]), torch.randint(-5, 5, (5, 3))), (torch.randn(7), torch.randint(-5, 5, (7, 3)))]


@module("edges_of_operators", forms=("model",))
class EdgesOfOperators(nn.Module):
    """Tensors without axes or elements, booleans and integers where floats are usual, numbers that only data tell."""

    def __init__(self):
        super().__init__()
        self.bounded = nn.Embedding(5, 3, max_norm=0.8)

    def forward(self, x, n, point, zero, image, a, b):
        bits = x > 0
        return (torch.gather(point, 0, zero), torch.gather(x[0], 0, zero), torch.gather(point, 0, zero.view(1).repeat(3)), torch.kron(bits, bits), torch.linalg.vander(x[0, :1], N=2),
                F.log_softmax(x[:, :0], 1), torch.logsumexp(x[:, :0], 1), x[0].masked_scatter(bits, x), *torch.native_layer_norm(x.bfloat16(), (4,), None, None, 1e-5),
                F.avg_pool1d(n.view(1, 1, -1), 5), F.avg_pool2d(n.view(1, 3, 4) - 5, 2, ceil_mode=True, divisor_override=3), F.cosine_similarity(point, point * 2, dim=0), F.pairwise_distance(n, n + 2),
                torch.sgn(bits), torch.square(bits), torch.linalg.matrix_power(x[:3, :3], 0), *F.max_pool2d(image, 2, return_indices=True), *F.adaptive_max_pool2d(image, 1, return_indices=True),
                torch.linspace(a, b, 5), torch.linspace(0, b, 4), n.sum_to_size(1, 4), bits[0, 0].sum_to_size(()), point.unfold(0, 1, 1), torch.tensordot(x[:, :1], n.float(), ((1, 0), (1, 0))),
                x.clone().as_strided_((2, 2), (1, 2), 1), F.embedding_bag(n[0].abs() % 3, x, zero.view(1), padding_idx=-1), self.bounded(n[:, 0].abs() % 5))

    def calls(self):
        image = torch.tensor([NAN, NAN, 1, 2, 3, NAN, 5, 6]).view(1, 1, 2, 4)
        return [(torch.randn(3, 4), torch.randint(-9, 9, (3, 4)), torch.tensor(2.5), torch.tensor(0), image, torch.tensor(0.5), torch.tensor(2.0))]


@module("each_of_a_list", forms=("model",))
class EachOfAList(nn.Module):
    def forward(self, x):
        both = [x + 1, x[0] * 2]
        torch._foreach_mul_(both, 2.0)
        return (*both, *torch._foreach_pow(both, [2.0, 3.0]), *torch._foreach_maximum(both, [x, x]), *torch._foreach_norm(both), *torch._foreach_sub(both, [x, x], alpha=2),
                *torch._foreach_addcmul([x], [x], [x], value=2.0), *torch._foreach_lerp([x], [x * 2], 0.3))

    def calls(self):
        return [(torch.randn(3, 4),)]


@module("batch_norm_in_training", forms=("model", "core"))
class BatchNormInTraining(nn.Module):
    def forward(self, x, mean, variance):
        mean, variance = mean.clone(), variance.clone()
        return F.batch_norm(x, mean, variance, training=True, momentum=0.3), mean, variance

    def calls(self):
        return [(torch.randn(6, 4), torch.randn(4), torch.rand(4) + 0.5)]


@module("split_by_data", {"x": {1: torch.export.Dim("n", min=1, max=9)}, "at": None})
class SplitByData(nn.Module):
    """Positions in a tensor: negative ones, ones that go back, and ones past the end."""

    def forward(self, x, at):
        return tuple(part * 2 for part in torch.tensor_split(x, at, 1))

    def calls(self):
        return [(torch.randn(2, n), torch.tensor(at)) for n, at in ((6, [1, 3]), (5, [-2, 1]), (9, [4, 20]), (1, [0, 0]), (4, [-9, -1]))]


@module("wide_padding", forms=("model",))
class WidePadding(nn.Module):
    """Transposed convolutions with a padding wider than the kernel reaches, and batch norm of nothing."""

    def forward(self, x, flat, kernel, none, mean, variance):
        return (F.conv_transpose3d(x, kernel, None, 2, 1, 1, 1, (2, 3, 2)), F.conv_transpose2d(flat, kernel[..., 0], None, 2, 2, 1, 1, 2), F.batch_norm(none, mean, variance))

    def calls(self):
        return [(torch.randn(1, 1, 4, 5, 2), torch.randn(1, 1, 4, 5), torch.randn(1, 1, 4, 1, 1), torch.zeros(0), torch.zeros(0), torch.ones(0))]
