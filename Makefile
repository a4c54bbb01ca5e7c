# Every target makes its own environment in $(VENV); nothing else is needed than Python.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-fast lint clean

demo: $(VENV)/demo.installed
	$(BIN)/python -m experiments.main --experiment=brain --sweep --workdir=studies/brain

test: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n auto --dist=loadfile

test-fast: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n auto --dist=loadfile -m "not slow"

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/%.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist research/*.egg-info .pytest_cache .mypy_cache .ruff_cache
