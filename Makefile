# spinenode: `make demo` shows the main job end to end, `make test` proves it. Both set up everything they need.
#
# make setup TORCH=torch==2.13.0 TORCH_PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu"   a CPU build
# make setup TORCH=torch==2.13.0 TORCH_PIP_ARGS="--index-url https://download.pytorch.org/whl/cu130" a CUDA build

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_PIP_ARGS ?=
# files side by side: many tests wait for quiet times, restarts and peers
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SETUP := .venv/.setup-done
TOOLS := .venv/.tools-done

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench clean

help:  ## list these targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

setup: $(SETUP)  ## build .venv and install everything (TORCH=..., TORCH_PIP_ARGS=... choose the torch build)

# A build of torch that is asked for by name is kept until another one is; changing it makes .venv anew, since pip takes
# one build of a version for another.
ifneq ($(origin TORCH)$(origin TORCH_PIP_ARGS),filefile)
CLEAR := --clear
CHOICE := .venv/.torch-choice
.PHONY: FORCE
$(CHOICE): FORCE
	@mkdir -p .venv && (echo '$(TORCH) $(TORCH_PIP_ARGS)' | cmp -s - $@ || echo '$(TORCH) $(TORCH_PIP_ARGS)' > $@)
endif

# torch first and by itself, so that no other package's range pulls a build that was not asked for.
$(SETUP): pyproject.toml setup.cfg constraints.txt Makefile $(CHOICE)
	@echo "[setup 1/4] virtual environment in .venv ($$($(PYTHON) --version))"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(CLEAR) .venv
	@echo '$(TORCH) $(TORCH_PIP_ARGS)' > .venv/.torch-choice
	@echo "[setup 2/4] pip"
	@$(PIP) install --quiet --upgrade pip
	@echo "[setup 3/4] $(TORCH) (the longest step: a few hundred MB, several GB for a CUDA build)"
	@$(PIP) install --progress-bar on $(TORCH_PIP_ARGS) "$(TORCH)"
	@echo "[setup 4/4] spinenode and its dependencies"
	@$(PIP) install --quiet -c constraints.txt -e ".[test]"
	@touch $@
	@echo "[setup] done: $(BIN)/spinenode --help"

$(TOOLS): $(SETUP)
	@$(PIP) install --quiet -c constraints.txt -e ".[test,dev]"
	@touch $@

demo: $(SETUP)  ## send a synthetic lumbar study through a node into a small archive, and show what comes back
	@$(BIN)/spinenode demo --out demo-output

test: $(SETUP)  ## all tests; those that need real peers or real data run where these are there
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(TOOLS)  ## ruff and mypy (strict)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(SETUP)  ## speed and memory, as a table with the machine; receiving beside Orthanc and storescp where they are
	@$(BIN)/python -m tests.bench
	@$(BIN)/python -m tests.bench_receiving --images 240 --rounds 5
	@$(BIN)/python -m tests.bench_receiving --images 675 --at-once 1
	@$(BIN)/python -m tests.bench_receiving --images 4500 --at-once 30
	@$(BIN)/python -m tests.bench_receiving --associations 10000

clean:  ## remove what setup, demo and tests made
	rm -rf .venv demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
