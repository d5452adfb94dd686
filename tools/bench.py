"""Measures Fuseline on the demo model: compile time and peak memory, tokens per second and time to first token.

usage: bench.py --bin DIR [--model MODEL.pt2] [--runs N] [--json FILE] [--executorch PYTHON]

Every figure is a median over the runs, with the smallest and largest beside it: machines are noisy, so compare figures of one run only.
--executorch names a Python that has executorch 1.5.1 (on Linux its wheel lacks Python files that its backends/mlx/serialization/generate.py makes): its own lowering of the same model is then timed in turn with ours (imports and loading left out), and the ratio is printed.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

LOWER = """
import json, resource, sys, time, warnings
warnings.filterwarnings("ignore")
import torch
from executorch.exir import to_edge_transform_and_lower
from executorch.backends.mlx import MLXPartitioner
program = torch.export.load(sys.argv[1])
start = time.perf_counter()
to_edge_transform_and_lower(program, partitioner=[MLXPartitioner()]).to_executorch()
print(json.dumps({"seconds": time.perf_counter() - start, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def child(command):
    """Runs a command: wall seconds, peak resident MiB of the process, and its standard output."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            sys.exit(f"bench: {' '.join(command)} failed with exit code {process.returncode}")
        out.seek(0)
        text = out.read().decode()
    # Linux counts in KiB, macOS in bytes.
    mib = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)
    return seconds, mib, text


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(name, s, unit, digits=1):
    print(f"{name:<34} {s['median']:>10.{digits}f} {unit:<6} ({s['min']:.{digits}f} … {s['max']:.{digits}f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", default="tests/fixtures/stdlib-llama/stdlib-llama-bf16.pt2")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json")
    parser.add_argument("--executorch")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "model.pte")
        compile_command = [os.path.join(options.bin, "fuseline"), "compile", options.model, "-o", program, "--quiet"]
        child(compile_command)
        ours, theirs = [], []
        for _ in range(options.runs):
            ours.append(child(compile_command)[:2])
            if options.executorch:
                theirs.append(json.loads(child([options.executorch, "-c", LOWER, options.model])[2].splitlines()[-1]))
        results["compile_ms"] = spread([seconds * 1e3 for seconds, _ in ours])
        results["compile_peak_mib"] = spread([mib for _, mib in ours])
        show("compile, whole process", results["compile_ms"], "ms")
        show("compile, peak memory", results["compile_peak_mib"], "MiB")
        if theirs:
            results["executorch_lower_ms"] = spread([t["seconds"] * 1e3 for t in theirs])
            results["executorch_peak_mib"] = spread([t["mib"] for t in theirs])
            results["compile_time_ratio"] = spread([s * 1e3 / (t["seconds"] * 1e3) for (s, _), t in zip(ours, theirs)])
            show("ExecuTorch's lowering, no imports", results["executorch_lower_ms"], "ms")
            show("ExecuTorch's peak memory", results["executorch_peak_mib"], "MiB")
            show("time, ours / ExecuTorch's", results["compile_time_ratio"], "", 4)
        replay = [os.path.join(options.bin, "fuseline-run"), "bench", program, "--json"]
        results["replay"] = json.loads(child(replay)[2])
        print(json.dumps(results["replay"], indent=2))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(results, out, indent=2)


if __name__ == "__main__":
    main()
