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

# Write the lock file $(1) for what $(2) names to uv; it keeps its versions. torch's CUDA packages are left out: several
# GB, and pip installs those that its build of torch asks for.
define lock
{ $(GET_UV); } && cp $(1) .venv/lock && \
uv pip compile -q --universal --fork-strategy fewest --generate-hashes --no-header --no-annotate \
  --python-version $(lastword $(PYTHONS)) $(if $(filter all,$(UPGRADE)),--upgrade,$(UPGRADE:%=--upgrade-package %)) \
  -o .venv/lock $(2) >/dev/null && \
{ sed -n '/^#/p' $(1); sed -n 's/^\(torch==[^ ]*\).*/\1/p' .venv/lock; \
  awk '/^[^ ]/ {keep = !/^(torch|triton)==|^(cuda|nvidia)-/} keep' .venv/lock; } > .venv/lock.new && \
mv .venv/lock.new $(1)
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

# pip installs torch first, with what its build needs: pip takes a build for CPUs from PIP_EXTRA_INDEX_URL, uv does not.
# The constraints hold what torch needs to the lock's versions. They come without hashes, because with any hash pip asks
# for torch's, too. uv pip check: the lock has all that pyproject.toml asks for.
$(READY): .venv/pyvenv.cfg requirements.lock pyproject.toml
	@echo "bringing .venv to what requirements.lock says: some minutes, the first time"
	@$(GET_UV)
	@$(PIP) -c <(sed -n '/^[a-z].*==/s/ *\\$$//p' requirements.lock) $$(sed -n '/^torch==/p' requirements.lock)
	@awk '/^[^ ]/ {keep = !/^(torch|bancada)==/} keep' requirements.lock | \
	  $(UV_PIP) install -q --compile-bytecode --require-hashes -r -
	@$(INSTALL_BANCADA)
	@found=$$($(UV_PIP) check 2>&1) || { \
	  echo "$$found"; echo "If pyproject.toml asks for what requirements.lock does not have, type: make lock"; exit 1; } >&2
	@touch $@
