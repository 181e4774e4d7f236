# Two commands: `make repro` runs the pipeline, `make test` the tests. Both make the environment .venv first, where a lock
# or pyproject.toml changed since. TORCH=cuda or TORCH=cpu behind a command chooses torch's build, and .venv/ready keeps it.
.DEFAULT_GOAL := help
.PHONY: help repro report verify test test-ray test-long test-cpus lint types bench bench-replicas bench-table bench-pipeline bench-ray engines docs format ui lock clean

# bancada is the code that stands here.
INSTALL_BANCADA = $(UV_PIP) install -q --no-deps --no-build-isolation -e .
include environment.mk

# Slow files first, so that the two workers end at about the same time; a file's tests share what they make.
TESTS = pytest -q -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder tests/pipeline tests/tracking tests

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*##/make \1  /p' Makefile environment.mk

repro: $(READY)  ## run what is stale of the pipeline, print the leaderboards
	@bancada repro

report: $(READY)  ## one page with all results, commit and verdict on top: FILE=report.html, which any browser opens
	@bancada report $(or $(FILE),report.html)

verify: $(READY)  ## do the committed results come out again? MARKDOWN=FILE and JSON=FILE keep the verdict, STAGES=... a part
	@bancada verify $(if $(STAGES),--stages $(STAGES)) $(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

test: lint types  ## lint, types, and the tests of every day: at most five minutes on two cores
	@$(TESTS) -m "not long and not ray"

test-ray: ray  ## a short test of a cluster of two nodes on this machine
	@pytest -q -m "ray and not long" tests/training/test_cluster.py

test-long: ray  ## all tests: also every kind of training on emulated CPUs, kills at many moments, every way a server fails
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

bench-ray: ray  ## the same trainings here and on a cluster; how the driver keeps up with replicas that only sleep
	@python tests/benchmarks/cluster.py

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

# Of a project that `bancada new` makes: these packages, in these versions, but for those of developers.
FOR_PROJECTS := src/bancada/pipeline/template/requirements.lock

lock: .venv/pyvenv.cfg  ## requirements.lock from pyproject.toml; it keeps its versions, but for UPGRADE=NAME or UPGRADE=all
	@$(call lock,requirements.lock,--extra dev --extra server pyproject.toml)
	@sed -n 's/^ray = \["\(.*\)"\]/\1/p' pyproject.toml | $(COMPILE) -c requirements.lock - > .venv/ray
	@{ sed -n '/^#/p' ray.lock; awk 'NR == FNR {known[$$1] = 1; next} /^[^ ]/ {keep = !known[$$1]} keep' \
	  requirements.lock .venv/ray; } > .venv/ray.new && mv .venv/ray.new ray.lock
	@cp requirements.lock $(FOR_PROJECTS); $(call lock,$(FOR_PROJECTS),pyproject.toml - <<< "pytest>=8.3")

clean:  ## remove the environment and what tools left behind; the pipeline's results stay
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info dvc_plots
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
