"""Runs the fuzz targets of fuzz/ and keeps the record of what they have run.

usage: fuzz.py seeds                        fill fuzz/corpus with the fixtures that fit each target
       fuzz.py run [TARGET ...] [options]   build, run each target for a time, add to the record
       fuzz.py pack FILE.tar.xz             the built targets, for a machine without a toolchain
       fuzz.py add FILE.json                add a record that another machine made
       fuzz.py page                         write docs/fuzzing.md from the record

options of run: --seconds N (60), --jobs N (one for each processor), --bin FOLDER (unpacked by pack: nothing is built), --record FILE.json (docs/fuzzing.json),
                --artifacts FOLDER (fuzz/artifacts)

Building needs a nightly toolchain and `cargo install cargo-fuzz`. The exit code is 1 if anything was found.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRIPLE = "x86_64-unknown-linux-gnu"

# For each target: what it does, its share of the processes, the longest input, the seeds (pattern below the root, largest size), megabytes of memory.
TARGETS = {
    "pte": ("any `.pte`: parse, validate, describe, write again", 5, 65536, [("tests/fixtures/**/*.pte", 16384), ("program/tests/fixtures/*.pte", 16384), ("tests/attacks/pte/*", 16384)], 2048),
    "replay": ("any `.pte`: open, and call each method twice on MLX's CPU device", 3, 65536, [("tests/fixtures/**/*.pte", 16384)], 6144),
    "pt2": ("any `.pt2`: open, import, compile at -O0", 2, 131072, [("tests/fixtures/modules/**/*.pt2", 24576), ("tests/fixtures/et_ops/**/*.pt2", 12288)], 4096),
    "ir": ("any text: parse a graph, verify, print, read back", 3, 16384, [("tests/cases/**/*.ir", 16384), ("tests/attacks/ir/*", 8192)], 2048),
    "safetensors": ("any file of inputs, read as `fuseline-run` does", 2, 8192, [("tests/fixtures/**/inputs.safetensors", 4096), ("tests/attacks/safetensors/*", 8192)], 2048),
    "egraph": ("a random graph: every level and a random extraction against the reference", 1, 8, [], 4096),
}
LOADERS = ("pte", "replay", "pt2", "ir", "safetensors")


def seeds(corpus):
    for name, (_, _, _, patterns, _) in TARGETS.items():
        folder = corpus / name
        folder.mkdir(parents=True, exist_ok=True)
        for pattern, largest in patterns:
            for path in sorted(ROOT.glob(pattern)):
                if path.is_file() and path.stat().st_size <= largest:
                    shutil.copyfile(path, folder / str(path.relative_to(ROOT)).replace("/", "-"))
        if not patterns:
            for seed in range(16):
                (folder / str(seed)).write_bytes(seed.to_bytes(8, "little"))


def cargo_target():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "fuzz" / "target")) / TRIPLE / "release"


def mlx_library():
    """The folder of libmlx.so, from the Cargo configuration that setup.py wrote."""
    config = (ROOT / ".cargo" / "config.toml").read_text(encoding="utf-8")
    return pathlib.Path(re.search(r"-rpath,([^\"]+)\"", config).group(1))


def build():
    subprocess.run(["cargo", "+nightly", "fuzz", "build", "--release"], cwd=ROOT, check=True)
    return cargo_target(), mlx_library()


def pack(file):
    folder, library = cargo_target(), mlx_library()
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(file, "w:xz") as out:
        for name in TARGETS:
            stripped = pathlib.Path(scratch) / name
            subprocess.run(["strip", "-o", stripped, folder / name], check=True)
            out.add(stripped, name)
        for needed in [library / "libmlx.so", *library.parent.parent.glob("mlx_cpu.libs/*.so*")]:
            out.add(needed, needed.name)
    print(f"{file}: {pathlib.Path(file).stat().st_size >> 20} MiB")


class Process:
    """One process of a target, started anew when it finds something."""

    def __init__(self, name, number, folders, deadline):
        self.name, self.number, self.folders, self.deadline = name, number, folders, deadline
        self.inputs, self.found, self.starts, self.began = 0, 0, 0, time.monotonic()
        self.start()

    def start(self):
        _, _, longest, _, memory = TARGETS[self.name]
        binaries, library, corpus, artifacts = self.folders
        self.log = artifacts / f"{self.name}-{self.number}-{self.starts}.log"
        left = max(1, int(self.deadline - time.monotonic()))
        self.starts += 1
        options = {
            "max_total_time": left, "max_len": longest, "rss_limit_mb": memory, "malloc_limit_mb": memory, "timeout": 60, "detect_leaks": 0,
            "print_final_stats": 1, "reload": 10, "len_control": 0, "seed": 1 + self.number * 1000 + self.starts, "artifact_prefix": f"{artifacts}/{self.name}-",
        }
        environment = dict(os.environ, LD_LIBRARY_PATH=str(library), ASAN_OPTIONS="allocator_may_return_null=1:detect_odr_violation=0", RUST_BACKTRACE="1")
        command = [str(binaries / self.name), *(f"-{key}={value}" for key, value in options.items()), str(corpus / self.name)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def tend(self):
        """Whether it still runs."""
        if self.process is None:
            return False
        if self.process.poll() is None:
            return True
        text = self.log.read_text(encoding="utf-8", errors="replace")
        final = re.search(r"number_of_executed_units:\s*(\d+)", text)
        counted = [int(number) for number in re.findall(r"^#(\d+)\s", text, re.M)]
        self.inputs += int(final.group(1)) if final else max(counted, default=0)
        if self.process.returncode == 0:
            self.log.unlink()
        else:
            self.found += 1
            if self.starts < 40 and self.deadline - time.monotonic() > 5:
                self.start()
                return True
        self.process = None
        return False


def run(args):
    corpus = ROOT / "fuzz" / "corpus"
    seeds(corpus)
    binaries, library = (args.bin, args.bin) if args.bin else build()
    args.artifacts.mkdir(parents=True, exist_ok=True)
    names = args.target or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        sys.exit(f"fuzz.py: no target {', '.join(unknown)}; there is {', '.join(TARGETS)}")
    shares = [name for name in names for _ in range(TARGETS[name][1])]
    jobs = args.jobs or os.cpu_count() or 1
    # Every target runs, one after the other where there are fewer processors than targets.
    rounds = [[name] * jobs for name in names] if jobs < len(names) else [[*names, *(shares * jobs)[: jobs - len(names)]]]
    processes = []
    for crew in rounds:
        deadline = time.monotonic() + args.seconds
        folders = (binaries, library, corpus, args.artifacts)
        started = [Process(name, len(processes) + at, folders, deadline) for at, name in enumerate(crew)]
        processes += started
        while any([process.tend() for process in started]):
            time.sleep(1)
    ran = {}
    for process in processes:
        entry = ran.setdefault(process.name, {"processes": 0, "seconds": 0, "inputs": 0, "found": 0})
        entry["processes"] += 1
        entry["seconds"] += args.seconds
        entry["inputs"] += process.inputs
        entry["found"] += process.found
    for name, entry in ran.items():
        print(f"{name}: {entry['inputs']} inputs in {entry['seconds']} processor seconds, {entry['found']} found")
    add(args.record, ran)
    return any(entry["found"] for entry in ran.values())


def load(record):
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}


def add(record, ran):
    """Adds runs to a record, and renews the page if it is the project's."""
    total = load(record)
    for name, entry in ran.items():
        kept = total.setdefault(name, {"runs": 0, "seconds": 0, "inputs": 0})
        kept["runs"] += entry.get("runs", 1)
        kept["seconds"] += entry["seconds"]
        kept["inputs"] += entry["inputs"]
    record.write_text(json.dumps(total, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if record.resolve() == (ROOT / "docs" / "fuzzing.json").resolve():
        page()


PAGE = """# Fuzzing

Made by `tools/fuzz.py` from [fuzzing.json](fuzzing.json).

The targets are in [fuzz/](../fuzz), for `cargo fuzz` with a nightly toolchain; nothing else needs one. Each changes its inputs knowing what they are: a `.pte` is taken apart,
its program changed, and written again with right offsets; a `.pt2` gets new checksums; texts are changed by words. What a target finds is fixed and becomes a
test: files that were made to do harm are in [tests/attacks](../tests/attacks), and every single-byte change of real files runs in `make test`.
Two tests draw what the targets rarely hit: `runtime/tests/suite/drawn.rs` runs instructions whose operands fit, with fields and lengths exchanged for those at the ends of 32 bits, and
`runtime/src/kernels/hostile.rs` calls each operator of the host with arguments of any kind.

```sh
make fuzz SECONDS=600               # every target for ten minutes on all processors
python3 tools/fuzz.py run replay    # one target
```

Run so far, without a crash, an abort, a hang or a leak of memory that still stands; the record is a sum over builds.

| target | what an input goes through | processor time | inputs |
|---|---|---:|---:|
{rows}

{loaders} inputs in all went through the loaders.
"""


def page():
    total = load(ROOT / "docs" / "fuzzing.json")
    rows = []
    for name, (what, *_) in TARGETS.items():
        entry = total.get(name, {"seconds": 0, "inputs": 0})
        hours, rest = divmod(entry["seconds"], 3600)
        rows.append(f"| `{name}` | {what} | {hours} h {rest // 60:02} min | {entry['inputs']:,} |")
    loaders = sum(total.get(name, {"inputs": 0})["inputs"] for name in LOADERS)
    text = PAGE.format(rows="\n".join(rows), loaders=f"{loaders:,}")
    (ROOT / "docs" / "fuzzing.md").write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("seeds")
    commands.add_parser("page")
    commands.add_parser("pack").add_argument("file")
    commands.add_parser("add").add_argument("file", type=pathlib.Path)
    runs = commands.add_parser("run")
    runs.add_argument("target", nargs="*")
    runs.add_argument("--seconds", type=int, default=60)
    runs.add_argument("--jobs", type=int)
    runs.add_argument("--bin", type=pathlib.Path)
    runs.add_argument("--record", type=pathlib.Path, default=ROOT / "docs" / "fuzzing.json")
    runs.add_argument("--artifacts", type=pathlib.Path, default=ROOT / "fuzz" / "artifacts")
    args = parser.parse_args()
    if args.command == "seeds":
        seeds(ROOT / "fuzz" / "corpus")
    elif args.command == "page":
        page()
    elif args.command == "pack":
        pack(args.file)
    elif args.command == "add":
        add(ROOT / "docs" / "fuzzing.json", load(args.file))
    else:
        sys.exit(run(args))


if __name__ == "__main__":
    main()
