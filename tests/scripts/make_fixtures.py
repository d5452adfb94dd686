"""Makes the exported programs in tests/fixtures/decoders and tests/fixtures/modules.

    pip install torch==2.13.0 transformers==5.23.0 safetensors numpy executorch==1.5.1
    python tests/scripts/make_fixtures.py [--out tests/fixtures] [--only REGEX]

Each case becomes a folder as tests/fixtures/README.md describes. Weights and inputs come from fixed seeds, so a second run
with the same packages gives the same values; what torch.export names by memory address is renumbered, so it also gives
the same graphs. Stack traces keep their two innermost frames in the training dialect and are left out of the others, with paths
cut to the package; the parts of a node's metadata that no reader needs are left out. They would be most of a file's size.

Every form is executed after it was written and must agree with eager PyTorch before its folder is kept.
"""
import argparse
import copy
import json
import pathlib
import re
import shutil
import sys
import zlib
from collections import Counter
from dataclasses import dataclass, field

import torch
from safetensors.torch import save_file
from torch.export.pt2_archive import _package

TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
DTYPE_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


@dataclass
class Case:
    """One exported module and the calls that are recorded on it.

    `module` holds its initial state; `calls` are lists of positional tensors in the order of the export's flat inputs,
    run one after the other on one copy of the module. `args` and `kwargs` are the export's example inputs.
    The new values of the inputs that the module mutates, `mutated` by position, are recorded after its outputs.
    What a `random` module gives is neither compared nor recorded.
    """

    name: str
    module: torch.nn.Module
    args: tuple
    calls: list
    kwargs: dict = field(default_factory=dict)
    dynamic_shapes: object = None
    strict: bool = False
    deferred_asserts: bool = False
    forms: tuple = ("model", "func", "core")
    group: str = "modules"
    mutated: tuple = ()
    note: str = ""
    random: bool = False


def seed(name):
    """Seeds PyTorch from a case's name, so that cases don't depend on each other's order."""
    torch.manual_seed(zlib.crc32(name.encode()))


# --- archives -----------------------------------------------------------------------------------------------------------


def cut_trace(trace):
    """The two innermost frames of a stack trace, paths cut to the package or to the file's name."""
    frames = re.split(r'(?m)^(?=  File ")', "  " + trace.lstrip())
    frames = [f for f in frames if f.startswith('  File "')][-2:]

    def cut(match):
        path = match.group(1)
        package = path.find("site-packages/")
        return f'File "{path[package:] if package >= 0 else pathlib.PurePath(path).name}"'

    return "".join(re.sub(r'File "([^"]*)"', cut, f) for f in frames)


def clean_program(data):
    """models/*.json without what differs between machines and runs."""
    program = json.loads(data)
    with_traces = program["verifiers"] == ["TRAINING"]
    numbers = {}

    def renumber(match):
        return str(numbers.setdefault(match.group(0), len(numbers)))

    def clean_graph(graph):
        for node in graph["nodes"]:
            kept = {}
            if with_traces and "stack_trace" in node["metadata"]:
                kept["stack_trace"] = cut_trace(node["metadata"]["stack_trace"])
            if "nn_module_stack" in node["metadata"]:
                kept["nn_module_stack"] = re.sub(r"\d{12,}", renumber, node["metadata"]["nn_module_stack"])
            node["metadata"] = kept
            for argument in node["inputs"]:
                if "as_graph" in argument["arg"]:
                    clean_graph(argument["arg"]["as_graph"]["graph"])

    clean_graph(program["graph_module"]["graph"])
    return json.dumps(program, separators=(",", ":")).encode()


def install_cleaner():
    """Makes torch.export.save write cleaned programs; the container is still written by PyTorch itself."""
    write = _package.PT2ArchiveWriter.write_bytes

    def write_clean(self, name, data):
        if name.startswith("models/") and name.endswith(".json"):
            data = clean_program(data)
        write(self, name, data)

    _package.PT2ArchiveWriter.write_bytes = write_clean


# --- running ------------------------------------------------------------------------------------------------------------


def flat_tensors(value):
    return [torch.as_tensor(leaf) for leaf in torch.utils._pytree.tree_leaves(value) if leaf is not None]


def as_example(case, tensors):
    """A call's flat tensors in the structure of the case's example inputs."""
    leaves, spec = torch.utils._pytree.tree_flatten((case.args, case.kwargs))
    assert len(leaves) == len(tensors), f"{case.name}: {len(tensors)} inputs for {len(leaves)}"
    return torch.utils._pytree.tree_unflatten([t.clone() for t in tensors], spec)


def run_calls(case, module):
    """Each call's outputs, copied: a state that is returned must not change with the next call."""
    results = []
    with torch.no_grad():
        for tensors in case.calls:
            args, kwargs = as_example(case, tensors)
            outputs = flat_tensors(module(*args, **kwargs))
            inputs = flat_tensors((args, kwargs))
            outputs += [inputs[i] for i in case.mutated]
            results.append([t.detach().clone().contiguous() for t in outputs])
    return results


def compare(case, form, got, want):
    for number, (g_call, w_call) in enumerate(zip(got, want, strict=True)):
        for g, w in zip(g_call, w_call, strict=True):
            assert g.shape == w.shape and g.dtype == w.dtype, f"{case.name} {form} call {number}: {g.dtype}{list(g.shape)}, want {w.dtype}{list(w.shape)}"
            if w.dtype not in TOLERANCE:
                assert torch.equal(g, w), f"{case.name} {form} call {number}: integers differ"
                continue
            finite = w.float()[w.isfinite()].abs()
            bound = TOLERANCE[w.dtype] * max(1.0, finite.max().item() if finite.numel() else 0.0)
            close = torch.isclose(g.float(), w.float(), rtol=0.0, atol=bound, equal_nan=True)
            assert close.all(), f"{case.name} {form} call {number}: {int((~close).sum())} of {close.numel()} beyond {bound}"


# --- making -------------------------------------------------------------------------------------------------------------


def histogram(program):
    nodes = (str(n.target) for n in program.graph.nodes if n.op == "call_function")
    return dict(sorted(Counter(n.removesuffix("'>") for n in nodes if "getitem" not in n).items()))


def numbered(prefix, calls):
    if len(calls) == 1:
        return {f"{prefix}{i}": t.contiguous() for i, t in enumerate(calls[0])}
    return {f"call{c}_{prefix}{i}": t.contiguous() for c, call in enumerate(calls) for i, t in enumerate(call)}


def make(case, out):
    case.module.eval()
    want = run_calls(case, copy.deepcopy(case.module))
    folder = out / case.group / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with torch.no_grad():
        exported = torch.export.export(
            case.module, case.args, case.kwargs, dynamic_shapes=case.dynamic_shapes, strict=case.strict,
            prefer_deferred_runtime_asserts_over_guards=case.deferred_asserts,
        )
    programs = {"model": exported}
    if "func" in case.forms:
        programs["func"] = exported.run_decompositions({})
    if "core" in case.forms:
        programs["core"] = exported.run_decompositions()
    meta = {"entry": case.name, "dtype": dtype_of(case, want), "export_path": type(case.module).__name__, "strict": case.strict,
            "dynamic_shapes": str(case.dynamic_shapes), "calls": len(case.calls), "ops": {}}
    if case.note:
        meta["note"] = case.note
    for form, program in programs.items():
        if form not in case.forms:
            continue
        path = folder / ("model.pt2" if form == "model" else f"model_{form}.pt2")
        torch.export.save(program, path)
        if not case.random:
            compare(case, form, run_calls(case, torch.export.load(path).module()), want)
        meta["ops"][form] = histogram(program)
    meta["range_constraints"] = {str(k): [str(v.lower), str(v.upper)] for k, v in exported.range_constraints.items()}
    save_file(numbered("in", case.calls), folder / "inputs.safetensors")
    if not case.random:
        save_file(numbered("out", want), folder / "expected.safetensors")
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{case.group}/{case.name}: {size // 1024} KiB, {len(case.calls)} calls, {meta['range_constraints']}", flush=True)


def dtype_of(case, want):
    floats = {t.dtype for call in want for t in call if t.dtype in TOLERANCE}
    return DTYPE_NAMES[min(floats, key=lambda d: -TOLERANCE[d])] if floats else "int"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[1] / "fixtures")
    parser.add_argument("--only", default="", help="make only the cases whose name matches")
    options = parser.parse_args()
    torch.set_num_threads(1)
    install_cleaner()
    import fixture_attention  # noqa: F401, registers its cases with fixture_spellings
    import fixture_control  # noqa: F401, registers its cases with fixture_modules
    import fixture_decoders
    import fixture_host  # noqa: F401, registers its cases with fixture_modules
    import fixture_modules
    import fixture_rotary  # noqa: F401, registers its cases with fixture_spellings
    import fixture_spellings
    import fixture_networks  # noqa: F401, registers its cases with fixture_modules
    import fixture_operators  # noqa: F401, as well
    import fixture_sweep  # noqa: F401, as well

    failed = 0
    for name, build in {**fixture_decoders.CASES, **fixture_modules.CASES, **fixture_spellings.CASES}.items():
        if re.search(options.only, name):
            seed(name)
            try:
                make(build(name), options.out)
            except Exception as error:  # one broken case must not hide the others
                failed += 1
                print(f"{name}: FAILED: {type(error).__name__}: {str(error)[:2000]}", file=sys.stderr, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    # The case modules import this file by name; without this they would get a second copy of `Case`.
    sys.modules["make_fixtures"] = sys.modules["__main__"]
    main()
