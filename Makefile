# `make` lists what there is. Everything that is made lands in build/ and target/.

CARGO ?= cargo
PREFIX ?= $(HOME)/.local
BIN := $(or $(CARGO_TARGET_DIR),target)/release

.DEFAULT_GOAL := help
.PHONY: help setup build install demo test bless fuzz soak bench perplexity fmt schemas doc clean distclean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## fetch and build MLX's parts, once; the other targets do it too
	@command -v python3 >/dev/null || { echo "setup: python3 is needed: install it with your package manager" >&2; exit 1; }
	@python3 tools/setup.py

build: setup ## the two commands, fuseline and fuseline-run, in target/release
	@$(CARGO) build --release --locked --bins

install: build ## the two commands and MLX's libraries below PREFIX (default ~/.local)
	@python3 tools/install.py --bin "$(BIN)" --prefix "$(PREFIX)"

demo: setup ## compile a small trained model and continue a piece of Python with it
	@$(CARGO) build --quiet --release --locked --bins
	@bash tools/demo.sh

test: setup ## formatting, lints and every test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@mkdir -p build && : > build/snapshots.txt
	INSTA_SNAPSHOT_REFERENCES_FILE=$(CURDIR)/build/snapshots.txt $(CARGO) test --workspace --locked
	@python3 tools/snapshots.py build/snapshots.txt

bless: setup ## rewrite the snapshots and the documents that are made from the code
	@FUSELINE_BLESS=1 INSTA_UPDATE=always $(CARGO) test --quiet --workspace --locked

fuzz: setup ## every fuzz target for SECONDS each (nightly toolchain, cargo-fuzz)
	@python3 tools/fuzz.py run --seconds $(or $(SECONDS),60)

soak: setup ## eight threads with sessions that come and go, for SECONDS (300): the numbers of one thread
	FUSELINE_THREAD_SECONDS=$(or $(SECONDS),300) $(CARGO) test --release --locked -p fuseline-runtime --test suite -- threads --nocapture

bench: build ## the optimiser by the number of layers; compile time and memory, time to first token, tokens per second; quantising beside a copy (PARAMETERS=2e8)
	@$(CARGO) bench --quiet --locked -p fuseline-passes --bench optimiser
	@python3 tools/bench.py --bin "$(BIN)"
	@python3 tools/streaming.py --bin "$(BIN)" --parameters $(or $(PARAMETERS),2e8)

perplexity: build ## the demo model in few bits beside bf16: the table in docs/quantization.md
	@python3 tools/perplexity.py --bin "$(BIN)"

fmt: ## format the sources
	$(CARGO) fmt --all

schemas: ## make the FlatBuffers code in program/src/generated from program/schema
	@python3 tools/schemas.py

doc: setup ## the API documentation, in target/doc
	$(CARGO) doc --workspace --no-deps --locked

clean: ## remove what Cargo built; MLX's parts stay
	$(CARGO) clean

distclean: clean ## remove MLX's parts and the Cargo configuration too
	rm -rf build .cargo/config.toml
