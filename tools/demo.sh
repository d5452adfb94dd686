#!/usr/bin/env bash
# The demo: compiles a small trained model, says what came out, and continues a piece of Python with it.
# `make demo` builds the two commands first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${CARGO_TARGET_DIR:-target}/release
model=tests/fixtures/stdlib-llama
out=build/demo
mkdir -p "$out"

echo "== compile"
"$bin/fuseline" compile "$model/stdlib-llama-bf16.pt2" -o "$out/stdlib-llama.pte" --report "$out/report.json"
echo
echo "== generate"
# 0 is the token that a text begins with (config.json).
"$bin/fuseline-run" generate "$out/stdlib-llama.pte" \
  --tokenizer "$model/tokenizer.json" --bos 0 \
  --prompt "def parse_args(self, args=None" --max-tokens 33 \
  --expect-greedy "$model/stdlib-llama-bf16.greedy.json" \
  --reference "$model/stdlib-llama-bf16.reference.safetensors" --tolerance 0.03
