# Every target makes its own environment in $(VENV); nothing else is needed than Python.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Files in their order: those of few long tests do not come last.
TESTS = $(BIN)/python -m pytest -n auto --dist=loadfile --no-loadscope-reorder
# More words for pytest, as `make test MORE=--cov`.
MORE ?=

.PHONY: demo test test-fast engines expected lint docs notebooks wheel extras matrix oldest newest clean

demo: $(VENV)/demo.installed
	$(BIN)/python -m experiments.main --experiment=brain --sweep --workdir=studies/brain

test: $(VENV)/dev.installed
	$(TESTS) $(MORE)

test-fast: $(VENV)/dev.installed
	$(TESTS) -m "not slow" $(MORE)

# What tests start beside pip's packages: SLURM and a browser, where they can be had.
engines:
	@.ci/engines

# Runs every experiment whole and asserts the numbers that it promises.
expected: $(VENV)/demo.installed
	$(BIN)/python -m experiments.harness.expected

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# README.md, docs/ and the docstrings as a site: open site/index.html.
docs: $(VENV)/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Runs docs/notebooks/*.py and stores what they show beside them, as .ipynb.
notebooks: $(VENV)/dev.installed
	$(BIN)/python -m docs._site.notebooks

# An sdist and the wheel made of it, as PyPI wants them; installed where nothing else is,
# the wheel runs the README's code.
wheel: $(VENV)/dev.installed
	rm -rf build dist $(VENV)/bare
	$(BIN)/python -m build --outdir=dist . > /dev/null
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv $(VENV)/bare
	$(VENV)/bare/bin/python -m pip install --quiet dist/headwise-*.whl
	$(VENV)/bare/bin/python -I .ci/use_wheel.py .

# What each extra is for, in throw-away environments of each Python.
PYTHONS ?= python3.11 python3.12 python3.13
extras: wheel
	$(BIN)/python -m pip install --quiet uv
	PATH="$(abspath $(BIN)):$$PATH" .ci/extras dist $(PYTHONS)

# The fast tests on both ends of what setup.cfg allows: OLD with the least versions, NEW
# with the newest; every program optimised, as users have it (conftest.py).
OLD ?= python3.11
NEW ?= python3.13
matrix: oldest newest
oldest newest: export HEADWISE_OPTIMIZED = 1

oldest:
	$(OLD) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --upgrade pip uv
	$(MAKE) test-fast PYTHON=$(OLD) VENV=$(VENV)-oldest INSTALL="$(VENV)-oldest/bin/uv \
		pip install --resolution=lowest-direct --python=$(VENV)-oldest/bin/python"

newest:
	$(MAKE) test-fast PYTHON=$(NEW) VENV=$(VENV)-newest

INSTALL = $(BIN)/python -m pip install
$(VENV)/%.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) --quiet -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build dist site research/*.egg-info .*_cache .coverage*
