# Two commands: `make repro` runs the pipeline, `make test` the tests. Both make the environment .venv first, where a lock
# or pyproject.toml changed since. TORCH=cuda or TORCH=cpu behind a command chooses torch's build, and .venv/ready keeps it.
.DEFAULT_GOAL := help
.PHONY: help repro report verify test test-long test-cpus lint types bench bench-replicas bench-table bench-pipeline engines docs format ui lock clean
SHELL := bash
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
READY := .venv/ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

PYTHONS := 3.14 3.13 3.12 3.11
FITS := import sys; sys.exit('%d.%d' % sys.version_info[:2] not in '$(PYTHONS)'.split())
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
UV_PIP := VIRTUAL_ENV=.venv uv pip
GET_UV := uv --version >/dev/null 2>&1 || $(PIP) uv==0.13.9
COMPILE := uv pip compile -q --universal --generate-hashes --no-header --no-annotate --python-version $(lastword $(PYTHONS))
OF_TORCH := /^(torch|triton)==|^(cuda|nvidia)-/
TORCH_INDEX := https://download.pytorch.org/whl/cpu
TORCH ?= $(shell cat $(READY) 2>/dev/null)

# Slow files first, so that the two workers end at about the same time; a file's tests share what they make.
TESTS = pytest -q -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder tests/pipeline tests/tracking tests

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*##/make \1  /p' Makefile

repro: $(READY)  ## run what is stale of the pipeline, print the leaderboards
	@bancada repro

report: $(READY)  ## one page with all results, commit and verdict on top: FILE=report.html, which any browser opens
	@bancada report $(or $(FILE),report.html)

verify: $(READY)  ## do the committed results come out again? MARKDOWN=FILE and JSON=FILE keep the verdict, STAGES=... a part
	@bancada verify $(if $(STAGES),--stages $(STAGES)) $(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

test: lint types  ## lint, types, and the tests of every day: at most five minutes on two cores
	@$(TESTS) -m "not long"

test-long: $(READY)  ## all tests: also every kind of training on emulated CPUs, kills at many moments, every way a server fails
	@$(TESTS)

test-cpus: $(READY)  ## every stage, cut short, on emulated CPUs, x86-64 and ARM64: an hour; Debian's qemu-user is needed
	@python -P tests/cpus.py

lint: $(READY)  ## ruff, and which package may import which
	@ruff check -q .
	@ruff format -q --check .
	@found=$$(PYTHONPATH=src lint-imports --no-cache 2>&1) || { echo "$$found"; exit 1; }

types: $(READY)  ## mypy
	@mypy --no-error-summary

bench: $(READY)  ## the engine's speed against the usual ways to train
	@python tests/benchmarks/training.py

bench-replicas: $(READY)  ## the torch engine's speed against a training loop written by hand
	@python tests/benchmarks/replicas.py

bench-table: $(READY)  ## a table of 1,000,000 rows through every stage: seconds and memory
	@python tests/benchmarks/large_table.py

bench-pipeline: $(READY)  ## the whole pipeline's speed, and what tracking costs, in fresh clones of HEAD
	@python tests/benchmarks/pipeline.py

engines: $(READY)  ## docs/engines.md: the lessons' variants by both engines, half an hour of a processor
	@python tests/benchmarks/engines.py

docs: $(READY)  ## docs/params.md from the settings' classes, docs/pipeline.svg from dvc.yaml
	@python docs/made/params.py > docs/params.md.new && mv docs/params.md.new docs/params.md
	@python docs/made/pipeline.py

format: $(READY)  ## ruff, which mends what it can
	@ruff check -q --fix .
	@ruff format -q .

ui: $(READY)  ## MLflow's pages with all results that are here, at http://127.0.0.1:5000
	@bancada ui

# The programs in .venv contain the path of its folder, so a copied or moved .venv is made anew. So is one whose Python
# does not fit.
ifeq ($(shell $(BIN)/python -c "$(FITS)" 2>/dev/null && grep -sF " $(CURDIR)/.venv" .venv/pyvenv.cfg),)
.PHONY: .venv/pyvenv.cfg
endif

# Each Python is tried, because pyenv puts commands on PATH that fail for versions which are not switched on.
.venv/pyvenv.cfg:
	@others() { type -ap "$$@" | while read -r found; do [ "$${found%/*}" -ef $(BIN) ] || echo "$$found"; done; }; \
	python=$$({ others python3 | head -n 1; others $(PYTHONS:%=python%); } | while read -r found; do \
	  "$$found" -c "$(FITS)" 2>/dev/null </dev/null && echo "$$found" && break; done); \
	if [ -z "$$python" ]; then printf '%s\n' "PATH has none of Python $(PYTHONS). To install one, type" \
	  "    sudo apt install python3 python3-venv    on Debian 12, Ubuntu 24.04 or newer" \
	  "    brew install python@3.13                 on macOS" \
	  "    uv python install 3.13                   on any system that has uv" \
	  "and then your make command again." >&2; exit 2; fi; \
	"$$python" -m venv --clear .venv || { rm -rf .venv; exit 2; }

ifneq ($(TORCH),$(shell cat $(READY) 2>/dev/null))
.PHONY: $(READY)
endif

# torch has a script of its own, because it has several builds. uv pip check: the lock has all that pyproject.toml asks for.
$(READY): .venv/pyvenv.cfg requirements.lock torch-cpu.lock torch-pypi.lock pyproject.toml
	@echo "bringing .venv to what requirements.lock says: some minutes, the first time"
	@$(GET_UV)
	@$(BIN)/python install_torch.py $(TORCH_INDEX) '$(TORCH)'
	@sed '/^torch==/d' requirements.lock | $(UV_PIP) install -q --compile-bytecode --require-hashes -r -
	@$(UV_PIP) install -q --no-deps --no-build-isolation -e .
	@found=$$($(UV_PIP) check 2>&1) || { \
	  echo "$$found"; echo "If pyproject.toml asks for what requirements.lock does not have, type: make lock"; exit 1; } >&2
	@echo '$(TORCH)' > $@

# torch and its CUDA packages are in locks of their own, because not everyone gets the same build.
lock: .venv/pyvenv.cfg  ## the locks from pyproject.toml; they keep their versions, but for UPGRADE=NAME or UPGRADE=all
	@$(GET_UV)
	@sed '/^torch==/d' requirements.lock | cat - torch-pypi.lock > .venv/lock
	@$(COMPILE) --fork-strategy fewest --extra dev --extra server \
	  $(if $(filter all,$(UPGRADE)),--upgrade,$(UPGRADE:%=--upgrade-package %)) -o .venv/lock pyproject.toml >/dev/null
	@torch=$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' .venv/lock); grep -q "^$$torch+cpu " torch-cpu.lock || { \
	  { sed -n '/^#/p' torch-cpu.lock; echo "$$torch+cpu" | $(COMPILE) --no-deps --index-url $(TORCH_INDEX) -; } > .venv/cpu && \
	  mv .venv/cpu torch-cpu.lock; }
	@{ sed -n '/^#/p' torch-pypi.lock; awk '/^[^ ]/ {keep = $(OF_TORCH)} keep' .venv/lock; } > .venv/pypi
	@{ sed -n '/^#/p' requirements.lock; sed -n 's/^\(torch==[^ ]*\).*/\1/p' .venv/lock; \
	  awk '/^[^ ]/ {keep = !($(OF_TORCH))} keep' .venv/lock; } > .venv/lock.new
	@mv .venv/pypi torch-pypi.lock && mv .venv/lock.new requirements.lock

clean:  ## remove the environment and what tools left behind; the pipeline's results stay
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info dvc_plots
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
