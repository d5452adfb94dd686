"""What MLX's own `quantize` makes of some matrices: the fixture of the tests, and a check of compiled files.

    python mlx_quantize.py fixture OUT.safetensors    writes matrices, and their quantised forms in every scheme
    python mlx_quantize.py check FUSELINE MODEL.pt2   compiles the model in several schemes and looks for MLX's bytes in the files

Needs mlx (`pip install 'mlx[cpu]'`) and numpy. The fixture is made on the CPU: other devices round the modes other than affine differently.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np

AFFINE = [("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
FLOATS = [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
COLUMNS = 128


def name(mode, bits, group):
    return f"affine{bits}g{group}" if mode == "affine" else mode


def quantize(weight, mode, bits, group):
    return mx.quantize(weight, group_size=group, bits=bits, mode=mode)


def matrix():
    """Rows of different kinds: normal, wide, tiny, constant, zero, one large number, positive, negative, on a grid, near a tie."""
    random = np.random.default_rng(20)
    normal = random.standard_normal((4, COLUMNS)) * [[1], [0.02], [1e-4], [30]]
    tiny = random.standard_normal((2, COLUMNS)) * [[1e-7], [3e-6]]
    outlier = random.standard_normal((1, COLUMNS)) * 0.01
    outlier[0, 40] = 5
    grid = np.round(random.standard_normal((2, COLUMNS)) * 4) / [[4], [3]]
    one_sided = np.abs(random.standard_normal((2, COLUMNS))) * [[0.1], [-0.1]]
    constant = np.full((2, COLUMNS), 1) * [[0.37], [-2.5]]
    cubes = random.standard_normal((2, COLUMNS)) ** 3
    return np.concatenate([normal, tiny, outlier, grid, one_sided, constant, np.zeros((1, COLUMNS)), cubes]).astype(np.float32)


def not_finite():
    """Rows with an infinity or NaN: for the affine modes, whose CPU kernel gives them a meaning."""
    rows = np.random.default_rng(21).standard_normal((3, COLUMNS)).astype(np.float32)
    rows[0, 5], rows[1, 70], rows[2, 9] = np.nan, np.inf, -np.inf
    return rows


def fixture(path):
    mx.set_default_device(mx.cpu)
    out = {}
    for short, dtype in DTYPES.items():
        weight = mx.array(matrix()).astype(dtype)
        strange = mx.array(not_finite()).astype(dtype)
        out[f"{short}.w"], out[f"{short}.strange"] = weight, strange
        for scheme in AFFINE + FLOATS:
            lists = quantize(weight, *scheme)
            if scheme in AFFINE:
                more = quantize(strange, *scheme)
                lists = [mx.concatenate(pair) for pair in zip(lists, more)]
            for suffix, array in zip(("packed", "scales", "biases"), lists):
                out[f"{short}.{name(*scheme)}.{suffix}"] = array
    mx.eval(out)
    mx.save_safetensors(path, out, {"mlx": mx.__version__})


def weights(model):
    """The float matrices of an archive, by name, read without PyTorch."""
    with zipfile.ZipFile(model) as archive:
        names = archive.namelist()
        config = json.loads(archive.read(next(n for n in names if n.endswith("model_weights_config.json"))))["config"]
        folder = next(n for n in names if n.endswith("model_weights_config.json")).rsplit("/", 1)[0]
        for fqn, payload in sorted(config.items()):
            meta = payload["tensor_meta"]
            sizes = [s["as_int"] for s in meta["sizes"]]
            # The numbers of torch's element types in the schema.
            kind = {6: ("f16", np.float16), 7: ("f32", np.float32), 13: ("bf16", np.uint16)}.get(meta["dtype"])
            if kind is None or len(sizes) != 2:
                continue
            data = archive.read(f"{folder}/{payload['path_name']}")
            array = mx.array(np.frombuffer(data, kind[1])[: sizes[0] * sizes[1]].reshape(sizes))
            yield fqn, array.view(mx.bfloat16) if kind[0] == "bf16" else array


def raw(array):
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array).tobytes()


def check(fuseline, model):
    mx.set_default_device(mx.cpu)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.pte"
        for scheme in [("affine", 4, 64), ("affine", 3, 32), ("affine", 8, 128), *FLOATS]:
            report = Path(folder) / "report.json"
            command = [fuseline, "compile", model, "-o", output, "--target", "metal", "--quantize", name(*scheme), "--report", report, "-q"]
            subprocess.run([str(word) for word in command], check=True)
            done = {row["name"] for row in json.loads(report.read_text())["quantized"]}
            file, found = output.read_bytes(), 0
            for fqn, weight in weights(model):
                if fqn in done:
                    missing = [list for list in quantize(weight, *scheme) if raw(list) not in file]
                    found += not missing
                    failures += bool(missing)
            print(f"{name(*scheme)}: {found} of {len(done)} weights are byte for byte MLX's")
    return failures


if __name__ == "__main__":
    if sys.argv[1:2] == ["fixture"] and len(sys.argv) == 3:
        fixture(sys.argv[2])
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 4:
        sys.exit(1 if check(sys.argv[2], sys.argv[3]) else 0)
    else:
        sys.exit(__doc__)
