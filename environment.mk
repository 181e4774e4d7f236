# The environment .venv, as requirements.lock says. INSTALL_BANCADA, of the Makefile that includes this file, installs
# bancada itself.
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

# Write the lock file $(1) for what $(2) names to uv; the locks keep their versions. torch and its CUDA packages are in
# locks of their own, because not everyone gets the same build.
define lock
{ $(GET_UV); } && sed '/^torch==/d' $(1) | cat - torch-pypi.lock > .venv/lock && \
$(COMPILE) --fork-strategy fewest $(if $(filter all,$(UPGRADE)),--upgrade,$(UPGRADE:%=--upgrade-package %)) \
  -o .venv/lock $(2) >/dev/null && \
torch=$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' .venv/lock) && { grep -q "^$$torch+cpu " torch-cpu.lock || { \
  { sed -n '/^#/p' torch-cpu.lock; echo "$$torch+cpu" | $(COMPILE) --no-deps --index-url $(TORCH_INDEX) -; } > .venv/cpu && \
  mv .venv/cpu torch-cpu.lock; }; } && \
{ sed -n '/^#/p' torch-pypi.lock; awk '/^[^ ]/ {keep = $(OF_TORCH)} keep' .venv/lock; } > .venv/pypi && \
{ sed -n '/^#/p' $(1); echo "$$torch"; awk '/^[^ ]/ {keep = !($(OF_TORCH))} keep' .venv/lock; } > .venv/lock.new && \
mv .venv/pypi torch-pypi.lock && mv .venv/lock.new $(1)
endef

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
	@awk '/^[^ ]/ {keep = !/^(torch|bancada)==/} keep' requirements.lock | \
	  $(UV_PIP) install -q --compile-bytecode --require-hashes -r -
	@$(INSTALL_BANCADA)
	@found=$$($(UV_PIP) check 2>&1) || { \
	  echo "$$found"; echo "If pyproject.toml asks for what requirements.lock does not have, type: make lock"; exit 1; } >&2
	@echo '$(TORCH)' > $@

.PHONY: ray
ray: $(READY)  ## install Ray, 0.26 GB, to train on more than one machine: docs/team.md says how
	@$(UV_PIP) install -q --no-deps --require-hashes -r ray.lock
