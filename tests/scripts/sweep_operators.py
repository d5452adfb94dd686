"""Sweeps PyTorch's own operator and module databases through the compiler and the runtime.

    pip install torch==2.13.0 safetensors numpy expecttest
    python tests/scripts/sweep_operators.py export --out DIR [--only REGEX] [--jobs N]
    python tests/scripts/sweep_operators.py check --out DIR --bin target/release [--only REGEX] [--jobs N] [--table FILE]

`torch.testing._internal` holds, for every operator (`op_db`) and every module of torch.nn (`module_db`), sample inputs that PyTorch tests itself with.
`export` takes some of each dtype: the first ones, empty and 0-d ones, and a few drawn with a fixed seed; calls of one operator become one exported program, whose
tensors are inputs and whose other arguments are constants. In-place forms and the core form are programs of their own. Eager results are recorded beside it.
`check` compiles and runs every program and compares every result. A program that doesn't compile is split into its calls, so that each names its own reason. `--table`
adds the element types in which an operator agreed to a file; docs/aten.md is made from tests/recorded/operators.tsv.

What a call draws at random is compared by shape and dtype alone. Skipped, and listed with the reason: calls that
torch.export refuses, and calls with complex, sparse or quantised tensors as inputs or results.
"""
import argparse
import functools
import json
import multiprocessing
import pathlib
import random
import re
import subprocess
import sys
import warnings
import zipfile
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

warnings.filterwarnings("ignore")
DTYPES = {torch.float32: 7, torch.bfloat16: 2, torch.float16: 2, torch.int64: 3, torch.int32: 2, torch.bool: 2}
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2, torch.float64: 1e-4}
SHORT = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16", torch.int64: "i64", torch.int32: "i32", torch.bool: "bool"}
# torch.export's numbers of element types.
SERIALISED = {7: "f32", 13: "bf16", 6: "f16", 5: "i64", 4: "i32", 12: "bool"}
# What a program of this compiler is never asked for: storage tricks, training, other layouts. Matched against whole names.
SKIPPED = {
    "sparse layouts": r"sparse\..*|to_sparse|_?.*csr.*|.*\bcoo\b.*",
    "training": r"_batch_norm_with_update|.*backward.*",
    "memory that holds nothing": r"empty|empty_like|new_empty|new_empty_strided|empty_strided|empty_permuted|resize_|resize_as_",
    "the order of equal elements is free": r"argsort",
    "jagged layouts": r".*jagged.*|nested.*",
    "complex results": r"fft\..*|stft|complex|polar|view_as_complex|.*complex",
}


def skip_reason(name):
    return next((reason for reason, names in SKIPPED.items() if re.fullmatch(names, name)), None)


class Calls(torch.nn.Module):
    """Some calls in one module: inputs are the tensors of all of them, outputs all tensors that they give."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls
        self.modules_of_calls = torch.nn.ModuleList([c.function for c in calls if isinstance(c.function, torch.nn.Module)])

    def forward(self, *tensors):
        outputs, at = [], 0
        for call in self.calls:
            outputs += call(tensors[at : at + call.count])
            at += call.count
        return tuple(outputs)


class Call:
    """A function, its arguments' structure, and which leaves are tensors."""

    def __init__(self, label, function, args, kwargs, in_place=False):
        self.label, self.function, self.in_place = label, function, in_place
        leaves, self.spec = pytree.tree_flatten((args, kwargs))
        self.tensors = [leaf.detach().clone(memory_format=torch.contiguous_format) for leaf in leaves if isinstance(leaf, torch.Tensor)]
        self.leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.holes = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.count = len(self.tensors)

    def __call__(self, tensors):
        leaves = list(self.leaves)
        for hole, tensor in zip(self.holes, tensors, strict=True):
            leaves[hole] = tensor.clone() if self.in_place and hole == self.holes[0] else tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        given = self.function(*args, **kwargs)
        return [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, torch.Tensor)]


class Draws(TorchDispatchMode):
    """Whether something that runs meanwhile draws random numbers."""

    any = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.any |= torch.Tag.nondeterministic_seeded in function.tags
        return function(*args, **(kwargs or {}))


def plain(tensor):
    return isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and not tensor.is_complex() and not tensor.is_quantized


def chosen(samples, count, draw):
    """The first samples, an empty one, a 0-d one, and some of the others."""
    samples = [s for _, s in zip(range(400), samples)]
    main = [s.input if isinstance(s.input, torch.Tensor) else None for s in samples]
    picked = list(range(min(len(samples), max(1, count // 3))))
    picked += [i for i, t in enumerate(main) if t is not None and t.numel() == 0][:1]
    picked += [i for i, t in enumerate(main) if t is not None and t.dim() == 0][:1]
    rest = [i for i in range(len(samples)) if i not in picked]
    picked += draw.sample(rest, min(len(rest), max(0, count - len(set(picked)))))
    return [(i, samples[i]) for i in sorted(set(picked))]


def operator_calls(op, variant):
    draw = random.Random(op.full_name)
    function = {"inplace": op.inplace_variant}.get(variant, op.op)
    for dtype, count in DTYPES.items():
        if dtype not in op.supported_dtypes("cpu") or (variant == "core" and dtype not in (torch.float32, torch.int64)):
            continue
        torch.manual_seed(7)
        samples = list(chosen(op.sample_inputs("cpu", dtype, requires_grad=False), count if variant == "op" else 3, draw))
        if variant == "op" and dtype == torch.float32:
            try:
                samples += [(f"r{i}", s) for i, s in chosen(op.reference_inputs("cpu", dtype, requires_grad=False), 4, draw)]
            except Exception:  # not every operator has them
                pass
        for i, sample in samples:
            if variant == "inplace" and getattr(sample, "broadcasts_input", False):
                continue
            yield Call(f"{SHORT[dtype]}#{i}", function, (sample.input, *sample.args), sample.kwargs, variant == "inplace")


def module_calls(info):
    for dtype in (torch.float32, torch.bfloat16):
        if dtype not in info.dtypes:
            continue
        torch.manual_seed(7)
        for i, sample in enumerate(info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=False)):
            if i >= (6 if dtype == torch.float32 else 2) or sample.forward_input is None:
                continue
            torch.manual_seed(i)
            arguments = sample.constructor_input
            module = info.module_cls(*arguments.args, **arguments.kwargs).to(dtype).eval()
            yield Call(f"{SHORT[dtype]}#{i}", module, sample.forward_input.args, sample.forward_input.kwargs)


@functools.cache
def jobs():
    """Every program that is tried, by name; the name says how to make it again."""
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    made = {}
    for op in op_db:
        made[f"op.{op.full_name}"] = op, "op"
        made[f"core.{op.full_name}"] = op, "core"
        if op.inplace_variant is not None:
            made[f"inplace.{op.full_name}"] = op, "inplace"
    for info in module_db:
        made[f"module.{info.name}"] = info, "module"
    return made


def export_calls(calls, core):
    module = Calls(calls).eval()
    tensors = tuple(t for call in calls for t in call.tensors)
    program = torch.export.export(module, tensors, strict=False)
    return program.run_decompositions() if core else program


def why(error):
    return re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:160]


def usable(calls, core):
    """The calls that eager PyTorch runs and torch.export exports, with their results; the others with reasons."""
    kept, skipped = [], []
    for call in calls:
        if not call.count or not all(plain(t) for t in call.tensors):
            skipped.append((call.label, "no plain tensor among the inputs"))
            continue
        try:
            with torch.no_grad(), Draws() as draws:
                first = [t.detach().clone() for t in call([t.clone() for t in call.tensors])]
        except Exception as error:
            skipped.append((call.label, "eager: " + why(error)))
            continue
        if not first or not all(plain(t) for t in first):
            skipped.append((call.label, "no plain tensor among the results"))
            continue
        call.results = first
        call.random = draws.any
        kept.append(call)
    try:
        return kept, skipped, kept and export_calls(kept, core)
    except Exception:
        pass
    exported = []
    for call in kept:
        try:
            export_calls([call], core)
            exported.append(call)
        except Exception as error:
            skipped.append((call.label, "torch.export: " + why(error)))
    try:
        return exported, skipped, exported and export_calls(exported, core)
    except Exception as error:  # alone but not together
        return [], [*skipped, *((c.label, "torch.export of all: " + why(error)) for c in exported)], None


def write(folder, calls, program):
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, str(folder / "model.pt2"))
    inputs = [t for call in calls for t in call.tensors]
    save_file({f"in{i}": t.contiguous() for i, t in enumerate(inputs)}, str(folder / "inputs.safetensors"))
    outputs = [t for call in calls for t in call.results]
    save_file({f"out{i}": t.contiguous().clone() for i, t in enumerate(outputs)}, str(folder / "expected.safetensors"))
    described = [[call.label, len(call.results), call.random] for call in calls]
    (folder / "meta.json").write_text(json.dumps({"calls": described}))


def export_one(name, out):
    torch.set_num_threads(1)
    if (out / name / "meta.json").exists():
        return name, 0, [], set()
    what, variant = jobs()[name]
    if reason := skip_reason(name.split(".", 1)[1]):
        return name, 0, [("all", reason)], set()
    calls = list(module_calls(what) if variant == "module" else operator_calls(what, variant))
    kept, skipped, program = usable(calls, variant == "core")
    if kept:
        write(out / name, kept, program)
        for number, call in enumerate(kept):
            call.number = number
    return name, len(kept), skipped, set()


def split(name, out):
    """Each call of a program as a program of its own: their folders, which are made the first time."""
    if made := sorted((out / name / "split").glob("*/meta.json")):
        return [path.parent for path in made]
    what, variant = jobs()[name]
    calls = list(module_calls(what) if variant == "module" else operator_calls(what, variant))
    kept, _, _ = usable(calls, variant == "core")
    folders = []
    for call in kept:
        folder = out / name / "split" / call.label
        write(folder, [call], export_calls([call], variant == "core"))
        folders.append(folder)
    return folders


def differs(got, want, exact):
    if got is None:
        return "is missing"
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, want {list(want.shape)}"
    if got.dtype != want.dtype:
        return f"dtype {got.dtype}, want {want.dtype}"
    if not exact or want.numel() == 0:
        return None
    if want.dtype not in TOLERANCE:
        wrong = int((got != want).sum())
        return f"{wrong}/{want.numel()} integers differ" if wrong else None
    g, w = got.double().numpy(), want.double().numpy()
    finite = np.abs(w[np.isfinite(w)])
    tolerance = TOLERANCE[want.dtype]
    with np.errstate(all="ignore"):
        right = np.isclose(g, w, rtol=tolerance, atol=tolerance * max(1.0, finite.max() if finite.size else 0.0), equal_nan=True)
    if right.all():
        return None
    at = np.argwhere(~right)[0] if right.ndim else ()
    return f"{int((~right).sum())}/{w.size} numbers differ, first {g[tuple(at)]:.6g} for {w[tuple(at)]:.6g} at {[int(i) for i in at]}"


def command(words, seconds):
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
        return None if done.returncode == 0 else (done.stderr or done.stdout or f"exit {done.returncode}").strip()
    except subprocess.TimeoutExpired:
        return "timeout"


def check_folder(folder, binaries, seconds):
    """What is wrong with a program: reasons by call, or one reason for all of them."""
    meta = json.loads((folder / "meta.json").read_text())
    program, outputs = folder / "model.pte", folder / "got.safetensors"
    if error := command([f"{binaries}/fuseline", "compile", str(folder / "model.pt2"), "-o", str(program)], seconds):
        return "compile: " + error
    if error := command([f"{binaries}/fuseline-run", "run", str(program), "--inputs", str(folder / "inputs.safetensors"), "--outputs", str(outputs)], seconds):
        return "run: " + error
    got, want = load_file(str(outputs)), load_file(str(folder / "expected.safetensors"))
    wrong, at = [], 0
    for label, count, is_random in meta["calls"]:
        for i in range(at, at + count):
            if difference := differs(got.get(f"out{i}"), want[f"out{i}"], not is_random):
                wrong.append((label, f"result {i - at}: {difference}"))
        at += count
    for made in (program, outputs):
        made.unlink()
    return wrong


def operators(folder):
    """The operators of a program and the element type of the first tensor that each takes, where there is one."""
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        path = next(n for n in archive.namelist() if re.search(r"models/[^/]*\.json$", n))
        graph = json.loads(archive.read(path))["graph_module"]["graph"]
    found = set()
    for node in graph["nodes"]:
        tensors = [a["arg"]["as_tensor"]["name"] for a in node["inputs"] if "as_tensor" in a["arg"]]
        tensors += [t["name"] for a in node["inputs"] for t in a["arg"].get("as_tensors", [])]
        dtype = SERIALISED.get(graph["tensor_values"][tensors[0]]["dtype"]) if tensors else None
        if dtype and node["target"].startswith("torch.ops."):
            found.add((node["target"].removeprefix("torch.ops."), dtype))
    return found


def check_one(name, out, binaries, seconds):
    """A program's name, how many calls it has, what is wrong with them, and the operators that are right in all that uses them."""
    torch.set_num_threads(1)
    meta = json.loads((out / name / "meta.json").read_text())
    found = check_folder(out / name, binaries, seconds)
    if isinstance(found, list):
        labels = {label for label, _ in found}
        right = operators(out / name) if not labels and not any(c[2] for c in meta["calls"]) else set()
        return name, len(meta["calls"]), found, right
    if len(meta["calls"]) == 1:
        return name, 1, [(meta["calls"][0][0], found)], set()
    wrong, right = [], set()
    for folder in split(name, out):
        alone = check_folder(folder, binaries, seconds)
        if alone == []:
            right |= operators(folder)
        wrong += alone if isinstance(alone, list) else [(folder.name, alone)]
    return name, len(meta["calls"]), wrong or [("all", found)], right


def gist(message):
    """A message without its numbers and names of values, to count alike ones by."""
    lines = [re.sub(r"/\S*model\.pt[2e]: |fuseline(-run)?: ", "", line.strip()) for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not line.endswith("can't be compiled:")]
    if re.match(r"result \d+: .* differ", lines[0]):
        return "numbers differ"
    short = re.sub(r"\[[^\]]*\]|`\w+` = |-?\d+(\.\d+(e[+-]\d+)?)?|\(\d+×\)|in forward", "", " / ".join(lines[:2]))
    return re.sub(r", sweep_operators\.py:\S*", "", re.sub(r"\s+", " ", short))[:220]


def run_pool(function, names, arguments, workers):
    jobs()  # imported once, before the processes part
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        waiting = {pool.submit(function, name, *arguments): name for name in names}
        for number, done in enumerate(as_completed(waiting)):
            try:
                yield done.result()
            except Exception as error:
                yield waiting[done], 0, [("all", "sweep: " + why(error))], set()
            if number % 100 == 99:
                print(f"{number + 1} of {len(names)}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("export", "check"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--bin")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=120)
    parser.add_argument("--table", type=pathlib.Path)
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    if o.what == "export":
        names = sorted((n for n in jobs() if re.search(o.only, n)), key=lambda n: (n.startswith("core"), n))
        results = run_pool(export_one, names, (o.out,), o.jobs)
        total, reasons = 0, defaultdict(list)
        for name, count, skipped, _ in results:
            total += count
            for label, reason in skipped:
                reasons[name].append([label, reason])
        (o.out / "skipped.json").write_text(json.dumps(dict(sorted(reasons.items())), indent=1))
        print(f"{total} calls exported; {sum(map(len, reasons.values()))} skipped, by reason in {o.out / 'skipped.json'}")
        return
    names = sorted(p.parent.name for p in o.out.glob("*/meta.json") if re.search(o.only, p.parent.name))
    calls, failed, agreed = 0, {}, defaultdict(set)
    for name, count, wrong, right in run_pool(check_one, names, (o.out, o.bin, o.timeout), o.jobs):
        calls += count
        for operator, dtype in right:
            agreed[operator].add(dtype)
        if wrong:
            failed[name] = wrong
    (o.out / "failed.json").write_text(json.dumps(dict(sorted(failed.items())), indent=1))
    if o.table:
        known = dict(line.split("\t") for line in o.table.read_text().splitlines()) if o.table.exists() else {}
        for operator, dtypes in agreed.items():
            known[operator] = " ".join(d for d in SHORT.values() if d in dtypes or d in known.get(operator, "").split())
        o.table.write_text("".join(f"{operator}\t{dtypes}\n" for operator, dtypes in sorted(known.items())))
    by_gist = defaultdict(Counter)
    for name, wrong in failed.items():
        for _, message in wrong:
            by_gist[gist(message)][name] += 1
    for message, where in sorted(by_gist.items(), key=lambda kv: -len(kv[1])):
        print(f"{sum(where.values()):4} {message}\n     {', '.join(sorted(where))[:600]}")
    wrong_calls = sum(len({label for label, _ in wrong}) for wrong in failed.values())
    print(f"{calls} calls in {len(names)} programs: {calls - wrong_calls} right, {wrong_calls} wrong, in {len(failed)} programs")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
