"""Operators that the delegate lacks and the importer writes in others, many to a module (see make_fixtures.py)."""
import torch
import torch.nn.functional as F
from fixture_modules import module
from torch import nn
from torch._higher_order_ops.scan import scan
from torch.export import Dim

NAN, INF = float("nan"), float("inf")


@module("gamma_and_bessel")
class GammaAndBessel(nn.Module):
    def forward(self, x, y):
        special = torch.special
        return (torch.lgamma(x), torch.digamma(x), torch.erfc(x), torch.lgamma(y), torch.digamma(y), torch.polygamma(1, y), torch.polygamma(3, y),
                torch.mvlgamma(y + 1.5, 3), special.i0(x), special.i0e(x), special.i1(y), special.i1e(x), special.erfcx(y), special.log_ndtr(x),
                special.zeta(y + 1.5, y), special.psi(y), special.gammaln(y), special.expit(x), special.sinc(x), special.entr(y))

    def calls(self):
        x = torch.tensor([0.0, 1.0, -1.0, 2.5, -2.5, INF, NAN, 0.5, 1e-4, 3.75, -3.75, 12.0, -7.3])
        return [(x, torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0, 2.0001, 3.0, 5.0, 9.0]))]


@module("gamma_and_bessel_fp16", dtype=torch.float16)
class GammaHalf(nn.Module):
    def forward(self, x):
        return torch.lgamma(x), torch.digamma(x), torch.special.i0(x), torch.erfc(x)

    def calls(self):
        return [(torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0, 5.0]),)]


@module("counting")
class Counting(nn.Module):
    def forward(self, x, n, m, w):
        return (torch.histc(x, 5, -1, 1), torch.histc(x, 7), torch.histc(n.float(), 8, 0, 7), torch.histc(torch.ones_like(x), 4), torch.bincount(n),
                torch.bincount(n, minlength=20), torch.bincount(n, w), torch.gcd(n, m), torch.lcm(n, m), torch.gcd(n.int(), m.int()), torch.count_nonzero(n, 0))

    def calls(self):
        return [(torch.randn(40), torch.randint(0, 8, (20,)), torch.randint(-90, 90, (20,)), torch.randn(20))]


@module("distinct")
class Distinct(nn.Module):
    def forward(self, n, x, rows):
        return (torch.unique(n), *torch.unique(n, return_inverse=True, return_counts=True), *torch.unique(x, return_counts=True),
                *torch.unique(rows, dim=0, return_inverse=True, return_counts=True), torch.unique(rows, dim=1),
                *torch.unique_consecutive(n, return_inverse=True, return_counts=True), torch.unique_consecutive(rows, dim=0), torch.unique(n > 1))

    def calls(self):
        x = torch.tensor([1.0, NAN, 1.0, NAN, -0.0, 0.0])
        rows = torch.tensor([[1, 2], [0, 5], [1, 2], [1, 2], [0, 4]])
        return [(torch.tensor([[3, 1, 1], [3, 3, 2]]), x, rows), (torch.zeros(2, 3, dtype=torch.long), x * 2, rows + 1)]


@module("quantiles", forms=("model",))
class Quantiles(nn.Module):
    def forward(self, x, y, q):
        ways = ("linear", "lower", "higher", "nearest", "midpoint")
        return (*(torch.quantile(x, q, dim=1, interpolation=way) for way in ways), *(torch.nanquantile(y, 0.3, dim=0, keepdim=True, interpolation=way) for way in ways),
                torch.quantile(x, 0.25), torch.quantile(y, 0.25, dim=1), torch.nanquantile(y, q), torch.quantile(x.flatten(), q, dim=-1, keepdim=True))

    def calls(self):
        x = torch.randn(3, 5)
        return [(x, torch.where(x > 0.5, NAN, x), torch.tensor([0.1, 0.5, 1.0]))]


@module("strided_views")
class StridedViews(nn.Module):
    def forward(self, x, m, s):
        filled = x[:12].view(6, 2).clone().fill_diagonal_(3.0)
        return (torch.as_strided(x, (3, 2), (1, 4), 2), torch.as_strided(x, (5, 4), (2, 1)), torch.as_strided(m.t(), (2, 3), (1, 2)), torch.as_strided(x, (3, 4), (0, 1)),
                torch.as_strided_copy(x, (2, 2), (1, 2)), torch.as_strided_scatter(m, m[:2, :2] * 2, (2, 2), (1, 2)), torch.diagonal_scatter(m, s[:4], 1),
                torch.diagonal_scatter(m, s[:2], -2), torch.diagflat(s, 1), torch.diagonal_copy(m, 1), torch.linalg.diagonal(m, offset=-1), filled,
                m.repeat(3, 1).fill_diagonal_(7.0, wrap=True), torch.block_diag(m, s, x[:1].view(1, 1)))

    def calls(self):
        return [(torch.randn(20), torch.randn(4, 5), torch.randn(5))]


@module("losses", forms=("model",))
class Losses(nn.Module):
    def forward(self, x, y, p, q, n, w):
        out = []
        for reduction in ("none", "mean", "sum"):
            out += [loss(x, y, reduction=reduction) for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.soft_margin_loss)]
            out += [F.binary_cross_entropy(p, q, reduction=reduction), F.binary_cross_entropy_with_logits(x, q, pos_weight=w, reduction=reduction),
                    F.kl_div(p.log(), q, reduction=reduction), F.nll_loss(x, n, w, reduction=reduction), F.cross_entropy(x, n, reduction=reduction),
                    F.cross_entropy(x, n, w, reduction=reduction, label_smoothing=0.1), F.cross_entropy(x, q, w, reduction=reduction, label_smoothing=0.1)]
        return (*out, F.smooth_l1_loss(x, y, beta=0.3), F.huber_loss(x, y, delta=0.3), F.kl_div(x, y, log_target=True), F.poisson_nll_loss(x, q),
                F.cross_entropy(x.view(1, 5, 3), n.view(1, 3)), F.cross_entropy(x[0], n[0]), F.hinge_embedding_loss(x, y.sign()), F.margin_ranking_loss(x, y, q.sign()))

    def calls(self):
        return [(torch.randn(3, 5), torch.randn(3, 5), torch.rand(3, 5), torch.rand(3, 5), torch.tensor([1, -100, 4]), torch.rand(5))]


@module("vectors_and_matrices")
class VectorsAndMatrices(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 6, 6))

    def forward(self, a, b, v):
        norm = torch.linalg
        return (torch.cross(v, v.flip(0), dim=1), torch.linalg.cross(v, v.flip(0)), norm.vecdot(a, b), norm.norm(a), norm.norm(a, 3, dim=1), norm.norm(a, 1, dim=(0, 1)),
                norm.matrix_norm(a, -INF), norm.matrix_norm(a, "fro", keepdim=True), norm.matrix_norm(a, INF), torch.vander(a[0]), norm.vander(a[0], N=3),
                torch.renorm(a, 2, 0, 0.7), F.pdist(a), F.pdist(a, 1.0), torch.cdist(a, b),
                torch.cdist(a, b, 1.0), F.bilinear(a, b, self.weight))

    def calls(self):
        return [(torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 3))]


@module("bags")
class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(10, 4))

    def forward(self, indices):
        offsets, weights = torch.tensor([0, 3, 3, 5]), indices.float() / 7
        out = [F.embedding_bag(indices, self.table, offsets, mode=mode) for mode in ("sum", "mean", "max")]
        return (*out, F.embedding_bag(indices, self.table, offsets, mode="sum", per_sample_weights=weights), F.embedding_bag(indices.view(2, 4), self.table),
                F.embedding_bag(indices, self.table, offsets, mode="mean", padding_idx=2))

    def calls(self):
        return [(torch.tensor([1, 2, 4, 5, 4, 3, 2, 9]),)]


@module("ranks_and_windows")
class RanksAndWindows(nn.Module):
    def forward(self, x, m, n, images):
        pooled, places = F.max_pool2d(images, 2, return_indices=True)
        whole = m * torch.kaiser_window(8) + torch.bartlett_window(8) + torch.logspace(0, 2, 8) + torch.fft.fftfreq(8) + torch.fft.rfftfreq(14)
        return (*torch.median(x, dim=1), torch.median(x), *torch.nanmedian(x, dim=1), *torch.mode(n, 0), *torch.max(x, dim=1), torch.argmin(x, 1), torch.put(m, n[:2, 0], m[:2]),
                torch.put(m, n[:2, 0], m[:2], accumulate=True), F.max_unpool2d(pooled, places, 2), *torch.frexp(m), torch.fft.fftshift(m), torch.fft.ifftshift(x, dim=1), whole,
                torch.floor_divide(x, 2.0), n @ n.t())

    def calls(self):
        x = torch.tensor([[NAN, 1.0, INF, -INF, 0.0], [-0.0, 2.0, 7.0, 3.0, 2.0], [1.0, 1.0, 5.0, NAN, -7.0]])
        return [(x, torch.randn(8), torch.randint(0, 3, (7, 3)), torch.randn(1, 2, 4, 6))]


@module("draws", random=True, group="random", forms=("model", "core"))
class Draws(nn.Module):
    """Random numbers: only their distribution can be compared, so there are no expected outputs."""

    N = 6000

    def forward(self, p):
        n, x = self.N, torch.ones(self.N)
        weights = torch.tensor([1.0, 2.0, 0.0, 5.0])
        return (torch.rand(n), torch.rand(n), torch.randn(n), torch.randint(3, 11, (n,)), torch.randperm(n), torch.bernoulli(p),
                torch.empty(n).uniform_(-2.0, 3.0), torch.normal(x * 2, 3.0), torch.empty(n).exponential_(2.0), F.dropout(x, 0.3, training=True),
                torch.multinomial(weights, n, replacement=True), torch.multinomial(weights.expand(n, 4), 3), torch.rand(n, dtype=torch.float16),
                torch.empty(n).geometric_(0.4), F.alpha_dropout(torch.zeros(n), 0.2, training=True), torch.randint(0, 2**40, (n,)), torch.rand_like(p, dtype=torch.bfloat16))

    def calls(self):
        return [(torch.full((self.N,), 0.25),)]


@module("rounds", {"x": {0: Dim("n", min=2, max=9)}}, random=True, group="random", forms=("model", "core"))
class Rounds(nn.Module):
    """Random numbers in a branch and in a loop whose number of rounds is an input's length."""

    def forward(self, x):
        chosen = torch.cond(x.sum() > 0, lambda x: torch.rand(4), lambda x: -torch.rand(4), (x,))
        _, rows = scan(lambda carried, row: (carried + row, F.dropout(torch.rand_like(row), 0.25, True)), x[0], x)
        return chosen, rows

    def calls(self):
        return [(torch.ones(5, 4),), (-torch.ones(3, 4),)]


@module("chosen_row", forms=("model", "core"))
class ChosenRow(nn.Module):
    """A row whose number is read from a tensor, from either end."""

    def forward(self, x, i):
        return x[i.item()] * 2

    def calls(self):
        x = torch.randn(6, 4)
        return [(x.clone(), torch.tensor(i)) for i in (3, -1, 0, -6)]
