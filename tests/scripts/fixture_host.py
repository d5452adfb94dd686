"""Modules with operators that the host must run: those of a library, and those whose results' sizes depend on data."""
import contextlib

import torch
from fixture_modules import WIDTH, Sandwich, module
from torch._higher_order_ops.while_loop import while_loop
from torch.export import Dim


@torch.library.custom_op("fixture::scaled", mutates_args=())
def scaled(x: torch.Tensor, k: int = 2, *, w: float = 1.5, mode: str = "plain") -> torch.Tensor:
    return x * k * w + (1.0 if mode == "shifted" else 0.0)


@scaled.register_fake
def _(x, k=2, *, w=1.5, mode="plain"):
    return torch.empty_like(x)


@torch.library.custom_op("fixture::peaks", mutates_args=())
def peaks(x: torch.Tensor, least: float, limits: list[int], floor: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the elements above `least`, those from `limits[0]` to `limits[1]` of them, and their values."""
    flat = x.flatten() if floor is None else torch.maximum(x.flatten(), floor)
    positions = (flat > least).nonzero().flatten()[limits[0] : limits[1]]
    return positions, flat[positions]


@peaks.register_fake
def _(x, least, limits, floor=None):
    size = torch.library.get_ctx().new_dynamic_size(max=limits[1])
    return x.new_empty(size, dtype=torch.int64), x.new_empty(size)


@torch.library.custom_op("fixture::blend", mutates_args=())
def blend(xs: list[torch.Tensor], count: int, weights: list[float]) -> torch.Tensor:
    return sum(x * w for x, w in zip(xs, weights, strict=True)) + count


@blend.register_fake
def _(xs, count, weights):
    return torch.empty_like(xs[0])


@module("library", {"x": {0: Dim("n", min=2, max=8)}}, group="host", note="operators of a library: several results, sizes that depend on data, literals and lists as arguments")
class Library(Sandwich):
    def forward(self, x):
        hidden = self.first(x)
        a = torch.ops.fixture.scaled(hidden, 3, w=0.5, mode="shifted")
        b = torch.ops.fixture.scaled(hidden)
        positions, values = torch.ops.fixture.peaks(a, 0.25, [0, 100])
        mixed = torch.ops.fixture.blend([a, b], x.shape[0], [0.25, 0.75])
        return self.second(mixed), positions + 1, values * 2.0

    def calls(self):
        return [(torch.randn(n, WIDTH),) for n in (4, 2, 8)]


@module("host_unique", {"x": {0: Dim("n", min=2, max=8)}}, note="distinct elements, where each element is among them, and how often each occurs")
class HostUnique(torch.nn.Module):
    def forward(self, x):
        kinds, inverse, counts = torch.unique(x // 3, return_inverse=True, return_counts=True)
        runs, lengths = torch.unique_consecutive(x // 3, return_counts=True)
        return kinds * 2, inverse + x, counts, runs + 1, lengths * kinds.sum()

    def calls(self):
        return [(torch.randint(-9, 9, (n, 5)),) for n in (4, 2, 8)]


@module("repeats", {"x": {0: Dim("n", min=2, max=8)}, "repeats": {0: Dim("n", min=2, max=8)}}, note="elements repeated as often as data say: a size that depends on data, without a call of the host")
class Repeats(torch.nn.Module):
    def forward(self, x, repeats):
        rows = torch.repeat_interleave(x, repeats, dim=0)
        columns = torch.repeat_interleave(x, torch.tensor([2, 0, 1]), dim=1, output_size=3)
        return rows * 2, columns, torch.repeat_interleave(repeats)

    def calls(self):
        return [(torch.randn(n, 3), torch.randint(0, 4, (n,)) + torch.arange(n) % 2) for n in (4, 2, 8)]


@module("library_state", group="host", note="a buffer on both sides of an operator of a library, one set to its result, and one in a loop")
class LibraryState(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("sum", torch.zeros(2, 3))
        self.register_buffer("last", torch.ones(2, 3))
        self.register_buffer("rows", torch.zeros(4, 3))

    def forward(self, x, n):
        self.rows.index_copy_(0, n.reshape(1), x[:1])
        seen = torch.ops.fixture.scaled(self.sum + x, 2, w=0.5)
        self.sum.add_(seen)
        old = self.last * 2
        self.last.copy_(torch.ops.fixture.scaled(self.rows[:2], 1, w=0.25))

        def step(i, y):
            return i + 1, torch.ops.fixture.scaled(y, 1, w=1.25, mode="shifted")

        _, y = while_loop(lambda i, y: i < n, step, (torch.zeros((), dtype=torch.int64), seen))
        return y + old, self.sum * 1.0

    def calls(self):
        return [(torch.randn(2, 3), torch.tensor(n)) for n in (1, 0, 3)]


@module("host_count", {"x": {0: Dim("n", min=2, max=8)}}, note="a size that depends on data, of which nothing but the number is used")
class HostCount(torch.nn.Module):
    def forward(self, x):
        count = (x > 0).nonzero().shape[0]
        return x + count, torch.arange(count) * 2

    def calls(self):
        return [(torch.randn(n),) for n in (4, 2, 8)]


INSTALLED = contextlib.ExitStack()


def install_caches(layers, heads, width, capacity):
    """Makes the caches that `kvcache::update_and_attend` uses in eager mode. A step at position p forgets what a layer has from p on, so each run begins anew."""
    from executorch.extension.llm.cache import reference_cache as reference
    from executorch.extension.llm.cache.update_and_attend import REGISTRY

    class Caches(reference.ContiguousReferenceCache):
        def update_and_fetch(self, layer_id, k, v, position):
            self._used[layer_id] = int(position.flatten()[0])
            return super().update_and_fetch(layer_id, k, v, position)

    sizing = reference.CacheSizing.STATIC
    REGISTRY.install("fixture", Caches(reference.CacheConfig(layers, heads, width, capacity, sizing)))
    INSTALLED.enter_context(REGISTRY.active("fixture"))


ROWS = Dim("rows", min=1, max=8)


@module(
    "session_caches", {"q": {2: ROWS}, "k": {2: ROWS}, "v": {2: ROWS}, "at": {0: ROWS}},
    note="caches outside of the program (needs executorch==1.5.1): two layers, each with two steps a call, of which the second must see what the first has kept",
)
class SessionCaches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        install_caches(2, 2, 8, 32)

    def forward(self, q, k, v, at):
        attend = torch.ops.kvcache.update_and_attend
        for layer in range(2):
            q = attend(q, k + layer, v, at, layer, 0.35, torch.float32)
            q = attend(q, k * 0.5, v + 1, at + k.shape[2], layer, 0.25, torch.float32)
        return q

    def calls(self):
        made, start = [], 0
        for n in (3, 1, 2):
            at = torch.arange(start, start + n).reshape(n, 1)
            made.append((torch.randn(1, 4, n, 8), torch.randn(1, 2, n, 8), torch.randn(1, 2, n, 8), at))
            start += 2 * n
        return made


def positive(x):
    return x @ x.mT + 4 * torch.eye(x.shape[-1])


@module("host_factorisations", note="factorisations of matrices, and what is computed by them; vectors that nothing determines are multiplied back")
class Factorisations(torch.nn.Module):
    def forward(self, square, tall):
        la = torch.linalg
        lu, pivots = la.lu_factor(square)
        values, vectors = la.eigh(positive(square))
        u, s, vh = la.svd(tall, full_matrices=False)
        full_u, _, full_vh = la.svd(tall)
        return (
            la.inv(square), la.solve(square, tall.mT), la.solve(square, tall, left=False), torch.det(square), *la.slogdet(square), torch.logdet(square),
            la.cholesky(positive(square)), la.cholesky(positive(square), upper=True), *la.qr(tall), *la.qr(tall.mT), *la.qr(tall, mode="complete"),
            la.solve_triangular(square, tall.mT, upper=True), la.solve_triangular(square, tall, upper=False, left=False, unitriangular=True),
            *la.lu(tall), lu, pivots, la.lu_solve(lu, pivots, tall.mT), la.lu_solve(lu, pivots, tall, left=False), la.lu_solve(lu, pivots, tall.mT, adjoint=True),
            values, vectors @ torch.diag_embed(values) @ vectors.mT, la.eigvalsh(positive(square), UPLO="U"),
            s, u @ torch.diag_embed(s) @ vh, u.mT @ u, full_u.mT @ full_u, full_vh @ full_vh.mT, la.svdvals(tall.mT),
            la.pinv(tall), la.matrix_rank(tall), la.cond(square), la.cond(square, p=1), la.matrix_norm(tall, ord=2), la.matrix_norm(tall, ord="nuc"),
            la.matrix_power(square, -2), la.matrix_exp(square), la.householder_product(*torch.geqrf(tall)), *la.inv_ex(torch.zeros(2, 2) + 0 * square[0, :2, :2]),
        )  # fmt: skip

    def calls(self):
        return [(torch.randn(3, 4, 4), torch.randn(3, 6, 4))]


@module("host_inverse", note="an inverse whose matrices may have none")
class Inverse(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x) + 1.0

    def calls(self):
        return [(torch.randn(1, 2, 2) + 3 * torch.eye(2),)]


@module("host_states", note="states on both sides of an operator of the host: one that starts otherwise than at zero, one handed out as it was, and two that change places")
class HostStates(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("sum", torch.zeros(3, 4))
        self.register_buffer("first", torch.arange(4.0))
        self.register_buffer("second", torch.arange(4.0) + 10)

    def forward(self, x):
        old = self.sum.clone()
        y = self.sum + x + self.first
        count = torch.nonzero(y > 0).sum().to(torch.float32)
        self.sum.copy_(y * 0.5 + count)
        first = self.first.clone()
        self.first.copy_(self.second)
        self.second.copy_(first - count)
        return old, count, self.sum * 2

    def calls(self):
        return [(torch.randn(3, 4),) for _ in range(4)]


@module("fixed_arguments", group="host", forms=("model",), note="Python arguments among the tensors: the export computes with their values")
class FixedArguments(torch.nn.Module):
    def forward(self, x, k, y, mode="plain", scale=1.0, flag=True):
        total = x * k + y * scale
        return total if flag or mode == "plain" else -total

    def calls(self):
        return [((torch.ones(3), 2, torch.arange(3.0)), {"scale": 0.5, "flag": False})]
