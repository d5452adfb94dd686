"""What ExecuTorch leaves to its portable library where nothing is delegated, as inside the branches and loops of a program: expressions by theme."""
import torch
from torch import nn
from torch.nn import functional as F

a = torch.ops.aten

# Arguments of each expression: x, y floats [2, 3, 4]; p positive ones; i, j integers; m a mask; h half precision.
THEMES = {
    "pointwise": [
        lambda v: v.x.tanh(), lambda v: v.x.relu(), lambda v: v.x.sigmoid(), lambda v: v.x.exp(), lambda v: v.p.log(), lambda v: v.p.sqrt(),
        lambda v: v.p.rsqrt(), lambda v: v.p.reciprocal(), lambda v: v.x.sin(), lambda v: v.x.cos(), lambda v: v.x.tan(), lambda v: v.x.asinh(),
        lambda v: (v.p + 1).acosh(), lambda v: (v.x / 9).atanh(), lambda v: (v.x / 9).asin(), lambda v: (v.x / 9).acos(), lambda v: v.x.atan(),
        lambda v: v.x.sinh(), lambda v: v.x.cosh(), lambda v: v.x.erf(), lambda v: v.x.expm1(), lambda v: v.p.log1p(), lambda v: v.p.log2(),
        lambda v: v.p.log10(), lambda v: v.x.abs(), lambda v: v.x.neg(), lambda v: v.x.sign(), lambda v: v.x.ceil(), lambda v: v.x.floor(),
        lambda v: v.x.trunc(), lambda v: (v.x * 2).round(), lambda v: v.i.abs(), lambda v: v.i.neg(), lambda v: v.i.sin(), lambda v: v.i.floor(),
        lambda v: v.x + v.y, lambda v: v.x - v.y, lambda v: v.x * v.y, lambda v: v.x / v.y, lambda v: v.x + 2, lambda v: 2 - v.x, lambda v: v.x * 0.5,
        lambda v: v.x / 3, lambda v: v.i / v.j, lambda v: v.i / 2, lambda v: torch.add(v.x, v.y, alpha=3), lambda v: torch.sub(v.i, v.j, alpha=2),
        lambda v: torch.rsub(v.x, v.y, alpha=0.5), lambda v: v.i + v.x, lambda v: v.i * 2.5, lambda v: v.m + v.i, lambda v: v.h * 0.1 + v.h,
        lambda v: v.h + v.x, lambda v: v.i // v.j, lambda v: v.x // v.y, lambda v: v.i // 3, lambda v: torch.div(v.x, v.y, rounding_mode="trunc"),
        lambda v: torch.div(v.i, v.j, rounding_mode="trunc"), lambda v: torch.div(v.i, 3, rounding_mode="trunc"),
        lambda v: torch.div(v.i, v.j, rounding_mode="floor"), lambda v: v.x % v.y, lambda v: v.i % v.j, lambda v: v.i % 3, lambda v: v.x % -0.7,
        lambda v: torch.fmod(v.x, v.y), lambda v: torch.fmod(v.i, v.j), lambda v: torch.fmod(v.x, 0.7), lambda v: torch.fmod(v.i, -3),
        lambda v: v.p ** v.y, lambda v: v.x ** 2, lambda v: v.x ** 3.0, lambda v: 2 ** v.x, lambda v: v.i ** 2, lambda v: v.i ** (v.j.abs() % 4),
        lambda v: v.i ** (v.j % 2 - 1), lambda v: torch.atan2(v.x, v.y), lambda v: torch.maximum(v.x, v.y), lambda v: torch.minimum(v.i, v.j),
        lambda v: v.x == v.y, lambda v: v.x != v.x, lambda v: v.x < v.y, lambda v: v.x <= 0.1, lambda v: v.i > v.j, lambda v: v.i >= 2, lambda v: v.i == 2.5,
        lambda v: v.h > 0.1, lambda v: v.i < v.x, lambda v: v.m & (v.i > 0), lambda v: v.i & v.j, lambda v: v.i | 5, lambda v: v.i ^ v.j, lambda v: ~v.i,
        lambda v: ~v.m, lambda v: v.i << 2, lambda v: v.i >> 1, lambda v: v.i << (v.j.abs() % 5), lambda v: v.i >> (v.j.abs() % 5),
        lambda v: torch.logical_and(v.x, v.m), lambda v: torch.logical_or(v.i, v.m), lambda v: torch.logical_xor(v.i, v.m),
        lambda v: torch.logical_not(v.i), lambda v: v.x.isnan(), lambda v: (v.x / 0).isinf(), lambda v: torch.where(v.m, v.x, v.y),
        lambda v: torch.where(v.m, v.i, 0.5), lambda v: v.x.masked_fill(v.m, -1e9), lambda v: v.i.masked_fill(v.m, 7), lambda v: v.x.clamp(-0.5, 0.5),
        lambda v: v.x.clamp(min=0.1), lambda v: v.i.clamp(max=2), lambda v: v.x.clamp(v.y, v.p + 3), lambda v: F.hardtanh(v.x), lambda v: F.relu6(v.x * 9),
        lambda v: F.gelu(v.x), lambda v: F.gelu(v.x, approximate="tanh"), lambda v: F.silu(v.x), lambda v: F.leaky_relu(v.x, 0.2), lambda v: F.elu(v.x, 0.7),
        lambda v: F.selu(v.x), lambda v: F.glu(v.x, 2), lambda v: torch.logit(v.x.sigmoid()), lambda v: torch.logit(v.x, 0.2), lambda v: v.x.to(torch.int64),
        lambda v: v.i.to(torch.float32), lambda v: v.x.to(torch.float16), lambda v: v.x.to(torch.bool), lambda v: F.softplus(v.x), lambda v: F.mish(v.x),
        lambda v: F.hardswish(v.x * 4), lambda v: F.logsigmoid(v.x), lambda v: v.h.exp(), lambda v: v.h.tanh() * v.h, lambda v: v.x.to(torch.uint8).bitwise_not(),
    ],
    "reductions": [
        lambda v: v.x.sum(), lambda v: v.x.sum(1), lambda v: v.x.sum((0, 2), keepdim=True), lambda v: v.i.sum(), lambda v: v.m.sum(1), lambda v: v.h.sum(),
        lambda v: v.x.mean(), lambda v: v.x.mean(-1), lambda v: v.x.mean((0, 1), keepdim=True), lambda v: v.h.mean(1), lambda v: v.x.amax(), lambda v: v.x.amax(1),
        lambda v: v.x.amin((0, 2), True), lambda v: v.x.max(), lambda v: v.x.min(), lambda v: v.i.max(), lambda v: v.x.max(1), lambda v: v.i.min(2, keepdim=True),
        lambda v: v.x.argmax(), lambda v: v.x.argmax(1), lambda v: v.i.argmin(2, keepdim=True), lambda v: v.m.any(), lambda v: v.m.any(1), lambda v: v.m.all(),
        lambda v: v.m.all(-1, keepdim=True), lambda v: v.x.prod(), lambda v: v.x.prod(1), lambda v: v.i.prod(2, keepdim=True), lambda v: v.x.cumsum(1),
        lambda v: v.i.cumsum(-1), lambda v: v.m.cumsum(0), lambda v: v.x.var(), lambda v: v.x.var(1), lambda v: v.x.var(2, correction=0, keepdim=True),
        lambda v: torch.var_mean(v.x, 1, correction=0), lambda v: v.x.std(1), lambda v: v.x.softmax(-1), lambda v: v.x.softmax(0), lambda v: v.x.log_softmax(1),
        lambda v: v.h.softmax(-1), lambda v: v.x.topk(2), lambda v: v.x.topk(2, 1, largest=False), lambda v: v.x.logsumexp(2), lambda v: v.x.norm(dim=1),
        lambda v: v.x.sum().softmax(0), lambda v: v.x.sum().amax(), lambda v: v.x.sum().cumsum(0), lambda v: v.h.cumsum(1),
    ],
    "movement": [
        lambda v: v.x.view(6, 4).tanh(), lambda v: v.x.view(-1).exp().view(4, 6).abs(), lambda v: v.x.permute(2, 0, 1).neg(), lambda v: v.x.transpose(0, 2),
        lambda v: v.x[0].t(), lambda v: v.x.unsqueeze(1), lambda v: v.x[:, :1].squeeze(1), lambda v: v.x.unsqueeze(0).squeeze((0,)), lambda v: v.x[:, :1].expand(5, 2, 3, 4),
        lambda v: v.x.repeat(2, 1, 3, 2), lambda v: v.x.flip(0, 2), lambda v: v.x.roll(1, 2), lambda v: v.x.roll((1, -2), (0, 1)), lambda v: v.x.roll(5),
        lambda v: v.x[1], lambda v: v.x[:, -1], lambda v: v.x[:, 1:], lambda v: v.x[..., ::2], lambda v: v.x[:, -2:, 1:-1], lambda v: v.x.narrow(2, 1, 2),
        lambda v: v.x.split(3, 2), lambda v: v.x.split([1, 3], 2), lambda v: v.x.unbind(1), lambda v: v.x.chunk(2, 2), lambda v: v.x.unfold(2, 2, 2),
        lambda v: v.x.diagonal(1, 1, 2), lambda v: v.x.diagonal(-1), lambda v: v.x[0].tril(), lambda v: v.x.triu(1), lambda v: torch.cat([v.x, v.y], 1),
        lambda v: torch.cat([v.i, v.x], -1), lambda v: torch.stack([v.x, v.y], 1), lambda v: torch.stack([v.i, v.j], -1), lambda v: F.pad(v.x, (1, 2)),
        lambda v: F.pad(v.x, (1, -1, 0, 2), value=3.5), lambda v: F.pad(v.i, (0, 0, 1, 1, 2, 0), value=7), lambda v: F.pad(v.x, (2, 1), mode="reflect"),
        lambda v: F.pad(v.x, (2, 5), mode="replicate"), lambda v: F.pad(v.x.unsqueeze(0), (1, 1, 2, 1), mode="reflect"),
        lambda v: F.pad(v.x.unsqueeze(0), (3, 1, 0, 1), mode="replicate"), lambda v: F.pixel_shuffle(v.x.reshape(4, 3, 2), 2),
        lambda v: F.pixel_unshuffle(v.x.reshape(1, 4, 6), 2), lambda v: v.x.clone(), lambda v: torch.as_strided(v.x.contiguous().clone(), (2, 5), (3, 2), 1),
        lambda v: a.select_scatter(v.x, v.y[0], 0, 1), lambda v: a.slice_scatter(v.x, v.y[:, :1], 1, 1, 2), lambda v: a.slice_scatter(v.x, v.y[..., :2], 2, 0, 4, 2),
        lambda v: torch.full((2, 3), 1.5) + v.x[0, 0, 0], lambda v: torch.zeros(2, 3) + v.x[0, 0, 0], lambda v: torch.ones_like(v.i), lambda v: torch.full_like(v.x, 2),
        lambda v: torch.arange(5) + v.i[0, 0, 0], lambda v: torch.arange(1, 3, 0.25) + v.x[0, 0, 0], lambda v: torch.arange(7, -3, -2) + v.i[0, 0, 0],
        lambda v: torch.scalar_tensor(2.5) + v.x, lambda v: a.detach_copy(v.x), lambda v: a.alias_copy(v.x), lambda v: a.t_copy(v.x[0]), lambda v: a.narrow_copy(v.x, 1, 1, 2), lambda v: a.fill.Scalar(v.x, 3), lambda v: a.fill.Tensor(v.i, v.j[0, 0, 0]), lambda v: a.copy(v.x, v.y[0, 0]), lambda v: a.lift_fresh_copy(v.x), lambda v: v.x.repeat_interleave(2, 1), lambda v: v.m.view(4, 6), lambda v: v.i[0].t(), lambda v: v.h.permute(1, 0, 2),
    ],
    "indexing": [
        lambda v: F.embedding(v.k, v.x[0]), lambda v: v.x.index_select(1, v.k), lambda v: v.x.gather(2, v.k.view(1, 2, 1)), lambda v: v.x[v.k],
        lambda v: v.x[:, v.k, v.k], lambda v: v.x[v.k, :, v.k], lambda v: v.x[:, v.k.view(2, 1), v.k], lambda v: v.x.scatter(1, v.k.view(1, 2, 1).expand(2, 2, 4), v.y),
        lambda v: v.x.scatter(2, v.k.view(1, 2, 1), 9.5), lambda v: v.x.scatter_add(1, v.k.view(1, 2, 1).expand(2, 2, 4), v.y), lambda v: v.i.scatter_add(0, v.i * 0, v.j),
        lambda v: v.x.index_put((v.k,), v.y[0]), lambda v: v.x.index_put((v.k, v.k), v.y[0, 0], accumulate=True), lambda v: v.i.index_put((v.k * 0,), v.j[0], accumulate=True),
        lambda v: v.x.index_copy(1, v.k, v.y[:, :2]), lambda v: v.x.index_add(2, v.k, v.y[..., :2]), lambda v: v.x.scatter(1, v.k.view(1, 2, 1) + 1, v.y),
        lambda v: F.one_hot(v.k, 4), lambda v: v.x.masked_scatter(v.m, v.y), lambda v: v.m.gather(1, v.k.view(1, 2, 1)),
        lambda v: v.x.take_along_dim(v.k.view(1, 2, 1), 1), lambda v: torch.repeat_interleave(v.x[:, :2], v.k + 1, 1, output_size=3),
    ],
    "products": [
        lambda v: v.x[0] @ v.y[0].t(), lambda v: v.x @ v.y.transpose(1, 2), lambda v: torch.addmm(v.x[0, :, :3], v.x[0], v.y[0].t(), beta=0.5, alpha=2), lambda v: v.i[0] @ v.j[0].t(),
        lambda v: v.h @ v.h.transpose(1, 2), lambda v: F.linear(v.x, v.y[0], v.x[0, :, 0]), lambda v: torch.einsum("bij,bkj->bik", v.x, v.y),
        lambda v: F.conv1d(v.x, v.w3), lambda v: F.conv1d(v.x, v.w3, v.x[0, 0], padding=2, stride=2), lambda v: F.conv1d(v.x, v.w1, groups=3, padding=1),
        lambda v: F.conv2d(v.z, v.w4, padding=1), lambda v: F.conv2d(v.z, v.w4, stride=(2, 1), dilation=(1, 2)), lambda v: F.conv_transpose1d(v.x, v.w3.transpose(0, 1), stride=2, padding=1),
        lambda v: F.conv_transpose2d(v.z, v.w4.transpose(0, 1), stride=2, output_padding=1), lambda v: F.conv_transpose1d(torch.cat([v.x, v.y[:, :1]], 1), v.w3[:, :2], groups=2),
        lambda v: F.conv3d(v.z.unsqueeze(2), v.w4.unsqueeze(2)), lambda v: F.layer_norm(v.x, (4,)), lambda v: F.layer_norm(v.x, (3, 4), v.y[0], v.p[0]), lambda v: F.layer_norm(v.h, (4,)),
        lambda v: F.group_norm(v.x, 3, v.p[0, :, 0], v.y[0, :, 0]), lambda v: F.group_norm(v.z, 1), lambda v: F.batch_norm(v.x, v.y[0, :, 0], v.p[0, :, 0], v.p[1, :, 0], v.y[1, :, 0]),
        lambda v: F.instance_norm(v.z, weight=v.p[0, :, 0]), lambda v: F.avg_pool2d(v.z, 2), lambda v: F.avg_pool2d(v.z, 3, 2, 1), lambda v: F.avg_pool2d(v.z, 2, 2, 1, True, False),
        lambda v: F.max_pool2d(v.z, 2), lambda v: F.max_pool2d(v.z, 3, 2, 1), lambda v: F.max_pool2d(v.z, 2, return_indices=True), lambda v: F.max_pool2d(v.z, 2, 1, 0, 2, True),
        lambda v: F.adaptive_avg_pool2d(v.z, (2, 3)), lambda v: F.interpolate(v.z, scale_factor=2.0), lambda v: F.interpolate(v.z, size=(3, 7)),
        lambda v: F.interpolate(v.z, size=(9, 4), mode="bilinear"), lambda v: F.interpolate(v.z, scale_factor=1.5, mode="bilinear"),
        lambda v: F.interpolate(v.z, size=(8, 11), mode="bilinear", align_corners=True), lambda v: F.interpolate(v.z, size=(3, 4), mode="bilinear", antialias=True),
        lambda v: F.grid_sample(v.z, v.g), lambda v: F.grid_sample(v.z, v.g * 1.3, mode="nearest", align_corners=True),
        lambda v: F.grid_sample(v.z, v.g * 1.5, padding_mode="border"), lambda v: F.grid_sample(v.z, v.g * 1.8, padding_mode="reflection"),
        lambda v: torch.cdist(v.x, v.y), lambda v: torch.cdist(v.x, v.y, p=1.0), lambda v: torch.pdist(v.x[0]), lambda v: F.pairwise_distance(v.x, v.y),
    ],
}


class Arguments:
    """Tensors by name."""

    NAMES = ("x", "y", "p", "i", "j", "m", "h", "k", "z", "w1", "w3", "w4", "g")

    def __init__(self, tensors):
        self.__dict__.update(zip(self.NAMES, tensors))

    @staticmethod
    def draw():
        i, j = torch.randint(-6, 7, (2, 3, 4)), torch.randint(1, 5, (2, 3, 4)) * (torch.randint(0, 2, (2, 3, 4)) * 2 - 1)
        x, y = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
        return (
            x, y, torch.rand(2, 3, 4) + 0.1, i, j, torch.rand(2, 3, 4) > 0.5, torch.randn(2, 3, 4).half(), torch.tensor([1, 0]), torch.randn(2, 3, 5, 6),
            torch.randn(3, 1, 3), torch.randn(4, 3, 3), torch.randn(4, 3, 3, 3) * 0.5, torch.rand(2, 3, 4, 2) * 2 - 1,
        )


class Theme(nn.Module):
    """All of some expressions."""

    def __init__(self, expressions):
        super().__init__()
        self.expressions = expressions

    def forward(self, *tensors):
        values = Arguments(tensors)
        results = [expression(values) for expression in self.expressions]
        # Each argument is used, so that none is left out.
        return tuple(torch.utils._pytree.tree_leaves(results)) + tuple(t.clone() for t in tensors)
