"""Makes tests/fixtures/executorch: programs that ExecuTorch writes for its MLX delegate, each with something that few files have.

    pip install torch==2.13.0 executorch==1.5.1 safetensors numpy
    python tests/scripts/make_executorch_fixtures.py [--out tests/fixtures/executorch] [--only REGEX]

A case becomes a folder with `model.pte`, inputs and eager outputs as tests/fixtures/README.md describes, and, where weights are outside of the program,
`*.ptd`. The cases `node_…` of that folder are not made here: they are operators of `et_ops` without their exports.
"""
import argparse
import json
import logging
import pathlib
import re
import shutil
import zlib

import fixture_portable
import torch
from executorch.backends.mlx import MLXPartitioner
from executorch.backends.mlx.custom_kernel_ops import gated_delta_rule  # noqa: F401  (registers the operator)
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir._serialize._named_data_store import NamedDataStore
from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch._higher_order_ops.map import map as map_along
from torch._higher_order_ops.scan import scan as scan_along
from torch.export import Dim, export

logging.disable(logging.WARNING)
CASES = {}


def case(build):
    CASES[build.__name__] = build
    return build


class Out:
    """Where a case goes."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)

    def program(self, manager, config=None):
        """Writes the program and the files beside it."""
        lowered = manager.to_executorch(config or ExecutorchBackendConfig())
        (self.folder / "model.pte").write_bytes(lowered.buffer)
        lowered.write_tensor_data_to_file(str(self.folder))
        for file in self.folder.iterdir():
            if file.suffix == ".ptd":
                continue
            if file.name != "model.pte":
                file.rename(file.with_suffix(".ptd"))

    def calls(self, module, calls, **meta):
        """Records what eager PyTorch gives for the calls, one after the other."""
        inputs, outputs = {}, {}
        for number, call in enumerate(calls):
            prefix = f"call{number}_" if len(calls) > 1 else ""
            inputs.update({f"{prefix}in{i}": t.contiguous() for i, t in enumerate(call)})
            with torch.no_grad():
                results = module(*[t.clone() for t in call])
            results = results if isinstance(results, tuple) else (results,)
            outputs.update({f"{prefix}out{i}": t.clone().contiguous() for i, t in enumerate(results)})
        save_file(inputs, self.folder / "inputs.safetensors")
        save_file(outputs, self.folder / "expected.safetensors")
        (self.folder / "meta.json").write_text(json.dumps({"dtype": "fp32", **meta}, indent=1) + "\n")


def lower(program, **options):
    return to_edge_transform_and_lower(program, partitioner=[MLXPartitioner()], **options)


class Shared(nn.Module):
    """Two methods over one weight."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x)

    def twice(self, x):
        return self.linear(self.linear(x)) * 2


class Method(nn.Module):
    """A method of a module as a module."""

    def __init__(self, owner, name):
        super().__init__()
        self.owner, self.name = owner, name

    def forward(self, x):
        return getattr(self.owner, self.name)(x)


@case
def two_methods(out):
    owner = Shared()
    x = torch.randn(3, 8)
    shapes = {"x": {0: Dim("n", min=1, max=6)}}
    programs = {"forward": export(owner, (x,), dynamic_shapes=shapes), "twice": export(Method(owner, "twice"), (x,), dynamic_shapes=shapes)}
    constants = {"get_length": 6, "get_scale": 0.5, "get_flag": True, "get_table": torch.arange(6, dtype=torch.int32).reshape(2, 3)}
    out.program(lower(programs, constant_methods=constants))
    out.calls(owner, [(torch.randn(2, 8),), (torch.randn(6, 8),)])
    with torch.no_grad():
        y = torch.randn(4, 8)
        save_file({"in0": y, "out0": owner.twice(y)}, out.folder / "twice.safetensors")


@case
def external_weights(out):
    """The delegate's weights in two files beside the program."""
    module = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 4))
    inside = NamedDataStore.get_named_data_store_output

    def outside(store):
        store.externalize_pte_data(600, "weights")
        return inside(store)

    NamedDataStore.get_named_data_store_output = outside
    try:
        manager = lower(export(module, (torch.randn(2, 8),)))
    finally:
        NamedDataStore.get_named_data_store_output = inside
    out.program(manager)
    out.calls(module, [(torch.randn(2, 8),)])


class Pooled(nn.Module):
    """An operator of the host that takes a weight, with work for the delegate before and behind."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 2, 5, 5))

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(self.weight, (2, 2)) * x + 1


@case
def external_constant(out):
    """A tensor of the method itself, an operand of an operator of the host, in a file beside the program."""
    module = Pooled()
    x = lambda: torch.randn(1, 2, 2, 2)
    out.program(lower(export(module, (x(),))), ExecutorchBackendConfig(external_constants=True))
    out.calls(module, [(x(),)])


class Between(nn.Module):
    """Operators that the partitioner leaves to the host, with work for the delegate before, between and behind."""

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(torch.relu(x), (2, 3))
        return nn.functional.softmax(x * 3, dim=-1)


@case
def host_between(out):
    module = Between()
    out.program(lower(export(module, (torch.randn(1, 2, 6, 7),))))
    out.calls(module, [(torch.randn(1, 2, 6, 7),)])


# ExecuTorch's check of its own graphs knows no complex elements.
COMPLEX = EdgeCompileConfig(_check_ir_validity=False)


class Turned(nn.Module):
    """Complex numbers, all of them left to the host: a table looked up, views, a product."""

    def __init__(self):
        super().__init__()
        angle = torch.arange(12.0).reshape(6, 2) * 0.3
        self.register_buffer("table", torch.polar(torch.ones_like(angle), angle))

    def forward(self, x, position):
        pairs = torch.view_as_complex((x * 2).reshape(2, 3, 2, 2))
        turned = pairs * self.table[position].unsqueeze(1).transpose(1, 2).permute(0, 2, 1).expand(2, 3, 2)
        return torch.view_as_real(turned).reshape(2, 3, 4) + 1


@case
def host_complex(out):
    module = Turned()
    call = lambda: (torch.randn(2, 3, 4), torch.randint(0, 6, (2,)))
    out.program(lower(export(module, call()), compile_config=COMPLEX))
    out.calls(module, [call(), call()])


class Spectrum(nn.Module):
    """A spectrogram: windows of a signal and their Fourier transform on the host, the rest in delegates."""

    def forward(self, x):
        power = torch.stft(x, 12, 5, window=torch.hann_window(12), return_complex=True).abs() ** 2
        return torch.log(power.clamp(min=1e-10))


@case
def host_spectrum(out):
    module = Spectrum()
    out.program(lower(export(module, (torch.randn(64),)), compile_config=COMPLEX))
    out.calls(module, [(torch.randn(64),)])


class Magnitudes(nn.Module):
    """Nothing of it goes to the delegate, so that ExecuTorch writes a file without an extended header."""

    def forward(self, x):
        return torch.fft.rfft(x).abs()


@case
def nothing_delegated(out):
    module = Magnitudes()
    out.program(lower(export(module, (torch.randn(3, 8),)), compile_config=COMPLEX))
    out.calls(module, [(torch.randn(3, 8),)])


class Rows(nn.Module):
    """Rows of a matrix at a matrix of positions, which ExecuTorch writes as TakeAlongAxisNode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(6, 4))

    def forward(self, position):
        return self.table[position].unsqueeze(1) * 2


@case
def rows_at_a_matrix(out):
    module = Rows()
    call = lambda: (torch.randint(0, 6, (1, 3)),)
    out.program(lower(export(module, call())))
    out.calls(module, [call(), call()])


@case
def row_at_one_position(out):
    # One row at one position: the lengths broadcast, so that nothing but what comes after says that whole rows are meant.
    module = Rows()
    call = lambda: (torch.randint(0, 6, (1, 1)),)
    out.program(lower(export(module, call())))
    out.calls(module, [call(), call()])


class Recurrence(nn.Module):
    """A loop over time with a state: ScanNode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(1, 2, 4, 4))

    def forward(self, q, k, v, g, beta):
        return torch.ops.mlx.gated_delta_rule(q, k, v, g, beta, self.state, use_custom_kernel=False)


@case
def scan(out):
    module = Recurrence()

    def call():
        heads = lambda: torch.randn(1, 5, 2, 4) * 0.5
        return heads(), heads(), heads(), torch.rand(1, 5, 2), torch.rand(1, 5, 2)

    out.program(lower(export(module, call())))
    module.state.zero_()
    out.calls(module, [call(), call()])


class Counter(nn.Module):
    """A state that an operator of the host reads, with a value to begin with."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.tensor([[[5.0, 6.0], [7.0, 8.0]]]))

    def forward(self, x):
        self.seen.copy_(nn.functional.adaptive_avg_pool2d(self.seen, (2, 2)) + x)
        return self.seen * 2


@case
def initial_state(out):
    x = lambda: torch.randn(1, 2, 2)
    manager = lower(export(Counter(), (x(),)))
    out.program(manager, ExecutorchBackendConfig(passes=[InitializedMutableBufferPass(["seen"])]))
    out.calls(Counter(), [(x(),), (x(),), (x(),)])


def portable(theme):
    """Expressions of a theme, nothing of which is delegated."""

    def build(out):
        module = fixture_portable.Theme(fixture_portable.THEMES[theme])
        call = fixture_portable.Arguments.draw()
        out.program(to_edge_transform_and_lower(export(module, call), compile_config=COMPLEX))
        out.calls(module, [call])

    build.__name__ = f"portable_{theme}"
    return case(build)


for theme in fixture_portable.THEMES:
    portable(theme)


class Edges(nn.Module):
    """What the delegate is given although MLX refuses it: negative padding, more updates than indices, axes of tensors without axes, integer matrices; and
    indices behind other axes, whose elements its files have in another order."""

    def forward(self, x, y, index, i):
        total = x.sum()
        return (
            F.pad(x, (1, -1, 0, 2), value=3.5),
            x.scatter_add(1, index, y),
            total.softmax(0),
            total.cumsum(0),
            total.amax(0),
            i @ i.transpose(0, 1),
            x[:, index[0, :, :2], index[1, :, 2:]],
        )


@case
def delegated_edges(out):
    module = Edges()
    call = (torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor([1, 0]).view(1, 2, 1).expand(2, 2, 4).contiguous(), torch.randint(-9, 9, (3, 4)))
    out.program(lower(export(module, call)))
    out.calls(module, [call])


class Chosen(nn.Module):
    """A branch, whose body ExecuTorch leaves to the portable library; views in it are left out where memory says what they show."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        positive = lambda x: (x + self.inner(x).reshape(16).relu().reshape(2, 8),)
        negative = lambda x: (x.reshape(4, 4).exp().reshape(2, 8),)
        return torch.cond(x.sum() > 0, positive, negative, (x,))[0] * 2


@case
def control_cond(out):
    module = Chosen()
    x = lambda: torch.randn(2, 8)
    out.program(lower(export(module, (x(),)), compile_config=COMPLEX))
    out.calls(module, [(x().abs(),), (-x().abs(),)])


class Mapped(nn.Module):
    """The same for each row, one after the other."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return map_along(lambda row: self.inner(row).reshape(12).softmax(0).reshape(3, 4), x)


@case
def control_map(out):
    module = Mapped()
    out.program(lower(export(module, (torch.randn(5, 3, 4),)), compile_config=COMPLEX))
    out.calls(module, [(torch.randn(5, 3, 4),), (torch.randn(5, 3, 4),)])


class Scanned(nn.Module):
    """A GRU as a scan."""

    def __init__(self):
        super().__init__()
        self.input, self.hidden = nn.Linear(4, 12), nn.Linear(4, 12)

    def forward(self, x):
        def step(h, x):
            (ar, az, an), (br, bz, bn) = self.input(x).chunk(3, -1), self.hidden(h).chunk(3, -1)
            z = torch.sigmoid(az + bz)
            h = (1 - z) * torch.tanh(an + torch.sigmoid(ar + br) * bn) + z * h
            return h, h.clone()

        return scan_along(step, torch.zeros(2, 4), x)


@case
def control_scan(out):
    module = Scanned()
    out.program(lower(export(module, (torch.randn(6, 2, 4),)), compile_config=COMPLEX))
    out.calls(module, [(torch.randn(6, 2, 4),), (torch.randn(6, 2, 4),)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "fixtures" / "executorch")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    for name, build in CASES.items():
        if not re.search(args.only, name):
            continue
        torch.manual_seed(zlib.crc32(name.encode()))
        shutil.rmtree(args.out / name, ignore_errors=True)
        build(Out(args.out / name))
        print(name, sum(f.stat().st_size for f in (args.out / name).iterdir()))


if __name__ == "__main__":
    main()
