#!/usr/bin/env python3
"""Renews tests/recorded/zoo.json: what the compiler makes of a folder of exported models, in instructions.

    python3 tools/models.py --bin target/release/fuseline --zoo FOLDER

Each model is a folder with `model.pt2`, and maybe `model_func.pt2` and `model_core.pt2`: the same module exported plain, functionalised, and decomposed to core ATen. What ExecuTorch makes
of a model is not measured here: the numbers that are recorded stay. `cargo test -p fuseline-tests documents` makes docs/models.md of the record.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

FORMS = {"plain": "model.pt2", "func": "model_func.pt2", "core": "model_core.pt2"}
RECORD = pathlib.Path(__file__).resolve().parent.parent / "tests" / "recorded" / "zoo.json"


def compiled(command, model, folder):
    report = folder / "report.json"
    arguments = [command, "compile", model, "-o", folder / "out.pte", "--target", "metal", "--report", report, "-q"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        return {"refused": done.stderr.strip().splitlines()[0].replace(str(model), model.name)}
    report = json.loads(report.read_text())
    return {
        "instructions": report["instructions"],
        "once": report["init_instructions"],
        "segments": report["segments"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="the command fuseline")
    parser.add_argument("--zoo", required=True, type=pathlib.Path, help="the folder of models")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"executorch": {}, "models": {}}
    record["models"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in sorted(p for p in options.zoo.iterdir() if (p / "model.pt2").exists()):
            forms = {form: case / file for form, file in FORMS.items() if (case / file).exists()}
            record["models"][case.name] = {
                form: compiled(options.bin, model, pathlib.Path(folder)) for form, model in forms.items()
            }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
