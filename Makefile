# Two commands do everything on a machine with Python 3.11 and make: `make eval` and `make test`.
PYTHON ?= python3
MODEL ?= omnirefiner
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := models,build,learned,web,ray,slurm,app,tensorboard,wandb,docs,dev
# torch's build, as uv's --torch-backend names it: cpu (no CUDA libraries), cu126, auto, ...; empty is the index's own.
TORCH ?= $(shell cat $(VENV)/.complete 2>/dev/null)
export HF_HUB_OFFLINE ?= 1
export NO_ALBUMENTATIONS_UPDATE := 1
# imports are most of a command's first second: compiled once here, not at every start where nothing may be written
export UV_COMPILE_BYTECODE := 1

.PHONY: help env same-torch eval test test-slow test-gpu test-weights test-browser lint docs bench wheel clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

env: same-torch $(VENV)/.complete  ## the environment in .venv, pinned by constraints.txt (TORCH=cpu: without CUDA)

same-torch:
	@made="$$(cat $(VENV)/.complete 2>/dev/null)"; test ! -e $(VENV)/.complete || test "$$made" = '$(TORCH)' || \
	  { echo "Expected TORCH='$$made', as $(VENV) was made, but '$(TORCH)' came; run 'make clean' first." >&2; exit 2; }

# One resolve for everything: torch and torchvision must be a matching pair (constraints.txt).
$(VENV)/.complete: pyproject.toml constraints.txt | same-torch
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "refbench needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q 'uv>=0.7.14'
	$(BIN)/uv pip install --python $(BIN)/python $(if $(TORCH),--torch-backend $(TORCH)) -c constraints.txt -e '.[$(EXTRAS)]'
	echo '$(TORCH)' > $@

eval: env  ## evaluate a model on the embedded suite (MODEL=name, by default the package's own refiner)
	$(BIN)/refbench eval --model $(MODEL)

test: env lint  ## lint, types and all tests that need no GPU, weights or browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow and not gpu and not weights and not browser'

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-slow: env  ## the long tests (full rebuild of the suite, coverage of the intervals)
	$(BIN)/python -m pytest -q -m slow

test-gpu: env  ## tests that need a CUDA device
	$(BIN)/python -m pytest -q -m gpu

test-weights: env  ## compare the learned metrics with their original libraries on the real weights
	HF_HUB_OFFLINE=0 $(BIN)/python -m pytest -q -rs -m weights

test-browser: env  ## the HTML viewer and board in headless Chromium
	$(BIN)/python -m pytest -q -m browser

docs: env  ## the site in build/docs; a stale table, a broken link or a missing reference is an error
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m sphinx -q -W --keep-going -E -c docs . build/docs
	@echo "build/docs/index.html"

bench: env  ## speed and memory, as ratios taken in one run
	for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

wheel: env  ## the package with the suite inside
	$(BIN)/uv build --wheel --python $(BIN)/python

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
