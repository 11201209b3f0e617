# What a fresh machine needs: Python 3.11 or newer, pip and make. `make` alone lists the targets.
PYTHON ?= python3
PYTEST ?= -n auto --maxprocesses 8
VENV := .venv
BIN := $(VENV)/bin
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: help quick test slow benchmarks lint types format docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

quick: $(VENV)/.installed  ## set up, compare the agents on the quick suite, leave tables and pictures in runs/quick
	$(BIN)/python evaluate.py

# Each worker has a core of its own, so numerical libraries must not start threads on top. Tests start many processes;
# compiled files are kept even where the surroundings say otherwise, or each of them would compile the package anew.
test: $(VENV)/.installed-dev  ## set up and run the tests
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q $(PYTEST)

slow: $(VENV)/.installed-dev  ## run the tests that take more than ten seconds each
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q $(PYTEST) -m slow

benchmarks: $(VENV)/.installed-dev  ## measure speed against the named peers, and write docs/benchmarks.md
	$(BIN)/python benchmarks/run_all.py

lint: $(VENV)/.installed-dev types  ## check style, formatting, types, and that the documentation builds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PICTURES=false $(MKDOCS) --site-dir build/site-check

types: $(VENV)/.installed-dev  ## check types
	@mkdir -p build/typed && ln -sfn "$(CURDIR)" build/typed/shiftgym
	$(BIN)/mypy

docs: $(VENV)/.installed-dev  ## build the documentation: build/site/index.html
	$(MKDOCS)

format: $(VENV)/.installed-dev  ## put the code into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the other targets have made, except runs/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the virtual environment; stamps keep a second call from installing again
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "'$(PYTHON)' is not here: install Python 3.11 or newer, or name yours: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d, and shiftgym\
	 needs 3.11 or newer: name a newer one, for example make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install -c constraints.txt torch
	$(BIN)/pip install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -c constraints.txt -e ".[dev,docs]"
	@touch $@
