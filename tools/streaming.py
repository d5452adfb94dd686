"""Measures a quantising compile of a large bf16 model beside a plain copy of its file: time in turns, and memory.

usage: streaming.py --bin DIR [--model MODEL.pt2] [--parameters N] [--runs N] [--schemes affine4g64,...] [--folder DIR] [--json FILE]

Without --model it makes one of about N parameters (1.2e9 if nothing is said): an embedding and feed-forward layers with the shapes of Llama-3.2-1B, random weights.
It needs twice the model's size on the disk of --folder, for the time that it runs. A copy is `shutil.copyfile`, as fast as the system's own. Every compile and every copy
is timed in turn, wall time and CPU time (user and system), so that what else the machine does falls on both; the ratio is one of the medians. Memory is what a process
has of its own beyond mapped files, where the system says it (Linux), looked at every 20 ms.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

HIDDEN, INNER = 2048, 8192
BF16, INT64 = 13, 5
# High bytes of bf16 numbers between 2^-8 and 2^-4 of either sign.
HIGH = bytes(0x3B + value % 3 | (value & 0x80) for value in range(256))


def layers_of(parameters):
    """How many rows the embedding and how many layers there are."""
    vocabulary = max(64, int(parameters * 0.2) // HIDDEN // 64 * 64)
    return vocabulary, max(1, round((parameters - vocabulary * HIDDEN) / (3 * HIDDEN * INNER)))


def tensor(dtype, sizes):
    strides = [1]
    for size in reversed(sizes[1:]):
        strides.insert(0, strides[0] * size)
    ints = lambda values: [{"as_int": value} for value in values]
    return {"dtype": dtype, "sizes": ints(sizes), "requires_grad": False, "device": {"type": "cpu", "index": None},
            "strides": ints(strides), "storage_offset": {"as_int": 0}, "layout": 7}


class Model:
    """A graph in the JSON of torch.export, built node by node."""

    def __init__(self, rows):
        self.weights, self.nodes, self.values, self.rows = [], [], {"x": tensor(INT64, [1, rows])}, rows

    def weight(self, name, sizes):
        self.weights.append((name, sizes))
        graph_name = "p_" + name.replace(".", "_")
        self.values[graph_name] = tensor(BF16, sizes)
        return graph_name

    def call(self, op, width, /, **args):
        result = f"v{len(self.nodes)}"
        inputs = [{"name": name, "arg": {"as_tensor": {"name": value}}, "kind": 1} for name, value in args.items()]
        self.nodes.append({"target": f"torch.ops.aten.{op}", "inputs": inputs, "outputs": [{"as_tensor": {"name": result}}],
                           "metadata": {}, "is_hop_single_tensor_return": None, "name": result})
        self.values[result] = tensor(BF16, [1, self.rows, width])
        return result

    def program(self, result):
        named = lambda name: {"as_tensor": {"name": name}}
        graph_names = ["p_" + name.replace(".", "_") for name, _ in self.weights]
        specs = [{"parameter": {"arg": {"name": graph_name}, "parameter_name": name}} for graph_name, (name, _) in zip(graph_names, self.weights)]
        specs.append({"user_input": {"arg": named("x")}})
        graph = {"inputs": [named(name) for name in graph_names + ["x"]], "outputs": [named(result)], "nodes": self.nodes, "tensor_values": self.values,
                 "sym_int_values": {}, "sym_bool_values": {}, "sym_float_values": {}, "custom_obj_values": {}, "is_single_tensor_return": True}
        signature = {"input_specs": specs, "output_specs": [{"user_output": {"arg": named(result)}}]}
        return {"graph_module": {"graph": graph, "signature": signature, "module_call_graph": []}, "opset_version": {"aten": 10}, "range_constraints": {},
                "schema_version": {"major": 8, "minor": 8}, "verifiers": ["ATEN"], "torch_version": "", "guards_code": []}


def make(path, parameters):
    """Writes the model; how many parameters it has."""
    vocabulary, layers = layers_of(parameters)
    model = Model(rows=4)
    table = model.weight("embedding.weight", [vocabulary, HIDDEN])
    h = model.call("embedding.default", HIDDEN, weight=table, indices="x")
    for n in range(layers):
        gate, up = (model.call("linear.default", INNER, input=h, weight=model.weight(f"layers.{n}.{name}.weight", [INNER, HIDDEN])) for name in ("gate", "up"))
        inner = model.call("mul.Tensor", INNER, self=model.call("silu.default", INNER, self=gate), other=up)
        down = model.call("linear.default", HIDDEN, input=inner, weight=model.weight(f"layers.{n}.down.weight", [HIDDEN, INNER]))
        h = model.call("add.Tensor", HIDDEN, self=h, other=down)
    result = model.call("linear.default", vocabulary, input=h, weight=table)
    draw = random.Random(1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        config = {}
        for n, (name, sizes) in enumerate(model.weights):
            config[name] = {"path_name": f"weight_{n}", "is_param": True, "use_pickle": False, "tensor_meta": tensor(BF16, sizes)}
            with archive.open(f"m/data/weights/weight_{n}", "w", force_zip64=True) as entry:
                left = sizes[0] * sizes[1]
                while left:
                    count = min(left, 1 << 22)
                    block = bytearray(2 * count)
                    block[0::2], block[1::2] = draw.randbytes(count), draw.randbytes(count).translate(HIGH)
                    entry.write(block)
                    left -= count
        texts = {"data/weights/model_weights_config.json": json.dumps({"config": config}), "data/constants/model_constants_config.json": json.dumps({"config": {}}),
                 "models/model.json": json.dumps(model.program(result)), "archive_format": "pt2", "archive_version": "0", "byteorder": "little"}
        for name, text in texts.items():
            archive.writestr(f"m/{name}", text)
    return sum(a * b for _, (a, b) in model.weights)


def own_memory(pid):
    """Bytes that a process has of its own; none where the system does not say."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon")), None)
    except OSError:
        return None


def run(command):
    """Wall seconds, CPU seconds and the largest memory of a command."""
    peak, start = 0, time.perf_counter()
    process = subprocess.Popen(command)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, own_memory(process.pid) or 0)
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"streaming: {' '.join(command)} failed with exit code {process.returncode}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model")
    parser.add_argument("--parameters", type=float, default=1.2e9)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--schemes", default="affine4g64", help="compiles to time, separated by commas; `+search` after one searches scales")
    parser.add_argument("--folder")
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        model = options.model or os.path.join(folder, "model.pt2")
        if not options.model:
            print(f"a model of {make(model, options.parameters):,} parameters in bf16, {os.path.getsize(model) / 1e9:.2f} GB", flush=True)
        output = os.path.join(folder, "out")
        commands = {"copy": [sys.executable, "-c", "import shutil, sys; shutil.copyfile(*sys.argv[1:])", model, output]}
        for scheme in options.schemes.split(","):
            name, _, search = scheme.partition("+")
            commands[scheme] = [os.path.join(options.bin, "fuseline"), "compile", model, "-o", output, "--quiet", "--quantize", name] + (["--quantize-search"] if search else [])
        times = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, command in commands.items():
                times[name].append(run(command))
                os.remove(output)
        print(f"{'':<22}{'wall s':>8}{'(least)':>9}{'copies':>8}{'CPU s':>8}{'own MB':>9}")
        copy = statistics.median(wall for wall, _, _ in times["copy"])
        for name, all_runs in times.items():
            walls, cpus, peaks = zip(*all_runs)
            wall = statistics.median(walls)
            results[name] = {"wall_s": walls, "cpu_s": cpus, "own_bytes": max(peaks), "copies": wall / copy}
            print(f"{name:<22}{wall:>8.2f}{min(walls):>9.2f}{wall / copy:>8.2f}{statistics.median(cpus):>8.2f}{max(peaks) / 1e6:>9.0f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(results, out, indent=2)


if __name__ == "__main__":
    main()
