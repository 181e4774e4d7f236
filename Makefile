# Two commands: `make repro` runs the pipeline, `make test` the tests. Both make the environment .venv first, where
# requirements.lock or pyproject.toml changed since.
.DEFAULT_GOAL := help
.PHONY: help repro verify test test-cpus lint types bench bench-pipeline format ui lock clean
SHELL := bash
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
READY := .venv/ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*##/make \1  /p' Makefile

repro: $(READY)  ## run what is stale of the pipeline, print the leaderboards
	@bancada repro $(if $(JOBS),-j $(JOBS))

verify: $(READY)  ## do the committed results come out again? MARKDOWN=FILE and JSON=FILE keep the verdict, STAGES=... a part
	@bancada verify $(if $(JOBS),-j $(JOBS)) $(if $(STAGES),--stages $(STAGES)) \
	  $(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

test: lint types  ## lint, types, tests
	@pytest -q -n $(or $(JOBS),2) --dist worksteal

test-cpus: $(READY)  ## every stage, cut short, on emulated CPUs: an hour; Debian's qemu-user is needed
	@python -P tests/cpus.py

lint: $(READY)  ## ruff, and which package may import which
	@ruff check -q .
	@ruff format -q --check .
	@lint-imports --no-timing >/dev/null || lint-imports

types: $(READY)  ## mypy
	@mypy --no-error-summary

bench: $(READY)  ## the engine's speed against the usual ways to train
	@python tests/benchmarks/training.py

bench-pipeline: $(READY)  ## the whole pipeline's speed, and what tracking costs, in fresh clones of HEAD
	@python tests/benchmarks/pipeline.py

format: $(READY)  ## ruff, which mends what it can
	@ruff check -q --fix .
	@ruff format -q .

ui: $(READY)  ## MLflow's pages with all results that are here, at http://127.0.0.1:5000
	@bancada ui

# pip check: the lock is what pyproject.toml asks for.
$(READY): requirements.lock pyproject.toml
	@python=$$(type -ap python3.11 python3 | grep -vF "$(CURDIR)/.venv/" | while read -r found; do \
	  "$$found" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo "$$found" && break; done); \
	if [ -z "$$python" ]; then echo "Python 3.11 is needed, and there is none on PATH" >&2; exit 2; fi; \
	echo "bringing .venv to what requirements.lock says: some minutes, the first time"; \
	{ [ -x $(BIN)/pip ] || "$$python" -m venv --clear .venv; } && \
	.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock && \
	.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps -e . && \
	{ found=$$(.venv/bin/python -m pip check) || { echo "$$found" >&2; exit 1; }; }
	@touch $@

lock: $(READY)  ## requirements.lock anew from pyproject.toml, the newest versions that it allows
	@rm -rf .venv-lock && $(BIN)/python -m venv .venv-lock
	@.venv-lock/bin/python -m pip install -qq --disable-pip-version-check '.[dev,server]'
	@sed -n '/^#/p' requirements.lock > .venv-lock/lock
	@.venv-lock/bin/python -m pip freeze --exclude bancada | sed 's/+cpu$$//' >> .venv-lock/lock
	@mv .venv-lock/lock requirements.lock && rm -rf .venv-lock

clean:  ## remove the environment and what tools left behind; the pipeline's results stay
	@rm -rf .venv .venv-lock build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info dvc_plots
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
