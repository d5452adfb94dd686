"""The demo model in few bits: size, error and perplexity of each form beside the bf16 one. Rewrites the table in docs/quantization.md."""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "tests/fixtures/stdlib-llama"
DOCUMENT = ROOT / "docs/quantization.md"
BEGIN, END = "<!-- table: made by `make perplexity` -->\n", "<!-- end of the table -->\n"
SCHEMES = ["affine8g64", "affine6g64", "affine4g64", "affine3g64", "affine2g64", "affine4g32", "affine2g32", "mxfp8", "mxfp4", "nvfp4"]


def measure(bin, folder, options):
    """Weights' bytes, relative error in percent, perplexity."""
    output, report = folder / "model.pte", folder / "report.json"
    subprocess.run([bin / "fuseline", "compile", DEMO / "stdlib-llama-bf16.pt2", "-o", output, "--report", report, "-q", *options], check=True)
    command = [bin / "fuseline-run", "perplexity", output, DEMO / "text.txt", "--tokenizer", DEMO / "tokenizer.json", "--bos", "0"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    report = json.loads(report.read_text())
    weights = report["quantized"]
    squares = sum(w["relative_error"] ** 2 * w["bytes_before"] for w in weights)
    size = sum(w["bytes_before"] for w in weights)
    error = 100 * (squares / size) ** 0.5 if size else 0
    return report["bytes"], error, float(re.search(r"perplexity ([\d.]+)", text)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True, help="the folder with both commands")
    bin = parser.parse_args().bin.resolve()
    rows = ["| | file | error | perplexity | error with `--quantize-search` | perplexity with it |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        bytes, _, perplexity = measure(bin, folder, [])
        rows.append(f"| bf16 | {bytes / 1e6:.2f} MB | | {perplexity:.3f} | | |")
        for scheme in SCHEMES:
            bytes, error, perplexity = measure(bin, folder, ["--quantize", scheme])
            _, less, better = measure(bin, folder, ["--quantize", scheme, "--quantize-search"])
            rows.append(f"| {scheme} | {bytes / 1e6:.2f} MB | {error:.2f} % | {perplexity:.3f} | {less:.2f} % | {better:.3f} |")
            print(rows[-1], flush=True)
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    DOCUMENT.write_text(before + BEGIN + "\n".join(rows) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
